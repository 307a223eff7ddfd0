//! `/proc/diskstats`: operations, bytes and time of each block device.

use std::path::Path;

use crate::sources::SeriesIndex;
use crate::sources::host::Error;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, Malformed, lines, numbers, words};

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
    /// Indices of the columns that a device had when it was first seen.
    series: SeriesCache<(usize, [SeriesIndex; 17])>,
}

impl DiskStats {
    pub fn new(root: &Path) -> Self {
        DiskStats { file: KernelFile::new(root, "diskstats"), series: SeriesCache::default() }
    }
}

impl Collect for DiskStats {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let malformed = Malformed { line, reason: "is not a device and at least 11 counts" };
            let mut words = words(text).skip(2); // major and minor number
            let device = words.next().ok_or_else(|| self.file.malformed(malformed))?;
            if is_ignored(device) {
                continue;
            }
            let mut values = [0; 17];
            let count = numbers(words, &mut values).filter(|count| *count >= COLUMNS_MIN);
            let count = count.ok_or_else(|| self.file.malformed(malformed))?;
            let (known, series) =
                self.series.get_or_make(device, |device| disk_series(cycle, device, count))?;
            for at in 0..count.min(known) {
                cycle.push(series[at], values[at] as f64 * COLUMNS[at].1);
            }
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

/// node_exporter's default, `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`:
/// devices in memory and partitions.
fn is_ignored(device: &[u8]) -> bool {
    let without_number = strip_digits(device);
    if without_number.len() == device.len() {
        return false;
    }
    match without_number {
        b"ram" | b"zram" | b"loop" | b"fd" => true,
        [b'h' | b's' | b'v', b'd', letter] | [b'x', b'v', b'd', letter] => letter.is_ascii_lowercase(),
        name => is_nvme_partition(name),
    }
}

/// `nvme0n1p`, the number of the partition being gone.
fn is_nvme_partition(name: &[u8]) -> bool {
    let Some(name) = name.strip_prefix(b"nvme").and_then(|name| name.strip_suffix(b"p")) else {
        return false;
    };
    let Some(controller) = strip_digits(name).strip_suffix(b"n") else { return false };
    !name.ends_with(b"n") && !controller.is_empty() && strip_digits(controller).is_empty()
}

fn strip_digits(name: &[u8]) -> &[u8] {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    &name[..name.len() - digits]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_devices_are_ignored() {
        let check = |device: &str, expected: bool| {
            assert_eq!(is_ignored(device.as_bytes()), expected, "{device}");
        };
        for device in ["ram0", "zram1", "loop12", "fd0", "sda1", "hdb2", "vdc33", "xvda1", "nvme0n1p2"] {
            check(device, true);
        }
        for device in ["sda", "sdaa1", "dm-0", "nvme0n1", "nvme0n", "nvmen1p1", "mmcblk0p1", "md0", "sr0", ""]
        {
            check(device, false);
        }
    }
}
