//! [`Block`]: answers from one block.

mod pages;
mod samples;
mod select;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lm_fs::{File, Fs, read_full};
use lm_model::{Labels, TimeRange};

use super::error::{Error, Part};
use super::format::{self, Directory, HEADER_BYTES, PAGE_SERIES, TRAILER_BYTES};
use super::series::{Chunks, SeriesPage};
use super::{BlockMeta, BlockStats, PageCache};

pub(super) use self::pages::Recent;

/// A series of one block, by its place in the order of labels.
pub type SeriesIndex = u32;

/// Directories larger than this are not read: about ten million columns or pages.
const DIRECTORY_BYTES_MAX: usize = 256 << 20;

/// An open block. Answers `&self` from many threads; keeps in memory the directory of its pages, its label names and
/// the extent of its timestamp columns, and reads the rest through the cache.
pub struct Block<F: Fs> {
    path: PathBuf,
    file: Arc<F::File>,
    cache: Arc<PageCache>,
    directory: Arc<Directory>,
}

impl<F: Fs> Block<F> {
    /// Opens the block and verifies header, footer and directory; pages are verified when they are read.
    pub fn open(fs: &F, path: &Path, cache: Arc<PageCache>) -> Result<Self, Error> {
        let file = fs.open(path).map_err(Error::io("open", path))?;
        let file_bytes = file.len().map_err(Error::io("look at", path))?;
        if file_bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(Error::whole(path, Part::Footer, 0, "the file is too short"));
        }
        let read = |buffer: &mut [u8], offset, part| {
            let count = read_full(&file, buffer, offset).map_err(Error::io("read", path))?;
            if count == buffer.len() {
                Ok(())
            } else {
                Err(Error::whole(path, part, offset, "the file ends early"))
            }
        };
        let mut header = [0; HEADER_BYTES];
        read(&mut header, 0, Part::Header)?;
        let id = format::read_header(path, &header)?;
        let mut trailer = [0; TRAILER_BYTES];
        read(&mut trailer, file_bytes - TRAILER_BYTES as u64, Part::Footer)?;
        let (offset, len, crc) = format::read_trailer(path, &trailer, file_bytes)?;
        let damaged = |reason| Error::whole(path, Part::Footer, offset, reason);
        if len > DIRECTORY_BYTES_MAX {
            return Err(damaged("the directory is too large"));
        }
        let mut bytes = vec![0; len];
        read(&mut bytes, offset, Part::Footer)?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(damaged("checksum mismatch"));
        }
        let directory = Directory::decode(&bytes, offset).map_err(|malformed| damaged(malformed.0))?;
        if directory.meta.id != id {
            return Err(damaged("header and directory are of two blocks"));
        }
        Ok(Block { path: path.to_path_buf(), file: Arc::new(file), cache, directory: Arc::new(directory) })
    }

    /// The same block, with its pages kept elsewhere.
    pub(super) fn with_cache(&self, cache: Arc<PageCache>) -> Self {
        let Block { path, file, directory, .. } = self;
        Block { path: path.clone(), file: file.clone(), cache, directory: directory.clone() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.directory.meta
    }

    pub fn stats(&self) -> &BlockStats {
        &self.directory.stats
    }

    /// Half-open range of the samples.
    pub fn times(&self) -> TimeRange {
        self.directory.stats.times()
    }

    pub fn series_count(&self) -> u32 {
        self.directory.stats.series as u32
    }

    /// Estimated memory that the open block holds outside of the cache.
    pub fn resident_bytes(&self) -> usize {
        let Directory { meta, pages, columns, series_pages, names, values_pages, .. } = &*self.directory;
        size_of::<Self>()
            + meta.covered.len()
            + size_of_val(&pages[..])
            + size_of_val(&columns[..])
            + size_of_val(&series_pages[..])
            + names.iter().map(|name| size_of_val(name) + name.name.len() + 16).sum::<usize>()
            + values_pages.iter().map(|page| size_of_val(page) + page.value_first.len() + 16).sum::<usize>()
    }

    pub fn labels(&self, series: SeriesIndex) -> Result<Labels, Error> {
        let mut labels = Labels::empty();
        self.visit_labels(&[series], |_, pairs| labels = Labels::from_pairs(pairs.iter().copied()))?;
        Ok(labels)
    }

    /// Shows the labels of `series` (ascending) without building [`Labels`]: pairs ascending by name.
    pub fn visit_labels(
        &self,
        series: &[SeriesIndex],
        mut visit: impl FnMut(SeriesIndex, &[(&str, &str)]),
    ) -> Result<(), Error> {
        let mut texts = pages::Texts::default();
        let mut pairs = Vec::new();
        let mut page = None;
        for at in series {
            self.pairs(*at, &mut page, &mut pairs)?;
            let mut places = Vec::with_capacity(pairs.len());
            for pair in &pairs {
                places.push(texts.place(self, *pair)?);
            }
            let shown: Vec<(&str, &str)> = places
                .iter()
                .zip(&pairs)
                .filter_map(|(place, pair)| Some((&*self.name_of(*pair)?.name, texts.value(*place)?)))
                .collect();
            if shown.len() != pairs.len() {
                return Err(self.damaged_series(*at, "a label that is nowhere"));
            }
            visit(*at, &shown);
            texts.trim();
        }
        Ok(())
    }

    /// The numbers of the series' pairs. `page` is the page that was needed last.
    pub(super) fn pairs(
        &self,
        series: SeriesIndex,
        page: &mut Option<(u32, Arc<SeriesPage>)>,
        pairs: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let (page, at) = self.series_page(series, page)?;
        page.series(at, pairs).map_err(|malformed| self.damaged_series(series, malformed.0)).map(drop)
    }

    /// Where the samples of a series are.
    fn chunks<'a>(
        &self,
        series: SeriesIndex,
        page: &'a mut Option<(u32, Arc<SeriesPage>)>,
    ) -> Result<Chunks<'a>, Error> {
        let (page, at) = self.series_page(series, page)?;
        page.chunks(at).map_err(|malformed| self.damaged_series(series, malformed.0))
    }

    /// The page that a series is in, and its place there.
    fn series_page<'a>(
        &self,
        series: SeriesIndex,
        page: &'a mut Option<(u32, Arc<SeriesPage>)>,
    ) -> Result<(&'a SeriesPage, usize), Error> {
        let number = series / PAGE_SERIES as u32;
        if page.as_ref().is_none_or(|(known, _)| *known != number) {
            *page = Some((number, self.read_series_page(number)?));
        }
        let (_, page) = page.as_ref().expect("it was filled above");
        Ok((page, series as usize % PAGE_SERIES))
    }
}

impl<F: Fs> fmt::Debug for Block<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Directory { meta, stats, .. } = &*self.directory;
        f.debug_struct("Block").field("path", &self.path).field("meta", meta).field("stats", stats).finish()
    }
}
