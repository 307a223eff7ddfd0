//! Peers that get as far as TLS and then send what they like.

use std::cell::RefCell;
use std::sync::Arc;

use lm_mesh::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use crate::bench::Bench;
use crate::trusting;

thread_local! {
    /// Endpoints must outlive their connections.
    static ENDPOINTS: RefCell<Vec<quinn::Endpoint>> = const { RefCell::new(Vec::new()) };
}

/// A peer that sends what it likes on a control stream.
pub enum Raw {
    Quic(quinn::Connection, quinn::SendStream),
    Tcp(Box<TlsStream<tokio::net::TcpStream>>),
}

impl Raw {
    pub async fn open(bench: &Bench, bytes: &[u8]) -> Raw {
        if bench.transport == Transport::Quic {
            let connection = silent_connection(bench).await;
            let (mut send, _) = connection.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            return Raw::Quic(connection, send);
        }
        let mut connection = tls_connection(bench).await;
        let frames = [&[1, 0, 0, 0, 0, bytes.len() as u8, 0, 0][..], bytes].concat();
        connection.write_all(&frames).await.unwrap();
        connection.flush().await.unwrap();
        Raw::Tcp(Box::new(connection))
    }

    /// Waits for the end, and answers what the server said at it.
    pub async fn closed(self) -> String {
        match self {
            Raw::Quic(connection, _send) => connection.closed().await.to_string(),
            Raw::Tcp(mut connection) => {
                let mut said = Vec::new();
                let _ = connection.read_to_end(&mut said).await;
                String::from_utf8_lossy(&said).into_owned()
            }
        }
    }
}

pub async fn tls_connection(bench: &Bench) -> TlsStream<tokio::net::TcpStream> {
    let socket = tokio::net::TcpStream::connect(bench.addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting::client(&bench.path("ca.pem"))));
    connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()
}

/// A TLS handshake over QUIC with the right protocol, and nothing after it.
async fn silent_connection(bench: &Bench) -> quinn::Connection {
    let (endpoint, connection) = trusting::connection(&bench.path("ca.pem"), bench.addr()).await;
    ENDPOINTS.with_borrow_mut(|all| all.push(endpoint));
    connection
}
