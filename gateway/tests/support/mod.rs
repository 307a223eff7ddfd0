//! A collector that says what a test tells it to, and a raw HTTP client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use lm_gateway::settings::Settings;
use lm_gateway::{Config, Gateway};
use lm_mesh::{
    Admission, Attachment, Capability, Credentials, Host, Peer, Principal, Refusal, Role, Server,
    ServerConfig, TokenTable, token_digest,
};
use lm_schema::DecodeLimits;
use lm_schema::mesh_capnp::{credential, gateway_session, user_gate};
use lm_schema::operator::{
    CallFacts, CapabilityFacts, CapabilityFilter, MeshStatus, SessionFacts, write_list,
};
use lm_schema::operator_capnp::operator;
use lm_schema::query_capnp::{ResultType, answer, cursor, failure, reader, tail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};

pub const GATEWAY_TOKEN: &str = "gateway-token-gateway-token-gateway-token";
/// An operator, who may read too.
pub const ROOT: &str = "root-token-root-token-root-token-root-tok";
/// Of a user who may write and not read.
pub const WRITER: &str = "writer-token-writer-token-writer-token";
pub const ALICE: &str = "alice-token-alice-token-alice-token-alice";

/// What the fake collector does, and what it saw.
#[derive(Default)]
pub struct Script {
    /// By expression.
    pub answers: Mutex<HashMap<String, Said>>,
    pub exchanges: AtomicUsize,
    /// Alice's token is not known any more.
    pub is_alice_gone: AtomicBool,
    pub generation: watch::Sender<u64>,
    pub cursors_alive: AtomicUsize,
    pub chunks: AtomicUsize,
    pub asked: Mutex<Vec<String>>,
    pub cache_ms: AtomicUsize,
    /// Live events: `(position, text)`; positions have holes when some went.
    pub events: Mutex<Vec<(u64, String)>>,
    pub epoch: AtomicUsize,
    pub news: Notify,
    pub tail_after: Mutex<Vec<(u64, u64)>>,
    /// What an operator sees.
    pub sessions: Mutex<Vec<SessionFacts>>,
    /// What every call of an operator is answered with instead.
    pub operator_error: Mutex<Option<String>>,
}

/// An answer: chunks of `(labels, samples, is continued)`.
#[derive(Clone)]
pub enum Said {
    Rows(ResultType, Vec<Chunk>, Vec<String>),
    Failed(failure::Kind, String),
    /// This many chunks of one long series.
    Long(usize),
    /// As many, then an exception.
    Breaks(usize),
    Hangs,
    Revoked,
    Text(String),
}

pub type Chunk = Vec<(Vec<(&'static str, &'static str)>, Vec<(i64, f64)>, bool)>;

struct FakeHost(Arc<Script>);

impl Host for FakeHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        async move {
            let session = FakeSession { script: self.0.clone(), peer };
            Ok(Admission {
                cluster_id: vec![1],
                resume: Vec::new(),
                limits: DecodeLimits::default(),
                batch_bytes_max: 1,
                calls_in_flight_max: 1,
                capability: Capability::Gateway(capnp_rpc::new_client(session)),
            })
        }
        .boxed_local()
    }
}

struct FakeSession {
    script: Arc<Script>,
    peer: Rc<Peer>,
}

impl gateway_session::Server for FakeSession {
    async fn heartbeat(
        self: Rc<Self>,
        _: gateway_session::HeartbeatParams,
        _: gateway_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }

    async fn revocations(
        self: Rc<Self>,
        params: gateway_session::RevocationsParams,
        mut results: gateway_session::RevocationsResults,
    ) -> Result<(), capnp::Error> {
        let after = params.get()?.get_after_generation();
        let mut generations = self.script.generation.subscribe();
        let generation = *generations.wait_for(|generation| *generation > after).await.unwrap();
        results.get().set_generation(generation);
        Ok(())
    }

    async fn query_ticket(
        self: Rc<Self>,
        _: gateway_session::QueryTicketParams,
        mut results: gateway_session::QueryTicketResults,
    ) -> Result<(), capnp::Error> {
        let gate = capnp_rpc::new_client(FakeGate(self.script.clone()));
        let ticket = self.peer.tickets.issue(Attachment::Users(gate))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

struct FakeGate(Arc<Script>);

impl user_gate::Server for FakeGate {
    async fn authenticate(
        self: Rc<Self>,
        params: user_gate::AuthenticateParams,
        mut results: user_gate::AuthenticateResults,
    ) -> Result<(), capnp::Error> {
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
        let token = match params.get()?.get_credential()?.which()? {
            credential::Bearer(token) => token?.to_str()?,
            credential::None(()) => "",
        };
        let mut result = results.get().init_result();
        let is_writer = token == WRITER;
        let is_alice = token == ALICE && !self.0.is_alice_gone.load(Ordering::Relaxed);
        if is_alice || is_writer || token == ROOT {
            let mut user = result.init_user();
            user.set_name(if token == ROOT { "root" } else { "alice" });
            if token == ROOT {
                user.set_operator(capnp_rpc::new_client(FakeOperator(self.0.clone())));
            }
            user.set_cache_ms(self.0.cache_ms.load(Ordering::Relaxed) as u32);
            if !is_writer {
                user.set_reader(capnp_rpc::new_client(FakeReader(self.0.clone())));
            }
        } else {
            result.set_refused("denied: the token is not known");
        }
        Ok(())
    }
}

struct FakeReader(Arc<Script>);

struct FakeOperator(Arc<Script>);

/// Entries of one page, so that requests need several.
const PAGE: usize = 3;

impl FakeOperator {
    fn check(&self) -> Result<(), capnp::Error> {
        match &*self.0.operator_error.lock().unwrap() {
            Some(message) => Err(capnp::Error::failed(message.clone())),
            None => Ok(()),
        }
    }
}

impl operator::Server for FakeOperator {
    async fn sessions(
        self: Rc<Self>,
        params: operator::SessionsParams,
        mut results: operator::SessionsResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let after = params.get()?.get_after_id();
        let all = self.0.sessions.lock().unwrap();
        let left: Vec<_> = all.iter().filter(|facts| facts.id > after).cloned().collect();
        let page = &left[..left.len().min(PAGE)];
        results.get().set_has_more(left.len() > PAGE);
        write_list(page, results.get().init_sessions(page.len() as u32), SessionFacts::write);
        Ok(())
    }

    async fn capabilities(
        self: Rc<Self>,
        params: operator::CapabilitiesParams,
        mut results: operator::CapabilitiesResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let params = params.get()?;
        // What was asked for comes back as the one entry there is.
        let filter = CapabilityFilter::read(params.get_filter()?).unwrap();
        let facts = CapabilityFacts {
            id: params.get_after_id() + 1,
            session: filter.session,
            holder: filter.holder,
            interface: filter.interface,
            ..CapabilityFacts::default()
        };
        write_list(&[facts], results.get().init_capabilities(1), CapabilityFacts::write);
        Ok(())
    }

    async fn calls(
        self: Rc<Self>,
        params: operator::CallsParams,
        mut results: operator::CallsResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let over = params.get()?.get_slower_than_micros();
        let call = |micros, is_in_flight| CallFacts { micros, is_in_flight, ..CallFacts::default() };
        let mut calls = vec![call(30_000, true), call(5_000, true)];
        calls.retain(|call| call.micros > over);
        calls.extend([call(200_000, false), call(9_000, false)]);
        results.get().set_slow_after_micros(100);
        write_list(&calls, results.get().init_calls(calls.len() as u32), CallFacts::write);
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: operator::StatusParams,
        mut results: operator::StatusResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let status = MeshStatus { version: "9".to_owned(), cluster_id: vec![0xfe], ..MeshStatus::default() };
        status.write(results.get().init_status());
        Ok(())
    }
}

impl FakeReader {
    async fn say(&self, what: String, to: answer::Builder<'_>) -> Result<(), capnp::Error> {
        let said = self.0.answers.lock().unwrap().get(&what).cloned();
        self.0.asked.lock().unwrap().push(what);
        let mut said_warnings = Vec::new();
        let (kind, rows) = match said {
            None => (ResultType::Vector, Rows::Chunks(vec![vec![]])),
            Some(Said::Failed(kind, message)) => {
                let mut failed = to.init_failed();
                failed.set_kind(kind);
                failed.set_message(&message[..]);
                return Ok(());
            }
            Some(Said::Hangs) => {
                let _alive = Alive::new(&self.0);
                std::future::pending::<()>().await;
                return Ok(());
            }
            Some(Said::Revoked) => {
                return Err(capnp::Error::failed("revoked: an operator took this back".to_owned()));
            }
            Some(Said::Rows(kind, chunks, warnings)) => {
                said_warnings = warnings;
                (kind, Rows::Chunks(chunks))
            }
            Some(Said::Long(chunks)) => (ResultType::Matrix, Rows::Long { chunks, is_broken: false }),
            Some(Said::Breaks(chunks)) => (ResultType::Matrix, Rows::Long { chunks, is_broken: true }),
            Some(Said::Text(text)) => (ResultType::String, Rows::Text(text)),
        };
        let mut opened = to.init_ok();
        let mut list = opened.reborrow().init_warnings(said_warnings.len() as u32);
        for (index, warning) in said_warnings.iter().enumerate() {
            list.set(index as u32, &warning[..]);
        }
        opened.set_type(kind);
        opened.set_cursor(capnp_rpc::new_client(FakeCursor {
            alive: Alive::new(&self.0),
            rows,
            at: std::cell::Cell::new(0),
        }));
        Ok(())
    }
}

/// Counts what the gateway has not let go of.
struct Alive(Arc<Script>);

impl Alive {
    fn new(script: &Arc<Script>) -> Self {
        script.cursors_alive.fetch_add(1, Ordering::SeqCst);
        Alive(script.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.cursors_alive.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Rows {
    Chunks(Vec<Chunk>),
    Long { chunks: usize, is_broken: bool },
    Text(String),
}

struct FakeCursor {
    alive: Alive,
    rows: Rows,
    at: std::cell::Cell<usize>,
}

pub const LONG_CHUNK: usize = 10_000;

impl cursor::Server for FakeCursor {
    async fn next(
        self: Rc<Self>,
        _: cursor::NextParams,
        mut results: cursor::NextResults,
    ) -> Result<(), capnp::Error> {
        self.alive.0.chunks.fetch_add(1, Ordering::SeqCst);
        let at = self.at.replace(self.at.get() + 1);
        let long;
        let (chunk, is_last) = match &self.rows {
            Rows::Chunks(chunks) => (&chunks[at], at + 1 == chunks.len()),
            Rows::Long { chunks, is_broken } => {
                if *is_broken && at == *chunks {
                    return Err(capnp::Error::failed("internal: the disk is gone".to_owned()));
                }
                let samples =
                    (0..LONG_CHUNK).map(|n| ((at * LONG_CHUNK + n) as i64 * 1000, n as f64)).collect();
                long = vec![(vec![("a", "b")], samples, at > 0)];
                (&long, !is_broken && at + 1 == *chunks)
            }
            Rows::Text(text) => {
                results.get().set_done(true);
                results.get().init_chunk().set_text(&text[..]);
                return Ok(());
            }
        };
        results.get().set_done(is_last);
        let mut list = results.get().init_chunk().init_series(chunk.len() as u32);
        for (index, (labels, samples, is_continued)) in chunk.iter().enumerate() {
            let mut series = list.reborrow().get(index as u32);
            series.set_is_continued(*is_continued);
            let mut pairs = series.reborrow().init_labels(labels.len() as u32);
            for (index, (name, value)) in labels.iter().enumerate() {
                let mut pair = pairs.reborrow().get(index as u32);
                pair.set_name(*name);
                pair.set_value(*value);
            }
            let mut times = series.reborrow().init_times_unix_ms(samples.len() as u32);
            for (index, (time, _)) in samples.iter().enumerate() {
                times.set(index as u32, *time);
            }
            let mut values = series.init_values(samples.len() as u32);
            for (index, (_, value)) in samples.iter().enumerate() {
                values.set(index as u32, *value);
            }
        }
        Ok(())
    }
}

impl reader::Server for FakeReader {
    async fn query(
        self: Rc<Self>,
        params: reader::QueryParams,
        mut results: reader::QueryResults,
    ) -> Result<(), capnp::Error> {
        let what = params.get()?.get_expression()?.to_string()?;
        self.say(what, results.get().init_answer()).await
    }

    async fn query_range(
        self: Rc<Self>,
        params: reader::QueryRangeParams,
        mut results: reader::QueryRangeResults,
    ) -> Result<(), capnp::Error> {
        let what = params.get()?.get_expression()?.to_string()?;
        self.say(what, results.get().init_answer()).await
    }

    async fn series(
        self: Rc<Self>,
        params: reader::SeriesParams,
        mut results: reader::SeriesResults,
    ) -> Result<(), capnp::Error> {
        let selector = params.get()?.get_selection()?.get_selectors()?.get(0)?.to_string()?;
        let rows = vec![vec![(vec![("__name__", "up"), ("job", "a")], vec![], false)]];
        self.0.answers.lock().unwrap().insert(selector.clone(), Said::Rows(ResultType::Series, rows, vec![]));
        self.say(selector, results.get().init_answer()).await
    }

    async fn label_names(
        self: Rc<Self>,
        _: reader::LabelNamesParams,
        mut results: reader::LabelNamesResults,
    ) -> Result<(), capnp::Error> {
        let mut list = results.get().init_answer().init_ok(2);
        list.set(0, "__name__");
        list.set(1, "job");
        Ok(())
    }

    async fn label_values(
        self: Rc<Self>,
        params: reader::LabelValuesParams,
        mut results: reader::LabelValuesResults,
    ) -> Result<(), capnp::Error> {
        let name = params.get()?.get_name()?.to_string()?;
        let mut answer = results.get().init_answer();
        answer.set_is_truncated(true);
        answer.init_ok(1).set(0, &name[..]);
        Ok(())
    }

    async fn search_logs(
        self: Rc<Self>,
        params: reader::SearchLogsParams,
        mut results: reader::SearchLogsResults,
    ) -> Result<(), capnp::Error> {
        let search = params.get()?.get_search()?;
        let filter = search.get_filter()?;
        let text = format!(
            "{} {:?} {} {}",
            filter.get_selector()?.to_str()?,
            filter.get_contains()?.iter().map(|text| text.unwrap().to_string().unwrap()).collect::<Vec<_>>(),
            search.get_limit(),
            search.get_is_forward(),
        );
        let mut answer = results.get().init_answer();
        answer.set_is_truncated(true);
        let mut lines = answer.init_ok(2);
        lines.reborrow().get(0).set_time_unix_nano(1);
        lines.reborrow().get(0).set_line(text.as_bytes());
        lines.reborrow().get(1).set_line(b"\xff");
        Ok(())
    }

    async fn tail(
        self: Rc<Self>,
        params: reader::TailParams,
        mut results: reader::TailResults,
    ) -> Result<(), capnp::Error> {
        let after = params.get()?.get_after()?;
        let (epoch, position) = (after.get_epoch(), after.get_position());
        self.0.tail_after.lock().unwrap().push((epoch, position));
        let ours = self.0.epoch.load(Ordering::SeqCst) as u64;
        let end = self.0.events.lock().unwrap().last().map_or(0, |(at, _)| *at);
        let next = match epoch {
            0 => end + 1,
            epoch if epoch == ours => position + 1,
            _ => 0,
        };
        results.get().set_tail(capnp_rpc::new_client(FakeTail {
            script: self.0.clone(),
            next: std::cell::Cell::new(next),
            is_restarted: std::cell::Cell::new(epoch != 0 && epoch != ours),
        }));
        Ok(())
    }

    async fn losses(
        self: Rc<Self>,
        _: reader::LossesParams,
        mut results: reader::LossesResults,
    ) -> Result<(), capnp::Error> {
        let mut account = results.get().init_streams(1).get(0);
        account.set_agent("host-a");
        account.reborrow().init_incarnation().set_ordinal(5);
        account.set_durable_end(9);
        account.set_stored_items(80);
        account.set_is_fenced(true);
        let mut lost = account.init_lost(1).get(0);
        lost.set_reason("corrupt");
        lost.set_items(3);
        lost.set_batches(1);
        Ok(())
    }
}

struct FakeTail {
    script: Arc<Script>,
    next: std::cell::Cell<u64>,
    is_restarted: std::cell::Cell<bool>,
}

impl tail::Server for FakeTail {
    async fn next(
        self: Rc<Self>,
        params: tail::NextParams,
        mut results: tail::NextResults,
    ) -> Result<(), capnp::Error> {
        let max = params.get()?.get_events_max() as usize;
        let wait = Duration::from_millis(params.get()?.get_wait_ms().into());
        drop(params);
        let deadline = tokio::time::Instant::now() + wait;
        let (events, missed) = loop {
            let news = self.script.news.notified();
            let from = self.next.get();
            let (events, missed) = {
                let all = self.script.events.lock().unwrap();
                let events: Vec<_> = all.iter().filter(|(at, _)| *at >= from).take(max).cloned().collect();
                let missed = match events.first() {
                    Some((at, _)) if from > 0 => at - from,
                    _ => 0,
                };
                (events, missed)
            };
            if !events.is_empty() || tokio::time::timeout_at(deadline, news).await.is_err() {
                break (events, missed);
            }
        };
        let epoch = self.script.epoch.load(Ordering::SeqCst) as u64;
        if let Some((at, _)) = events.last() {
            self.next.set(at + 1);
        }
        let mut to = results.get();
        to.set_missed(missed);
        to.set_is_restarted(self.is_restarted.replace(false));
        to.reborrow().init_next().set_epoch(epoch);
        to.reborrow().get_next()?.set_position(self.next.get().saturating_sub(1));
        let mut list = to.init_events(events.len() as u32);
        for (index, (at, text)) in events.iter().enumerate() {
            let mut event = list.reborrow().get(index as u32);
            event.reborrow().init_id().set_epoch(epoch);
            event.reborrow().get_id()?.set_position(*at);
            if let Some(code) = text.strip_prefix("notice:") {
                event.set_time_unix_nano(7);
                event.init_notice().set_code(code);
            } else {
                event.init_log().set_line(text.as_bytes());
            }
        }
        Ok(())
    }
}

impl Script {
    pub fn say(&self, expression: &str, said: Said) {
        self.answers.lock().unwrap().insert(expression.to_owned(), said);
    }

    pub fn publish(&self, events: impl IntoIterator<Item = (u64, String)>) {
        self.events.lock().unwrap().extend(events);
        self.news.notify_waiters();
    }
}

/// A directory with certificates and tokens, a fake collector, a gateway.
pub struct World {
    pub script: Arc<Script>,
    pub addr: SocketAddr,
    collector_addr: SocketAddr,
    collector: Option<Server>,
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    gateway: Option<std::thread::JoinHandle<()>>,
}

impl World {
    pub async fn new() -> World {
        World::with("").await
    }

    /// `extra` goes to the end of the gateway's configuration.
    pub async fn with(extra: &str) -> World {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        std::fs::write(path("ca.pem"), ca_certificate.pem()).unwrap();
        std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
        secret(&path("key.pem"), &key.serialize_pem());
        secret(&path("gateway.token"), GATEWAY_TOKEN);
        let script = Arc::new(Script::default());
        script.cache_ms.store(60_000, Ordering::Relaxed);
        script.epoch.store(7, Ordering::Relaxed);

        let collector = start(directory.path(), &script, ([127, 0, 0, 1], 0).into());
        let collector_addr = collector.local_addr();
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[collector]\nendpoints = [\"{collector_addr}\"]\n\
             server_name = \"localhost\"\ntls_ca_cert_file = {:?}\nauth_token_file = {:?}\n{extra}",
            path("ca.pem"),
            path("gateway.token"),
        );
        let config = Config::from(Settings::parse(Path::new("test.toml"), &text).unwrap());
        let (addr_tx, addr_rx) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // As in the process: a runtime of one thread.
        let gateway = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let gateway = Gateway::bind(config).await.unwrap();
                addr_tx.send(gateway.local_addr()).unwrap();
                gateway.serve(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let world = World {
            script,
            addr: addr_rx.await.unwrap(),
            collector_addr,
            collector: Some(collector),
            directory,
            stop: Some(stop),
            gateway: Some(gateway),
        };
        world.until_ready(true).await;
        world
    }

    pub async fn until_ready(&self, wanted: bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
        while (self.anonymous("/readyz?verbose").await.status == 200) != wanted {
            assert!(tokio::time::Instant::now() < deadline, "readiness is never {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop_collector(&mut self) {
        let collector = self.collector.take().unwrap();
        tokio::task::spawn_blocking(move || collector.drain()).await.unwrap();
    }

    pub fn start_collector(&mut self) {
        self.collector = Some(start(self.directory.path(), &self.script, self.collector_addr));
    }

    /// Begins the gateway's drain.
    pub fn stop_gateway(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn gateway_ended(&mut self) {
        let gateway = self.gateway.take().unwrap();
        tokio::task::spawn_blocking(move || gateway.join().unwrap()).await.unwrap();
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n")).await
    }

    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await
    }

    pub async fn anonymous(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    pub async fn post(&self, path: &str, form: &str) -> Answer {
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        ))
        .await
    }

    pub async fn send(&self, request: &str) -> Answer {
        let mut stream = self.open(request).await;
        let (status, headers) = stream.head().await;
        let body = stream.body(&headers).await;
        Answer { status, headers, body }
    }

    /// Sends a request and leaves the answer to be read.
    pub async fn open(&self, request: &str) -> Stream {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        Stream(BufReader::new(tcp))
    }

    pub async fn live(&self, query: &str, headers: &str) -> Stream {
        let request = format!(
            "GET /api/v1/live{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n{headers}\r\n"
        );
        let mut stream = self.open(&request).await;
        let (status, head) = stream.head().await;
        if status != 200 {
            let body = stream.body(&head).await.unwrap_or_default();
            panic!("{status}: {}", String::from_utf8_lossy(&body));
        }
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        stream
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

fn start(directory: &Path, script: &Arc<Script>, addr: SocketAddr) -> Server {
    let token = lm_mesh::read_secret(&directory.join("gateway.token")).unwrap();
    let mut table = TokenTable::default();
    table.add(token_digest(&token).unwrap(), Principal::new("gateway", Role::Gateway)).unwrap();
    let credentials = Credentials::new(table);
    let config = ServerConfig {
        listen: addr,
        transport: lm_mesh::Transport::Auto,
        operator_socket: None,
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
        reset_key: [3; 64],
        workers: 1,
    };
    Server::start(config, credentials, lm_mesh::Registry::default(), Arc::new(FakeHost(script.clone())))
        .unwrap()
}

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

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

    async fn body(&mut self, headers: &str) -> Option<Vec<u8>> {
        if let Some(length) = headers.split("content-length: ").nth(1) {
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            return self.0.read_exact(&mut body).await.ok().map(|_| body);
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
