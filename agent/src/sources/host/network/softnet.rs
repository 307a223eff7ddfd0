//! `/proc/net/softnet_stat`: received packets by the CPU that handled them.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, hexadecimal, words};
use crate::sources::host::{Error, HostOptions};

/// Names and columns; kernels before 2.6.35 end after the ninth column, before
/// 3.11 after the tenth, before 5.10 after the eleventh.
const COLUMNS: [(&str, usize); 7] = [
    ("node_softnet_processed_total", 0),
    ("node_softnet_dropped_total", 1),
    ("node_softnet_times_squeezed_total", 2),
    ("node_softnet_cpu_collision_total", 8),
    ("node_softnet_received_rps_total", 9),
    ("node_softnet_flow_limit_count_total", 10),
    ("node_softnet_backlog_len", 11),
];
const COLUMN_COUNT_MIN: usize = 9;
/// The CPU's number; a line's own number where the kernel does not say.
const CPU_COLUMN: usize = 12;

pub struct SoftNet {
    file: KernelFile,
    series: SeriesCache<[SeriesIndex; 7]>,
}

impl SoftNet {
    pub fn new(options: &HostOptions) -> Self {
        SoftNet { file: KernelFile::new(&options.procfs, "net/softnet_stat"), series: SeriesCache::default() }
    }
}

impl Collect for SoftNet {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            let malformed = || self.file.wrong(line, "is not at least 9 hexadecimal counts");
            let mut values = [0; CPU_COLUMN + 1];
            let mut count = 0;
            for (slot, word) in values.iter_mut().zip(words(text)) {
                *slot = hexadecimal(word).ok_or_else(malformed)?;
                count += 1;
            }
            if count < COLUMN_COUNT_MIN {
                return Err(malformed());
            }
            let cpu = if count > CPU_COLUMN { values[CPU_COLUMN] } else { line as u64 - 1 };
            let series = self.series.get_or_make(&cpu.to_ne_bytes(), |_| {
                cycle.series_each(COLUMNS.map(|(name, _)| name), &[("cpu", &cpu.to_string())])
            })?;
            for (series, (_, column)) in series.into_iter().zip(COLUMNS) {
                cycle.push(series, values[column] as f64);
            }
        }
        Ok(())
    }
}
