//! The HTTP surface: routes, parameters, status codes and headers.
//!
//! [`serve`] is what every request passes: the path prefix, health, the Host
//! header, CORS, compression. warp reads it, `routes.rs` finds the handler, and
//! What is written does not pass warp: `write.rs` reads bodies by itself. The
//! handlers (`prometheus.rs`, `status.rs`, `own.rs`) are plain functions from a
//! `Call` to a response or a [`Failure`].

mod call;
mod cors;
mod encode;
mod own;
mod prefix;
mod prometheus;
mod reply;
mod routes;
mod status;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Either;
use hyper::header::{
    self, CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::{Service as _, service_fn};
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use lm_web::{Drained, Health, Limits, Listener, RequestBody};
use tokio::sync::watch;
use warp::Reply as _;
use warp::reply::Response;

use crate::Config;
use crate::backend::{Backend, Failure, FailureKind};
use crate::live::Places;
use crate::requests::{Asked, Requests};
use crate::write::Writes;

use cors::Cors;
use encode::{Coding, encode};

/// What operators see lies below.
const CONSOLE: &str = "/api/console/";

/// What handlers share.
#[derive(Clone)]
pub(crate) struct State(Arc<Shared>);

struct Shared {
    backend: Backend,
    writes: Writes,
    health: Health,
    allowed_hosts: Vec<String>,
    path_prefix: String,
    cors: Cors,
    query_timeout: Duration,
    places: Places,
    requests: Arc<Requests>,
    stopping: watch::Receiver<bool>,
}

impl State {
    pub fn new(
        backend: Backend,
        writes: Writes,
        health: Health,
        requests: Arc<Requests>,
        config: &Config,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        State(Arc::new(Shared {
            requests,
            backend,
            writes,
            health,
            allowed_hosts: config.allowed_hosts.clone(),
            path_prefix: config.path_prefix.clone(),
            cors: Cors::new(config.cors_origins.clone()),
            query_timeout: config.query_timeout,
            places: Places::new(config.live_max, config.live_per_user_max),
            stopping,
        }))
    }
}

/// Answers HTTP until `shutdown`, and drains.
pub(crate) async fn serve(
    listener: Listener,
    state: State,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let routes = TowerToHyperService::new(warp::service(routes::routes(state.clone())));
    let service = service_fn(move |mut request: Request<RequestBody>| {
        let (routes, state) = (routes.clone(), state.clone());
        async move {
            let mut asked = Asked::of(&request);
            prefix::strip(&state.0.path_prefix, &mut request);
            asked.route(request.uri().path());
            let method = request.method().clone();
            let uri = request.uri();
            if let Some(health) = state.0.health.answer(&method, uri.path(), uri.query(), request.headers()) {
                return Ok::<_, Infallible>(health.map(Either::Left));
            }
            let is_console = uri.path().starts_with(CONSOLE);
            let coding = Coding::choose(request.headers());
            let origin = state.0.cors.allowed(request.headers());
            let mut response = match check_host(&state.0.allowed_hosts, &request) {
                Ok(()) => match state.0.cors.preflight(&request, origin.as_ref()) {
                    Some(response) => response,
                    None if write::PATHS.contains(&request.uri().path()) => {
                        write::answer(&state, request).await.unwrap_or_else(Failure::into_response)
                    }
                    None => match routes.call(call::as_get(request)).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                },
                Err(failure) => failure.into_response(),
            };
            if is_console && let Some(failure) = response.extensions_mut().remove::<Failure>() {
                reply::as_problem(&mut response, &failure);
            }
            secure(response.headers_mut());
            state.0.cors.mark(origin, response.headers_mut());
            state.0.requests.on_answered(&asked, &response);
            let response = if method == Method::HEAD { reply::without_body(response) } else { response };
            Ok(encode(response, coding).map(Either::Right))
        }
    });
    lm_web::serve(listener, service, limits, shutdown).await
}

/// Headers of every answer: nothing here may be kept, framed or guessed at.
fn secure(headers: &mut HeaderMap) {
    const HEADERS: [(HeaderName, &str); 4] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Refuses names that are not ours, against DNS rebinding.
fn check_host<B>(allowed: &[String], request: &Request<B>) -> Result<()> {
    if allowed.is_empty() {
        return Ok(());
    }
    let named = match request.headers().get(HOST) {
        Some(host) => host.to_str().unwrap_or(""),
        None => request.uri().authority().map_or("", |authority| authority.as_str()),
    };
    let host = match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => named,
    };
    if allowed.contains(&host.to_ascii_lowercase()) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Host, "the Host header names none of allowed_hosts"))
}

pub(crate) use write::PATHS as WRITE_PATHS;

type Result<T = Response> = std::result::Result<T, Failure>;

#[cfg(test)]
mod tests;
