//! A gateway in front of a collector that says what a test tells it to.

mod client;
mod collector;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lm_gateway::settings::Settings;
use lm_gateway::{Config, Gateway};
use lm_mesh::{MeshLimits, Registry, Server};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::moving::Relay;

pub use client::{Answer, Stream};
pub use collector::{LONG_CHUNK, Said, Script};

pub const GATEWAY_TOKEN: &str = "gateway-token-gateway-token-gateway-token";
/// An operator, who may read too.
pub const ROOT: &str = "root-token-root-token-root-token-root-tok";
/// Of a user who may write and not read.
pub const WRITER: &str = "writer-token-writer-token-writer-token";
pub const ALICE: &str = "alice-token-alice-token-alice-token-alice";

/// A directory with certificates and tokens, a fake collector, a gateway.
pub struct World {
    pub script: Arc<Script>,
    /// The collector's.
    pub registry: Registry,
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
        World::bounded(extra, MeshLimits::default()).await
    }

    /// As [`with`](World::with); what the gateway may hold at the collector is
    /// bounded by `limits`.
    pub async fn bounded(extra: &str, limits: MeshLimits) -> World {
        World::behind(extra, limits, None).await
    }

    /// As [`bounded`](World::bounded), with a relay between the two.
    pub async fn behind(extra: &str, limits: MeshLimits, relay: Option<&Relay>) -> World {
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

        script.cancelled_max.store(limits.query.cancelled_max, Ordering::Relaxed);
        let registry = Registry::new(limits);
        let collector =
            collector::start(directory.path(), &script, registry.clone(), ([127, 0, 0, 1], 0).into());
        let collector_addr = collector.local_addr();
        if let Some(relay) = relay {
            *relay.collector.lock().unwrap() = Some(collector_addr);
        }
        let endpoint = relay.map_or(collector_addr, |relay| relay.addr);
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[health]\nlisten = \"\"\n[collector]\nendpoints = [\"{endpoint}\"]\n\
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
            registry,
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
        self.collector = Some(collector::start(
            self.directory.path(),
            &self.script,
            self.registry.clone(),
            self.collector_addr,
        ));
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

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
