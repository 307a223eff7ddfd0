//! `/proc/net/arp`: known neighbours of each network device.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, SeriesCache};
use crate::sources::host::filter::Filter;
use crate::sources::host::read::{KernelFile, words};
use crate::sources::host::{Error, HostOptions};

pub struct Arp {
    file: KernelFile,
    filter: Filter,
    /// Where in `devices` a device is; `None` when it is not shown.
    known: SeriesCache<Option<usize>>,
    devices: Vec<(SeriesIndex, u64)>,
}

impl Arp {
    pub fn new(options: &HostOptions) -> Self {
        Arp {
            file: KernelFile::new(&options.procfs, "net/arp"),
            filter: options.filters.filter("arp"),
            known: SeriesCache::default(),
            devices: Vec::new(),
        }
    }
}

impl Collect for Arp {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.devices.iter_mut().for_each(|(_, entries)| *entries = 0);
        for (line, text) in self.file.read_lines(buffer)?.skip(1) {
            let device = words(text).nth(5).ok_or_else(|| self.file.wrong(line, "is not a neighbour"))?;
            let at = self.known.get_or_make(device, |name| {
                if !self.filter.shows(device) {
                    return Ok(None);
                }
                self.devices.push((cycle.series("node_arp_entries", &[("device", name)])?, 0));
                Ok(Some(self.devices.len() - 1))
            })?;
            if let Some(at) = at {
                self.devices[at].1 += 1;
            }
        }
        for (series, entries) in self.devices.iter().filter(|(_, entries)| *entries > 0) {
            cycle.push(*series, *entries as f64);
        }
        Ok(())
    }
}
