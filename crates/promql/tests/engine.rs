//! Limits, errors and interrupts of the engine, and queries nobody wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lm_model::{
    CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, MatchOp, ResetHint, Sample, Samples, Span, Timestamp,
};
use lm_promql::{
    Answer, Element, Engine, Error, ErrorKind, Features, Hints, Interrupt, Limits, Point, SelectRequest,
    Selected, Storage, StorageError, Value,
};
use proptest::prelude::*;

/// Two counters with a sample every 10 s for an hour, and native histograms in
/// between: `native` with exponential and custom buckets, `mixed` with numbers, too.
struct Counters;

fn histogram(index: i64) -> Histogram {
    let count = (index % 90) as f64;
    let is_custom = index > 200 && index % 3 == 0;
    Histogram {
        schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { (index % 5) as i8 },
        reset_hint: ResetHint::from_number((index % 4) as u8).unwrap(),
        zero_threshold: if is_custom { 0.0 } else { 0.001 * (index % 7) as f64 },
        zero_count: if is_custom { 0.0 } else { count },
        count: 4.0 * count,
        sum: if index % 11 == 0 { f64::NAN } else { count },
        positive_spans: vec![Span { offset: if is_custom { 0 } else { -3 }, length: 2 }],
        positive_counts: vec![count, 2.0 * count],
        custom_bounds: if is_custom { vec![-1.0, (index % 2) as f64] } else { Vec::new() },
        ..Histogram::default()
    }
}

impl Storage for Counters {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let wanted = |labels: &Labels| {
            let eq = request.matchers.iter().filter(|matcher| matcher.op == MatchOp::Eq);
            eq.into_iter().all(|matcher| labels.get(&matcher.name).unwrap_or("") == &*matcher.value)
        };
        let series = ["a", "b"].map(|job| {
            let mut samples = Samples::default();
            let sample = |i: i64| (Timestamp::from_millis(i * 10_000), i as f64);
            let within = (0..360).map(sample).filter(|(time, _)| request.range.contains(*time));
            within.for_each(|(time, value)| samples.push(time, value));
            (Labels::from_pairs([("__name__", "x_total"), ("job", job)]), samples)
        });
        let native = ["native", "mixed"].map(|name| {
            let mut samples = Samples::default();
            let time = |i: i64| Timestamp::from_millis(i * 10_000);
            for i in (0..360).filter(|i| request.range.contains(time(*i))) {
                match name == "mixed" && i % 40 < 25 {
                    true => samples.push(time(i), i as f64),
                    false => samples.histograms.push((time(i), Arc::new(histogram(i)))),
                }
            }
            (Labels::from_pairs([("__name__", name), ("job", "a")]), samples)
        });
        let series = series.into_iter().chain(native);
        Ok(Box::new(series.filter(|(labels, _)| wanted(labels)).collect::<Vec<_>>()))
    }
}

fn limited(limits: Limits) -> Engine {
    Engine { limits, ..Engine::default() }
}

fn instant(engine: &Engine, query: &str) -> Result<Answer, Error> {
    engine.instant(&lm_promql::parse(query)?, &Counters, Timestamp::from_millis(3_000_000), &|| None)
}

fn range(engine: &Engine, query: &str, end: i64, step: i64) -> Result<Answer, Error> {
    let (start, end) = (Timestamp::from_millis(0), Timestamp::from_millis(end));
    let step = Duration::from_millis(step as u64);
    engine.range(&lm_promql::parse(query)?, &Counters, start, end, step, &|| None)
}

fn kind(result: Result<Answer, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn answers_have_the_type_of_the_query() {
    let engine = Engine::default();
    let time = Timestamp::from_millis(3_000_000);
    let value = |query| instant(&engine, query).unwrap().value;
    assert_eq!(value("1 + 1"), Value::Scalar(Sample { time, value: 2.0 }));
    assert_eq!(value("'text'"), Value::String(time, "text".into()));
    let Value::Vector(found) = value("sum(rate(x_total[1m]))") else { panic!() };
    assert_eq!(found, [Element { labels: Labels::empty(), time, point: Point::Number(0.2) }]);
    let Value::Matrix(found) = value("x_total{job='a'}[30s]") else { panic!() };
    assert_eq!(found[0].samples.iter().map(|s| s.value).collect::<Vec<_>>(), [298.0, 299.0, 300.0]);
    let Value::Matrix(found) = range(&engine, "time()", 20_000, 10_000).unwrap().value else { panic!() };
    assert_eq!(found[0].samples.iter().map(|s| s.value).collect::<Vec<_>>(), [0.0, 10.0, 20.0]);
}

#[test]
fn errors_have_a_kind() {
    let engine = Engine::default();
    let check = |query, expected| assert_eq!(kind(instant(&engine, query)), expected, "{query}");
    check("up", None);
    check("up[", Some(ErrorKind::BadData));
    check("topk(NaN, x_total)", Some(ErrorKind::Execution));
    check("x_total + on() x_total", Some(ErrorKind::Execution));
    assert_eq!(kind(range(&engine, "x_total[5m]", 10, 10)), Some(ErrorKind::BadData));
    assert_eq!(kind(range(&engine, "1", 10, 0)), Some(ErrorKind::BadData));
    assert_eq!(kind(range(&engine, "1", -10, 10)), Some(ErrorKind::BadData));
    assert_eq!(kind(range(&engine, "1", 11_000, 1)), None);
    assert_eq!(kind(range(&engine, "1", 11_001, 1)), Some(ErrorKind::BadData));
}

#[test]
fn limits_hold() {
    let few = limited(Limits { samples_max: 1000, ..Limits::default() });
    assert_eq!(kind(instant(&few, "rate(x_total[5m])")), None);
    assert_eq!(kind(instant(&few, "sum_over_time(x_total[1h])")), None);
    assert_eq!(kind(range(&few, "x_total", 3_600_000, 5000)), Some(ErrorKind::Limit));
    assert_eq!(kind(instant(&few, "sum_over_time(vector(1)[1y:1ms])")), Some(ErrorKind::Limit));
    // What was needed on the way is given back.
    let chain = "sum(x_total)".to_owned() + &" + sum(x_total)".repeat(100);
    assert_eq!(kind(range(&few, &chain, 100_000, 10_000)), None);

    let one = limited(Limits { series_max: 1, ..Limits::default() });
    assert_eq!(kind(instant(&one, "x_total{job='a'}")), None);
    assert_eq!(kind(instant(&one, "x_total")), Some(ErrorKind::Limit));

    let long = format!("label_replace(x_total, 'a', '{}', '__name__', '(.*)')", "$1".repeat(20_000));
    assert_eq!(kind(instant(&Engine::default(), &long)), Some(ErrorKind::Limit));
}

#[test]
fn depth_is_bounded_below_the_stack() {
    let engine = Engine::default();
    let chain = |len: usize| "1".to_owned() + &"+1".repeat(len);
    assert_eq!(kind(instant(&engine, &chain(240))), None);
    assert_eq!(kind(instant(&engine, &chain(260))), Some(ErrorKind::Limit));
    let nested = "abs(".repeat(90) + "x_total" + &")".repeat(90);
    assert_eq!(kind(instant(&engine, &nested)), None);
}

#[test]
fn an_evaluation_can_be_interrupted() {
    let expr = lm_promql::parse("sum(stddev_over_time(x_total[50m]))").unwrap();
    for (interrupt, expected) in
        [(Interrupt::Canceled, ErrorKind::Canceled), (Interrupt::Timeout, ErrorKind::Timeout)]
    {
        let asked = AtomicUsize::new(0);
        let ask = || (asked.fetch_add(1, Ordering::Relaxed) >= 3).then_some(interrupt);
        let end = Timestamp::from_millis(3_600_000);
        let step = Duration::from_secs(1);
        let result = Engine::default().range(&expr, &Counters, Timestamp::default(), end, step, &ask);
        assert_eq!(kind(result), Some(expected));
        assert_eq!(asked.into_inner(), 4, "it ends at once");
    }
}

/// Vectors of all shapes; `$` is a scalar, `#` a vector.
fn expression() -> impl Strategy<Value = String> {
    let scalar =
        || prop::sample::select(vec!["1", "-0", "Inf", "NaN", "1e300", "9e18", "time()", "0.5", "-3"]);
    let leaf = prop::sample::select(vec![
        "x_total",
        "x_total{job='a'}",
        "x_total offset 9y",
        "x_total @ 1e9",
        "x_total @ end()",
        "vector(1)",
        "nothing",
        "native",
        "mixed",
        "native smoothed",
        "mixed offset step()",
        "{job='a'}",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let unary = prop::sample::select(vec![
            "-(#)",
            "abs(#)",
            "rate((#)[5m:])",
            "sum_over_time((#)[1m:7s] offset -3m)",
            "rate(x_total[7m])",
            "quantile_over_time($, x_total[1m])",
            "predict_linear(x_total[9m], scalar(#))",
            "sum(#)",
            "avg by (job) (#)",
            "topk(3, #)",
            "bottomk($, #)",
            "topk(scalar(#), x_total)",
            "quantile($, #)",
            "count_values('v', #)",
            "count_values('job', #)",
            "vector(scalar(#))",
            "clamp(#, -1, $)",
            "round(#, $)",
            "year(#)",
            "day_of_year(#)",
            "timestamp(#)",
            "absent(#)",
            "sort_desc(#)",
            "(#) * $",
            "$ < (#)",
            "(#) == bool $",
            "label_join(#, 'job', '-', 'job')",
            "histogram_quantile($, label_replace(#, 'le', '$1', 'job', '(.*)'))",
            "histogram_quantile(scalar(#), label_replace(x_total, 'le', '+Inf', 'job', 'a'))",
            "histogram_fraction(scalar(#), $, label_replace(x_total, 'le', '+Inf', 'job', 'a'))",
            "stddev without (job) (#)",
            "histogram_quantile($, #)",
            "histogram_quantile(scalar(#), native)",
            "histogram_quantiles(#, 'q', $, 0.5)",
            "histogram_fraction($, 2, #)",
            "histogram_stddev(#) / histogram_avg(#)",
            "rate(native[5m])",
            "increase((#)[5m:10s])",
            "irate(mixed[1m])",
            "delta(native[3m] anchored)",
            "increase(mixed[3m] smoothed)",
            "changes(mixed[step() + 1m] anchored)",
            "avg_over_time((#)[4m:11s])",
            "mad_over_time(mixed[5m])",
            "double_exponential_smoothing(mixed[5m], 0.5, 0.5)",
            "resets((#)[max_of(1m, range() / 2):])",
            "limitk($, #)",
            "limit_ratio(scalar(#), native)",
            "sort_by_label(#, 'job')",
            "info(#, {__name__=~'.+', job=~'.*'})",
            "(#) >/ $",
            "(#) </ $",
        ]);
        let binary = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "== bool",
            "<",
            "and",
            "or",
            "unless",
            "* on(job)",
            "or on(job)",
            "+ ignoring(job) group_left(x)",
            "> on(job) group_right()",
            "+ fill(0)",
            "- on(job) group_left() fill_right(1)",
            "/ ignoring(job) fill_left(NaN)",
            "</ on(job)",
            "== on(job) group_left()",
        ]);
        prop_oneof![
            (unary, inner.clone(), scalar()).prop_map(|(unary, inner, scalar)| {
                unary.replace("$1", "%").replace('$', scalar).replace('%', "$1").replace('#', &inner)
            }),
            (binary, inner.clone(), inner).prop_map(|(op, left, right)| format!("({left}) {op} ({right})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_panics(
        query in expression(),
        start in prop_oneof![Just(0), -4_000_000i64..4_000_000, Just(i64::MIN), Just(i64::MAX), any::<i64>()],
        len in 0usize..20,
        step in prop_oneof![1i64..1_000_000, Just(i64::MAX)],
    ) {
        let expr = lm_promql::parse_with(&query, Features::all()).expect("the query is well formed");
        let engine = limited(Limits { samples_max: 100_000, ..Limits::default() });
        let end = Timestamp::from_millis(start.saturating_add(step.saturating_mul(len as i64)));
        let start = Timestamp::from_millis(start);
        let _ = engine.instant(&expr, &Counters, start, &|| None);
        let _ = engine.range(&expr, &Counters, start, end, Duration::from_millis(step as u64), &|| None);
    }
}

/// Notes what it is asked for, and has nothing.
#[derive(Default)]
struct Listener(std::sync::Mutex<Vec<Hints>>);

impl Storage for Listener {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        self.0.lock().unwrap().push(request.hints);
        Ok(Box::new(Vec::new()))
    }
}

#[test]
fn stores_learn_what_samples_are_for() {
    let check = |query: &str, expected: &[(i64, i64, Option<&'static str>)]| {
        let listener = Listener::default();
        let (start, end) = (Timestamp::from_millis(0), Timestamp::from_millis(600_000));
        let expr = lm_promql::parse(query).unwrap();
        let step = Duration::from_secs(60);
        Engine::default().range(&expr, &listener, start, end, step, &|| None).unwrap();
        let hints = |&(step_millis, range_millis, function): &(i64, i64, Option<&'static str>)| Hints {
            step_millis,
            range_millis,
            function,
        };
        let expected: Vec<Hints> = expected.iter().map(hints).collect();
        assert_eq!(listener.0.into_inner().unwrap(), expected, "{query}");
    };
    check("x", &[(60_000, 0, None)]);
    check("sum(rate(x[5m]))", &[(60_000, 300_000, Some("rate"))]);
    check("max(x) + y", &[(60_000, 0, Some("max")), (60_000, 0, None)]);
    check("abs(-x)", &[(60_000, 0, None)]);
    check("topk(3, x)", &[(60_000, 0, Some("topk"))]);
    check(
        "quantile_over_time(scalar(x), y[5m])",
        &[(60_000, 0, Some("scalar")), (60_000, 300_000, Some("quantile_over_time"))],
    );
    check("max_over_time(x[10m:10s])", &[(10_000, 0, None)]);
}
