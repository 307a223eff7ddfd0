//! The part of `/proc/vmstat` that node_exporter shows: paging, swapping and
//! out-of-memory kills.

use super::meminfo::metric_suffix;
use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, Malformed, lines, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct VmStat {
    file: KernelFile,
    filter: Filter,
    series: SeriesCache<SeriesIndex>,
}

impl VmStat {
    pub fn new(options: &HostOptions) -> Self {
        VmStat {
            file: KernelFile::new(&options.procfs, "vmstat"),
            filter: options.filters.filter("vmstat"),
            series: SeriesCache::default(),
        }
    }
}

impl Collect for VmStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut is_known = false;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let mut words = words(text);
            let Some(key) = words.next().filter(|key| self.filter.shows(key)) else { continue };
            let value = words.next().and_then(number);
            let value = value.ok_or(Malformed { line, reason: "is not a count" });
            let value = value.map_err(|malformed| self.file.malformed(malformed))?;
            let series = self
                .series
                .get_or_make(key, |key| cycle.series(&format!("node_vmstat_{}", metric_suffix(key)), &[]))?;
            cycle.push(series, value as f64);
            is_known = true;
        }
        match is_known {
            true => Ok(()),
            false => Err(self.file.malformed(Malformed { line: 0, reason: "has no field that we know" })),
        }
    }
}
