//! The process clients talk to: HTTP in, RPC out.
//!
//! Three threads: HTTP (here and in [`lm_web`]), the session with the
//! collector, whose RPC objects never leave their thread, and one that makes
//! batches of what applications write. Between the first two stands the bounded
//! `Backend`. The gateway stores nothing and may read nothing: each
//! request's bearer token is exchanged for its user's own capability.
//!
//! Read [`Config`] for what can be set, then [`Gateway`].

mod backend;
pub mod cli;
mod config;
mod console;
mod grafana;
mod http;
mod json;
mod live;
mod params;
mod requests;
mod ring;
mod session;
pub mod settings;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lm_mesh::Certificates;
use lm_supervisor::Supervisor;
use lm_telemetry::log::{LogReload, ReloadNames};
use lm_telemetry::{CONTENT_TYPE, Figure, Telemetry};
use lm_web::{Endpoint, Health, Listener};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

pub use config::Config;

use backend::Backend;
use requests::Requests;
use session::SessionConfig;
use write::Writes;

/// What an answer may take beyond the longest query.
const PATIENCE_GRACE: Duration = Duration::from_secs(10);

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {addr}: {error}")]
    Listen { addr: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Secret(#[from] lm_mesh::SecretError),
    #[error("cannot read CA certificates {path}: {error}")]
    Ca { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Tls(#[from] lm_mesh::TlsError),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
}

/// Runs a gateway until `shutdown` is ready and what was under way is done.
///
/// # Errors
///
/// When it cannot begin. A collector that is away is no error: requests are
/// answered 503 until it is back.
pub async fn run(
    config: Config,
    log: Arc<LogReload>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let gateway = Gateway { log: Some(log.clone()), ..Gateway::bind(config).await? };
    gateway.telemetry.add(move |to| log.figures(RELOADS, to));
    gateway.serve(shutdown).await
}

const RELOADS: ReloadNames = ReloadNames {
    successful: "lmgateway_config_last_reload_successful",
    success_timestamp: "lmgateway_config_last_reload_success_timestamp_seconds",
};

async fn listen(addr: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(addr).await.map_err(|error| RunError::Listen { addr, error })
}

/// A gateway that listens and does not answer yet.
pub struct Gateway {
    config: Config,
    listener: TcpListener,
    certificates: Option<Certificates>,
    addr: SocketAddr,
    /// For whoever runs us; `None`: there is no such listener.
    health: Option<TcpListener>,
    telemetry: Telemetry,
    /// The level of the log, to be read again; `None`: it is somebody else's.
    log: Option<Arc<LogReload>>,
}

impl Gateway {
    /// Checks the files that the configuration names, and listens.
    ///
    /// # Errors
    ///
    /// When a file is missing or exposed, or the address is taken.
    pub async fn bind(config: Config) -> Result<Gateway, RunError> {
        lm_mesh::read_secret(&config.dialer.token)?;
        let ca = &config.dialer.ca;
        std::fs::File::open(ca).map_err(|error| RunError::Ca { path: ca.clone(), error })?;
        let certificates =
            config.tls.as_ref().map(|tls| Certificates::open(&tls.certificate_file, &tls.key_file));
        let certificates = certificates.transpose()?;
        let listener = listen(config.listen).await?;
        let addr = listener.local_addr().map_err(|error| RunError::Listen { addr: config.listen, error })?;
        let health = match config.health.listen {
            Some(addr) => Some(listen(addr).await?),
            None => None,
        };
        let telemetry = Telemetry::default();
        lm_telemetry::process::add(&telemetry, "lmgateway_build_info", env!("CARGO_PKG_VERSION"));
        Ok(Gateway { config, listener, certificates, addr, health, telemetry, log: None })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// As [`run`].
    ///
    /// # Errors
    ///
    /// When the session's thread cannot start.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Gateway { config, listener, certificates, addr, health: health_listener, telemetry, log } = self;
        let listener = match &certificates {
            Some(certificates) => Listener::tls(listener, certificates.https()?),
            None => listener.into(),
        };
        // Installed before anybody is told that we run: a SIGHUP must not end us.
        let hangup = signal(SignalKind::hangup()).map_err(RunError::Signal)?;
        let health = Health::new();
        let requests = Arc::new(Requests::default());
        let (of, counted) = (health.clone(), requests.clone());
        telemetry.add(move |to| {
            let help = "Whether there is a session with the collector, and no drain.";
            to.push(Figure::new("lmgateway_ready", help, f64::from(u8::from(of.is_ready()))));
            counted.figures(to);
        });
        let check = health.check("collector session");
        let patience = config.query_timeout + PATIENCE_GRACE;
        let (backend, commands) = Backend::new(config.queries_max, patience);
        let session = SessionConfig {
            dialer: config.dialer.clone(),
            users_max: config.users_max,
            user_cache: config.user_cache,
            patience,
        };
        let (stop_session, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || session::run(session, commands, check, stopped))
            .map_err(RunError::Thread)?;

        let orders = write::start(backend.commands(), config.write_series_max).map_err(RunError::Thread)?;
        let writes =
            Writes::new(backend.clone(), orders, config.write_body_bytes_max, config.write_bytes_max);

        let supervisor = Supervisor::from_env();
        let living = backend.clone();
        let (stop, stopping) = watch::channel(false);
        if let Some(listener) = health_listener {
            let endpoint = Endpoint {
                health: health.clone(),
                metrics: config.health.metrics.then(|| Arc::new(move || telemetry.text()) as _),
                content_type: CONTENT_TYPE,
            };
            // It ends with the runtime: a gateway that drains still answers.
            tokio::spawn(endpoint.serve(listener, std::future::pending()));
        }
        let state = http::State::new(backend, writes, health.clone(), requests, &config, stopping);
        health.started();
        tracing::info!(%addr, tls = certificates.is_some(), "listening");
        supervisor.ready();
        let shutdown = async {
            tokio::select! {
                () = shutdown => {}
                () = reload_on(hangup, certificates.as_ref(), log.as_deref(), supervisor) => {}
                () = supervisor.watch(async || living.is_alive().await) => {}
            }
            // Its last handle ends the session's thread.
            drop(living);
            supervisor.stopping();
            tracing::info!("draining");
            health.stopping();
            let _ = stop.send(true);
        };
        let drained = http::serve(listener, state, config.web, shutdown).await;
        if drained.cut > 0 {
            tracing::warn!(connections = drained.cut, "cut at the end of the drain");
        }
        let _ = stop_session.send(());
        if thread.join().is_err() {
            tracing::error!("the session's thread panicked");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Reads the certificate and the level of the log again with each signal.
/// Tokens and the CA are read at each connection anyway.
async fn reload_on(
    mut hangup: Signal,
    certificates: Option<&Certificates>,
    log: Option<&LogReload>,
    supervisor: Supervisor,
) {
    while hangup.recv().await.is_some() {
        supervisor.reloading();
        if let Some(log) = log {
            log.reload_and_tell();
        }
        match certificates.map(Certificates::reload) {
            Some(Ok(true)) => tracing::info!("the certificate is renewed"),
            Some(Ok(false)) | None => tracing::info!("reloaded: nothing has changed"),
            Some(Err(error)) => tracing::error!("not reloaded, the last good certificate holds: {error}"),
        }
        supervisor.ready();
    }
    // The runtime gives no more signals: that is no reason to stop.
    std::future::pending().await
}
