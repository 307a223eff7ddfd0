//! The thread that holds the session with the collector.
//!
//! One current-thread runtime and a `LocalSet`: RPC objects never leave it.
//! [`keep`] keeps the session; each [`Command`] runs as a task of its own. All
//! that belongs to a session (the users' capabilities above all) is dropped
//! with it.

mod ask;
mod console;
mod dashboards;
mod metadata;
mod stream;
mod tail;
mod users;
mod write;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lm_mesh::{Backoff, Connected, DialError, Dialer, DialerConfig, Granted, PeerDescription};
use lm_schema::mesh_capnp::gateway_session;
use lm_web::Check;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Command, Failure, FailureKind};
use stream::{QueryStream, renewals};
pub(crate) use tail::gap;
use users::Users;

const HEARTBEAT_PERIOD: Duration = Duration::from_secs(10);
/// How long the collector holds a question for revocations.
const REVOCATIONS_WAIT: Duration = Duration::from_secs(10);
/// Least time between two questions that brought nothing.
const REVOCATIONS_PAUSE: Duration = Duration::from_secs(1);
/// A collector that does not answer a heartbeat for this long is given up.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A session that was moved from is kept for what is under way on it; live
/// tails leave it by themselves. What lasts longer is broken.
const RETIRE_WAIT: Duration = Duration::from_secs(30);
const RETIRE_LOOK: Duration = Duration::from_millis(50);

/// What the session's thread needs to know.
pub(crate) struct SessionConfig {
    pub dialer: DialerConfig,
    pub users_max: usize,
    pub user_cache: Duration,
    /// Longest wait for one call.
    pub patience: Duration,
}

/// A live session, as commands see it.
pub(crate) struct Session {
    pub users: Users,
    /// Those who write, over a stream of their own; `None`: this collector
    /// takes nothing from them.
    pub writers: Option<Users>,
    pub patience: Duration,
}

/// The session, or why there is none.
type Link = Rc<RefCell<Result<Rc<Session>, &'static str>>>;

/// Runs the thread until `stop` or the last `Backend` is gone. Blocks.
pub(crate) fn run(
    config: SessionConfig,
    mut commands: mpsc::Receiver<Command>,
    check: Check,
    stop: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only epoll and an eventfd, which the caller's has just had");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let link: Link = Rc::new(RefCell::new(Err("not connected yet")));
        let serving = {
            let link = link.clone();
            tokio::task::spawn_local(async move {
                while let Some(command) = commands.recv().await {
                    let session = link.borrow().clone();
                    tokio::task::spawn_local(handle(link.clone(), session, command));
                }
            })
        };
        let mut stop = stop;
        keep(config, link, check, &mut stop).await;
        serving.abort();
    });
}

async fn handle(link: Link, session: Result<Rc<Session>, &'static str>, command: Command) {
    let session = session.map_err(|why| {
        Failure::new(
            FailureKind::Unavailable,
            format!("no session with a collector: {why}. The gateway keeps trying; its log says more"),
        )
    });
    match command {
        Command::Ask { token, question, mut reply, place } => {
            let session = match session {
                Ok(session) => session,
                Err(failure) => return drop(reply.send(Err(failure))),
            };
            // A client that went away drops its receiver, and with this
            // future goes everything that was asked for.
            let asking = ask::ask(&session, &token, question);
            let answered = tokio::select! {
                answered = asking => answered,
                () = reply.closed() => return,
            };
            match answered {
                Ok((answered, more)) => {
                    let _ = reply.send(Ok(answered));
                    if let Some(more) = more {
                        more.await;
                    }
                }
                Err(failure) => drop(reply.send(Err(failure))),
            }
            drop(place);
        }
        Command::Tail { token, filter, after, ring, opened, ended } => match session {
            Ok(session) => {
                if let Some(end) = tail::run(&link, session, &token, &filter, after, &ring, opened).await {
                    let _ = ended.send(end);
                }
            }
            Err(failure) => drop(opened.send(Err(failure))),
        },
        Command::FindWriter { token, reply } => {
            let found = match session {
                Ok(session) => write::find(&session, &token).await,
                Err(failure) => Err(failure),
            };
            let _ = reply.send(found);
        }
        Command::Write { token, client, batches, metadata, reply } => {
            let written = match session {
                Ok(session) => write::write(&session, &token, client, &batches, &metadata).await,
                Err(failure) => Err(failure),
            };
            let _ = reply.send(written);
        }
        Command::Alive(reply) => drop(reply.send(())),
    }
}

/// Dials, keeps the session, dials again.
async fn keep(config: SessionConfig, link: Link, check: Check, stop: &mut oneshot::Receiver<()>) {
    let peer = PeerDescription {
        product: "lm-gateway".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        ..PeerDescription::default()
    };
    let mut dialer = Dialer::new(config.dialer.clone());
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
    // The same failure is logged once.
    let mut logged = String::new();
    // Dialed while an older session was still in use.
    let mut moved = None;
    loop {
        let opened = match moved.take() {
            Some(opened) => Ok(opened),
            None => tokio::select! {
                opened = open(&mut dialer, &peer, &config) => opened,
                _ = &mut *stop => return,
            },
        };
        let why = match opened {
            Ok((connected, gateway, session)) => {
                tracing::info!(endpoint = %connected.endpoint, session = connected.session_id, "session with the collector");
                backoff.reset();
                logged.clear();
                let (users, writers) = (session.users.clone(), session.writers.clone());
                *link.borrow_mut() = Ok(session);
                check.pass();
                let ended = tokio::select! {
                    closing = connected.closed() => Some(closing.reason),
                    reason = heartbeats(&gateway) => Some(reason),
                    never = revocations(&gateway, &users, writers.as_ref()) => match never {},
                    never = renewals(&connected, &gateway, &users, config.patience) => match never {},
                    newer = better(&mut dialer, &connected, &peer, &config) => {
                        tracing::info!("QUIC works again: moving there");
                        moved = Some(newer);
                        let older = std::mem::replace(&mut *link.borrow_mut(), Err(LOST));
                        tokio::task::spawn_local(retire(connected, older));
                        continue;
                    }
                    _ = &mut *stop => None,
                };
                *link.borrow_mut() = Err(LOST);
                check.fail(LOST);
                connected.close().await;
                let Some(reason) = ended else { return };
                tracing::warn!(%reason, "the session with the collector ended");
                LOST
            }
            Err(error) => {
                let text = error.to_string();
                if text != logged {
                    tracing::warn!(error = %text, "no session with a collector");
                    logged = text;
                }
                error.short()
            }
        };
        *link.borrow_mut() = Err(why);
        check.fail(why);
        let wait = backoff.next(random());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = &mut *stop => return,
        }
    }
}

/// How capnp-rpc marks what the peer said.
const REMOTE: &str = "remote exception: ";
const ENDED: &str = "the session with the collector ended; try again";
const LOST: &str = "the connection was lost";

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the token is not a gateway's: the collector granted something else")]
    Role,
    #[error("the collector gave no access to its users: {0}")]
    Attach(String),
}

impl OpenError {
    /// For clients and readiness: no addresses, no paths.
    fn short(&self) -> &'static str {
        match self {
            OpenError::Dial(DialError::Unreachable { .. }) => "the collector cannot be reached",
            OpenError::Dial(DialError::Untrusted { .. }) => "the collector's certificate is not trusted",
            OpenError::Dial(DialError::Refused { .. }) => "the collector refused the gateway",
            OpenError::Dial(DialError::Tls(_) | DialError::Secret(_)) => {
                "the gateway's token or CA file is unusable"
            }
            OpenError::Dial(DialError::Socket(_) | DialError::NoEndpoint) => "no socket could be opened",
            OpenError::Role => "the gateway's token is not a gateway's",
            OpenError::Attach(_) => "the collector gave no access to its users",
        }
    }
}

async fn open(
    dialer: &mut Dialer,
    peer: &PeerDescription,
    config: &SessionConfig,
) -> Result<(Connected, gateway_session::Client, Rc<Session>), OpenError> {
    let connected = dialer.dial(peer, &[], &[]).await?;
    let Granted::Gateway(gateway) = connected.granted.clone() else { return Err(OpenError::Role) };
    let attach = |error: capnp::Error| OpenError::Attach(error.to_string());
    let stream = QueryStream::open(&connected, &gateway).await.map_err(attach)?;
    let patience = config.patience;
    let users = |stream| Users::new(stream, config.users_max, config.user_cache, patience);
    let writers = QueryStream::open_for_writes(&connected, &gateway).await.map_err(attach)?;
    let session = Session { users: users(stream), writers: writers.map(users), patience };
    Ok((connected, gateway, Rc::new(session)))
}

/// A session over QUIC, once that works again where it did not.
async fn better(
    dialer: &mut Dialer,
    present: &Connected,
    peer: &PeerDescription,
    config: &SessionConfig,
) -> (Connected, gateway_session::Client, Rc<Session>) {
    loop {
        present.can_return().await;
        dialer.stay_with(present);
        match open(dialer, peer, config).await {
            Ok(opened) if opened.0.path().transport == "quic" => return opened,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "no session over QUIC"),
        }
    }
}

/// Lets what is under way on a session come to its end, and closes it.
async fn retire(connected: Connected, session: Result<Rc<Session>, &'static str>) {
    let Ok(session) = session else { return };
    let quiet = async {
        while Rc::strong_count(&session) > 1 {
            tokio::time::sleep(RETIRE_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(RETIRE_WAIT, quiet).await;
    connected.close().await;
}

/// Ends with the reason when one is not answered.
async fn heartbeats(gateway: &gateway_session::Client) -> String {
    loop {
        tokio::time::sleep(HEARTBEAT_PERIOD).await;
        let mut request = gateway.heartbeat_request();
        request.get().set_unix_ms(unix_nano() / 1_000_000);
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, request.send().promise).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return format!("heartbeat: {error}"),
            Err(_) => return "a heartbeat was not answered".to_owned(),
        }
    }
}

/// Forgets users when the collector says so. A collector that does not know
/// the call leaves it to how long each exchange may be remembered.
async fn revocations(
    gateway: &gateway_session::Client,
    users: &Users,
    writers: Option<&Users>,
) -> Infallible {
    let mut after = 0;
    loop {
        let begun = tokio::time::Instant::now();
        let mut request = gateway.revocations_request();
        request.get().set_after_generation(after);
        request.get().set_wait_ms(REVOCATIONS_WAIT.as_millis() as u32);
        let patience = REVOCATIONS_WAIT + HEARTBEAT_TIMEOUT;
        let answered = tokio::time::timeout(patience, request.send().promise).await;
        let generation = match answered {
            Ok(Ok(response)) => response.get().map(|results| results.get_generation()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(capnp::Error::failed("no answer in time".to_owned())),
        };
        match generation {
            Ok(generation) if generation != after => {
                after = generation;
                users.set_generation(generation);
                writers.inspect(|writers| writers.set_generation(generation));
                continue;
            }
            Ok(_) => {}
            Err(error) if error.kind == capnp::ErrorKind::Unimplemented => std::future::pending().await,
            Err(error) => tracing::debug!(%error, "the collector tells no revocations"),
        }
        // A collector that answers at once must not spin us.
        tokio::time::sleep_until(begun + REVOCATIONS_PAUSE).await;
    }
}

/// What a failed call means to the client. What the collector did not say came
/// from the transport, in words that depend on how exactly it ended.
fn call_failed(error: &capnp::Error) -> Failure {
    if error.to_string().contains(REMOTE) {
        failed(error)
    } else {
        Failure::new(FailureKind::Unavailable, ENDED)
    }
}

/// What a remote error or an answer that is not understood means to the client.
fn failed(error: &capnp::Error) -> Failure {
    let text = error.to_string();
    let message = text.split_once(REMOTE).map_or(&text[..], |(_, message)| message);
    let kind = match error.kind {
        capnp::ErrorKind::Disconnected => {
            return Failure::new(FailureKind::Unavailable, ENDED);
        }
        capnp::ErrorKind::Overloaded => FailureKind::Overloaded,
        _ => match message.split(':').next().unwrap_or("") {
            "revoked" | "denied" | "expired" => FailureKind::Unauthorized,
            "invalid" => FailureKind::BadData,
            "quota" => FailureKind::Limit,
            "overloaded" => FailureKind::Overloaded,
            _ => FailureKind::Internal,
        },
    };
    Failure::new(kind, message)
}

fn timed_out() -> Failure {
    Failure::new(FailureKind::Timeout, "the collector did not answer in time")
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn unix_nano() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}

/// A number that nobody else makes up; 0 and time are no secret here.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| unix_nano() as u64)
}

pub(crate) fn random() -> u32 {
    // Without randomness every gateway waits for half of the ceiling.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
