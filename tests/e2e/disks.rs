//! Disks that are full and disks that fail, under real processes: nothing is
//! lost, nothing is acknowledged that is not there, and all goes on by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lm_tests::accounting::lines::LineWriter;
use lm_tests::process::Service;
use lm_tests::random::Random;
use lm_tests::tools::{SmallDisk, Strace};
use lm_tests::{System, eventually};

use crate::{SOON, append, expect_lines};

const DISK_BYTES: u64 = 8 << 20;

/// Lines `first..end` of a kilobyte that compress to half of that.
fn write_numbers(log: &Path, first: usize, end: usize) {
    let mut random = Random::new(first as u64);
    let mut text = String::new();
    for number in first..end {
        text.push_str(&format!("n={number} "));
        (0..62).for_each(|_| text.push_str(&format!("{:016x}", random.number())));
        text.push('\n');
    }
    append(log, &text);
}

/// Waits until each of `count` numbered lines is stored, and finds each once.
#[track_caller]
fn expect_numbers(system: &System, count: usize) {
    expect_account(system, count as u64);
    let found = system.api.all_lines("{instance=\"a\"}", "n=").unwrap();
    let number = |line: &str| line.strip_prefix("n=")?.split(' ').next()?.parse().ok();
    let numbers: Vec<usize> = found.iter().filter_map(|line| number(&line.line)).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

#[track_caller]
fn expect_account(system: &System, written: u64) {
    eventually("every line is stored", SOON + SOON, || match system.api.account("a", "logs")? {
        (stored, lost) if stored == written && lost.is_empty() => Ok(()),
        other => Err(format!("{other:?} of {written}")),
    });
}

#[track_caller]
fn expect_log(process: &Service, part: &str) {
    eventually(&format!("{} says {part:?}", process.name), SOON, || {
        if process.log_text().contains(part) { Ok(()) } else { Err(process.tail()) }
    });
}

#[test]
fn a_queue_on_a_full_disk_goes_on_when_there_is_room() {
    let mut system = System::new(&["a"]);
    let Some(disk) = SmallDisk::mount(&system.agents[0].queue, DISK_BYTES) else { return };
    let agent = system.agent("a");
    agent.config.set_text("queue.on_full", "refuse");
    agent.config.set_text("queue.segment_bytes", "256KiB");
    system.write_configs();
    let log = system.agents[0].logs.join("app.log");
    write_numbers(&log, 0, 100);
    // Alone: what is queued stays queued.
    system.agents[0].process.start();
    expect_log(&system.agents[0].process, "started");
    eventually("something is queued", SOON, || match segments(&system.agents[0].queue).len() {
        0 => Err("no segment".to_owned()),
        _ => Ok(()),
    });
    disk.fill();
    write_numbers(&log, 100, 3000);
    expect_log(&system.agents[0].process, "No space left on device");
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    assert!(system.agents[0].process.is_running());
    let tries = system.agents[0].process.log_text().matches("cannot be synced").count();
    assert!(tries < 20, "{tries} tries in some seconds");
    disk.free();
    expect_numbers(&system, 3000);
    let (_, lost) = system.api.account("a", "metrics").unwrap();
    assert_eq!(lost, BTreeMap::new());
    system.wait_agent("a");
}

#[test]
fn a_spool_on_a_full_disk_goes_on_when_there_is_room() {
    let mut system = System::new(&["a"]);
    let Some(disk) = SmallDisk::mount(&system.path("collector"), DISK_BYTES) else { return };
    system.collector_config.set_text("storage.segment_bytes", "1MiB");
    system.write_configs();
    system.start();
    let log = system.agents[0].logs.join("app.log");
    write_numbers(&log, 0, 100);
    expect_numbers(&system, 100);
    disk.fill();
    write_numbers(&log, 100, 3000);
    expect_log(&system.collector, "cannot write the spool");
    // What was acknowledged is still found, what is not on disk is not.
    let found = system.api.all_lines("{instance=\"a\"}", "n=").unwrap().len();
    let (stored, _) = system.api.account("a", "logs").unwrap();
    assert!((100..3000).contains(&found), "{found} found, {stored} stored");
    assert!(system.collector.is_running() && system.agents[0].process.is_running());
    disk.free();
    expect_numbers(&system, 3000);
    system.collector.kill();
    system.collector.start();
    system.wait_collector();
    eventually("the gateway has a session again", SOON, || system.api.losses());
    expect_numbers(&system, 3000);
}

/// Which process has a disk that fails.
#[derive(Clone, Copy)]
enum Whose {
    Agent,
    Collector,
}

fn process(system: &mut System, whose: Whose) -> &mut Service {
    match whose {
        Whose::Agent => &mut system.agents[0].process,
        Whose::Collector => &mut system.collector,
    }
}

/// Writes lines while syncs fail as `when` says.
fn with_failing_syncs(whose: Whose, when: &str, test: impl FnOnce(&mut System, &mut LineWriter)) {
    let Some(strace) = Strace::find() else { return };
    let mut system = System::new(&["a"]);
    let log = system.path("strace");
    let fault = format!("error=EIO:when={when}");
    process(&mut system, whose).set_wrapper(strace.inject("fdatasync", &fault, None, &log));
    system.start();
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    test(&mut system, &mut writer);
    let calls = std::fs::read_to_string(&log).unwrap();
    expect_never_again(&calls);
}

/// A file whose sync failed is never synced again: the kernel would say that
/// all is well.
#[track_caller]
fn expect_never_again(calls: &str) {
    let mut failed: Vec<&str> = Vec::new();
    let mut times = 0;
    for line in calls.lines() {
        let Some(path) = line.split(['<', '>']).nth(1) else { continue };
        assert!(!failed.contains(&path), "{path} was synced again:\n{calls}");
        if line.contains("EIO") && line.contains("INJECTED") {
            failed.push(path);
            times += 1;
        }
    }
    assert!(times > 0, "no sync failed:\n{calls}");
}

/// Syncs fail now and then.
fn now_and_then(whose: Whose) {
    with_failing_syncs(whose, "4+3", |system, writer| {
        for _ in 0..10 {
            writer.write(20);
            expect_account(system, writer.written());
        }
        expect_lines(&system.api, "a", writer.written(), SOON);
        process(system, whose).set_wrapper(Vec::new());
        process(system, whose).kill();
        process(system, whose).start();
        system.wait_ready();
        eventually("the gateway has a session", SOON, || system.api.losses());
        expect_lines(&system.api, "a", writer.written(), SOON);
        expect_account(system, writer.written());
    });
}

#[test]
fn the_agent_survives_a_failing_sync() {
    now_and_then(Whose::Agent);
}

#[test]
fn the_collector_survives_a_failing_sync() {
    now_and_then(Whose::Collector);
}

/// Syncs fail from some time on: nothing is accepted or acknowledged any more.
fn from_now_on(whose: Whose, says: &str) {
    with_failing_syncs(whose, "8+", |system, writer| {
        writer.write(20);
        expect_log(process(system, whose), says);
        writer.write(20);
        let tries = |system: &mut System| process(system, whose).log_text().matches(says).count();
        let before = tries(system);
        eventually("it tries again and again", SOON, || match tries(system) - before {
            0..3 => Err(process(system, whose).tail()),
            _ => Ok(()),
        });
        let (stored, _) = system.api.account("a", "logs").unwrap_or_default();
        let found = system.api.all_lines("{instance=\"a\"}", "p=0").unwrap().len() as u64;
        assert!(stored <= 20 && found <= 20, "{stored} stored, {found} found");
        assert!(process(system, whose).is_running());
        process(system, whose).set_wrapper(Vec::new());
        process(system, whose).kill();
        process(system, whose).start();
        system.wait_ready();
        eventually("the gateway has a session", SOON, || system.api.losses());
        expect_lines(&system.api, "a", writer.written(), SOON);
        expect_account(system, writer.written());
    });
}

#[test]
fn an_agent_that_cannot_sync_sends_nothing() {
    from_now_on(Whose::Agent, "cannot be synced");
}

#[test]
fn a_collector_that_cannot_sync_acknowledges_nothing() {
    from_now_on(Whose::Collector, "nothing of this group is acknowledged");
}

/// Makes the second of the segments in `dir` unreadable for the next start of
/// a process, as long as recovery reads it. Answers its path and its bytes.
fn make_unreadable(strace: &Strace, system: &mut System, whose: Whose, dir: &Path) -> (PathBuf, Vec<u8>) {
    let segments = segments(dir);
    assert!(segments.len() > 3, "{segments:?}");
    let segment = segments[1].clone();
    let bytes = std::fs::read(&segment).unwrap();
    // Its header, and each block twice: what takes its place can be read.
    let reads = 1 + 2 * bytes.len().div_ceil(4096);
    let log = system.path("strace");
    let wrapper = strace.inject("pread64", &format!("error=EIO:when=1..{reads}"), Some(&segment), &log);
    process(system, whose).set_wrapper(wrapper);
    (segment, bytes)
}

/// Demands that exactly what was in the unreadable segment is declared lost,
/// and that the segment was kept.
#[track_caller]
fn expect_hole(system: &System, count: usize, segment: &Path, bytes: &[u8]) {
    let (stored, lost) = eventually("every line is accounted for", SOON + SOON, || {
        let (stored, lost) = system.api.account("a", "logs")?;
        let sum = stored + lost.values().sum::<u64>();
        if sum == count as u64 { Ok((stored, lost)) } else { Err(format!("{stored} stored, {lost:?}")) }
    });
    let found = system.api.all_lines("{instance=\"a\"}", "n=").unwrap();
    let number = |line: &str| line.strip_prefix("n=")?.split(' ').next()?.parse().ok();
    let numbers: Vec<usize> = found.iter().filter_map(|line| number(&line.line)).collect();
    assert_eq!(numbers.len() as u64, stored);
    let holes: Vec<_> = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    let [hole] = holes[..] else { panic!("{holes:?}") };
    assert_eq!((numbers[0], numbers[numbers.len() - 1]), (0, count - 1));
    assert_eq!(lost, BTreeMap::from([("corrupt".to_owned(), (hole[1] - hole[0] - 1) as u64)]));
    assert_eq!(std::fs::read(segment.with_extension("quarantine")).unwrap(), bytes);
}

#[test]
fn an_unreadable_queue_segment_is_declared_lost_and_kept() {
    let Some(strace) = Strace::find() else { return };
    let mut system = System::new(&["a"]);
    let agent = system.agent("a");
    agent.config.set_text("queue.segment_bytes", "256KiB");
    agent.config.set_text("shutdown_timeout", "1s");
    agent.config.set("metrics.host", false);
    system.write_configs();
    write_numbers(&system.agents[0].logs.join("app.log"), 0, 2500);
    system.agents[0].process.start();
    let queue = system.agents[0].queue.clone();
    let mut before = 0;
    eventually("all lines are queued", SOON, || {
        let bytes = segments(&queue).iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
        let is_growing = std::mem::replace(&mut before, bytes) != bytes;
        if bytes > 1_200_000 && !is_growing { Ok(()) } else { Err(format!("{bytes} bytes")) }
    });
    system.agents[0].process.stop();
    let (segment, bytes) = make_unreadable(&strace, &mut system, Whose::Agent, &queue);
    system.start();
    expect_log(&system.agents[0].process, "kept aside");
    expect_hole(&system, 2500, &segment, &bytes);
}

#[test]
fn an_unreadable_spool_segment_is_declared_lost_and_kept() {
    let Some(strace) = Strace::find() else { return };
    let mut system = System::new(&["a"]);
    system.collector_config.set_text("storage.segment_bytes", "1MiB");
    system.write_configs();
    system.start();
    write_numbers(&system.agents[0].logs.join("app.log"), 0, 8000);
    expect_numbers(&system, 8000);
    system.collector.kill();
    let spool = system.path("collector/spool");
    let (segment, bytes) = make_unreadable(&strace, &mut system, Whose::Collector, &spool);
    system.collector.start();
    system.wait_collector();
    eventually("the gateway has a session", SOON, || system.api.losses());
    expect_log(&system.collector, "kept aside");
    expect_hole(&system, 8000, &segment, &bytes);
}

/// Oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
    let mut found: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect();
    found.sort();
    found
}
