//! `cargo bench -p lm-tsdb --bench block`: encode, merge, open, select, read.

mod node;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lm_fs::RealFs;
use lm_model::{MatchOp, Matcher, Samples, TimeRange, Timestamp};
use lm_tsdb::Selector;
use lm_tsdb::block::{
    Block, BlockMeta, BlockWriter, Compression, Kind, MergeOptions, Output, PageCache, merge,
};

use node::Class;

const HOSTS: usize = 10;
/// Six hours at 30 s, and ten minutes of them.
const SCRAPES: usize = 720;
const FROZEN: usize = 20;

fn main() {
    divan::main();
}

fn meta(id: u64) -> BlockMeta {
    BlockMeta { id, kind: Kind::Raw, level: 0, generations: id..=id, covered: Vec::new() }
}

fn write(
    path: &Path,
    id: u64,
    series: &[node::Series],
    part: std::ops::Range<usize>,
    compression: Compression,
) {
    let times = &node::times(SCRAPES)[part.clone()];
    let mut writer = BlockWriter::create(&RealFs, path, compression).expect("the disk works");
    let mut samples = Samples::default();
    for one in series {
        samples.clear();
        samples.times.extend_from_slice(times);
        samples.values.extend_from_slice(&one.values[part.clone()]);
        writer.add(&one.labels, &samples).expect("the disk works");
    }
    writer.finish(&meta(id)).expect("the disk works");
}

struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
    series: Vec<node::Series>,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("block");
    let series = node::series(HOSTS, SCRAPES);
    write(&path, 1, &series, 0..SCRAPES, Compression::Small);
    Fixture { _dir: dir, path, series }
}

fn open(path: &Path) -> Block<RealFs> {
    Block::open(&RealFs, path, Arc::new(PageCache::new(256 << 20))).expect("it was written")
}

fn selector(name: &str, op: MatchOp, value: &str) -> Selector {
    Selector::new(&[Matcher::new(name, op, value)]).expect("the matcher is valid")
}

#[divan::bench(args = [(FROZEN, Compression::Fast), (SCRAPES, Compression::Small)], sample_count = 5)]
fn encode(bencher: Bencher<'_, '_>, (scrapes, compression): (usize, Compression)) {
    let dir = tempfile::tempdir().expect("a directory");
    let series = node::series(HOSTS, SCRAPES);
    let path = dir.path().join("block");
    bencher.counter(ItemsCount::new(series.len() * scrapes)).bench_local(|| {
        write(&path, 1, &series, 0..scrapes, compression);
        std::fs::remove_file(&path).expect("it was written");
    });
}

/// Twelve frozen blocks into one of two hours.
#[divan::bench(sample_count = 5)]
fn merge_frozen(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let series = node::series(HOSTS, SCRAPES);
    let sources: Vec<Block<RealFs>> = (0..12)
        .map(|at| {
            let path = dir.path().join(format!("frozen-{at}"));
            write(&path, at as u64, &series, at * FROZEN..(at + 1) * FROZEN, Compression::Fast);
            open(&path)
        })
        .collect();
    let sources: Vec<&Block<RealFs>> = sources.iter().collect();
    let path = dir.path().join("merged");
    let output =
        Output { path: path.clone(), meta: meta(99), range: TimeRange::ALL, compression: Compression::Small };
    bencher.counter(ItemsCount::new(series.len() * 12 * FROZEN)).bench_local(|| {
        let outputs = std::slice::from_ref(&output);
        merge(&RealFs, &sources, outputs, &MergeOptions::default(), &mut |_| ControlFlow::Continue(()))
            .expect("the disk works");
        std::fs::remove_file(&path).expect("it was written");
    });
}

#[divan::bench]
fn open_block(bencher: Bencher<'_, '_>) {
    let fixture = fixture();
    bencher.bench_local(|| open(black_box(&fixture.path)));
}

#[divan::bench(args = ["node_cpu_seconds_total", "node_cpu_.*", ".*bytes.*"])]
fn select(bencher: Bencher<'_, '_>, pattern: &str) {
    let fixture = fixture();
    let block = open(&fixture.path);
    let selector = selector("__name__", MatchOp::Re, pattern);
    bencher.bench_local(|| block.select(black_box(&selector), TimeRange::ALL).expect("the block is sound"));
}

/// All samples of the series of a class, their pages in the cache.
#[divan::bench(args = [Class::Constant, Class::Operations, Class::CpuSeconds, Class::PageGauge, Class::Bytes, Class::Bucket])]
fn read(bencher: Bencher<'_, '_>, class: Class) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("block");
    let mut series = node::series(HOSTS, SCRAPES);
    series.retain(|one| one.class == class);
    write(&path, 1, &series, 0..SCRAPES, Compression::Small);
    let block = open(&path);
    let mut samples = Samples::default();
    bencher.counter(ItemsCount::new(series.len() * SCRAPES)).bench_local(|| {
        for one in 0..block.series_count() {
            samples.clear();
            block.read(one, TimeRange::ALL, &mut samples).expect("the block is sound");
            black_box(&samples);
        }
    });
}

/// The last hour of every series of one host.
#[divan::bench]
fn read_one_host(bencher: Bencher<'_, '_>) {
    let fixture = fixture();
    let block = open(&fixture.path);
    let instance = fixture.series[0].labels.get("instance").expect("all series have one");
    let start = Timestamp::from_millis(node::times(SCRAPES)[SCRAPES - 120]);
    let range = TimeRange { start, end: Timestamp::MAX };
    let selector = selector("instance", MatchOp::Eq, instance);
    let mut samples = Samples::default();
    let count = fixture.series.len() / HOSTS;
    bencher.counter(ItemsCount::new(count * 120)).bench_local(|| {
        for one in block.select(&selector, range).expect("the block is sound") {
            samples.clear();
            block.read(one, range, &mut samples).expect("the block is sound");
            black_box(&samples);
        }
    });
}
