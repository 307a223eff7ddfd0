//! The choice of a transport; QUIC settings and sockets. Every bound is explicit: quinn's defaults let
//! one connection hold 250 MB, and the operating system's default socket
//! buffers lose packets even on loopback.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

/// What carries a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// QUIC, and TLS over TCP where that does not get through.
    #[default]
    Auto,
    Quic,
    Tcp,
}

impl Transport {
    /// As configuration files and command lines write them.
    pub const NAMES: [(&'static str, Transport); 3] =
        [("auto", Transport::Auto), ("quic", Transport::Quic), ("tcp", Transport::Tcp)];
}

/// How an idle session is kept, over QUIC and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A silent path is given a sign of life this often, which also keeps a
    /// NAT's memory of it. Costs a packet and its answer.
    pub every: Duration,
    /// Silence of this length ends the session. Over QUIC the smaller of both
    /// sides' counts.
    pub idle: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        KeepAlive { every: Duration::from_secs(15), idle: Duration::from_secs(60) }
    }
}

/// Streams of one connection: control, bulk or query, and one to spare while
/// an old one is torn down.
pub(crate) const STREAMS_MAX: u32 = 4;
/// What one stream may have in flight towards us: two of the largest batches.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// What one connection may have in flight towards us.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// The same, of a peer that has not logged in: two of the largest messages
/// that it may send.
const STRANGER_WINDOW_BYTES: u32 = 128 << 10;
const SEND_WINDOW_BYTES: u64 = 2 << 20;
/// Both directions; asked for, and what the kernel granted is logged.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Below this, loss under load is certain.
const SOCKET_BUFFER_BYTES_MIN: usize = 1 << 20;

/// Random identifiers. quinn's default ones carry a checksum with a key of the
/// process, so that a restarted server would take packets of connections to
/// its predecessor for noise, and never send the reset that ends them.
pub(crate) struct RandomConnectionIds;

const CONNECTION_ID_BYTES: usize = 8;

impl quinn::ConnectionIdGenerator for RandomConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system has random bytes");
        quinn::ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Settings of a client. A server opens no streams, so it grants none.
pub(crate) fn client(keep_alive: KeepAlive) -> Arc<TransportConfig> {
    Arc::new(config(0, CONNECTION_WINDOW_BYTES, keep_alive))
}

/// Settings of a server for a peer that has not logged in: control alone, and
/// little memory.
pub(crate) fn stranger(keep_alive: KeepAlive) -> Arc<TransportConfig> {
    Arc::new(config(1, STRANGER_WINDOW_BYTES, keep_alive))
}

/// What a peer gets once it has logged in.
pub(crate) fn trust(connection: &quinn::Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
}

fn config(streams_granted: u32, connection_window_bytes: u32, keep_alive: KeepAlive) -> TransportConfig {
    let idle_ms = u32::try_from(keep_alive.idle.as_millis()).unwrap_or(u32::MAX);
    let mut ack_frequency = AckFrequencyConfig::default();
    ack_frequency.ack_eliciting_threshold(VarInt::from_u32(10));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_granted))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(connection_window_bytes))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(keep_alive.every))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .ack_frequency_config(Some(ack_frequency));
    config
}

/// A UDP socket with large buffers.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // Accept IPv4 peers on `[::]` too, whatever the system default.
        let _ = socket.set_only_v6(false);
    }
    // Refusals show in the granted sizes below.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < SOCKET_BUFFER_BYTES_MIN {
        tracing::warn!(
            granted_bytes = granted,
            wanted_bytes = SOCKET_BUFFER_BYTES,
            "small UDP buffers lose packets under load; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
