//! The bytes of a block do not change by accident.
//!
//! `testdata/block-v1-*.hex` were written by this code at version 1. If this test fails after a deliberate change,
//! raise the version and add new files; `UPDATE_GOLDEN=1 cargo test -p lm-tsdb --test golden_block` writes them. (What
//! zstd and pco write may change with their versions: then only reading must go on.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lm_fs::fault::FaultFs;
use lm_model::{Histogram, Labels, Samples, Span, TimeRange, Timestamp, stale_nan};
use lm_tsdb::block::{Block, BlockMeta, BlockWriter, Compression, Kind, PageCache};

const BLOCK: &str = "/blocks/block";

fn meta() -> BlockMeta {
    BlockMeta { id: 7, kind: Kind::Raw, level: 2, generations: 3..=5, covered: b"covered".to_vec() }
}

/// One series of each form: constant, decimals, a group, floats, a staleness marker, histograms.
fn series() -> Vec<(Labels, Samples)> {
    let times: Vec<i64> = (0..40).map(|at| 1_700_000_000_000 + 15_000 * at + at % 3).collect();
    let floats = |value: &dyn Fn(i64) -> f64| Samples {
        times: times.clone(),
        values: (0..40).map(value).collect(),
        histograms: Vec::new(),
    };
    let mut stale = floats(&|_| 1.0);
    stale.values[39] = stale_nan();
    let late = Samples { times: times[30..].to_vec(), values: vec![2.5; 10], histograms: Vec::new() };
    let histogram = |at: i64| Histogram {
        schema: 3,
        count: (10 + at) as f64,
        sum: at as f64 * 0.5,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive_counts: vec![at as f64, 10.0],
        ..Histogram::default()
    };
    let histograms = Samples {
        histograms: (0..3)
            .map(|at| (Timestamp::from_millis(times[at as usize]), Arc::new(histogram(at))))
            .collect(),
        ..Samples::default()
    };
    let columns = [
        ("constant", floats(&|_| 42.0)),
        ("counter", floats(&|at| (at * 1000 + at * at * 7919 % 613) as f64)),
        ("decimals", floats(&|at| (at * 37 % 50) as f64 / 100.0)),
        ("floats", floats(&|at| (at as f64 + 2.0).sqrt())),
        ("histograms", histograms),
        ("late", late),
        ("stale", stale),
    ];
    columns
        .into_iter()
        .map(|(name, samples)| {
            (Labels::from_pairs([("__name__", name), ("instance", "node-1:9100")]), samples)
        })
        .collect()
}

fn written(compression: Compression) -> Vec<u8> {
    let fs = FaultFs::new(0);
    let mut writer = BlockWriter::create(&fs, Path::new(BLOCK), compression).expect("create");
    for (labels, samples) in series() {
        writer.add(&labels, &samples).expect("add");
    }
    writer.finish(&meta()).expect("finish");
    fs.contents(Path::new(BLOCK)).expect("it was finished")
}

fn hex(bytes: &[u8]) -> String {
    let line =
        |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/block-v1-{name}.hex"))
}

fn golden(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(golden_path(name)).expect("the golden file is committed");
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

#[test]
fn blocks_are_written_as_ever() {
    for (name, compression) in [("fast", Compression::Fast), ("small", Compression::Small)] {
        let bytes = written(compression);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden_path(name), hex(&bytes)).expect("write the golden file");
        }
        assert_eq!(hex(&bytes), hex(&golden(name)), "{name}");
    }
}

#[test]
fn old_blocks_stay_readable() {
    for name in ["fast", "small"] {
        let fs = FaultFs::new(0);
        fs.put(Path::new(BLOCK), &golden(name));
        let block = Block::open(&fs, Path::new(BLOCK), Arc::new(PageCache::new(1 << 20))).expect("open");
        assert_eq!(*block.meta(), meta());
        assert_eq!(block.stats().columns, 1, "all series share a column");
        let mut samples = Samples::default();
        for (at, (labels, expected)) in series().iter().enumerate() {
            assert_eq!(block.labels(at as u32).expect("labels"), *labels);
            samples.clear();
            block.read(at as u32, TimeRange::ALL, &mut samples).expect("read");
            let bits =
                |samples: &Samples| samples.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!((&samples.times, bits(&samples)), (&expected.times, bits(expected)), "{labels}");
            assert_eq!(samples.histograms, expected.histograms, "{labels}");
        }
        block.verify(|error| panic!("{error}")).expect("verify");
    }
}
