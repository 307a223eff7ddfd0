//! The health listener: whether we live, have started, and are ready.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use lm_web::{Check, Health, Limits, RequestBody, refusal, serve};
use tokio::net::TcpListener;

use crate::Error;

/// A running listener; dropping it stops it with its runtime.
pub struct Running {
    health: Health,
    spool: Check,
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

/// Listens on `addr`: first alive, ready once the spool is replayed.
pub fn start(runtime: &tokio::runtime::Runtime, addr: SocketAddr) -> Result<Running, Error> {
    let failed = |error| Error::Listen { addr, error };
    let health = Health::new();
    let spool = health.check("spool");
    let listener = runtime.block_on(TcpListener::bind(addr)).map_err(failed)?;
    let answering = health.clone();
    let service = service_fn(move |request: Request<RequestBody>| {
        let (path, query) = (request.uri().path(), request.uri().query());
        let answer = answering
            .answer(request.method(), path, query, request.headers())
            .unwrap_or_else(|| refusal(StatusCode::NOT_FOUND, "not_found", "only health endpoints are here"));
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    runtime.spawn(async move { serve(listener, service, Limits::default(), std::future::pending()).await });
    Ok(Running { health, spool })
}
