//! Kernel files that lie, all collectors at once: nothing panics or hangs, and
//! a damaged file changes nothing but what is read from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lm_agent::sources::SeriesIndex;
use lm_agent::sources::host::HostOptions;
use lm_agent::sources::host::registry::COLLECTORS;

use crate::fixtures::test_host;
use crate::machine::{Machine, text};
use crate::node_exporter::{options_of, owner};

/// A cycle of a debug build on the test host takes some 20 ms.
const CYCLE_MAX: Duration = Duration::from_secs(5);

type Damage = fn(&[u8]) -> Vec<u8>;

const DAMAGES: [(&str, Damage); 8] = [
    ("empty", |_| Vec::new()),
    ("cut", |bytes| bytes[..bytes.len() * 2 / 3].to_vec()),
    ("doubled", |bytes| [bytes, bytes].concat()),
    ("negative", |bytes| replace_numbers(bytes, "-1")),
    ("just too large", |bytes| replace_numbers(bytes, "18446744073709551616")),
    ("much too large", |bytes| replace_numbers(bytes, &"9".repeat(400))),
    ("no number", |bytes| replace_numbers(bytes, "nan")),
    ("binary", |bytes| {
        let junk = (0..bytes.len() as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
        junk.collect()
    }),
];

fn replace_numbers(bytes: &[u8], number: &str) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut is_in_number = false;
    for byte in bytes {
        match (byte.is_ascii_digit(), is_in_number) {
            (true, true) => {}
            (true, false) => replaced.extend_from_slice(number.as_bytes()),
            (false, _) => replaced.push(*byte),
        }
        is_in_number = byte.is_ascii_digit();
    }
    replaced
}

/// A copy of the test host's `/proc` to damage; its `/sys` stays whole.
fn copy_of_proc(host: &Path) -> (tempfile::TempDir, Vec<PathBuf>) {
    fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &to, files),
                false => {
                    fs::copy(entry.path(), &to).unwrap();
                    files.push(to);
                }
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    copy(&host.join("proc"), dir.path(), &mut files);
    files.sort();
    (dir, files)
}

fn machine(procfs: &Path) -> Machine {
    let host = test_host();
    let own_process = procfs.join("10");
    Machine::new(HostOptions { procfs: procfs.to_owned(), own_process, ..options_of(&host) })
}

/// By series, whose numbers stay.
type Raw = BTreeMap<SeriesIndex, f64>;

fn cycle(machine: &mut Machine) -> Raw {
    let began = Instant::now();
    machine.measure();
    assert!(began.elapsed() < CYCLE_MAX, "{:?}", began.elapsed());
    assert!(machine.out.iter().all(|measured| measured.value.is_finite()), "a value is no number");
    let values: Raw = machine.out.iter().map(|measured| (measured.series, measured.value)).collect();
    assert_eq!(values.len(), machine.out.len(), "a series has two values");
    values
}

/// The collectors whose values differ, but for what moves of itself.
fn changed(machine: &Machine, one: &Raw, other: &Raw) -> BTreeSet<String> {
    let is_moving = |series: &String| {
        let moving = ["node_filesystem_", "node_timex_", "process_", "node_scrape_collector_duration"];
        moving.iter().any(|prefix| series.starts_with(prefix))
    };
    let differs = |series: &&SeriesIndex| one.get(series) != other.get(series);
    let series = one.keys().chain(other.keys()).filter(differs);
    let texts = series.map(|series| text(machine.table.labels(*series)));
    texts.filter(|text| !is_moving(text)).map(|text| owner(&text).to_owned()).collect()
}

#[test]
fn a_damaged_file_changes_what_is_read_from_it_and_nothing_else() {
    let (dir, files) = copy_of_proc(&test_host());
    let mut machine = machine(dir.path());
    let whole = cycle(&mut machine);
    let mut files_read = 0;
    for file in &files {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let without = cycle(&mut machine);
        let mut readers = changed(&machine, &whole, &without);
        // Where one file stands for another, damage shows and absence does not.
        fs::write(file, "\n").unwrap();
        let with_nothing = cycle(&mut machine);
        readers.append(&mut changed(&machine, &whole, &with_nothing));
        assert!(readers.len() <= 3, "{}: read by {readers:?}", file.display());
        if readers.is_empty() {
            fs::write(file, bytes).unwrap();
            continue;
        }
        files_read += 1;
        let check = |machine: &mut Machine, damage: &str| {
            let now = cycle(machine);
            let changed = changed(machine, &whole, &now);
            assert!(
                changed.is_subset(&readers),
                "{} {damage}: changed {changed:?}, read by {readers:?}",
                file.display()
            );
        };
        for (damage, inflict) in DAMAGES {
            fs::write(file, inflict(&bytes)).unwrap();
            check(&mut machine, damage);
        }
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        check(&mut machine, "a directory");
        fs::remove_dir(file).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        check(&mut machine, "a FIFO");
        fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink("/nonexistent", file).unwrap();
        check(&mut machine, "a dangling link");
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let again = cycle(&mut machine);
    assert_eq!(changed(&machine, &whole, &again), BTreeSet::new(), "whole again");
    assert!(files_read > 40, "only {files_read} files are read at all");
}

#[test]
fn a_process_that_ends_while_it_is_counted_is_not_counted() {
    let (dir, _) = copy_of_proc(&test_host());
    fs::create_dir(dir.path().join("4242")).unwrap();
    fs::create_dir_all(dir.path().join("10/task/10")).unwrap();
    let (values, _) = machine(dir.path()).cycle();
    assert_eq!(values["node_processes_pids"], 3.0);
}

#[test]
fn without_any_file_every_collector_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = |name: &str| dir.path().join(name);
    let options = HostOptions {
        procfs: nothing("proc"),
        sysfs: nothing("sys"),
        rootfs: nothing("root"),
        udev: nothing("udev"),
        own_process: nothing("self"),
        collectors: COLLECTORS.iter().map(|known| known.name).collect(),
        ..HostOptions::default()
    };
    let (values, failures) = Machine::new(options).cycle();
    assert_eq!(values["node_time_seconds"], 1_700_000_000.5);
    let failed: BTreeSet<_> = failures.iter().map(|(name, _)| *name).collect();
    // Nothing to ask for, no file to ask, or a protocol that a kernel may lack.
    let others: BTreeSet<_> =
        COLLECTORS.iter().map(|known| known.name).filter(|name| !failed.contains(name)).collect();
    println!("without a file: {others:?}");
    assert!(others.contains("time") && others.contains("uname") && others.contains("sysctl"));
    for essential in ["stat", "cpu", "meminfo", "netdev", "diskstats", "loadavg", "filesystem", "netstat"] {
        assert!(failed.contains(essential), "{essential}");
    }
}
