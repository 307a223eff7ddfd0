//! Reads messages off a byte stream, believing nothing.
//!
//! ```text
//! segments - 1 :u32   words of each segment :u32 ...   padding to 8 bytes   segments
//! ```
//!
//! The size is known after the table and is checked before anything of that
//! size exists. The body's memory is reserved but touched only as bytes
//! arrive, so that a peer which claims much and goes silent holds one step.

use std::time::Duration;

use capnp::Word;
use capnp::message::{Reader, ReaderOptions, ReaderSegments};
use futures::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use super::budget::Lease;
use super::refusal::{Refused, invalid, limit};

/// The protocol allows 511. Ours double in size, so that the largest message
/// has about twenty.
const SEGMENTS_MAX: usize = 64;
/// The body is read, and its budget taken, in steps of this many bytes.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// A message that has begun must end within this and its size at [`RATE_MIN`].
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second.
const RATE_MIN: usize = 64 << 10;
/// How deep pointers may nest in a message.
const NESTING_MAX: i32 = 16;
const WORD_BYTES: usize = 8;

/// What a message says of itself before its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Where each segment ends, in words. Never empty.
    ends: Vec<usize>,
}

impl Table {
    pub fn words(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Of the body.
    pub fn bytes(&self) -> usize {
        self.words() * WORD_BYTES
    }
}

/// The body of a message, as one piece of memory.
pub(super) struct Segments {
    words: Vec<Word>,
    ends: Vec<usize>,
}

impl ReaderSegments for Segments {
    fn get_segment(&self, idx: u32) -> Option<&[u8]> {
        let idx = idx as usize;
        let end = *self.ends.get(idx)?;
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        Some(Word::words_to_bytes(&self.words[start..end]))
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// Waits for a message to begin, however long that takes, and reads its
/// table. `None`: the stream ended, between two messages.
pub(super) async fn read_table<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Option<Table>, Refused> {
    let mut first = [0; WORD_BYTES];
    let begun = reader.read(&mut first).await?;
    if begun == 0 {
        return Ok(None);
    }
    match timeout(PATIENCE, finish_table(reader, first, begun)).await {
        Ok(table) => table.map(Some),
        Err(_) => Err(Refused::Violation("limit: a message that does not go on".to_owned())),
    }
}

async fn finish_table<R: AsyncRead + Unpin>(
    reader: &mut R,
    mut first: [u8; WORD_BYTES],
    begun: usize,
) -> Result<Table, Refused> {
    reader.read_exact(&mut first[begun..]).await?;
    let [a, b, c, d, size @ ..] = first;
    let segments = u32::from_le_bytes([a, b, c, d]) as usize;
    // Zero segments are written as -1.
    let segments = if segments == u32::MAX as usize { 0 } else { segments + 1 };
    if segments == 0 {
        return Err(invalid("a message of no segments"));
    }
    if segments > SEGMENTS_MAX {
        return Err(limit(segments, "segments of a message", SEGMENTS_MAX));
    }
    let mut ends = Vec::with_capacity(segments);
    ends.push(u32::from_le_bytes(size) as usize);
    let mut rest = [0; SEGMENTS_MAX * 4];
    // The first size stands beside the count; the rest is padded to words.
    let rest = &mut rest[..(segments / 2) * WORD_BYTES];
    reader.read_exact(rest).await?;
    let (sizes, _) = rest.as_chunks::<4>();
    let mut end = ends[0];
    for size in &sizes[..segments - 1] {
        // 64 sizes of 32 bits fit.
        end += u32::from_le_bytes(*size) as usize;
        ends.push(end);
    }
    Ok(Table { ends })
}

/// Reads the body that `table` announces; its size was found acceptable.
/// `lease` grows before each step is read.
pub(super) async fn read_body<R: AsyncRead + Unpin>(
    reader: &mut R,
    table: Table,
    visit_words_extra: usize,
    mut lease: Option<&mut Lease>,
) -> Result<Reader<Segments>, Refused> {
    let total = table.words();
    let mut patience = PATIENCE + Duration::from_secs((table.bytes() / RATE_MIN) as u64);
    // Reserved, not touched: costs the system nothing until it is written.
    let mut words: Vec<Word> = Vec::with_capacity(total);
    while words.len() < total {
        let start = words.len();
        let end = total.min(start + STEP_BYTES / WORD_BYTES);
        if let Some(lease) = &mut lease {
            // Others' slowness is not the peer's: the clock stands still.
            lease.grow((end - start) * WORD_BYTES).await;
        }
        words.resize(end, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        let began = Instant::now();
        let step = Word::words_to_bytes_mut(&mut words[start..end]);
        match timeout(patience, reader.read_exact(step)).await {
            Ok(read) => read?,
            Err(_) => {
                return Err(Refused::Violation(format!(
                    "limit: a message of {} bytes that does not arrive",
                    table.bytes()
                )));
            }
        }
        patience = patience.saturating_sub(began.elapsed());
    }
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(total.saturating_mul(4).saturating_add(visit_words_extra)))
        .nesting_limit(NESTING_MAX);
    Ok(Reader::new(Segments { words, ends: table.ends }, options))
}

#[cfg(test)]
mod tests;
