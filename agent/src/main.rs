//! `lm-agent`: see `lm-agent --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lm_agent::run(lm_agent::cli::Cli::parse())
}
