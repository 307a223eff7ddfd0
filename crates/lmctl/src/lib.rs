//! `lmctl`: the operator's command. It holds an operator capability for as
//! long as it runs, and nothing else.
//!
//! One file a command. What comes from the collector is read into the structs
//! of `lm_schema::operator` and leaves through [`output`] and [`escape`].

mod agent;
mod ask;
mod calls;
mod caps;
mod denials;
mod describe;
mod duration;
mod escape;
mod failure;
mod ids;
mod link;
mod output;
mod reload;
mod revoke;
mod sessions;
mod status;
mod tap;
mod top;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use failure::{EXIT_SOFTWARE, Failure};
use link::Link;
use output::{Format, Out};

const AFTER_HELP: &str = "\
Examples:
  lmctl sessions                      who is connected, on the collector's host
  lmctl caps --tree --output json     what they may do, for a program
  lmctl agent add web-1               a token for a new host
  lmctl deny web-1 --reason \"token leaked\"
  lmctl --collector mon.example.com:4433 --token-file ./operator-token status

Exit codes:
  0   done
  1   unexpected, or what was named does not exist
  2   wrong command line
  69  no collector was reached, or it went away
  75  the collector has too much to do; try again
  77  refused, not trusted, or a file may not be read
  78  the collector did not take what it should read again, or a file has mistakes";

/// Shows and steers the sessions of a collector.
///
/// Sessions are written s3 and capabilities c17. A text that a peer chose is
/// shown with its control characters written out.
#[derive(Parser)]
#[command(name = "lmctl", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Connection {
    /// Collector as host:port; 127.0.0.1:4433 when there is no --socket either
    #[arg(long, global = true)]
    collector: Option<String>,
    /// Collector of this host, as root or its own user, without a token.
    /// Used by default when it is there and no --collector is given
    #[arg(long, global = true, conflicts_with = "collector")]
    socket: Option<PathBuf>,
    /// How to reach the collector
    #[arg(long, value_enum, default_value_t = Transport::Auto, global = true)]
    transport: Transport,
    /// Name in the collector's certificate, when it is not the host
    #[arg(long, global = true)]
    server_name: Option<String>,
    /// CA certificate (PEM)
    #[arg(long, default_value = "/etc/lightmetrics/ca.pem", global = true)]
    ca: PathBuf,
    /// File with the operator's token
    #[arg(long, default_value = "/etc/lightmetrics/operator-token", global = true)]
    token_file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    /// QUIC, and TLS over TCP where that does not get through
    Auto,
    Quic,
    Tcp,
}

#[derive(Subcommand)]
enum Command {
    /// Who is connected, over which path, for how long, with what queued
    Sessions(sessions::SessionsArgs),
    /// What peers may do: the capabilities that they hold
    Caps(caps::CapsArgs),
    /// Calls under way, and the latest slow ones
    Calls(calls::CallsArgs),
    /// Calls as they finish: facts, never contents
    Tap(tap::TapArgs),
    /// The interfaces that the collector speaks, and their methods
    Describe(describe::DescribeArgs),
    /// A live view of sessions and calls
    Top(top::TopArgs),
    /// Ends a capability or a session, and all that was derived from it
    Revoke(revoke::RevokeArgs),
    /// Asks one agent, if its configuration allows it
    Ask(ask::AskArgs),
    /// Keeps an identity out, now and after restarts, until it is allowed
    Deny(denials::DenyArgs),
    /// Lets a denied identity in again
    Allow(denials::AllowArgs),
    /// Who is kept out, since when and why
    Denials(watch::WatchArgs),
    /// Makes the collector read its tokens and certificate again
    Reload,
    /// How the mesh fares: totals, budget, refusals
    Status(watch::WatchArgs),
    /// Who may send: gives hosts their tokens and takes them away
    Agent(agent::AgentArgs),
}

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs a command. Blocks.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lmctl: cannot start: {error}");
            return ExitCode::from(EXIT_SOFTWARE);
        }
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{}", failure.text());
            ExitCode::from(failure.code)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { connection, output, command } = arguments;
    if let Command::Top(_) = command {
        top::check_terminal(output)?;
    }
    let mut out = Out::new(output);
    let command = match command {
        // On files of the collector's host: it asks for a session when it needs one.
        Command::Agent(args) => return agent::run(args, connection, &mut out).await,
        command => command,
    };
    let link = Link::open(connection).await?;
    let result = match &command {
        Command::Agent(_) => unreachable!("it has been run"),
        Command::Sessions(args) => sessions::run(&link, args, &mut out).await,
        Command::Caps(args) => caps::run(&link, args, &mut out).await,
        Command::Calls(args) => calls::run(&link, args, &mut out).await,
        Command::Tap(args) => tap::run(&link, args, &mut out).await,
        Command::Describe(args) => describe::run(&link, args, &mut out).await,
        Command::Top(args) => top::run(&link, args).await,
        Command::Revoke(args) => revoke::run(&link, args, &mut out).await,
        Command::Ask(args) => ask::run(&link, args, &mut out).await,
        Command::Deny(args) => denials::deny(&link, args, &mut out).await,
        Command::Allow(args) => denials::allow(&link, args, &mut out).await,
        Command::Denials(args) => denials::list(&link, args, &mut out).await,
        Command::Reload => reload::run(&link, &mut out).await,
        Command::Status(args) => status::run(&link, args, &mut out).await,
    };
    link.close().await;
    result
}
