//! The listening side: one endpoint, N worker threads, a session stays on its
//! worker.
//!
//! RPC objects are not `Send`. The endpoint's thread hands each incoming
//! connection to a worker before its handshake, so that all of its crypto,
//! timers and RPC run there (measured: a third less CPU a call than handing
//! over established connections). A panic in one session ends that session.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capnp_rpc::rpc_twoparty_capnp::Side;
use futures::future::LocalBoxFuture;
use lm_model::{Incarnation, Resume, Stream};
use lm_schema::mesh_capnp::{self, attach, attached, credential, gate, grant, peer_facts};
use lm_schema::{BATCH_VERSION, batch};
use tokio::sync::{mpsc, oneshot, watch};

use crate::rpc::{StreamLimits, system};
use crate::tickets::{Attachment, Tickets};
use crate::transport::{self, STREAMS_MAX};
use crate::{CloseCode, Credentials, PeerDescription, Principal, Registry, Session, TlsError, tls};

/// A peer that does not log in is cut after this long.
const LOGIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long a drain waits for peers to take note.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Handshakes handed to a worker and not yet begun.
const WORKER_BACKLOG: usize = 256;
/// Connections that have not been accepted yet, in the endpoint.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_TOTAL_BYTES_MAX: u64 = 16 << 20;
/// With more connections open than this, new peers must prove their address.
const UNVALIDATED_MAX: usize = 64;

/// How a server listens.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Kept over restarts, so that peers of a killed server learn at once
    /// that their connection is gone. 64 random bytes.
    pub reset_key: [u8; 64],
    pub workers: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {addr} (UDP): {error}")]
    Bind { addr: SocketAddr, error: std::io::Error },
    #[error("cannot start thread {name}: {error}")]
    Thread { name: String, error: std::io::Error },
}

/// What the process decides about peers. One value serves all workers.
pub trait Host: Send + Sync + 'static {
    /// Builds the capabilities of a peer whose credential was right. Runs on
    /// the session's worker.
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>>;
}

/// A peer at login, and afterwards the context of its capabilities.
pub struct Peer {
    pub session: Arc<Session>,
    /// The cluster that the peer's queue belongs to; empty when none yet.
    pub cluster_id: Vec<u8>,
    /// What the peer's queue still holds.
    pub incarnations: Vec<(Stream, Incarnation)>,
    pub tickets: Tickets,
}

/// What a peer gets.
pub struct Admission {
    pub cluster_id: Vec<u8>,
    pub resume: Vec<Resume>,
    pub limits: lm_schema::DecodeLimits,
    pub batch_bytes_max: u32,
    pub calls_in_flight_max: u16,
    pub capability: Capability,
}

/// The one thing that a login grants.
pub enum Capability {
    Agent(mesh_capnp::agent_session::Client),
    Gateway(mesh_capnp::gateway_session::Client),
    Operator(lm_schema::operator_capnp::operator::Client),
}

/// Why a login was refused: a stable code and what to do.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

struct Shared {
    host: Arc<dyn Host>,
    credentials: Credentials,
    registry: Registry,
    next_session: AtomicU64,
}

/// A listening endpoint with its threads. Dropping it closes all sessions
/// without a farewell; call [`Server::drain`] for a clean end.
pub struct Server {
    local_addr: SocketAddr,
    registry: Registry,
    stop: watch::Sender<bool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Binds, and starts the endpoint's thread and the workers.
    ///
    /// # Errors
    ///
    /// When a certificate is wrong, the address is in use, or a thread cannot
    /// start; nothing is left running then.
    pub fn start(
        config: ServerConfig,
        credentials: Credentials,
        host: Arc<dyn Host>,
    ) -> Result<Server, ServerError> {
        let crypto = tls::server(&config.certificate, &config.key)?;
        let bind = |error| ServerError::Bind { addr: config.listen, error };
        let socket = transport::bind(config.listen).map_err(bind)?;
        let local_addr = socket.local_addr().map_err(bind)?;

        let mut quic = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(transport::config(1))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
        let mut endpoint = quinn::EndpointConfig::new(Arc::new(ring::hmac::Key::new(
            ring::hmac::HMAC_SHA256,
            &config.reset_key,
        )));
        endpoint
            .min_reset_interval(Duration::from_millis(1))
            .cid_generator(|| Box::new(transport::RandomConnectionIds));

        let registry = Registry::default();
        let shared = Arc::new(Shared {
            host,
            credentials,
            registry: registry.clone(),
            next_session: AtomicU64::new(1),
        });
        let (stop, stopped) = watch::channel(false);
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for index in 0..config.workers.max(1) {
            let (tx, rx) = mpsc::channel(WORKER_BACKLOG);
            let (shared, stopped) = (shared.clone(), stopped.clone());
            threads.push(spawn(&format!("mesh-{index}"), move || work(rx, shared, stopped))?);
            workers.push(tx);
        }
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        threads.push(spawn("mesh-udp", move || {
            let runtime = runtime();
            let _entered = runtime.enter();
            match quinn::Endpoint::new(endpoint, Some(quic), socket, Arc::new(quinn::TokioRuntime)) {
                Ok(endpoint) => {
                    let _ = ready_tx.send(Ok(()));
                    runtime.block_on(accept(endpoint, workers, stopped));
                }
                Err(error) => {
                    let _ = ready_tx.send(Err(error));
                }
            }
        })?);
        match ready_rx.recv() {
            Ok(Ok(())) => Ok(Server { local_addr, registry, stop, threads }),
            Ok(Err(error)) => Err(bind(error)),
            Err(_) => Err(bind(std::io::Error::other("the endpoint's thread died"))),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Tells every peer that we stop, waits up to two seconds for that to
    /// arrive, and ends the threads. Blocks.
    pub fn drain(mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a mesh thread panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, ServerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| ServerError::Thread { name: name.to_owned(), error })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only epoll and an eventfd, which bind() has just proven to work")
}

/// The endpoint's thread: hand each connection to the next worker.
async fn accept(
    endpoint: quinn::Endpoint,
    workers: Vec<mpsc::Sender<quinn::Incoming>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut next = 0;
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Some(incoming) = incoming else { break };
        if endpoint.open_connections() > UNVALIDATED_MAX && !incoming.remote_address_validated() {
            // Costs the peer a round trip and us no state.
            let _ = incoming.retry();
            continue;
        }
        next = (next + 1) % workers.len();
        if let Err(refused) = workers[next].try_send(incoming) {
            match refused {
                mpsc::error::TrySendError::Full(incoming) | mpsc::error::TrySendError::Closed(incoming) => {
                    incoming.refuse()
                }
            }
        }
    }
    endpoint.close(CloseCode::Drain.number(), b"drain");
    let _ = tokio::time::timeout(DRAIN_WAIT, endpoint.wait_idle()).await;
}

fn work(
    mut incoming: mpsc::Receiver<quinn::Incoming>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = runtime();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        loop {
            let next = tokio::select! {
                next = incoming.recv() => next,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let Some(next) = next else { break };
            let shared = shared.clone();
            tokio::task::spawn_local(async move {
                let task = tokio::task::spawn_local(serve(next, shared));
                if let Err(error) = task.await
                    && error.is_panic()
                {
                    tracing::error!("a session panicked and was ended");
                }
            });
        }
        // The connections' drivers live here: let them say goodbye.
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
}

/// One connection, from handshake to end.
async fn serve(incoming: quinn::Incoming, shared: Arc<Shared>) {
    let remote = incoming.remote_address();
    let handshake = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(LOGIN_DEADLINE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%remote, "handshake timed out"),
    };
    let (send, receive) = match tokio::time::timeout(LOGIN_DEADLINE, connection.accept_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "no control stream"),
        Err(_) => return connection.close(CloseCode::LoginTimeout.number(), b"no login within 5 s"),
    };
    let calls = Arc::new(AtomicU64::new(0));
    let (admitted_tx, admitted_rx) = oneshot::channel();
    let gate: gate::Client = capnp_rpc::new_client(GateServer {
        shared: shared.clone(),
        connection: connection.clone(),
        calls: calls.clone(),
        admitted: std::cell::RefCell::new(Some(admitted_tx)),
    });
    let control =
        system(send, receive, Side::Server, StreamLimits::CONTROL, Some(gate.client), calls.clone());
    let mut control = tokio::task::spawn_local(control);

    let peer = tokio::select! {
        // Its end drops the login too, but is the cause.
        biased;
        _ = &mut control => return connection.close(CloseCode::ControlLost.number(), b"control stream ended"),
        admitted = tokio::time::timeout(LOGIN_DEADLINE, admitted_rx) => match admitted {
            Ok(Ok(peer)) => peer,
            // The refusal itself goes out as the login's answer first.
            Ok(Err(_)) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                return connection.close(CloseCode::Denied.number(), b"login refused");
            }
            Err(_) => return connection.close(CloseCode::LoginTimeout.number(), b"no login within 5 s"),
        },
    };
    let session = peer.session.clone();
    shared.registry.insert(session.clone());
    tracing::info!(session = session.id, peer = %session.principal.name, role = session.principal.role.name(), %remote, "session opened");
    connection.set_max_concurrent_bi_streams(quinn::VarInt::from_u32(STREAMS_MAX));

    let reason = loop {
        let (send, receive) = tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok(stream) => stream,
                Err(error) => break error.to_string(),
            },
            _ = &mut control => {
                connection.close(CloseCode::ControlLost.number(), b"control stream ended");
                break "control stream ended".to_owned();
            }
        };
        let door: attach::Client = capnp_rpc::new_client(AttachServer { peer: peer.clone() });
        let stream =
            system(send, receive, Side::Server, StreamLimits::ATTACHED, Some(door.client), calls.clone());
        tokio::task::spawn_local(async move {
            if let Err(error) = stream.await {
                tracing::debug!(%error, "a stream failed");
            }
        });
    };
    shared.registry.remove(session.id);
    tracing::info!(session = session.id, peer = %session.principal.name, %reason, "session closed");
}

/// Bootstrap of the control stream.
struct GateServer {
    shared: Arc<Shared>,
    connection: quinn::Connection,
    calls: Arc<AtomicU64>,
    /// Taken by the first login, right or wrong: there is no second try on
    /// one connection.
    admitted: std::cell::RefCell<Option<oneshot::Sender<Rc<Peer>>>>,
}

/// The same words for an unknown, a malformed and a missing token.
const DENIED: &str = "denied: the credential is not known here; check the token file";

impl gate::Server for GateServer {
    async fn login(
        self: Rc<Self>,
        params: gate::LoginParams,
        mut results: gate::LoginResults,
    ) -> Result<(), capnp::Error> {
        let admitted = self
            .admitted
            .borrow_mut()
            .take()
            .ok_or_else(|| capnp::Error::failed("invalid: one login a connection".to_owned()))?;
        let params = params.get()?;
        let principal = verify(&self.shared.credentials, params.get_credential()?)?;
        let peer = Rc::new(self.describe(params.get_peer()?, principal)?);
        let admission = self.shared.host.clone().admit(peer.clone()).await.map_err(|refusal| {
            tracing::warn!(peer = %peer.session.principal.name, code = refusal.code, "login refused: {}", refusal.message);
            capnp::Error::failed(format!("{}: {}", refusal.code, refusal.message))
        })?;
        write_grant(&peer.session, admission, results.get().init_grant());
        // The receiver waits until the deadline; when it is gone, so is the connection.
        let _ = admitted.send(peer);
        Ok(())
    }
}

impl GateServer {
    fn describe(&self, from: peer_facts::Reader<'_>, principal: Principal) -> Result<Peer, capnp::Error> {
        let text = |text: capnp::text::Reader<'_>| -> Result<String, capnp::Error> {
            let text = text.to_str()?;
            Ok(text.chars().filter(|c| !c.is_control()).take(FACT_BYTES_MAX).collect())
        };
        let cluster_id = from.get_cluster_id()?;
        let incarnations = from.get_incarnations()?;
        if cluster_id.len() > CLUSTER_ID_BYTES_MAX || incarnations.len() > INCARNATIONS_MAX {
            return Err(capnp::Error::failed("invalid: facts of unreasonable size".to_owned()));
        }
        let mut held = Vec::with_capacity(incarnations.len() as usize);
        for entry in incarnations {
            held.push((
                batch::read_stream(entry.get_stream()?),
                batch::read_incarnation(entry.get_incarnation()?),
            ));
        }
        let session = Session::new(
            self.shared.next_session.fetch_add(1, Ordering::Relaxed),
            principal,
            PeerDescription {
                product: text(from.get_product()?)?,
                version: text(from.get_version()?)?,
                hostname: text(from.get_hostname()?)?,
            },
            unix_ms(),
            self.connection.clone(),
            self.calls.clone(),
        );
        Ok(Peer {
            session: Arc::new(session),
            cluster_id: cluster_id.to_vec(),
            incarnations: held,
            tickets: Tickets::default(),
        })
    }
}

fn verify(credentials: &Credentials, from: credential::Reader<'_>) -> Result<Principal, capnp::Error> {
    let token = match from.which()? {
        credential::Bearer(token) => token?.to_str()?,
        credential::None(()) => return Err(capnp::Error::failed(DENIED.to_owned())),
    };
    credentials.verify(token).cloned().ok_or_else(|| {
        tracing::warn!("login refused: unknown credential");
        capnp::Error::failed(DENIED.to_owned())
    })
}

/// Longest of each text that a peer says of itself; more is cut off.
const FACT_BYTES_MAX: usize = 256;
const CLUSTER_ID_BYTES_MAX: usize = 64;
const INCARNATIONS_MAX: u32 = 1024;

fn write_grant(session: &Session, admission: Admission, mut to: grant::Builder<'_>) {
    to.set_session_id(session.id);
    to.set_cluster_id(&admission.cluster_id);
    to.set_identity(&session.principal.name[..]);
    to.reborrow().init_accepted_batch_versions(1).set(0, BATCH_VERSION);
    let mut list = to.reborrow().init_resume(admission.resume.len() as u32);
    for (index, resume) in admission.resume.iter().enumerate() {
        let mut entry = list.reborrow().get(index as u32);
        entry.set_stream(batch::wire_stream(resume.stream));
        batch::write_incarnation(resume.incarnation, entry.reborrow().init_incarnation());
        entry.set_durable_end(resume.durable_end);
        entry.set_landed_end(resume.landed_end);
    }
    let mut limits = to.reborrow().init_limits();
    limits.set_batch_bytes_max(admission.batch_bytes_max);
    limits.set_batch_raw_bytes_max(admission.limits.raw_bytes_max);
    limits.set_calls_in_flight_max(admission.calls_in_flight_max);
    limits.set_log_line_bytes_max(admission.limits.log_line_bytes_max);
    limits.set_logs_per_batch_max(admission.limits.logs_per_batch_max);
    limits.set_series_per_batch_max(admission.limits.series_per_batch_max);
    match admission.capability {
        Capability::Agent(client) => to.set_agent(client),
        Capability::Gateway(client) => to.set_gateway(client),
        Capability::Operator(client) => to.set_operator(client),
    }
}

/// Bootstrap of every other stream.
struct AttachServer {
    peer: Rc<Peer>,
}

impl attach::Server for AttachServer {
    async fn attach(
        self: Rc<Self>,
        params: attach::AttachParams,
        mut results: attach::AttachResults,
    ) -> Result<(), capnp::Error> {
        let found = self.peer.tickets.redeem(params.get()?.get_ticket()?).ok_or_else(|| {
            capnp::Error::failed("expired: the ticket is unknown, used or over ten seconds old".to_owned())
        })?;
        let mut to: attached::Builder<'_> = results.get().init_attached();
        match found {
            Attachment::Sink(sink) => to.set_sink(sink),
            Attachment::Users(users) => to.set_users(users),
        }
        Ok(())
    }
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
