//! The command line.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgGroup, Parser};
use lm_settings::Mistake;
use lm_telemetry::log::{self, Format, LogFilter, LogOptions, LogReload, Output};

use crate::config::Config;
use crate::settings::{DEFAULTS, Settings};
use crate::{RunError, run};

const AFTER_HELP: &str = "\
Examples:
  lm-gateway --check-config /etc/lightmetrics/gateway.toml
  lm-gateway /etc/lightmetrics/gateway.toml       run until SIGTERM
  lm-gateway --print-defaults                     every setting, explained

Exit codes:
  0   done
  1   unexpected, or ended by a second signal
  2   wrong command line
  69  the address is in use
  78  the configuration has mistakes, or a file that it names is unusable";

/// Translates HTTP (the Prometheus API, log search, live tails) into questions
/// to a collector.
#[derive(Debug, Parser)]
#[command(name = "lm-gateway", version, about, after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("action").required(true).args(["config", "check_config", "print_defaults"]))]
pub struct Command {
    /// Configuration file; the gateway runs until SIGTERM or SIGINT.
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what is wrong with a configuration file, and stop.
    #[arg(long, value_name = "FILE")]
    check_config: Option<PathBuf>,
    /// Print the documented default configuration.
    #[arg(long)]
    print_defaults: bool,
    /// text, json or ecs, whatever FILE says.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// error, warn, info, debug or trace, or a filter, whatever FILE says.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogFilter>,
}

/// Why the process ends, as the exit code tells it.
#[derive(Debug)]
pub enum Failure {
    Config(Vec<Mistake>),
    Run(RunError),
    Other(anyhow::Error),
}

impl Failure {
    /// 78 for a wrong configuration, 69 for what is missing around us, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Config(_)
            | Failure::Run(RunError::Secret(_) | RunError::Ca { .. } | RunError::Tls(_)) => 78,
            Failure::Run(RunError::Listen { .. }) => 69,
            Failure::Run(RunError::Thread(_) | RunError::Signal(_)) | Failure::Other(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(mistakes) => {
                let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Failure::Run(error) => write!(f, "lm-gateway: {error}"),
            Failure::Other(error) => write!(f, "lm-gateway: {error:#}"),
        }
    }
}

impl Command {
    /// Does what the command line asks for. Blocks.
    ///
    /// # Errors
    ///
    /// Why the process must end with another code than 0.
    pub fn run(self) -> Result<(), Failure> {
        if self.print_defaults {
            return std::io::stdout()
                .write_all(DEFAULTS.as_bytes())
                .map_err(|error| Failure::Other(error.into()));
        }
        if let Some(path) = self.check_config {
            Settings::read(&path).map_err(Failure::Config)?;
            println!("{}: ok", path.display());
            return Ok(());
        }
        let path = self.config.expect("clap demands one of three");
        let config = Config::from(Settings::read(&path).map_err(Failure::Config)?);
        let control = log::start(LogOptions {
            service: "lm-gateway",
            version: env!("CARGO_PKG_VERSION"),
            filter: self.log_level.clone().unwrap_or_else(|| config.log.level.clone()),
            format: self.log_format.unwrap_or(config.log.format),
            output: Output::Stdout,
        });
        let read = |file: &Path| Settings::read(file).map(|settings| settings.log.level);
        let log = Arc::new(LogReload::new(path, self.log_level, control, read));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(error.into()))?;
        runtime.block_on(run(config, log, signal())).map_err(Failure::Run)
    }
}

/// Ready at the first SIGTERM or SIGINT; a second one ends the process.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
        assert!(Command::try_parse_from(["lm-gateway"]).is_err());
        assert!(Command::try_parse_from(["lm-gateway", "a", "--print-defaults"]).is_err());
        assert!(Command::try_parse_from(["lm-gateway", "--check-config", "a"]).is_ok());
    }

    #[test]
    fn codes() {
        let mistake = Mistake { file: "a".into(), line: 3, message: "b".into() };
        let failure = Failure::Config(vec![mistake.clone(), mistake]);
        assert_eq!((failure.to_string(), failure.exit_code()), ("a:3: b\na:3: b".to_owned(), 78));
    }
}
