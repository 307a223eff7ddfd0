//! A finished answer, handed out in bounded chunks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use lm_model::{Labels, Sample};
use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::{chunk, cursor};

/// Most samples of one chunk: 16 bytes each, with labels about 256 KiB.
const CHUNK_SAMPLES_MAX: usize = 12_000;
/// Most series of one chunk.
const CHUNK_SERIES_MAX: usize = 1_000;

/// Series of an answer, in order, and the text of a string result.
#[derive(Default)]
pub struct Rows {
    pub series: VecDeque<(Labels, Vec<Sample>)>,
    pub text: String,
}

pub struct CursorServer {
    rows: RefCell<Rows>,
    /// Whether the series at the front has been handed out in part.
    is_continued: RefCell<bool>,
}

impl CursorServer {
    pub fn new(rows: Rows) -> Self {
        CursorServer { rows: RefCell::new(rows), is_continued: RefCell::new(false) }
    }

    /// Takes the next chunk: `(labels, samples, is continued)` each.
    fn take(&self) -> Vec<(Labels, Vec<Sample>, bool)> {
        let (mut rows, mut is_continued) = (self.rows.borrow_mut(), self.is_continued.borrow_mut());
        let mut room = CHUNK_SAMPLES_MAX;
        let mut taken = Vec::new();
        while taken.len() < CHUNK_SERIES_MAX && room > 0 {
            let Some((labels, mut samples)) = rows.series.pop_front() else { break };
            let continued = *is_continued;
            if samples.len() > room {
                let rest = samples.split_off(room);
                rows.series.push_front((labels.clone(), rest));
            }
            *is_continued =
                rows.series.front().is_some_and(|(next, _)| samples.len() == room && *next == labels);
            room -= samples.len();
            taken.push((labels, samples, continued));
        }
        taken
    }
}

impl cursor::Server for CursorServer {
    async fn next(
        self: Rc<Self>,
        _: cursor::NextParams,
        mut results: cursor::NextResults,
    ) -> Result<(), capnp::Error> {
        let taken = self.take();
        let mut to = results.get();
        to.set_done(self.rows.borrow().series.is_empty());
        let mut chunk: chunk::Builder<'_> = to.init_chunk();
        chunk.set_text(&std::mem::take(&mut self.rows.borrow_mut().text)[..]);
        let mut list = chunk.init_series(taken.len() as u32);
        for (index, (labels, samples, is_continued)) in taken.iter().enumerate() {
            let mut series = list.reborrow().get(index as u32);
            series.set_is_continued(*is_continued);
            if !is_continued {
                write_pairs(labels, series.reborrow().init_labels(labels.len() as u32));
            }
            let mut times = series.reborrow().init_times_unix_ms(samples.len() as u32);
            for (index, sample) in samples.iter().enumerate() {
                times.set(index as u32, sample.time.as_millis());
            }
            let mut values = series.init_values(samples.len() as u32);
            for (index, sample) in samples.iter().enumerate() {
                values.set(index as u32, sample.value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lm_model::Timestamp;

    use super::*;

    #[test]
    fn long_answers_come_in_pieces_that_add_up() {
        let samples: Vec<_> =
            (0..30_000).map(|i| Sample { time: Timestamp::from_millis(i), value: i as f64 }).collect();
        let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
        let rows = Rows {
            series: [(labels("a"), samples.clone()), (labels("b"), samples[..5].to_vec())].into(),
            text: String::new(),
        };
        let server = CursorServer::new(rows);
        let mut joined: Vec<(Labels, Vec<Sample>)> = Vec::new();
        loop {
            let taken = server.take();
            if taken.is_empty() {
                break;
            }
            assert!(taken.iter().map(|(_, samples, _)| samples.len()).sum::<usize>() <= CHUNK_SAMPLES_MAX);
            for (labels, samples, is_continued) in taken {
                if is_continued {
                    joined.last_mut().unwrap().1.extend(samples);
                } else {
                    joined.push((labels, samples));
                }
            }
        }
        assert_eq!(joined, [(labels("a"), samples.clone()), (labels("b"), samples[..5].to_vec())]);
    }
}
