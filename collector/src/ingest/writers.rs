//! What applications write: batches without a place in a sequence get one.
//!
//! Each writer is an agent of its own to the spool, called `writer:<name>`. In
//! each run of the collector it has one incarnation, and its batches follow
//! each other without a gap because this thread numbers them. Its gateways
//! know neither: they name a dictionary by a number that they made up and an
//! epoch, which [`Writers`] translates into an epoch of the incarnation.
//!
//! A writer, unlike an agent, does not keep what was refused and has nobody to
//! declare a loss to. So samples that are refused are left out before the
//! append and counted in the answer, and the answer waits until the others
//! were applied: by then it is known which of them contradict stored ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lm_fs::Fs;
use lm_mesh::{Grant, Lease};
use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{
    BatchHeader, Body, Columns, DecodedBody, EncodedBody, Encoder, WRITER_EPOCH_BYTES_MAX, decode_body,
    entries_bytes,
};
use tokio::sync::oneshot;

use super::dictionaries::{DictionaryKey, Misfit};
use super::group::{Core, DISK_RETRY, Effect, Then};
use super::handle::ReceiptOutcome;

/// What a writer's agent begins with. No identity of an agent has a colon.
pub const WRITER_PREFIX: &str = "writer:";
/// Epochs of one writer that are known at a time, over all its gateways; the
/// least used is forgotten, and asked for again.
const EPOCHS_MAX: usize = 64;

/// A batch of a writer as it arrived.
pub struct Write {
    /// Must still stand right before the append.
    pub grant: Option<Grant>,
    /// With [`WRITER_PREFIX`].
    pub agent: Arc<str>,
    pub stamp: Labels,
    /// Whose dictionary it refers to: a number that its gateway made up.
    pub client: u64,
    /// Series that one client may have in use; more are refused.
    pub series_max: u32,
    /// Its place and epoch are the sender's, and mean nothing here.
    pub header: BatchHeader,
    pub body: Vec<u8>,
    pub lease: Option<Lease>,
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Stored(Refused),
    Rejected(String),
    NeedDictionary,
    RetryAfter(Duration),
    /// The writer's grant ended before the append: nothing was stored.
    Revoked,
}

/// Samples of a stored batch that were not stored, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Too far behind the newest of their series, or beyond retention.
    pub too_old: u64,
    /// Another value is there already.
    pub conflicts: u64,
    /// Of series beyond a limit.
    pub series_limit: u64,
}

/// Where an answer goes that waits for its batch to be applied.
pub struct WriteReply {
    pub to: oneshot::Sender<Written>,
    pub refused: Refused,
}

/// The writers of this run.
#[derive(Default)]
pub struct Writers {
    known: BTreeMap<Arc<str>, Writer>,
    /// Made at the first batch that has to be written again.
    encoder: Option<Encoder>,
    uses: u64,
}

struct Writer {
    incarnation: Incarnation,
    /// By client and its epoch.
    epochs: BTreeMap<(u64, u32), Epoch>,
    next_epoch: u32,
}

/// What a client's epoch is here.
#[derive(Clone, Copy)]
struct Epoch {
    epoch: u32,
    /// Entries, and roughly the bytes of their record.
    entries: u32,
    bytes: usize,
    used: u64,
}

impl Writer {
    /// Entries of the client's epochs before `epoch`.
    fn entries_before(&self, client: u64, epoch: u32) -> u64 {
        self.epochs.range((client, 0)..(client, epoch)).map(|(_, known)| u64::from(known.entries)).sum()
    }

    /// The epoch that a batch refers to. `None`: it is to begin again.
    fn epoch(&mut self, client: u64, epoch: u32, length: u32, uses: u64) -> Option<Epoch> {
        if let Some(known) = self.epochs.get_mut(&(client, epoch)) {
            known.used = uses;
            return (known.entries == length).then_some(*known);
        }
        if length > 0 {
            return None;
        }
        if self.epochs.len() >= EPOCHS_MAX {
            let oldest = self.epochs.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.epochs.remove(&oldest));
        }
        let fresh = Epoch { epoch: self.next_epoch, entries: 0, bytes: 0, used: uses };
        self.next_epoch += 1;
        self.epochs.insert((client, epoch), fresh);
        Some(fresh)
    }
}

impl<F: Fs> Core<F> {
    /// Stores one batch of a writer. The answer goes out when it is applied,
    /// or now when nothing is stored.
    pub(super) fn write(&mut self, write: Write, reply: oneshot::Sender<Written>, then: &mut Then) {
        if self.is_full {
            drop(reply.send(Written::RetryAfter(DISK_RETRY)));
            return;
        }
        let written = match self.place(write, then) {
            Ok(refused) => {
                // What was just accepted is the last to be applied.
                if let Some(Effect::Apply { reply: place, .. }) = then.effects.last_mut() {
                    *place = Some(WriteReply { to: reply, refused });
                    return;
                }
                Written::Stored(refused)
            }
            Err(written) => written,
        };
        let _ = reply.send(written);
    }

    fn place(&mut self, write: Write, then: &mut Then) -> Result<Refused, Written> {
        if write.grant.as_ref().is_some_and(|grant| grant.check().is_err()) {
            return Err(Written::Revoked);
        }
        // Given back when the bytes are.
        let _lease = write.lease;
        let decoded = decode_body(&write.header, &write.body, &DecodeLimits::WRITER)
            .map_err(|error| Written::Rejected(error.to_string()))?;
        if !write.header.kind.has_samples() {
            return Err(Written::Rejected("a writer's batch holds samples or histograms".to_owned()));
        }
        let incarnation = self.incarnation_of(&write.agent)?;
        self.writers.uses += 1;
        let uses = self.writers.uses;
        let (client, theirs) = (write.client, write.header.dictionary_epoch);
        let length = write.header.dictionary_length;
        let writer = self.writers.known.get_mut(&write.agent).expect("its incarnation was just looked up");
        let known = writer.epoch(client, theirs, length, uses).ok_or(Written::NeedDictionary)?;
        let bytes = known.bytes + entries_bytes(&decoded.new_entries);
        if bytes > WRITER_EPOCH_BYTES_MAX {
            return Err(Written::NeedDictionary);
        }
        let before = writer.entries_before(client, theirs);
        let key = DictionaryKey { agent: write.agent.clone(), incarnation, epoch: known.epoch };
        match self.dictionaries.check(&key, length, &decoded.new_entries) {
            Ok(()) => {}
            Err(Misfit::Unknown | Misfit::Conflict { .. }) => {
                self.forget(&write.agent, client, theirs);
                return Err(Written::NeedDictionary);
            }
        }

        let series_left = u64::from(write.series_max).saturating_sub(before);
        let (kept, mut refused) = match &decoded.body {
            Body::Samples(columns) => {
                let (kept, refused) = self.sift(&key, columns, series_left);
                (kept.map(Body::Samples), refused)
            }
            Body::Histograms(columns) => {
                let (kept, refused) = self.sift(&key, columns, series_left);
                (kept.map(Body::Histograms), refused)
            }
            body => unreachable!("a body of kind {:?} has no samples", body.kind()),
        };
        let account = self.watermarks.account(&write.agent, Stream::Metrics, incarnation);
        let (sequence, items_before) =
            account.map_or((0, 0), |account| (account.durable_end, account.total()));
        let id = BatchId { stream: Stream::Metrics, incarnation, sequence };
        let (header, body, decoded) = match kept {
            None => {
                let (sequence_end, items_before) = (sequence + 1, items_before);
                let dictionary_epoch = known.epoch;
                let header = BatchHeader { id, sequence_end, items_before, dictionary_epoch, ..write.header };
                (header, write.body, decoded)
            }
            Some(body) if body.item_count() == 0 && decoded.new_entries.is_empty() => return Ok(refused),
            Some(body) => {
                let decoded = DecodedBody { new_entries: decoded.new_entries, body };
                let encoded = self.encode(&decoded)?;
                let header = BatchHeader::new(id, items_before, known.epoch, length, &encoded);
                (header, encoded.bytes, decoded)
            }
        };
        let entries = length + decoded.new_entries.len() as u32;
        let receipt = self.accept(&write.agent, &write.stamp, header, &body, decoded, &key, then);
        match receipt.outcome {
            ReceiptOutcome::Durable => {
                let writer = self.writers.known.get_mut(&write.agent).expect("it was there above");
                if let Some(known) = writer.epochs.get_mut(&(client, theirs)) {
                    (known.entries, known.bytes) = (entries, bytes);
                }
                refused.series_limit += receipt.dropped_items;
                Ok(refused)
            }
            ReceiptOutcome::RetryAfter(wait) => Err(Written::RetryAfter(wait)),
            other => unreachable!("accept() stores or fails to write: {other:?}"),
        }
    }

    /// The incarnation of a writer in this run, above all that are stored.
    fn incarnation_of(&mut self, agent: &Arc<str>) -> Result<Incarnation, Written> {
        if let Some(writer) = self.writers.known.get(agent) {
            return Ok(writer.incarnation);
        }
        let newest = self.watermarks.resume(agent, &[]);
        let newest = newest.iter().filter(|resume| resume.stream == Stream::Metrics);
        let after = newest.map(|resume| resume.incarnation.ordinal + 1).max().unwrap_or(0);
        let now = u64::try_from((self.options.wall_clock)().as_millis()).unwrap_or(0);
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce)
            .map_err(|error| Written::Rejected(format!("internal: no random bytes: {error}")))?;
        let incarnation = Incarnation { ordinal: after.max(now), nonce: u64::from_le_bytes(nonce) };
        let writer = Writer { incarnation, epochs: BTreeMap::new(), next_epoch: 0 };
        self.writers.known.insert(agent.clone(), writer);
        Ok(incarnation)
    }

    fn forget(&mut self, agent: &Arc<str>, client: u64, epoch: u32) {
        if let Some(writer) = self.writers.known.get_mut(agent) {
            writer.epochs.remove(&(client, epoch));
        }
    }

    /// What is left of `columns` without samples that are refused; `None`: all
    /// of them. Of the dictionary, entries below `series_left` may be used.
    fn sift<T: Clone>(
        &self,
        key: &DictionaryKey,
        columns: &Columns<T>,
        series_left: u64,
    ) -> (Option<Columns<T>>, Refused) {
        let entries = self.dictionaries.get(key).map_or(&[][..], |dictionary| &dictionary.entries[..]);
        let now = self.clock.time();
        let window = self.options.out_of_order_window;
        let retained = now.saturating_sub(self.spool.retention());
        let oldest = |reference: u32| {
            let newest = entries.get(reference as usize).map_or(Timestamp::MIN, |entry| entry.newest);
            // A sample from the future does not end its series.
            newest.min(now).saturating_sub(window).max(retained)
        };
        let mut refused = Refused::default();
        let mut kept: Option<Columns<T>> = None;
        let mut at = 0;
        for (time, length) in columns.times.iter().zip(&columns.lengths) {
            for index in at..at + *length as usize {
                let reference = columns.references[index];
                let reason = if u64::from(reference) >= series_left {
                    Some(&mut refused.series_limit)
                } else if *time < oldest(reference) {
                    Some(&mut refused.too_old)
                } else {
                    None
                };
                match reason {
                    Some(count) => {
                        *count += 1;
                        kept.get_or_insert_with(|| columns.before(index));
                    }
                    None => {
                        if let Some(kept) = &mut kept {
                            kept.push(*time, reference, columns.values[index].clone());
                        }
                    }
                }
            }
            at += *length as usize;
        }
        (kept, refused)
    }

    fn encode(&mut self, decoded: &DecodedBody) -> Result<EncodedBody, Written> {
        let encoder = match &mut self.writers.encoder {
            Some(encoder) => Ok(encoder),
            none => Encoder::new().map(|encoder| none.insert(encoder)),
        };
        encoder
            .and_then(|encoder| encoder.encode(&decoded.new_entries, &decoded.body))
            .map_err(|error| Written::Rejected(format!("internal: {error}")))
    }
}

#[cfg(test)]
mod tests;
