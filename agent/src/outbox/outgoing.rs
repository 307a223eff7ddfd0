//! Batches on their way out of the queue.

use lm_journal::{Context, Pending, Position};
use lm_model::{BatchId, Incarnation, LossReason, Stream};
use lm_schema::batch::{BatchHeader, Body, decode_body};

use super::{Error, Outbox, from_journal, loss_reason};
use crate::delivery::Outgoing;
use crate::queue_handle::DictionaryPart;
use crate::record::{Record, Snapshot, own_limits};

/// A hole in a stream.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub start: u64,
    pub end: u64,
    pub items_before: u64,
    pub items: u64,
    pub bytes: u64,
    pub reason: LossReason,
}

impl Outbox {
    /// The next batch of `stream` that was not fetched since the last rewind.
    pub fn fetch(&mut self, stream: Stream) -> Result<Option<Outgoing<Position>>, Error> {
        let Some(pending) = self.queue.next_unsent(stream as u8)? else { return Ok(None) };
        let outgoing = match pending {
            Pending::Payload { incarnation, sequence, items, bytes, payload, position } => {
                let id = BatchId { stream, incarnation: from_journal(incarnation), sequence };
                match Record::from_bytes(&payload) {
                    Ok(record) if record.header.id == id && !self.unreadable.contains(&id) => {
                        Outgoing { header: record.header, body: record.body, position: Some(position) }
                    }
                    _ => {
                        tracing::error!(batch = %id, "a queued batch cannot be read and is declared lost");
                        let (items, end) = (u64::from(items), sequence + 1);
                        let items_before = self.items_before(&id, items, end);
                        self.loss(&Hole {
                            stream,
                            incarnation: id.incarnation,
                            start: sequence,
                            end,
                            items_before,
                            items,
                            bytes,
                            reason: LossReason::Corrupt,
                        })?
                    }
                }
            }
            Pending::Loss { incarnation, start, end, items, bytes, reason } => {
                let id = BatchId { stream, incarnation: from_journal(incarnation), sequence: start };
                let items_before = self.items_before(&id, items, end);
                let (incarnation, reason) = (id.incarnation, loss_reason(reason));
                self.loss(&Hole { stream, incarnation, start, end, items_before, items, bytes, reason })?
            }
        };
        let header = &outgoing.header;
        let items = if outgoing.position.is_some() { header.item_count.into() } else { 0 };
        let after = (header.id.incarnation, header.sequence_end, header.items_before + items);
        self.items_after[stream as usize] = Some(after).filter(|_| outgoing.position.is_some());
        Ok(Some(outgoing))
    }

    /// The batch that declares a loss.
    pub fn loss(&mut self, hole: &Hole) -> Result<Outgoing<Position>, Error> {
        let body = Body::Loss { items: hole.items, bytes: hole.bytes, reason: hole.reason };
        let body = self.batcher.encode_loss(&body)?;
        let id = BatchId { stream: hole.stream, incarnation: hole.incarnation, sequence: hole.start };
        let mut header = BatchHeader::new(id, hole.items_before, 0, 0, &body);
        header.sequence_end = hole.end;
        Ok(Outgoing { header, body: body.bytes, position: None })
    }

    /// How many items of the stream were before a loss of `items` that ends at
    /// `end`: from the batch before it or after it, whichever is known.
    fn items_before(&mut self, id: &BatchId, items: u64, end: u64) -> u64 {
        match self.items_after[id.stream as usize] {
            _ if id.sequence == 0 => return 0,
            Some((incarnation, at, known)) if (incarnation, at) == (id.incarnation, id.sequence) => {
                return known;
            }
            _ => {}
        }
        let Ok(Some(Pending::Payload { incarnation, sequence, payload, .. })) =
            self.queue.peek(id.stream as u8)
        else {
            return 0;
        };
        if (from_journal(incarnation), sequence) != (id.incarnation, end) {
            return 0;
        }
        Record::from_bytes(&payload).map_or(0, |next| next.header.items_before.saturating_sub(items))
    }

    /// The dictionary as it was before `header`'s batch, from the snapshot of
    /// its segment and the batches between.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read now; or when the segment is damaged: then
    /// the batch will be fetched as a loss.
    pub fn dictionary(&mut self, header: &BatchHeader, position: Position) -> Result<DictionaryPart, Error> {
        let (epoch, length) = (header.dictionary_epoch, header.dictionary_length as usize);
        let mut entries = Vec::new();
        self.queue.context(position, &mut |context| match context {
            Context::Snapshot(bytes) => {
                if let Ok(snapshot) = Snapshot::from_bytes(bytes)
                    && snapshot.epoch == epoch
                {
                    entries = snapshot.entries;
                }
            }
            Context::Payload { payload, incarnation, .. } => {
                if from_journal(incarnation) != header.id.incarnation || entries.len() >= length {
                    return;
                }
                let Ok(record) = Record::from_bytes(payload) else { return };
                let start = record.header.dictionary_length as usize;
                if record.header.dictionary_epoch != epoch || start > entries.len() {
                    return;
                }
                if let Ok(body) = decode_body(&record.header, &record.body, &own_limits()) {
                    let known = entries.len() - start;
                    entries.extend(body.new_entries.into_iter().skip(known));
                }
            }
        })?;
        if entries.len() < length {
            self.unreadable.insert(header.id);
            let message = format!("{} of {length} entries of epoch {epoch} are readable", entries.len());
            return Err(Error::Dictionary(message));
        }
        entries.truncate(length);
        Ok(DictionaryPart { incarnation: header.id.incarnation, epoch, entries })
    }
}
