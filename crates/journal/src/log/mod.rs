//! A segmented append-only log: append, sync, read, roll, remove.
//!
//! Responsible for the bytes of segments and for what is durable. It does not know what records mean, when to roll
//! or what to remove; it never rolls by itself, because only its user knows the *preamble*, the records that must
//! come first in every segment so that older segments can be removed.
//!
//! Records wait in memory until [`Log::sync`] has written them in one call and synced the file. If writing or
//! syncing fails the segment is given up at its last synced byte, nothing is retried on that file, and the waiting
//! records move to a new segment, in the same call if possible and otherwise in the next one. So an error never
//! loses a record that was appended, and a call after the disk has recovered succeeds by itself.
//!
//! Read [`Log`] first, then [`crate::format`] for the bytes.

mod recover;
mod salvage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::format::{
    self, KIND_FOOTER, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, file_name, record_bytes,
};
use crate::{Cursor, Error, Record, RecordHeader, SegmentId};
use lm_fs::{File, Fs, read_full, write_all};

/// How a log behaves.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment is full at this size, but always takes its preamble and one record. Default 16 MiB.
    pub segment_bytes: u64,
    /// Largest payload. Default 8 MiB. Bounds the memory of every reader.
    pub record_bytes_max: u64,
    /// Bound on records waiting for a sync; at the bound `append` answers [`Error::NeedsSync`]. Default 4 MiB.
    pub unsynced_bytes_max: u64,
    /// Reserve disk space for a whole segment when it is created, so that a full disk is met there. Default true.
    pub preallocate: bool,
    /// Written into the header of every new segment.
    pub tag: [u8; 16],
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: 16 << 20,
            record_bytes_max: 8 << 20,
            unsynced_bytes_max: 4 << 20,
            preallocate: true,
            tag: [0; 16],
        }
    }
}

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: SegmentId,
    pub offset: u64,
}

/// What is known about a segment with synced contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub id: SegmentId,
    /// `None` if the header is damaged.
    pub tag: Option<[u8; 16]>,
    /// Where synced records end.
    pub end: u64,
    /// What the file occupies.
    pub file_bytes: u64,
    pub records: u64,
    /// Ranges found unreadable when the log was opened.
    pub damaged: Vec<Range<u64>>,
}

impl Segment {
    pub fn start(&self) -> Position {
        Position { segment: self.id, offset: SEGMENT_HEADER_BYTES }
    }

    pub(crate) fn skip_damage(&self, offset: u64) -> u64 {
        self.damaged.iter().find(|range| range.contains(&offset)).map_or(offset, |range| range.end)
    }
}

/// A range of durable bytes that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub segment: SegmentId,
    pub range: Range<u64>,
}

/// What [`Log::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    pub segments: Vec<Segment>,
    /// Corruption: these bytes had been synced once.
    pub quarantined: Vec<Quarantined>,
    /// Ranges that the disk could not read, whether or not there was anything in them.
    pub unreadable: Vec<Quarantined>,
    /// Files without a single readable record and files with unreadable bytes, renamed to `*.quarantine`.
    pub quarantined_files: Vec<PathBuf>,
    /// The torn, never acknowledged end of the last segment, now cut off.
    pub truncated: Option<Quarantined>,
}

/// What [`Log::sync`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// The segment holding everything that this call made durable, and the end of it; `None` if the log is empty.
    pub end: Option<Position>,
    /// The records moved to this segment: positions returned by `append` since the last sync are void.
    pub moved: bool,
}

/// The records to put first into a new segment.
pub type Preamble<'a> = &'a mut dyn FnMut() -> Vec<Record>;

/// A segmented append-only log. See the module documentation.
#[derive(Debug)]
pub struct Log<F: Fs> {
    fs: F,
    dir: PathBuf,
    options: LogOptions,
    segments: BTreeMap<SegmentId, Segment>,
    active: Option<Active<F::File>>,
    /// Images of records whose segment was given up before they were synced. Empty while there is an active segment.
    orphans: Vec<u8>,
    /// The last segment with durable contents before the active one, and their end.
    previous: (SegmentId, u64),
    next_id: SegmentId,
    /// Failed attempts whose files could not be removed yet.
    void: Vec<SegmentId>,
    preamble_bytes: u64,
    _lock: F::Lock,
}

/// The segment being written.
#[derive(Debug)]
struct Active<T> {
    id: SegmentId,
    tag: [u8; 16],
    file: T,
    /// Everything below is durable; 0 until the first sync.
    synced: u64,
    written: u64,
    /// The bytes from `synced` on.
    buffer: Vec<u8>,
    preamble_end: u64,
    group_end: Option<u64>,
    previous: (SegmentId, u64),
    records: u64,
    allocated: u64,
}

impl<T> Active<T> {
    fn end(&self) -> u64 {
        self.synced + self.buffer.len() as u64
    }

    fn push(&mut self, header: &RecordHeader, payload: &[u8]) -> Position {
        let offset = self.end();
        format::encode_record(&mut self.buffer, self.id, offset, self.synced, header, payload);
        self.records += 1;
        Position { segment: self.id, offset }
    }
}

impl<F: Fs> Log<F> {
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// Replaces the tag for segments made from now on.
    pub fn set_tag(&mut self, tag: [u8; 16]) {
        self.options.tag = tag;
    }

    /// Changes whether segments made from now on reserve their space.
    pub fn set_preallocate(&mut self, preallocate: bool) {
        self.options.preallocate = preallocate;
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Segments with synced contents, oldest first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.values()
    }

    /// The segment that takes appends, if there is one.
    pub fn active(&self) -> Option<SegmentId> {
        self.active.as_ref().map(|active| active.id)
    }

    /// Bytes occupied on disk or about to be: file sizes, reserved space and unsynced records.
    pub fn bytes(&self) -> u64 {
        let active_id = self.active();
        let others = self.segments.values().filter(|segment| Some(segment.id) != active_id);
        let sealed: u64 = others.map(|segment| segment.file_bytes).sum();
        let active = self.active.as_ref().map_or(0, |active| active.end().max(active.allocated));
        sealed + active + self.orphans.len() as u64
    }

    /// What [`Log::bytes`] would say after appending a payload of `len` bytes, rolling if needed.
    pub fn bytes_after(&self, len: u64) -> u64 {
        let record = record_bytes(len);
        match &self.active {
            Some(active) if !self.needs_roll(len) => {
                self.bytes() + (active.end() + record).saturating_sub(active.end().max(active.allocated))
            }
            active => {
                let slack = active.as_ref().map_or(0, |active| active.allocated.saturating_sub(active.end()));
                let reserved = if self.options.preallocate { self.options.segment_bytes } else { 0 };
                let new = SEGMENT_HEADER_BYTES + self.preamble_bytes + record;
                self.bytes() - slack + RECORD_HEADER_BYTES + new.max(reserved)
            }
        }
    }

    /// Records appended and not synced, in bytes.
    pub fn unsynced_bytes(&self) -> u64 {
        self.orphans.len() as u64 + self.active.as_ref().map_or(0, |active| active.buffer.len() as u64)
    }

    /// Whether a payload of `len` bytes needs a new segment.
    pub fn needs_roll(&self, len: u64) -> bool {
        self.active.as_ref().is_none_or(|active| {
            active.end() > active.preamble_end
                && active.end() + record_bytes(len) > self.options.segment_bytes
        })
    }

    /// Whether a payload of `len` bytes must wait for a sync.
    pub fn needs_sync(&self, len: u64) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let waiting = active.end() - active.synced.max(active.preamble_end);
            waiting > 0 && waiting + record_bytes(len) > self.options.unsynced_bytes_max
        })
    }

    /// Appends a record in memory; [`Log::sync`] makes it durable.
    ///
    /// The position is provisional until the sync: see [`Synced::moved`].
    ///
    /// # Errors
    ///
    /// `TooLarge`, `NeedsRoll` or `NeedsSync`; nothing was appended.
    ///
    /// # Panics
    ///
    /// If `header.kind` is 0 or 255, which belong to the log.
    pub fn append(&mut self, header: &RecordHeader, payload: &[u8]) -> Result<Position, Error> {
        assert!(header.kind != 0 && header.kind != KIND_FOOTER, "record kinds 0 and 255 belong to the log");
        let len = payload.len() as u64;
        if len > self.options.record_bytes_max {
            return Err(Error::TooLarge { bytes: len, bytes_max: self.options.record_bytes_max });
        }
        if self.needs_roll(len) {
            return Err(Error::NeedsRoll);
        }
        if self.needs_sync(len) {
            return Err(Error::NeedsSync);
        }
        let active = self.active.as_mut().expect("needs_roll() is true without an active segment");
        Ok(active.push(header, payload))
    }

    /// Hands unsynced records to the operating system, so that they survive the process but not a power cut.
    ///
    /// # Errors
    ///
    /// The segment is given up as after a failed sync; the records wait for the next `sync`.
    pub fn flush(&mut self) -> Result<(), Error> {
        let Some(mut active) = self.active.take() else { return Ok(()) };
        match self.write(&mut active) {
            Ok(()) => self.active = Some(active),
            Err(error) => {
                self.give_up(active);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes everything appended so far durable. `preamble` is called if a new segment is needed for that.
    ///
    /// # Errors
    ///
    /// Nothing of what was unsynced is acknowledged, all of it is kept, and the next call tries again in a new
    /// segment. Positions returned since the last successful sync are void.
    pub fn sync(&mut self, preamble: Preamble<'_>) -> Result<Synced, Error> {
        let mut moved = false;
        if let Some(mut active) = self.active.take() {
            match self.commit(&mut active) {
                Ok(()) => self.active = Some(active),
                Err(_) => self.give_up(active),
            }
        }
        if self.active.is_none() {
            if self.orphans.is_empty() {
                let end = self.segments.values().next_back();
                let end = end.map(|segment| Position { segment: segment.id, offset: segment.end });
                return Ok(Synced { end, moved });
            }
            moved = true;
            self.create(preamble)?;
            let mut active = self.active.take().expect("create() sets the active segment or fails");
            if let Err(error) = self.commit(&mut active) {
                self.give_up(active);
                return Err(error);
            }
            self.active = Some(active);
        }
        self.remove_void();
        let end = self.active.as_ref().map(|active| Position { segment: active.id, offset: active.end() });
        Ok(Synced { end, moved })
    }

    /// Syncs and seals the active segment and starts a new one with `preamble`.
    ///
    /// If the old segment cannot be synced its unsynced records move to the new one, behind the preamble. The new
    /// segment counts as existing from its first successful `sync` on: either all of what was appended by then is
    /// found again, or none of it.
    pub fn roll(&mut self, preamble: Preamble<'_>) -> Result<SegmentId, Error> {
        if let Some(active) = self.active.take() {
            self.finish(active);
        }
        self.create(preamble)
    }

    /// Syncs and seals the active segment, if there is one. The log stays usable; the next append needs a roll.
    ///
    /// # Errors
    ///
    /// As for `sync`, except that no second attempt is made.
    pub fn seal(&mut self) -> Result<(), Error> {
        let Some(mut active) = self.active.take() else { return Ok(()) };
        match self.commit(&mut active) {
            Ok(()) => {
                self.finish(active);
                Ok(())
            }
            Err(error) => {
                self.give_up(active);
                Err(error)
            }
        }
    }

    /// Reads the record at a position returned by a cursor, or by an append that was synced without moving.
    pub fn read(&self, position: Position) -> Result<Record, Error> {
        let Position { segment, offset } = position;
        let end = self.segments.get(&segment).map_or(0, |found| found.end);
        if offset >= end {
            return Err(Error::NotFound { segment, offset });
        }
        let mut cursor = Cursor::<F>::new(position);
        match cursor.step(self)? {
            Some(entry) if entry.position == position => {
                let payload = cursor.load(self, &entry)?.ok_or(Error::Corrupt { segment, offset })?;
                Ok(Record { header: entry.raw.header, payload })
            }
            _ => Err(Error::Corrupt { segment, offset }),
        }
    }

    /// A cursor that starts at `from`.
    pub fn cursor(&self, from: Position) -> Cursor<F> {
        Cursor::new(from)
    }

    /// A cursor that starts at the oldest record.
    pub fn cursor_from_start(&self) -> Cursor<F> {
        Cursor::new(Position { segment: 0, offset: SEGMENT_HEADER_BYTES })
    }

    /// Removes a segment. After a crash it may be there again.
    ///
    /// # Panics
    ///
    /// If it is the active segment.
    pub fn remove_segment(&mut self, id: SegmentId) -> Result<(), Error> {
        assert!(self.active() != Some(id), "the active segment cannot be removed: roll first");
        if !self.segments.contains_key(&id) {
            return Ok(());
        }
        match self.fs.remove(&self.path(id)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("remove", self.path(id))(error)),
        }
        self.segments.remove(&id);
        // A removal that is not durable brings back a file that was not needed: harmless, so not an error.
        let _ = self.fs.sync_dir(&self.dir);
        Ok(())
    }

    pub(crate) fn segment_at_or_after(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.range(id..).next().map(|(_, segment)| segment)
    }

    pub(crate) fn path(&self, id: SegmentId) -> PathBuf {
        self.dir.join(file_name(id))
    }

    pub(crate) fn fs(&self) -> &F {
        &self.fs
    }

    /// Starts a segment in memory and on disk, with the preamble and the orphans waiting to be written.
    fn create(&mut self, preamble: Preamble<'_>) -> Result<SegmentId, Error> {
        self.remove_void();
        let id = self.next_id;
        self.next_id += 1;
        let path = self.path(id);
        let file = self.fs.create_new(&path).map_err(Error::io("create", &path))?;
        let mut allocated = 0;
        if self.options.preallocate {
            if let Err(error) = file.allocate(self.options.segment_bytes) {
                self.discard(id);
                return Err(Error::io("reserve space for", &path)(error));
            }
            allocated = self.options.segment_bytes;
        }
        let mut active = Active {
            id,
            tag: self.options.tag,
            file,
            synced: 0,
            written: 0,
            buffer: vec![0; SEGMENT_HEADER_BYTES as usize],
            preamble_end: 0,
            group_end: None,
            previous: self.previous,
            records: 0,
            allocated,
        };
        for record in preamble() {
            active.push(&record.header, &record.payload);
        }
        active.preamble_end = active.end();
        self.preamble_bytes = active.preamble_end - SEGMENT_HEADER_BYTES;
        let orphans = std::mem::take(&mut self.orphans);
        for_each_image(&orphans, |header, payload| {
            active.push(header, payload);
        });
        self.active = Some(active);
        Ok(id)
    }

    fn write(&self, active: &mut Active<F::File>) -> Result<(), Error> {
        let end = active.end();
        if active.written == end {
            return Ok(());
        }
        if active.group_end.is_none() {
            active.group_end = Some(end);
            let (previous_id, previous_end) = active.previous;
            let (id, tag) = (active.id, active.tag);
            let header = SegmentHeader { id, tag, previous_id, previous_end, group_end: end };
            let encoded = format::encode_segment_header(&header);
            active.buffer[..encoded.len()].copy_from_slice(&encoded);
        }
        let unwritten = &active.buffer[(active.written - active.synced) as usize..];
        write_all(&active.file, unwritten, active.written)
            .map_err(Error::io("write", self.path(active.id)))?;
        active.written = end;
        Ok(())
    }

    /// Writes and syncs. On an error the caller must give the segment up.
    fn commit(&mut self, active: &mut Active<F::File>) -> Result<(), Error> {
        let end = active.end();
        if active.synced == end {
            return Ok(());
        }
        self.write(active)?;
        active.file.sync_data().map_err(Error::io("sync", self.path(active.id)))?;
        if active.synced == 0 {
            self.fs.sync_dir(&self.dir).map_err(Error::io("sync directory", &self.dir))?;
        }
        active.synced = end;
        active.buffer.clear();
        if active.buffer.capacity() as u64 > 2 * self.options.unsynced_bytes_max {
            active.buffer.shrink_to(self.options.unsynced_bytes_max as usize);
        }
        self.segments.insert(
            active.id,
            Segment {
                id: active.id,
                tag: Some(active.tag),
                end,
                file_bytes: end.max(active.allocated),
                records: active.records,
                damaged: Vec::new(),
            },
        );
        Ok(())
    }

    /// Syncs `active` and closes it with a footer, or gives it up.
    fn finish(&mut self, mut active: Active<F::File>) {
        if self.commit(&mut active).is_err() {
            return self.give_up(active);
        }
        let end = active.synced;
        let records = active.records;
        self.previous = (active.id, end);
        let footer = RecordHeader {
            kind: KIND_FOOTER,
            sequence: records,
            sequence_end: end,
            ..RecordHeader::default()
        };
        let mut image = Vec::new();
        format::encode_record(&mut image, active.id, end, end, &footer, &[]);
        // The footer is a convenience for recovery: the next segment's header repeats where this one ends, so a
        // disk that refuses the footer costs nothing.
        let file_end = end + image.len() as u64;
        let sealed = write_all(&active.file, &image, end)
            .and_then(|()| if active.allocated > file_end { active.file.set_len(file_end) } else { Ok(()) })
            .and_then(|()| active.file.sync_data());
        if let Some(segment) = self.segments.get_mut(&active.id) {
            segment.file_bytes = if sealed.is_ok() { file_end } else { file_end.max(active.allocated) };
        }
    }

    /// Gives a segment up after a failed write or sync: what was synced stays, the rest waits for a new segment.
    fn give_up(&mut self, active: Active<F::File>) {
        debug_assert!(self.orphans.is_empty(), "orphans move into a segment when it is created");
        let skip = active.preamble_end.saturating_sub(active.synced) as usize;
        self.orphans = active.buffer.get(skip..).unwrap_or_default().to_vec();
        if active.synced == 0 {
            self.discard(active.id);
            return;
        }
        self.previous = (active.id, active.synced);
        // Frees reserved space on a full disk. What it fails to cut off is void by the next segment's header.
        let cut = active.file.set_len(active.synced).is_ok();
        if let Some(segment) = self.segments.get_mut(&active.id) {
            segment.file_bytes = if cut { active.synced } else { active.end().max(active.allocated) };
        }
    }

    /// Removes the file of a segment that never came into existence.
    fn discard(&mut self, id: SegmentId) {
        if self.fs.remove(&self.path(id)).is_err() {
            self.void.push(id);
        }
    }

    fn remove_void(&mut self) {
        let void = std::mem::take(&mut self.void);
        for id in void {
            match self.fs.remove(&self.path(id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.void.push(id),
                _ => {}
            }
        }
    }
}

/// Calls `visit` for each record image in bytes that never left our memory.
fn for_each_image(images: &[u8], mut visit: impl FnMut(&RecordHeader, &[u8])) {
    let mut rest = images;
    while let Some(raw) = format::parse_record_header(rest) {
        let start = RECORD_HEADER_BYTES as usize;
        let payload = &rest[start..start + raw.len as usize];
        visit(&raw.header, payload);
        rest = &rest[record_bytes(raw.len.into()) as usize..];
    }
    debug_assert!(rest.is_empty(), "record images are whole");
}

/// The first bytes of a file, at most a segment header.
fn head(file: &impl File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES as usize];
    let count = read_full(file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}
