//! Differences added up: a sender of deltas says what came since its last
//! point, and series are of what came since the beginning.
//!
//! A point that is sent again adds nothing: its time was seen. A restart of
//! the gateway begins at zero, which readers take for a reset of the counter,
//! as it is one.

use std::collections::HashMap;

use super::super::series::SeriesKey;

/// Series whose sums are kept, of all writers; who was not added to for
/// longest is forgotten, and begins anew.
const SERIES_MAX: usize = 200_000;

/// The sums of one gateway.
#[derive(Default)]
pub struct Deltas {
    sums: HashMap<(u64, SeriesKey), Sum>,
    uses: u64,
}

#[derive(Clone, Copy)]
struct Sum {
    value: f64,
    time_unix_nano: u64,
    used: u64,
}

impl Deltas {
    /// The sum with `delta`, which `writer`'s series gained up to this time.
    /// `None`: it is older than what was added already.
    pub fn add(&mut self, writer: u64, series: SeriesKey, time_unix_nano: u64, delta: f64) -> Option<f64> {
        self.uses += 1;
        let used = self.uses;
        if let Some(sum) = self.sums.get_mut(&(writer, series)) {
            if time_unix_nano < sum.time_unix_nano {
                return None;
            }
            if time_unix_nano > sum.time_unix_nano {
                (sum.value, sum.time_unix_nano) = (sum.value + delta, time_unix_nano);
            }
            sum.used = used;
            return Some(sum.value);
        }
        if self.sums.len() >= SERIES_MAX {
            // Half at once, so that a flood of series does not look through
            // all of them for each.
            let median = {
                let mut all: Vec<_> = self.sums.values().map(|sum| sum.used).collect();
                let middle = all.len() / 2;
                *all.select_nth_unstable(middle).1
            };
            self.sums.retain(|_, sum| sum.used > median);
        }
        self.sums.insert((writer, series), Sum { value: delta, time_unix_nano, used });
        Some(delta)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::series::SeriesHash;
    use super::*;

    #[test]
    fn differences_add_up_once() {
        let (hash, mut deltas) = (SeriesHash::new(), Deltas::default());
        let (a, b) = (hash.of(b"a"), hash.of(b"b"));
        assert_eq!(deltas.add(1, a, 10, 2.0), Some(2.0));
        assert_eq!(deltas.add(1, a, 20, 3.0), Some(5.0));
        assert_eq!(deltas.add(1, a, 20, 3.0), Some(5.0), "sent again");
        assert_eq!(deltas.add(1, a, 15, 1.0), None);
        assert_eq!(deltas.add(1, b, 20, 7.0), Some(7.0));
        assert_eq!(deltas.add(2, a, 20, 9.0), Some(9.0), "of another writer");
    }

    #[test]
    fn a_flood_of_series_is_bounded() {
        let (hash, mut deltas) = (SeriesHash::new(), Deltas::default());
        for number in 0..2 * SERIES_MAX as u64 {
            deltas.add(1, hash.of(&number.to_le_bytes()), 1, 1.0);
            assert!(deltas.sums.len() <= SERIES_MAX);
        }
        let last = 2 * SERIES_MAX as u64 - 1;
        assert_eq!(deltas.add(1, hash.of(&last.to_le_bytes()), 2, 1.0), Some(2.0), "the newest stay");
    }
}
