//! A process's log: one event a line, as text, JSON or ECS JSON.
//!
//! [`start`] begins it; [`LogControl`] changes what is let through while the
//! process runs. Nobody opens spans here, so there is no registry of them: an
//! event is written by the thread that it happens on, in one write.

mod filter;
mod format;
mod record;
mod reload;
mod repeat;
mod time;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

pub use filter::LogFilter;
pub use format::Format;
use format::Writer;
use record::Record;
pub use reload::{LogReload, ReloadNames};
use repeat::{Repeats, Verdict};

/// The target of request events: their fields have names of their own in ECS,
/// and none of them is left out as a repetition.
pub const REQUEST: &str = "request";

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Of a foreground process: the supervisor keeps it.
    Stdout,
    /// Of a command whose standard output is its result.
    Stderr,
}

/// How a log is written.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The process's name.
    pub service: &'static str,
    pub version: &'static str,
    pub filter: LogFilter,
    pub format: Format,
    pub output: Output,
}

/// Changes a log that runs. Clones are one; the default one belongs to none.
#[derive(Clone, Default)]
pub struct LogControl {
    filter: Arc<RwLock<LogFilter>>,
}

impl LogControl {
    /// Lets through what `filter` says, from now on. Whether that is new.
    pub fn set_filter(&self, filter: LogFilter) -> bool {
        let mut current = self.filter.write().unwrap_or_else(PoisonError::into_inner);
        if *current == filter {
            return false;
        }
        *current = filter;
        drop(current);
        tracing::callsite::rebuild_interest_cache();
        true
    }
}

/// Starts logging for the whole process, panics included. Only the first call
/// has an effect.
pub fn start(options: LogOptions) -> LogControl {
    let LogOptions { service, version, filter, format, output } = options;
    let filter = Arc::new(RwLock::new(filter));
    let log = Log {
        filter: filter.clone(),
        writer: Writer { service, version, format, is_journal: is_journal(output) },
        output,
        repeats: Mutex::default(),
    };
    if tracing::subscriber::set_global_default(log).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let stack = std::backtrace::Backtrace::capture();
            let stack = match stack.status() {
                std::backtrace::BacktraceStatus::Captured => stack.to_string(),
                _ => "set RUST_BACKTRACE=1 to see it".to_owned(),
            };
            let message = panic.payload_as_str().unwrap_or("a panic without words");
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("without a name");
            tracing::error!(error_type = "panic", error = message, place, thread, stack, "panicked");
        }));
    }
    LogControl { filter }
}

/// Whether systemd's journal reads what we write: it knows the time itself.
fn is_journal(output: Output) -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let file = match output {
        Output::Stdout => "/proc/self/fd/1",
        Output::Stderr => "/proc/self/fd/2",
    };
    // "device:inode", as sd_journal_stream_fd(3) says; a child may have inherited it.
    std::fs::metadata(file).is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

struct Log {
    filter: Arc<RwLock<LogFilter>>,
    writer: Writer,
    output: Output,
    repeats: Mutex<Repeats>,
}

impl Log {
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).lets_through(metadata)
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, now: SystemTime, record: &Record) {
        let line = self.writer.line(now, record);
        // Nobody could be told that the log cannot be written.
        let _ = match self.output {
            Output::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
            Output::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && self.lets_through(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.lets_through(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.read().unwrap_or_else(PoisonError::into_inner).highest())
    }

    fn event(&self, event: &Event<'_>) {
        let record = Record::of(event);
        let (now, wall) = (Instant::now(), SystemTime::now());
        if record.target == REQUEST {
            return self.write(wall, &record);
        }
        let (verdict, summaries) = self.repeats().handle_record(now, event.metadata().callsite(), &record);
        for summary in summaries {
            self.write(wall, &summary);
        }
        if verdict == Verdict::Write {
            self.write(wall, &record);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
