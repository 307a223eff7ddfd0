//! `/proc/cgroups`: control groups by controller.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::read::{KernelFile, number, words};
use crate::sources::host::{Error, HostOptions};

pub struct ControlGroups {
    file: KernelFile,
    series: SeriesCache<[SeriesIndex; 2]>,
}

impl ControlGroups {
    pub fn new(options: &HostOptions) -> Self {
        ControlGroups { file: KernelFile::new(&options.procfs, "cgroups"), series: SeriesCache::default() }
    }
}

impl Collect for ControlGroups {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        for (line, text) in self.file.read_lines(buffer)? {
            if text.starts_with(b"#") {
                continue;
            }
            let mut words = words(text);
            let controller = words.next();
            let mut numbers = words.skip(1).map(number); // the hierarchy's number
            let (Some(controller), Some(Some(count)), Some(Some(enabled))) =
                (controller, numbers.next(), numbers.next())
            else {
                return Err(self.file.wrong(line, "is not a controller and three numbers"));
            };
            let series = self.series.get_or_make(controller, |controller| {
                let names = ["node_cgroups_cgroups", "node_cgroups_enabled"];
                cycle.series_each(names, &[("subsys_name", controller)])
            })?;
            cycle.push(series[0], count as f64);
            cycle.push(series[1], enabled as f64);
        }
        Ok(())
    }
}
