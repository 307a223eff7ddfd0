//! The agent's own process, with the names of the Prometheus client libraries.

use lm_telemetry::process_stat::ProcessStat;
use rustix::process::Resource;

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::cpu::USER_HZ;
use crate::sources::host::cpu::stat::boot_seconds;
use crate::sources::host::read::{KernelFile, Malformed};
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

pub struct OwnProcess {
    stat: KernelFile,
    tree: Tree,
    descriptors: Names,
    page_bytes: f64,
    series: FixedSeries<6>,
    start_time: FixedSeries<1>,
}

impl OwnProcess {
    pub fn new(options: &HostOptions) -> Self {
        let names = [
            "process_cpu_seconds_total",
            "process_virtual_memory_bytes",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_virtual_memory_max_bytes",
        ];
        OwnProcess {
            stat: KernelFile::new(&options.own_process, "stat"),
            tree: Tree::new(&options.own_process),
            descriptors: Names::default(),
            page_bytes: rustix::param::page_size() as f64,
            series: FixedSeries::new(names),
            start_time: FixedSeries::new(["process_start_time_seconds"]),
        }
    }
}

impl Collect for OwnProcess {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.stat.read(buffer)?;
        let stat = ProcessStat::parse(buffer)
            .ok_or_else(|| self.stat.malformed(Malformed { line: 1, reason: "is not a process's state" }))?;
        self.tree.list(&[b"fd"], &mut self.descriptors)?;
        // Without the one that listing them takes.
        let open = self.descriptors.len().saturating_sub(1);
        // No limit is the largest number, as in the Prometheus client libraries.
        let limit = |of| rustix::process::getrlimit(of).current.unwrap_or(u64::MAX) as f64;
        let values = [
            (stat.user_ticks as f64 + stat.system_ticks as f64) / USER_HZ,
            stat.virtual_bytes as f64,
            stat.resident_pages as f64 * self.page_bytes,
            open as f64,
            limit(Resource::Nofile),
            limit(Resource::As),
        ];
        self.series.push(cycle, values)?;
        match cycle.stat().ok().and_then(boot_seconds) {
            Some(boot) => self.start_time.push(cycle, [boot as f64 + stat.start_ticks as f64 / USER_HZ]),
            None => Ok(()),
        }
    }
}
