//! From an answer or a failure to status, headers and body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use tokio::sync::mpsc;
use warp::reply::Response;
use warp::{Rejection, Reply};

use super::Result;
use crate::backend::{Answered, Failure, FailureKind};
use crate::json;

/// Longest piece of an answer given to the transport at a time: the unit in
/// which a slow client makes progress.
const PIECE_BYTES: usize = 64 << 10;
/// The console's API says what went wrong as RFC 9457 has it.
pub(super) fn as_problem(response: &mut Response, failure: &Failure) {
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
pub(super) fn reply(result: Result) -> Response {
    result.unwrap_or_else(Reply::into_response)
}

/// An answer in JSON, whole or in pieces.
pub(super) fn answered(answer: Answered) -> Response {
    let mut response = match answer.rest {
        None if answer.first.len() <= PIECE_BYTES => answer.first.to_vec().into_response(),
        rest => warp::reply::stream(Pieces { now: answer.first, rest, is_ended: false }).into_response(),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What a HEAD request gets: the header that the body would have had.
pub(super) fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = hyper::body::Body::size_hint(&body).exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    // A body that is dropped ends its query.
    let (_, empty) = String::new().into_response().into_parts();
    Response::from_parts(head, empty)
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
            FailureKind::Method | FailureKind::MethodOrForm | FailureKind::Post => {
                StatusCode::METHOD_NOT_ALLOWED
            }
            FailureKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FailureKind::TooMany | FailureKind::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
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
            FailureKind::Limited { wait } => {
                headers.insert(RETRY_AFTER, (wait.as_millis().div_ceil(1000) as u64).into());
            }
            FailureKind::Post => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            FailureKind::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            FailureKind::MethodOrForm => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            }
            _ => {}
        }
        response
    }
}

/// What warp itself refuses, in our words.
pub(super) async fn reject(rejection: Rejection) -> std::result::Result<Response, Infallible> {
    let failure = if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        Failure::new(FailureKind::TooLarge, "the request body is too large")
    } else {
        Failure::new(FailureKind::BadData, "the request could not be read")
    };
    Ok(failure.into_response())
}
