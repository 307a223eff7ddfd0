//! A collector whose operator says what a test tells it to, and the real
//! `lmctl` that asks it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Capability, Credentials, Host, Peer, Principal, Refusal, Role, Server, ServerConfig,
    TokenTable, token_digest,
};
use lm_schema::interfaces;
use lm_schema::mesh_capnp::agent_session;
use lm_schema::operator::{
    CallFacts, CapabilityFacts, CapabilityFilter, Denial, InterfaceFacts, MeshStatus, ReloadedPart,
    RevokeOutcome, SessionFacts, Tap, TapFilter, Target, write_list,
};
use lm_schema::operator_capnp::{operator, tap};

pub const TOKEN: &str = "operator-token-operator-token-operator";
/// A run that takes longer hangs.
const RUN_WITHIN: Duration = Duration::from_secs(40);

/// What the collector knows, and what it was asked to do.
#[derive(Default)]
pub struct Script {
    pub sessions: Vec<SessionFacts>,
    pub capabilities: Vec<CapabilityFacts>,
    pub calls: Vec<CallFacts>,
    pub slow_after_micros: u64,
    pub denials: Vec<Denial>,
    pub parts: Vec<ReloadedPart>,
    pub status: MeshStatus,
    /// Answers of a tap, then silence.
    pub taps: VecDeque<Tap>,
    /// Entries of a page; 0: all.
    pub page: usize,
    /// Every page says that there is more.
    pub is_endless: bool,
    /// What every call is answered with instead.
    pub error: Option<String>,
    pub is_old: bool,
    /// `revoke c17: reason`.
    pub done: Vec<String>,
}

impl Script {
    fn check(&self) -> Result<(), capnp::Error> {
        match &self.error {
            _ if self.is_old => Err(capnp::Error::unimplemented("no such method".to_owned())),
            Some(message) => Err(capnp::Error::failed(message.clone())),
            None => Ok(()),
        }
    }

    /// One page of what comes after an id.
    fn page<T: Clone>(&self, all: &[T], after: u64, id: impl Fn(&T) -> u64) -> (Vec<T>, bool) {
        let mut left: Vec<T> = all.iter().filter(|entry| id(entry) > after).cloned().collect();
        let has_more = self.page > 0 && left.len() > self.page;
        if has_more {
            left.truncate(self.page);
        }
        (left, has_more || self.is_endless)
    }
}

struct FakeHost(Arc<Mutex<Script>>);

impl Host for FakeHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        async move {
            let capability = match peer.session.principal.role {
                Role::Operator => Capability::Operator(capnp_rpc::new_client(FakeOperator {
                    script: self.0.clone(),
                    own: peer.session.id,
                })),
                _ => Capability::Agent(capnp_rpc::new_client(FakeAgent)),
            };
            Ok(Admission {
                cluster_id: vec![1],
                resume: Vec::new(),
                limits: lm_schema::DecodeLimits::default(),
                batch_bytes_max: 1,
                calls_in_flight_max: 1,
                capability,
            })
        }
        .boxed_local()
    }
}

struct FakeAgent;
impl agent_session::Server for FakeAgent {}

struct FakeOperator {
    script: Arc<Mutex<Script>>,
    own: u64,
}

impl FakeOperator {
    fn script(&self) -> Result<MutexGuard<'_, Script>, capnp::Error> {
        let script = self.script.lock().unwrap();
        script.check()?;
        Ok(script)
    }
}

impl operator::Server for FakeOperator {
    async fn sessions(
        self: Rc<Self>,
        params: operator::SessionsParams,
        mut results: operator::SessionsResults,
    ) -> Result<(), capnp::Error> {
        let after = params.get()?.get_after_id();
        let script = self.script()?;
        let mut all = script.sessions.clone();
        // Whoever asks has a session too.
        all.push(SessionFacts { id: self.own, identity: "ops".to_owned(), ..SessionFacts::default() });
        all.sort_by_key(|facts| facts.id);
        let (page, has_more) = script.page(&all, after, |facts| facts.id);
        results.get().set_has_more(has_more);
        write_list(&page, results.get().init_sessions(page.len() as u32), SessionFacts::write);
        Ok(())
    }

    async fn capabilities(
        self: Rc<Self>,
        params: operator::CapabilitiesParams,
        mut results: operator::CapabilitiesResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let filter = CapabilityFilter::read(params.get_filter()?).unwrap();
        let script = self.script()?;
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let mut all = script.capabilities.clone();
        all.push(CapabilityFacts { id: 900, session: self.own, ..CapabilityFacts::default() });
        all.retain(|c| {
            (filter.session == 0 || filter.session == c.session)
                && fits(&filter.interface, &c.interface)
                && fits(&filter.holder, &c.holder)
        });
        let (page, has_more) = script.page(&all, params.get_after_id(), |facts| facts.id);
        results.get().set_has_more(has_more);
        write_list(&page, results.get().init_capabilities(page.len() as u32), CapabilityFacts::write);
        Ok(())
    }

    async fn calls(
        self: Rc<Self>,
        params: operator::CallsParams,
        mut results: operator::CallsResults,
    ) -> Result<(), capnp::Error> {
        let over = params.get()?.get_slower_than_micros();
        let script = self.script()?;
        let mut calls = script.calls.clone();
        calls.retain(|call| !call.is_in_flight || call.micros > over);
        calls.push(CallFacts { session: self.own, is_in_flight: true, ..CallFacts::default() });
        results.get().set_slow_after_micros(script.slow_after_micros);
        write_list(&calls, results.get().init_calls(calls.len() as u32), CallFacts::write);
        Ok(())
    }

    async fn tap(
        self: Rc<Self>,
        params: operator::TapParams,
        mut results: operator::TapResults,
    ) -> Result<(), capnp::Error> {
        let filter = TapFilter::read(params.get()?.get_filter()?).unwrap();
        self.script()?.done.push(format!("tap {filter:?}"));
        results.get().set_tap(capnp_rpc::new_client(FakeTap(self.script.clone(), self.own)));
        Ok(())
    }

    async fn revoke(
        self: Rc<Self>,
        params: operator::RevokeParams,
        mut results: operator::RevokeResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let target = Target::read(params.get_target()?).unwrap();
        let reason = params.get_reason()?.to_str()?;
        let mut script = self.script()?;
        let capabilities = match target {
            Target::Capability(id) => script.capabilities.iter().filter(|c| c.id == id).count(),
            Target::Session(id) => script.capabilities.iter().filter(|c| c.session == id).count(),
        };
        let sessions = match target {
            Target::Capability(_) => 0,
            Target::Session(id) => script.sessions.iter().filter(|s| s.id == id).count(),
        };
        script.done.push(format!("revoke {target:?}: {reason}"));
        RevokeOutcome {
            was_found: capabilities + sessions > 0,
            capabilities: capabilities as u32,
            sessions: sessions as u32,
        }
        .write(results.get().init_outcome());
        Ok(())
    }

    async fn deny(
        self: Rc<Self>,
        params: operator::DenyParams,
        mut results: operator::DenyResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let (identity, reason) = (params.get_identity()?.to_string()?, params.get_reason()?.to_string()?);
        let mut script = self.script()?;
        script.done.push(format!("deny {identity}: {reason}"));
        let denial = Denial { identity, reason, by: "ops".to_owned(), unix_ms: unix_ms() };
        script.denials.push(denial);
        let outcome = RevokeOutcome { was_found: true, capabilities: 2, sessions: 1 };
        outcome.write(results.get().init_outcome());
        Ok(())
    }

    async fn allow(
        self: Rc<Self>,
        params: operator::AllowParams,
        mut results: operator::AllowResults,
    ) -> Result<(), capnp::Error> {
        let identity = params.get()?.get_identity()?.to_string()?;
        let mut script = self.script()?;
        let before = script.denials.len();
        script.denials.retain(|denial| denial.identity != identity);
        results.get().set_was_denied(script.denials.len() < before);
        Ok(())
    }

    async fn denials(
        self: Rc<Self>,
        _: operator::DenialsParams,
        mut results: operator::DenialsResults,
    ) -> Result<(), capnp::Error> {
        let denials = self.script()?.denials.clone();
        write_list(&denials, results.get().init_denials(denials.len() as u32), Denial::write);
        Ok(())
    }

    async fn describe(
        self: Rc<Self>,
        params: operator::DescribeParams,
        mut results: operator::DescribeResults,
    ) -> Result<(), capnp::Error> {
        drop(self.script()?);
        let params = params.get()?;
        let found: Vec<InterfaceFacts> = match params.get_name()?.to_str()? {
            "" => interfaces::INTERFACES.iter().map(InterfaceFacts::from).collect(),
            name => interfaces::by_name(name).map(InterfaceFacts::from).into_iter().collect(),
        };
        write_list(&found, results.get().init_interfaces(found.len() as u32), InterfaceFacts::write);
        Ok(())
    }

    async fn reload(
        self: Rc<Self>,
        _: operator::ReloadParams,
        mut results: operator::ReloadResults,
    ) -> Result<(), capnp::Error> {
        let parts = self.script()?.parts.clone();
        write_list(&parts, results.get().init_parts(parts.len() as u32), ReloadedPart::write);
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: operator::StatusParams,
        mut results: operator::StatusResults,
    ) -> Result<(), capnp::Error> {
        self.script()?.status.write(results.get().init_status());
        Ok(())
    }
}

struct FakeTap(Arc<Mutex<Script>>, u64);

impl tap::Server for FakeTap {
    async fn next(
        self: Rc<Self>,
        params: tap::NextParams,
        mut results: tap::NextResults,
    ) -> Result<(), capnp::Error> {
        let (limit, wait) = (params.get()?.get_limit(), params.get()?.get_wait_ms());
        let mut answer = {
            let mut script = self.0.lock().unwrap();
            script.check()?;
            script.taps.pop_front()
        };
        if answer.is_none() {
            // Time is scaled down: a silent tap would make tests wait.
            async_sleep(Duration::from_millis(wait.min(50).into())).await;
            // A tap sees the calls of whoever taps.
            answer = Some(Tap {
                calls: vec![CallFacts { session: self.1, ..CallFacts::default() }],
                ..Tap::default()
            });
        }
        let Tap { mut calls, missed, cost } = answer.unwrap();
        calls.truncate(limit as usize);
        results.get().set_missed(missed);
        cost.write(results.get().init_cost());
        write_list(&calls, results.get().init_calls(calls.len() as u32), CallFacts::write);
        Ok(())
    }
}

async fn async_sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A directory with certificates and tokens, and the collector.
pub struct Bench {
    pub script: Arc<Mutex<Script>>,
    server: Option<Server>,
    /// To start it again.
    config: ServerConfig,
    credentials: Credentials,
    directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        certificates(&path("ca.pem"), &path("chain.pem"), &path("key.pem"));
        certificates(&path("other-ca.pem"), &path("other-chain.pem"), &path("other-key.pem"));
        let mut table = TokenTable::default();
        for (name, role) in [("ops", Role::Operator), ("web-1", Role::Agent)] {
            let token = format!("{name}-{TOKEN}");
            secret(&path(&format!("{name}.token")), &token);
            table.add(token_digest(&token).unwrap(), Principal::new(name, role)).unwrap();
        }
        let credentials = Credentials::new(table);
        secret(&path("wrong.token"), &format!("wrong-{TOKEN}"));
        let script: Arc<Mutex<Script>> = Arc::default();
        let mut config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            transport: lm_mesh::Transport::Auto,
            keep_alive: lm_mesh::KeepAlive::default(),
            operator_socket: None,
            certificate: path("chain.pem"),
            key: path("key.pem"),
            reset_key: [5; 64],
            workers: 1,
        };
        let server = start(&config, &credentials, &script);
        config.listen = server.local_addr();
        Bench { script, server: Some(server), config, credentials, directory }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn addr(&self) -> String {
        self.config.listen.to_string()
    }

    pub fn stop(&mut self) {
        self.server.take().unwrap().drain();
    }

    /// At the same address as before.
    pub fn start_again(&mut self) {
        self.server = Some(start(&self.config, &self.credentials, &self.script));
    }

    /// `lmctl` as the operator; a later flag of the same name wins nothing,
    /// so tests that give another token use [`Bench::command`].
    pub fn lmctl(&self, args: &[&str]) -> Output {
        run(self.command(args, "ops", "ca.pem"))
    }

    pub fn command(&self, args: &[&str], token: &str, ca: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lmctl"));
        command.args(args).args(self.connection(token, ca));
        command
    }

    pub fn connection(&self, token: &str, ca: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            format!("--collector={}", self.addr()),
            "--server-name=localhost".to_owned(),
            format!("--ca={}", path(ca)),
            format!("--token-file={}", path(&format!("{token}.token"))),
        ]
    }
}

fn start(config: &ServerConfig, credentials: &Credentials, script: &Arc<Mutex<Script>>) -> Server {
    let host = Arc::new(FakeHost(script.clone()));
    Server::start(config.clone(), credentials.clone(), lm_mesh::Registry::default(), host).unwrap()
}

fn certificates(ca_path: &Path, chain: &Path, key_path: &Path) {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(ca_path, ca_certificate.pem()).unwrap();
    std::fs::write(chain, certificate.pem()).unwrap();
    secret(key_path, &key.serialize_pem());
}

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Output {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// A refusal: nothing on standard output, and these texts on the other.
    #[track_caller]
    pub fn refused(&self, code: i32, texts: &[&str]) {
        self.expect(code);
        assert_eq!(self.stdout, "", "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is missing: {}", self.stderr);
        }
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        self.expect(0);
        assert_eq!(self.stdout.lines().count(), 1, "one document on one line: {self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Runs to the end.
pub fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let code = wait(&mut child).code().unwrap_or(-1);
    Output { code, stdout: out.join().unwrap().unwrap(), stderr: err.join().unwrap().unwrap() }
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + RUN_WITHIN;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("lmctl hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lines of a child's standard output as they come.
pub struct Lines(BufReader<std::process::ChildStdout>);

impl Lines {
    pub fn of(child: &mut Child) -> Lines {
        Lines(BufReader::new(child.stdout.take().unwrap()))
    }

    pub fn next(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the output ended");
        line
    }
}

/// A program on a terminal of 80 columns and 24 rows, made by `script` of
/// util-linux. What it prints goes on being collected.
pub struct Terminal {
    child: Child,
    keys: std::process::ChildStdin,
    printed: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a line of shell; `None` where there is no `script`.
    pub fn run(shell: &str) -> Option<Terminal> {
        let line = format!("stty rows 24 cols 80; {shell}");
        let child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("LM_REQUIRE_ALL").is_none(), "script of util-linux: {error}");
                eprintln!("SKIPPED: script of util-linux: {error}");
                return None;
            }
        };
        let mut out = child.stdout.take().unwrap();
        let printed: Arc<Mutex<Vec<u8>>> = Arc::default();
        let to = printed.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Some(Terminal { keys: child.stdin.take().unwrap(), child, printed })
    }

    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned()
    }

    /// Waits until something was printed.
    #[track_caller]
    pub fn until(&self, text: &str) {
        let deadline = Instant::now() + RUN_WITHIN;
        while !self.printed().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} never comes: {:?}", self.printed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    pub fn end(mut self) -> String {
        wait(&mut self.child);
        self.printed()
    }
}

pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// So long ago, and half a minute, so that a slow test does not change an age
/// that is shown in minutes.
pub fn minutes_ago(minutes: i64) -> i64 {
    unix_ms() - minutes * 60_000 - 30_000
}
