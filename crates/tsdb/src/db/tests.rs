//! The whole store against a plain model, on a disk that loses and refuses.

mod corruption;
mod model;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lm_fs::fault::{Damage, FaultFs};
use lm_model::{Histogram, Labels, MatchOp, Matcher, Samples, TimeRange, Timestamp};

use super::*;
use crate::memory::HeadOptions;

const HOUR: i64 = 3_600_000;
/// A multiple of a day, so that buckets begin here.
const START: i64 = 20_000 * 24 * HOUR;

fn options() -> DbOptions {
    DbOptions {
        head: HeadOptions { series_max: 10_000 },
        retention: Duration::from_secs(48 * 3600),
        bytes_max: u64::MAX,
        cache_bytes: 1 << 20,
        sync_point: || {},
    }
}

fn open(fs: &FaultFs) -> (Db<FaultFs>, Opened) {
    Db::open(fs.clone(), Path::new("/metrics"), options()).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange { start: at(start), end: at(end) }
}

fn name(series: u8) -> Labels {
    Labels::from_pairs([("__name__".to_owned(), "m".to_owned()), ("s".to_owned(), series.to_string())])
}

fn append(db: &Db<FaultFs>, time: i64, series: u8, value: f64) {
    db.with_head(|head| {
        let id = head.series(&name(series)).unwrap();
        head.append(at(time), [(id, value)]);
    });
}

fn position(segment: u64) -> LogPosition {
    LogPosition { segment, offset: 0 }
}

/// Everything that the store shows, ordered by labels.
fn shown(db: &Db<FaultFs>, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, Samples)> {
    let found = db.select(matchers, range, usize::MAX).unwrap();
    let mut shown = Vec::new();
    for index in 0..found.len() {
        let mut samples = Samples::default();
        found.read(index, &mut samples).unwrap();
        if !samples.is_empty() {
            shown.push((found.labels(index).clone(), samples));
        }
    }
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

fn values(db: &Db<FaultFs>, series: u8) -> Vec<(i64, f64)> {
    let matchers = [Matcher::new("s", MatchOp::Eq, series.to_string())];
    let shown = shown(db, &matchers, TimeRange::ALL);
    let samples = shown.first().map(|(_, samples)| samples.clone()).unwrap_or_default();
    samples.times.iter().map(|time| time - START).zip(samples.values).collect()
}

fn flush(db: &Db<FaultFs>, now: i64, segment: u64) -> Flushed {
    assert!(db.freeze(at(now), position(segment)));
    db.flush().unwrap().unwrap()
}

/// Maintains until nothing is to be done; returns how many blocks were merged.
fn maintain(db: &Db<FaultFs>, now: i64) -> usize {
    let mut merged = 0;
    loop {
        let done = db.maintain(at(now), &mut |_| ControlFlow::Continue(())).unwrap();
        if done.is_idle() {
            return merged;
        }
        merged += done.merged_blocks;
    }
}

#[test]
fn samples_go_from_memory_to_blocks_to_larger_blocks() {
    let fs = FaultFs::new(1);
    let (db, opened) = open(&fs);
    assert_eq!((opened.blocks, opened.covered), (0, position(0)));
    let mut expected = Vec::new();
    for step in 0..12 {
        let time = step * HOUR / 4;
        append(&db, time, 1, step as f64);
        append(&db, time, 2, 7.0);
        expected.push((time, step as f64));
        assert_eq!(values(&db, 1), expected, "before step {step} is flushed");
        flush(&db, time, step as u64 + 1);
        assert_eq!(values(&db, 1), expected, "after step {step} was flushed");
    }
    assert_eq!(db.stats().blocks, 12);
    assert_eq!(db.stats().head.samples, 0);
    // Two hours are closed, of the rest there are few blocks.
    assert_eq!(maintain(&db, 3 * HOUR), 8);
    assert_eq!(db.stats().blocks, 5);
    assert_eq!(values(&db, 1), expected);
    assert_eq!(maintain(&db, 30 * HOUR), 4, "ten of a day are too much for 48 h of retention");
    assert_eq!(db.stats().blocks, 2);
    assert_eq!(values(&db, 1), expected);
    drop(db);
    let (db, opened) = open(&fs);
    assert_eq!((opened.blocks, opened.covered), (2, position(12)));
    assert_eq!(values(&db, 1), expected);
    assert_eq!(db.label_values("s", &[], TimeRange::ALL).unwrap(), ["1", "2"]);
    assert_eq!(db.label_names(&[], range(0, 1)).unwrap(), ["__name__", "s"]);
    assert_eq!(db.series_labels(&[], range(0, 1), 10).unwrap().len(), 2);
    assert_eq!(db.active(&[]).unwrap(), [], "nothing came since the start");
}

#[test]
fn what_is_selected_stays_while_it_is_read() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    append(&db, 0, 1, 1.0);
    flush(&db, 1, 1);
    append(&db, 1000, 1, 2.0);
    let found = db.select(&[], TimeRange::ALL, 10).unwrap();
    flush(&db, HOUR, 2);
    append(&db, 2000, 1, 3.0);
    maintain(&db, 100 * HOUR);
    assert_eq!(db.stats().blocks, 0, "retention took both");
    let mut samples = Samples::default();
    found.read(0, &mut samples).unwrap();
    assert_eq!(samples.values, [1.0, 2.0]);
}

#[test]
fn late_data_goes_to_its_own_bucket_and_the_first_value_stays() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    append(&db, 0, 1, 1.0);
    append(&db, 5 * HOUR, 1, 2.0);
    flush(&db, 5 * HOUR, 1);
    assert_eq!(db.stats().blocks, 2);
    // Memory does not know what the first block has.
    append(&db, 0, 1, 9.0);
    append(&db, 10, 1, 3.0);
    append(&db, 6 * HOUR, 1, 4.0);
    let expected = [(0, 1.0), (10, 3.0), (5 * HOUR, 2.0), (6 * HOUR, 4.0)];
    assert_eq!(values(&db, 1), expected);
    flush(&db, 6 * HOUR, 2);
    assert_eq!(values(&db, 1), expected);
    assert!(maintain(&db, 9 * HOUR) >= 2);
    assert_eq!(values(&db, 1), expected);
}

#[test]
fn histograms_are_kept() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    let histogram = Arc::new(Histogram { count: 3.0, zero_count: 3.0, ..Histogram::default() });
    let one = histogram.clone();
    db.with_head(|head| {
        let id = head.series(&name(1)).unwrap();
        head.append(at(0), [(id, 1.0)]);
        head.append_histogram(id, at(10), one);
    });
    let expected = Samples { times: vec![START], values: vec![1.0], histograms: vec![(at(10), histogram)] };
    assert_eq!(shown(&db, &[], TimeRange::ALL), [(name(1), expected.clone())]);
    flush(&db, 20, 1);
    assert_eq!(shown(&db, &[], TimeRange::ALL), [(name(1), expected)]);
}

#[test]
fn deleted_samples_are_gone_at_once_and_later_ones_stay() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    for series in 1..=2 {
        append(&db, 0, series, 1.0);
        append(&db, 10, series, 2.0);
    }
    flush(&db, 20, 1);
    db.delete(vec![Matcher::new("s", MatchOp::Eq, "1")], range(0, 10)).unwrap();
    assert_eq!(values(&db, 1), [(10, 2.0)]);
    assert_eq!(values(&db, 2), [(0, 1.0), (10, 2.0)]);
    // Came after the deletion.
    append(&db, 5, 1, 3.0);
    flush(&db, 30, 2);
    assert_eq!(values(&db, 1), [(5, 3.0), (10, 2.0)]);
    drop(db);
    let (db, _) = open(&fs);
    assert_eq!(values(&db, 1), [(5, 3.0), (10, 2.0)]);
    assert_eq!(db.stats().tombstones, 1);
    maintain(&db, HOUR);
    assert_eq!(db.stats().tombstones, 0);
    assert_eq!(values(&db, 1), [(5, 3.0), (10, 2.0)]);
    assert!(db.delete(vec![Matcher::new("s", MatchOp::Re, "(")], TimeRange::ALL).is_err());
}

#[test]
fn what_is_in_the_future_stays_apart_and_is_as_old_as_its_arrival() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    append(&db, 0, 1, 1.0);
    append(&db, 1000 * HOUR, 2, 2.0);
    append(&db, 2000 * HOUR, 2, 3.0);
    flush(&db, 0, 1);
    assert_eq!(db.stats().blocks, 2);
    maintain(&db, 47 * HOUR);
    assert_eq!(values(&db, 2).len(), 2);
    maintain(&db, 48 * HOUR + 1);
    assert_eq!(db.stats().blocks, 0);
}

#[test]
fn a_full_disk_changes_nothing_and_is_tried_again() {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    append(&db, 0, 1, 1.0);
    fs.set_capacity(Some(fs.bytes() + 100));
    assert!(db.freeze(at(0), position(1)));
    assert!(db.flush().unwrap_err().is_out_of_space());
    append(&db, 10, 1, 2.0);
    assert!(!db.freeze(at(0), position(2)), "the first is not written yet");
    assert_eq!(values(&db, 1), [(0, 1.0), (10, 2.0)]);
    assert_eq!(db.covered(), position(0));
    fs.set_capacity(None);
    assert_eq!(db.flush().unwrap().unwrap().samples, 1);
    assert_eq!((db.covered(), db.stats().head.samples), (position(1), 1));
    assert_eq!(values(&db, 1), [(0, 1.0), (10, 2.0)]);
}

#[test]
fn one_process_at_a_time() {
    let fs = FaultFs::new(1);
    let (_db, _) = open(&fs);
    let second = Db::open(fs.clone(), Path::new("/metrics"), options());
    assert!(matches!(second, Err(DbError::InUse { .. })));
}
