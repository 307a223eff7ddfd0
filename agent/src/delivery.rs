//! What to send next and what an answer means. Pure: no clock, no connection.
//!
//! Each stream is a lane with its own order. A lane sends ahead of answers;
//! the first answer that is no success stalls it until everything that was
//! sent has been answered, then the cause is repaired (define a dictionary,
//! wait, fill a hole) and the lane starts again at the first batch that is not
//! acknowledged. Batches behind the cause are answered "gap" meanwhile, which
//! says nothing new.
//!
//! ```text
//! Flowing ──no batch──▶ Empty ──growth──▶ Flowing
//!    └──answer──▶ Stalled ──all answered──▶ Repairing | Waiting ──▶ Flowing
//! ```
//!
//! [`Delivery::poll`] says what the shell has to do; `handle_*` take what
//! came of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lm_model::{BatchId, Incarnation, Stream};
use lm_schema::batch::{BatchHeader, Kind};

/// Bytes of batches that were sent and not answered. One batch is always allowed.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 20;
/// How long a lane rests when an answer makes no sense.
const NONSENSE_WAIT: Duration = Duration::from_secs(1);

/// A batch as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing<P> {
    pub header: BatchHeader,
    pub body: Vec<u8>,
    /// Where it stands in the queue, which is also the order of sending over
    /// all lanes; `None` for a loss, which goes first.
    pub position: Option<P>,
}

/// The collector's answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub outcome: Outcome,
    pub durable_end: u64,
    pub landed_end: u64,
    /// Calls that we may have in flight.
    pub credit: usize,
    /// Stored without these items, which were over a limit.
    pub dropped_items: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Durable,
    Duplicate,
    Quarantined,
    Rejected(String),
    NeedDictionary(u32),
    Unsupported(u16),
    RetryAfter(Duration),
    Gap(u64),
}

impl Outcome {
    /// The batch needs no further sending.
    pub fn is_final(&self) -> bool {
        matches!(self, Outcome::Durable | Outcome::Duplicate | Outcome::Quarantined | Outcome::Rejected(_))
    }
}

/// Everything below `durable_end` is the collector's now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub durable_end: u64,
    pub landed_end: u64,
}

/// What the shell does next.
#[derive(Debug, PartialEq)]
pub enum Step<P> {
    /// Ask the queue for the next batch; answer with `handle_fetched`.
    Fetch(Stream),
    /// Send, and answer with `handle_receipt`.
    Send(Outgoing<P>),
    /// Let the queue begin again at the first batch that is not acknowledged.
    Rewind(Stream),
    /// Send the dictionary that the batch needs; answer with `handle_defined`.
    Define { stream: Stream, header: BatchHeader, position: P },
    /// Make a loss for `[start, end)`; answer with `handle_hole`.
    /// `items` are what the numbers of the batches around it say; without the
    /// batch before it, both numbers of items are 0.
    Hole { stream: Stream, incarnation: Incarnation, start: u64, end: u64, items_before: u64, items: u64 },
}

/// The state of one session's deliveries.
pub struct Delivery<P> {
    lanes: [Lane<P>; 3],
    calls_max: usize,
    credit: usize,
}

struct Lane<P> {
    state: State<P>,
    /// Fetched and not sent.
    ready: VecDeque<Outgoing<P>>,
    /// Sent and not acknowledged, in order.
    sent: VecDeque<Sent<P>>,
    /// The queue has no more than what is in `ready`.
    has_fetched_all: bool,
    /// What the collector waits for, after a gap.
    expected: Option<(Incarnation, u64)>,
    /// Where the last acknowledged batch ended: sequence, and items up to it.
    acknowledged: Option<(Incarnation, u64, u64)>,
    must_rewind: bool,
    /// The batch whose dictionary was defined last.
    defined_for: Option<BatchId>,
}

enum State<P> {
    Flowing,
    /// Somebody was asked for something on behalf of this lane.
    Asked,
    Empty,
    Stalled(Stall<P>),
    Waiting {
        until: Instant,
    },
}

/// The lowest batch that was not accepted, and why.
struct Stall<P> {
    header: BatchHeader,
    position: Option<P>,
    outcome: Outcome,
}

struct Sent<P> {
    header: BatchHeader,
    position: Option<P>,
    bytes: usize,
    is_answered: bool,
    is_final: bool,
}

impl<P: Copy + Ord> Delivery<P> {
    pub fn new(calls_max: usize) -> Self {
        let lane = || Lane {
            state: State::Flowing,
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            has_fetched_all: false,
            expected: None,
            acknowledged: None,
            // The queue may have handed out batches in an earlier session.
            must_rewind: true,
            defined_for: None,
        };
        Delivery { lanes: [lane(), lane(), lane()], calls_max: calls_max.max(1), credit: usize::MAX }
    }

    /// The next thing to do, or `None` until something is handled or
    /// [`poll_timeout`](Self::poll_timeout) passes.
    pub fn poll(&mut self, now: Instant) -> Option<Step<P>> {
        for (stream, lane) in Stream::ALL.into_iter().zip(&mut self.lanes) {
            if let Some(step) = lane.poll(stream, now) {
                return Some(step);
            }
        }
        let first = self.lanes.iter().filter_map(Lane::sendable).map(|next| next.position).min()?;
        let (calls, bytes) = self.in_flight();
        let is_first = |lane: &&mut Lane<P>| lane.sendable().is_some_and(|next| next.position == first);
        let lane = self.lanes.iter_mut().find(is_first)?;
        let next = lane.ready.front()?;
        let has_room =
            calls < self.calls_max.min(self.credit) && bytes + next.body.len() <= IN_FLIGHT_BYTES_MAX;
        if calls > 0 && !has_room {
            return None;
        }
        let next = lane.ready.pop_front()?;
        lane.sent.push_back(Sent {
            header: next.header,
            position: next.position,
            bytes: next.body.len(),
            is_answered: false,
            is_final: false,
        });
        Some(Step::Send(next))
    }

    /// When [`poll`](Self::poll) has something to do although nothing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wait =
            |lane: &Lane<P>| if let State::Waiting { until } = lane.state { Some(until) } else { None };
        self.lanes.iter().filter_map(wait).min()
    }

    /// Calls that are not answered, and their bytes.
    pub fn in_flight(&self) -> (usize, usize) {
        let sent = self.lanes.iter().flat_map(|lane| &lane.sent).filter(|sent| !sent.is_answered);
        sent.fold((0, 0), |(calls, bytes), sent| (calls + 1, bytes + sent.bytes))
    }

    /// Nothing is in flight and the queue had nothing more.
    pub fn is_drained(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.state, State::Empty) && lane.sent.is_empty())
    }

    /// Whatever waits for a time is done at once: somebody asked for it.
    pub fn handle_hurry(&mut self) {
        for lane in &mut self.lanes {
            if matches!(lane.state, State::Waiting { .. }) {
                lane.state = State::Flowing;
            }
        }
    }

    /// The queue may have more of `stream` than it had.
    pub fn handle_growth(&mut self, stream: Stream) {
        let lane = &mut self.lanes[stream as usize];
        lane.has_fetched_all = false;
        if matches!(lane.state, State::Empty) {
            lane.state = State::Flowing;
        }
    }

    /// The queue's next batch of `stream`, if it has one. `is_last`: there is
    /// no use in asking again before a growth.
    pub fn handle_fetched(&mut self, stream: Stream, fetched: Option<Outgoing<P>>, is_last: bool) {
        let lane = &mut self.lanes[stream as usize];
        if !matches!(lane.state, State::Asked) {
            return; // stalled meanwhile: the lane will begin again anyway
        }
        lane.state = State::Flowing;
        lane.has_fetched_all = is_last;
        match fetched {
            Some(batch) => lane.ready.push_back(batch),
            None => lane.state = State::Empty,
        }
    }

    /// The loss that fills a hole; it goes before what was fetched.
    pub fn handle_hole(&mut self, stream: Stream, loss: Outgoing<P>) {
        let lane = &mut self.lanes[stream as usize];
        if matches!(lane.state, State::Asked) {
            lane.state = State::Flowing;
            lane.ready.push_front(loss);
        }
    }

    /// The dictionary is known, or will be asked for again after `retry`.
    pub fn handle_defined(&mut self, now: Instant, stream: Stream, retry: Option<Duration>) {
        let lane = &mut self.lanes[stream as usize];
        lane.start_over(retry.map(|wait| now + wait));
    }

    /// The answer to a batch. What it acknowledges is told to the queue.
    pub fn handle_receipt(&mut self, header: &BatchHeader, receipt: &Receipt) -> Option<Acknowledgement> {
        // Without any credit no later answer could give some.
        self.credit = receipt.credit.max(1);
        let lane = &mut self.lanes[header.id.stream as usize];
        let sent = lane.sent.iter_mut().find(|sent| sent.header.id == header.id)?;
        sent.is_answered = true;
        sent.is_final = receipt.outcome.is_final();
        if !sent.is_final {
            let stall =
                Stall { header: sent.header, position: sent.position, outcome: receipt.outcome.clone() };
            lane.stall(stall);
        }
        lane.acknowledge(header.id.stream, receipt.landed_end)
    }
}

impl<P: Copy + Ord> Lane<P> {
    /// What may be sent next. A new incarnation waits until all of the one
    /// before it is acknowledged: its first batch ends that one for good, and
    /// what a gap had held up would be kept apart.
    fn sendable(&self) -> Option<&Outgoing<P>> {
        let next = self.ready.front().filter(|_| matches!(self.state, State::Flowing))?;
        let incarnation = next.header.id.incarnation;
        let is_alone = self.sent.iter().all(|sent| sent.header.id.incarnation == incarnation);
        is_alone.then_some(next)
    }

    fn poll(&mut self, stream: Stream, now: Instant) -> Option<Step<P>> {
        if let State::Waiting { until } = self.state
            && until <= now
        {
            self.state = State::Flowing;
        }
        if let State::Stalled(_) = &self.state
            && self.sent.iter().all(|sent| sent.is_answered)
        {
            let State::Stalled(stall) = std::mem::replace(&mut self.state, State::Asked) else {
                return None;
            };
            if let Some(step) = self.repair(stream, stall, now) {
                return Some(step);
            }
        }
        if !matches!(self.state, State::Flowing) {
            return None;
        }
        if std::mem::take(&mut self.must_rewind) {
            return Some(Step::Rewind(stream));
        }
        let Some(next) = self.ready.front() else {
            self.state = if self.has_fetched_all { State::Empty } else { State::Asked };
            return matches!(self.state, State::Asked).then_some(Step::Fetch(stream));
        };
        let (incarnation, start) = self.expected.take()?;
        let id = next.header.id;
        if id.incarnation != incarnation || id.sequence <= start {
            return None;
        }
        self.state = State::Asked;
        let known = match self.acknowledged {
            _ if start == 0 => Some(0),
            Some((run, end, items)) if (run, end) == (incarnation, start) => Some(items),
            _ => None,
        };
        // Not known: the collector knows what it has, and finds the rest
        // missing when the batch behind the hole says how many were before it.
        let items = known.map_or(0, |known| next.header.items_before.saturating_sub(known));
        let items_before = known.unwrap_or(0);
        Some(Step::Hole { stream, incarnation, start, end: id.sequence, items_before, items })
    }

    fn repair(&mut self, stream: Stream, stall: Stall<P>, now: Instant) -> Option<Step<P>> {
        let own = stall.header.id;
        match (stall.outcome, stall.position) {
            // The same question after an answer is nonsense: it must not spin.
            (Outcome::NeedDictionary(_), Some(position)) if self.defined_for.take() != Some(own) => {
                self.defined_for = Some(own);
                return Some(Step::Define { stream, header: stall.header, position });
            }
            (Outcome::RetryAfter(wait), _) => self.start_over(Some(now + wait)),
            (Outcome::Gap(expected), _) if expected < own.sequence => {
                self.start_over(None);
                self.expected = Some((own.incarnation, expected));
            }
            _ => self.start_over(Some(now + NONSENSE_WAIT)),
        }
        None
    }

    /// Remembers the lowest batch that was not accepted.
    fn stall(&mut self, stall: Stall<P>) {
        match &self.state {
            State::Stalled(known) if known.header.id <= stall.header.id => {}
            _ => self.state = State::Stalled(stall),
        }
    }

    /// Takes what is final from the front, in order.
    fn acknowledge(&mut self, stream: Stream, landed_end: u64) -> Option<Acknowledgement> {
        let mut acknowledged = None;
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.is_final) {
            // A loss does not say how many items it had before its end.
            let items_after = sent.header.items_before + u64::from(sent.header.item_count);
            let end = (sent.header.id.incarnation, sent.header.sequence_end, items_after);
            self.acknowledged = Some(end).filter(|_| sent.header.kind != Kind::Loss);
            acknowledged = Some(Acknowledgement {
                stream,
                incarnation: sent.header.id.incarnation,
                durable_end: sent.header.sequence_end,
                landed_end,
            });
        }
        acknowledged
    }

    /// Begins again at the first batch that is not acknowledged.
    fn start_over(&mut self, wait_until: Option<Instant>) {
        self.ready.clear();
        self.has_fetched_all = false;
        self.sent.clear();
        self.expected = None;
        self.must_rewind = true;
        self.state = wait_until.map_or(State::Flowing, |until| State::Waiting { until });
    }
}

#[cfg(test)]
mod tests;
