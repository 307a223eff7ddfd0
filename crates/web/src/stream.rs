//! The transport under hyper: tells what was read, and gives up on a client
//! that takes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::admission::Connection;
use crate::transport::Transport;

/// What a blocked client must take within the stall timeout. One byte now and
/// then is not progress.
const PROGRESS_BYTES_MIN: usize = 16 << 10;

/// After the last answer, what still comes is read and thrown away until the
/// client is quiet for this long: closing on unread bytes resets the
/// connection, and the client never sees why its body was refused.
const LINGER_QUIET: Duration = Duration::from_millis(100);
/// The longest and the most that is thrown away.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 16 << 20;

pub(crate) struct Watched {
    tcp: Transport,
    connection: Arc<Connection>,
    stall: Duration,
    blocked: Option<Blocked>,
    linger: Option<Linger>,
}

/// Since our half was closed.
struct Linger {
    quiet: Pin<Box<Sleep>>,
    end: tokio::time::Instant,
    bytes: usize,
}

impl Linger {
    fn new() -> Self {
        let now = tokio::time::Instant::now();
        Linger { quiet: Box::pin(tokio::time::sleep(LINGER_QUIET)), end: now + LINGER_MAX, bytes: 0 }
    }

    /// Ready when the connection may be closed.
    fn poll(&mut self, tcp: &mut Transport, ctx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut *tcp).poll_read(ctx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.bytes += buffer.filled().len();
                    let next = tokio::time::Instant::now() + LINGER_QUIET;
                    if self.bytes > LINGER_BYTES_MAX || next > self.end {
                        return Poll::Ready(());
                    }
                    self.quiet.as_mut().reset(next);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.quiet.as_mut().poll(ctx),
            }
        }
    }
}

/// Since the first write that found no room.
struct Blocked {
    deadline: Pin<Box<Sleep>>,
    written: usize,
}

impl Watched {
    pub fn new(tcp: Transport, connection: Arc<Connection>, stall: Duration) -> Self {
        Watched { tcp, connection, stall, blocked: None, linger: None }
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
        let this = self.get_mut();
        if this.linger.is_none() {
            std::task::ready!(Pin::new(&mut this.tcp).poll_shutdown(ctx))?;
        }
        this.linger.get_or_insert_with(Linger::new).poll(&mut this.tcp, ctx).map(Ok)
    }
}
