use std::collections::BTreeMap;
use std::sync::Arc;

use lm_model::{Histogram, Labels, MatchOp, Matcher, Samples, TimeRange, Timestamp};
use proptest::prelude::*;

use super::head::read;
use super::*;
use crate::Selector;

fn labels(text: &str) -> Labels {
    Labels::from_pairs(
        text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap()),
    )
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn head() -> Head {
    Head::new(HeadOptions { series_max: 100_000 })
}

/// What the sets of the head hold of a series.
fn samples(head: &Head, labels: &Labels, range: TimeRange) -> Samples {
    let mut samples = Samples::default();
    if let Some(slot) = head.table.slot(labels) {
        head.sets().for_each(|set| read(set).read(slot, range, &mut samples));
    }
    samples
}

fn histogram(count: f64) -> Arc<Histogram> {
    Arc::new(Histogram { count, ..Histogram::default() })
}

#[test]
fn matchers_follow_prometheus() {
    use MatchOp::*;
    let mut head = head();
    for text in ["n=up,job=a", "n=up,job=b,zone=x", "n=down,job=a\nb", "n=down,job=c.d"] {
        head.series(&labels(text)).unwrap();
    }
    let check = |matchers: &[(&str, MatchOp, &str)], expected: &[&str]| {
        let matchers: Vec<_> = matchers.iter().map(|(n, op, v)| Matcher::new(*n, *op, *v)).collect();
        let found = head.table.select(&Selector::new(&matchers).unwrap());
        let jobs: Vec<_> =
            found.iter().map(|slot| head.table.labels(*slot).unwrap().get("job").unwrap()).collect();
        assert_eq!(jobs, expected, "{matchers:?}");
    };
    check(&[], &["a", "b", "a\nb", "c.d"]);
    check(&[("n", Eq, "up")], &["a", "b"]);
    check(&[("n", Ne, "up")], &["a\nb", "c.d"]);
    check(&[("n", Eq, "up"), ("job", Re, "a|c")], &["a"]);
    check(&[("job", Re, "a|c|a")], &["a"]);
    check(&[("job", Nre, "a|c")], &["b", "a\nb", "c.d"]);
    check(&[("job", Re, r"a|c\.d")], &["a", "c.d"]);
    check(&[("job", Re, r"\d")], &[]);
    // Anchored, and a dot matches a line feed.
    check(&[("job", Re, "a")], &["a"]);
    check(&[("job", Re, "a.b")], &["a\nb"]);
    check(&[("job", Nre, "a.*")], &["b", "c.d"]);
    // An absent label is an empty one.
    check(&[("zone", Eq, "")], &["a", "a\nb", "c.d"]);
    check(&[("zone", Ne, "")], &["b"]);
    check(&[("zone", Re, "x|")], &["a", "b", "a\nb", "c.d"]);
    check(&[("zone", Nre, "x|")], &[]);
    check(&[("zone", Ne, "x")], &["a", "a\nb", "c.d"]);
    check(&[("zone", Re, ".+")], &["b"]);
    check(&[("n", Re, ".+"), ("zone", Nre, "y.*"), ("zone", Ne, "")], &["b"]);
    check(&[("none", Eq, "")], &["a", "b", "a\nb", "c.d"]);
    check(&[("none", Eq, "x")], &[]);
    for pattern in ["(", "a)|(b", "((a{1000}){1000}){1000}", &"(".repeat(10_000)] {
        assert!(Selector::new(&[Matcher::new("job", Re, pattern)]).is_err(), "{pattern:.20}");
    }
}

#[test]
fn the_limit_refuses_only_new_series() {
    let mut head = Head::new(HeadOptions { series_max: 1 });
    let id = head.series(&labels("a=1")).unwrap();
    assert_eq!(head.series(&labels("a=2")), Err(HeadFull { series_max: 1 }));
    assert_eq!(head.series(&labels("a=1")), Ok(id));
}

#[test]
fn duplicates_and_conflicts_are_known_while_the_samples_are_in_memory() {
    let mut head = head();
    let (a, b) = (head.series(&labels("n=a")).unwrap(), head.series(&labels("n=b")).unwrap());
    let counts = |stored, duplicates, conflicts| Appended { stored, duplicates, conflicts, unknown: 0 };
    assert_eq!(head.append(at(10), [(a, 1.0), (b, 2.0), (a, 1.0), (b, 3.0)]), counts(2, 1, 1));
    assert_eq!(head.append(at(20), [(a, 1.0)]), counts(1, 0, 0));
    assert_eq!(head.append(at(10), [(a, 1.0), (b, 3.0)]), counts(0, 1, 1));
    assert_eq!(head.append(at(5), [(a, f64::NAN)]), counts(1, 0, 0));
    assert_eq!(head.append(at(5), [(a, f64::NAN), (a, lm_model::stale_nan())]), counts(0, 1, 1));
    assert_eq!(head.append(Timestamp::MIN, [(a, 0.0), (a, 0.0), (a, 1.0)]), counts(1, 1, 1));
    assert!(head.freeze(at(20)).is_some());
    // Now older than the table's newest, and in the frozen set only.
    assert_eq!(head.append(at(10), [(a, 1.0), (a, 2.0)]), counts(0, 1, 1));
    assert_eq!(head.append(at(20), [(a, 1.0), (a, 2.0)]), counts(0, 1, 1));
    assert_eq!(head.append_histogram(a, at(20), histogram(1.0)), counts(0, 0, 1));
    assert_eq!(head.append_histogram(a, at(30), histogram(1.0)), counts(1, 0, 0));
    assert_eq!(head.append_histogram(a, at(30), histogram(1.0)), counts(0, 1, 0));
    assert_eq!(head.append_histogram(a, at(30), histogram(2.0)), counts(0, 0, 1));
    assert_eq!(head.append(at(30), [(a, 1.0)]), counts(0, 0, 1));
    head.drop_frozen();
    assert_eq!(head.append(at(30), [(a, 7.0)]), counts(0, 0, 1));
    assert_eq!(head.append(at(40), [(a, 1.0)]), counts(1, 0, 0));
    assert_eq!(head.append_histogram(a, at(35), histogram(3.0)), counts(1, 0, 0));
    assert_eq!(head.append(at(35), [(a, 7.0)]), counts(0, 0, 1));
    let stale =
        || Arc::new(Histogram { sum: f64::from_bits(lm_model::STALE_NAN_BITS), ..Histogram::default() });
    assert_eq!(head.append_histogram(a, at(50), stale()), counts(1, 0, 0));
    assert_eq!(head.append_histogram(a, at(50), stale()), counts(0, 1, 0));
}

#[test]
fn idle_series_leave_and_slots_are_numbered_anew() {
    let mut head = head();
    let hour = 3_600_000;
    let name = |i: usize| labels(&format!("n=x,i={i}"));
    let ids: Vec<_> = (0..3000).map(|i| head.series(&name(i)).unwrap()).collect();
    head.append(at(1), ids.iter().map(|id| (*id, 1.0)));
    head.freeze(at(1)).unwrap();
    assert_eq!(head.expire(at(2 * hour)), 0, "their slots are in use");
    head.drop_frozen();
    head.append(at(2), ids.iter().skip(1).step_by(3).map(|id| (*id, 2.0)));
    assert_eq!(head.expire(at(hour)), 0);
    assert_eq!(head.expire(at(hour + 60_001)), 2000);
    assert_eq!(head.stats().series, 1000);
    // Other numbers: old ids mean nobody.
    assert_eq!(head.append(at(3), [(ids[1], 1.0)]).unknown, 1);
    let again = head.series(&name(1)).unwrap();
    assert_ne!(again, ids[1]);
    assert_eq!(head.append(at(2), [(again, 2.0), (again, 3.0)]).conflicts, 1, "it still knows its newest");
    assert_eq!(samples(&head, &name(4), TimeRange::ALL).values, [2.0]);
    assert_eq!(samples(&head, &name(0), TimeRange::ALL).values, []);
    let found = head.table.select(&Selector::new(&[Matcher::new("i", MatchOp::Re, "4|5|7")]).unwrap());
    let found: Vec<_> = found.iter().map(|slot| head.table.labels(*slot).unwrap().clone()).collect();
    assert_eq!(found, [name(4), name(7)]);
    let late = head.series(&name(0)).unwrap();
    assert_eq!(head.append(at(1), [(late, 9.0)]).stored, 1);
}

#[derive(Clone, Debug)]
enum Action {
    Append { time: i64, series: Vec<(u8, u8)> },
    Histogram { time: i64, series: u8, count: u8 },
    Freeze,
    Install,
}

fn action() -> impl Strategy<Value = Action> {
    let series = prop::collection::vec((0u8..6, 0u8..3), 1..8);
    prop_oneof![
        16 => (0i64..40, series).prop_map(|(time, series)| Action::Append { time, series }),
        4 => (0i64..40, 0u8..6, 0u8..3).prop_map(|(time, series, count)| Action::Histogram { time, series, count }),
        1 => Just(Action::Freeze),
        1 => Just(Action::Install),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Histogram(f64),
}

proptest! {
    /// Without installs the sets together are a map; with them, what was
    /// installed is gone.
    #[test]
    fn behaves_like_a_map(
        actions in prop::collection::vec(action(), 1..80),
        (start, len) in (0i64..40, 0i64..40),
    ) {
        let mut head = head();
        let mut model: BTreeMap<(u8, i64), (Value, bool)> = BTreeMap::new();
        let mut is_frozen = false;
        let name = |series: u8| labels(&format!("n=x,s={series}"));
        for action in actions {
            match action {
                Action::Append { time, series } => {
                    let ids: Vec<_> =
                        series.iter().map(|(s, v)| (head.series(&name(*s)).unwrap(), f64::from(*v))).collect();
                    let mut expected = Appended::default();
                    for (s, v) in &series {
                        let value = Value::Number(f64::from(*v));
                        match model.get(&(*s, time)) {
                            Some((known, _)) if *known == value => expected.duplicates += 1,
                            Some(_) => expected.conflicts += 1,
                            None => {
                                model.insert((*s, time), (value, false));
                                expected.stored += 1;
                            }
                        }
                    }
                    prop_assert_eq!(head.append(at(time), ids), expected);
                }
                Action::Histogram { time, series, count } => {
                    let id = head.series(&name(series)).unwrap();
                    let value = Value::Histogram(f64::from(count));
                    let mut expected = Appended::default();
                    match model.get(&(series, time)) {
                        Some((known, _)) if *known == value => expected.duplicates += 1,
                        Some(_) => expected.conflicts += 1,
                        None => {
                            model.insert((series, time), (value, false));
                            expected.stored += 1;
                        }
                    }
                    prop_assert_eq!(head.append_histogram(id, at(time), histogram(f64::from(count))), expected);
                }
                Action::Freeze => {
                    let frozen = head.freeze(at(0)).is_some();
                    prop_assert_eq!(frozen, !is_frozen && model.values().any(|(_, is_frozen)| !is_frozen));
                    if frozen {
                        is_frozen = true;
                        model.values_mut().for_each(|(_, is_frozen)| *is_frozen = true);
                    }
                }
                // Blocks are not known here: only what cannot be asked again may go.
                Action::Install if is_frozen && model.values().all(|(_, is_frozen)| *is_frozen) => {
                    head = self::head();
                    model.clear();
                    is_frozen = false;
                }
                Action::Install => {}
            }
        }
        for range in [TimeRange::ALL, TimeRange { start: at(start), end: at(start + len) }] {
            for series in 0..6u8 {
                let found = samples(&head, &name(series), range);
                let of_series = model.iter().filter(|((s, time), _)| *s == series && range.contains(at(*time)));
                let mut expected = Samples::default();
                for ((_, time), (value, _)) in of_series {
                    match value {
                        Value::Number(value) => expected.push(at(*time), *value),
                        Value::Histogram(count) => expected.histograms.push((at(*time), histogram(*count))),
                    }
                }
                if let Some(slot) = head.table.slot(&name(series)) {
                    let has = head.sets().any(|set| read(set).has_samples(slot, range));
                    prop_assert_eq!(has, !expected.is_empty());
                }
                prop_assert_eq!(found, expected);
            }
        }
        prop_assert_eq!(head.stats().samples, model.len());
    }
}
