//! The agent's own process, with the names of the Prometheus client libraries.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::process::Resource;

use crate::sources::host::Error;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::cpu::USER_HZ;
use crate::sources::host::read::{KernelFile, Malformed, number, words};

pub struct Process {
    stat: KernelFile,
    descriptors: PathBuf,
    page_bytes: f64,
    series: FixedSeries<5>,
    start_time: FixedSeries<1>,
}

impl Process {
    pub fn new(own_process: &Path) -> Self {
        let names = [
            "process_cpu_seconds_total",
            "process_virtual_memory_bytes",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        ];
        Process {
            stat: KernelFile::new(own_process, "stat"),
            descriptors: own_process.join("fd"),
            page_bytes: rustix::param::page_size() as f64,
            series: FixedSeries::new(names),
            start_time: FixedSeries::new(["process_start_time_seconds"]),
        }
    }
}

impl Collect for Process {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.stat.read(buffer)?;
        let stat = parse_stat(buffer)
            .ok_or_else(|| self.stat.malformed(Malformed { line: 1, reason: "is not a process's state" }))?;
        let open = count_descriptors(&self.descriptors)
            .map_err(|errno| Error::Read { path: self.descriptors.clone(), source: errno.into() })?;
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        let values = [
            (stat.user_ticks as f64 + stat.system_ticks as f64) / USER_HZ,
            stat.virtual_bytes as f64,
            stat.resident_pages as f64 * self.page_bytes,
            open as f64,
            limit.unwrap_or(u64::MAX) as f64,
        ];
        self.series.push(cycle, values)?;
        match cycle.boot_seconds {
            Some(boot) => self.start_time.push(cycle, [boot as f64 + stat.start_ticks as f64 / USER_HZ]),
            None => Ok(()),
        }
    }
}

struct ProcessStat {
    user_ticks: u64,
    system_ticks: u64,
    /// Since boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Numbers after the program's name, which is in parentheses and may hold
/// spaces and parentheses itself. `proc_pid_stat(5)` counts fields from one
/// and the name is the second, so its field *n* is at *n* - 3 here.
fn parse_stat(bytes: &[u8]) -> Option<ProcessStat> {
    let name_end = bytes.iter().rposition(|byte| *byte == b')')?;
    let mut fields = words(bytes[name_end + 1..].trim_ascii_end());
    let user_ticks = number(fields.nth(14 - 3)?)?;
    let system_ticks = number(fields.next()?)?;
    let start_ticks = number(fields.nth(22 - 16)?)?;
    let virtual_bytes = number(fields.next()?)?;
    let resident_pages = number(fields.next()?)?;
    Some(ProcessStat { user_ticks, system_ticks, start_ticks, virtual_bytes, resident_pages })
}

/// Entries of a `/proc/<pid>/fd`, without the one that reading it takes.
fn count_descriptors(path: &Path) -> Result<usize, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut count = 0usize;
    while let Some(entry) = entries.next() {
        if !entry?.file_name().to_bytes().starts_with(b".") {
            count += 1;
        }
    }
    Ok(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let line = b"10 (a b) c) S 1 2 3 4 5 6 7 8 9 10 1677 44 0 0 20 0 1 0 82375 56274944 1981 184\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start_ticks), (1677, 44, 82375));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (56_274_944, 1981));
        assert!(parse_stat(&line[..40]).is_none());
        assert!(parse_stat(b"").is_none());
    }
}
