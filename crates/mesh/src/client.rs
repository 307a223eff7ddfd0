//! The calling side: dial, log in, open further streams.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_model::{Incarnation, Resume, Stream};
use lm_schema::mesh_capnp::{agent_session, attach, attached, gate, gateway_session, grant};
use lm_schema::operator_capnp::operator;
use lm_schema::{BATCH_VERSION, batch};

use crate::network::{Meter, StreamLimits, Terms};
use crate::rpc::{StreamEnd, StreamSystem};
use crate::secret::{SecretError, read_secret};
use crate::tickets::Attachment;
use crate::{CloseCode, Closing, PeerDescription, TlsError, tls, transport};

/// Name resolution, handshake and login together.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

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
    #[error("cannot open a UDP socket: {0}")]
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
    connection: quinn::Connection,
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
        let unreachable = |message: String| DialError::Unreachable { endpoint: endpoint.to_owned(), message };
        let addr = resolve(endpoint).await.map_err(|error| unreachable(error.to_string()))?;
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        let name =
            self.config.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());

        let mut config = quinn::ClientConfig::new(Arc::new(tls::client(&self.config.ca)?));
        config.transport_config(transport::client());
        let connecting = self
            .socket(addr)?
            .connect_with(config, addr, &name)
            .map_err(|error| unreachable(error.to_string()))?;
        let connection = connecting.await.map_err(|error| match error {
            // A TLS alert of our own making: the certificate did not hold.
            quinn::ConnectionError::TransportError(transport) => DialError::Untrusted {
                endpoint: endpoint.to_owned(),
                ca: self.config.ca.clone(),
                message: transport.to_string(),
            },
            other => unreachable(other.to_string()),
        })?;

        let control = open_stream(&connection).await.map_err(|error| unreachable(error.to_string()))?;
        let gate: gate::Client = control;
        let mut request = gate.login_request();
        request.get().init_credential().set_bearer(token);
        write_facts(peer, cluster_id, incarnations, request.get().init_peer());
        let response =
            request.send().promise.await.map_err(|error| self.refusal(endpoint, &connection, &error))?;
        let grant = response.get().and_then(|results| results.get_grant());
        grant
            .and_then(|grant| read_grant(endpoint, grant, connection.clone()))
            .map_err(|error| DialError::Refused { endpoint: endpoint.to_owned(), message: error.to_string() })
    }

    /// A failed login: either the collector's word, or a lost connection.
    fn refusal(&self, endpoint: &str, connection: &quinn::Connection, error: &capnp::Error) -> DialError {
        match connection.close_reason() {
            Some(reason) if error.kind == capnp::ErrorKind::Disconnected => {
                DialError::Unreachable { endpoint: endpoint.to_owned(), message: reason.to_string() }
            }
            _ => {
                connection.close(CloseCode::Done.number(), b"");
                let text = error.to_string();
                let message = text.split_once("remote exception: ").map_or(&text[..], |(_, message)| message);
                DialError::Refused { endpoint: endpoint.to_owned(), message: message.to_owned() }
            }
        }
    }

    fn socket(&mut self, addr: SocketAddr) -> io::Result<&quinn::Endpoint> {
        let any: SocketAddr = if addr.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let fits = self
            .endpoint
            .as_ref()
            .and_then(|known| known.local_addr().ok())
            .is_some_and(|local| local.is_ipv4() == addr.is_ipv4());
        if !fits {
            let socket = transport::bind(any)?;
            let runtime = Arc::new(quinn::TokioRuntime);
            self.endpoint =
                Some(quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)?);
        }
        Ok(self.endpoint.as_ref().expect("the line above has just set it"))
    }
}

impl Connected {
    /// Opens another stream and redeems `ticket` on it.
    pub async fn attach(&self, ticket: &[u8]) -> Result<Attachment, capnp::Error> {
        let door: attach::Client = open_stream(&self.connection).await?;
        let mut request = door.attach_request();
        request.get().set_ticket(ticket);
        let response = request.send().promise.await?;
        Ok(match response.get()?.get_attached()?.which()? {
            attached::Sink(sink) => Attachment::Sink(sink?),
            attached::Users(users) => Attachment::Users(users?),
        })
    }

    /// Waits until the connection is gone and says why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> Closing {
        Closing::of(&self.connection.closed().await)
    }

    /// Why the connection is gone, if it is.
    pub fn closing(&self) -> Option<Closing> {
        self.connection.close_reason().map(|reason| Closing::of(&reason))
    }

    /// Round-trip time, packets and bytes.
    pub fn stats(&self) -> quinn::ConnectionStats {
        self.connection.stats()
    }

    /// Says goodbye. The server drops everything that was granted.
    pub async fn close(self) {
        self.connection.close(CloseCode::Done.number(), b"done");
        // One flight: the driver sends the close frame when it next runs.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.connection.closed()).await;
        tokio::task::yield_now().await;
    }
}

async fn resolve(endpoint: &str) -> io::Result<SocketAddr> {
    let endpoint = endpoint.to_owned();
    if let Ok(addr) = endpoint.parse() {
        return Ok(addr);
    }
    let found = tokio::task::spawn_blocking(move || endpoint.to_socket_addrs().map(|mut found| found.next()));
    found.await.map_err(io::Error::other)??.ok_or_else(|| io::Error::other("the name has no address"))
}

/// A stream with an RPC system of its own; returns the peer's bootstrap.
async fn open_stream<C: capnp::capability::FromClientHook>(
    connection: &quinn::Connection,
) -> Result<C, capnp::Error> {
    let (send, receive) = connection
        .open_bi()
        .await
        .map_err(|error| capnp::Error::disconnected(format!("no stream: {error}")))?;
    let terms = Rc::new(Terms::new(StreamLimits::CLIENT, Arc::new(Meter::default())));
    let (system, bootstrap) = StreamSystem::client(receive, send, terms);
    let connection = connection.clone();
    tokio::task::spawn_local(async move {
        match system.run(connection.closed()).await {
            Ok(()) => {}
            Err(StreamEnd::Violation(reason)) => {
                tracing::warn!(%reason, "the collector broke a bound");
                connection.close(CloseCode::Limit.number(), reason.as_bytes());
            }
            Err(error) => tracing::debug!(error = ?error.to_string(), "a stream failed"),
        }
    });
    Ok(bootstrap)
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
    to.set_cluster_id(cluster_id);
    to.reborrow().init_batch_versions(1).set(0, BATCH_VERSION);
    let mut list = to.init_incarnations(incarnations.len() as u32);
    for (index, (stream, incarnation)) in incarnations.iter().enumerate() {
        let mut entry = list.reborrow().get(index as u32);
        entry.set_stream(batch::wire_stream(*stream));
        batch::write_incarnation(*incarnation, entry.init_incarnation());
    }
}

fn read_grant(
    endpoint: &str,
    from: grant::Reader<'_>,
    connection: quinn::Connection,
) -> Result<Connected, capnp::Error> {
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
        connection,
    })
}
