//! Reading a log from a position onwards.

use crate::format::{RawHeader, SEGMENT_HEADER_BYTES, record_bytes};
use crate::log::Position;
use crate::scan::Window;
use crate::{Error, Log, Record, RecordHeader, SegmentId};
use lm_fs::Fs;

/// A place in a log; [`Cursor::next`] moves it over every synced record, once and in order.
///
/// Damaged ranges are stepped over, also those that appeared after the log was opened. The caller notices by what
/// the records say about themselves. Costs one 64 KiB buffer and one file handle.
#[derive(Debug)]
pub struct Cursor<F: Fs> {
    position: Position,
    file: Option<(SegmentId, F::File)>,
    window: Window,
}

/// A record that was found and not loaded yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub position: Position,
    pub raw: RawHeader,
}

impl Entry {
    pub fn header(&self) -> &RecordHeader {
        &self.raw.header
    }
}

impl<F: Fs> Cursor<F> {
    pub(crate) fn new(position: Position) -> Self {
        Cursor { position, file: None, window: Window::default() }
    }

    /// Where the next record is looked for.
    pub fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn seek(&mut self, position: Position) {
        self.position = position;
    }

    /// The next synced record, or `None` at the end of what is synced; call again after the next sync.
    ///
    /// # Errors
    ///
    /// The cursor stays where it is, so that a later call tries the same bytes again.
    pub fn next(&mut self, log: &Log<F>) -> Result<Option<(Position, Record)>, Error> {
        while let Some(entry) = self.step(log)? {
            if let Some(payload) = self.load(log, &entry)? {
                return Ok(Some((entry.position, Record { header: entry.raw.header, payload })));
            }
        }
        Ok(None)
    }

    /// Moves to the header of the next record. Its payload has not been verified.
    pub(crate) fn step(&mut self, log: &Log<F>) -> Result<Option<Entry>, Error> {
        loop {
            let Some(segment) = log.segment_at_or_after(self.position.segment) else { return Ok(None) };
            if segment.id != self.position.segment {
                self.position = segment.start();
            }
            self.position.offset = segment.skip_damage(self.position.offset.max(SEGMENT_HEADER_BYTES));
            if self.position.offset >= segment.end {
                match log.segment_at_or_after(segment.id.saturating_add(1)) {
                    Some(next) => self.position = next.start(),
                    None => return Ok(None),
                }
                continue;
            }
            let (end, len_max) = (segment.end, log.options().record_bytes_max);
            let at = self.position;
            self.open(log)?;
            let (file, window) = self.parts();
            let found = window
                .header(file, at.segment, at.offset, end, len_max)
                .map_err(Error::io("read", log.path(at.segment)))?;
            let Some(raw) = found else {
                let (file, window) = self.parts();
                let next = window
                    .find(file, at.segment, at.offset + 8, end, len_max)
                    .map_err(Error::io("read", log.path(at.segment)))?;
                self.position.offset = next.max(at.offset + 8);
                continue;
            };
            self.position.offset = at.offset + record_bytes(raw.len.into());
            return Ok(Some(Entry { position: at, raw }));
        }
    }

    /// The payload of an entry, or `None` if it does not verify.
    pub(crate) fn load(&mut self, log: &Log<F>, entry: &Entry) -> Result<Option<Vec<u8>>, Error> {
        let after = self.position;
        self.position = entry.position;
        self.open(log)?;
        let (file, window) = self.parts();
        let payload = window
            .payload(file, entry.position.segment, entry.position.offset, &entry.raw)
            .map_err(Error::io("read", log.path(entry.position.segment)))?
            .map(<[u8]>::to_vec);
        self.position = after;
        Ok(payload)
    }

    fn open(&mut self, log: &Log<F>) -> Result<(), Error> {
        let id = self.position.segment;
        if self.file.as_ref().is_none_or(|(open, _)| *open != id) {
            self.window.clear();
            self.file = None;
            let file = log.fs().open(&log.path(id)).map_err(Error::io("open", log.path(id)))?;
            self.file = Some((id, file));
        }
        Ok(())
    }

    fn parts(&mut self) -> (&F::File, &mut Window) {
        let (_, file) = self.file.as_ref().expect("open() was called: it sets the file or fails");
        (file, &mut self.window)
    }
}
