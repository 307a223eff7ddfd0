//! `lm-gateway`: see `lm-gateway --help`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let command = lm_gateway::cli::Command::parse();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
