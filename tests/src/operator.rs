//! An operator of our own making: what `lmctl` asks, as plain data.

use std::time::Duration;

use lm_mesh::{Connected, Granted};
use lm_schema::operator::{
    AgentAnswer, CapabilityFacts, CapabilityFilter, Denial, MeshStatus, RevokeOutcome, SessionFacts, Target,
    read_list,
};
use lm_schema::operator_capnp::operator;

use crate::System;
use crate::mesh::{MeshConfig, block_on, code_of, in_time};

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session with an operator's token.
pub struct OperatorSession {
    pub connected: Connected,
    pub operator: operator::Client,
}

/// Sends a request and reads its answer; an error is the collector's words.
macro_rules! ask {
    ($request:expr, $response:ident => $read:expr) => {
        in_time(PATIENCE, async {
            let response = $request.send().promise.await?;
            let $response = response.get()?;
            Ok($read)
        })
        .await
        .map_err(|error| code_of(&error))
    };
}

type Answer<T> = Result<T, String>;

fn malformed(error: lm_schema::Error) -> capnp::Error {
    capnp::Error::failed(error.to_string())
}

impl OperatorSession {
    /// Logs in.
    ///
    /// # Errors
    ///
    /// When that is refused or nobody answers.
    pub async fn open(config: &MeshConfig) -> Answer<OperatorSession> {
        let connected = config.dial(&[]).await.map_err(|error| error.to_string())?;
        let Granted::Operator(operator) = connected.granted.clone() else {
            return Err("the token is not an operator's".to_owned());
        };
        Ok(OperatorSession { connected, operator })
    }

    /// One page of sessions.
    pub async fn sessions(&self) -> Answer<Vec<SessionFacts>> {
        let request = self.operator.sessions_request();
        ask!(request, got => read_list(got.get_sessions()?, SessionFacts::read).map_err(malformed)?)
    }

    /// One page of capabilities.
    pub async fn capabilities(&self, filter: &CapabilityFilter) -> Answer<Vec<CapabilityFacts>> {
        let mut request = self.operator.capabilities_request();
        filter.write(request.get().init_filter());
        ask!(request, got => read_list(got.get_capabilities()?, CapabilityFacts::read).map_err(malformed)?)
    }

    pub async fn revoke(&self, target: Target, reason: &str) -> Answer<RevokeOutcome> {
        let mut request = self.operator.revoke_request();
        target.write(request.get().init_target());
        request.get().set_reason(reason);
        ask!(request, got => RevokeOutcome::read(got.get_outcome()?).map_err(malformed)?)
    }

    /// Every session of a role and of an identity; empty: any. Says no `all`.
    pub async fn revoke_sessions(&self, role: &str, identity: &str, reason: &str) -> Answer<RevokeOutcome> {
        self.revoke_sessions_of(role, identity, false, reason).await
    }

    pub async fn revoke_all_sessions(&self, reason: &str) -> Answer<RevokeOutcome> {
        self.revoke_sessions_of("", "", true, reason).await
    }

    async fn revoke_sessions_of(
        &self,
        role: &str,
        identity: &str,
        all: bool,
        reason: &str,
    ) -> Answer<RevokeOutcome> {
        let mut request = self.operator.revoke_sessions_request();
        let mut params = request.get();
        params.set_role(role);
        params.set_identity(identity);
        params.set_all(all);
        params.set_reason(reason);
        ask!(request, got => RevokeOutcome::read(got.get_outcome()?).map_err(malformed)?)
    }

    pub async fn agent_status(&self, agent: &str) -> Answer<AgentAnswer> {
        let mut request = self.operator.agent_status_request();
        request.get().set_identity(agent);
        ask!(request, got => AgentAnswer::read(got.get_answer()?).map_err(malformed)?)
    }

    pub async fn deny(&self, identity: &str, reason: &str) -> Answer<RevokeOutcome> {
        let mut request = self.operator.deny_request();
        request.get().set_identity(identity);
        request.get().set_reason(reason);
        ask!(request, got => RevokeOutcome::read(got.get_outcome()?).map_err(malformed)?)
    }

    /// Whether it was denied.
    pub async fn allow(&self, identity: &str) -> Answer<bool> {
        let mut request = self.operator.allow_request();
        request.get().set_identity(identity);
        ask!(request, got => got.get_was_denied())
    }

    pub async fn denials(&self) -> Answer<Vec<Denial>> {
        let request = self.operator.denials_request();
        ask!(request, got => read_list(got.get_denials()?, Denial::read).map_err(malformed)?)
    }

    pub async fn status(&self) -> Answer<MeshStatus> {
        let request = self.operator.status_request();
        ask!(request, got => MeshStatus::read(got.get_status()?).map_err(malformed)?)
    }
}

/// Asks one thing in a session of its own.
///
/// # Panics
///
/// When there is no session, or the answer is an error.
#[track_caller]
pub fn as_operator<T>(system: &System, ask: impl AsyncFnOnce(&OperatorSession) -> Answer<T>) -> T {
    let config = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(system, "") };
    let answer = block_on(async {
        let session = OperatorSession::open(&config).await?;
        let answer = ask(&session).await;
        session.connected.close().await;
        answer
    });
    answer.unwrap_or_else(|error| panic!("the operator is told: {error}"))
}
