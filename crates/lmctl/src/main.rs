//! `lmctl`: see `lmctl --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lm_lmctl::main()
}
