//! `lm-collector`: see `lm-collector --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lm_collector::cli::main()
}
