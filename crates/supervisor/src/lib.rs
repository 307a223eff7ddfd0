//! What a process tells the supervisor that started it, as `sd_notify(3)` has
//! it: ready, reloading, stopping, alive. Without `NOTIFY_SOCKET` all of it is
//! nothing.
//!
//! [`Supervisor::watch`] says "alive" only when the process's own loops have
//! just answered: it runs on one of them and asks the others. There is no
//! thread here that could live on beside a loop that hangs.

use std::time::Duration;

use sd_notify::NotifyState;

/// Looks within the supervisor's time. Two may go wrong.
const LOOKS: u32 = 3;

/// Who started us; perhaps nobody.
#[derive(Clone, Copy, Debug)]
pub struct Supervisor {
    /// `WATCHDOG_USEC`: how long we may say nothing. `None`: for ever.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As the environment tells.
    pub fn from_env() -> Supervisor {
        Supervisor { watchdog: sd_notify::watchdog_enabled() }
    }

    /// What was asked for at the start is done: others may use us.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Files are read again; [`Supervisor::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// From here on nothing new is taken.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Tells that we live for as long as `is_alive` answers in time with
    /// `true`. Never ends; belongs on the runtime that does the work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; who drops it is not alive any more.
    pub async fn watch(&self, is_alive: impl AsyncFn() -> bool) {
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        let period = watchdog / LOOKS;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match tokio::time::timeout(period, is_alive()).await {
                Ok(true) => tell(&[NotifyState::Watchdog]),
                Ok(false) | Err(_) => tracing::warn!("a part of this process does not answer its watchdog"),
            }
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot reach the supervisor at NOTIFY_SOCKET");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_answer_is_asked_again() {
        let supervisor = Supervisor { watchdog: Some(Duration::from_secs(30)) };
        let asked = Cell::new(0);
        let watching = supervisor.watch(async || {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => true,
                2 => std::future::pending().await,
                _ => false,
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(35), watching).await;
        assert_eq!(asked.get(), 4, "at 0, 10, 20 and 30 s");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_without_a_watchdog() {
        let supervisor = Supervisor { watchdog: None };
        let watching = supervisor.watch(async || panic!("asked"));
        assert!(tokio::time::timeout(Duration::from_secs(3600), watching).await.is_err());
    }
}
