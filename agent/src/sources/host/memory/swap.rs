//! `/proc/swaps`: size and use of each swap device.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, signed, words};
use crate::sources::host::{Error, HostOptions};

/// Columns after device and type, and what turns them into bytes.
const COLUMNS: [(&str, f64); 3] =
    [("node_swap_size_bytes", 1024.0), ("node_swap_used_bytes", 1024.0), ("node_swap_priority", 1.0)];

pub struct Swap {
    file: KernelFile,
    /// By device.
    series: SeriesCache<[SeriesIndex; 3]>,
}

impl Swap {
    pub fn new(options: &HostOptions) -> Self {
        Swap { file: KernelFile::new(&options.procfs, "swaps"), series: SeriesCache::default() }
    }
}

impl Collect for Swap {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)?.skip(1) {
            let malformed = || self.file.wrong(line, "is not a device, its type and three numbers");
            let mut words = words(text);
            let (Some(device), Some(kind)) = (words.next(), words.next()) else { return Err(malformed()) };
            let series = self.series.get_or_make(device, |device| {
                let kind = String::from_utf8_lossy(kind);
                let labels = [("device", device), ("swap_type", &*kind)];
                cycle.series_each(COLUMNS.map(|(name, _)| name), &labels)
            })?;
            for (series, (_, unit)) in series.into_iter().zip(COLUMNS) {
                let value = words.next().and_then(signed).ok_or_else(malformed)?;
                cycle.push(series, value * unit);
            }
        }
        Ok(())
    }
}
