//! From the sources into the queue.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lm_model::{LossReason, Stream, Timestamp, stale_nan};
use lm_schema::batch::{Event, EventKind};

use crate::config::{From, OnFull, Settings};
use crate::counters::Counters;
use crate::outbox::{Error, Outbox, Stored};
use crate::queue_handle::QueueFacts;
use crate::sources::host::{HostOptions, HostSource};
use crate::sources::logs::{self, FileCursor, Line, LineSink, LogEvent, LogsOptions, LogsSource, ReadFrom};
use crate::sources::{Measurement, SeriesIndex, SeriesTable};
use crate::telemetry;

/// Series that are remembered; a host has some hundred.
const SERIES_MAX: u32 = 8192;
/// The table is cleared when it holds this many more than a cycle measures.
const SERIES_ENDED_MAX: usize = 2048;
/// Bytes of log files, and of bookkeeping, in one batch.
pub const LOG_BATCH_BYTES: usize = 256 << 10;
/// Batches of lines between two syncs.
const LOG_BATCHES_PER_TICK: usize = 4;

/// What came of reading the log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Idle,
    MoreToRead,
    /// The queue has no room: the lines stay in their files.
    Refused,
}

/// Everything that an agent reads.
pub struct Sources {
    host: Option<HostSource>,
    table: SeriesTable,
    measurements: Vec<Measurement>,
    /// The series of the last cycle, sorted.
    previous: Vec<SeriesIndex>,
    last_cycle: Duration,
    on_full: OnFull,
    logs: Option<LogsSource>,
    sink: LineSink,
    lines_max: usize,
    alerts_max: usize,
    started: Instant,
    /// What went wrong in the last cycle or discovery, so that lasting trouble is logged once.
    host_trouble: Vec<&'static str>,
    log_trouble: usize,
}

impl Sources {
    pub fn new(settings: &Settings, cursors: Vec<FileCursor>) -> Result<Self, logs::Error> {
        let host = HostOptions {
            procfs: settings.metrics.procfs.clone(),
            rootfs: settings.metrics.rootfs.clone(),
            ..HostOptions::default()
        };
        let logs = LogsOptions {
            globs: settings.logs.files.clone(),
            exclude: settings.logs.exclude.clone(),
            line_bytes_max: settings.logs.log_message_bytes_max as usize,
            from: match settings.logs.from {
                From::Start => ReadFrom::Beginning,
                From::End => ReadFrom::End,
            },
            ..LogsOptions::default()
        };
        let follows_logs = !settings.logs.files.is_empty();
        Ok(Sources {
            host: settings.metrics.host.then(|| HostSource::new(host)),
            table: SeriesTable::new(SERIES_MAX),
            measurements: Vec::new(),
            previous: Vec::new(),
            last_cycle: Duration::ZERO,
            on_full: settings.queue.on_full,
            logs: follows_logs.then(|| LogsSource::new(logs, cursors)).transpose()?,
            sink: LineSink::default(),
            lines_max: settings.logs.logs_per_batch_max as usize,
            alerts_max: settings.limits.alerts_per_batch_max as usize,
            started: Instant::now(),
            host_trouble: Vec::new(),
            log_trouble: 0,
        })
    }

    pub fn follows_logs(&self) -> bool {
        self.logs.is_some()
    }

    /// Measures everything once and queues it.
    pub fn cycle(
        &mut self,
        outbox: &mut Outbox,
        facts: &QueueFacts,
        counters: &Counters,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let time = Timestamp::from_nanos(unix_nanos());
        self.measure(time, facts, counters);
        let mut rest = &self.measurements[..];
        while let Some(draft) = outbox.batcher.draft_samples(time, &mut rest, &self.table)? {
            let items = u64::from(draft.body.item_count);
            if outbox.append(draft, &[])? == Stored::Refused {
                // There is no buffer to leave them in: they were never accepted.
                tracing::debug!(items, "the queue is full; a measurement is skipped");
                break;
            }
        }
        counters.dropped(Stream::Metrics, LossReason::Limit, outbox.batcher.take_left_out());
        if self.table.len() > self.previous.len() + SERIES_ENDED_MAX {
            self.table.clear();
            self.previous.clear();
            outbox.batcher.next_epoch();
        }
        self.last_cycle = began.elapsed();
        Ok(())
    }

    /// Fills `measurements`: the host, our own series, and an end for every
    /// series that is there no more.
    pub fn measure(&mut self, time: Timestamp, facts: &QueueFacts, counters: &Counters) {
        self.measurements.clear();
        if let Some(host) = &mut self.host {
            let started = self.started;
            let report =
                host.collect(time, &mut || started.elapsed(), &mut self.table, &mut self.measurements);
            let trouble: Vec<_> = report.failures.iter().map(|(name, _)| *name).collect();
            for (name, error) in &report.failures {
                if !self.host_trouble.contains(name) {
                    tracing::warn!(collector = name, %error, "cannot measure");
                }
            }
            self.host_trouble = trouble;
        }
        let own = &mut self.measurements;
        telemetry::measure(counters, facts, self.on_full, self.last_cycle, &mut self.table, own);
        let mut current: Vec<_> = self.measurements.iter().map(|measured| measured.series).collect();
        current.sort_unstable();
        let ended = self.previous.iter().filter(|series| current.binary_search(series).is_err());
        self.measurements.extend(ended.map(|series| Measurement { series: *series, value: stale_nan() }));
        self.previous = current;
    }

    pub fn measurements(&self) -> (&[Measurement], &SeriesTable) {
        (&self.measurements, &self.table)
    }

    /// Looks for log files that came, moved or went.
    pub fn discover(&mut self) {
        let Some(logs) = &mut self.logs else { return };
        let report = logs.discover();
        let trouble = report.refused.len() + report.errors.len() + report.waiting;
        if trouble > self.log_trouble {
            for (path, why) in &report.refused {
                tracing::warn!(path = %path.display(), ?why, "a log file is not followed");
            }
            for (path, error) in &report.errors {
                tracing::warn!(path = %path.display(), %error, "a log file cannot be followed");
            }
            if report.waiting > 0 {
                tracing::warn!(files = report.waiting, "too many log files; some wait");
            }
        }
        self.log_trouble = trouble;
    }

    /// Reads log files into the queue, a few batches at most.
    pub fn poll_logs(&mut self, outbox: &mut Outbox) -> Result<Polled, Error> {
        for _ in 0..LOG_BATCHES_PER_TICK {
            let has_more = self.read_lines();
            if self.sink.is_empty() {
                return Ok(Polled::Idle);
            }
            let stored = self.store(outbox);
            let Some(logs) = &mut self.logs else { return Ok(Polled::Idle) };
            match stored {
                Ok(Stored::Accepted) => {
                    logs.commit();
                    outbox.forget(&self.sink.forgotten);
                }
                Ok(Stored::Refused) | Err(_) => logs.rollback(),
            }
            self.sink.clear();
            match stored? {
                Stored::Refused => return Ok(Polled::Refused),
                Stored::Accepted if !has_more => return Ok(Polled::Idle),
                Stored::Accepted => {}
            }
        }
        Ok(Polled::MoreToRead)
    }

    /// Fills the sink with at most a batch of lines; whether there may be more.
    fn read_lines(&mut self) -> bool {
        let Some(logs) = &mut self.logs else { return false };
        let now = unix_nanos();
        loop {
            // A line costs at least its bookkeeping, which bounds their number.
            let lines_left = self.lines_max.saturating_sub(self.sink.lines.len());
            let used = self.sink.bytes.len() + self.sink.lines.len() * size_of::<Line>();
            let budget = LOG_BATCH_BYTES.saturating_sub(used).min(lines_left * size_of::<Line>());
            if budget == 0 {
                return true;
            }
            let outcome = logs.poll(budget, now, &mut self.sink);
            for (path, error) in &outcome.errors {
                tracing::warn!(path = %path.display(), %error, "a log file cannot be read");
            }
            if !outcome.has_more {
                return false;
            }
        }
    }

    /// Stores what is in the sink. What happened to files goes first: a crash
    /// between reports it twice rather than never.
    fn store(&self, outbox: &mut Outbox) -> Result<Stored, Error> {
        let events: Vec<_> = self.sink.events.iter().map(event).collect();
        for event in &events {
            tracing::warn!(?event, "input was lost before it was read");
        }
        if self.alerts_max > 0 {
            for events in events.chunks(self.alerts_max) {
                let draft = outbox.batcher.draft_events(events.to_vec())?;
                if outbox.append(draft, &[])? == Stored::Refused {
                    return Ok(Stored::Refused);
                }
            }
        }
        if self.sink.lines.is_empty() && self.sink.cursors.is_empty() {
            return Ok(Stored::Accepted);
        }
        let labels = |stream| self.logs.as_ref().and_then(|logs| logs.labels(stream));
        #[cfg(feature = "mutants")]
        if crate::disk::is_mutant("cursor_apart") {
            let draft = outbox.batcher.draft_logs(&LineSink::default(), labels)?;
            outbox.append(draft, &self.sink.cursors)?;
            outbox.sync()?;
            let draft = outbox.batcher.draft_logs(&self.sink, labels)?;
            return outbox.append(draft, &[]);
        }
        let draft = outbox.batcher.draft_logs(&self.sink, labels)?;
        outbox.append(draft, &self.sink.cursors)
    }
}

fn event(from: &LogEvent) -> Event {
    let code = match from {
        LogEvent::Truncated { .. } => "file_truncated",
        LogEvent::Unterminated { .. } => "line_unterminated",
        LogEvent::Vanished { .. } => "file_vanished",
    };
    let kind = EventKind::SourceLoss {
        source: from.path().to_string_lossy().into_owned(),
        items: 0,
        bytes: from.bytes_lost(),
        code: code.to_owned(),
    };
    Event { time: Timestamp::from_nanos(unix_nanos()), kind }
}

/// Nanoseconds since the epoch; a clock before it reads as the epoch.
fn unix_nanos() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}
