//! Pages on their way into the file, in the order in which they become full.

use std::fmt;
use std::path::{Path, PathBuf};

use lm_fs::{File, Fs, write_all};

use crate::block::error::Error;
use crate::block::format::{self, HEADER_BYTES, Hull, PageEntry, PageKind};

/// The file is written in pieces of this size.
const WRITE_BYTES: usize = 1 << 20;

/// The file under its temporary name.
pub(super) struct Pages<F: Fs> {
    fs: F,
    /// The name it will have.
    path: PathBuf,
    temporary: PathBuf,
    file: F::File,
    waiting: Vec<u8>,
    written: u64,
    /// By number; nothing for pages that are still open.
    entries: Vec<Option<PageEntry>>,
    compressor: zstd::bulk::Compressor<'static>,
    is_finished: bool,
}

impl<F: Fs> Pages<F> {
    pub fn create(fs: &F, path: &Path, zstd_level: i32) -> Result<Self, Error> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = match fs.create_new(&temporary) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                fs.remove(&temporary).map_err(Error::io("remove", &temporary))?;
                fs.create_new(&temporary)
            }
            other => other,
        }
        .map_err(Error::io("create", &temporary))?;
        let compressor = zstd::bulk::Compressor::new(zstd_level).map_err(Error::io("compress", path))?;
        Ok(Pages {
            fs: fs.clone(),
            path: path.to_path_buf(),
            temporary,
            file,
            // The header is written last.
            waiting: vec![0; HEADER_BYTES],
            written: 0,
            entries: Vec::new(),
            compressor,
            is_finished: false,
        })
    }

    /// The number of a page that will be written.
    pub fn begin(&mut self) -> u32 {
        self.entries.push(None);
        (self.entries.len() - 1) as u32
    }

    /// Writes a page, compressed if that helps.
    pub fn write(&mut self, page: u32, kind: PageKind, raw: &[u8], hull: Hull) -> Result<(), Error> {
        let compressed = self.compressor.compress(raw).map_err(Error::io("compress", &self.path))?;
        if compressed.len() < raw.len() {
            self.put(page, kind, &compressed, raw.len(), hull)
        } else {
            self.put(page, kind, raw, 0, hull)
        }
    }

    /// Writes a page whose bytes are dense already.
    pub fn write_dense(&mut self, page: u32, kind: PageKind, bytes: &[u8], hull: Hull) -> Result<(), Error> {
        self.put(page, kind, bytes, 0, hull)
    }

    fn put(
        &mut self,
        page: u32,
        kind: PageKind,
        stored: &[u8],
        raw_bytes: usize,
        hull: Hull,
    ) -> Result<(), Error> {
        debug_assert!(stored.len().max(raw_bytes) <= format::PAGE_BYTES_MAX);
        self.entries[page as usize] = Some(PageEntry {
            kind,
            offset: self.len(),
            stored_bytes: stored.len() as u32,
            raw_bytes: raw_bytes as u32,
            crc: crc32c::crc32c(stored),
            hull,
        });
        self.waiting.extend_from_slice(stored);
        if self.waiting.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Bytes of the file so far.
    fn len(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    fn flush(&mut self) -> Result<(), Error> {
        write_all(&self.file, &self.waiting, self.written).map_err(Error::io("write", &self.temporary))?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// The directory's part: all pages have been written.
    pub fn entries(&self) -> Vec<PageEntry> {
        self.entries.iter().map(|entry| entry.expect("a page that began was written")).collect()
    }

    /// Writes directory, trailer and header, syncs, and gives the file its name. Returns its length.
    pub fn finish(mut self, id: u64, directory: &[u8]) -> Result<u64, Error> {
        let trailer = format::trailer(self.len(), directory);
        self.waiting.extend_from_slice(directory);
        self.waiting.extend_from_slice(&trailer);
        self.flush()?;
        let io = |action| Error::io(action, &self.temporary);
        write_all(&self.file, &format::header(id), 0).map_err(io("write"))?;
        self.file.sync_data().map_err(io("sync"))?;
        match self.fs.open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look for", &self.path)(error)),
            Ok(_) => {
                return Err(Error::io("create", &self.path)(std::io::ErrorKind::AlreadyExists.into()));
            }
        }
        self.fs.rename(&self.temporary, &self.path).map_err(io("rename"))?;
        self.is_finished = true;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        self.fs.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(self.written)
    }
}

impl<F: Fs> Drop for Pages<F> {
    fn drop(&mut self) {
        if !self.is_finished {
            // If that fails too, the next block of this name overwrites it.
            let _ = self.fs.remove(&self.temporary);
        }
    }
}

impl<F: Fs> fmt::Debug for Pages<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("path", &self.path).field("bytes", &self.len()).finish_non_exhaustive()
    }
}

/// A page of many small things, open until it has [`Open::FULL_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Open {
    page: Option<u32>,
    pub raw: Vec<u8>,
    pub hull: Option<Hull>,
}

impl Open {
    const FULL_BYTES: usize = 64 << 10;

    /// The page's number and where the next thing begins in it.
    pub fn place<F: Fs>(&mut self, pages: &mut Pages<F>) -> (u32, u32) {
        (*self.page.get_or_insert_with(|| pages.begin()), self.raw.len() as u32)
    }

    pub fn added(&mut self, series: u32, time_first: i64, time_last: i64) {
        self.hull.get_or_insert(Hull::EMPTY).add(series, time_first, time_last);
    }

    pub fn close_if_full<F: Fs>(&mut self, pages: &mut Pages<F>, kind: PageKind) -> Result<(), Error> {
        if self.raw.len() < Self::FULL_BYTES { Ok(()) } else { self.close(pages, kind) }
    }

    pub fn close<F: Fs>(&mut self, pages: &mut Pages<F>, kind: PageKind) -> Result<(), Error> {
        if let Some(page) = self.page.take() {
            pages.write(page, kind, &self.raw, self.hull.take().unwrap_or(Hull::EMPTY))?;
            self.raw.clear();
        }
        Ok(())
    }
}
