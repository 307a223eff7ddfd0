//! The wall clock, and the hardware that it is kept with.

use crate::sources::SeriesIndex;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries, SeriesCache};
use crate::sources::host::read::words;
use crate::sources::host::tree::{Names, Tree};
use crate::sources::host::{Error, HostOptions};

const SOURCES: &[u8] = b"devices/system/clocksource";

/// Files of a source, and the names of what they say.
const FILES: [(&[u8], &str); 2] = [
    (b"available_clocksource", "node_time_clocksource_available_info"),
    (b"current_clocksource", "node_time_clocksource_current_info"),
];

pub struct Time {
    now: FixedSeries<1>,
    tree: Tree,
    sources: Names,
    /// By source, file and clock.
    clocks: SeriesCache<SeriesIndex>,
    key: Vec<u8>,
}

impl Time {
    pub fn new(options: &HostOptions) -> Self {
        Time {
            now: FixedSeries::new(["node_time_seconds"]),
            tree: Tree::new(&options.sysfs),
            sources: Names::default(),
            clocks: SeriesCache::default(),
            key: Vec::new(),
        }
    }
}

impl Collect for Time {
    fn collect(&mut self, cycle: &mut Cycle<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let now = cycle.now.as_seconds_f64();
        self.now.push(cycle, [now])?;
        match self.tree.list(&[SOURCES], &mut self.sources) {
            Ok(()) => {}
            // A container without sysfs has the time all the same.
            Err(error) if error.is_absence() => return Ok(()),
            Err(error) => return Err(error),
        }
        for source in self.sources.iter() {
            let Some(device) = source.strip_prefix(b"clocksource") else { continue };
            for (file, metric) in FILES {
                let clocks = self.tree.read_if_there(&[SOURCES, source, file], buffer)?;
                for clock in words(clocks.unwrap_or_default()) {
                    self.key.clear();
                    for part in [device, b" ", file, b" ", clock] {
                        self.key.extend_from_slice(part);
                    }
                    let series = self.clocks.get_or_make(&self.key, |_| {
                        let (device, clock) =
                            (String::from_utf8_lossy(device), String::from_utf8_lossy(clock));
                        cycle.series(metric, &[("device", &device), ("clocksource", &clock)])
                    })?;
                    cycle.push(series, 1.0);
                }
            }
        }
        Ok(())
    }
}
