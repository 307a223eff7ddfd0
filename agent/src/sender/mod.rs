//! Keeps a session with a collector and delivers the queue through it.
//!
//! [`Sender::run`] dials, delivers until the session ends, waits as the reason
//! demands, and begins again. It never gives up by itself: a goal other than
//! [`Goal::Forever`] ends when everything is delivered, and the caller bounds
//! the time.

mod control;
mod session;
mod wire;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lm_mesh::{Backoff, DialError, Dialer, DialerConfig, PeerDescription};
use tokio::sync::{Notify, watch};

use crate::config::Settings;
use crate::counters::Counters;
use crate::queue_handle::{Command, QueueFacts, QueueGone, QueueHandle};
use crate::sources::scrape::ScrapeStatus;
use session::Ended;

/// Waits after an unreachable or lost collector: uniform below these.
const WAIT_BASE: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Waits when only a person can change the answer: this, and up to as much again.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A session of this length counts as a success.
const SESSION_GOOD: Duration = Duration::from_secs(10);
/// The same trouble is logged again after this long.
const REPEAT_LOG: Duration = Duration::from_secs(300);

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Forever,
    /// Until the sources are closed and the queue is empty.
    Drained,
    /// As `Drained`, and also when the collector refuses us.
    DrainedOrRefused,
}

/// Why the sender stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Drained,
    Refused,
}

/// How far it got, for the exit code of a run that was cut short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub session: bool,
}

/// Owns the connection to the collector. Must run within a `LocalSet`.
pub struct Sender {
    settings: Arc<Settings>,
    dialer: Dialer,
    peer: PeerDescription,
    queue: QueueHandle,
    facts: watch::Receiver<QueueFacts>,
    goal: watch::Receiver<Goal>,
    reached: watch::Sender<Reached>,
    counters: Arc<Counters>,
    scraped: ScrapeStatus,
    started: Instant,
    config_sha256: [u8; 32],
    hurry: Rc<Notify>,
    trouble: Option<(String, Instant)>,
}

impl Sender {
    /// `config_sha256`: of the file that `settings` came from.
    pub fn new(
        settings: Arc<Settings>,
        config_sha256: [u8; 32],
        queue: QueueHandle,
        facts: watch::Receiver<QueueFacts>,
        goal: watch::Receiver<Goal>,
        counters: Arc<Counters>,
    ) -> Self {
        let dialer = Dialer::new(DialerConfig {
            endpoints: settings.collector.endpoints.clone(),
            server_name: settings.collector.server_name.clone(),
            ca: settings.collector.tls_ca_cert_file.clone(),
            token: settings.collector.auth_token_file.clone(),
            transport: settings.collector.transport,
            retry_quic_after: settings.collector.retry_quic_after,
            keep_alive: settings.collector.keep_alive,
        });
        let peer = PeerDescription {
            product: "lm-agent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            job: settings.metrics.job.clone(),
        };
        let (reached, _) = watch::channel(Reached::default());
        Sender {
            settings,
            dialer,
            peer,
            queue,
            facts,
            goal,
            reached,
            counters,
            scraped: ScrapeStatus::default(),
            started: Instant::now(),
            config_sha256,
            hurry: Rc::default(),
            trouble: None,
        }
    }

    /// Also tells each collector how targets fare.
    pub fn telling(self, scraped: ScrapeStatus) -> Self {
        Sender { scraped, ..self }
    }

    /// How far the sender gets, to look at when it was cut short.
    pub fn reached(&self) -> watch::Receiver<Reached> {
        self.reached.subscribe()
    }

    /// Delivers until the goal is reached.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was sent and not acknowledged stays in the queue and
    /// is sent again; the collector knows it by its sequence.
    pub async fn run(mut self) -> Result<Ending, QueueGone> {
        let mut backoff = Backoff::new(WAIT_BASE, WAIT_MAX);
        loop {
            if self.is_done() {
                return Ok(Ending::Drained);
            }
            let began = Instant::now();
            let ended = self.dial_and_deliver().await?;
            if began.elapsed() >= SESSION_GOOD {
                backoff.reset();
            }
            let wait = match ended {
                Ended::Drained => return Ok(Ending::Drained),
                Ended::Moving => continue,
                Ended::Lost(reason) => {
                    self.warn(&reason);
                    backoff.next(random())
                }
                Ended::Refused(reason) => {
                    self.warn(&reason);
                    if *self.goal.borrow() == Goal::DrainedOrRefused {
                        return Ok(Ending::Refused);
                    }
                    REFUSED_WAIT + REFUSED_WAIT.mul_f64(f64::from(random()) / f64::from(u32::MAX))
                }
            };
            tracing::debug!(wait_ms = wait.as_millis() as u64, "waiting before the next session");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A new goal is a reason to try at once.
                _ = self.goal.changed() => {}
            }
        }
    }

    /// Nothing to deliver and nothing to come: there is no need for a session.
    fn is_done(&self) -> bool {
        let facts = self.facts.borrow();
        *self.goal.borrow() != Goal::Forever && facts.is_final && facts.is_empty
    }

    async fn dial_and_deliver(&mut self) -> Result<Ended, QueueGone> {
        let identity = self.queue.ask(Command::Identity).await?;
        let dialed = self.dialer.dial(&self.peer, &identity.cluster_id, &identity.incarnations).await;
        let connected = match dialed {
            Ok(connected) => connected,
            Err(error) => return Ok(refusal_or_loss(error)),
        };
        if connected.identity != self.settings.agent_id {
            tracing::warn!(
                token_of = %connected.identity,
                agent_id = %self.settings.agent_id,
                "the collector knows the holder of our token by another name"
            );
        }
        if self.reached.borrow().session {
            self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.reached.send_replace(Reached { session: true });
        session::run(self, connected).await
    }

    /// Logs trouble, unless it is the trouble that was just logged.
    fn warn(&mut self, reason: &str) {
        let now = Instant::now();
        let is_known = matches!(&self.trouble,
            Some((known, at)) if known == reason && now.duration_since(*at) < REPEAT_LOG);
        if !is_known {
            tracing::warn!("{reason}");
            self.trouble = Some((reason.to_owned(), now));
        }
    }
}

fn refusal_or_loss(error: DialError) -> Ended {
    match error {
        DialError::Unreachable { .. } | DialError::Socket(_) => Ended::Lost(error.to_string()),
        DialError::Refused { ref message, .. } if is_passing(message) => Ended::Lost(error.to_string()),
        DialError::Refused { ref message, .. } if message.starts_with("cluster") => {
            Ended::Refused(format!("{error}; {REASSIGN}"))
        }
        _ => Ended::Refused(error.to_string()),
    }
}

/// What to do when a queue meets another collector.
const REASSIGN: &str = "the queue is kept; if this collector is the right one, stop the agent and run: \
                        lm-agent queue reassign FILE";

/// Whether an error with a stable code goes away by itself.
fn is_passing(message: &str) -> bool {
    ["overloaded:", "internal:", "retry:"].iter().any(|code| message.starts_with(code))
}

/// For jitter only: without randomness all agents wait the same time.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}
