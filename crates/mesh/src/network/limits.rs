//! How much a peer may hold here, by kind of stream.

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Login, heartbeats, inspection; and every stream before its ticket is
    /// redeemed. Always read.
    Control,
    /// Batches. Over a bound nothing more is read, and the transport's flow
    /// control makes the peer wait: so no bulk method may wait for its peer.
    Bulk,
    /// Queries of a gateway's users. Always read.
    Query,
}

/// Bounds of one stream. Breaking one that stands under "ends the session"
/// closes the connection with [`crate::CloseCode::Limit`] and a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    pub kind: StreamKind,
    /// Largest message. Ends the session, before a byte of the body is read.
    pub message_bytes_max: usize,
    /// Calls in flight. On bulk nothing more is read above it; elsewhere the
    /// network goes on, and whoever dispatches answers `overloaded:`.
    /// Costs about 3 KiB a call besides its message.
    pub calls_max: usize,
    /// Messages that methods still look at, in bytes. On bulk nothing more is
    /// read above it, elsewhere it ends the session. Costs what it says.
    pub held_bytes_max: usize,
    /// Calls and bootstraps that the peer has not finished. Ends the session.
    /// Costs about 1 KiB each, and the answer itself, which is kept for
    /// pipelining until the peer finishes the call.
    pub questions_max: usize,
    /// Calls that the peer cancelled, over the life of the stream: capnp-rpc
    /// keeps a slot of some 150 bytes for each. Ends the session, so that it
    /// starts again with clean tables.
    pub cancelled_max: usize,
    /// References to our objects that the peer has not released. Ends the
    /// session. Costs the object; a few hundred bytes for our thin ones.
    pub exports_max: usize,
    /// Capabilities in one message of the peer. Ends the session. Costs
    /// about 500 bytes each while the call lasts.
    pub capabilities_max: usize,
    /// Above this many bytes that the transport has not taken, nothing more
    /// is read.
    pub unsent_pause_bytes: usize,
    /// Above this many, or when none is taken for 30 s, the session ends.
    pub unsent_bytes_max: usize,
    /// Words that may be visited in a message besides four times its own. A
    /// message may point at the same bytes twice, or at a list of nothing
    /// that claims a billion entries: what that makes us do is bounded by
    /// what was sent. We visit a message up to three times: the guard
    /// measures it, the method reads it, some fields twice.
    pub visit_words_extra: usize,
}

/// Bounds of a server's streams and of all its sessions together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshLimits {
    /// Before login, and of a stream whose ticket was not redeemed yet.
    pub anonymous: StreamLimits,
    pub control: StreamLimits,
    pub bulk: StreamLimits,
    pub query: StreamLimits,
    /// Batches between their arrival and their answer, of all sessions.
    pub ingest_bytes_max: usize,
}

/// [`StreamLimits::cancelled_max`] of every collector that says nothing else.
pub const CANCELLED_CALLS_MAX: usize = 65_536;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The largest batch that a collector may be set to take, or a dictionary of
/// 16,384 entries of 256 bytes, and what stands around it.
const BULK_MESSAGE_BYTES_MAX: usize = 4 * MIB + 64 * KIB;

const CONTROL: StreamLimits = StreamLimits {
    kind: StreamKind::Control,
    message_bytes_max: 256 * KIB,
    calls_max: 64,
    held_bytes_max: 4 * MIB,
    questions_max: 1024,
    cancelled_max: CANCELLED_CALLS_MAX,
    exports_max: 256,
    capabilities_max: 16,
    unsent_pause_bytes: MIB,
    unsent_bytes_max: 8 * MIB,
    visit_words_extra: 4 * KIB,
};

impl Default for MeshLimits {
    fn default() -> Self {
        MeshLimits {
            anonymous: StreamLimits {
                message_bytes_max: 64 * KIB,
                calls_max: 4,
                held_bytes_max: 256 * KIB,
                questions_max: 16,
                cancelled_max: 16,
                exports_max: 16,
                unsent_pause_bytes: 64 * KIB,
                unsent_bytes_max: 256 * KIB,
                ..CONTROL
            },
            control: CONTROL,
            bulk: StreamLimits {
                kind: StreamKind::Bulk,
                message_bytes_max: BULK_MESSAGE_BYTES_MAX,
                held_bytes_max: 8 * MIB,
                exports_max: 64,
                unsent_pause_bytes: 64 * KIB,
                unsent_bytes_max: MIB,
                ..CONTROL
            },
            query: StreamLimits {
                kind: StreamKind::Query,
                message_bytes_max: MIB,
                calls_max: 1024,
                held_bytes_max: 16 * MIB,
                questions_max: 8192,
                exports_max: 4096,
                unsent_pause_bytes: 4 * MIB,
                unsent_bytes_max: 64 * MIB,
                ..CONTROL
            },
            ingest_bytes_max: 64 * MIB,
        }
    }
}

impl StreamLimits {
    /// What a client reads from a server that it trusts.
    pub(crate) const CLIENT: StreamLimits = StreamLimits {
        kind: StreamKind::Control,
        message_bytes_max: 64 * MIB,
        calls_max: 64,
        held_bytes_max: usize::MAX,
        questions_max: 1024,
        cancelled_max: CANCELLED_CALLS_MAX,
        exports_max: 8192,
        capabilities_max: 1024,
        // Its own calls: whoever makes them bounds them.
        unsent_pause_bytes: usize::MAX,
        unsent_bytes_max: usize::MAX,
        visit_words_extra: 8 * MIB,
    };
}
