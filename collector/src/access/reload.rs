//! Reading tokens, certificates and the level of the log again while sessions
//! go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use lm_mesh::{Certificates, Credentials, Principal, Registry, Role, TokenDigest, TokenTable, Verdict};
use lm_model::Timestamp;
use lm_telemetry::Figure;
use lm_telemetry::log::LogReload;
use tokio::sync::watch;

use super::{AgentScopes, load};
use crate::settings::Settings;
use crate::unix_now;

const TOKENS: &str = "tokens";
const CERTIFICATE: &str = "certificate";
const LOG: &str = "log";

/// What became of one part. A part is put in force as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOutcome {
    /// "tokens", "certificate", "log"
    pub name: &'static str,
    /// What is in force, or every mistake that kept the last good state.
    pub result: Result<String, Vec<String>>,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    pub parts: Vec<PartOutcome>,
    /// Who is gone, or has another token or scope now: what they were granted
    /// before is void.
    pub lost: Vec<Principal>,
}

/// Reloads on demand. Calls come one after the other.
pub struct Reload {
    settings: Settings,
    credentials: Credentials,
    agents: AgentScopes,
    registry: Registry,
    certificates: OnceLock<Certificates>,
    log: LogReload,
    /// Grows whenever a user's credential may have lost its worth.
    generation: watch::Sender<u64>,
    /// The table in force; held while a reload is under way.
    table: Mutex<TokenTable>,
    /// Never held while a file is read: the ingest thread reports these.
    parts: Mutex<BTreeMap<&'static str, PartFigures>>,
}

struct PartFigures {
    is_good: bool,
    succeeded_at: Timestamp,
    successes: u64,
    failures: u64,
}

impl Reload {
    /// `table` is what `settings` named at the start.
    pub fn new(settings: Settings, table: TokenTable, registry: Registry, log: LogReload) -> Self {
        let figures = || PartFigures { is_good: true, succeeded_at: unix_now(), successes: 0, failures: 0 };
        let agents = AgentScopes::default();
        agents.replace(&table);
        Reload {
            settings,
            credentials: Credentials::new(table.clone()),
            agents,
            registry,
            certificates: OnceLock::new(),
            log,
            generation: watch::Sender::new(1),
            table: Mutex::new(table),
            parts: Mutex::new([TOKENS, CERTIFICATE, LOG].map(|name| (name, figures())).into()),
        }
    }

    /// The table in force, shared.
    pub fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// The certificate that the mesh shows, once it listens.
    pub fn attach(&self, certificates: Certificates) {
        // Only the first call counts, and there is only one.
        let _ = self.certificates.set(certificates);
    }

    /// Notifies when the generation grows.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Voids every exchange that gateways remember.
    pub fn bump_generation(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// What each agent is limited to.
    pub fn agents(&self) -> AgentScopes {
        self.agents.clone()
    }

    /// Reads all files again. Sessions and capabilities of who is gone or
    /// changed are revoked; gateways forget what they remember of users. Reads
    /// a few small files: blocks for that long.
    pub fn reload(&self) -> Reloaded {
        let mut in_force = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = Vec::new();
        let tokens = match load(&self.settings) {
            Ok(table) => {
                let changes = Changes::between(&in_force, &table);
                self.credentials.replace(table.clone());
                self.agents.replace(&table);
                *in_force = table;
                let text = changes.to_string();
                lost = changes.lost;
                Ok(text)
            }
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
        };
        if !lost.is_empty() {
            self.revoke(&lost);
            self.bump_generation();
        }
        let certificate = match self.certificates.get().map(Certificates::reload) {
            Some(Ok(true)) => Ok("renewed".to_owned()),
            Some(Ok(false)) | None => Ok("unchanged".to_owned()),
            Some(Err(error)) => Err(vec![error.to_string()]),
        };
        let parts = vec![
            PartOutcome { name: TOKENS, result: tokens },
            PartOutcome { name: CERTIFICATE, result: certificate },
            PartOutcome { name: LOG, result: self.log.reload() },
        ];
        for part in &parts {
            self.note(part);
        }
        Reloaded { parts, lost }
    }

    fn revoke(&self, lost: &[Principal]) {
        let reason = "the credential was changed or removed".to_owned();
        let verdict = Verdict { code: "revoked", reason };
        for principal in lost {
            let ended = self.registry.ledger().revoke_holder(&principal.name, &verdict);
            tracing::info!(identity = principal.name, ?ended, "changed or removed: revoked");
        }
    }

    /// Adds the outcome of the last reload of each part, and counts.
    pub fn figures(&self, to: &mut Vec<Figure>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, of) in parts.iter() {
            let mut add = |name, help, value| to.push(Figure::new(name, help, value).with("part", *part));
            let is_good = f64::from(u8::from(of.is_good));
            add("lmcollector_config_last_reload_successful", "Whether the last reload was good.", is_good);
            add(
                "lmcollector_config_last_reload_success_timestamp_seconds",
                "When what is in force was read.",
                of.succeeded_at.as_seconds_f64(),
            );
            for (outcome, count) in [("success", of.successes), ("failure", of.failures)] {
                let figure =
                    Figure::new("lmcollector_config_reloads_total", "Reloads by outcome.", count as f64);
                to.push(figure.with("part", *part).with("outcome", outcome));
            }
        }
    }

    fn note(&self, part: &PartOutcome) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(figures) = parts.get_mut(part.name) else { return };
        match &part.result {
            Ok(changes) => {
                figures.successes += 1;
                figures.succeeded_at = unix_now();
                tracing::info!(part = part.name, "reloaded: {changes}");
            }
            Err(errors) => {
                figures.failures += 1;
                for error in errors {
                    tracing::error!(part = part.name, "not reloaded, the last good state holds: {error}");
                }
            }
        }
        figures.is_good = part.result.is_ok();
    }
}

/// What differs between two tables.
#[derive(Default)]
struct Changes {
    added: usize,
    changed: usize,
    removed: usize,
    lost: Vec<Principal>,
}

impl Changes {
    fn between(old: &TokenTable, new: &TokenTable) -> Changes {
        type Held<'a> = BTreeMap<(Role, &'a str), (&'a TokenDigest, &'a Principal)>;
        let by_name = |table| -> Held<'_> {
            let table: &TokenTable = table;
            table.iter().map(|(digest, held)| ((held.role, &held.name[..]), (digest, held))).collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        let mut changes =
            Changes { added: new.keys().filter(|key| !old.contains_key(*key)).count(), ..Changes::default() };
        for (key, held) in &old {
            match new.get(key) {
                Some(now) if now == held => continue,
                Some(_) => changes.changed += 1,
                None => changes.removed += 1,
            }
            changes.lost.push(held.1.clone());
        }
        changes
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.added, self.changed, self.removed) {
            (0, 0, 0) => f.write_str("unchanged"),
            (added, changed, removed) => write!(f, "{added} added, {changed} changed, {removed} removed"),
        }
    }
}
