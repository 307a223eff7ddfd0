//! What the sending thread may ask of the queue's thread.
//!
//! [`QueueHandle`] is `Send` and cheap to clone. Questions go through a
//! bounded channel and are answered between two reads of the sources; what
//! the queue holds is published as state in a watch channel, so nobody can
//! miss that it grew.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use lm_journal::Position;
use lm_model::{BatchId, Incarnation, Labels, Resume, Stream};
use lm_schema::batch::BatchHeader;
use tokio::sync::oneshot;

use crate::delivery::{Acknowledgement, Outgoing};
use crate::outbox::Hole;

/// Questions that wait for the queue's thread. One session asks one at a time.
pub const COMMANDS_MAX: usize = 16;
/// How long a question waits before it looks for room again.
const FULL_WAIT: Duration = Duration::from_millis(1);

/// What the queue holds, as of the last sync.
#[derive(Clone, Debug, Default)]
pub struct QueueFacts {
    /// The incarnation of new batches.
    pub incarnation: Incarnation,
    /// For each stream, the sequence that its next batch will have. Watchers
    /// are woken when one of these grows, and by `is_final`, not by levels.
    pub ends: [u64; 3],
    pub pending_bytes: u64,
    pub pending_batches: u64,
    pub capacity_bytes: u64,
    /// When the oldest item that is not acknowledged was measured or read.
    pub oldest_unix_ms: Option<i64>,
    /// Nothing is left to send, no declared loss either.
    pub is_empty: bool,
    /// The sources are closed: the queue will not grow any more.
    pub is_final: bool,
}

impl QueueFacts {
    /// Whether a watcher has something to do that it had not with `known`.
    pub fn is_news_after(&self, known: &QueueFacts) -> bool {
        (self.incarnation, self.ends, self.is_final) != (known.incarnation, known.ends, known.is_final)
    }

    /// Whether `batch` was the last of its stream.
    pub fn end_with(&self, batch: &BatchHeader) -> bool {
        let BatchId { stream, incarnation, .. } = batch.id;
        incarnation == self.incarnation && batch.sequence_end >= self.ends[stream as usize]
    }
}

/// Whom the queue belongs to and whose batches it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Empty before the first session.
    pub cluster_id: Vec<u8>,
    pub incarnations: Vec<(Stream, Incarnation)>,
}

/// A dictionary as it was when a batch was queued.
pub struct DictionaryPart {
    pub incarnation: Incarnation,
    pub epoch: u32,
    pub entries: Vec<Labels>,
}

/// A question to the queue's thread.
pub enum Command {
    Identity(oneshot::Sender<Identity>),
    /// A session has begun: pin the cluster, take over what it has. Answers
    /// whether the queue belongs to this cluster.
    Begin {
        cluster_id: Vec<u8>,
        resume: Vec<Resume>,
        reply: oneshot::Sender<Result<bool, String>>,
    },
    Fetch {
        stream: Stream,
        reply: oneshot::Sender<Result<Option<Outgoing<Position>>, String>>,
    },
    Loss {
        hole: Hole,
        reply: oneshot::Sender<Result<Outgoing<Position>, String>>,
    },
    Dictionary {
        header: BatchHeader,
        position: Position,
        reply: oneshot::Sender<Result<DictionaryPart, String>>,
    },
    Rewind(Stream),
    Acknowledge(Acknowledgement),
    /// Sync what is not synced yet, and say what the queue holds now.
    Publish,
    /// A scrape is done: the sources are to be looked at.
    Scraped,
    /// Read no more, sync, and go on answering questions.
    CloseSources,
}

/// The queue's thread is gone: it logged why.
#[derive(Debug, thiserror::Error)]
#[error("the queue's thread has ended")]
pub struct QueueGone;

/// Asks the queue's thread.
#[derive(Clone)]
pub struct QueueHandle {
    commands: SyncSender<Command>,
}

impl QueueHandle {
    pub fn new(commands: SyncSender<Command>) -> Self {
        QueueHandle { commands }
    }

    /// Hands over a command, waiting while there is no room for it.
    pub async fn tell(&self, mut command: Command) -> Result<(), QueueGone> {
        loop {
            command = match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(command)) => command,
                Err(TrySendError::Disconnected(_)) => return Err(QueueGone),
            };
            tokio::time::sleep(FULL_WAIT).await;
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, QueueGone> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply)).await?;
        answer.await.map_err(|_| QueueGone)
    }
}
