//! The listener for whoever runs a process: health endpoints and `/metrics`.
//! Plain HTTP without tokens, so it belongs on loopback or an inner network.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::serve::serve_http1;
use crate::{Drained, Health, Limits, RequestBody, refusal};

/// Makes the text of `/metrics`, as of now. It must not wait.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What is answered.
#[derive(Clone)]
pub struct Endpoint {
    pub health: Health,
    /// `None`: there is no `/metrics`.
    pub metrics: Option<MetricsText>,
    /// Of that text.
    pub content_type: &'static str,
}

/// Few ask: a scraper, probes, a person.
fn limits() -> Limits {
    Limits { connections_max: 32, connections_per_ip_max: 32, requests_max: 16, ..Limits::default() }
}

impl Endpoint {
    /// Answers until `shutdown`, over HTTP/1.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Drained {
        let service = service_fn(move |request: Request<RequestBody>| {
            std::future::ready(Ok::<_, Infallible>(self.answer(&request)))
        });
        serve_http1(listener, service, limits(), shutdown).await
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (path, query) = (request.uri().path(), request.uri().query());
        if let Some(answer) = self.health.answer(request.method(), path, query, request.headers()) {
            return answer;
        }
        match &self.metrics {
            Some(text) if path == "/metrics" => match *request.method() {
                Method::GET | Method::HEAD => self.metrics(text),
                _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "bad_data", "use GET"),
            },
            _ => refusal(StatusCode::NOT_FOUND, "not_found", "only /metrics and health endpoints are here"),
        }
    }

    fn metrics(&self, text: &MetricsText) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(text())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
