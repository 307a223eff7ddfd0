//! `/proc/<pid>/stat`: processes and threads by state.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

pub struct Processes {
    threads_max: KernelFile,
    processes_max: KernelFile,
    tree: Tree,
    pids: Names,
    tids: Names,
    totals: FixedSeries<4>,
    process_states: States,
    thread_states: States,
}

impl Processes {
    pub fn new(options: &HostOptions) -> Self {
        let totals = [
            "node_processes_threads",
            "node_processes_max_threads",
            "node_processes_pids",
            "node_processes_max_processes",
        ];
        Processes {
            threads_max: KernelFile::new(&options.procfs, "sys/kernel/threads-max"),
            processes_max: KernelFile::new(&options.procfs, "sys/kernel/pid_max"),
            tree: Tree::new(&options.procfs),
            pids: Names::default(),
            tids: Names::default(),
            totals: FixedSeries::new(totals),
            process_states: States::new("node_processes_state", "state"),
            thread_states: States::new("node_processes_threads_state", "thread_state"),
        }
    }
}

impl Collect for Processes {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let threads_max = self.threads_max.read_number(buffer)?;
        let processes_max = self.processes_max.read_number(buffer)?;
        self.tree.list(&[], &mut self.pids)?;
        self.process_states.counts = [0; 128];
        self.thread_states.counts = [0; 128];
        let (mut processes, mut threads) = (0u64, 0u64);
        for pid in self.pids.iter().filter(|name| number(name).is_some()) {
            // A process that ends meanwhile is not counted.
            let Some(stat) = self.tree.read_if_there(&[pid, b"stat"], buffer)? else { continue };
            let Some((state, count)) = parse_stat(stat) else { continue };
            processes += 1;
            threads = threads.saturating_add(count);
            self.process_states.count(state);
            if let Err(error) = self.tree.list(&[pid, b"task"], &mut self.tids) {
                match error.is_absence() {
                    true => continue,
                    false => return Err(error),
                }
            }
            for tid in self.tids.iter() {
                let stat = self.tree.read_if_there(&[pid, b"task", tid, b"stat"], buffer)?;
                if let Some((state, _)) = stat.and_then(parse_stat) {
                    self.thread_states.count(state);
                }
            }
        }
        let totals = [threads, threads_max, processes, processes_max];
        self.totals.push(cycle, totals.map(|total| total as f64))?;
        self.process_states.push(cycle)?;
        self.thread_states.push(cycle)
    }
}

/// State and number of threads: the third and the twentieth field of
/// `proc_pid_stat(5)`, after the name in parentheses.
fn parse_stat(bytes: &[u8]) -> Option<(u8, u64)> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let mut fields = words(&bytes[name_end + 1..]);
    let &[state] = fields.next()? else { return None };
    Some((state, number(fields.nth(20 - 4)?)?))
}

/// How many are in each state, a letter.
struct States {
    name: &'static str,
    label: &'static str,
    counts: [u64; 128],
    series: SeriesCache<SeriesIndex>,
}

impl States {
    fn new(name: &'static str, label: &'static str) -> Self {
        States { name, label, counts: [0; 128], series: SeriesCache::default() }
    }

    fn count(&mut self, state: u8) {
        if state.is_ascii_alphabetic() {
            self.counts[usize::from(state)] += 1;
        }
    }

    fn push(&mut self, cycle: &mut Cycle<'_>) -> Result<(), Error> {
        for (state, count) in (0u8..).zip(self.counts).filter(|(_, count)| *count > 0) {
            let series =
                self.series.get_or_make(&[state], |state| cycle.series(self.name, &[(self.label, state)]))?;
            cycle.push(series, count as f64);
        }
        Ok(())
    }
}
