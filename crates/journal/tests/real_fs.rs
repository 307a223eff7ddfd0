//! The journal on a real directory: permissions, the lock, and a life across reopenings.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lm_fs::RealFs;
use lm_journal::{
    Error, Incarnation, Log, LogOptions, OnFull, Pending, Queue, QueueOptions, Record, RecordHeader,
};

fn open(dir: &Path) -> Queue<RealFs> {
    let options = QueueOptions { bytes_max: 4 << 20, on_full: OnFull::DropOldest, ..QueueOptions::default() };
    Queue::open(RealFs, dir, options, Incarnation { ordinal: 1, nonce: 2 }).expect("open").0
}

fn snapshot() -> Vec<u8> {
    b"dictionary".to_vec()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("stat").permissions().mode() & 0o777
}

#[test]
fn a_queue_lives_across_reopenings() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let dir = temp.path().join("state/queue");
    for life in 1..=3u64 {
        let mut queue = open(&dir);
        assert_eq!(queue.incarnation().ordinal, life);
        for number in 0..50u8 {
            queue.append(0, 1, &[number; 3000], &mut snapshot).expect("append");
        }
        queue.sync(&mut snapshot).expect("sync");
        if life == 2 {
            queue.close(&mut snapshot).expect("close");
        }
    }
    let mut queue = open(&dir);
    let mut seen = Vec::new();
    while let Some(pending) = queue.next_unsent(0).expect("read") {
        let Pending::Payload { incarnation, sequence, payload, .. } = pending else { panic!("{pending:?}") };
        assert_eq!(payload, [sequence as u8; 3000]);
        seen.push((incarnation.ordinal, sequence));
    }
    let expected: Vec<_> = (1..=3).flat_map(|life| (0..50).map(move |sequence| (life, sequence))).collect();
    assert_eq!(seen, expected);
    for life in 1..=3 {
        queue.acknowledge(0, Incarnation { ordinal: life, nonce: 2 }, 50, 50).expect("acknowledge");
    }
    queue.sync(&mut snapshot).expect("sync");
    assert_eq!(queue.stats().segments, 1);
}

#[test]
fn files_and_directories_are_private() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let dir = temp.path().join("queue");
    let mut queue = open(&dir);
    queue.append(0, 1, b"secret", &mut snapshot).expect("append");
    queue.sync(&mut snapshot).expect("sync");
    assert_eq!(mode(&dir), 0o700);
    let names: Vec<_> =
        std::fs::read_dir(&dir).expect("list").map(|entry| entry.expect("entry").path()).collect();
    assert_eq!(names.len(), 3, "a segment, the lock, the reserve: {names:?}");
    for path in names {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_opener_is_told_which_directory_is_taken() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let (log, _) = Log::open(RealFs, temp.path(), LogOptions::default()).expect("open");
    let error = Log::open(RealFs, temp.path(), LogOptions::default()).expect_err("locked");
    assert!(matches!(&error, Error::Locked { path } if path == temp.path()), "{error}");
    drop(log);
    Log::open(RealFs, temp.path(), LogOptions::default()).expect("the lock went with its holder");
}

#[test]
fn a_flushed_record_survives_without_a_sync_as_long_as_the_machine_does() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let (mut log, _) = Log::open(RealFs, temp.path(), LogOptions::default()).expect("open");
    log.roll(&mut Vec::new).expect("roll");
    log.append(&RecordHeader { kind: 1, ..RecordHeader::default() }, b"flushed").expect("append");
    log.flush().expect("flush");
    drop(log);
    let (log, _) = Log::open(RealFs, temp.path(), LogOptions::default()).expect("open");
    let mut cursor = log.cursor_from_start();
    let (_, Record { payload, .. }) = cursor.next(&log).expect("read").expect("a record");
    assert_eq!(payload, b"flushed");
}
