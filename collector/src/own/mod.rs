//! The collector's own stream: `up` of every host and our own figures, stored
//! like what agents send.
//!
//! [`run`] looks every [`INTERVAL`], lets [`OwnStream`] make batches of what it
//! saw, and pushes them through ingest's only door, so that they are spooled,
//! replayed and counted like all others. A series that is there no more gets a
//! stale marker. [`Hosts`] decides who is up.

mod hosts;
mod stream;
mod watch;

pub use watch::HostWatch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lm_model::{Incarnation, Labels, METRIC_NAME, Stream, stale_nan};
use lm_schema::batch::BatchHeader;
use lm_telemetry::{Figure, Telemetry};
use tokio::time::MissedTickBehavior;

use crate::ingest::{COLLECTOR, Define, DefineOutcome, INSTANCE, IngestHandle, OWN, Push, ReceiptOutcome};
use crate::unix_now;
use stream::{Draft, OwnStream};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);
/// What our own figures have where an agent's series have its job.
const JOB: &str = "lightmetrics";
/// Between two tries to begin, while ingest is too busy to say where we stand.
const BEGIN_RETRY: Duration = Duration::from_secs(1);

/// Measures and stores for ever.
///
/// # Cancel safety
///
/// Dropped at any point, it leaves what ingest has accepted; the next run
/// begins an incarnation of its own.
pub async fn run(ingest: IngestHandle, telemetry: Telemetry, hosts: Arc<HostWatch>) {
    let agent: Arc<str> = Arc::from(OWN);
    let mut sender = Sender { stream: begin(&ingest, &agent).await, ingest, agent };
    let mut before = HashSet::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        hosts.look();
        hosts.save().await;
        // Nothing new is measured while the disk refuses what was.
        if sender.stream.is_drained() {
            let mut samples: Vec<_> = telemetry.collect().iter().flat_map(own).collect();
            hosts.samples(&mut samples);
            let now: HashSet<Labels> = samples.iter().map(|(labels, _)| labels.clone()).collect();
            let ended = before.difference(&now).map(|labels| (labels.clone(), stale_nan()));
            samples.extend(ended);
            before = now;
            if let Err(error) = sender.stream.handle_samples(unix_now(), &samples) {
                tracing::error!(%error, "our own figures cannot be encoded");
            }
        }
        sender.send().await;
    }
}

/// The series of a figure, as they are stored.
fn own(figure: &Figure) -> impl Iterator<Item = (Labels, f64)> {
    figure.samples().map(|(name, labels, number)| {
        let own = [(METRIC_NAME, &name[..]), ("job", JOB), (INSTANCE, COLLECTOR)];
        (Labels::from_pairs(own.into_iter().chain(labels)), number)
    })
}

/// A stream in an incarnation that is later than every stored one.
async fn begin(ingest: &IngestHandle, agent: &Arc<str>) -> OwnStream {
    loop {
        let Some(known) = ingest.resume(agent.clone(), Vec::new()).await else {
            tokio::time::sleep(BEGIN_RETRY).await;
            continue;
        };
        let newest =
            known.iter().filter(|known| known.stream == Stream::Metrics).map(|known| known.incarnation);
        let after = newest.map(|newest| newest.ordinal + 1).max().unwrap_or(0);
        let ordinal = after.max(u64::try_from(unix_now().as_millis()).unwrap_or(0));
        let mut nonce = [0; 8];
        let made = getrandom::fill(&mut nonce).map_err(|error| error.to_string()).and_then(|()| {
            let incarnation = Incarnation { ordinal, nonce: u64::from_le_bytes(nonce) };
            OwnStream::new(incarnation).map_err(|error| error.to_string())
        });
        match made {
            Ok(stream) => return stream,
            Err(error) => tracing::error!(%error, "our own figures cannot be stored yet"),
        }
        tokio::time::sleep(BEGIN_RETRY).await;
    }
}

struct Sender {
    ingest: IngestHandle,
    agent: Arc<str>,
    stream: OwnStream,
}

impl Sender {
    /// Pushes what waits, until all of it is answered or one has to wait.
    async fn send(&mut self) {
        while let Some(draft) = self.stream.poll_draft() {
            let receipt = self.ingest.push(push(&self.agent, draft)).await;
            match receipt.outcome {
                ReceiptOutcome::Durable | ReceiptOutcome::Duplicate => self.stream.on_answered(),
                ReceiptOutcome::RetryAfter(_) => return,
                ReceiptOutcome::NeedDictionary(epoch) => {
                    if self.define(epoch).await != DefineOutcome::Durable {
                        return;
                    }
                }
                ReceiptOutcome::Gap(_) | ReceiptOutcome::Unsupported(_) | ReceiptOutcome::Revoked => {
                    // Ingest and we disagree on where we stand: a new run settles it.
                    tracing::error!(?receipt, "our own stream begins anew");
                    self.stream = begin(&self.ingest, &self.agent).await;
                    return;
                }
                ReceiptOutcome::Rejected(_) | ReceiptOutcome::Quarantined => {
                    tracing::error!(?receipt, "a batch of our own figures was not stored");
                    self.stream.on_answered();
                }
            }
        }
    }

    async fn define(&self, epoch: u32) -> DefineOutcome {
        let define = Define {
            grant: None,
            agent: self.agent.clone(),
            stamp: Labels::empty(),
            incarnation: self.stream.incarnation(),
            epoch,
            entries: self.stream.dictionary(epoch),
        };
        self.ingest.define(define).await
    }
}

fn push(agent: &Arc<str>, Draft { header, body }: &Draft) -> Push {
    let BatchHeader { id, sequence_end, item_count, .. } = *header;
    Push {
        grant: None,
        agent: agent.clone(),
        stamp: Labels::empty(),
        id,
        sequence_end,
        item_count,
        header: Ok(*header),
        body: body.clone(),
        body_bytes: body.len(),
        lease: None,
    }
}
