//! The sessions of one thread, and what all of them do at a time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use lm_mesh::{Backoff, Connected, Dialer, Granted, PeerDescription};
use lm_schema::mesh_capnp::batch_sink;
use lm_tests::api::unix_nano;
use lm_tests::mesh::{BatchMaker, attach};
use lm_tests::random::Random;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::caller::{SHORT_PAUSE, Seen, call_on};

/// Of an agent, after it has lost its collector.
const WAIT_BASE: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Sessions of each thread that call almost without a pause.
const HURRIED: usize = 2;

/// What the sessions do next; all of them do it, and say so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Connect,
    Push,
    /// Begin to call, and go on until that is refused.
    Call,
    /// Wait until each session has ended, and tell what it saw.
    Ended,
    /// Dial until there is one again.
    Return,
}

/// What a thread has to say of a phase.
#[derive(Default)]
pub struct Told {
    /// Sessions that call almost without a pause.
    pub hurried: Vec<u64>,
    pub seen: Vec<Seen>,
}

pub struct One {
    name: String,
    connected: Option<Rc<Connected>>,
    sink: Option<batch_sink::Client>,
    maker: BatchMaker,
    calls: Option<JoinHandle<anyhow::Result<Seen>>>,
}

impl One {
    pub fn new(name: String) -> One {
        One { name, connected: None, sink: None, maker: BatchMaker::new(1), calls: None }
    }
}

pub struct Part {
    pub dialer: Dialer,
    /// Read again at each dial: one dialer, many identities.
    pub token: PathBuf,
    pub tokens: PathBuf,
    pub sessions: Vec<One>,
    /// Between two calls of a session.
    pub pause: Duration,
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
        one.connected = Some(Rc::new(self.dialer.dial(&peer, &[], &one.maker.held()).await?));
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

    /// The calls of the sessions are spread over the pause.
    fn begin_calls(&mut self, random: &mut Random) -> anyhow::Result<Told> {
        let mut told = Told::default();
        for (index, one) in self.sessions.iter_mut().enumerate() {
            let connected = one.connected.clone().context("no session")?;
            let pause = if index < HURRIED { SHORT_PAUSE } else { self.pause };
            if index < HURRIED {
                told.hurried.push(connected.session_id);
            }
            let offset = Duration::from_nanos(random.between(0, pause.as_nanos() as u64));
            one.calls = Some(tokio::task::spawn_local(call_on(connected, offset, pause)));
        }
        Ok(told)
    }

    async fn ended(&mut self) -> anyhow::Result<Told> {
        let mut told = Told::default();
        for one in &mut self.sessions {
            told.seen.push(one.calls.take().context("it did not call")?.await??);
        }
        Ok(told)
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

    async fn act(&mut self, phase: Phase, random: &mut Random) -> anyhow::Result<Told> {
        match phase {
            Phase::Connect => {
                for index in 0..self.sessions.len() {
                    self.dial(index).await?;
                }
            }
            Phase::Push => {
                for index in 0..self.sessions.len() {
                    self.push(index).await?;
                }
            }
            Phase::Call => return self.begin_calls(random),
            Phase::Ended => return self.ended().await,
            Phase::Return => self.come_back(random).await?,
        }
        Ok(Told::default())
    }

    pub async fn run(
        mut self,
        mut phases: watch::Receiver<Option<Phase>>,
        done: mpsc::UnboundedSender<anyhow::Result<Told>>,
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        while phases.changed().await.is_ok() {
            let Some(phase) = *phases.borrow_and_update() else { continue };
            let told = self.act(phase, &mut random).await;
            if done.send(told).is_err() {
                return;
            }
        }
    }
}
