//! `/proc/meminfo`: every field.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, Malformed, lines, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct MemInfo {
    file: KernelFile,
    series: SeriesCache<SeriesIndex>,
}

impl MemInfo {
    pub fn new(options: &HostOptions) -> Self {
        MemInfo { file: KernelFile::new(&options.procfs, "meminfo"), series: SeriesCache::default() }
    }
}

impl Collect for MemInfo {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        for (line, text) in lines(buffer).map_err(|malformed| self.file.malformed(malformed))? {
            let field =
                parse_words(words(text)).ok_or(Malformed { line, reason: "is not `field: number [kB]`" });
            let field = field.map_err(|malformed| self.file.malformed(malformed))?;
            let series = self
                .series
                .get_or_make(field.name, |name| cycle.series(&memory_name(name, field.is_kilobytes), &[]))?;
            cycle.push(series, field.value());
        }
        Ok(())
    }
}

pub struct Field<'a> {
    pub name: &'a [u8],
    value: u64,
    is_kilobytes: bool,
}

impl Field<'_> {
    /// In bytes, when the line gives kilobytes.
    pub fn value(&self) -> f64 {
        self.value as f64 * if self.is_kilobytes { 1024.0 } else { 1.0 }
    }
}

/// The words of `MemTotal:  134182340 kB`.
pub fn parse_words<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Field<'a>> {
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
pub fn metric_suffix(field: &str) -> String {
    field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
