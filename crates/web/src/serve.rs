//! The accept loop and one connection's life.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::admission::{Admission, Connection, Place};
use crate::body::{Outcome, RequestBody, ResponseBody};
use crate::protocol::{Both, Http1, Protocol};
use crate::stream::Watched;
use crate::transport::{Listener, Transport};
use crate::{Limits, refusal};

/// How often bounds of time are looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// Pause after an accept that failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const EXHAUSTED_LOG_PERIOD: Duration = Duration::from_secs(10);

/// The client's address, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut at the deadline.
    pub cut: usize,
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves `service` over HTTP/1 and HTTP/2 on `listener` until `shutdown` is
/// ready, then finishes what is under way, for at most
/// [`Limits::drain_deadline`].
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections go on until they end.
pub async fn serve<S, B>(
    listener: impl Into<Listener>,
    service: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    accept_loop::<Both, S, B>(listener.into(), service, limits, shutdown).await
}

/// As [`serve`], over HTTP/1 alone.
pub(crate) async fn serve_http1<S, B>(
    listener: impl Into<Listener>,
    service: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    accept_loop::<Http1, S, B>(listener.into(), service, limits, shutdown).await
}

async fn accept_loop<P: Protocol, S, B>(
    listener: Listener,
    service: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Listener { tcp: listener, tls } = listener;
    let limits = Arc::new(limits);
    let admission = Admission::new(limits.clone());
    let requests = Arc::new(Semaphore::new(limits.requests_max));
    let (stop, stopped) = watch::channel(false);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut sweep = tokio::time::interval(SWEEP.min(limits.header_timeout));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut exhausted_logged: Option<Instant> = None;

    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            _ = sweep.tick() => {
                admission.sweep(Instant::now());
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => match admission.admit(peer.ip(), Instant::now()) {
                Some(place) => {
                    let task = Task {
                        place,
                        peer,
                        service: service.clone(),
                        limits: limits.clone(),
                        requests: requests.clone(),
                        stopped: stopped.clone(),
                        tls: tls.clone(),
                    };
                    tokio::spawn(task.run::<P>(tcp));
                }
                None if tls.is_none() => {
                    // A fresh socket has room for these bytes.
                    let _ = tcp.try_write(refusal::NO_PLACE);
                }
                // A handshake is what it has no place for.
                None => {}
            },
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                // Retrying at once would spin: the pending connection stays.
                let now = Instant::now();
                if exhausted_logged.is_none_or(|then| now - then > EXHAUSTED_LOG_PERIOD) {
                    exhausted_logged = Some(now);
                    tracing::warn!(%error, connections = admission.len(), "cannot accept connections");
                }
                admission.evict_any();
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                }
            }
        }
    }

    drop(listener);
    drop(stopped);
    let _ = stop.send(true);
    let deadline = tokio::time::sleep(limits.drain_deadline);
    let mut deadline = std::pin::pin!(deadline);
    loop {
        tokio::select! {
            // Every connection holds a receiver.
            () = stop.closed() => return Drained { cut: 0 },
            () = &mut deadline => return Drained { cut: admission.cut_all() },
            _ = sweep.tick() => admission.sweep(Instant::now()),
        }
    }
}

/// Errors of one pending connection, not of the listener.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

struct Task<S> {
    place: Place,
    peer: SocketAddr,
    service: S,
    limits: Arc<Limits>,
    requests: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    tls: Option<TlsAcceptor>,
}

impl<S, B> Task<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn run<P: Protocol>(self, tcp: TcpStream) {
        let Task { place, peer, service, limits, requests, mut stopped, tls } = self;
        let _ = tcp.set_nodelay(true);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(limits.header_timeout, Transport::accept(tcp, tls.as_ref())) => accepted,
            () = place.connection.cut.notified() => return,
            _ = stopped.wait_for(|stop| *stop), if tls.is_some() => return,
        };
        let tcp = match accepted {
            Ok(Ok(transport)) => transport,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
            Err(_) => return tracing::debug!(%peer, "no TLS handshake in time"),
        };
        let io = TokioIo::new(Watched::new(tcp, place.connection.clone(), limits.stall_timeout));
        let connection = place.connection.clone();
        let bounds = limits.clone();
        let per_request = service_fn(move |request| {
            answer(request, peer, connection.clone(), service.clone(), limits.clone(), requests.clone())
        });
        drive(P::connection(&bounds, io, per_request), place, peer, stopped).await
    }
}

/// Lives with a connection until it ends, is cut, or has drained.
async fn drive<C>(serving: C, place: Place, peer: SocketAddr, mut stopped: watch::Receiver<bool>)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut serving = std::pin::pin!(serving);
    let mut is_draining = false;
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
                return;
            }
            () = place.connection.cut.notified() => return,
            _ = stopped.wait_for(|stop| *stop), if !is_draining => {
                is_draining = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer<S, B>(
    request: Request<Incoming>,
    peer: SocketAddr,
    connection: Arc<Connection>,
    service: S,
    limits: Arc<Limits>,
    requests: Arc<Semaphore>,
) -> Result<Response<ResponseBody<Either<B, Full<Bytes>>>>, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    let in_flight = connection.begin();
    let Ok(permit) = requests.try_acquire_owned() else {
        return Ok(own(refusal::too_many_requests(), in_flight));
    };
    if request.headers().len() > limits.headers_max {
        return Ok(own(refusal::too_many_headers(), in_flight));
    }
    let stated = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body_bytes_max = limits.body_bytes_max_at(request.uri().path());
    if stated.is_some_and(|length: u64| length > body_bytes_max) {
        return Ok(own(refusal::body_too_large(), in_flight));
    }
    let outcome = Outcome::default();
    let mut request = request.map(|body| RequestBody::new(body, body_bytes_max, limits, outcome.clone()));
    request.extensions_mut().insert(PeerAddr(peer));
    let response = service.call(request).await?;
    if outcome.is_too_large() {
        return Ok(own(refusal::body_too_large(), in_flight));
    }
    if outcome.is_too_slow() {
        return Ok(own(refusal::body_too_slow(), in_flight));
    }
    Ok(response.map(|body| ResponseBody::new(Either::Left(body), in_flight, Some(permit))))
}

/// An answer of our own.
fn own<B>(
    response: Response<Full<Bytes>>,
    in_flight: crate::admission::InFlight,
) -> Response<ResponseBody<Either<B, Full<Bytes>>>> {
    response.map(|body| ResponseBody::new(Either::Right(body), in_flight, None))
}
