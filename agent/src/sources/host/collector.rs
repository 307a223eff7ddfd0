//! What collectors share: the cycle they write to and the series they remember.

use std::collections::HashMap;

use lm_model::Timestamp;

use super::read::KernelFile;
use super::worker::Table;
use super::{Error, HostOptions};
use crate::sources::{Measurement, SeriesIndex};

/// Measures one family of things. A collector that returns an error may have
/// pushed before; the caller takes that back. One that does not return in
/// its time is left where it is (see [`worker`](super::worker)).
pub trait Collect: Send {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error>;
}

/// One pass over all collectors.
pub struct Cycle<'a> {
    pub now: Timestamp,
    pub table: Table<'a>,
    pub out: &'a mut Vec<Measurement>,
    pub shared: &'a mut SharedStat,
    /// What a collector leaves out while it gives the rest.
    pub left_out: &'a mut Vec<Error>,
}

/// The contents of `/proc/stat`, read once a cycle for all who look at it.
pub struct SharedStat {
    pub file: KernelFile,
    pub bytes: Vec<u8>,
    /// `bytes` are of this cycle.
    pub is_read: bool,
}

impl SharedStat {
    pub fn new(options: &HostOptions) -> Self {
        SharedStat { file: KernelFile::new(&options.procfs, "stat"), bytes: Vec::new(), is_read: false }
    }
}

impl Cycle<'_> {
    pub fn stat(&mut self) -> Result<&[u8], Error> {
        let SharedStat { file, bytes, is_read } = self.shared;
        if !*is_read {
            file.read(bytes)?;
            *is_read = true;
        }
        Ok(bytes)
    }

    pub fn push(&mut self, series: SeriesIndex, value: f64) {
        self.out.push(Measurement { series, value });
    }

    pub fn series(&mut self, name: &str, labels: &[(&str, &str)]) -> Result<SeriesIndex, Error> {
        self.table.series(name, labels)
    }

    /// The series of several names with the same labels.
    pub fn series_each<const N: usize>(
        &mut self,
        names: [&str; N],
        labels: &[(&str, &str)],
    ) -> Result<[SeriesIndex; N], Error> {
        let mut all = [SeriesIndex(0); N];
        for (slot, name) in all.iter_mut().zip(names) {
            *slot = self.series(name, labels)?;
        }
        Ok(all)
    }
}

/// More keys are forgotten and learned again.
const KEY_COUNT_MAX: usize = 1 << 18;

/// Series of things that a kernel file names: devices, memory fields. A value
/// may also say that a thing is not shown.
///
/// Dropped with the table's series, of which it remembers numbers.
#[derive(Debug)]
pub struct SeriesCache<V> {
    by_key: HashMap<Box<[u8]>, V>,
}

impl<V> Default for SeriesCache<V> {
    fn default() -> Self {
        SeriesCache { by_key: HashMap::new() }
    }
}

impl<V: Copy> SeriesCache<V> {
    pub fn get(&self, key: &[u8]) -> Option<V> {
        self.by_key.get(key).copied()
    }

    /// What is remembered for `key`; made by `make` the first time, from the
    /// key as text.
    pub fn get_or_make(
        &mut self,
        key: &[u8],
        make: impl FnOnce(&str) -> Result<V, Error>,
    ) -> Result<V, Error> {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let value = make(&String::from_utf8_lossy(key))?;
        if self.by_key.len() == KEY_COUNT_MAX {
            self.by_key.clear();
        }
        self.by_key.insert(key.into(), value);
        Ok(value)
    }
}

/// Series with fixed names, looked up in the first cycle only.
#[derive(Debug)]
pub struct FixedSeries<const N: usize> {
    names: [&'static str; N],
    series: Option<[SeriesIndex; N]>,
}

impl<const N: usize> FixedSeries<N> {
    pub const fn new(names: [&'static str; N]) -> Self {
        FixedSeries { names, series: None }
    }

    /// Pushes one value for each name, in the order of names.
    pub fn push(&mut self, cycle: &mut Cycle<'_>, values: [f64; N]) -> Result<(), Error> {
        let series = match self.series {
            Some(series) => series,
            None => *self.series.insert(cycle.series_each(self.names, &[])?),
        };
        for (series, value) in series.into_iter().zip(values) {
            cycle.push(series, value);
        }
        Ok(())
    }
}
