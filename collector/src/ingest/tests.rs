//! Ingest on a disk that fails: what was acknowledged is there after any
//! crash, once, and what was not acknowledged can be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_fs::fault::{Fault, FaultFs};
use lm_logs::{Direction, LogQuery};
use lm_model::{BatchId, Incarnation, Labels, LossReason, Samples, Stream, TimeRange, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{
    BatchHeader, Body, EncodedBody, Encoder, HistogramColumns, LogColumns, SampleColumns,
};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::dictionaries::DictionaryKey;
use super::handle::Command;
use super::*;
use crate::spool::{Spool, SpoolOptions};
use crate::store::{Store, testing};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn now() -> Timestamp {
    NOW
}

fn store() -> Arc<Store> {
    // These tests keep nothing but lines, and those in memory.
    let (store, _dir) = testing::store();
    Arc::new(store)
}

fn open(fs: &FaultFs) -> (Core<FaultFs>, Arc<Store>) {
    open_with(fs, store(), Duration::from_secs(3600))
}

fn open_with(fs: &FaultFs, store: Arc<Store>, flush_interval: Duration) -> (Core<FaultFs>, Arc<Store>) {
    let options =
        SpoolOptions { bytes_max: 1 << 30, segment_bytes: 8 << 10, retention: Duration::from_secs(3600) };
    let spool = Spool::open(fs.clone(), PathBuf::from("/spool"), options).unwrap();
    let core_options = CoreOptions {
        limits: DecodeLimits::default(),
        wall_clock: now,
        monotonic_clock: Instant::now,
        mutant: None,
        out_of_order_window: Duration::from_secs(600),
        flush_interval,
        samples_bytes_max: usize::MAX,
    };
    let (core, _) = Core::open(spool, store.clone(), Arc::default(), Arc::default(), core_options).unwrap();
    (core, store)
}

fn incarnation(ordinal: u64) -> Incarnation {
    Incarnation { ordinal, nonce: 1 }
}

/// Lines "n" of one stream, one dictionary entry, new with sequence 0.
fn lines(ordinal: u64, sequence: u64, texts: &[String]) -> Push {
    let mut columns = LogColumns::default();
    for text in texts {
        columns.push(0, NOW.as_nanos() + sequence as i64, text.as_bytes());
    }
    let entries = [Labels::from_pairs([("filename", "/a")])];
    let new: &[Labels] = if sequence == 0 { &entries } else { &[] };
    let body = Encoder::new().unwrap().encode(new, &Body::Logs(columns)).unwrap();
    push(Stream::Logs, ordinal, sequence, sequence + 1, u32::from(sequence > 0), body)
}

fn push(stream: Stream, ordinal: u64, sequence: u64, end: u64, known: u32, body: EncodedBody) -> Push {
    let id = BatchId { stream, incarnation: incarnation(ordinal), sequence };
    let mut header = BatchHeader::new(id, 0, 0, known, &body);
    header.sequence_end = end;
    Push {
        grant: None,
        agent: Arc::from("a"),
        stamp: stamp("host", &Labels::empty()),
        id,
        sequence_end: end,
        item_count: body.item_count,
        header: Ok(header),
        body_bytes: body.bytes.len(),
        body: body.bytes,
        lease: None,
    }
}

/// Commits a group; the answers in order.
fn commit(core: &mut Core<FaultFs>, pushes: Vec<Push>) -> Vec<Receipt> {
    let mut answers = Vec::new();
    let commands: Vec<Command> = pushes
        .into_iter()
        .map(|push| {
            let (tx, rx) = oneshot::channel();
            answers.push(rx);
            Command::Push(push, tx)
        })
        .collect();
    core.commit(commands.into_iter());
    answers.iter_mut().map(|answer| answer.try_recv().expect("every push is answered")).collect()
}

fn found(store: &Store) -> Vec<String> {
    let query = LogQuery {
        matchers: Vec::new(),
        contains: Vec::new(),
        excludes: Vec::new(),
        regex: None,
        start_unix_nano: i64::MIN,
        end_unix_nano: i64::MAX,
        limit: usize::MAX,
        direction: Direction::Forward,
        scan_bytes_max: usize::MAX,
    };
    let answer = store.recent().search(&query).unwrap();
    answer.records.iter().map(|record| String::from_utf8(record.line.to_vec()).unwrap()).collect()
}

fn text(ordinal: u64, sequence: u64) -> Vec<String> {
    vec![format!("{ordinal}-{sequence}-a"), format!("{ordinal}-{sequence}-b")]
}

#[test]
fn a_batch_is_stored_once_and_seen_after_its_answer() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    let receipts = commit(&mut core, vec![lines(1, 0, &text(1, 0)), lines(1, 1, &text(1, 1))]);
    assert!(receipts.iter().all(|receipt| receipt.outcome == ReceiptOutcome::Durable), "{receipts:?}");
    assert_eq!(receipts[1].durable_end, 2);
    let again = commit(&mut core, vec![lines(1, 1, &text(1, 1)), lines(1, 3, &text(1, 3))]);
    assert_eq!(again[0].outcome, ReceiptOutcome::Duplicate);
    assert_eq!(again[1].outcome, ReceiptOutcome::Gap(2));
    assert_eq!(found(&store), ["1-0-a", "1-0-b", "1-1-a", "1-1-b"]);
    fs.kill();
    let (_, store) = open(&fs);
    assert_eq!(found(&store), ["1-0-a", "1-0-b", "1-1-a", "1-1-b"]);
}

#[test]
fn an_unknown_dictionary_is_asked_for_and_survives() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    let mut push = lines(1, 0, &text(1, 0));
    let body = {
        let mut columns = LogColumns::default();
        columns.push(1, NOW.as_nanos(), b"x");
        Encoder::new()
            .unwrap()
            .encode(&[Labels::from_pairs([("filename", "/b")])], &Body::Logs(columns))
            .unwrap()
    };
    push.header = Ok(BatchHeader::new(push.id, 0, 0, 1, &body));
    push.body = body.bytes;
    push.item_count = 1;
    let again = || Push {
        grant: None,
        header: push.header.clone(),
        body: push.body.clone(),
        agent: push.agent.clone(),
        stamp: push.stamp.clone(),
        lease: None,
        ..push
    };
    assert_eq!(commit(&mut core, vec![again()])[0].outcome, ReceiptOutcome::NeedDictionary(0));
    let (tx, mut rx) = oneshot::channel();
    let define = Define {
        grant: None,
        agent: Arc::from("a"),
        stamp: stamp("host", &Labels::empty()),
        incarnation: incarnation(1),
        epoch: 0,
        entries: vec![Labels::from_pairs([("filename", "/a")])],
    };
    core.commit([Command::Define(define, tx)].into_iter());
    assert_eq!(rx.try_recv().unwrap(), DefineOutcome::Durable);
    assert_eq!(commit(&mut core, vec![again()])[0].outcome, ReceiptOutcome::Durable);
    assert_eq!(found(&store), ["x"]);
    fs.crash(3);
    let (mut core, store) = open(&fs);
    assert_eq!(found(&store), ["x"]);
    assert_eq!(commit(&mut core, vec![again()])[0].outcome, ReceiptOutcome::Duplicate);
}

#[test]
fn what_can_never_be_accepted_leaves_a_tombstone_and_the_stream_goes_on() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    commit(&mut core, vec![lines(1, 0, &text(1, 0))]);
    let mut bad = lines(1, 1, &text(1, 1));
    bad.body[3] ^= 0xff;
    let receipts = commit(&mut core, vec![bad, lines(1, 2, &text(1, 2))]);
    assert!(matches!(&receipts[0].outcome, ReceiptOutcome::Rejected(why) if why.contains("checksum")));
    assert_eq!(receipts[1].outcome, ReceiptOutcome::Durable);
    assert_eq!(found(&store), ["1-0-a", "1-0-b", "1-2-a", "1-2-b"]);
    let check = |core: &Core<FaultFs>| {
        let (.., account) = core.watermarks.iter().next().unwrap();
        assert_eq!((account.durable_end, account.items), (3, 4));
        assert_eq!(account.lost["rejected"], Lost { batches: 1, items: 2 });
    };
    check(&core);
    fs.crash(9);
    check(&open(&fs).0);
}

#[test]
fn a_loss_advances_over_exactly_its_hole_and_is_remembered() {
    let fs = FaultFs::new(1);
    let (mut core, _) = open(&fs);
    let loss = |start, end| {
        let body = Body::Loss { items: 30, bytes: 900, reason: LossReason::QueueFullOldest };
        let encoded = Encoder::new().unwrap().encode(&[], &body).unwrap();
        push(Stream::Logs, 1, start, end, 0, encoded)
    };
    let receipts = commit(&mut core, vec![loss(1, 4), loss(0, 4), loss(0, 4), lines(1, 4, &text(1, 4))]);
    assert_eq!(receipts[0].outcome, ReceiptOutcome::Gap(0));
    assert_eq!(receipts[1].outcome, ReceiptOutcome::Durable);
    assert_eq!(receipts[2].outcome, ReceiptOutcome::Duplicate);
    assert_eq!(receipts[3].outcome, ReceiptOutcome::NeedDictionary(0));
    fs.crash(2);
    let (core, _) = open(&fs);
    let (.., account) = core.watermarks.iter().next().unwrap();
    assert_eq!((account.durable_end, account.items), (4, 0));
    assert_eq!(account.lost["queue_full_oldest"], Lost { batches: 4, items: 30 });
}

#[test]
fn nothing_is_answered_or_shown_while_the_disk_fails() {
    let fs = FaultFs::new(1);
    let (mut core, store) = open(&fs);
    commit(&mut core, vec![lines(1, 0, &text(1, 0))]);
    fs.fail_randomly(1000, Fault::Eio);
    let receipts = commit(&mut core, vec![lines(1, 1, &text(1, 1))]);
    assert!(matches!(receipts[0].outcome, ReceiptOutcome::RetryAfter(_)), "{receipts:?}");
    let receipts = commit(&mut core, vec![lines(1, 1, &text(1, 1))]);
    assert!(
        matches!(receipts[0].outcome, ReceiptOutcome::RetryAfter(_)),
        "not a duplicate: it is not on disk"
    );
    assert_eq!(found(&store), ["1-0-a", "1-0-b"]);
    let (tx, mut rx) = oneshot::channel();
    core.commit([Command::Resume(Arc::from("a"), vec![(Stream::Logs, incarnation(1))], tx)].into_iter());
    assert!(rx.try_recv().is_err(), "what we know is not durable");
    fs.clear_faults();
    let receipts = commit(&mut core, vec![lines(1, 1, &text(1, 1)), lines(1, 2, &text(1, 2))]);
    assert_eq!(receipts[0].outcome, ReceiptOutcome::Duplicate);
    assert_eq!(receipts[1].outcome, ReceiptOutcome::Durable);
    let expected = ["1-0-a", "1-0-b", "1-1-a", "1-1-b", "1-2-a", "1-2-b"];
    assert_eq!(found(&store), expected);
    fs.crash(5);
    assert_eq!(found(&open(&fs).1), expected);
}

#[test]
fn records_that_moved_to_a_new_segment_are_complete_there() {
    let fs = FaultFs::new(1);
    let (mut core, _) = open(&fs);
    commit(&mut core, vec![lines(1, 0, &text(1, 0))]);
    let before = fs.files();
    // The write of the next group fails; its records move.
    fs.fail_at(fs.operations(), Fault::Eio);
    let receipts = commit(&mut core, vec![lines(1, 1, &text(1, 1))]);
    assert_eq!(receipts[0].outcome, ReceiptOutcome::Durable);
    // Retention takes the old segment.
    fs.kill();
    for file in before.iter().filter(|file| file.extension().is_some_and(|ending| ending == "seg")) {
        fs.damage(file, lm_fs::fault::Damage::Delete);
    }
    let (core, store) = open(&fs);
    assert_eq!(found(&store), text(1, 1));
    let (.., account) = core.watermarks.iter().next().unwrap();
    assert_eq!((account.durable_end, account.items), (2, 4));
}

#[test]
fn what_a_lost_segment_held_is_declared_although_snapshots_count_it() {
    let fs = FaultFs::new(1);
    let (mut core, _) = open(&fs);
    let mut sequence = 0;
    let segments = |fs: &FaultFs| -> Vec<PathBuf> {
        fs.files().into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "seg")).collect()
    };
    while segments(&fs).len() < 7 {
        assert_eq!(
            commit(&mut core, vec![lines(1, sequence, &text(1, sequence))])[0].outcome,
            ReceiptOutcome::Durable
        );
        sequence += 1;
    }
    drop(core);
    let files = segments(&fs);
    fs.damage(&files[2], lm_fs::fault::Damage::Unreadable { offset: 0, len: 1 << 20 });
    fs.damage(&files[6], lm_fs::fault::Damage::Truncate { len: 100 });
    let mut accounts = Vec::new();
    for _ in 0..3 {
        let (mut core, store) = open(&fs);
        let (.., account) = core.watermarks.iter().next().unwrap();
        let found = found(&store).len() as u64;
        assert_eq!(account.items, found, "{account:?}");
        assert_eq!(account.total(), account.durable_end * 2, "{account:?}");
        assert!(account.lost["corrupt"].batches > 5, "{account:?}");
        accounts.push(account.clone());
        // Once: also when the next segment's snapshot has it.
        core.housekeep();
    }
    assert!(accounts.windows(2).all(|pair| pair[0] == pair[1]), "{accounts:#?}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Send up to this many batches from the model's position, as one group.
    Send(u64),
    /// Send everything unacknowledged again from this far back.
    Resend(u64),
    Restart,
    Crash(u64),
    NewIncarnation,
    Fail(u64),
    Heal,
    Housekeep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..6).prop_map(Step::Send),
        2 => (1u64..4).prop_map(Step::Resend),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::NewIncarnation),
        2 => (0u64..12).prop_map(Step::Fail),
        2 => Just(Step::Heal),
        1 => Just(Step::Housekeep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An agent that keeps to the protocol, a disk and a process that do not
    /// hold: every acknowledged line is there once, no line twice, none that
    /// was not sent.
    #[test]
    fn the_store_is_what_was_acknowledged(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        let fs = FaultFs::new(seed);
        let (mut core, mut store) = open(&fs);
        let mut ordinal = 1;
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let mut sent: BTreeSet<String> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Send(count) | Step::Resend(count) => {
                    let end = acknowledged.get(&ordinal).copied().unwrap_or(0);
                    let start = if matches!(step, Step::Resend(_)) { end.saturating_sub(count) } else { end };
                    let pushes: Vec<Push> = (start..start + count).map(|sequence| {
                        sent.extend(text(ordinal, sequence));
                        lines(ordinal, sequence, &text(ordinal, sequence))
                    }).collect();
                    for receipt in commit(&mut core, pushes) {
                        match receipt.outcome {
                            ReceiptOutcome::Durable | ReceiptOutcome::Duplicate => {
                                let known = acknowledged.entry(ordinal).or_default();
                                *known = receipt.durable_end.max(*known);
                            }
                            ReceiptOutcome::RetryAfter(_) | ReceiptOutcome::Gap(_) | ReceiptOutcome::NeedDictionary(_) => {}
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                }
                Step::Restart => {
                    fs.clear_faults();
                    fs.kill();
                    (core, store) = open(&fs);
                }
                Step::Crash(seed) => {
                    fs.clear_faults();
                    fs.crash(seed);
                    (core, store) = open(&fs);
                }
                Step::NewIncarnation => ordinal += 1,
                Step::Fail(after) => fs.fail_at(fs.operations() + after, Fault::Eio),
                Step::Heal => fs.clear_faults(),
                Step::Housekeep => core.housekeep(),
            }
            for (.., account) in core.watermarks.iter() {
                prop_assert!(account.lost.is_empty(), "nothing is damaged: {:?}", account);
            }
            let lines = found(&store);
            let distinct: BTreeSet<&String> = lines.iter().collect();
            prop_assert_eq!(distinct.len(), lines.len(), "doubled: {:?}", lines);
            for (ordinal, end) in &acknowledged {
                for line in (0..*end).flat_map(|sequence| text(*ordinal, sequence)) {
                    prop_assert!(distinct.contains(&line), "lost: {line}");
                }
            }
            prop_assert!(lines.iter().all(|line| sent.contains(line)));
        }
    }
}

/// One sample a second of one series.
fn samples(sequence: u64, value: f64) -> Push {
    let mut columns = SampleColumns::default();
    let time = NOW.as_millis() + sequence as i64 * 1000;
    columns.push(Timestamp::from_millis(time), 0, value);
    let entries = [Labels::from_pairs([("__name__", "m")])];
    let new: &[Labels] = if sequence == 0 { &entries } else { &[] };
    let body = Encoder::new().unwrap().encode(new, &Body::Samples(columns)).unwrap();
    push(Stream::Metrics, 1, sequence, sequence + 1, u32::from(sequence > 0), body)
}

fn shown(store: &Store) -> Vec<f64> {
    let found = store.db.select(&[], TimeRange::ALL, 10).unwrap();
    let mut samples = Samples::default();
    if !found.is_empty() {
        found.read(0, &mut samples).unwrap();
    }
    samples.values
}

#[test]
fn samples_in_blocks_are_not_read_from_the_spool_again() {
    let (fs, dir) = (FaultFs::new(1), tempfile::tempdir().unwrap());
    let restart = |fs: &FaultFs| open_with(fs, Arc::new(testing::store_in(dir.path())), Duration::ZERO);
    let (mut core, store) = restart(&fs);
    // A start sets apart what the spool had: nothing.
    core.storage.flush(&store);
    commit(&mut core, vec![samples(0, 1.0), samples(1, 2.0)]);
    core.storage.flush(&store);
    // Set apart, and not written when the power goes.
    commit(&mut core, vec![samples(2, 3.0)]);
    assert_eq!((shown(&store), store.db.stats().blocks), (vec![1.0, 2.0, 3.0], 1));
    let account = core.watermarks.account(&Arc::from("a"), Stream::Metrics, incarnation(1)).cloned();
    drop((core, store));
    fs.crash(7);

    let (mut core, store) = restart(&fs);
    assert_eq!(store.db.stats().head.samples, 1, "the others are in a block");
    assert_eq!(shown(&store), [1.0, 2.0, 3.0]);
    assert_eq!(core.watermarks.account(&Arc::from("a"), Stream::Metrics, incarnation(1)).cloned(), account);
    assert_eq!(commit(&mut core, vec![samples(1, 2.0)])[0].outcome, ReceiptOutcome::Duplicate);
    // The dictionary is known still.
    assert_eq!(commit(&mut core, vec![samples(3, 4.0)])[0].outcome, ReceiptOutcome::Durable);
    core.storage.flush(&store);
    assert_eq!(shown(&store), [1.0, 2.0, 3.0, 4.0]);
    drop((core, store));

    // Another spool: what blocks cover says nothing about it. The last sample
    // was in the old one only.
    let fs = FaultFs::new(2);
    let (mut core, store) = restart(&fs);
    commit(&mut core, vec![samples(0, 1.0)]);
    drop((core, store));
    fs.crash(8);
    let (_, store) = restart(&fs);
    assert_eq!((shown(&store), store.db.stats().head.samples), (vec![1.0, 2.0, 3.0], 1));
}

#[test]
fn agents_are_told_to_come_back_while_there_is_no_room_for_samples() {
    let (fs, dir) = (FaultFs::new(1), tempfile::tempdir().unwrap());
    let (mut core, store) =
        open_with(&fs, Arc::new(testing::store_in(dir.path())), Duration::from_secs(3600));
    core.options.samples_bytes_max = 10;
    assert_eq!(commit(&mut core, vec![samples(0, 1.0)])[0].outcome, ReceiptOutcome::Durable);
    let receipts = commit(&mut core, vec![samples(1, 2.0), lines(2, 0, &text(1, 0))]);
    assert!(matches!(receipts[0].outcome, ReceiptOutcome::RetryAfter(_)), "{receipts:?}");
    assert_eq!(receipts[1].outcome, ReceiptOutcome::Durable, "lines have room of their own");
    core.storage.flush(&store);
    assert_eq!(commit(&mut core, vec![samples(1, 2.0)])[0].outcome, ReceiptOutcome::Durable);
    assert_eq!(shown(&store), [1.0, 2.0]);
}

#[test]
fn dictionaries_are_whole_although_covered_batches_are_passed_over() {
    let (fs, dir) = (FaultFs::new(1), tempfile::tempdir().unwrap());
    let restart = |fs: &FaultFs| open_with(fs, Arc::new(testing::store_in(dir.path())), Duration::ZERO);
    let (mut core, store) = restart(&fs);
    core.storage.flush(&store);
    // Each batch adds an entry to the dictionary and uses it.
    let batch = |sequence: u32| {
        let (mut samples, mut histograms) = (SampleColumns::default(), HistogramColumns::default());
        samples.push(NOW, sequence, 1.0);
        histograms.push(NOW, sequence, Arc::default());
        let is_even = sequence.is_multiple_of(2);
        let body = if is_even { Body::Samples(samples) } else { Body::Histograms(histograms) };
        let entry = Labels::from_pairs([("__name__", format!("m{sequence}"))]);
        let body = Encoder::new().unwrap().encode(&[entry], &body).unwrap();
        push(Stream::Metrics, 1, sequence.into(), u64::from(sequence) + 1, sequence, body)
    };
    for sequence in 0..5 {
        assert_eq!(commit(&mut core, vec![batch(sequence)])[0].outcome, ReceiptOutcome::Durable);
        core.storage.flush(&store);
    }
    let key = DictionaryKey { agent: Arc::from("a"), incarnation: incarnation(1), epoch: 0 };
    let sent = |core: &Core<FaultFs>| -> Vec<Labels> {
        core.dictionaries.get(&key).unwrap().entries.iter().map(|entry| entry.sent.clone()).collect()
    };
    let before = sent(&core);
    drop((core, store));
    fs.crash(1);
    let (mut core, store) = restart(&fs);
    assert_eq!(store.db.stats().head.samples, 0, "all are covered");
    assert_eq!(sent(&core), before);
    assert_eq!(commit(&mut core, vec![batch(5)])[0].outcome, ReceiptOutcome::Durable);
    assert_eq!(store.db.label_values("__name__", &[], TimeRange::ALL).unwrap().len(), 6);
}
