//! The bytes of a segment. All integers are little-endian.
//!
//! A segment is the file `<id, 20 digits>.seg`: one header, then records, each starting on a multiple of 8 bytes.
//!
//! ```text
//! segment header, 72 bytes (this shape and the place of the checksum hold for every version)
//!   0  magic "LMJOURNL"                8  version u16 | reserved 6
//!  16  segment id u64                 24  tag, 16 bytes chosen by the caller
//!  40  previous segment id u64        48  previous segment end u64
//!  56  group end u64                  64  reserved u32 | crc32c u32 over bytes 0..68
//!
//! record, 80 bytes + payload + zero padding to a multiple of 8
//!   0  payload length u32 | header crc32c u32
//!   8  kind u8 | stream u8 | flags u16 | items u32
//!  16  sequence u64                   24  sequence end u64
//!  32  incarnation ordinal u64        40  incarnation nonce u64
//!  48  items before u64               56  bytes before u64
//!  64  durable through u64            72  payload crc32c u32 | reserved u32
//!  80  payload
//! ```
//!
//! Both record checksums start from a seed made of the segment id and the record's offset, so bytes recycled from
//! another segment or copied to another place never pass. The header has a checksum of its own: searching for the
//! next record behind a damaged one costs 80 bytes of checksum per candidate, not a megabyte.
//!
//! - *previous*: the last segment with durable contents when this one was made, and where those end. Segments with
//!   ids in between were failed attempts and are void; bytes behind that end were written again here.
//! - *group end*: what the first write of this segment covered. A segment whose first group is incomplete never
//!   existed: nothing in it was acknowledged, and its snapshot may speak of records that were lost with it.
//! - *durable through*: the offset in this segment known to be synced when the record was written. Damage before
//!   the largest such offset is corruption, damage after it is a torn tail.
//!
//! A sealed segment ends with a footer: a record of kind 255, `sequence` the record count, `sequence end` its offset.

use crate::{Incarnation, RecordHeader, SegmentId};

/// The version this crate reads and writes.
pub const FORMAT_VERSION: u16 = 1;
/// Size of a segment header.
pub const SEGMENT_HEADER_BYTES: u64 = 72;
/// Size of a record header.
pub const RECORD_HEADER_BYTES: u64 = 80;

pub(crate) const KIND_FOOTER: u8 = 255;
const MAGIC: &[u8; 8] = b"LMJOURNL";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub id: SegmentId,
    pub tag: [u8; 16],
    pub previous_id: SegmentId,
    pub previous_end: u64,
    pub group_end: u64,
}

/// A record header as found on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawHeader {
    pub header: RecordHeader,
    pub len: u32,
    pub durable_through: u64,
    pub payload_crc: u32,
}

pub(crate) enum HeaderRead {
    Valid(SegmentHeader),
    Version(u16),
    Invalid,
}

/// Bytes a record with a payload of `len` occupies.
pub fn record_bytes(len: u64) -> u64 {
    RECORD_HEADER_BYTES.saturating_add(len).saturating_add(7) & !7
}

pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{id:020}.seg")
}

/// The segment id in a file name with the given suffix.
pub(crate) fn parse_name(name: &str, suffix: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(crate) fn encode_segment_header(header: &SegmentHeader) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut out = [0; SEGMENT_HEADER_BYTES as usize];
    out[0..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&header.id.to_le_bytes());
    out[24..40].copy_from_slice(&header.tag);
    out[40..48].copy_from_slice(&header.previous_id.to_le_bytes());
    out[48..56].copy_from_slice(&header.previous_end.to_le_bytes());
    out[56..64].copy_from_slice(&header.group_end.to_le_bytes());
    let crc = crc32c::crc32c(&out[..68]);
    out[68..72].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the first bytes of the file of segment `id`.
pub(crate) fn decode_segment_header(bytes: &[u8], id: SegmentId) -> HeaderRead {
    let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES as usize) else { return HeaderRead::Invalid };
    if &bytes[0..8] != MAGIC || crc32c::crc32c(&bytes[..68]) != u32_at(bytes, 68) {
        return HeaderRead::Invalid;
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != FORMAT_VERSION {
        return HeaderRead::Version(version);
    }
    let mut tag = [0; 16];
    tag.copy_from_slice(&bytes[24..40]);
    let header = SegmentHeader {
        id: u64_at(bytes, 16),
        tag,
        previous_id: u64_at(bytes, 40),
        previous_end: u64_at(bytes, 48),
        group_end: u64_at(bytes, 56),
    };
    if header.id == id { HeaderRead::Valid(header) } else { HeaderRead::Invalid }
}

fn seed(segment: SegmentId, offset: u64) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&segment.to_le_bytes());
    bytes[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c(&bytes)
}

fn header_crc(bytes: &[u8], segment: SegmentId, offset: u64) -> u32 {
    let crc = crc32c::crc32c_append(seed(segment, offset), &bytes[..4]);
    crc32c::crc32c_append(crc, &bytes[8..RECORD_HEADER_BYTES as usize])
}

pub(crate) fn payload_crc(payload: &[u8], segment: SegmentId, offset: u64) -> u32 {
    crc32c::crc32c_append(seed(segment, offset), payload)
}

/// Appends one record, as it must look at `offset` of `segment`, to `out`.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    segment: SegmentId,
    offset: u64,
    durable_through: u64,
    header: &RecordHeader,
    payload: &[u8],
) {
    let start = out.len();
    let len = u32::try_from(payload.len()).expect("append() bounds the payload by record_bytes_max");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[header.kind, header.stream]);
    out.extend_from_slice(&header.flags.to_le_bytes());
    out.extend_from_slice(&header.items.to_le_bytes());
    for number in [
        header.sequence,
        header.sequence_end,
        header.incarnation.ordinal,
        header.incarnation.nonce,
        header.items_before,
        header.bytes_before,
        durable_through,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&payload_crc(payload, segment, offset).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = header_crc(&out[start..], segment, offset);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(start + record_bytes(payload.len() as u64) as usize, 0);
}

/// Reads a record header whose checksum fits `segment` and `offset`.
pub(crate) fn decode_record_header(bytes: &[u8], segment: SegmentId, offset: u64) -> Option<RawHeader> {
    let raw = parse_record_header(bytes)?;
    (header_crc(bytes, segment, offset) == u32_at(bytes, 4)).then_some(raw)
}

/// Reads a record header without verifying it: for bytes that never left our memory.
pub(crate) fn parse_record_header(bytes: &[u8]) -> Option<RawHeader> {
    let bytes = bytes.get(..RECORD_HEADER_BYTES as usize)?;
    // Kind 0 is never written, so a run of zeros is refused before any checksum is computed.
    if bytes[8] == 0 {
        return None;
    }
    let header = RecordHeader {
        kind: bytes[8],
        stream: bytes[9],
        flags: u16::from_le_bytes([bytes[10], bytes[11]]),
        items: u32_at(bytes, 12),
        sequence: u64_at(bytes, 16),
        sequence_end: u64_at(bytes, 24),
        incarnation: Incarnation { ordinal: u64_at(bytes, 32), nonce: u64_at(bytes, 40) },
        items_before: u64_at(bytes, 48),
        bytes_before: u64_at(bytes, 56),
    };
    Some(RawHeader {
        header,
        len: u32_at(bytes, 0),
        durable_through: u64_at(bytes, 64),
        payload_crc: u32_at(bytes, 72),
    })
}
