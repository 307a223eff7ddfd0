//! Decides what a login is worth.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use lm_mesh::{Admission, Capability, Host, Peer, Refusal, Registry, Role, Terms};
use lm_schema::DecodeLimits;

use super::agent::AgentServer;
use super::control::Controls;
use super::gateway::GatewayServer;
use super::operator::OperatorServer;
use super::rates::Limiters;
use crate::access::Reload;
use crate::ingest::IngestHandle;
use crate::query::QueryContext;
use crate::state::Denials;

/// Shared by all sessions.
pub struct CollectorHost {
    pub cluster_id: Vec<u8>,
    /// The token table in force, and how it is read again.
    pub reload: Arc<Reload>,
    pub limiters: Limiters,
    /// Of users who write.
    pub writer_limiters: Limiters,
    pub ingest: IngestHandle,
    pub queries: Arc<QueryContext>,
    pub limits: DecodeLimits,
    pub batch_bytes_max: u32,
    pub calls_in_flight_max: u16,
    pub registry: Registry,
    pub controls: Controls,
    pub denials: Denials,
    pub started: Instant,
}

impl Host for CollectorHost {
    fn admit(self: Arc<Self>, peer: Rc<Peer>) -> LocalBoxFuture<'static, Result<Admission, Refusal>> {
        async move {
            self.check_denied(&peer.session.principal.name)?;
            let mut resume = Vec::new();
            let capability = match peer.session.principal.role {
                Role::Agent => {
                    self.check_cluster(&peer)?;
                    let agent: Arc<str> = Arc::from(&peer.session.principal.name[..]);
                    resume = self
                        .ingest
                        .resume(agent.clone(), peer.incarnations.clone())
                        .await
                        .ok_or_else(overloaded)?;
                    let terms = Terms::scope(format!("agent={agent}"));
                    Capability::Agent(
                        peer.grant()
                            .derive(terms, |grant| AgentServer::new(self.clone(), peer.clone(), grant)),
                    )
                }
                Role::Gateway => {
                    let make = |grant| GatewayServer { host: self.clone(), peer: peer.clone(), grant };
                    Capability::Gateway(
                        peer.grant().derive(Terms::scope("exchange of users' credentials"), make),
                    )
                }
                Role::Operator => {
                    let make = |grant| OperatorServer { host: self.clone(), grant };
                    Capability::Operator(peer.grant().derive(Terms::scope("the whole mesh"), make))
                }
                role @ (Role::Viewer | Role::Writer) => {
                    return Err(Refusal {
                        code: "denied",
                        message: format!(
                            "a {} token opens no session; it is for HTTP requests to the gateway",
                            role.name()
                        ),
                    });
                }
            };
            Ok(Admission {
                cluster_id: self.cluster_id.clone(),
                resume,
                limits: self.limits,
                batch_bytes_max: self.batch_bytes_max,
                calls_in_flight_max: self.calls_in_flight_max,
                capability,
            })
        }
        .boxed_local()
    }
}

impl CollectorHost {
    /// Asked at every login and every exchange of a user's credential.
    pub fn check_denied(&self, identity: &str) -> Result<(), Refusal> {
        match self.denials.of(identity) {
            None => Ok(()),
            Some(denial) => Err(Refusal { code: "denied", message: denial.reason }),
        }
    }

    /// A queue that belongs to another cluster must not be taken by surprise:
    /// what that one has acknowledged is not here.
    fn check_cluster(&self, peer: &Peer) -> Result<(), Refusal> {
        if peer.cluster_id.is_empty() || peer.cluster_id == self.cluster_id {
            return Ok(());
        }
        Err(Refusal {
            code: "cluster",
            message: format!(
                "the queue belongs to cluster {}, this is {}; was the collector's disk emptied? \
                 To go on here: lm-agent queue reassign FILE",
                hex(&peer.cluster_id),
                hex(&self.cluster_id)
            ),
        })
    }
}

fn overloaded() -> Refusal {
    Refusal { code: "overloaded", message: "ingest does not answer; try again".to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
