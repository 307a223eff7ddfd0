//! `/sys/kernel/mm/ksm`: memory pages that processes share because they are equal.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{Malformed, signed};
use crate::sources::host::tree::Tree;
use crate::sources::host::{Error, HostOptions};

/// Files, names, and by what a file's number is divided. Only the first is in
/// every kernel that has the feature.
const FILES: [(&[u8], &str, f64); 10] = [
    (b"run", "node_ksmd_run", 1.0),
    (b"full_scans", "node_ksmd_full_scans_total", 1.0),
    (b"general_profit", "node_ksmd_general_profit_bytes", 1.0),
    (b"merge_across_nodes", "node_ksmd_merge_across_nodes", 1.0),
    (b"pages_shared", "node_ksmd_pages_shared", 1.0),
    (b"pages_sharing", "node_ksmd_pages_sharing", 1.0),
    (b"pages_to_scan", "node_ksmd_pages_to_scan", 1.0),
    (b"pages_unshared", "node_ksmd_pages_unshared", 1.0),
    (b"pages_volatile", "node_ksmd_pages_volatile", 1.0),
    (b"sleep_millisecs", "node_ksmd_sleep_seconds", 1000.0),
];

pub struct Ksmd {
    tree: Tree,
    series: SeriesCache<SeriesIndex>,
}

impl Ksmd {
    pub fn new(options: &HostOptions) -> Self {
        Ksmd { tree: Tree::new(&options.sysfs), series: SeriesCache::default() }
    }
}

impl Collect for Ksmd {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (at, (file, name, divisor)) in FILES.into_iter().enumerate() {
            let parts = [b"kernel/mm/ksm", file];
            let value = match self.tree.read(&parts, buffer) {
                Ok(value) => signed(value),
                Err(error) if error.is_absence() && at > 0 => continue,
                Err(error) => return Err(error),
            };
            let malformed = Malformed { line: 1, reason: "is not a number" };
            let value = value.ok_or_else(|| self.tree.malformed(&parts, malformed))?;
            let series = self.series.get_or_make(file, |_| cycle.series(name, &[]))?;
            cycle.push(series, value / divisor);
        }
        Ok(())
    }
}
