use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::format::parse_name;
use lm_fs::fault::{Damage, Fault, FaultFs, random};

const DIR: &str = "/journal";

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        unsynced_bytes_max: 4096,
        record_bytes_max: 8192,
        preallocate: true,
        tag: *b"0123456789abcdef",
    }
}

fn open(fs: &FaultFs) -> (Log<FaultFs>, Recovered) {
    Log::open(fs.clone(), Path::new(DIR), options()).expect("open")
}

fn no_preamble() -> Vec<Record> {
    Vec::new()
}

fn header(number: u64) -> RecordHeader {
    RecordHeader {
        kind: 7,
        stream: 1,
        items: 3,
        sequence: number,
        sequence_end: number + 1,
        ..Default::default()
    }
}

/// A payload that tells its number and differs in length.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number as usize * 37) % 400, number as u8);
    bytes
}

/// Appends, rolling and syncing as the log asks for.
fn append(log: &mut Log<FaultFs>, number: u64) -> Result<(), Error> {
    let payload = payload(number);
    if log.needs_sync(payload.len() as u64) {
        log.sync(&mut no_preamble)?;
    }
    if log.needs_roll(payload.len() as u64) {
        log.roll(&mut no_preamble)?;
    }
    log.append(&header(number), &payload).map(drop)
}

fn numbers(log: &Log<FaultFs>) -> Vec<u64> {
    let mut cursor = log.cursor_from_start();
    let mut found = Vec::new();
    while let Some((position, record)) = cursor.next(log).expect("read") {
        assert_eq!(record.payload, payload(record.header.sequence));
        assert_eq!(log.read(position).expect("read by position"), record);
        found.push(record.header.sequence);
    }
    found
}

fn segment_files(fs: &FaultFs) -> Vec<PathBuf> {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "seg");
    fs.files().into_iter().filter(is_segment).collect()
}

#[test]
fn synced_records_survive_a_reopen_across_segments() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    for number in 0..50 {
        append(&mut log, number).unwrap();
    }
    let synced = log.sync(&mut no_preamble).unwrap();
    assert!(!synced.moved);
    assert_eq!(numbers(&log), (0..50).collect::<Vec<_>>());
    assert!(log.segments().count() > 3);
    drop(log);
    fs.crash_with(&mut |_| false);
    let (log, recovered) = open(&fs);
    assert_eq!(recovered.quarantined, []);
    assert_eq!(numbers(&log), (0..50).collect::<Vec<_>>());
}

#[test]
fn unsynced_records_are_not_read() {
    let (mut log, _) = open(&FaultFs::new(0));
    append(&mut log, 0).unwrap();
    let at = log.append(&header(1), &payload(1)).unwrap();
    log.flush().unwrap();
    assert_eq!(numbers(&log), []);
    assert!(matches!(log.read(at), Err(Error::NotFound { .. })));
    log.sync(&mut no_preamble).unwrap();
    assert_eq!(log.read(at).unwrap().payload, payload(1));
}

#[test]
fn a_directory_is_opened_once() {
    let fs = FaultFs::new(0);
    let (log, _) = open(&fs);
    let error = Log::open(fs.clone(), Path::new(DIR), options()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "journal directory /journal is already open elsewhere (its lock file is held)"
    );
    drop(log);
    open(&fs);
}

#[test]
fn another_format_version_is_refused_and_left_alone() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    append(&mut log, 0).unwrap();
    log.sync(&mut no_preamble).unwrap();
    drop(log);
    let path = segment_files(&fs).remove(0);
    let mut bytes = fs.contents(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..68]);
    bytes[68..72].copy_from_slice(&crc.to_le_bytes());
    fs.damage(&path, Damage::Delete);
    fs.put(&path, &bytes);
    let error = Log::open(fs.clone(), Path::new(DIR), options()).unwrap_err();
    assert!(matches!(error, Error::Version { version: 9, supported: 1, .. }), "{error}");
    assert_eq!(fs.contents(&path).unwrap(), bytes);
}

#[test]
fn a_failed_sync_moves_unsynced_records_to_a_new_segment() {
    let fs = FaultFs::new(3);
    let (mut log, _) = open(&fs);
    append(&mut log, 0).unwrap();
    log.sync(&mut no_preamble).unwrap();
    append(&mut log, 1).unwrap();
    append(&mut log, 2).unwrap();
    fs.fail_at(fs.operations() + 1, Fault::Eio); // write, then sync
    let synced = log.sync(&mut no_preamble).unwrap();
    assert!(synced.moved);
    assert_eq!(numbers(&log), [0, 1, 2]);
    drop(log);
    fs.kill();
    let (log, recovered) = open(&fs);
    assert_eq!(numbers(&log), [0, 1, 2], "what the given-up segment holds beyond its last sync is void");
    assert_eq!(recovered.quarantined, []);
}

#[test]
fn pages_that_a_failed_sync_left_behind_are_written_again_at_open() {
    for seed in 0..20 {
        let fs = FaultFs::new(seed);
        let (mut log, _) = open(&fs);
        append(&mut log, 0).unwrap();
        log.sync(&mut no_preamble).unwrap();
        append(&mut log, 1).unwrap();
        log.flush().unwrap();
        fs.fail_randomly(1000, Fault::Eio);
        log.sync(&mut no_preamble).unwrap_err();
        fs.clear_faults();
        fs.kill();
        // The next process reads record 1 from the cache; from then on it must not vanish.
        let (log, _) = open(&fs);
        assert_eq!(numbers(&log), [0, 1]);
        drop(log);
        fs.crash_with(&mut |_| false);
        assert_eq!(numbers(&open(&fs).0), [0, 1], "seed {seed}");
    }
}

#[test]
fn bytes_of_another_segment_or_place_are_not_records() {
    let mut image = Vec::new();
    format::encode_record(&mut image, 1, 72, 72, &header(0), &payload(0));
    assert!(format::decode_record_header(&image, 1, 72).is_some());
    assert!(format::decode_record_header(&image, 2, 72).is_none());
    assert!(format::decode_record_header(&image, 1, 80).is_none());
}

#[test]
fn a_full_disk_heals_by_itself() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    append(&mut log, 0).unwrap();
    log.sync(&mut no_preamble).unwrap();
    fs.set_capacity(Some(fs.bytes()));
    let mut number = 1;
    let error = loop {
        if let Err(error) = append(&mut log, number) {
            break error;
        }
        number += 1;
    };
    assert!(error.is_out_of_space(), "{error}");
    let before = numbers(&log);
    assert_eq!(before.first(), Some(&0));
    fs.set_capacity(None);
    append(&mut log, number).unwrap();
    log.sync(&mut no_preamble).unwrap();
    assert_eq!(numbers(&log), (0..=number).collect::<Vec<_>>());
}

#[test]
fn a_segment_starts_with_its_preamble_or_does_not_exist() {
    let snapshot = || vec![Record { header: RecordHeader { kind: 2, ..header(99) }, payload: payload(99) }];
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    log.roll(&mut snapshot.clone()).unwrap();
    for number in 0..4 {
        log.append(&header(number), &payload(number)).unwrap();
    }
    log.flush().unwrap();
    let pieces = fs.pending_pieces();
    assert!(pieces <= 10, "{pieces} pieces are too many to try all subsets");
    for subset in 0..1u32 << pieces {
        let fs = fs.fork();
        fs.crash_with(&mut |piece| subset & (1 << piece) != 0);
        let (log, _) = open(&fs);
        let found = numbers(&log);
        assert!(found.is_empty() || found == [99, 0, 1, 2, 3], "subset {subset:b}: {found:?}");
    }
}

#[test]
fn every_subset_of_unsynced_sectors_keeps_what_was_synced() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    for number in 0..4 {
        append(&mut log, number).unwrap();
    }
    log.sync(&mut no_preamble).unwrap();
    for number in 4..8 {
        log.append(&header(number), &payload(number)).unwrap();
    }
    log.flush().unwrap();
    let pieces = fs.pending_pieces();
    assert!((2..=10).contains(&pieces), "{pieces}");
    for subset in 0..1u32 << pieces {
        let fs = fs.fork();
        fs.crash_with(&mut |piece| subset & (1 << piece) != 0);
        let (log, recovered) = open(&fs);
        assert_eq!(recovered.quarantined, [], "subset {subset:b}: a torn tail is not corruption");
        let found = numbers(&log);
        assert!(
            found.len() >= 4 && found == (0..found.len() as u64).collect::<Vec<_>>(),
            "{subset:b}: {found:?}"
        );
    }
}

#[test]
fn damage_in_the_middle_is_quarantined_and_later_records_survive() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    let mut positions = Vec::new();
    for number in 0..6 {
        append(&mut log, number).unwrap();
        log.sync(&mut no_preamble).unwrap();
        positions.push(log.active.as_ref().unwrap().end());
    }
    drop(log);
    let path = segment_files(&fs).remove(0);
    fs.damage(&path, Damage::Flip { offset: positions[2] + 85, mask: 4 });
    let (log, recovered) = open(&fs);
    assert_eq!(numbers(&log), [0, 1, 2, 4, 5]);
    let range = positions[2]..positions[3];
    assert_eq!(recovered.quarantined, [Quarantined { segment: 1, range }]);
}

#[test]
fn the_footer_is_not_part_of_the_records() {
    let fs = FaultFs::new(0);
    let (mut log, _) = open(&fs);
    append(&mut log, 0).unwrap();
    log.seal().unwrap();
    drop(log);
    let (log, _) = open(&fs);
    assert_eq!(numbers(&log), [0]);
    let end = log.segments().next().unwrap().end;
    drop(log);
    // With a footer, damage to the last record is noticed.
    fs.damage(&segment_files(&fs)[0], Damage::Flip { offset: end - 8, mask: 1 });
    fs.damage(&segment_files(&fs)[0], Damage::Flip { offset: end - 88, mask: 1 });
    let (log, recovered) = open(&fs);
    assert_eq!(numbers(&log), []);
    assert_eq!(recovered.quarantined.len(), 1);
    assert_eq!(recovered.truncated, None);
}

/// A scripted life: appends, syncs, a roll, a removal. Returns the highest number known to be durable.
fn script(log: &mut Log<FaultFs>, appended: &mut u64, synced: &mut Vec<u64>) {
    let mut waiting = Vec::new();
    for round in 0..6 {
        for _ in 0..3 {
            let number = *appended;
            if append(log, number).is_ok() {
                *appended += 1;
                waiting.push(number);
            }
        }
        if round == 3 {
            let _ = log.roll(&mut no_preamble);
        }
        if log.sync(&mut no_preamble).is_ok() {
            synced.append(&mut waiting);
        }
    }
    if log.sync(&mut no_preamble).is_ok() {
        synced.append(&mut waiting);
    }
}

#[test]
fn every_single_failing_operation_is_survived() {
    let operations = {
        let fs = FaultFs::new(0);
        let (mut log, _) = open(&fs);
        script(&mut log, &mut 0, &mut Vec::new());
        fs.operations()
    };
    for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
        for operation in 0..operations + 20 {
            let fs = FaultFs::new(operation);
            fs.fail_at(operation, fault);
            let Ok((mut log, _)) = Log::open(fs.clone(), Path::new(DIR), options()) else { continue };
            let (mut appended, mut synced) = (0, Vec::new());
            script(&mut log, &mut appended, &mut synced);
            fs.clear_faults();
            assert_eq!(
                synced,
                (0..appended).collect::<Vec<_>>(),
                "{fault:?} at {operation}: heals by itself"
            );
            assert_eq!(numbers(&log), synced, "{fault:?} at {operation}");
            for crash in 0..4 {
                let fs = fs.fork();
                if crash == 0 {
                    fs.kill()
                } else {
                    fs.crash(crash)
                };
                let (log, recovered) = open(&fs);
                assert_eq!(numbers(&log), synced, "{fault:?} at {operation}, crash {crash}");
                assert_eq!(recovered.quarantined, [], "{fault:?} at {operation}, crash {crash}");
            }
        }
    }
}

#[test]
fn random_damage_never_stops_an_open_and_costs_only_what_it_touches() {
    for seed in 0..600 {
        let mut rng = seed;
        let fs = FaultFs::new(seed);
        let (mut log, _) = open(&fs);
        for number in 0..40 {
            append(&mut log, number).unwrap();
            if random(&mut rng).is_multiple_of(3) {
                log.sync(&mut no_preamble).unwrap();
            }
        }
        log.seal().unwrap();
        let spans = spans(&log);
        drop(log);
        let files = segment_files(&fs);
        let path = files[random(&mut rng) as usize % files.len()].clone();
        let len = fs.contents(&path).unwrap().len() as u64;
        let offset = random(&mut rng) % len;
        let (damage, touched) = match random(&mut rng) % 4 {
            0 => (Damage::Flip { offset, mask: 1 << (random(&mut rng) % 8) }, offset..offset + 1),
            1 => (Damage::Zero { offset, len: 600 }, offset..offset + 600),
            2 => (Damage::Truncate { len: offset }, offset..len),
            _ => (Damage::Delete, 0..len),
        };
        fs.damage(&path, damage);
        let segment = parse_name(path.file_name().unwrap().to_str().unwrap(), ".seg").unwrap();
        let survivors: Vec<u64> = spans
            .iter()
            .filter(|(_, id, range)| {
                *id != segment || range.end <= touched.start || range.start >= touched.end
            })
            .map(|(number, _, _)| *number)
            .collect();
        let (log, _) = open(&fs);
        let found = numbers(&log);
        assert!(survivors.iter().all(|number| found.contains(number)), "seed {seed}, {damage:?}: {found:?}");
        assert!(found.is_sorted(), "seed {seed}");
        // A second open finds the same.
        drop(log);
        assert_eq!(numbers(&open(&fs).0), found, "seed {seed}");
    }
}

/// A log of several blocks a segment, and what is where in it.
fn large_log(fs: &FaultFs, seed: u64) -> Vec<(u64, SegmentId, Range<u64>)> {
    let mut rng = seed;
    let options = LogOptions { segment_bytes: 40_000, ..options() };
    let (mut log, _) = Log::open(fs.clone(), Path::new(DIR), options).unwrap();
    for number in 0..400 {
        append(&mut log, number).unwrap();
        if random(&mut rng).is_multiple_of(3) {
            log.sync(&mut no_preamble).unwrap();
        }
    }
    log.sync(&mut no_preamble).unwrap();
    if random(&mut rng).is_multiple_of(2) {
        log.seal().unwrap();
    }
    spans(&log)
}

/// Makes bytes of one segment unreadable. Returns its file, its bytes, and the numbers that are not touched.
fn make_unreadable(
    fs: &FaultFs,
    spans: &[(u64, SegmentId, Range<u64>)],
    seed: u64,
) -> (PathBuf, Vec<u8>, Vec<u64>) {
    let mut rng = seed + 1_000_000;
    let files = segment_files(fs);
    let path = files[random(&mut rng) as usize % files.len()].clone();
    let before = fs.contents(&path).unwrap();
    let offset = random(&mut rng) % before.len() as u64;
    let len = 1 + random(&mut rng) % 9000;
    fs.damage(&path, Damage::Unreadable { offset, len });
    let segment = parse_name(path.file_name().unwrap().to_str().unwrap(), ".seg").unwrap();
    let blocks = offset / 4096 * 4096..(offset + len).next_multiple_of(4096);
    let is_touched = |range: &Range<u64>| range.start < blocks.end && blocks.start < range.end;
    let survivors = spans.iter().filter(|(_, id, range)| *id != segment || !is_touched(range));
    (path, before, survivors.map(|(number, ..)| *number).collect())
}

#[test]
fn unreadable_bytes_cost_the_records_in_them_and_the_file_is_kept() {
    for seed in 0..200 {
        let fs = FaultFs::new(seed);
        let spans = large_log(&fs, seed);
        let (path, before, survivors) = make_unreadable(&fs, &spans, seed);
        let (log, recovered) = open(&fs);
        assert_eq!(numbers(&log), survivors, "seed {seed}");
        assert!(!recovered.unreadable.is_empty(), "seed {seed}");
        let aside = path.with_extension("quarantine");
        assert_eq!(recovered.quarantined_files, vec![aside.clone()], "seed {seed}");
        assert_eq!(fs.contents(&aside), Some(before), "seed {seed}");
        // The next open has nothing to read around.
        drop(log);
        let (log, recovered) = open(&fs);
        assert_eq!(numbers(&log), survivors, "seed {seed}");
        assert_eq!(recovered.unreadable, [], "seed {seed}");
    }
}

#[test]
fn reading_around_survives_a_crash_and_a_fault_at_any_time() {
    for seed in 0..6 {
        let fs = FaultFs::new(seed);
        let spans = large_log(&fs, seed);
        let (path, before, survivors) = make_unreadable(&fs, &spans, seed);
        let aside = path.with_extension("quarantine");
        let operations = {
            let fs = fs.fork();
            let began = fs.operations();
            open(&fs);
            fs.operations() - began
        };
        for operation in 0..operations {
            for fault in [Fault::Eio, Fault::Enospc] {
                let fs = fs.fork();
                fs.fail_at(fs.operations() + operation, fault);
                // A disk that does nothing any more from some time on, and then comes back.
                if operation.is_multiple_of(2) {
                    (operation..operations + 50).for_each(|n| fs.fail_at(fs.operations() + n, fault));
                }
                let opened = Log::open(fs.clone(), Path::new(DIR), options()).map(|(log, _)| drop(log));
                fs.clear_faults();
                if operation.is_multiple_of(3) {
                    fs.crash(operation);
                }
                let (log, _) = open(&fs);
                let what = format!("seed {seed}, {fault:?} at {operation} of {operations}, {opened:?}");
                assert_eq!(numbers(&log), survivors, "{what}");
                assert_eq!(fs.contents(&aside).as_ref(), Some(&before), "{what}");
            }
        }
    }
}

#[test]
fn a_file_that_could_not_be_read_once_is_left_alone() {
    let fs = FaultFs::new(1);
    let spans = large_log(&fs, 1);
    let all: Vec<u64> = spans.iter().map(|(number, ..)| *number).collect();
    for operation in 0..60 {
        let fs = fs.fork();
        fs.fail_at(fs.operations() + operation, Fault::Eio);
        let Ok((log, recovered)) = Log::open(fs.clone(), Path::new(DIR), options()) else { continue };
        fs.clear_faults();
        assert_eq!(numbers(&log), all, "at {operation}");
        assert_eq!((recovered.unreadable, recovered.quarantined_files), (vec![], vec![]), "at {operation}");
    }
}

fn spans(log: &Log<FaultFs>) -> Vec<(u64, SegmentId, Range<u64>)> {
    let mut cursor = log.cursor_from_start();
    let mut spans = Vec::new();
    while let Some((at, record)) = cursor.next(log).unwrap() {
        let end = at.offset + record_bytes(record.payload.len() as u64);
        spans.push((record.header.sequence, at.segment, at.offset..end));
    }
    spans
}

#[derive(Debug, Clone)]
enum Step {
    Append,
    Sync,
    Flush,
    Roll,
    Crash(u64),
    Kill,
    Fail { after: u64, fault: Fault },
    Full(bool),
    RemoveOldest,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Eio), Just(Fault::Enospc), Just(Fault::ShortWrite)];
    prop_oneof![
        8 => Just(Step::Append),
        4 => Just(Step::Sync),
        1 => Just(Step::Flush),
        1 => Just(Step::Roll),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
        2 => (0..6u64, fault).prop_map(|(after, fault)| Step::Fail { after, fault }),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::RemoveOldest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    /// The model is a list of numbers: what was synced is there, in order, once; what was not synced may follow.
    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(step(), 1..80)) {
        let fs = FaultFs::new(7);
        let mut log = Some(open(&fs).0);
        let (mut durable, mut waiting): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut next = 0;
        for step in steps {
            let current = log.as_mut().unwrap();
            match step {
                Step::Append => if append(current, next).is_ok() {
                    waiting.push(next);
                    next += 1;
                },
                Step::Sync => if current.sync(&mut no_preamble).is_ok() {
                    durable.append(&mut waiting);
                },
                Step::Flush => { let _ = current.flush(); }
                Step::Roll => { let _ = current.roll(&mut no_preamble); }
                Step::Fail { after, fault } => fs.fail_at(fs.operations() + after, fault),
                Step::Full(is_full) => fs.set_capacity(is_full.then(|| fs.bytes() + 1000)),
                Step::RemoveOldest => {
                    fs.clear_faults();
                    let oldest = current.segments().next().map(|segment| segment.id);
                    if let Some(id) = oldest.filter(|id| current.active() != Some(*id)) {
                        let held: Vec<u64> =
                            spans(current).iter().filter(|span| span.1 == id).map(|span| span.0).collect();
                        if current.remove_segment(id).is_ok() {
                            let _ = fs.sync_dir(Path::new(DIR));
                            durable.retain(|number| !held.contains(number));
                            waiting.retain(|number| !held.contains(number));
                        }
                    }
                }
                Step::Crash(_) | Step::Kill => {
                    drop(log.take());
                    if let Step::Crash(seed) = step { fs.crash(seed) } else { fs.kill() };
                    fs.clear_faults();
                    let (reopened, recovered) = open(&fs);
                    prop_assert_eq!(&recovered.quarantined, &[]);
                    let found = numbers(&reopened);
                    prop_assert!(found.starts_with(&durable), "durable {:?}, found {:?}", durable, found);
                    let extra = &found[durable.len()..];
                    prop_assert!(waiting.starts_with(extra), "waiting {:?}, found {:?}", waiting, extra);
                    durable = found;
                    waiting.clear();
                    log = Some(reopened);
                }
            }
            if !matches!(step, Step::Fail { .. }) {
                fs.clear_faults();
                let found = numbers(log.as_ref().unwrap());
                prop_assert!(found.starts_with(&durable), "durable {:?}, found {:?}", durable, found);
            }
        }
    }
}

/// More with PROPTEST_CASES.
fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}
