//! One group of commands, from check to answer: the heart of ingest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lm_fs::{Fs, RealFs};
use lm_model::{Incarnation, Labels, LossReason, Stream, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{BatchHeader, Body, DecodedBody, decode_body};
use lm_tsdb::db::LogPosition;
use tokio::sync::oneshot;

use super::ahead::AheadAgents;
use super::apply::Applier;
use super::clock::{Jump, RetentionClock};
use super::dictionaries::{Dictionaries, Dictionary, DictionaryKey, Misfit};
use super::handle::{AccountOf, Command, Define, DefineOutcome, Push, Receipt, ReceiptOutcome, Unreadable};
use super::stamp::OWN;
use super::watermarks::{Account, Lost, Outcome, Verdict, Watermarks};
use super::writers::{Refused, WriteReply, Writers, Written};
use crate::faults::{Mutant, sync_point};
use crate::spool::{Expired, Record, Spool, SpoolError, encode};
use crate::storage::StorageState;
use crate::tail::Notice;

/// What a sender is told when the disk is full or fails.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(2);

/// How ingest behaves.
#[derive(Clone)]
pub struct CoreOptions {
    pub limits: DecodeLimits,
    pub wall_clock: fn() -> Timestamp,
    pub monotonic_clock: fn() -> Instant,
    pub mutant: Option<Mutant>,
    /// How far a writer's sample may be behind the newest of its series.
    pub out_of_order_window: Duration,
    /// Samples in memory are written as blocks this often.
    pub flush_interval: Duration,
    /// Memory of samples that are in no block. They are written at a third of
    /// it; at all of it agents are told to come back.
    pub samples_bytes_max: usize,
}

/// Everything that the ingest thread owns.
pub struct Core<F: Fs = RealFs> {
    pub(super) spool: Spool<F>,
    pub(super) watermarks: Watermarks,
    pub(super) dictionaries: Dictionaries,
    /// Dictionaries that the current spool segment holds already.
    pub(super) in_segment: BTreeSet<DictionaryKey>,
    pub(super) applier: Applier,
    pub(super) options: CoreOptions,
    /// What the age of segments, samples and lines is measured by.
    pub(super) clock: RetentionClock,
    pub(super) ahead: AheadAgents,
    pub(super) writers: Writers,
    /// Appended and not yet on disk: a sync failed, the next one may succeed.
    pub(super) unfinished: Vec<Effect>,
    pub(super) storage: Arc<StorageState>,
    /// When samples were last set apart to be written.
    pub(super) rotated: Instant,
    /// The spool has to wait for it.
    pub(super) rotation_is_due: bool,
    /// There is no room for more samples.
    pub(super) is_full: bool,
}

/// What is done once the group is on disk.
#[derive(Default)]
pub(super) struct Then {
    answers: Vec<Answer>,
    pub effects: Vec<Effect>,
}

enum Answer {
    Push(oneshot::Sender<Receipt>, Receipt),
    Define(oneshot::Sender<DefineOutcome>),
}

pub(super) enum Effect {
    Apply {
        agent: Arc<str>,
        header: BatchHeader,
        body: Body,
        dropped: Vec<u32>,
        /// Of a writer, who is told what came of it.
        reply: Option<WriteReply>,
    },
    Notice(Notice),
}

impl<F: Fs> Core<F> {
    /// Handles a group: append all, sync once, then apply and answer.
    pub(super) fn commit(&mut self, commands: impl Iterator<Item = Command>) {
        self.read_clock();
        self.is_full = self.applier.store.db.samples_bytes() > self.options.samples_bytes_max;
        let mut then = Then { answers: Vec::new(), effects: std::mem::take(&mut self.unfinished) };
        let mut waiting = Vec::new();
        for command in commands {
            match command {
                Command::Push(push, reply) => {
                    let receipt = self.push(push, &mut then);
                    then.answers.push(Answer::Push(reply, receipt));
                }
                Command::Define(define, reply) => match self.define(&define) {
                    Ok(()) => then.answers.push(Answer::Define(reply)),
                    Err(outcome) => {
                        let _ = reply.send(outcome);
                    }
                },
                Command::Write(write, reply) => self.write(write, reply, &mut then),
                // Whatever the disk does: it is the thread that is asked for.
                Command::Alive(reply) => drop(reply.send(())),
                other => waiting.push(other),
            }
        }
        if self.options.mutant == Some(Mutant::AckBeforeSync) {
            self.finish(std::mem::take(&mut then));
        }
        sync_point();
        let synced = self.sync((self.options.wall_clock)());
        sync_point();
        match synced {
            Ok(()) => self.finish(then),
            Err(error) => self.postpone(&error, then),
        }
        for command in waiting {
            self.answer(command);
        }
    }

    fn answer(&self, command: Command) {
        if !self.unfinished.is_empty() {
            // What we know is not durable: the dropped reply says "try again".
            return;
        }
        // A receiver that is gone does not need the answer.
        match command {
            Command::Resume(agent, held, reply) => {
                let _ = reply.send(self.watermarks.resume(&agent, &held));
            }
            Command::Accounts(reply) => {
                let accounts =
                    self.watermarks.iter().map(|(agent, stream, incarnation, is_fenced, account)| {
                        AccountOf {
                            agent: agent.clone(),
                            stream,
                            incarnation,
                            is_fenced,
                            account: account.clone(),
                        }
                    });
                let _ = reply.send(accounts.chain(self.lost_blocks()).collect());
            }
            Command::Push(..) | Command::Define(..) | Command::Write(..) | Command::Alive(_) => {
                unreachable!("commit() handles these itself")
            }
        }
    }

    /// Samples of blocks that were damaged: of which agents they were, nobody
    /// knows any more.
    fn lost_blocks(&self) -> Option<AccountOf> {
        let lost = self.applier.store.db.lost();
        let corrupt = (LossReason::Corrupt.name().to_owned(), Lost { batches: 0, items: lost });
        (lost > 0).then(|| AccountOf {
            agent: super::stamp::COLLECTOR.into(),
            stream: Stream::Metrics,
            incarnation: Incarnation { ordinal: 0, nonce: 0 },
            is_fenced: false,
            account: Account { lost: BTreeMap::from([corrupt]), ..Account::default() },
        })
    }

    /// Appends one batch, or decides that it is not stored.
    fn push(&mut self, push: Push, then: &mut Then) -> Receipt {
        let (stream, incarnation) = (push.id.stream, push.id.incarnation);
        let durable_end = self.watermarks.durable_end(&push.agent, stream, incarnation);
        if push.grant.as_ref().is_some_and(|grant| grant.check().is_err()) {
            return ReceiptOutcome::Revoked.at(durable_end);
        }
        let now = (self.options.wall_clock)();
        let is_checked = self.options.mutant != Some(Mutant::NoDedupe);
        match self.watermarks.check(&push.agent, stream, incarnation, push.id.sequence, push.sequence_end) {
            Verdict::Duplicate if is_checked => return ReceiptOutcome::Duplicate.at(durable_end),
            Verdict::Gap { expected } if is_checked => return ReceiptOutcome::Gap(expected).at(durable_end),
            Verdict::Fenced => return self.quarantine(now, &push, then),
            _ => {}
        }
        let Push {
            agent, stamp, id, sequence_end, item_count, header, body, body_bytes, lease: _lease, ..
        } = push;
        let header = match header {
            Ok(header) => header,
            Err(Unreadable::Version { newest }) => {
                return ReceiptOutcome::Unsupported(newest).at(durable_end);
            }
            Err(Unreadable::Invalid(why)) => {
                return self.reject(&agent, &stamp, id, sequence_end, item_count, body_bytes, why, then);
            }
        };
        if self.is_full && header.kind.has_samples() {
            return ReceiptOutcome::RetryAfter(DISK_RETRY).at(durable_end);
        }
        let decoded = match decode_body(&header, &body, self.limits_of(&agent)) {
            Ok(decoded) => decoded,
            Err(error) => {
                let why = error.to_string();
                return self.reject(&agent, &stamp, id, sequence_end, item_count, body_bytes, why, then);
            }
        };
        let key = DictionaryKey { agent: agent.clone(), incarnation, epoch: header.dictionary_epoch };
        if header.kind.has_references() {
            match self.dictionaries.check(&key, header.dictionary_length, &decoded.new_entries) {
                Ok(()) => {}
                Err(Misfit::Unknown) => {
                    return ReceiptOutcome::NeedDictionary(header.dictionary_epoch).at(durable_end);
                }
                Err(Misfit::Conflict { reference }) => {
                    let why =
                        format!("reference {reference} of epoch {} has another meaning already", key.epoch);
                    return self.reject(&agent, &stamp, id, sequence_end, item_count, body.len(), why, then);
                }
            }
        }
        self.accept(&agent, &stamp, header, &body, decoded, &key, then)
    }

    /// Appends a batch whose place and dictionary were checked.
    #[expect(clippy::too_many_arguments, reason = "one call, each argument a different thing")]
    pub(super) fn accept(
        &mut self,
        agent: &Arc<str>,
        stamp: &Labels,
        header: BatchHeader,
        body: &[u8],
        decoded: DecodedBody,
        key: &DictionaryKey,
        then: &mut Then,
    ) -> Receipt {
        let now = (self.options.wall_clock)();
        let (stream, incarnation) = (header.id.stream, header.id.incarnation);
        let mut receipt = match self.store(now, agent, stamp, &header, body, &decoded, key) {
            Ok(dropped) => {
                let items = self.applier.count(&decoded.body, &dropped);
                if items > 0 {
                    then.effects.push(Effect::Notice(notice(
                        now,
                        "series_limit",
                        agent,
                        format!("{items} samples of {} new series are over the series limit", dropped.len()),
                        items,
                    )));
                }
                if let Body::Loss { items, reason, .. } = &decoded.body {
                    then.effects.push(Effect::Notice(loss_notice(now, agent, &header, *items, *reason)));
                }
                then.effects.push(Effect::Apply {
                    agent: agent.clone(),
                    header,
                    body: decoded.body,
                    dropped,
                    reply: None,
                });
                let mut receipt = ReceiptOutcome::Durable.at(header.sequence_end);
                receipt.dropped_items = items;
                receipt
            }
            Err(error) => {
                return retry(&error, self.watermarks.durable_end(agent, stream, incarnation));
            }
        };
        receipt.durable_end = self.watermarks.durable_end(agent, stream, incarnation);
        receipt.landed_end = receipt.durable_end;
        receipt
    }

    /// Limits are for peers: our own series have more labels than the floor of
    /// what an agent may be limited to.
    fn limits_of(&self, agent: &str) -> &DecodeLimits {
        if agent == OWN { &DecodeLimits::STORED } else { &self.options.limits }
    }

    /// Keeps a batch of an incarnation that has ended apart: stored and
    /// declared, not served.
    fn quarantine(&mut self, now: Timestamp, push: &Push, then: &mut Then) -> Receipt {
        let (agent, id) = (&push.agent, push.id);
        let header = match &push.header {
            Ok(header) => header,
            Err(Unreadable::Version { newest }) => return ReceiptOutcome::Unsupported(*newest).at(0),
            Err(Unreadable::Invalid(why)) => {
                // Nothing of it can be kept, and its incarnation has no place to fill.
                tracing::warn!(%agent, batch = %id, "batch of an ended incarnation rejected: {why}");
                return ReceiptOutcome::Rejected(why.clone()).at(push.sequence_end);
            }
        };
        let record = Record::Quarantined { agent, header, body: &push.body };
        if let Err(error) = self.append(now, &encode(now, &push.stamp, &record)) {
            return retry(&error, self.watermarks.durable_end(agent, id.stream, id.incarnation));
        }
        let items = u64::from(push.item_count);
        self.watermarks.add_lost(agent, id.stream, id.incarnation, LossReason::Fenced.name(), items);
        let message =
            format!("batch {id} of an incarnation that has ended was kept apart: is its queue a copy?");
        then.effects.push(Effect::Notice(notice(now, "batch_quarantined", agent, message, items)));
        ReceiptOutcome::Quarantined.at(push.sequence_end)
    }

    /// Appends an accepted batch with its dictionary. Returns the references
    /// that the series limit refused.
    #[expect(clippy::too_many_arguments, reason = "one call, each argument a different thing")]
    fn store(
        &mut self,
        now: Timestamp,
        agent: &Arc<str>,
        stamp: &Labels,
        header: &BatchHeader,
        body: &[u8],
        decoded: &DecodedBody,
        key: &DictionaryKey,
    ) -> Result<Vec<u32>, SpoolError> {
        let has_references = header.kind.has_references();
        // What the segment lacks is what was known before this batch.
        let dictionary = self.encode_dictionary(now, stamp, key).filter(|_| has_references);
        let before = if has_references {
            self.dictionaries.extend(key, header.dictionary_length, &decoded.new_entries, stamp)
        } else {
            0
        };
        let dropped = self.applier.resolve(&mut self.dictionaries, key, decoded.body.series());
        let dropped_items = self.applier.count(&decoded.body, &dropped);
        let record = Record::Accepted { agent, header, body, dropped_entries: &dropped, dropped_items };
        let payload = encode(now, stamp, &record);
        if let Err(error) = self.append_with(now, stamp, key, dictionary, &payload) {
            // Entries without a record would be references that nobody can resolve.
            self.dictionaries.truncate(key, before);
            return Err(error);
        }
        let outcome = match &decoded.body {
            Body::Loss { items, reason, .. } => {
                Outcome::Lost { items: *items, reason: reason.name().to_owned() }
            }
            _ => Outcome::Stored { items: u64::from(header.item_count) - dropped_items },
        };
        let id = header.id;
        self.watermarks.note_items_before(agent, id.stream, id.incarnation, header.items_before);
        self.watermarks.advance(agent, id.stream, id.incarnation, id.sequence, header.sequence_end, &outcome);
        if dropped_items > 0 {
            let reason = LossReason::Limit.name();
            self.watermarks.add_lost(agent, id.stream, id.incarnation, reason, dropped_items);
        }
        Ok(dropped)
    }

    /// Appends a batch behind its dictionary, in one segment.
    fn append_with(
        &mut self,
        now: Timestamp,
        stamp: &Labels,
        key: &DictionaryKey,
        mut dictionary: Option<Vec<u8>>,
        payload: &[u8],
    ) -> Result<(), SpoolError> {
        let together = payload.len() + dictionary.as_ref().map_or(0, Vec::len);
        if self.spool.needs_roll(self.clock.time(), together as u64) {
            self.roll(now)?;
            // By now it holds the batch's own entries too: harmless, they repeat.
            dictionary = self.encode_dictionary(now, stamp, key);
        }
        if let Some(dictionary) = dictionary {
            self.append_here(now, &dictionary)?;
            self.in_segment.insert(key.clone());
        }
        self.append_here(now, payload)
    }

    /// Fills the place of a batch that can never be accepted.
    #[expect(clippy::too_many_arguments, reason = "one call, each argument a different thing")]
    fn reject(
        &mut self,
        agent: &Arc<str>,
        stamp: &Labels,
        id: lm_model::BatchId,
        sequence_end: u64,
        item_count: u32,
        bytes: usize,
        why: String,
        then: &mut Then,
    ) -> Receipt {
        let now = (self.options.wall_clock)();
        let items = u64::from(item_count);
        let record = Record::Tombstone { agent, id, sequence_end, items, bytes: bytes as u64, reason: &why };
        if let Err(error) = self.append(now, &encode(now, stamp, &record)) {
            return retry(&error, self.watermarks.durable_end(agent, id.stream, id.incarnation));
        }
        let outcome = Outcome::Lost { items, reason: LossReason::Rejected.name().to_owned() };
        self.watermarks.advance(agent, id.stream, id.incarnation, id.sequence, sequence_end, &outcome);
        tracing::warn!(%agent, batch = %id, items, "batch rejected: {why}");
        then.effects.push(Effect::Notice(notice(
            now,
            "batch_rejected",
            agent,
            format!("batch {id}: {why}"),
            items,
        )));
        ReceiptOutcome::Rejected(why).at(sequence_end)
    }

    fn define(&mut self, define: &Define) -> Result<(), DefineOutcome> {
        if define.grant.as_ref().is_some_and(|grant| grant.check().is_err()) {
            return Err(DefineOutcome::Revoked);
        }
        let now = (self.options.wall_clock)();
        let key = DictionaryKey {
            agent: define.agent.clone(),
            incarnation: define.incarnation,
            epoch: define.epoch,
        };
        if let Err(Misfit::Conflict { reference }) = self.dictionaries.check(&key, 0, &define.entries) {
            return Err(DefineOutcome::Rejected(format!(
                "reference {reference} has another meaning already"
            )));
        }
        let before = self.dictionaries.extend(&key, 0, &define.entries, &define.stamp);
        // Written again with what is new, even if the segment has a shorter one.
        self.in_segment.remove(&key);
        let Some(payload) = self.encode_dictionary(now, &define.stamp, &key) else { return Ok(()) };
        if let Err(error) = self.append(now, &payload) {
            tracing::error!(%error, "cannot write the spool");
            self.dictionaries.truncate(&key, before);
            return Err(DefineOutcome::RetryAfter(DISK_RETRY));
        }
        self.in_segment.insert(key);
        Ok(())
    }

    /// The record that makes the current segment complete: a dictionary
    /// stands in it before its first use there.
    fn encode_dictionary(&self, now: Timestamp, stamp: &Labels, key: &DictionaryKey) -> Option<Vec<u8>> {
        if self.in_segment.contains(key) {
            return None;
        }
        Some(dictionary_record(now, stamp, key, self.dictionaries.get(key)))
    }

    fn append(&mut self, now: Timestamp, payload: &[u8]) -> Result<(), SpoolError> {
        if self.spool.needs_roll(self.clock.time(), payload.len() as u64) {
            self.roll(now)?;
        }
        self.append_here(now, payload)
    }

    fn append_here(&mut self, now: Timestamp, payload: &[u8]) -> Result<(), SpoolError> {
        let Core { spool, watermarks, dictionaries, in_segment, clock, .. } = self;
        spool.append(clock.time(), payload, &mut || preamble(now, watermarks, dictionaries, in_segment))
    }

    fn sync(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        let Core { spool, watermarks, dictionaries, in_segment, clock, .. } = self;
        spool.sync(clock.time(), &mut || preamble(now, watermarks, dictionaries, in_segment))
    }

    /// Begins a new segment. The old one is synced first, so that nothing has
    /// to move behind a preamble without its dictionaries.
    pub(super) fn roll(&mut self, now: Timestamp) -> Result<(), SpoolError> {
        self.sync(now)?;
        self.spool
            .roll(self.clock.time(), encode(now, &Labels::empty(), &Record::Watermarks(&self.watermarks)))?;
        self.in_segment.clear();
        Ok(())
    }

    /// The group is on disk: answer, then show, so that senders go on while
    /// we apply.
    fn finish(&mut self, then: Then) {
        for answer in then.answers {
            // A session that ended meanwhile asks again at its next login.
            match answer {
                Answer::Push(reply, receipt) => drop(reply.send(receipt)),
                Answer::Define(reply) => drop(reply.send(DefineOutcome::Durable)),
            }
        }
        let mut notices = Vec::new();
        for effect in then.effects {
            match effect {
                Effect::Apply { agent, header, body, dropped, reply } => {
                    let conflicts = self.apply(&agent, &header, body, &dropped);
                    if let Some(WriteReply { to, refused }) = reply {
                        let _ = to.send(Written::Stored(Refused { conflicts, ..refused }));
                    }
                }
                Effect::Notice(notice) => notices.push(notice),
            }
        }
        self.applier.notices(notices);
        self.applier.expire_if_full(self.clock.time());
        self.rotate_if_due();
    }

    fn rotate_if_due(&mut self) {
        let waited = (self.options.monotonic_clock)().saturating_duration_since(self.rotated);
        let is_large = self.applier.store.db.active_bytes() > self.options.samples_bytes_max / 3;
        if self.rotation_is_due || is_large || waited >= self.options.flush_interval {
            self.rotate();
        }
    }

    /// Sets the samples in memory apart, to be written by the storage thread.
    /// The spool begins a new segment, so that they cover all before it.
    fn rotate(&mut self) {
        let db = &self.applier.store.db;
        if db.has_pending() || !self.unfinished.is_empty() {
            return;
        }
        let now = (self.options.wall_clock)();
        // The new segment is on disk before anybody says that it is covered up
        // to there: a start that does not find it reads the whole spool.
        if let Err(error) = self.roll(now).and_then(|()| self.sync(now)) {
            tracing::error!(%error, "cannot begin a spool segment: samples stay in memory");
            return;
        }
        let covered = LogPosition { segment: self.spool.active(), offset: 0 };
        self.applier.store.db.freeze(self.clock.time(), covered);
        self.rotated = (self.options.monotonic_clock)();
        self.rotation_is_due = false;
        self.storage.wake();
    }

    /// Returns the samples that contradict stored ones.
    fn apply(&mut self, agent: &Arc<str>, header: &BatchHeader, body: Body, dropped: &[u32]) -> u64 {
        self.ahead.count(agent, &body, dropped, (self.options.wall_clock)());
        let conflicts = self.applier.apply(&mut self.dictionaries, agent, header, body, dropped, true);
        if conflicts > 0 {
            let id = header.id;
            self.watermarks.move_to_lost(agent, id.stream, id.incarnation, "conflict", conflicts);
        }
        conflicts
    }

    /// The group is not on disk: nothing of it is acknowledged or shown. Its
    /// records wait in the spool, so what follows from them waits too, and a
    /// batch that is sent again meanwhile is not appended twice.
    fn postpone(&mut self, error: &SpoolError, then: Then) {
        tracing::error!(%error, "cannot write the spool: nothing of this group is acknowledged");
        self.applier.metrics.spool_failures.fetch_add(1, Ordering::Relaxed);
        for answer in then.answers {
            match answer {
                Answer::Push(reply, _) => drop(reply.send(ReceiptOutcome::RetryAfter(DISK_RETRY).at(0))),
                Answer::Define(reply) => drop(reply.send(DefineOutcome::RetryAfter(DISK_RETRY))),
            }
        }
        self.unfinished = then.effects;
        for effect in &mut self.unfinished {
            // It writes again, which is harmless: equal samples are one.
            if let Effect::Apply { reply, .. } = effect
                && let Some(WriteReply { to, .. }) = reply.take()
            {
                let _ = to.send(Written::RetryAfter(DISK_RETRY));
            }
        }
    }

    fn read_clock(&mut self) {
        let wall = (self.options.wall_clock)();
        if let Some(jump) = self.clock.handle_reading((self.options.monotonic_clock)(), wall) {
            self.tell_jump(jump, wall);
        }
    }

    /// Logs a jump of the system clock, and tells those who watch.
    pub(super) fn tell_jump(&self, jump: Jump, now: Timestamp) {
        let message = match jump {
            Jump::Ahead(by) => format!(
                "the collector's clock is {} s ahead of what was expected: for an hour nothing expires by it",
                by.as_secs()
            ),
            Jump::Believed(by) => {
                format!("the collector's clock stayed {} s ahead: retention goes by it now", by.as_secs())
            }
            Jump::Back(by) => format!("the collector's clock went back by {} s", by.as_secs()),
        };
        tracing::warn!("{message}");
        self.applier.notices([notice(now, "clock_jumped", super::stamp::COLLECTOR, message, 0)]);
    }

    /// Retention, of memory and of disk.
    pub(super) fn housekeep(&mut self) {
        if !self.unfinished.is_empty() {
            self.commit(std::iter::empty());
        }
        self.read_clock();
        let now = (self.options.wall_clock)();
        let notices = self.ahead.poll_notices((self.options.monotonic_clock)(), now);
        self.applier.notices(notices);
        self.applier.expire(self.clock.time());
        self.storage.set_now(self.clock.time());
        self.rotate_if_due();
        self.applier.metrics.spool_bytes.store(self.spool.bytes(), Ordering::Relaxed);
        self.applier.metrics.set_ahead(&self.ahead);
        self.applier.metrics.housekept_unix_ms.store(now.as_millis(), Ordering::Relaxed);
        let covered = self.applier.store.db.covered().segment;
        match self.spool.expire(self.clock.time(), covered) {
            Ok(Expired { segments, is_held }) => {
                self.rotation_is_due |= is_held;
                if segments > 0 {
                    tracing::info!(segments, "spool segments expired");
                }
            }
            Err(error) => tracing::error!(%error, "cannot remove an expired spool segment"),
        }
    }
}

/// What a segment needs before records that were meant for another.
fn preamble(
    now: Timestamp,
    watermarks: &Watermarks,
    dictionaries: &Dictionaries,
    in_segment: &BTreeSet<DictionaryKey>,
) -> Vec<Vec<u8>> {
    let snapshot = encode(now, &Labels::empty(), &Record::Watermarks(watermarks));
    let used = in_segment.iter().filter_map(|key| Some((key, dictionaries.get(key)?)));
    let records = used.map(|(key, known)| dictionary_record(now, &known.stamp, key, Some(known)));
    std::iter::once(snapshot).chain(records).collect()
}

fn dictionary_record(
    now: Timestamp,
    stamp: &Labels,
    key: &DictionaryKey,
    dictionary: Option<&Dictionary>,
) -> Vec<u8> {
    let entries: Vec<_> =
        dictionary.iter().flat_map(|known| &known.entries).map(|entry| entry.sent.clone()).collect();
    let record = Record::Dictionary {
        agent: &key.agent,
        incarnation: key.incarnation,
        epoch: key.epoch,
        entries: &entries,
    };
    encode(now, stamp, &record)
}

fn retry(error: &SpoolError, durable_end: u64) -> Receipt {
    tracing::error!(%error, "cannot write the spool");
    ReceiptOutcome::RetryAfter(DISK_RETRY).at(durable_end)
}

fn notice(now: Timestamp, code: &str, agent: &str, message: String, items: u64) -> Notice {
    Notice { time_unix_nano: now.as_nanos(), code: code.to_owned(), agent: agent.to_owned(), message, items }
}

fn loss_notice(now: Timestamp, agent: &str, header: &BatchHeader, items: u64, reason: LossReason) -> Notice {
    let message = format!(
        "{} items of {} in sequences [{}, {}) were lost: {}",
        items,
        header.id.stream,
        header.id.sequence,
        header.sequence_end,
        reason.name()
    );
    notice(now, "loss_declared", agent, message, items)
}
