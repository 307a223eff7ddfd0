//! Many sessions against a real collector, from a process of their own:
//! `bench-mesh SESSIONS`. Prints memory a session before and after its first
//! push, CPU while all are idle, the time that revoking takes, and the time
//! for all to come back after the collector was killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use lm_mesh::{Backoff, Connected, Dialer, DialerConfig, Granted, PeerDescription};
use lm_schema::mesh_capnp::batch_sink;
use lm_schema::operator::Target;
use lm_tests::System;
use lm_tests::api::unix_nano;
use lm_tests::mesh::{BatchMaker, MeshConfig, attach, block_on};
use lm_tests::operator::OperatorSession;
use lm_tests::random::Random;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};

/// Each has an endpoint of its own, and a connection a session on it.
const THREADS: usize = 4;
/// Keep-alives go out every 15 s.
const IDLE: Duration = Duration::from_secs(45);
/// Of an agent, after it has lost its collector.
const WAIT_BASE: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What the sessions do next; all of them do it, and say so.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Connect,
    Push,
    /// Wait until the collector has ended the session.
    Ended,
    /// Dial until there is one again.
    Return,
}

struct One {
    name: String,
    connected: Option<Connected>,
    sink: Option<batch_sink::Client>,
    maker: BatchMaker,
}

/// The sessions of one thread.
struct Part {
    dialer: Dialer,
    /// Read again at each dial: one dialer, many identities.
    token: PathBuf,
    tokens: PathBuf,
    sessions: Vec<One>,
}

impl Part {
    async fn dial(&mut self, index: usize) -> anyhow::Result<()> {
        let one = &mut self.sessions[index];
        fs::copy(self.tokens.join(format!("token-{}", one.name)), &self.token)?;
        fs::set_permissions(&self.token, fs::Permissions::from_mode(0o600))?;
        let peer = PeerDescription {
            product: "bench".to_owned(),
            version: "0".to_owned(),
            hostname: one.name.clone(),
            ..PeerDescription::default()
        };
        one.sink = None;
        one.connected = Some(self.dialer.dial(&peer, &[], &one.maker.held()).await?);
        Ok(())
    }

    async fn push(&mut self, index: usize) -> anyhow::Result<()> {
        let one = &mut self.sessions[index];
        let connected = one.connected.as_ref().context("no session")?;
        let Granted::Agent(agent) = connected.granted.clone() else { anyhow::bail!("not an agent") };
        let sink = attach(connected, &agent).await?;
        let batch = one.maker.samples(&[("__name__", "bench")], &[(unix_nano() / 1_000_000, 1.0)]);
        let mut request = sink.push_request();
        batch.header.write(&batch.body, request.get().init_batch());
        request.send().promise.await?;
        one.sink = Some(sink);
        Ok(())
    }

    async fn come_back(&mut self, random: &mut Random) -> anyhow::Result<()> {
        let mut backoffs: Vec<_> = self.sessions.iter().map(|_| Backoff::new(WAIT_BASE, WAIT_MAX)).collect();
        let mut due: Vec<(Instant, usize)> = Vec::new();
        for (index, backoff) in backoffs.iter_mut().enumerate() {
            due.push((Instant::now() + backoff.next(random.number() as u32), index));
        }
        while !due.is_empty() {
            due.sort_by(|a, b| b.cmp(a));
            let Some((at, index)) = due.pop() else { break };
            tokio::time::sleep_until(at.into()).await;
            if self.dial(index).await.is_err() {
                due.push((Instant::now() + backoffs[index].next(random.number() as u32), index));
            }
        }
        Ok(())
    }

    async fn run(
        mut self,
        mut phases: watch::Receiver<Option<Phase>>,
        done: mpsc::UnboundedSender<anyhow::Result<()>>,
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        while phases.changed().await.is_ok() {
            let Some(phase) = *phases.borrow_and_update() else { continue };
            let mut result = Ok(());
            match phase {
                Phase::Return => result = self.come_back(&mut random).await,
                Phase::Connect | Phase::Push => {
                    for index in 0..self.sessions.len() {
                        result = match phase {
                            Phase::Connect => self.dial(index).await,
                            _ => self.push(index).await,
                        };
                        if result.is_err() {
                            break;
                        }
                    }
                }
                Phase::Ended => {
                    for one in &self.sessions {
                        if let Some(connected) = &one.connected {
                            connected.closed().await;
                        }
                    }
                }
            }
            if done.send(result).is_err() {
                return;
            }
        }
    }
}

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

/// Tells all parts what to do and waits until each has done it.
async fn all_do(
    phases: &watch::Sender<Option<Phase>>,
    done: &mut mpsc::UnboundedReceiver<anyhow::Result<()>>,
    phase: Phase,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    phases.send_replace(Some(phase));
    for _ in 0..THREADS {
        done.recv().await.context("a thread ended")??;
    }
    Ok(began.elapsed())
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
    let (done_tx, mut done) = mpsc::unbounded_channel();
    for thread in 0..THREADS {
        let config = MeshConfig::of(&system, &format!("thread-{thread}"));
        let mine: Vec<String> = names.iter().skip(thread).step_by(THREADS).cloned().collect();
        let (watched, done, tokens) = (watched.clone(), done_tx.clone(), system.dir.clone());
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
            let one = |name| One { name, connected: None, sink: None, maker: BatchMaker::new(1) };
            let part = Part {
                dialer: Dialer::new(dialer),
                token: config.token,
                tokens,
                sessions: mine.into_iter().map(one).collect(),
            };
            block_on(part.run(watched, done, thread as u64));
        });
    }
    block_on(measure(&mut system, count, &phases, &mut done))
}

async fn measure(
    system: &mut System,
    count: usize,
    phases: &watch::Sender<Option<Phase>>,
    done: &mut mpsc::UnboundedReceiver<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let pid = system.collector.pid().context("the collector does not run")?;
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
    let (empty, cpu_before) = (rss_kib(pid)?, cpu(pid)?);
    let took = all_do(phases, done, Phase::Connect).await?;
    println!("sessions          {count}");
    println!(
        "connect           {:.2} s, {:.3} ms CPU each",
        took.as_secs_f64(),
        (cpu(pid)? - cpu_before).as_secs_f64() * 1000.0 / count as f64
    );
    println!("memory            {:.1} KiB each before the first push", each(rss_kib(pid)?, empty));
    all_do(phases, done, Phase::Push).await?;
    println!("memory            {:.1} KiB each after the first push", each(rss_kib(pid)?, empty));
    let before = cpu(pid)?;
    tokio::time::sleep(IDLE).await;
    let idle = (cpu(pid)? - before).as_secs_f64() / IDLE.as_secs_f64();
    println!("idle CPU          {:.2} % of a core", idle * 100.0);

    let config = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(system, "") };
    let operator = OperatorSession::open(&config).await.map_err(anyhow::Error::msg)?;
    let began = Instant::now();
    let first = operator.revoke(Target::Session(1), "bench").await.map_err(anyhow::Error::msg)?;
    anyhow::ensure!(first.was_found, "session 1 is not there");
    println!("revoke one        {:.1} ms until it is answered", began.elapsed().as_secs_f64() * 1000.0);
    // Sessions are numbered from 1; the operator's own is the last.
    let (began, cpu_before) = (Instant::now(), cpu(pid)?);
    for session in 2..=count as u64 {
        operator.revoke(Target::Session(session), "bench").await.map_err(anyhow::Error::msg)?;
    }
    let asked = began.elapsed();
    all_do(phases, done, Phase::Ended).await?;
    println!(
        "revoke all        {:.2} s until the last was answered, {:.2} s until the last had ended, {:.2} s CPU",
        asked.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        (cpu(pid)? - cpu_before).as_secs_f64()
    );
    all_do(phases, done, Phase::Connect).await?;
    system.collector.kill();
    system.collector.start();
    let took = all_do(phases, done, Phase::Return).await?;
    println!("all back          {:.1} s after the collector was killed", took.as_secs_f64());
    Ok(())
}
