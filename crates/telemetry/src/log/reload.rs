//! Reading the level again while the process runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lm_settings::Mistake;

use super::{LogControl, LogFilter};
use crate::Figure;

/// Reads the settings file of a process again. Of all that is in it only
/// `log.level` is put in force; the rest needs a restart.
pub struct LogReload {
    file: PathBuf,
    /// What the command line said, which is stronger.
    fixed: Option<LogFilter>,
    control: LogControl,
    read: ReadLevel,
    is_good: AtomicBool,
    succeeded_unix_ms: AtomicU64,
}

/// Reads a settings file completely, for its `log.level`.
type ReadLevel = fn(&Path) -> Result<LogFilter, Vec<Mistake>>;

/// Names of the figures, which begin with the process's.
#[derive(Clone, Copy, Debug)]
pub struct ReloadNames {
    pub successful: &'static str,
    pub success_timestamp: &'static str,
}

impl LogReload {
    /// What was read at the start counts as a good reload.
    pub fn new(file: PathBuf, fixed: Option<LogFilter>, control: LogControl, read: ReadLevel) -> LogReload {
        let (is_good, succeeded_unix_ms) = (AtomicBool::new(true), AtomicU64::new(unix_ms()));
        LogReload { file, fixed, control, read, is_good, succeeded_unix_ms }
    }

    /// Reads a small file: blocks for that long.
    ///
    /// # Errors
    ///
    /// Every mistake in the file; the level is what it was.
    pub fn reload(&self) -> Result<String, Vec<String>> {
        let found = (self.read)(&self.file);
        self.is_good.store(found.is_ok(), Ordering::Relaxed);
        let level = found.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        self.succeeded_unix_ms.store(unix_ms(), Ordering::Relaxed);
        if let Some(fixed) = &self.fixed {
            return Ok(format!("unchanged: the command line says {fixed}"));
        }
        let text = level.to_string();
        Ok(if self.control.set_filter(level) { format!("level {text}") } else { "unchanged".to_owned() })
    }

    /// As [`LogReload::reload`], for a process that has nothing else to read
    /// again: tells the log.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(changes) => tracing::info!(part = "log", "reloaded: {changes}"),
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!(part = "log", "not reloaded, the last good state holds: {mistake}");
                }
            }
        }
    }

    /// Adds the outcome of the last reload.
    pub fn figures(&self, names: ReloadNames, to: &mut Vec<Figure>) {
        let is_good = f64::from(u8::from(self.is_good.load(Ordering::Relaxed)));
        let at = Duration::from_millis(self.succeeded_unix_ms.load(Ordering::Relaxed)).as_secs_f64();
        let help = "Whether the last reload was good.";
        to.push(Figure::new(names.successful, help, is_good).with("part", "log"));
        let help = "When what is in force was read.";
        to.push(Figure::new(names.success_timestamp, help, at).with("part", "log"));
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
