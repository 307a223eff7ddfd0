//! The wall clock.

use crate::sources::host::Error;
use crate::sources::host::collector::{Collect, Cycle, FixedSeries};

/// The clock, as the caller read it.
pub struct Time {
    series: FixedSeries<1>,
}

impl Default for Time {
    fn default() -> Self {
        Time { series: FixedSeries::new(["node_time_seconds"]) }
    }
}

impl Collect for Time {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        let now = cycle.now.as_seconds_f64();
        self.series.push(cycle, [now])
    }
}
