//! Queries that ask for too much. Each ends within a bounded number of looks
//! at the clock (one for each 65,536 units of work) and a bounded number of
//! bytes, both counted: with an answer, or with an error of the right kind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lm_model::{Labels, Samples, Timestamp};
use lm_promql::{Engine, ErrorKind, Interrupt, Limits, SelectRequest, Selected, Storage, StorageError};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const SERIES: usize = 1_000;
/// A sample each 15 s for an hour.
const SAMPLES: i64 = 240;
const HOUR: i64 = 3_600_000;

/// Units of work are looked at the clock for in these pieces.
const LOOKS_MAX: usize = 30;
const SAMPLES_MAX: usize = 500_000;
/// What a query may allocate: 16 bytes for each sample or value held, and the
/// labels of all series several times over.
const BYTES_MAX: usize = 16 * SAMPLES_MAX + (12 << 20);

/// Series that take no memory but for their labels.
struct Generated(Vec<Labels>);

impl Generated {
    fn new() -> Self {
        let labels = |index: usize| {
            let (host, cpu) = (format!("host-{:03}", index / 10), format!("{}", index % 10));
            Labels::from_pairs([("__name__", "x_total"), ("host", &*host), ("cpu", &*cpu)])
        };
        Generated((0..SERIES).map(labels).collect())
    }
}

struct Found<'a> {
    series: &'a Generated,
    request: lm_model::TimeRange,
}

impl Storage for Generated {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        Ok(Box::new(Found { series: self, request: request.range }))
    }
}

impl Selected for Found<'_> {
    fn len(&self) -> usize {
        SERIES
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.series.0[index]
    }

    fn read(&self, index: usize, samples_max: usize, into: &mut Samples) -> Result<(), StorageError> {
        into.clear();
        let times = (0..SAMPLES).map(|tick| Timestamp::from_millis(tick * 15_000));
        for time in times.filter(|time| self.request.contains(*time)).take(samples_max.saturating_add(1)) {
            into.push(time, (index as i64 * time.as_millis() % 1_009) as f64);
        }
        Ok(())
    }
}

/// How a query may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answer,
    Fails(ErrorKind),
}

use End::{Answer, Fails};
use ErrorKind::{BadData, Execution, Limit, Timeout};

/// When a query is asked: once at the end of the data, or over time.
#[derive(Clone, Copy, Debug)]
enum Over {
    Once,
    /// Every 15 s for an hour.
    Hour,
    /// As many points as there may be.
    Points,
}

fn run(engine: &Engine, store: &Generated, query: &str, over: Over) -> (End, usize) {
    let looks = AtomicUsize::new(0);
    let interrupt = || (looks.fetch_add(1, Ordering::Relaxed) + 1 >= LOOKS_MAX).then_some(Interrupt::Timeout);
    let time = Timestamp::from_millis;
    let answer = lm_promql::parse(query).map_err(Into::into).and_then(|expr| match over {
        Over::Once => engine.instant(&expr, store, time(HOUR), &interrupt),
        Over::Hour => engine.range(&expr, store, time(0), time(HOUR), Duration::from_secs(15), &interrupt),
        Over::Points => {
            engine.range(&expr, store, time(0), time(11_000_000), Duration::from_secs(1), &interrupt)
        }
    });
    let end = match &answer {
        Ok(answer) => {
            assert!(answer.stats.samples_peak <= SAMPLES_MAX, "{query} held more than it may");
            Answer
        }
        Err(error) => Fails(error.kind()),
    };
    (end, looks.into_inner())
}

/// The corpus: a query, when it is asked, and how it ends.
fn corpus() -> Vec<(String, Over, End)> {
    let x = "x_total";
    let repeated = |text: &str, times: usize| text.repeat(times);
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        open.repeat(depth) + inner + &close.repeat(depth)
    };
    let q = |query: &str| query.to_owned();
    vec![
        // Long ranges, tiny steps.
        (q(x), Over::Points, Fails(Limit)),
        (q("rate(x_total[1y])"), Over::Points, Fails(Limit)),
        (q("sum(rate(x_total[1y]))"), Over::Points, Fails(Timeout)),
        (q("sum by (host, cpu) (rate(x_total[1h]))"), Over::Points, Fails(Limit)),
        (q("sum(quantile_over_time(0.5, x_total[1y]))"), Over::Points, Fails(Timeout)),
        (q("sum(predict_linear(x_total[1y], 1e300))"), Over::Points, Fails(Timeout)),
        (q("sum(changes(x_total[1y] offset 100y))"), Over::Hour, Answer),
        (q("x_total[1y]"), Over::Once, Answer),
        (q("stddev(stddev_over_time(x_total[1h]))"), Over::Hour, Fails(Timeout)),
        (q("absent_over_time(x_total[1y])"), Over::Points, Fails(Timeout)),
        // Subqueries.
        (q("sum_over_time(vector(1)[1y:1ms])"), Over::Once, Fails(Limit)),
        (q("max_over_time(x_total[1h:1ms])"), Over::Once, Fails(Limit)),
        (q("rate((sum by (host) (x_total))[1y:1m])"), Over::Once, Fails(Limit)),
        (
            q("avg_over_time(max_over_time(min_over_time(x_total[1h:1s])[1h:1s])[1h:1s])"),
            Over::Once,
            Fails(Limit),
        ),
        (nested("max_over_time(", "vector(1)", "[1h:1s])", 80), Over::Once, Fails(Limit)),
        (nested("max_over_time(", "sum(x_total)", "[1h:1s])", 80), Over::Once, Fails(Limit)),
        (nested("quantile_over_time(0.5, ", "vector(1)", "[1d:1s])", 20), Over::Once, Fails(Limit)),
        (q("quantile_over_time(0.5, vector(time())[1d:1s])"), Over::Once, Answer),
        (q("sum_over_time((x_total > 0)[1h:20s])"), Over::Once, Answer),
        // Expressions.
        (q(r#"{__name__=~"(((a{0,99}){0,99}){0,99}){0,99}"}"#), Over::Once, Fails(BadData)),
        (q(r#"x_total{host=~"(.*)*(.*)*(.*)*(.*)*(.*)*y"}"#), Over::Hour, Answer),
        (format!("x_total{{host=~{:?}}}", repeated("host-001|", 200_000)), Over::Once, Fails(BadData)),
        (
            q(r#"label_replace(x_total, "d", "$1", "host", "(((a{0,99}){0,99}){0,99}){0,99}")"#),
            Over::Once,
            Fails(Execution),
        ),
        (repeated("x", 4 << 20), Over::Once, Fails(BadData)),
        // Labels that grow.
        (
            format!(r#"label_replace(x_total, "d", "{}", "host", "(.*)")"#, repeated("$1", 10_000)),
            Over::Once,
            Fails(Limit),
        ),
        (nested("label_join(", x, r#", "host", "-", "host", "host", "host")"#, 20), Over::Once, Fails(Limit)),
        (q(r#"label_replace(x_total, "host", "", "host", ".*")"#), Over::Once, Fails(Execution)),
        (q(r#"count_values("v", x_total)"#), Over::Hour, Answer),
        (q(r#"count_values by (host, cpu) ("v", x_total)"#), Over::Hour, Fails(Limit)),
        (q(r#"count_values("v", rate(x_total[1m]) * time())"#), Over::Hour, Fails(Limit)),
        // Matching.
        (q("x_total * on(host) group_left() x_total"), Over::Hour, Fails(Limit)),
        (q("x_total * on() group_left() sum(x_total)"), Over::Hour, Fails(Limit)),
        (q("x_total * on() x_total"), Over::Hour, Fails(Execution)),
        (x.to_owned() + &repeated(" or x_total", 200), Over::Hour, Fails(Limit)),
        (x.to_owned() + &repeated(" + x_total", 200), Over::Once, Fails(Timeout)),
        (q("x_total unless on() x_total"), Over::Hour, Answer),
        // Everything at once.
        (q("topk(1e6, x_total)"), Over::Hour, Answer),
        (q("quantile(0.5, x_total)"), Over::Hour, Answer),
        (q("topk by (cpu) (3, rate(x_total[5m]))"), Over::Points, Fails(Limit)),
        (
            q(r#"histogram_quantile(0.9, label_replace(x_total, "le", "$1", "cpu", "(.*)"))"#),
            Over::Hour,
            Answer,
        ),
        (q("sort_desc(x_total)"), Over::Once, Answer),
        (repeated("sum(rate(x_total[1h])) + ", 200) + "1", Over::Hour, Fails(Timeout)),
        // Depth.
        (nested("(", "1", ")", 100_000), Over::Once, Fails(BadData)),
        (repeated("-", 100_000) + x, Over::Once, Fails(BadData)),
        (q("1") + &repeated(" + 1", 5_000), Over::Once, Fails(BadData)),
        (nested("abs(", x, ")", 200), Over::Hour, Fails(BadData)),
    ]
}

#[test]
fn each_ends_in_time_and_in_little_memory() {
    let limits = Limits { samples_max: SAMPLES_MAX, ..Limits::default() };
    let engine = Engine { limits, ..Engine::default() };
    let store = Generated::new();
    let corpus = corpus();
    assert!(corpus.len() >= 40);
    let mut wrong = Vec::new();
    for (query, over, expected) in &corpus {
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let (end, looks) = run(&engine, &store, query, *over);
        let bytes = ALLOCATED.peak_usage() - before;
        let shown: String = query.chars().take(100).collect();
        println!("{end:?} after {looks} looks, {} KiB: {over:?} {shown}", bytes >> 10);
        if end != *expected || looks > LOOKS_MAX || bytes > BYTES_MAX {
            wrong.push(format!(
                "{over:?} {shown}: {end:?} after {looks} looks, {bytes} bytes, not {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
