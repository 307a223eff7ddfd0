//! `/proc/diskstats`: operations, bytes and time of each block device.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, Malformed, lines, number, numbers, words};
use crate::sources::host::{Error, HostOptions};

use super::disk_info::{Device, DiskInfo};

/// Columns in the kernel's order and what turns them into base units. Kernels
/// before 4.18 end after the eleventh, before 5.5 after the fifteenth.
const COLUMNS: [(&str, f64); 17] = [
    ("node_disk_reads_completed_total", 1.0),
    ("node_disk_reads_merged_total", 1.0),
    ("node_disk_read_bytes_total", SECTOR_BYTES),
    ("node_disk_read_time_seconds_total", MILLISECOND),
    ("node_disk_writes_completed_total", 1.0),
    ("node_disk_writes_merged_total", 1.0),
    ("node_disk_written_bytes_total", SECTOR_BYTES),
    ("node_disk_write_time_seconds_total", MILLISECOND),
    ("node_disk_io_now", 1.0),
    ("node_disk_io_time_seconds_total", MILLISECOND),
    ("node_disk_io_time_weighted_seconds_total", MILLISECOND),
    ("node_disk_discards_completed_total", 1.0),
    ("node_disk_discards_merged_total", 1.0),
    ("node_disk_discarded_sectors_total", 1.0),
    ("node_disk_discard_time_seconds_total", MILLISECOND),
    ("node_disk_flush_requests_total", 1.0),
    ("node_disk_flush_requests_time_seconds_total", MILLISECOND),
];

/// A sector here is 512 bytes, whatever the device's own are.
const SECTOR_BYTES: f64 = 512.0;
const MILLISECOND: f64 = 0.001;

/// Columns that every kernel has.
const COLUMNS_MIN: usize = 11;

pub struct DiskStats {
    file: KernelFile,
    filter: Filter,
    info: DiskInfo,
    /// Indices of the columns that a device had when it was first seen.
    series: SeriesCache<(usize, [SeriesIndex; 17])>,
}

impl DiskStats {
    pub fn new(options: &HostOptions) -> Self {
        DiskStats {
            file: KernelFile::new(&options.procfs, "diskstats"),
            filter: options.filters.filter("diskstats"),
            info: DiskInfo::new(options),
            series: SeriesCache::default(),
        }
    }
}

impl Collect for DiskStats {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let malformed = Malformed { line, reason: "is not a device and at least 11 counts" };
            let mut words = words(text);
            let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
                return Err(self.file.malformed(malformed));
            };
            if !self.filter.shows(device) {
                continue;
            }
            if number(major).is_none() || number(minor).is_none() {
                return Err(self.file.malformed(malformed));
            }
            let mut values = [0; 17];
            let count = numbers(words, &mut values).filter(|count| *count >= COLUMNS_MIN);
            let count = count.ok_or_else(|| self.file.malformed(malformed))?;
            let (known, series) =
                self.series.get_or_make(device, |device| disk_series(cycle, device, count))?;
            for at in 0..count.min(known) {
                cycle.push(series[at], values[at] as f64 * COLUMNS[at].1);
            }
            self.info.push(cycle, &Device { major, minor, name: device })?;
        }
        Ok(())
    }
}

fn disk_series(
    cycle: &mut Cycle<'_>,
    device: &str,
    count: usize,
) -> Result<(usize, [SeriesIndex; 17]), Error> {
    let mut series = [SeriesIndex(0); 17];
    for (slot, (name, _)) in series.iter_mut().zip(COLUMNS).take(count) {
        *slot = cycle.series(name, &[("device", device)])?;
    }
    Ok((count, series))
}
