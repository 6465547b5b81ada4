//! What was learned lately, for a fixed time. A map and the order in which it grew: what is over is freed at once and
//! with its room, so that a crowd that left leaves nothing behind, not even here and there an entry in memory that could
//! else be given back.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Below this many places nothing is given back.
const FEW: usize = 64;

/// Values by key, each for the same time; when there are too many the oldest go.
pub(crate) struct Recent<K, V> {
    most: usize,
    life: Duration,
    kept: Mutex<Kept<K, V>>,
}

struct Kept<K, V> {
    values: HashMap<K, Value<V>>,
    /// Every insertion, oldest first; those whose key was inserted again or removed no longer count.
    order: VecDeque<(u64, K)>,
    /// The number of the next insertion.
    next: u64,
}

struct Value<V> {
    value: V,
    since: Instant,
    /// Of its insertion.
    number: u64,
}

impl<K: Clone + Eq + Hash, V: Copy> Recent<K, V> {
    pub(crate) fn new(most: u64, life: Duration) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            life,
            kept: Mutex::new(Kept {
                values: HashMap::new(),
                order: VecDeque::new(),
                next: 0,
            }),
        }
    }

    /// The values of `keys`, in their order.
    pub(crate) fn get_all(&self, now: Instant, keys: impl IntoIterator<Item = K>) -> Vec<Option<V>> {
        let kept = self.kept.lock();
        let value = |key| {
            let kept = kept.values.get(&key)?;
            (now.duration_since(kept.since) < self.life).then_some(kept.value)
        };
        keys.into_iter().map(value).collect()
    }

    pub(crate) fn insert_all(&self, now: Instant, values: impl IntoIterator<Item = (K, V)>) {
        let mut kept = self.kept.lock();
        for (key, value) in values {
            let number = kept.next;
            kept.next += 1;
            let value = Value {
                value,
                since: now,
                number,
            };
            kept.values.insert(key.clone(), value);
            kept.order.push_back((number, key));
            if kept.order.len() > self.most {
                kept.drop_oldest();
            }
        }
    }

    /// Forgets a key; answers its value.
    pub(crate) fn remove(&self, key: &K) -> Option<V> {
        self.kept.lock().values.remove(key).map(|kept| kept.value)
    }

    /// Gives back what is over.
    pub(crate) fn forget_stale(&self, now: Instant) {
        let mut kept = self.kept.lock();
        while kept.is_oldest_over(now, self.life) {
            kept.drop_oldest();
        }
        let Kept { values, order, .. } = &mut *kept;
        if values.capacity() > FEW && values.len() < values.capacity() / 4 {
            let room = values.len() * 2;
            values.shrink_to(room);
        }
        if order.capacity() > FEW && order.len() < order.capacity() / 4 {
            let room = order.len() * 2;
            order.shrink_to(room);
        }
    }

    #[cfg(test)]
    fn room(&self) -> (usize, usize) {
        let kept = self.kept.lock();
        (kept.values.capacity(), kept.order.capacity())
    }
}

impl<K: Eq + Hash, V> Kept<K, V> {
    /// Whether the oldest insertion no longer counts.
    fn is_oldest_over(&self, now: Instant, life: Duration) -> bool {
        self.order.front().is_some_and(|(number, key)| {
            self.values
                .get(key)
                .is_none_or(|kept| kept.number != *number || now.duration_since(kept.since) >= life)
        })
    }

    fn drop_oldest(&mut self) {
        let Some((number, key)) = self.order.pop_front() else {
            return;
        };
        // Inserted again since, it has a later place.
        if self.values.get(&key).is_some_and(|kept| kept.number == number) {
            self.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(5);

    #[test]
    fn a_value_holds_for_its_time_and_leaves_no_room_behind() {
        let (recent, began) = (Recent::new(100_000, LIFE), Instant::now());
        recent.insert_all(began, (0..10_000).map(|n| (n, n * 2)));
        let nearly = began + LIFE - Duration::from_millis(1);
        assert_eq!(recent.get_all(nearly, [1, 20_000]), [Some(2), None]);
        recent.insert_all(nearly, [(1, 3)]);
        let over = began + LIFE;
        assert_eq!(recent.get_all(over, [0, 1, 2]), [None, Some(3), None]);
        recent.forget_stale(over);
        assert_eq!(recent.get_all(over, [1]), [Some(3)], "its later place counts");
        let (values, order) = recent.room();
        assert!(
            values <= FEW && order <= FEW,
            "{values} and {order} places for one"
        );
    }

    #[test]
    fn when_there_are_too_many_the_oldest_go() {
        let (recent, now) = (Recent::new(3, LIFE), Instant::now());
        recent.insert_all(now, [("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
        assert_eq!(recent.get_all(now, ["a", "b", "d"]), [None, Some(2), Some(4)]);
        assert_eq!(recent.remove(&"b"), Some(2));
        assert_eq!(recent.get_all(now, ["b"]), [None]);
        for n in 0..10 {
            recent.insert_all(now, [("d", n)]);
        }
        assert_eq!(recent.get_all(now, ["d"]), [Some(9)]);
    }
}
