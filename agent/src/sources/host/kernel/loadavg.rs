//! `/proc/loadavg`: tasks that run or wait.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, decimal, words};
use crate::sources::host::{Error, HostOptions};

pub struct LoadAverage {
    file: KernelFile,
    series: FixedSeries<3>,
}

impl LoadAverage {
    pub fn new(options: &HostOptions) -> Self {
        let series = FixedSeries::new(["node_load1", "node_load5", "node_load15"]);
        LoadAverage { file: KernelFile::new(&options.procfs, "loadavg"), series }
    }
}

impl Collect for LoadAverage {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut words = words(buffer.trim_ascii_end());
        let mut next = || words.next().and_then(decimal);
        let (Some(load1), Some(load5), Some(load15)) = (next(), next(), next()) else {
            return Err(self.file.malformed(Malformed { line: 1, reason: "is not three loads" }));
        };
        self.series.push(cycle, [load1, load5, load15])
    }
}
