//! The health listener of `--daemon`: health endpoints and `/metrics`, on the
//! main thread. An agent that cannot have its address does its work without.

use std::sync::Arc;

use lm_telemetry::log::{LogReload, ReloadNames};
use lm_telemetry::{CONTENT_TYPE, Telemetry};
use lm_web::{Endpoint, Health};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::Settings;
use crate::counters::Counters;
use crate::queue_handle::QueueFacts;
use crate::telemetry;

const RELOADS: ReloadNames = ReloadNames {
    successful: "lmagent_config_last_reload_successful",
    success_timestamp: "lmagent_config_last_reload_success_timestamp_seconds",
};

/// Begins to answer, if the settings name an address. Ready at once: the queue
/// is open, and a collector that is away is no reason to take an agent away.
pub async fn start(
    settings: &Settings,
    log: Arc<LogReload>,
    counters: Arc<Counters>,
    facts: watch::Receiver<QueueFacts>,
) -> Health {
    let health = Health::new();
    health.started();
    let Some(addr) = settings.health.listen else { return health };
    let listener = match TcpListener::bind(addr).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%addr, %error, "no health endpoints and no /metrics: set health.listen");
            return health;
        }
    };
    let telemetry = Telemetry::default();
    lm_telemetry::process::add(&telemetry, "lmagent_build_info", env!("CARGO_PKG_VERSION"));
    let on_full = settings.queue.on_full;
    telemetry.add(move |to| telemetry::figures(&counters, &facts.borrow(), on_full, to));
    telemetry.add(move |to| log.figures(RELOADS, to));
    let endpoint = Endpoint {
        health: health.clone(),
        metrics: settings.health.metrics.then(|| Arc::new(move || telemetry.text()) as _),
        content_type: CONTENT_TYPE,
    };
    // It ends with the runtime: an agent that drains still answers.
    tokio::task::spawn_local(endpoint.serve(listener, std::future::pending()));
    health
}
