//! [`merge`]: fewer blocks out of many.

mod samples;
mod source;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use lm_fs::Fs;
use lm_model::{Matcher, Samples, TimeRange, Timestamp};

pub use self::samples::merge_samples;
use self::source::{Source, number_pairs};
use super::{Block, BlockMeta, BlockStats, BlockWriter, Compression, Damage, Error, PageCache, Pair};
use crate::selector::Selector;

/// Pages of sources are kept apart from those of queries, up to this many bytes.
const CACHE_BYTES: usize = 64 << 20;

/// After so many samples the caller hears of the progress.
const PROGRESS_SAMPLES: u64 = 1 << 16;

/// And after so many series at the latest.
const PROGRESS_SERIES: u64 = 1 << 10;

/// Samples of the series that all matchers accept, in the range, are to be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    /// Only samples from sources whose generations all lie at or below this: what came after the deletion stays.
    pub generation_through: u64,
}

/// A block to make. The ranges of outputs do not overlap.
#[derive(Clone, Debug)]
pub struct Output {
    pub path: PathBuf,
    pub meta: BlockMeta,
    pub range: TimeRange,
    pub compression: Compression,
}

#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    pub deletions: Vec<Deletion>,
    /// Earlier samples are left out.
    pub retain_from: Option<Timestamp>,
}

/// How far a merge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series of the sources that are done, of `series_total`.
    pub series: u64,
    pub series_total: u64,
    pub samples: u64,
}

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// One for each output, in order; nothing where there was no sample, and then no file either.
    pub blocks: Vec<Option<BlockStats>>,
    /// Samples that two sources had with one value.
    pub duplicates: u64,
    /// Samples that an older source had with another value.
    pub conflicts: u64,
    /// Samples left out because of a deletion, or because they are before `retain_from`.
    pub deleted: u64,
    pub expired: u64,
    /// Samples in the range of no output.
    pub outside: u64,
    /// Parts of sources that could not be read, with their number in `sources`: what they held is lost with them.
    pub damage: Vec<(usize, Damage)>,
}

/// Merges `sources`, in any order, into `outputs`. Where two sources have a sample at one time, the one of the
/// smaller first generation wins. Memory: symbols of the sources, one series, 64 MiB of pages, and what
/// [`super::BlockWriter`] says for each output. `progress` is called every few thousand samples; `Break` removes what
/// was written and ends in [`Error::Cancelled`]. Damage in a source does not end the merge, an error of the file
/// system does.
pub fn merge<F: Fs>(
    fs: &F,
    sources: &[&Block<F>],
    outputs: &[Output],
    options: &MergeOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Merged, Error> {
    let cache = Arc::new(PageCache::new(CACHE_BYTES));
    let mut ordered: Vec<Source<F>> =
        sources.iter().enumerate().map(|(number, block)| Source::new(block, number, &cache)).collect();
    ordered.sort_by_key(|source| {
        (*source.block.meta().generations.start(), *source.block.meta().generations.end())
    });
    let deletions = options
        .deletions
        .iter()
        .map(|deletion| Ok((Selector::new(&deletion.matchers)?, deletion)))
        .collect::<Result<Vec<_>, Error>>()?;
    for source in &mut ordered {
        source.find_deleted(&deletions)?;
    }
    let mut writers = outputs
        .iter()
        .map(|output| BlockWriter::create(fs, &output.path, output.compression))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pairs_count = 0;
    number_pairs(&mut ordered, |name, value| {
        for writer in &mut writers {
            // All writers hear of the same pairs in the same order, so that one number serves all.
            let pair = writer.pair(name, value)?;
            debug_assert_eq!(pair, Pair(pairs_count));
        }
        pairs_count += 1;
        Ok(())
    })?;
    let series_total = ordered.iter().map(|source| source.block.stats().series).sum();
    let mut run = Run {
        sources: ordered,
        options,
        merged: Merged::default(),
        buffers: Vec::new(),
        series: Samples::default(),
        part: Samples::default(),
        pairs: Vec::new(),
        done: Progress { series_total, ..Progress::default() },
    };
    run.all_series(outputs, &mut writers, progress)?;
    let Run { mut merged, sources, .. } = run;
    for (writer, output) in writers.into_iter().zip(outputs) {
        let block = if writer.is_empty() { None } else { Some(writer.finish(&output.meta)?) };
        merged.blocks.push(block);
    }
    for source in sources {
        merged.damage.extend(source.damage.into_iter().map(|damage| (source.number, damage)));
    }
    Ok(merged)
}

/// A merge under way.
struct Run<'a, F: Fs> {
    /// Oldest first.
    sources: Vec<Source<F>>,
    options: &'a MergeOptions,
    merged: Merged,
    /// Samples of the current series, by source that has it.
    buffers: Vec<Samples>,
    /// All of them together, and the part of one output.
    series: Samples,
    part: Samples,
    pairs: Vec<Pair>,
    done: Progress,
}

impl<F: Fs> Run<'_, F> {
    fn all_series(
        &mut self,
        outputs: &[Output],
        writers: &mut [BlockWriter<F>],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut live = Vec::new();
        for (at, source) in self.sources.iter_mut().enumerate() {
            if source.settle()? {
                live.push(at);
            }
        }
        let mut told = Progress::default();
        let mut least: Vec<usize> = Vec::new();
        while !live.is_empty() {
            if self.done.samples - told.samples >= PROGRESS_SAMPLES
                || self.done.series - told.series >= PROGRESS_SERIES
            {
                told = self.done;
                if progress(told).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            // Common numbers ascend as pairs do, so series compare as their lists of numbers.
            least.clear();
            for at in &live {
                let order =
                    least.first().map(|first| self.sources[*at].pairs.cmp(&self.sources[*first].pairs));
                if order.is_none_or(|order| order.is_lt()) {
                    least.clear();
                    least.push(*at);
                } else if order.is_some_and(|order| order.is_eq()) {
                    least.push(*at);
                }
            }
            self.one_series(&least, outputs, writers)?;
            for at in &least {
                self.sources[*at].series += 1;
                self.done.series += 1;
                if !self.sources[*at].settle()? {
                    live.retain(|one| one != at);
                }
            }
        }
        Ok(())
    }

    /// Merges the series that the sources at `places` stand at.
    fn one_series(
        &mut self,
        places: &[usize],
        outputs: &[Output],
        writers: &mut [BlockWriter<F>],
    ) -> Result<(), Error> {
        self.buffers.resize_with(self.buffers.len().max(places.len()), Samples::default);
        for (buffer, at) in self.buffers.iter_mut().zip(places) {
            let source = &mut self.sources[*at];
            buffer.clear();
            let mut damage = Vec::new();
            let series = source.series;
            let Source { block, recent, .. } = &mut *source;
            let outcome = block.read_next(series, TimeRange::ALL, buffer, recent, |one| damage.push(one));
            if let Err(error) = outcome {
                damage.push(error);
            }
            damage.into_iter().try_for_each(|error| source.note(error))?;
            self.done.samples += buffer.len() as u64;
            for (deletion, series) in &source.deleted {
                if series.contains(source.series) {
                    self.merged.deleted += samples::remove(buffer, self.options.deletions[*deletion].range);
                }
            }
            if let Some(from) = self.options.retain_from {
                let expired = TimeRange { start: Timestamp::MIN, end: from };
                self.merged.expired += samples::remove(buffer, expired);
            }
        }
        let buffers: Vec<&Samples> = self.buffers.iter().take(places.len()).collect();
        let (duplicates, conflicts) = merge_samples(&buffers, &mut self.series);
        self.merged.duplicates += duplicates;
        self.merged.conflicts += conflicts;
        self.pairs.clear();
        self.pairs.extend(self.sources[places[0]].pairs.iter().map(|pair| Pair(*pair)));
        let Some((first, last)) = samples::extent(&self.series) else { return Ok(()) };
        let mut written = 0;
        for (output, writer) in outputs.iter().zip(writers) {
            let range = output.range;
            if range.start.as_millis() <= first && last < range.end.as_millis() {
                writer.add_pairs(&self.pairs, &self.series)?;
                written += self.series.len();
            } else {
                samples::cut(&self.series, range, &mut self.part);
                writer.add_pairs(&self.pairs, &self.part)?;
                written += self.part.len();
            }
        }
        self.merged.outside += (self.series.len() - written) as u64;
        Ok(())
    }
}
