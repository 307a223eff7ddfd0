//! Bodies with bounds: what a client sends, and what it takes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use crate::Limits;
use crate::admission::InFlight;

/// Why a request's body ended early. The accept loop answers 413 and 408 by
/// itself, whatever the service makes of the error.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is over {0} bytes")]
    TooLarge(u64),
    #[error("the request body came too slowly")]
    TooSlow,
    #[error("the request body ended early: {0}")]
    Broken(#[from] hyper::Error),
}

/// What became of a request's body.
#[derive(Clone, Default)]
pub(crate) struct Outcome(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Outcome {
    pub fn is_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TOO_LARGE
    }

    pub fn is_too_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TOO_SLOW
    }
}

/// A request's body, cut off at the bounds of [`Limits`].
pub struct RequestBody {
    inner: Incoming,
    bytes_max: u64,
    limits: Arc<Limits>,
    outcome: Outcome,
    seen: u64,
    since: Option<Instant>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, bytes_max: u64, limits: Arc<Limits>, outcome: Outcome) -> Self {
        RequestBody { inner, bytes_max, limits, outcome, seen: 0, since: None, deadline: None }
    }

    /// Until when what was seen so far is not too slow.
    fn due(&mut self) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        let earned = self.seen / self.limits.body_bytes_per_second_min.max(1);
        since + self.limits.body_grace + std::time::Duration::from_secs(earned)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let due = this.due();
        match Pin::new(&mut this.inner).poll_frame(ctx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.seen += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.seen > this.bytes_max {
                    this.outcome.0.store(TOO_LARGE, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::TooLarge(this.bytes_max))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let deadline =
                    this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
                deadline.as_mut().reset(due.into());
                if deadline.as_mut().poll(ctx).is_ready() {
                    this.outcome.0.store(TOO_SLOW, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::TooSlow)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that notes when the client last took something. It holds
/// the request's place until it is dropped.
pub(crate) struct ResponseBody<B> {
    inner: Pin<Box<B>>,
    request: InFlight,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<B> ResponseBody<B> {
    pub fn new(inner: B, request: InFlight, permit: Option<OwnedSemaphorePermit>) -> Self {
        ResponseBody { inner: Box::pin(inner), request, _permit: permit }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let result = this.inner.as_mut().poll_frame(ctx);
        this.request.handed(matches!(result, Poll::Ready(Some(_))).then(Instant::now));
        result
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
