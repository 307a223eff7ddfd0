use std::path::PathBuf;
use std::time::Instant;

use lm_fs::fault::{Fault, FaultFs};
use lm_model::{Histogram, Samples, TimeRange};
use lm_schema::batch::{HistogramColumns, SampleColumns};

use super::super::group::CoreOptions;
use super::super::handle::Command;
use super::super::stamp::stamp_writer;
use super::*;
use crate::spool::{Spool, SpoolOptions};
use crate::store::{Store, testing};

const NOW: i64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const WINDOW: i64 = 60_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

fn open(fs: &FaultFs) -> (Core<FaultFs>, Arc<Store>) {
    // Nothing here is written as a block: the directory is not needed.
    let (store, _dir) = testing::store();
    let store = Arc::new(store);
    let options = SpoolOptions { bytes_max: 1 << 30, segment_bytes: 8 << 10, retention: HOUR };
    let spool = Spool::open(fs.clone(), PathBuf::from("/spool"), options).unwrap();
    let options = CoreOptions {
        limits: DecodeLimits::default(),
        wall_clock: now,
        monotonic_clock: Instant::now,
        mutant: None,
        out_of_order_window: Duration::from_millis(WINDOW as u64),
        flush_interval: HOUR,
        samples_bytes_max: usize::MAX,
    };
    let (core, _) = Core::open(spool, store.clone(), Arc::default(), Arc::default(), options).unwrap();
    (core, store)
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

/// A batch of samples `(reference, ms before now, value)`.
fn batch(client: u64, epoch: u32, known: u32, new: &[&str], samples: &[(u32, i64, f64)]) -> Write {
    let mut columns = SampleColumns::default();
    for (reference, age, value) in samples {
        columns.push(Timestamp::from_millis(NOW - age), *reference, *value);
    }
    batch_of(client, epoch, known, new, &Body::Samples(columns))
}

/// A batch of histograms `(reference, ms before now, count)`.
fn histograms(known: u32, new: &[&str], histograms: &[(u32, i64, f64)]) -> Write {
    let mut columns = HistogramColumns::default();
    for (reference, age, count) in histograms {
        let histogram = Histogram { count: *count, ..Histogram::default() };
        columns.push(Timestamp::from_millis(NOW - age), *reference, Arc::new(histogram));
    }
    batch_of(7, 0, known, new, &Body::Histograms(columns))
}

fn batch_of(client: u64, epoch: u32, known: u32, new: &[&str], body: &Body) -> Write {
    let new: Vec<_> = new.iter().map(|name| labels(name)).collect();
    let encoded = Encoder::new().unwrap().encode(&new, body).unwrap();
    let id =
        BatchId { stream: Stream::Metrics, incarnation: Incarnation { ordinal: 0, nonce: 0 }, sequence: 0 };
    Write {
        grant: None,
        agent: Arc::from("writer:ci"),
        stamp: stamp_writer("ci", &Labels::from_pairs([("env", "prod")])),
        client,
        series_max: u32::MAX,
        header: BatchHeader::new(id, 0, epoch, known, &encoded),
        body: encoded.bytes,
        lease: None,
    }
}

/// Commits a group; the answers in order.
fn commit(core: &mut Core<FaultFs>, writes: Vec<Write>) -> Vec<Written> {
    let mut answers = Vec::new();
    let commands: Vec<_> = writes
        .into_iter()
        .map(|write| {
            let (tx, rx) = oneshot::channel();
            answers.push(rx);
            Command::Write(write, tx)
        })
        .collect();
    core.commit(commands.into_iter());
    answers.iter_mut().map(|answer| answer.try_recv().expect("every write is answered")).collect()
}

fn stored(too_old: u64, conflicts: u64, series_limit: u64) -> Written {
    Written::Stored(Refused { too_old, conflicts, series_limit })
}

/// All samples, as `name@age=value`.
fn found(store: &Store) -> Vec<String> {
    let mut shown = Vec::new();
    let found = store.db.select(&[], TimeRange::ALL, usize::MAX).unwrap();
    let mut samples = Samples::default();
    for index in 0..found.len() {
        let labels = found.labels(index);
        assert_eq!(labels.get("env"), Some("prod"), "the stamp is on everything");
        found.read(index, &mut samples).unwrap();
        for (time, value) in samples.times.iter().zip(&samples.values) {
            shown.push(format!("{}@{}={}", labels.metric_name(), NOW - time, value));
        }
        for (time, histogram) in &samples.histograms {
            let age = NOW - time.as_millis();
            shown.push(format!("{}@{age}=histogram of {}", labels.metric_name(), histogram.count));
        }
    }
    shown.sort();
    shown
}

#[test]
fn histograms_are_refused_for_the_same_reasons_and_survive() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    let first = histograms(0, &["h", "i"], &[(0, 10, 1.0), (1, 10, 2.0)]);
    let age = WINDOW + 11;
    let again = histograms(2, &[], &[(0, 10, 1.0), (1, 10, 3.0), (0, age, 4.0), (0, 5, 5.0)]);
    let limited = Write { series_max: 2, ..histograms(2, &["j"], &[(2, 5, 6.0), (1, 4, 7.0)]) };
    assert_eq!(commit(&mut core, vec![first]), [stored(0, 0, 0)]);
    assert_eq!(commit(&mut core, vec![again, limited]), [stored(1, 1, 0), stored(0, 0, 1)]);
    // A number where a histogram is.
    assert_eq!(commit(&mut core, vec![batch(7, 0, 3, &[], &[(0, 5, 5.0)])]), [stored(0, 1, 0)]);
    let expected = ["h@10=histogram of 1", "h@5=histogram of 5", "i@10=histogram of 2", "i@4=histogram of 7"];
    assert_eq!(found(&store), expected);
    fs.kill();
    let (_, store) = open(&fs);
    assert_eq!(found(&store), expected);
}

#[test]
fn batches_are_numbered_here_and_survive() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    let first = batch(7, 0, 0, &["a", "b"], &[(0, 10, 1.0), (1, 10, 2.0)]);
    let second = batch(7, 0, 2, &["c"], &[(0, 5, 3.0), (2, 5, 4.0)]);
    assert_eq!(commit(&mut core, vec![first, second]), [stored(0, 0, 0), stored(0, 0, 0)]);
    // Another gateway has a dictionary of its own.
    assert_eq!(commit(&mut core, vec![batch(8, 0, 0, &["c"], &[(0, 4, 5.0)])]), [stored(0, 0, 0)]);
    let expected = ["a@10=1", "a@5=3", "b@10=2", "c@4=5", "c@5=4"];
    assert_eq!(found(&store), expected);
    fs.kill();
    let (mut core, store) = open(&fs);
    assert_eq!(found(&store), expected);
    // The run has ended, and with it what its references meant.
    assert_eq!(commit(&mut core, vec![batch(7, 0, 3, &[], &[(0, 1, 6.0)])]), [Written::NeedDictionary]);
    assert_eq!(commit(&mut core, vec![batch(9, 0, 0, &["a"], &[(0, 1, 6.0)])]), [stored(0, 0, 0)]);
    assert!(found(&store).contains(&"a@1=6".to_owned()));
    let account = core.watermarks.iter().filter(|(_, _, _, is_fenced, _)| !is_fenced).count();
    assert_eq!(account, 1, "one incarnation of the writer is current");
}

#[test]
fn a_gap_in_a_dictionary_is_asked_for() {
    let (mut core, store) = open(&FaultFs::new(1));
    commit(&mut core, vec![batch(7, 0, 0, &["a"], &[(0, 10, 1.0)])]);
    for write in [batch(7, 0, 2, &["c"], &[(2, 9, 1.0)]), batch(7, 1, 1, &[], &[(0, 9, 1.0)])] {
        assert_eq!(commit(&mut core, vec![write]), [Written::NeedDictionary]);
    }
    // The same reference cannot mean two things.
    assert_eq!(commit(&mut core, vec![batch(7, 0, 0, &["x"], &[(0, 9, 1.0)])]), [Written::NeedDictionary]);
    assert_eq!(found(&store), ["a@10=1"]);
}

#[test]
fn what_is_refused_is_counted_and_the_rest_is_stored() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    commit(&mut core, vec![batch(7, 0, 0, &["a"], &[(0, 1000, 1.0)])]);
    let age = 1000 + WINDOW;
    let write = batch(
        7,
        0,
        1,
        &["b", "c"],
        &[
            (0, age + 1, 2.0),                     // too far behind
            (0, age, 3.0),                         // just within
            (0, 1000, 1.0),                        // the same again
            (0, 1000, 9.0),                        // another value
            (1, age + 1, 4.0),                     // the first of its series
            (1, HOUR.as_millis() as i64 + 1, 5.0), // beyond retention
        ],
    );
    assert_eq!(commit(&mut core, vec![write]), [stored(2, 1, 0)]);
    let expected = ["a@1000=1", "a@61000=3", "b@61001=4"];
    assert_eq!(found(&store), expected);
    // "c" is known although no sample of it was stored.
    assert_eq!(commit(&mut core, vec![batch(7, 0, 3, &[], &[(2, 5, 6.0)])]), [stored(0, 0, 0)]);
    // Nothing is left of this one.
    assert_eq!(commit(&mut core, vec![batch(7, 0, 3, &[], &[(0, age + 1, 6.0)])]), [stored(1, 0, 0)]);
    fs.kill();
    let (_, store) = open(&fs);
    assert_eq!(found(&store), [&expected[..], &["c@5=6"]].concat());
}

#[test]
fn a_sample_from_the_future_does_not_end_its_series() {
    let (mut core, store) = open(&FaultFs::new(1));
    commit(&mut core, vec![batch(7, 0, 0, &["a"], &[(0, -3_600_000, 1.0)])]);
    assert_eq!(commit(&mut core, vec![batch(7, 0, 1, &[], &[(0, 10, 2.0)])]), [stored(0, 0, 0)]);
    assert_eq!(found(&store).len(), 2);
}

#[test]
fn series_beyond_the_writers_limit_are_refused_until_its_client_begins_again() {
    let (mut core, store) = open(&FaultFs::new(1));
    let limited = |write: Write| Write { series_max: 2, ..write };
    let write = limited(batch(7, 0, 0, &["a", "b", "c"], &[(0, 9, 1.0), (1, 9, 1.0), (2, 9, 1.0)]));
    assert_eq!(commit(&mut core, vec![write]), [stored(0, 0, 1)]);
    // Also in another epoch of the same client.
    let write = limited(batch(7, 1, 0, &["d"], &[(0, 9, 1.0)]));
    assert_eq!(commit(&mut core, vec![write]), [stored(0, 0, 1)]);
    let write = limited(batch(8, 0, 0, &["c"], &[(0, 9, 1.0)]));
    assert_eq!(commit(&mut core, vec![write]), [stored(0, 0, 0)]);
    assert_eq!(found(&store), ["a@9=1", "b@9=1", "c@9=1"]);
}

#[test]
fn a_disk_that_fails_is_told_and_writing_again_is_harmless() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    commit(&mut core, vec![batch(7, 0, 0, &["a"], &[(0, 10, 1.0)])]);
    fs.fail_randomly(1000, Fault::Eio);
    let write = batch(7, 0, 1, &["b"], &[(0, 5, 2.0), (1, 5, 2.0)]);
    let answer = commit(&mut core, vec![write]).remove(0);
    assert!(matches!(answer, Written::RetryAfter(_)), "{answer:?}");
    assert_eq!(found(&store), ["a@10=1"], "nothing is shown that is not on disk");
    fs.clear_faults();
    // Its gateway does not know what is known now, and begins again.
    let again = batch(8, 0, 0, &["a", "b"], &[(0, 5, 2.0), (1, 5, 2.0)]);
    assert_eq!(commit(&mut core, vec![again]), [stored(0, 0, 0)]);
    assert_eq!(found(&store), ["a@10=1", "a@5=2", "b@5=2"]);
}
