//! What becomes of HTTP requests: counted for `/metrics`, and told the log.
//!
//! Neither ever holds a body, a query string or a header but the client's name
//! for itself: tokens and questions are in those.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, HeaderName, USER_AGENT};
use hyper::{Method, Request, Response};
use lm_telemetry::log::REQUEST;
use lm_telemetry::{Figure, Histogram};
use lm_web::PeerAddr;

/// Longest path and name of a client that a log line shows.
const SHOWN_CHARS: usize = 256;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Every route, as the label `handler`; `:` stands for any one segment. What
/// is none of these is [`OTHER`], so that paths cannot make series.
const HANDLERS: [&str; 19] = [
    "/api/v1/query",
    "/api/v1/query_range",
    "/api/v1/labels",
    "/api/v1/label/:/values",
    "/api/v1/series",
    "/api/v1/query_exemplars",
    "/api/v1/metadata",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/status/buildinfo",
    "/api/v1/write",
    "/api/v1/otlp/v1/metrics",
    "/api/v1/import/prometheus",
    "/api/v1/logs",
    "/api/v1/losses",
    "/api/v1/dashboards",
    "/api/v1/dashboards/:",
    "/api/v1/live",
    "/api/console/v1/:",
];
const OTHER: &str = "other";

/// The handler that a path goes to.
fn handler(path: &str) -> &'static str {
    let is_it = |template: &&&str| {
        let (mut wanted, mut found) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return true,
                (Some(":"), Some(segment)) if !segment.is_empty() => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
    };
    HANDLERS.iter().find(is_it).copied().unwrap_or(OTHER)
}

/// The same few words for any method.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

/// What is known of a request before it is answered.
pub(crate) struct Asked {
    begun: Instant,
    method: Method,
    /// Without a query string, cut off.
    path: String,
    handler: &'static str,
    client: Option<SocketAddr>,
    user_agent: Option<String>,
    body_bytes: Option<u64>,
    /// Of the W3C header `traceparent`: whom the client's trace knows it as.
    trace: Option<(String, String)>,
}

impl Asked {
    pub fn of<B>(request: &Request<B>) -> Asked {
        let header = |name: &HeaderName| request.headers().get(name)?.to_str().ok();
        let shown = |text: &str| text.chars().take(SHOWN_CHARS).collect::<String>();
        Asked {
            begun: Instant::now(),
            method: request.method().clone(),
            path: shown(request.uri().path()),
            handler: OTHER,
            client: request.extensions().get::<PeerAddr>().map(|PeerAddr(addr)| *addr),
            user_agent: header(&USER_AGENT).map(shown),
            body_bytes: header(&CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            trace: header(&TRACEPARENT).and_then(trace),
        }
    }
}

impl Asked {
    /// Where it goes, without the prefix that a proxy in front put before it.
    pub fn route(&mut self, path: &str) {
        self.handler = handler(path);
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`: the ids of trace and span.
fn trace(header: &str) -> Option<(String, String)> {
    let mut parts = header.split('-');
    let is_hex = |text: &&str, len: usize| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    parts.next().filter(|version| is_hex(version, 2))?;
    let trace = parts.next().filter(|id| is_hex(id, 32))?;
    let span = parts.next().filter(|id| is_hex(id, 16))?;
    Some((trace.to_owned(), span.to_owned()))
}

/// All requests since the start.
#[derive(Default)]
pub(crate) struct Requests {
    /// By handler, method and status: as many as these can be.
    counts: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
}

impl Requests {
    /// The answer's header is ready; its body may take longer.
    pub fn on_answered<B: Body>(&self, asked: &Asked, response: &Response<B>) {
        let (took, status) = (asked.begun.elapsed(), response.status().as_u16());
        let key = (asked.handler, method(&asked.method), status);
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.entry(asked.handler).or_default().observe(took);
        drop(durations);
        tracing::info!(
            target: REQUEST,
            method = %asked.method,
            path = %asked.path,
            status,
            duration_us = took.as_micros() as u64,
            client = asked.client.map(|addr| tracing::field::display(addr.ip())),
            user_agent = asked.user_agent,
            request_bytes = asked.body_bytes,
            response_bytes = response.body().size_hint().exact(),
            trace_id = asked.trace.as_ref().map(|(trace, _)| &trace[..]),
            span_id = asked.trace.as_ref().map(|(_, span)| &span[..]),
            "request"
        );
    }

    /// Adds what was counted.
    pub fn figures(&self, to: &mut Vec<Figure>) {
        for ((handler, method, code), count) in
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let figure =
                Figure::new("lmgateway_http_requests_total", "Requests that were answered.", *count as f64);
            to.push(figure.with("code", code.to_string()).with("method", *method).with("handler", *handler));
        }
        for (handler, histogram) in self.durations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (name, help) = (
                "lmgateway_http_request_duration_seconds",
                "From a request's header to its answer's header.",
            );
            to.push(Figure::histogram(name, help, histogram.snapshot()).with("handler", *handler));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_of_a_few_handlers() {
        for (path, expected) in [
            ("/api/v1/query", "/api/v1/query"),
            ("/api/v1/label/job/values", "/api/v1/label/:/values"),
            ("/api/v1/label//values", OTHER),
            ("/api/v1/label/a/b/values", OTHER),
            ("/api/v1/query/", OTHER),
            ("/api/v1/dashboards/host", "/api/v1/dashboards/:"),
            ("/", OTHER),
            ("", OTHER),
            ("/x?y", OTHER),
        ] {
            assert_eq!(handler(path), expected, "{path}");
        }
    }

    #[test]
    fn a_trace_is_taken_only_as_the_standard_writes_it() {
        let (trace_id, span_id) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let right = format!("00-{trace_id}-{span_id}-01");
        assert_eq!(trace(&right), Some((trace_id.to_owned(), span_id.to_owned())));
        for wrong in ["", "00", "00-x-y-01", &right.to_uppercase(), &right[3..]] {
            assert_eq!(trace(wrong), None, "{wrong}");
        }
    }
}
