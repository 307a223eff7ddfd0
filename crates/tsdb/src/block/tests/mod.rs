//! Blocks against a plain model of them.

mod damage;
mod merging;
mod reading;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lm_fs::fault::{FaultFs, random};
use lm_model::{Histogram, Labels, Samples, Span, TimeRange, Timestamp, stale_nan};

use super::{Block, BlockMeta, BlockWriter, Compression, Error, Kind, PageCache};

type Model = BTreeMap<Labels, Samples>;

fn path(name: &str) -> PathBuf {
    Path::new("/blocks").join(name)
}

fn meta(id: u64) -> BlockMeta {
    BlockMeta {
        id,
        kind: Kind::Raw,
        level: 1,
        generations: id..=id,
        covered: format!("covered by {id}").into(),
    }
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end) }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn write(
    fs: &FaultFs,
    path: &Path,
    meta: &BlockMeta,
    compression: Compression,
    model: &Model,
) -> Result<(), Error> {
    let mut writer = BlockWriter::create(fs, path, compression)?;
    for (labels, samples) in model {
        writer.add(labels, samples)?;
    }
    writer.finish(meta).map(drop)
}

/// Writes a block on a disk of its own and opens it.
fn block(id: u64, compression: Compression, model: &Model) -> (FaultFs, Block<FaultFs>) {
    let fs = FaultFs::new(0);
    write(&fs, &path("block"), &meta(id), compression, model).expect("the disk works");
    let block = open(&fs, 1 << 20).expect("it was written above");
    (fs, block)
}

fn open(fs: &FaultFs, cache_bytes: usize) -> Result<Block<FaultFs>, Error> {
    Block::open(fs, &path("block"), Arc::new(PageCache::new(cache_bytes)))
}

/// Samples in a form that compares NaNs by their bits.
fn shown(samples: &Samples) -> Vec<(i64, String)> {
    let numbers = samples.times.iter().zip(&samples.values);
    let mut all: Vec<_> = numbers.map(|(time, value)| (*time, format!("{:x}", value.to_bits()))).collect();
    let histograms = samples.histograms.iter();
    all.extend(histograms.map(|(time, one)| (time.as_millis(), format!("{one:?} {:x}", one.sum.to_bits()))));
    all.sort();
    all
}

/// A model of `hosts` hosts with series of all shapes, some of them with gaps, of their own times, or histograms.
fn model(seed: u64, hosts: u64, scrapes: i64) -> Model {
    let mut rng = seed;
    let mut model = Model::new();
    for host in 0..hosts {
        let instance = format!("node-{host:03}:9100");
        let offset = (random(&mut rng) % 1000) as i64;
        let times: Vec<i64> = (0..scrapes)
            .map(|at| 1_700_000_000_000 + offset + at * 15_000 + (random(&mut rng) % 5) as i64)
            .collect();
        for shape in 0..14u64 {
            let name = format!("metric_{shape}");
            let device = format!("dev{}", random(&mut rng) % 5);
            let labels = match shape % 3 {
                0 => labels(&[("__name__", &name), ("instance", &instance)]),
                1 => labels(&[("__name__", &name), ("device", &device), ("instance", &instance)]),
                _ => labels(&[("__name__", &name), ("instance", &instance), ("job", "node")]),
            };
            model.insert(labels, series(shape, &times, &mut rng));
        }
    }
    model
}

fn series(shape: u64, times: &[i64], rng: &mut u64) -> Samples {
    let mut samples = Samples::default();
    let (mut sum, begin) = (0u64, random(rng) % times.len() as u64);
    for (at, time) in times.iter().enumerate() {
        sum += random(rng) % 1000;
        let time = Timestamp::from_millis(*time);
        let value = match shape {
            0 => 42.0,
            1 => sum as f64,
            2 => sum as f64 / 100.0,
            3 => f64::from_bits(random(rng)),
            4 => (random(rng) % 100) as f64 * 4096.0,
            5 if at as u64 == begin => stale_nan(),
            5 => 3.25,
            6 if random(rng).is_multiple_of(3) => continue,
            7 if (at as u64) < begin => continue,
            8 if at as u64 > begin => continue,
            9 => f64::from(u32::from(random(rng).is_multiple_of(50))),
            10 if (at as u64) >= begin => {
                samples.histograms.push((time, Arc::new(histogram(sum, rng))));
                continue;
            }
            11 => (sum as f64).sqrt(),
            12 => -0.0,
            _ => sum as f64 * 30.0,
        };
        samples.push(time, value);
    }
    samples
}

fn histogram(count: u64, rng: &mut u64) -> Histogram {
    let buckets = 1 + random(rng) % 3;
    Histogram {
        schema: 3,
        count: count as f64,
        sum: count as f64 * 0.7,
        positive_spans: vec![Span { offset: -2, length: buckets as u32 }],
        positive_counts: (0..buckets).map(|bucket| (count / (bucket + 1)) as f64).collect(),
        ..Histogram::default()
    }
}
