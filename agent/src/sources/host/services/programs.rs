//! The programs that use most CPU, memory and I/O.
//!
//! Processes of one name are one program, and all threads of the kernel are
//! `[kernel]`: what is counted is what the program has used since this agent
//! looked first, so that a counter does not fall when a process ends. Of all
//! programs only those are shown that were among the first in the last
//! cycles; what is shown stays for a while, so that its rate can be told.

use std::collections::HashMap;
use std::path::PathBuf;

use lm_telemetry::process_stat::ProcessStat;

use crate::sources::host::attribute::push;
use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::cpu::USER_HZ;
use crate::sources::host::directory::Directory;
use crate::sources::host::read::{number, words};
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

/// Cycles for which a program is shown after it was last among the first.
const SHOWN_FOR: u32 = 20;
/// Programs that are shown, by how many are the first of one kind: the first
/// of three kinds, and as many that were.
const SHOWN_FACTOR: usize = 6;
const KERNEL: &str = "[kernel]";

pub struct Programs {
    tree: Tree,
    procfs: PathBuf,
    pids: Names,
    page_bytes: f64,
    /// How many are the first of each kind.
    first_count: usize,
    cycle: u32,
    processes: HashMap<u32, Process>,
    programs: HashMap<String, Program>,
}

/// What a process had used when it was seen last.
struct Process {
    start_ticks: u64,
    used: Used,
    /// Another user's, and we may not look.
    is_io_hidden: bool,
    seen_in: u32,
}

#[derive(Clone, Copy, Default)]
struct Used {
    ticks: u64,
    read_bytes: u64,
    written_bytes: u64,
}

#[derive(Default)]
struct Program {
    process_count: u32,
    resident_bytes: f64,
    used: Used,
    /// In this cycle alone.
    now: Used,
    shown_until: u32,
}

impl Programs {
    pub fn new(options: &HostOptions) -> Self {
        Programs {
            tree: Tree::new(&options.procfs),
            procfs: options.procfs.clone(),
            pids: Names::default(),
            page_bytes: rustix::param::page_size() as f64,
            first_count: options.programs_max as usize,
            cycle: 0,
            processes: HashMap::new(),
            programs: HashMap::new(),
        }
    }
}

impl Collect for Programs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.cycle += 1;
        for program in self.programs.values_mut() {
            (program.process_count, program.resident_bytes, program.now) = (0, 0.0, Used::default());
        }
        let procfs = Directory::open(&self.procfs)?;
        self.tree.list(&[], &mut self.pids)?;
        let mut path = String::new();
        for pid in self.pids.iter().filter_map(number).filter_map(|pid| u32::try_from(pid).ok()) {
            measure(
                (&mut self.processes, &mut self.programs),
                (&procfs, &mut path, buffer),
                (pid, self.cycle, self.page_bytes),
            );
        }
        self.processes.retain(|_, process| process.seen_in == self.cycle);
        choose(&mut self.programs, self.first_count, self.cycle);
        self.programs.retain(|_, program| program.process_count > 0 || program.shown_until >= self.cycle);
        for (name, program) in self.programs.iter().filter(|(_, program)| program.shown_until >= self.cycle) {
            push_program(cycle, name, program)?;
        }
        Ok(())
    }
}

fn push_program(cycle: &mut Cycle<'_>, name: &str, program: &Program) -> Result<(), Error> {
    let labels = [("program", name)];
    let Used { ticks, read_bytes, written_bytes } = program.used;
    push(cycle, "lmagent_program_processes", &labels, f64::from(program.process_count))?;
    push(cycle, "lmagent_program_cpu_seconds_total", &labels, ticks as f64 / USER_HZ)?;
    push(cycle, "lmagent_program_resident_memory_bytes", &labels, program.resident_bytes)?;
    push(cycle, "lmagent_program_read_bytes_total", &labels, read_bytes as f64)?;
    push(cycle, "lmagent_program_written_bytes_total", &labels, written_bytes as f64)
}

/// Adds what a process used since it was seen last to its program.
fn measure(
    (processes, programs): (&mut HashMap<u32, Process>, &mut HashMap<String, Program>),
    (procfs, path, buffer): (&Directory, &mut String, &mut Vec<u8>),
    (pid, cycle, page_bytes): (u32, u32, f64),
) {
    use std::fmt::Write;

    path.clear();
    let _ = write!(path, "{pid}/stat");
    // It may have ended meanwhile.
    let Some(stat) = procfs.bytes(path, buffer).and_then(ProcessStat::parse) else { return };
    let name = if stat.is_kernel_thread { KERNEL.into() } else { String::from_utf8_lossy(stat.program) };
    if !programs.contains_key(&*name) {
        programs.insert(name.clone().into_owned(), Program::default());
    }
    let program = programs.get_mut(&*name).expect("it was just inserted");
    let start_ticks = stat.start_ticks;
    let ticks = stat.user_ticks.saturating_add(stat.system_ticks);
    program.process_count += 1;
    program.resident_bytes += stat.resident_pages as f64 * page_bytes;

    let mut known = processes.remove(&pid).filter(|known| known.start_ticks == start_ticks);
    let mut used = Used { ticks, ..known.as_ref().map(|known| known.used).unwrap_or_default() };
    let mut is_io_hidden = known.as_ref().is_some_and(|known| known.is_io_hidden);
    if !is_io_hidden {
        path.truncate(path.len() - "stat".len());
        path.push_str("io");
        match procfs.bytes(path, buffer).and_then(parse_io) {
            Some((read_bytes, written_bytes)) => {
                (used.read_bytes, used.written_bytes) = (read_bytes, written_bytes)
            }
            None => is_io_hidden = true,
        }
    }
    // What was used before we looked first is nobody's news, but all that a
    // process used that began since is.
    let before = match (&mut known, cycle) {
        (Some(known), _) => known.used,
        (None, 1) => used,
        (None, _) => Used::default(),
    };
    program.add(Used {
        ticks: used.ticks.saturating_sub(before.ticks),
        read_bytes: used.read_bytes.saturating_sub(before.read_bytes),
        written_bytes: used.written_bytes.saturating_sub(before.written_bytes),
    });
    processes.insert(pid, Process { start_ticks, used, is_io_hidden, seen_in: cycle });
}

impl Program {
    fn add(&mut self, used: Used) {
        for sum in [&mut self.used, &mut self.now] {
            sum.ticks = sum.ticks.saturating_add(used.ticks);
            sum.read_bytes = sum.read_bytes.saturating_add(used.read_bytes);
            sum.written_bytes = sum.written_bytes.saturating_add(used.written_bytes);
        }
    }
}

/// Lets the first of each kind be shown for some cycles, and no more programs
/// than there is room for.
fn choose(programs: &mut HashMap<String, Program>, first_count: usize, cycle: u32) {
    let kinds: [fn(&Program) -> f64; 3] = [
        |program| program.now.ticks as f64,
        |program| program.resident_bytes,
        |program| program.now.read_bytes as f64 + program.now.written_bytes as f64,
    ];
    let mut all: Vec<(&String, &mut Program)> = programs.iter_mut().collect();
    for kind in kinds {
        all.sort_by(|(a_name, a), (b_name, b)| kind(b).total_cmp(&kind(a)).then(a_name.cmp(b_name)));
        for (_, program) in all.iter_mut().take(first_count).filter(|(_, program)| kind(program) > 0.0) {
            program.shown_until = cycle + SHOWN_FOR;
        }
    }
    // Those that were among the first longest ago make room.
    all.sort_by(|(a_name, a), (b_name, b)| b.shown_until.cmp(&a.shown_until).then(a_name.cmp(b_name)));
    for (_, program) in all.iter_mut().skip(first_count * SHOWN_FACTOR) {
        program.shown_until = 0;
    }
}

/// Bytes that came from disks and went there: `read_bytes` and `write_bytes`
/// of `proc_pid_io(5)`.
fn parse_io(bytes: &[u8]) -> Option<(u64, u64)> {
    let (mut read, mut written) = (None, None);
    // The buffer is trimmed: its last line has no end.
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut words = words(line);
        match words.next() {
            Some(b"read_bytes:") => read = words.next().and_then(number),
            Some(b"write_bytes:") => written = words.next().and_then(number),
            _ => {}
        }
    }
    Some((read?, written?))
}
