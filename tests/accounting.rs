//! `accepted = stored + declared lost + queued`, whatever dies when.
//!
//! - `LM_SEED=n` runs one seed, `LM_SEEDS=n` that many (default 20), from
//!   `LM_SEED_FIRST` (default 1) on.
//! - `LM_PARALLEL=n` systems run at a time (default 3).
//! - `LM_MUTANTS_BIN_DIR` names a build of collector and agent with the
//!   feature `mutants`; it is needed for crashes at sync points and for proving
//!   that this checker fails when it should.
//! - `LM_SYNC_POINTS=n` crashes at each of the first n sync points, up to those
//!   that are never reached (default: a few).
//! - `LM_KEEP=1` keeps the directory of every run, not only of failed ones.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lm_tests::accounting::{Failure, Mutant, Options, Schedule, Summary, Target, run};

/// Sync points at which processes crash unless more are asked for.
const SYNC_POINTS: [u64; 6] = [1, 2, 3, 7, 12, 20];
/// How long producers write when there is only one crash.
const SHORT: Duration = Duration::from_millis(1500);
/// Seeds that may pass before a mutant must have been caught.
const MUTANT_SEEDS: u64 = 6;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")))
}

fn mutants_dir(what: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("LM_MUTANTS_BIN_DIR").map(PathBuf::from);
    if dir.is_none() {
        println!("SKIPPED {what}: LM_MUTANTS_BIN_DIR names no build with the feature `mutants`");
        assert!(std::env::var_os("LM_REQUIRE_ALL").is_none(), "{what} is required by LM_REQUIRE_ALL");
    }
    dir
}

fn options(schedule: Schedule, bin_dir: Option<PathBuf>) -> Options {
    Options { schedule, traffic: Duration::from_millis(3500), bin_dir, mutant: None }
}

/// Runs jobs, some at a time; the first failure ends it.
fn in_parallel(jobs: &[(u64, Options)], ran: impl Fn(u64, &Options, Duration, &Summary) + Sync) {
    let (next, is_failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let failure: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..number("LM_PARALLEL").unwrap_or(3) {
            scope.spawn(|| {
                while !is_failed.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some((seed, options)) = jobs.get(at) else { return };
                    let began = Instant::now();
                    match run(*seed, options) {
                        Ok(summary) => ran(*seed, options, began.elapsed(), &summary),
                        Err(found) => {
                            is_failed.store(true, Ordering::Relaxed);
                            eprintln!("{:?}\n{found}", options.schedule);
                            *failure.lock().unwrap() = Some(found);
                        }
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("LM_SEED={} breaks the equation: {:#?}", failure.seed, failure.violations);
    }
}

fn tell(seed: u64, options: &Options, took: Duration, summary: &Summary) {
    let Summary { lines, samples, deaths, repeats } = summary;
    println!(
        "seed {seed}, {:?}: {deaths} deaths, {lines} lines, {samples} samples, {repeats} repeats, {:.1} s",
        options.schedule,
        took.as_secs_f64()
    );
}

#[test]
fn seeds_close_the_equation() {
    let first = number("LM_SEED_FIRST").unwrap_or(1);
    let seeds: Vec<u64> = match number("LM_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + number("LM_SEEDS").unwrap_or(20)).collect(),
    };
    // With sync points where the build has them.
    let bin_dir = std::env::var_os("LM_MUTANTS_BIN_DIR").map(PathBuf::from);
    let schedule = match bin_dir {
        Some(_) => Schedule::KillsAndSyncPoints,
        None => Schedule::Kills,
    };
    let jobs: Vec<_> = seeds.into_iter().map(|seed| (seed, options(schedule, bin_dir.clone()))).collect();
    in_parallel(&jobs, tell);
}

#[test]
fn sync_points_close_the_equation() {
    let Some(dir) = mutants_dir("crashes at sync points") else { return };
    let chosen = number("LM_SYNC_POINTS").map_or(SYNC_POINTS.to_vec(), |count| (1..=count).collect());
    for target in [Target::Collector, Target::Agent] {
        // The last one that a run reaches; beyond it nothing new is tried.
        let reached = AtomicU64::new(u64::MAX);
        let points = chosen.iter().map(|n| (*n, Schedule::SyncPoint { target, n: *n }));
        let short = |schedule| Options { traffic: SHORT, ..options(schedule, Some(dir.clone())) };
        let jobs: Vec<_> = points.map(|(n, schedule)| (n, short(schedule))).collect();
        for jobs in jobs.chunks(6) {
            in_parallel(jobs, |n, options, took, summary| {
                tell(n, options, took, summary);
                if summary.deaths == 0 {
                    reached.fetch_min(n, Ordering::Relaxed);
                }
            });
            if reached.load(Ordering::Relaxed) < u64::MAX {
                println!(
                    "{target:?}: sync point {} is not reached any more",
                    reached.load(Ordering::Relaxed)
                );
                break;
            }
        }
        assert!(
            reached.load(Ordering::Relaxed) > 1,
            "{target:?} never reaches a sync point: is this a build with the feature `mutants`?"
        );
    }
}

#[test]
fn mutants_are_caught() {
    let Some(dir) = mutants_dir("mutants") else { return };
    let mutants = [
        Mutant { target: Target::Collector, name: "ack_before_sync" },
        Mutant { target: Target::Collector, name: "no_dedupe" },
        Mutant { target: Target::Agent, name: "cursor_apart" },
    ];
    std::thread::scope(|scope| {
        for mutant in mutants {
            let dir = dir.clone();
            scope.spawn(move || {
                let schedule = Schedule::KillsAndSyncPoints;
                let options = Options { mutant: Some(mutant), ..options(schedule, Some(dir)) };
                let caught = (1..=MUTANT_SEEDS).find_map(|seed| run(seed, &options).err());
                let Some(failure) = caught else {
                    panic!(
                        "{mutant:?} was not caught within {MUTANT_SEEDS} seeds: the checker is blind to it"
                    );
                };
                println!("{} is caught with seed {}: {:?}", mutant.name, failure.seed, failure.violations);
                if std::env::var_os("LM_KEEP").is_none() {
                    let _ = std::fs::remove_dir_all(&failure.dir);
                }
            });
        }
    });
}
