//! Which events are let through.

use std::str::FromStr;

use tracing::Metadata;
use tracing::metadata::LevelFilter;

/// A level for everything, and others for some modules:
/// `info,lm_mesh=debug`. The longest name that begins a module's path counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    level: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

/// Modules that one filter may name.
const MODULES_MAX: usize = 32;

impl Default for LogFilter {
    fn default() -> Self {
        LogFilter { level: LevelFilter::INFO, modules: Vec::new() }
    }
}

impl FromStr for LogFilter {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<LogFilter, String> {
        let expected = || {
            "expected error, warn, info, debug or trace, or a filter such as \"info,lm_mesh=debug\""
                .to_owned()
        };
        let mut filter = LogFilter::default();
        for (index, part) in text.split(',').enumerate() {
            match part.trim().split_once('=') {
                None if index == 0 => filter.level = level(part.trim()).ok_or_else(expected)?,
                Some((module, name)) if !module.is_empty() && filter.modules.len() < MODULES_MAX => {
                    filter.modules.push((module.to_owned(), level(name).ok_or_else(expected)?));
                }
                _ => return Err(expected()),
            }
        }
        // The longest name first.
        filter.modules.sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
        Ok(filter)
    }
}

fn level(name: &str) -> Option<LevelFilter> {
    match name {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

impl std::fmt::Display for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.level)?;
        self.modules.iter().try_for_each(|(module, level)| write!(f, ",{module}={level}"))
    }
}

impl LogFilter {
    pub(super) fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        self.of(metadata.target()) >= *metadata.level()
    }

    fn of(&self, target: &str) -> LevelFilter {
        let is_in = |module: &str| {
            target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.modules.iter().find(|(module, _)| is_in(module)).map_or(self.level, |(_, level)| *level)
    }

    pub(super) fn highest(&self) -> LevelFilter {
        self.modules.iter().map(|(_, level)| *level).fold(self.level, LevelFilter::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_and_exceptions() {
        let filter: LogFilter = "warn,lm_mesh=debug,lm_mesh::ledger=error".parse().unwrap();
        assert_eq!(filter.of("lm_agent"), LevelFilter::WARN);
        assert_eq!(filter.of("lm_mesh::client"), LevelFilter::DEBUG);
        assert_eq!(filter.of("lm_mesh_other"), LevelFilter::WARN);
        assert_eq!(filter.of("lm_mesh::ledger::calls"), LevelFilter::ERROR);
        assert_eq!(filter.highest(), LevelFilter::DEBUG);
        assert_eq!(filter.to_string().parse(), Ok(filter));
        for wrong in ["", "loud", "info,debug", "lm_mesh=debug,info", "info,=debug", "info,a=b"] {
            assert!(wrong.parse::<LogFilter>().is_err(), "{wrong:?}");
        }
    }
}
