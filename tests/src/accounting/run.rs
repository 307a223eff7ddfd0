//! One seeded run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lines::{self, LineWriter};
use super::mesh::{self, FILENAME, MeshProducer, PRODUCER, SERIES, Sent};
use super::{Violations, samples};
use crate::System;
use crate::api::{Api, LogLine, Series, unix_ms};
use crate::mesh::MeshConfig;
use crate::process::{Service, run as run_command};
use crate::random::Random;
use crate::system::SystemOptions;
use crate::wait::try_eventually;

/// The agent process and the agent of the mesh producer.
const AGENT: &str = "a1";
const MESH: &str = "m1";
/// Everything must be delivered this soon after the last fault.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Agent,
    Collector,
    Gateway,
}

/// A deliberate mistake of a build with the feature `mutants`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    pub target: Target,
    pub name: &'static str,
}

/// When processes die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// SIGKILL, rarely SIGTERM, at random moments.
    Kills,
    /// As `Kills`, and agent and collector abort at random sync points too.
    KillsAndSyncPoints,
    /// Only: `target` aborts at its `n`-th sync point, once.
    SyncPoint { target: Target, n: u64 },
}

#[derive(Clone, Debug)]
pub struct Options {
    pub schedule: Schedule,
    /// How long producers write and processes die.
    pub traffic: Duration,
    /// A build with the feature `mutants`; needed for all but `Kills`.
    pub bin_dir: Option<PathBuf>,
    pub mutant: Option<Mutant>,
}

/// What a good run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub lines: u64,
    pub samples: u64,
    pub deaths: u64,
    pub repeats: u64,
}

/// What is wrong, and where everything was kept.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub dir: PathBuf,
    pub violations: Vec<String>,
    /// The ends of the processes' logs.
    pub logs: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { seed, dir, violations, logs } = self;
        write!(f, "{logs}\nseed {seed}: {}\nkept: {}", violations.join("\n  "), dir.display())
    }
}

/// Runs producers and faults, drains, and checks.
///
/// # Errors
///
/// Every violation; the directory of the run is kept then.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Box<Failure>> {
    let mut run = Run::new(seed, options.clone());
    let mut violations = Violations::default();
    let summary = run.go(&mut violations);
    if violations.is_empty() {
        return Ok(summary);
    }
    let logs = run.system.tails();
    run.system.keep();
    Err(Box::new(Failure { seed, dir: run.system.dir.clone(), violations: violations.into_vec(), logs }))
}

struct Run {
    system: System,
    options: Options,
    random: Random,
    deaths: u64,
    /// The one crash of `Schedule::SyncPoint` is still to come.
    is_armed: bool,
}

/// What the producers have obliged the system to.
struct Obligations {
    lines: u64,
    mesh: Sent,
}

/// Everything as the public API tells it.
struct Found {
    lines: Vec<LogLine>,
    mesh_lines: Vec<LogLine>,
    mesh_samples: Vec<Series>,
}

impl Run {
    fn new(seed: u64, options: Options) -> Run {
        let mut system = System::with(SystemOptions {
            agents: vec![AGENT.to_owned()],
            tokens: vec![MESH.to_owned()],
            bin_dir: options.bin_dir.clone(),
            ..SystemOptions::default()
        });
        // Only the agent's own series: the same in every cycle.
        // A stopped agent may need a new session first.
        system.agent(AGENT).config.set("metrics.host", false).set_text("shutdown_timeout", "20s");
        // Blocks are written and merged all the time.
        system.collector_config.set_text("storage.flush_interval", "1s");
        system.write_configs();
        Run { system, options, random: Random::new(seed), deaths: 0, is_armed: true }
    }

    fn go(&mut self, violations: &mut Violations) -> Summary {
        for target in [Target::Collector, Target::Gateway, Target::Agent] {
            self.start(target);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let mut writer = LineWriter::new(&self.system.agents[0].logs, 0);
            let (mut random, stop) = (self.random.fork(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    writer.step(&mut random);
                    std::thread::sleep(Duration::from_millis(random.between(2, 40)));
                }
                writer.written()
            })
        };
        let producer =
            MeshProducer::start(MeshConfig::of(&self.system, MESH), self.random.fork(), DRAIN_WITHIN);
        self.faults();
        stop.store(true, Ordering::Relaxed);
        let lines = writer.join().expect("the writer does not panic");

        // No more faults. What still waits for a crash starts without it.
        self.options.schedule = Schedule::Kills;
        for target in [Target::Collector, Target::Gateway, Target::Agent] {
            self.service(target).kill();
            self.start(target);
        }
        let obligations = Obligations { lines, mesh: producer.finish() };
        for violation in &obligations.mesh.violations {
            violations.add(violation);
        }
        let (samples, is_drained) = self.drain(&obligations, violations);
        if is_drained {
            // What was acknowledged must also survive the end of all of them.
            self.service(Target::Collector).kill();
            self.start(Target::Collector);
            let (again, _) = self.settle(&obligations, samples, violations);
            if again != samples {
                violations.add(format!("{samples} measurements were there, {again} after a restart"));
            }
        }
        Summary {
            lines: lines + obligations.mesh.lines,
            samples,
            deaths: self.deaths,
            repeats: obligations.mesh.repeats,
        }
    }

    /// Processes die and come back until the traffic ends.
    fn faults(&mut self) {
        let end = Instant::now() + self.options.traffic;
        let mut next = Instant::now() + Duration::from_millis(self.random.between(100, 700));
        while Instant::now() < end {
            for target in [Target::Collector, Target::Agent, Target::Gateway] {
                // A crash at a sync point, or one that nobody asked for: the
                // equation has to close in any case.
                if self.service(target).ended().is_some() {
                    self.deaths += 1;
                    self.is_armed = false;
                    self.start(target);
                }
            }
            let is_killing = !matches!(self.options.schedule, Schedule::SyncPoint { .. });
            if is_killing && Instant::now() >= next {
                self.kill_one();
                next = Instant::now() + Duration::from_millis(self.random.between(50, 800));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill_one(&mut self) {
        let target = match self.random.between(0, 5) {
            0 | 1 => Target::Agent,
            2 | 3 => Target::Collector,
            _ => Target::Gateway,
        };
        let is_gentle = self.random.percent(15);
        let pause = Duration::from_millis(self.random.between(0, 300));
        let service = self.service(target);
        if is_gentle && service.is_running() {
            service.stop();
        } else {
            service.kill();
        }
        std::thread::sleep(pause);
        self.deaths += 1;
        self.start(target);
    }

    fn service(&mut self, target: Target) -> &mut Service {
        match target {
            Target::Agent => &mut self.system.agents[0].process,
            Target::Collector => &mut self.system.collector,
            Target::Gateway => &mut self.system.gateway,
        }
    }

    fn start(&mut self, target: Target) {
        let mut env = Vec::new();
        if let Some(mutant) = self.options.mutant.filter(|mutant| mutant.target == target) {
            env.push(("LM_MUTANT".to_owned(), mutant.name.to_owned()));
        }
        let crash_at = match self.options.schedule {
            Schedule::KillsAndSyncPoints if target != Target::Gateway => Some(self.random.between(1, 60)),
            Schedule::SyncPoint { target: chosen, n } if chosen == target && self.is_armed => Some(n),
            _ => None,
        };
        if let Some(n) = crash_at {
            env.push(("LM_CRASH_AT".to_owned(), n.to_string()));
        }
        let service = self.service(target);
        service.set_env(env);
        service.start();
    }

    /// Waits until everything is delivered; the agent ends with that. Answers
    /// the number of measurements, and whether it came so far.
    fn drain(&mut self, obligations: &Obligations, violations: &mut Violations) -> (u64, bool) {
        let api = self.system.api.clone();
        let delivered = try_eventually(DRAIN_WITHIN, || {
            let (stored, lost) = api.account(AGENT, "logs")?;
            if !lost.is_empty() || stored >= obligations.lines {
                return Ok(());
            }
            Err(format!("{stored} of {} lines are stored", obligations.lines))
        });
        if let Err(last) = delivered {
            violations.add(format!("not delivered {DRAIN_WITHIN:?} after the last fault: {last}"));
        }
        // SIGTERM: read no more, deliver what is queued, end.
        let status = self.service(Target::Agent).stop();
        if !status.success() {
            violations.add(format!("the agent ended with {status} when it was stopped"));
        }
        let agent = &self.system.agents[0];
        let queue = ["queue".to_owned(), "status".to_owned(), agent.config_file.display().to_string()];
        let queued = run_command(&self.program("lm-agent"), &queue, Duration::from_secs(10));
        let pending: Vec<_> = queued
            .stdout
            .lines()
            .filter(|line| {
                line.contains("pending") && !line.contains(": 0 batches, 0 items, 0 bytes pending; 0 batches")
            })
            .collect();
        violations.add_all("still queued although the agent was drained", &pending);
        self.settle(obligations, 0, violations)
    }

    fn program(&self, name: &str) -> PathBuf {
        match &self.options.bin_dir {
            Some(dir) => crate::process::binary_in(dir, name),
            None => crate::process::binary(name),
        }
    }

    /// Checks everything that the public API tells.
    fn settle(
        &mut self,
        obligations: &Obligations,
        samples_before: u64,
        violations: &mut Violations,
    ) -> (u64, bool) {
        let api = self.system.api.clone();
        let found = try_eventually(DRAIN_WITHIN, || find(&api));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                violations.add(format!("cannot be asked back: {error}"));
                return (0, false);
            }
        };
        lines::check(&found.lines, 0, obligations.lines, violations);
        // A producer that stopped at a wrong answer has not sent everything.
        let is_whole = obligations.mesh.violations.is_empty();
        if is_whole {
            lines::check(&found.mesh_lines, PRODUCER, obligations.mesh.lines, violations);
            mesh::check_samples(&found.mesh_samples, &obligations.mesh, violations);
        }
        let samples = match api
            .query(&format!("{{instance=\"{AGENT}\",__name__=~\"lmagent_.*\"}}[1h]"), unix_ms() + 1000)
        {
            Ok(series) => samples::check(&series, violations),
            Err(error) => {
                violations.add(error);
                samples_before
            }
        };
        let accounts = [
            (AGENT, "logs", obligations.lines),
            (AGENT, "metrics", samples),
            (MESH, "logs", obligations.mesh.lines),
            (MESH, "metrics", obligations.mesh.samples),
        ];
        for (agent, stream, expected) in
            accounts.into_iter().filter(|(agent, ..)| *agent == AGENT || is_whole)
        {
            match api.account(agent, stream) {
                Ok((stored, lost)) => {
                    if !lost.is_empty() {
                        violations
                            .add(format!("{stream} of {agent}: declared lost without a reason to: {lost:?}"));
                    }
                    if stored != expected {
                        violations.add(format!(
                            "{stream} of {agent}: the account says {stored} stored, {expected} should be"
                        ));
                    }
                }
                Err(error) => violations.add(error),
            }
        }
        (samples, violations.is_empty())
    }
}

fn find(api: &Api) -> Result<Found, String> {
    Ok(Found {
        lines: api.all_lines(&format!("{{instance=\"{AGENT}\"}}"), "")?,
        mesh_lines: api.all_lines(&format!("{{instance=\"{MESH}\",filename=\"{FILENAME}\"}}"), "")?,
        mesh_samples: api.query(&format!("{SERIES}[1h]"), unix_ms())?,
    })
}
