//! A bounded memory that forgets: what was seen, who takes part where, what people are called.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A map whose entries expire, and whose oldest entry leaves when it is full.
pub(crate) struct Recent<K, V> {
    entries: HashMap<K, (V, Instant)>,
    /// Every insertion in order of time. A key inserted again is here twice; only the entry with the map's time counts.
    order: VecDeque<(K, Instant)>,
    life: Duration,
    limit: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(life: Duration, limit: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), life, limit }
    }

    pub(crate) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (value, since) = self.entries.get(key)?;
        (now.saturating_duration_since(*since) < self.life).then(|| value.clone())
    }

    pub(crate) fn insert(&mut self, key: K, value: V, now: Instant) {
        self.entries.insert(key.clone(), (value, now));
        self.order.push_back((key, now));
        self.forget(now);
    }

    /// Drops what is too old, and the oldest while there are too many. The order list is bounded too: one key inserted
    /// again and again must not let it grow.
    fn forget(&mut self, now: Instant) {
        while let Some((key, at)) = self.order.front() {
            let too_old = now.saturating_duration_since(*at) >= self.life;
            let too_many = self.entries.len() > self.limit || self.order.len() > 2 * self.limit;
            if !too_old && !too_many {
                return;
            }
            if self.entries.get(key).is_some_and(|(_, since)| since == at) {
                self.entries.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn an_entry_lives_for_its_time_and_again_after_a_new_insertion() {
        let start = Instant::now();
        let mut recent = Recent::new(LIFE, 100);
        recent.insert("a", 1, start);
        recent.insert("a", 2, start + LIFE / 2);
        assert_eq!(recent.get(&"a", start + LIFE), Some(2));
        assert_eq!(recent.get(&"a", start + LIFE * 2), None);
        recent.insert("b", 1, start + LIFE);
        assert_eq!(recent.get(&"a", start + LIFE), Some(2), "the older insertion took the newer one with it");
    }

    #[test]
    fn it_stays_bounded() {
        let start = Instant::now();
        let mut recent = Recent::new(LIFE, 3);
        for n in 0..100 {
            recent.insert(n, n, start);
            recent.insert(0, 0, start);
        }
        assert!(recent.entries.len() <= 3 && recent.order.len() <= 6);
        assert_eq!(recent.get(&99, start), Some(99));
    }
}
