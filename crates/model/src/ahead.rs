//! Data with a time in the future.
//!
//! What a wrong clock has stamped is kept like everything else, and must not
//! outlive it: for retention its age is the time since it came. When a datum
//! came is not stored. [`Ahead`] remembers it for the newest of each key and
//! takes the clock that stamped the others to be as wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;

/// What is further than this in the future is ahead of the clock: less than
/// that is a clock that runs a little fast.
pub const AHEAD: Duration = Duration::from_secs(600);

/// The keys (series, streams of lines) whose newest datum is ahead.
#[derive(Clone, Debug)]
pub struct Ahead<K> {
    known: BTreeMap<K, Newest>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    time: Timestamp,
    /// When it was first seen: at most one look after it came.
    seen: Timestamp,
}

impl<K> Default for Ahead<K> {
    fn default() -> Self {
        Ahead { known: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Ahead<K> {
    /// Looks at a key whose newest datum has `newest`. Answers when that came,
    /// if it is ahead of `now`.
    pub fn look(&mut self, key: &K, newest: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if newest <= now.saturating_add(AHEAD) {
            self.forget(key);
            return None;
        }
        let known = match self.known.get_mut(key) {
            Some(known) => known,
            None => self.known.entry(key.clone()).or_insert(Newest { time: newest, seen: now }),
        };
        if known.time != newest {
            *known = Newest { time: newest, seen: now };
        }
        // Our own clock may have gone back.
        known.seen = known.seen.min(now);
        Some(known.seen)
    }

    /// About when a datum of `key` with `time` came; its own time, if that is
    /// not ahead of `now`. Call after [`Ahead::look`].
    pub fn came(&self, key: &K, time: Timestamp, now: Timestamp) -> Timestamp {
        match self.known.get(key) {
            Some(newest) if time > now.saturating_add(AHEAD) => {
                let before_newest = newest.time.as_millis().saturating_sub(time.as_millis());
                Timestamp::from_millis(newest.seen.as_millis().saturating_sub(before_newest.max(0)))
            }
            _ => time,
        }
    }

    pub fn forget(&mut self, key: &K) {
        self.known.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn what_is_ahead_is_as_old_as_its_arrival() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.look(&'a', at(600), at(0)), None, "ten minutes are not ahead");
        assert_eq!(ahead.look(&'a', at(10_000), at(0)), Some(at(0)));
        assert_eq!(ahead.look(&'a', at(10_000), at(100)), Some(at(0)), "nothing came since");
        assert_eq!(ahead.came(&'a', at(10_000), at(100)), at(0));
        assert_eq!(ahead.came(&'a', at(9_990), at(100)), at(-10), "ten seconds before the newest");
        assert_eq!(ahead.came(&'a', at(50), at(100)), at(50));
        assert_eq!(ahead.look(&'a', at(10_300), at(300)), Some(at(300)));
        assert_eq!(ahead.look(&'a', at(10_300), at(200)), Some(at(200)), "our clock went back");
        assert_eq!(ahead.look(&'a', at(10_300), at(9_800)), None, "its time has come");
        assert_eq!(ahead.came(&'a', at(20_000), at(9_800)), at(20_000), "unknown");
        assert_eq!(ahead.look(&'a', Timestamp::MAX, at(0)), Some(at(0)));
        assert_eq!(ahead.came(&'a', Timestamp::from_millis(i64::MAX - 1), at(0)), Timestamp::from_millis(-1));
    }
}
