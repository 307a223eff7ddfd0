//! The part of `/proc/vmstat` that node_exporter shows: paging, swapping and
//! out-of-memory kills.

use std::path::Path;

use super::meminfo::metric_suffix;
use crate::sources::SeriesIndex;
use crate::sources::host::Error;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, words};

pub struct VmStat {
    file: KernelFile,
    series: SeriesCache<SeriesIndex>,
}

impl VmStat {
    pub fn new(root: &Path) -> Self {
        VmStat { file: KernelFile::new(root, "vmstat"), series: SeriesCache::default() }
    }
}

impl Collect for VmStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut is_known = false;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let mut words = words(text);
            let Some(key) = words.next().filter(|key| is_shown(key)) else { continue };
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

/// node_exporter's default, `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_shown(key: &[u8]) -> bool {
    let is_fault = |rest: &[u8]| rest.windows(5).any(|window| window == b"fault");
    key.starts_with(b"oom_kill")
        || key.starts_with(b"pgpg")
        || key.starts_with(b"pswp")
        || key.strip_prefix(b"pg").is_some_and(is_fault)
}
