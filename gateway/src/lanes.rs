//! Single-flight per session: messages of one conversation go one after the other, in the order of the stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Which lane: channel and conversation.
pub(crate) type Key = (String, String);

/// All lanes that somebody is in.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    lanes: Arc<Mutex<HashMap<Key, Lane>>>,
    most: usize,
}

/// Somebody drives; the others wait in order. A message delivered again takes the place of its earlier delivery.
#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<u64, oneshot::Sender<Guard>>,
}

/// Too many wait in this session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The right to drive in one lane; dropping it lets the next one go, also in a panic.
#[derive(Debug)]
pub(crate) struct Guard {
    lanes: Lanes,
    key: Key,
}

impl Lanes {
    /// Lanes in which at most `most` wait each.
    pub(crate) fn new(most: usize) -> Self {
        Self { lanes: Arc::default(), most }
    }

    /// Queues up. The receiver gets the right to drive, or an error when a later delivery of the same message took its place.
    pub(crate) fn enter(&self, key: Key, position: u64) -> Result<oneshot::Receiver<Guard>, Full> {
        let (go, turn) = oneshot::channel();
        let mut lanes = self.lock();
        match lanes.get_mut(&key) {
            Some(lane) if lane.waiting.len() >= self.most && !lane.waiting.contains_key(&position) => return Err(Full),
            Some(lane) => {
                lane.waiting.insert(position, go);
            }
            None => {
                lanes.insert(key.clone(), Lane::default());
                drop(lanes);
                // The receiver is ours, so it is there.
                let _ = go.send(Guard { lanes: self.clone(), key });
            }
        }
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one who still wants to; an empty lane goes.
    fn next(&self, key: &Key) -> Option<oneshot::Sender<Guard>> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(key)?;
        while let Some((_, go)) = lane.waiting.pop_first() {
            if !go.is_closed() {
                return Some(go);
            }
        }
        lanes.remove(key);
        None
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(go) = self.lanes.next(&self.key) {
            // Whoever left meanwhile drops the guard that comes back, and so the one after is let go.
            let _ = go.send(Guard { lanes: self.lanes.clone(), key: self.key.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(conversation: &str) -> Key {
        ("cli".to_owned(), conversation.to_owned())
    }

    #[tokio::test]
    async fn one_session_goes_in_the_order_of_the_stream_and_others_go_beside() {
        let lanes = Lanes::new(8);
        let first = lanes.enter(key("a"), 5).unwrap().await.unwrap();
        let (mut eight, mut seven) = (lanes.enter(key("a"), 8).unwrap(), lanes.enter(key("a"), 7).unwrap());
        let other = lanes.enter(key("b"), 6).unwrap().await.unwrap();
        assert!(seven.try_recv().is_err());
        drop(first);
        let second = seven.await.unwrap();
        assert!(eight.try_recv().is_err());
        drop(second);
        drop(eight.await.unwrap());
        drop(other);
        assert!(lanes.lock().is_empty());
    }

    #[tokio::test]
    async fn a_message_delivered_again_takes_the_place_of_its_earlier_delivery() {
        let lanes = Lanes::new(1);
        let first = lanes.enter(key("a"), 1).unwrap().await.unwrap();
        let early = lanes.enter(key("a"), 2).unwrap();
        assert_eq!(lanes.enter(key("a"), 3).unwrap_err(), Full);
        let late = lanes.enter(key("a"), 2).unwrap();
        assert!(early.await.is_err());
        drop(first);
        assert!(late.await.is_ok());
    }

    #[tokio::test]
    async fn who_left_the_queue_does_not_block_it() {
        let lanes = Lanes::new(8);
        let first = lanes.enter(key("a"), 1).unwrap().await.unwrap();
        drop(lanes.enter(key("a"), 2).unwrap());
        let third = lanes.enter(key("a"), 3).unwrap();
        drop(first);
        assert!(third.await.is_ok());
    }
}
