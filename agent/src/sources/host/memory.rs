//! `/proc/meminfo` and the part of `/proc/vmstat` that node_exporter shows.

use std::path::Path;

use super::Error;
use super::collector::{Collect, Cycle, SeriesCache};
use super::read::{KernelFile, Malformed, lines, number, words};
use crate::sources::SeriesIndex;

/// Every field of `/proc/meminfo`.
pub struct MemInfo {
    file: KernelFile,
    series: SeriesCache<SeriesIndex>,
}

impl MemInfo {
    pub fn new(root: &Path) -> Self {
        MemInfo { file: KernelFile::new(root, "meminfo"), series: SeriesCache::default() }
    }
}

impl Collect for MemInfo {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let field = parse_field(text).ok_or(Malformed { line, reason: "is not `field: number [kB]`" });
            let field = field.map_err(|malformed| self.file.malformed(malformed))?;
            let series = self
                .series
                .get_or_make(field.name, |name| cycle.series(&memory_name(name, field.is_kilobytes), &[]))?;
            let unit = if field.is_kilobytes { 1024.0 } else { 1.0 };
            cycle.push(series, field.value as f64 * unit);
        }
        Ok(())
    }
}

struct Field<'a> {
    name: &'a [u8],
    value: u64,
    is_kilobytes: bool,
}

fn parse_field(text: &[u8]) -> Option<Field<'_>> {
    let mut words = words(text);
    let name = words.next()?.strip_suffix(b":").filter(|name| !name.is_empty())?;
    let value = number(words.next()?)?;
    match words.next() {
        None => Some(Field { name, value, is_kilobytes: false }),
        Some(b"kB") => Some(Field { name, value, is_kilobytes: true }),
        Some(_) => None,
    }
}

/// `Active(anon)` in kB is `node_memory_Active_anon_bytes`.
fn memory_name(field: &str, is_kilobytes: bool) -> String {
    let field = metric_suffix(&field.replace(')', ""));
    let unit = if is_kilobytes { "_bytes" } else { "" };
    format!("node_memory_{field}{unit}")
}

/// Characters that a metric name cannot have become `_`.
fn metric_suffix(field: &str) -> String {
    field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Paging, swapping and out-of-memory kills.
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
