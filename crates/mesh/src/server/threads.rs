//! The endpoint's thread and the workers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};

use super::serve::serve_quic;
use super::{ServerError, Shared};
use crate::CloseCode;

/// Handshakes handed to a worker and not yet begun.
pub(super) const WORKER_BACKLOG: usize = 256;
/// With more connections open than this, new peers must prove their address.
const UNVALIDATED_MAX: usize = 64;
/// How long a drain waits for peers to take note.
pub(super) const DRAIN_WAIT: Duration = Duration::from_secs(2);

pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, ServerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| ServerError::Thread { name: name.to_owned(), error })
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only epoll and an eventfd, which bind() has just proven to work")
}

/// The endpoint's thread: hand each connection to the next worker.
pub(super) async fn accept(
    endpoint: quinn::Endpoint,
    workers: Vec<mpsc::Sender<quinn::Incoming>>,
    shared: Arc<Shared>,
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
                    shared.registry.handshake_refused();
                    incoming.refuse()
                }
            }
        }
    }
    endpoint.close(CloseCode::Drain.number(), b"drain");
    let _ = tokio::time::timeout(DRAIN_WAIT, endpoint.wait_idle()).await;
}

pub(super) fn work(
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
            let next = Box::new(next);
            tokio::task::spawn_local(async move {
                let served = AssertUnwindSafe(serve_quic(next, shared.clone())).catch_unwind().await;
                if served.is_err() {
                    shared.registry.panicked();
                    tracing::error!("a session panicked and was ended");
                }
            });
        }
        // The connections' drivers live here: let them say goodbye.
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
}
