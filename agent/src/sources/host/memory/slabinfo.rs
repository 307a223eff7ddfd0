//! `/proc/slabinfo`: objects in the kernel's own caches. Only root may read it.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, numbers, words};
use crate::sources::host::{Error, HostOptions};

/// Columns after the name.
const NAMES: [&str; 5] = [
    "node_slabinfo_active_objects",
    "node_slabinfo_objects",
    "node_slabinfo_object_size_bytes",
    "node_slabinfo_objects_per_slab",
    "node_slabinfo_pages_per_slab",
];
/// The version, and the names of columns.
const HEADER_LINES: usize = 2;

pub struct SlabInfo {
    file: KernelFile,
    filter: Filter,
    series: SeriesCache<Option<[SeriesIndex; 5]>>,
}

impl SlabInfo {
    pub fn new(options: &HostOptions) -> Self {
        SlabInfo {
            file: KernelFile::new(&options.procfs, "slabinfo"),
            filter: options.filters.filter("slabinfo"),
            series: SeriesCache::default(),
        }
    }
}

impl Collect for SlabInfo {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)?.skip(HEADER_LINES) {
            let malformed = || self.file.wrong(line, "is not a cache and at least five counts");
            let mut words = words(text);
            let slab = words.next().ok_or_else(malformed)?;
            let mut values = [0; 5];
            numbers(words, &mut values).filter(|count| *count == 5).ok_or_else(malformed)?;
            let series = self.series.get_or_make(slab, |name| match self.filter.shows(slab) {
                true => cycle.series_each(NAMES, &[("slab", name)]).map(Some),
                false => Ok(None),
            })?;
            for (series, value) in series.into_iter().flatten().zip(values) {
                cycle.push(series, value as f64);
            }
        }
        Ok(())
    }
}
