//! The command line.

mod setup;
mod tsdb;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::dashboards::Dashboards;
use crate::settings::{DEFAULTS, Settings};
use clap::{CommandFactory as _, Parser, Subcommand};
use lm_telemetry::log::{self, Format, LogFilter, LogOptions, LogReload, Output};

/// sysexits: what scripts and service managers tell apart.
const EXIT_SOFTWARE: u8 = 1;
const EXIT_CONFIG: u8 = 78;

const AFTER_HELP: &str = "\
Examples:
  lm-collector setup --name mon.example.com       certificates, tokens, settings, units
  lm-collector --check-config /etc/lightmetrics/server.toml
  lm-collector /etc/lightmetrics/server.toml      run until SIGTERM
  lm-collector --print-defaults                   every setting, explained
  lm-collector tsdb verify /var/lib/lightmetrics/collector/metrics

Exit codes:
  0    done
  1    cannot run: port, directory, spool
  2    wrong command line
  65   tsdb verify: something is damaged
  69   setup: the user lightmetrics is missing
  70   a fault in the program; the spool is whole
  77   a file may not be read or written
  78   the configuration has mistakes, or a file that it names is unusable
  130  ended by a second signal";

/// Keeps what agents send and answers what gateways ask.
///
/// Runs in the foreground with the settings in FILE until SIGTERM or SIGINT,
/// then drains; a second signal ends it at once. SIGHUP reads tokens,
/// certificates and the level of the log again.
#[derive(Parser)]
#[command(name = "lm-collector", version = VERSION, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings (TOML); `--print-defaults` shows every key
    #[arg(required_unless_present = "print_defaults")]
    file: Option<PathBuf>,
    /// Check FILE and the files it names, print every error, and exit
    #[arg(long)]
    check_config: bool,
    /// Print the documented default settings
    #[arg(long)]
    print_defaults: bool,
    /// text, json or ecs, whatever FILE says
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// error, warn, info, debug or trace, or a filter, whatever FILE says
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogFilter>,
}

#[derive(Subcommand)]
enum Command {
    /// Make what a first installation of collector and gateway needs
    ///
    /// A certificate authority, a server certificate, tokens, settings and
    /// systemd units. What is there already is kept, except a certificate of
    /// ours that is due or has other names.
    #[command(after_help = setup::AFTER_HELP)]
    Setup(setup::SetupArguments),
    /// Check or merge the blocks of samples of a collector that is stopped
    #[command(subcommand)]
    Tsdb(tsdb::TsdbCommand),
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what the command line asks for. Blocks.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Setup(arguments)) => return setup::run(arguments),
        Some(Command::Tsdb(command)) => return tsdb::run(command),
        None => {}
    }
    if arguments.print_defaults {
        print!("{DEFAULTS}");
        return ExitCode::SUCCESS;
    }
    let file = arguments.file.expect("clap requires FILE unless --print-defaults is given");
    let settings = match Settings::read(&file) {
        Ok(settings) => settings,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    // Both are looked at before either ends us: every error is printed.
    let dashboards = Dashboards::load(&settings.dashboards, &file);
    let tokens = crate::check(&settings);
    for mistake in dashboards.as_ref().err().into_iter().flatten() {
        eprintln!("{mistake}");
    }
    for error in tokens.as_ref().err().into_iter().flatten() {
        // Each names its own file.
        eprintln!("{error}");
    }
    let (Ok(dashboards), Ok(tokens)) = (dashboards, tokens) else {
        return ExitCode::from(EXIT_CONFIG);
    };
    if arguments.check_config {
        println!("{}: ok", file.display());
        return ExitCode::SUCCESS;
    }
    let control = log::start(LogOptions {
        service: "lm-collector",
        version: VERSION,
        filter: arguments.log_level.clone().unwrap_or_else(|| settings.log.level.clone()),
        format: arguments.log_format.unwrap_or(settings.log.format),
        output: Output::Stdout,
    });
    let read = |file: &Path| Settings::read(file).map(|settings| settings.log.level);
    let log = LogReload::new(file, arguments.log_level, control, read);
    match crate::run(settings, tokens, dashboards, log, signals()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lm-collector: {error}");
            ExitCode::from(EXIT_SOFTWARE)
        }
    }
}

/// Ends with the first SIGTERM or SIGINT; the second ends the process.
async fn signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("cannot listen for signals");
    };
    let mut either = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    either().await;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                let (Ok(mut term), Ok(mut int)) =
                    (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
                else {
                    return;
                };
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                std::process::exit(130);
            });
        }
    });
}
