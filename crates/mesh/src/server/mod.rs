//! The listening side: one endpoint, N worker threads, a session stays on its
//! worker.
//!
//! RPC objects are not `Send`. The endpoint's thread hands each incoming
//! connection to a worker before its handshake, so that all of its crypto,
//! timers and RPC run there (measured: a third less CPU a call than handing
//! over established connections). A panic in one session ends that session.
//! `threads` holds the threads, `serve` one connection, `gate` the login.

mod gate;
mod serve;
mod threads;

use std::net::SocketAddr;
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
use crate::{Certificates, Credentials, Grant, Registry, Session, TlsError, tls, transport};

/// A peer that does not log in is cut after this long.
const LOGIN_DEADLINE: Duration = Duration::from_secs(5);
/// Connections that have not been accepted yet, in the endpoint.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_TOTAL_BYTES_MAX: u64 = 16 << 20;

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
        let bind = |error| ServerError::Bind { addr: config.listen, error };
        let socket = transport::bind(config.listen).map_err(bind)?;
        let local_addr = socket.local_addr().map_err(bind)?;

        let mut quic = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(transport::stranger())
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
            let (tx, rx) = mpsc::channel(threads::WORKER_BACKLOG);
            let (shared, stopped) = (shared.clone(), stopped.clone());
            threads
                .push(threads::spawn(&format!("mesh-{index}"), move || threads::work(rx, shared, stopped))?);
            workers.push(tx);
        }
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        let of_endpoint = shared.clone();
        threads.push(threads::spawn("mesh-udp", move || {
            let runtime = threads::runtime();
            let _entered = runtime.enter();
            match quinn::Endpoint::new(endpoint, Some(quic), socket, Arc::new(quinn::TokioRuntime)) {
                Ok(endpoint) => {
                    let _ = ready_tx.send(Ok(()));
                    runtime.block_on(threads::accept(endpoint, workers, of_endpoint, stopped));
                }
                Err(error) => {
                    let _ = ready_tx.send(Err(error));
                }
            }
        })?);
        match ready_rx.recv() {
            Ok(Ok(())) => Ok(Server { local_addr, registry, certificates, stop, threads }),
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
