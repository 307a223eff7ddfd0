//! Pages of a block, verified, decoded and cached.

use std::cell::RefCell;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use lm_fs::{Fs, read_full};

use super::{Block, SeriesIndex};
use crate::block::cache::{Key, Page};
use crate::block::error::{Damage, Error, Part};
use crate::block::format::{NameEntry, PAGE_SERIES, PageEntry, PageKind};
use crate::block::labels::ValuesPage;
use crate::block::series::SeriesPage;
use crate::codec::group::Group;
use crate::codec::{Malformed, ints};

thread_local! {
    /// Its memory is as large as a page, so it is kept.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Pages that the series before needed. Its neighbours need the same ones, and do not ask the cache again.
#[derive(Debug, Default)]
pub(in crate::block) struct Recent {
    pub series: Option<(u32, Arc<SeriesPage>)>,
    column: Option<(u32, Arc<Vec<i64>>)>,
    values: Option<(u32, Arc<Vec<u8>>)>,
}

impl Recent {
    pub fn column<F: Fs>(&mut self, block: &Block<F>, number: u32) -> Result<Arc<Vec<i64>>, Error> {
        match &self.column {
            Some((known, column)) if *known == number => Ok(column.clone()),
            _ => Ok(self.column.insert((number, block.column(number)?)).1.clone()),
        }
    }

    pub fn values<F: Fs>(&mut self, block: &Block<F>, number: u32) -> Result<Arc<Vec<u8>>, Error> {
        match &self.values {
            Some((known, values)) if *known == number => Ok(values.clone()),
            _ => Ok(self.values.insert((number, block.bytes(number, PageKind::Values)?)).1.clone()),
        }
    }
}

impl<F: Fs> Block<F> {
    /// The page as it is used, from the cache or the file.
    pub(super) fn page(&self, number: u32, kind: PageKind) -> Result<Page, Error> {
        let id = self.directory.meta.id;
        if let Some(page) = self.cache.find(id, Key::Page(number)) {
            return Ok(page);
        }
        let entry = self.directory.pages.get(number as usize).filter(|entry| entry.kind == kind);
        let entry = entry.ok_or_else(|| {
            Error::whole(&self.path, kind.part(), 0, "a page that the directory does not have")
        })?;
        let page = self.load(entry)?;
        self.cache.keep(id, Key::Page(number), page.clone());
        Ok(page)
    }

    pub(super) fn load(&self, entry: &PageEntry) -> Result<Page, Error> {
        let raw = self.read_raw(entry)?;
        let parsed = match entry.kind {
            PageKind::Values | PageKind::Histograms | PageKind::Times | PageKind::Postings => {
                Ok(Page::Bytes(Arc::new(raw)))
            }
            PageKind::Group => Group::parse(raw).map(Arc::new).map(Page::Group),
            PageKind::Series => SeriesPage::parse(raw).map(Arc::new).map(Page::Series),
            PageKind::LabelValues => ValuesPage::parse(&raw).map(Arc::new).map(Page::Values),
        };
        parsed.map_err(|malformed| self.damaged(entry, malformed.0))
    }

    fn read_raw(&self, entry: &PageEntry) -> Result<Vec<u8>, Error> {
        // Both lengths have a bound that was checked when the directory was read.
        let mut stored = vec![0; entry.stored_bytes as usize];
        let count =
            read_full(&*self.file, &mut stored, entry.offset).map_err(Error::io("read", &self.path))?;
        if count != stored.len() {
            return Err(self.damaged(entry, "the file ends early"));
        }
        if crc32c::crc32c(&stored) != entry.crc {
            return Err(self.damaged(entry, "checksum mismatch"));
        }
        if entry.raw_bytes == 0 {
            return Ok(stored);
        }
        let decompressed = ZSTD.with_borrow_mut(|zstd| {
            if zstd.is_none() {
                *zstd = Some(zstd::bulk::Decompressor::new()?);
            }
            zstd.as_mut().expect("it was made above").decompress(&stored, entry.raw_bytes as usize)
        });
        match decompressed {
            Ok(raw) if raw.len() == entry.raw_bytes as usize => Ok(raw),
            _ => Err(self.damaged(entry, "zstd refuses it")),
        }
    }

    /// Bytes of a page that stay bytes.
    pub(super) fn bytes(&self, number: u32, kind: PageKind) -> Result<Arc<Vec<u8>>, Error> {
        match self.page(number, kind)? {
            Page::Bytes(bytes) => Ok(bytes),
            _ => Err(self.mixed_up(number)),
        }
    }

    pub(super) fn group(&self, number: u32) -> Result<Arc<Group>, Error> {
        match self.page(number, PageKind::Group)? {
            Page::Group(group) => Ok(group),
            _ => Err(self.mixed_up(number)),
        }
    }

    pub(super) fn read_series_page(&self, at: u32) -> Result<Arc<SeriesPage>, Error> {
        let Some(number) = self.directory.series_pages.get(at as usize) else {
            return Err(Error::whole(&self.path, Part::Series, 0, "a series that the block does not have"));
        };
        match self.page(*number, PageKind::Series)? {
            Page::Series(page) => Ok(page),
            _ => Err(self.mixed_up(*number)),
        }
    }

    /// The values page with a pair, by its place in the directory, and the pairs in it; nothing behind the last pair.
    pub(in crate::block) fn values_page_of(&self, pair: u32) -> Option<(usize, std::ops::Range<u32>)> {
        let pages = &self.directory.values_pages;
        let at = pages.partition_point(|page| page.pair_first <= pair).checked_sub(1)?;
        Some((at, self.values_range(at))).filter(|(_, range)| range.contains(&pair))
    }

    /// The values page at a place in the directory.
    pub(in crate::block) fn values_page(&self, at: usize) -> Result<Arc<ValuesPage>, Error> {
        let number = self.directory.values_pages[at].page;
        let page = match self.page(number, PageKind::LabelValues)? {
            Page::Values(page) => page,
            _ => return Err(self.mixed_up(number)),
        };
        let pairs = self.values_range(at);
        if page.len() != pairs.len() {
            let entry = &self.directory.pages[number as usize];
            return Err(self.damaged(entry, "another number of label values"));
        }
        Ok(page)
    }

    /// Pairs of the values page at a place in the directory.
    pub(super) fn values_range(&self, at: usize) -> std::ops::Range<u32> {
        let pages = &self.directory.values_pages;
        let end = pages.get(at + 1).map_or(self.directory.stats.pairs as u32, |next| next.pair_first);
        pages[at].pair_first..end
    }

    /// The timestamps of a column.
    pub(super) fn column(&self, number: u32) -> Result<Arc<Vec<i64>>, Error> {
        let id = self.directory.meta.id;
        if let Some(Page::Column(times)) = self.cache.find(id, Key::Column(number)) {
            return Ok(times);
        }
        let Some(column) = self.directory.columns.get(number as usize) else {
            return Err(Error::whole(&self.path, Part::Times, 0, "a column that the block does not have"));
        };
        let bytes = self.bytes(column.page, PageKind::Times)?;
        let mut times = Vec::with_capacity((column.len as usize).min(crate::codec::RUN_SAMPLES_MAX));
        let decoded = bytes
            .get(column.offset as usize..)
            .ok_or(Malformed("a column outside of its page"))
            .and_then(|bytes| ints::decode(bytes, column.len as usize, &mut times));
        let is_as_promised = decoded.is_ok()
            && times.is_sorted_by(|a, b| a < b)
            && (times.first(), times.last()) == (Some(&column.first), Some(&column.last));
        if !is_as_promised {
            let entry = &self.directory.pages[column.page as usize];
            let reason =
                decoded.err().map_or("a column is not as the directory says", |malformed| malformed.0);
            return Err(self.damaged(entry, reason));
        }
        let times = Arc::new(times);
        self.cache.keep(id, Key::Column(number), Page::Column(times.clone()));
        Ok(times)
    }

    /// A label name by its place in the order of names.
    pub(in crate::block) fn name_at(&self, at: usize) -> Option<&str> {
        self.directory.names.get(at).map(|name| &*name.name)
    }

    /// Behind the last pair of the name at a place in the order of names.
    pub(in crate::block) fn name_end(&self, at: usize) -> Option<u32> {
        self.directory.names.get(at).map(|name| name.pair_end)
    }

    /// The name of a pair.
    pub(super) fn name_of(&self, pair: u32) -> Option<&NameEntry> {
        let at = self.directory.names.partition_point(|name| name.pair_end <= pair);
        self.directory.names.get(at)
    }

    pub(super) fn damaged(&self, entry: &PageEntry, reason: &'static str) -> Error {
        // Parts of the index have no times: what is lost with them may be of any time.
        let is_index = entry.kind >= PageKind::Series;
        let damage = Damage {
            part: entry.kind.part(),
            offset: entry.offset,
            reason,
            series: entry.hull.series(),
            times: if is_index { self.times() } else { entry.hull.times() },
        };
        Error::Damaged { path: self.path.clone(), damage: Box::new(damage) }
    }

    pub(super) fn damaged_series(&self, series: SeriesIndex, reason: &'static str) -> Error {
        let number = self.directory.series_pages.get(series as usize / PAGE_SERIES);
        let entry = number.and_then(|number| self.directory.pages.get(*number as usize));
        let damage = Damage {
            part: Part::Series,
            offset: entry.map_or(0, |entry| entry.offset),
            reason,
            series: series..series + 1,
            times: self.times(),
        };
        Error::Damaged { path: self.path.clone(), damage: Box::new(damage) }
    }

    /// Two blocks with one id share the cache: a mistake of the program.
    fn mixed_up(&self, number: u32) -> Error {
        let offset = self.directory.pages.get(number as usize).map_or(0, |entry| entry.offset);
        Error::whole(&self.path, Part::Footer, offset, "a page of another kind is in the cache")
    }
}

/// Label values that were needed so far, to show many labels without looking each of them up in the cache.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Values pages by their place in the directory.
    pages: BTreeMap<usize, Arc<ValuesPage>>,
    places: std::collections::HashMap<u32, (usize, usize)>,
}

/// At so many pages the memory is emptied and begins again.
const TEXTS_PAGES_MAX: usize = 256;

impl Texts {
    /// Where the value of a pair is. Places stay good until the next series.
    pub fn place<F: Fs>(&mut self, block: &Block<F>, pair: u32) -> Result<(usize, usize), Error> {
        if let Some(place) = self.places.get(&pair) {
            return Ok(*place);
        }
        let (at, range) = block.values_page_of(pair).ok_or_else(|| {
            Error::whole(&block.path, Part::LabelValues, 0, "a label that the block does not have")
        })?;
        if let Entry::Vacant(vacant) = self.pages.entry(at) {
            vacant.insert(block.values_page(at)?);
        }
        let place = (at, (pair - range.start) as usize);
        self.places.insert(pair, place);
        Ok(place)
    }

    pub fn value(&self, (page, at): (usize, usize)) -> Option<&str> {
        self.pages.get(&page)?.value(at)
    }

    /// Between two series: keeps the memory within its bound.
    pub fn trim(&mut self) {
        if self.pages.len() > TEXTS_PAGES_MAX {
            self.pages.clear();
            self.places.clear();
        }
    }
}
