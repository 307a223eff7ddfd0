//! TCP and unix sockets, as the fallback wants them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::KeepAlive;
use crate::pipe::SECRET_BYTES;

/// Connections that the kernel keeps for us before we accept them.
const BACKLOG: i32 = 1024;

/// Names the secret of a control connection that the two ends share (RFC
/// 8446, exporters).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-lightmetrics-session";

pub(crate) type Secret = [u8; SECRET_BYTES];

/// What only the two ends of this TLS connection know: it lets a further
/// connection join its session.
///
/// # Errors
///
/// Before the handshake is complete.
pub(crate) fn session_secret<Side>(
    connection: &rustls::ConnectionCommon<Side>,
) -> Result<Secret, rustls::Error> {
    connection.export_keying_material([0; SECRET_BYTES], EXPORTER_LABEL, None)
}

/// Bytes that are not acknowledged within the idle time end the connection, as
/// does silence.
pub(crate) fn configure(socket: &tokio::net::TcpStream, keep_alive: KeepAlive) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // The kernel counts in seconds.
    let every = keep_alive.every.max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(every).with_interval(every).with_retries(4))?;
    socket.set_tcp_user_timeout(Some(keep_alive.idle))
}

pub(crate) fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        let _ = socket.set_only_v6(false);
    }
    // A restarted server takes its port back while old connections fade.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A unix socket for our own user alone. A file that nobody answers on is
/// what a killed process left, and is replaced.
///
/// # Errors
///
/// When another process answers there, the file is no socket, or the
/// directory does not let us.
pub(crate) fn listen_locally(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket",
                ));
            }
            std::fs::remove_file(path)?;
        }
        // Nothing there, or bind() will say what is wrong.
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before listen().
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
