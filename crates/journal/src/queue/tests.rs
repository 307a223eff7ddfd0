mod model;

use std::path::Path;

use super::*;
use lm_fs::fault::{Damage, Fault, FaultFs};

const DIR: &str = "/queue";

fn options(on_full: OnFull) -> QueueOptions {
    QueueOptions { bytes_max: 1 << 20, segment_bytes: 64 << 10, on_full, ..QueueOptions::default() }
}

fn open(fs: &FaultFs, on_full: OnFull) -> Queue<FaultFs> {
    open_with(fs, options(on_full)).0
}

fn open_with(fs: &FaultFs, options: QueueOptions) -> (Queue<FaultFs>, Report) {
    Queue::open(fs.clone(), Path::new(DIR), options, Incarnation { ordinal: 1000, nonce: 5 }).expect("open")
}

fn snapshot() -> Vec<u8> {
    b"snapshot".to_vec()
}

fn append(queue: &mut Queue<FaultFs>, stream: u8, number: u8, len: usize) -> Appended {
    queue.append(stream, 10, &vec![number; len], &mut snapshot).expect("append")
}

fn sync(queue: &mut Queue<FaultFs>) {
    queue.sync(&mut snapshot).expect("sync");
}

/// What is handed out next, in short.
fn take(queue: &mut Queue<FaultFs>, stream: u8) -> String {
    let peeked = queue.peek(stream).expect("peek");
    let next = queue.next_unsent(stream).expect("next");
    assert_eq!(peeked, next, "peek shows what comes next");
    match next {
        None => "nothing".into(),
        Some(Pending::Payload { incarnation, sequence, items, payload, .. }) => {
            format!("{}/{sequence}: {items} items of {}", incarnation.ordinal, payload[0])
        }
        Some(Pending::Loss { incarnation, start, end, items, bytes, reason }) => {
            format!("{}/{start}..{end}: lost {items} items, {bytes} bytes, {reason:?}", incarnation.ordinal)
        }
    }
}

fn segments(fs: &FaultFs) -> Vec<std::path::PathBuf> {
    fs.files().into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).collect()
}

#[test]
fn delivers_in_order_after_the_sync_and_again_after_a_rewind() {
    let mut queue = open(&FaultFs::new(0), OnFull::Refuse);
    append(&mut queue, 0, 1, 100);
    assert_eq!(take(&mut queue, 0), "nothing");
    append(&mut queue, 1, 7, 100);
    append(&mut queue, 0, 2, 100);
    sync(&mut queue);
    assert_eq!(take(&mut queue, 0), "1000/0: 10 items of 1");
    assert_eq!(take(&mut queue, 0), "1000/1: 10 items of 2");
    assert_eq!(take(&mut queue, 0), "nothing");
    assert_eq!(take(&mut queue, 1), "1000/0: 10 items of 7");
    queue.acknowledge(0, queue.incarnation(), 1, 0).unwrap();
    queue.rewind(0);
    assert_eq!(take(&mut queue, 0), "1000/1: 10 items of 2");
    assert_eq!(queue.next(0), Next { incarnation: queue.incarnation(), sequence: 2, items_before: 20 });
    let stats = queue.stats();
    assert_eq!(stats.streams[0].pending, Dropped { records: 1, items: 10, bytes: 100 });
    assert_eq!(stats.streams[0].kept_bytes, 100);
    assert_eq!(stats.accepted[0], Dropped { records: 2, items: 20, bytes: 200 });
}

#[test]
fn older_incarnations_come_first_and_keep_their_sequences() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::Refuse);
    append(&mut queue, 0, 1, 100);
    append(&mut queue, 0, 2, 100);
    sync(&mut queue);
    drop(queue);
    fs.crash_with(&mut |_| false);
    let mut queue = open(&fs, OnFull::Refuse);
    assert_eq!(queue.incarnation().ordinal, 1001, "one more than the stored one");
    append(&mut queue, 0, 3, 100);
    sync(&mut queue);
    let resume = [ResumeAt {
        stream: 0,
        incarnation: Incarnation { ordinal: 1000, nonce: 5 },
        durable_end: 1,
        landed_end: 1,
    }];
    queue.resume(&resume).unwrap();
    assert_eq!(take(&mut queue, 0), "1000/1: 10 items of 2");
    assert_eq!(take(&mut queue, 0), "1001/0: 10 items of 3");
    assert_eq!(take(&mut queue, 0), "nothing");
}

#[test]
fn landed_segments_are_removed_and_acknowledgements_survive() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::Refuse);
    for number in 0..20 {
        append(&mut queue, 0, number, 20_000);
    }
    sync(&mut queue);
    let before = segments(&fs).len();
    queue.acknowledge(0, queue.incarnation(), 20, 0).unwrap();
    sync(&mut queue);
    assert_eq!(segments(&fs).len(), before, "kept until landed");
    queue.acknowledge(0, queue.incarnation(), 20, 20).unwrap();
    sync(&mut queue);
    assert_eq!(segments(&fs).len(), 1);
    drop(queue);
    fs.crash_with(&mut |_| false);
    let (mut queue, report) = open_with(&fs, options(OnFull::Refuse));
    assert_eq!(report.corrupt, Dropped::default());
    assert_eq!(take(&mut queue, 0), "nothing", "what was removed was acknowledged durably before");
}

#[test]
fn drop_oldest_declares_exactly_what_went() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropOldest);
    for number in 0..100 {
        append(&mut queue, 0, number, 20_000);
        sync(&mut queue);
        assert!(fs.bytes() <= 1 << 20, "{} bytes", fs.bytes());
    }
    let lost = queue.stats().dropped[&(0, Reason::DropOldest)];
    assert!(lost.records > 50, "{lost:?}");
    assert_eq!((lost.items, lost.bytes), (lost.records * 10, lost.records * 20_000));
    let count = lost.records;
    assert_eq!(
        take(&mut queue, 0),
        format!("1000/0..{count}: lost {} items, {} bytes, DropOldest", lost.items, lost.bytes)
    );
    assert_eq!(take(&mut queue, 0), format!("1000/{count}: 10 items of {count}"));
    // A loss that was handed out keeps its range; what is dropped next is a range of its own, and records in
    // flight are declared one by one.
    for number in 100..110 {
        append(&mut queue, 0, number, 20_000);
    }
    sync(&mut queue);
    queue.rewind(0);
    assert_eq!(
        take(&mut queue, 0),
        format!("1000/0..{count}: lost {} items, {} bytes, DropOldest", lost.items, lost.bytes)
    );
    let next = count + 1;
    assert_eq!(take(&mut queue, 0), format!("1000/{count}..{next}: lost 10 items, 20000 bytes, DropOldest"));
}

#[test]
fn drop_newest_declares_new_batches_in_their_place() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropNewest);
    let mut queued = 0;
    let mut lost = 0;
    for number in 0..200 {
        match append(&mut queue, 0, number, 20_000) {
            Appended::Queued { .. } => queued += 1,
            Appended::Lost { sequence, .. } => {
                assert_eq!(sequence, u64::from(number));
                lost += 1;
            }
        }
        sync(&mut queue);
    }
    assert!(queued > 20 && lost > 100, "{queued} {lost}");
    drop(queue);
    let mut queue = open(&fs, OnFull::DropNewest);
    for number in 0..queued {
        assert_eq!(take(&mut queue, 0), format!("1000/{number}: 10 items of {number}"));
    }
    assert_eq!(
        take(&mut queue, 0),
        format!("1000/{queued}..200: lost {} items, {} bytes, DropNewest", lost * 10, lost * 20_000)
    );
    assert_eq!(take(&mut queue, 0), "nothing");
}

#[test]
fn superseded_losses_do_not_fill_the_disk() {
    let fs = FaultFs::new(0);
    let mut queue = open_with(&fs, QueueOptions { preallocate: false, ..options(OnFull::DropNewest) }).0;
    for number in 0..8000u32 {
        queue.append(0, 1, &[number as u8; 20_000], &mut snapshot).unwrap();
        sync(&mut queue);
    }
    assert!(queue.stats().bytes <= 1 << 20, "{}", queue.stats().bytes);
    assert!(queue.stats().segments < 20);
}

#[test]
fn refuse_assigns_nothing_and_goes_on_when_there_is_room() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::Refuse);
    let mut number = 0;
    while let Ok(appended) = queue.append(2, 10, &[number; 20_000], &mut snapshot) {
        assert!(matches!(appended, Appended::Queued { .. }));
        number += 1;
    }
    assert!(matches!(queue.append(2, 10, &[0; 20_000], &mut snapshot), Err(AppendError::Full)));
    assert_eq!(queue.next(2).sequence, number.into());
    sync(&mut queue);
    queue.acknowledge(2, queue.incarnation(), number.into(), 0).unwrap();
    append(&mut queue, 2, 0, 20_000);
}

#[test]
fn kept_segments_are_trimmed_before_anything_is_lost() {
    let mut queue = open(&FaultFs::new(0), OnFull::DropOldest);
    for number in 0..100 {
        append(&mut queue, 0, number, 20_000);
        sync(&mut queue);
        queue.acknowledge(0, queue.incarnation(), u64::from(number) + 1, 0).unwrap();
    }
    assert_eq!(queue.stats().dropped, BTreeMap::new());
    assert!(queue.stats().streams[0].kept_bytes > 300_000);
}

#[test]
fn a_damaged_record_becomes_a_loss_between_its_neighbours() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::Refuse);
    for number in 0..4 {
        append(&mut queue, 0, number, 1000 + usize::from(number));
        sync(&mut queue);
    }
    assert_eq!(take(&mut queue, 0), "1000/0: 10 items of 0");
    let Some(Pending::Payload { position, .. }) = queue.next_unsent(0).unwrap() else { panic!() };
    fs.damage(&segments(&fs)[0], Damage::Flip { offset: position.offset + 200, mask: 1 });
    queue.rewind(0);
    let expected = [
        "1000/0: 10 items of 0",
        "1000/1..2: lost 10 items, 1001 bytes, Corrupt",
        "1000/2: 10 items of 2",
        "1000/3: 10 items of 3",
        "nothing",
    ];
    // The running process and the next one agree.
    for line in expected {
        assert_eq!(take(&mut queue, 0), line);
    }
    drop(queue);
    let (mut queue, report) = open_with(&fs, options(OnFull::Refuse));
    assert_eq!(report.corrupt, Dropped { records: 1, items: 10, bytes: 1001 });
    for line in expected {
        assert_eq!(take(&mut queue, 0), line);
    }
}

#[test]
fn reassigning_declares_what_the_old_collector_has() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::Refuse);
    for number in 0..4 {
        append(&mut queue, 0, number, 100);
    }
    append(&mut queue, 1, 9, 100);
    queue.pin_cluster(b"one", &mut snapshot).unwrap();
    queue.acknowledge(0, queue.incarnation(), 3, 3).unwrap();
    sync(&mut queue);
    queue.reassign(b"two", &mut snapshot).unwrap();
    drop(queue);
    fs.crash_with(&mut |_| false);
    let mut queue = open(&fs, OnFull::Refuse);
    assert_eq!(queue.cluster(), Some(&b"two"[..]));
    assert_eq!(take(&mut queue, 0), "1000/0..3: lost 30 items, 300 bytes, Reassigned");
    assert_eq!(take(&mut queue, 0), "1000/3: 10 items of 3");
    assert_eq!(take(&mut queue, 1), "1000/0: 10 items of 9");
}

#[test]
fn the_context_of_a_record_is_its_snapshot_and_what_follows() {
    let mut queue = open(&FaultFs::new(0), OnFull::Refuse);
    let mut count = 0u8;
    for number in 0..8 {
        let mut numbered = || vec![number];
        queue.append(0, 1, &[number; 20_000], &mut numbered).unwrap();
    }
    sync(&mut queue);
    while let Some(Pending::Payload { position, sequence, .. }) = queue.next_unsent(0).unwrap() {
        let mut next = None;
        let mut visit = |context: Context<'_>| match context {
            Context::Snapshot(bytes) => next = Some(bytes[0]),
            Context::Payload { payload, .. } => {
                assert_eq!(Some(payload[0]), next);
                next = next.map(|next| next + 1);
            }
        };
        queue.context(position, &mut visit).unwrap();
        assert_eq!(next.map(u64::from), Some(sequence));
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn drop_oldest_gets_through_a_full_disk() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropOldest);
    for number in 0..10 {
        append(&mut queue, 0, number, 20_000);
    }
    sync(&mut queue);
    fs.set_capacity(Some(fs.bytes() + 1000));
    for number in 10..30 {
        append(&mut queue, 0, number, 20_000);
        sync(&mut queue);
    }
    let lost = queue.stats().dropped[&(0, Reason::DropOldest)].records;
    assert!(lost >= 12, "{lost}");
    assert!(take(&mut queue, 0).starts_with(&format!("1000/0..{lost}: lost")));
    for number in lost..30 {
        assert_eq!(take(&mut queue, 0), format!("1000/{number}: 10 items of {number}"));
    }
}

#[test]
fn an_acknowledgement_inside_a_loss_cuts_it() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropOldest);
    for number in 0..60 {
        append(&mut queue, 0, number, 20_000);
    }
    sync(&mut queue);
    let lost = queue.stats().dropped[&(0, Reason::DropOldest)];
    queue.acknowledge(0, queue.incarnation(), 2, 0).unwrap();
    let records = lost.records;
    assert_eq!(
        take(&mut queue, 0),
        format!("1000/2..{records}: lost {} items, {} bytes, DropOldest", lost.items, lost.bytes),
        "items inside a loss cannot be divided: the rest keeps them"
    );
}

#[test]
fn a_loss_is_handed_out_once_it_is_durable() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropOldest);
    while queue.stats().dropped.is_empty() {
        if queue.log.bytes_after(20_000) > queue.limit() {
            fs.fail_randomly(1000, Fault::Eio);
            queue.append(0, 10, &[1; 20_000], &mut snapshot).unwrap_err();
            fs.clear_faults();
        } else {
            append(&mut queue, 0, 1, 20_000);
            sync(&mut queue);
        }
    }
    assert_eq!(take(&mut queue, 0), "nothing", "neither the records nor their loss, which no disk knows");
    sync(&mut queue);
    assert!(take(&mut queue, 0).contains("DropOldest"));
}

/// Fills a queue until it drops; returns how many batches are in it.
fn fill(queue: &mut Queue<FaultFs>) -> u64 {
    loop {
        let appended = append(queue, 0, 1, 20_000);
        sync(queue);
        if let Appended::Lost { sequence, .. } = appended {
            return sequence;
        }
    }
}

#[test]
fn a_loss_that_was_handed_out_never_grows() {
    let mut queue = open(&FaultFs::new(0), OnFull::DropNewest);
    let first = fill(&mut queue);
    while !take(&mut queue, 0).contains("lost") {}
    append(&mut queue, 0, 1, 20_000);
    append(&mut queue, 0, 1, 20_000);
    sync(&mut queue);
    let (second, end) = (first + 1, first + 3);
    assert_eq!(take(&mut queue, 0), format!("1000/{second}..{end}: lost 20 items, 40000 bytes, DropNewest"));
    queue.rewind(0);
    let lines: Vec<String> = (0..first + 2).map(|_| take(&mut queue, 0)).collect();
    let expected = format!("1000/{first}..{second}: lost 10 items, 20000 bytes, DropNewest");
    assert_eq!(lines[first as usize], expected);
}

#[test]
fn no_crash_keeps_a_record_without_the_loss_before_it() {
    let fs = FaultFs::new(0);
    let mut queue = open(&fs, OnFull::DropNewest);
    let count = fill(&mut queue);
    queue.acknowledge(0, queue.incarnation(), count, count).unwrap();
    append(&mut queue, 0, 1, 20_000);
    sync(&mut queue);
    queue.acknowledge(0, queue.incarnation(), count + 1, count + 1).unwrap();
    sync(&mut queue);
    // Lost and not synced, then queued behind it.
    let key = queue.current(0);
    queue.overflow(key, 10, 20_000).unwrap();
    append(&mut queue, 0, 2, 5000);
    queue.flush(&mut snapshot).unwrap();
    drop(queue);
    let pieces = fs.pending_pieces();
    for kept in 0..=pieces {
        let fs = fs.fork();
        fs.crash_with(&mut |piece| piece < kept);
        let (_, report) = open_with(&fs, options(OnFull::DropNewest));
        assert_eq!(report.corrupt, Dropped::default(), "{kept} of {pieces} pieces kept");
    }
}

/// A fixed life under one policy, with a fault at one operation.
#[test]
fn every_single_failing_operation_is_survived() {
    for on_full in [OnFull::DropOldest, OnFull::DropNewest, OnFull::Refuse] {
        let operations = model::scripted_life(on_full, None);
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            for operation in 0..operations {
                model::scripted_life(on_full, Some((operation, fault)));
            }
        }
    }
}
