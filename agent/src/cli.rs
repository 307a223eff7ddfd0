//! What was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lm_telemetry::log::{Format as LogFormat, LogFilter};

const AFTER_HELP: &str = "\
Examples:
  lm-agent setup --bundle web-1.bundle            make this host an agent
  lm-agent --check-config /etc/lightmetrics/agent.toml
  lm-agent --daemon /etc/lightmetrics/agent.toml  run until SIGTERM
  lm-agent --flush /etc/lightmetrics/agent.toml   deliver what is queued
  lm-agent queue status /etc/lightmetrics/agent.toml

Exit codes:
  0   done; --once and --flush: everything was delivered
  1   unexpected
  2   wrong command line
  69  no collector was reached
  75  something is left in the queue, or another process has the queue
  77  the collector refused us, or a file may not be read or written
  78  the configuration or a bundle has mistakes, or the host is another agent";

/// Reads metrics and log lines of this host, queues them on disk, and delivers
/// them to a collector.
///
/// With FILE alone: checks the file and encodes one heartbeat; opens no queue
/// and connects to nobody.
#[derive(Debug, Parser)]
#[command(name = "lm-agent", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub mode: Mode,
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub log: LogFlags,
}

/// What is stronger than `[log]` of FILE.
#[derive(Clone, Debug, Default, Args)]
pub struct LogFlags {
    /// text, json or ecs, whatever FILE says.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// error, warn, info, debug or trace, or a filter, whatever FILE says.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogFilter>,
}

/// At most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Mode {
    /// Configuration to encode one heartbeat with.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Collect once, deliver what is queued, and end.
    #[arg(long, value_name = "FILE")]
    pub once: Option<PathBuf>,
    /// Collect and deliver, in the foreground, until a signal.
    #[arg(long, value_name = "FILE")]
    pub daemon: Option<PathBuf>,
    /// Deliver what is queued, collect nothing, and end.
    #[arg(long, value_name = "FILE")]
    pub flush: Option<PathBuf>,
    /// Print every mistake in a configuration.
    #[arg(long, value_name = "FILE")]
    pub check_config: Option<PathBuf>,
    /// Print the documented default configuration.
    #[arg(long)]
    pub print_defaults: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look after the queue while no agent runs on it.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Make this host an agent, with a bundle of `lmctl agent add`
    ///
    /// Writes the token, the CA, agent.toml and the systemd unit. Settings and
    /// a unit that are there are kept; a host that is another agent is refused.
    #[command(after_help = "\
Examples:
  lm-agent setup --bundle web-1.bundle --logs '/var/log/*.log'
  ssh root@mon lmctl agent add web-1 --bundle - | lm-agent setup --bundle -")]
    Setup(SetupArgs),
}

#[derive(Debug, Args)]
pub struct SetupArgs {
    /// The bundle, a secret; - is standard input
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
    /// Log files to follow, as a pattern; repeatable
    #[arg(long, value_name = "PATTERN")]
    pub logs: Vec<String>,
    /// Where to write
    #[arg(long, default_value = lm_enrol::CONFIG_DIR)]
    pub dir: PathBuf,
    /// Where to write the systemd unit [default: /etc/systemd/system when DIR
    /// is /etc/lightmetrics, else none is written]
    #[arg(long, value_name = "DIR")]
    pub units: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines
    Text,
    /// One document on one line
    Json,
}

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Print what is queued.
    Status {
        file: PathBuf,
        /// For people, or for programs
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Give the queue to another collector: what the old one has is declared
    /// lost to the new one, and what is queued goes to the next collector that
    /// answers.
    Reassign { file: PathBuf },
}
