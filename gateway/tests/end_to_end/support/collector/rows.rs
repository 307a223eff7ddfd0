//! Chunks of an answer.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lm_schema::query_capnp::cursor;

use super::{Chunk, Script};

/// Counts what the gateway has not let go of.
pub struct Alive(Arc<Script>);

impl Alive {
    pub fn new(script: &Arc<Script>) -> Self {
        script.cursors_alive.fetch_add(1, Ordering::SeqCst);
        Alive(script.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.cursors_alive.fetch_sub(1, Ordering::SeqCst);
    }
}

pub enum Rows {
    Chunks(Vec<Chunk>),
    Long { chunks: usize, is_broken: bool },
    Text(String),
}

pub struct FakeCursor {
    pub alive: Alive,
    pub rows: Rows,
    pub at: std::cell::Cell<usize>,
}

pub const LONG_CHUNK: usize = 10_000;

impl cursor::Server for FakeCursor {
    async fn next(
        self: Rc<Self>,
        _: cursor::NextParams,
        mut results: cursor::NextResults,
    ) -> Result<(), capnp::Error> {
        self.alive.0.chunks.fetch_add(1, Ordering::SeqCst);
        let at = self.at.replace(self.at.get() + 1);
        let long;
        let (chunk, is_last) = match &self.rows {
            Rows::Chunks(chunks) => (&chunks[at], at + 1 == chunks.len()),
            Rows::Long { chunks, is_broken } => {
                if *is_broken && at == *chunks {
                    return Err(capnp::Error::failed("internal: the disk is gone".to_owned()));
                }
                let samples =
                    (0..LONG_CHUNK).map(|n| ((at * LONG_CHUNK + n) as i64 * 1000, n as f64)).collect();
                long = vec![(vec![("a", "b")], samples, at > 0)];
                (&long, !is_broken && at + 1 == *chunks)
            }
            Rows::Text(text) => {
                results.get().set_done(true);
                results.get().init_chunk().set_text(&text[..]);
                return Ok(());
            }
        };
        results.get().set_done(is_last);
        let mut list = results.get().init_chunk().init_series(chunk.len() as u32);
        for (index, (labels, samples, is_continued)) in chunk.iter().enumerate() {
            let mut series = list.reborrow().get(index as u32);
            series.set_is_continued(*is_continued);
            let mut pairs = series.reborrow().init_labels(labels.len() as u32);
            for (index, (name, value)) in labels.iter().enumerate() {
                let mut pair = pairs.reborrow().get(index as u32);
                pair.set_name(*name);
                pair.set_value(*value);
            }
            let mut times = series.reborrow().init_times_unix_ms(samples.len() as u32);
            for (index, (time, _)) in samples.iter().enumerate() {
                times.set(index as u32, *time);
            }
            let mut values = series.init_values(samples.len() as u32);
            for (index, (_, value)) in samples.iter().enumerate() {
                values.set(index as u32, *value);
            }
        }
        Ok(())
    }
}
