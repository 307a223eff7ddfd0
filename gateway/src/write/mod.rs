//! What applications write: a request's body becomes batches, as agents send
//! them, for the writer's own capability at the collector.
//!
//! ```text
//! http/write.rs ──▶ Writes ──▶ translator thread ──▶ session's thread ──▶ collector
//!   who, how much    places     tables of series,      calls in order
//!                               batches
//! ```
//!
//! The gateway keeps nothing: an answer of success means that the collector
//! has stored all of it. Read [`Writes`] first, then `translator`.

mod decompress;
mod drafts;
mod histogram;
mod labels;
mod otlp;
mod remote_write;
mod remote_write2;
mod series;
mod sink;
#[cfg(test)]
mod tests;
mod text;
mod translator;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::backend::{Backend, Failure, FailureKind, Token};
use labels::RefusedSeries;
use otlp::Rejected;
use translator::{Job, Order, Sent};

pub(crate) use decompress::Coding;
pub(crate) use drafts::{Batch, Counts};
pub(crate) use otlp::Encoding;
pub(crate) use remote_write::MetricText;
pub(crate) use text::Given;
pub(crate) use translator::{Format, Outcome, start};

/// How long a body waits for its place.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// How often a request is translated again because the collector does not know
/// its series any more.
const TRIES: usize = 4;
/// The unit in which memory for bodies is counted.
const KIB: u64 = 1 << 10;

/// Writes what came, with the rights of its sender. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writes {
    backend: Backend,
    orders: mpsc::Sender<Order>,
    /// KiB of bodies that may be in memory, from their first byte to their answer.
    memory: Arc<Semaphore>,
    body_bytes_max: u64,
}

/// What became of a request whose samples are stored, but for those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub counts: Counts,
    pub outcome: Outcome,
    pub refused: RefusedSeries,
    pub rejected: Rejected,
}

impl Writes {
    pub fn new(backend: Backend, orders: mpsc::Sender<Order>, body_bytes_max: u64, bytes_max: u64) -> Self {
        let memory = Arc::new(Semaphore::new(bytes_max.div_ceil(KIB) as usize));
        Writes { backend, orders, memory, body_bytes_max }
    }

    /// The name of the token's holder, who may write.
    pub async fn writer(&self, token: Token) -> Result<Arc<str>, Failure> {
        self.backend.find_writer(token).await
    }

    /// Memory for a body of so many bytes; of one that does not say, for the
    /// longest that is taken.
    pub async fn place(&self, stated: Option<u64>) -> Result<OwnedSemaphorePermit, Failure> {
        let bytes = stated.unwrap_or(self.body_bytes_max).min(self.body_bytes_max);
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX).max(1);
        match tokio::time::timeout(PLACE_WAIT, self.memory.clone().acquire_many_owned(kib)).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Failure::new(FailureKind::Overloaded, "too much is being written; try again")),
        }
    }

    /// Writes a body. Returned means stored.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call may still be stored. Writing the same
    /// samples again is harmless.
    pub async fn write(
        &self,
        token: &Token,
        writer: &Arc<str>,
        format: Format,
        coding: Coding,
        body: Bytes,
    ) -> Result<Stored, Failure> {
        let mut stale = None;
        for _ in 0..TRIES {
            let (reply, sent) = oneshot::channel();
            let job = Job {
                writer: writer.clone(),
                token: token.clone(),
                format: format.clone(),
                coding,
                body: body.clone(),
                stale,
                reply,
            };
            self.order(Order::Translate(job)).await?;
            let Sent { client, counts, refused, rejected, outcome } = self.backend.answer(sent).await?;
            let outcome = self.backend.answer(outcome).await?;
            if !outcome.needs_dictionary {
                if outcome.series_limit > 0 {
                    self.order(Order::Limited { writer: writer.clone(), client }).await?;
                }
                return Ok(Stored { counts, outcome, refused, rejected });
            }
            stale = Some(client);
        }
        Err(Failure::new(FailureKind::Overloaded, "the collector keeps forgetting series; try again"))
    }

    async fn order(&self, order: Order) -> Result<(), Failure> {
        match self.orders.send_timeout(order, PLACE_WAIT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Failure::overloaded()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Failure::lost()),
        }
    }
}

impl Stored {
    /// Samples and points that are not stored.
    pub fn refused(&self) -> u64 {
        let Outcome { too_old, conflicts, series_limit, .. } = self.outcome;
        let Rejected { exponential, odd, old_deltas } = self.rejected;
        too_old + conflicts + series_limit + self.refused.samples + exponential + odd + old_deltas
    }

    /// What is stored.
    pub fn stored(&self) -> Counts {
        let Outcome { too_old, conflicts, series_limit, histograms, .. } = self.outcome;
        let refused = (too_old + conflicts + series_limit).saturating_sub(histograms);
        Counts {
            samples: self.counts.samples.saturating_sub(refused),
            histograms: self.counts.histograms.saturating_sub(histograms),
        }
    }

    /// What a client is told when something was refused.
    pub fn complaint(&self) -> Option<String> {
        let refused = self.refused();
        if refused == 0 {
            return None;
        }
        let Outcome { too_old, conflicts, series_limit, .. } = self.outcome;
        let Rejected { exponential, odd, old_deltas } = self.rejected;
        let mut reasons = Vec::new();
        if let Some(first) = &self.refused.first {
            reasons
                .push(format!("{} of series that make no sense, the first: {first}", self.refused.samples));
        }
        for (count, why) in [
            (too_old, "too old"),
            (conflicts, "have another value at the same time"),
            (series_limit, "of series over the limit of series"),
            (exponential, "exponential histograms, which are not stored yet"),
            (odd, "histograms with another number of counts than of buckets"),
            (old_deltas, "differences of before what was added up"),
        ] {
            if count > 0 {
                reasons.push(format!("{count} {why}"));
            }
        }
        let Counts { samples, histograms } = self.stored();
        let of = samples + histograms + refused;
        Some(format!("{refused} of {of} samples were refused, the others are stored: {}", reasons.join("; ")))
    }
}
