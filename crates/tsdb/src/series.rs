//! The chunks of one series: insertion in any order of time.

use lm_model::{Sample, TimeRange};

use crate::chunk::{Chunk, SAMPLES_MAX};
use crate::memory::Appended;

/// Samples of one series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// Ascending and without overlap: `chunks[i].last < chunks[i + 1].start`.
    chunks: Vec<Chunk>,
}

impl Series {
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Memory of the chunks.
    pub fn bytes(&self) -> usize {
        let unused = self.chunks.capacity() - self.chunks.len();
        self.chunks.iter().map(Chunk::bytes).sum::<usize>() + unused * size_of::<Chunk>()
    }

    pub fn append(&mut self, sample: Sample, counts: &mut Appended) {
        // The chunk that starts at or before the sample, if there is one.
        let next = self.chunks.partition_point(|chunk| chunk.start <= sample.time);
        let Some(at) = next.checked_sub(1) else {
            counts.stored += 1;
            return self.prepend(sample);
        };
        let chunk = &mut self.chunks[at];
        if sample.time > chunk.last {
            counts.stored += 1;
            if chunk.is_full() {
                self.chunks.insert(next, Chunk::new(sample));
            } else {
                chunk.push(sample);
            }
        } else if sample.time == chunk.last {
            counts.refuse(chunk.last_bits() == sample.value.to_bits());
        } else {
            self.insert_into(at, sample, counts);
        }
    }

    /// Adds a sample that is older than all others.
    fn prepend(&mut self, sample: Sample) {
        match self.chunks.first_mut() {
            Some(first) if !first.is_full() => {
                let samples: Vec<_> = std::iter::once(sample).chain(first.iter()).collect();
                *first = Chunk::from_samples(&samples);
            }
            _ => self.chunks.insert(0, Chunk::new(sample)),
        }
    }

    /// Rewrites chunk `at` with a sample in its middle.
    fn insert_into(&mut self, at: usize, sample: Sample, counts: &mut Appended) {
        let mut samples: Vec<_> = self.chunks[at].iter().collect();
        match samples.binary_search_by_key(&sample.time, |sample| sample.time) {
            Ok(found) => counts.refuse(samples[found].value.to_bits() == sample.value.to_bits()),
            Err(position) => {
                counts.stored += 1;
                samples.insert(position, sample);
                if samples.len() <= SAMPLES_MAX {
                    self.chunks[at] = Chunk::from_samples(&samples);
                } else {
                    let (low, high) = samples.split_at(samples.len() / 2);
                    self.chunks[at] = Chunk::from_samples(low);
                    self.chunks.insert(at + 1, Chunk::from_samples(high));
                }
            }
        }
    }

    pub fn samples(&self, range: TimeRange) -> impl Iterator<Item = Sample> + '_ {
        let first = self.chunks.partition_point(|chunk| chunk.last < range.start);
        self.chunks[first..]
            .iter()
            .take_while(move |chunk| chunk.start < range.end)
            .flat_map(Chunk::iter)
            .skip_while(move |sample| sample.time < range.start)
            .take_while(move |sample| sample.time < range.end)
    }

    /// Whether a sample lies in `range`. Decodes a chunk only when its bounds
    /// do not decide.
    pub fn has_samples(&self, range: TimeRange) -> bool {
        let bounds_inside = |chunk: &Chunk| range.contains(chunk.start) || range.contains(chunk.last);
        self.chunks.iter().any(bounds_inside) || self.samples(range).next().is_some()
    }
}
