//! What is kept beside records, fetched a step ahead of the records that it belongs to.

use std::collections::BTreeMap;

use bus::Bus;
use proto::audit::Part;
use proto::seal::ContentsRequest;

use super::super::ask::ask;
use crate::failure::Failure;

/// Texts and salts of a stretch of records.
pub(super) struct Contents {
    fetched: BTreeMap<u64, BTreeMap<String, Part>>,
    upto: u64,
    end: u64,
}

impl Contents {
    /// Of the records from `first` to `end`; of none if they are not wanted.
    pub(super) fn new(first: u64, end: u64, wanted: bool) -> Self {
        Self { fetched: BTreeMap::new(), upto: if wanted { first.saturating_sub(1) } else { end }, end }
    }

    /// What is kept beside this record. Records are asked for in their order.
    pub(super) async fn of(&mut self, bus: &Bus, seq: u64) -> Result<BTreeMap<String, Part>, Failure> {
        while self.upto < seq && self.upto < self.end {
            let contents = ask(bus, &ContentsRequest { v: proto::VERSION, after: self.upto, upto: self.end }).await?;
            self.fetched.extend(contents.items);
            if contents.upto <= self.upto {
                return Err(Failure::new(
                    format!("the audit service does not get beyond the texts of record {}", self.upto),
                    "nachos doctor says what is wrong; --no-content exports without texts",
                ));
            }
            self.upto = contents.upto;
        }
        Ok(self.fetched.remove(&seq).unwrap_or_default())
    }
}
