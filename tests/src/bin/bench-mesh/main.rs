//! Many sessions against a real collector, from a process of their own:
//! `bench-mesh SESSIONS`. Prints memory a session before and after its first
//! push, CPU while all are idle, what sessions that keep calling see of their
//! revocation, and the time for all to come back after the collector was
//! killed.

mod caller;
mod part;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::Context;
use lm_mesh::{Dialer, DialerConfig};
use lm_schema::operator::Target;
use lm_tests::System;
use lm_tests::mesh::{MeshConfig, block_on};
use lm_tests::operator::OperatorSession;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

use caller::{Seen, pause};
use part::{One, Part, Phase, Told};

/// Each has an endpoint of its own, and a connection a session on it.
const THREADS: usize = 4;
/// Keep-alives go out every 15 s.
const IDLE: Duration = Duration::from_secs(45);
/// After the pause between two calls, all have called by then.
const CALLED: Duration = Duration::from_secs(3);

/// Fields of `/proc/PID/{status,stat}`.
fn rss_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no command")?.1.split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// The threads with the sessions.
struct Parts {
    phases: watch::Sender<Option<Phase>>,
    told: mpsc::UnboundedReceiver<anyhow::Result<Told>>,
}

impl Parts {
    /// Tells all what to do, and waits until each has done it.
    async fn all_do(&mut self, phase: Phase) -> anyhow::Result<(Duration, Told)> {
        let began = Instant::now();
        self.phases.send_replace(Some(phase));
        let mut all = Told::default();
        for _ in 0..THREADS {
            let told = self.told.recv().await.context("a thread ended")??;
            all.hurried.extend(told.hurried);
            all.seen.extend(told.seen);
        }
        Ok((began.elapsed(), all))
    }
}

fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args().nth(1).context("how many sessions?")?.parse()?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let names: Vec<String> = (0..count).map(|index| format!("a{index:05}")).collect();
    let mut system = System::new(&[]);
    // Not by the setup command, which reads all tokens again for each agent;
    // and short ones, since a collector reads at most 1 MiB of them.
    let mut entries = String::new();
    for (index, name) in names.iter().enumerate() {
        let token = format!("{index:032x}");
        fs::write(system.path(&format!("token-{name}")), &token)?;
        entries.push_str(&format!("[[tokens]]\nagent_id = \"{name}\"\ntoken = \"{token}\"\n"));
    }
    fs::write(system.path("ingest-tokens.toml"), entries)?;
    fs::set_permissions(system.path("ingest-tokens.toml"), fs::Permissions::from_mode(0o600))?;
    system.collector.start();
    system.wait_collector();

    let (phases, watched) = watch::channel(None);
    let (told_tx, told) = mpsc::unbounded_channel();
    for thread in 0..THREADS {
        let config = MeshConfig::of(&system, &format!("thread-{thread}"));
        let mine: Vec<String> = names.iter().skip(thread).step_by(THREADS).cloned().collect();
        let (watched, told, tokens) = (watched.clone(), told_tx.clone(), system.dir.clone());
        std::thread::spawn(move || {
            let dialer = DialerConfig {
                endpoints: vec![config.endpoint],
                server_name: None,
                ca: config.ca,
                token: config.token.clone(),
                transport: lm_mesh::Transport::Quic,
                retry_quic_after: Duration::from_secs(300),
                keep_alive: lm_mesh::KeepAlive::default(),
            };
            let part = Part {
                dialer: Dialer::new(dialer),
                token: config.token,
                tokens,
                sessions: mine.into_iter().map(One::new).collect(),
                pause: pause(count),
            };
            block_on(part.run(watched, told, thread as u64));
        });
    }
    block_on(measure(&mut system, count, Parts { phases, told }))
}

async fn measure(system: &mut System, count: usize, mut parts: Parts) -> anyhow::Result<()> {
    let pid = system.collector.pid().context("the collector does not run")?;
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
    let (empty, cpu_before) = (rss_kib(pid)?, cpu(pid)?);
    let (took, _) = parts.all_do(Phase::Connect).await?;
    println!("sessions          {count}");
    println!(
        "connect           {:.2} s, {:.3} ms CPU each",
        took.as_secs_f64(),
        (cpu(pid)? - cpu_before).as_secs_f64() * 1000.0 / count as f64
    );
    println!("memory            {:.1} KiB each before the first push", each(rss_kib(pid)?, empty));
    parts.all_do(Phase::Push).await?;
    println!("memory            {:.1} KiB each after the first push", each(rss_kib(pid)?, empty));
    let before = cpu(pid)?;
    tokio::time::sleep(IDLE).await;
    let idle = (cpu(pid)? - before).as_secs_f64() / IDLE.as_secs_f64();
    println!("idle CPU          {:.2} % of a core", idle * 100.0);

    revoke(system, pid, count, &mut parts).await?;
    parts.all_do(Phase::Connect).await?;
    system.collector.kill();
    system.collector.start();
    let (took, _) = parts.all_do(Phase::Return).await?;
    println!("all back          {:.1} s after the collector was killed", took.as_secs_f64());
    Ok(())
}

/// A revocation, as of when it was asked for.
#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    answered: Instant,
}

impl Asked {
    async fn of<T>(call: impl Future<Output = Result<T, String>>) -> anyhow::Result<(Asked, T)> {
        let at = Instant::now();
        let answer = call.await.map_err(anyhow::Error::msg)?;
        Ok((Asked { at, answered: Instant::now() }, answer))
    }

    /// From the request to `at`; negative before it.
    fn ms_until(&self, at: Instant) -> f64 {
        let (after, before) = (at.saturating_duration_since(self.at), self.at.saturating_duration_since(at));
        (after.as_secs_f64() - before.as_secs_f64()) * 1000.0
    }
}

/// Revokes some sessions one by one, then all others in one call, while all
/// of them keep calling.
async fn revoke(system: &System, pid: u32, count: usize, parts: &mut Parts) -> anyhow::Result<()> {
    let config = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(system, "") };
    let operator = OperatorSession::open(&config).await.map_err(anyhow::Error::msg)?;
    let (_, Told { hurried, .. }) = parts.all_do(Phase::Call).await?;
    tokio::time::sleep(pause(count) + CALLED).await;
    let mut single = BTreeMap::new();
    for session in hurried {
        let (asked, outcome) = Asked::of(operator.revoke(Target::Session(session), "bench")).await?;
        anyhow::ensure!(outcome.was_found, "session {session} is not there");
        single.insert(session, asked);
    }
    let cpu_before = cpu(pid)?;
    let (all, _) = Asked::of(operator.revoke_sessions("agent", "", "bench")).await?;
    let (_, Told { seen, .. }) = parts.all_do(Phase::Ended).await?;
    let took = cpu(pid)? - cpu_before;

    let (one_by_one, at_once): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .map(|seen| (single.get(&seen.session).copied().unwrap_or(all), seen))
        .partition(|(_, seen)| single.contains_key(&seen.session));
    println!(
        "revoke one        {} times; the latest of these, each since it was asked for:",
        one_by_one.len()
    );
    print_ends(&one_by_one);
    println!("revoke all        {} in one call; since it was asked for:", at_once.len());
    print_ends(&at_once);
    println!("  CPU             {:.2} s until the last had ended", took.as_secs_f64());
    Ok(())
}

/// What sessions saw that were revoked.
fn print_ends(ends: &[(Asked, Seen)]) {
    let ms = |of: fn(&Asked, &Seen) -> Instant| {
        ends.iter().map(move |(asked, seen)| asked.ms_until(of(asked, seen)))
    };
    let last = |of| ms(of).fold(f64::NEG_INFINITY, f64::max);
    println!("  answered        {:+.1} ms", last(|asked, _| asked.answered));
    println!(
        "  last accepted   {:+.1} ms when it was sent, {:+.1} ms when it was answered",
        last(|_, seen| seen.accepted.0),
        last(|_, seen| seen.accepted.1)
    );
    println!(
        "  refused         {:+.1} ms the first, {:+.1} ms the last; {} by the answer to a call, the others by the end of their session",
        ms(|_, seen| seen.refused).fold(f64::INFINITY, f64::min),
        last(|_, seen| seen.refused),
        ends.iter().filter(|(_, seen)| seen.by_answer).count()
    );
    println!("  ended           {:+.1} ms the last", last(|_, seen| seen.ended));
}
