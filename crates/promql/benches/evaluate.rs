//! Whole queries over a store that is nothing but memory, so that what is
//! measured is evaluation: `cargo bench -p lm-promql`.

use std::time::Duration;

use divan::{Bencher, black_box};
use lm_model::{Labels, MatchOp, Samples, Timestamp};
use lm_promql::{Engine, Expr, SelectRequest, Selected, Storage, StorageError};

const SCRAPE_MILLIS: i64 = 30_000;
const STEP_MILLIS: i64 = 60_000;
/// Six hours, as in `scripts/bench-metrics`.
const SAMPLES: i64 = 721;

fn main() {
    divan::main();
}

/// Answers each selector with all its series.
struct Memory(Vec<(Labels, Samples)>);

impl Storage for Memory {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        assert!(request.matchers.iter().any(|matcher| matcher.op == MatchOp::Eq));
        Ok(Box::new(Borrowed(&self.0)))
    }
}

struct Borrowed<'a>(&'a [(Labels, Samples)]);

impl Selected for Borrowed<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> &Labels {
        &self.0[index].0
    }

    fn read(&self, index: usize, _: usize, into: &mut Samples) -> Result<(), StorageError> {
        into.clone_from(&self.0[index].1);
        Ok(())
    }
}

/// Counters of CPU seconds as node_exporter has them: `hosts` of 16 CPUs with
/// 7 modes each, scraped at times of their own.
fn cpu_seconds(hosts: usize, samples: i64) -> Memory {
    let mut series = Vec::new();
    for host in 0..hosts {
        for cpu in 0..16 {
            for (index, mode) in
                ["iowait", "irq", "nice", "softirq", "steal", "system", "user"].iter().enumerate()
            {
                let labels = Labels::from_pairs([
                    ("__name__", "node_cpu_seconds_total".to_owned()),
                    ("cpu", cpu.to_string()),
                    ("instance", format!("host-{host:04}:9100")),
                    ("job", "node".to_owned()),
                    ("mode", (*mode).to_owned()),
                ]);
                let mut columns = Samples::default();
                let mut value = host as f64 + 1000.0 * f64::from(cpu);
                for tick in 0..samples {
                    // Not all hosts are scraped at the same moment.
                    let time = tick * SCRAPE_MILLIS + (host as i64 * 997) % SCRAPE_MILLIS;
                    value += ((tick * 7 + index as i64 * 13) % 31) as f64 / 100.0;
                    columns.push(Timestamp::from_millis(time), value);
                }
                series.push((labels, columns));
            }
        }
    }
    Memory(sorted(series))
}

/// Buckets of request durations: 16 handlers with 12 buckets on each host.
fn buckets(hosts: usize) -> Memory {
    let mut series = Vec::new();
    for host in 0..hosts {
        for handler in 0..16 {
            for (bucket, le) in
                ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]
                    .iter()
                    .enumerate()
            {
                let labels = Labels::from_pairs([
                    ("__name__", "http_request_duration_seconds_bucket".to_owned()),
                    ("handler", format!("/api/{handler}")),
                    ("instance", format!("host-{host:04}:8080")),
                    ("job", "api".to_owned()),
                    ("le", (*le).to_owned()),
                ]);
                let mut columns = Samples::default();
                let mut value = 0.0;
                for tick in 0..SAMPLES {
                    value += ((tick + handler) % 5 * (bucket as i64 + 1)) as f64;
                    let time = tick * SCRAPE_MILLIS + (host as i64 * 997) % SCRAPE_MILLIS;
                    columns.push(Timestamp::from_millis(time), value);
                }
                series.push((labels, columns));
            }
        }
    }
    Memory(sorted(series))
}

fn sorted(mut series: Vec<(Labels, Samples)>) -> Vec<(Labels, Samples)> {
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

fn parse(query: &str) -> Expr {
    lm_promql::parse(query).expect("the query is well formed")
}

/// A range query over six hours, 361 steps.
fn over_range(bencher: Bencher<'_, '_>, store: Memory, query: &str) {
    let (engine, expr) = (Engine::default(), parse(query));
    let start = Timestamp::from_millis(0);
    let end = Timestamp::from_millis((SAMPLES - 1) * SCRAPE_MILLIS);
    let step = Duration::from_millis(STEP_MILLIS as u64);
    bencher.bench_local(|| {
        engine
            .range(black_box(&expr), &store, start, end, step, &|| None)
            .expect("the query is within limits")
    });
}

fn at_once(bencher: Bencher<'_, '_>, store: Memory, query: &str, time: i64) {
    let (engine, expr) = (Engine::default(), parse(query));
    let time = Timestamp::from_millis(time);
    bencher.bench_local(|| {
        engine.instant(black_box(&expr), &store, time, &|| None).expect("the query is within limits")
    });
}

/// 10,080 series in and out.
#[divan::bench(sample_count = 10)]
fn rate(bencher: Bencher<'_, '_>) {
    over_range(bencher, cpu_seconds(90, SAMPLES), "rate(x[5m])");
}

/// 12,208 series in, 109 out.
#[divan::bench(sample_count = 20)]
fn sum_of_rates(bencher: Bencher<'_, '_>) {
    over_range(bencher, cpu_seconds(109, SAMPLES), "sum by (instance)(rate(x[5m]))");
}

/// 12,208 series in, one out.
#[divan::bench(sample_count = 20)]
fn sum_of_all_rates(bencher: Bencher<'_, '_>) {
    over_range(bencher, cpu_seconds(109, SAMPLES), "sum(rate(x[5m]))");
}

/// 20,928 series in, 16 out.
#[divan::bench(sample_count = 10)]
fn quantile_of_buckets(bencher: Bencher<'_, '_>) {
    let query = "histogram_quantile(0.99, sum by (le, handler)(rate(x[5m])))";
    over_range(bencher, buckets(109), query);
}

/// 112 series, windows of 120 samples.
#[divan::bench(sample_count = 20)]
fn average_over_an_hour(bencher: Bencher<'_, '_>) {
    over_range(bencher, cpu_seconds(1, SAMPLES), "avg by (instance)(avg_over_time(x[1h]))");
}

/// 112 series, windows of 120 samples.
#[divan::bench(sample_count = 20)]
fn maximum_over_an_hour(bencher: Bencher<'_, '_>) {
    over_range(bencher, cpu_seconds(1, SAMPLES), "max_over_time(x[1h])");
}

/// 70,000 series in, each with the samples of five minutes.
#[divan::bench(sample_count = 10)]
fn select_at_once(bencher: Bencher<'_, '_>) {
    at_once(bencher, cpu_seconds(625, 10), "x", 10 * SCRAPE_MILLIS);
}

/// The same, counted.
#[divan::bench(sample_count = 10)]
fn count_at_once(bencher: Bencher<'_, '_>) {
    at_once(bencher, cpu_seconds(625, 10), "count by (mode)(x)", 10 * SCRAPE_MILLIS);
}
