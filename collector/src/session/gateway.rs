//! A gateway's session. It has no authority of its own: it can only exchange
//! its users' credentials for those users' capabilities.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_mesh::{AgentReport, Attachment, Grant, Peer, Principal, Role, Terms};
use lm_schema::mesh_capnp::{credential, gateway_session, user_gate};
use lm_schema::operator_capnp::operator;
use lm_schema::query_capnp::reader;

use super::CollectorHost;
use super::operator::OperatorServer;
use crate::query::ReaderServer;
use crate::unix_now;

/// How long a gateway may remember an exchange.
const CACHE_MS: u32 = 5 * 60 * 1000;

pub struct GatewayServer {
    pub host: Arc<CollectorHost>,
    pub peer: Rc<Peer>,
    pub grant: Grant,
}

impl gateway_session::Server for GatewayServer {
    async fn heartbeat(
        self: Rc<Self>,
        params: gateway_session::HeartbeatParams,
        mut results: gateway_session::HeartbeatResults,
    ) -> Result<(), capnp::Error> {
        let now = unix_now().as_millis();
        let report = AgentReport { unix_ms: params.get()?.get_unix_ms(), ..AgentReport::default() };
        self.peer.session.heartbeat(report, now);
        results.get().set_collector_unix_ms(now);
        Ok(())
    }

    async fn query_ticket(
        self: Rc<Self>,
        _: gateway_session::QueryTicketParams,
        mut results: gateway_session::QueryTicketResults,
    ) -> Result<(), capnp::Error> {
        let terms = Terms::scope("exchange of users' credentials");
        let users = self.grant.derive(terms, |grant| UserGateServer { host: self.host.clone(), grant });
        let ticket = self.peer.tickets.issue(Attachment::Users(users))?;
        results.get().set_ticket(&ticket);
        Ok(())
    }
}

struct UserGateServer {
    host: Arc<CollectorHost>,
    grant: Grant,
}

impl UserGateServer {
    /// A reader in the name of a user, for as long as two exchanges last.
    fn reader(&self, user: &Principal) -> reader::Client {
        let terms = Terms {
            holder: Some(Arc::from(&user.name[..])),
            lifetime: Some(2 * Duration::from_millis(CACHE_MS.into())),
            ..Terms::scope("everything")
        };
        self.grant.derive(terms, |grant| ReaderServer { context: self.host.queries.clone(), grant })
    }

    fn operator(&self, user: &Principal) -> operator::Client {
        let terms = Terms {
            holder: Some(Arc::from(&user.name[..])),
            lifetime: Some(2 * Duration::from_millis(CACHE_MS.into())),
            ..Terms::scope("the whole mesh")
        };
        self.grant.derive(terms, |grant| OperatorServer { host: self.host.clone(), grant })
    }
}

impl user_gate::Server for UserGateServer {
    async fn authenticate(
        self: Rc<Self>,
        params: user_gate::AuthenticateParams,
        mut results: user_gate::AuthenticateResults,
    ) -> Result<(), capnp::Error> {
        let found = match params.get()?.get_credential()?.which()? {
            credential::Bearer(token) => self.host.credentials.verify(token?.to_str()?),
            credential::None(()) => None,
        };
        let mut result = results.get().init_result();
        match found {
            Some(principal) if let Err(denied) = self.host.check_denied(&principal.name) => {
                let why = format!("{}: {}", denied.code, denied.message);
                result.set_refused(&why[..]);
            }
            Some(principal) if matches!(principal.role, Role::Reader | Role::Operator) => {
                let mut user = result.init_user();
                user.set_name(&principal.name[..]);
                user.set_cache_ms(CACHE_MS);
                user.set_reader(self.reader(principal));
                if principal.role == Role::Operator {
                    user.set_operator(self.operator(principal));
                }
            }
            Some(principal) => {
                let why = format!("denied: a {} token may not read", principal.role.name());
                result.set_refused(&why[..]);
            }
            None => result.set_refused("denied: the token is not known"),
        }
        Ok(())
    }
}
