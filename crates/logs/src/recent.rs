//! [`Recent`]: the streams and their lines.

use std::collections::BTreeMap;
use std::time::Duration;

use lm_model::{AHEAD, Ahead, Labels, Matcher, Timestamp};

use crate::matcher::Compiled;
use crate::search::{self, LogAnswer, LogQuery};
use crate::segment::Segment;

/// Longest line that is accepted.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Estimated memory of a stream besides its segments: its table entry and the
/// header of its labels.
const STREAM_BYTES: usize = 128;

/// Estimated memory of one label besides its text.
const LABEL_BYTES: usize = 32 + 2 * 16;

#[derive(Clone, Debug)]
pub struct RecentOptions {
    /// Estimated memory that [`Recent::expire`] brings the store under.
    pub bytes_max: usize,
    /// Lines older than this are dropped by [`Recent::expire`].
    pub retention: Duration,
}

/// A line was refused or a search could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a line of {bytes} bytes exceeds the limit of {LINE_BYTES_MAX}")]
    LineTooLong { bytes: usize },
    #[error("regular expression {pattern:?}: {reason}")]
    Regex { pattern: Box<str>, reason: String },
    #[error("{count} matchers and terms exceed the limit of {}", search::TERMS_MAX)]
    TooManyTerms { count: usize },
}

/// What [`Recent::expire`] removed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Older than the retention time.
    pub age: Removed,
    /// Oldest when memory was short.
    pub memory: Removed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub lines: usize,
    pub streams: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecentStats {
    pub streams: usize,
    pub lines: usize,
    /// Estimated memory: labels and lines.
    pub bytes: usize,
}

/// Recent lines in memory. One owner appends; searches take `&self`.
///
/// Memory grows with [`append`](Recent::append) and shrinks in
/// [`expire`](Recent::expire), which the owner calls regularly and whenever
/// [`is_over_memory`](Recent::is_over_memory) says so.
#[derive(Debug)]
pub struct Recent {
    options: RecentOptions,
    streams: BTreeMap<Labels, Stream>,
    /// Streams with lines in the future.
    ahead: Ahead<Labels>,
    lines: usize,
    bytes: usize,
}

/// Segments in ascending time, none of them empty. A time may end one segment
/// and begin the next.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub segments: Vec<Segment>,
}

impl Recent {
    pub fn new(options: RecentOptions) -> Self {
        Recent { options, streams: BTreeMap::new(), ahead: Ahead::default(), lines: 0, bytes: 0 }
    }

    /// Stores a line. Equal lines at one time are all kept.
    ///
    /// # Errors
    ///
    /// A line longer than [`LINE_BYTES_MAX`].
    pub fn append(&mut self, labels: &Labels, time_unix_nano: i64, line: &[u8]) -> Result<(), Error> {
        if line.len() > LINE_BYTES_MAX {
            return Err(Error::LineTooLong { bytes: line.len() });
        }
        if !self.streams.contains_key(labels) {
            self.streams.insert(labels.clone(), Stream::default());
            self.bytes += table_bytes(labels);
        }
        let stream = self.streams.get_mut(labels).expect("the stream was just inserted");
        let (before, after) = stream.insert(time_unix_nano, line);
        self.bytes = self.bytes - before + after;
        self.lines += 1;
        Ok(())
    }

    /// Whether the estimated memory exceeds its bound.
    pub fn is_over_memory(&self) -> bool {
        self.bytes > self.options.bytes_max
    }

    /// Drops lines older than the retention time, then, if memory is over its
    /// bound, the oldest segments of all streams, and then streams without
    /// lines. Lines in the future count as old as their arrival: those of a
    /// stream go when for the retention time none has come.
    pub fn expire(&mut self, now_unix_nano: i64) -> Expired {
        let age = self.expire_age(now_unix_nano);
        let memory =
            if self.is_over_memory() { self.expire_memory(now_unix_nano) } else { Removed::default() };
        Expired { age, memory }
    }

    fn expire_age(&mut self, now_unix_nano: i64) -> Removed {
        let retention = i64::try_from(self.options.retention.as_nanos()).unwrap_or(i64::MAX);
        let oldest = now_unix_nano.saturating_sub(retention);
        let now = Timestamp::from_nanos(now_unix_nano);
        let mut lines = 0;
        for (labels, stream) in &mut self.streams {
            let [first, ..] = &stream.segments[..] else { continue };
            let [.., last] = &stream.segments[..] else { continue };
            let is_old = first.first_time() < oldest;
            let came = self.ahead.look(labels, Timestamp::from_nanos(last.last_time()), now);
            let is_old_ahead = came.is_some_and(|came| came < Timestamp::from_nanos(oldest));
            if is_old || is_old_ahead {
                self.bytes -= stream.bytes();
                lines += stream.remove_before(oldest);
                if is_old_ahead {
                    lines += stream.remove_after(now.saturating_add(AHEAD).as_nanos());
                }
                self.bytes += stream.bytes();
            }
        }
        self.lines -= lines;
        Removed { lines, streams: self.remove_empty_streams() }
    }

    fn expire_memory(&mut self, now_unix_nano: i64) -> Removed {
        let now = Timestamp::from_nanos(now_unix_nano);
        let came = |labels: &Labels, nanos: i64| {
            let time = Timestamp::from_nanos(nanos);
            let came = self.ahead.came(labels, time, now);
            if came == time { nanos } else { came.as_nanos() }
        };
        let mut oldest_first: Vec<(i64, Labels)> = self
            .streams
            .iter()
            .flat_map(|(labels, stream)| {
                stream.segments.iter().map(|segment| (came(labels, segment.last_time()), labels.clone()))
            })
            .collect();
        oldest_first.sort_unstable();
        let mut removed = Removed::default();
        for (_, labels) in oldest_first {
            if !self.is_over_memory() {
                break;
            }
            let stream = self.streams.get_mut(&labels).expect("streams leave with their last segment");
            self.bytes -= stream.bytes();
            removed.lines += stream.segments.remove(0).len();
            self.bytes += stream.bytes();
            if stream.segments.is_empty() {
                self.bytes -= stream.bytes() + table_bytes(&labels);
                self.streams.remove(&labels);
                self.ahead.forget(&labels);
                removed.streams += 1;
            }
        }
        self.lines -= removed.lines;
        removed
    }

    fn remove_empty_streams(&mut self) -> usize {
        let before = self.streams.len();
        let (bytes, ahead) = (&mut self.bytes, &mut self.ahead);
        self.streams.retain(|labels, stream| {
            let keep = !stream.segments.is_empty();
            if !keep {
                *bytes -= stream.bytes() + table_bytes(labels);
                ahead.forget(labels);
            }
            keep
        });
        before - self.streams.len()
    }

    /// Lines that satisfy the query, in its order of time; lines of one time
    /// in order of labels, then of arrival (both reversed when searching
    /// backward).
    pub fn search(&self, query: &LogQuery) -> Result<LogAnswer, Error> {
        search::search(&self.streams, query)
    }

    /// Labels of the streams that all matchers accept, ascending.
    pub fn streams(&self, matchers: &[Matcher]) -> Result<Vec<Labels>, Error> {
        let compiled = Compiled::all(matchers)?;
        let accepted = self.streams.keys().filter(|labels| compiled.iter().all(|m| m.matches(labels)));
        Ok(accepted.cloned().collect())
    }

    pub fn stats(&self) -> RecentStats {
        RecentStats { streams: self.streams.len(), lines: self.lines, bytes: self.bytes }
    }
}

impl Stream {
    /// Returns the stream's memory before and after.
    fn insert(&mut self, time: i64, line: &[u8]) -> (usize, usize) {
        let spare = self.segments.capacity();
        // The last segment that starts at or before the line, or else the first.
        let at = self.segments.partition_point(|segment| segment.first_time() <= time).saturating_sub(1);
        let (before, after) = match self.segments.get_mut(at) {
            None => {
                self.segments.push(Segment::default());
                self.segments[at].insert(time, line);
                (0, self.segments[at].bytes())
            }
            Some(segment) if !segment.is_full() => {
                let before = segment.bytes();
                segment.insert(time, line);
                (before, segment.bytes())
            }
            Some(segment) if time >= segment.last_time() => {
                let mut next = Segment::default();
                next.insert(time, line);
                let after = next.bytes();
                self.segments.insert(at + 1, next);
                (0, after)
            }
            Some(segment) if segment.len() == 1 => {
                // One line longer than a segment, and the new one goes before it.
                let mut older = Segment::default();
                older.insert(time, line);
                let after = older.bytes();
                self.segments.insert(at, older);
                (0, after)
            }
            Some(segment) => {
                let before = segment.bytes();
                let mut newer = segment.split_half();
                let half = if time < newer.first_time() { segment } else { &mut newer };
                half.insert(time, line);
                let after = self.segments[at].bytes() + newer.bytes();
                self.segments.insert(at + 1, newer);
                (before, after)
            }
        };
        (before + spare * size_of::<Segment>(), after + self.segments.capacity() * size_of::<Segment>())
    }

    /// Memory of the segments. Each one's struct counts twice: close enough.
    fn bytes(&self) -> usize {
        let segments: usize = self.segments.iter().map(Segment::bytes).sum();
        segments + self.segments.capacity() * size_of::<Segment>()
    }

    /// Removes lines after `time`; returns how many.
    fn remove_after(&mut self, time: i64) -> usize {
        let whole = self.segments.partition_point(|segment| segment.first_time() <= time);
        let mut removed: usize = self.segments.drain(whole..).map(|segment| segment.len()).sum();
        if let Some(last) = self.segments.last_mut().filter(|segment| segment.last_time() > time) {
            let kept = last.first_at(time.saturating_add(1));
            removed += last.len() - kept;
            last.truncate(kept);
        }
        removed
    }

    /// Removes lines before `time`; returns how many.
    fn remove_before(&mut self, time: i64) -> usize {
        let whole = self.segments.partition_point(|segment| segment.last_time() < time);
        let mut removed: usize = self.segments.drain(..whole).map(|segment| segment.len()).sum();
        if let Some(first) = self.segments.first_mut() {
            let lines = first.first_at(time);
            if lines > 0 {
                first.remove_first(lines);
                removed += lines;
            }
        }
        removed
    }
}

fn table_bytes(labels: &Labels) -> usize {
    let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    STREAM_BYTES + labels.len() * LABEL_BYTES + text
}

#[cfg(test)]
mod tests;
