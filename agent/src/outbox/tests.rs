use lm_model::{Labels, Timestamp};
use lm_schema::batch::Kind;

use super::*;
use crate::queue_handle::DictionaryPart;
use crate::sources::logs::{Fingerprint, Line, LineSink, StreamIndex};
use crate::sources::{Measurement, SeriesTable};

struct Bench {
    dir: tempfile::TempDir,
    settings: Settings,
}

impl Bench {
    fn new(on_full: OnFull) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.queue.dir = dir.path().join("queue");
        settings.queue.bytes_max = 4 << 20;
        settings.queue.segment_bytes = 64 << 10;
        settings.queue.on_full = on_full;
        Bench { dir, settings }
    }

    fn open(&self) -> Outbox {
        assert!(self.dir.path().exists());
        Outbox::open(&self.settings, 1000).unwrap()
    }
}

fn cursor(offset: u64) -> FileCursor {
    FileCursor {
        key: FileKey { device: 1, inode: 2 },
        fingerprint: Fingerprint { crc32c: 3, bytes: offset.min(1024) as u16 },
        offset,
        path: "/a.log".into(),
    }
}

/// Appends a line of `bytes` bytes that do not compress.
fn append_line(outbox: &mut Outbox, number: u64, bytes: usize) -> Stored {
    let mut sink = LineSink::default();
    let mut state = number + 1;
    for _ in 0..bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sink.bytes.push((state >> 56) as u8);
    }
    sink.lines.push(Line { stream: StreamIndex(0), time_unix_nano: 1, range: 0..bytes, continues: false });
    let labels = Labels::from_pairs([("filename", "/a.log")]);
    let draft = outbox.batcher.draft_logs(&sink, |_| Some(&labels)).unwrap();
    outbox.append(draft, &[cursor(number + 1)]).unwrap()
}

fn append_series(outbox: &mut Outbox, names: &[&str]) {
    let mut table = SeriesTable::new(100);
    let measured: Vec<_> = names
        .iter()
        .map(|name| Measurement { series: table.get_or_insert(name, &[]).unwrap(), value: 1.0 })
        .collect();
    outbox.batcher.next_epoch();
    for names in 1..=names.len() {
        let mut rest = &measured[..names];
        let draft = outbox.batcher.draft_samples(Timestamp::from_millis(1), &mut rest, &table);
        assert_eq!(outbox.append(draft.unwrap().unwrap(), &[]).unwrap(), Stored::Accepted);
    }
}

#[test]
fn positions_come_back_from_the_queue_alone() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    for number in 0..200 {
        assert_eq!(append_line(&mut outbox, number, 1000), Stored::Accepted);
        outbox.sync().unwrap();
    }
    drop(outbox);
    let outbox = bench.open();
    assert_eq!(outbox.cursors().collect::<Vec<_>>(), [&cursor(200)]);
    outbox.close().unwrap();
    assert_eq!(bench.open().cursors().collect::<Vec<_>>(), [&cursor(200)]);
}

#[test]
fn nothing_is_handed_out_before_it_is_durable() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    append_line(&mut outbox, 0, 10);
    assert_eq!(outbox.fetch(Stream::Logs).unwrap(), None);
    outbox.sync().unwrap();
    let fetched = outbox.fetch(Stream::Logs).unwrap().unwrap();
    assert_eq!((fetched.header.id.sequence, fetched.header.kind), (0, Kind::Logs));
    assert_eq!(outbox.fetch(Stream::Logs).unwrap(), None);
    outbox.rewind(Stream::Logs);
    assert_eq!(outbox.fetch(Stream::Logs).unwrap(), Some(fetched));
}

#[test]
fn a_full_queue_refuses_and_forgets_the_draft() {
    let bench = Bench::new(OnFull::Refuse);
    let mut outbox = bench.open();
    let mut accepted = 0;
    while append_line(&mut outbox, accepted, 50_000) == Stored::Accepted {
        outbox.sync().unwrap();
        accepted += 1;
    }
    assert!(accepted > 10);
    assert_eq!(outbox.cursors().next(), Some(&cursor(accepted)));
    let counters = Counters::default();
    let facts = outbox.facts(&counters);
    assert_eq!((facts.pending_batches, counters.dropped_total()), (accepted, 0));
}

#[test]
fn dropped_batches_are_handed_out_as_a_loss() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    for number in 0..100 {
        append_line(&mut outbox, number, 50_000);
        outbox.sync().unwrap();
    }
    let loss = outbox.fetch(Stream::Logs).unwrap().unwrap();
    let next = outbox.fetch(Stream::Logs).unwrap().unwrap();
    assert_eq!((loss.header.kind, loss.header.id.sequence, loss.position), (Kind::Loss, 0, None));
    assert_eq!(
        (loss.header.sequence_end, next.header.items_before),
        (next.header.id.sequence, next.header.id.sequence)
    );
    let counters = Counters::default();
    let facts = outbox.facts(&counters);
    let dropped: Vec<_> = counters.drops().collect();
    assert_eq!(dropped, [(Stream::Logs, LossReason::QueueFullOldest, loss.header.sequence_end)]);
    assert!(!facts.is_empty && facts.pending_bytes < facts.capacity_bytes);
}

#[test]
fn a_dictionary_is_rebuilt_as_it_was() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    append_series(&mut outbox, &["a", "b", "c"]);
    // Later segments begin with a snapshot of all three.
    for number in 0..200 {
        append_line(&mut outbox, number, 1000);
    }
    append_series(&mut outbox, &["d"]);
    outbox.sync().unwrap();
    let mut found = Vec::new();
    while let Some(batch) = outbox.fetch(Stream::Metrics).unwrap() {
        let DictionaryPart { epoch, entries, .. } =
            outbox.dictionary(&batch.header, batch.position.unwrap()).unwrap();
        found.push((epoch, entries.iter().map(|entry| entry.metric_name().to_owned()).collect::<String>()));
    }
    let expected = [(1, ""), (1, "a"), (1, "ab"), (2, "")];
    assert_eq!(found, expected.map(|(epoch, names)| (epoch, names.to_owned())));

    let mut last = None;
    while let Some(batch) = outbox.fetch(Stream::Logs).unwrap() {
        last = Some(batch);
    }
    let last = last.unwrap();
    assert_eq!(last.header.dictionary_length, 4);
    let part = outbox.dictionary(&last.header, last.position.unwrap()).unwrap();
    assert_eq!(part.entries.len(), 4);
}

#[test]
fn a_batch_without_its_dictionary_becomes_a_loss() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    append_line(&mut outbox, 0, 10);
    append_line(&mut outbox, 1, 10);
    outbox.sync().unwrap();
    outbox.fetch(Stream::Logs).unwrap();
    let mut second = outbox.fetch(Stream::Logs).unwrap().unwrap();
    second.header.dictionary_length = 99;
    let error = outbox.dictionary(&second.header, second.position.unwrap()).err().unwrap();
    assert_eq!(error.to_string(), "1 of 99 entries of epoch 0 are readable");
    outbox.rewind(Stream::Logs);
    let first = outbox.fetch(Stream::Logs).unwrap().unwrap();
    assert_eq!(first.header.kind, Kind::Logs);
    let loss = outbox.fetch(Stream::Logs).unwrap().unwrap();
    assert_eq!(
        (loss.header.kind, loss.header.id, loss.header.items_before),
        (Kind::Loss, second.header.id, 1)
    );
}

#[test]
fn a_queue_belongs_to_one_cluster() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    assert!(outbox.begin(b"one", &[]).unwrap());
    assert!(!outbox.begin(b"two", &[]).unwrap());
    assert!(outbox.begin(b"", &[]).is_err());
    assert!(outbox.begin(&[0; 65], &[]).is_err());
    drop(outbox);
    let mut outbox = bench.open();
    assert_eq!(outbox.cluster_id(), b"one");
    outbox.reassign().unwrap();
    assert!(outbox.begin(b"two", &[]).unwrap());
    assert_eq!(outbox.cluster_id(), b"two");
}

#[test]
fn a_lost_queue_goes_on_above_what_the_collector_knows() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    append_line(&mut outbox, 0, 10);
    outbox.sync().unwrap();
    let low = outbox.fetch(Stream::Logs).unwrap().unwrap().header.id.incarnation;
    let known = Incarnation { ordinal: low.ordinal + 1_000_000, nonce: 9 };
    let resume = [Resume { stream: Stream::Logs, incarnation: known, durable_end: 70, landed_end: 70 }];
    assert!(outbox.begin(b"one", &resume).unwrap());
    let facts = outbox.facts(&Counters::default());
    assert_eq!((facts.incarnation.ordinal, facts.ends), (known.ordinal + 1, [0; 3]));
    append_line(&mut outbox, 1, 10);
    outbox.sync().unwrap();
    // What was queued keeps its place and goes first; what is new begins anew.
    let first = outbox.fetch(Stream::Logs).unwrap().unwrap().header;
    let second = outbox.fetch(Stream::Logs).unwrap().unwrap();
    assert_eq!((first.id.incarnation, first.id.sequence), (low, 0));
    assert_eq!((second.header.id.incarnation, second.header.id.sequence), (facts.incarnation, 0));
    assert_eq!((second.header.dictionary_length, second.header.items_before), (0, 0));
    let part = outbox.dictionary(&second.header, second.position.unwrap()).unwrap();
    assert_eq!((part.incarnation, part.entries.len()), (facts.incarnation, 0));
    // Once: a queue that is somebody's never does it, or a copy could.
    let later = Incarnation { ordinal: known.ordinal + 5, nonce: 9 };
    let resume = [Resume { stream: Stream::Logs, incarnation: later, durable_end: 70, landed_end: 70 }];
    assert!(outbox.begin(b"one", &resume).unwrap());
    assert_eq!(outbox.facts(&Counters::default()).incarnation, facts.incarnation);
    drop(outbox);
    let next = bench.open().facts(&Counters::default()).incarnation;
    assert_eq!(next.ordinal, known.ordinal + 2, "and it is remembered");
}

#[test]
fn acknowledged_batches_are_not_handed_out_again() {
    let bench = Bench::new(OnFull::DropOldest);
    let mut outbox = bench.open();
    for number in 0..3 {
        append_line(&mut outbox, number, 10);
    }
    outbox.sync().unwrap();
    let first = outbox.fetch(Stream::Logs).unwrap().unwrap().header.id;
    let end = Acknowledgement {
        stream: Stream::Logs,
        incarnation: first.incarnation,
        durable_end: 2,
        landed_end: 2,
    };
    outbox.acknowledge(&end).unwrap();
    outbox.rewind(Stream::Logs);
    assert_eq!(outbox.fetch(Stream::Logs).unwrap().unwrap().header.id.sequence, 2);
    let resume =
        Resume { stream: Stream::Logs, incarnation: first.incarnation, durable_end: 3, landed_end: 3 };
    outbox.begin(b"one", &[resume]).unwrap();
    assert_eq!(outbox.fetch(Stream::Logs).unwrap(), None);
    assert!(outbox.facts(&Counters::default()).is_empty);
}
