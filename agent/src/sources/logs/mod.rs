//! Lines of log files, each exactly once.
//!
//! [`LogsSource`] finds files by globs ([`discover`](LogsSource::discover),
//! about every second) and reads complete lines from them
//! ([`poll`](LogsSource::poll), a few times a second). What it read is not
//! final until the caller stored the lines and their cursors together and said
//! [`commit`](LogsSource::commit); after [`rollback`](LogsSource::rollback)
//! the same lines are read again. The files themselves are the only buffer.
//!
//! A file is what has a device, an inode and a beginning ([`Fingerprint`]),
//! whatever its name. What that means when files change:
//!
//! | what happens | what is read |
//! |---|---|
//! | renamed (rotation) | the old file to its end, then the new one |
//! | renamed while we were not running | found again beside its old path, with generations (`app.log.1`) that came after it |
//! | truncated, or copied and truncated | from the beginning; unread bytes are declared ([`LogEvent::Truncated`]) |
//! | deleted | the rest, if it was open |
//! | inode given to another file | the other file from its beginning |
//! | replaced by a link, a FIFO, a device | nothing |
//!
//! A truncation that is followed by the same first kilobyte and at least as
//! many bytes as were read before cannot be told from growth. A copy that
//! copytruncate leaves behind is a new file, so globs should not match it.
//!
//! A line is given out without its `\n` or `\r\n` and otherwise as it is,
//! UTF-8 or not. A last line without a line feed waits and does not move the
//! cursor. A line longer than [`LogsOptions::line_bytes_max`] comes as several
//! records ([`Line::continues`]), so memory is bounded; these do move it.

mod cursor;
mod discover;
mod file;
mod generation;
mod split;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lm_model::Labels;

pub use cursor::{CursorError, FINGERPRINT_BYTES_MAX, FileCursor, FileKey, Fingerprint};
use discover::Parked;
use file::{OpenFile, Turn, TurnLimits};

/// Bytes read at a time, unless a longest line needs more.
const READ_BYTES: usize = 64 << 10;

/// Events that wait for a commit. At this bound nothing more is read until
/// they are committed, so none goes undeclared.
const EVENTS_MAX: usize = 1024;

/// What to read.
#[derive(Clone, Debug)]
pub struct LogsOptions {
    /// Shell patterns of absolute paths: `*`, `?`, `[a-z]`, and `**` for any
    /// depth. Names that are not UTF-8 are not matched.
    pub globs: Vec<String>,
    /// Files that are left out though a glob matches: patterns of paths, or,
    /// without a `/`, of names. Default: what compressors write.
    pub exclude: Vec<String>,
    /// Default 64 KiB.
    pub line_bytes_max: usize,
    /// Where to begin with files that the first discovery finds when there
    /// are no cursors at all: the agent never followed a file before. Those
    /// that come later, also while it is stopped, are read from their
    /// beginning.
    pub from: ReadFrom,
    /// Files that are followed at the same time. More wait until one of these
    /// is quiet. Default 1,024.
    pub open_files_max: usize,
    /// Files whose cursors are remembered, open or not. More are not read
    /// until others are deleted. Default 16,384.
    pub files_max: usize,
    /// What one file may use of a poll before others have a turn. Default
    /// 256 KiB.
    pub file_budget_bytes: usize,
    /// Read files that have a second name. By default they are refused, since
    /// who may write to a log directory could link somebody else's file there.
    pub allow_hard_links: bool,
}

impl Default for LogsOptions {
    fn default() -> Self {
        let compressed = ["*.gz", "*.bz2", "*.xz", "*.zst", "*.lz4", "*.zip"];
        LogsOptions {
            globs: Vec::new(),
            exclude: compressed.map(String::from).into(),
            line_bytes_max: 64 << 10,
            from: ReadFrom::End,
            open_files_max: 1024,
            files_max: 16_384,
            file_budget_bytes: 256 << 10,
            allow_hard_links: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    Beginning,
    End,
}

/// The options make no sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log file pattern {pattern:?}: {source}")]
    Pattern { pattern: String, source: glob::PatternError },
    #[error("log file pattern {pattern:?} is not an absolute path")]
    RelativePattern { pattern: String },
    #[error("{option} must be more than 0")]
    Zero { option: &'static str },
}

/// Names a log stream, the lines of one path, while this source lives. Never
/// given to another stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIndex(pub u32);

/// Where in [`LineSink::bytes`] a line is, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub stream: StreamIndex,
    pub time_unix_nano: i64,
    pub range: Range<usize>,
    /// The line was longer than allowed; the next of the stream is more of it.
    pub continues: bool,
}

/// What a batch has room for.
#[derive(Clone, Debug)]
pub struct Room {
    /// Of lines with what they take in memory, and of paths of streams.
    pub bytes: usize,
    pub lines: usize,
    /// Different streams.
    pub streams: usize,
    /// What a stream takes beside its path.
    pub stream_bytes: usize,
}

/// What was read and not yet committed. Lines are added by each poll; the
/// other lists are made anew and stand for all polls since the last commit.
#[derive(Debug, Default)]
pub struct LineSink {
    pub bytes: Vec<u8>,
    pub lines: Vec<Line>,
    /// Positions after these lines, to be stored with them. A file that was
    /// only just found may have a cursor and no lines.
    pub cursors: Vec<FileCursor>,
    /// Files that are gone: cursors of theirs need not be kept.
    pub forgotten: Vec<FileKey>,
    pub events: Vec<LogEvent>,
}

impl LineSink {
    /// Forgets everything and keeps the memory. To be called after every
    /// commit and every rollback.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.cursors.clear();
        self.forgotten.clear();
        self.events.clear();
    }

    /// Nothing to store.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
            && self.cursors.is_empty()
            && self.forgotten.is_empty()
            && self.events.is_empty()
    }

    pub fn line(&self, line: &Line) -> &[u8] {
        &self.bytes[line.range.clone()]
    }

    fn push(&mut self, stream: StreamIndex, time_unix_nano: i64, line: &[u8], continues: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.lines.push(Line { stream, time_unix_nano, range: start..self.bytes.len(), continues });
    }
}

/// Something happened to a file that may have cost lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// The file no longer holds what was read, and is read from its beginning.
    /// `None`: it happened while we were not running.
    Truncated { path: PathBuf, bytes_unread: Option<u64> },
    /// The file is gone, and its last bytes were never a complete line.
    Unterminated { path: PathBuf, bytes_unread: u64 },
    /// The file was deleted while it was not open. Whether it had grown
    /// before is not known.
    Vanished { path: PathBuf },
}

impl LogEvent {
    pub fn path(&self) -> &Path {
        match self {
            LogEvent::Truncated { path, .. }
            | LogEvent::Unterminated { path, .. }
            | LogEvent::Vanished { path } => path,
        }
    }

    /// Bytes that are known to be lost.
    pub fn bytes_lost(&self) -> u64 {
        match self {
            LogEvent::Truncated { bytes_unread, .. } => bytes_unread.unwrap_or(0),
            LogEvent::Unterminated { bytes_unread, .. } => *bytes_unread,
            LogEvent::Vanished { .. } => 0,
        }
    }
}

/// Why something that a glob matches is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    SymbolicLink,
    /// A directory, FIFO, socket or device.
    NotRegular,
    HardLink,
}

/// What a discovery came upon. The same is reported every time it is seen.
#[derive(Debug, Default)]
pub struct DiscoverReport {
    pub refused: Vec<(PathBuf, Refusal)>,
    pub errors: Vec<(PathBuf, io::Error)>,
    /// Files that are not followed because of a bound.
    pub waiting: usize,
}

/// What a poll did.
#[derive(Debug, Default)]
pub struct PollOutcome {
    pub line_count: usize,
    /// There is more than there was room for.
    pub has_more: bool,
    /// Files that could not be read this time.
    pub errors: Vec<(PathBuf, io::Error)>,
}

/// Follows log files.
pub struct LogsSource {
    options: LogsOptions,
    exclude: Vec<glob::Pattern>,
    open: Vec<OpenFile>,
    parked: HashMap<FileKey, Parked>,
    /// Nothing was ever followed and nothing was looked for yet.
    is_first_look: bool,
    next_order: u64,
    streams: HashMap<PathBuf, StreamIndex>,
    labels: BTreeMap<StreamIndex, Labels>,
    next_stream: u32,
    /// Of `open`; who has the first turn in the next poll.
    first_turn: usize,
    buffer: Box<[u8]>,
    /// Given out by every poll until they are committed.
    events: Vec<LogEvent>,
    forgotten: Vec<FileKey>,
    /// How many of them the last poll gave out; discoveries add more.
    events_given: usize,
    forgotten_given: usize,
}

impl LogsSource {
    /// Follows nothing before the first [`discover`](Self::discover).
    ///
    /// `cursors` are those of the last run that were stored.
    pub fn new(options: LogsOptions, cursors: Vec<FileCursor>) -> Result<Self, Error> {
        let pattern = |pattern: &String| {
            let parsed = glob::Pattern::new(pattern);
            parsed.map_err(|source| Error::Pattern { pattern: pattern.clone(), source })
        };
        for glob in &options.globs {
            pattern(glob)?;
            if !glob.starts_with('/') {
                return Err(Error::RelativePattern { pattern: glob.clone() });
            }
        }
        let bounds = [
            ("line_bytes_max", options.line_bytes_max),
            ("open_files_max", options.open_files_max),
            ("files_max", options.files_max),
            ("file_budget_bytes", options.file_budget_bytes),
        ];
        if let Some((option, _)) = bounds.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Zero { option });
        }
        let read_bytes = READ_BYTES.max(split::enough_bytes(options.line_bytes_max));
        Ok(LogsSource {
            exclude: options.exclude.iter().map(pattern).collect::<Result<_, _>>()?,
            open: Vec::new(),
            is_first_look: cursors.is_empty(),
            parked: cursors.into_iter().map(|cursor| (cursor.key, Parked::restored(cursor))).collect(),
            next_order: 0,
            streams: HashMap::new(),
            labels: BTreeMap::new(),
            next_stream: 0,
            first_turn: 0,
            buffer: vec![0; read_bytes].into(),
            events: Vec::new(),
            forgotten: Vec::new(),
            events_given: 0,
            forgotten_given: 0,
            options,
        })
    }

    /// Reads complete lines, and adds them to `sink` with the cursors and
    /// events that go with them.
    ///
    /// Stops before the first line that does not fit `room`, which is for the
    /// lines of this poll; only the first one may exceed it. Files have turns;
    /// each poll begins with another. A poll with nothing new costs one
    /// `fstat` a file.
    pub fn poll(&mut self, room: &Room, now_unix_nano: i64, sink: &mut LineSink) -> PollOutcome {
        let mut outcome = PollOutcome::default();
        let line_count_before = sink.lines.len();
        let mut left = room.clone();
        let mut streams = HashSet::new();
        let mut is_done = vec![false; self.open.len()];
        let mut progress = true;
        while progress && !outcome.has_more {
            progress = false;
            for turn in 0..self.open.len() {
                let at = (self.first_turn + turn) % self.open.len();
                if outcome.has_more || is_done[at] || self.must_wait(at) {
                    continue;
                }
                let stream = self.open[at].stream;
                let mut turn_left = left.clone();
                if !streams.contains(&stream) {
                    let name_bytes = self.open[at].path.as_os_str().len();
                    turn_left.bytes = left.bytes.saturating_sub(room.stream_bytes + name_bytes);
                    // Exhausted unless this is the first stream.
                    turn_left.lines = if left.streams == 0 { 0 } else { left.lines };
                }
                let given = sink.lines.len();
                let is_first = given == line_count_before;
                is_done[at] = self.take_turn(at, &mut turn_left, is_first, now_unix_nano, sink, &mut outcome);
                if sink.lines.len() > given {
                    left.streams -= usize::from(streams.insert(stream)).min(left.streams);
                    (left.bytes, left.lines) = (turn_left.bytes, turn_left.lines);
                }
                progress = true;
            }
        }
        self.first_turn = self.first_turn.wrapping_add(1) % self.open.len().max(1);
        sink.cursors.clear();
        let uncommitted = self.open.iter_mut().filter(|file| file.has_uncommitted());
        sink.cursors.extend(uncommitted.map(OpenFile::give_cursor));
        sink.events.clone_from(&self.events);
        sink.forgotten.clone_from(&self.forgotten);
        (self.events_given, self.forgotten_given) = (self.events.len(), self.forgotten.len());
        outcome.line_count = sink.lines.len() - line_count_before;
        outcome
    }

    /// Everything that polls gave out since the last commit is stored.
    pub fn commit(&mut self) {
        self.open.iter_mut().for_each(OpenFile::commit);
        self.events.drain(..std::mem::take(&mut self.events_given));
        self.forgotten.drain(..std::mem::take(&mut self.forgotten_given));
    }

    /// Nothing since the last commit is stored: the next polls give out the
    /// same lines and events again.
    pub fn rollback(&mut self) {
        self.open.iter_mut().for_each(OpenFile::rollback);
        (self.events_given, self.forgotten_given) = (0, 0);
    }

    /// The labels of a stream: `filename`. Known at least until the commit of
    /// its last line.
    pub fn labels(&self, stream: StreamIndex) -> Option<&Labels> {
        self.labels.get(&stream)
    }

    /// The committed cursors of all files.
    pub fn cursors(&self) -> impl Iterator<Item = FileCursor> {
        let open = self.open.iter().map(OpenFile::committed_cursor);
        open.chain(self.parked.values().map(|parked| parked.cursor.clone()))
    }

    pub fn open_file_count(&self) -> usize {
        self.open.len()
    }

    /// Takes what was read from `left`, and returns whether the file is done
    /// for this poll.
    fn take_turn(
        &mut self,
        at: usize,
        left: &mut Room,
        is_first: bool,
        now_unix_nano: i64,
        sink: &mut LineSink,
        outcome: &mut PollOutcome,
    ) -> bool {
        let file = &mut self.open[at];
        if self.events.len() >= EVENTS_MAX {
            return true;
        }
        let mut limits = TurnLimits {
            line_bytes_max: self.options.line_bytes_max,
            turn_bytes: self.options.file_budget_bytes,
            left,
            is_first,
        };
        match file.take_turn(&mut limits, now_unix_nano, &mut self.buffer, sink) {
            Ok(Turn::Read) => false,
            Ok(Turn::End | Turn::AwaitsCommit) => true,
            Ok(Turn::Full) => {
                outcome.has_more = true;
                true
            }
            Ok(Turn::Truncated { bytes_unread }) => {
                let (path, bytes_unread) = (file.path.clone(), Some(bytes_unread));
                self.events.push(LogEvent::Truncated { path, bytes_unread });
                false
            }
            Err(error) => {
                outcome.errors.push((file.path.clone(), error));
                file.give_up_turn();
                true
            }
        }
    }

    /// Whether an older file of the stream is not at its end yet.
    fn must_wait(&mut self, at: usize) -> bool {
        let file = &self.open[at];
        if !file.waits {
            return false;
        }
        let is_before = |other: &OpenFile| other.stream == file.stream && other.order < file.order;
        let waits = self.open.iter().any(|other| is_before(other) && !other.is_at_end());
        self.open[at].waits = waits;
        waits
    }

    fn stream(&mut self, path: &Path) -> StreamIndex {
        if let Some(stream) = self.streams.get(path) {
            return *stream;
        }
        let stream = StreamIndex(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(path.to_owned(), stream);
        self.labels.insert(stream, Labels::from_pairs([("filename", path.to_string_lossy())]));
        stream
    }
}

#[cfg(test)]
mod tests;
