//! The shell around [`Hosts`]: looks at the mesh, and saves what must last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lm_mesh::{Registry, Role, Session};
use lm_model::Labels;
use lm_telemetry::Figure;

use super::hosts::{HostChange, HostRow, Hosts, Seen, Standing};
use crate::access::AgentScopes;
use crate::state::{Denials, State, StateError};
use crate::unix_now;

/// All hosts, and where to look for them.
pub struct HostWatch {
    hosts: Mutex<Hosts>,
    /// What could not be saved yet; the latest of each host is enough.
    unsaved: Mutex<Vec<HostChange>>,
    registry: Registry,
    agents: AgentScopes,
    denials: Denials,
    state: State,
}

impl HostWatch {
    /// Begins with what an earlier run has saved.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn new(
        registry: Registry,
        agents: AgentScopes,
        denials: Denials,
        state: State,
    ) -> Result<Arc<HostWatch>, StateError> {
        let rows = state.hosts()?;
        let rows = rows.into_iter().map(|(identity, job, last_seen)| (identity, HostRow { job, last_seen }));
        let hosts = Mutex::new(Hosts::new(rows, Instant::now()));
        Ok(Arc::new(HostWatch { hosts, unsaved: Mutex::default(), registry, agents, denials, state }))
    }

    /// Takes notice of who is there now.
    pub fn look(&self) {
        let seen: Vec<_> = self
            .registry
            .sessions()
            .iter()
            .filter(|session| session.principal.role == Role::Agent)
            .map(|session| seen(session))
            .collect();
        let standing = |identity: &str| match self.agents.scope(identity) {
            None => Standing::Unknown,
            Some(_) if self.denials.of(identity).is_some() => Standing::Denied,
            Some(scope) => Standing::Expected(scope.labels.clone()),
        };
        self.locked().handle_look(Instant::now(), unix_now(), &seen, standing);
    }

    /// Adds the samples of all hosts.
    pub fn samples(&self, to: &mut Vec<(Labels, f64)>) {
        self.locked().samples(Instant::now(), unix_now(), to);
    }

    /// Adds how many there are.
    pub fn figures(&self, to: &mut Vec<Figure>) {
        let (up, down) = self.locked().count();
        for (state, count) in [("up", up), ("down", down)] {
            let figure =
                Figure::new("lmcollector_hosts", "Hosts that were seen at least once.", count as f64);
            to.push(figure.with("state", state));
        }
    }

    /// Saves what has changed. A failure is logged, and tried again next time.
    pub async fn save(self: &Arc<Self>) {
        let watch = self.clone();
        if tokio::task::spawn_blocking(move || watch.save_now(false)).await.is_err() {
            tracing::error!("saving which hosts are known failed");
        }
    }

    /// Saves everything, at the end.
    pub fn save_last(&self) {
        self.save_now(true);
    }

    fn save_now(&self, is_last: bool) {
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        let failed: std::collections::BTreeMap<_, _> = unsaved.drain(..).collect();
        let mut changes = failed;
        changes.extend(self.locked().poll_changes(Instant::now(), is_last));
        let changes: Vec<_> = changes.into_iter().collect();
        if changes.is_empty() {
            return;
        }
        let rows = changes
            .iter()
            .map(|(identity, row)| (&identity[..], row.as_ref().map(|row| (&row.job[..], row.last_seen))));
        if let Err(error) = self.state.save_hosts(rows) {
            tracing::error!(%error, "cannot save which hosts are known; a restart may forget them");
            *unsaved = changes;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Hosts> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seen(session: &Session) -> Seen {
    let has_beaten = session.last_heartbeat_unix_ms() != 0;
    Seen {
        identity: Arc::from(&session.principal.name[..]),
        session: session.id,
        calls: session.activity().calls(),
        job: session.peer.job.clone(),
        clock_skew_ms: has_beaten.then(|| session.clock_skew_ms()),
    }
}
