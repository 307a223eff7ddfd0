//! Reads messages off a byte stream, believing nothing.
//!
//! ```text
//! segments - 1 :u32   words of each segment :u32 ...   padding to 8 bytes   segments
//! ```
//!
//! The size is known after the table and is checked before anything of that
//! size exists. The body's memory is reserved but touched only as bytes
//! arrive, so that a peer which claims much and goes silent holds one step.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use capnp::Word;
use capnp::message::{Reader, ReaderOptions, ReaderSegments};
use futures::AsyncRead;

use super::budget::Lease;
use super::pace::{Pace, Stalled};
use super::refusal::{Refused, invalid, limit};

/// The protocol allows 511. Ours double in size, so that the largest message
/// has about twenty.
const SEGMENTS_MAX: usize = 64;
/// The body is read, and its budget taken, in steps of this many bytes.
pub(super) const STEP_BYTES: usize = 64 << 10;
/// How deep pointers may nest in a message.
const NESTING_MAX: i32 = 16;
const WORD_BYTES: usize = 8;

/// What a message says of itself before its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Of all segments.
    words: usize,
    /// Where each segment but the last ends, in words: empty for most.
    ends: Vec<usize>,
}

impl Table {
    pub fn words(&self) -> usize {
        self.words
    }

    /// Of the body.
    pub fn bytes(&self) -> usize {
        self.words * WORD_BYTES
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
        let start = if idx == 0 { 0 } else { *self.ends.get(idx - 1)? };
        let end = self.ends.get(idx).copied().unwrap_or(self.words.len());
        Some(Word::words_to_bytes(&self.words[start..end]))
    }

    fn len(&self) -> usize {
        self.ends.len() + 1
    }
}

/// Waits for a message to begin, however long that takes, and reads its
/// table. `None`: the stream ended, between two messages.
pub(super) async fn read_table<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Option<Table>, Refused> {
    let mut first = [0; WORD_BYTES];
    let begun = std::future::poll_fn(|cx| Pin::new(&mut *reader).poll_read(cx, &mut first)).await?;
    if begun == 0 {
        return Ok(None);
    }
    let mut pace = Pace::new();
    let unfinished = |_| Refused::Violation("limit: a message that does not go on".to_owned());
    fill(reader, &mut first[begun..], &mut pace, &mut None, unfinished).await?;
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
    let mut words = u32::from_le_bytes(size) as usize;
    let mut ends = Vec::new();
    if segments > 1 {
        ends.reserve_exact(segments - 1);
        // The first size stands beside the count; the rest is padded to words.
        // Not in place: every stream waits here for its next message.
        let mut rest = vec![0; (segments / 2) * WORD_BYTES];
        fill(reader, &mut rest, &mut pace, &mut None, unfinished).await?;
        let (sizes, _) = rest.as_chunks::<4>();
        for size in &sizes[..segments - 1] {
            ends.push(words);
            // 64 sizes of 32 bits fit.
            words += u32::from_le_bytes(*size) as usize;
        }
    }
    Ok(Some(Table { words, ends }))
}

/// Reads the body that `table` announces; its size was found acceptable.
/// `lease` grows before each step is read.
pub(super) async fn read_body<R: AsyncRead + Unpin>(
    reader: &mut R,
    table: Table,
    visit_words_extra: usize,
    mut lease: Option<&mut Lease>,
) -> Result<Reader<Segments>, Refused> {
    let (total, bytes) = (table.words(), table.bytes());
    let stalled = |how| {
        Refused::Violation(match how {
            Stalled::Silent => format!("limit: a message of {bytes} bytes that does not arrive"),
            Stalled::Cut => {
                format!("limit: a message of {bytes} bytes that comes too slowly while others wait")
            }
        })
    };
    let mut pace = Pace::new();
    let mut words: Vec<Word> = Vec::new();
    while words.len() < total {
        let start = words.len();
        let end = total.min(start + STEP_BYTES / WORD_BYTES);
        if let Some(lease) = &mut lease
            && lease.grow((end - start) * WORD_BYTES).await
        {
            // Others' slowness is not the peer's.
            pace = Pace::new();
        }
        if end == total && start == 0 {
            words = Word::allocate_zeroed_vec(total);
        } else {
            // Reserved, not touched: costs the system nothing until it is
            // written.
            words.reserve_exact(total - start);
            words.resize(end, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        }
        let step = Word::words_to_bytes_mut(&mut words[start..end]);
        fill(reader, step, &mut pace, &mut lease, stalled).await?;
    }
    if let Some(lease) = &mut lease {
        lease.not_slow();
    }
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(total.saturating_mul(4).saturating_add(visit_words_extra)))
        .nesting_limit(NESTING_MAX);
    Ok(Reader::new(Segments { words, ends: table.ends }, options))
}

/// Reads as many bytes as there is room for. No timer is made while bytes are
/// there already.
async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    into: &mut [u8],
    pace: &mut Pace,
    lease: &mut Option<&mut Lease>,
    stalled: impl FnOnce(Stalled) -> Refused,
) -> Result<(), Refused> {
    let mut at = 0;
    let read = std::future::poll_fn(|cx: &mut Context<'_>| {
        while at < into.len() {
            match Pin::new(&mut *reader).poll_read(cx, &mut into[at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Err(io::ErrorKind::UnexpectedEof.into()))),
                Poll::Ready(Ok(count)) => {
                    at += count;
                    pace.progress(count);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Ok(Err(error))),
                Poll::Pending => return pace.poll(cx, lease.as_deref_mut()).map(Err),
            }
        }
        Poll::Ready(Ok(Ok(())))
    });
    match read.await {
        Ok(read) => Ok(read?),
        Err(how) => Err(stalled(how)),
    }
}

#[cfg(test)]
mod tests;
