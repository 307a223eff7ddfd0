//! What a test tells the collector to say.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use lm_schema::operator::SessionFacts;
use lm_schema::query_capnp::{ResultType, failure};
use tokio::sync::{Notify, watch};

/// What the fake collector does, and what it saw.
#[derive(Default)]
pub struct Script {
    /// By expression.
    pub answers: Mutex<HashMap<String, Said>>,
    pub exchanges: AtomicUsize,
    /// Alice's token is not known any more.
    pub is_alice_gone: AtomicBool,
    pub generation: watch::Sender<u64>,
    pub cursors_alive: AtomicUsize,
    pub chunks: AtomicUsize,
    pub asked: Mutex<Vec<String>>,
    pub cache_ms: AtomicUsize,
    /// 0: what the mesh does by default.
    pub cancelled_max: AtomicUsize,
    /// Live events: `(position, text)`; positions have holes when some went.
    pub events: Mutex<Vec<(u64, String)>>,
    pub epoch: AtomicUsize,
    pub news: Notify,
    pub tail_after: Mutex<Vec<(u64, u64)>>,
    /// What an operator sees.
    pub sessions: Mutex<Vec<SessionFacts>>,
    /// What every call of an operator is answered with instead.
    pub operator_error: Mutex<Option<String>>,
}

/// An answer: chunks of `(labels, samples, is continued)`.
#[derive(Clone)]
pub enum Said {
    Rows(ResultType, Vec<Chunk>, Vec<String>),
    Failed(failure::Kind, String),
    /// This many chunks of one long series.
    Long(usize),
    /// As many, then an exception.
    Breaks(usize),
    Hangs,
    Revoked,
    Text(String),
}

pub type Chunk = Vec<(Vec<(&'static str, &'static str)>, Vec<(i64, f64)>, bool)>;

impl Script {
    pub fn say(&self, expression: &str, said: Said) {
        self.answers.lock().unwrap().insert(expression.to_owned(), said);
    }

    pub fn publish(&self, events: impl IntoIterator<Item = (u64, String)>) {
        self.events.lock().unwrap().extend(events);
        self.news.notify_waiters();
    }
}
