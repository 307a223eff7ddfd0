//! Sessions over real sockets: who gets in, what a ticket is worth, and what
//! becomes of peers that misbehave. Everything holds over QUIC and over TCP.

#[path = "support/place.rs"]
mod place;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capnp::any_pointer;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, CloseCode, Closing, Connected, Credentials, DialError, Dialer,
    DialerConfig, Granted, Host, Peer, PeerDescription, Principal, Refusal, Registry, Role, Server,
    ServerConfig, TokenTable, Transport, Verdict, token_digest,
};
use lm_model::{Incarnation, Resume, Stream};
use lm_schema::mesh_capnp::{agent_session, batch_sink};
use place::{certificates, eventually, secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Grants every agent a session that hands out sinks.
#[derive(Default)]
struct TestHost {
    refuse: Mutex<Option<&'static str>>,
}

struct Agent(Rc<Peer>);
struct Sink;

impl Host for TestHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        async move {
            if let Some(message) = *self.refuse.lock().unwrap() {
                return Err(Refusal { code: "denied", message: message.to_owned() });
            }
            let resume = peer
                .incarnations
                .iter()
                .map(|(stream, incarnation)| Resume {
                    stream: *stream,
                    incarnation: *incarnation,
                    durable_end: 5,
                    landed_end: 4,
                })
                .collect();
            Ok(Admission {
                cluster_id: b"cluster".to_vec(),
                resume,
                limits: lm_schema::DecodeLimits::default(),
                batch_bytes_max: 1 << 20,
                calls_in_flight_max: 8,
                capability: Capability::Agent(capnp_rpc::new_client(Agent(peer))),
            })
        }
        .boxed_local()
    }
}

impl agent_session::Server for Agent {
    async fn heartbeat(
        self: Rc<Self>,
        _: agent_session::HeartbeatParams,
        mut results: agent_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        results.get().init_directives().set_collector_unix_ms(42);
        Ok(())
    }

    async fn bulk_ticket(
        self: Rc<Self>,
        _: agent_session::BulkTicketParams,
        mut results: agent_session::BulkTicketResults,
    ) -> Result<(), capnp::Error> {
        let ticket = self.0.tickets.issue(Attachment::Sink(capnp_rpc::new_client(Sink)))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

impl batch_sink::Server for Sink {
    async fn push(
        self: Rc<Self>,
        params: batch_sink::PushParams,
        mut results: batch_sink::PushResults,
    ) -> Result<(), capnp::Error> {
        let body = params.get()?.get_batch()?.get_body()?;
        assert_ne!(body, b"panic", "the test asked for it");
        results.get().init_receipt().set_durable_end(body.len() as u64);
        Ok(())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    /// Of the peers, and of the server.
    transport: Transport,
    listen_with: Transport,
    server: Option<Server>,
    host: Arc<TestHost>,
}

impl Bench {
    fn new(transport: Transport) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path(), "ca.pem", "chain.pem", "key.pem");
        secret(&dir.path().join("token"), TOKEN);
        secret(&dir.path().join("wrong"), &TOKEN.replace('0', "9"));
        let second = TOKEN.replace('0', "8");
        secret(&dir.path().join("token-2"), &second);
        let mut bench =
            Bench { dir, transport, listen_with: Transport::Auto, server: None, host: Arc::default() };
        bench.start("127.0.0.1:0".parse().unwrap());
        bench
    }

    fn start(&mut self, listen: SocketAddr) {
        let mut table = TokenTable::default();
        for (agent, token) in [("a1", TOKEN), ("a2", &TOKEN.replace('0', "8"))] {
            table.add(token_digest(token).unwrap(), Principal::new(agent, Role::Agent)).unwrap();
        }
        let credentials = Credentials::new(table);
        let config = ServerConfig {
            listen,
            transport: self.listen_with,
            keep_alive: lm_mesh::KeepAlive::default(),
            operator_socket: Some(self.path("operator.sock")),
            certificate: self.path("chain.pem"),
            key: self.path("key.pem"),
            reset_key: [7; 64],
            workers: 2,
        };
        self.server =
            Some(Server::start(config, credentials, Registry::default(), self.host.clone()).unwrap());
    }

    fn stop(&mut self) {
        let server = self.server.take().unwrap();
        std::thread::spawn(move || server.drain()).join().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn addr(&self) -> SocketAddr {
        self.server.as_ref().unwrap().local_addr()
    }

    fn registry(&self) -> Registry {
        self.server.as_ref().unwrap().registry()
    }

    fn dialer(&self, token: &str, ca: &str) -> Dialer {
        Dialer::new(DialerConfig {
            endpoints: vec![self.addr().to_string()],
            server_name: Some("localhost".to_owned()),
            ca: self.path(ca),
            token: self.path(token),
            transport: self.transport,
            retry_quic_after: Duration::from_millis(200),
            keep_alive: lm_mesh::KeepAlive::default(),
        })
    }

    async fn connect(&self) -> Connected {
        self.connect_as("token").await
    }

    async fn connect_as(&self, token: &str) -> Connected {
        self.dialer(token, "ca.pem").dial(&peer(), b"cluster", &[]).await.unwrap()
    }
}

fn peer() -> PeerDescription {
    PeerDescription {
        product: "test".to_owned(),
        version: "1".to_owned(),
        hostname: "h\x1b[1m".to_owned(),
        job: "j".to_owned(),
    }
}

/// Runs a test over each transport.
fn run(test: impl AsyncFn(&mut Bench)) {
    for transport in [Transport::Quic, Transport::Tcp] {
        println!("over {transport:?}");
        run_over(transport, &test);
    }
}

fn run_over(transport: Transport, test: &impl AsyncFn(&mut Bench)) {
    let mut bench = Bench::new(transport);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(30), test(&mut bench)).await.expect("the test hangs");
    });
}

fn agent(connected: &Connected) -> agent_session::Client {
    let Granted::Agent(agent) = &connected.granted else { panic!("not an agent's grant") };
    agent.clone()
}

async fn ticket(connected: &Connected) -> Vec<u8> {
    let response = agent(connected).bulk_ticket_request().send().promise.await.unwrap();
    response.get().unwrap().get_ticket().unwrap().to_vec()
}

async fn push(sink: &batch_sink::Client, body: &[u8]) -> Result<u64, capnp::Error> {
    let mut request = sink.push_request();
    request.get().init_batch().set_body(body);
    let response = request.send().promise.await?;
    Ok(response.get()?.get_receipt()?.get_durable_end())
}

#[test]
fn a_login_grants_a_session_and_a_ticket_a_stream() {
    run(async |bench| {
        let held = [(Stream::Logs, Incarnation { ordinal: 3, nonce: 4 })];
        let connected = bench.dialer("token", "ca.pem").dial(&peer(), b"cluster", &held).await.unwrap();
        assert_eq!((&connected.identity[..], &connected.cluster_id[..]), ("a1", &b"cluster"[..]));
        assert_eq!((connected.resume[0].incarnation.ordinal, connected.resume[0].durable_end), (3, 5));
        let Attachment::Sink(sink) = connected.attach(&ticket(&connected).await).await.unwrap() else {
            panic!("not a sink")
        };
        assert_eq!(push(&sink, &[1; 500_000]).await.unwrap(), 500_000);

        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        let session = &registry.sessions()[0];
        assert_eq!(session.peer.hostname, "h[1m", "control characters are left out");
        let expected = if bench.transport == Transport::Quic { "quic" } else { "tcp" };
        assert_eq!((session.path().transport, connected.path().transport), (expected, expected));
        assert!(session.path().bytes_received > 500_000);
        connected.close().await;
        eventually("the session ends", || registry.sessions().is_empty()).await;
    });
}

#[test]
fn a_ticket_works_once_and_only_on_its_connection() {
    run(async |bench| {
        let (first, second) = (bench.connect().await, bench.connect_as("token-2").await);
        let of_first = ticket(&first).await;
        let error = second.attach(&of_first).await.err().unwrap().to_string();
        assert!(error.contains("expired:"), "{error}");
        assert!(first.attach(&of_first).await.is_ok());
        assert!(first.attach(&of_first).await.is_err(), "used twice");
        assert!(first.attach(b"").await.is_err());
    });
}

#[test]
fn wrong_credentials_are_refused_alike() {
    run(async |bench| {
        match bench.dialer("wrong", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Refused { message, .. }) => assert!(message.starts_with("denied:"), "{message}"),
            other => panic!("{:?}", other.err()),
        }
        certificates(bench.dir.path(), "other-ca.pem", "other-chain.pem", "other-key.pem");
        match bench.dialer("token", "other-ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Untrusted { message, .. }) => {
                assert!(message.contains("certificate"), "{message}")
            }
            other => panic!("{:?}", other.err()),
        }
        *bench.host.refuse.lock().unwrap() = Some("not today");
        match bench.dialer("token", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Refused { message, .. }) => assert_eq!(message, "denied: not today"),
            other => panic!("{:?}", other.err()),
        }
        assert!(bench.registry().sessions().is_empty());
    });
}

#[test]
fn a_newer_session_of_an_agent_takes_over() {
    run(async |bench| {
        let (older, other) = (bench.connect().await, bench.connect_as("token-2").await);
        let newer = bench.connect().await;
        let reason = older.closed().await;
        assert_eq!(reason.code, Some(lm_mesh::CloseCode::Superseded), "{reason}");
        let registry = bench.registry();
        eventually("two sessions are left", || registry.sessions().len() == 2).await;
        ticket(&newer).await;
        ticket(&other).await;
    });
}

/// Sends a message of over 256 KiB on the control stream of a session that is
/// logged in, and answers how that ended it.
async fn shout(connected: &Connected) -> Closing {
    let client = agent(connected).client;
    let mut request = client.new_call::<any_pointer::Owned, any_pointer::Owned>(0, 0, None);
    request.get().set_as("x".repeat(256 << 10).as_str()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), request.send().promise).await.unwrap();
    assert!(answer.is_err());
    connected.last_words().await.expect("the session is over")
}

#[test]
fn a_bound_that_is_broken_is_named_on_every_transport() {
    let is_told = |closing: &Closing, most: &str| {
        assert_eq!(closing.code, Some(CloseCode::Limit), "{closing}");
        assert!(
            closing.reason.starts_with("limit: 26") || closing.reason.starts_with("limit: 10"),
            "{closing}"
        );
        assert!(closing.reason.ends_with(most), "{closing}");
    };
    run(async |bench| {
        let (loud, other) = (bench.connect().await, bench.connect_as("token-2").await);
        is_told(&shout(&loud).await, "(at most 262144)");
        // A further stream is a stranger's until its ticket is redeemed.
        let loud = bench.connect().await;
        assert!(loud.attach(&[7; 100_000]).await.is_err());
        is_told(&loud.last_words().await.expect("the session is over"), "(at most 65536)");
        ticket(&other).await;

        let local = lm_mesh::dial_local(&bench.path("operator.sock"), &peer()).await.unwrap();
        is_told(&shout(&local).await, "(at most 262144)");
        let registry = bench.registry();
        eventually("the others are gone", || registry.sessions().len() == 1).await;
        assert_eq!(registry.incidents().limits_broken.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_revoked_session_is_told_on_the_unix_socket_too() {
    run_over(Transport::Quic, &async |bench| {
        let local = lm_mesh::dial_local(&bench.path("operator.sock"), &peer()).await.unwrap();
        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        let root = registry.session(local.session_id).unwrap().grant().id();
        let listed = registry.ledger().capabilities(0, usize::MAX, |_| true).0;
        assert!(
            listed.iter().any(|facts| facts.id == root && facts.holder.starts_with("local:")),
            "{listed:?}"
        );
        let verdict = Verdict { code: "revoked", reason: "by hand".to_owned() };
        registry.ledger().revoke(root, &verdict).unwrap();
        let closing = tokio::time::timeout(Duration::from_secs(5), local.closed()).await.unwrap();
        assert_eq!((closing.code, &closing.reason[..]), (Some(CloseCode::Revoked), "revoked: by hand"));
    });
}

#[test]
fn a_new_certificate_is_shown_to_the_next_peer() {
    run(async |bench| {
        let older = bench.connect().await;
        certificates(bench.dir.path(), "new-ca.pem", "chain.pem", "key.pem");
        assert!(bench.server.as_ref().unwrap().certificates().reload().unwrap());
        let newer = bench.dialer("token-2", "new-ca.pem").dial(&peer(), b"", &[]).await.unwrap();
        match bench.dialer("token-2", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Untrusted { .. }) => {}
            other => panic!("{:?}", other.err()),
        }
        ticket(&newer).await;
        ticket(&older).await;
    });
}

#[test]
fn secrets_that_others_can_read_are_not_used() {
    run(async |bench| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(bench.path("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
        match bench.dialer("token", "ca.pem").dial(&peer(), b"", &[]).await {
            Err(DialError::Secret(error)) => assert!(error.to_string().contains("chmod 600"), "{error}"),
            other => panic!("{:?}", other.err()),
        }
    });
}

#[test]
fn a_panic_in_one_session_leaves_the_others_alone() {
    run(async |bench| {
        let (victim, other) = (bench.connect().await, bench.connect_as("token-2").await);
        let Attachment::Sink(sink) = victim.attach(&ticket(&victim).await).await.unwrap() else {
            panic!("not a sink")
        };
        let Attachment::Sink(calm) = other.attach(&ticket(&other).await).await.unwrap() else {
            panic!("not a sink")
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), push(&sink, b"panic")).await;
        assert_eq!(push(&calm, b"fine").await.unwrap(), 4);
        assert_eq!(push(&calm, b"again").await.unwrap(), 5);
        // Both workers still take logins.
        for _ in 0..4 {
            bench.connect().await.close().await;
        }
    });
}

#[test]
fn a_restarted_server_tells_old_connections_at_once() {
    run(async |bench| {
        let connected = bench.connect().await;
        let addr = bench.addr();
        let began = Instant::now();
        bench.stop();
        let reason = tokio::time::timeout(Duration::from_secs(5), connected.closed()).await.unwrap();
        assert_eq!(reason.code, Some(lm_mesh::CloseCode::Drain), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(5));
        bench.start(addr);
        bench.connect().await.close().await;
    });
}

#[test]
fn a_peer_that_does_not_log_in_is_cut() {
    run(async |bench| {
        let silent = Raw::open(bench, &[0]).await;
        let began = Instant::now();
        let reason = silent.closed().await;
        assert!(reason.contains("no login within 5 s"), "{reason}");
        assert!(began.elapsed() < Duration::from_secs(8));
    });
}

#[test]
fn garbage_and_giant_claims_end_the_connection_only() {
    run(async |bench| {
        // A segment table that claims 60 MiB, and plain noise.
        let hostile = [
            ([0, 0, 0, 0, 0, 0, 0x78, 0].as_slice(), "limit: 62914560 bytes in a message (at most 65536)"),
            (&[0xff; 64], "invalid: a message of no segments"),
        ];
        for (bytes, expected) in hostile {
            let hostile = Raw::open(bench, bytes).await;
            let reason = tokio::time::timeout(Duration::from_secs(8), hostile.closed()).await.unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
        bench.connect().await.close().await;
    });
}

#[test]
fn what_is_no_frame_and_joins_no_session_is_closed() {
    run_over(Transport::Tcp, &async |bench| {
        for (bytes, farewell) in [
            (vec![9; 64], ""),
            (vec![0, 0, 0, 0], ""),
            ([[1, 32, 0, 0].as_slice(), &[5; 32]].concat(), "no such session"),
        ] {
            let mut hostile = tls_connection(bench).await;
            hostile.write_all(&bytes).await.unwrap();
            hostile.flush().await.unwrap();
            let mut said = Vec::new();
            let reading = hostile.read_to_end(&mut said);
            let _ = tokio::time::timeout(Duration::from_secs(4), reading).await.expect("it is closed");
            assert!(String::from_utf8_lossy(&said).ends_with(farewell), "{said:?}");
            assert_eq!(said.is_empty(), farewell.is_empty());
        }
        bench.connect().await.close().await;
    });
}

#[test]
fn where_quic_does_not_get_through_a_session_falls_back_and_can_return() {
    run_over(Transport::Auto, &async |bench| {
        let addr = bench.addr();
        bench.stop();
        bench.listen_with = Transport::Tcp;
        bench.start(addr);
        let connected = bench.connect().await;
        assert_eq!(connected.path().transport, "tcp");
        let returns = connected.can_return();
        tokio::pin!(returns);
        // A try every 200 ms, each for 3 s, gets no answer.
        assert!(tokio::time::timeout(Duration::from_millis(600), &mut returns).await.is_err());
        bench.stop();
        bench.listen_with = Transport::Auto;
        bench.start(addr);
        tokio::time::timeout(Duration::from_secs(8), returns).await.expect("QUIC works again");
        assert_eq!(bench.connect().await.path().transport, "quic");
        // A wrong certificate is no reason to fall back.
        certificates(bench.dir.path(), "other-ca.pem", "other-chain.pem", "other-key.pem");
        bench.stop();
        bench.listen_with = Transport::Quic;
        bench.start(addr);
        let nobody = std::net::TcpListener::bind(addr).unwrap();
        nobody.set_nonblocking(true).unwrap();
        let error = bench.dialer("token", "other-ca.pem").dial(&peer(), b"", &[]).await.err().unwrap();
        assert!(matches!(error, DialError::Untrusted { .. }), "{error}");
        assert!(nobody.accept().is_err(), "TCP was tried too");
    });
}

#[test]
fn root_and_our_own_user_log_in_over_the_unix_socket() {
    use std::os::unix::fs::PermissionsExt;
    run_over(Transport::Quic, &async |bench| {
        let path = bench.path("operator.sock");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let connected = lm_mesh::dial_local(&path, &peer()).await.unwrap();
        assert!(connected.identity.starts_with("local:"), "{}", connected.identity);
        assert_eq!(connected.path().transport, "unix");
        let registry = bench.registry();
        eventually("the session is listed", || registry.sessions().len() == 1).await;
        assert_eq!(registry.sessions()[0].principal.role, lm_mesh::Role::Operator);
        assert!(connected.attach(b"").await.is_err(), "a local session has one stream");
        connected.close().await;
        eventually("the session ends", || registry.sessions().is_empty()).await;
        // What a killed server left is replaced; a drained one leaves nothing.
        let addr = bench.addr();
        bench.stop();
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        bench.start(addr);
        lm_mesh::dial_local(&path, &peer()).await.unwrap().close().await;
    });
}

thread_local! {
    /// Endpoints must outlive their connections.
    static ENDPOINTS: RefCell<Vec<quinn::Endpoint>> = const { RefCell::new(Vec::new()) };
}

/// A peer that sends what it likes on a control stream.
enum Raw {
    Quic(quinn::Connection, quinn::SendStream),
    Tcp(Box<TlsStream<tokio::net::TcpStream>>),
}

impl Raw {
    async fn open(bench: &Bench, bytes: &[u8]) -> Raw {
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
    async fn closed(self) -> String {
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

async fn tls_connection(bench: &Bench) -> TlsStream<tokio::net::TcpStream> {
    let socket = tokio::net::TcpStream::connect(bench.addr()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting(bench)));
    connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()
}

fn trusting(bench: &Bench) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(bench.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![lm_mesh::ALPN.to_vec()];
    tls
}

/// A TLS handshake over QUIC with the right protocol, and nothing after it.
async fn silent_connection(bench: &Bench) -> quinn::Connection {
    let tls = trusting(bench);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, bench.addr(), "localhost").unwrap().await.unwrap();
    ENDPOINTS.with_borrow_mut(|all| all.push(endpoint));
    connection
}
