//! From an endpoint's name to a connection with a control stream, over
//! whatever gets through.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::link::{Link, Stream};
use crate::pipe::{Io, Pipe, Wire, write_open};
use crate::tcp::{self, Secret};
use crate::{CloseCode, DialError, DialerConfig, KeepAlive, Remote, Transport, tls, transport};

/// How long QUIC has before TCP is tried.
const QUIC_DEADLINE: Duration = Duration::from_secs(3);

/// A connection that nobody has logged in on yet.
pub(crate) struct Reached {
    pub link: Link,
    pub control: Stream,
    pub streams: Outgoing,
    /// Where QUIC is preferred and did not get through.
    pub probe: Option<Probe>,
}

/// Streams that we open.
pub(crate) enum Outgoing {
    Quic(quinn::Connection),
    Tcp {
        to: Target,
        tls: Arc<rustls::ClientConfig>,
        keep_alive: KeepAlive,
        secret: Secret,
        wire: Arc<Wire>,
    },
    /// A local session has its control stream only.
    Local,
}

/// Where to connect, and whom to expect there.
#[derive(Clone)]
pub(crate) struct Target {
    addr: SocketAddr,
    name: String,
}

/// Finds out whether QUIC gets through again.
pub(crate) struct Probe {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    to: Target,
    every: Duration,
}

/// Why one transport did not get through.
enum Failure {
    Unreachable(String),
    Untrusted(String),
}

impl Outgoing {
    /// Opens a further stream of the session.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or a new one cannot be made.
    pub(crate) async fn open(&self) -> Result<Stream, capnp::Error> {
        let lost = |error: String| capnp::Error::disconnected(format!("no stream: {error}"));
        match self {
            Outgoing::Quic(connection) => {
                let (send, receive) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
                Ok(Stream::Quic(send, receive))
            }
            Outgoing::Tcp { to, tls, keep_alive, secret, wire } => {
                let opening = async {
                    let (mut io, _) = connect_tcp(to, tls, *keep_alive).await?;
                    write_open(&mut *io, Some(secret)).await?;
                    io::Result::Ok(io)
                };
                let io = opening.await.map_err(|error| lost(error.to_string()))?;
                let pipe = Pipe::new(io, wire.clone(), false, None);
                let (writer, reader) = pipe.split();
                tokio::task::spawn_local(pipe.follow());
                Ok(Stream::Pipe(writer, reader))
            }
            Outgoing::Local => Err(capnp::Error::failed("a local session has no further streams".to_owned())),
        }
    }
}

impl Probe {
    /// Waits until a QUIC handshake works.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn succeed(&self) {
        loop {
            tokio::time::sleep(self.every).await;
            let connecting = self.endpoint.connect_with(self.config.clone(), self.to.addr, &self.to.name);
            let Ok(connecting) = connecting else { continue };
            match tokio::time::timeout(QUIC_DEADLINE, connecting).await {
                Ok(Ok(connection)) => return connection.close(CloseCode::Done.number(), b"QUIC works again"),
                Ok(Err(error)) => tracing::debug!(%error, "QUIC still does not get through"),
                Err(_) => tracing::debug!("QUIC still does not get through"),
            }
        }
    }
}

/// Connects to `endpoint` as the configuration says.
///
/// # Errors
///
/// [`DialError::Untrusted`] at once: no other transport hides a wrong
/// certificate.
pub(crate) async fn reach(
    config: &DialerConfig,
    endpoint: &str,
    socket: &mut Option<quinn::Endpoint>,
) -> Result<Reached, DialError> {
    let failed = |failure: Failure| match failure {
        Failure::Unreachable(message) => DialError::Unreachable { endpoint: endpoint.to_owned(), message },
        Failure::Untrusted(message) => {
            DialError::Untrusted { endpoint: endpoint.to_owned(), ca: config.ca.clone(), message }
        }
    };
    let addr = resolve(endpoint).await.map_err(|error| failed(Failure::Unreachable(error.to_string())))?;
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let name = config.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
    let to = Target { addr, name };
    let tls = tls::client(&config.ca)?;
    if config.transport == Transport::Tcp {
        return reach_tcp(to, Arc::new(tls), config.keep_alive).await.map_err(failed);
    }
    let mut quic = quinn::ClientConfig::new(Arc::new(tls::quic_client(tls.clone())?));
    quic.transport_config(transport::client(config.keep_alive));
    let udp = udp_endpoint(socket, addr)?;
    if config.transport == Transport::Quic {
        return reach_quic(udp, quic, &to).await.map_err(failed);
    }
    let why = match tokio::time::timeout(QUIC_DEADLINE, reach_quic(udp, quic.clone(), &to)).await {
        Ok(Ok(reached)) => return Ok(reached),
        Ok(Err(failure @ Failure::Untrusted(_))) => return Err(failed(failure)),
        Ok(Err(Failure::Unreachable(message))) => message,
        Err(_) => format!("no answer within {} s", QUIC_DEADLINE.as_secs()),
    };
    let probe = Probe { endpoint: udp.clone(), config: quic, to: to.clone(), every: config.retry_quic_after };
    match reach_tcp(to, Arc::new(tls), config.keep_alive).await {
        Ok(reached) => {
            tracing::info!(endpoint, %why, "QUIC does not get through; using TLS over TCP");
            Ok(Reached { probe: Some(probe), ..reached })
        }
        Err(Failure::Unreachable(message)) => {
            Err(failed(Failure::Unreachable(format!("QUIC: {why}; TCP: {message}"))))
        }
        Err(failure) => Err(failed(failure)),
    }
}

/// Connects to the collector of this host.
pub(crate) async fn reach_local(path: &Path) -> io::Result<Reached> {
    let socket = UnixStream::connect(path).await?;
    let peer = socket.peer_cred()?;
    let mut io: Box<dyn Io> = Box::new(socket);
    write_open(&mut *io, None).await?;
    let remote = Remote::Local { uid: peer.uid(), pid: peer.pid() };
    Ok(piped(io, Arc::new(Wire::new("unix", remote)), |_| Outgoing::Local))
}

async fn reach_quic(
    endpoint: &quinn::Endpoint,
    config: quinn::ClientConfig,
    to: &Target,
) -> Result<Reached, Failure> {
    let unreachable = |message: String| Failure::Unreachable(message);
    let connecting =
        endpoint.connect_with(config, to.addr, &to.name).map_err(|error| unreachable(error.to_string()))?;
    let connection = connecting.await.map_err(|error| match error {
        // A TLS alert of our own making: the certificate did not hold.
        quinn::ConnectionError::TransportError(transport) => Failure::Untrusted(transport.to_string()),
        other => unreachable(other.to_string()),
    })?;
    let (send, receive) = connection.open_bi().await.map_err(|error| unreachable(error.to_string()))?;
    Ok(Reached {
        link: Link::Quic(connection.clone()),
        control: Stream::Quic(send, receive),
        streams: Outgoing::Quic(connection),
        probe: None,
    })
}

async fn reach_tcp(
    to: Target,
    tls: Arc<rustls::ClientConfig>,
    keep_alive: KeepAlive,
) -> Result<Reached, Failure> {
    let opening = async {
        let (mut io, secret) = connect_tcp(&to, &tls, keep_alive).await?;
        write_open(&mut *io, None).await?;
        io::Result::Ok((io, secret))
    };
    let (io, secret) = opening.await.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => Failure::Untrusted(error.to_string()),
            _ => Failure::Unreachable(error.to_string()),
        }
    })?;
    let wire = Arc::new(Wire::new("tcp", Remote::Socket(to.addr)));
    Ok(piped(io, wire, |wire| Outgoing::Tcp { to, tls, keep_alive, secret, wire }))
}

/// A session whose control stream is this pipe.
fn piped(io: Box<dyn Io>, wire: Arc<Wire>, streams: impl FnOnce(Arc<Wire>) -> Outgoing) -> Reached {
    let pipe = Pipe::new(io, wire.clone(), true, None);
    let (writer, reader) = pipe.split();
    tokio::task::spawn_local(pipe.attend());
    Reached {
        link: Link::Pipes(wire.clone()),
        control: Stream::Pipe(writer, reader),
        streams: streams(wire),
        probe: None,
    }
}

async fn connect_tcp(
    to: &Target,
    tls: &Arc<rustls::ClientConfig>,
    keep_alive: KeepAlive,
) -> io::Result<(Box<dyn Io>, Secret)> {
    let name = ServerName::try_from(to.name.clone()).map_err(io::Error::other)?;
    let socket = TcpStream::connect(to.addr).await?;
    tcp::configure(&socket, keep_alive)?;
    let tls = TlsConnector::from(tls.clone()).connect(name, socket).await?;
    let secret = tcp::session_secret(tls.get_ref().1).map_err(io::Error::other)?;
    Ok((Box::new(tls), secret))
}

/// The UDP socket of our dials, made anew when the address family changes.
fn udp_endpoint(known: &mut Option<quinn::Endpoint>, to: SocketAddr) -> io::Result<&quinn::Endpoint> {
    let fits = known
        .as_ref()
        .and_then(|known| known.local_addr().ok())
        .is_some_and(|local| local.is_ipv4() == to.is_ipv4());
    if !fits {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = transport::bind(any)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        *known = Some(quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)?);
    }
    Ok(known.as_ref().expect("the lines above have just set it"))
}

async fn resolve(endpoint: &str) -> io::Result<SocketAddr> {
    let endpoint = endpoint.to_owned();
    if let Ok(addr) = endpoint.parse() {
        return Ok(addr);
    }
    let found = tokio::task::spawn_blocking(move || endpoint.to_socket_addrs().map(|mut found| found.next()));
    found.await.map_err(io::Error::other)??.ok_or_else(|| io::Error::other("the name has no address"))
}
