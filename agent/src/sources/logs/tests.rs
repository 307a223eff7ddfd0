//! Real files that grow, move and vanish.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_700_000_000_000_000_000;

fn room(bytes: usize) -> Room {
    Room { bytes, lines: usize::MAX, streams: usize::MAX, stream_bytes: 0 }
}

/// A directory, a source that follows `app*.log` in it, and a consumer that
/// stores lines and cursors together.
struct Tail {
    dir: tempfile::TempDir,
    now: Instant,
    options: LogsOptions,
    source: LogsSource,
    sink: LineSink,
    stored: BTreeMap<FileKey, Vec<u8>>,
    lines: Vec<(String, Vec<u8>)>,
    events: Vec<LogEvent>,
}

impl Tail {
    fn new() -> Self {
        Tail::with(|options| options.from = ReadFrom::Beginning)
    }

    fn with(set: impl FnOnce(&mut LogsOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let globs = vec![format!("{}/app*.log", dir.path().display())];
        let mut options = LogsOptions { globs, ..LogsOptions::default() };
        set(&mut options);
        let source = LogsSource::new(options.clone(), Vec::new()).unwrap();
        let (stored, lines, events) = Default::default();
        Tail { dir, now: Instant::now(), options, source, sink: LineSink::default(), stored, lines, events }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// The kernel's clock of files ticks every few milliseconds: what a test
    /// writes within one tick has one time.
    fn set_age(&self, name: &str, age: Duration) {
        let file = File::options().append(true).open(self.path(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// A second after the last time.
    fn discover(&mut self) -> DiscoverReport {
        self.now += Duration::from_secs(1);
        let report = self.source.discover(self.now);
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        report
    }

    /// Reads at most `budget` bytes or a line, without storing them.
    fn poll(&mut self, budget: usize) -> PollOutcome {
        let outcome = self.source.poll(&room(budget), NOW, &mut self.sink);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        outcome
    }

    fn commit(&mut self) {
        for line in &self.sink.lines {
            let name = self.source.labels(line.stream).unwrap().get("filename").unwrap();
            let name = Path::new(name).file_name().unwrap().to_str().unwrap().to_owned();
            self.lines.push((name, self.sink.line(line).to_vec()));
        }
        for key in &self.sink.forgotten {
            self.stored.remove(key);
        }
        for cursor in &self.sink.cursors {
            self.stored.insert(cursor.key, cursor.to_bytes());
        }
        self.events.append(&mut self.sink.events);
        self.sink.clear();
        self.source.commit();
        for cursor in self.source.cursors().filter(|cursor| self.stored.contains_key(&cursor.key)) {
            let stored = FileCursor::from_bytes(&self.stored[&cursor.key]).unwrap();
            assert_eq!(stored, cursor, "what is stored is what the source thinks is stored");
        }
    }

    fn rollback(&mut self) {
        self.sink.clear();
        self.source.rollback();
    }

    /// Discovers, reads everything, stores it.
    fn catch_up(&mut self) {
        self.discover();
        while self.poll(64 << 10).has_more {}
        self.commit();
    }

    /// What was not stored is forgotten.
    fn restart(&mut self) {
        self.sink.clear();
        let cursors = self.stored.values().map(|bytes| FileCursor::from_bytes(bytes).unwrap());
        self.source = LogsSource::new(self.options.clone(), cursors.collect()).unwrap();
    }

    /// Takes the stored lines as `name:line`, joined by spaces.
    fn taken(&mut self) -> String {
        let lines = self.lines.drain(..);
        let lines: Vec<String> = lines
            .map(|(name, line)| format!("{}:{}", name.trim_end_matches(".log"), line.escape_ascii()))
            .collect();
        lines.join(" ")
    }
}

#[test]
fn growth_and_partial_lines() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n2\r\n\n3 is not");
    tail.append("other.log", "x\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:");
    let key = tail.source.cursors().next().unwrap().key;
    assert_eq!(tail.source.cursors().next().unwrap().offset, 6);

    tail.catch_up();
    assert_eq!(tail.taken(), "");
    tail.restart();
    tail.append("app.log", " complete\n");
    tail.append("app2.log", b"\xff\xfe\x00\n");
    tail.catch_up();
    assert_eq!(tail.taken(), r"app:3 is not complete app2:\xff\xfe\x00");
    assert!(tail.stored.contains_key(&key));
    assert_eq!(tail.events, []);
}

#[test]
fn nothing_is_given_out_twice_or_lost_by_rollback() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n2\n3\n");
    tail.discover();
    tail.poll(1);
    tail.poll(1);
    assert_eq!(tail.sink.lines.len(), 2);
    assert_eq!(tail.sink.cursors.len(), 1);
    assert_eq!(tail.sink.cursors[0].offset, 4);
    tail.rollback();
    tail.poll(1);
    tail.commit();
    assert_eq!(tail.taken(), "app:1");
    tail.poll(100);
    tail.rollback();
    tail.poll(100);
    tail.commit();
    assert_eq!(tail.taken(), "app:2 app:3");
}

#[test]
fn a_poll_with_nothing_new_has_nothing_to_store() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\npart");
    tail.catch_up();
    assert_eq!(tail.poll(100).line_count, 0);
    assert!(tail.sink.is_empty());
}

#[test]
fn a_first_run_may_begin_at_the_end() {
    let mut tail = Tail::with(|options| options.from = ReadFrom::End);
    tail.append("app.log", "old\nold too\nhalf");
    tail.catch_up();
    assert_eq!(tail.taken(), "");
    tail.append("app.log", " done\nnew\n");
    tail.append("app-late.log", "a\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:half done app:new app-late:a");

    // The end of the first run, not of the second: what took the place of a
    // known file continues it, and what came while we were stopped is new.
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "after\n");
    tail.append("app.log.1", "before\n");
    tail.append("app-stopped.log", "b\n");
    tail.restart();
    tail.catch_up();
    // Different paths come in any order, files of one path in theirs.
    tail.lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(tail.taken(), "app-stopped:b app:before app:after");
}

#[test]
fn the_end_of_the_first_run_is_stored_at_once() {
    let mut tail = Tail::with(|options| options.from = ReadFrom::End);
    tail.append("app.log", "old\n".repeat(1000));
    tail.catch_up();
    tail.restart();
    tail.append("app.log", "new\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:new");
}

#[test]
fn rename_rotation_reads_the_old_file_first() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n");
    tail.catch_up();
    tail.append("app.log", "2\n3\n");
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "4\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:3 app:4");

    // A program that has not reopened its log yet.
    tail.append("app.log.1", "late\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:late");
    assert_eq!(tail.events, []);
}

#[test]
fn rename_rotation_while_stopped() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n2");
    tail.catch_up();
    tail.restart();
    tail.append("app.log", "\n3\n");
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "4\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:3 app:4");

    tail.restart();
    tail.catch_up();
    assert_eq!(tail.taken(), "");
    assert_eq!(tail.events, []);
}

#[test]
fn generations_that_nobody_saw_are_read_in_order() {
    for restarts in [false, true] {
        let mut tail = Tail::new();
        tail.append("app.log.1", "before our time\n");
        tail.append("app.log", "1\n");
        tail.catch_up();
        for generation in 2..6 {
            for number in (1..generation + 1).rev() {
                let _ = fs::rename(
                    tail.path(&format!("app.log.{number}")),
                    tail.path(&format!("app.log.{}", number + 1)),
                );
            }
            tail.rename("app.log", "app.log.1");
            tail.append("app.log", format!("{generation}\n"));
        }
        if restarts {
            tail.restart();
        }
        tail.catch_up();
        assert_eq!(tail.taken(), "app:1 app:2 app:3 app:4 app:5");
        tail.catch_up();
        assert_eq!(tail.taken(), "");
    }
}

#[test]
fn dated_generations() {
    let mut tail = Tail::new();
    tail.append("app.log-20260129", "before our time\n");
    tail.append("app.log", "1\n");
    tail.catch_up();
    tail.rename("app.log", "app.log-20260130");
    tail.append("app.log-20260131", "2\n");
    tail.append("app.log-20260131.gz", "never\n");
    tail.append("app.log", "3\n");
    tail.restart();
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:3");
}

#[test]
fn a_glob_may_match_rotated_names() {
    let mut tail = Tail::new();
    tail.options.globs = vec![format!("{}/app.log*", tail.dir.path().display())];
    tail.restart();
    tail.append("app.log", "1\n");
    tail.catch_up();
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "2\n");
    tail.catch_up();
    tail.rename("app.log.1", "app.log.2");
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "3\n");
    tail.restart();
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:3");
}

#[test]
fn copytruncate_is_declared_and_read_from_the_beginning() {
    for restarts in [false, true] {
        let mut tail = Tail::new();
        tail.append("app.log", "first\nsecond\n");
        tail.catch_up();
        tail.append("app.log", "half");
        tail.poll(100);
        fs::copy(tail.path("app.log"), tail.path("app.log.1")).unwrap();
        File::create(tail.path("app.log")).unwrap();
        tail.append("app.log", "third\n");
        if restarts {
            tail.restart();
        }
        tail.catch_up();
        assert_eq!(tail.taken(), "app:first app:second app:third");
        let bytes_unread = if restarts { None } else { Some(4) };
        assert_eq!(tail.events, [LogEvent::Truncated { path: tail.path("app.log"), bytes_unread }]);
    }
}

#[test]
fn copytruncate_with_more_than_before_is_seen_by_the_fingerprint() {
    for restarts in [false, true] {
        let mut tail = Tail::new();
        tail.append("app.log", "first\n");
        tail.catch_up();
        File::create(tail.path("app.log")).unwrap();
        tail.append("app.log", "1\n2\n3\n4\n5\n");
        if restarts {
            tail.restart();
        }
        tail.catch_up();
        assert_eq!(tail.taken(), "app:first app:1 app:2 app:3 app:4 app:5");
        assert_eq!(tail.events.len(), 1);
    }
}

#[test]
fn truncation_before_a_commit_waits_for_it() {
    for commits in [false, true] {
        let mut tail = Tail::new();
        tail.append("app.log", "one\n");
        tail.catch_up();
        tail.append("app.log", "two\n");
        tail.poll(100);
        File::create(tail.path("app.log")).unwrap();
        tail.append("app.log", "3\n");
        tail.poll(100);
        assert_eq!(tail.sink.lines.len(), 1);
        if commits {
            tail.commit();
        } else {
            tail.rollback();
        }
        // A rollback after the event was given out gives it out again.
        tail.poll(100);
        assert_eq!(tail.sink.events.len(), 1);
        tail.rollback();
        tail.catch_up();
        let (lines, lost) = if commits { ("app:one app:two app:3", 0) } else { ("app:one app:3", 4) };
        assert_eq!(tail.taken(), lines);
        assert_eq!(tail.events.iter().map(LogEvent::bytes_lost).collect::<Vec<_>>(), [lost]);
    }
}

#[test]
fn a_deleted_file_is_read_to_its_end_and_dropped() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n");
    tail.catch_up();
    tail.append("app.log", "2\nrest");
    fs::remove_file(tail.path("app.log")).unwrap();
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2");
    for _ in 0..5 {
        assert_eq!(tail.source.open_file_count(), 1);
        tail.catch_up();
    }
    tail.catch_up();
    assert_eq!(tail.source.open_file_count(), 0);
    tail.catch_up();
    assert_eq!(tail.events, [LogEvent::Unterminated { path: tail.path("app.log"), bytes_unread: 4 }]);
    assert!(tail.stored.is_empty());
    assert!(tail.source.labels.is_empty());
}

#[test]
fn a_file_deleted_while_stopped_is_reported_and_forgotten() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n");
    tail.catch_up();
    fs::remove_file(tail.path("app.log")).unwrap();
    tail.restart();
    tail.catch_up();
    assert_eq!(tail.events, [LogEvent::Vanished { path: tail.path("app.log") }]);
    assert!(tail.stored.is_empty());
}

#[test]
fn an_inode_that_was_given_to_another_file_is_read_from_the_beginning() {
    let mut tail = Tail::new();
    tail.append("app.log", "old\n");
    tail.catch_up();
    let cursor = tail.source.cursors().next().unwrap();
    fs::remove_file(tail.path("app.log")).unwrap();
    tail.append("app.log", "brand new\n");
    // As if the file system had reused the number.
    let metadata = fs::metadata(tail.path("app.log")).unwrap();
    let key = file::key_of(&metadata);
    let reused = FileCursor { key, ..cursor };
    tail.stored = [(key, reused.to_bytes())].into();
    tail.restart();
    tail.catch_up();
    assert_eq!(tail.taken(), "app:old app:brand new");
}

#[test]
fn quiet_files_are_parked_and_woken() {
    let mut tail = Tail::new();
    tail.append("app.log", "1\n");
    tail.append("app.log.1", "not ours\n");
    // As old as what is renamed below, it would pass for a generation that was
    // missed.
    tail.set_age("app.log.1", Duration::from_secs(60));
    tail.catch_up();
    tail.catch_up();
    // How long it is quiet counts, not how often somebody looked.
    tail.now += Duration::from_secs(290);
    for _ in 0..5 {
        tail.catch_up();
    }
    assert_eq!(tail.source.open_file_count(), 1);
    tail.now += Duration::from_secs(10);
    tail.catch_up();
    assert_eq!(tail.source.open_file_count(), 0);
    assert_eq!(tail.stored.len(), 1);
    tail.append("app.log", "2\n");
    tail.rename("app.log", "app.log.2");
    tail.append("app.log", "3\n");
    tail.catch_up();
    assert_eq!(tail.taken(), "app:1 app:2 app:3");
    for _ in 0..3 {
        tail.catch_up();
        tail.now += Duration::from_secs(1800);
    }
    tail.catch_up();
    assert_eq!(tail.stored.len(), 1, "rotated files are forgotten in the end");
    tail.catch_up();
    assert_eq!(tail.taken(), "");
}

#[test]
fn more_files_than_slots_are_read_in_turn() {
    let mut tail = Tail::with(|options| {
        options.from = ReadFrom::Beginning;
        options.open_files_max = 2;
    });
    for number in 0..7 {
        tail.append(&format!("app{number}.log"), "x\n");
    }
    assert_eq!(tail.discover().waiting, 5);
    let mut lines = Vec::new();
    for _ in 0..7 {
        tail.catch_up();
        lines.push(tail.taken());
        assert!(tail.source.open_file_count() <= 2);
    }
    let mut lines: Vec<&str> = lines.iter().flat_map(|taken| taken.split_whitespace()).collect();
    lines.sort();
    assert_eq!(lines, ["app0:x", "app1:x", "app2:x", "app3:x", "app4:x", "app5:x", "app6:x"]);
}

#[test]
fn files_share_the_budget() {
    let mut tail = Tail::with(|options| {
        options.from = ReadFrom::Beginning;
        options.file_budget_bytes = 1000;
    });
    for name in ["app1.log", "app2.log", "app3.log"] {
        tail.append(name, "line\n".repeat(10_000));
    }
    tail.discover();
    assert!(tail.poll(6000).has_more);
    let mut counts = BTreeMap::new();
    for line in &tail.sink.lines {
        *counts.entry(line.stream).or_insert(0) += 1;
    }
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    let turn = 1000 / (5 + size_of::<Line>()) + 1;
    assert!(counts.len() == 3 && most - least <= turn, "{counts:?}");
}

#[test]
fn long_lines_come_in_pieces() {
    let mut tail = Tail::with(|options| {
        options.from = ReadFrom::Beginning;
        options.line_bytes_max = 100_000;
    });
    let long = "y".repeat(250_000);
    tail.append("app.log", format!("a\n{long}"));
    tail.catch_up();
    let lens = |tail: &mut Tail| tail.lines.drain(..).map(|(_, line)| line.len()).collect::<Vec<_>>();
    assert_eq!(lens(&mut tail), [1, 100_000, 100_000]);
    tail.restart();
    tail.append("app.log", "z\nb\n");
    tail.catch_up();
    assert_eq!(lens(&mut tail), [50_001, 1]);
}

#[test]
fn links_and_pipes_are_not_read() {
    let mut tail = Tail::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret\n").unwrap();
    std::os::unix::fs::symlink(secret.path(), tail.path("app-link.log")).unwrap();
    tail.append("hidden", "secret\n");
    fs::hard_link(tail.path("hidden"), tail.path("app-hard.log")).unwrap();
    fs::create_dir(tail.path("app-dir.log")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = tail.path("app-fifo.log");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();

    let mut refused = tail.discover().refused;
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        (tail.path("app-dir.log"), Refusal::NotRegular),
        (fifo.clone(), Refusal::NotRegular),
        (tail.path("app-hard.log"), Refusal::HardLink),
        (tail.path("app-link.log"), Refusal::SymbolicLink),
    ];
    assert_eq!(refused, expected);
    // Also when it became one after it was listed.
    assert!(matches!(file::open(&fifo, false), Ok(Err(Refusal::NotRegular))));
    assert!(matches!(file::open(&tail.path("app-link.log"), false), Ok(Err(Refusal::SymbolicLink))));
    tail.catch_up();
    assert_eq!(tail.taken(), "");
}

#[test]
fn swapping_a_link_in_never_shows_what_it_points_to() {
    let mut tail = Tail::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret\n".repeat(10)).unwrap();
    let (directory, secret_path) = (tail.dir.path().to_owned(), secret.path().to_owned());
    let (stop, cycles) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for swap in 0u64.. {
                fs::write(directory.join("new"), "harmless\n").unwrap();
                fs::rename(directory.join("new"), directory.join("app.log")).unwrap();
                // Mostly as fast as can be, sometimes slow enough to be read.
                let until = cycles.load(Ordering::Relaxed) + 2;
                while swap % 16 == 0 && cycles.load(Ordering::Relaxed) < until {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::yield_now();
                }
                std::os::unix::fs::symlink(&secret_path, directory.join("new")).unwrap();
                fs::rename(directory.join("new"), directory.join("app.log")).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..2000 {
            tail.source.discover(tail.now);
            tail.source.poll(&room(10_000), NOW, &mut tail.sink);
            cycles.fetch_add(1, Ordering::Relaxed);
            tail.commit();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!tail.lines.is_empty());
    assert!(tail.lines.iter().all(|(_, line)| line == b"harmless"));
}

#[test]
fn many_lines() {
    let mut tail = Tail::new();
    let text: String = (0..10_000).map(|n| format!("line {n} with some words after it\n")).collect();
    tail.append("app.log", &text);
    tail.catch_up();
    assert_eq!(tail.lines.len(), 10_000);
    assert_eq!(tail.lines[9_999].1, b"line 9999 with some words after it");
}

#[test]
fn options_without_sense_are_refused() {
    let check = |set: fn(&mut LogsOptions), expected: &str| {
        let mut options = LogsOptions::default();
        set(&mut options);
        let error = LogsSource::new(options, Vec::new()).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(expected));
    };
    check(
        |options| options.globs = vec!["var/*.log".into()],
        r#"log file pattern "var/*.log" is not an absolute path"#,
    );
    check(|options| options.line_bytes_max = 0, "line_bytes_max must be more than 0");
    let error = LogsOptions { exclude: vec!["[".into()], ..LogsOptions::default() };
    assert!(LogsSource::new(error, Vec::new()).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    /// Write lines; the last one without its line feed for now.
    Write {
        file: usize,
        lines: usize,
        is_cut: bool,
    },
    /// Shift generations and rename the current file; the writer keeps
    /// writing to it until it reopens.
    Rotate {
        file: usize,
    },
    Reopen {
        file: usize,
    },
    Discover,
    Poll {
        budget: usize,
    },
    Commit,
    Rollback,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..2usize;
    prop_oneof![
        5 => (file.clone(), 0..5usize, any::<bool>())
            .prop_map(|(file, lines, is_cut)| Step::Write { file, lines, is_cut }),
        2 => file.clone().prop_map(|file| Step::Rotate { file }),
        2 => file.prop_map(|file| Step::Reopen { file }),
        2 => Just(Step::Discover),
        4 => (1..400usize).prop_map(|budget| Step::Poll { budget }),
        3 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Restart),
    ]
}

/// A program that logs numbers.
struct Writer {
    name: String,
    file: File,
    next: u32,
    is_cut: bool,
    is_renamed: bool,
    written: Vec<Vec<u8>>,
}

impl Writer {
    fn new(tail: &Tail, name: &str) -> Self {
        let file = File::create(tail.path(name)).unwrap();
        let (is_cut, is_renamed) = (false, false);
        Writer { name: name.to_owned(), file, next: 0, is_cut, is_renamed, written: Vec::new() }
    }

    fn write(&mut self, lines: usize, is_cut: bool) {
        if std::mem::take(&mut self.is_cut) {
            self.file.write_all(b"\n").unwrap();
        }
        for left in (0..lines).rev() {
            let line = format!("{} {}", self.next, "x".repeat(self.next as usize % 50));
            self.next += 1;
            self.file.write_all(line.as_bytes()).unwrap();
            self.written.push(line.into_bytes());
            self.is_cut = is_cut && left == 0;
            if !self.is_cut {
                self.file.write_all(b"\n").unwrap();
            }
        }
    }

    fn rotate(&mut self, tail: &Tail) {
        // As logrotate: not again before the program reopened.
        self.reopen(tail);
        for number in (1..60).rev() {
            let from = tail.path(&format!("{}.{number}", self.name));
            let _ = fs::rename(from, tail.path(&format!("{}.{}", self.name, number + 1)));
        }
        tail.rename(&self.name, &format!("{}.1", self.name));
        self.is_renamed = true;
    }

    fn reopen(&mut self, tail: &Tail) {
        if std::mem::take(&mut self.is_renamed) {
            self.write(0, false);
            self.file = File::create_new(tail.path(&self.name)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_line_exactly_once_and_in_order(steps in prop::collection::vec(step(), 0..80)) {
        let mut tail = Tail::with(|options| {
            options.from = ReadFrom::Beginning;
            options.file_budget_bytes = 150;
        });
        let mut writers = ["app1.log", "app2.log"].map(|name| Writer::new(&tail, name));
        tail.catch_up();
        for step in steps {
            match step {
                Step::Write { file, lines, is_cut } => writers[file].write(lines, is_cut),
                Step::Rotate { file } => writers[file].rotate(&tail),
                Step::Reopen { file } => writers[file].reopen(&tail),
                Step::Discover => drop(tail.discover()),
                Step::Poll { budget } => drop(tail.poll(budget)),
                // What is committed is all that was polled.
                Step::Commit => tail.commit(),
                Step::Rollback => tail.rollback(),
                Step::Restart => tail.restart(),
            }
        }
        for writer in &mut writers {
            writer.write(0, false);
        }
        tail.rollback();
        tail.catch_up();
        tail.catch_up();
        let mut lines: BTreeMap<String, VecDeque<Vec<u8>>> = BTreeMap::new();
        for (name, line) in tail.lines {
            lines.entry(name).or_default().push_back(line);
        }
        for writer in writers {
            let read = lines.remove(&writer.name).unwrap_or_default();
            prop_assert_eq!(Vec::from(read), writer.written);
        }
        prop_assert_eq!(tail.events, Vec::new());
    }
}

#[test]
fn order_of_generations_survives_a_rollback() {
    let mut tail = Tail::new();
    tail.catch_up();
    tail.append("app.log", "1\n");
    tail.discover();
    tail.rename("app.log", "app.log.1");
    tail.append("app.log", "2\n");
    tail.discover();
    for _ in 0..3 {
        tail.poll(1000);
        let lines: Vec<&[u8]> = tail.sink.lines.iter().map(|line| tail.sink.line(line)).collect();
        assert_eq!(lines, [b"1", b"2"]);
        tail.rollback();
    }
}
