//! Questions to the label index.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use lm_fs::Fs;
use lm_model::TimeRange;
use roaring::RoaringBitmap;

use super::{Block, SeriesIndex, pages::Texts};
use crate::block::error::Error;
use crate::block::format::{NameEntry, PageKind};
use crate::block::labels::Postings;
use crate::selector::{Candidates, Selector, Test};

/// What a test leaves of the series, as postings to be read.
struct Step {
    /// Series of the postings are left out; otherwise the others are.
    is_exclusion: bool,
    /// With their pairs.
    postings: Vec<(u32, Postings)>,
    /// Series in the postings together.
    series: u64,
}

impl<F: Fs> Block<F> {
    /// The series that the selector accepts and that have samples in `range`, ascending, which is the order of
    /// their labels. "Have samples" is decided by the first and last sample of their columns: a series with a gap
    /// over the whole range may be among them.
    pub fn select(&self, selector: &Selector, range: TimeRange) -> Result<Vec<SeriesIndex>, Error> {
        let Some(selected) = self.matching(selector)? else { return Ok(Vec::new()) };
        if self.is_within(range) {
            return Ok(selected.into_iter().collect());
        }
        let mut page = None;
        let mut kept = Vec::new();
        for series in selected {
            if self.may_have_samples(series, range, &mut page)? {
                kept.push(series);
            }
        }
        Ok(kept)
    }

    /// Whether all samples of the block are in the range.
    fn is_within(&self, range: TimeRange) -> bool {
        let times = self.times();
        range.start <= times.start && times.end <= range.end
    }

    /// Nothing when no series is left.
    fn matching(&self, selector: &Selector) -> Result<Option<RoaringBitmap>, Error> {
        let mut steps = Vec::new();
        for test in selector.tests() {
            match self.step(test)? {
                Some(step) if !step.is_exclusion && step.series == 0 => return Ok(None),
                Some(step) => steps.push(step),
                None => {}
            }
        }
        // What leaves least comes first, so that the rest has little to do.
        steps.sort_by_key(|step| (step.is_exclusion, step.series));
        let mut left: Option<RoaringBitmap> = None;
        for step in steps {
            let mut found = RoaringBitmap::new();
            for (pair, postings) in &step.postings {
                match postings {
                    Postings::One(series) => drop(found.insert(*series)),
                    Postings::Many { .. } => {
                        let mut bitmap = self.series_with(*pair, *postings)?;
                        if let Some(left) = &left {
                            bitmap &= left;
                        }
                        found |= bitmap;
                    }
                }
            }
            let next = match (left.take(), step.is_exclusion) {
                (None, false) => found,
                (None, true) => self.all_series() - found,
                (Some(left), false) => left & found,
                (Some(left), true) => left - found,
            };
            if next.is_empty() {
                return Ok(None);
            }
            left = Some(next);
        }
        Ok(Some(left.unwrap_or_else(|| self.all_series())))
    }

    fn all_series(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_count());
        all
    }

    /// Nothing when the test leaves all series.
    fn step(&self, test: &Test) -> Result<Option<Step>, Error> {
        let accepts_absent = test.accepts("");
        let Some(name) = self.name(test.name()) else {
            let nobody = Step { is_exclusion: false, postings: Vec::new(), series: 0 };
            return Ok((!accepts_absent).then_some(nobody));
        };
        // Series without the label pass: look for the values that do not. Else for those that do.
        let wanted = !accepts_absent;
        let mut step = Step { is_exclusion: accepts_absent, postings: Vec::new(), series: 0 };
        let mut take = |(pair, postings): (u32, Postings)| {
            step.series += u64::from(postings.count());
            step.postings.push((pair, postings));
        };
        // The values that hit are the ones looked for, unless negation or the empty value turn it around.
        if wanted != test.is_negated() {
            match test.candidates() {
                Candidates::Values(values) => {
                    for value in values {
                        self.find_value(name, value)?.into_iter().for_each(&mut take);
                    }
                }
                Candidates::Prefix(prefix) => self.visit_values(name, prefix, |pair, _, postings| {
                    take((pair, postings));
                    ControlFlow::Continue(())
                })?,
                Candidates::Tested(prefix) => self.visit_values(name, prefix, |pair, value, postings| {
                    if test.hits(value) {
                        take((pair, postings));
                    }
                    ControlFlow::Continue(())
                })?,
            }
        } else {
            self.visit_values(name, "", |pair, value, postings| {
                if test.accepts(value) == wanted {
                    take((pair, postings));
                }
                ControlFlow::Continue(())
            })?;
        }
        let all = u64::from(self.series_count());
        let leaves_all = step.series == if step.is_exclusion { 0 } else { all };
        Ok((!leaves_all).then_some(step))
    }

    /// The series that have a pair: from its postings, or if those are damaged from the series table, which says the
    /// same at the cost of reading all of it.
    fn series_with(&self, pair: u32, postings: Postings) -> Result<RoaringBitmap, Error> {
        match self.read_postings(postings) {
            Err(Error::Damaged { .. }) => {}
            other => return other,
        }
        let (mut page, mut pairs, mut found) = (None, Vec::new(), RoaringBitmap::new());
        for series in 0..self.series_count() {
            self.pairs(series, &mut page, &mut pairs)?;
            if pairs.binary_search(&pair).is_ok() {
                found.insert(series);
            }
        }
        Ok(found)
    }

    fn read_postings(&self, postings: Postings) -> Result<RoaringBitmap, Error> {
        let Postings::Many { count, page, offset, len } = postings else { return Ok(RoaringBitmap::new()) };
        let bytes = self.bytes(page, PageKind::Postings)?;
        let bitmap = bytes
            .get(offset as usize..(offset as usize).saturating_add(len as usize))
            .and_then(|bytes| RoaringBitmap::deserialize_from(bytes).ok())
            .filter(|bitmap| bitmap.len() == u64::from(count))
            .filter(|bitmap| bitmap.max().is_none_or(|max| max < self.series_count()));
        bitmap.ok_or_else(|| self.damaged(&self.directory.pages[page as usize], "postings that cannot be"))
    }

    pub(super) fn name(&self, name: &str) -> Option<&NameEntry> {
        let names = &self.directory.names;
        names.binary_search_by(|known| (*known.name).cmp(name)).ok().map(|at| &names[at])
    }

    fn find_value(&self, name: &NameEntry, value: &str) -> Result<Option<(u32, Postings)>, Error> {
        let mut found = None;
        self.visit_values(name, value, |pair, known, postings| {
            if known == value {
                found = Some((pair, postings));
            }
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Shows the values of a name that begin with `prefix`, ascending, with their pair.
    fn visit_values(
        &self,
        name: &NameEntry,
        prefix: &str,
        mut visit: impl FnMut(u32, &str, Postings) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let pages = &self.directory.values_pages;
        // The page with the name's first value, and of those that begin inside the name the last that begins before
        // the prefix.
        let first = pages.partition_point(|page| page.pair_first <= name.pair_first).saturating_sub(1);
        let inside = pages.partition_point(|page| page.pair_first <= name.pair_first);
        let end = pages.partition_point(|page| page.pair_first < name.pair_end);
        let before = pages[inside..end.max(inside)].partition_point(|page| *page.value_first <= *prefix);
        let from = if before == 0 { first } else { inside + before - 1 };
        for at in from..end {
            let page = self.values_page(at)?;
            let range = self.values_range(at);
            let own = name.pair_first.max(range.start)..name.pair_end.min(range.end);
            let place = |pair: u32| (pair - range.start) as usize;
            let value = |pair: u32| page.value(place(pair)).unwrap_or_default();
            let skipped = partition_point(own.clone(), |pair| value(pair) < prefix);
            for pair in skipped..own.end {
                let Some(postings) = page.postings(place(pair)) else { break };
                if !value(pair).starts_with(prefix) || visit(pair, value(pair), postings).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Names of the labels of the selected series, ascending. A selector of nothing takes all series, and is
    /// answered without looking at them.
    pub fn label_names(&self, selector: &Selector, range: TimeRange) -> Result<Vec<Box<str>>, Error> {
        let names = &self.directory.names;
        if selector.is_all() && self.is_within(range) {
            return Ok(names.iter().map(|name| name.name.clone()).collect());
        }
        let mut has = vec![false; names.len()];
        let (mut page, mut pairs) = (None, Vec::new());
        for series in self.select(selector, range)? {
            self.pairs(series, &mut page, &mut pairs)?;
            let mut at = 0;
            for pair in &pairs {
                at += names[at..].partition_point(|name| name.pair_end <= *pair);
                if let Some(has) = has.get_mut(at) {
                    *has = true;
                }
            }
        }
        Ok(names.iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| name.name.clone()).collect())
    }

    /// Values that the label `name` has in the selected series, ascending.
    pub fn label_values(
        &self,
        name: &str,
        selector: &Selector,
        range: TimeRange,
    ) -> Result<Vec<Box<str>>, Error> {
        let Some(name) = self.name(name) else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        if selector.is_all() && self.is_within(range) {
            self.visit_values(name, "", |_, value, _| {
                values.push(value.into());
                ControlFlow::Continue(())
            })?;
            return Ok(values);
        }
        let mut wanted = BTreeSet::new();
        let (mut page, mut pairs) = (None, Vec::new());
        for series in self.select(selector, range)? {
            self.pairs(series, &mut page, &mut pairs)?;
            let at = pairs.partition_point(|pair| *pair < name.pair_first);
            wanted.extend(pairs.get(at).filter(|pair| **pair < name.pair_end));
        }
        let mut texts = Texts::default();
        for pair in wanted {
            let place = texts.place(self, pair)?;
            values.extend(texts.value(place).map(Box::from));
            texts.trim();
        }
        Ok(values)
    }

    /// Shows each value of the label `name`, ascending, with the number of its series.
    pub fn visit_value_counts(&self, name: &str, mut visit: impl FnMut(&str, u64)) -> Result<(), Error> {
        let Some(name) = self.name(name) else { return Ok(()) };
        self.visit_values(name, "", |_, value, postings| {
            visit(value, u64::from(postings.count()));
            ControlFlow::Continue(())
        })
    }

    /// Each label name, ascending, with the number of its values and of the series that have it.
    pub fn name_counts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let names = self.directory.names.iter();
        names.map(|name| (&*name.name, u64::from(name.pair_end - name.pair_first), u64::from(name.series)))
    }
}

/// The first number of the range for which `is_before` no longer holds.
fn partition_point(range: std::ops::Range<u32>, is_before: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (range.start, range.end.max(range.start));
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
