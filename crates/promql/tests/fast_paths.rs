//! Whole rows, running totals and aggregation on the way give what the plain
//! definitions give, whatever the series; and the same to the bit whatever the
//! order of the store and the number of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lm_model::{Labels, Samples, Timestamp, is_stale, stale_nan};
use lm_promql::{Engine, SelectRequest, Selected, SeriesData, Storage, StorageError, Value, Workers};
use proptest::prelude::*;

/// Answers each selector with all its series, whatever is asked for.
struct Memory(Vec<(Labels, Samples)>);

impl Storage for Memory {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let within = |(labels, stored): &(Labels, Samples)| {
            let mut samples = Samples::default();
            for (time, value) in stored.times.iter().zip(&stored.values) {
                let time = Timestamp::from_millis(*time);
                if request.range.contains(time) {
                    samples.push(time, *value);
                }
            }
            (labels.clone(), samples)
        };
        Ok(Box::new(self.0.iter().map(within).collect::<Vec<_>>()))
    }
}

const START: i64 = 600_000;

fn range(store: &Memory, query: &str, step: i64, steps: i64) -> Vec<SeriesData> {
    ask(&Engine::default(), store, query, step, steps)
}

fn ask(engine: &Engine, store: &Memory, query: &str, step: i64, steps: i64) -> Vec<SeriesData> {
    let expr = lm_promql::parse(query).expect("the query is well formed");
    let time = Timestamp::from_millis;
    let end = time(START + step * (steps - 1));
    let step = Duration::from_millis(step as u64);
    let answer = engine.range(&expr, store, time(START), end, step, &|| None).expect("it can be answered");
    let Value::Matrix(found) = answer.value else { panic!("{query} gives no matrix") };
    found
}

/// What a definition says of one window: its samples, its ends, its length.
type Definition = fn(&[(i64, f64)], i64, i64) -> Option<f64>;

/// Functions whose result has to be the same in every bit, but of NaN.
const EXACT: [(&str, Definition); 13] = [
    ("rate", |samples, after, until| extrapolated(samples, after, until, true, seconds(until - after))),
    ("increase", |samples, after, until| extrapolated(samples, after, until, true, 1.0)),
    ("delta", |samples, after, until| extrapolated(samples, after, until, false, 1.0)),
    ("irate", |samples, _, _| {
        let [.., (before_time, before), (time, last)] = samples else { return None };
        Some(if last < before { *last } else { last - before } / seconds(time - before_time))
    }),
    ("idelta", |samples, _, _| match samples {
        [.., (_, before), (_, last)] => Some(last - before),
        _ => None,
    }),
    ("resets", |samples, _, _| count_pairs(samples, |before, after| after < before)),
    ("changes", |samples, _, _| {
        count_pairs(samples, |before, after| before != after && !(before.is_nan() && after.is_nan()))
    }),
    ("min_over_time", |samples, _, _| extreme(samples, |value, min| value < min)),
    ("max_over_time", |samples, _, _| extreme(samples, |value, max| value > max)),
    ("count_over_time", |samples, _, _| (!samples.is_empty()).then_some(samples.len() as f64)),
    ("first_over_time", |samples, _, _| samples.first().map(|sample| sample.1)),
    ("last_over_time", |samples, _, _| samples.last().map(|sample| sample.1)),
    ("present_over_time", |samples, _, _| samples.first().map(|_| 1.0)),
];

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// `extrapolatedRate` of Prometheus, in its order of operations.
fn extrapolated(
    samples: &[(i64, f64)],
    after: i64,
    until: i64,
    is_counter: bool,
    divisor: f64,
) -> Option<f64> {
    let [(first_time, first), .., (last_time, last)] = samples else { return None };
    let mut change = last - first;
    if is_counter {
        for pair in samples.windows(2) {
            if pair[1].1 < pair[0].1 {
                change += pair[0].1;
            }
        }
    }
    let sampled = seconds(last_time - first_time);
    let average = sampled / (samples.len() - 1) as f64;
    let mut to_start = seconds(first_time - after);
    if to_start >= average * 1.1 {
        to_start = average / 2.0;
    }
    if is_counter && change > 0.0 && *first >= 0.0 {
        let to_zero = sampled * (first / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let mut to_end = seconds(until - last_time);
    if to_end >= average * 1.1 {
        to_end = average / 2.0;
    }
    Some(change * ((sampled + to_start + to_end) / sampled / divisor))
}

fn count_pairs(samples: &[(i64, f64)], counts: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let count = samples.windows(2).filter(|pair| counts(pair[0].1, pair[1].1)).count();
    (!samples.is_empty()).then_some(count as f64)
}

fn extreme(samples: &[(i64, f64)], is_better: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let mut found = samples.first()?.1;
    for (_, value) in samples {
        if is_better(*value, found) || found.is_nan() {
            found = *value;
        }
    }
    Some(found)
}

/// Samples of the window without markers.
fn window(samples: &Samples, after: i64, until: i64) -> Vec<(i64, f64)> {
    let all = samples.times.iter().copied().zip(samples.values.iter().copied());
    all.filter(|(time, value)| after < *time && *time <= until && !is_stale(*value)).collect()
}

/// The value of a series at each step, and how large its error may be.
type Expected = Vec<Option<(f64, f64)>>;

fn expected(step: i64, steps: i64, mut at: impl FnMut(i64) -> Option<(f64, f64)>) -> Expected {
    (0..steps).map(|index| at(START + index * step)).collect()
}

fn check(query: &str, found: &[SeriesData], step: i64, expected: &[(Labels, Expected)]) {
    let expected: Vec<_> = expected.iter().filter(|(_, values)| values.iter().any(Option::is_some)).collect();
    assert_eq!(found.len(), expected.len(), "{query}");
    for (series, (labels, values)) in found.iter().zip(expected) {
        assert_eq!(&series.labels, labels, "{query}");
        let mut samples = series.samples.iter().peekable();
        for (index, value) in values.iter().enumerate() {
            let time = Timestamp::from_millis(START + index as i64 * step);
            let sample = samples.next_if(|sample| sample.time == time).map(|sample| sample.value);
            let is_same = match (sample, value) {
                (None, None) => true,
                (Some(found), Some((value, error))) => {
                    found == *value || (found.is_nan() && value.is_nan()) || (found - value).abs() <= *error
                }
                _ => false,
            };
            assert!(is_same, "{query} {labels} at {time:?}: found {sample:?}, expected {value:?}");
        }
        assert!(samples.next().is_none(), "{query}: a sample at no step");
    }
}

/// A sum of this many numbers may be off by this share of their sizes.
fn sum_error(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).sum::<f64>() * 1e-12
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / values.len() as f64
}

fn name_of(index: usize) -> Labels {
    // The store's order is not that of labels.
    let (host, cpu) = (["c", "a", "b"][index % 3], (9 - index).to_string());
    Labels::from_pairs([("__name__", "m_total"), ("host", host), ("cpu", &*cpu)])
}

fn without_name(labels: &Labels) -> Labels {
    let mut builder = labels.to_builder();
    builder.remove("__name__");
    builder.build()
}

/// What a step of a series may be like.
#[derive(Clone, Copy, Debug)]
enum Tick {
    Add(f64),
    Reset(f64),
    Set(f64),
    Stale,
    Missing,
}

fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let tick = prop_oneof![
        8 => (0u32..1000).prop_map(|n| Tick::Add(f64::from(n) / 10.0)),
        1 => (0u32..10).prop_map(|n| Tick::Reset(f64::from(n))),
        1 => prop::sample::select(vec![f64::NAN, -5.5, 1e15, -0.0, 1e-9]).prop_map(Tick::Set),
        1 => Just(Tick::Stale),
        1 => Just(Tick::Missing),
    ];
    prop::collection::vec(tick, 0..80)
}

fn series(ticks: &[Tick], interval: i64, shift: i64) -> Samples {
    let mut samples = Samples::default();
    let mut value = 0.0;
    for (index, tick) in ticks.iter().enumerate() {
        match tick {
            Tick::Add(by) => value = if f64::is_nan(value) { *by } else { value + by },
            Tick::Reset(to) | Tick::Set(to) => value = *to,
            Tick::Stale | Tick::Missing => {}
        }
        let time = Timestamp::from_millis(START - 300_000 + index as i64 * interval + shift);
        match tick {
            Tick::Missing => {}
            Tick::Stale => samples.push(time, stale_nan()),
            _ => samples.push(time, value),
        }
    }
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn rows_are_as_defined(
        all in prop::collection::vec(ticks(), 1..8),
        // Some series share their times, as those of one scrape do.
        interval in 1_000i64..40_000,
        shifts in prop::collection::vec(prop_oneof![2 => Just(0i64), 1 => 0i64..30_000], 8),
        step in prop_oneof![1_000i64..120_000, Just(10_000)],
        steps in 1i64..40,
        length in prop_oneof![1_000i64..600_000, Just(60_000)],
    ) {
        let stored: Vec<(Labels, Samples)> = all
            .iter()
            .enumerate()
            .map(|(index, ticks)| (name_of(index), series(ticks, interval, shifts[index])))
            .collect();
        let store = Memory(stored);
        let mut sorted = store.0.clone();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));

        let functions = EXACT.iter().map(|(name, definition)| (*name, *definition, 0.0));
        let sum: Definition = |samples, _, _| {
            (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.1).sum())
        };
        let average: Definition = |samples, _, _| {
            (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.1).sum::<f64>() / samples.len() as f64)
        };
        for (name, definition, share) in
            functions.chain([("sum_over_time", sum, 1.0), ("avg_over_time", average, 1.0)])
        {
            let at = |samples: &Samples, time: i64| {
                let samples = window(samples, time - length, time);
                let values: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
                let error = if share > 0.0 { sum_error(&values) } else { 0.0 };
                definition(&samples, time - length, time).map(|value| (value, error))
            };
            let keeps_name = matches!(name, "first_over_time" | "last_over_time");
            let rows: Vec<(Labels, Expected)> = sorted
                .iter()
                .map(|(labels, samples)| {
                    let labels = if keeps_name { labels.clone() } else { without_name(labels) };
                    (labels, expected(step, steps, |time| at(samples, time)))
                })
                .collect();
            let query = format!("{name}(m_total[{length}ms])");
            check(&query, &range(&store, &query, step, steps), step, &rows);
        }

        // An instant selector: the last sample, unless it is a marker.
        let last = |samples: &Samples, time: i64| {
            let index = samples.times.partition_point(|at| *at <= time).checked_sub(1)?;
            let is_fresh = samples.times[index] > time - 300_000 && !is_stale(samples.values[index]);
            is_fresh.then_some(samples.values[index])
        };
        let rows: Vec<(Labels, Expected)> = sorted
            .iter()
            .map(|(labels, samples)| {
                (labels.clone(), expected(step, steps, |time| Some((last(samples, time)?, 0.0))))
            })
            .collect();
        check("m_total", &range(&store, "m_total", step, steps), step, &rows);

        // Aggregations of it, some of groups.
        type Aggregation = fn(&[f64]) -> (f64, f64);
        let aggregations: [(&str, Aggregation); 8] = [
            ("sum", |values| (values.iter().sum(), sum_error(values))),
            ("avg", |values| (mean(values), sum_error(values))),
            ("min", |values| (values.iter().copied().fold(f64::NAN, f64::min), 0.0)),
            ("max", |values| (values.iter().copied().fold(f64::NAN, f64::max), 0.0)),
            ("count", |values| (values.len() as f64, 0.0)),
            ("group", |_| (1.0, 0.0)),
            ("stdvar", |values| (variance(values), sum_error(values) * sum_error(values) * 1e12)),
            ("stddev", |values| (variance(values).sqrt(), sum_error(values) * 1e6)),
        ];
        for (name, aggregation) in aggregations {
            let of = |hosts: &[&str], time: i64| {
                let in_group = |labels: &Labels| hosts.contains(&labels.get("host").unwrap_or(""));
                let members = sorted.iter().filter(|(labels, _)| in_group(labels));
                let values: Vec<f64> = members.filter_map(|(_, samples)| last(samples, time)).collect();
                (!values.is_empty()).then(|| aggregation(&values))
            };
            let row = |host: &str| {
                let labels = Labels::from_pairs([("host", host)]);
                (labels, expected(step, steps, |time| of(&[host], time)))
            };
            let query = format!("{name} by (host) (m_total)");
            check(&query, &range(&store, &query, step, steps), step, &["a", "b", "c"].map(row));
            let total = (Labels::empty(), expected(step, steps, |time| of(&["a", "b", "c"], time)));
            let query = format!("{name}(m_total)");
            check(&query, &range(&store, &query, step, steps), step, &[total]);
        }
    }
}

/// Runs each job on three threads, and counts the jobs.
#[derive(Debug, Default)]
struct Three(AtomicUsize);

impl Workers for Three {
    fn run(&self, job: &(dyn Fn() + Sync)) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(job);
            scope.spawn(job);
            job();
        });
    }
}

#[test]
fn neither_threads_nor_the_order_of_the_store_show() {
    let mut stored = Vec::new();
    for index in 0..3_000_i64 {
        // Sums of these depend on their order, as the last bits do not fit.
        let mut samples = Samples::default();
        for tick in 0..20 {
            let value = (index * 7919 % 104_729) as f64 * 0.1 + tick as f64 / 3.0;
            samples.push(Timestamp::from_millis(START - 200_000 + tick * 20_000), value);
        }
        let (host, cpu) = (format!("host-{}", index % 2), index.to_string());
        stored
            .push((Labels::from_pairs([("__name__", "m_total"), ("host", &*host), ("cpu", &*cpu)]), samples));
    }
    let store = Memory(stored.clone());
    let mut reversed = stored;
    reversed.reverse();
    let reversed = Memory(reversed);
    let workers = Arc::new(Three::default());
    let three = Engine { workers: workers.clone(), ..Engine::default() };
    for query in [
        "m_total",
        "rate(m_total[2m])",
        "sum(m_total)",
        "sum by (host) (rate(m_total[2m]))",
        "avg(m_total)",
        "stddev by (host) (m_total)",
        "quantile by (host) (0.3, m_total)",
        "topk(3, m_total)",
        "sum(max_over_time(rate(m_total[1m])[2m:20s]))",
    ] {
        let bits = |found: Vec<SeriesData>| {
            let samples = |series: &SeriesData| {
                series.samples.iter().map(|sample| (sample.time, sample.value.to_bits())).collect::<Vec<_>>()
            };
            found.iter().map(|series| (series.labels.clone(), samples(series))).collect::<Vec<_>>()
        };
        let alone = bits(range(&store, query, 5_000, 20));
        assert!(!alone.is_empty(), "{query}");
        let jobs = workers.0.load(Ordering::Relaxed);
        assert!(alone == bits(ask(&three, &store, query, 5_000, 20)), "{query} with threads");
        assert!(workers.0.load(Ordering::Relaxed) > jobs, "{query} is too small for threads");
        assert!(alone == bits(ask(&three, &reversed, query, 5_000, 20)), "{query} in another order");
    }
}

#[test]
fn a_sum_of_many_series_keeps_what_plain_addition_loses() {
    let series = |index: i64| {
        let value = match index {
            0 => 1e16,
            2_047 => -1e16,
            _ => 1.0,
        };
        let mut samples = Samples::default();
        samples.push(Timestamp::from_millis(START), value);
        (Labels::from_pairs([("__name__", "m".to_owned()), ("place", format!("{index:04}"))]), samples)
    };
    let store = Memory((0..2_048).map(series).collect());
    for (query, expected) in [("sum(m)", 2_046.0), ("avg(m)", 2_046.0 / 2_048.0)] {
        let found = range(&store, query, 1_000, 1);
        assert_eq!(found[0].samples[0].value, expected, "{query}");
    }
}

#[test]
fn a_counter_that_doubled_is_not_extended_below_zero() {
    // Zero was 10 s before the first sample, the window's start is 10.5 s before
    // it, and the change could be extended by up to 11 s.
    let mut samples = Samples::default();
    samples.push(Timestamp::from_millis(START - 10_000), 100.0);
    samples.push(Timestamp::from_millis(START), 200.0);
    let store = Memory(vec![(Labels::from_pairs([("__name__", "m_total")]), samples)]);
    let found = range(&store, "increase(m_total[20500ms])", 1_000, 1);
    assert_eq!(found[0].samples[0].value, 200.0);
}
