//! Tables with a column for each CPU: `/proc/interrupts` and `/proc/softirqs`.

use crate::sources::SeriesIndex;
use crate::sources::host::Error;
use crate::sources::host::collector::{Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};

pub struct CpuTable {
    file: KernelFile,
    /// The line that names the CPUs, for which the rest is remembered.
    header: Vec<u8>,
    /// The CPUs' numbers as text.
    cpus: Vec<String>,
    /// Where the series of a row begin in `series`, by what the row says
    /// beside its numbers; `None` when it is not shown.
    rows: SeriesCache<Option<usize>>,
    series: Vec<SeriesIndex>,
    key: Vec<u8>,
    values: Vec<u64>,
}

/// A row without its numbers: `NMI` and `Non-maskable interrupts`.
pub struct Row<'a> {
    pub name: &'a [u8],
    pub rest: &'a [u8],
}

impl CpuTable {
    pub fn new(file: KernelFile) -> Self {
        CpuTable {
            file,
            header: Vec::new(),
            cpus: Vec::new(),
            rows: SeriesCache::default(),
            series: Vec::new(),
            key: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Pushes every row for every CPU. `make` gives the series of a row for a
    /// CPU when it is new, or none when the row is not shown. Rows with
    /// another number of counts (`ERR: 0`) are not of CPUs and are left out.
    pub fn push_all(
        &mut self,
        cycle: &mut Cycle<'_>,
        buffer: &mut Vec<u8>,
        mut make: impl FnMut(&mut Cycle<'_>, &Row<'_>, &str) -> Result<Option<SeriesIndex>, Error>,
    ) -> Result<(), Error> {
        let mut lines = self.file.read_lines(buffer)?;
        let (_, header) = lines.next().ok_or_else(|| self.file.wrong(1, "names no CPUs"))?;
        if self.header != header {
            // Of a header that is refused below, nothing is to be remembered.
            self.header.clear();
            self.cpus.clear();
            for word in words(header) {
                let cpu = word.strip_prefix(b"CPU").and_then(number);
                self.cpus.push(cpu.ok_or_else(|| self.file.wrong(1, "names no CPUs"))?.to_string());
            }
            self.rows = SeriesCache::default();
            self.series.clear();
            self.header.extend_from_slice(header);
        }
        for (line, text) in lines {
            let Some(colon) = text.iter().position(|byte| *byte == b':') else {
                return Err(self.file.wrong(line, "has no name"));
            };
            let (name, mut rest) = (text[..colon].trim_ascii(), text[colon + 1..].trim_ascii());
            self.values.clear();
            while self.values.len() < self.cpus.len() {
                let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
                let Some(value) = number(&rest[..end]) else { break };
                self.values.push(value);
                rest = rest[end..].trim_ascii_start();
            }
            if self.values.len() < self.cpus.len() {
                continue;
            }
            self.key.clear();
            for part in [name, b":", rest] {
                self.key.extend_from_slice(part);
            }
            let row = Row { name, rest };
            let first = self.rows.get_or_make(&self.key, |_| {
                let first = self.series.len();
                for cpu in &self.cpus {
                    match make(cycle, &row, cpu)? {
                        Some(series) => self.series.push(series),
                        None => return Ok(None),
                    }
                }
                Ok(Some(first))
            })?;
            let Some(first) = first else { continue };
            for (series, value) in self.series[first..].iter().zip(&self.values) {
                cycle.push(*series, *value as f64);
            }
        }
        Ok(())
    }
}
