//! From the sources into the queue.

use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lm_model::{LossReason, Stream, Timestamp, stale_nan};
use lm_schema::batch::{Event, EventKind};

use crate::batcher::{Draft, ENCODED_BYTES_MAX, RAW_BYTES_MAX};
use crate::config::{From, OnFull, Settings};
use crate::counters::Counters;
use crate::outbox::{Error, Outbox, Stored};
use crate::queue_handle::QueueFacts;
use crate::sources::host::HostSource;
use crate::sources::logs::{self, FileCursor, LineSink, LogEvent, LogsOptions, LogsSource, ReadFrom, Room};
use crate::sources::{Measurement, SeriesIndex, SeriesTable};
use crate::telemetry;

/// Series that are remembered; a host has some hundred.
const SERIES_MAX: u32 = 8192;
/// The table is cleared when it holds this many more than a cycle measures.
const SERIES_ENDED_MAX: usize = 2048;
/// Room for lines and what goes with them in one batch, less what a message
/// needs whatever is in it.
const LOG_BATCH_BYTES_MAX: usize = RAW_BYTES_MAX - 1024;
/// What a stream of lines takes in a batch beside its file name and job:
/// pointers and the names of labels.
const LOG_STREAM_BYTES: usize = 128;
/// Events in one batch: each may name a path of 4 KiB.
const EVENTS_PER_BATCH_MAX: usize = 14;
/// Batches of lines between two syncs.
const LOG_BATCHES_PER_TICK: usize = 4;

/// What came of reading the log files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Idle,
    /// There was something, and there is no more.
    Everything,
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
    on_full: OnFull,
    logs: Option<LogsSource>,
    sink: LineSink,
    /// What fits a batch of lines now: less than usual after lines that do
    /// not compress.
    room: Room,
    alerts_max: usize,
    /// The last cycle found no room in the queue.
    is_refused: bool,
    /// What went wrong in the last cycle or discovery, so that lasting trouble is logged once.
    host_trouble: Vec<&'static str>,
    log_trouble: usize,
}

impl Sources {
    pub fn new(settings: &Settings, cursors: Vec<FileCursor>) -> Result<Self, logs::Error> {
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
            host: settings.metrics.host.then(|| HostSource::new(settings.metrics.host_options.clone())),
            table: SeriesTable::new(SERIES_MAX),
            measurements: Vec::new(),
            previous: Vec::new(),
            on_full: settings.queue.on_full,
            logs: follows_logs.then(|| LogsSource::new(logs, cursors)).transpose()?,
            sink: LineSink::default(),
            room: Room {
                bytes: LOG_BATCH_BYTES_MAX,
                lines: settings.logs.logs_per_batch_max as usize,
                streams: settings.limits.series_per_batch_max as usize,
                stream_bytes: LOG_STREAM_BYTES + settings.metrics.job.len(),
            },
            alerts_max: (settings.limits.alerts_per_batch_max as usize).min(EVENTS_PER_BATCH_MAX),
            is_refused: false,
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
        let mut refused_items = 0;
        let mut rest = &self.measurements[..];
        while let Some(draft) = outbox.batcher.draft_samples(time, &mut rest, &self.table)? {
            let items = u64::from(draft.body.item_count);
            if outbox.append(draft, &[])? == Stored::Refused {
                // There is no buffer to leave them in: they were never accepted.
                refused_items = items + rest.len() as u64;
                break;
            }
        }
        counters.refused_items[Stream::Metrics as usize].fetch_add(refused_items, Ordering::Relaxed);
        let is_refused = refused_items > 0;
        match (std::mem::replace(&mut self.is_refused, is_refused), is_refused) {
            (false, true) => {
                tracing::warn!(items = refused_items, "the queue is full; measurements are skipped")
            }
            (true, false) => tracing::warn!("the queue has room again; measurements are kept"),
            (false, false) | (true, true) => {}
        }
        counters.dropped(Stream::Metrics, LossReason::Limit, outbox.batcher.take_left_out());
        if self.table.len() > self.previous.len() + SERIES_ENDED_MAX {
            self.table.clear();
            self.previous.clear();
            outbox.batcher.next_epoch();
        }
        counters.set_cycle(began.elapsed());
        Ok(())
    }

    /// Fills `measurements`: the host, our own series, and an end for every
    /// series that is there no more.
    pub fn measure(&mut self, time: Timestamp, facts: &QueueFacts, counters: &Counters) {
        self.measurements.clear();
        if let Some(host) = &mut self.host {
            let report = host.collect(time, &mut self.table, &mut self.measurements);
            counters.host_stalls.fetch_add(report.stalls, Ordering::Relaxed);
            let failures = report.failures.iter().chain(&report.left_out);
            let trouble: Vec<_> = failures.clone().map(|(name, _)| *name).collect();
            for (name, error) in failures {
                match self.host_trouble.contains(name) {
                    true => {}
                    false if error.is_absence() => {
                        tracing::info!(collector = name, %error, "nothing to measure")
                    }
                    false => tracing::warn!(collector = name, %error, "cannot measure"),
                }
            }
            self.host_trouble = trouble;
        }
        let own = &mut self.measurements;
        telemetry::measure(counters, facts, self.on_full, &mut self.table, own);
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
    pub fn discover(&mut self, now: Instant) {
        let Some(logs) = &mut self.logs else { return };
        let report = logs.discover(now);
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
                Ok(Some(Stored::Accepted)) => {
                    logs.commit();
                    outbox.forget(&self.sink.forgotten);
                }
                Ok(Some(Stored::Refused) | None) | Err(_) => logs.rollback(),
            }
            self.sink.clear();
            match stored? {
                Some(Stored::Refused) => return Ok(Polled::Refused),
                Some(Stored::Accepted) if !has_more => return Ok(Polled::Everything),
                Some(Stored::Accepted) => {}
                None => self.room.bytes = (self.room.bytes / 2).max(1),
            }
        }
        Ok(Polled::MoreToRead)
    }

    /// Fills the sink with at most a batch of lines; whether there may be more.
    fn read_lines(&mut self) -> bool {
        let Some(logs) = &mut self.logs else { return false };
        let outcome = logs.poll(&self.room, unix_nanos(), &mut self.sink);
        for (path, error) in &outcome.errors {
            tracing::warn!(path = %path.display(), %error, "a log file cannot be read");
        }
        outcome.has_more
    }

    /// Stores what is in the sink; `None` if its lines are more than every
    /// collector accepts. What happened to files goes first: a crash between
    /// reports it twice rather than never.
    fn store(&mut self, outbox: &mut Outbox) -> Result<Option<Stored>, Error> {
        let has_lines = !self.sink.lines.is_empty() || !self.sink.cursors.is_empty();
        let mut draft = if has_lines { Some(self.draft_lines(outbox)?) } else { None };
        if let Some(draft) = &draft {
            let encoded_bytes = draft.body.bytes.len();
            if encoded_bytes > ENCODED_BYTES_MAX && self.sink.lines.len() > 1 {
                // They compress worse than expected: fewer of them, then.
                outbox.batcher.discard();
                return Ok(None);
            }
            if encoded_bytes < ENCODED_BYTES_MAX / 4 {
                self.room.bytes = (self.room.bytes * 2).min(LOG_BATCH_BYTES_MAX);
            }
        }
        let events: Vec<_> = self.sink.events.iter().map(event).collect();
        for event in &events {
            tracing::warn!(?event, "input was lost before it was read");
        }
        if self.alerts_max > 0 && !events.is_empty() {
            // There is one draft at a time.
            outbox.batcher.discard();
            for events in events.chunks(self.alerts_max) {
                let draft = outbox.batcher.draft_events(events.to_vec())?;
                if outbox.append(draft, &[])? == Stored::Refused {
                    return Ok(Some(Stored::Refused));
                }
            }
            draft = if has_lines { Some(self.draft_lines(outbox)?) } else { None };
        }
        let Some(draft) = draft else { return Ok(Some(Stored::Accepted)) };
        #[cfg(feature = "mutants")]
        if crate::disk::is_mutant("cursor_apart") {
            outbox.batcher.discard();
            let positions = outbox.batcher.draft_logs(&LineSink::default(), |_| None)?;
            outbox.append(positions, &self.sink.cursors)?;
            outbox.sync()?;
            let lines = self.draft_lines(outbox)?;
            return outbox.append(lines, &[]).map(Some);
        }
        outbox.append(draft, &self.sink.cursors).map(Some)
    }

    fn draft_lines(&self, outbox: &mut Outbox) -> Result<Draft, Error> {
        let labels = |stream| self.logs.as_ref().and_then(|logs| logs.labels(stream));
        Ok(outbox.batcher.draft_logs(&self.sink, labels)?)
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

#[cfg(test)]
mod tests;
