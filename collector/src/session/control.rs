//! Questions to agents, through the capability that an agent handed out.
//!
//! The capability lives on its session's worker, behind the same guard as all
//! that the collector hands out: it is in the ledger, held by the collector,
//! and is revoked with its session or by an operator. Other threads ask
//! through a bounded channel.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lm_mesh::{Grant, Terms};
use lm_schema::mesh_capnp::agent_control;
use lm_schema::operator::{AgentAnswer, AgentStatus};
use tokio::sync::{mpsc, oneshot};

/// Who holds what agents hand out: no identity can have this name.
const HOLDER: &str = "local:collector";
/// Questions to one agent, waiting and under way each.
const QUESTIONS_MAX: usize = 4;
/// An agent answers within this, beside what a flush may wait.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// What an agent allows a flush.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub enum Question {
    Status,
    Flush { wait: Duration },
}

type Asked = (Question, oneshot::Sender<AgentAnswer>);

/// The agents that may be asked, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Controls {
    next: Arc<AtomicU64>,
    agents: Arc<Mutex<HashMap<Arc<str>, Door>>>,
}

struct Door {
    number: u64,
    questions: mpsc::Sender<Asked>,
}

impl Controls {
    /// Asks the agent. `None` when it handed out nothing.
    pub async fn ask(&self, agent: &str, question: Question) -> Option<AgentAnswer> {
        let questions = self.agents().get(agent)?.questions.clone();
        let (reply, answer) = oneshot::channel();
        if questions.try_send((question, reply)).is_err() {
            return Some(AgentAnswer::Failed("overloaded: too many questions to this agent".to_owned()));
        }
        // It always answers, unless its session ends first.
        Some(answer.await.unwrap_or(AgentAnswer::NotConnected))
    }

    /// Takes what `agent` handed out, derived from its session's `grant`, and
    /// asks through it until the grant ends or another takes its place.
    pub fn take(&self, agent: &Arc<str>, grant: &Grant, control: agent_control::Client) {
        let terms =
            Terms { holder: Some(Arc::from(HOLDER)), ..Terms::scope(format!("status and flush of {agent}")) };
        let mut own = None;
        let guarded: agent_control::Client = grant.derive(terms, |grant| {
            own = Some(grant);
            Relay { agent: control }
        });
        let own = own.expect("derive has just called the closure");
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.agents().insert(agent.clone(), Door { number, questions });
        let listed = Listed { controls: self.clone(), agent: agent.clone(), number };
        tokio::task::spawn_local(async move {
            serve(guarded, &own, asked).await;
            drop(listed);
        });
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<Arc<str>, Door>> {
        // Plain data: a panic elsewhere cannot leave it half changed.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes an agent off the list, unless another session of it is there.
struct Listed {
    controls: Controls,
    agent: Arc<str>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut agents = self.controls.agents();
        if agents.get(&self.agent).is_some_and(|door| door.number == self.number) {
            agents.remove(&self.agent);
        }
    }
}

/// Asks until nobody can ask any more, or `grant` is over: then the guard cuts
/// what is under way.
async fn serve(control: agent_control::Client, grant: &Grant, mut asked: mpsc::Receiver<Asked>) {
    let control = &control;
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = asked.recv(), if under_way.len() < QUESTIONS_MAX => match next {
                Some((question, reply)) => under_way.push(async move {
                    let answer = put(control, question).await;
                    let _ = reply.send(answer);
                }),
                None => break,
            },
            Some(()) = under_way.next() => {}
            () = grant.revoked() => break,
        }
    }
    while let Some(()) = under_way.next().await {}
}

async fn put(control: &agent_control::Client, question: Question) -> AgentAnswer {
    let asking = async {
        match question {
            Question::Status => {
                let response = control.status_request().send().promise.await?;
                Ok(AgentAnswer::Status(AgentStatus::read(response.get()?.get_status()?)?))
            }
            Question::Flush { wait } => {
                let mut request = control.flush_request();
                request.get().set_wait_ms(wait.min(FLUSH_WAIT_MAX).as_millis() as u32);
                let response = request.send().promise.await?;
                Ok(AgentAnswer::PendingBatches(response.get()?.get_pending_batches()))
            }
        }
    };
    let wait = match question {
        Question::Status => ANSWER_WAIT,
        Question::Flush { wait } => ANSWER_WAIT + wait.min(FLUSH_WAIT_MAX),
    };
    match tokio::time::timeout(wait, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => AgentAnswer::Failed(said(&error)),
        Err(_) => AgentAnswer::Failed(format!("the agent did not answer within {} s", wait.as_secs())),
    }
}

/// The agent's own words, without what the transport put before them.
fn said(error: &lm_schema::Error) -> String {
    let text = match error {
        lm_schema::Error::Malformed(error) => error.extra.clone(),
        other => other.to_string(),
    };
    text.rsplit_once("remote exception: ").map_or(text.clone(), |(_, said)| said.to_owned())
}

/// Passes calls on to the agent: what stands behind the guard.
struct Relay {
    agent: agent_control::Client,
}

impl agent_control::Server for Relay {
    async fn status(
        self: Rc<Self>,
        _: agent_control::StatusParams,
        mut results: agent_control::StatusResults,
    ) -> Result<(), capnp::Error> {
        let response = self.agent.status_request().send().promise.await?;
        // Read and written again: what is too long is cut.
        let status = AgentStatus::read(response.get()?.get_status()?).map_err(invalid)?;
        status.write(results.get().init_status());
        Ok(())
    }

    async fn flush(
        self: Rc<Self>,
        params: agent_control::FlushParams,
        mut results: agent_control::FlushResults,
    ) -> Result<(), capnp::Error> {
        let mut request = self.agent.flush_request();
        request.get().set_wait_ms(params.get()?.get_wait_ms());
        let response = request.send().promise.await?;
        results.get().set_pending_batches(response.get()?.get_pending_batches());
        Ok(())
    }
}

fn invalid(error: lm_schema::Error) -> capnp::Error {
    capnp::Error::failed(format!("invalid: the agent's answer is not understood: {error}"))
}
