//! A client of the live tail.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::http::{self, Chunks};

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `log`, `notice`, `gap` or `error`.
    pub kind: String,
    pub id: Option<String>,
    pub data: String,
}

impl Event {
    /// The line of a `log` event.
    ///
    /// # Panics
    ///
    /// When its data is no JSON.
    pub fn line(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.data).expect("events hold JSON");
        json["line"].as_str().unwrap_or_default().to_owned()
    }

    /// How many events a `gap` stands for.
    pub fn missed(&self) -> u64 {
        let json: serde_json::Value = serde_json::from_str(&self.data).expect("events hold JSON");
        json["missed"].as_u64().unwrap_or_default()
    }
}

/// An open stream.
pub struct Sse {
    stream: TcpStream,
    chunks: Chunks,
    is_closed: bool,
}

impl Sse {
    /// Opens a stream and waits for its header.
    ///
    /// # Panics
    ///
    /// When the answer is not 200.
    #[track_caller]
    pub fn open(addr: SocketAddr, path: &str, token: &str, after: Option<&str>) -> Sse {
        let headers: Vec<_> = after.map(|id| ("Last-Event-ID", id)).into_iter().collect();
        let mut stream = http::begin(addr, path, Some(token), &headers).expect("the gateway listens");
        let mut bytes = Vec::new();
        let (head, at) = loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).expect("the gateway answers");
            bytes.extend_from_slice(&buffer[..count]);
            if let Some(head) = http::parse_head(&bytes) {
                break head;
            }
            assert!(count > 0, "the gateway closed: {}", String::from_utf8_lossy(&bytes));
        };
        assert_eq!(head.status, 200, "{path}: {}", String::from_utf8_lossy(&bytes));
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let mut chunks = Chunks::default();
        chunks.push(&bytes[at..]);
        Sse { stream, chunks, is_closed: false }
    }

    /// The next event; `None` when there is none in time or the stream ended.
    pub fn next(&mut self, within: Duration) -> Option<Event> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(event) = self.parse() {
                return Some(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_closed {
                return None;
            }
            let _ = self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.chunks.push(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.is_closed = true,
            }
        }
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed || self.chunks.is_ended
    }

    fn parse(&mut self) -> Option<Event> {
        loop {
            let end = self.chunks.data.windows(2).position(|window| window == b"\n\n")?;
            let text = String::from_utf8_lossy(&self.chunks.data[..end]).into_owned();
            self.chunks.data.drain(..end + 2);
            let mut event = Event::default();
            for line in text.lines() {
                match line.split_once(": ") {
                    Some(("event", kind)) => event.kind = kind.to_owned(),
                    Some(("id", id)) => event.id = Some(id.to_owned()),
                    Some(("data", data)) => event.data.push_str(data),
                    // Comments and `retry`.
                    _ => {}
                }
            }
            if !event.kind.is_empty() {
                return Some(event);
            }
        }
    }
}
