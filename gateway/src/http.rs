//! The HTTP surface: routes, parameters, status codes and headers.
//!
//! warp finds the route; handlers are plain functions from a [`Call`] to an
//! [`Answer`] or a [`Failure`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Either;
use hyper::header::{
    self, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::{Service as _, service_fn};
use hyper::{Request, StatusCode};
use hyper_util::service::TowerToHyperService;
use lm_web::{Drained, Health, Limits, PeerAddr, RequestBody};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::Config;
use crate::backend::{Answered, Backend, Failure, FailureKind, QueryOptions, Question, Token};
use crate::console::ConsoleQuestion;
use crate::grafana;
use crate::json;
use crate::live::{self, Places};
use crate::params::{self, Params};
use crate::session::unix_nano;

/// Longest piece of an answer given to the transport at a time: the unit in
/// which a slow client makes progress.
const PIECE_BYTES: usize = 64 << 10;
/// Longest path that a log line shows.
const LOGGED_PATH_CHARS: usize = 256;
/// What operators see lies below.
const CONSOLE: &str = "/api/console/";
/// The version of Prometheus whose API this answers like.
const PROMETHEUS_VERSION: &str = "3.5.0";

/// What handlers share.
#[derive(Clone)]
pub(crate) struct State(Arc<Shared>);

struct Shared {
    backend: Backend,
    health: Health,
    allowed_hosts: Vec<String>,
    query_timeout: Duration,
    places: Places,
    stopping: watch::Receiver<bool>,
}

impl State {
    pub fn new(backend: Backend, health: Health, config: &Config, stopping: watch::Receiver<bool>) -> Self {
        State(Arc::new(Shared {
            backend,
            health,
            allowed_hosts: config.allowed_hosts.clone(),
            query_timeout: config.query_timeout,
            places: Places::new(config.live_max, config.live_per_user_max),
            stopping,
        }))
    }
}

/// Answers HTTP until `shutdown`, and drains.
pub(crate) async fn serve(
    listener: TcpListener,
    state: State,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let routes = TowerToHyperService::new(warp::service(routes(state.clone()).recover(reject)));
    let service = service_fn(move |request: Request<RequestBody>| {
        let (routes, state) = (routes.clone(), state.clone());
        async move {
            let begun = Instant::now();
            let method = request.method().clone();
            let path: String = request.uri().path().chars().take(LOGGED_PATH_CHARS).collect();
            let peer = request.extensions().get::<PeerAddr>().map(|PeerAddr(addr)| *addr);
            let uri = request.uri();
            if let Some(health) = state.0.health.answer(&method, uri.path(), uri.query(), request.headers()) {
                return Ok::<_, Infallible>(health.map(Either::Left));
            }
            let mut response = match check_host(&state.0.allowed_hosts, &request) {
                Ok(()) => match routes.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
                Err(failure) => failure.into_response(),
            };
            if path.starts_with(CONSOLE)
                && let Some(failure) = response.extensions_mut().remove::<Failure>()
            {
                as_problem(&mut response, &failure);
            }
            secure(response.headers_mut());
            tracing::info!(
                method = %method,
                path = %path,
                status = response.status().as_u16(),
                duration_us = begun.elapsed().as_micros() as u64,
                client = peer.map(tracing::field::display),
                "request"
            );
            Ok(response.map(Either::Right))
        }
    });
    lm_web::serve(listener, service, limits, shutdown).await
}

/// The console's API says what went wrong as RFC 9457 has it.
fn as_problem(response: &mut Response, failure: &Failure) {
    let status = response.status();
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": failure.message,
    });
    *response.body_mut() = body.to_string().into_response().into_body();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
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

/// A request, as handlers see it.
struct Call {
    headers: HeaderMap,
    query: String,
    /// A form's; empty otherwise.
    body: Bytes,
}

impl Call {
    fn token(&self) -> Result<Token> {
        let wanted = || {
            Failure::new(
                FailureKind::Unauthorized,
                "this needs a token: send \"Authorization: Bearer TOKEN\"",
            )
        };
        let value = self.headers.get(AUTHORIZATION).ok_or_else(wanted)?.to_str().map_err(|_| wanted())?;
        let (scheme, token) = value.split_once(' ').ok_or_else(wanted)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(wanted());
        }
        Ok(Token::new(token))
    }

    fn params(&self) -> Result<Params> {
        Params::parse(&self.body, self.query.as_bytes())
    }
}

fn query_string() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// GET only.
fn get() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
    warp::get().and(warp::header::headers_cloned()).and(query_string()).map(|headers, query| Call {
        headers,
        query,
        body: Bytes::new(),
    })
}

/// GET, or POST with a form.
fn get_or_form() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
    let post =
        warp::post().and(warp::header::headers_cloned()).and(query_string()).and(warp::body::bytes()).map(
            |headers: HeaderMap, query, body| {
                let is_form = headers
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
                Call { body: if is_form { body } else { Bytes::new() }, headers, query }
            },
        );
    get().or(post).unify()
}

fn routes(state: State) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    /// A route: its path, how it may be called, and what answers.
    macro_rules! route {
        ($path:expr, $call:expr, $handler:expr) => {{
            let state = state.clone();
            $path
                .and($call)
                .then(move |call: Call| {
                    let state = state.clone();
                    async move { reply($handler(&state.0, &call).await) }
                })
                .boxed()
        }};
    }
    let values = {
        let state = state.clone();
        warp::path!("api" / "v1" / "label" / String / "values")
            .and(get())
            .then(move |name: String, call: Call| {
                let state = state.clone();
                async move { reply(label_values(&state.0, &call, &name).await) }
            })
            .boxed()
    };
    let dashboard_by_id = {
        let state = state.clone();
        warp::path!("api" / "v1" / "dashboards" / String)
            .and(get())
            .then(move |id: String, call: Call| {
                let state = state.clone();
                async move { reply(dashboard(&state.0, &call, id).await) }
            })
            .boxed()
    };
    let console = {
        let state = state.clone();
        warp::path!("api" / "console" / "v1" / String)
            .and(get())
            .then(move |list: String, call: Call| {
                let state = state.clone();
                async move { reply(console(&state.0, &call, &list).await) }
            })
            .boxed()
    };
    route!(warp::path!("api" / "v1" / "query"), get_or_form(), query)
        .or(route!(warp::path!("api" / "v1" / "query_range"), get_or_form(), query_range))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "labels"), get_or_form(), labels))
        .unify()
        .or(values)
        .unify()
        .or(route!(warp::path!("api" / "v1" / "series"), get_or_form(), series))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "query_exemplars"), get_or_form(), exemplars))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "metadata"), get(), metadata))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "rules"), get(), rules))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "alerts"), get(), alerts))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "status" / "buildinfo"), get(), build_info))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "logs"), get(), logs))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "losses"), get(), losses))
        .unify()
        .or(route!(warp::path!("api" / "v1" / "dashboards"), get(), dashboards))
        .unify()
        .or(dashboard_by_id)
        .unify()
        .or(route!(warp::path!("api" / "v1" / "live"), get(), live_tail))
        .unify()
        .or(console)
        .unify()
}

type Result<T = Response> = std::result::Result<T, Failure>;

async fn query(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let question = Question::Query {
        expression: params.query()?,
        time_ms: params.time("time")?.unwrap_or_else(|| unix_nano() / 1_000_000),
        options: options(state, &params)?,
    };
    Ok(answered(state.backend.ask(token, question).await?))
}

async fn query_range(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let range = params.range()?;
    let question =
        Question::QueryRange { expression: params.query()?, range, options: options(state, &params)? };
    Ok(answered(state.backend.ask(token, question).await?))
}

fn options(state: &Shared, params: &Params) -> Result<QueryOptions> {
    Ok(QueryOptions {
        timeout: params.timeout(state.query_timeout)?,
        lookback_ms: params.lookback_ms()?,
        limit: params.limit()?,
    })
}

async fn labels(state: &Shared, call: &Call) -> Result {
    let question = Question::LabelNames(call.params()?.selection()?);
    Ok(answered(state.backend.ask(call.token()?, question).await?))
}

async fn label_values(state: &Shared, call: &Call, name: &str) -> Result {
    let name = percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .map_err(|_| Failure::new(FailureKind::BadData, "invalid label name: not UTF-8"))?;
    let name = params::unescape_name(&name);
    if name.is_empty() {
        return Err(Failure::new(FailureKind::BadData, "invalid label name: \"\""));
    }
    let question = Question::LabelValues { name, selection: call.params()?.selection()? };
    Ok(answered(state.backend.ask(call.token()?, question).await?))
}

async fn series(state: &Shared, call: &Call) -> Result {
    let token = call.token()?;
    let selection = call.params()?.selection()?;
    if selection.selectors.is_empty() {
        return Err(Failure::new(FailureKind::BadData, "no match[] parameter provided"));
    }
    Ok(answered(state.backend.ask(token, Question::Series(selection)).await?))
}

async fn exemplars(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":[]}"#).await
}

async fn metadata(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{}}"#).await
}

async fn rules(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{"groups":[]}}"#).await
}

async fn alerts(state: &Shared, call: &Call) -> Result {
    constant(state, call, r#"{"status":"success","data":{"alerts":[]}}"#).await
}

async fn build_info(state: &Shared, call: &Call) -> Result {
    let body = format!(
        r#"{{"status":"success","data":{{"version":"{PROMETHEUS_VERSION}","revision":"lightmetrics-{}","branch":"lightmetrics","buildUser":"","buildDate":"","goVersion":""}}}}"#,
        env!("CARGO_PKG_VERSION")
    );
    constant(state, call, body).await
}

/// The same for everybody who has a token.
async fn constant(state: &Shared, call: &Call, body: impl Into<Bytes>) -> Result {
    state.backend.ask(call.token()?, Question::WhoAmI).await?;
    Ok(answered(Answered { first: body.into(), rest: None }))
}

async fn logs(state: &Shared, call: &Call) -> Result {
    let token = call.token()?;
    let question = Question::SearchLogs(call.params()?.log_search(unix_nano())?);
    Ok(answered(state.backend.ask(token, question).await?))
}

async fn losses(state: &Shared, call: &Call) -> Result {
    Ok(answered(state.backend.ask(call.token()?, Question::Losses).await?))
}

async fn dashboards(state: &Shared, call: &Call) -> Result {
    Ok(answered(state.backend.ask(call.token()?, Question::Dashboards).await?))
}

/// No id has a character that a path would escape, so it is taken as it is.
async fn dashboard(state: &Shared, call: &Call, id: String) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let as_grafana = match params.get("format") {
        None | Some("") => false,
        Some("grafana") => true,
        Some(_) => return Err(Failure::new(FailureKind::BadData, "format is \"grafana\" or left out")),
    };
    let mut answer = state.backend.ask(token, Question::Dashboard(id)).await?;
    if as_grafana {
        let model = grafana::model(&answer.first).map_err(|error| {
            tracing::error!(%error, "a dashboard cannot be written for Grafana");
            Failure::new(FailureKind::Internal, "this dashboard cannot be written for Grafana")
        })?;
        answer.first = model.into();
    }
    Ok(answered(answer))
}

/// What operators see; never a change.
async fn console(state: &Shared, call: &Call, list: &str) -> Result {
    let token = call.token()?;
    let question = ConsoleQuestion::parse(list, &call.params()?)?;
    Ok(answered(state.backend.ask(token, Question::Console(question)).await?))
}

async fn live_tail(state: &Shared, call: &Call) -> Result {
    let (token, params) = (call.token()?, call.params()?);
    let last = match call.headers.get("last-event-id") {
        Some(id) => Some(id.to_str().unwrap_or("?")),
        None => params.get("last_event_id"),
    };
    let after = match last.filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => Some(id.parse().map_err(|()| {
            let message =
                format!("invalid parameter \"last_event_id\": found {id:?}, expected an id such as \"7-42\"");
            Failure::new(FailureKind::BadData, message)
        })?),
    };
    let (backend, stopping) = (state.backend.clone(), state.stopping.clone());
    let events = live::open(backend, &state.places, stopping, token, params.log_filter(), after).await?;
    let mut response = warp::reply::stream(events).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn reply(result: Result) -> Response {
    result.unwrap_or_else(Reply::into_response)
}

/// An answer in JSON, whole or in pieces.
fn answered(answer: Answered) -> Response {
    let mut response = match answer.rest {
        None if answer.first.len() <= PIECE_BYTES => answer.first.to_vec().into_response(),
        rest => warp::reply::stream(Pieces { now: answer.first, rest, is_ended: false }).into_response(),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer as a body. One that breaks off ends in an error, so that no
/// client takes it for a whole one.
struct Pieces {
    now: Bytes,
    rest: Option<mpsc::Receiver<std::result::Result<Bytes, Failure>>>,
    is_ended: bool,
}

impl futures::Stream for Pieces {
    type Item = std::result::Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if !this.now.is_empty() {
                let at = this.now.len().min(PIECE_BYTES);
                return Poll::Ready(Some(Ok(this.now.split_to(at))));
            }
            if this.is_ended {
                return Poll::Ready(None);
            }
            let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
            match std::task::ready!(rest.poll_recv(ctx)) {
                // The end is marked by an empty piece.
                Some(Ok(piece)) if piece.is_empty() => this.is_ended = true,
                Some(Ok(piece)) => this.now = piece,
                broken => {
                    this.is_ended = true;
                    let failure = broken.and_then(std::result::Result::err).unwrap_or_else(|| {
                        Failure::new(FailureKind::Unavailable, "the session with the collector ended")
                    });
                    tracing::warn!(error = %failure, "an answer broke off");
                    return Poll::Ready(Some(Err(failure)));
                }
            }
        }
    }
}

impl Reply for Failure {
    fn into_response(self) -> Response {
        let status = match self.kind {
            FailureKind::BadData => StatusCode::BAD_REQUEST,
            FailureKind::Execution | FailureKind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::Timeout | FailureKind::Overloaded | FailureKind::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            FailureKind::Canceled => StatusCode::from_u16(499).expect("499 is within 100..1000"),
            FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            FailureKind::Unauthorized => StatusCode::UNAUTHORIZED,
            FailureKind::NotFound => StatusCode::NOT_FOUND,
            FailureKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            FailureKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FailureKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::Forbidden | FailureKind::Host => StatusCode::FORBIDDEN,
        };
        let mut response = json::error(&self).into_response();
        *response.status_mut() = status;
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.kind {
            FailureKind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lightmetrics\""));
            }
            FailureKind::Overloaded | FailureKind::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            FailureKind::TooMany => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            FailureKind::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
            }
            _ => {}
        }
        response
    }
}

/// What warp itself refuses, in our words.
async fn reject(rejection: Rejection) -> std::result::Result<Response, Infallible> {
    let failure = if rejection.is_not_found() {
        Failure::new(FailureKind::NotFound, "there is nothing at this path; the API is under /api/v1")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        Failure::new(FailureKind::Method, "this path does not answer this method")
    } else if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        Failure::new(FailureKind::TooLarge, "the request body is too large")
    } else {
        Failure::new(FailureKind::BadData, "the request could not be read")
    };
    Ok(failure.into_response())
}

#[cfg(test)]
mod tests;
