//! Reading records out of bytes that may be damaged.
//!
//! Nothing here trusts a length before its checksum has been verified, and every step moves forward.

use std::io;
use std::ops::Range;

use crate::SegmentId;
use crate::format::{self, KIND_FOOTER, RECORD_HEADER_BYTES, RawHeader, SEGMENT_HEADER_BYTES, record_bytes};
use lm_fs::{File, read_full};

/// How much is read at once; one window per reader is the memory a reader costs.
const WINDOW_BYTES: usize = 64 * 1024;

/// A buffered view of one file.
#[derive(Debug, Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    start: u64,
}

pub(crate) enum Parsed {
    Record(RawHeader),
    /// The header is intact, the payload is not.
    BadPayload(RawHeader),
    Invalid,
}

impl Window {
    pub fn clear(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
    }

    /// The bytes `[offset, offset + len)`, or `None` if they reach beyond `end` or the file.
    fn slice(&mut self, file: &impl File, offset: u64, len: usize, end: u64) -> io::Result<Option<&[u8]>> {
        let Some(stop) = offset.checked_add(len as u64).filter(|&stop| stop <= end) else { return Ok(None) };
        let held = self.start..self.start + self.buffer.len() as u64;
        if offset < held.start || stop > held.end {
            let want = len.max(WINDOW_BYTES.min(usize::try_from(end - offset).unwrap_or(WINDOW_BYTES)));
            if self.buffer.capacity() > 4 * want.max(WINDOW_BYTES) {
                self.buffer = Vec::new();
            }
            self.start = offset;
            self.buffer.clear();
            self.buffer.resize(want, 0);
            match read_full(file, &mut self.buffer, offset) {
                Ok(count) => self.buffer.truncate(count),
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + len))
    }

    /// The record header at `offset` if it verifies and the whole record ends at or before `end`.
    pub fn header(
        &mut self,
        file: &impl File,
        segment: SegmentId,
        offset: u64,
        end: u64,
        len_max: u64,
    ) -> io::Result<Option<RawHeader>> {
        let Some(bytes) = self.slice(file, offset, RECORD_HEADER_BYTES as usize, end)? else {
            return Ok(None);
        };
        let raw = format::decode_record_header(bytes, segment, offset);
        Ok(raw.filter(|raw| {
            u64::from(raw.len) <= len_max
                && offset.checked_add(record_bytes(raw.len.into())).is_some_and(|stop| stop <= end)
        }))
    }

    /// The payload of the record at `offset`, if it verifies.
    pub fn payload(
        &mut self,
        file: &impl File,
        segment: SegmentId,
        offset: u64,
        raw: &RawHeader,
    ) -> io::Result<Option<&[u8]>> {
        let bytes = self.slice(file, offset + RECORD_HEADER_BYTES, raw.len as usize, u64::MAX)?;
        Ok(bytes.filter(|bytes| format::payload_crc(bytes, segment, offset) == raw.payload_crc))
    }

    pub fn parse(
        &mut self,
        file: &impl File,
        segment: SegmentId,
        offset: u64,
        end: u64,
        len_max: u64,
    ) -> io::Result<Parsed> {
        let Some(raw) = self.header(file, segment, offset, end, len_max)? else { return Ok(Parsed::Invalid) };
        let payload_is_valid = self.payload(file, segment, offset, &raw)?.is_some();
        Ok(if payload_is_valid { Parsed::Record(raw) } else { Parsed::BadPayload(raw) })
    }

    /// The first multiple of 8 at or after `offset` where a whole record verifies, else `end`.
    pub fn find(
        &mut self,
        file: &impl File,
        segment: SegmentId,
        mut offset: u64,
        end: u64,
        len_max: u64,
    ) -> io::Result<u64> {
        while offset.saturating_add(RECORD_HEADER_BYTES) <= end {
            match self.parse(file, segment, offset, end, len_max)? {
                Parsed::Record(_) => return Ok(offset),
                // An intact header tells where the next record starts.
                Parsed::BadPayload(raw) => offset += record_bytes(raw.len.into()),
                Parsed::Invalid => offset += 8,
            }
        }
        Ok(end)
    }
}

/// What a whole segment looks like.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Ranges in which no record verifies, ascending, not adjacent.
    pub damaged: Vec<Range<u64>>,
    pub records: u64,
    /// Largest `durable through` of all valid records.
    pub durable_through: u64,
    /// Offset of the footer, if there is one.
    pub sealed: Option<u64>,
    /// Where the bytes that were looked at end.
    pub end: u64,
}

/// Looks at `[header, end)` of a segment.
pub(crate) fn scan(file: &impl File, segment: SegmentId, end: u64, len_max: u64) -> io::Result<Scan> {
    let mut window = Window::default();
    let mut scan = Scan { end, ..Scan::default() };
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < end {
        let search_from = match window.parse(file, segment, offset, end, len_max)? {
            Parsed::Record(raw) if raw.header.kind == KIND_FOOTER && raw.header.sequence_end == offset => {
                scan.sealed = Some(offset);
                scan.end = offset;
                return Ok(scan);
            }
            Parsed::Record(raw) => {
                scan.records += 1;
                scan.durable_through = scan.durable_through.max(raw.durable_through.min(offset));
                offset += record_bytes(raw.len.into());
                continue;
            }
            Parsed::BadPayload(raw) => offset + record_bytes(raw.len.into()),
            Parsed::Invalid => offset + 8,
        };
        let next = window.find(file, segment, search_from, end, len_max)?.max(offset + 1);
        scan.damaged.push(offset..next);
        offset = next;
    }
    Ok(scan)
}

/// Whether `[from, end)` holds nothing but zeros.
pub(crate) fn is_zero(file: &impl File, mut from: u64, end: u64) -> io::Result<bool> {
    let mut buffer = vec![0; WINDOW_BYTES];
    while from < end {
        let want = (end - from).min(WINDOW_BYTES as u64) as usize;
        let count = read_full(file, &mut buffer[..want], from)?;
        if buffer[..count].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if count < want {
            break;
        }
        from += count as u64;
    }
    Ok(true)
}
