//! A finished answer, handed out in bounded chunks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use lm_model::Histogram;
use lm_promql::SeriesData;
use lm_schema::histogram::write_histogram;
use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::{chunk, cursor};

/// Most samples of one chunk: 16 bytes each, with labels about 256 KiB. A
/// histogram counts as the samples that would take as much.
const CHUNK_SAMPLES_MAX: usize = 12_000;
/// Most series of one chunk.
const CHUNK_SERIES_MAX: usize = 1_000;

/// Series of an answer, in order, and the text of a string result.
#[derive(Default)]
pub struct Rows {
    pub series: VecDeque<SeriesData>,
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

    /// Takes the next chunk: series or parts of them, and whether each goes on
    /// with the series before it.
    fn take(&self) -> Vec<(SeriesData, bool)> {
        let (mut rows, mut is_continued) = (self.rows.borrow_mut(), self.is_continued.borrow_mut());
        let mut room = CHUNK_SAMPLES_MAX;
        let mut taken = Vec::new();
        while taken.len() < CHUNK_SERIES_MAX && room > 0 {
            let Some(mut series) = rows.series.pop_front() else { break };
            let continued = *is_continued;
            let rest = split_off(&mut series, &mut room);
            *is_continued = rest.is_some();
            if let Some(rest) = rest {
                rows.series.push_front(rest);
            }
            taken.push((series, continued));
        }
        taken
    }
}

/// Splits off what has no room: numbers first, then histograms. Something always
/// has room.
fn split_off(series: &mut SeriesData, room: &mut usize) -> Option<SeriesData> {
    let samples = series.samples.len().min(*room);
    *room -= samples;
    let mut histograms = 0;
    if samples == series.samples.len() {
        for (_, histogram) in &series.histograms {
            if *room == 0 {
                break;
            }
            *room = room.saturating_sub(weight(histogram));
            histograms += 1;
        }
    }
    if samples == series.samples.len() && histograms == series.histograms.len() {
        return None;
    }
    Some(SeriesData {
        labels: series.labels.clone(),
        samples: series.samples.split_off(samples),
        histograms: series.histograms.split_off(histograms),
    })
}

fn weight(histogram: &Histogram) -> usize {
    let Histogram { positive_spans, positive_counts, negative_spans, negative_counts, custom_bounds, .. } =
        histogram;
    let words = positive_spans.len()
        + positive_counts.len()
        + negative_spans.len()
        + negative_counts.len()
        + custom_bounds.len();
    // Its fixed part and pointers take some 100 bytes.
    7 + words.div_ceil(2)
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
        for (index, (SeriesData { labels, samples, histograms }, is_continued)) in taken.iter().enumerate() {
            let mut series = list.reborrow().get(index as u32);
            series.set_is_continued(*is_continued);
            if !is_continued {
                write_pairs(labels, series.reborrow().init_labels(labels.len() as u32));
            }
            let mut times = series.reborrow().init_times_unix_ms(samples.len() as u32);
            for (index, sample) in samples.iter().enumerate() {
                times.set(index as u32, sample.time.as_millis());
            }
            let mut values = series.reborrow().init_values(samples.len() as u32);
            for (index, sample) in samples.iter().enumerate() {
                values.set(index as u32, sample.value);
            }
            if histograms.is_empty() {
                continue;
            }
            let mut times = series.reborrow().init_histogram_times_unix_ms(histograms.len() as u32);
            for (index, (time, _)) in histograms.iter().enumerate() {
                times.set(index as u32, time.as_millis());
            }
            let mut values = series.init_histograms(histograms.len() as u32);
            for (index, (_, histogram)) in histograms.iter().enumerate() {
                write_histogram(histogram, values.reborrow().get(index as u32));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lm_model::{Labels, Sample, Timestamp};

    use super::*;

    #[test]
    fn long_answers_come_in_pieces_that_add_up() {
        let time = Timestamp::from_millis;
        let samples: Vec<_> = (0..30_000).map(|i| Sample { time: time(i), value: i as f64 }).collect();
        let large = Histogram { positive_counts: vec![1.0; 160], ..Histogram::default() };
        let histograms: Vec<_> = (0..400).map(|i| (time(i), Arc::new(large.clone()))).collect();
        let series =
            |name: &str, samples: &[Sample], histograms: &[(Timestamp, Arc<Histogram>)]| SeriesData {
                labels: Labels::from_pairs([("__name__", name)]),
                samples: samples.to_vec(),
                histograms: histograms.to_vec(),
            };
        let whole = [
            series("a", &samples, &histograms),
            series("b", &samples[..5], &[]),
            series("b", &samples[..5], &[]),
            series("c", &[], &histograms[..3]),
        ];
        let server = CursorServer::new(Rows { series: whole.to_vec().into(), text: String::new() });
        let mut joined: Vec<SeriesData> = Vec::new();
        let mut chunks = 0;
        loop {
            let taken = server.take();
            if taken.is_empty() {
                break;
            }
            chunks += 1;
            let size = |(series, _): &(SeriesData, bool)| {
                series.samples.len() + series.histograms.iter().map(|(_, of)| weight(of)).sum::<usize>()
            };
            assert!(taken.iter().map(size).sum::<usize>() <= CHUNK_SAMPLES_MAX + weight(&large));
            for (series, is_continued) in taken {
                match joined.last_mut() {
                    Some(last) if is_continued => {
                        last.samples.extend(series.samples);
                        last.histograms.extend(series.histograms);
                    }
                    _ => joined.push(series),
                }
            }
        }
        assert_eq!(joined, whole);
        assert!(chunks >= 4, "{chunks}");
    }
}
