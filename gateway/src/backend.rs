//! The way from HTTP handlers to the thread that holds the collector session.
//!
//! RPC objects stay on their thread; [`Backend`] is what handlers hold. It is
//! `Send`, cheap to clone and bounded: past its bound a question waits for at
//! most a second and is then answered "overloaded".

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::console::ConsoleQuestion;
use crate::params::{LogFilter, LogSearch, Range, Selection};
use crate::ring::{EventId, Ring};
use crate::write::{Batch, MetricText, Outcome};

/// How long a question waits for a place.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// Chunks of an answer between the session's thread and a client.
pub(crate) const CHUNKS_AHEAD: usize = 2;

/// A user's bearer token. Never shown.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    pub fn new(text: &str) -> Self {
        Token(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a request has no answer, by what the client sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    BadData,
    Execution,
    Timeout,
    Canceled,
    /// Over a bound of the query engine.
    Limit,
    /// Come back in a moment.
    Overloaded,
    Internal,
    /// There is no collector.
    Unavailable,
    /// The token is not known.
    Unauthorized,
    /// The token is known, and not worth this.
    Forbidden,
    NotFound,
    /// Only GET is answered here.
    Method,
    /// Only GET and POST are.
    MethodOrForm,
    TooLarge,
    /// Only POST is answered here.
    Post,
    /// A body of another type, or in another coding.
    MediaType,
    /// Over the rate of this writer.
    Limited {
        wait: Duration,
    },
    /// Over this user's bound.
    TooMany,
    /// The Host header names somebody else.
    Host,
}

/// A request that has no answer, and what to tell the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into() }
    }

    /// What makes no sense came in this parameter.
    pub(crate) fn of_parameter(mut self, name: &str) -> Self {
        if self.kind == FailureKind::BadData {
            self.message = format!("invalid parameter {name:?}: {}", self.message);
        }
        self
    }

    pub(crate) fn overloaded() -> Self {
        Failure::new(FailureKind::Overloaded, "too many queries at once; try again in a moment")
    }

    pub(crate) fn lost() -> Self {
        Failure::new(FailureKind::Unavailable, "the gateway is stopping or its session thread has failed")
    }
}

/// What a user may ask.
#[derive(Clone, Debug)]
pub enum Question {
    /// Nothing but whether the token is good.
    WhoAmI,
    Query {
        expression: String,
        time_ms: i64,
        options: QueryOptions,
    },
    QueryRange {
        expression: String,
        range: Range,
        options: QueryOptions,
    },
    Series(Selection),
    LabelNames(Selection),
    LabelValues {
        name: String,
        selection: Selection,
    },
    SearchLogs(LogSearch),
    Losses,
    /// What metrics mean: one, or all when it is empty.
    Metadata {
        metric: String,
        /// 0: as many as the collector says.
        limit: usize,
    },
    Targets(TargetFilter),
    /// Counts of what is stored, in this form.
    StoreStatus(StatusForm),
    /// The canonical form of an expression.
    Format(String),
    SyntaxTree(String),
    Dashboards,
    /// The one with this id, which is not empty.
    Dashboard(String),
    /// Needs an operator's token.
    Console(ConsoleQuestion),
}

#[derive(Clone, Copy, Debug)]
pub struct QueryOptions {
    pub timeout: Duration,
    /// 0: the collector's default.
    pub lookback_ms: u32,
    /// Series to answer at most; 0: all.
    pub limit: usize,
    /// Whether to say what the evaluation took.
    pub with_stats: bool,
}

/// Which targets to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFilter {
    /// Not when only dropped ones are asked for, which we never have.
    pub is_active: bool,
    /// Empty: any.
    pub pool: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// As `/api/v1/status/tsdb`, this many entries of each list.
    Tsdb { limit: usize },
    /// As `/api/v1/status/runtimeinfo`.
    Runtime,
}

/// An answer, as JSON.
#[derive(Debug)]
pub struct Answered {
    /// The whole of it, or its beginning.
    pub first: Bytes,
    /// What follows. Dropping it cancels the query.
    pub rest: Option<mpsc::Receiver<Result<Bytes, Failure>>>,
}

/// How a tail came to its end.
#[derive(Debug)]
pub enum TailEnd {
    /// The client is gone, or takes nothing.
    Closed,
    /// The session is gone; try again.
    Lost,
    /// The collector does not go on.
    Refused(Failure),
}

pub(crate) enum Command {
    Ask {
        token: Token,
        question: Question,
        reply: oneshot::Sender<Result<Answered, Failure>>,
        /// Held until the answer has been handed over.
        place: OwnedSemaphorePermit,
    },
    Tail {
        token: Token,
        filter: LogFilter,
        after: Option<EventId>,
        ring: Arc<Ring>,
        /// The user's name once the tail runs.
        opened: oneshot::Sender<Result<String, Failure>>,
        ended: oneshot::Sender<TailEnd>,
    },
    /// Who the token belongs to, if it may write.
    FindWriter {
        token: Token,
        reply: oneshot::Sender<Result<Arc<str>, Failure>>,
    },
    Write {
        token: Token,
        client: u64,
        batches: Vec<Batch>,
        metadata: Vec<MetricText>,
        reply: oneshot::Sender<Result<Outcome, Failure>>,
    },
    Alive(oneshot::Sender<()>),
}

/// Asks the collector. See the module.
#[derive(Clone)]
pub struct Backend {
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Backend {
    /// At most `queries_max` questions are under way; an answer's beginning
    /// must come within `patience`.
    pub(crate) fn new(queries_max: usize, patience: Duration) -> (Backend, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(queries_max);
        (Backend { commands, places: Arc::new(Semaphore::new(queries_max)), patience }, receiver)
    }

    /// # Cancel safety
    ///
    /// A dropped question is cancelled at the collector.
    pub async fn ask(&self, token: Token, question: Question) -> Result<Answered, Failure> {
        let place = tokio::time::timeout(PLACE_WAIT, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Failure::overloaded()) };
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ask { token, question, reply, place }).await?;
        self.answer(answer).await
    }

    /// Feeds `ring` from a live tail. Answers with the user's name once it
    /// runs, and a receiver of its end.
    pub async fn tail(
        &self,
        token: Token,
        filter: LogFilter,
        after: Option<EventId>,
        ring: Arc<Ring>,
    ) -> Result<(String, oneshot::Receiver<TailEnd>), Failure> {
        let (opened, is_open) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        self.send(Command::Tail { token, filter, after, ring, opened, ended }).await?;
        match tokio::time::timeout(self.patience, is_open).await {
            Ok(Ok(opened)) => Ok((opened?, end)),
            Ok(Err(_)) => Err(Failure::lost()),
            Err(_) => Err(Failure::new(FailureKind::Timeout, "the collector did not answer in time")),
        }
    }

    /// The name of the token's holder, who may write.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Forbidden`] when that is somebody who may not.
    pub async fn find_writer(&self, token: Token) -> Result<Arc<str>, Failure> {
        let (reply, found) = oneshot::channel();
        self.send(Command::FindWriter { token, reply }).await?;
        self.answer(found).await
    }

    /// Waits for an answer, at most as long as for any.
    pub(crate) async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::lost()),
            Err(_) => Err(Failure::new(FailureKind::Timeout, "the collector did not answer in time")),
        }
    }

    /// Where whoever makes batches hands them over.
    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Waits until the session's thread has come round to us. `false`: it is
    /// gone, or has had no room for a question.
    pub async fn is_alive(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Alive(reply)).await.is_ok() && answer.await.is_ok()
    }

    async fn send(&self, command: Command) -> Result<(), Failure> {
        match self.commands.send_timeout(command, PLACE_WAIT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Failure::overloaded()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Failure::lost()),
        }
    }
}
