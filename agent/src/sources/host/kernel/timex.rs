//! The call `adjtimex`, which reads how the clock is disciplined and here
//! changes nothing.

use rtime_clock::adjtime::{Timex, adjtimex};

use crate::sources::host::collector::{Collect, Cycle, FixedSeries};
use crate::sources::host::{Error, HostOptions};

/// What the call returns while nobody keeps the clock (`TIME_ERROR`).
const CLOCK_UNSYNCHRONIZED: i32 = 5;
/// The bit of `status` that says that times are in nanoseconds (`STA_NANO`).
const STATUS_NANOSECONDS: i32 = 0x2000;
/// Frequencies are in parts per million with 16 binary digits after the point.
const PPM: f64 = 1_000_000.0 * 65_536.0;
const MICROSECONDS: f64 = 1e6;
/// Offsets beyond are an overflow of the kernel, seen on virtual machines.
const OFFSET_SECONDS_MAX: f64 = 4.0;

pub struct ClockDiscipline {
    overflows: u64,
    series: FixedSeries<18>,
}

impl ClockDiscipline {
    pub fn new(_: &HostOptions) -> Self {
        let names = [
            "node_timex_sync_status",
            "node_timex_offset_seconds",
            "node_timex_offset_overflow_total",
            "node_timex_frequency_adjustment_ratio",
            "node_timex_maxerror_seconds",
            "node_timex_estimated_error_seconds",
            "node_timex_status",
            "node_timex_loop_time_constant",
            "node_timex_tick_seconds",
            "node_timex_pps_frequency_hertz",
            "node_timex_pps_jitter_seconds",
            "node_timex_pps_shift_seconds",
            "node_timex_pps_stability_hertz",
            "node_timex_pps_jitter_total",
            "node_timex_pps_calibration_total",
            "node_timex_pps_error_total",
            "node_timex_pps_stability_exceeded_total",
            "node_timex_tai_offset_seconds",
        ];
        ClockDiscipline { overflows: 0, series: FixedSeries::new(names) }
    }
}

impl Collect for ClockDiscipline {
    fn collect(&mut self, cycle: &mut Cycle<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        // Without a mode, the call asks.
        let mut answer = Timex::new();
        let state =
            adjtimex(&mut answer).map_err(|source| Error::Read { path: "adjtimex".into(), source })?;
        let clock = &answer.0;
        let divisor = if clock.status & STATUS_NANOSECONDS != 0 { 1e9 } else { MICROSECONDS };
        let offset = clock.offset as f64 / divisor;
        if offset.abs() > OFFSET_SECONDS_MAX {
            self.overflows += 1;
        }
        let values = [
            f64::from(u8::from(state != CLOCK_UNSYNCHRONIZED)),
            offset,
            self.overflows as f64,
            1.0 + clock.freq as f64 / PPM,
            clock.maxerror as f64 / MICROSECONDS,
            clock.esterror as f64 / MICROSECONDS,
            f64::from(clock.status),
            clock.constant as f64,
            clock.tick as f64 / MICROSECONDS,
            clock.ppsfreq as f64 / PPM,
            clock.jitter as f64 / divisor,
            f64::from(clock.shift),
            clock.stabil as f64 / PPM,
            clock.jitcnt as f64,
            clock.calcnt as f64,
            clock.errcnt as f64,
            clock.stbcnt as f64,
            f64::from(clock.tai),
        ];
        self.series.push(cycle, values)
    }
}
