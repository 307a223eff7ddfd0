//! The health listener: whether we live, have started, and are ready.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use lm_web::{Check, Health, Limits, RequestBody, refusal, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Error;
use crate::telemetry::Telemetry;

/// A running listener; dropping it stops it.
pub struct Running {
    health: Health,
    spool: Check,
    _stop: oneshot::Sender<()>,
}

impl Running {
    pub fn set_ready(&self, is_ready: bool) {
        if is_ready {
            self.spool.pass();
            self.health.started();
        } else {
            self.health.stopping();
        }
    }
}

/// Our own figures, for a Prometheus that watches us from outside.
fn metrics(telemetry: &Telemetry) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(telemetry.text())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Listens on `addr`, on a thread of its own: it answers while the spool is
/// replayed and while we drain. First alive, ready once the spool is replayed.
pub fn start(addr: SocketAddr, telemetry: Telemetry) -> Result<Running, Error> {
    let failed = |error| Error::Listen { addr, error };
    let thread = |error| Error::Thread { name: "health", error };
    let health = Health::new();
    let spool = health.check("spool");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
    let listener = runtime.block_on(TcpListener::bind(addr)).map_err(failed)?;
    let answering = health.clone();
    let service = service_fn(move |request: Request<RequestBody>| {
        let (path, query) = (request.uri().path(), request.uri().query());
        let answer = match path {
            "/metrics" if request.method() == Method::GET => metrics(&telemetry),
            _ => answering.answer(request.method(), path, query, request.headers()).unwrap_or_else(|| {
                refusal(StatusCode::NOT_FOUND, "not_found", "only /metrics and health endpoints are here")
            }),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            let stopped = async {
                // Dropping the sender is the signal.
                let _ = stopped.await;
            };
            runtime.block_on(serve(listener, service, Limits::default(), stopped))
        })
        .map_err(thread)?;
    Ok(Running { health, spool, _stop: stop })
}
