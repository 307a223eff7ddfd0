//! The clock that retention goes by: the system's, unless that jumps ahead.
//!
//! What retention removes is gone, so one wrong reading must not decide. A
//! jump ahead is believed only after it has held for [`HOLD`]; until then time
//! goes on as the monotonic clock says. A step back is followed at once: it
//! removes nothing.
//!
//! ```text
//! Following ── ahead by more than step_max ──▶ Holding ── for HOLD ──▶ Following, at the new time
//!     ▲                                          │  │
//!     └──────────── no longer ahead ─────────────┘  └── another jump: the hold begins again
//! ```

use std::time::{Duration, Instant};

use lm_model::Timestamp;

/// How long a jump ahead must hold. Long enough for a person to set a clock
/// right, short enough that a collector that was down for days keeps what is
/// too old for not much longer.
pub const HOLD: Duration = Duration::from_secs(3600);

/// Steps up to this part of the retention time are followed at once, and up
/// to [`STEP_MIN`] in any case.
const STEPS_PER_RETENTION: u32 = 12;
const STEP_MIN: Duration = Duration::from_secs(60);

/// See the module documentation. Readings of both clocks are arguments.
#[derive(Debug)]
pub struct RetentionClock {
    step_max: Duration,
    /// What this clock says, and when it was asked.
    time: Timestamp,
    asked: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Following,
    /// The system clock has jumped ahead of ours.
    Holding {
        since: Instant,
        /// What the system clock said when it was last read.
        wall: Timestamp,
    },
}

/// What a reading of the system clock brought that somebody should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Not followed yet.
    Ahead(Duration),
    /// It held, and is followed now.
    Believed(Duration),
    Back(Duration),
}

impl RetentionClock {
    /// A clock that begins at `wall`, unless that is far from `known`: when
    /// the newest segment of the spool was begun. Segments take appends for as
    /// long as a step.
    pub fn new(
        retention: Duration,
        known: Option<Timestamp>,
        monotonic: Instant,
        wall: Timestamp,
    ) -> (RetentionClock, Option<Jump>) {
        let step_max = (retention / STEPS_PER_RETENTION).max(STEP_MIN);
        let time = known.map_or(wall, |known| wall.clamp(known, known.saturating_add(step_max)));
        let mut clock = RetentionClock { step_max, time, asked: monotonic, state: State::Following };
        let jump = clock.handle_reading(monotonic, wall);
        (clock, jump)
    }

    /// The time for retention, as of the last reading.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Takes a reading of both clocks.
    pub fn handle_reading(&mut self, monotonic: Instant, wall: Timestamp) -> Option<Jump> {
        let elapsed = monotonic.saturating_duration_since(self.asked);
        let expected = self.time.saturating_add(elapsed);
        self.asked = monotonic;
        if wall <= expected.saturating_add(self.step_max) {
            self.time = wall;
            self.state = State::Following;
            let back = expected.saturating_since(wall);
            return (back > self.step_max).then_some(Jump::Back(back));
        }
        let ahead = wall.saturating_since(expected);
        let since = match self.state {
            State::Holding { since, wall: before } => {
                let jumped = wall.saturating_since(before.saturating_add(elapsed)) > self.step_max;
                if jumped { monotonic } else { since }
            }
            State::Following => monotonic,
        };
        if monotonic.saturating_duration_since(since) >= HOLD {
            self.time = wall;
            self.state = State::Following;
            return Some(Jump::Believed(ahead));
        }
        self.time = expected;
        self.state = State::Holding { since, wall };
        (since == monotonic).then_some(Jump::Ahead(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const RETENTION: Duration = Duration::from_secs(6 * 3600);

    fn seconds(count: i64) -> Duration {
        Duration::from_secs(count as u64)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Reads the clocks at these `(monotonic, system)` seconds and compares
    /// with what the retention clock then says.
    #[track_caller]
    fn check(known: Option<i64>, readings: &[(i64, i64, i64, Option<Jump>)]) {
        let origin = Instant::now();
        let (first, rest) = readings.split_first().unwrap();
        let (mut clock, jump) =
            RetentionClock::new(RETENTION, known.map(at), origin + seconds(first.0), at(first.1));
        assert_eq!((clock.time(), jump), (at(first.2), first.3), "{first:?}");
        for (monotonic, wall, expected, jump) in rest {
            let found = clock.handle_reading(origin + seconds(*monotonic), at(*wall));
            assert_eq!((clock.time(), found), (at(*expected), *jump), "at {monotonic}, {wall}");
        }
    }

    #[test]
    fn small_steps_are_followed() {
        check(None, &[(0, 1000, 1000, None), (5, 1005, 1005, None), (10, 2810, 2810, None)]);
        check(None, &[(0, 9000, 9000, None), (5, 8000, 8000, None), (10, 8005, 8005, None)]);
    }

    #[test]
    fn a_jump_ahead_must_hold() {
        let day = 24 * HOUR;
        let jump = Some(Jump::Ahead(seconds(day)));
        check(
            None,
            &[
                (0, 0, 0, None),
                (5, 5 + day, 5, jump),
                (10, 10 + day, 10, None),
                (HOUR, HOUR + day, HOUR, None),
                (HOUR + 5, HOUR + 5 + day, HOUR + 5 + day, Some(Jump::Believed(seconds(day)))),
                (HOUR + 10, HOUR + 10 + day, HOUR + 10 + day, None),
            ],
        );
        // Set right in time: it never happened. And the next one is a new one.
        check(
            None,
            &[
                (0, 0, 0, None),
                (5, 5 + day, 5, jump),
                (3000, 3000, 3000, None),
                (3005, 3005 + day, 3005, jump),
                (2 * HOUR - 600, 2 * HOUR - 600 + day, 2 * HOUR - 600, None),
            ],
        );
        // A clock that goes on jumping is not believed.
        let twice = Some(Jump::Ahead(seconds(2 * day)));
        check(
            None,
            &[
                (0, 0, 0, None),
                (5, 5 + day, 5, jump),
                (3000, 3000 + 2 * day, 3000, twice),
                (HOUR + 5, HOUR + 5 + 2 * day, HOUR + 5, None),
                (
                    3000 + HOUR,
                    3000 + HOUR + 2 * day,
                    3000 + HOUR + 2 * day,
                    Some(Jump::Believed(seconds(2 * day))),
                ),
            ],
        );
    }

    #[test]
    fn a_step_back_is_followed_and_time_goes_on_from_there() {
        let year = 365 * 24 * HOUR;
        let back = Some(Jump::Back(seconds(year)));
        let ahead = Some(Jump::Ahead(seconds(year)));
        check(
            None,
            &[
                (0, 2 * year, 2 * year, None),
                (5, year + 5, year + 5, back),
                (10, year + 10, year + 10, None),
                (15, 2 * year + 15, year + 15, ahead),
            ],
        );
    }

    #[test]
    fn a_start_is_measured_by_the_spool() {
        let day = 24 * HOUR;
        check(Some(1000), &[(0, 1000 + HOUR, 1000 + HOUR, None)]);
        check(Some(1000 + day), &[(0, 1000, 1000, Some(Jump::Back(seconds(day))))]);
        check(
            Some(1000),
            &[
                (0, 2800 + day, 2800, Some(Jump::Ahead(seconds(day)))),
                (HOUR, HOUR + 2800 + day, HOUR + 2800 + day, Some(Jump::Believed(seconds(day)))),
            ],
        );
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        let origin = Instant::now();
        for (known, wall) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX, i64::MAX)] {
            let (known, wall) = (Timestamp::from_millis(known), Timestamp::from_millis(wall));
            let (mut clock, _) = RetentionClock::new(RETENTION, Some(known), origin, wall);
            clock.handle_reading(origin + seconds(5), known);
            clock.handle_reading(origin + seconds(10), wall);
            clock.handle_reading(origin, wall);
        }
    }
}
