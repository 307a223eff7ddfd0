//! Samples of one series of a block.

use std::sync::Arc;

use lm_fs::Fs;
use lm_model::{Samples, TimeRange, Timestamp};

use super::pages::Recent;
use super::{Block, SeriesIndex};
use crate::block::error::Error;
use crate::block::format::PageKind;
use crate::block::series::{Chunk, Place, SeriesPage};
use crate::codec::{Malformed, histograms, values};

impl<F: Fs> Block<F> {
    /// Appends the samples of `series` in `range` to `samples`, which holds only earlier ones. After an error those
    /// of the runs before the damaged one are there.
    pub fn read(&self, series: SeriesIndex, range: TimeRange, samples: &mut Samples) -> Result<(), Error> {
        let mut first_error = Ok(());
        self.read_each(series, range, samples, |error| {
            if first_error.is_ok() {
                first_error = Err(error);
            }
        })?;
        first_error
    }

    /// As [`read`](Block::read), going on behind damaged runs, which `damaged` gets to see.
    ///
    /// # Errors
    ///
    /// What makes the whole series unreadable, and errors of the file system.
    pub fn read_each(
        &self,
        series: SeriesIndex,
        range: TimeRange,
        samples: &mut Samples,
        damaged: impl FnMut(Error),
    ) -> Result<(), Error> {
        self.read_next(series, range, samples, &mut Recent::default(), damaged)
    }

    /// As [`read_each`](Block::read_each), with the pages that the series before needed.
    pub(in crate::block) fn read_next(
        &self,
        series: SeriesIndex,
        range: TimeRange,
        samples: &mut Samples,
        recent: &mut Recent,
        mut damaged: impl FnMut(Error),
    ) -> Result<(), Error> {
        let mut page = recent.series.take();
        let outcome = self.read_chunks(series, range, samples, &mut page, recent, &mut damaged);
        recent.series = page;
        outcome
    }

    fn read_chunks(
        &self,
        series: SeriesIndex,
        range: TimeRange,
        samples: &mut Samples,
        page: &mut Option<(u32, Arc<SeriesPage>)>,
        recent: &mut Recent,
        damaged: &mut impl FnMut(Error),
    ) -> Result<(), Error> {
        for chunk in self.chunks(series, page)? {
            let chunk = chunk.map_err(|malformed| self.damaged_series(series, malformed.0))?;
            let (times, values) = (samples.times.len(), samples.values.len());
            let histograms = samples.histograms.len();
            match self.read_chunk(&chunk, range, samples, recent) {
                Ok(()) => {}
                Err(error @ Error::Damaged { .. }) => {
                    samples.times.truncate(times);
                    samples.values.truncate(values);
                    samples.histograms.truncate(histograms);
                    damaged(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_chunk(
        &self,
        chunk: &Chunk<'_>,
        range: TimeRange,
        samples: &mut Samples,
        recent: &mut Recent,
    ) -> Result<(), Error> {
        if !self.overlaps(chunk, range) {
            return Ok(());
        }
        let column = recent.column(self, chunk.column)?;
        let (start, len) =
            chunk.part.map_or((0, column.len()), |(start, len)| (start as usize, len as usize));
        let Some(times) = column.get(start..start.saturating_add(len)).filter(|times| !times.is_empty())
        else {
            return Err(self.bad_chunk(chunk, Malformed("a part that its column does not have")));
        };
        let begin = times.partition_point(|time| *time < range.start.as_millis());
        let end = times.partition_point(|time| *time < range.end.as_millis());
        // The end of all time is not before itself.
        let end = if range.end == Timestamp::MAX { times.len() } else { end };
        if begin >= end {
            return Ok(());
        }
        let count = times.len();
        if let Place::Histograms { page, offset } = chunk.place {
            let bytes = self.bytes(page, PageKind::Histograms)?;
            let run = part_of(&bytes, offset)
                .and_then(|bytes| histograms::decode(bytes, count))
                .map_err(|malformed| self.bad_chunk(chunk, malformed))?;
            let kept = times.iter().zip(run).take(end).skip(begin);
            samples.histograms.extend(kept.map(|(time, one)| (Timestamp::from_millis(*time), one)));
            return Ok(());
        }
        let before = samples.values.len();
        let decoded = match chunk.place {
            Place::Inline(bytes) => values::decode(bytes, count, &mut samples.values),
            Place::Values { page, offset } => {
                let bytes = recent.values(self, page)?;
                part_of(&bytes, offset).and_then(|bytes| values::decode(bytes, count, &mut samples.values))
            }
            Place::Group { page, run } => {
                self.group(page)?.decode(run as usize, count, end, &mut samples.values)
            }
            Place::Histograms { .. } => Ok(()),
        };
        decoded.map_err(|malformed| self.bad_chunk(chunk, malformed))?;
        samples.values.truncate(before + end);
        samples.values.drain(before..before + begin);
        samples.times.extend_from_slice(&times[begin..end]);
        Ok(())
    }

    /// Whether the run may have samples in the range, as its column tells.
    fn overlaps(&self, chunk: &Chunk<'_>, range: TimeRange) -> bool {
        // A column that is not there is an error for who reads it.
        self.directory.columns.get(chunk.column as usize).is_none_or(|column| {
            column.first < range.end.as_millis() && column.last >= range.start.as_millis()
                || range.end == Timestamp::MAX && column.last >= range.start.as_millis()
        })
    }

    /// Whether the series may have samples in the range.
    pub(super) fn may_have_samples(
        &self,
        series: SeriesIndex,
        range: TimeRange,
        page: &mut Option<(u32, Arc<SeriesPage>)>,
    ) -> Result<bool, Error> {
        for chunk in self.chunks(series, page)? {
            let chunk = chunk.map_err(|malformed| self.damaged_series(series, malformed.0))?;
            if self.overlaps(&chunk, range) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn bad_chunk(&self, chunk: &Chunk<'_>, malformed: Malformed) -> Error {
        let number = match chunk.place {
            Place::Values { page, .. } | Place::Group { page, .. } | Place::Histograms { page, .. } => page,
            Place::Inline(_) => match self.directory.columns.get(chunk.column as usize) {
                Some(column) => column.page,
                None => 0,
            },
        };
        match self.directory.pages.get(number as usize) {
            Some(entry) => self.damaged(entry, malformed.0),
            None => self.damaged_series(0, malformed.0),
        }
    }
}

fn part_of(bytes: &[u8], offset: u32) -> Result<&[u8], Malformed> {
    bytes.get(offset as usize..).ok_or(Malformed("a run outside of its page"))
}
