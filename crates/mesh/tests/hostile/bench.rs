//! A server under test, a well-behaved agent, and how the other kind logs in.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use capnp::traits::HasTypeId;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, Credentials, Dialer, DialerConfig, Granted, Host, MeshLimits, Peer,
    PeerDescription, Principal, Refusal, Role, Server, ServerConfig, Session, TokenTable, Transport,
    token_digest,
};
use lm_schema::mesh_capnp::{agent_session, batch_sink, gate};

use crate::place::{certificates, secret};
use crate::trusting;
use crate::wire::{Hostile, Target, Wire, bootstrap};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER_TOKEN: &str = "8123456789abcdef8123456789abcdef";

/// Counts pushes under way.
#[derive(Default)]
struct TestHost {
    alive: AtomicUsize,
}

struct Agent(Rc<Peer>, Arc<TestHost>);
struct Sink(Arc<TestHost>);

struct Alive(Arc<TestHost>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host for TestHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        let agent = Agent(peer, self);
        let admission = Admission {
            cluster_id: b"cluster".to_vec(),
            resume: Vec::new(),
            limits: lm_schema::DecodeLimits::default(),
            batch_bytes_max: 1 << 20,
            calls_in_flight_max: 8,
            capability: Capability::Agent(capnp_rpc::new_client(agent)),
        };
        async move { Ok(admission) }.boxed_local()
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
        let sink = Sink(self.1.clone());
        let ticket = self.0.tickets.issue(Attachment::Sink(capnp_rpc::new_client(sink)))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

impl batch_sink::Server for Sink {
    /// "hang": for ever. "talk": answers with 64 KiB. Otherwise the length.
    async fn push(
        self: Rc<Self>,
        params: batch_sink::PushParams,
        mut results: batch_sink::PushResults,
    ) -> Result<(), capnp::Error> {
        self.0.alive.fetch_add(1, Ordering::Relaxed);
        let _alive = Alive(self.0.clone());
        let body = params.get()?.get_batch()?.get_body()?.to_vec();
        match &body[..] {
            b"hang" => std::future::pending().await,
            b"talk" => results.get().init_receipt().set_rejected(&"!".repeat(64 << 10)[..]),
            _ => results.get().init_receipt().set_durable_end(body.len() as u64),
        }
        Ok(())
    }
}

pub struct Bench {
    dir: tempfile::TempDir,
    pub server: Server,
    host: Arc<TestHost>,
}

impl Bench {
    pub fn new(limits: MeshLimits) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        certificates(dir.path(), "ca.pem", "chain.pem", "key.pem");
        secret(&path("token-2"), OTHER_TOKEN);
        let mut table = TokenTable::default();
        for (name, token) in [("a1", TOKEN), ("a2", OTHER_TOKEN)] {
            table.add(token_digest(token).unwrap(), Principal::new(name, Role::Agent)).unwrap();
        }
        let credentials = Credentials::new(table);
        let config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            transport: Transport::Auto,
            keep_alive: lm_mesh::KeepAlive::default(),
            operator_socket: None,
            certificate: path("chain.pem"),
            key: path("key.pem"),
            reset_key: [7; 64],
            // Everybody shares a thread, so that a hang would show.
            workers: 1,
        };
        let host = Arc::new(TestHost::default());
        let server =
            Server::start(config, credentials, lm_mesh::Registry::new(limits), host.clone()).unwrap();
        Bench { dir, server, host }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn alive(&self) -> usize {
        self.host.alive.load(Ordering::Relaxed)
    }

    /// The session of the peer without manners.
    pub fn session(&self) -> Arc<Session> {
        let sessions = self.server.registry().sessions();
        sessions.into_iter().find(|session| session.principal.name == "a1").expect("it is logged in")
    }

    /// A handshake, and nothing after it.
    pub async fn connection(&self) -> (quinn::Endpoint, quinn::Connection) {
        trusting::connection(&self.path("ca.pem"), self.server.local_addr()).await
    }

    pub async fn log_in(&self) -> Hostile {
        let (_endpoint, connection) = self.connection().await;
        let mut control = Wire::open(&connection).await;
        let login = control.call(1, Target::Answer(0), gate::Client::TYPE_ID, 0, |params| {
            let mut params: gate::login_params::Builder<'_> = params.init_as();
            params.reborrow().init_credential().set_bearer(TOKEN);
        });
        control.send(&bootstrap(0)).await;
        control.send(&login).await;
        let agent = control.answer(1).await.1[0];
        Hostile { _endpoint, connection, control, agent }
    }

    /// A well-behaved agent gets its answers, now.
    pub async fn others_are_fine(&self) {
        self.others_push(&[10, 900_000], Duration::from_secs(2)).await;
    }

    /// A well-behaved agent pushes so many bytes, and each is answered soon.
    pub async fn others_push(&self, sizes: &[usize], within: Duration) {
        let mut dialer = Dialer::new(DialerConfig {
            endpoints: vec![self.server.local_addr().to_string()],
            server_name: Some("localhost".to_owned()),
            ca: self.path("ca.pem"),
            token: self.path("token-2"),
            transport: Transport::Quic,
            retry_quic_after: Duration::from_secs(300),
            keep_alive: lm_mesh::KeepAlive::default(),
        });
        let peer = PeerDescription::default();
        let connected = dialer.dial(&peer, b"", &[]).await.unwrap();
        let Granted::Agent(agent) = &connected.granted else { panic!("not an agent's grant") };
        let ticket = agent.bulk_ticket_request().send().promise.await.unwrap();
        let ticket = ticket.get().unwrap().get_ticket().unwrap().to_vec();
        let Attachment::Sink(sink) = connected.attach(&ticket).await.unwrap() else { panic!("not a sink") };
        for &bytes in sizes {
            let began = Instant::now();
            let mut request = sink.push_request();
            request.get().init_batch().set_body(&vec![1; bytes]);
            let response = request.send().promise.await.unwrap();
            assert_eq!(response.get().unwrap().get_receipt().unwrap().get_durable_end(), bytes as u64);
            assert!(began.elapsed() < within, "{bytes} bytes: {:?}", began.elapsed());
        }
        connected.close().await;
    }
}

pub fn run(limits: MeshLimits, test: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new(limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test(&bench)).await.expect("the test hangs");
    });
}
