//! `/proc/net/stat`: counters of kernel tables, by CPU.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{Malformed, hexadecimal, lines, words};
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

const TABLES: &[u8] = b"net/stat";

pub struct LnStat {
    tree: Tree,
    tables: Names,
    /// By table, CPU and column.
    series: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

impl LnStat {
    pub fn new(options: &HostOptions) -> Self {
        LnStat {
            tree: Tree::new(&options.procfs),
            tables: Names::default(),
            series: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for LnStat {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.tree.list(&[TABLES], &mut self.tables)?;
        for table in self.tables.iter() {
            let parts = [TABLES, table];
            match self.tree.read_lines(&parts, buffer) {
                Ok(()) => {}
                // The module went since the directory was listed.
                Err(error) if error.is_absence() => continue,
                Err(error) => return Err(error),
            }
            let pushed = each_count(buffer, |cpu, column, value| {
                self.key.clear();
                self.key.extend_from_slice(table);
                self.key.push(0);
                self.key.extend_from_slice(&cpu.to_ne_bytes());
                self.key.extend_from_slice(column);
                let series = self.series.get_or_make(&self.key, |_| {
                    let (table, column) = (String::from_utf8_lossy(table), String::from_utf8_lossy(column));
                    let labels = [("cpu", &*cpu.to_string()), ("subsystem", &*table)];
                    cycle.series(&format!("node_lnstat_{column}_total"), &labels)
                });
                series.map(|series| cycle.push(series, value as f64))
            });
            pushed.map_err(|malformed| self.tree.malformed(&parts, malformed))??;
        }
        Ok(())
    }
}

/// Goes through a table: a line of column names, and a line of hexadecimal
/// numbers for each CPU. Gives CPU, column and number, until that fails.
pub fn each_count(
    bytes: &[u8],
    mut give: impl FnMut(usize, &[u8], u64) -> Result<(), Error>,
) -> Result<Result<(), Error>, Malformed> {
    let mut lines = lines(bytes)?;
    let Some((_, names)) = lines.next() else {
        return Err(Malformed { line: 1, reason: "names no columns" });
    };
    for (cpu, (line, values)) in lines.enumerate() {
        let mut values = words(values);
        for name in words(names) {
            let malformed = Malformed { line, reason: "is not a hexadecimal number for each column" };
            let value = values.next().and_then(hexadecimal).ok_or(malformed)?;
            if let Err(error) = give(cpu, name, value) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(()))
}
