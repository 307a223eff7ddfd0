//! `/proc/sys/fs/file-nr`: file handles of the whole system.

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::read::{KernelFile, Malformed, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct FileDescriptors {
    file: KernelFile,
    series: FixedSeries<2>,
}

impl FileDescriptors {
    pub fn new(options: &HostOptions) -> Self {
        let series = FixedSeries::new(["node_filefd_allocated", "node_filefd_maximum"]);
        FileDescriptors { file: KernelFile::new(&options.procfs, "sys/fs/file-nr"), series }
    }
}

impl Collect for FileDescriptors {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.file.read(buffer)?;
        let mut words = words(buffer.trim_ascii_end()).map(number);
        let (Some(Some(allocated)), Some(_), Some(Some(maximum))) =
            (words.next(), words.next(), words.next())
        else {
            return Err(self.file.malformed(Malformed { line: 1, reason: "is not three counts" }));
        };
        self.series.push(cycle, [allocated as f64, maximum as f64])
    }
}
