//! Order within a conversation, freedom between conversations: work of one key is done one after the other, in the order in
//! which it came; other keys do not wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// When so many keys are known, those at rest are forgotten.
const TIDY_AT: usize = 1024;

/// The lanes. Each remembers who entered it last.
#[derive(Default)]
pub(crate) struct Lanes {
    last: Mutex<HashMap<String, oneshot::Receiver<()>>>,
}

/// A place in a lane. The next one gets its turn when this is dropped, however that happens.
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Lanes {
    /// Takes a place; call it in the order in which things came, before any await.
    pub(crate) fn enter(&self, key: &str) -> Turn {
        let (done, wait) = oneshot::channel();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= TIDY_AT {
            last.retain(|_, wait| matches!(wait.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        }
        Turn { before: last.insert(key.to_owned(), wait), _done: done }
    }
}

impl Turn {
    /// Waits until the one before is done.
    pub(crate) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the error says that the sender is gone, which is the signal.
            let _gone = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_lane_keeps_its_order_and_another_does_not_wait() {
        let lanes = Lanes::default();
        let (mut first, mut second, mut other) = (lanes.enter("a"), lanes.enter("a"), lanes.enter("b"));
        first.come().await;
        other.come().await;
        let early = tokio::time::timeout(Duration::from_millis(20), second.come()).await;
        assert!(early.is_err(), "the second did not wait for the first");
        drop(first);
        // The wait above was cancelled and has taken the place with it, as a dropped task would.
        let mut third = lanes.enter("a");
        drop(second);
        third.come().await;
    }

    #[tokio::test]
    async fn lanes_at_rest_are_forgotten() {
        let lanes = Lanes::default();
        let busy = lanes.enter("busy");
        for n in 0..2 * TIDY_AT {
            drop(lanes.enter(&n.to_string()));
        }
        let known = lanes.last.lock().unwrap();
        assert!(known.len() <= TIDY_AT && known.contains_key("busy"));
        drop(busy);
    }
}
