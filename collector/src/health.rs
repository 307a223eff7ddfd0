//! The health listener: whether we live, have started, and are ready.

use std::sync::Arc;

use lm_telemetry::{CONTENT_TYPE, HealthSettings, Telemetry};
use lm_web::{Check, Endpoint, Health};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Error;

/// A listener, if there is one; dropping it stops it.
pub struct Running {
    health: Health,
    spool: Check,
    _stop: Option<oneshot::Sender<()>>,
}

impl Running {
    pub fn set_ready(&self, is_ready: bool) {
        if is_ready {
            self.spool.pass();
            self.health.started();
        } else {
            self.health.stopping();
        }
    }
}

/// Listens where `settings` say, on a thread of its own: it answers while the
/// spool is replayed and while we drain. First alive, ready once the spool is
/// replayed.
pub fn start(settings: &HealthSettings, telemetry: &Telemetry) -> Result<Running, Error> {
    let health = Health::new();
    let spool = health.check("spool");
    let Some(addr) = settings.listen else { return Ok(Running { health, spool, _stop: None }) };
    let failed = |error| Error::Listen { addr, error };
    let thread = |error| Error::Thread { name: "health", error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
    let listener = runtime.block_on(TcpListener::bind(addr)).map_err(failed)?;
    let telemetry = telemetry.clone();
    let endpoint = Endpoint {
        health: health.clone(),
        metrics: settings.metrics.then(|| Arc::new(move || telemetry.text()) as _),
        content_type: CONTENT_TYPE,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            let stopped = async {
                // Dropping the sender is the signal.
                let _ = stopped.await;
            };
            runtime.block_on(endpoint.serve(listener, stopped))
        })
        .map_err(thread)?;
    Ok(Running { health, spool, _stop: Some(stop) })
}
