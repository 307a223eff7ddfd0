//! Searching lines: which streams, in which order, how far.
//!
//! Lines are looked at in the order of time across all streams, so that what a
//! limit or the budget cuts off is always the far end: an answer never has
//! holes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use lm_model::{Labels, LogRecord, Matcher};
use regex::bytes::{Regex, RegexBuilder};

use crate::matcher::{Compiled, REGEX_BYTES_MAX};
use crate::recent::{Error, Stream};
use crate::segment::Segment;

/// Most matchers and terms of one query.
pub const TERMS_MAX: usize = 64;

/// Bytes that looking at a line costs besides its text, so that empty lines
/// spend the budget too.
const LINE_COST_BYTES: usize = 16;

/// Which matches come first, and which are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// What to search for. Text is compared as bytes and case matters.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Tests on the streams' labels.
    pub matchers: Vec<Matcher>,
    /// All of these occur in the line.
    pub contains: Vec<String>,
    /// None of these occurs in the line.
    pub excludes: Vec<String>,
    /// Matches somewhere in the line.
    pub regex: Option<String>,
    /// Inclusive.
    pub start_unix_nano: i64,
    /// Exclusive.
    pub end_unix_nano: i64,
    /// Most records in the answer.
    pub limit: usize,
    pub direction: Direction,
    /// The search stops after looking at this many bytes.
    pub scan_bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAnswer {
    pub records: Vec<LogRecord>,
    /// The limit or the budget stopped the search, and lines were left to look
    /// at: there may be more matches.
    pub truncated: bool,
    pub scanned_bytes: usize,
}

pub(crate) fn search(streams: &BTreeMap<Labels, Stream>, query: &LogQuery) -> Result<LogAnswer, Error> {
    let matchers = Compiled::all(&query.matchers)?;
    let test = LineTest::new(query)?;
    let mut answer = LogAnswer { records: Vec::new(), truncated: false, scanned_bytes: 0 };
    let accepted = streams.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels)));
    let mut cursors: Vec<Cursor<'_>> =
        accepted.map(|(labels, stream)| Cursor::new(labels, stream, query)).collect();
    let mut heads: BinaryHeap<Reverse<Key>> = BinaryHeap::new();
    for (index, cursor) in cursors.iter().enumerate() {
        heads.extend(cursor.key(index, query.direction).map(Reverse));
    }
    while let Some(Reverse(key)) = heads.pop() {
        if answer.records.len() >= query.limit || answer.scanned_bytes >= query.scan_bytes_max {
            answer.truncated = true;
            break;
        }
        let cursor = &mut cursors[key.stream_index];
        cursor.step(&test, &mut answer);
        heads.extend(cursor.key(key.stream_index, query.direction).map(Reverse));
    }
    Ok(answer)
}

/// Where a stream's next line belongs in the order of the answer: the smallest
/// key comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Time as a rank: reversed when searching backward.
    rank: i64,
    /// Position among the labels, also reversed.
    stream_rank: usize,
    stream_index: usize,
}

/// The place in one stream: segments `first..end` are left, and of the one in
/// turn the lines `low..high`.
struct Cursor<'a> {
    labels: &'a Labels,
    segments: &'a [Segment],
    low: usize,
    high: usize,
    is_segment_new: bool,
    start: i64,
    end: i64,
    direction: Direction,
}

impl<'a> Cursor<'a> {
    fn new(labels: &'a Labels, stream: &'a Stream, query: &LogQuery) -> Self {
        let (start, end) = (query.start_unix_nano, query.end_unix_nano);
        let first = stream.segments.partition_point(|segment| segment.last_time() < start);
        let last = stream.segments.partition_point(|segment| segment.first_time() < end);
        let segments = stream.segments.get(first..last).unwrap_or_default();
        let direction = query.direction;
        let mut cursor =
            Cursor { labels, segments, low: 0, high: 0, is_segment_new: true, start, end, direction };
        cursor.enter();
        cursor
    }

    fn segment(&self) -> Option<&'a Segment> {
        match self.direction {
            Direction::Forward => self.segments.first(),
            Direction::Backward => self.segments.last(),
        }
    }

    /// Goes to the first segment, from here on, with a line in range.
    fn enter(&mut self) {
        while let Some(segment) = self.segment() {
            self.is_segment_new = true;
            self.low = segment.first_at(self.start);
            self.high = segment.first_at(self.end);
            if self.low < self.high {
                return;
            }
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.segments = match self.direction {
            Direction::Forward => &self.segments[1..],
            Direction::Backward => &self.segments[..self.segments.len() - 1],
        };
    }

    fn next_index(&self) -> usize {
        match self.direction {
            Direction::Forward => self.low,
            Direction::Backward => self.high - 1,
        }
    }

    fn key(&self, index: usize, direction: Direction) -> Option<Key> {
        let time = self.segment()?.time(self.next_index());
        Some(match direction {
            Direction::Forward => Key { rank: time, stream_rank: index, stream_index: index },
            Direction::Backward => Key { rank: !time, stream_rank: usize::MAX - index, stream_index: index },
        })
    }

    /// Looks at the next line, or skips a segment that cannot hold a match.
    fn step(&mut self, test: &LineTest, answer: &mut LogAnswer) {
        let Some(segment) = self.segment() else { return };
        if self.is_segment_new {
            self.is_segment_new = false;
            if let Some(term) = test.contains.first() {
                answer.scanned_bytes += segment.text().len() + LINE_COST_BYTES;
                if !term.is_match(segment.text()) {
                    self.leave();
                    return self.enter();
                }
            }
        }
        let index = self.next_index();
        let line = segment.line(index);
        answer.scanned_bytes += line.len() + LINE_COST_BYTES;
        if test.matches(line) {
            answer.records.push(LogRecord {
                labels: self.labels.clone(),
                time_unix_nano: segment.time(index),
                line: line.into(),
            });
        }
        match self.direction {
            Direction::Forward => self.low += 1,
            Direction::Backward => self.high -= 1,
        }
        if self.low == self.high {
            self.leave();
            self.enter();
        }
    }
}

pub(crate) struct LineTest {
    contains: Vec<Regex>,
    excludes: Vec<Regex>,
    regex: Option<Regex>,
}

impl LineTest {
    pub fn new(query: &LogQuery) -> Result<Self, Error> {
        let count = query.matchers.len() + query.contains.len() + query.excludes.len();
        if count > TERMS_MAX {
            return Err(Error::TooManyTerms { count });
        }
        // An escaped literal becomes a plain substring search in the regex crate.
        let literals = |terms: &[String]| {
            terms.iter().map(|term| compile(&regex::escape(term))).collect::<Result<Vec<_>, _>>()
        };
        Ok(LineTest {
            contains: literals(&query.contains)?,
            excludes: literals(&query.excludes)?,
            regex: query.regex.as_deref().map(compile).transpose()?,
        })
    }

    pub fn matches(&self, line: &[u8]) -> bool {
        self.contains.iter().all(|term| term.is_match(line))
            && !self.excludes.iter().any(|term| term.is_match(line))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(line))
    }
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| Error::Regex { pattern: pattern.into(), reason: error.to_string() })
}
