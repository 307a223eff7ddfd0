//! The command line.

mod setup;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lm_collector::dashboards::Dashboards;
use lm_collector::settings::{DEFAULTS, Settings};

/// sysexits: what scripts and service managers tell apart.
const EXIT_SOFTWARE: u8 = 1;
const EXIT_CONFIG: u8 = 78;

/// Keeps what agents send and answers what gateways ask.
///
/// Runs in the foreground with the settings in FILE until SIGTERM or SIGINT,
/// then drains; a second signal ends it at once. SIGHUP reads tokens and
/// certificates again.
#[derive(Parser)]
#[command(name = "lm-collector", version = VERSION, args_conflicts_with_subcommands = true)]
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
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Setup(arguments)) = arguments.command {
        return setup::run(arguments);
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
    let tokens = lm_collector::check(&settings);
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
    tracing_subscriber::fmt().with_max_level(settings.log.level).with_ansi(false).with_target(false).init();
    match lm_collector::run(settings, tokens, dashboards, signals()) {
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
