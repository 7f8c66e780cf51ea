//! One tail for all who watch: it tells that there is something new, and each of them then asks for what matches.
//!
//! A tail holds a place at the audit service for a minute after its reader left. One per open page would let somebody who reloads a page
//! a few times use up the places of everybody.

use std::time::Duration;

use bus::{Bus, CallError};
use proto::audit::{Filter, Query, Tail, TailChunk};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Wait after a tail that could not be opened or broke off.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the newest number is told.
pub(crate) struct News {
    newest: watch::Sender<u64>,
    wanted: Notify,
}

impl News {
    pub(crate) fn new() -> Self {
        Self { newest: watch::Sender::new(0), wanted: Notify::new() }
    }

    /// Somebody watches from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        let watching = self.newest.subscribe();
        self.wanted.notify_one();
        watching
    }

    /// Follows the record for as long as anybody watches; ends with the bus.
    pub(crate) async fn follow(&self, bus: &Bus) {
        loop {
            while self.newest.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            if let Err(error) = self.one_tail(bus).await {
                // Who watches asks every few seconds in any case.
                tracing::debug!(%error, "the tail broke off");
                sleep(AGAIN).await;
            }
        }
    }

    async fn one_tail(&self, bus: &Bus) -> Result<(), CallError> {
        let newest = Query { v: proto::VERSION, filter: Filter::default(), after: None, limit: 1, newest: true };
        let indexed = bus.request(Bus::new_trace(), &newest).await?.indexed;
        self.tell(indexed);
        let tail = Tail { v: proto::VERSION, filter: Filter::default(), after: indexed };
        let mut chunks = bus.open(Bus::new_trace(), &tail).await?;
        while let Some(chunk) = chunks.next().await {
            match chunk? {
                TailChunk::Record(record) => self.tell(record.seq),
                TailChunk::Idle { .. } | TailChunk::Unknown => {}
            }
            if self.newest.receiver_count() == 0 {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self, seq: u64) {
        self.newest.send_if_modified(|newest| {
            let news = seq > *newest;
            *newest = (*newest).max(seq);
            news
        });
    }
}
