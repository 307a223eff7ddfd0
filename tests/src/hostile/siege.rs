//! An attack on a collector, and what it may cost the others.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::status::Status;
use super::{Attacker, Honest, Transport, keep_in_memory};
use crate::api::unix_ms;
use crate::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use crate::{System, SystemOptions};

/// Acknowledgements measured before, and at least as many meanwhile: three
/// worse ones make the 99th percentile.
const SAMPLES: usize = 300;
/// Between two pushes of the honest agent.
const PERIOD: Duration = Duration::from_millis(5);
/// Not measured: connections are new, pages are cold.
const WARM_UP: usize = 60;
/// Below this the two cores' other work is all that is measured: on a quiet
/// machine acknowledgements take 1 to 3 ms, and whoever shares it moves the
/// 99th percentile by several.
const QUIET_MIN: Duration = Duration::from_millis(10);
/// An attack that looks too loud is tried again on a new system: somebody
/// else's noise does not come three times in a row, the collector's does.
const TRIES: u32 = 3;
/// For one round of an attack and what follows.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon the collector has forgotten the attackers.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(8);
/// Niceness of the collector and the honest agent, where it may be given, and
/// what attackers have above it. They are other machines: their processor
/// time must not be taken from those two. Not much above: on a busy machine an
/// attacker that gets no time proves nothing.
const NICE: i32 = -10;
const NICER: i32 = 10;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(10);

/// What an attack may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Resident memory at its highest during the attack, above what it was.
    pub growth_mib: u64,
    /// The same once all attackers have gone. The allocator keeps some of
    /// what was freed, so this is rarely near zero.
    pub left_mib: u64,
    /// Panics that are counted.
    pub panics: u64,
}

/// Whom to attack.
#[derive(Clone, Debug, Default)]
pub struct Siege {
    /// Agents whose tokens the attackers have got.
    pub tokens: Vec<String>,
    pub transport: Transport,
    /// Another build of the collector.
    pub bin_dir: Option<PathBuf>,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

impl Siege {
    /// With the tokens of `count` agents, `a0` and on.
    pub fn tokens(count: usize) -> Siege {
        Siege { tokens: (0..count).map(|index| format!("a{index}")).collect(), ..Siege::default() }
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    quiet: Duration,
    during: Duration,
    growth_kib: u64,
    left_kib: u64,
    panics: u64,
    rounds: u64,
}

/// One test at a time: each uses the whole machine, and measures it.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Repeats `attack` while an honest agent takes its measurements, then demands
/// all bounds: the agent's 99th percentile under twice its quiet one, memory,
/// panics, and that the collector has forgotten the attackers and goes on.
///
/// # Panics
///
/// When a bound is broken, the attack itself does not come to its end, or the
/// collector dies.
#[track_caller]
pub fn siege<A>(name: &str, siege: &Siege, bounds: Bounds, attack: A)
where
    A: AsyncFn(&System, &Attacker) -> Result<(), String> + Sync,
{
    let _alone = alone();
    // Whatever this thread starts has it too.
    let nice = if set_nice(NICE) { NICE } else { 0 };
    let mut tries = 0;
    loop {
        tries += 1;
        let began = Instant::now();
        let mut system = lay_out(siege);
        let seen = match run(&mut system.0, siege.transport, nice, &attack) {
            Ok(seen) => seen,
            Err(why) => panic!("{name}: {why}"),
        };
        let allowed = 2 * seen.quiet.max(QUIET_MIN);
        println!(
            "{name}: p99 {:.1} ms, quiet {:.1} ms; memory +{:.1} MiB, then +{:.1} MiB; {} rounds, {:.1} s",
            seen.during.as_secs_f64() * 1e3,
            seen.quiet.as_secs_f64() * 1e3,
            seen.growth_kib as f64 / 1024.0,
            seen.left_kib as f64 / 1024.0,
            seen.rounds,
            began.elapsed().as_secs_f64()
        );
        assert_eq!(seen.panics, bounds.panics, "{name}: panics are counted");
        assert!(seen.growth_kib <= bounds.growth_mib << 10, "{name}: {seen:?} breaks {bounds:?}");
        assert!(seen.left_kib <= bounds.left_mib << 10, "{name}: {seen:?} breaks {bounds:?}");
        if seen.during <= allowed {
            return;
        }
        assert!(tries < TRIES, "{name}: others notice it: {seen:?}, {tries} times");
    }
}

/// Of this thread alone, on Linux. Only root may become less nice.
fn set_nice(nice: i32) -> bool {
    rustix::process::setpriority_process(None, nice).is_ok()
}

fn lay_out(siege: &Siege) -> (System, Option<tempfile::TempDir>) {
    let mut tokens = vec!["honest".to_owned(), "late".to_owned()];
    tokens.extend(siege.tokens.iter().cloned());
    let mut system =
        System::with(SystemOptions { tokens, bin_dir: siege.bin_dir.clone(), ..SystemOptions::default() });
    let memory = keep_in_memory(&mut system);
    system.collector.set_env(siege.env.clone());
    system.collector.start();
    system.wait_collector();
    (system, memory)
}

fn run<A>(system: &mut System, transport: Transport, nice: i32, attack: &A) -> Result<Seen, String>
where
    A: AsyncFn(&System, &Attacker) -> Result<(), String> + Sync,
{
    let honest = Honest::start(MeshConfig::of(system, "honest"), PERIOD);
    honest.wait_more(WARM_UP, PATIENCE)?;
    let mut seen = Seen::default();
    let since = honest.count();
    honest.wait_more(SAMPLES, PATIENCE)?;
    seen.quiet = honest.p99_since(since);

    let before = system.collector.memory_kib();
    let (is_enough, peak, rounds) = (AtomicBool::new(false), AtomicU64::new(before), AtomicU64::new(0));
    let since = honest.count();
    let attacked = std::thread::scope(|scope| {
        let system = &*system;
        let attacker = scope.spawn(|| {
            set_nice(nice + NICER);
            block_on(async {
                while rounds.load(Ordering::Relaxed) == 0 || !is_enough.load(Ordering::Relaxed) {
                    let attacker = Attacker::new(system, transport)?;
                    let attacked = tokio::time::timeout(PATIENCE, attack(system, &attacker)).await;
                    attacker.leave().await;
                    attacked.map_err(|_| format!("the attack hangs for {PATIENCE:?}"))??;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), String>(())
            })
        });
        // A failed session ends the attack too: it is looked at below.
        while !attacker.is_finished() {
            let is_measured = honest.count() >= since + SAMPLES || honest.check().is_err();
            is_enough.store(is_measured, Ordering::Relaxed);
            peak.fetch_max(system.collector.memory_kib(), Ordering::Relaxed);
            std::thread::sleep(LOOK);
        }
        attacker.join().unwrap_or_else(|_| Err("the attacker panicked".to_owned()))
    });
    seen.during = honest.p99_since(since);
    seen.growth_kib = peak.load(Ordering::Relaxed) - before;
    seen.rounds = rounds.load(Ordering::Relaxed);
    if !system.collector.is_running() {
        return Err(format!("the collector died: {}", system.collector.tail()));
    }
    attacked?;
    honest.check()?;

    seen.panics = block_on(forgotten(system))?;
    seen.left_kib = system.collector.memory_kib().saturating_sub(before);
    honest.wait_more(10, PATIENCE)?;
    block_on(newcomer(system))?;
    Ok(seen)
}

/// Waits until only the honest agent is left beside the operator who looks,
/// and answers how many panics were counted.
async fn forgotten(system: &System) -> Result<u64, String> {
    let deadline = Instant::now() + FORGOTTEN_WITHIN;
    loop {
        let Status { sessions, panics } = Status::ask(system).await?;
        if sessions == 2 {
            return Ok(panics);
        }
        if Instant::now() >= deadline {
            return Err(format!("{} sessions are left of an attack", sessions - 2));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Somebody new is served at once.
async fn newcomer(system: &System) -> Result<(), String> {
    let mut maker = BatchMaker::new(unix_ms() as u64);
    let session = MeshSession::open(&MeshConfig::of(system, "late"), &maker.held()).await?;
    let batch = maker.samples(&[("__name__", "late")], &[(unix_ms(), 1.0)]);
    let receipt = session.push(&batch).await.map_err(|error| error.to_string())?;
    if receipt.outcome != Outcome::Durable {
        return Err(format!("a newcomer's batch is answered {:?}", receipt.outcome));
    }
    session.connected.close().await;
    Ok(())
}
