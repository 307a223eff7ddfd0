//! `/proc/zoneinfo`: pages of each zone of memory.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

use super::buddyinfo::parse_zone;

/// Fields that are shown. Those of a node as a whole stand in its first zone.
const FIELDS: [(&[u8], &str); 35] = [
    (b"min", "min_pages"),
    (b"low", "low_pages"),
    (b"high", "high_pages"),
    (b"scanned", "scanned_pages"),
    (b"spanned", "spanned_pages"),
    (b"present", "present_pages"),
    (b"managed", "managed_pages"),
    (b"nr_free_pages", "nr_free_pages"),
    (b"nr_active_anon", "nr_active_anon_pages"),
    (b"nr_inactive_anon", "nr_inactive_anon_pages"),
    (b"nr_isolated_anon", "nr_isolated_anon_pages"),
    (b"nr_anon_pages", "nr_anon_pages"),
    (b"nr_anon_transparent_hugepages", "nr_anon_transparent_hugepages"),
    (b"nr_active_file", "nr_active_file_pages"),
    (b"nr_inactive_file", "nr_inactive_file_pages"),
    (b"nr_isolated_file", "nr_isolated_file_pages"),
    (b"nr_file_pages", "nr_file_pages"),
    (b"nr_slab_reclaimable", "nr_slab_reclaimable_pages"),
    (b"nr_slab_unreclaimable", "nr_slab_unreclaimable_pages"),
    (b"nr_mlock_stack", "nr_mlock_stack_pages"),
    (b"nr_kernel_stack", "nr_kernel_stacks"),
    (b"nr_mapped", "nr_mapped_pages"),
    (b"nr_dirty", "nr_dirty_pages"),
    (b"nr_writeback", "nr_writeback_pages"),
    (b"nr_unevictable", "nr_unevictable_pages"),
    (b"nr_shmem", "nr_shmem_pages"),
    (b"nr_dirtied", "nr_dirtied_total"),
    (b"nr_written", "nr_written_total"),
    (b"numa_hit", "numa_hit_total"),
    (b"numa_miss", "numa_miss_total"),
    (b"numa_foreign", "numa_foreign_total"),
    (b"numa_interleave", "numa_interleave_total"),
    (b"numa_local", "numa_local_total"),
    (b"numa_other", "numa_other_total"),
    (b"protection:", "protection"),
];

pub struct ZoneInfo {
    file: KernelFile,
    fields: Fields,
    digits: Vec<u8>,
}

#[derive(Default)]
struct Fields {
    /// By node, zone and name.
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

impl ZoneInfo {
    pub fn new(options: &HostOptions) -> Self {
        ZoneInfo {
            file: KernelFile::new(&options.procfs, "zoneinfo"),
            fields: Fields::default(),
            digits: Vec::new(),
        }
    }
}

impl Collect for ZoneInfo {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut zone = None;
        for (line, text) in self.file.read_lines(buffer)? {
            if text.starts_with(b"Node") {
                zone =
                    Some(parse_zone(text).ok_or_else(|| self.file.wrong(line, "is not a zone of a node"))?);
                continue;
            }
            let mut words = words(text);
            let name = words.next().unwrap_or_default();
            let Some((field, metric)) = FIELDS.iter().find(|(field, _)| *field == name) else { continue };
            let zone = zone.ok_or_else(|| self.file.wrong(line, "belongs to no zone"))?;
            let malformed = || self.file.wrong(line, "is not a count");
            if !field.ends_with(b":") {
                let value = words.next().and_then(number).ok_or_else(malformed)?;
                self.fields.push(cycle, zone, metric, None, value)?;
                continue;
            }
            // `protection: (0, 2039, 31932)`
            for (at, word) in words.enumerate() {
                let digits = word.iter().copied().filter(|byte| !b"(,)".contains(byte));
                self.digits.clear();
                self.digits.extend(digits);
                let value = number(&self.digits).ok_or_else(malformed)?;
                self.fields.push(cycle, zone, metric, Some(at), value)?;
            }
        }
        Ok(())
    }
}

impl Fields {
    fn push(
        &mut self,
        cycle: &mut Cycle<'_>,
        (node, zone): (&[u8], &[u8]),
        metric: &str,
        at: Option<usize>,
        value: u64,
    ) -> Result<(), Error> {
        self.key.clear();
        for part in [node, b" ", zone, b" ", metric.as_bytes(), &at.unwrap_or(usize::MAX).to_ne_bytes()] {
            self.key.extend_from_slice(part);
        }
        let series = self.series.get_or_make(&self.key, |_| {
            let (node, zone) = (String::from_utf8_lossy(node), String::from_utf8_lossy(zone));
            let suffix = at.map(|at| format!("_{at}")).unwrap_or_default();
            cycle.series(&format!("node_zoneinfo_{metric}{suffix}"), &[("node", &node), ("zone", &zone)])
        })?;
        cycle.push(series, value as f64);
        Ok(())
    }
}
