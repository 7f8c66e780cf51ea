//! How far the index is complete: a pure count over the stream's numbers, which come nearly in order.
//!
//! The stream numbers its records without holes and nobody can delete one. Deliveries may still overtake each other: what an earlier
//! process took and did not acknowledge comes again seconds later. A reader is therefore shown only what lies below the first hole,
//! so that a tail never skips a record that arrives late.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long a hole is waited for before the stream itself is asked. What an earlier process took and did not acknowledge comes again
/// only after the consumer's ack wait of 10 s; everything behind it must not stay hidden that long.
pub const HOLE_PATIENCE: Duration = Duration::from_secs(1);

/// The complete part of the index and what lies beyond the first hole.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    upto: u64,
    held: u64,
    ahead: BTreeSet<u64>,
    hole_since: Option<Instant>,
}

impl Progress {
    /// Goes on where the index stopped: complete up to `upto`, with `ahead` beyond, `held` rows in all.
    pub fn resume(upto: u64, held: u64, ahead: impl IntoIterator<Item = u64>) -> Self {
        let mut progress = Self { upto, held, ..Self::default() };
        progress.ahead.extend(ahead);
        progress.close_up();
        progress
    }

    /// Counts a record that was new to the index.
    pub fn add(&mut self, seq: u64) {
        self.held += 1;
        if seq > self.upto {
            self.ahead.insert(seq);
            self.close_up();
        }
    }

    /// The numbers that have been waited for longer than [`HOLE_PATIENCE`], first and last.
    pub fn overdue(&mut self, now: Instant) -> Option<(u64, u64)> {
        let Some(next) = self.ahead.first().copied() else {
            self.hole_since = None;
            return None;
        };
        let since = *self.hole_since.get_or_insert(now);
        (now.duration_since(since) >= HOLE_PATIENCE).then_some((self.upto + 1, next - 1))
    }

    /// Every record up to this one is in the index.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Rows in the index.
    pub fn held(&self) -> u64 {
        self.held
    }

    fn close_up(&mut self) {
        while self.ahead.remove(&(self.upto + 1)) {
            self.upto += 1;
            self.hole_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_record_holds_back_those_behind_it() {
        let mut progress = Progress::default();
        for seq in [1, 2, 4, 5] {
            progress.add(seq);
        }
        assert_eq!(progress.upto(), 2);
        progress.add(3);
        assert_eq!((progress.upto(), progress.held()), (5, 5));
    }

    #[test]
    fn a_hole_that_stays_is_asked_for() {
        let mut progress = Progress::resume(2, 5, [4, 5, 8]);
        let start = Instant::now();
        assert_eq!(progress.overdue(start), None);
        assert_eq!(progress.overdue(start + HOLE_PATIENCE), Some((3, 3)));
        progress.add(3);
        assert_eq!(progress.upto(), 5);
        assert_eq!(progress.overdue(start + HOLE_PATIENCE), None, "the next hole has a patience of its own");
        assert_eq!(progress.overdue(start + 2 * HOLE_PATIENCE), Some((6, 7)));
    }
}
