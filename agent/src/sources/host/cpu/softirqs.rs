//! `/proc/softirqs`: soft interrupts by CPU and kind.

use crate::sources::host::collector::{Collect, Cycle};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

use super::table::CpuTable;

pub struct SoftIrqs {
    table: CpuTable,
}

impl SoftIrqs {
    pub fn new(options: &HostOptions) -> Self {
        SoftIrqs { table: CpuTable::new(KernelFile::new(&options.procfs, "softirqs")) }
    }
}

impl Collect for SoftIrqs {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.table.push_all(cycle, buffer, |cycle, row, cpu| {
            let labels = [("cpu", cpu), ("type", &*String::from_utf8_lossy(row.name))];
            cycle.series("node_softirqs_functions_total", &labels).map(Some)
        })
    }
}
