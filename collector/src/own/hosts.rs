//! Who is up. Plain state: sessions, the token table and both clocks are
//! arguments.
//!
//! A host is an agent that has a token and was seen at least once. It is up
//! while it has a session and was heard of lately: a host that is unplugged
//! keeps its session until QUIC gives it up, but calls nobody any more.
//!
//! ```text
//! seen ──▶ known ──▶ up ◀──▶ down         denied, or its token gone: silent, its series end
//!            └─ after a start of ours nothing is said for GRACE, unless it is heard of
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_model::{Labels, METRIC_NAME, Timestamp};

use crate::ingest::stamp;

/// A host that was not heard of for this long is down: the fourth look in a
/// row, one every 5 s, that finds no new call. Heartbeats come every 10 s, so
/// two of them are missing, and it shows within three.
const SILENT_AFTER: Duration = Duration::from_secs(18);
/// How long after our own start a host may take to come back before it is
/// called down: an agent waits up to 30 s between two tries.
const GRACE: Duration = Duration::from_secs(45);
/// When a host was last seen is saved this often.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// The job of an agent that does not say: its own default.
const JOB: &str = "node";

pub const UP: &str = "up";
pub const LAST_SEEN: &str = "lmcollector_host_last_seen_age_seconds";
pub const CLOCK_SKEW: &str = "lmcollector_host_clock_skew_seconds";

/// What must outlive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    pub job: String,
    pub last_seen: Timestamp,
}

/// What is to be saved: a row, or that there is none any more.
pub type HostChange = (Arc<str>, Option<HostRow>);

/// An agent's session, as of now.
#[derive(Clone, Debug)]
pub struct Seen {
    pub identity: Arc<str>,
    pub session: u64,
    /// Calls that it has made.
    pub calls: u64,
    pub job: String,
    /// The agent's clock minus ours, once it has sent a heartbeat.
    pub clock_skew_ms: Option<i64>,
}

/// What the token table and the denials say of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may send, and its data gets these labels.
    Expected(Labels),
    Denied,
    Unknown,
}

/// All hosts.
pub struct Hosts {
    known: BTreeMap<Arc<str>, Host>,
    began: Instant,
    saved: Instant,
    removed: Vec<Arc<str>>,
}

struct Host {
    row: HostRow,
    standing: Standing,
    /// Session and its calls, as last seen; `None` while there is none.
    session: Option<(u64, u64)>,
    /// In this run of ours.
    heard: Option<Instant>,
    clock_skew_ms: Option<i64>,
    /// As of the last look; `None` while nobody knows: we have just started.
    is_up: Option<bool>,
    /// Of `row.job` and `standing`; empty while nothing is said of it.
    series: Series,
    is_changed: bool,
}

#[derive(Default)]
struct Series {
    up: Labels,
    last_seen: Labels,
    clock_skew: Labels,
}

impl Series {
    fn new(identity: &str, job: &str, given: &Labels) -> Series {
        let of = |name: &str| {
            // A job that the credential gives is stronger, as with all series.
            let mut builder = Labels::from_pairs([(METRIC_NAME, name), ("job", job)]).to_builder();
            for (label, value) in stamp(identity, given).iter() {
                builder.set(label, value);
            }
            builder.build()
        };
        Series { up: of(UP), last_seen: of(LAST_SEEN), clock_skew: of(CLOCK_SKEW) }
    }
}

impl Hosts {
    /// What an earlier run of ours has saved.
    pub fn new(rows: impl IntoIterator<Item = (Arc<str>, HostRow)>, now: Instant) -> Hosts {
        let host = |row| Host {
            row,
            standing: Standing::Unknown,
            session: None,
            heard: None,
            clock_skew_ms: None,
            is_up: None,
            series: Series::default(),
            is_changed: false,
        };
        let known = rows.into_iter().map(|(identity, row)| (identity, host(row))).collect();
        Hosts { known, began: now, saved: now, removed: Vec::new() }
    }

    /// Takes a look at all sessions of agents. A host without a token is
    /// forgotten: if it gets one again, it is new.
    pub fn handle_look(
        &mut self,
        now: Instant,
        wall: Timestamp,
        seen: &[Seen],
        standing: impl Fn(&str) -> Standing,
    ) {
        for seen in seen {
            self.hear(now, wall, seen);
        }
        let present: BTreeSet<&str> = seen.iter().map(|seen| &seen.identity[..]).collect();
        for (_, host) in self.known.iter_mut().filter(|(identity, _)| !present.contains(&identity[..])) {
            host.session = None;
            host.clock_skew_ms = None;
        }
        let (removed, began) = (&mut self.removed, self.began);
        self.known.retain(|identity, host| {
            let found = standing(identity);
            if found == Standing::Unknown {
                removed.push(identity.clone());
                return false;
            }
            if found != host.standing {
                host.standing = found;
                host.series = Series::default();
            }
            host.is_up = host.judge(now, began);
            true
        });
    }

    fn hear(&mut self, now: Instant, wall: Timestamp, seen: &Seen) {
        let job = if seen.job.is_empty() { JOB } else { &seen.job };
        let host = self.known.entry(seen.identity.clone()).or_insert_with(|| Host {
            row: HostRow { job: job.to_owned(), last_seen: wall },
            standing: Standing::Unknown,
            session: None,
            heard: None,
            clock_skew_ms: None,
            is_up: None,
            series: Series::default(),
            is_changed: true,
        });
        // An agent that came back may have an older session still.
        if host.session.is_some_and(|(session, _)| session > seen.session) {
            return;
        }
        if host.row.job != job {
            host.row.job = job.to_owned();
            host.series = Series::default();
            host.is_changed = true;
        }
        if host.session != Some((seen.session, seen.calls)) {
            host.session = Some((seen.session, seen.calls));
            host.heard = Some(now);
            host.row.last_seen = wall;
        }
        host.clock_skew_ms = seen.clock_skew_ms;
    }

    /// Adds the samples of every host of which something can be said.
    pub fn samples(&mut self, now: Instant, wall: Timestamp, to: &mut Vec<(Labels, f64)>) {
        for (identity, host) in &mut self.known {
            let Standing::Expected(given) = &host.standing else { continue };
            let Some(is_up) = host.is_up else { continue };
            if host.series.up.is_empty() {
                host.series = Series::new(identity, &host.row.job, given);
            }
            to.push((host.series.up.clone(), f64::from(u8::from(is_up))));
            let age = match host.heard {
                Some(heard) => now.saturating_duration_since(heard),
                None => wall.saturating_since(host.row.last_seen),
            };
            to.push((host.series.last_seen.clone(), age.as_secs_f64()));
            if let Some(skew) = host.clock_skew_ms.filter(|_| is_up) {
                to.push((host.series.clock_skew.clone(), skew as f64 / 1000.0));
            }
        }
    }

    /// Expected hosts that are up, and that are down.
    pub fn count(&self) -> (usize, usize) {
        let expected = |host: &&Host| matches!(host.standing, Standing::Expected(_));
        let states = self.known.values().filter(expected).filter_map(|host| host.is_up);
        states.fold((0, 0), |(up, down), is_up| if is_up { (up + 1, down) } else { (up, down + 1) })
    }

    /// What is to be saved now: hosts that are new, that have changed or that
    /// are gone at once, when each was last seen now and then, or when `is_last`.
    pub fn poll_changes(&mut self, now: Instant, is_last: bool) -> Vec<HostChange> {
        let mut changes: Vec<HostChange> =
            std::mem::take(&mut self.removed).into_iter().map(|identity| (identity, None)).collect();
        let is_due = is_last || now.saturating_duration_since(self.saved) >= SAVE_INTERVAL;
        if is_due {
            self.saved = now;
        }
        for (identity, host) in &mut self.known {
            if host.is_changed || (is_due && host.heard.is_some()) {
                host.is_changed = false;
                changes.push((identity.clone(), Some(host.row.clone())));
            }
        }
        changes
    }
}

impl Host {
    fn judge(&self, now: Instant, began: Instant) -> Option<bool> {
        match self.heard {
            Some(heard) => {
                Some(self.session.is_some() && now.saturating_duration_since(heard) < SILENT_AFTER)
            }
            None => (now.saturating_duration_since(began) >= GRACE).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests;
