//! Connections to a collector, and streams whose bytes we choose.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::wire::{self, Method, Said, Target};
use crate::System;

/// Whoever waits longer for an answer of a live collector gets none.
const PATIENCE: Duration = Duration::from_secs(8);
/// Largest answer that is read.
const ANSWER_WORDS_MAX: usize = 1 << 20;

/// Sockets of one attacker: the system's buffer of one takes some 90 packets.
const ENDPOINTS: usize = 4;
/// How long the last words of all connections may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// How much a peer takes before it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Usual,
    /// A window of a kilobyte a stream: who does not read blocks the server
    /// at once.
    Narrow,
}

/// Opens connections to one collector. Must be made within a runtime.
pub struct Attacker {
    endpoints: Vec<quinn::Endpoint>,
    next: AtomicUsize,
    config: quinn::ClientConfig,
    addr: SocketAddr,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The application's close code, if it was the application.
    pub code: Option<u64>,
    pub reason: String,
}

impl From<quinn::ConnectionError> for Ended {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Ended {
                code: Some(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => Ended { code: None, reason: other.to_string() },
        }
    }
}

/// The product's ALPN, and whoever the CA of `dir` vouches for.
///
/// # Errors
///
/// When there is no such CA.
pub fn client_config(ca: &Path, transport: Transport) -> Result<quinn::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).map_err(|error| error.to_string())?;
    roots.add(certificate).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![lm_mesh::ALPN.to_vec()];
    let tls = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut settings = TransportConfig::default();
    if transport == Transport::Narrow {
        settings.stream_receive_window(VarInt::from_u32(1024)).receive_window(VarInt::from_u32(1024));
    }
    settings.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.transport_config(Arc::new(settings));
    Ok(config)
}

impl Attacker {
    /// # Errors
    ///
    /// When there is no socket or no CA.
    pub fn new(system: &System, transport: Transport) -> Result<Attacker, String> {
        let endpoint = || quinn::Endpoint::client(([127, 0, 0, 1], 0).into());
        let endpoints: std::io::Result<Vec<_>> = (0..ENDPOINTS).map(|_| endpoint()).collect();
        Ok(Attacker {
            endpoints: endpoints.map_err(|error| error.to_string())?,
            next: AtomicUsize::new(0),
            config: client_config(&system.path("ca.pem"), transport)?,
            addr: system.mesh_addr(),
        })
    }

    /// A connection that has said nothing yet.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub async fn connect(&self) -> Result<Peer, String> {
        let connecting = self.endpoints[self.next.fetch_add(1, Ordering::Relaxed) % ENDPOINTS]
            .connect_with(self.config.clone(), self.addr, "localhost")
            .map_err(|error| error.to_string())?;
        let connection = in_time("a handshake", connecting).await?.map_err(|error| error.to_string())?;
        Ok(Peer { connection })
    }

    /// Ends all connections, and waits until the server must know.
    pub async fn leave(&self) {
        for endpoint in &self.endpoints {
            endpoint.close(VarInt::from_u32(0), b"");
        }
        for endpoint in &self.endpoints {
            let _ = tokio::time::timeout(LEAVE_WITHIN, endpoint.wait_idle()).await;
        }
    }

    /// A connection that has logged in, and its control stream.
    ///
    /// # Errors
    ///
    /// When the login is refused.
    pub async fn log_in(&self, token: &str) -> Result<(Peer, Channel), String> {
        let peer = self.connect().await?;
        let mut control = peer.open().await?;
        control.root = control.bootstrap().await?;
        let question = control.ask();
        control.send(&wire::login(question, &Target::Import(control.root), token)).await?;
        control.root = control.capability_of(question).await?;
        Ok((peer, control))
    }

    /// One that has logged in, and the stream that its ticket is good for.
    ///
    /// # Errors
    ///
    /// When anything is refused.
    pub async fn attach(&self, token: &str, ticket: Method) -> Result<(Peer, Channel, Channel), String> {
        let (peer, mut control) = self.log_in(token).await?;
        let question = control.ask();
        control.send(&wire::empty_call(question, &Target::Import(control.root), ticket)).await?;
        let Said::Results { data, .. } = control.answer_to(question).await? else {
            return Err("no ticket".to_owned());
        };
        let mut attached = peer.open().await?;
        attached.root = attached.bootstrap().await?;
        let question = attached.ask();
        attached.send(&wire::attach(question, &Target::Import(attached.root), &data)).await?;
        attached.root = attached.capability_of(question).await?;
        Ok((peer, control, attached))
    }
}

/// One connection.
pub struct Peer {
    connection: quinn::Connection,
}

impl Peer {
    /// Opens a stream; the server sees it with its first byte.
    ///
    /// # Errors
    ///
    /// When the connection is gone or the server grants no stream in time.
    pub async fn open(&self) -> Result<Channel, String> {
        let opened = in_time("a stream", self.connection.open_bi()).await?;
        let (send, receive) = opened.map_err(|error| error.to_string())?;
        Ok(Channel { send, receive, root: 0, next_question: 0 })
    }

    /// How the connection ended; `None` while it has not after `within`.
    pub async fn ended(&self, within: Duration) -> Option<Ended> {
        tokio::time::timeout(within, self.connection.closed()).await.ok().map(Ended::from)
    }

    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

/// What came of a question.
pub type Answer = Result<Said, String>;

/// One stream.
pub struct Channel {
    pub send: SendStream,
    pub receive: RecvStream,
    /// The capability that was granted last.
    pub root: u32,
    next_question: u32,
}

impl Channel {
    /// A question's number that was not used.
    pub fn ask(&mut self) -> u32 {
        self.next_question += 1;
        self.next_question - 1
    }

    /// The capability of this stream.
    pub fn target(&self) -> Target {
        Target::Import(self.root)
    }

    /// # Errors
    ///
    /// When the stream is gone, or the server takes nothing for long.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        in_time("room to send", self.send.write_all(bytes)).await?.map_err(|error| error.to_string())
    }

    /// The next message.
    ///
    /// # Errors
    ///
    /// When the stream ends, or nothing comes in time.
    pub async fn receive(&mut self) -> Answer {
        in_time("an answer", Self::receive_from(&mut self.receive)).await?
    }

    /// The next message of a stream, however long it takes.
    ///
    /// # Errors
    ///
    /// When the stream ends, or a message is too large to be one.
    pub async fn receive_from(stream: &mut RecvStream) -> Answer {
        let mut bytes = vec![0; 8];
        read(stream, &mut bytes).await?;
        let segments = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize + 1;
        if segments > 512 {
            return Err(format!("{segments} segments"));
        }
        bytes.resize((segments / 2 + 1) * 8, 0);
        read(stream, &mut bytes[8..]).await?;
        let (sizes, _) = bytes[4..].as_chunks::<4>();
        let words: usize = sizes[..segments].iter().map(|size| u32::from_le_bytes(*size) as usize).sum();
        if words > ANSWER_WORDS_MAX {
            return Err(format!("an answer of {words} words"));
        }
        let table = bytes.len();
        bytes.resize(table + words * 8, 0);
        read(stream, &mut bytes[table..]).await?;
        wire::read(&bytes).ok_or_else(|| "no RPC message".to_owned())
    }

    /// Waits for the answer to one question and ignores all others.
    ///
    /// # Errors
    ///
    /// When the stream ends first.
    pub async fn answer_to(&mut self, question: u32) -> Answer {
        loop {
            match self.receive().await? {
                Said::Results { question: of, exports, data } if of == question => {
                    return Ok(Said::Results { question, exports, data });
                }
                Said::Exception { question: of, reason } if of == question => return Err(reason),
                Said::Abort(reason) => return Err(format!("abort: {reason}")),
                _ => {}
            }
        }
    }

    /// The first capability in the answer to a question.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn capability_of(&mut self, question: u32) -> Result<u32, String> {
        match self.answer_to(question).await? {
            Said::Results { exports, .. } => {
                exports.first().copied().ok_or_else(|| "no capability".to_owned())
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// Asks for the bootstrap capability of the stream.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn bootstrap(&mut self) -> Result<u32, String> {
        let question = self.ask();
        self.send(&wire::bootstrap(question)).await?;
        self.capability_of(question).await
    }
}

async fn read(stream: &mut RecvStream, into: &mut [u8]) -> Result<(), String> {
    stream.read_exact(into).await.map_err(|error| error.to_string())
}

async fn in_time<T>(what: &str, future: impl IntoFuture<Output = T>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| format!("not within {PATIENCE:?}: {what}"))
}
