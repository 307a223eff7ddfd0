//! A request as handlers see it, and how warp reads one.

use std::convert::Infallible;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use warp::{Filter, Rejection};

use super::Result;
use crate::backend::{Failure, FailureKind, Token};
use crate::params::Params;

/// A request, as handlers see it.
pub(super) struct Call {
    pub headers: HeaderMap,
    pub query: String,
    /// A form's; empty otherwise.
    pub body: Bytes,
}

impl Call {
    pub fn token(&self) -> Result<Token> {
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

    pub fn params(&self) -> Result<Params> {
        Params::parse(&self.body, self.query.as_bytes())
    }
}

fn query_string() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// GET only.
pub(super) fn get() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
    warp::get().and(warp::header::headers_cloned()).and(query_string()).map(|headers, query| Call {
        headers,
        query,
        body: Bytes::new(),
    })
}

/// GET, or POST with a form.
pub(super) fn get_or_form() -> impl Filter<Extract = (Call,), Error = Rejection> + Clone {
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
