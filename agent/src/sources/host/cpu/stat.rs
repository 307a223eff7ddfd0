//! `/proc/stat`: totals of the host, below the lines of its CPUs.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct Stat {
    file: KernelFile,
    series: FixedSeries<6>,
}

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
        Stat { file: KernelFile::new(&options.procfs, "stat"), series: FixedSeries::new(names) }
    }
}

impl Collect for Stat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let totals = parse_totals(cycle.stat()?).map_err(|malformed| self.file.malformed(malformed))?;
        self.series.push(cycle, totals.map(|total| total as f64))
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
