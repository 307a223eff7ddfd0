//! How an idle session is kept: the same two keys in every process.

use std::time::Duration;

use crate::{Section, units};

/// Signs of life that must fit into the idle timeout: one may be lost.
const SIGNS_MIN: u32 = 2;

/// Reads `keep_alive` and `idle_timeout`.
pub fn take_keep_alive(from: &mut Section<'_, '_>, every: &mut Duration, idle: &mut Duration) {
    from.read("keep_alive", every, |value| {
        units::duration(value, Duration::from_millis(100)..=Duration::from_secs(600))
    });
    from.read("idle_timeout", idle, |value| {
        units::duration(value, Duration::from_secs(1)..=Duration::from_secs(3600))
    });
    if *idle < *every * SIGNS_MIN {
        let message = format!(
            "idle_timeout ({idle:?}) must be at least twice keep_alive ({every:?}): one lost packet would end \
             the session"
        );
        from.complain_at("idle_timeout", &message);
    }
}
