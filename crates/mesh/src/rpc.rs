//! One RPC system on one QUIC stream.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use capnp::message::ReaderOptions;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;

use crate::inflight::Bounded;

/// Bounds of one stream's RPC system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLimits {
    /// Largest message that is read, in bytes: it is allocated on the peer's word.
    pub message_bytes_max: usize,
    pub calls_max: usize,
}

impl StreamLimits {
    /// Heartbeats and inspection.
    pub const CONTROL: StreamLimits = StreamLimits { message_bytes_max: 64 << 10, calls_max: 16 };
    /// Batches and dictionaries, or the queries of a gateway's users. A
    /// live tail holds a call for as long as it waits.
    pub const ATTACHED: StreamLimits = StreamLimits { message_bytes_max: 8 << 20, calls_max: 1024 };
    /// What we ourselves read from a server that we trust.
    pub const CLIENT: StreamLimits = StreamLimits { message_bytes_max: 64 << 20, calls_max: 64 };

    fn reader_options(self) -> ReaderOptions {
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(self.message_bytes_max / 8)).nesting_limit(16);
        options
    }
}

/// The system of a stream. Run it with `spawn_local`; it ends with the stream.
pub(crate) fn system(
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    side: Side,
    limits: StreamLimits,
    bootstrap: Option<capnp::capability::Client>,
    calls: Arc<AtomicU64>,
) -> RpcSystem<Side> {
    let network = VatNetwork::new(receive, send, side, limits.reader_options());
    RpcSystem::new(Box::new(Bounded::new(network, limits.calls_max, calls)), bootstrap)
}
