//! The operator's capability: see the whole mesh, and cut what must go.

mod facts;
mod tap;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_mesh::{Ended, Grant, Principal, Role, Terms, Verdict};
use lm_schema::interfaces::{self, INTERFACES};
use lm_schema::operator as wire;
use lm_schema::operator_capnp::operator;

use super::CollectorHost;
use super::control::Question;
use crate::access::PartOutcome;
use crate::state::{Denial, StateError};
use crate::unix_now;

/// Entries of one answer: a page stays well below a message's limit.
const PAGE_MAX: usize = 512;
/// Longest reason, in bytes; more is cut off.
const REASON_BYTES_MAX: usize = 512;

pub struct OperatorServer {
    pub host: Arc<CollectorHost>,
    pub grant: Grant,
}

/// How many entries to answer with.
fn page(limit: u32) -> usize {
    if limit == 0 { PAGE_MAX } else { (limit as usize).min(PAGE_MAX) }
}

/// A reason as it goes to logs and to the peer.
fn reason(from: capnp::text::Reader<'_>) -> Result<String, capnp::Error> {
    let text: String = from.to_str()?.chars().filter(|c| !c.is_control()).collect();
    let end = text.floor_char_boundary(REASON_BYTES_MAX);
    Ok(if text.is_empty() { "by an operator".to_owned() } else { text[..end].to_owned() })
}

fn invalid(error: lm_schema::Error) -> capnp::Error {
    capnp::Error::failed(format!("invalid: {error}"))
}

fn outcome(ended: Option<Ended>) -> wire::RevokeOutcome {
    let Ended { capabilities, sessions } = ended.unwrap_or_default();
    wire::RevokeOutcome {
        was_found: ended.is_some(),
        capabilities: capabilities as u32,
        sessions: sessions as u32,
    }
}

impl OperatorServer {
    /// Who did it, for the log.
    fn by(&self) -> &str {
        self.grant.holder()
    }

    async fn ask(&self, agent: &str, question: Question) -> wire::AgentAnswer {
        if let Some(answer) = self.host.controls.ask(agent, question).await {
            return answer;
        }
        let is_agent = |principal: &Principal| principal.role == Role::Agent && principal.name == agent;
        match self.host.registry.sessions().iter().any(|session| is_agent(&session.principal)) {
            true => wire::AgentAnswer::NotAllowed,
            false => wire::AgentAnswer::NotConnected,
        }
    }
}

impl operator::Server for OperatorServer {
    async fn sessions(
        self: Rc<Self>,
        params: operator::SessionsParams,
        mut results: operator::SessionsResults,
    ) -> Result<(), capnp::Error> {
        let (after, limit) = {
            let params = params.get()?;
            (params.get_after_id(), page(params.get_limit()))
        };
        let mut sessions = self.host.registry.sessions();
        sessions.retain(|session| session.id > after);
        let mut to = results.get();
        to.set_has_more(sessions.len() > limit);
        sessions.truncate(limit);
        let list = to.init_sessions(sessions.len() as u32);
        wire::write_list(&sessions, list, |session, to| facts::session(session).write(to));
        Ok(())
    }

    async fn capabilities(
        self: Rc<Self>,
        params: operator::CapabilitiesParams,
        mut results: operator::CapabilitiesResults,
    ) -> Result<(), capnp::Error> {
        let (filter, after, limit) = {
            let params = params.get()?;
            let filter = wire::CapabilityFilter::read(params.get_filter()?).map_err(invalid)?;
            (filter, params.get_after_id(), page(params.get_limit()))
        };
        let (found, has_more) =
            self.host.registry.ledger().capabilities(after, limit, |facts| facts::keeps(&filter, facts));
        let found: Vec<_> = found.into_iter().map(facts::capability).collect();
        let mut to = results.get();
        to.set_has_more(has_more);
        let list = to.init_capabilities(found.len() as u32);
        wire::write_list(&found, list, |capability, to| capability.write(to));
        Ok(())
    }

    async fn calls(
        self: Rc<Self>,
        params: operator::CallsParams,
        mut results: operator::CallsResults,
    ) -> Result<(), capnp::Error> {
        let (over, limit) = {
            let params = params.get()?;
            (Duration::from_micros(params.get_slower_than_micros()), page(params.get_limit()))
        };
        let ledger = self.host.registry.ledger();
        let found: Vec<_> = ledger.calls(over, limit).into_iter().map(facts::call).collect();
        let mut to = results.get();
        to.set_slow_after_micros(ledger.slow_after().as_micros() as u64);
        wire::write_list(&found, to.init_calls(found.len() as u32), |call, to| call.write(to));
        Ok(())
    }

    async fn tap(
        self: Rc<Self>,
        params: operator::TapParams,
        mut results: operator::TapResults,
    ) -> Result<(), capnp::Error> {
        let filter = wire::TapFilter::read(params.get()?.get_filter()?).map_err(invalid)?;
        let scope = if filter.holder.is_empty() { "every call" } else { "calls of one holder" };
        let reader = self
            .host
            .registry
            .ledger()
            .tap(facts::tap_filter(filter, self.grant.session()))
            .map_err(|error| capnp::Error::overloaded(error.to_string()))?;
        tracing::info!(by = self.by(), scope, "tap opened");
        let make = |grant| tap::TapServer(reader.until_revoked(&grant));
        results.get().set_tap(self.grant.derive(Terms::scope(scope), make));
        Ok(())
    }

    async fn revoke(
        self: Rc<Self>,
        params: operator::RevokeParams,
        mut results: operator::RevokeResults,
    ) -> Result<(), capnp::Error> {
        let (target, reason) = {
            let params = params.get()?;
            (wire::Target::read(params.get_target()?).map_err(invalid)?, reason(params.get_reason()?)?)
        };
        let verdict = Verdict { code: "revoked", reason };
        let registry = &self.host.registry;
        let capability = match target {
            wire::Target::Session(id) => registry.session(id).map(|session| session.grant().id()),
            wire::Target::Capability(id) => Some(id),
        };
        let ended = capability.and_then(|id| registry.ledger().revoke(id, &verdict));
        tracing::warn!(by = self.by(), ?target, ?ended, reason = verdict.reason, "revoked");
        outcome(ended).write(results.get().init_outcome());
        Ok(())
    }

    async fn revoke_sessions(
        self: Rc<Self>,
        params: operator::RevokeSessionsParams,
        mut results: operator::RevokeSessionsResults,
    ) -> Result<(), capnp::Error> {
        let (role, identity, all, reason) = {
            let params = params.get()?;
            let role = params.get_role()?.to_string()?;
            let identity = params.get_identity()?.to_string()?;
            (role, identity, params.get_all(), reason(params.get_reason()?)?)
        };
        if role.is_empty() && identity.is_empty() && !all {
            return Err(capnp::Error::failed(
                "invalid: name a role or an identity, or set `all` to end every session".to_owned(),
            ));
        }
        if !role.is_empty() && !Role::ALL.iter().any(|known| known.name() == role) {
            let known = Role::ALL.map(Role::name).join(", ");
            return Err(capnp::Error::failed(format!("invalid: a role is one of {known}")));
        }
        let verdict = Verdict { code: "revoked", reason };
        let of = self.host.registry.sessions().into_iter().filter(|session| {
            session.id != self.grant.session()
                && (role.is_empty() || session.principal.role.name() == role)
                && (identity.is_empty() || session.principal.name == identity)
        });
        let roots: Vec<u64> = of.map(|session| session.grant().id()).collect();
        let ended = self.host.registry.ledger().revoke_all(&roots, &verdict);
        tracing::warn!(by = self.by(), role, identity, ?ended, reason = verdict.reason, "sessions revoked");
        outcome(Some(ended)).write(results.get().init_outcome());
        Ok(())
    }

    async fn agent_status(
        self: Rc<Self>,
        params: operator::AgentStatusParams,
        mut results: operator::AgentStatusResults,
    ) -> Result<(), capnp::Error> {
        let agent = params.get()?.get_identity()?.to_string()?;
        drop(params);
        self.ask(&agent, Question::Status).await.write(results.get().init_answer());
        Ok(())
    }

    async fn flush_agent(
        self: Rc<Self>,
        params: operator::FlushAgentParams,
        mut results: operator::FlushAgentResults,
    ) -> Result<(), capnp::Error> {
        let (agent, wait) = {
            let params = params.get()?;
            (params.get_identity()?.to_string()?, Duration::from_millis(params.get_wait_ms().into()))
        };
        drop(params);
        let answer = self.ask(&agent, Question::Flush { wait }).await;
        tracing::info!(by = self.by(), agent, ?answer, "flush asked for");
        answer.write(results.get().init_answer());
        Ok(())
    }

    async fn deny(
        self: Rc<Self>,
        params: operator::DenyParams,
        mut results: operator::DenyResults,
    ) -> Result<(), capnp::Error> {
        let (identity, reason) = {
            let params = params.get()?;
            (params.get_identity()?.to_string()?, reason(params.get_reason()?)?)
        };
        drop(params);
        if !lm_mesh::is_identity(&identity) {
            return Err(capnp::Error::failed(
                "invalid: an identity has 1 to 128 letters, digits, '.', '_' or '-'".to_owned(),
            ));
        }
        if *identity == **self.grant.holder() {
            return Err(capnp::Error::failed(
                "invalid: that is your own identity; ask another operator".to_owned(),
            ));
        }
        let denial =
            Denial { reason: reason.clone(), by: self.by().to_owned(), unix_ms: unix_now().as_millis() };
        // In a task of its own: a caller that goes away must not leave the
        // denial in force for logins and the sessions running.
        let (host, of) = (self.host.clone(), identity.clone());
        let denied = tokio::task::spawn_local(async move {
            host.denials.deny(of.clone(), denial.clone()).await?;
            let verdict = Verdict { code: "denied", reason: denial.reason };
            let ended = host.registry.ledger().revoke_holder(&of, &verdict);
            // What gateways remember of users is void too.
            host.reload.bump_generation();
            Ok::<_, StateError>(ended)
        });
        let ended = denied.await.unwrap_or(Err(StateError::Gone)).map_err(|error| {
            tracing::error!(%error, "cannot store a denial");
            capnp::Error::failed(format!("internal: the denial is not stored and not in force: {error}"))
        })?;
        tracing::warn!(by = self.by(), identity, ?ended, reason, "denied");
        outcome(Some(ended)).write(results.get().init_outcome());
        Ok(())
    }

    async fn allow(
        self: Rc<Self>,
        params: operator::AllowParams,
        mut results: operator::AllowResults,
    ) -> Result<(), capnp::Error> {
        let identity = params.get()?.get_identity()?.to_string()?;
        drop(params);
        let was_denied = self.host.denials.allow(identity.clone()).await.map_err(|error| {
            tracing::error!(%error, "cannot remove a denial");
            capnp::Error::failed(format!("internal: the denial is still in force: {error}"))
        })?;
        tracing::warn!(by = self.by(), identity, was_denied, "allowed");
        results.get().set_was_denied(was_denied);
        Ok(())
    }

    async fn denials(
        self: Rc<Self>,
        _: operator::DenialsParams,
        mut results: operator::DenialsResults,
    ) -> Result<(), capnp::Error> {
        let all: Vec<_> = self
            .host
            .denials
            .all()
            .into_iter()
            .map(|(identity, Denial { reason, by, unix_ms })| wire::Denial { identity, reason, by, unix_ms })
            .collect();
        wire::write_list(&all, results.get().init_denials(all.len() as u32), |denial, to| denial.write(to));
        Ok(())
    }

    async fn describe(
        self: Rc<Self>,
        params: operator::DescribeParams,
        mut results: operator::DescribeResults,
    ) -> Result<(), capnp::Error> {
        let name = params.get()?.get_name()?.to_str()?;
        let found: Vec<_> = match name {
            "" => INTERFACES.iter().map(facts::interface).collect(),
            name => interfaces::by_name(name).map(facts::interface).into_iter().collect(),
        };
        let list = results.get().init_interfaces(found.len() as u32);
        wire::write_list(&found, list, |interface, to| interface.write(to));
        Ok(())
    }

    async fn reload(
        self: Rc<Self>,
        _: operator::ReloadParams,
        mut results: operator::ReloadResults,
    ) -> Result<(), capnp::Error> {
        let reload = self.host.reload.clone();
        tracing::info!(by = self.by(), "reload");
        // It reads files: off the worker's thread.
        let reloaded = tokio::task::spawn_blocking(move || reload.reload())
            .await
            .map_err(|_| capnp::Error::failed("internal: the reload failed; see the log".to_owned()))?;
        let part = |part: PartOutcome| {
            let (changes, error) = match part.result {
                Ok(changes) => (changes, String::new()),
                Err(errors) => (String::new(), errors.join("\n")),
            };
            wire::ReloadedPart { name: part.name.to_owned(), error, changes }
        };
        let parts: Vec<_> = reloaded.parts.into_iter().map(part).collect();
        wire::write_list(&parts, results.get().init_parts(parts.len() as u32), |part, to| part.write(to));
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: operator::StatusParams,
        mut results: operator::StatusResults,
    ) -> Result<(), capnp::Error> {
        let status = wire::MeshStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: self.host.cluster_id.clone(),
            unix_ms: unix_now().as_millis(),
            uptime_ms: self.host.started.elapsed().as_millis() as u64,
            denials: self.host.denials.all().len() as u32,
            ..facts::status(&self.host.registry)
        };
        status.write(results.get().init_status());
        Ok(())
    }
}
