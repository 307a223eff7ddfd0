//! A request as handlers see it, and how warp reads one.

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request};
use warp::{Filter, Rejection};

use super::Result;
use crate::backend::{Failure, FailureKind, Token};
use crate::params::Params;

/// A request, as handlers see it.
pub(super) struct Call {
    pub method: Method,
    pub headers: HeaderMap,
    pub query: String,
    /// A form's; empty otherwise.
    pub body: Bytes,
}

impl Call {
    pub fn token(&self) -> Result<Token> {
        token(&self.headers)
    }

    /// This call, when it is a GET. A body that came with it says nothing.
    pub fn get(&self) -> Result<&Call> {
        self.allow(&[Method::GET], FailureKind::Method)
    }

    /// This call, when it is a GET or a POST with a form.
    pub fn get_or_form(&self) -> Result<&Call> {
        self.allow(&[Method::GET, Method::POST], FailureKind::MethodOrForm)
    }

    fn allow(&self, methods: &[Method], otherwise: FailureKind) -> Result<&Call> {
        if methods.contains(&self.method) {
            return Ok(self);
        }
        Err(Failure::new(otherwise, "this path does not answer this method"))
    }

    pub fn params(&self) -> Result<Params> {
        Params::parse(&self.body, self.query.as_bytes())
    }
}

/// The bearer token of a request.
pub(super) fn token(headers: &HeaderMap) -> Result<Token> {
    let wanted = || {
        Failure::new(FailureKind::Unauthorized, "this needs a token: send \"Authorization: Bearer TOKEN\"")
    };
    let value = headers.get(AUTHORIZATION).ok_or_else(wanted)?.to_str().map_err(|_| wanted())?;
    let (scheme, token) = value.split_once(' ').ok_or_else(wanted)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(wanted());
    }
    Ok(Token::new(token))
}

/// Reads any request.
pub(super) fn call() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method().and(warp::header::headers_cloned()).and(query).and(warp::body::bytes()).map(
        |method: Method, headers: HeaderMap, query, body| {
            // As in Go, a GET has no form.
            let kind = headers.get(CONTENT_TYPE).filter(|_| method == Method::POST);
            let is_form =
                kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
            Call { method, body: if is_form { body } else { Bytes::new() }, headers, query }
        },
    )
}

/// A HEAD request is answered as a GET whose body is not sent.
pub(super) fn as_get<B>(mut request: Request<B>) -> Request<B> {
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::GET;
    }
    request
}
