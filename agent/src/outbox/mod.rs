//! The agent's queue with batches in it.
//!
//! [`Outbox`] gives drafts their place, stores them together with the log
//! file positions that they imply, and hands batches out for sending. The
//! queue is the only truth: positions of log files are read back from it, and
//! a dictionary that a collector misses is rebuilt from the segment of the
//! batch that needs it.

mod age;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet};

use lm_journal::{
    AppendError, Appended, Context, OnFull as QueueOnFull, Queue, QueueOptions, Reason, ResumeAt,
};
use lm_model::{BatchId, Incarnation, LossReason, Resume, Stream};
use lm_schema::batch::BatchHeader;

use crate::batcher::{Batcher, Draft};
use crate::config::{OnFull, Settings};
use crate::counters::Counters;
use crate::delivery::Acknowledgement;
use crate::disk::{Disk, disk};
use crate::queue_handle::{Identity, QueueFacts};
use crate::record::{Record, Snapshot, record_bytes};
use crate::sources::logs::{FileCursor, FileKey};
use age::Ages;

pub use outgoing::Hole;

/// Disk space that batches never use, so that losses can be declared.
const RESERVE_BYTES: u64 = 1 << 20;
/// Records that wait for a sync; a tick appends less.
const UNSYNCED_BYTES_MAX: u64 = 1 << 20;
/// As the queue bounds a cluster's id.
const CLUSTER_ID_BYTES_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Queue(#[from] lm_journal::Error),
    #[error("compression: {0}")]
    Encode(#[from] std::io::Error),
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the collector's cluster id has {0} bytes")]
    ClusterId(usize),
    #[error("{0}")]
    Dictionary(String),
}

/// What became of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the queue, or declared lost by policy: the source goes on.
    Accepted,
    /// No room: the source keeps it.
    Refused,
}

/// See the module documentation. Owned by one thread.
pub struct Outbox {
    queue: Queue<Disk>,
    pub batcher: Batcher,
    /// Positions of log files in stored records.
    cursors: BTreeMap<FileKey, FileCursor>,
    /// Batches whose dictionary is damaged: they go as losses.
    unreadable: BTreeSet<BatchId>,
    /// For each stream: where in items the batch after the last fetched one is.
    items_after: [Option<(Incarnation, u64, u64)>; 3],
    /// For each stream, the end of what was synced.
    ends: [u64; 3],
    ages: Ages,
    is_dirty: bool,
}

impl Outbox {
    /// Opens the queue and starts a new incarnation.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used or another process has it.
    pub fn open(settings: &Settings, now_unix_ms: u64) -> Result<Outbox, Error> {
        let candidate = lm_journal::Incarnation { ordinal: now_unix_ms, nonce: random_nonce()? };
        let options = QueueOptions {
            bytes_max: settings.queue.bytes_max,
            segment_bytes: settings.queue.segment_bytes,
            reserve_bytes: RESERVE_BYTES,
            on_full: match settings.queue.on_full {
                OnFull::DropOldest => QueueOnFull::DropOldest,
                OnFull::DropNewest => QueueOnFull::DropNewest,
                OnFull::Refuse => QueueOnFull::Refuse,
            },
            streams: Stream::ALL.len() as u8,
            unsynced_bytes_max: UNSYNCED_BYTES_MAX,
            preallocate: true,
        };
        let (mut queue, report) = Queue::open(disk(), &settings.queue.dir, options, candidate)?;
        for file in &report.recovered.quarantined_files {
            tracing::error!(file = %file.display(), "a queue segment cannot be read as a whole and was kept aside");
        }
        if report.corrupt.records > 0 || !report.recovered.quarantined.is_empty() {
            tracing::error!(
                batches = report.corrupt.records,
                items = report.corrupt.items,
                "the queue was damaged; what is lost is declared"
            );
        }
        let cursors = last_cursors(&queue)?;
        let ages = known_ages(&mut queue);
        tracing::info!(
            incarnation = %from_journal(report.incarnation),
            dir = %settings.queue.dir.display(),
            log_files = cursors.len(),
            "queue opened"
        );
        Ok(Outbox {
            queue,
            batcher: Batcher::new(settings)?,
            cursors,
            unreadable: BTreeSet::new(),
            items_after: [None; 3],
            ends: [0; 3],
            ages,
            is_dirty: false,
        })
    }

    /// Where log files were read to.
    pub fn cursors(&self) -> impl Iterator<Item = &FileCursor> {
        self.cursors.values()
    }

    /// Stores a draft and the positions that it implies, in one record.
    ///
    /// # Errors
    ///
    /// The draft was not stored; its dictionary entries are forgotten.
    pub fn append(&mut self, draft: Draft, cursors: &[FileCursor]) -> Result<Stored, Error> {
        let stream = draft.stream;
        let next = self.queue.next(stream as u8);
        let id = BatchId { stream, incarnation: from_journal(next.incarnation), sequence: next.sequence };
        let header =
            BatchHeader::new(id, next.items_before, draft.epoch, draft.dictionary_length, &draft.body);
        let payload = record_bytes(&header, &draft.body.bytes, cursors);
        let Outbox { queue, batcher, cursors: known, .. } = self;
        let snapshot = &mut || snapshot(batcher, known);
        match queue.append(stream as u8, header.item_count, &payload, snapshot) {
            Ok(Appended::Queued { .. }) => {
                self.batcher.commit();
                let BatchId { incarnation, sequence, .. } = header.id;
                self.ages.queued(stream, incarnation, sequence, header.time_max.as_millis());
                self.cursors.extend(cursors.iter().map(|cursor| (cursor.key, cursor.clone())));
                self.is_dirty = true;
                Ok(Stored::Accepted)
            }
            Ok(Appended::Lost { .. }) => {
                self.batcher.discard();
                self.is_dirty = true;
                Ok(Stored::Accepted)
            }
            Err(error) => {
                self.batcher.discard();
                match error {
                    AppendError::Full => Ok(Stored::Refused),
                    AppendError::Journal(error) => Err(error.into()),
                }
            }
        }
    }

    /// Files that are gone need no positions.
    pub fn forget(&mut self, files: &[FileKey]) {
        files.iter().for_each(|key| drop(self.cursors.remove(key)));
    }

    /// Whether there is something to sync.
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Makes everything durable; only then is it handed out.
    pub fn sync(&mut self) -> Result<(), Error> {
        let Outbox { queue, batcher, cursors, .. } = self;
        queue.sync(&mut || snapshot(batcher, cursors))?;
        self.ends = Stream::ALL.map(|stream| self.queue.next(stream as u8).sequence);
        self.is_dirty = false;
        Ok(())
    }

    /// Hands everything to the operating system: it survives us, not a power cut.
    pub fn flush(&mut self) -> Result<(), Error> {
        let Outbox { queue, batcher, cursors, .. } = self;
        Ok(queue.flush(&mut || snapshot(batcher, cursors))?)
    }

    /// Syncs for the last time.
    pub fn close(self) -> Result<(), Error> {
        let Outbox { queue, batcher, cursors, .. } = self;
        Ok(queue.close(&mut || snapshot(&batcher, &cursors))?)
    }

    /// Starts over for another collector: see [`Queue::reassign`].
    pub fn reassign(&mut self) -> Result<(), Error> {
        let Outbox { queue, batcher, cursors, .. } = self;
        // Nobody's: the next collector that answers pins its own.
        Ok(queue.reassign(&[], &mut || snapshot(batcher, cursors))?)
    }

    /// The cluster that the queue belongs to, empty when none yet.
    pub fn cluster_id(&self) -> &[u8] {
        self.queue.cluster().unwrap_or_default()
    }

    /// What a session begins with.
    pub fn identity(&mut self) -> Identity {
        let mut incarnations = Vec::new();
        let current = from_journal(self.queue.incarnation());
        for stream in Stream::ALL {
            let first = match self.queue.peek(stream as u8) {
                Ok(Some(
                    lm_journal::Pending::Payload { incarnation, .. }
                    | lm_journal::Pending::Loss { incarnation, .. },
                )) => Some(from_journal(incarnation)),
                _ => None,
            };
            incarnations.extend(first.filter(|first| *first != current).map(|first| (stream, first)));
            incarnations.push((stream, current));
        }
        Identity { cluster_id: self.cluster_id().to_vec(), incarnations }
    }

    /// A session with `cluster_id` begins: whether the queue belongs to it.
    pub fn begin(&mut self, cluster_id: &[u8], resume: &[Resume]) -> Result<bool, Error> {
        if cluster_id.is_empty() || cluster_id.len() > CLUSTER_ID_BYTES_MAX {
            return Err(Error::ClusterId(cluster_id.len()));
        }
        if self.cluster_id().is_empty() {
            self.surpass(resume)?;
        }
        let Outbox { queue, batcher, cursors, .. } = self;
        match queue.cluster() {
            None | Some([]) => queue.pin_cluster(cluster_id, &mut || snapshot(batcher, cursors))?,
            Some(known) if known == cluster_id => {}
            Some(_) => return Ok(false),
        }
        let resume: Vec<_> = resume.iter().map(resume_at).collect();
        self.queue.resume(&resume)?;
        self.items_after = [None; 3];
        Ok(true)
    }

    /// Begins a new incarnation if the collector knows a later one than ours:
    /// the queue was lost, and the clock is behind what it was. Only for a
    /// queue that is nobody's yet: the copy of a queue must not get ahead of
    /// its original. Pinning the cluster makes it durable.
    fn surpass(&mut self, resume: &[Resume]) -> Result<(), Error> {
        let ours = self.queue.incarnation();
        let Some(newest) = resume.iter().map(|at| to_journal(at.incarnation)).max().filter(|at| *at > ours)
        else {
            return Ok(());
        };
        let ordinal = newest.ordinal.saturating_add(1);
        let next = lm_journal::Incarnation { ordinal, nonce: random_nonce()? };
        tracing::warn!(
            ours = %from_journal(ours), known = %from_journal(newest), next = %from_journal(next),
            "the collector knows a later run of this agent: was its queue lost and its clock set back? \
             What was queued before this session is kept apart there"
        );
        self.queue.begin_incarnation(next);
        // References of one incarnation mean nothing in another.
        self.batcher.next_epoch();
        self.ends = [0; 3];
        Ok(())
    }

    pub fn rewind(&mut self, stream: Stream) {
        self.queue.rewind(stream as u8);
        self.items_after[stream as usize] = None;
    }

    /// The collector has everything below `durable_end`. Space is freed by the
    /// next sync.
    pub fn acknowledge(&mut self, end: &Acknowledgement) -> Result<(), Error> {
        let incarnation = to_journal(end.incarnation);
        self.queue.acknowledge(end.stream as u8, incarnation, end.durable_end, end.landed_end)?;
        self.ages.acknowledged(end.stream, end.incarnation, end.durable_end);
        self.unreadable.retain(|id| {
            (id.stream, id.incarnation) != (end.stream, end.incarnation) || id.sequence >= end.durable_end
        });
        Ok(())
    }

    /// Levels for everybody, and totals into `counters`.
    pub fn facts(&mut self, counters: &Counters) -> QueueFacts {
        let stats = self.queue.stats();
        for (stream, accepted) in Stream::ALL.into_iter().zip(&stats.accepted) {
            counters.set_accepted(stream, accepted.items);
        }
        for ((stream, reason), dropped) in &stats.dropped {
            if let Ok(stream) = Stream::try_from(*stream) {
                counters.set_dropped(stream, loss_reason(*reason), dropped.items);
            }
        }
        let depths = stats.streams.iter();
        let mut has_pending = [false; 3];
        for (has_pending, depth) in has_pending.iter_mut().zip(depths.clone()) {
            *has_pending = depth.pending.records > 0;
        }
        QueueFacts {
            incarnation: from_journal(self.queue.incarnation()),
            ends: self.ends,
            pending_bytes: depths.clone().map(|depth| depth.pending.bytes).sum(),
            pending_batches: depths.clone().map(|depth| depth.pending.records).sum(),
            is_empty: depths.clone().all(|depth| depth.pending.records + depth.lost.records == 0),
            capacity_bytes: stats.bytes_max,
            oldest_unix_ms: self.ages.oldest_unix_ms(has_pending),
            is_final: false,
        }
    }

    pub fn stats(&self) -> lm_journal::Stats {
        self.queue.stats()
    }
}

/// The oldest batch of each stream that an earlier run left. One that cannot
/// be read has no age; whoever sends it sees the mistake.
fn known_ages(queue: &mut Queue<Disk>) -> Ages {
    let mut ages = Ages::default();
    for stream in Stream::ALL {
        let Ok(Some(lm_journal::Pending::Payload { payload, .. })) = queue.peek(stream as u8) else {
            continue;
        };
        let Ok(Record { header: BatchHeader { id, time_max, .. }, .. }) = Record::from_bytes(&payload) else {
            continue;
        };
        ages.queued(stream, id.incarnation, id.sequence, time_max.as_millis());
    }
    ages
}

/// The last stored position of every log file.
fn last_cursors(queue: &Queue<Disk>) -> Result<BTreeMap<FileKey, FileCursor>, Error> {
    let mut cursors = BTreeMap::new();
    queue.latest_context(&mut |context| {
        let found = match context {
            Context::Snapshot(bytes) => Snapshot::from_bytes(bytes).map(|snapshot| snapshot.cursors),
            Context::Payload { payload, .. } => Record::from_bytes(payload).map(|record| record.cursors),
        };
        match found {
            Ok(found) => cursors.extend(found.into_iter().map(|cursor| (cursor.key, cursor))),
            Err(error) => {
                tracing::error!(%error, "a queued record cannot be read; its positions are unknown")
            }
        }
    })?;
    Ok(cursors)
}

fn random_nonce() -> Result<u64, Error> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    Ok(u64::from_ne_bytes(nonce))
}

fn snapshot(batcher: &Batcher, cursors: &BTreeMap<FileKey, FileCursor>) -> Vec<u8> {
    let cursors: Vec<_> = cursors.values().cloned().collect();
    batcher.snapshot(&cursors)
}

fn resume_at(resume: &Resume) -> ResumeAt {
    ResumeAt {
        stream: resume.stream as u8,
        incarnation: to_journal(resume.incarnation),
        durable_end: resume.durable_end,
        landed_end: resume.landed_end,
    }
}

fn to_journal(from: Incarnation) -> lm_journal::Incarnation {
    lm_journal::Incarnation { ordinal: from.ordinal, nonce: from.nonce }
}

fn from_journal(from: lm_journal::Incarnation) -> Incarnation {
    Incarnation { ordinal: from.ordinal, nonce: from.nonce }
}

fn loss_reason(reason: Reason) -> LossReason {
    match reason {
        Reason::DropOldest => LossReason::QueueFullOldest,
        Reason::DropNewest => LossReason::QueueFullNewest,
        Reason::Corrupt => LossReason::Corrupt,
        Reason::Reassigned => LossReason::Reassigned,
    }
}

#[cfg(test)]
mod tests;
