//! What was queued for the peer and not taken by the transport.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use capnp::OutputSegments;
use capnp::message::{Builder, HeapAllocator};
use capnp_futures::serialize::AsOutputSegments;
use futures::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Meter;

/// A peer that takes nothing for this long is gone, or pretends to be.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The unsent messages of one stream.
pub(super) struct Unsent {
    bytes: Cell<usize>,
    /// When the transport last took something, or the queue was last empty.
    progressed: Cell<Instant>,
    queued: Notify,
    /// Told whenever a message has left.
    pub left: Notify,
    meter: Arc<Meter>,
}

impl Unsent {
    pub fn new(meter: Arc<Meter>) -> Self {
        Unsent {
            bytes: Cell::new(0),
            progressed: Cell::new(Instant::now()),
            queued: Notify::new(),
            left: Notify::new(),
            meter,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub fn queue(self: &Rc<Self>, message: Rc<Builder<HeapAllocator>>, bytes: usize) -> Outbound {
        if self.bytes.get() == 0 {
            self.progressed.set(Instant::now());
            self.queued.notify_one();
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.meter.unsent_bytes.add(bytes as u64);
        Outbound { message, bytes, unsent: self.clone() }
    }

    /// Returns when messages wait and the transport has taken nothing for
    /// [`STALL_MAX`].
    pub async fn stalled(&self) {
        loop {
            if self.bytes.get() == 0 {
                self.queued.notified().await;
                continue;
            }
            let deadline = self.progressed.get() + STALL_MAX;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A message on its way; dropped once it is written, or never will be.
pub(super) struct Outbound {
    message: Rc<Builder<HeapAllocator>>,
    bytes: usize,
    unsent: Rc<Unsent>,
}

impl AsOutputSegments for Outbound {
    fn as_output_segments(&self) -> OutputSegments<'_> {
        self.message.get_segments_for_output()
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.unsent.bytes.set(self.unsent.bytes.get() - self.bytes);
        self.unsent.meter.unsent_bytes.sub(self.bytes as u64);
        self.unsent.left.notify_one();
    }
}

/// A writer that remembers when it last got on.
pub(super) struct Watched<W> {
    pub inner: W,
    pub unsent: Rc<Unsent>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Watched<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.unsent.progressed.set(Instant::now());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
