//! `lm-collector setup`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::setup::{SERVICE_USER, SetupError, SetupOptions, is_of_host, renew, setup};
use clap::Args;
use lm_enrol::{CONFIG_DIR, UNIT_DIR, group_id};

use super::{EXIT_CONFIG, EXIT_SOFTWARE};

/// sysexits: something around us is missing.
const EXIT_UNAVAILABLE: u8 = 69;

pub const AFTER_HELP: &str = "\
Examples:
  lm-collector setup --name mon.example.com --name 10.0.0.1
  lm-collector setup --name mon.example.com --gateway-listen 0.0.0.0:18080
  lm-collector setup --name localhost --name 127.0.0.1 --dir ./lab --agent me
  lm-collector setup --renew";

#[derive(Args)]
pub struct SetupArguments {
    /// A host name or address under which agents reach the collector; repeatable.
    /// New agents are told the first
    #[arg(long = "name", required_unless_present = "renew", conflicts_with = "renew")]
    names: Vec<String>,
    /// Where to write; secrets are readable by their owner alone
    #[arg(long, default_value = CONFIG_DIR)]
    dir: PathBuf,
    /// Only renew the server certificate, when two thirds of its life are over
    #[arg(long)]
    renew: bool,
    /// An agent whose token is left in DIR/token-NAME; repeatable. For other
    /// hosts, `lmctl agent add` is the better way
    #[arg(long = "agent")]
    agents: Vec<String>,
    /// How long the server certificate is valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Where the collector listens for agents and gateways
    #[arg(long, default_value = "0.0.0.0:4433")]
    listen: SocketAddr,
    /// Where the gateway listens for HTTP; beyond loopback it gets TLS
    #[arg(long, default_value = "127.0.0.1:18080")]
    gateway_listen: SocketAddr,
    /// Where to write systemd units [default: /etc/systemd/system when DIR is
    /// /etc/lightmetrics, else none are written]
    #[arg(long, value_name = "DIR")]
    units: Option<PathBuf>,
}

pub fn run(arguments: SetupArguments) -> ExitCode {
    let outcome = if arguments.renew { run_renew(&arguments) } else { run_setup(arguments) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("lm-collector: {message}");
            ExitCode::from(code)
        }
    }
}

fn run_renew(arguments: &SetupArguments) -> Result<(), (u8, String)> {
    let is_renewed = renew(&arguments.dir, SystemTime::now()).map_err(failure)?;
    let chain = arguments.dir.join("tls/fullchain.pem");
    println!("{}: {}", chain.display(), if is_renewed { "renewed" } else { "not due" });
    Ok(())
}

fn run_setup(arguments: SetupArguments) -> Result<(), (u8, String)> {
    let SetupArguments { names, dir, agents, days, listen, gateway_listen, units, .. } = arguments;
    let unit_dir = units.or_else(|| is_of_host(&dir).then(|| UNIT_DIR.into()));
    let group = if unit_dir.is_some() { group_id(SERVICE_USER) } else { None };
    if unit_dir.is_some() && group.is_none() {
        let message = format!(
            "there is no user {SERVICE_USER}, as which the collector's unit runs; as root:\n  \
             useradd --system --no-create-home --shell /usr/sbin/nologin {SERVICE_USER}"
        );
        return Err((EXIT_UNAVAILABLE, message));
    }
    let lifetime = Duration::from_secs(u64::from(days) * 86_400);
    let (of_host, is_service) = (is_of_host(&dir), unit_dir.is_some());
    let settings = (dir.join("server.toml"), dir.join("gateway.toml"));
    let options = SetupOptions { dir, names, agents, lifetime, listen, gateway_listen, unit_dir, group };
    let written = setup(&options, SystemTime::now()).map_err(failure)?;
    for file in &written {
        println!("{}", file.display());
    }
    if written.is_empty() {
        println!("everything is there");
    }
    println!("\nNext:");
    if is_service {
        println!("  systemctl daemon-reload");
        println!("  systemctl enable --now lm-collector lm-gateway lm-collector-renew.timer");
    } else {
        println!("  lm-collector {}", settings.0.display());
        println!("  lm-gateway {}", settings.1.display());
    }
    let dir = if of_host { String::new() } else { format!(" --dir {}", options.dir.display()) };
    println!("  lmctl agent add NAME{dir}");
    Ok(())
}

fn failure(error: SetupError) -> (u8, String) {
    let code = match &error {
        SetupError::Enrol(error) => error.exit_code(),
        SetupError::Authority { .. } | SetupError::NoCertificate { .. } => EXIT_CONFIG,
        SetupError::Certificate(_) => EXIT_SOFTWARE,
    };
    (code, error.to_string())
}
