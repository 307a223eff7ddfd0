//! Makes durable batches visible: head, recent lines, live tail.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lm_model::Timestamp;
use lm_schema::batch::{BatchHeader, Body, Columns, EventKind, LogColumns};
use lm_telemetry::{Figure, Histogram};
use lm_tsdb::memory::{Appended, Head, SeriesId};

use super::ahead::{Account, AheadAgents};
use super::dictionaries::{Dictionaries, DictionaryKey, Entry};
use super::handle::ReceiptOutcome;
use super::writers::Written;
use crate::store::Store;
use crate::tail::{Notice, TailEvent};

/// Exact counts of what ingest did.
#[derive(Default)]
pub struct StoreMetrics {
    pub samples: AtomicU64,
    pub log_lines: AtomicU64,
    pub conflicts: AtomicU64,
    pub expired_log_lines: AtomicU64,
    pub spool_failures: AtomicU64,
    pub spool_bytes: AtomicU64,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    fenced: AtomicU64,
    postponed: AtomicU64,
    latency: Histogram,
    /// Samples of writers that were refused before they were stored.
    too_old: AtomicU64,
    series_limit: AtomicU64,
    /// When retention last ran; 0: not yet.
    pub housekept_unix_ms: AtomicI64,
    /// Agents whose data was ahead of our clock, as of the last look.
    ahead: Mutex<Vec<(Arc<str>, Account)>>,
}

impl StoreMetrics {
    /// A batch was answered, `took` after it came.
    pub fn on_answered(&self, outcome: &ReceiptOutcome, took: Duration) {
        self.latency.observe(took);
        let counter = match outcome {
            ReceiptOutcome::Durable => &self.accepted,
            ReceiptOutcome::Duplicate => &self.duplicates,
            ReceiptOutcome::Quarantined => &self.fenced,
            ReceiptOutcome::Rejected(_) | ReceiptOutcome::Revoked => &self.rejected,
            ReceiptOutcome::NeedDictionary(_)
            | ReceiptOutcome::Unsupported(_)
            | ReceiptOutcome::RetryAfter(_)
            | ReceiptOutcome::Gap(_) => &self.postponed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A writer's batch was answered, `took` after it came.
    pub fn on_written(&self, written: &Written, took: Duration) {
        self.latency.observe(took);
        let counter = match written {
            Written::Stored(refused) => {
                self.too_old.fetch_add(refused.too_old, Ordering::Relaxed);
                self.series_limit.fetch_add(refused.series_limit, Ordering::Relaxed);
                &self.accepted
            }
            Written::Rejected(_) | Written::Revoked => &self.rejected,
            Written::NeedDictionary | Written::RetryAfter(_) => &self.postponed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_ahead(&self, agents: &AheadAgents) {
        let known = agents.iter().map(|(agent, account)| (agent.clone(), account.clone())).collect();
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Adds what is stored and what became of it.
    pub fn figures(&self, store: &Store, to: &mut Vec<Figure>) {
        let recent = store.recent().stats();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        to.extend([
            Figure::new("lmcollector_up", "Always 1.", 1.0),
            Figure::new("lmcollector_log_lines", "Log lines in memory.", recent.lines as f64),
            Figure::new("lmcollector_log_bytes", "Memory of log lines.", recent.bytes as f64),
            Figure::new("lmcollector_spool_bytes", "Size of the spool.", count(&self.spool_bytes)),
            Figure::new(
                "lmcollector_retention_run_timestamp_seconds",
                "When retention last ran.",
                self.housekept_unix_ms.load(Ordering::Relaxed) as f64 / 1000.0,
            ),
            Figure::new(
                "lmcollector_spool_failures_total",
                "Groups of batches that could not be written or synced.",
                count(&self.spool_failures),
            ),
            Figure::new("lmcollector_ingest_accepted_samples_total", "Samples stored.", count(&self.samples)),
            Figure::new(
                "lmcollector_ingest_accepted_log_records_total",
                "Log lines stored.",
                count(&self.log_lines),
            ),
            Figure::new(
                "lmcollector_ingest_accepted_batches_total",
                "Batches stored.",
                count(&self.accepted),
            ),
            Figure::new(
                "lmcollector_ingest_duplicate_batches_total",
                "Batches that were stored before.",
                count(&self.duplicates),
            ),
            Figure::histogram(
                "lmcollector_ingest_latency_seconds",
                "From a batch's arrival to its answer, its sync included.",
                self.latency.snapshot(),
            ),
            Figure::new(
                "lmcollector_expired_log_lines_total",
                "Log lines that retention took from memory.",
                count(&self.expired_log_lines),
            ),
        ]);
        for (reason, samples) in
            [("conflict", &self.conflicts), ("too_old", &self.too_old), ("series_limit", &self.series_limit)]
        {
            let help = "Samples refused; conflict: another value at the same time. The others: of writers.";
            let figure = Figure::new("lmcollector_ingest_refused_samples_total", help, count(samples));
            to.push(figure.with("reason", reason));
        }
        for (reason, batches) in
            [("rejected", &self.rejected), ("fenced", &self.fenced), ("later", &self.postponed)]
        {
            let help = "Batches not stored; later: told to be sent again.";
            let figure = Figure::new("lmcollector_ingest_refused_batches_total", help, count(batches));
            to.push(figure.with("reason", reason));
        }
        for (agent, account) in self.ahead.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let samples = Figure::new(
                "lmcollector_future_samples_total",
                "Samples stored with a time over 10 min in the future.",
                account.samples as f64,
            );
            let lines = Figure::new(
                "lmcollector_future_log_lines_total",
                "Log lines stored with a time over 10 min in the future.",
                account.log_lines as f64,
            );
            to.extend([samples, lines].map(|figure| figure.with("agent", &agent[..])));
        }
    }
}

/// Writes into the store.
pub struct Applier {
    pub store: Arc<Store>,
    pub metrics: Arc<StoreMetrics>,
}

impl Applier {
    /// Gives each of the `references` a series; returns those that the series
    /// limit refused.
    pub fn resolve(
        &self,
        dictionaries: &mut Dictionaries,
        key: &DictionaryKey,
        references: &[u32],
    ) -> Vec<u32> {
        let Some(dictionary) = dictionaries.get_mut(key) else { return Vec::new() };
        let mut refused = BTreeSet::new();
        let unresolved = |entry: &Entry| entry.series.is_none();
        if !references.iter().any(|r| dictionary.entries.get(*r as usize).is_some_and(unresolved)) {
            return Vec::new();
        }
        self.store.db.with_head(|head| {
            for reference in references {
                let Some(entry) = dictionary.entries.get_mut(*reference as usize) else { continue };
                if entry.series.is_none() {
                    match head.series(&entry.labels) {
                        Ok(series) => entry.series = Some(series),
                        Err(_) => {
                            refused.insert(*reference);
                        }
                    }
                }
            }
        });
        refused.into_iter().collect()
    }

    /// Items of `body` that have one of the `dropped` references.
    pub fn count(&self, body: &Body, dropped: &[u32]) -> u64 {
        if dropped.is_empty() {
            return 0;
        }
        body.series().iter().filter(|r| dropped.binary_search(r).is_ok()).count() as u64
    }

    /// Shows a batch; `is_live` when it has just arrived, so that the tail
    /// shows it too. Returns the samples that contradict stored ones.
    pub fn apply(
        &self,
        dictionaries: &mut Dictionaries,
        agent: &Arc<str>,
        header: &BatchHeader,
        body: Body,
        dropped: &[u32],
        is_live: bool,
    ) -> u64 {
        let key = DictionaryKey {
            agent: agent.clone(),
            incarnation: header.id.incarnation,
            epoch: header.dictionary_epoch,
        };
        match body {
            Body::Samples(columns) => {
                self.scrapes(dictionaries, &key, columns, dropped, |head, time, scrape| {
                    head.append(time, scrape.drain(..))
                })
            }
            Body::Histograms(columns) => {
                self.scrapes(dictionaries, &key, columns, dropped, |head, time, scrape| {
                    let mut appended = Appended::default();
                    for (series, histogram) in scrape.drain(..) {
                        appended += head.append_histogram(series, time, histogram);
                    }
                    appended
                })
            }
            Body::Logs(columns) => {
                self.logs(dictionaries, &key, &columns, is_live);
                0
            }
            Body::Events(events) => {
                if is_live {
                    self.notices(events.into_iter().map(|event| {
                        let (code, message, items) = match event.kind {
                            EventKind::Notice { code, message } => (code, message, 0),
                            EventKind::SourceLoss { source, items, bytes, code } => (
                                code,
                                format!("{source}: {items} items, {bytes} bytes lost at the source"),
                                items,
                            ),
                        };
                        Notice {
                            time_unix_nano: event.time.as_nanos(),
                            code,
                            agent: agent.to_string(),
                            message,
                            items,
                        }
                    }));
                }
                0
            }
            Body::Loss { .. } => 0,
        }
    }

    /// Gives `append` the values of each scrape with their series. Returns
    /// those that contradict stored ones.
    fn scrapes<T>(
        &self,
        dictionaries: &mut Dictionaries,
        key: &DictionaryKey,
        columns: Columns<T>,
        dropped: &[u32],
        append: impl Fn(&mut Head, Timestamp, &mut Vec<(SeriesId, T)>) -> Appended,
    ) -> u64 {
        let Some(dictionary) = dictionaries.get_mut(key) else { return 0 };
        let mut appended = Appended::default();
        let mut scrape = Vec::new();
        let mut samples = columns.references.into_iter().zip(columns.values);
        self.store.db.with_head(|head| {
            for (time, length) in columns.times.iter().zip(&columns.lengths) {
                for (reference, value) in samples.by_ref().take(*length as usize) {
                    if !dropped.is_empty() && dropped.binary_search(&reference).is_ok() {
                        continue;
                    }
                    let Some(entry) = dictionary.entries.get_mut(reference as usize) else { continue };
                    entry.newest = entry.newest.max(*time);
                    // A series that left for want of samples gets a new id.
                    if entry.series.is_none_or(|series| !head.knows(series)) {
                        entry.series = head.series(&entry.labels).ok();
                    }
                    scrape.extend(entry.series.map(|series| (series, value)));
                }
                appended += append(head, *time, &mut scrape);
            }
        });
        self.metrics.samples.fetch_add(appended.stored as u64, Ordering::Relaxed);
        self.metrics.conflicts.fetch_add(appended.conflicts as u64, Ordering::Relaxed);
        appended.conflicts as u64
    }

    fn logs(
        &self,
        dictionaries: &mut Dictionaries,
        key: &DictionaryKey,
        columns: &LogColumns,
        is_live: bool,
    ) {
        let Some(dictionary) = dictionaries.get_mut(key) else { return };
        let mut recent = self.store.recent_mut();
        for (reference, time, line) in columns.iter() {
            let Some(entry) = dictionary.entries.get(reference as usize) else { continue };
            if let Err(error) = recent.append(&entry.labels, time, line) {
                tracing::warn!(%error, "a durable line cannot be shown");
            }
        }
        drop(recent);
        self.metrics.log_lines.fetch_add(columns.len() as u64, Ordering::Relaxed);
        if is_live {
            self.store.tail.publish(columns.iter().filter_map(|(reference, time_unix_nano, line)| {
                let labels = dictionary.entries.get(reference as usize)?.labels.clone();
                Some(TailEvent::Log { labels, time_unix_nano, line: line.into() })
            }));
        }
    }

    pub fn notices(&self, notices: impl IntoIterator<Item = Notice>) {
        self.store.tail.publish(notices.into_iter().map(TailEvent::Notice));
    }

    /// Retention in memory. Counted: what expires was kept as long as promised.
    pub fn expire(&self, now: Timestamp) {
        self.store.db.expire(now);
        let recent = self.store.recent_mut().expire(now.as_nanos());
        let lines = recent.age.lines + recent.memory.lines;
        self.metrics.expired_log_lines.fetch_add(lines as u64, Ordering::Relaxed);
    }

    /// [`Applier::expire`], when lines are over their bound.
    pub fn expire_if_full(&self, now: Timestamp) {
        if self.store.recent().is_over_memory() {
            self.expire(now);
        }
    }
}
