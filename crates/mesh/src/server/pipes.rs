//! The thread of all sessions that do not run over QUIC: TLS over TCP where
//! UDP is blocked, and the unix socket for operators of this host.
//!
//! One thread is enough for a fallback: TLS costs half of QUIC's CPU, and a
//! core carries 1.6 GB/s of it. It also lets the connections of one session,
//! which arrive one by one, meet where its RPC objects live. The first
//! connection of a session is its control stream; a further one joins by a
//! secret that only the two ends of the first can know.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::serve::serve;
use super::threads::{DRAIN_WAIT, runtime};
use super::{LOGIN_DEADLINE, Shared};
use crate::link::{Incoming, Link, Stream};
use crate::pipe::{Io, Pipe, Wire, read_open};
use crate::tcp::{self, Secret};
use crate::transport::STREAMS_MAX;
use crate::{CloseCode, KeepAlive, Remote, pipe};

/// Connections that have not logged in or joined a session yet.
const HALF_OPEN_MAX: u64 = 1024;
/// Connections in all: a session has two.
const CONNECTIONS_MAX: u64 = 8192;
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the thread listens on.
pub(super) struct Listeners {
    pub tcp: Option<(std::net::TcpListener, rustls::ServerConfig)>,
    /// With its path, to remove it in the end.
    pub local: Option<(std::os::unix::net::UnixListener, PathBuf)>,
    pub keep_alive: KeepAlive,
}

/// Runs the thread until `stopped`.
pub(super) fn work(listeners: Listeners, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let runtime = runtime();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(listeners, shared, stopped));
}

async fn run(listeners: Listeners, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    // File descriptors are also needed for data: half of them at most.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let door = Rc::new(Door {
        shared,
        half_open: semaphore(HALF_OPEN_MAX.min(files / 4)),
        connections: semaphore(CONNECTIONS_MAX.min(files / 2)),
        keep_alive: listeners.keep_alive,
        joining: RefCell::default(),
        wires: RefCell::default(),
    });
    let mut accepting = tokio::task::JoinSet::new();
    if let Some((listener, tls)) = listeners.tcp {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        accepting.spawn_local(accept_tcp(door.clone(), listener, acceptor));
    }
    let mut path = None;
    if let Some((listener, at)) = listeners.local {
        accepting.spawn_local(accept_local(door.clone(), listener));
        path = Some(at);
    }
    let _ = stopped.wait_for(|stop| *stop).await;
    drop(accepting);
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
    let _ = tokio::time::timeout(DRAIN_WAIT, door.drain()).await;
}

fn semaphore(permits: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.max(1) as usize))
}

async fn accept_tcp(door: Rc<Door>, listener: std::net::TcpListener, acceptor: TlsAcceptor) {
    let listener = TcpListener::from_std(listener).expect("a listening socket that does not block");
    loop {
        match listener.accept().await {
            Ok((socket, addr)) => {
                if let Some(place) = door.place() {
                    let serving = door.clone().serve_tcp(socket, addr, acceptor.clone(), place);
                    door.spawn(serving);
                }
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn accept_local(door: Rc<Door>, listener: std::os::unix::net::UnixListener) {
    let listener = UnixListener::from_std(listener).expect("a listening socket that does not block");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                if let Some(place) = door.place() {
                    let serving = door.clone().serve_local(socket, place);
                    door.spawn(serving);
                }
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// What a connection occupies.
struct Place {
    /// Until it has logged in or joined.
    half_open: OwnedSemaphorePermit,
    connection: OwnedSemaphorePermit,
}

/// Where further connections of a session go.
struct Joining {
    wire: Arc<Wire>,
    opened: mpsc::Sender<Stream>,
}

struct Door {
    shared: Arc<Shared>,
    half_open: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    keep_alive: KeepAlive,
    /// Sessions that are logged in.
    joining: RefCell<HashMap<Secret, Joining>>,
    /// Every control connection, logged in or not.
    wires: RefCell<Vec<Arc<Wire>>>,
}

impl Door {
    /// Room for one more connection, or it is dropped.
    fn place(&self) -> Option<Place> {
        let half_open = self.half_open.clone().try_acquire_owned();
        let connection = self.connections.clone().try_acquire_owned();
        match (half_open, connection) {
            (Ok(half_open), Ok(connection)) => Some(Place { half_open, connection }),
            _ => {
                self.shared.registry.handshake_refused();
                None
            }
        }
    }

    /// A panic ends that connection only, and is counted.
    fn spawn(&self, serving: impl Future<Output = ()> + 'static) {
        let registry = self.shared.registry.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = tokio::task::spawn_local(serving).await
                && error.is_panic()
            {
                registry.panicked();
                tracing::error!("a session panicked and was ended");
            }
        });
    }

    async fn serve_tcp(
        self: Rc<Self>,
        socket: TcpStream,
        addr: SocketAddr,
        acceptor: TlsAcceptor,
        place: Place,
    ) {
        let opening = async {
            tcp::configure(&socket, self.keep_alive)?;
            let tls = acceptor.accept(socket).await?;
            let secret = tcp::session_secret(tls.get_ref().1).map_err(io::Error::other)?;
            let mut io: Box<dyn Io> = Box::new(tls);
            let joins = read_open(&mut *io).await?;
            io::Result::Ok((io, secret, joins))
        };
        match tokio::time::timeout(LOGIN_DEADLINE, opening).await {
            Ok(Ok((io, secret, None))) => {
                let wire = Arc::new(Wire::new("tcp", Remote::Socket(addr)));
                self.serve_session(io, wire, Some(secret), place).await;
            }
            Ok(Ok((io, _, Some(secret)))) => self.join(io, &secret, addr, place).await,
            Ok(Err(error)) => tracing::debug!(remote = %addr, %error, "handshake failed"),
            Err(_) => tracing::debug!(remote = %addr, "handshake timed out"),
        }
    }

    async fn serve_local(self: Rc<Self>, socket: UnixStream, place: Place) {
        let opening = async {
            let peer = socket.peer_cred()?;
            let mut io: Box<dyn Io> = Box::new(socket);
            let joins = read_open(&mut *io).await?;
            io::Result::Ok((io, peer, joins))
        };
        match tokio::time::timeout(LOGIN_DEADLINE, opening).await {
            Ok(Ok((io, peer, None))) => {
                let remote = Remote::Local { uid: peer.uid(), pid: peer.pid() };
                self.serve_session(io, Arc::new(Wire::new("unix", remote)), None, place).await;
            }
            Ok(Ok(_)) => tracing::debug!("a local session has one stream"),
            Ok(Err(error)) => tracing::debug!(%error, "no local session"),
            Err(_) => tracing::debug!("nothing came over the local socket"),
        }
    }

    /// Serves a session whose control connection this is. `secret`: how others
    /// join it; none can without.
    async fn serve_session(
        self: Rc<Self>,
        io: Box<dyn Io>,
        wire: Arc<Wire>,
        secret: Option<Secret>,
        place: Place,
    ) {
        let Place { half_open, connection } = place;
        let control = Pipe::new(io, wire.clone(), true, Some(connection));
        let (opened_tx, opened) = mpsc::channel(STREAMS_MAX as usize);
        let (writer, reader) = control.split();
        opened_tx.try_send(Stream::Pipe(writer, reader)).expect("the channel is new");
        let attending = tokio::task::spawn_local(control.attend());
        self.wires.borrow_mut().push(wire.clone());
        let _listed = Listed { door: self.clone(), wire: wire.clone() };

        let streams = Incoming::Pipes { wire: wire.clone(), opened };
        let door = self.clone();
        let logged_in = {
            let wire = wire.clone();
            move |_: &crate::Session| {
                drop(half_open);
                secret.map(|secret| {
                    door.joining.borrow_mut().insert(secret, Joining { wire, opened: opened_tx });
                    Joinable { door, secret }
                })
            }
        };
        serve(Link::Pipes(wire.clone()), streams, self.shared.clone(), logged_in).await;
        wire.close(CloseCode::Done, "done");
        let _ = attending.await;
    }

    /// Hands a connection to the session that knows `secret`.
    async fn join(&self, io: Box<dyn Io>, secret: &Secret, addr: SocketAddr, place: Place) {
        let found = self.joining.borrow().get(secret).map(|to| (to.wire.clone(), to.opened.clone()));
        let Some((wire, opened)) = found else {
            tracing::debug!(remote = %addr, "a connection for no session of ours");
            let wire = Wire::new("tcp", Remote::Socket(addr));
            return pipe::say_goodbye(io, Vec::new(), &wire, CloseCode::ControlLost, "no such session").await;
        };
        let (writer, reader) = Pipe::new(io, wire, false, Some(place.connection)).split();
        // A full channel drops the stream: the session has too many.
        let _ = opened.try_send(Stream::Pipe(writer, reader));
    }

    async fn drain(&self) {
        let wires = self.wires.borrow().clone();
        for wire in &wires {
            wire.close(CloseCode::Drain, "drain");
        }
        for wire in &wires {
            wire.closed().await;
        }
    }
}

/// Takes the control connection off the list when it is over.
struct Listed {
    door: Rc<Door>,
    wire: Arc<Wire>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.door.wires.borrow_mut().retain(|wire| !Arc::ptr_eq(wire, &self.wire));
    }
}

/// Lets nobody join any more when the session is over.
struct Joinable {
    door: Rc<Door>,
    secret: Secret,
}

impl Drop for Joinable {
    fn drop(&mut self) {
        self.door.joining.borrow_mut().remove(&self.secret);
    }
}
