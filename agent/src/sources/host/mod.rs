//! Metrics of a Linux host, with the names and labels of node_exporter.
//!
//! [`HostSource`] runs a fixed list of collectors, each over one or two kernel
//! files. A collector gives all of its measurements or none: one that fails
//! (its file is absent, cut, or not what it should be) contributes
//! `node_scrape_collector_success 0` and an entry in the [`CycleReport`], and
//! the others go on. Nothing here panics on what a kernel file says, and one
//! that never answers costs a thread and not the cycle ([`worker`]).
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
mod read;
pub mod registry;
mod services;
mod textfile;
mod tree;
mod worker;

use std::io;
use std::path::PathBuf;

use lm_model::Timestamp;
use rustix::io::Errno;

use super::{Measurement, SeriesTable};
pub use options::HostOptions;
use registry::COLLECTORS;
use worker::Workshop;

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
    #[error("did not come back in time: it waits for a file or program that does not answer")]
    Stalled,
    #[error("the system has no thread for it")]
    NoThread,
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
            Error::Stalled | Error::NoThread => false,
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
    /// Collectors that did not come back in this cycle; those that were away
    /// already are not counted again.
    pub stalls: u64,
}

/// Measures a host, one cycle at a time.
///
/// Series numbers are remembered between cycles: give every cycle the same
/// [`SeriesTable`] (clearing it is fine).
pub struct HostSource {
    workshop: Workshop,
    /// The generation of the table that remembered numbers belong to.
    generation: u64,
    repeated: Repeated,
}

impl HostSource {
    pub fn new(options: HostOptions) -> Self {
        let chosen: Vec<_> =
            COLLECTORS.iter().filter(|known| options.collectors.contains(known.name)).collect();
        HostSource {
            workshop: Workshop::new(options, chosen.into_iter()),
            generation: 0,
            repeated: Repeated::default(),
        }
    }

    /// Appends one measurement of every series that the host has now.
    ///
    /// `now` becomes `node_time_seconds`. A series of the last cycle that is
    /// not in this one has ended. Blocks for a few times
    /// [`HostOptions::collector_time_max`] when files do not answer.
    pub fn collect(
        &mut self,
        now: Timestamp,
        table: &mut SeriesTable,
        out: &mut Vec<Measurement>,
    ) -> CycleReport {
        if self.generation != table.generation() {
            self.generation = table.generation();
            self.workshop.renew();
        }
        let first = out.len();
        let report = self.workshop.run(now, table, out);
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
