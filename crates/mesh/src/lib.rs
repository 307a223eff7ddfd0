//! Cap'n Proto RPC over QUIC or TLS: the long-lived sessions between our processes.
//!
//! One QUIC connection a peer; where UDP is blocked, one TLS connection over
//! TCP a stream instead. Its first bidirectional stream is *control*,
//! whose bootstrap object can do one thing: log in. Every other stream is an
//! RPC system of its own (so that a large push never delays a heartbeat) and
//! its bootstrap can do one thing too: attach with a single-use ticket that
//! control handed out. What a peer may do is what it was granted there.
//!
//! Read [`Server`] for the listening side, [`Dialer`] for the other. This
//! crate decides who gets in and bounds what they may hold; it knows nothing
//! of storage or queries: a process plugs in a [`Host`].

mod activity;
mod attached;
mod backoff;
mod client;
mod close;
mod credentials;
mod ledger;
mod link;
mod message_bytes;
mod network;
mod pipe;
mod reach;
mod rpc;
mod secret;
mod server;
mod session;
mod tcp;
mod tickets;
mod tls;
mod transport;

pub use activity::Activity;
pub use attached::AttachedStream;
pub use backoff::Backoff;
pub use client::{Connected, DialError, Dialer, DialerConfig, Granted, dial_local};
pub use close::{CloseCode, Closing};
pub use credentials::{
    CredentialError, Credentials, Principal, Rates, Role, Scope, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN,
    TokenDigest, TokenTable, is_identity, token_digest,
};
pub use ledger::{
    CallRecord, CallState, CapabilityFacts, Ended, Grant, Ledger, MethodTotals, Root, TapBatch, TapCost,
    TapFilter, TapReader, Terms, TooManyTaps, Verdict,
};
pub use network::{
    Budget, CANCELLED_CALLS_MAX, Lease, MeshLimits, Meter, MeterFacts, StreamKind, StreamLimits,
};
pub use pipe::Remote;
pub use secret::{SecretError, read_secret, read_secret_file};
pub use server::{Admission, Capability, Host, Peer, Refusal, Server, ServerConfig, ServerError};
pub use session::{AgentReport, Incidents, PathFacts, PeerDescription, Registry, Session, Traffic};
pub use tickets::{Attachment, Tickets};
pub use tls::{Certificates, TlsError, check_certificate};
pub use transport::{KeepAlive, Transport};

/// The application protocol that both sides must agree on.
pub const ALPN: &[u8] = b"lightmetrics/1";
