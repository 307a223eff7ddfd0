//! Rebuilding everything in memory from the spool.

use std::collections::BTreeMap;
use std::sync::Arc;

use lm_fs::Fs;
use lm_model::{BatchId, Incarnation, Labels, LossReason, Stream, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{BatchHeader, Body, decode_body};

use super::ahead::AheadAgents;
use super::apply::{Applier, StoreMetrics};
use super::clock::RetentionClock;
use super::dictionaries::{Dictionaries, DictionaryKey};
use super::group::{Core, CoreOptions};
use super::watermarks::{Account, Outcome, Watermarks};
use crate::spool::{OwnedRecord, Spool, Stored};
use crate::storage::StorageState;
use crate::store::Store;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub records: u64,
    pub unreadable: u64,
    /// Sequences that the spool once held and a neighbour says are missing.
    pub lost_batches: u64,
}

impl<F: Fs> Core<F> {
    /// Reads the whole spool into `store` and returns what ingest starts from.
    ///
    /// # Errors
    ///
    /// When the spool or the store cannot be read or written. Damaged records
    /// are passed over and counted, never an error.
    pub fn open(
        mut spool: Spool<F>,
        store: Arc<Store>,
        storage: Arc<StorageState>,
        metrics: Arc<StoreMetrics>,
        options: CoreOptions,
    ) -> Result<(Core<F>, Replayed), crate::Error> {
        let wall = (options.wall_clock)();
        let (clock, jump) =
            RetentionClock::new(spool.retention(), spool.begun(), (options.monotonic_clock)(), wall);
        let rotated = (options.monotonic_clock)();
        // What is covered ends where a segment began, and the newest one never
        // goes: an older one than that is of another spool, or damaged.
        if spool.newest().unwrap_or_default() < store.db.covered().segment {
            tracing::error!("the spool ends before what blocks cover: all of it is read");
            store.db.uncover()?;
        }
        let mut replay = Replay {
            watermarks: Watermarks::default(),
            dictionaries: Dictionaries::default(),
            covered: store.db.covered().segment,
            applier: Applier { store, metrics },
            unlearned: BTreeMap::new(),
            storage,
            samples_bytes_max: options.samples_bytes_max,
            replayed: Replayed::default(),
            has_snapshot: false,
            owed: BTreeMap::new(),
            since_expiry: 0,
            now: clock.time(),
        };
        spool.replay(|segment, stored| replay.handle(segment, stored))?;
        replay.learn_all();
        replay.declare_owed();
        let Replay { watermarks, dictionaries, applier, storage, replayed, .. } = replay;
        let mut core = Core {
            spool,
            watermarks,
            dictionaries,
            in_segment: Default::default(),
            applier,
            options,
            clock,
            ahead: AheadAgents::default(),
            writers: Default::default(),
            unfinished: Vec::new(),
            storage,
            rotated,
            rotation_is_due: false,
            is_full: false,
        };
        if let Some(jump) = jump {
            core.tell_jump(jump, wall);
        }
        core.roll(wall)?;
        core.housekeep();
        Ok((core, replayed))
    }
}

struct Replay {
    watermarks: Watermarks,
    dictionaries: Dictionaries,
    applier: Applier,
    storage: Arc<StorageState>,
    samples_bytes_max: usize,
    /// Samples in segments before this are in blocks.
    covered: u64,
    /// Of each dictionary the last batch that was passed over, if it may add
    /// to it.
    unlearned: BTreeMap<DictionaryKey, Unlearned>,
    replayed: Replayed,
    has_snapshot: bool,
    /// What the last snapshot counts as stored and nobody has read yet.
    owed: BTreeMap<(Arc<str>, Stream, Incarnation), Owed>,
    since_expiry: u32,
    now: Timestamp,
}

/// Batches of one incarnation that were acknowledged before a snapshot. Their
/// records stand behind it, if they moved there, or are gone.
#[derive(Clone, Copy, Debug)]
struct Owed {
    batches: u64,
    items: u64,
}

/// A batch whose bytes nobody needed yet.
struct Unlearned {
    header: BatchHeader,
    body: Vec<u8>,
    stamp: Labels,
}

/// Records between two looks at the memory bound.
const EXPIRY_EVERY: u32 = 256;

impl Replay {
    fn handle(&mut self, segment: u64, stored: Result<Stored, lm_schema::Error>) {
        let Stored { agent, stamp, record } = match stored {
            Ok(stored) => stored,
            Err(error) => {
                self.replayed.unreadable += 1;
                tracing::error!(%error, "a spool record cannot be read and is passed over");
                return;
            }
        };
        self.replayed.records += 1;
        match record {
            OwnedRecord::Watermarks(entries) => {
                self.declare_owed();
                for (agent, stream, incarnation, account) in entries {
                    let account = self.reconcile(&agent, stream, incarnation, account);
                    self.watermarks.restore(&agent, stream, incarnation, account);
                }
                self.has_snapshot = true;
            }
            OwnedRecord::Dictionary { incarnation, epoch, entries } => {
                let key = DictionaryKey { agent, incarnation, epoch };
                self.learn(&key);
                if self.dictionaries.check(&key, 0, &entries).is_err() {
                    // The record is what later batches were written against.
                    self.dictionaries.remove(&key);
                }
                self.dictionaries.extend(&key, 0, &entries, &stamp);
            }
            OwnedRecord::Tombstone { id, sequence_end, items } => {
                self.hole(&agent, id, None);
                if sequence_end > self.watermarks.durable_end(&agent, id.stream, id.incarnation) {
                    let outcome = Outcome::Lost { items, reason: LossReason::Rejected.name().to_owned() };
                    let (stream, incarnation) = (id.stream, id.incarnation);
                    self.watermarks.advance(&agent, stream, incarnation, id.sequence, sequence_end, &outcome);
                }
            }
            OwnedRecord::Quarantined { id, items } => {
                let reason = LossReason::Fenced.name();
                self.watermarks.add_lost(&agent, id.stream, id.incarnation, reason, items);
            }
            OwnedRecord::Accepted { header, body, dropped_items, .. }
                if header.kind.has_samples() && segment < self.covered =>
            {
                self.covered(&agent, &stamp, &header, body, dropped_items);
            }
            OwnedRecord::Accepted { header, body, dropped_entries, dropped_items } => {
                self.accepted(&agent, &stamp, &header, &body, &dropped_entries, dropped_items);
            }
        }
        self.since_expiry += 1;
        if self.since_expiry >= EXPIRY_EVERY {
            self.since_expiry = 0;
            self.applier.expire_if_full(self.now);
            self.flush_if_full();
        }
    }

    /// What memory cannot hold is written as blocks now. They cover no more of
    /// the spool than before: after a crash it is read again, and what is in
    /// two blocks then collapses.
    fn flush_if_full(&self) {
        let db = &self.applier.store.db;
        if db.active_bytes() > self.samples_bytes_max / 3 {
            db.freeze(self.now, db.covered());
            self.storage.flush(&self.applier.store);
        }
    }

    /// A batch whose samples are in blocks: it is counted, and its bytes are
    /// looked at only if later batches need what it adds to its dictionary.
    fn covered(
        &mut self,
        agent: &Arc<str>,
        stamp: &Labels,
        header: &BatchHeader,
        body: Vec<u8>,
        dropped_items: u64,
    ) {
        self.hole(agent, header.id, Some(header.items_before));
        let items = u64::from(header.item_count).saturating_sub(dropped_items);
        // Conflicts among them stand in the snapshot behind them.
        self.account(agent, header, &Outcome::Stored { items }, dropped_items);
        let key = DictionaryKey::of(agent, header);
        let known = self.dictionaries.get(&key).map_or(0, |dictionary| dictionary.entries.len());
        if known < header.dictionary_length as usize {
            self.learn(&key);
        }
        self.dictionaries.extend(&key, header.dictionary_length, &[], stamp);
        // The one before added nothing: this one begins where it did.
        self.unlearned.insert(key, Unlearned { header: *header, body, stamp: stamp.clone() });
    }

    /// Adds to a dictionary what the last batch that was passed over adds.
    fn learn(&mut self, key: &DictionaryKey) {
        let Some(Unlearned { header, body, stamp }) = self.unlearned.remove(key) else { return };
        match decode_body(&header, &body, &DecodeLimits::STORED) {
            Ok(decoded) => {
                if self.dictionaries.check(key, header.dictionary_length, &decoded.new_entries).is_ok() {
                    self.dictionaries.extend(key, header.dictionary_length, &decoded.new_entries, &stamp);
                }
            }
            Err(error) => {
                self.replayed.unreadable += 1;
                let agent = &key.agent;
                tracing::error!(%agent, batch = %header.id, %error, "a batch cannot be read any more; its samples are in blocks");
            }
        }
    }

    fn learn_all(&mut self) {
        while let Some(key) = self.unlearned.keys().next().cloned() {
            self.learn(&key);
        }
    }

    fn accepted(
        &mut self,
        agent: &Arc<str>,
        stamp: &Labels,
        header: &BatchHeader,
        body: &[u8],
        dropped: &[u32],
        dropped_items: u64,
    ) {
        let id = header.id;
        self.hole(agent, id, Some(header.items_before));
        let decoded = match decode_body(header, body, &DecodeLimits::STORED) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.replayed.unreadable += 1;
                tracing::error!(%agent, batch = %id, %error, "an accepted batch cannot be read any more");
                return;
            }
        };
        let key = DictionaryKey::of(agent, header);
        self.learn(&key);
        let is_resolved = !header.kind.has_references()
            || self.dictionaries.check(&key, header.dictionary_length, &decoded.new_entries).is_ok();
        let outcome = match &decoded.body {
            Body::Loss { items, reason, .. } => {
                Outcome::Lost { items: *items, reason: reason.name().to_owned() }
            }
            _ if !is_resolved => Outcome::Lost {
                items: u64::from(header.item_count).saturating_sub(dropped_items),
                reason: LossReason::Corrupt.name().to_owned(),
            },
            _ => Outcome::Stored { items: u64::from(header.item_count).saturating_sub(dropped_items) },
        };
        let is_new = self.account(agent, header, &outcome, dropped_items);
        if !is_resolved {
            self.replayed.unreadable += 1;
            tracing::error!(%agent, batch = %id, "the dictionary of an accepted batch is gone: declared lost");
            return;
        }
        self.dictionaries.extend(&key, header.dictionary_length, &decoded.new_entries, stamp);
        let conflicts =
            self.applier.apply(&mut self.dictionaries, agent, header, decoded.body, dropped, false);
        if conflicts > 0 && is_new {
            self.watermarks.move_to_lost(agent, id.stream, id.incarnation, "conflict", conflicts);
        }
    }

    /// Counts a batch, unless a snapshot did already. Returns whether it was
    /// new.
    fn account(
        &mut self,
        agent: &Arc<str>,
        header: &BatchHeader,
        outcome: &Outcome,
        dropped_items: u64,
    ) -> bool {
        let BatchId { stream, incarnation, sequence } = header.id;
        // A snapshot that was written while a sync failed speaks of records
        // behind it: those are shown, but counted already.
        if let Outcome::Stored { items } = outcome {
            self.pay(agent, header.id, header.sequence_end, *items);
        }
        if header.sequence_end <= self.watermarks.durable_end(agent, stream, incarnation) {
            return false;
        }
        self.watermarks.note_items_before(agent, stream, incarnation, header.items_before);
        self.watermarks.advance(agent, stream, incarnation, sequence, header.sequence_end, outcome);
        if dropped_items > 0 {
            let reason = LossReason::Limit.name();
            self.watermarks.add_lost(agent, stream, incarnation, reason, dropped_items);
        }
        true
    }

    /// Compares what a snapshot says with what was read before it, and returns
    /// what is true. The first one speaks of segments that retention took.
    fn reconcile(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        mut account: Account,
    ) -> Account {
        if !self.has_snapshot {
            return account;
        }
        let unknown = Account::default();
        let known = self.watermarks.account(agent, stream, incarnation).unwrap_or(&unknown);
        // What we have found gone was stored when the snapshot was written.
        let corrupt = LossReason::Corrupt.name();
        if let Some(found) = known.lost.get(corrupt) {
            let told = account.lost.entry(corrupt.to_owned()).or_default();
            account.items = account.items.saturating_sub(found.items.saturating_sub(told.items));
            told.items = told.items.max(found.items);
            told.batches = told.batches.max(found.batches);
        }
        let batches = |account: &Account| account.lost.values().map(|lost| lost.batches).sum::<u64>();
        let owed = Owed {
            batches: account
                .durable_end
                .saturating_sub(known.durable_end)
                .saturating_sub(batches(&account).saturating_sub(batches(known))),
            items: account.items.saturating_sub(known.items),
        };
        if owed.batches > 0 {
            self.owed.insert((agent.clone(), stream, incarnation), owed);
        }
        account
    }

    /// A record behind a snapshot that counts it already.
    fn pay(&mut self, agent: &Arc<str>, id: BatchId, sequence_end: u64, items: u64) {
        let is_counted = sequence_end <= self.watermarks.durable_end(agent, id.stream, id.incarnation);
        let key = (agent.clone(), id.stream, id.incarnation);
        if let Some(owed) = self.owed.get_mut(&key).filter(|_| is_counted) {
            owed.batches = owed.batches.saturating_sub(sequence_end.saturating_sub(id.sequence));
            owed.items = owed.items.saturating_sub(items);
        }
    }

    /// Declares what a snapshot counts as stored and was not found: whole
    /// segments are gone, or the ends of some.
    fn declare_owed(&mut self) {
        for ((agent, stream, incarnation), Owed { batches, items }) in std::mem::take(&mut self.owed) {
            if batches > 0 {
                self.replayed.lost_batches += batches;
                tracing::error!(
                    %agent, %stream, %incarnation, items,
                    "{batches} sequences are missing from the spool: declared lost"
                );
                self.watermarks.lose_stored(&agent, stream, incarnation, batches, items);
            }
        }
    }

    /// Declares what stood between the watermark and `id` in the spool once:
    /// it was acknowledged, so no agent will send it again.
    fn hole(&mut self, agent: &Arc<str>, id: BatchId, items_before: Option<u64>) {
        let expected = self.watermarks.durable_end(agent, id.stream, id.incarnation);
        if id.sequence <= expected {
            return;
        }
        let known: u64 = self
            .watermarks
            .iter()
            .filter(|(known, stream, incarnation, ..)| {
                *known == agent && *stream == id.stream && *incarnation == id.incarnation
            })
            .map(|(.., account)| account.total())
            .sum();
        let items = items_before.map_or(0, |before| before.saturating_sub(known));
        let outcome = Outcome::Lost { items, reason: LossReason::Corrupt.name().to_owned() };
        self.replayed.lost_batches += id.sequence - expected;
        tracing::error!(
            %agent, stream = %id.stream, incarnation = %id.incarnation, items,
            "sequences [{expected}, {}) are missing from the spool: declared lost", id.sequence
        );
        self.watermarks.advance(agent, id.stream, id.incarnation, expected, id.sequence, &outcome);
    }
}
