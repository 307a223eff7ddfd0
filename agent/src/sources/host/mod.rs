//! Metrics of a Linux host, with the names and labels of node_exporter.
//!
//! [`HostSource`] runs a fixed list of collectors, each over one or two kernel
//! files. A collector gives all of its measurements or none: one that fails
//! (its file is absent, cut, or not what it should be) contributes
//! `node_scrape_collector_success 0` and an entry in the [`CycleReport`], and
//! the others go on. Nothing here panics on what a kernel file says.
//!
//! All files are below the roots of [`HostOptions`], so a container can look at
//! the `/proc` and `/sys` of its host and a test at a directory. Exceptions are
//! the system calls that have no file: the kernel's name, file system sizes,
//! and the limit of open files.
//!
//! A new collector is a file in the room of its subject, a line in
//! [`registry`], and, when it has a filter, a line in [`filter`].

mod attribute;
mod collector;
mod cpu;
mod directory;
mod disk;
pub mod filter;
mod hardware;
mod kernel;
mod memory;
mod network;
mod options;
mod process_stat;
mod read;
pub mod registry;
mod services;
mod textfile;
mod tree;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lm_model::Timestamp;
use rustix::io::Errno;

use super::{Measurement, SeriesIndex, SeriesTable};
use collector::{Collect, Cycle, SharedStat};
pub use options::HostOptions;
use read::KernelFile;
use registry::{COLLECTORS, KnownCollector};

/// A collector failed; others did not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// `line` counts from one; 0 is the file as a whole.
    #[error("{}: line {line}: {reason}", path.display())]
    Malformed { path: PathBuf, line: usize, reason: &'static str },
    #[error("{}: {source}", path.display())]
    Exposition { path: PathBuf, source: lm_exposition::Error },
    #[error(
        "has more series than there is room for beside the others ({series_count_max} for all); \
         see metrics.filters"
    )]
    TableFull { series_count_max: u32 },
}

impl Error {
    /// This host has no such thing, or does not let us look at it this way:
    /// what most collectors of special hardware answer on most hosts.
    pub fn is_absence(&self) -> bool {
        let absences =
            [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP, Errno::SRCH].map(|errno| errno.raw_os_error());
        match self {
            Error::Read { source, .. } => source.raw_os_error().is_some_and(|code| absences.contains(&code)),
            Error::Malformed { .. } | Error::Exposition { .. } | Error::TableFull { .. } => false,
        }
    }
}

/// What went wrong in a cycle.
#[derive(Debug, Default)]
pub struct CycleReport {
    /// The collectors that gave nothing, by node_exporter's names for them.
    pub failures: Vec<(&'static str, Error)>,
    /// What collectors left out that gave the rest.
    pub left_out: Vec<(&'static str, Error)>,
}

/// Measures a host, one cycle at a time.
///
/// Series numbers are remembered between cycles: give every cycle the same
/// [`SeriesTable`] (clearing it is fine).
pub struct HostSource {
    options: HostOptions,
    collectors: Vec<Running>,
    /// The generation of the table that remembered numbers belong to.
    generation: u64,
    buffer: Vec<u8>,
    stat: SharedStat,
    repeated: Repeated,
}

impl HostSource {
    pub fn new(options: HostOptions) -> Self {
        let file = KernelFile::new(&options.procfs, "stat");
        HostSource {
            options,
            collectors: Vec::new(),
            generation: 0,
            buffer: Vec::new(),
            stat: SharedStat { file, bytes: Vec::new(), is_read: false },
            repeated: Repeated::default(),
        }
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
            self.collectors = running(&self.options);
        }
        self.stat.is_read = false;
        let first = out.len();
        let mut report = CycleReport::default();
        let mut left_out = Vec::new();
        let mut cycle = Cycle { now, table, out, shared: &mut self.stat, left_out: &mut left_out };
        let mut started = monotonic();
        for running in &mut self.collectors {
            let result = running.collect(&self.options, &mut cycle, &mut self.buffer);
            let success = result.is_ok();
            report.left_out.extend(cycle.left_out.drain(..).map(|error| (running.known.name, error)));
            if let Err(error) = result {
                report.failures.push((running.known.name, error));
            }
            let ended = monotonic();
            // Without room for its two series a collector still counts as run.
            if let Some([success_series, duration_series]) = running.series(cycle.table) {
                let duration = ended.saturating_sub(started).as_secs_f64();
                cycle.push(success_series, f64::from(u8::from(success)));
                cycle.push(duration_series, duration);
            }
            started = ended;
        }
        self.repeated.drop_from(first, out);
        report
    }
}

/// Finds series that were measured twice in a cycle: two chips of one name, a
/// text file that says what a collector says. The first counts.
#[derive(Default)]
struct Repeated {
    /// By series: the cycle that measured it last.
    measured_in: Vec<u32>,
    cycle: u32,
}

impl Repeated {
    fn drop_from(&mut self, first: usize, out: &mut Vec<Measurement>) {
        self.cycle = self.cycle.wrapping_add(1);
        let mut end = first;
        for at in first..out.len() {
            let series = out[at].series.0 as usize;
            if series >= self.measured_in.len() {
                self.measured_in.resize(series + 1, self.cycle.wrapping_sub(1));
            }
            let before = std::mem::replace(&mut self.measured_in[series], self.cycle);
            if before != self.cycle {
                out[end] = out[at];
                end += 1;
            }
        }
        out.truncate(end);
    }
}

struct Running {
    known: &'static KnownCollector,
    collect: Box<dyn Collect>,
    series: Option<[SeriesIndex; 2]>,
    /// Cycles to leave out, after one that had more series than there is room.
    pause: u32,
}

/// Building thousands of series to find that they do not fit is costly, and
/// the next cycle seldom finds fewer.
const PAUSE_CYCLES: u32 = 20;

impl Running {
    /// Collects everything or nothing: what a failed collector pushed is taken
    /// back, and of one that found no room also the series that it added, so
    /// that those after it have that room.
    fn collect(
        &mut self,
        options: &HostOptions,
        cycle: &mut Cycle<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.pause > 0 {
            self.pause -= 1;
            return Err(Error::TableFull { series_count_max: cycle.table.series_count_max() });
        }
        let (pushed, known) = (cycle.out.len(), cycle.table.len());
        let result = self.collect.collect(cycle, buffer);
        if result.is_err() {
            cycle.out.truncate(pushed);
        }
        if let Err(Error::TableFull { .. }) = result {
            cycle.table.truncate(known);
            // It remembers series that are gone.
            self.collect = (self.known.make)(options);
            self.pause = PAUSE_CYCLES;
        }
        result
    }

    fn series(&mut self, table: &mut SeriesTable) -> Option<[SeriesIndex; 2]> {
        if self.series.is_none() {
            let labels = [("collector", self.known.name)];
            let success = table.get_or_insert("node_scrape_collector_success", &labels)?;
            let duration = table.get_or_insert("node_scrape_collector_duration_seconds", &labels)?;
            self.series = Some([success, duration]);
        }
        self.series
    }
}

fn running(options: &HostOptions) -> Vec<Running> {
    let chosen = COLLECTORS.iter().filter(|known| options.collectors.contains(known.name));
    chosen.map(|known| Running { known, collect: (known.make)(options), series: None, pause: 0 }).collect()
}
