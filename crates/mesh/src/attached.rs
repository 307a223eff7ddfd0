//! One stream that we opened, and the RPC system on it.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::CloseCode;
use crate::link::{Link, Stream};
use crate::network::{Meter, StreamLimits, Terms};
use crate::rpc::StreamEnd;

/// A stream of a session. Dropping it ends the stream, with every call and
/// capability on it, here and at the collector.
pub struct AttachedStream {
    meter: Arc<Meter>,
    end: CancellationToken,
    is_kept: bool,
}

impl AttachedStream {
    /// Calls on this stream that were cancelled before their answer. The
    /// collector keeps a slot for each until the stream ends, and ends the
    /// session of a peer that has too many.
    pub fn abandoned_calls(&self) -> u64 {
        self.meter.abandoned()
    }

    /// Ends the stream now.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Leaves the stream open for as long as its session.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for AttachedStream {
    fn drop(&mut self) {
        if !self.is_kept {
            self.end();
        }
    }
}

/// Runs the RPC system of a stream of `link`; returns the peer's bootstrap.
pub(crate) fn bootstrap<C: capnp::capability::FromClientHook>(
    stream: Stream,
    link: &Link,
) -> (C, AttachedStream) {
    let meter = Arc::new(Meter::default());
    let terms = Rc::new(Terms::new(StreamLimits::CLIENT, meter.clone()));
    let (mut system, bootstrap) = stream.client(terms);
    let (link, end) = (link.clone(), CancellationToken::new());
    let handle = AttachedStream { meter, end: end.clone(), is_kept: false };
    tokio::task::spawn_local(async move {
        let over = pin!(async {
            tokio::select! {
                _ = link.closed() => {}
                () = end.cancelled() => {}
            }
        });
        match system.run(over).await {
            Ok(()) => {}
            Err(StreamEnd::Violation(reason)) => {
                tracing::warn!(%reason, "the collector broke a bound");
                link.close(CloseCode::Limit, &reason);
            }
            Err(error) => tracing::debug!(error = ?error.to_string(), "a stream failed"),
        }
    });
    (bootstrap, handle)
}
