//! Looking for a state with a deadline.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Calls `probe` until it answers `Ok`.
///
/// # Panics
///
/// At the deadline, with what was waited for and the last error.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, probe: impl FnMut() -> Result<T, String>) -> T {
    match try_eventually(within, probe) {
        Ok(found) => found,
        Err(last) => panic!("not within {within:?}: {what}; last: {last}"),
    }
}

/// Calls `probe` until it answers `Ok`, or answers its last error.
pub fn try_eventually<T>(
    within: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + within;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(last) if Instant::now() >= deadline => return Err(last),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
