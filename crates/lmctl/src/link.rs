//! The session that a command runs in.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lm_mesh::{Backoff, CloseCode, Connected, DialError, Dialer, DialerConfig, Granted, PeerDescription};
use lm_schema::operator_capnp::operator;

use crate::failure::{EXIT_NOT_ALLOWED, EXIT_SOFTWARE, EXIT_UNAVAILABLE, Failure};
use crate::{Connection, Transport};

/// Where a collector of this host listens.
const COLLECTOR: &str = "127.0.0.1:4433";
pub const SOCKET: &str = "/run/lightmetrics/collector.sock";
/// Of no use here: a command does not move to another session.
const RETRY_QUIC_AFTER: Duration = Duration::from_secs(3600);
/// A collector that does not answer a call for this long is given up.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries to reach a collector that was lost, growing.
const RECONNECT_WAIT: Duration = Duration::from_millis(250);
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(4);
/// Entries of one list; beyond it, a narrower question is wanted.
const ENTRIES_MAX: usize = 1 << 20;

/// An operator's session, and how to open another.
pub struct Link {
    connection: Connection,
    live: RefCell<Rc<Live>>,
}

struct Live {
    session: Connected,
    operator: operator::Client,
}

impl Link {
    pub async fn open(connection: Connection) -> Result<Link, Failure> {
        let live = log_in(&connection).await?;
        Ok(Link { connection, live: RefCell::new(Rc::new(live)) })
    }

    pub fn operator(&self) -> operator::Client {
        self.live.borrow().operator.clone()
    }

    /// Our own session: lists leave it out.
    pub fn own(&self) -> u64 {
        self.live.borrow().session.session_id
    }

    pub fn identity(&self) -> String {
        self.live.borrow().session.identity.clone()
    }

    pub fn endpoint(&self) -> String {
        self.live.borrow().session.endpoint.clone()
    }

    /// Opens another session in the place of one that was lost, however long
    /// that takes.
    ///
    /// # Errors
    ///
    /// When the collector refuses us, or an operator ended the session.
    pub async fn reopen(&self) -> Result<(), Failure> {
        let lost = self.live.borrow().clone();
        if let Some(closing) = lost.session.last_words().await
            && let Some(CloseCode::Revoked | CloseCode::Denied) = closing.code
        {
            return Err(Failure::said(&closing.reason));
        }
        drop(lost);
        let mut backoff = Backoff::new(RECONNECT_WAIT, RECONNECT_WAIT_MAX);
        loop {
            match log_in(&self.connection).await {
                Ok(live) => {
                    self.live.replace(Rc::new(live));
                    return Ok(());
                }
                Err(failure) if failure.is_passing() => {}
                Err(failure) => return Err(failure),
            }
            // The longest wait of each round: one person waits, not a fleet.
            tokio::time::sleep(backoff.next(u32::MAX)).await;
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Some(live) = Rc::into_inner(self.live.into_inner()) {
            live.session.close().await;
        }
    }
}

async fn log_in(connection: &Connection) -> Result<Live, Failure> {
    let peer = PeerDescription {
        product: "lmctl".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: String::new(),
        ..PeerDescription::default()
    };
    let session = dial(connection.clone(), &peer).await?;
    match &session.granted {
        Granted::Operator(operator) => Ok(Live { operator: operator.clone(), session }),
        Granted::Agent(_) | Granted::Gateway(_) => Err(Failure {
            code: EXIT_NOT_ALLOWED,
            message: format!("the token of {} is not an operator's", session.identity),
            advice: "Name the file with an operator's token with --token-file.",
        }),
    }
}

async fn dial(connection: Connection, peer: &PeerDescription) -> Result<Connected, DialError> {
    let Connection { collector, socket, transport, server_name, ca, token_file } = connection;
    let usual = || Some(PathBuf::from(SOCKET)).filter(|path| collector.is_none() && path.exists());
    if let Some(socket) = socket.or_else(usual) {
        return lm_mesh::dial_local(&socket, peer).await;
    }
    let config = DialerConfig {
        endpoints: vec![collector.unwrap_or_else(|| COLLECTOR.to_owned())],
        server_name,
        ca,
        token: token_file,
        transport: match transport {
            Transport::Auto => lm_mesh::Transport::Auto,
            Transport::Quic => lm_mesh::Transport::Quic,
            Transport::Tcp => lm_mesh::Transport::Tcp,
        },
        retry_quic_after: RETRY_QUIC_AFTER,
        keep_alive: lm_mesh::KeepAlive::default(),
    };
    Dialer::new(config).dial(peer, &[], &[]).await
}

/// Waits for an answer.
pub async fn answer<T>(promise: impl Future<Output = Result<T, capnp::Error>>) -> Result<T, Failure> {
    answer_within(PATIENCE, promise).await
}

/// Waits for an answer that the collector may hold back for `wait`.
pub async fn answer_within<T>(
    wait: Duration,
    promise: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(wait, promise).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let message = format!("the collector did not answer within {} s", wait.as_secs());
            Err(Failure::new(EXIT_UNAVAILABLE, message))
        }
    }
}

/// The longest wait that [`answer`] allows.
pub fn patience() -> Duration {
    PATIENCE
}

/// Whether a list that is read page by page goes on as it must: `last` is its
/// last id, `after` the one that was asked for.
pub fn goes_on(after: u64, last: Option<u64>, entries: usize) -> Result<u64, Failure> {
    match last {
        Some(last) if last > after && entries < ENTRIES_MAX => Ok(last),
        Some(last) if last > after => {
            Err(Failure::new(EXIT_SOFTWARE, format!("more than {ENTRIES_MAX} entries; ask for fewer")))
        }
        _ => Err(Failure::new(EXIT_SOFTWARE, "the collector's list does not come to an end")),
    }
}

pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
