//! `/proc/sys/kernel/hung_task_detect_count`: tasks that hung since boot.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::KernelFile;
use crate::sources::host::{Error, HostOptions};

pub struct HungTasks {
    file: KernelFile,
    series: FixedSeries<1>,
}

impl HungTasks {
    pub fn new(options: &HostOptions) -> Self {
        HungTasks {
            file: KernelFile::new(&options.procfs, "sys/kernel/hung_task_detect_count"),
            series: FixedSeries::new(["node_kernel_hung_tasks_total"]),
        }
    }
}

impl Collect for HungTasks {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let count = self.file.read_number(buffer)?;
        self.series.push(cycle, [count as f64])
    }
}
