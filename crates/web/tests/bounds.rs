//! Clients that hold what they should not, over real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use lm_web::{Drained, Limits, RequestBody, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Time bounds of a second, so that tests are quick.
fn quick() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(1),
        body_grace: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(3),
        stall_timeout: Duration::from_secs(1),
        drain_deadline: Duration::from_secs(1),
        body_bytes_max: 1000,
        ..Limits::default()
    }
}

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

/// A service that reads the body and answers with its length; `/slow` takes
/// half a second, `/hang` for ever, `/large` answers 64 MiB.
async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = service_fn(|request: Request<RequestBody>| async {
        let path = request.uri().path().to_owned();
        let read = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        match &path[..] {
            "/slow" => tokio::time::sleep(Duration::from_millis(500)).await,
            "/hang" => std::future::pending().await,
            _ => {}
        }
        let body = if path == "/large" { vec![b'x'; 64 << 20] } else { read.to_string().into_bytes() };
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
    });
    let served =
        tokio::spawn(async move { serve(listener, service, limits, async { drop(stopped.await) }).await });
    Running { addr, stop, served }
}

/// Sends `request` and reads until the server closes; the bytes and how long it took.
async fn exchange(addr: SocketAddr, request: &[u8]) -> (String, Duration) {
    let begun = Instant::now();
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(request).await.unwrap();
    (to_end(&mut tcp).await, begun.elapsed())
}

async fn to_end(tcp: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end too.
    let read = tokio::time::timeout(Duration::from_secs(15), tcp.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection is not closed; got {:?}", String::from_utf8_lossy(&bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn is_served(addr: SocketAddr) -> bool {
    exchange(addr, GET).await.0.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn slow_headers_are_cut() {
    let running = start(quick()).await;
    let (_, silent) = exchange(running.addr, b"").await;
    assert!(silent < Duration::from_secs(4), "{silent:?}");
    // A byte now and then does not help.
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter().cycle() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if tcp.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "a slow header is not cut");
    }
    // Nor does a good request before it.
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    tcp.read_exact(&mut answer).await.unwrap();
    tcp.write_all(b"GET / HT").await.unwrap();
    let begun = Instant::now();
    to_end(&mut tcp).await;
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert!(is_served(running.addr).await);
}

#[tokio::test]
async fn large_headers_get_a_code() {
    let running = start(quick()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40 << 10));
    let (answer, _) = exchange(running.addr, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(150));
    let (answer, _) = exchange(running.addr, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn large_and_slow_bodies_get_a_code() {
    let running = start(quick()).await;
    let stated = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n";
    let (answer, _) = exchange(running.addr, stated).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains(r#"{"status":"error","errorType":"bad_data""#), "{answer}");

    let mut chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n".to_vec();
    chunked.extend_from_slice(&[b'x'; 1001]);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let (answer, _) = exchange(running.addr, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc";
    let (answer, took) = exchange(running.addr, slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(took < Duration::from_secs(4), "{took:?}");

    let good = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    assert!(exchange(running.addr, good).await.0.ends_with("\r\n\r\n3"));
}

#[tokio::test]
async fn connections_are_capped_and_half_open_ones_give_way() {
    let running =
        start(Limits { connections_max: 20, connections_per_ip_max: 10, ..Limits::default() }).await;
    let mut half_open = Vec::new();
    for _ in 0..100 {
        let mut tcp = TcpStream::connect(running.addr).await.unwrap();
        tcp.write_all(b"GET / HT").await.unwrap();
        half_open.push(tcp);
    }
    let begun = Instant::now();
    assert!(is_served(running.addr).await);
    // From another address too.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut tcp = socket.connect(running.addr).await.unwrap();
    tcp.write_all(GET).await.unwrap();
    assert!(to_end(&mut tcp).await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    // Ten at most are left of the hundred.
    let mut open = 0;
    for tcp in &mut half_open {
        let mut byte = [0];
        open +=
            usize::from(tokio::time::timeout(Duration::from_millis(20), tcp.read(&mut byte)).await.is_err());
    }
    assert!((1..=10).contains(&open), "{open} are open");
}

#[tokio::test]
async fn busy_connections_keep_their_place() {
    let running = start(Limits { connections_per_ip_max: 2, ..Limits::default() }).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(running.addr).await.unwrap();
        tcp.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        busy.push(tcp);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    let answer = to_end(&mut tcp).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too many connections"), "{answer}");
    busy.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_served(running.addr).await);
}

#[tokio::test]
async fn requests_are_capped() {
    let running = start(Limits { requests_max: 1, ..Limits::default() }).await;
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    tcp.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (answer, _) = exchange(running.addr, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"), "{answer}");
    drop(tcp);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_served(running.addr).await);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let running = start(quick()).await;
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    tcp.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(3000)).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.len() < 64 << 20, "{} bytes", bytes.len());
    // One that reads gets all of it.
    let (answer, _) =
        exchange(running.addr, b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.len() > 64 << 20);
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    let running = start(quick()).await;
    let mut slow = TcpStream::connect(running.addr).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut idle = TcpStream::connect(running.addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.send(()).unwrap();
    assert!(to_end(&mut slow).await.starts_with("HTTP/1.1 200"));
    to_end(&mut idle).await;
    assert_eq!(running.served.await.unwrap(), Drained { cut: 0 });
    assert!(TcpStream::connect(running.addr).await.is_err());
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let running = start(quick()).await;
    let mut hung = TcpStream::connect(running.addr).await.unwrap();
    hung.write_all(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.send(()).unwrap();
    assert_eq!(running.served.await.unwrap(), Drained { cut: 1 });
    to_end(&mut hung).await;
}

#[tokio::test]
async fn http2_is_spoken() {
    let running = start(quick()).await;
    let mut tcp = TcpStream::connect(running.addr).await.unwrap();
    // Preface and an empty SETTINGS frame; the server's SETTINGS come back.
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS");
    // Idle, it is closed after the idle timeout.
    let begun = Instant::now();
    to_end(&mut tcp).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
