//! Blocks on their way into a merge: their label pairs under common numbers, their series one by one.

use std::cmp::Ordering;
use std::sync::Arc;

use lm_fs::Fs;
use roaring::RoaringBitmap;

use super::Deletion;
use crate::block::error::{Damage, Error};
use crate::block::format::PAGE_SERIES;
use crate::block::labels::ValuesPage;
use crate::block::reader::Recent;
use crate::block::{Block, PageCache};
use crate::selector::Selector;

/// A pair whose text could not be read.
const LOST: u32 = u32::MAX;

/// A block that is read series by series, ascending.
pub(super) struct Source<F: Fs> {
    pub block: Block<F>,
    /// The block's place in what the caller gave.
    pub number: usize,
    /// Common number of each pair.
    common: Vec<u32>,
    /// The current series, and its pairs in common numbers.
    pub series: u32,
    pub pairs: Vec<u32>,
    pub recent: Recent,
    /// For each deletion that concerns this block: the range's place in the list, and the series.
    pub deleted: Vec<(usize, RoaringBitmap)>,
    pub damage: Vec<Damage>,
}

impl<F: Fs> Source<F> {
    pub fn new(block: &Block<F>, number: usize, cache: &Arc<PageCache>) -> Self {
        Source {
            block: block.with_cache(cache.clone()),
            number,
            common: Vec::new(),
            series: 0,
            pairs: Vec::new(),
            recent: Recent::default(),
            deleted: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// Notes damage; other errors end the merge.
    pub fn note(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Damaged { damage, .. } => {
                if !self.damage.contains(&damage) {
                    self.damage.push(*damage);
                }
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Finds out which series the deletions concern.
    pub fn find_deleted(&mut self, deletions: &[(Selector, &Deletion)]) -> Result<(), Error> {
        for (at, (selector, deletion)) in deletions.iter().enumerate() {
            if *self.block.meta().generations.end() > deletion.generation_through {
                continue;
            }
            let series = match self.block.select(selector, deletion.range) {
                Ok(series) => series.into_iter().collect(),
                Err(error @ Error::Damaged { .. }) => {
                    self.note(error)?;
                    self.find_by_labels(selector)?
                }
                Err(error) => return Err(error),
            };
            self.deleted.push((at, series));
        }
        Ok(())
    }

    /// As selecting does, when the index is damaged. Series whose labels are lost are lost to the merge as well.
    fn find_by_labels(&mut self, selector: &Selector) -> Result<RoaringBitmap, Error> {
        let mut found = RoaringBitmap::new();
        for series in 0..self.block.series_count() {
            let outcome = self.block.visit_labels(&[series], |_, pairs| {
                let value =
                    |name: &str| pairs.iter().find(|(known, _)| *known == name).map_or("", |pair| pair.1);
                if selector.accepts(value) {
                    found.insert(series);
                }
            });
            if let Err(error) = outcome {
                self.note(error)?;
            }
        }
        Ok(found)
    }

    /// Reads the labels of the current series, or of the next that can be read. False when there is none.
    pub fn settle(&mut self) -> Result<bool, Error> {
        while self.series < self.block.series_count() {
            match self.block.pairs(self.series, &mut self.recent.series, &mut self.pairs) {
                Ok(()) => {
                    let mut is_whole = true;
                    for pair in &mut self.pairs {
                        *pair = self.common.get(*pair as usize).copied().unwrap_or(LOST);
                        is_whole &= *pair != LOST;
                    }
                    if is_whole {
                        return Ok(true);
                    }
                    self.series += 1;
                }
                Err(error) => {
                    self.note(error)?;
                    // A page is lost as a whole, unless it is only this series.
                    let is_page_lost = self
                        .recent
                        .series
                        .as_ref()
                        .is_none_or(|(page, _)| *page != self.page_of(self.series));
                    self.series = if is_page_lost {
                        (self.page_of(self.series) + 1) * PAGE_SERIES as u32
                    } else {
                        self.series + 1
                    };
                }
            }
        }
        Ok(false)
    }

    fn page_of(&self, series: u32) -> u32 {
        series / PAGE_SERIES as u32
    }
}

/// Gives the pairs of all sources common numbers, ascending as the pairs do, and shows each once.
pub(super) fn number_pairs<F: Fs>(
    sources: &mut [Source<F>],
    mut visit: impl FnMut(&str, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut cursors = Vec::new();
    for source in &mut *sources {
        source.common = vec![LOST; source.block.stats().pairs as usize];
        let mut cursor = PairCursor::default();
        cursor.settle(source)?;
        cursors.push(cursor);
    }
    let mut number = 0;
    let mut least: Vec<usize> = Vec::new();
    loop {
        least.clear();
        for (at, cursor) in cursors.iter().enumerate() {
            let Some(pair) = cursor.pair(&sources[at]) else { continue };
            let order = least.first().and_then(|first| cursors[*first].pair(&sources[*first]));
            match order.map_or(Ordering::Less, |smallest| pair.cmp(&smallest)) {
                Ordering::Less => {
                    least.clear();
                    least.push(at);
                }
                Ordering::Equal => least.push(at),
                Ordering::Greater => {}
            }
        }
        let Some(first) = least.first() else { return Ok(()) };
        let Some((name, value)) = cursors[*first].pair(&sources[*first]) else { return Ok(()) };
        visit(name, value)?;
        for at in &least {
            let cursor = &mut cursors[*at];
            sources[*at].common[cursor.number as usize] = number;
            cursor.number += 1;
            cursor.settle(&mut sources[*at])?;
        }
        number += 1;
    }
}

/// The next pair of a source.
#[derive(Default)]
struct PairCursor {
    number: u32,
    /// Its name's place in the directory.
    name: usize,
    /// The page it is in, by place in the directory.
    page: Option<(usize, Arc<ValuesPage>)>,
    /// Its place in the page.
    at: usize,
}

impl PairCursor {
    fn pair<'a, F: Fs>(&'a self, source: &'a Source<F>) -> Option<(&'a str, &'a str)> {
        let (_, page) = self.page.as_ref()?;
        Some((source.block.name_at(self.name)?, page.value(self.at)?))
    }

    /// Moves to the first pair from `number` on that can be read.
    fn settle<F: Fs>(&mut self, source: &mut Source<F>) -> Result<(), Error> {
        while let Some((page, range)) = source.block.values_page_of(self.number) {
            if self.page.as_ref().is_none_or(|(known, _)| *known != page) {
                match source.block.values_page(page) {
                    Ok(values) => self.page = Some((page, values)),
                    Err(error) => {
                        source.note(error)?;
                        self.number = range.end;
                        continue;
                    }
                }
            }
            self.at = (self.number - range.start) as usize;
            while source.block.name_end(self.name).is_some_and(|end| end <= self.number) {
                self.name += 1;
            }
            return Ok(());
        }
        self.page = None;
        Ok(())
    }
}
