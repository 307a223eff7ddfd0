//! A gateway's session. It has no authority of its own: it can only exchange
//! its users' credentials for those users' capabilities.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_mesh::{AgentReport, Attachment, Grant, Peer, Principal, Role, Terms};
use lm_schema::mesh_capnp::{credential, gateway_session, user_gate, writer};
use lm_schema::operator_capnp::operator;
use lm_schema::query_capnp::reader;

use super::CollectorHost;
use super::operator::OperatorServer;
use super::writer::WriterServer;
use crate::query::{ReadScope, ReaderServer};
use crate::unix_now;

/// How long a gateway may remember an exchange.
const CACHE: Duration = Duration::from_secs(5 * 60);
/// Longest wait of one call.
const REVOCATIONS_WAIT_MAX: Duration = Duration::from_secs(20);

pub struct GatewayServer {
    pub host: Arc<CollectorHost>,
    pub peer: Rc<Peer>,
    pub grant: Grant,
}

impl gateway_session::Server for GatewayServer {
    async fn revocations(
        self: Rc<Self>,
        params: gateway_session::RevocationsParams,
        mut results: gateway_session::RevocationsResults,
    ) -> Result<(), capnp::Error> {
        let (after, wait) = {
            let params = params.get()?;
            let wait = Duration::from_millis(params.get_wait_ms().into()).min(REVOCATIONS_WAIT_MAX);
            (params.get_after_generation(), wait)
        };
        drop(params);
        let mut generations = self.host.reload.generations();
        // On time-out the generation is what it was, and is the answer.
        let _ = tokio::time::timeout(wait, generations.wait_for(|generation| *generation > after)).await;
        results.get().set_generation(*generations.borrow());
        Ok(())
    }

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
        let users = self.grant.derive(terms, |grant| self.users(grant, Use::Ask));
        let ticket = self.peer.tickets.issue(Attachment::Users(users))?;
        let max = self.host.registry.limits().query.cancelled_max;
        results.get().set_ticket(&ticket);
        results.get().set_cancelled_calls_max(u32::try_from(max).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn write_ticket(
        self: Rc<Self>,
        _: gateway_session::WriteTicketParams,
        mut results: gateway_session::WriteTicketResults,
    ) -> Result<(), capnp::Error> {
        let terms = Terms::scope("exchange of writers' credentials");
        let users = self.grant.derive(terms, |grant| self.users(grant, Use::Write));
        results.get().set_ticket(&self.peer.tickets.issue(Attachment::Writers(users))?);
        Ok(())
    }
}

impl GatewayServer {
    fn users(&self, grant: Grant, of: Use) -> UserGateServer {
        UserGateServer { host: self.host.clone(), peer: self.peer.clone(), grant, of }
    }
}

/// What a stream of a gateway is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Ask,
    Write,
}

struct UserGateServer {
    host: Arc<CollectorHost>,
    peer: Rc<Peer>,
    grant: Grant,
    of: Use,
}

/// The same words for a token that is unknown, expired, or not a user's.
const UNKNOWN: &str =
    "denied: no user has this token, or it has expired; check it, or ask an operator for one";

impl UserGateServer {
    /// Terms in the name of a user, for as long as two exchanges last, and
    /// never longer than the credential.
    fn terms(user: &Principal, scope: &str) -> Terms {
        let lifetime = remaining(user).min(2 * CACHE);
        Terms { holder: Some(Arc::from(&user.name[..])), lifetime: Some(lifetime), ..Terms::scope(scope) }
    }

    fn reader(&self, user: &Principal) -> Result<reader::Client, capnp::Error> {
        let context = self.host.queries.clone();
        let scope = ReadScope::new(&user.scope, context.agents.clone())
            .map_err(|error| capnp::Error::failed(format!("internal: scope: {error}")))?;
        let terms = Self::terms(user, &scope.to_string());
        Ok(self.grant.derive(terms, |grant| ReaderServer { context, scope, grant }))
    }

    /// The user that a credential belongs to.
    fn who(&self, credential: credential::Reader<'_>) -> Result<Option<Principal>, capnp::Error> {
        let found = match credential.which()? {
            credential::Bearer(token) => self.host.reload.credentials().verify(token?.to_str()?),
            credential::None(()) => None,
        };
        let is_user = |held: &Principal| matches!(held.role, Role::Viewer | Role::Writer | Role::Operator);
        Ok(found.filter(is_user))
    }

    fn operator(&self, user: &Principal) -> operator::Client {
        let make = |grant| OperatorServer { host: self.host.clone(), grant };
        self.grant.derive(Self::terms(user, "the whole mesh"), make)
    }

    fn writer(&self, user: &Principal) -> writer::Client {
        let labels = &user.scope.labels;
        let scope = if labels.is_empty() { "any series".to_owned() } else { format!("series with {labels}") };
        // A write checks the grant itself, right before its append.
        let terms = Terms { finishes_calls: true, ..Self::terms(user, &scope) };
        self.grant.derive(terms, |grant| WriterServer::new(self.host.clone(), self.peer.clone(), grant, user))
    }
}

impl user_gate::Server for UserGateServer {
    async fn authenticate(
        self: Rc<Self>,
        params: user_gate::AuthenticateParams,
        mut results: user_gate::AuthenticateResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let mut result = results.get().init_result();
        let Some(principal) = self.who(params.get_credential()?)? else {
            result.set_refused(UNKNOWN);
            return Ok(());
        };
        // Write tokens cannot read, and read tokens cannot write.
        let may_read = self.of == Use::Ask && matches!(principal.role, Role::Viewer | Role::Operator);
        let reader = may_read.then(|| self.reader(&principal)).transpose()?;
        let may_operate = self.of == Use::Ask && principal.role == Role::Operator;
        let operator = may_operate.then(|| self.operator(&principal));
        let may_write = self.of == Use::Write && principal.role == Role::Writer;
        let writer = may_write.then(|| self.writer(&principal));
        // Asked once they are in the ledger: what is denied or taken away from
        // now on finds them there.
        if let Err(denied) = self.host.check_denied(&principal.name) {
            result.set_refused(&format!("{}: {}", denied.code, denied.message)[..]);
            return Ok(());
        }
        if self.who(params.get_credential()?)?.as_ref() != Some(&principal) {
            result.set_refused(UNKNOWN);
            return Ok(());
        }
        let mut user = result.init_user();
        user.set_name(&principal.name[..]);
        user.set_cache_ms(remaining(&principal).min(CACHE).as_millis() as u32);
        if let Some(reader) = reader {
            user.set_reader(reader);
        }
        if let Some(operator) = operator {
            user.set_operator(operator);
        }
        if let Some(writer) = writer {
            user.set_writer(writer);
        }
        Ok(())
    }
}

/// Until the credential ends.
fn remaining(user: &Principal) -> Duration {
    let now = unix_now().as_millis();
    let left = user.scope.expires_unix_ms.map_or(i64::MAX, |at| at.saturating_sub(now));
    Duration::from_millis(left.max(0) as u64)
}
