//! One session: from the grant to the loss of the connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lm_journal::Position;
use lm_mesh::{CloseCode, Closing, Connected, Granted};
use lm_model::{LossReason, Stream};
use lm_schema::batch::BatchHeader;
use lm_schema::mesh_capnp::{agent_session, batch_sink};
use tokio::sync::{Notify, watch};

use super::control::{self, Control};
use super::wire::{self, Defined};
use super::{Goal, REASSIGN, Sender, is_passing};
use crate::batcher::{ENCODED_BYTES_MAX, RAW_BYTES_MAX};
use crate::config::Settings;
use crate::counters::Counters;
use crate::delivery::{Delivery, Outcome, Receipt, Step};
use crate::outbox::Hole;
use crate::queue_handle::{Command, QueueFacts, QueueGone, QueueHandle};
use crate::sources::scrape::ScrapeStatus;

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether something is to be said of targets, and how
/// much in one call: collectors take 256 KiB.
const SCRAPED_INTERVAL: Duration = Duration::from_secs(2);
const SCRAPED_BYTES_MAX: usize = 64 * 1024;
/// A collector that answers nothing for this long is gone, whatever the
/// connection says: a killed one cannot say that it is.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long a dictionary that was rejected is left alone.
const REJECTED_WAIT: Duration = Duration::from_secs(30);
/// A clock that is further off than this is worth a warning.
const SKEW_WARN: Duration = Duration::from_secs(60);

/// What a batch of one line has beside it.
const LINE_OVERHEAD_BYTES: usize = 4096;

/// Why a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The goal is reached.
    Drained,
    /// Try again soon.
    Lost(String),
    /// All is answered; the next session goes over QUIC again.
    Moving,
    /// Try again later: only a person can change it.
    Refused(String),
}

/// Delivers over a session that was just granted.
pub async fn run(sender: &mut Sender, connected: Connected) -> Result<Ended, QueueGone> {
    let Granted::Agent(agent) = connected.granted.clone() else {
        connected.close().await;
        return Ok(Ended::Refused("the token in auth_token_file is not an agent's".to_owned()));
    };
    let (cluster_id, resume) = (connected.cluster_id.clone(), connected.resume.clone());
    match sender.queue.ask(|reply| Command::Begin { cluster_id, resume, reply }).await? {
        Ok(true) => {}
        Ok(false) => {
            let endpoint = connected.endpoint.clone();
            connected.close().await;
            return Ok(Ended::Refused(format!(
                "{endpoint} belongs to another cluster than this queue; {REASSIGN}"
            )));
        }
        Err(error) => return Ok(Ended::Lost(format!("the queue failed: {error}"))),
    }
    check_limits(&sender.settings, &connected);
    let ended = match deadline(wire::open_sink(&connected, &agent)).await {
        Ok(sink) => {
            tracing::info!(endpoint = %connected.endpoint, session = connected.session_id, "session opened");
            let session = Session {
                queue: sender.queue.clone(),
                delivery: Delivery::new(connected.calls_in_flight_max),
                facts: sender.facts.clone(),
                goal: sender.goal.clone(),
                counters: &sender.counters,
                hurry: sender.hurry.clone(),
                sink,
            };
            if sender.settings.collector.control {
                let control = Control {
                    queue: sender.queue.clone(),
                    facts: sender.facts.clone(),
                    counters: sender.counters.clone(),
                    started: sender.started,
                    config_sha256: sender.config_sha256,
                    hurry: sender.hurry.clone(),
                };
                // By itself: a collector that does not answer is none of
                // delivery's business. It ends with the connection.
                tokio::task::spawn_local(control::hand_out(agent.clone(), control));
            }
            let heartbeats = heartbeats(&agent, sender.facts.clone(), &sender.counters, sender.started);
            let scraped = tell_scraped(&agent, &sender.scraped);
            let can_return = pin!(connected.can_return());
            sender.counters.has_session.store(true, Ordering::Relaxed);
            let ended = tokio::select! {
                ended = session.deliver(can_return) => ended,
                error = heartbeats => Ok(ended_by(&error)),
                error = scraped => Ok(ended_by(&error)),
                closing = connected.closed() => Ok(closed_by(&closing)),
            };
            sender.counters.has_session.store(false, Ordering::Relaxed);
            ended?
        }
        Err(error) => ended_by(&error),
    };
    let ended = match ended {
        // Calls on a connection that was closed say only that it is gone.
        Ended::Lost(_) => connected.last_words().await.map_or(ended, |closing| closed_by(&closing)),
        Ended::Moving => {
            tracing::info!("QUIC works again: moving there");
            sender.dialer.stay_with(&connected);
            ended
        }
        ended => ended,
    };
    connected.close().await;
    Ok(ended)
}

/// What the collector's farewell means for the next session.
fn closed_by(closing: &Closing) -> Ended {
    match closing.code {
        Some(CloseCode::Revoked | CloseCode::Denied) => {
            Ended::Refused(format!("the collector ended the session: {closing}"))
        }
        _ => Ended::Lost(format!("session ended: {closing}")),
    }
}

struct Session<'s> {
    queue: QueueHandle,
    delivery: Delivery<Position>,
    facts: watch::Receiver<QueueFacts>,
    goal: watch::Receiver<Goal>,
    counters: &'s Counters,
    /// Told when waits for a retry are to end.
    hurry: Rc<Notify>,
    sink: batch_sink::Client,
}

impl Session<'_> {
    /// Once it `can_return` to QUIC, nothing more is sent, and the session ends
    /// when what is under way is answered: so nothing is sent twice.
    async fn deliver(
        mut self,
        mut can_return: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, QueueGone> {
        let mut is_moving = false;
        let mut calls = FuturesUnordered::new();
        let mut answered_at = Instant::now();
        // Before asking the queue, so that no growth is missed.
        let mut ends = self.facts.borrow_and_update().ends;
        loop {
            if is_moving && calls.is_empty() {
                return Ok(Ended::Moving);
            }
            while !is_moving && let Some(step) = self.delivery.poll(Instant::now()) {
                let sent = match step {
                    Step::Send(batch) => {
                        if calls.is_empty() {
                            answered_at = Instant::now();
                        }
                        calls.push(wire::push(&self.sink, batch));
                        Ok(())
                    }
                    other => self.take(other).await?,
                };
                if let Err(ended) = sent {
                    return Ok(ended);
                }
            }
            if self.is_drained() {
                return Ok(Ended::Drained);
            }
            let timeout = self.delivery.poll_timeout();
            let silence = answered_at + ANSWER_DEADLINE;
            tokio::select! {
                Some((header, answer)) = calls.next() => {
                    answered_at = Instant::now();
                    if let Err(ended) = self.handle_answer(&header, answer).await? {
                        return Ok(ended);
                    }
                }
                changed = self.facts.changed() => {
                    changed.map_err(|_| QueueGone)?;
                    let before = std::mem::replace(&mut ends, self.facts.borrow_and_update().ends);
                    for stream in Stream::ALL {
                        if ends[stream as usize] != before[stream as usize] {
                            self.delivery.handle_growth(stream);
                        }
                    }
                }
                _ = self.goal.changed() => {}
                () = self.hurry.notified() => self.delivery.handle_hurry(),
                () = sleep_until(timeout), if timeout.is_some() && !is_moving => {}
                () = &mut can_return, if !is_moving => is_moving = true,
                () = sleep_until(Some(silence)), if !calls.is_empty() => {
                    return Ok(Ended::Lost(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())));
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        *self.goal.borrow() != Goal::Forever
            && self.facts.borrow().is_final
            && !self.facts.has_changed().unwrap_or(false)
            && self.delivery.is_drained()
    }

    /// Does what the delivery asks for; the inner error ends the session.
    async fn take(&mut self, step: Step<Position>) -> Result<Result<(), Ended>, QueueGone> {
        match step {
            Step::Send(_) => {}
            Step::Rewind(stream) => self.queue.tell(Command::Rewind(stream)).await?,
            Step::Fetch(stream) => match self.queue.ask(|reply| Command::Fetch { stream, reply }).await? {
                Ok(fetched) => {
                    let facts = self.facts.borrow();
                    let is_last = fetched.as_ref().is_some_and(|batch| facts.end_with(&batch.header));
                    self.delivery.handle_fetched(stream, fetched, is_last);
                }
                Err(error) => return Ok(Err(Ended::Lost(format!("the queue cannot be read: {error}")))),
            },
            Step::Hole { stream, incarnation, start, end, items_before, items } => {
                tracing::error!(%stream, start, end, items, "the collector misses batches that the queue no longer has");
                let reason = LossReason::Corrupt;
                let hole = Hole { stream, incarnation, start, end, items_before, items, bytes: 0, reason };
                match self.queue.ask(|reply| Command::Loss { hole, reply }).await? {
                    Ok(loss) => self.delivery.handle_hole(stream, loss),
                    Err(error) => return Ok(Err(Ended::Lost(format!("no loss record: {error}")))),
                }
            }
            Step::Define { stream, header, position } => {
                let retry = match self.define(header, position).await? {
                    Ok(retry) => retry,
                    Err(ended) => return Ok(Err(ended)),
                };
                self.delivery.handle_defined(Instant::now(), stream, retry);
            }
        }
        Ok(Ok(()))
    }

    /// Sends the dictionary as it was before `header`'s batch.
    async fn define(
        &mut self,
        header: BatchHeader,
        position: Position,
    ) -> Result<Result<Option<Duration>, Ended>, QueueGone> {
        let part = match self.queue.ask(|reply| Command::Dictionary { header, position, reply }).await? {
            Ok(part) => part,
            Err(error) => {
                tracing::error!(batch = %header.id, "its dictionary cannot be rebuilt: {error}");
                return Ok(Ok(Some(REJECTED_WAIT)));
            }
        };
        tracing::debug!(epoch = part.epoch, entries = part.entries.len(), "defining a dictionary");
        Ok(match deadline(wire::define(&self.sink, &part)).await {
            Ok(Defined::Known) => Ok(None),
            Ok(Defined::RetryAfter(wait)) => Ok(Some(wait)),
            Ok(Defined::Rejected(reason)) => {
                tracing::error!(epoch = part.epoch, "the collector rejects our dictionary: {reason}");
                Ok(Some(REJECTED_WAIT))
            }
            Err(error) => Err(ended_by(&error)),
        })
    }

    async fn handle_answer(
        &mut self,
        header: &BatchHeader,
        answer: Result<Receipt, capnp::Error>,
    ) -> Result<Result<(), Ended>, QueueGone> {
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(error) => return Ok(Err(ended_by(&error))),
        };
        let stream = header.id.stream;
        match &receipt.outcome {
            Outcome::Rejected(reason) => {
                tracing::error!(batch = %header.id, items = header.item_count, "the collector rejects a batch: {reason}");
                self.counters.dropped(stream, LossReason::Rejected, header.item_count.into());
            }
            Outcome::Quarantined => {
                tracing::warn!(batch = %header.id, "kept apart by the collector: the queue was copied or restored");
            }
            Outcome::Unsupported(newest) => {
                return Ok(Err(Ended::Refused(format!(
                    "the collector reads batch versions up to {newest}, ours is {}; upgrade the collector",
                    lm_schema::BATCH_VERSION
                ))));
            }
            _ => {}
        }
        if receipt.dropped_items > 0 {
            self.counters.dropped(stream, LossReason::Limit, receipt.dropped_items);
        }
        if receipt.outcome.is_final() {
            self.counters.sent_batches.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(acknowledgement) = self.delivery.handle_receipt(header, &receipt) {
            self.queue.tell(Command::Acknowledge(acknowledgement)).await?;
        }
        Ok(Ok(()))
    }
}

/// Reports the queue until that fails.
async fn heartbeats(
    agent: &agent_session::Client,
    facts: watch::Receiver<QueueFacts>,
    counters: &Counters,
    started: Instant,
) -> capnp::Error {
    let mut is_skewed = false;
    loop {
        let (queue, sent_at) = (facts.borrow().clone(), unix_ms());
        let beat = wire::heartbeat(agent, sent_at, &queue, counters.dropped_total(), started.elapsed());
        match deadline(beat).await {
            Ok(collector_ms) => {
                let was_skewed = is_skewed;
                is_skewed = collector_ms.abs_diff(sent_at) > SKEW_WARN.as_millis() as u64;
                if is_skewed && !was_skewed {
                    tracing::warn!(
                        skew_ms = sent_at.saturating_sub(collector_ms),
                        "our clock and the collector's differ"
                    );
                }
            }
            // Excess control calls are refused at once; the next one will do.
            Err(error) if is_passing(&code_of(&error)) => {}
            Err(error) => return error,
        }
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}

/// Tells how targets fare, whenever that changed, until it fails.
async fn tell_scraped(agent: &agent_session::Client, status: &ScrapeStatus) -> capnp::Error {
    let mut told = 0;
    loop {
        let (changed, version) = status.changed_after(told, SCRAPED_BYTES_MAX);
        if !changed.is_empty() {
            match deadline(wire::scraped(agent, &changed)).await {
                Ok(()) => {
                    told = version;
                    continue;
                }
                // An older collector shows what the samples tell.
                Err(error) if error.kind == capnp::ErrorKind::Unimplemented => std::future::pending().await,
                Err(error) if is_passing(&code_of(&error)) => {}
                Err(error) => return error,
            }
        }
        tokio::time::sleep(SCRAPED_INTERVAL).await;
    }
}

/// The collector's own words, its stable code first.
fn code_of(error: &capnp::Error) -> String {
    let text = error.to_string();
    text.split_once("remote exception: ").map_or(&text[..], |(_, message)| message).to_owned()
}

fn ended_by(error: &capnp::Error) -> Ended {
    let message = code_of(error);
    let is_refusal = ["revoked:", "denied:", "expired:"].iter().any(|code| message.starts_with(code));
    if is_refusal {
        Ended::Refused(format!("the collector ended the session: {message}"))
    } else {
        Ended::Lost(format!("session failed: {message}"))
    }
}

async fn deadline<T>(call: impl Future<Output = Result<T, capnp::Error>>) -> Result<T, capnp::Error> {
    let call = pin!(call);
    tokio::time::timeout(ANSWER_DEADLINE, call).await.unwrap_or_else(|_| {
        Err(capnp::Error::overloaded(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())))
    })
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Batches that are queued already cannot be made smaller, so this is a matter
/// of configuration.
fn check_limits(settings: &Settings, connected: &Connected) {
    let over = |what: &str, ours: usize, collectors: usize, rejected: &str| {
        if ours > collectors {
            tracing::warn!(
                ours,
                collectors,
                "{what} is over the collector's limit: it will reject {rejected}"
            );
        }
    };
    let line_bytes = settings.logs.log_message_bytes_max as usize;
    over("max_log_message_bytes", line_bytes, connected.log_line_bytes_max, "batches with longer lines");
    let lines = settings.logs.logs_per_batch_max as usize;
    over("max_logs_per_batch", lines, connected.logs_per_batch_max, "larger batches");
    let series = settings.limits.series_per_batch_max as usize;
    over("max_series_per_batch", series, connected.series_per_batch_max, "batches with more new series");
    // A longest line is a batch of its own if need be.
    let line_bytes = line_bytes + LINE_OVERHEAD_BYTES;
    let (raw, encoded) = (RAW_BYTES_MAX.max(line_bytes), ENCODED_BYTES_MAX.max(line_bytes));
    over("the size of a batch", encoded, connected.batch_bytes_max, "larger batches");
    over("the size of a batch before compression", raw, connected.raw_bytes_max, "larger batches");
}

pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
