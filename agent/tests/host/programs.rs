//! The programs that use most, on processes of our own making.

use std::fs;
use std::path::Path;

use lm_agent::sources::host::HostOptions;

use crate::machine::{Machine, Values};

struct Process {
    pid: u32,
    program: &'static str,
    started: u64,
    ticks: u64,
    pages: u64,
    written: u64,
}

fn process(pid: u32, program: &'static str) -> Process {
    Process { pid, program, started: 100, ticks: 0, pages: 0, written: 0 }
}

/// Writes what the kernel would say of these, and nothing else.
fn write(procfs: &Path, processes: &[Process]) {
    for entry in fs::read_dir(procfs).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    for Process { pid, program, started, ticks, pages, written } in processes {
        let flags = if *program == "kworker" { 0x0020_8040 } else { 0x0040_0000 };
        let dir = procfs.join(pid.to_string());
        fs::create_dir(&dir).unwrap();
        let stat = format!(
            "{pid} ({program}) S 1 2 3 4 5 {flags} 7 8 9 10 {ticks} 0 0 0 20 0 1 0 {started} 4096 {pages} 184\n"
        );
        fs::write(dir.join("stat"), stat).unwrap();
        if *program != "hidden" {
            let io = format!("rchar: 9\nread_bytes: 0\nwrite_bytes: {written}\ncancelled_write_bytes: 1\n");
            fs::write(dir.join("io"), io).unwrap();
        }
    }
}

fn machine(procfs: &Path, programs_max: u32) -> Machine {
    let collectors = ["programs"].into();
    Machine::new(HostOptions { procfs: procfs.into(), programs_max, collectors, ..HostOptions::default() })
}

fn get(values: &Values, what: &str, program: &str) -> Option<f64> {
    values.get(&format!("lmagent_program_{what}{{program=\"{program}\"}}")).copied()
}

#[test]
fn processes_of_a_name_are_one_program_and_its_counters_never_fall() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(dir.path(), 10);
    write(
        dir.path(),
        &[
            Process { ticks: 1000, pages: 5, written: 50, ..process(1, "web") },
            Process { ticks: 70, pages: 6, ..process(2, "web") },
            Process { ticks: 5, pages: 1, ..process(3, "hidden") },
            Process { ticks: 5, ..process(4, "kworker") },
        ],
    );
    let (values, failures) = machine.cycle();
    assert_eq!(failures, []);
    let page = rustix::param::page_size() as f64;
    assert_eq!(get(&values, "processes", "web"), Some(2.0));
    assert_eq!(get(&values, "resident_memory_bytes", "web"), Some(11.0 * page));
    assert_eq!(get(&values, "cpu_seconds_total", "web"), Some(0.0));

    // One ends, one goes on, one begins, and one takes the number of another.
    write(
        dir.path(),
        &[
            Process { ticks: 1100, pages: 5, written: 80, ..process(1, "web") },
            Process { ticks: 30, written: 7, started: 900, ..process(2, "web") },
            Process { ticks: 20, started: 900, ..process(5, "web") },
            Process { ticks: 105, pages: 1, ..process(3, "hidden") },
            Process { ticks: 25, ..process(4, "kworker") },
        ],
    );
    let (values, _) = machine.cycle();
    assert_eq!(get(&values, "cpu_seconds_total", "web"), Some(1.5));
    assert_eq!(get(&values, "written_bytes_total", "web"), Some(37.0));
    assert_eq!(get(&values, "cpu_seconds_total", "hidden"), Some(1.0));
    assert_eq!(get(&values, "cpu_seconds_total", "[kernel]"), Some(0.2));
    assert_eq!(get(&values, "processes", "kworker"), None);

    write(dir.path(), &[Process { pages: 1, ..process(9, "other") }]);
    let (values, _) = machine.cycle();
    assert_eq!(get(&values, "cpu_seconds_total", "web"), Some(1.5));
    assert_eq!(get(&values, "processes", "web"), Some(0.0));
}

#[test]
fn only_the_first_of_each_kind_are_shown_and_they_stay_a_while() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let dir = tempfile::tempdir().unwrap();
    let mut machine = machine(dir.path(), 1);
    let mut ticks = [0u64; 12];
    let mut shown = Vec::new();
    for round in 0..40usize {
        // Another program is busy in each round; "a" is always the largest.
        ticks[(round % 11) + 1] += 100;
        let all = (0..12usize).map(|at| Process {
            ticks: ticks[at],
            pages: if at == 0 { 9 } else { 1 },
            ..process(at as u32 + 1, NAMES[at])
        });
        write(dir.path(), &all.collect::<Vec<_>>());
        let (values, _) = machine.cycle();
        shown = NAMES.into_iter().filter(|name| get(&values, "processes", name).is_some()).collect();
        assert!(shown.len() <= 6 && shown.contains(&"a"), "{shown:?}");
        if round > 0 {
            assert!(shown.contains(&NAMES[(round % 11) + 1]), "{round}: {shown:?}");
        }
    }
    assert_eq!(shown.len(), 6);

    // Nobody is busy any more: the largest alone remains, in the end.
    for _ in 0..21 {
        let (values, _) = machine.cycle();
        shown = NAMES.into_iter().filter(|name| get(&values, "processes", name).is_some()).collect();
    }
    assert_eq!(shown, ["a"]);
}

#[test]
fn damaged_processes_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[Process { pages: 1, ..process(1, "good") }, process(2, "bad")]);
    fs::write(dir.path().join("2/stat"), [0xff; 4000]).unwrap();
    fs::create_dir(dir.path().join("99999999999")).unwrap();
    fs::create_dir(dir.path().join("3")).unwrap();
    let (values, failures) = machine(dir.path(), 10).cycle();
    assert_eq!(failures, []);
    assert_eq!(values.keys().filter(|series| series.starts_with("lmagent_program_")).count(), 5);
}

/// On the machine at hand; prints what it costs.
#[test]
fn this_machine_has_programs() {
    let mut machine = Machine::new(HostOptions { collectors: ["programs"].into(), ..HostOptions::default() });
    machine.cycle();
    let began = std::time::Instant::now();
    let (values, failures) = machine.cycle();
    println!("{} processes in {:?}", fs::read_dir("/proc").unwrap().count(), began.elapsed());
    assert_eq!(failures, []);
    assert!(values.keys().any(|series| series.starts_with("lmagent_program_resident_memory_bytes")));
}
