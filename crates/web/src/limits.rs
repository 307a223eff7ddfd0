//! Every bound of the accept loop, in one place.

use std::time::Duration;

/// What clients may hold. `Limits::default()` suits an API; each field says
/// what happens at the bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. At the bound the connection that has been idle for
    /// longest is closed for a new one; when none is idle, the new one gets 503.
    pub connections_max: usize,
    /// Open connections of one address; as above, among its own.
    pub connections_per_ip_max: usize,
    /// Requests being answered, over all connections. More get 503.
    pub requests_max: usize,
    /// From the first byte of a header to its last, and from the connection's
    /// start to the first byte. A slower client is cut.
    pub header_timeout: Duration,
    /// A header with its request line. HTTP/1 answers 431 and closes.
    pub header_bytes_max: usize,
    /// Header fields. HTTP/1 answers 431 and closes.
    pub headers_max: usize,
    /// A request's body. More gets 413 and the connection is closed.
    pub body_bytes_max: u64,
    /// As many at paths that end in one of `long_body_paths`.
    pub long_body_bytes_max: u64,
    pub long_body_paths: &'static [&'static str],
    /// What a body may take in any case ...
    pub body_grace: Duration,
    /// ... and the rate it must hold beyond that. A slower one gets 408.
    pub body_bytes_per_second_min: u64,
    /// A connection without a request for this long is closed.
    pub idle_timeout: Duration,
    /// A client that takes nothing of its answer for this long is cut.
    pub stall_timeout: Duration,
    /// Requests at a time on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// How long a drain waits for answers under way.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1024,
            connections_per_ip_max: 256,
            requests_max: 1024,
            header_timeout: Duration::from_secs(10),
            header_bytes_max: 16 << 10,
            headers_max: 100,
            body_bytes_max: 1 << 20,
            long_body_bytes_max: 1 << 20,
            long_body_paths: &[],
            body_grace: Duration::from_secs(10),
            body_bytes_per_second_min: 1 << 10,
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            http2_streams_max: 100,
            drain_deadline: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The longest body of a request to `path`.
    pub(crate) fn body_bytes_max_at(&self, path: &str) -> u64 {
        let is_long = self.long_body_paths.iter().any(|end| path.ends_with(end));
        if is_long { self.long_body_bytes_max } else { self.body_bytes_max }
    }
}
