//! `lmctl`: the operator's command. It holds an operator capability for as
//! long as it runs, and nothing else.

mod output;
mod sessions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lm_mesh::{DialError, Dialer, DialerConfig, Granted, PeerDescription};
use lm_schema::operator_capnp::operator;

/// sysexits: what scripts tell apart.
const EXIT_SOFTWARE: u8 = 1;
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_NOT_ALLOWED: u8 = 77;

/// Shows and steers the sessions of a collector.
#[derive(Parser)]
#[command(name = "lmctl", version)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Connection {
    /// Collector as host:port
    #[arg(long, default_value = "127.0.0.1:4433", global = true)]
    collector: String,
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

#[derive(Subcommand)]
enum Command {
    /// Who is connected, over which path, for how long, with what queued
    Sessions {
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
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
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lmctl: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<DialError>() {
        Some(DialError::Unreachable { .. } | DialError::Socket(_)) => EXIT_UNAVAILABLE,
        Some(DialError::Refused { .. } | DialError::Untrusted { .. } | DialError::Secret(_)) => {
            EXIT_NOT_ALLOWED
        }
        _ => EXIT_SOFTWARE,
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<String> {
    let Connection { collector, server_name, ca, token_file } = arguments.connection;
    let config = DialerConfig { endpoints: vec![collector], server_name, ca, token: token_file };
    let peer = PeerDescription {
        product: "lmctl".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: String::new(),
    };
    let session = Dialer::new(config).dial(&peer, &[], &[]).await?;
    let operator: operator::Client = match &session.granted {
        Granted::Operator(operator) => operator.clone(),
        Granted::Agent(_) | Granted::Gateway(_) => {
            anyhow::bail!("the token of {} is not an operator's", session.identity)
        }
    };
    let text = match arguments.command {
        Command::Sessions { output } => {
            let found = sessions::fetch(&operator, session.session_id).await?;
            match output {
                Format::Table => sessions::table(&found),
                Format::Json => sessions::json(&found),
            }
        }
    };
    session.close().await;
    Ok(text)
}
