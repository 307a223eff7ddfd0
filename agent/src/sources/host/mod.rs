//! Metrics of a Linux host, with the names and labels of node_exporter.
//!
//! [`HostSource`] runs a fixed list of collectors, each over one or two kernel
//! files. A collector gives all of its measurements or none: one that fails
//! (its file is absent, cut, or not what it should be) contributes
//! `node_scrape_collector_success 0` and an entry in the [`CycleReport`], and
//! the others go on. Nothing here panics on what a kernel file says.
//!
//! All files are below [`HostOptions::procfs`], so a container can look at the
//! `/proc` of its host and a test at a directory. Exceptions are the system
//! calls that have no file: the kernel's name, file system sizes, and the
//! limit of open files.

mod collector;
mod cpu;
mod disk;
mod kernel;
mod memory;
mod network;
mod read;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lm_model::Timestamp;

use super::{Measurement, SeriesIndex, SeriesTable};
use collector::{Collect, Cycle};

/// Where to look.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Default `/proc`.
    pub procfs: PathBuf,
    /// The directory of the agent's own process. Default `/proc/self`, also
    /// when `procfs` is that of a host seen from a container.
    pub own_process: PathBuf,
    /// Prepended to mount points before asking for file system sizes.
    /// Default `/`.
    pub rootfs: PathBuf,
}

impl Default for HostOptions {
    fn default() -> Self {
        HostOptions { procfs: "/proc".into(), own_process: "/proc/self".into(), rootfs: "/".into() }
    }
}

/// A collector failed; others did not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// `line` counts from one; 0 is the file as a whole.
    #[error("{}: line {line}: {reason}", path.display())]
    Malformed { path: PathBuf, line: usize, reason: &'static str },
    #[error("the series table is full at {series_count_max} series")]
    TableFull { series_count_max: u32 },
}

/// What went wrong in a cycle.
#[derive(Debug, Default)]
pub struct CycleReport {
    /// The collectors that gave nothing, by node_exporter's names for them.
    pub failures: Vec<(&'static str, Error)>,
}

/// Measures a host, one cycle at a time.
///
/// Series numbers are remembered between cycles: give every cycle the same
/// [`SeriesTable`] (clearing it is fine).
pub struct HostSource {
    options: HostOptions,
    collectors: Vec<Named>,
    /// The generation of the table that remembered numbers belong to.
    generation: u64,
    buffer: Vec<u8>,
    stat: Vec<u8>,
}

impl HostSource {
    pub fn new(options: HostOptions) -> Self {
        let collectors = Vec::new();
        HostSource { options, collectors, generation: 0, buffer: Vec::new(), stat: Vec::new() }
    }

    /// Appends one measurement of every series that the host has now.
    ///
    /// `now` becomes `node_time_seconds`. `monotonic` reads a clock with any
    /// start; differences become `node_scrape_collector_duration_seconds`.
    /// A series of the last cycle that is not in this one has ended.
    pub fn collect(
        &mut self,
        now: Timestamp,
        monotonic: &mut dyn FnMut() -> Duration,
        table: &mut SeriesTable,
        out: &mut Vec<Measurement>,
    ) -> CycleReport {
        if self.collectors.is_empty() || self.generation != table.generation() {
            self.generation = table.generation();
            self.collectors = collectors(&self.options);
        }
        self.stat.clear();
        let mut report = CycleReport::default();
        let mut cycle = Cycle { now, table, out, stat: &mut self.stat, boot_seconds: None };
        let mut started = monotonic();
        for named in &mut self.collectors {
            let kept = cycle.out.len();
            let result = named.collect.collect(&mut cycle, &mut self.buffer);
            let success = result.is_ok();
            if let Err(error) = result {
                cycle.out.truncate(kept);
                report.failures.push((named.name, error));
            }
            let ended = monotonic();
            // Without room for its two series a collector still counts as run.
            if let Some([success_series, duration_series]) = named.series(cycle.table) {
                let duration = ended.saturating_sub(started).as_secs_f64();
                cycle.push(success_series, f64::from(u8::from(success)));
                cycle.push(duration_series, duration);
            }
            started = ended;
        }
        report
    }
}

struct Named {
    name: &'static str,
    collect: Box<dyn Collect>,
    series: Option<[SeriesIndex; 2]>,
}

impl Named {
    fn series(&mut self, table: &mut SeriesTable) -> Option<[SeriesIndex; 2]> {
        if self.series.is_none() {
            let labels = [("collector", self.name)];
            let success = table.get_or_insert("node_scrape_collector_success", &labels)?;
            let duration = table.get_or_insert("node_scrape_collector_duration_seconds", &labels)?;
            self.series = Some([success, duration]);
        }
        self.series
    }
}

fn collectors(options: &HostOptions) -> Vec<Named> {
    let root = &options.procfs;
    let named = |name, collect| Named { name, collect, series: None };
    vec![
        // First: it reads the file that cpu and process also look at.
        named("stat", Box::new(cpu::stat::Stat::new(root)) as Box<dyn Collect>),
        named("cpu", Box::new(cpu::time::Cpu::new(root))),
        named("loadavg", Box::new(kernel::loadavg::LoadAverage::new(root))),
        named("meminfo", Box::new(memory::meminfo::MemInfo::new(root))),
        named("vmstat", Box::new(memory::vmstat::VmStat::new(root))),
        named("netdev", Box::new(network::netdev::NetDev::new(root))),
        named("diskstats", Box::new(disk::diskstats::DiskStats::new(root))),
        named("filesystem", Box::new(disk::filesystem::FileSystems::new(root, &options.rootfs))),
        named("filefd", Box::new(kernel::filefd::FileDescriptors::new(root))),
        named("pressure", Box::new(kernel::pressure::Pressure::new(root))),
        named("time", Box::<kernel::time::Time>::default()),
        named("uname", Box::<kernel::uname::Uname>::default()),
        named("process", Box::new(kernel::own_process::Process::new(&options.own_process))),
    ]
}

#[cfg(test)]
mod tests;
