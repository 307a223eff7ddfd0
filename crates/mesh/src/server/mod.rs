//! The listening side: one endpoint, N worker threads, a session stays on its
//! worker.
//!
//! RPC objects are not `Send`. The endpoint's thread hands each incoming
//! connection to a worker before its handshake, so that all of its crypto,
//! timers and RPC run there (measured: a third less CPU a call than handing
//! over established connections). A panic in one session ends that session.
//! `threads` holds the threads of QUIC, `pipes` that of TCP and unix sockets,
//! `serve` one connection, `gate` the login.

mod gate;
mod pipes;
mod serve;
mod threads;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use lm_model::{Incarnation, Resume, Stream};
use lm_schema::{mesh_capnp, operator_capnp};
use tokio::sync::{mpsc, watch};

use crate::tickets::Tickets;
use crate::{
    Certificates, Credentials, Grant, KeepAlive, Registry, Session, TlsError, Transport, tcp, tls, transport,
};
use pipes::Listeners;

/// A peer that does not log in is cut after this long.
const LOGIN_DEADLINE: Duration = Duration::from_secs(5);
/// Connections that have not been accepted yet, in the endpoint.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_TOTAL_BYTES_MAX: u64 = 16 << 20;

/// With port 0: how often to look for a port that both protocols have free.
const ANY_PORT_TRIES: u32 = 16;

/// How a server listens.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// For UDP and TCP alike.
    pub listen: SocketAddr,
    pub transport: Transport,
    pub keep_alive: KeepAlive,
    /// Where processes of this host's root and of our own user log in as
    /// operators, without a token.
    pub operator_socket: Option<PathBuf>,
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
    #[error("cannot listen on {addr} ({protocol}): {error}")]
    Bind { addr: SocketAddr, protocol: &'static str, error: std::io::Error },
    #[error("cannot start thread {name}: {error}")]
    Thread { name: String, error: std::io::Error },
}

/// What the process decides about peers. One value serves all workers.
pub trait Host: Send + Sync + 'static {
    /// Builds the capabilities of a peer whose credential was right, each
    /// derived from [`Peer::grant`]. Runs on the session's worker.
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

impl Peer {
    /// The root of what this session may be granted.
    pub fn grant(&self) -> &Grant {
        self.session.grant()
    }
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
    Operator(operator_capnp::operator::Client),
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
    certificates: Certificates,
    stop: watch::Sender<bool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Binds, and starts the endpoint's thread and the workers. Sessions are
    /// listed in `registry`, and what they are granted in its ledger.
    ///
    /// # Errors
    ///
    /// When a certificate is wrong, the address is in use, or a thread cannot
    /// start; nothing is left running then.
    pub fn start(
        config: ServerConfig,
        credentials: Credentials,
        registry: Registry,
        host: Arc<dyn Host>,
    ) -> Result<Server, ServerError> {
        let certificates = Certificates::open(&config.certificate, &config.key)?;
        let crypto = tls::server(&certificates)?;
        let Sockets { local_addr, udp, tcp } = Sockets::bind(config.listen, config.transport)?;
        let local = config.operator_socket.as_ref().and_then(|path| match tcp::listen_locally(path) {
            Ok(listener) => Some((listener, path.clone())),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no logins over the operator's socket");
                None
            }
        });
        let shared = Arc::new(Shared {
            host,
            credentials,
            registry: registry.clone(),
            next_session: AtomicU64::new(1),
        });
        let (stop, stopped) = watch::channel(false);
        let mut server = Server { local_addr, registry, certificates, stop, threads: Vec::new() };
        if tcp.is_some() || local.is_some() {
            let listeners =
                Listeners { tcp: tcp.map(|tcp| (tcp, crypto.clone())), local, keep_alive: config.keep_alive };
            let (shared, stopped) = (shared.clone(), stopped.clone());
            let body = move || pipes::work(listeners, shared, stopped);
            server.threads.push(threads::spawn("mesh-tcp", body)?);
        }
        if let Some(udp) = udp {
            server.start_quic(&config, tls::quic_server(crypto)?, udp, shared, stopped)?;
        }
        Ok(server)
    }

    /// Starts the endpoint's thread and the workers.
    fn start_quic(
        &mut self,
        config: &ServerConfig,
        crypto: quinn::crypto::rustls::QuicServerConfig,
        socket: UdpSocket,
        shared: Arc<Shared>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), ServerError> {
        let mut quic = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(transport::stranger(config.keep_alive))
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

        let mut workers = Vec::new();
        for index in 0..config.workers.max(1) {
            let (tx, rx) = mpsc::channel(threads::WORKER_BACKLOG);
            let (shared, stopped) = (shared.clone(), stopped.clone());
            let body = move || threads::work(rx, shared, stopped);
            self.threads.push(threads::spawn(&format!("mesh-{index}"), body)?);
            workers.push(tx);
        }
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        self.threads.push(threads::spawn("mesh-udp", move || {
            let runtime = threads::runtime();
            let _entered = runtime.enter();
            match quinn::Endpoint::new(endpoint, Some(quic), socket, Arc::new(quinn::TokioRuntime)) {
                Ok(endpoint) => {
                    let _ = ready_tx.send(Ok(()));
                    runtime.block_on(threads::accept(endpoint, workers, shared, stopped));
                }
                Err(error) => {
                    let _ = ready_tx.send(Err(error));
                }
            }
        })?);
        let bind = |error| ServerError::Bind { addr: config.listen, protocol: "UDP", error };
        match ready_rx.recv() {
            Ok(ready) => ready.map_err(bind),
            Err(_) => Err(bind(std::io::Error::other("the endpoint's thread died"))),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// The certificate in use, to be replaced while the server runs.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
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

/// What a server listens on: one address, two protocols.
struct Sockets {
    local_addr: SocketAddr,
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
}

impl Sockets {
    fn bind(addr: SocketAddr, transport: Transport) -> Result<Sockets, ServerError> {
        let mut tries = if addr.port() == 0 { ANY_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Sockets::try_bind(addr, transport) {
                // The port that UDP was given may be taken for TCP.
                Err(_) if tries > 0 => {}
                result => return result,
            }
        }
    }

    fn try_bind(mut addr: SocketAddr, transport: Transport) -> Result<Sockets, ServerError> {
        let failed = |addr, protocol| move |error| ServerError::Bind { addr, protocol, error };
        let mut udp = None;
        if transport != Transport::Tcp {
            let socket = transport::bind(addr).map_err(failed(addr, "UDP"))?;
            addr = socket.local_addr().map_err(failed(addr, "UDP"))?;
            udp = Some(socket);
        }
        let mut tcp = None;
        if transport != Transport::Quic {
            let listener = tcp::listen(addr).map_err(failed(addr, "TCP"))?;
            addr = listener.local_addr().map_err(failed(addr, "TCP"))?;
            tcp = Some(listener);
        }
        Ok(Sockets { local_addr: addr, udp, tcp })
    }
}
