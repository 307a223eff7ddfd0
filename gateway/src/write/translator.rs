//! The thread that turns requests into batches.
//!
//! It alone holds the tables of series, and hands its batches to the session's
//! thread in the order in which it made them: a batch may refer to entries of
//! the one before. Decompressing and reading a large request takes a while,
//! during which neither HTTP nor the session waits.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use lm_model::Timestamp;
use lm_schema::batch::Encoder;
use tokio::sync::{mpsc, oneshot};

use super::decompress::{Coding, Decompressor};
use super::drafts::{Batch, Counts, Drafts};
use super::labels::RefusedSeries;
use super::otlp::{self, Deltas, Rejected, Translation};
use super::remote_write::{self, MetricText};
use super::remote_write2;
use super::series::{SeriesHash, SeriesTable};
use super::sink::Sink;
use super::text::{self, Given};
use crate::backend::{Command, Failure, FailureKind, Token};
use crate::session::random_u64;

/// Requests that wait for the thread.
const ORDERS_MAX: usize = 64;
/// Writers whose series are remembered; who has not written for longest is
/// forgotten, and tells its series anew.
const WRITERS_MAX: usize = 64;
/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    RemoteWrite1,
    RemoteWrite2,
    Otlp {
        encoding: otlp::Encoding,
        time: Timestamp,
    },
    /// Prometheus or OpenMetrics text, or what a target answers in protobuf.
    Text {
        format: lm_exposition::Format,
        given: Given,
    },
}

/// One request's body, to be written.
pub struct Job {
    /// Whose series these are.
    pub writer: Arc<str>,
    pub token: Token,
    pub format: Format,
    pub coding: Coding,
    pub body: Bytes,
    /// The client whose dictionaries the collector does not know any more.
    pub stale: Option<u64>,
    pub reply: oneshot::Sender<Result<Sent, Failure>>,
}

/// What the thread is told.
pub enum Order {
    Translate(Job),
    /// Series of this client were refused for a limit: its table may hold many
    /// that have ended.
    Limited {
        writer: Arc<str>,
        client: u64,
    },
}

/// What was handed to the session's thread, and how its answer comes.
pub struct Sent {
    pub client: u64,
    pub counts: Counts,
    pub refused: RefusedSeries,
    /// Points of OTLP that are not among the samples.
    pub rejected: Rejected,
    pub outcome: oneshot::Receiver<Result<Outcome, Failure>>,
}

/// What the collector said of all batches of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub too_old: u64,
    pub conflicts: u64,
    pub series_limit: u64,
    /// Histograms among all those.
    pub histograms: u64,
    /// Nothing was refused but for want of a dictionary.
    pub needs_dictionary: bool,
}

/// Starts the thread; it ends when the last sender is gone. Nobody waits for
/// that: a connection that is cut at the end of a drain may hold one.
///
/// # Errors
///
/// When the system gives no thread, or no memory for its encoder.
pub fn start(session: mpsc::Sender<Command>, series_max: usize) -> std::io::Result<mpsc::Sender<Order>> {
    let (orders, receiver) = mpsc::channel(ORDERS_MAX);
    let translator = Translator {
        tables: HashMap::new(),
        hash: SeriesHash::new(),
        encoder: Encoder::new()?,
        decompressor: Decompressor::default(),
        deltas: Deltas::default(),
        series_max,
        uses: 0,
        session,
    };
    std::thread::Builder::new().name("translate".to_owned()).spawn(move || translator.run(receiver))?;
    Ok(orders)
}

struct Translator {
    tables: HashMap<Arc<str>, Known>,
    hash: SeriesHash,
    encoder: Encoder,
    decompressor: Decompressor,
    deltas: Deltas,
    /// Series of one writer.
    series_max: usize,
    uses: u64,
    session: mpsc::Sender<Command>,
}

struct Known {
    table: SeriesTable,
    /// Tells writers' deltas apart.
    number: u64,
    used: u64,
}

/// A request as it is sent.
struct Translated {
    client: u64,
    batches: Vec<Batch>,
    metadata: Vec<MetricText>,
    counts: Counts,
    refused: RefusedSeries,
    rejected: Rejected,
}

impl Translator {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            let handled = catch_unwind(AssertUnwindSafe(|| self.handle(order)));
            if handled.is_err() {
                // Its client is told to try again; the others go on.
                tracing::error!("a request that writes panicked: all series are told anew");
                self.tables.clear();
            }
        }
    }

    fn handle(&mut self, order: Order) {
        match order {
            Order::Translate(job) => {
                let translated = self.translate(&job);
                let sent = translated.and_then(|translated| self.send(job.token, translated));
                // A client that is gone does not need to know.
                let _ = job.reply.send(sent);
            }
            Order::Limited { writer, client } => self.limited(&writer, client),
        }
    }

    fn limited(&mut self, writer: &Arc<str>, client: u64) {
        let now = Instant::now();
        let Some(known) = self.tables.get_mut(writer) else { return };
        if known.table.client() == client && known.table.is_worn(now) {
            known.table.begin_again(random_u64(), now);
        }
    }

    fn translate(&mut self, job: &Job) -> Result<Translated, Failure> {
        let now = Instant::now();
        let known = self.table(&job.writer, now);
        if job.stale == Some(known.table.client()) || known.table.is_full() {
            known.table.begin_again(random_u64(), now);
        }
        // Borrowed apart: the table from what else is needed.
        let Translator { tables, hash, encoder, decompressor, deltas, .. } = self;
        let raw = decompressor.decompress(job.coding, &job.body)?;
        let known = tables.get_mut(&job.writer).expect("it was looked up above");
        let client = known.table.client();
        let mut drafts = Drafts::new(&mut known.table, encoder);
        let (mut refused, mut metadata) = (RefusedSeries::default(), Vec::new());
        let mut rejected = Rejected::default();
        let broken = |_| "the body is no such message of protobuf".to_owned();
        let read = if job.format == Format::RemoteWrite1 {
            remote_write::read(raw, hash, &mut drafts, &mut refused, &mut metadata).map_err(broken)
        } else {
            let mut sink = Sink::new(&mut drafts, hash, &mut refused);
            match &job.format {
                Format::Otlp { encoding, time } => {
                    let writer = known.number;
                    let mut to = Translation::new(&mut sink, deltas, writer, &mut metadata, *time);
                    let read = otlp::read(*encoding, raw, &mut to).map_err(|error| error.to_string());
                    rejected = to.rejected();
                    read
                }
                Format::Text { format, given } => text::read(*format, raw, given, &mut sink, &mut metadata)
                    .map_err(|error| error.to_string()),
                Format::RemoteWrite1 | Format::RemoteWrite2 => {
                    remote_write2::read(raw, &mut sink, &mut metadata).map_err(broken)
                }
            }
        };
        if let Err(why) = read {
            drafts.abandon();
            return Err(Failure::new(FailureKind::BadData, why));
        }
        let counts = drafts.counts();
        let batches = drafts.finish().map_err(|error| {
            tracing::error!(%error, "a batch cannot be compressed");
            Failure::new(FailureKind::Internal, "a batch cannot be compressed")
        })?;
        Ok(Translated { client, batches, metadata, counts, refused, rejected })
    }

    fn send(&self, token: Token, translated: Translated) -> Result<Sent, Failure> {
        let Translated { client, batches, metadata, counts, refused, rejected } = translated;
        let (reply, outcome) = oneshot::channel();
        self.session
            .try_send(Command::Write { token, client, batches, metadata, reply })
            .map_err(|_| Failure::new(FailureKind::Overloaded, "too much is being written; try again"))?;
        Ok(Sent { client, counts, refused, rejected, outcome })
    }

    fn table(&mut self, writer: &Arc<str>, now: Instant) -> &mut Known {
        self.uses += 1;
        if !self.tables.contains_key(writer) && self.tables.len() >= WRITERS_MAX {
            let oldest = self.tables.iter().min_by_key(|(_, known)| known.used).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| self.tables.remove(&oldest));
        }
        let number = self.uses;
        let fresh = || Known { table: SeriesTable::new(random_u64(), self.series_max, now), number, used: 0 };
        let known = self.tables.entry(writer.clone()).or_insert_with(fresh);
        known.used = self.uses;
        known
    }
}
