//! A server under test whose host grants every agent a session, and its peers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, Connected, Credentials, Dialer, DialerConfig, Granted, Host, Peer,
    PeerDescription, Principal, Refusal, Registry, Role, Server, ServerConfig, TokenTable, Transport,
    token_digest,
};
use lm_model::Resume;
use lm_schema::mesh_capnp::{agent_session, batch_sink};

use crate::place::{certificates, secret};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Grants every agent a session that hands out sinks.
#[derive(Default)]
pub struct TestHost {
    pub refuse: Mutex<Option<&'static str>>,
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

pub struct Bench {
    pub dir: tempfile::TempDir,
    /// Of the peers, and of the server.
    pub transport: Transport,
    pub listen_with: Transport,
    pub server: Option<Server>,
    pub host: Arc<TestHost>,
}

impl Bench {
    pub fn new(transport: Transport) -> Bench {
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

    pub fn start(&mut self, listen: SocketAddr) {
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

    pub fn stop(&mut self) {
        let server = self.server.take().unwrap();
        std::thread::spawn(move || server.drain()).join().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.as_ref().unwrap().local_addr()
    }

    pub fn registry(&self) -> Registry {
        self.server.as_ref().unwrap().registry()
    }

    pub fn dialer(&self, token: &str, ca: &str) -> Dialer {
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

    pub async fn connect(&self) -> Connected {
        self.connect_as("token").await
    }

    pub async fn connect_as(&self, token: &str) -> Connected {
        self.dialer(token, "ca.pem").dial(&peer(), b"cluster", &[]).await.unwrap()
    }
}

pub fn peer() -> PeerDescription {
    PeerDescription {
        product: "test".to_owned(),
        version: "1".to_owned(),
        hostname: "h\x1b[1m".to_owned(),
        job: "j".to_owned(),
    }
}

/// Runs a test over each transport.
pub fn run(test: impl AsyncFn(&mut Bench)) {
    for transport in [Transport::Quic, Transport::Tcp] {
        println!("over {transport:?}");
        run_over(transport, &test);
    }
}

pub fn run_over(transport: Transport, test: &impl AsyncFn(&mut Bench)) {
    let mut bench = Bench::new(transport);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(30), test(&mut bench)).await.expect("the test hangs");
    });
}

pub fn agent(connected: &Connected) -> agent_session::Client {
    let Granted::Agent(agent) = &connected.granted else { panic!("not an agent's grant") };
    agent.clone()
}

pub async fn ticket(connected: &Connected) -> Vec<u8> {
    let response = agent(connected).bulk_ticket_request().send().promise.await.unwrap();
    response.get().unwrap().get_ticket().unwrap().to_vec()
}

pub async fn push(sink: &batch_sink::Client, body: &[u8]) -> Result<u64, capnp::Error> {
    let mut request = sink.push_request();
    request.get().init_batch().set_body(body);
    let response = request.send().promise.await?;
    Ok(response.get()?.get_receipt()?.get_durable_end())
}
