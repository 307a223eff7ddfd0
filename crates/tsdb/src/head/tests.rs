use super::*;
use lm_model::{MatchOp, stale_nan};
use proptest::prelude::*;

fn head() -> Head {
    Head::new(HeadOptions { bytes_max: 64 << 20, retention: Duration::from_secs(3600), series_max: 1000 })
}

fn labels(text: &str) -> Labels {
    Labels::from_pairs(
        text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap()),
    )
}

fn sample(millis: i64, value: f64) -> Sample {
    Sample { time: Timestamp::from_millis(millis), value }
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end) }
}

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value)
}

fn with_series(all: &[&str]) -> Head {
    let mut head = head();
    for text in all {
        let id = head.series(&labels(text)).unwrap();
        head.append(id, &[sample(10, 1.0)]).unwrap();
    }
    head
}

#[test]
fn first_value_at_a_time_stays() {
    let mut head = head();
    let id = head.series(&labels("a=b")).unwrap();
    assert_eq!(head.series(&labels("a=b")).unwrap(), id);
    assert_eq!(head.labels(id), Some(&labels("a=b")));
    let appended =
        head.append(id, &[sample(20, 2.0), sample(10, 1.0), sample(20, 3.0), sample(10, 1.0)]).unwrap();
    assert_eq!(appended, Appended { stored: 2, duplicates: 1, conflicts: 1 });
    let selected = head.select(&[], TimeRange::ALL, SelectLimits::NONE).unwrap();
    assert_eq!(selected, vec![(labels("a=b"), vec![sample(10, 1.0), sample(20, 2.0)])]);
    assert_eq!(head.stats().samples, 2);
}

#[test]
fn staleness_marker_keeps_its_bits() {
    let mut head = head();
    let id = head.series(&labels("a=b")).unwrap();
    head.append(id, &[sample(10, stale_nan()), sample(20, f64::NAN), sample(10, f64::NAN)]).unwrap();
    let selected = head.select(&[], TimeRange::ALL, SelectLimits::NONE).unwrap();
    assert!(lm_model::is_stale(selected[0].1[0].value));
    assert!(!lm_model::is_stale(selected[0].1[1].value));
}

#[test]
fn matchers_follow_prometheus() {
    use MatchOp::*;
    let head = with_series(&["n=up,job=a", "n=up,job=b,zone=x", "n=down,job=a\nb"]);
    let check = |matchers: &[Matcher], expected: &[&str]| {
        let found = head.series_labels(matchers, TimeRange::ALL).unwrap();
        let jobs: Vec<_> = found.iter().map(|labels| labels.get("job").unwrap()).collect();
        assert_eq!(jobs, expected, "{matchers:?}");
    };
    check(&[], &["a", "b", "a\nb"]);
    check(&[matcher("n", Eq, "up")], &["a", "b"]);
    check(&[matcher("n", Ne, "up")], &["a\nb"]);
    check(&[matcher("n", Eq, "up"), matcher("job", Re, "a|c")], &["a"]);
    // Anchored, and a dot matches a line feed.
    check(&[matcher("job", Re, "a")], &["a"]);
    check(&[matcher("job", Re, "a.b")], &["a\nb"]);
    check(&[matcher("job", Nre, "a.*")], &["b"]);
    // An absent label is an empty one.
    check(&[matcher("zone", Eq, "")], &["a", "a\nb"]);
    check(&[matcher("zone", Ne, "")], &["b"]);
    check(&[matcher("zone", Re, "x|")], &["a", "b", "a\nb"]);
    check(&[matcher("zone", Ne, "x")], &["a", "a\nb"]);
    check(&[matcher("zone", Re, ".+")], &["b"]);
    check(&[matcher("none", Eq, "")], &["a", "b", "a\nb"]);
    check(&[matcher("none", Eq, "x")], &[]);
}

#[test]
fn bad_expressions_are_errors() {
    let head = with_series(&["a=b"]);
    for pattern in ["(", "a)|(b", "((a{1000}){1000}){1000}", &"(".repeat(10_000)] {
        let result = head.select(&[matcher("a", MatchOp::Re, pattern)], TimeRange::ALL, SelectLimits::NONE);
        assert!(matches!(result, Err(Error::Regex { .. })), "{pattern:.20}");
    }
}

#[test]
fn ranges_are_half_open() {
    let mut head = head();
    let id = head.series(&labels("a=b,c=d")).unwrap();
    head.append(id, &[sample(10, 1.0), sample(20, 2.0), sample(30, 3.0)]).unwrap();
    let selected = head.select(&[], range(10, 30), SelectLimits::NONE).unwrap();
    assert_eq!(selected[0].1, vec![sample(10, 1.0), sample(20, 2.0)]);
    assert!(head.select(&[], range(11, 20), SelectLimits::NONE).unwrap().is_empty());
    assert_eq!(head.label_names(&[], range(11, 20)).unwrap(), Vec::<String>::new());
    assert_eq!(head.label_names(&[], range(11, 21)).unwrap(), ["a", "c"]);
    assert_eq!(head.label_values("c", &[], range(30, 31)).unwrap(), ["d"]);
    assert_eq!(head.label_values("c", &[], TimeRange::ALL).unwrap(), ["d"]);
    assert_eq!(head.label_values("x", &[], TimeRange::ALL).unwrap(), Vec::<String>::new());
}

#[test]
fn limits_refuse_large_answers() {
    let head = with_series(&["a=1", "a=2", "a=3"]);
    let select = |series_max, samples_max| {
        head.select(&[], TimeRange::ALL, SelectLimits { series_max, samples_max }).map(|found| found.len())
    };
    assert_eq!(select(3, 3), Ok(3));
    assert_eq!(select(2, 3), Err(Error::TooManySeries { series_max: 2 }));
    assert_eq!(select(3, 2), Err(Error::TooManySamples { samples_max: 2 }));
}

#[test]
fn series_limit_refuses_only_new_series() {
    let mut head = Head::new(HeadOptions { series_max: 1, ..head().options });
    let id = head.series(&labels("a=1")).unwrap();
    assert_eq!(head.series(&labels("a=2")), Err(SeriesLimit { series_max: 1 }));
    assert_eq!(head.series(&labels("a=1")), Ok(id));
}

#[test]
fn age_drops_samples_then_series() {
    let mut head = head();
    let old = head.series(&labels("a=old")).unwrap();
    let new = head.series(&labels("a=new")).unwrap();
    let never = head.series(&labels("a=never")).unwrap();
    head.append(old, &[sample(1_000, 1.0)]).unwrap();
    head.append(new, &[sample(1_000, 1.0), sample(2_000, 1.0), sample(3_000, 1.0)]).unwrap();
    let expired = head.expire(Timestamp::from_millis(3_602_000));
    assert_eq!(expired.age, Removed { samples: 2, series: 2 });
    assert_eq!(expired.memory, Removed::default());
    assert_eq!(head.append(old, &[sample(1, 1.0)]), Err(UnknownSeries(old)));
    assert_eq!(head.append(never, &[]), Err(UnknownSeries(never)));
    assert_eq!(head.label_values("a", &[], TimeRange::ALL).unwrap(), ["new"]);
    assert_ne!(head.series(&labels("a=old")).unwrap(), old, "ids are not reused");
    assert_eq!(head.stats().samples, 2);
}

#[test]
fn memory_drops_the_oldest_chunks_of_all_series() {
    let bytes_max = 200_000;
    let mut head = Head::new(HeadOptions { bytes_max, ..head().options });
    let ids: Vec<_> = (0..20).map(|i| head.series(&labels(&format!("a={i}"))).unwrap()).collect();
    let (mut stored, mut removed) = (0, 0);
    for time in 0..3000 {
        for (i, id) in ids.iter().enumerate() {
            stored += head.append(*id, &[sample(time, (time * i as i64) as f64 * 0.1)]).unwrap().stored;
        }
        if head.is_over_memory() {
            let expired = head.expire(Timestamp::from_millis(time));
            assert!(expired.memory.samples > 0 && expired.age == Removed::default());
            removed += expired.memory.samples;
        }
        assert!(head.stats().bytes <= bytes_max);
    }
    assert_eq!(head.stats().samples, stored - removed);
    let selected = head.select(&[], TimeRange::ALL, SelectLimits::NONE).unwrap();
    assert_eq!(selected.len(), 20);
    let firsts = selected.iter().map(|(_, samples)| samples[0].time.as_millis());
    assert!(
        firsts.clone().max().unwrap() - firsts.min().unwrap() <= 120,
        "all series reach back equally far"
    );
}

#[test]
fn everything_can_leave() {
    let mut head = Head::new(HeadOptions { bytes_max: 0, ..head().options });
    let id = head.series(&labels("a=1,b=2")).unwrap();
    head.append(id, &[sample(1, 1.0)]).unwrap();
    assert_eq!(head.expire(Timestamp::from_millis(1)).memory, Removed { samples: 1, series: 1 });
    assert_eq!(head.stats(), HeadStats::default());
}

#[derive(Clone, Debug)]
enum Action {
    Append { series: u8, samples: Vec<(i64, u8)> },
    Expire { now: i64 },
}

fn action() -> impl Strategy<Value = Action> {
    let samples = prop::collection::vec((0i64..600, 0u8..3), 0..60);
    prop_oneof![
        8 => (0u8..4, samples).prop_map(|(series, samples)| Action::Append { series, samples }),
        1 => (0i64..700).prop_map(|now| Action::Expire { now }),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_map(
        actions in prop::collection::vec(action(), 1..60),
        (start, len) in (0i64..600, 0i64..600),
    ) {
        let retention = Duration::from_millis(300);
        let mut head = Head::new(HeadOptions { retention, ..head().options });
        let mut model: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Append { series, samples } => {
                    let labels = labels(&format!("n=x,s={series}"));
                    let id = head.series(&labels).unwrap();
                    let samples: Vec<_> = samples.iter().map(|(t, v)| sample(*t, f64::from(*v))).collect();
                    let mut expected = Appended::default();
                    let map = model.entry(labels).or_default();
                    for sample in &samples {
                        match map.get(&sample.time.as_millis()) {
                            Some(value) => expected.refuse(*value == sample.value),
                            None => {
                                map.insert(sample.time.as_millis(), sample.value);
                                expected.stored += 1;
                            }
                        }
                    }
                    prop_assert_eq!(head.append(id, &samples), Ok(expected));
                }
                Action::Expire { now } => {
                    let mut expected = Removed::default();
                    for map in model.values_mut() {
                        let before = map.len();
                        map.retain(|time, _| *time >= now - 300);
                        expected.samples += before - map.len();
                    }
                    let before = model.len();
                    model.retain(|_, map| !map.is_empty());
                    expected.series = before - model.len();
                    prop_assert_eq!(head.expire(Timestamp::from_millis(now)).age, expected);
                }
            }
        }
        for range in [TimeRange::ALL, range(start, start + len)] {
            let mut selected = head.select(&[matcher("n", MatchOp::Eq, "x")], range, SelectLimits::NONE).unwrap();
            selected.sort_by(|a, b| a.0.cmp(&b.0));
            let expected: Vec<(Labels, Vec<Sample>)> = model
                .iter()
                .map(|(labels, map)| {
                    let inside = map.iter().map(|(t, v)| sample(*t, *v)).filter(|s| range.contains(s.time));
                    (labels.clone(), inside.collect::<Vec<_>>())
                })
                .filter(|(_, samples)| !samples.is_empty())
                .collect();
            let present = head.series_labels(&[], range).unwrap().len();
            prop_assert_eq!(present, expected.len());
            prop_assert_eq!(selected, expected);
        }
        prop_assert_eq!(head.stats().samples, model.values().map(BTreeMap::len).sum::<usize>());
        head.expire(Timestamp::MAX);
        prop_assert_eq!(head.stats(), HeadStats::default());
    }
}

#[test]
fn samples_in_the_future_neither_stay_for_ever_nor_displace_others() {
    let hour = 3_600_000;
    let (now, year) = (100 * hour, 365 * 24 * hour);
    let at = |millis| Timestamp::from_millis(millis);
    let mut head = head();
    let id = head.series(&labels("clock=wrong")).unwrap();
    head.append(id, &[sample(now, 1.0), sample(now + year, 2.0), sample(now + year + 1, 3.0)]).unwrap();
    let within = head.series(&labels("clock=fast")).unwrap();
    head.append(within, &[sample(now + 600_000, 1.0)]).unwrap();
    assert_eq!(head.expire(at(now)).age.samples, 0);
    // One comes half an hour later: all of its series stay for another hour.
    head.append(id, &[sample(now + year + 2, 4.0)]).unwrap();
    assert_eq!(head.expire(at(now + hour / 2)).age.samples, 0);
    assert_eq!(head.expire(at(now + hour + 1)).age.samples, 1, "the one of now, by its own time");
    assert_eq!(head.expire(at(now + hour / 2 + hour)).age.samples, 1, "the fast clock's");
    let expired = head.expire(at(now + hour / 2 + hour + 1)).age;
    assert_eq!((expired.samples, head.stats().series, head.stats().bytes), (3, 0, head.bytes()));

    // Memory is short: what came first goes first, whatever its time says.
    let mut head = Head::new(HeadOptions {
        bytes_max: 1 << 30,
        retention: Duration::from_secs(360_000),
        series_max: 1000,
    });
    let ahead = head.series(&labels("clock=wrong")).unwrap();
    for minute in 0..240 {
        head.append(ahead, &[sample(now + year + minute * 60_000, 1.0)]).unwrap();
    }
    head.expire(at(now + 240 * 60_000));
    let right = head.series(&labels("clock=right")).unwrap();
    for minute in 180..300 {
        head.append(right, &[sample(now + minute * 60_000, 1.0)]).unwrap();
    }
    head.options.bytes_max = head.bytes() - 1;
    assert_eq!(head.expire(at(now + 300 * 60_000)).memory.samples, 120, "the first half of those ahead");
    let left = head.select(&[], TimeRange::ALL, SelectLimits::NONE).unwrap();
    assert_eq!(left.iter().map(|(_, samples)| samples.len()).collect::<Vec<_>>(), [120, 120]);
}
