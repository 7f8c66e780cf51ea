//! How far the index is complete: a pure count over the stream's numbers, which come nearly in order.
//!
//! The stream numbers its records without holes and nobody can delete one. Deliveries may still overtake each other: what an earlier
//! process took and did not acknowledge comes again seconds later. A reader is therefore shown only what lies below the first hole,
//! so that a tail never skips a record that arrives late.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// How long a hole is waited for. A delivery that was not acknowledged comes again after the consumer's ack wait of 10 s; three of
/// those later it will not come, and everything behind it must not stay hidden for ever.
pub const HOLE_PATIENCE: Duration = Duration::from_secs(30);

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

    /// Gives up a hole that is older than [`HOLE_PATIENCE`]. Returns the numbers given up, first and last.
    pub fn settle(&mut self, now: Instant) -> Option<(u64, u64)> {
        let next = self.ahead.first().copied();
        let Some(next) = next else {
            self.hole_since = None;
            return None;
        };
        let since = *self.hole_since.get_or_insert(now);
        if now.duration_since(since) < HOLE_PATIENCE {
            return None;
        }
        let given_up = (self.upto + 1, next - 1);
        self.upto = next - 1;
        self.hole_since = None;
        self.close_up();
        Some(given_up)
    }

    /// Every record up to this one is in the index, or was given up.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Rows in the index.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Records below [`Self::upto`] that the index does not have.
    pub fn missing(&self) -> u64 {
        (self.upto + self.ahead.len() as u64).saturating_sub(self.held)
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
        assert_eq!((progress.upto(), progress.missing()), (2, 0));
        progress.add(3);
        assert_eq!((progress.upto(), progress.held()), (5, 5));
    }

    #[test]
    fn a_hole_that_stays_is_given_up_and_counted() {
        let mut progress = Progress::resume(2, 5, [4, 5, 8]);
        let start = Instant::now();
        assert_eq!(progress.settle(start), None);
        assert_eq!(progress.settle(start + HOLE_PATIENCE), Some((3, 3)));
        assert_eq!((progress.upto(), progress.missing()), (5, 1));
        let later = start + HOLE_PATIENCE;
        assert_eq!(progress.settle(later), None);
        assert_eq!(progress.settle(later + HOLE_PATIENCE), Some((6, 7)));
        assert_eq!(progress.upto(), 8);
    }

    #[test]
    fn what_was_given_up_and_comes_after_all_is_no_longer_missing() {
        let mut progress = Progress::resume(0, 0, []);
        progress.add(3);
        let start = Instant::now();
        progress.settle(start);
        progress.settle(start + HOLE_PATIENCE);
        assert_eq!((progress.upto(), progress.missing()), (3, 2));
        progress.add(1);
        assert_eq!((progress.upto(), progress.missing()), (3, 1));
    }
}
