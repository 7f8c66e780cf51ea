//! The query index against the tree: what people are shown against what was sealed. The audit service compares its own rows; a service
//! that lies here is found by what it shows, because `show` and `prove` check each record against the seal.

use bus::Bus;
use proto::seal::Inspect;

use super::super::progress::Progress;
use super::verdict::Finding;
use crate::failure::Failure;

/// Rows compared, and those that are wrong.
pub(super) struct Compared {
    /// Up to this stream number.
    pub(super) upto: u64,
    /// What is wrong.
    pub(super) wrong: Vec<Finding>,
}

/// Compares all of it.
pub(super) async fn compare(bus: &Bus, last: u64) -> Compared {
    let shown = Progress::bar("comparing the query index", last);
    let mut compared = Compared { upto: 0, wrong: Vec::new() };
    loop {
        let inspected = match bus.request(Bus::new_trace(), &Inspect { v: proto::VERSION, after: compared.upto }).await
        {
            Ok(inspected) => inspected,
            Err(error) => {
                compared.wrong.push(not_compared(&Failure::from(error)));
                return compared;
            }
        };
        shown.done(inspected.upto.saturating_sub(compared.upto));
        let wrong = inspected.wrong.into_iter();
        compared.wrong.extend(wrong.map(|(seq, what)| {
            Finding::new(Some(seq), "index", format!("record {seq} in the query index is not what was sealed: {what}"))
        }));
        if inspected.done || inspected.upto <= compared.upto {
            compared.upto = compared.upto.max(inspected.upto);
            return compared;
        }
        compared.upto = inspected.upto;
    }
}

fn not_compared(error: &Failure) -> Finding {
    let what = format!("the query index could not be compared: {error}; --no-index leaves it out");
    Finding::new(None, "index", what)
}
