//! What was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Reads metrics and log lines of this host, queues them on disk, and delivers
/// them to a collector.
///
/// With FILE alone: checks the file and encodes one heartbeat; opens no queue
/// and connects to nobody.
#[derive(Debug, Parser)]
#[command(name = "lm-agent", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub mode: Mode,
    #[command(subcommand)]
    pub command: Option<Command>,
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
}

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Print what is queued.
    Status { file: PathBuf },
    /// Give the queue to another collector: what the old one has is declared
    /// lost to the new one, and what is queued goes to the next collector that
    /// answers.
    Reassign { file: PathBuf },
}
