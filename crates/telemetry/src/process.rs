//! A process in figures, with the names of the Prometheus client libraries.

use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::process::Resource;

use crate::process_stat::ProcessStat;
use crate::{Figure, Telemetry};

/// Ticks of a second in `/proc`: USER_HZ, the same on every Linux of today.
const USER_HZ: f64 = 100.0;

/// A name of 15 bytes and some fifty numbers need a tenth of it.
const STAT_BYTES_MAX: u64 = 16 << 10;

/// As of now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessFacts {
    pub cpu_seconds: f64,
    pub virtual_bytes: f64,
    pub resident_bytes: f64,
    pub open_fds: f64,
    pub max_fds: f64,
    /// From the boot of the host to the start of the process.
    pub started_seconds: f64,
}

impl ProcessFacts {
    /// Reads a directory such as `/proc/self`, through `buffer`. The limit of
    /// descriptors is our own in any case.
    ///
    /// # Errors
    ///
    /// When a file cannot be read; [`io::ErrorKind::InvalidData`] when it is
    /// not a process's.
    pub fn read(directory: &Path, buffer: &mut Vec<u8>) -> io::Result<ProcessFacts> {
        buffer.clear();
        std::fs::File::open(directory.join("stat"))?.take(STAT_BYTES_MAX).read_to_end(buffer)?;
        let stat = ProcessStat::parse(buffer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "stat is not a process's state"))?;
        Ok(ProcessFacts {
            cpu_seconds: (stat.user_ticks as f64 + stat.system_ticks as f64) / USER_HZ,
            virtual_bytes: stat.virtual_bytes as f64,
            resident_bytes: stat.resident_pages as f64 * rustix::param::page_size() as f64,
            open_fds: count_descriptors(&directory.join("fd"))? as f64,
            max_fds: rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as f64,
            started_seconds: stat.start_ticks as f64 / USER_HZ,
        })
    }

    /// Adds all but the start, which needs the time of the boot.
    pub fn figures(&self, to: &mut Vec<Figure>) {
        to.extend([
            Figure::new("process_cpu_seconds_total", "User and system CPU time.", self.cpu_seconds),
            Figure::new("process_virtual_memory_bytes", "Virtual memory.", self.virtual_bytes),
            Figure::new("process_resident_memory_bytes", "Resident memory.", self.resident_bytes),
            Figure::new("process_open_fds", "Open file descriptors.", self.open_fds),
            Figure::new("process_max_fds", "Most open file descriptors.", self.max_fds),
        ]);
    }
}

/// Adds this process, and what it was built as under `build_info`, to a
/// process's figures. What cannot be read is left out.
pub fn add(telemetry: &Telemetry, build_info: &'static str, version: &'static str) {
    let booted = boot_seconds();
    telemetry.add(move |to| {
        to.push(Figure::new(build_info, "Always 1; says what was built.", 1.0).with("version", version));
        let Ok(facts) = ProcessFacts::read(Path::new("/proc/self"), &mut Vec::new()) else { return };
        facts.figures(to);
        if let Some(booted) = booted {
            let name = "process_start_time_seconds";
            to.push(Figure::new(name, "When the process was started.", booted + facts.started_seconds));
        }
    });
}

/// When the host was booted, in seconds since 1970.
fn boot_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// Entries of a `/proc/<pid>/fd`, without the one that reading it takes.
fn count_descriptors(path: &Path) -> io::Result<usize> {
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
    fn this_process_has_all_figures() {
        let telemetry = Telemetry::default();
        add(&telemetry, "x_build_info", "1.2.3");
        let found = telemetry.collect();
        let names: Vec<_> = found.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let crate::Value::Number(started) = found[6].value else { panic!("{found:?}") };
        assert!((now - 3600.0..now + 5.0).contains(&started), "{started} at {now}");
    }
}
