//! What is spoken on a connection: a type and no setting, so that a program that
//! needs HTTP/1 alone carries no HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;

use crate::Limits;
use crate::serve::BoxError;

/// hyper panics below this.
const HTTP1_BUFFER_BYTES_MIN: usize = 8 << 10;
/// HTTP/2 windows: what a client may send before the service reads.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
const HTTP2_PING_PERIOD: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that a client opened and reset at once.
const HTTP2_RESETS_MAX: usize = 20;

/// How a connection is served.
pub(crate) trait Protocol: 'static {
    fn connection<I, S, B>(
        limits: &Limits,
        io: I,
        service: S,
    ) -> impl GracefulConnection<Error: std::fmt::Display> + Send
    where
        I: Read + Write + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>;
}

pub(crate) struct Http1;

/// HTTP/1 and HTTP/2, as the client begins.
pub(crate) struct Both;

impl Protocol for Http1 {
    fn connection<I, S, B>(
        limits: &Limits,
        io: I,
        service: S,
    ) -> impl GracefulConnection<Error: std::fmt::Display> + Send
    where
        I: Read + Write + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_read_timeout(limits))
            .max_headers(limits.headers_max)
            .max_buf_size(limits.header_bytes_max.max(HTTP1_BUFFER_BYTES_MIN))
            .half_close(false)
            .serve_connection(io, service)
    }
}

impl Protocol for Both {
    fn connection<I, S, B>(
        limits: &Limits,
        io: I,
        service: S,
    ) -> impl GracefulConnection<Error: std::fmt::Display> + Send
    where
        I: Read + Write + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(header_read_timeout(limits))
            .max_headers(limits.headers_max)
            .max_buf_size(limits.header_bytes_max.max(HTTP1_BUFFER_BYTES_MIN))
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
            .max_local_error_reset_streams(HTTP2_RESETS_MAX)
            .keep_alive_interval(HTTP2_PING_PERIOD)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        builder.serve_connection(io, service).into_owned()
    }
}

/// Between requests too, so this is the idle bound; the sweep cuts a header
/// that has begun and takes too long.
fn header_read_timeout(limits: &Limits) -> Duration {
    limits.idle_timeout.max(limits.header_timeout)
}
