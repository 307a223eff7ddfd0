//! A peer with a valid token and no manners, speaking RPC by hand over real
//! QUIC: each test breaks one bound, expects to be told which, and that nobody
//! else noticed.

#[path = "support/place.rs"]
mod place;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use capnp::message::{Builder, HeapAllocator};
use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::{call, cap_descriptor, message, return_};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, Credentials, Dialer, DialerConfig, Granted, Host, MeshLimits, Peer,
    PeerDescription, Principal, Refusal, Role, Server, ServerConfig, Session, TokenTable, Transport,
    token_digest,
};
use lm_schema::mesh_capnp::{agent_session, attach, batch_sink, gate};
use place::{certificates, eventually, secret};

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

struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    host: Arc<TestHost>,
}

impl Bench {
    fn new(limits: MeshLimits) -> Bench {
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

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn alive(&self) -> usize {
        self.host.alive.load(Ordering::Relaxed)
    }

    /// The session of the peer without manners.
    fn session(&self) -> Arc<Session> {
        let sessions = self.server.registry().sessions();
        sessions.into_iter().find(|session| session.principal.name == "a1").expect("it is logged in")
    }

    /// A handshake, and nothing after it.
    async fn connection(&self) -> (quinn::Endpoint, quinn::Connection) {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let authority = rustls::pki_types::CertificateDer::from_pem_file(self.path("ca.pem")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![lm_mesh::ALPN.to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let addr = self.server.local_addr();
        let connection = endpoint.connect_with(config, addr, "localhost").unwrap().await.unwrap();
        (endpoint, connection)
    }

    async fn log_in(&self) -> Hostile {
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
    async fn others_are_fine(&self) {
        self.others_push(&[10, 900_000], Duration::from_secs(2)).await;
    }

    /// A well-behaved agent pushes so many bytes, and each is answered soon.
    async fn others_push(&self, sizes: &[usize], within: Duration) {
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

/// One stream, as bytes.
struct Wire {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
}

enum Target {
    Import(u32),
    Answer(u32),
}

fn rpc(build: impl FnOnce(message::Builder<'_>)) -> Builder<HeapAllocator> {
    let mut message = Builder::new_default();
    build(message.init_root());
    message
}

fn bootstrap(id: u32) -> Builder<HeapAllocator> {
    rpc(|root| root.init_bootstrap().set_question_id(id))
}

fn finish(id: u32, releases: bool) -> Builder<HeapAllocator> {
    rpc(|root| {
        let mut finish = root.init_finish();
        finish.set_question_id(id);
        finish.set_release_result_caps(releases);
    })
}

impl Wire {
    async fn open(connection: &quinn::Connection) -> Wire {
        let (send, receive) = connection.open_bi().await.unwrap();
        Wire { send, receive }
    }

    /// The server may have hung up already: what it said is looked at later.
    async fn send(&mut self, message: &Builder<HeapAllocator>) {
        let _ = self.send.write_all(&capnp::serialize::write_message_to_words(message)).await;
    }

    fn call(
        &self,
        id: u32,
        target: Target,
        interface: u64,
        method: u16,
        fill: impl FnOnce(capnp::any_pointer::Builder<'_>),
    ) -> Builder<HeapAllocator> {
        rpc(|root| {
            let mut call: call::Builder<'_> = root.init_call();
            call.set_question_id(id);
            call.set_interface_id(interface);
            call.set_method_id(method);
            call.reborrow().get_send_results_to().set_caller(());
            match target {
                Target::Import(import) => call.reborrow().init_target().set_imported_cap(import),
                Target::Answer(on) => {
                    call.reborrow().init_target().init_promised_answer().set_question_id(on);
                }
            }
            fill(call.init_params().init_content());
        })
    }

    fn push(&self, id: u32, target: Target, body: &[u8]) -> Builder<HeapAllocator> {
        self.call(id, target, batch_sink::Client::TYPE_ID, 0, |params| {
            let mut params: batch_sink::push_params::Builder<'_> = params.init_as();
            params.reborrow().init_batch().set_body(body);
        })
    }

    /// Waits for the answer of a question: the message, and the references.
    async fn answer(
        &mut self,
        id: u32,
    ) -> (capnp::message::Reader<capnp::serialize::OwnedSegments>, Vec<u32>) {
        loop {
            let read = capnp_futures::serialize::read_message(&mut self.receive, Default::default());
            let read = read.await.expect("an answer");
            let references = match read.get_root::<message::Reader<'_>>().unwrap().which() {
                Ok(message::Return(Ok(returned))) if returned.get_answer_id() == id => match returned.which()
                {
                    Ok(return_::Results(Ok(results))) => {
                        let table = results.get_cap_table().unwrap();
                        Some(table.iter().map(hosted).collect())
                    }
                    Ok(return_::Exception(Ok(error))) => panic!("{:?}", error.get_reason()),
                    _ => Some(Vec::new()),
                },
                _ => None,
            };
            if let Some(references) = references {
                return (read, references);
            }
        }
    }
}

fn hosted(descriptor: cap_descriptor::Reader<'_>) -> u32 {
    match descriptor.which() {
        Ok(cap_descriptor::SenderHosted(id)) => id,
        _ => panic!("not a hosted capability"),
    }
}

struct Hostile {
    _endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    control: Wire,
    agent: u32,
}

impl Hostile {
    /// A bulk stream, and the sink on it.
    async fn bulk(&mut self, id: u32) -> (Wire, Target) {
        let agent = Target::Import(self.agent);
        let request = self.control.call(id, agent, agent_session::Client::TYPE_ID, 1, |_| {});
        self.control.send(&request).await;
        let (message, _) = self.control.answer(id).await;
        let Ok(message::Return(Ok(returned))) = message.get_root::<message::Reader<'_>>().unwrap().which()
        else {
            panic!("not a return")
        };
        let Ok(return_::Results(Ok(results))) = returned.which() else { panic!("no results") };
        let results: agent_session::bulk_ticket_results::Reader<'_> = results.get_content().get_as().unwrap();
        let ticket = results.get_ticket().unwrap();

        let mut wire = Wire::open(&self.connection).await;
        wire.send(&bootstrap(0)).await;
        let request = wire.call(1, Target::Answer(0), attach::Client::TYPE_ID, 0, |params| {
            let mut params: attach::attach_params::Builder<'_> = params.init_as();
            params.set_ticket(ticket);
        });
        wire.send(&request).await;
        let sink = wire.answer(1).await.1[0];
        (wire, Target::Import(sink))
    }

    /// Waits for the end of the connection.
    async fn ended_because(&self, expected: &str) {
        let closed = tokio::time::timeout(Duration::from_secs(10), self.connection.closed()).await;
        let reason = closed.expect("the connection goes on").to_string();
        assert!(reason.contains(expected), "{reason}, not {expected}");
        let quinn::ConnectionError::ApplicationClosed(close) = self.connection.close_reason().unwrap() else {
            panic!("{reason}")
        };
        assert_eq!(close.error_code.into_inner(), 4, "{reason}");
    }
}

impl Target {
    fn same(&self) -> Target {
        match self {
            Target::Import(id) => Target::Import(*id),
            Target::Answer(id) => Target::Answer(*id),
        }
    }
}

fn run(limits: MeshLimits, test: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new(limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test(&bench)).await.expect("the test hangs");
    });
}

#[test]
fn a_claim_that_is_too_large_ends_the_session_at_once() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"hang")).await;
        eventually("a push hangs", || bench.alive() == 1).await;
        // 60 MiB.
        bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x78, 0]).await.unwrap();
        hostile.ended_because("limit: 62914560 bytes in a message (at most 4259840)").await;
        // capnp-rpc alone would keep the push for ever.
        eventually("the push is dropped", || bench.alive() == 0).await;
        eventually("its memory is back", || bench.server.registry().budget().used_bytes() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn before_login_a_message_is_small() {
    run(MeshLimits::default(), async |bench| {
        let (_endpoint, connection) = bench.connection().await;
        let mut control = Wire::open(&connection).await;
        control.send(&control.push(0, Target::Answer(0), &[0; 70_000])).await;
        let reason = connection.closed().await.to_string();
        assert!(reason.contains("bytes in a message (at most 65536)"), "{reason}");
        bench.others_are_fine().await;
    });
}

#[test]
fn silent_claims_hold_one_step_each() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let mut streams = Vec::new();
        for id in 2..5 {
            let (mut bulk, _) = hostile.bulk(id).await;
            // 4 MiB, of which one word arrives.
            bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x08, 0, 1, 1, 1, 1, 1, 1, 1, 1]).await.unwrap();
            streams.push(bulk);
        }
        let held = || bench.session().meter().facts().budget_bytes;
        eventually("the claims are being read", || held() == 3 * (64 << 10)).await;
        bench.others_are_fine().await;
        assert_eq!(held(), 3 * (64 << 10));
        drop((streams, hostile));
        eventually("the budget is back", || bench.server.registry().budget().used_bytes() == 0).await;
    });
}

/// All of the budget that one session may have, in messages that never end.
#[test]
fn messages_that_do_not_end_keep_nobody_waiting() {
    let limits = MeshLimits { ingest_bytes_max: 12 << 20, ..MeshLimits::default() };
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let mut streams = Vec::new();
        for id in 2..5 {
            let (mut bulk, _) = hostile.bulk(id).await;
            // 4 MiB, of which the last byte does not arrive.
            bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x08, 0]).await.unwrap();
            streams.push(tokio::task::spawn_local(async move {
                let _ = bulk.send.write_all(&vec![0; (4 << 20) - 1]).await;
                bulk
            }));
        }
        let budget = bench.server.registry().budget().clone();
        eventually("the budget is taken", || budget.waits() > 0).await;
        // What most batches are.
        bench.others_push(&[10, 100_000, 200_000], Duration::from_millis(500)).await;
        // More than an allowance: somebody has to go.
        bench.others_push(&[900_000], Duration::from_secs(5)).await;
        hostile.ended_because("bytes that comes too slowly while others wait").await;
        eventually("the budget is back", || budget.used_bytes() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn calls_that_are_never_finished_end_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        // Answered with an error, which waits for its Finish. Two are open:
        // bootstrap and login.
        for id in 0..1023 {
            let agent = Target::Import(hostile.agent);
            let call = hostile.control.call(id + 2, agent, agent_session::Client::TYPE_ID, 99, |_| {});
            hostile.control.send(&call).await;
        }
        hostile.ended_because("limit: 1025 calls not finished (at most 1024)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn references_that_are_never_released_end_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        for id in 2..300 {
            hostile.control.send(&bootstrap(id)).await;
            hostile.control.send(&finish(id, false)).await;
        }
        hostile.ended_because("limit: 257 references not released (at most 256)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn on_bulk_too_many_calls_only_wait() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        for id in 2..100 {
            bulk.send(&bulk.push(id, sink.same(), b"hang")).await;
        }
        let facts = || bench.session().meter().facts();
        eventually("all that may be are under way", || bench.alive() == 64).await;
        eventually("reading waits", || facts().read_pauses == 1).await;
        assert_eq!(facts().calls_in_flight, 64);
        bench.others_are_fine().await;
        // Control is another stream: it answers.
        hostile.bulk(3).await;
        assert_eq!((facts().calls_in_flight, bench.alive()), (64, 64));
        drop((bulk, hostile));
        eventually("all are dropped", || bench.alive() == 0).await;
    });
}

#[test]
fn answers_that_are_not_read_stop_the_reading() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        // 64 KiB each: some fill QUIC's windows, the rest waits here.
        let flood = async {
            for id in 2..2000 {
                bulk.send(&bulk.push(id, sink.same(), b"talk")).await;
            }
            std::future::pending::<()>().await;
        };
        let session = bench.session();
        let paused = async {
            eventually("reading waits", || session.meter().facts().read_pauses > 0).await;
            bench.others_are_fine().await;
            let facts = session.meter().facts();
            assert!(facts.unsent_bytes < 1 << 20, "{facts:?}");
            assert!(facts.messages_in < 1000, "{facts:?}");
        };
        tokio::select! {
            () = flood => unreachable!("it never ends"),
            () = paused => {}
        }
    });
}

#[test]
fn more_unsent_than_ever_allowed_ends_the_session() {
    let mut limits = MeshLimits::default();
    limits.bulk.unsent_bytes_max = 50_000;
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"talk")).await;
        hostile.ended_because("bytes that are not read (at most 50000)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn noise_ends_the_session_and_nothing_else() {
    run(MeshLimits::default(), async |bench| {
        // A body from a small generator, then a table that is none. What
        // capnp-rpc refuses by itself ends only the stream.
        for seed in 1..40u64 {
            let mut hostile = bench.log_in().await;
            let (mut bulk, _) = hostile.bulk(2).await;
            let session = bench.session();
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut noise = vec![0, 0, 0, 0, 0x40, 0, 0, 0];
            for _ in 0..0x40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly small numbers, so that some pointers hold.
                let word = (state >> 33) & 0x0000_0003_0001_000f;
                noise.extend(word.to_le_bytes());
            }
            noise.extend([0xff; 64]);
            let _ = bulk.send.write_all(&noise).await;
            let rest = tokio::time::timeout(Duration::from_secs(10), bulk.receive.read_to_end(1 << 20));
            let _ = rest.await.expect("the stream goes on");
            eventually("nothing is held", || session.meter().facts().held_bytes == 0).await;
            hostile.connection.close(0u32.into(), b"");
        }
        bench.others_are_fine().await;
    });
}

#[test]
fn a_long_chain_of_calls_on_answers_ends_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"hang")).await;
        for id in 3..60 {
            bulk.send(&bulk.push(id, Target::Answer(id - 1), b"hang")).await;
        }
        hostile.ended_because("limit: 17 calls that wait for each other (at most 16)").await;
        eventually("all are dropped", || bench.alive() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn a_promise_that_resolves_to_itself_is_not_followed() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let agent = Target::Import(hostile.agent);
        let mut call = hostile.control.call(2, agent, agent_session::Client::TYPE_ID, 0, |_| {});
        let root: message::Builder<'_> = call.get_root().unwrap();
        let Ok(message::Call(Ok(body))) = root.which() else { panic!("not a call") };
        body.get_params().unwrap().init_cap_table(1).get(0).set_sender_promise(7);
        hostile.control.send(&call).await;
        let resolve = rpc(|root| {
            let mut resolve = root.init_resolve();
            resolve.set_promise_id(7);
            resolve.init_cap().set_sender_promise(7);
        });
        hostile.control.send(&resolve).await;
        hostile.ended_because("invalid: a promise where a capability is needed").await;
        bench.others_are_fine().await;
    });
}

/// Why cancelled calls have a bound of their own. When a new capnp-rpc answers
/// them, the bound can go.
#[test]
fn a_cancelled_call_is_dropped_and_never_answered() {
    let mut limits = MeshLimits::default();
    limits.bulk.cancelled_max = 100;
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink.same(), b"hang")).await;
        eventually("it hangs", || bench.alive() == 1).await;
        bulk.send(&finish(2, true)).await;
        eventually("it is dropped", || bench.alive() == 0).await;
        bulk.send(&bulk.push(3, sink.same(), b"fine")).await;
        let first = capnp_futures::serialize::read_message(&mut bulk.receive, Default::default());
        let first = first.await.unwrap();
        let Ok(message::Return(Ok(returned))) = first.get_root::<message::Reader<'_>>().unwrap().which()
        else {
            panic!("not a return")
        };
        assert_eq!(returned.get_answer_id(), 3);
        for id in 4..200 {
            bulk.send(&bulk.push(id, sink.same(), b"hang")).await;
            bulk.send(&finish(id, true)).await;
        }
        hostile.ended_because("limit: 101 cancelled calls of one stream (at most 100)").await;
        bench.others_are_fine().await;
    });
}
