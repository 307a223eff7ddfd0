//! The transport under hyper: tells what was read, and gives up on a client
//! that takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::admission::Connection;

/// What a blocked client must take within the stall timeout. One byte now and
/// then is not progress.
const PROGRESS_BYTES_MIN: usize = 16 << 10;

pub(crate) struct Watched {
    tcp: TcpStream,
    connection: Arc<Connection>,
    stall: Duration,
    blocked: Option<Blocked>,
}

/// Since the first write that found no room.
struct Blocked {
    deadline: Pin<Box<Sleep>>,
    written: usize,
}

impl Watched {
    pub fn new(tcp: TcpStream, connection: Arc<Connection>, stall: Duration) -> Self {
        Watched { tcp, connection, stall, blocked: None }
    }

    fn on_blocked(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stall = self.stall;
        let blocked = self
            .blocked
            .get_or_insert_with(|| Blocked { deadline: Box::pin(tokio::time::sleep(stall)), written: 0 });
        while blocked.deadline.as_mut().poll(ctx).is_ready() {
            if blocked.written < PROGRESS_BYTES_MIN {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
            }
            blocked.written = 0;
            blocked.deadline.as_mut().reset(tokio::time::Instant::now() + stall);
        }
        Poll::Pending
    }

    fn on_written(&mut self, result: &Poll<io::Result<usize>>) {
        if let (Some(blocked), Poll::Ready(Ok(written))) = (&mut self.blocked, result) {
            blocked.written += written;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.tcp).poll_read(ctx, buffer);
        if matches!(result, Poll::Ready(Ok(()))) {
            this.connection.on_read(&buffer.filled()[before..], Instant::now());
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tcp).poll_write(ctx, bytes);
        this.on_written(&result);
        if result.is_pending() { this.on_blocked(ctx) } else { result }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.tcp).poll_write_vectored(ctx, slices);
        this.on_written(&result);
        if result.is_pending() { this.on_blocked(ctx) } else { result }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper flushes when it has nothing left to write.
        this.blocked = None;
        Pin::new(&mut this.tcp).poll_flush(ctx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(ctx)
    }
}
