//! One open log file and where in it we are.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::cursor::{FINGERPRINT_BYTES_MAX, FileCursor, FileKey, Fingerprint};
use super::discover::Quiet;
use super::generation::Generation;
use super::split::next_piece;
use super::{Line, LineSink, Refusal, Room, StreamIndex};

/// The next byte to read, and proof of what is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub fingerprint: Fingerprint,
}

/// Where a file is known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a path that the globs match.
    Matched(PathBuf),
    /// Beside the path that it was followed under.
    Rotated(PathBuf, Generation),
    /// At none of these: deleted, or moved to another directory.
    Unseen,
}

/// What `fstat` says that changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub size: u64,
    modified: (i64, i64),
}

impl Seen {
    pub fn of(metadata: &Metadata) -> Self {
        Seen { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }

    pub fn modified(&self) -> (i64, i64) {
        self.modified
    }
}

pub fn key_of(metadata: &Metadata) -> FileKey {
    FileKey { device: metadata.dev(), inode: metadata.ino() }
}

/// A file that is being followed.
#[derive(Debug)]
pub struct OpenFile {
    pub key: FileKey,
    pub stream: StreamIndex,
    /// The path that it was first found at.
    pub path: PathBuf,
    pub place: Place,
    /// Files of one stream are read in this order.
    pub order: u64,
    /// An older file of the stream has to be read to its end first.
    pub waits: bool,
    pub quiet: Quiet,
    /// Never before `committed`.
    read: Position,
    committed: Position,
    /// `committed` is not what the caller last stored.
    moved: bool,
    /// The caller has the cursor of `read` and may be storing it.
    given: bool,
    at_end: bool,
    /// As of the last turn that ended at the end; `None` after a growth.
    seen: Option<Seen>,
    size_max: u64,
    file: File,
}

/// How much to read in a turn.
pub struct TurnLimits<'r> {
    pub line_bytes_max: usize,
    /// The turn ends with the line that exceeds this.
    pub turn_bytes: usize,
    /// Of the whole poll; never exceeded but by its first line.
    pub left: &'r mut Room,
    pub is_first: bool,
}

impl TurnLimits<'_> {
    /// Takes room for a line, if there is enough.
    fn take(&mut self, cost: usize) -> bool {
        let fits = self.left.lines > 0 && cost <= self.left.bytes;
        if fits || std::mem::take(&mut self.is_first) {
            self.is_first = false;
            self.left.lines = self.left.lines.saturating_sub(1);
            self.left.bytes = self.left.bytes.saturating_sub(cost);
            self.turn_bytes = self.turn_bytes.saturating_sub(cost);
            return true;
        }
        false
    }
}

/// What a turn did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Read what the turn allows; there may be more.
    Read,
    /// Read all complete lines.
    End,
    /// The next line does not fit.
    Full,
    /// The file no longer holds what was read from it. Lines that were read
    /// are not committed yet, so nothing is done about it before they are.
    AwaitsCommit,
    /// The same, and it will be read from its beginning. The number of bytes
    /// that were in it and are gone unread, as far as it was seen.
    Truncated { bytes_unread: u64 },
}

impl OpenFile {
    pub fn new(file: File, key: FileKey, path: PathBuf, place: Place, stream: StreamIndex) -> Self {
        OpenFile {
            key,
            stream,
            path,
            place,
            order: 0,
            waits: false,
            quiet: Quiet::default(),
            read: Position::default(),
            committed: Position::default(),
            // Even a position of 0 is worth storing: with it the file is
            // found again if it is renamed before the next start.
            moved: true,
            given: false,
            at_end: false,
            seen: None,
            size_max: 0,
            file,
        }
    }

    /// Goes on at the position of `cursor` if the file still holds what was
    /// read; says whether it does.
    pub fn resume(&mut self, cursor: &FileCursor) -> io::Result<bool> {
        let position = Position { offset: cursor.offset, fingerprint: cursor.fingerprint };
        let size = self.file.metadata()?.len();
        if size < position.offset || !self.holds(position.fingerprint)? {
            return Ok(false);
        }
        self.start_at(position);
        self.moved = false;
        Ok(true)
    }

    /// Skips all complete lines that are there now, or, without a line feed
    /// in the last `tail_bytes` bytes, everything.
    pub fn skip_to_end(&mut self, tail_bytes: usize) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let mut tail = vec![0; tail_bytes.min(size as usize)];
        let tail_start = size - tail.len() as u64;
        let tail_len = read_up_to(&self.file, &mut tail, tail_start)?;
        let feed = tail[..tail_len].iter().rposition(|byte| *byte == b'\n');
        let offset = match feed {
            Some(feed) => tail_start + feed as u64 + 1,
            None if tail_start == 0 => 0,
            None => size,
        };
        let mut prefix = [0; FINGERPRINT_BYTES_MAX];
        let covered = (offset as usize).min(FINGERPRINT_BYTES_MAX);
        let prefix_len = read_up_to(&self.file, &mut prefix[..covered], 0)?;
        if prefix_len < covered {
            return Ok(()); // truncated under us: begin at the beginning
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.extend(&prefix[..covered]);
        self.start_at(Position { offset, fingerprint });
        Ok(())
    }

    fn start_at(&mut self, position: Position) {
        (self.read, self.committed) = (position, position);
        self.size_max = position.offset;
    }

    /// Appends complete lines to `sink`, within `limits`.
    pub fn take_turn(
        &mut self,
        limits: &mut TurnLimits<'_>,
        time_unix_nano: i64,
        buffer: &mut [u8],
        sink: &mut LineSink,
    ) -> io::Result<Turn> {
        let line_bytes_max = limits.line_bytes_max;
        let seen = Seen::of(&self.file.metadata()?);
        if self.at_end && self.seen == Some(seen) {
            return Ok(Turn::End);
        }
        if self.seen.is_some_and(|before| before != seen) {
            self.quiet = Quiet::default();
        }
        self.at_end = false;
        while limits.turn_bytes > 0 {
            let len = read_up_to(&self.file, buffer, self.read.offset)?;
            // After reading, not before: bytes are believed only if the file
            // still was the same one when they had been read.
            if (len == 0 && self.is_shrunk()?) || !self.holds(self.read.fingerprint)? {
                return Ok(self.handle_truncated());
            }
            self.size_max = self.size_max.max(seen.size).max(self.read.offset + len as u64);
            let mut rest = &buffer[..len];
            while limits.turn_bytes > 0 {
                let Some(piece) = next_piece(rest, line_bytes_max) else { break };
                let (consumed, after) = rest.split_at(piece.consumed);
                if !limits.take(consumed.len() + size_of::<Line>()) {
                    return Ok(Turn::Full);
                }
                sink.push(self.stream, time_unix_nano, &consumed[..piece.line_len], piece.continues);
                self.read.fingerprint.extend(consumed);
                self.read.offset += consumed.len() as u64;
                rest = after;
            }
            if len < buffer.len() && next_piece(rest, line_bytes_max).is_none() {
                self.at_end = true;
                self.seen = Some(seen);
                return Ok(Turn::End);
            }
        }
        Ok(Turn::Read)
    }

    fn handle_truncated(&mut self) -> Turn {
        if self.read != self.committed {
            return Turn::AwaitsCommit;
        }
        let bytes_unread = self.bytes_unread();
        self.start_at(Position::default());
        self.moved = true;
        self.seen = None;
        Turn::Truncated { bytes_unread }
    }

    fn is_shrunk(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() < self.read.offset)
    }

    /// Whether the file begins with what `fingerprint` covers.
    fn holds(&self, fingerprint: Fingerprint) -> io::Result<bool> {
        let mut prefix = [0; FINGERPRINT_BYTES_MAX];
        let prefix = &mut prefix[..fingerprint.bytes as usize];
        let len = read_up_to(&self.file, prefix, 0)?;
        Ok(len == prefix.len() && crc32c::crc32c(prefix) == fingerprint.crc32c)
    }

    /// Bytes that were in the file when it was last looked at, and not read:
    /// lines in waiting, and the part of a last line.
    pub fn bytes_unread(&self) -> u64 {
        self.size_max.saturating_sub(self.read.offset)
    }

    /// Another file of the stream came: look again before it is read.
    pub fn must_end_again(&mut self) {
        self.at_end = false;
    }

    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Gives the turn away for the sake of younger files of the stream.
    pub fn give_up_turn(&mut self) {
        self.at_end = true;
        self.seen = None;
    }

    /// Everything that the last turn saw was given out and committed.
    pub fn was_quiet(&self) -> bool {
        self.at_end && !self.has_uncommitted()
    }

    /// The same, and it is so just now.
    pub fn is_quiet(&self) -> bool {
        let unchanged = || self.file.metadata().is_ok_and(|now| self.seen == Some(Seen::of(&now)));
        self.was_quiet() && unchanged()
    }

    pub fn seen(&self) -> Option<Seen> {
        self.seen
    }

    pub fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// The caller has to store the cursor.
    pub fn has_uncommitted(&self) -> bool {
        self.moved || self.read != self.committed
    }

    /// What was given out is stored. A file that was found after the last
    /// poll is not among it.
    pub fn commit(&mut self) {
        if std::mem::take(&mut self.given) {
            self.committed = self.read;
            self.moved = false;
        }
    }

    pub fn rollback(&mut self) {
        self.given = false;
        // An older file of the stream may have gone back as well.
        self.waits = true;
        if self.read != self.committed {
            self.read = self.committed;
            self.at_end = false;
        }
    }

    /// The cursor that goes with all lines given out so far.
    pub fn give_cursor(&mut self) -> FileCursor {
        self.given = true;
        self.cursor(self.read)
    }

    pub fn committed_cursor(&self) -> FileCursor {
        self.cursor(self.committed)
    }

    fn cursor(&self, Position { offset, fingerprint }: Position) -> FileCursor {
        FileCursor { key: self.key, fingerprint, offset, path: self.path.clone() }
    }
}

/// Opens a file that somebody else may swap for something else at any time.
///
/// A symbolic link as the last component is refused by the kernel, whatever
/// it was when the directory was listed; opening waits for nobody (FIFO) and
/// never makes a terminal ours. Directories on the way to it are trusted.
///
/// # Errors
///
/// The inner one says that there is a file, and that we do not read it.
pub fn open(path: &Path, allow_hard_links: bool) -> io::Result<Result<(File, FileKey), Refusal>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Ok(Err(Refusal::SymbolicLink)),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    Ok(match refusal(&metadata, allow_hard_links) {
        Some(refusal) => Err(refusal),
        None => Ok((file, key_of(&metadata))),
    })
}

/// Why a file is not read, by what it is.
pub fn refusal(metadata: &Metadata, allow_hard_links: bool) -> Option<Refusal> {
    match metadata.file_type() {
        kind if kind.is_symlink() => Some(Refusal::SymbolicLink),
        kind if !kind.is_file() => Some(Refusal::NotRegular),
        _ if !allow_hard_links && metadata.nlink() > 1 => Some(Refusal::HardLink),
        _ => None,
    }
}

/// Fills `buffer` from `offset` on, less only at the end of the file.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
