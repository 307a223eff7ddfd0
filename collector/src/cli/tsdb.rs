//! `lm-collector tsdb`: work on a store of samples that nobody has open.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;
use lm_fs::RealFs;
use lm_tsdb::db::{Db, DbError, DbOptions, Step, verify};
use lm_tsdb::memory::HeadOptions;

use super::EXIT_SOFTWARE;

/// sysexits: what was read is not what was written.
const EXIT_DATA: u8 = 65;
/// How often a merge says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub const AFTER_HELP: &str = "\
DIR is `metrics` in storage.dir; the collector must be stopped.

Exit codes:
  0    done; verify: all that is there is as it was written
  1    cannot run: no such directory, or it is in use
  65   verify: something is damaged";

#[derive(Subcommand)]
pub enum TsdbCommand {
    /// Read every block and check all checksums; changes nothing
    #[command(after_help = AFTER_HELP)]
    Verify { dir: PathBuf },
    /// Merge blocks until nothing is left to merge
    ///
    /// A collector does so by itself. Nothing expires, and ending it with
    /// ctrl-c leaves the store whole.
    #[command(after_help = AFTER_HELP)]
    Compact { dir: PathBuf },
}

pub fn run(command: TsdbCommand) -> ExitCode {
    let outcome = match command {
        TsdbCommand::Verify { dir } => run_verify(&dir),
        TsdbCommand::Compact { dir } => run_compact(&dir),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("lm-collector: {error}");
        ExitCode::from(EXIT_SOFTWARE)
    })
}

fn run_verify(dir: &Path) -> Result<ExitCode, DbError> {
    let (mut total, mut read) = (0u64, 0u64);
    let verified = verify(&RealFs, dir, |step| {
        match step {
            Step::Manifest { path, reason } => println!("{}: {reason}", path.display()),
            Step::Begin { blocks, bytes, covered } => {
                total = bytes;
                eprintln!("{blocks} blocks, {bytes} bytes; spool covered before segment {}", covered.segment);
            }
            Step::Block { entry, path } => {
                let percent = (read * 100).checked_div(total).unwrap_or(100);
                eprintln!("{percent:3} % {}: {} samples", path.display(), entry.samples);
                read += entry.bytes;
            }
            Step::Damage(error) => println!("{error}"),
        }
        ControlFlow::Continue(())
    })?;
    if verified.damaged > 0 {
        println!("{}: {} damaged parts", dir.display(), verified.damaged);
        return Ok(ExitCode::from(EXIT_DATA));
    }
    println!(
        "{}: ok, {} blocks, {} samples, {} bytes",
        dir.display(),
        verified.blocks,
        verified.samples,
        verified.bytes
    );
    Ok(ExitCode::SUCCESS)
}

fn run_compact(dir: &Path) -> Result<ExitCode, DbError> {
    if !dir.is_dir() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(DbError::Io { action: "open", path: dir.to_path_buf(), source });
    }
    let options = DbOptions {
        head: HeadOptions { series_max: 0 },
        retention: Duration::MAX,
        bytes_max: u64::MAX,
        cache_bytes: 8 << 20,
        sync_point: || {},
    };
    let (db, opened) = Db::open(RealFs, dir, options)?;
    let mut told = Instant::now();
    let mut progress = |progress: lm_tsdb::block::Progress| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!(
                "{} of {} series, {} samples",
                progress.series, progress.series_total, progress.samples
            );
        }
        ControlFlow::Continue(())
    };
    loop {
        let done = db.maintain(crate::unix_now(), &mut progress)?;
        if done.is_idle() {
            break;
        }
        eprintln!("{} blocks merged", done.merged_blocks);
    }
    println!("{}: {} blocks became {}", dir.display(), opened.blocks, db.stats().blocks);
    Ok(ExitCode::SUCCESS)
}
