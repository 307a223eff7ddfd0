//! `/proc/sys/kernel/random`: what the kernel's random number generator holds.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

pub struct Entropy {
    available: KernelFile,
    pool: KernelFile,
    series: FixedSeries<2>,
}

impl Entropy {
    pub fn new(options: &HostOptions) -> Self {
        Entropy {
            available: KernelFile::new(&options.procfs, "sys/kernel/random/entropy_avail"),
            pool: KernelFile::new(&options.procfs, "sys/kernel/random/poolsize"),
            series: FixedSeries::new(["node_entropy_available_bits", "node_entropy_pool_size_bits"]),
        }
    }
}

impl Collect for Entropy {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let values = [self.available.read_number(buffer)?, self.pool.read_number(buffer)?];
        self.series.push(cycle, values.map(|bits| bits as f64))
    }
}
