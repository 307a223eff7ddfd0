//! The calling side: dial, log in, open further streams.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_model::{Incarnation, Resume, Stream};
use lm_schema::mesh_capnp::{agent_session, attach, attached, credential, gate, gateway_session, grant};
use lm_schema::operator_capnp::operator;
use lm_schema::{BATCH_VERSION, batch};

use crate::attached::{AttachedStream, bootstrap};
use crate::link::Link;
use crate::reach::{Outgoing, Probe, Reached, reach, reach_local};
use crate::secret::{SecretError, read_secret};
use crate::tickets::Attachment;
use crate::{CloseCode, Closing, KeepAlive, PathFacts, PeerDescription, TlsError, Transport};

/// Name resolution, handshake and login together.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// A QUIC connection is looked at this often...
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// ...and given up when packets went out and none came in this many times.
const SILENT_LOOKS: u32 = 8;
/// Packets that must have gone unanswered by then: one alone may be the
/// acknowledgement that needs no answer.
const UNANSWERED_MIN: u64 = 3;
/// How long the reason may take to arrive after its consequences.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Where and how to reach a collector.
#[derive(Clone, Debug)]
pub struct DialerConfig {
    /// `host:port`, tried in order.
    pub endpoints: Vec<String>,
    /// Name that the certificate must carry; the endpoint's host when absent.
    pub server_name: Option<String>,
    /// CA certificates, PEM.
    pub ca: PathBuf,
    /// Bearer token; read again at every dial, so that it can be rotated.
    pub token: PathBuf,
    pub transport: Transport,
    /// With [`Transport::Auto`]: how often a session over TCP looks whether
    /// QUIC gets through again.
    pub retry_quic_after: Duration,
    pub keep_alive: KeepAlive,
}

/// Why no session came about. The variants differ in what the caller does.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing was reached: try again later.
    #[error("cannot reach {endpoint}: {message}")]
    Unreachable { endpoint: String, message: String },
    /// The server's certificate is not signed by our CA or names another host.
    #[error("{endpoint} shows a certificate that {ca} does not vouch for: {message}")]
    Untrusted { endpoint: String, ca: PathBuf, message: String },
    /// The collector said no, with its stable code first.
    #[error("{endpoint} refused the session: {message}")]
    Refused { endpoint: String, message: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("cannot open a socket: {0}")]
    Socket(#[from] io::Error),
    #[error("no endpoint is configured")]
    NoEndpoint,
}

/// Opens sessions. Must be used within a `LocalSet`.
pub struct Dialer {
    config: DialerConfig,
    endpoint: Option<quinn::Endpoint>,
    next: usize,
}

/// A session: what was granted, and the connection that carries it.
pub struct Connected {
    pub endpoint: String,
    pub session_id: u64,
    pub identity: String,
    pub cluster_id: Vec<u8>,
    pub resume: Vec<Resume>,
    pub batch_bytes_max: usize,
    /// Of a body before compression.
    pub raw_bytes_max: usize,
    pub calls_in_flight_max: usize,
    pub log_line_bytes_max: usize,
    pub logs_per_batch_max: usize,
    pub series_per_batch_max: usize,
    pub granted: Granted,
    open: Open,
}

/// The connection of a session; it is closed when this is dropped.
struct Open {
    link: Link,
    streams: Outgoing,
    probe: Option<Probe>,
    /// Whether TCP might do where QUIC has fallen silent.
    has_fallback: bool,
    silent: OnceCell<Closing>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.link.close(CloseCode::Done, "done");
    }
}

/// The capability of this session.
#[derive(Clone)]
pub enum Granted {
    Agent(agent_session::Client),
    Gateway(gateway_session::Client),
    Operator(operator::Client),
}

impl Dialer {
    pub fn new(config: DialerConfig) -> Self {
        Dialer { config, endpoint: None, next: 0 }
    }

    /// Opens a session with the next endpoint of the list.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call leaves nothing behind but a connection that
    /// the server ends by itself.
    pub async fn dial(
        &mut self,
        peer: &PeerDescription,
        cluster_id: &[u8],
        incarnations: &[(Stream, Incarnation)],
    ) -> Result<Connected, DialError> {
        let endpoint = self
            .config
            .endpoints
            .get(self.next % self.config.endpoints.len().max(1))
            .ok_or(DialError::NoEndpoint)?;
        let endpoint = endpoint.clone();
        self.next = self.next.wrapping_add(1);
        let unreachable = |message: String| DialError::Unreachable { endpoint: endpoint.clone(), message };
        let token = read_secret(&self.config.token)?;
        match tokio::time::timeout(
            DIAL_DEADLINE,
            self.open(&endpoint, &token, peer, cluster_id, incarnations),
        )
        .await
        {
            Ok(result) => result,
            Err(_) => Err(unreachable(format!("no session within {} s", DIAL_DEADLINE.as_secs()))),
        }
    }

    async fn open(
        &mut self,
        endpoint: &str,
        token: &str,
        peer: &PeerDescription,
        cluster_id: &[u8],
        incarnations: &[(Stream, Incarnation)],
    ) -> Result<Connected, DialError> {
        let reached = reach(&self.config, endpoint, &mut self.endpoint).await?;
        let credential = |mut to: credential::Builder<'_>| to.set_bearer(token);
        let has_fallback = self.config.transport == Transport::Auto;
        log_in(endpoint, reached, has_fallback, credential, peer, cluster_id, incarnations).await
    }

    /// The next dial goes where `connected` is.
    pub fn stay_with(&mut self, connected: &Connected) {
        if let Some(at) = self.config.endpoints.iter().position(|known| *known == connected.endpoint) {
            self.next = at;
        }
    }
}

/// Opens a session with the collector of this host over its unix socket: the
/// kernel tells it who we are. Must be used within a `LocalSet`.
///
/// # Cancel safety
///
/// As [`Dialer::dial`].
pub async fn dial_local(path: &Path, peer: &PeerDescription) -> Result<Connected, DialError> {
    let endpoint = path.display().to_string();
    let unreachable = |message: String| DialError::Unreachable { endpoint: endpoint.clone(), message };
    let dialing = async {
        let reached = reach_local(path).await.map_err(|error| unreachable(error.to_string()))?;
        let credential = |mut to: credential::Builder<'_>| to.set_none(());
        log_in(&endpoint, reached, false, credential, peer, &[], &[]).await
    };
    match tokio::time::timeout(DIAL_DEADLINE, dialing).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(format!("no session within {} s", DIAL_DEADLINE.as_secs()))),
    }
}

async fn log_in(
    endpoint: &str,
    reached: Reached,
    has_fallback: bool,
    credential: impl FnOnce(credential::Builder<'_>),
    peer: &PeerDescription,
    cluster_id: &[u8],
    incarnations: &[(Stream, Incarnation)],
) -> Result<Connected, DialError> {
    let Reached { link, control, streams, probe } = reached;
    let open = Open { link, streams, probe, has_fallback, silent: OnceCell::new() };
    let (gate, control): (gate::Client, _) = bootstrap(control, &open.link);
    control.keep();
    let mut request = gate.login_request();
    credential(request.get().init_credential());
    write_facts(peer, cluster_id, incarnations, request.get().init_peer());
    let response = request.send().promise.await.map_err(|error| refusal(endpoint, &open.link, &error))?;
    let grant = response.get().and_then(|results| results.get_grant());
    grant
        .and_then(|grant| read_grant(endpoint, grant, open))
        .map_err(|error| DialError::Refused { endpoint: endpoint.to_owned(), message: error.to_string() })
}

/// A failed login: either the collector's word, or a lost connection.
fn refusal(endpoint: &str, link: &Link, error: &capnp::Error) -> DialError {
    match link.closing() {
        Some(closing) if error.kind == capnp::ErrorKind::Disconnected => {
            DialError::Unreachable { endpoint: endpoint.to_owned(), message: closing.reason }
        }
        _ => {
            let text = error.to_string();
            let message = text.split_once("remote exception: ").map_or(&text[..], |(_, message)| message);
            DialError::Refused { endpoint: endpoint.to_owned(), message: message.to_owned() }
        }
    }
}

impl Connected {
    /// Opens another stream and redeems `ticket` on it. The stream lasts as
    /// long as the session.
    pub async fn attach(&self, ticket: &[u8]) -> Result<Attachment, capnp::Error> {
        let (attachment, stream) = self.attach_stream(ticket).await?;
        stream.keep();
        Ok(attachment)
    }

    /// As [`attach`](Self::attach), for a stream that is to end before its
    /// session does: when the second value is dropped.
    pub async fn attach_stream(&self, ticket: &[u8]) -> Result<(Attachment, AttachedStream), capnp::Error> {
        let stream = self.open.streams.open().await?;
        let (door, stream): (attach::Client, _) = bootstrap(stream, &self.open.link);
        let mut request = door.attach_request();
        request.get().set_ticket(ticket);
        let response = request.send().promise.await?;
        let attachment = match response.get()?.get_attached()?.which()? {
            attached::Sink(sink) => Attachment::Sink(sink?),
            attached::Users(users) => Attachment::Users(users?),
        };
        Ok((attachment, stream))
    }

    /// Waits until the connection is gone and says why. Where there is a
    /// fallback, a path that has fallen silent counts as gone: QUIC itself
    /// would wait for a minute.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> Closing {
        let Link::Quic(connection) = &self.open.link else { return self.open.link.closed().await };
        if !self.open.has_fallback {
            return self.open.link.closed().await;
        }
        tokio::select! {
            closing = self.open.link.closed() => closing,
            () = silence(connection) => {
                let seconds = (LOOK_INTERVAL * SILENT_LOOKS).as_secs();
                let closing = Closing::lost(format!("no packet arrived for {seconds} s"));
                let closing = self.open.silent.get_or_init(|| closing).clone();
                self.open.link.close(CloseCode::Done, "the path is silent");
                closing
            }
        }
    }

    /// Why the connection is gone, if it is or is about to be: over TCP a
    /// stream may break before the reason has arrived.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn last_words(&self) -> Option<Closing> {
        if let Some(closing) = self.open.silent.get() {
            return Some(closing.clone());
        }
        tokio::time::timeout(LAST_WORDS, self.open.link.closed()).await.ok()
    }

    /// Waits until a session that had to fall back to TCP could move to QUIC;
    /// for ever when there is nothing to move.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn can_return(&self) {
        match &self.open.probe {
            Some(probe) => probe.succeed().await,
            None => std::future::pending().await,
        }
    }

    /// Transport, bytes, and what QUIC knows of the path.
    pub fn path(&self) -> PathFacts {
        self.open.link.path()
    }

    /// Says goodbye. The server drops everything that was granted.
    pub async fn close(self) {
        let link = &self.open.link;
        link.close(CloseCode::Done, "done");
        // One flight: the driver sends the close frame when it next runs.
        let _ = tokio::time::timeout(Duration::from_millis(200), link.closed()).await;
        tokio::task::yield_now().await;
    }
}

/// Ends when packets go out and none comes in. Counted in looks, not by the
/// clock: a process that stood still has not listened either.
async fn silence(connection: &quinn::Connection) {
    let mut before = connection.stats();
    let (mut looks, mut unanswered) = (0, 0);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = connection.stats();
        if now.udp_rx.datagrams != before.udp_rx.datagrams {
            (looks, unanswered) = (0, 0);
        } else {
            unanswered += now.udp_tx.datagrams - before.udp_tx.datagrams;
            looks += u32::from(unanswered > 0);
        }
        if looks >= SILENT_LOOKS && unanswered >= UNANSWERED_MIN {
            return;
        }
        before = now;
    }
}

fn write_facts(
    peer: &PeerDescription,
    cluster_id: &[u8],
    incarnations: &[(Stream, Incarnation)],
    mut to: lm_schema::mesh_capnp::peer_facts::Builder<'_>,
) {
    to.set_product(&peer.product[..]);
    to.set_version(&peer.version[..]);
    to.set_hostname(&peer.hostname[..]);
    to.set_job(&peer.job[..]);
    to.set_cluster_id(cluster_id);
    to.reborrow().init_batch_versions(1).set(0, BATCH_VERSION);
    let mut list = to.init_incarnations(incarnations.len() as u32);
    for (index, (stream, incarnation)) in incarnations.iter().enumerate() {
        let mut entry = list.reborrow().get(index as u32);
        entry.set_stream(batch::wire_stream(*stream));
        batch::write_incarnation(*incarnation, entry.init_incarnation());
    }
}

fn read_grant(endpoint: &str, from: grant::Reader<'_>, open: Open) -> Result<Connected, capnp::Error> {
    let mut resume = Vec::new();
    for entry in from.get_resume()? {
        resume.push(Resume {
            stream: batch::read_stream(entry.get_stream()?),
            incarnation: batch::read_incarnation(entry.get_incarnation()?),
            durable_end: entry.get_durable_end(),
            landed_end: entry.get_landed_end(),
        });
    }
    let limits = from.get_limits()?;
    let granted = match from.which()? {
        grant::Agent(client) => Granted::Agent(client?),
        grant::Gateway(client) => Granted::Gateway(client?),
        grant::Operator(client) => Granted::Operator(client?),
        grant::None(()) => return Err(capnp::Error::failed("the grant is empty".to_owned())),
    };
    Ok(Connected {
        endpoint: endpoint.to_owned(),
        session_id: from.get_session_id(),
        identity: from.get_identity()?.to_string()?,
        cluster_id: from.get_cluster_id()?.to_vec(),
        resume,
        batch_bytes_max: limits.get_batch_bytes_max() as usize,
        raw_bytes_max: limits.get_batch_raw_bytes_max() as usize,
        calls_in_flight_max: usize::from(limits.get_calls_in_flight_max()).max(1),
        log_line_bytes_max: limits.get_log_line_bytes_max() as usize,
        logs_per_batch_max: limits.get_logs_per_batch_max() as usize,
        series_per_batch_max: limits.get_series_per_batch_max() as usize,
        granted,
        open,
    })
}
