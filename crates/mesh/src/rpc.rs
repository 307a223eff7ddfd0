//! One RPC system on one stream.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Disconnector, RpcSystem};
use futures::{AsyncRead, AsyncWrite, FutureExt};

use crate::network::{Gate, Network, Terms, Trust};

/// How long a system that was cut off may take to tell its callers.
const FAREWELL: Duration = Duration::from_millis(100);

/// Why a stream ended that did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    /// The peer broke a bound; the reason is for the peer too.
    #[error("{0}")]
    Violation(String),
    /// Lost, or refused by capnp-rpc. The text may be the peer's: escape it.
    #[error("{0}")]
    Failed(capnp::Error),
    #[error("a method panicked")]
    Panicked,
}

/// The system of a stream. Run it with `spawn_local`; it ends with the stream.
pub(crate) struct StreamSystem {
    system: RpcSystem<Side>,
    disconnector: Disconnector<Side>,
    gate: Rc<Gate>,
}

impl StreamSystem {
    /// The answering side.
    pub fn server<R, W>(reader: R, writer: W, terms: Rc<Terms>, bootstrap: capnp::capability::Client) -> Self
    where
        R: AsyncRead + Unpin + 'static,
        W: AsyncWrite + Unpin + 'static,
    {
        let (network, gate) = Network::new(reader, writer, Side::Server, Trust::Stranger, terms);
        StreamSystem::new(RpcSystem::new(Box::new(network), Some(bootstrap)), gate)
    }

    /// The calling side, and the peer's bootstrap capability.
    pub fn client<R, W, C>(reader: R, writer: W, terms: Rc<Terms>) -> (Self, C)
    where
        R: AsyncRead + Unpin + 'static,
        W: AsyncWrite + Unpin + 'static,
        C: capnp::capability::FromClientHook,
    {
        let (network, gate) = Network::new(reader, writer, Side::Client, Trust::Server, terms);
        let mut system = StreamSystem::new(RpcSystem::new(Box::new(network), None), gate);
        let bootstrap = system.system.bootstrap(Side::Server);
        (system, bootstrap)
    }

    fn new(system: RpcSystem<Side>, gate: Rc<Gate>) -> Self {
        StreamSystem { disconnector: system.get_disconnector(), system, gate }
    }

    /// Runs until the stream ends, the peer breaks a bound, a method panics,
    /// or `connection_lost` is ready (a stream that is not being read does not
    /// see that by itself); everything that the stream held is let go then.
    pub async fn run(&mut self, connection_lost: Pin<&mut impl Future>) -> Result<(), StreamEnd> {
        let gate = self.gate.clone();
        let ended = tokio::select! {
            biased;
            _ = connection_lost => Ok(()),
            // Not left to capnp-rpc, which would wait until the peer has read
            // all that is queued for it.
            reason = gate.violation() => Err(StreamEnd::Violation(reason)),
            ended = AssertUnwindSafe(&mut self.system).catch_unwind() => match (gate.broken(), ended) {
                (Some(reason), _) => Err(StreamEnd::Violation(reason)),
                (None, Ok(Ok(()))) => return Ok(()),
                (None, Ok(Err(error))) => return Err(StreamEnd::Failed(error)),
                (None, Err(_)) => Err(StreamEnd::Panicked),
            },
        };
        self.disconnect();
        // Whoever waits for an answer of the peer learns that none will come:
        // the system's own tasks tell them.
        let system = AssertUnwindSafe(&mut self.system).catch_unwind();
        let _ = tokio::time::timeout(FAREWELL, system).await;
        ended
    }

    /// Clears capnp-rpc's tables. After a panic in the middle of a change it
    /// may panic again; what that leaves behind cannot be helped.
    fn disconnect(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _ = Pin::new(&mut self.disconnector).poll(&mut cx);
        }));
    }
}

impl Drop for StreamSystem {
    /// capnp-rpc's tables and the calls in them refer to each other: a system
    /// that is only dropped keeps all of it for ever, with every lease.
    fn drop(&mut self) {
        self.disconnect();
    }
}
