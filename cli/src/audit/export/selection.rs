//! Some records, each with its own proof, all leading to one checkpoint.

use bus::Bus;
use futures_util::{StreamExt as _, pin_mut, stream};
use ledger::bundle;
use ledger::pack::Kind;
use proto::seal::{Bundle, SealRequest, Which};

use super::super::ask::ask;
use super::super::progress::Progress;
use super::super::prove::prove;
use super::super::records;
use super::Order;
use super::sink::Sink;
use crate::failure::Failure;

/// Proofs asked for at the same time.
const IN_FLIGHT: usize = 32;

/// How often it is begun anew because a newer checkpoint came in between. Thousands of records are proven in the seconds between two.
const ATTEMPTS: usize = 5;

/// Proves what matches into a sink.
pub(super) async fn collect(bus: &Bus, order: &Order) -> Result<Sink, Failure> {
    let mut numbers = Vec::new();
    let take = |page: &proto::audit::Page| {
        numbers.extend(page.records.iter().map(|record| record.seq));
        Ok(())
    };
    records::oldest(bus, &order.filter, None, take).await?;
    if numbers.is_empty() {
        return Err(Failure::new("no record matches", "nachos audit query shows what the filters find"));
    }
    for _ in 0..ATTEMPTS {
        if let Some(sink) = attempt(bus, order, &numbers).await? {
            return Ok(sink);
        }
    }
    let message = "the log was sealed anew faster than the records could be proven";
    Err(Failure::new(message, "select fewer, or export everything: without filters there is no such limit"))
}

/// `None` if proofs lead to different checkpoints: what lies in between has to be proven anew.
async fn attempt(bus: &Bus, order: &Order, numbers: &[u64]) -> Result<Option<Sink>, Failure> {
    // What is not sealed yet would be sealed by the first proof of it, in the middle.
    let seal = ask(bus, &SealRequest { v: proto::VERSION, now: true }).await?;
    let about = order.manifest(Kind::Selection, 0, seal.key);
    let mut sink = order.sink(about)?;
    let shown = Progress::bar("proving", numbers.len() as u64);
    let proofs = stream::iter(numbers.to_vec()).map(|seq| prove(bus, Which::Seq(seq))).buffered(IN_FLIGHT);
    pin_mut!(proofs);
    let mut under: Option<String> = None;
    while let Some(bundle) = proofs.next().await {
        let mut bundle = bundle?;
        check(&bundle, order)?;
        match &under {
            None => {
                sink.checkpoint(&bundle.checkpoint)?;
                under = Some(bundle.checkpoint);
            }
            Some(same) if *same == bundle.checkpoint => {}
            Some(_) => return Ok(None),
        }
        if !order.contents {
            bundle.parts.clear();
        }
        sink.record(&bundle.record, Some(&bundle.proof), &bundle.parts)?;
        shown.done(1);
    }
    Ok(Some(sink))
}

fn check(bundle: &Bundle, order: &Order) -> Result<(), Failure> {
    let checked = bundle::verify(bundle, &order.trust.keys);
    checked.map(|_| ()).map_err(|error| {
        let hint = "nachos audit verify looks at the whole log; if the key is another one, --key names it";
        Failure::new(error, hint).context(format!("record {} is not proven", bundle.record.seq))
    })
}
