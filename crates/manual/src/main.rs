//! `lm-manual DIR`: writes man pages and shell completions of all four
//! commands, from the same definitions that they parse with.
//!
//! A program of its own, run when packages are made, so that no agent carries
//! the generators.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;

/// Writes man pages to DIR/man1 and completions to DIR/bash, DIR/zsh and
/// DIR/fish.
#[derive(Parser)]
#[command(name = "lm-manual", version)]
struct Arguments {
    dir: PathBuf,
}

fn commands() -> [clap::Command; 4] {
    [
        lm_agent::cli::Cli::command(),
        lm_collector::cli::command(),
        lm_gateway::cli::Command::command(),
        lm_lmctl::command(),
    ]
}

fn main() -> anyhow::Result<()> {
    let Arguments { dir } = Arguments::parse();
    let pages = dir.join("man1");
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
    for mut command in commands() {
        let name = command.get_name().to_owned();
        clap_mangen::generate_to(command.clone(), &pages)
            .with_context(|| format!("cannot write the pages of {name}"))?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let to = dir.join(shell.to_string());
            fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
            clap_complete::generate_to(shell, &mut command, &name, &to)
                .with_context(|| format!("cannot write the {shell} completion of {name}"))?;
        }
    }
    Ok(())
}
