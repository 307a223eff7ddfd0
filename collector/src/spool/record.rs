//! Spool records as bytes: `schema/spool.capnp`.

use std::collections::BTreeMap;
use std::sync::Arc;

use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::batch::{self, BatchHeader};
use lm_schema::labels::{read_pairs, write_pairs};
use lm_schema::spool_capnp::{spool_record, watermark};
use lm_schema::{DecodeLimits, Error};

use crate::ingest::{Account, INSTANCE, Lost, Watermarks, stamp};

/// What is written.
pub enum Record<'a> {
    Accepted {
        agent: &'a Arc<str>,
        header: &'a BatchHeader,
        body: &'a [u8],
        dropped_entries: &'a [u32],
        dropped_items: u64,
    },
    Dictionary {
        agent: &'a Arc<str>,
        incarnation: Incarnation,
        epoch: u32,
        entries: &'a [Labels],
    },
    Tombstone {
        agent: &'a Arc<str>,
        id: BatchId,
        sequence_end: u64,
        items: u64,
        bytes: u64,
        reason: &'a str,
    },
    Quarantined {
        agent: &'a Arc<str>,
        header: &'a BatchHeader,
        body: &'a [u8],
    },
    Watermarks(&'a Watermarks),
}

/// What is read back.
pub struct Stored {
    pub agent: Arc<str>,
    /// Labels that the session's scope gave.
    pub stamp: Labels,
    pub record: OwnedRecord,
}

pub enum OwnedRecord {
    Accepted { header: BatchHeader, body: Vec<u8>, dropped_entries: Vec<u32>, dropped_items: u64 },
    Dictionary { incarnation: Incarnation, epoch: u32, entries: Vec<Labels> },
    Tombstone { id: BatchId, sequence_end: u64, items: u64 },
    Quarantined { id: BatchId, items: u64 },
    Watermarks(Vec<(Arc<str>, Stream, Incarnation, Account)>),
}

/// The bytes of a record.
pub fn encode(received: Timestamp, stamp: &Labels, record: &Record<'_>) -> Vec<u8> {
    let mut message = capnp::message::Builder::new_default();
    let mut root: spool_record::Builder<'_> = message.init_root();
    root.set_received_unix_ms(received.as_millis());
    root.set_instance(stamp.get(INSTANCE).unwrap_or_default());
    let mut others = stamp.to_builder();
    let others = others.remove(INSTANCE).clone().build();
    if !others.is_empty() {
        write_pairs(&others, root.reborrow().init_labels(others.len() as u32));
    }
    match record {
        Record::Accepted { agent, header, body, dropped_entries, dropped_items } => {
            root.set_agent(&agent[..]);
            let mut accepted = root.init_batch();
            header.write(body, accepted.reborrow().init_batch());
            accepted.set_dropped_items(*dropped_items);
            // Fails only for a list beyond 2^29 elements.
            let _ = accepted.set_dropped_entries(*dropped_entries);
        }
        Record::Dictionary { agent, incarnation, epoch, entries } => {
            root.set_agent(&agent[..]);
            let mut dictionary = root.init_dictionary();
            batch::write_incarnation(*incarnation, dictionary.reborrow().init_incarnation());
            batch::write_dictionary(*epoch, entries, dictionary.init_dictionary());
        }
        Record::Tombstone { agent, id, sequence_end, items, bytes, reason } => {
            root.set_agent(&agent[..]);
            let mut tombstone = root.init_tombstone();
            tombstone.set_stream(batch::wire_stream(id.stream));
            batch::write_incarnation(id.incarnation, tombstone.reborrow().init_incarnation());
            tombstone.set_sequence(id.sequence);
            tombstone.set_sequence_end(*sequence_end);
            tombstone.set_items(*items);
            tombstone.set_bytes(*bytes);
            tombstone.set_reason(reason);
        }
        Record::Quarantined { agent, header, body } => {
            root.set_agent(&agent[..]);
            header.write(body, root.init_quarantined());
        }
        Record::Watermarks(watermarks) => {
            let mut list = root.init_watermarks(watermarks.iter().count() as u32);
            for (index, (agent, stream, incarnation, is_fenced, account)) in watermarks.iter().enumerate() {
                let mut entry = list.reborrow().get(index as u32);
                entry.set_agent(&agent[..]);
                entry.set_stream(batch::wire_stream(stream));
                batch::write_incarnation(incarnation, entry.reborrow().init_incarnation());
                entry.set_is_fenced(is_fenced);
                entry.set_durable_end(account.durable_end);
                entry.set_items(account.items);
                let mut lost = entry.init_lost_items(account.lost.len() as u32);
                for (index, (reason, counts)) in account.lost.iter().enumerate() {
                    let mut to = lost.reborrow().get(index as u32);
                    to.set_reason(&reason[..]);
                    to.set_items(counts.items);
                    to.set_batches(counts.batches);
                }
            }
        }
    }
    lm_schema::to_bytes(&message)
}

/// Reads a record that this or an older version wrote.
pub fn decode(bytes: &[u8]) -> Result<Stored, Error> {
    let message = lm_schema::from_bytes(bytes)?;
    let root: spool_record::Reader<'_> = message.get_root()?;
    let record = match root.which()? {
        spool_record::Batch(accepted) => {
            let accepted = accepted?;
            let from = accepted.get_batch()?;
            OwnedRecord::Accepted {
                header: BatchHeader::read(from)?,
                body: from.get_body()?.to_vec(),
                dropped_entries: accepted.get_dropped_entries()?.iter().collect(),
                dropped_items: accepted.get_dropped_items(),
            }
        }
        spool_record::Dictionary(dictionary) => {
            let dictionary = dictionary?;
            let (epoch, entries) =
                batch::read_dictionary(dictionary.get_dictionary()?, &DecodeLimits::STORED)?;
            OwnedRecord::Dictionary {
                incarnation: batch::read_incarnation(dictionary.get_incarnation()?),
                epoch,
                entries,
            }
        }
        spool_record::Tombstone(tombstone) => {
            let tombstone = tombstone?;
            OwnedRecord::Tombstone {
                id: BatchId {
                    stream: batch::read_stream(tombstone.get_stream()?),
                    incarnation: batch::read_incarnation(tombstone.get_incarnation()?),
                    sequence: tombstone.get_sequence(),
                },
                sequence_end: tombstone.get_sequence_end(),
                items: tombstone.get_items(),
            }
        }
        spool_record::Quarantined(from) => {
            let header = BatchHeader::read(from?)?;
            OwnedRecord::Quarantined { id: header.id, items: u64::from(header.item_count) }
        }
        spool_record::Watermarks(entries) => {
            OwnedRecord::Watermarks(entries?.iter().map(read_watermark).collect::<Result<_, _>>()?)
        }
    };
    Ok(Stored {
        agent: Arc::from(root.get_agent()?.to_str()?),
        // Our own batches have no instance: each of their series has one.
        stamp: stamp(root.get_instance()?.to_str()?, &read_pairs(root.get_labels()?)?),
        record,
    })
}

fn read_watermark(from: watermark::Reader<'_>) -> Result<(Arc<str>, Stream, Incarnation, Account), Error> {
    let mut lost = BTreeMap::new();
    for entry in from.get_lost_items()? {
        let counts = Lost { batches: entry.get_batches(), items: entry.get_items() };
        lost.insert(entry.get_reason()?.to_string()?, counts);
    }
    Ok((
        Arc::from(from.get_agent()?.to_str()?),
        batch::read_stream(from.get_stream()?),
        batch::read_incarnation(from.get_incarnation()?),
        Account { durable_end: from.get_durable_end(), items: from.get_items(), lost },
    ))
}
