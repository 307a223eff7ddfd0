//! `cargo bench -p lm-tsdb --bench report [-- HOSTS]`: bytes a sample and CPU time of blocks through their life, by
//! class of series. CPU time is the thread's, so that a busy machine does not change it much.

mod node;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lm_fs::RealFs;
use lm_model::{MatchOp, Matcher, Samples, TimeRange};
use lm_tsdb::Selector;
use lm_tsdb::block::{
    Block, BlockMeta, BlockStats, BlockWriter, Compression, Kind, MergeOptions, Output, PageCache, merge,
};

const SCRAPES: usize = 720;
const FROZEN: usize = 20;

/// Nanoseconds that this thread has computed.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn meta(id: u64) -> BlockMeta {
    BlockMeta { id, kind: Kind::Raw, level: 0, generations: id..=id, covered: Vec::new() }
}

fn write<'a>(
    path: &Path,
    id: u64,
    series: impl Iterator<Item = &'a node::Series>,
    part: std::ops::Range<usize>,
    compression: Compression,
) -> BlockStats {
    let times = &node::times(SCRAPES)[part.clone()];
    let mut writer = BlockWriter::create(&RealFs, path, compression).expect("the disk works");
    let mut samples = Samples::default();
    for one in series {
        samples.clear();
        samples.times.extend_from_slice(times);
        samples.values.extend_from_slice(&one.values[part.clone()]);
        writer.add(&one.labels, &samples).expect("the disk works");
    }
    writer.finish(&meta(id)).expect("the disk works")
}

fn open(path: &Path) -> Block<RealFs> {
    Block::open(&RealFs, path, Arc::new(PageCache::new(512 << 20))).expect("it was written")
}

fn print(what: &str, stats: &BlockStats, nanos: f64) {
    let samples = stats.samples as f64;
    println!(
        "{what:28} {:>10} samples {:6.3} B/sample (values {:.3}, times {:.4}, index {:.3}) {:6.1} ns/sample",
        stats.samples,
        stats.file_bytes as f64 / samples,
        stats.value_bytes as f64 / samples,
        stats.time_bytes as f64 / samples,
        stats.index_bytes as f64 / samples,
        nanos / samples,
    );
}

fn merged(sources: &[PathBuf], path: PathBuf, id: u64) -> (BlockStats, f64) {
    let blocks: Vec<Block<RealFs>> = sources.iter().map(|path| open(path)).collect();
    let blocks: Vec<&Block<RealFs>> = blocks.iter().collect();
    let output = Output { path, meta: meta(id), range: TimeRange::ALL, compression: Compression::Small };
    let begin = cpu();
    let outcome =
        merge(&RealFs, &blocks, &[output], &MergeOptions::default(), &mut |_| ControlFlow::Continue(()))
            .expect("the disk works");
    (outcome.blocks[0].clone().expect("there are samples"), cpu() - begin)
}

fn main() {
    let hosts = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().expect("a directory");
    let series = node::series(hosts, SCRAPES);
    println!("{hosts} hosts, {} series, {SCRAPES} scrapes 30 s apart", series.len());

    let mut frozen = Vec::new();
    for at in 0..SCRAPES / FROZEN {
        let path = dir.path().join(format!("frozen-{at:02}"));
        let begin = cpu();
        let stats = write(&path, at as u64, series.iter(), at * FROZEN..(at + 1) * FROZEN, Compression::Fast);
        if at == 0 {
            print("frozen, 10 min", &stats, cpu() - begin);
        }
        frozen.push(path);
    }
    let mut buckets = Vec::new();
    for (at, sources) in frozen.chunks(12).enumerate() {
        let path = dir.path().join(format!("bucket-{at}"));
        let (stats, nanos) = merged(sources, path.clone(), 100 + at as u64);
        print("12 frozen to 2 h", &stats, nanos);
        buckets.push(path);
    }
    let path = dir.path().join("merged");
    let (stats, nanos) = merged(&buckets, path.clone(), 200);
    print("3 of 2 h to 6 h", &stats, nanos);

    for name in ["cold", "warm"] {
        let block = open(&path);
        let mut samples = Samples::default();
        if name == "warm" {
            read_all(&block, &Selector::all(), &mut samples);
        }
        let begin = cpu();
        let count = read_all(&block, &Selector::all(), &mut samples);
        let nanos = cpu() - begin;
        println!("read all, {name}: {count} samples, {:.0} M/s", count as f64 / nanos * 1e3);
        if name == "warm" {
            println!(
                "open block holds {} B a series",
                block.resident_bytes() as f64 / block.series_count() as f64
            );
        }
    }
    let block = open(&path);
    for name in
        ["node_cpu_seconds_total", "node_network_receive_bytes_total", "http_request_duration_seconds_bucket"]
    {
        let selector = Selector::new(&[Matcher::new("__name__", MatchOp::Eq, name)]).expect("it is valid");
        let mut samples = Samples::default();
        read_all(&block, &selector, &mut samples);
        let begin = cpu();
        let count = (0..10).map(|_| read_all(&block, &selector, &mut samples)).sum::<usize>();
        println!("read {name}, warm: {:.0} M samples/s", count as f64 / (cpu() - begin) * 1e3);
    }

    let mut classes: BTreeMap<node::Class, Vec<&node::Series>> = BTreeMap::new();
    for one in &series {
        classes.entry(one.class).or_default().push(one);
    }
    for (class, of_class) in classes {
        let path = dir.path().join(format!("{class:?}"));
        let begin = cpu();
        let stats = write(&path, 300, of_class.iter().copied(), 0..SCRAPES, Compression::Small);
        let nanos = cpu() - begin;
        let block = open(&path);
        let mut samples = Samples::default();
        read_all(&block, &Selector::all(), &mut samples);
        let begin = cpu();
        let count = (0..5).map(|_| read_all(&block, &Selector::all(), &mut samples)).sum::<usize>();
        let rate = count as f64 / (cpu() - begin) * 1e3;
        println!(
            "{:14} {:5.1} % of series: values {:.3} B/sample, encode {:.1} ns/sample, read {rate:.0} M/s",
            format!("{class:?}"),
            100.0 * of_class.len() as f64 / series.len() as f64,
            stats.value_bytes as f64 / stats.samples as f64,
            nanos / stats.samples as f64,
        );
    }
}

fn read_all(block: &Block<RealFs>, selector: &Selector, samples: &mut Samples) -> usize {
    let mut count = 0;
    for one in block.select(selector, TimeRange::ALL).expect("the block is sound") {
        samples.clear();
        block.read(one, TimeRange::ALL, samples).expect("the block is sound");
        count += samples.len();
    }
    count
}
