//! Pages of other origins (CORS), as far as the settings allow them.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, StatusCode};
use warp::Reply as _;
use warp::reply::Response;

/// Who may ask from a browser. Tokens travel in a header that a page must know,
/// never in cookies, so nothing is allowed "with credentials".
pub(super) struct Cors {
    origins: Vec<String>,
}

/// The origin of a request that may read the answer.
pub(super) struct Allowed(HeaderValue);

impl Cors {
    pub fn new(origins: Vec<String>) -> Self {
        Cors { origins }
    }

    pub fn allowed(&self, headers: &HeaderMap) -> Option<Allowed> {
        let origin = headers.get(ORIGIN)?;
        let is_named = self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
        let is_any = self.origins.iter().any(|known| known == "*");
        (is_named || is_any)
            .then(|| Allowed(if is_named { origin.clone() } else { HeaderValue::from_static("*") }))
    }

    /// The answer to a browser that asks before it asks.
    pub fn preflight<B>(&self, request: &Request<B>, origin: Option<&Allowed>) -> Option<Response> {
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight || origin.is_none() {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Authorization, Content-Type, Last-Event-ID"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(response)
    }

    /// Lets the page read the answer.
    pub fn mark(&self, origin: Option<Allowed>, headers: &mut HeaderMap) {
        if !self.origins.is_empty() {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(Allowed(origin)) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date, Retry-After"));
        }
    }
}
