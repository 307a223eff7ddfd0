//! `/proc/stat`: totals of the host, below the lines of its CPUs.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, words};
use crate::sources::host::{Error, HostOptions};

pub struct Stat {
    file: KernelFile,
    series: FixedSeries<6>,
    softirqs: Option<SoftIrqKinds>,
}

/// The columns of the line `softirq`, after their sum.
struct SoftIrqKinds {
    series: Option<[SeriesIndex; 10]>,
}

const SOFTIRQ_KINDS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

impl Stat {
    pub fn new(options: &HostOptions) -> Self {
        let names = [
            "node_intr_total",
            "node_context_switches_total",
            "node_boot_time_seconds",
            "node_forks_total",
            "node_procs_running",
            "node_procs_blocked",
        ];
        Stat {
            file: KernelFile::new(&options.procfs, "stat"),
            series: FixedSeries::new(names),
            softirqs: options.stat_softirqs.then_some(SoftIrqKinds { series: None }),
        }
    }
}

impl Collect for Stat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let totals = parse_totals(cycle.stat()?).map_err(|malformed| self.file.malformed(malformed))?;
        self.series.push(cycle, totals.map(|total| total as f64))?;
        if let Some(softirqs) = &mut self.softirqs {
            let counts = parse_softirqs(cycle.stat()?);
            let malformed = || self.file.wrong(0, "lacks ten kinds of soft interrupts");
            softirqs.push(cycle, counts.ok_or_else(malformed)?)?;
        }
        Ok(())
    }
}

const TOTALS: [&[u8]; 6] = [b"intr", b"ctxt", b"btime", b"processes", b"procs_running", b"procs_blocked"];

fn parse_totals(bytes: &[u8]) -> Result<[u64; 6], Malformed> {
    let mut totals = [None; 6];
    for (line, text) in lines(bytes)? {
        let mut words = words(text);
        let Some(at) = words.next().and_then(|key| TOTALS.iter().position(|name| *name == key)) else {
            continue;
        };
        let value = words.next().and_then(number);
        totals[at] = Some(value.ok_or(Malformed { line, reason: "is not a count" })?);
    }
    let missing = Malformed { line: 0, reason: "lacks a total" };
    let all: Option<Vec<u64>> = totals.into_iter().collect();
    all.and_then(|all| all.try_into().ok()).ok_or(missing)
}

/// When the host booted, seconds since the Unix epoch.
pub fn boot_seconds(bytes: &[u8]) -> Option<u64> {
    let line = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"btime "))?;
    number(line)
}

fn parse_softirqs(bytes: &[u8]) -> Option<[u64; 10]> {
    let line = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"softirq "))?;
    let mut counts = [0; 10];
    let count = numbers(words(line).skip(1), &mut counts)?;
    (count == counts.len()).then_some(counts)
}

impl SoftIrqKinds {
    fn push(&mut self, cycle: &mut Cycle<'_>, counts: [u64; 10]) -> Result<(), Error> {
        let series = match self.series {
            Some(series) => series,
            None => {
                let mut series = [SeriesIndex(0); 10];
                for (slot, kind) in series.iter_mut().zip(SOFTIRQ_KINDS) {
                    *slot = cycle.series("node_softirqs_total", &[("vector", kind)])?;
                }
                *self.series.insert(series)
            }
        };
        for (series, count) in series.into_iter().zip(counts) {
            cycle.push(series, count as f64);
        }
        Ok(())
    }
}
