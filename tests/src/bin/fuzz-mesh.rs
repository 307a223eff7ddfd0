//! Attacks a collector with bytes: `lm_tests::hostile::fuzz`.
//!
//! `fuzz-mesh mesh|login --corpus DIR|FILE [--seconds N] [--seed N] [--failures DIR] [--keep]`
//! replays the corpus, then invents inputs for N seconds (0: none). `--keep`
//! adds those to the corpus that the collector answers in a new way. A failing
//! input is written to DIR (the current one) and replayed with `--corpus FILE`.
//! The collector is the one beside this program, or in `LM_BIN_DIR`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use lm_tests::hostile::fuzz::{Failure, Fuzz, Subject, run};

const USAGE: &str =
    "usage: fuzz-mesh mesh|login --corpus DIR|FILE [--seconds N] [--seed N] [--failures DIR] [--keep]";

struct Arguments {
    fuzz: Fuzz,
    failures: PathBuf,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut given = std::env::args().skip(1);
    let subject = given.next().and_then(|name| Subject::of(&name)).context(USAGE)?;
    // Any seed will do, as long as it is told.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let (mut corpus, mut failures) = (None, PathBuf::from("."));
    let mut fuzz = Fuzz {
        subject,
        seed: now.as_millis() as u64,
        corpus: PathBuf::new(),
        grows: false,
        time: Duration::ZERO,
    };
    while let Some(name) = given.next() {
        let mut value = || given.next().with_context(|| format!("{name} needs a value\n{USAGE}"));
        match &name[..] {
            "--corpus" => corpus = Some(PathBuf::from(value()?)),
            "--seconds" => fuzz.time = Duration::from_secs(value()?.parse()?),
            "--seed" => fuzz.seed = value()?.parse()?,
            "--failures" => failures = PathBuf::from(value()?),
            "--keep" => fuzz.grows = true,
            _ => bail!("{name:?}?\n{USAGE}"),
        }
    }
    fuzz.corpus = corpus.context(USAGE)?;
    Ok(Arguments { fuzz, failures })
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { fuzz, failures } = arguments()?;
    let (name, seed, began) = (fuzz.subject.name(), fuzz.seed, Instant::now());
    println!("fuzz-mesh {name}: seed {seed}");
    match run(&fuzz) {
        Ok(report) => {
            for answer in &report.answers {
                println!("  {answer}");
            }
            println!(
                "fuzz-mesh {name}: {} inputs in {:.0} s, {} new, {} kinds of answers, memory +{:.1} MiB",
                report.executed,
                began.elapsed().as_secs_f64(),
                report.added,
                report.answers.len(),
                report.growth_kib as f64 / 1024.0
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure { what, inputs }) => {
            eprintln!("fuzz-mesh {name}: seed {seed}: {what}");
            for (index, input) in inputs.iter().enumerate() {
                let path = failures.join(format!("fuzz-{name}-{seed}-{index}"));
                std::fs::write(&path, input).with_context(|| path.display().to_string())?;
                eprintln!("was under way, or just before: {}", path.display());
            }
            Ok(ExitCode::FAILURE)
        }
    }
}
