//! One RPC stream over one byte pipe: TLS over TCP, or a unix socket.
//!
//! [`Pipe::split`] gives the halves that an RPC system runs on; the [`Pipe`]
//! itself stays with the session, which says goodbye through it. All of them
//! live on one thread and share the pipe's state.

mod frame;
mod wire;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};

pub(crate) use frame::SECRET_BYTES;
use frame::{DATA_BYTES_MAX, HEADER_BYTES, Kind};
pub use wire::Remote;
pub(crate) use wire::Wire;

use crate::{CloseCode, Closing};

/// How long the peer has to take our farewell.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// How long we read on after it: closing a socket with unread bytes makes the
/// kernel send a reset, which would overtake the farewell at the peer.
const LINGER: Duration = Duration::from_millis(200);

/// What carries a pipe.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A pipe whose first frame has been exchanged.
pub(crate) struct Pipe {
    state: Rc<RefCell<State>>,
    wire: Arc<Wire>,
}

/// The reading half.
pub(crate) struct Reader(Rc<RefCell<State>>);

/// The writing half. Closing it flushes: the end of a pipe is the session's
/// to say.
pub(crate) struct Writer(Rc<RefCell<State>>);

struct State {
    /// `None` once it is over.
    io: Option<Box<dyn Io>>,
    reading: Reading,
    writing: Writing,
    /// Whom to tell that it is over.
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Told when the reading half is dropped.
    reader_gone: Rc<Notify>,
    wire: Arc<Wire>,
    /// Whether the end of this pipe is the end of the session.
    is_control: bool,
    /// What the connection occupies at the listener.
    _place: Option<OwnedSemaphorePermit>,
}

enum Reading {
    Header { bytes: [u8; HEADER_BYTES], have: usize },
    Data { left: usize },
    Close { payload: Vec<u8>, have: usize },
    Ended,
}

const BETWEEN_FRAMES: Reading = Reading::Header { bytes: [0; HEADER_BYTES], have: 0 };

/// One frame, being filled or on its way.
#[derive(Default)]
struct Writing {
    frame: Vec<u8>,
    /// Bytes of it that were handed over. Above zero only when sealed.
    written: usize,
    is_sealed: bool,
}

impl Pipe {
    pub(crate) fn new(
        io: Box<dyn Io>,
        wire: Arc<Wire>,
        is_control: bool,
        place: Option<OwnedSemaphorePermit>,
    ) -> Pipe {
        let state = State {
            io: Some(io),
            reading: BETWEEN_FRAMES,
            writing: Writing::default(),
            reader: None,
            writer: None,
            reader_gone: Rc::default(),
            wire: wire.clone(),
            is_control,
            _place: place,
        };
        Pipe { state: Rc::new(RefCell::new(state)), wire }
    }

    pub(crate) fn split(&self) -> (Writer, Reader) {
        (Writer(self.state.clone()), Reader(self.state.clone()))
    }

    /// Runs until the session is over, and ends the halves if they still are.
    /// For every other pipe of a session.
    pub(crate) async fn follow(self) {
        let Pipe { state, wire } = self;
        let state = Rc::downgrade(&state);
        wire.closed().await;
        if let Some(state) = state.upgrade() {
            state.borrow_mut().take();
        }
    }

    /// Runs until the session is over: sends the farewell when one is asked
    /// for, and ends the halves. For the control pipe.
    pub(crate) async fn attend(self) {
        let farewell = tokio::select! {
            farewell = self.wire.farewell() => Some(farewell.clone()),
            _ = self.wire.closed() => None,
            never = self.read_on() => match never {},
        };
        let (io, rest) = self.state.borrow_mut().take();
        if let (Some(io), Some((code, reason))) = (io, farewell) {
            say_goodbye(io, rest, &self.wire, code, &reason).await;
        }
        self.wire.end(Closing::lost("closed"));
    }

    /// Reads on when the RPC system has ended before its session: the peer may
    /// yet say why.
    async fn read_on(&self) -> std::convert::Infallible {
        let gone = self.state.borrow().reader_gone.clone();
        gone.notified().await;
        let mut unread = [0; 4096];
        while let Ok(1..) = poll_fn(|cx| self.state.borrow_mut().poll_read(cx, &mut unread)).await {}
        // That was the end, and told to the wire.
        std::future::pending().await
    }
}

/// Sends `rest`, which completes a frame, and a close frame.
pub(crate) async fn say_goodbye(
    mut io: Box<dyn Io>,
    mut rest: Vec<u8>,
    wire: &Wire,
    code: CloseCode,
    reason: &str,
) {
    rest.extend(frame::close(code, reason));
    let telling = async {
        io.write_all(&rest).await?;
        wire.count_sent(rest.len());
        io.shutdown().await
    };
    let told = tokio::time::timeout(FAREWELL_WAIT, telling).await;
    wire.end(Closing { code: Some(code), reason: reason.to_owned() });
    if matches!(told, Ok(Ok(()))) {
        let mut unread = [0; 4096];
        let reading = async { while matches!(io.read(&mut unread).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(LINGER, reading).await;
    }
}

/// Reads the first frame of a pipe: whose it is.
pub(crate) async fn read_open(io: &mut dyn Io) -> io::Result<Option<[u8; SECRET_BYTES]>> {
    let mut header = [0; HEADER_BYTES];
    io.read_exact(&mut header).await?;
    match frame::read_header(header).map_err(invalid)? {
        (Kind::Open, 0) => Ok(None),
        (Kind::Open, _) => {
            let mut secret = [0; SECRET_BYTES];
            io.read_exact(&mut secret).await?;
            Ok(Some(secret))
        }
        _ => Err(invalid("the first frame opens nothing")),
    }
}

/// Sends the first frame of a pipe.
pub(crate) async fn write_open(io: &mut dyn Io, secret: Option<&[u8; SECRET_BYTES]>) -> io::Result<()> {
    io.write_all(&frame::open(secret)).await?;
    io.flush().await
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn is_over() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the session is over")
}

impl State {
    /// Ends both halves; answers what is left of a frame that has begun.
    fn take(&mut self) -> (Option<Box<dyn Io>>, Vec<u8>) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
        self.writing.seal();
        let rest = self.writing.frame.split_off(self.writing.written);
        (self.io.take(), rest)
    }

    fn end(&mut self, closing: Closing) {
        self.reading = Reading::Ended;
        if self.is_control {
            self.wire.end(closing);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let result = ready!(self.poll_frames(cx, into));
        match &result {
            Ok(0) if !into.is_empty() => self.end(Closing::lost("connection lost: the peer closed it")),
            Err(error) => self.end(Closing::lost(format!("connection lost: {error}"))),
            Ok(_) => {}
        }
        Poll::Ready(result)
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        loop {
            let wanted = match &mut self.reading {
                Reading::Header { bytes, have } => &mut bytes[*have..],
                Reading::Data { left } => {
                    let most = into.len().min(*left);
                    &mut into[..most]
                }
                Reading::Close { payload, have } => &mut payload[*have..],
                Reading::Ended => return Poll::Ready(Ok(0)),
            };
            let mut buffer = ReadBuf::new(wanted);
            let Poll::Ready(read) = Pin::new(&mut *io).poll_read(cx, &mut buffer) else {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            read?;
            let count = buffer.filled().len();
            self.wire.count_received(count);
            if count == 0 {
                let is_between = matches!(&self.reading, Reading::Header { have: 0, .. });
                return match is_between {
                    true => Poll::Ready(Ok(0)),
                    false => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                };
            }
            match &mut self.reading {
                Reading::Header { bytes, have } => {
                    *have += count;
                    if *have == HEADER_BYTES {
                        self.reading = match frame::read_header(*bytes).map_err(invalid)? {
                            (Kind::Data, left) => Reading::Data { left },
                            (Kind::Close, length) => Reading::Close { payload: vec![0; length], have: 0 },
                            (Kind::Open, _) => return Poll::Ready(Err(invalid("a pipe is opened once"))),
                        };
                    }
                }
                Reading::Data { left } => {
                    *left -= count;
                    if *left == 0 {
                        self.reading = BETWEEN_FRAMES;
                    }
                    return Poll::Ready(Ok(count));
                }
                Reading::Close { payload, have } => {
                    *have += count;
                    if *have == payload.len() {
                        let closing = frame::read_close(payload);
                        self.end(closing);
                        return Poll::Ready(Ok(0));
                    }
                }
                Reading::Ended => return Poll::Ready(Ok(0)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.writing.is_sealed {
            ready!(self.poll_send(cx))?;
        }
        if self.io.is_none() {
            return Poll::Ready(Err(is_over()));
        }
        let count = self.writing.take(from);
        if self.writing.is_sealed
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    /// Hands the frame over.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { io, writing, writer, wire, .. } = self;
        let Some(io) = io else { return Poll::Ready(Err(is_over())) };
        while writing.written < writing.frame.len() {
            let Poll::Ready(count) = Pin::new(&mut *io).poll_write(cx, &writing.frame[writing.written..])
            else {
                *writer = Some(cx.waker().clone());
                return Poll::Pending;
            };
            match count? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    writing.written += count;
                    wire.count_sent(count);
                }
            }
        }
        writing.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.seal();
        ready!(self.poll_send(cx))?;
        let Some(io) = &mut self.io else { return Poll::Ready(Err(is_over())) };
        let flushed = Pin::new(io).poll_flush(cx);
        if flushed.is_pending() {
            self.writer = Some(cx.waker().clone());
        }
        flushed
    }
}

impl Writing {
    /// Takes as much as fits the frame; a full one is sealed.
    fn take(&mut self, from: &[u8]) -> usize {
        if self.frame.is_empty() {
            self.frame.extend([0; HEADER_BYTES]);
        }
        let count = from.len().min(HEADER_BYTES + DATA_BYTES_MAX - self.frame.len());
        self.frame.extend_from_slice(&from[..count]);
        if self.frame.len() == HEADER_BYTES + DATA_BYTES_MAX {
            self.seal();
        }
        count
    }

    /// Completes the frame with its header; an empty one becomes nothing.
    fn seal(&mut self) {
        if self.is_sealed {
            return;
        }
        match self.frame.len().checked_sub(HEADER_BYTES) {
            None | Some(0) => self.frame.clear(),
            Some(length) => {
                self.frame[..HEADER_BYTES].copy_from_slice(&frame::header(Kind::Data, length));
                self.is_sealed = true;
            }
        }
    }

    fn clear(&mut self) {
        self.frame.clear();
        self.written = 0;
        self.is_sealed = false;
    }
}

impl futures::AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_read(cx, into)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.borrow().reader_gone.notify_one();
    }
}

impl futures::AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }
}
