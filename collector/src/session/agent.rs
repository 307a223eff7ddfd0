//! An agent's session and its batch sink. The identity is the session's: what
//! a batch says of itself cannot make it another agent's.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lm_mesh::{AgentReport, Attachment, Grant, Peer, Principal, Terms};
use lm_model::{BatchId, Labels, Stream};
use lm_schema::batch::{BatchHeader, read_dictionary, read_incarnation, read_stream};
use lm_schema::labels::read_sent;
use lm_schema::mesh_capnp::{agent_session, batch_sink, define_outcome, receipt};
use lm_schema::{DecodeLimits, Error, batch_capnp};

use super::CollectorHost;
use super::rates::{Cost, Limiter};
use crate::faults::Mutant;
use crate::ingest::{Define, DefineOutcome, Push, Receipt, ReceiptOutcome, Unreadable, stamp_with, stamped};
use crate::scraped::ScrapedTarget;
use crate::unix_now;

pub struct AgentServer {
    host: Arc<CollectorHost>,
    peer: Rc<Peer>,
    grant: Grant,
    scope: Rc<AgentScope>,
}

/// What the credential decides, whatever a batch says.
struct AgentScope {
    agent: Arc<str>,
    stamp: Labels,
    /// `None`: it may send any amount.
    limiter: Option<Arc<Mutex<Limiter>>>,
}

impl AgentScope {
    fn with_limiter<T>(&self, work: impl FnOnce(&mut Limiter) -> T) -> Option<T> {
        let limiter = self.limiter.as_ref()?;
        Some(work(&mut limiter.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl AgentServer {
    pub fn new(host: Arc<CollectorHost>, peer: Rc<Peer>, grant: Grant) -> Self {
        let Principal { name, scope, .. } = &peer.session.principal;
        let limiter = host.limiters.of(name, scope.rates, |name| host.reload.agents().scope(name).is_some());
        let scope = AgentScope {
            agent: Arc::from(&name[..]),
            stamp: stamp_with(name, &scope.labels, &scope.instances),
            limiter,
        };
        AgentServer { host, peer, grant, scope: Rc::new(scope) }
    }
}

impl Drop for AgentServer {
    fn drop(&mut self) {
        self.host.queries.scraped.forget(self.peer.session.id);
    }
}

impl agent_session::Server for AgentServer {
    async fn heartbeat(
        self: Rc<Self>,
        params: agent_session::HeartbeatParams,
        mut results: agent_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        assert_ne!(Mutant::chosen(), Some(Mutant::PanicInHeartbeat), "a deliberate panic");
        let facts = params.get()?.get_facts()?;
        let now = unix_now().as_millis();
        let report = AgentReport {
            unix_ms: facts.get_unix_ms(),
            queue_pending_bytes: facts.get_queue_pending_bytes(),
            queue_pending_batches: facts.get_queue_pending_batches(),
            queue_capacity_bytes: facts.get_queue_capacity_bytes(),
            dropped_items: facts.get_dropped_items(),
        };
        self.peer.session.heartbeat(report, now);
        results.get().init_directives().set_collector_unix_ms(now);
        Ok(())
    }

    async fn control(
        self: Rc<Self>,
        params: agent_session::ControlParams,
        _: agent_session::ControlResults,
    ) -> Result<(), capnp::Error> {
        let control = params.get()?.get_control()?;
        self.host.controls.take(&self.scope.agent, &self.grant, control);
        Ok(())
    }

    async fn scraped(
        self: Rc<Self>,
        params: agent_session::ScrapedParams,
        _: agent_session::ScrapedResults,
    ) -> Result<(), capnp::Error> {
        let scraped = &self.host.queries.scraped;
        for target in params.get()?.get_targets()? {
            // Its series are refused too, which is said elsewhere.
            let Ok(sent) = read_sent(target.get_labels()?, &self.host.limits) else { continue };
            let labels = stamped(&sent, &self.scope.stamp);
            let (url, error) = (target.get_url()?.to_str()?, target.get_error()?.to_str()?);
            if url.is_empty() {
                scraped.remove(&labels);
                continue;
            }
            let said = ScrapedTarget::new(url, error, target.get_interval_ms(), target.get_timeout_ms());
            scraped.set(self.peer.session.id, labels, said);
        }
        Ok(())
    }

    async fn bulk_ticket(
        self: Rc<Self>,
        _: agent_session::BulkTicketParams,
        mut results: agent_session::BulkTicketResults,
    ) -> Result<(), capnp::Error> {
        // A push checks the grant itself, right before its append.
        let terms = Terms { finishes_calls: true, ..Terms::scope(format!("agent={}", self.scope.agent)) };
        let make = |grant| SinkServer {
            host: self.host.clone(),
            peer: self.peer.clone(),
            grant,
            scope: self.scope.clone(),
            in_flight: Cell::new(0),
        };
        let sink = if Mutant::chosen() == Some(Mutant::UnguardedSink) {
            capnp_rpc::new_client(make(self.grant.clone()))
        } else {
            self.grant.derive(terms, make)
        };
        let ticket = self.peer.tickets.issue(Attachment::Sink(sink))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

/// Takes batches of one agent.
struct SinkServer {
    host: Arc<CollectorHost>,
    peer: Rc<Peer>,
    grant: Grant,
    scope: Rc<AgentScope>,
    /// Pushes between their arrival and their answer.
    in_flight: Cell<u16>,
}

/// What a sender is told that has more under way than it was granted.
const OVER_CREDIT_RETRY: Duration = Duration::from_millis(100);

/// One push under way.
struct InFlight(Rc<SinkServer>);

impl SinkServer {
    /// `None` when the sender has used up its credit.
    fn begin(self: &Rc<Self>) -> Option<InFlight> {
        let count = self.in_flight.get();
        (count < self.host.calls_in_flight_max).then(|| {
            self.in_flight.set(count + 1);
            InFlight(self.clone())
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

impl SinkServer {
    /// Copies a batch out of the message.
    fn read(&self, from: batch_capnp::batch::Reader<'_>) -> Result<Push, capnp::Error> {
        let body = from.get_body()?;
        let header =
            match BatchHeader::read(from) {
                Ok(_) if body.len() > self.host.batch_bytes_max as usize => Err(Unreadable::Invalid(
                    format!("body of {} bytes (at most {})", body.len(), self.host.batch_bytes_max),
                )),
                Ok(header) => Ok(header),
                Err(Error::Version { newest, .. }) => Err(Unreadable::Version { newest }),
                Err(error) => Err(Unreadable::Invalid(error.to_string())),
            };
        let sequence = from.get_sequence();
        Ok(Push {
            grant: Some(self.grant.clone()),
            agent: self.scope.agent.clone(),
            stamp: self.scope.stamp.clone(),
            id: BatchId {
                stream: read_stream(from.get_stream()?),
                incarnation: read_incarnation(from.get_incarnation()?),
                sequence,
            },
            // Fields that make no sense fill one place of the sequence.
            sequence_end: match &header {
                Ok(header) => header.sequence_end,
                Err(_) => sequence.saturating_add(1),
            },
            item_count: from.get_item_count(),
            body_bytes: body.len(),
            // Taken over before the message gives back its own.
            lease: header.is_ok().then(|| self.peer.session.lease_now(body.len())),
            body: if header.is_ok() { body.to_vec() } else { Vec::new() },
            header,
        })
    }
}

impl batch_sink::Server for SinkServer {
    async fn push(
        self: Rc<Self>,
        params: batch_sink::PushParams,
        mut results: batch_sink::PushResults,
    ) -> Result<(), capnp::Error> {
        let Some(_in_flight) = self.begin() else {
            let receipt = ReceiptOutcome::RetryAfter(OVER_CREDIT_RETRY).at(0);
            write_receipt(&receipt, self.host.calls_in_flight_max, results.get().init_receipt());
            return Ok(());
        };
        let push = self.read(params.get()?.get_batch()?)?;
        drop(params);
        let items = u64::from(push.item_count);
        let cost = cost(&push, &self.host.limits);
        if let Some(Err(wait)) = self.scope.with_limiter(|limiter| limiter.take(cost, Instant::now())) {
            let receipt = ReceiptOutcome::RetryAfter(wait).at(0);
            write_receipt(&receipt, self.host.calls_in_flight_max, results.get().init_receipt());
            return Ok(());
        }
        let receipt = self.host.ingest.push(push).await;
        if receipt.outcome.is_to_be_sent_again() {
            self.scope.with_limiter(|limiter| limiter.give_back(cost));
        }
        if receipt.outcome == ReceiptOutcome::Revoked {
            return self.grant.check();
        }
        if receipt.outcome == ReceiptOutcome::Durable {
            self.peer.session.batches.fetch_add(1, Ordering::Relaxed);
            self.peer.session.items.fetch_add(items, Ordering::Relaxed);
        }
        write_receipt(&receipt, self.host.calls_in_flight_max, results.get().init_receipt());
        Ok(())
    }

    async fn define(
        self: Rc<Self>,
        params: batch_sink::DefineParams,
        mut results: batch_sink::DefineResults,
    ) -> Result<(), capnp::Error> {
        let (incarnation, dictionary, _lease) = {
            let params = params.get()?;
            // Decoded, it takes about what the message took.
            let bytes = params.total_size()?.word_count as usize * 8;
            let lease = self.peer.session.lease_now(bytes);
            let dictionary = read_dictionary(params.get_dictionary()?, &self.host.limits);
            (read_incarnation(params.get_incarnation()?), dictionary, lease)
        };
        drop(params);
        let outcome = match dictionary {
            Ok((epoch, entries)) => {
                let (agent, stamp) = (self.scope.agent.clone(), self.scope.stamp.clone());
                let grant = Some(self.grant.clone());
                self.host.ingest.define(Define { grant, agent, stamp, incarnation, epoch, entries }).await
            }
            Err(error) => DefineOutcome::Rejected(error.to_string()),
        };
        if outcome == DefineOutcome::Revoked {
            return self.grant.check();
        }
        write_define_outcome(&outcome, results.get().init_outcome());
        Ok(())
    }
}

/// What a push costs of its agent's rates. Its count is checked against its
/// body before it is stored; one that is nonsense brings no debt for years.
fn cost(push: &Push, limits: &DecodeLimits) -> Cost {
    let mut cost = Cost { bytes: u32::try_from(push.body_bytes).unwrap_or(u32::MAX), ..Cost::default() };
    match push.id.stream {
        Stream::Metrics => cost.samples = push.item_count.min(limits.samples_per_batch_max),
        Stream::Logs => cost.lines = push.item_count.min(limits.logs_per_batch_max),
        Stream::Events => {}
    }
    cost
}

fn write_receipt(from: &Receipt, credit: u16, mut to: receipt::Builder<'_>) {
    to.set_durable_end(from.durable_end);
    to.set_landed_end(from.landed_end);
    to.set_dropped_items(from.dropped_items);
    to.set_credit(credit);
    match &from.outcome {
        ReceiptOutcome::Durable => to.set_durable(()),
        ReceiptOutcome::Duplicate => to.set_duplicate(()),
        ReceiptOutcome::Rejected(why) => to.set_rejected(&why[..]),
        ReceiptOutcome::NeedDictionary(epoch) => to.set_need_dictionary(*epoch),
        ReceiptOutcome::Unsupported(newest) => to.set_unsupported(*newest),
        ReceiptOutcome::RetryAfter(wait) => to.set_retry_after_ms(wait.as_millis() as u32),
        ReceiptOutcome::Gap(expected) => to.set_gap(*expected),
        ReceiptOutcome::Quarantined => to.set_quarantined(()),
        ReceiptOutcome::Revoked => unreachable!("push() answers with the grant's own error"),
    }
}

fn write_define_outcome(from: &DefineOutcome, mut to: define_outcome::Builder<'_>) {
    match from {
        DefineOutcome::Durable => to.set_durable(()),
        DefineOutcome::Rejected(why) => to.set_rejected(&why[..]),
        DefineOutcome::RetryAfter(wait) => to.set_retry_after_ms(wait.as_millis() as u32),
        DefineOutcome::Revoked => unreachable!("define() answers with the grant's own error"),
    }
}
