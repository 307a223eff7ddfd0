//! What is watched, as far as the data says: every series of `up` with a
//! recent sample is a target. A host whose agent is too young or too old for
//! `up` is known by its `lmagent_up`.

use std::collections::{BTreeMap, BTreeSet};

use lm_model::{Labels, METRIC_NAME, MatchOp, Matcher, Sample, Samples, TimeRange, Timestamp, is_stale};
use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::target;
use lm_tsdb::db::DbError;

use super::failed::{Failed, bad_data};
use super::scope::ReadScope;
use crate::scraped::ScrapedTarget;
use crate::store::Store;

/// How old the last sample of a target may be, as for any instant query.
const RECENT_MILLIS: i64 = 300_000;
/// Targets of one answer: it is one message.
const TARGETS_MAX: usize = 5_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Without the metric's name.
    pub labels: Labels,
    pub health: target::Health,
    pub last: Timestamp,
    /// An agent runs there.
    pub is_host: bool,
    /// Between the last two samples; 0: there is one.
    pub interval_millis: u64,
    /// 0: not known.
    pub duration_micros: u64,
}

/// The targets in scope at `now`, in the order of their labels.
pub(super) fn find(store: &Store, scope: &ReadScope, now: Timestamp) -> Result<Vec<Target>, Failed> {
    let mut targets = BTreeMap::new();
    let agents = latest(store, scope, now, "lmagent_up")?;
    let answering = latest(store, scope, now, "up")?;
    let durations = latest(store, scope, now, "scrape_duration_seconds")?;
    let key = |labels: &Labels| {
        let text = |name| labels.get(name).unwrap_or("").to_owned();
        (text("job"), text("instance"))
    };
    let hosts: BTreeSet<_> = agents.keys().map(key).collect();
    let of = |(labels, samples): (&Labels, &Vec<Sample>)| {
        let (last, before) = (samples.last()?, samples.iter().rev().nth(1));
        let between = before.map_or(0, |before| last.time.as_millis() - before.time.as_millis());
        let seconds = durations.get(labels).and_then(|samples| samples.last()).map_or(0.0, |last| last.value);
        Some(Target {
            labels: labels.clone(),
            health: match last.value {
                1.0 => target::Health::Up,
                0.0 => target::Health::Down,
                _ => target::Health::Unknown,
            },
            is_host: hosts.contains(&key(labels)),
            last: last.time,
            interval_millis: between.unsigned_abs(),
            duration_micros: (seconds * 1e6) as u64,
        })
    };
    // Those of `up` last: they replace.
    for target in agents.iter().filter_map(of).chain(answering.iter().filter_map(of)) {
        targets.insert(key(&target.labels), target);
    }
    Ok(targets.into_values().collect())
}

/// Recent samples of the series of one name that have not ended.
fn latest(
    store: &Store,
    scope: &ReadScope,
    now: Timestamp,
    name: &str,
) -> Result<BTreeMap<Labels, Vec<Sample>>, Failed> {
    let matchers = scope.narrow(&[Matcher::new(METRIC_NAME, MatchOp::Eq, name)]);
    let millis = now.as_millis();
    let range = TimeRange {
        start: Timestamp::from_millis(millis - RECENT_MILLIS + 1),
        end: Timestamp::from_millis(millis + 1),
    };
    let bad = |error: DbError| bad_data(error.to_string());
    let found = store.db.select(&matchers, range, TARGETS_MAX).map_err(bad)?;
    let unnamed = |labels: &Labels| {
        let mut builder = labels.to_builder();
        builder.remove(METRIC_NAME);
        builder.build()
    };
    let mut recent = BTreeMap::new();
    let mut columns = Samples::default();
    for index in 0..found.len() {
        found.read(index, &mut columns).map_err(bad)?;
        if columns.values.last().is_some_and(|last| !is_stale(*last)) {
            let samples = columns.times.iter().zip(&columns.values);
            let samples = samples
                .map(|(time, value)| Sample { time: Timestamp::from_millis(*time), value: *value })
                .collect();
            recent.insert(unnamed(found.labels(index)), samples);
        }
    }
    Ok(recent)
}

impl Target {
    /// With what its agent `said` of it.
    pub fn write(&self, said: &ScrapedTarget, mut to: target::Builder<'_>) {
        to.set_scrape_url(&said.url[..]);
        to.set_last_error(&said.error[..]);
        to.set_scrape_interval_ms(said.interval_ms);
        to.set_scrape_timeout_ms(said.timeout_ms);
        to.set_health(self.health);
        to.set_is_host(self.is_host);
        to.set_last_sample_unix_ms(self.last.as_millis());
        to.set_interval_ms(self.interval_millis);
        to.set_duration_micros(self.duration_micros);
        write_pairs(&self.labels, to.init_labels(self.labels.len() as u32));
    }
}

#[cfg(test)]
mod tests;
