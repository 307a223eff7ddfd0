//! Small facts about the system: load, file handles, time, the kernel's name.

use std::ffi::CStr;
use std::path::Path;

use super::Error;
use super::collector::{Collect, Cycle, FixedSeries};
use super::read::{KernelFile, Malformed, decimal, number, words};
use crate::sources::SeriesIndex;

pub struct LoadAverage {
    file: KernelFile,
    series: FixedSeries<3>,
}

impl LoadAverage {
    pub fn new(root: &Path) -> Self {
        let series = FixedSeries::new(["node_load1", "node_load5", "node_load15"]);
        LoadAverage { file: KernelFile::new(root, "loadavg"), series }
    }
}

impl Collect for LoadAverage {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut words = words(buffer.trim_ascii_end());
        let mut next = || words.next().and_then(decimal);
        let (Some(load1), Some(load5), Some(load15)) = (next(), next(), next()) else {
            return Err(self.file.malformed(Malformed { line: 1, reason: "is not three loads" }));
        };
        self.series.push(cycle, [load1, load5, load15])
    }
}

/// File handles of the whole system.
pub struct FileDescriptors {
    file: KernelFile,
    series: FixedSeries<2>,
}

impl FileDescriptors {
    pub fn new(root: &Path) -> Self {
        let series = FixedSeries::new(["node_filefd_allocated", "node_filefd_maximum"]);
        FileDescriptors { file: KernelFile::new(root, "sys/fs/file-nr"), series }
    }
}

impl Collect for FileDescriptors {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut words = words(buffer.trim_ascii_end()).map(number);
        let (Some(Some(allocated)), Some(_), Some(Some(maximum))) =
            (words.next(), words.next(), words.next())
        else {
            return Err(self.file.malformed(Malformed { line: 1, reason: "is not three counts" }));
        };
        self.series.push(cycle, [allocated as f64, maximum as f64])
    }
}

/// The wall clock, as the caller read it.
pub struct Time {
    series: FixedSeries<1>,
}

impl Default for Time {
    fn default() -> Self {
        Time { series: FixedSeries::new(["node_time_seconds"]) }
    }
}

impl Collect for Time {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let now = cycle.now.as_seconds_f64();
        self.series.push(cycle, [now])
    }
}

/// The kernel's name and version. Host names change, so the labels are looked
/// up again when they do.
#[derive(Default)]
pub struct Uname {
    known: Option<(rustix::system::Uname, SeriesIndex)>,
}

impl Collect for Uname {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let uname = rustix::system::uname();
        let series = match &self.known {
            Some((known, series)) if facts(known) == facts(&uname) => *series,
            _ => {
                let values = facts(&uname).map(CStr::to_string_lossy);
                let names = ["sysname", "nodename", "release", "version", "machine", "domainname"];
                let labels: [_; 6] = std::array::from_fn(|at| (names[at], &*values[at]));
                let series = cycle.series("node_uname_info", &labels)?;
                self.known.insert((uname, series)).1
            }
        };
        cycle.push(series, 1.0);
        Ok(())
    }
}

fn facts(uname: &rustix::system::Uname) -> [&CStr; 6] {
    [uname.sysname(), uname.nodename(), uname.release(), uname.version(), uname.machine(), uname.domainname()]
}
