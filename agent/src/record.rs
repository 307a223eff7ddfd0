//! What the agent writes into its queue.
//!
//! A record is a batch and the log file positions that its lines imply, in one
//! Cap'n Proto message (`QueueRecord`): lines and position are stored together
//! or not at all. Each queue segment begins with a `QueueSnapshot`, which is
//! all that later records of the segment need from earlier segments.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lm_model::Labels;
use lm_schema::batch::{self, BatchHeader};
use lm_schema::queue_capnp::{file_cursor, queue_record, queue_snapshot};
use lm_schema::{DecodeLimits, Error, Invalid, to_bytes};

use crate::sources::logs::{FINGERPRINT_BYTES_MAX, FileCursor, FileKey, Fingerprint};

/// A record that was read back.
#[derive(Debug, PartialEq)]
pub struct Record {
    pub header: BatchHeader,
    pub body: Vec<u8>,
    pub cursors: Vec<FileCursor>,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of a future version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record, Error> {
        let message = lm_schema::from_bytes(bytes)?;
        let root: queue_record::Reader<'_> = message.get_root()?;
        let batch = root.get_batch()?;
        Ok(Record {
            header: BatchHeader::read(batch)?,
            body: batch.get_body()?.to_vec(),
            cursors: read_cursors(root.get_cursors()?)?,
        })
    }
}

/// A record as bytes.
pub fn record_bytes(header: &BatchHeader, body: &[u8], cursors: &[FileCursor]) -> Vec<u8> {
    let words = (body.len() / 8 + 128 + cursors.len() * 32) as u32;
    let allocator = capnp::message::HeapAllocator::new().first_segment_words(words);
    let mut message = capnp::message::Builder::new(allocator);
    let mut root: queue_record::Builder<'_> = message.init_root();
    header.write(body, root.reborrow().init_batch());
    write_cursors(cursors, root.init_cursors(cursors.len() as u32));
    to_bytes(&message)
}

/// What a segment begins with.
#[derive(Debug, Default, PartialEq)]
pub struct Snapshot {
    pub epoch: u32,
    pub entries: Vec<Labels>,
    pub cursors: Vec<FileCursor>,
}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, Error> {
        let message = lm_schema::from_bytes(bytes)?;
        let root: queue_snapshot::Reader<'_> = message.get_root()?;
        let (epoch, entries) = batch::read_dictionary(root.get_dictionary()?, &own_limits())?;
        Ok(Snapshot { epoch, entries, cursors: read_cursors(root.get_cursors()?)? })
    }
}

/// A snapshot as bytes.
pub fn snapshot_bytes(epoch: u32, entries: &[Labels], cursors: &[FileCursor]) -> Vec<u8> {
    let mut message = capnp::message::Builder::new_default();
    let mut root: queue_snapshot::Builder<'_> = message.init_root();
    batch::write_dictionary(epoch, entries, root.reborrow().init_dictionary());
    write_cursors(cursors, root.init_cursors(cursors.len() as u32));
    to_bytes(&message)
}

/// Bounds for what we wrote ourselves: whatever settings were in force then.
pub fn own_limits() -> DecodeLimits {
    DecodeLimits {
        raw_bytes_max: 64 << 20,
        series_per_batch_max: 65_536,
        samples_per_batch_max: 1 << 20,
        labels_per_series_max: 256,
        label_name_bytes_max: 65_536,
        label_value_bytes_max: 65_536,
        logs_per_batch_max: 1 << 20,
        log_line_bytes_max: 4 << 20,
        events_per_batch_max: 65_536,
        dictionary_entries_max: 65_536,
    }
}

fn write_cursors(from: &[FileCursor], mut to: capnp::struct_list::Builder<'_, file_cursor::Owned>) {
    for (index, cursor) in from.iter().enumerate() {
        let mut entry = to.reborrow().get(index as u32);
        entry.set_path(cursor.path.as_os_str().as_bytes());
        entry.set_device(cursor.key.device);
        entry.set_inode(cursor.key.inode);
        entry.set_fingerprint_bytes(u32::from(cursor.fingerprint.bytes));
        entry.set_fingerprint_crc32c(cursor.fingerprint.crc32c);
        entry.set_offset(cursor.offset);
    }
}

fn read_cursors(from: capnp::struct_list::Reader<'_, file_cursor::Owned>) -> Result<Vec<FileCursor>, Error> {
    let mut cursors = Vec::new();
    for entry in from {
        let (bytes, offset) = (entry.get_fingerprint_bytes(), entry.get_offset());
        if u64::from(bytes) != offset.min(FINGERPRINT_BYTES_MAX as u64) {
            let message = format!("a fingerprint of {bytes} bytes does not fit offset {offset}");
            return Err(Invalid::new(message).into());
        }
        cursors.push(FileCursor {
            key: FileKey { device: entry.get_device(), inode: entry.get_inode() },
            fingerprint: Fingerprint { crc32c: entry.get_fingerprint_crc32c(), bytes: bytes as u16 },
            offset,
            path: PathBuf::from(OsStr::from_bytes(entry.get_path()?)),
        });
    }
    Ok(cursors)
}

#[cfg(test)]
mod tests;
