//! What a sample and a new series cost in memory: `cargo bench -p lm-tsdb --bench head`.

use std::path::Path;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lm_fs::fault::FaultFs;
use lm_model::{Labels, MatchOp, Matcher, TimeRange, Timestamp};
use lm_tsdb::db::{Db, DbOptions};
use lm_tsdb::memory::{Head, HeadOptions, SeriesId};

/// Series of one host, and so of one scrape.
const HOST: usize = 500;

fn main() {
    divan::main();
}

/// Labels as node_exporter's are: eight pairs, 150 bytes of text.
fn labels(series: usize) -> Labels {
    let (host, of_host) = (series / HOST, series % HOST);
    Labels::from_pairs([
        ("__name__".to_owned(), format!("node_network_receive_metric_{}_total", of_host / 10)),
        ("agent".to_owned(), format!("host-{host}.example.com")),
        ("cluster".to_owned(), "production-eu-1".to_owned()),
        ("cpu".to_owned(), format!("{}", of_host % 10)),
        ("device".to_owned(), format!("eth{}", of_host % 4)),
        ("instance".to_owned(), format!("host-{host}.example.com:9100")),
        ("job".to_owned(), "node".to_owned()),
        ("mode".to_owned(), ["idle", "user", "system"][of_host % 3].to_owned()),
    ])
}

fn head(series: usize) -> (Head, Vec<SeriesId>) {
    let mut head = Head::new(HeadOptions { series_max: usize::MAX });
    let ids = (0..series).map(|series| head.series(&labels(series)).expect("there is no limit")).collect();
    (head, ids)
}

/// One scrape of every host, in order.
fn scrape(head: &mut Head, ids: &[SeriesId], time: i64) {
    for host in ids.chunks(HOST) {
        let samples = host.iter().map(|id| (*id, time as f64));
        black_box(head.append(Timestamp::from_millis(time), samples));
    }
}

#[divan::bench(args = [10_000, 100_000, 500_000], sample_count = 10)]
fn append(bencher: Bencher<'_, '_>, series: usize) {
    let (mut head, ids) = head(series);
    let mut time = 0;
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        time += 15_000;
        scrape(&mut head, &ids, time);
    });
}

#[divan::bench(args = [10_000, 100_000, 500_000], sample_count = 5)]
fn new_series(bencher: Bencher<'_, '_>, series: usize) {
    let labels: Vec<_> = (0..series).map(labels).collect();
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        let mut head = Head::new(HeadOptions { series_max: usize::MAX });
        for labels in &labels {
            let _ = black_box(head.series(labels));
        }
        head
    });
}

/// Memory is told, not measured: 20 scrapes, as between two rotations.
#[divan::bench(args = [100_000, 500_000], sample_count = 1)]
fn memory(series: usize) {
    let before = resident_bytes();
    let (mut head, ids) = head(series);
    let table = resident_bytes();
    (1..=20).for_each(|step| scrape(&mut head, &ids, step * 30_000));
    let all = resident_bytes();
    let of = |bytes: usize| bytes / series;
    let stats = head.stats();
    eprintln!(
        "{series} series: {} bytes of RSS each for labels and index ({} estimated), {} for 20 samples ({} estimated)",
        of(table.saturating_sub(before)),
        of(stats.series_bytes),
        of(all.saturating_sub(table)),
        of(stats.samples_bytes),
    );
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// A selector with a regular expression over 100,000 series in memory.
#[divan::bench]
fn select(bencher: Bencher<'_, '_>) {
    let db = Db::open(FaultFs::new(1), Path::new("/metrics"), options()).expect("the disk is in memory").0;
    db.with_head(|head| {
        let ids: Vec<_> = (0..100_000).filter_map(|series| head.series(&labels(series)).ok()).collect();
        scrape(head, &ids, 15_000);
    });
    let matchers = [
        Matcher::new("__name__", MatchOp::Eq, "node_network_receive_metric_7_total"),
        Matcher::new("instance", MatchOp::Re, "host-1.*"),
        Matcher::new("mode", MatchOp::Ne, "idle"),
    ];
    let select = || db.select(&matchers, TimeRange::ALL, usize::MAX).map(|found| found.len());
    bencher.bench_local(|| black_box(select()));
}

fn options() -> DbOptions {
    DbOptions {
        head: HeadOptions { series_max: usize::MAX },
        retention: Duration::MAX,
        bytes_max: u64::MAX,
        cache_bytes: 1 << 20,
        sync_point: || {},
    }
}
