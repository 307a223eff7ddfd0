//! The ingest thread and the `Send` handle that sessions talk to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_mesh::{Grant, Lease};
use lm_model::{BatchId, Incarnation, Labels, Resume, Stream};
use lm_schema::batch::BatchHeader;
use tokio::sync::{mpsc, oneshot};

use super::apply::StoreMetrics;
use super::group::Core;
use super::watermarks::Account;
use super::writers::{Write, Written};

/// Commands that may wait for the thread.
const COMMANDS_MAX: usize = 1024;
/// Commands of one group, at most: bounds how long the first one waits.
const GROUP_MAX: usize = 512;
/// How long a call waits for room before it is told to come back.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// What a sender that found no room is told.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// sysexits: an error inside the program.
const EXIT_SOFTWARE: i32 = 70;
/// How often retention runs when nothing arrives.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A batch as it arrived.
pub struct Push {
    /// Must still stand right before the append; `None` when nobody can take
    /// it back.
    pub grant: Option<Grant>,
    pub agent: Arc<str>,
    /// Labels that the session's scope gives: see [`super::stamp`].
    pub stamp: Labels,
    pub id: BatchId,
    pub sequence_end: u64,
    pub item_count: u32,
    /// The plain fields, or why they can never be accepted.
    pub header: Result<BatchHeader, Unreadable>,
    pub body: Vec<u8>,
    /// Of the body as it was sent, even if it is not kept.
    pub body_bytes: usize,
    /// The body's memory, of the ingest budget; `None` where nobody counts.
    pub lease: Option<Lease>,
}

/// Why plain fields were not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Invalid(String),
    /// From the future: a newer collector will read it, so it is not rejected.
    Version {
        newest: u16,
    },
}

/// A dictionary snapshot as it arrived.
pub struct Define {
    /// Must stand when the dictionary is appended. `None` in unit tests.
    pub grant: Option<Grant>,
    pub agent: Arc<str>,
    pub stamp: Labels,
    pub incarnation: Incarnation,
    pub epoch: u32,
    pub entries: Vec<Labels>,
}

/// The answer to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub outcome: ReceiptOutcome,
    pub durable_end: u64,
    pub landed_end: u64,
    /// Stored without these samples: they are over a limit, and declared.
    pub dropped_items: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    Durable,
    Duplicate,
    Rejected(String),
    NeedDictionary(u32),
    Unsupported(u16),
    RetryAfter(Duration),
    Gap(u64),
    Quarantined,
    /// The sender's grant ended before the append: nothing was stored.
    Revoked,
}

impl ReceiptOutcome {
    /// Nothing came of it: the sender will try again.
    pub fn is_to_be_sent_again(&self) -> bool {
        use ReceiptOutcome::*;
        match self {
            NeedDictionary(_) | Unsupported(_) | RetryAfter(_) | Gap(_) => true,
            Durable | Duplicate | Rejected(_) | Quarantined | Revoked => false,
        }
    }

    /// A receipt of a stream that is durable up to `durable_end`.
    pub fn at(self, durable_end: u64) -> Receipt {
        Receipt { outcome: self, durable_end, landed_end: durable_end, dropped_items: 0 }
    }
}

/// The answer to a define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefineOutcome {
    Durable,
    Rejected(String),
    RetryAfter(Duration),
    /// The sender's grant ended before the append: nothing was stored.
    Revoked,
}

/// One stream of one agent, for reports.
pub struct AccountOf {
    pub agent: Arc<str>,
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub is_fenced: bool,
    pub account: Account,
}

pub(super) enum Command {
    Push(Push, oneshot::Sender<Receipt>),
    Define(Define, oneshot::Sender<DefineOutcome>),
    Write(Write, oneshot::Sender<Written>),
    Resume(Arc<str>, Vec<(Stream, Incarnation)>, oneshot::Sender<Vec<Resume>>),
    Accounts(oneshot::Sender<Vec<AccountOf>>),
    Alive(oneshot::Sender<()>),
}

/// Talks to the ingest thread. Cheap to clone.
#[derive(Clone)]
pub struct IngestHandle {
    commands: mpsc::Sender<Command>,
    metrics: Arc<StoreMetrics>,
}

impl IngestHandle {
    /// Stores a batch and returns what became of it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call may still have been stored. Sending
    /// the same batch again is harmless.
    pub async fn push(&self, push: Push) -> Receipt {
        let retry = || ReceiptOutcome::RetryAfter(RETRY_AFTER).at(0);
        let came = Instant::now();
        let (tx, rx) = oneshot::channel();
        let receipt = if self.send(Command::Push(push, tx)).await {
            rx.await.unwrap_or_else(|_| retry())
        } else {
            retry()
        };
        self.metrics.on_answered(&receipt.outcome, came.elapsed());
        receipt
    }

    /// Stores a dictionary. Idempotent.
    pub async fn define(&self, define: Define) -> DefineOutcome {
        let (tx, rx) = oneshot::channel();
        if !self.send(Command::Define(define, tx)).await {
            return DefineOutcome::RetryAfter(RETRY_AFTER);
        }
        rx.await.unwrap_or(DefineOutcome::RetryAfter(RETRY_AFTER))
    }

    /// Stores what an application writes; answered once it was applied.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped call may still have been stored. Writing the
    /// same samples again is harmless.
    pub async fn write(&self, write: Write) -> Written {
        let came = Instant::now();
        let (tx, rx) = oneshot::channel();
        let written = match self.send(Command::Write(write, tx)).await {
            true => rx.await.unwrap_or(Written::RetryAfter(RETRY_AFTER)),
            false => Written::RetryAfter(RETRY_AFTER),
        };
        self.metrics.on_written(&written, came.elapsed());
        written
    }

    /// Where the given incarnations stand; `None` when the thread has stopped
    /// or is overloaded.
    pub async fn resume(&self, agent: Arc<str>, held: Vec<(Stream, Incarnation)>) -> Option<Vec<Resume>> {
        let (tx, rx) = oneshot::channel();
        if !self.send(Command::Resume(agent, held, tx)).await {
            return None;
        }
        rx.await.ok()
    }

    /// What is stored and lost of every stream.
    pub async fn accounts(&self) -> Option<Vec<AccountOf>> {
        let (tx, rx) = oneshot::channel();
        if !self.send(Command::Accounts(tx)).await {
            return None;
        }
        rx.await.ok()
    }

    /// Waits until the thread has come round to us. `false`: it is gone, or
    /// has had no room for a question.
    pub async fn is_alive(&self) -> bool {
        let (tx, rx) = oneshot::channel();
        self.send(Command::Alive(tx)).await && rx.await.is_ok()
    }

    /// Waits for a place at most [`ROOM_WAIT`].
    async fn send(&self, command: Command) -> bool {
        matches!(tokio::time::timeout(ROOM_WAIT, self.commands.send(command)).await, Ok(Ok(())))
    }
}

/// Starts the thread. It ends when every handle is gone, after a last sync;
/// join it then.
pub fn start(mut core: Core) -> std::io::Result<(IngestHandle, std::thread::JoinHandle<()>)> {
    let (tx, rx) = mpsc::channel(COMMANDS_MAX);
    let metrics = core.applier.metrics.clone();
    let thread = std::thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut core, rx)));
        if ran.is_err() {
            // What is in memory may be half changed; the spool is not.
            tracing::error!("ingest panicked: the process ends, a restart begins from the spool");
            std::process::exit(EXIT_SOFTWARE);
        }
    })?;
    Ok((IngestHandle { commands: tx, metrics }, thread))
}

fn run(core: &mut Core, mut commands: mpsc::Receiver<Command>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime with only timers needs no resource that can run out");
    let mut group = Vec::with_capacity(GROUP_MAX);
    let mut housekept = Instant::now();
    loop {
        let received = runtime.block_on(async {
            tokio::time::timeout(HOUSEKEEPING, commands.recv_many(&mut group, GROUP_MAX)).await
        });
        match received {
            Ok(0) => break,
            Ok(_) => core.commit(group.drain(..)),
            Err(_) => {}
        }
        if housekept.elapsed() >= HOUSEKEEPING {
            core.housekeep();
            housekept = Instant::now();
        }
    }
}
