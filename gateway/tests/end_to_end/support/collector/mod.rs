//! A collector that says what a test tells it to.

mod operator;
mod reader;
mod rows;
mod script;
mod tail;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use lm_mesh::{
    Admission, Attachment, Capability, Credentials, Host, Peer, Principal, Refusal, Registry, Role, Server,
    ServerConfig, Terms, TokenTable, token_digest,
};
use lm_schema::DecodeLimits;
use lm_schema::mesh_capnp::{credential, gateway_session, user_gate};

use operator::FakeOperator;
use reader::FakeReader;
pub use rows::LONG_CHUNK;
pub use script::{Chunk, Said, Script};

use super::{ALICE, ROOT, WRITER};

pub fn start(directory: &Path, script: &Arc<Script>, registry: Registry, addr: SocketAddr) -> Server {
    let token = lm_mesh::read_secret(&directory.join("gateway.token")).unwrap();
    let mut table = TokenTable::default();
    table.add(token_digest(&token).unwrap(), Principal::new("gateway", Role::Gateway)).unwrap();
    let credentials = Credentials::new(table);
    let config = ServerConfig {
        listen: addr,
        transport: lm_mesh::Transport::Auto,
        keep_alive: lm_mesh::KeepAlive::default(),
        operator_socket: None,
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
        reset_key: [3; 64],
        workers: 1,
    };
    Server::start(config, credentials, registry, Arc::new(FakeHost(script.clone()))).unwrap()
}

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
        let gate = self.peer.grant().derive(Terms::default(), |_| FakeGate(self.script.clone()));
        let ticket = self.peer.tickets.issue(Attachment::Users(gate))?;
        results.get().set_ticket(&ticket);
        results.get().set_cancelled_calls_max(self.script.cancelled_max.load(Ordering::Relaxed) as u32);
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
