//! A server over QUIC and TCP that grants a tree of capabilities: a gateway's session,
//! the exchange of credentials below it, readers below that, and cursors and
//! tails below those. What a reader's methods do is chosen for the tests.

// Each test takes what it needs.
#![allow(dead_code)]

mod place;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, CapabilityFacts, Connected, Credentials, DialError, Dialer,
    DialerConfig, Grant, Granted, Host, Ledger, Peer, PeerDescription, Principal, Refusal, Registry, Role,
    Server, ServerConfig, Terms, TokenTable, Transport, Verdict, token_digest,
};
use lm_schema::mesh_capnp::{authenticated, gateway_session, user_gate};
use lm_schema::query_capnp::{answer, cursor, reader, tail};
#[allow(unused_imports)]
pub use place::eventually;
use place::{certificates, secret};
use tokio::sync::Notify;

const TOKENS: [&str; 2] = ["0123456789abcdef0123456789abcdef", "8123456789abcdef8123456789abcdef"];

/// What the server does, and what became of it.
#[derive(Default)]
pub struct TestHost {
    /// Lets calls of finishing readers come to their end.
    pub finish: Notify,
    /// Calls that were begun and not dropped.
    pub under_way: AtomicU32,
    /// Calls of finishing readers that came to their end: granted still, and not.
    pub committed: AtomicU32,
    pub refused: AtomicU32,
}

struct UnderWay(Arc<TestHost>);

impl UnderWay {
    fn begin(host: &Arc<TestHost>) -> UnderWay {
        host.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(host.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host for TestHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        async move {
            let make = |grant| Gateway { host: self.clone(), peer: peer.clone(), grant };
            Ok(Admission {
                cluster_id: b"cluster".to_vec(),
                resume: Vec::new(),
                limits: lm_schema::DecodeLimits::default(),
                batch_bytes_max: 1 << 20,
                calls_in_flight_max: 8,
                capability: Capability::Gateway(peer.grant().derive(Terms::scope("all"), make)),
            })
        }
        .boxed_local()
    }
}

struct Gateway {
    host: Arc<TestHost>,
    peer: Rc<Peer>,
    grant: Grant,
}

impl gateway_session::Server for Gateway {
    async fn heartbeat(
        self: Rc<Self>,
        _: gateway_session::HeartbeatParams,
        mut results: gateway_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_collector_unix_ms(42);
        Ok(())
    }

    async fn query_ticket(
        self: Rc<Self>,
        _: gateway_session::QueryTicketParams,
        mut results: gateway_session::QueryTicketResults,
    ) -> Result<(), capnp::Error> {
        // As a collector's: what the ticket is for knows its peer.
        let (host, peer) = (self.host.clone(), self.peer.clone());
        let users = self.grant.derive(Terms::scope("users"), |grant| Users { host, _peer: peer, grant });
        results.get().set_ticket(&self.peer.tickets.issue(Attachment::Users(users))?);
        Ok(())
    }
}

struct Users {
    host: Arc<TestHost>,
    _peer: Rc<Peer>,
    grant: Grant,
}

/// A name that gets its reader for a short time.
pub const BRIEF: &str = "brief";
pub const BRIEF_LIFETIME: Duration = Duration::from_millis(300);
/// A name whose reader has no guard before it.
pub const PLAIN: &str = "plain";
/// A name whose reader's calls are not cut.
pub const FINISHING: &str = "finishing";

impl user_gate::Server for Users {
    async fn authenticate(
        self: Rc<Self>,
        params: user_gate::AuthenticateParams,
        mut results: user_gate::AuthenticateResults,
    ) -> Result<(), capnp::Error> {
        let lm_schema::mesh_capnp::credential::Bearer(name) = params.get()?.get_credential()?.which()? else {
            return Err(capnp::Error::failed("denied: no name".to_owned()));
        };
        let name = name?.to_str()?;
        let terms = Terms {
            holder: Some(Arc::from(name)),
            lifetime: (name == BRIEF).then_some(BRIEF_LIFETIME),
            finishes_calls: name == FINISHING,
            ..Terms::scope("logs")
        };
        let host = self.host.clone();
        let reader = match name {
            PLAIN => capnp_rpc::new_client(Reader { host, grant: self.grant.clone() }),
            _ => self.grant.derive(terms, |grant| Reader { host, grant }),
        };
        results.get().init_result().init_user().set_reader(reader);
        Ok(())
    }
}

struct Reader {
    host: Arc<TestHost>,
    grant: Grant,
}

impl reader::Server for Reader {
    /// Grants a cursor.
    async fn query(
        self: Rc<Self>,
        _: reader::QueryParams,
        mut results: reader::QueryResults,
    ) -> Result<(), capnp::Error> {
        let cursor = self.grant.derive(Terms::default(), |_| Cursor);
        results.get().init_answer().init_ok().set_cursor(cursor);
        Ok(())
    }

    /// Reads all of its selectors.
    async fn series(
        self: Rc<Self>,
        params: reader::SeriesParams,
        mut results: reader::SeriesResults,
    ) -> Result<(), capnp::Error> {
        let mut bytes = 0;
        for selector in params.get()?.get_selection()?.get_selectors()? {
            bytes += selector?.to_str()?.len();
        }
        results.get().init_answer().init_failed().set_message(format!("{bytes}"));
        Ok(())
    }

    /// Answers as many bytes as it is asked for.
    async fn label_values(
        self: Rc<Self>,
        params: reader::LabelValuesParams,
        mut results: reader::LabelValuesResults,
    ) -> Result<(), capnp::Error> {
        let bytes: usize = params.get()?.get_name()?.to_str()?.parse().unwrap_or(0);
        results.get().init_answer().init_failed().set_message("x".repeat(bytes));
        Ok(())
    }

    /// Is slow.
    async fn label_names(
        self: Rc<Self>,
        _: reader::LabelNamesParams,
        _: reader::LabelNamesResults,
    ) -> Result<(), capnp::Error> {
        tokio::time::sleep(Duration::from_millis(120)).await;
        Ok(())
    }

    /// Commits when it is told to, and if it still may.
    async fn search_logs(
        self: Rc<Self>,
        _: reader::SearchLogsParams,
        _: reader::SearchLogsResults,
    ) -> Result<(), capnp::Error> {
        let _under_way = UnderWay::begin(&self.host);
        self.host.finish.notified().await;
        let checked = self.grant.check();
        let count = if checked.is_ok() { &self.host.committed } else { &self.host.refused };
        count.fetch_add(1, Ordering::Relaxed);
        checked
    }

    async fn tail(
        self: Rc<Self>,
        _: reader::TailParams,
        mut results: reader::TailResults,
    ) -> Result<(), capnp::Error> {
        let host = self.host.clone();
        results.get().set_tail(self.grant.derive(Terms::default(), |_| Tail(host)));
        Ok(())
    }

    async fn losses(
        self: Rc<Self>,
        _: reader::LossesParams,
        _: reader::LossesResults,
    ) -> Result<(), capnp::Error> {
        panic!("the test asked for it")
    }
}

struct Cursor;

impl cursor::Server for Cursor {
    async fn next(
        self: Rc<Self>,
        _: cursor::NextParams,
        mut results: cursor::NextResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_done(true);
        Ok(())
    }
}

struct Tail(Arc<TestHost>);

impl tail::Server for Tail {
    /// Waits for ever.
    async fn next(self: Rc<Self>, _: tail::NextParams, _: tail::NextResults) -> Result<(), capnp::Error> {
        let _under_way = UnderWay::begin(&self.0);
        std::future::pending().await
    }
}

pub struct Bench {
    pub host: Arc<TestHost>,
    pub registry: Registry,
    pub server: Server,
    /// Of the peers.
    pub transport: Transport,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(transport: Transport) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        certificates(dir.path(), "ca.pem", "chain.pem", "key.pem");
        let mut table = TokenTable::default();
        for (index, token) in TOKENS.iter().enumerate() {
            secret(&path(&format!("token-{index}")), token);
            let principal = Principal::new(format!("g{index}"), Role::Agent);
            table.add(token_digest(token).unwrap(), principal).unwrap();
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
            workers: 2,
        };
        let (host, registry) = (Arc::<TestHost>::default(), Registry::default());
        let server = Server::start(config, credentials, registry.clone(), host.clone()).unwrap();
        Bench { host, registry, server, transport, dir }
    }

    pub fn ledger(&self) -> &Ledger {
        self.registry.ledger()
    }

    /// A session as the holder of the `index`th token.
    pub async fn connect(&self, index: usize) -> Connected {
        self.try_connect(index).await.unwrap()
    }

    pub async fn try_connect(&self, index: usize) -> Result<Connected, DialError> {
        let config = DialerConfig {
            endpoints: vec![self.addr().to_string()],
            server_name: Some("localhost".to_owned()),
            ca: self.ca(),
            token: self.dir.path().join(format!("token-{index}")),
            transport: self.transport,
            retry_quic_after: Duration::from_secs(300),
            keep_alive: lm_mesh::KeepAlive::default(),
        };
        let peer = PeerDescription { product: "test".to_owned(), ..PeerDescription::default() };
        Dialer::new(config).dial(&peer, b"", &[]).await
    }

    pub fn addr(&self) -> std::net::SocketAddr {
        self.server.local_addr()
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// All that is listed.
    pub fn facts(&self) -> Vec<CapabilityFacts> {
        self.ledger().capabilities(0, usize::MAX, |_| true).0
    }

    /// The one entry of an interface and holder.
    #[track_caller]
    pub fn one(&self, interface: &str, holder: &str) -> CapabilityFacts {
        let mut of = self.facts();
        of.retain(|facts| facts.interface == interface && *facts.holder == *holder);
        assert_eq!(of.len(), 1, "{interface} of {holder}: {of:?}");
        of.remove(0)
    }
}

/// Runs a test over each transport.
pub fn run(test: impl AsyncFn(&Bench)) {
    for transport in [Transport::Quic, Transport::Tcp] {
        println!("over {transport:?}");
        run_over(transport, &test);
    }
}

pub fn run_over(transport: Transport, test: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new(transport);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(120), test(&bench)).await.expect("the test hangs");
    });
}

pub fn gateway(connected: &Connected) -> gateway_session::Client {
    let Granted::Gateway(gateway) = &connected.granted else { panic!("not a gateway's grant") };
    gateway.clone()
}

pub async fn users(connected: &Connected) -> user_gate::Client {
    let response = gateway(connected).query_ticket_request().send().promise.await.unwrap();
    let ticket = response.get().unwrap().get_ticket().unwrap().to_vec();
    let Attachment::Users(users) = connected.attach(&ticket).await.unwrap() else { panic!("not users") };
    users
}

pub async fn reader(users: &user_gate::Client, name: &str) -> reader::Client {
    let mut request = users.authenticate_request();
    request.get().init_credential().set_bearer(name);
    let response = request.send().promise.await.unwrap();
    let authenticated::User(user) = response.get().unwrap().get_result().unwrap().which().unwrap() else {
        panic!("refused")
    };
    user.unwrap().get_reader().unwrap()
}

pub async fn cursor(reader: &reader::Client) -> Result<cursor::Client, capnp::Error> {
    let response = reader.query_request().send().promise.await?;
    let answer::Ok(opened) = response.get()?.get_answer()?.which()? else { panic!("failed") };
    opened?.get_cursor()
}

/// The longest text that an answer brings, in bytes.
pub async fn values(reader: &reader::Client, bytes: usize) -> Result<(), capnp::Error> {
    let mut request = reader.label_values_request();
    request.get().set_name(bytes.to_string());
    request.send().promise.await.map(drop)
}

pub fn verdict(code: &'static str, reason: &str) -> Verdict {
    Verdict { code, reason: reason.to_owned() }
}

/// Demands that a call was refused in these words.
#[track_caller]
pub fn refused<T>(result: Result<T, capnp::Error>, words: &str) {
    let error = result.err().expect("the call is refused").to_string();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}
