//! HTTP/1.1 by hand: one request a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The body before it was made a text.
    pub bytes: Vec<u8>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    /// # Panics
    ///
    /// When the body is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Begins a GET request.
///
/// # Errors
///
/// When nobody listens.
pub fn begin(
    addr: SocketAddr,
    path: &str,
    token: Option<&str>,
    more: &[(&str, &str)],
) -> io::Result<TcpStream> {
    send(addr, Request { method: "GET", path, token, headers: more, body: b"" })
}

fn send(addr: SocketAddr, request: Request<'_>) -> io::Result<TcpStream> {
    let Request { method, path, token, headers, body } = request;
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    if let Some(token) = token {
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let request = [head.as_bytes(), body].concat();
    stream.write_all(&request)?;
    Ok(stream)
}

/// A whole GET request.
///
/// # Errors
///
/// When the answer is not whole.
pub fn get(addr: SocketAddr, path: &str, token: Option<&str>) -> io::Result<Response> {
    exchange(addr, Request { method: "GET", path, token, ..Request::default() })
}

/// A whole request.
///
/// # Errors
///
/// When the answer is not whole.
pub fn exchange(addr: SocketAddr, request: Request<'_>) -> io::Result<Response> {
    let mut stream = send(addr, request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let broken = |what: &str| io::Error::other(format!("{what}: {:?}", String::from_utf8_lossy(&bytes)));
    let (head, at) = parse_head(&bytes).ok_or_else(|| broken("no HTTP header"))?;
    let body = &bytes[at..];
    let mut response = head;
    let body = if response.header("transfer-encoding") == Some("chunked") {
        let mut chunks = Chunks::default();
        chunks.push(body);
        if !chunks.is_ended {
            return Err(broken("the answer broke off"));
        }
        chunks.data
    } else {
        let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| length != body.len()) && request.method != "HEAD" {
            return Err(broken("the answer broke off"));
        }
        body.to_vec()
    };
    response.body = String::from_utf8_lossy(&body).into_owned();
    response.bytes = body;
    Ok(response)
}

/// The header and where the body begins, once all of it is there.
pub fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some((
        Response {
            status,
            headers: lines.filter_map(header).collect(),
            body: String::new(),
            bytes: Vec::new(),
        },
        end + 4,
    ))
}

/// Takes chunked transfer encoding apart, piece by piece.
#[derive(Default)]
pub struct Chunks {
    raw: Vec<u8>,
    pub data: Vec<u8>,
    pub is_ended: bool,
}

impl Chunks {
    pub fn push(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(line) = self.raw[at..].windows(2).position(|window| window == b"\r\n") {
            let size = String::from_utf8_lossy(&self.raw[at..at + line]);
            let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
            if size == 0 {
                self.is_ended = true;
                break;
            }
            let start = at + line + 2;
            if self.raw.len() < start + size + 2 {
                break;
            }
            self.data.extend_from_slice(&self.raw[start..start + size]);
            at = start + size + 2;
        }
        self.raw.drain(..at);
    }
}

/// Escapes a query parameter.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
