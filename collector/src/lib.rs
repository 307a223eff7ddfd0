//! The collector: takes batches from agents over the mesh, keeps them, and
//! answers readers.
//!
//! [`run`] wires the parts: the spool is replayed into the store, the ingest
//! thread starts, then the mesh listens. Read `ingest` for what happens to a
//! batch, `query` for what happens to a question, `session` for who may do
//! either, `own` for what we store of ourselves and of who is up.

mod access;
pub mod cli;
mod cluster;
pub mod dashboards;
mod error;
mod faults;
mod health;
mod ingest;
mod log_filter;
mod metadata;
mod own;
mod query;
mod scraped;
mod session;
pub mod settings;
pub mod setup;
mod spool;
mod state;
mod storage;
mod store;
mod tail;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lm_fs::RealFs;
use lm_logs::RecentOptions;
use lm_mesh::{Registry, Server, ServerConfig, TokenTable};
use lm_model::Timestamp;
use lm_promql::Engine;
use lm_supervisor::Supervisor;
use lm_telemetry::Telemetry;
use lm_telemetry::log::LogReload;
use lm_tsdb::db::{Db, DbOptions};
use lm_tsdb::memory::HeadOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};

use access::Reload;
use cluster::Identity;
use dashboards::Dashboards;
pub use error::Error;
use faults::Mutant;
use ingest::{Core, CoreOptions, StoreMetrics};
use metadata::Metadata;
use own::HostWatch;
use query::{Helpers, Pool, QueryContext};
use scraped::ScrapedTargets;
use session::{CollectorHost, Controls, Limiters};
use settings::Settings;
use spool::{Spool, SpoolOptions};
use state::{Denials, State};
use storage::{StorageState, StorageThreads};
use store::Store;
use tail::Tail;

/// Reads what the settings name: tokens and certificates.
///
/// # Errors
///
/// Every file that cannot be used, not only the first.
pub fn check(settings: &Settings) -> Result<TokenTable, Vec<Error>> {
    let tls = lm_mesh::check_certificate(&settings.ingest.certificate_file, &settings.ingest.key_file);
    let mut errors: Vec<Error> = tls.err().into_iter().map(Error::Tls).collect();
    match access::load(settings) {
        Ok(table) if errors.is_empty() => return Ok(table),
        Ok(_) => {}
        Err(found) => errors.extend(found.into_iter().map(Error::Access)),
    }
    Err(errors)
}

/// Runs until `shutdown` is done, then drains.
///
/// # Errors
///
/// When something that is needed cannot be used: a file, a port, the spool.
pub fn run(
    settings: Settings,
    tokens: TokenTable,
    dashboards: Dashboards,
    log: LogReload,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let thread = |error| Error::Thread { name: "main", error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
    // From here on SIGHUP does not end the process; one that comes while the
    // spool is replayed is answered after it.
    let hangup = {
        let _entered = runtime.enter();
        signal(SignalKind::hangup()).map_err(thread)?
    };
    let supervisor = Supervisor::from_env();
    let registry = Registry::new(settings.mesh);
    let reload = Arc::new(Reload::new(settings.clone(), tokens, registry.clone(), log));
    let identity = Identity::open(&settings.storage.dir)?;
    let telemetry = Telemetry::default();
    lm_telemetry::process::add(&telemetry, "lmcollector_build_info", env!("CARGO_PKG_VERSION"));
    let health = health::start(&settings.health, &telemetry)?;

    let store = Arc::new(open_store(&settings)?);
    let metrics = Arc::new(StoreMetrics::default());
    let storage = Arc::new(StorageState::default());
    let (of, counted, moved) = (store.clone(), metrics.clone(), storage.clone());
    telemetry.add(move |to| {
        counted.figures(&of, to);
        moved.figures(&of, to);
    });
    let spool = Spool::open(
        RealFs,
        settings.storage.dir.join("spool"),
        SpoolOptions {
            bytes_max: settings.storage.spool_bytes_max,
            segment_bytes: settings.storage.segment_bytes,
            retention: settings.storage.retention,
        },
    )?;
    let options = CoreOptions {
        limits: settings.ingest.limits(),
        wall_clock: unix_now,
        monotonic_clock: Instant::now,
        mutant: Mutant::chosen(),
        out_of_order_window: settings.ingest.out_of_order_window,
        flush_interval: settings.storage.flush_interval,
        samples_bytes_max: settings.storage.metrics_memory_bytes as usize,
    };
    let (core, replayed) = Core::open(spool, store.clone(), storage.clone(), metrics, options)?;
    tracing::info!(
        records = replayed.records,
        unreadable = replayed.unreadable,
        lost_batches = replayed.lost_batches,
        "spool replayed"
    );
    let (ingest, ingest_thread) =
        ingest::start(core).map_err(|error| Error::Thread { name: "ingest", error })?;
    let storage_threads =
        StorageThreads::start(&store, storage).map_err(|error| Error::Thread { name: "storage", error })?;

    let pool =
        Pool::new(settings.query.threads as usize).map_err(|error| Error::Thread { name: "query", error })?;
    // The thread of a query works on it too.
    let helpers = Helpers::new((settings.query.threads as usize).saturating_sub(1));
    let engine = Engine { workers: Arc::new(helpers), ..settings.query.engine() };
    let queries = Arc::new(QueryContext {
        store,
        ingest: ingest.clone(),
        pool,
        engine,
        agents: reload.agents(),
        timeout: settings.query.timeout,
        dashboards,
        metadata: Metadata::new(telemetry.clone()),
        scraped: ScrapedTargets::default(),
        started: unix_now(),
        retention: settings.storage.metrics_retention,
    });
    let state = State::open(&settings.storage.dir)?;
    let denials = Denials::load(state.clone())?;
    let hosts = HostWatch::new(registry.clone(), reload.agents(), denials.clone(), state)?;
    let of = hosts.clone();
    telemetry.add(move |to| of.figures(to));
    let (of, denied) = (registry.clone(), denials.clone());
    telemetry.add(move |to| session::figures::figures(&of, &denied, to));
    let reloaded = reload.clone();
    telemetry.add(move |to| reloaded.figures(to));
    let host = Arc::new(CollectorHost {
        cluster_id: identity.cluster_id.to_vec(),
        reload: reload.clone(),
        limiters: Limiters::default(),
        writer_limiters: Limiters::default(),
        ingest: ingest.clone(),
        queries: queries.clone(),
        limits: settings.ingest.limits(),
        batch_bytes_max: settings.ingest.max_batch_bytes as u32,
        calls_in_flight_max: settings.ingest.max_calls_in_flight as u16,
        registry: registry.clone(),
        controls: Controls::default(),
        denials,
        started: Instant::now(),
    });
    let server = Server::start(
        ServerConfig {
            listen: settings.ingest.listen,
            transport: settings.ingest.transport,
            keep_alive: settings.ingest.keep_alive,
            operator_socket: settings.operator.socket,
            certificate: settings.ingest.certificate_file,
            key: settings.ingest.key_file,
            reset_key: identity.reset_key,
            workers: settings.ingest.workers as usize,
        },
        reload.credentials(),
        registry,
        host.clone(),
    )?;
    reload.attach(server.certificates());
    health.set_ready(true);
    tracing::info!(addr = %server.local_addr(), transport = ?settings.ingest.transport, "listening for sessions");

    supervisor.ready();
    runtime.block_on(async {
        tokio::select! {
            () = shutdown => {}
            () = reload_on(hangup, &reload, supervisor) => {}
            () = own::run(ingest.clone(), telemetry, hosts.clone()) => {}
            () = supervisor.watch(async || ingest.is_alive().await) => {}
        }
    });
    supervisor.stopping();
    hosts.save_last();
    tracing::info!("draining");
    health.set_ready(false);
    server.drain();
    // The last handles: the ingest thread syncs and ends.
    drop((host, queries, ingest));
    let ingest_ended = ingest_thread.join();
    storage_threads.stop();
    if ingest_ended.is_err() {
        return Err(Error::Thread { name: "ingest", error: std::io::Error::other("panicked") });
    }
    Ok(())
}

/// Reads tokens, certificates and the level of the log again with each signal.
async fn reload_on(mut hangup: Signal, reload: &Reload, supervisor: Supervisor) {
    while hangup.recv().await.is_some() {
        supervisor.reloading();
        reload.reload();
        supervisor.ready();
    }
    // The runtime gives no more signals: that is no reason to stop.
    std::future::pending().await
}

fn open_store(settings: &Settings) -> Result<Store, Error> {
    let storage = &settings.storage;
    let options = DbOptions {
        head: HeadOptions { series_max: storage.series_max as usize },
        retention: storage.metrics_retention,
        bytes_max: storage.metrics_bytes_max,
        cache_bytes: storage.block_cache_bytes as usize,
        sync_point: faults::sync_point,
    };
    let (db, opened) = Db::open(RealFs, &storage.dir.join("metrics"), options)?;
    for (path, reason) in &opened.damaged_manifests {
        tracing::error!(file = %path.display(), reason, "a manifest cannot be read: all blocks that are there are taken");
    }
    for lost in &opened.quarantined {
        tracing::error!(
            samples = lost.samples,
            reason = lost.reason,
            "a block cannot be read and is kept aside"
        );
    }
    tracing::info!(blocks = opened.blocks, covered_segment = opened.covered.segment, "blocks opened");
    let recent =
        RecentOptions { bytes_max: storage.logs_memory_bytes as usize, retention: storage.retention };
    let store = Store::new(db, recent, Tail::new(unix_now().as_millis() as u64));
    for lost in opened.quarantined {
        let message = format!("a damaged block lost {} samples; it was kept aside", lost.samples);
        storage::tell(&store, unix_now(), message, lost.samples);
    }
    Ok(store)
}

/// The wall clock, read in the process's shell and handed down.
fn unix_now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(elapsed.as_millis() as i64)
}
