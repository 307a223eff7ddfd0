//! Whether every measurement of an agent is there exactly once.
//!
//! An agent that measures only itself has the same series in every cycle, and
//! `lmagent_accepted_items_total{stream="metrics"}` says in each cycle how
//! many samples of this run were accepted before it. So the samples prove by
//! themselves that none is missing: the count of one cycle and its value make
//! the value of the next.

use std::collections::BTreeMap;

use super::Violations;
use crate::api::Series;

const CHAIN: &str = "lmagent_accepted_items_total";

/// Checks all samples of one agent; answers how many there are.
pub fn check(found: &[Series], violations: &mut Violations) -> u64 {
    let mut cycles: BTreeMap<i64, u64> = BTreeMap::new();
    let mut chain: Option<&Series> = None;
    let (mut count, mut repeated) = (0, Vec::new());
    for series in found {
        count += series.samples.len() as u64;
        for (time, _) in &series.samples {
            *cycles.entry(*time).or_default() += 1;
        }
        for pair in series.samples.windows(2) {
            if pair[0].0 >= pair[1].0 {
                repeated.push((series.labels.get("__name__"), pair[1].0));
            }
        }
        let label = |name: &str| series.labels.get(name).map_or("", |value| &value[..]);
        if label("__name__") == CHAIN && label("stream") == "metrics" {
            chain = Some(series);
        }
    }
    violations.add_all("two samples of a series at one time", &repeated);
    let Some(chain) = chain else {
        violations.add(format!("there is no {CHAIN}{{stream=\"metrics\"}}"));
        return count;
    };
    let mut expected = None;
    for (time, items) in &cycles {
        let Some((_, value)) = chain.samples.iter().find(|(at, _)| at == time) else {
            violations.add(format!("the cycle at {time} is not whole: it has no {CHAIN}"));
            continue;
        };
        let value = *value as u64;
        // A new run counts from zero.
        if value != 0 && expected != Some(value) {
            violations.add(format!(
                "measurements are missing before {time}: {value} samples were accepted, {expected:?} are there"
            ));
        }
        expected = Some(value + items);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, samples: &[(i64, f64)]) -> Series {
        let labels = [("__name__", name), ("stream", "metrics")];
        Series {
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            samples: samples.to_vec(),
        }
    }

    #[test]
    fn missing_cycles_are_seen() {
        let told = |chain: &[(i64, f64)], other: &[i64]| {
            let other: Vec<_> = other.iter().map(|time| (*time, 1.0)).collect();
            let mut violations = Violations::default();
            check(&[series(CHAIN, chain), series("lmagent_up", &other)], &mut violations);
            violations.into_vec().len()
        };
        assert_eq!(told(&[(1, 0.0), (2, 2.0), (3, 4.0), (7, 0.0), (8, 2.0)], &[1, 2, 3, 7, 8]), 0);
        assert_eq!(told(&[(1, 0.0), (3, 4.0)], &[1, 3]), 1, "a cycle is gone");
        assert_eq!(told(&[(1, 0.0), (2, 2.0)], &[2]), 1, "a sample is gone");
        assert_eq!(told(&[(1, 0.0), (2, 2.0)], &[1, 1, 2]), 2, "a sample is doubled");
    }
}
