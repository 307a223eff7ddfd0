//! `/proc/schedstat`: time that tasks ran and waited, by CPU.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

/// Of the columns of `cpu<n>`: time running, time waiting, times run.
const FIRST_COLUMN: usize = 6;
const NANOSECONDS: f64 = 1e9;

pub struct SchedStat {
    file: KernelFile,
    series: SeriesCache<[SeriesIndex; 3]>,
}

impl SchedStat {
    pub fn new(options: &HostOptions) -> Self {
        SchedStat { file: KernelFile::new(&options.procfs, "schedstat"), series: SeriesCache::default() }
    }
}

impl Collect for SchedStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            let mut words = words(text);
            let Some(cpu) = words.next().and_then(|word| word.strip_prefix(b"cpu")) else { continue };
            let mut values = words.skip(FIRST_COLUMN).map_while(number);
            let (Some(running), Some(waiting), Some(slices)) = (values.next(), values.next(), values.next())
            else {
                return Err(self.file.wrong(line, "is not a CPU and nine numbers"));
            };
            let series = self.series.get_or_make(cpu, |cpu| {
                let names = [
                    "node_schedstat_running_seconds_total",
                    "node_schedstat_waiting_seconds_total",
                    "node_schedstat_timeslices_total",
                ];
                cycle.series_each(names, &[("cpu", cpu)])
            })?;
            cycle.push(series[0], running as f64 / NANOSECONDS);
            cycle.push(series[1], waiting as f64 / NANOSECONDS);
            cycle.push(series[2], slices as f64);
        }
        Ok(())
    }
}
