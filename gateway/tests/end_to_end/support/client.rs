//! A raw HTTP client.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

/// A whole answer; the body is `None` when it broke off.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Option<Vec<u8>>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone().expect("the body broke off")).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status, `errorType` and `error` of a refused request.
    #[track_caller]
    pub fn failed(&self) -> (u16, String, String) {
        assert!(self.headers.contains("content-type: application/json"), "{}", self.headers);
        let json = self.json();
        assert_eq!(json["status"], "error");
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        (self.status, text("errorType"), text("error"))
    }
}

impl Answer {
    /// Status and `detail` of a request that the console refused.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert!(self.headers.contains("content-type: application/problem+json"), "{}", self.headers);
        let json = self.json();
        assert_eq!(json["status"], self.status);
        assert_eq!(json["type"], "about:blank");
        (self.status, json["detail"].as_str().unwrap().to_owned())
    }
}

pub struct Stream(pub BufReader<TcpStream>);

impl Stream {
    pub async fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await;
            assert!(read.expect("no head in time").unwrap() > 0, "closed within the head: {head:?}");
            if line == "\r\n" {
                break;
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }

    pub async fn body(&mut self, headers: &str) -> Option<Vec<u8>> {
        if let Some(length) = headers.split("content-length: ").nth(1) {
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            return self.0.read_exact(&mut body).await.ok().map(|_| body);
        }
        if headers.starts_with("http/1.1 204 ") {
            return Some(Vec::new());
        }
        assert!(headers.contains("transfer-encoding: chunked"), "{headers}");
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Some(body)
    }

    /// One chunk; `Some(None)` at the end, `None` when it broke off.
    pub async fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.0.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(length);
        Some((length > 0).then_some(chunk))
    }

    /// The next server-sent event or comment; `None` at the end.
    pub async fn event(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await;
            if read.expect("no event in time").ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            let is_framing = line.len() <= 6 && usize::from_str_radix(line, 16).is_ok();
            if is_framing || (line.is_empty() && text.is_empty()) {
                continue;
            }
            if line.is_empty() {
                return Some(text);
            }
            text.push_str(line);
            text.push('\n');
        }
    }
}
