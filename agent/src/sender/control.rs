//! What the collector may ask of us, when `collector.control` allows it: what
//! we know of ourselves, and to send what is queued. No method runs a command,
//! reads a file or changes a setting, and the collector is held to a rate: it
//! may be somebody else's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lm_schema::mesh_capnp::{agent_control, agent_session};
use lm_schema::operator::AgentStatus;
use tokio::sync::{Notify, watch};

use super::session::unix_ms;
use crate::counters::Counters;
use crate::queue_handle::{Command, QueueFacts, QueueHandle};

/// Calls in a second, of all methods.
const CALLS_PER_SECOND_MAX: u32 = 10;
/// A flush waits no longer than this.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often a flush looks whether the queue is empty.
const FLUSH_LOOK: Duration = Duration::from_millis(50);

/// What the collector's questions are answered from. Copies share all of it.
#[derive(Clone)]
pub struct Control {
    pub queue: QueueHandle,
    pub facts: watch::Receiver<QueueFacts>,
    pub counters: Arc<Counters>,
    pub started: Instant,
    pub config_sha256: [u8; 32],
    /// Told when waits for a retry are to end.
    pub hurry: Rc<Notify>,
}

/// Hands the collector a capability to ask with. It is void with the session.
pub async fn hand_out(agent: agent_session::Client, control: Control) {
    let server =
        ControlServer { control, window: RefCell::new((Instant::now(), 0)), is_flushing: Cell::new(false) };
    let mut request = agent.control_request();
    request.get().set_control(capnp_rpc::new_client(server));
    match request.send().promise.await {
        Ok(_) => tracing::info!("the collector may ask for our status and for a flush (collector.control)"),
        Err(error) if error.kind == capnp::ErrorKind::Unimplemented => {
            tracing::debug!("the collector is older and asks agents nothing");
        }
        Err(error) => tracing::warn!(%error, "the collector takes no control"),
    }
}

struct ControlServer {
    control: Control,
    /// When the present second began, and calls since.
    window: RefCell<(Instant, u32)>,
    is_flushing: Cell<bool>,
}

impl ControlServer {
    fn admit(&self) -> Result<(), capnp::Error> {
        let mut window = self.window.borrow_mut();
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        match window.1 > CALLS_PER_SECOND_MAX {
            true => Err(capnp::Error::overloaded(format!(
                "overloaded: this agent answers {CALLS_PER_SECOND_MAX} questions a second"
            ))),
            false => Ok(()),
        }
    }
}

impl agent_control::Server for ControlServer {
    async fn status(
        self: Rc<Self>,
        _: agent_control::StatusParams,
        mut results: agent_control::StatusResults,
    ) -> Result<(), capnp::Error> {
        self.admit()?;
        let Control { facts, counters, started, config_sha256, .. } = &self.control;
        let queue = facts.borrow().clone();
        let status = AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_sha256: config_sha256.to_vec(),
            unix_ms: unix_ms(),
            uptime_ms: started.elapsed().as_millis() as u64,
            queue_pending_bytes: queue.pending_bytes,
            queue_pending_batches: queue.pending_batches,
            queue_capacity_bytes: queue.capacity_bytes,
            sent_batches: counters.sent_batches.load(Ordering::Relaxed),
            dropped_items: counters.dropped_total(),
            reconnects: counters.reconnects.load(Ordering::Relaxed),
        };
        status.write(results.get().init_status());
        Ok(())
    }

    async fn flush(
        self: Rc<Self>,
        params: agent_control::FlushParams,
        mut results: agent_control::FlushResults,
    ) -> Result<(), capnp::Error> {
        self.admit()?;
        if self.is_flushing.get() {
            return Err(capnp::Error::overloaded("overloaded: this agent is flushing already".to_owned()));
        }
        let wait = Duration::from_millis(params.get()?.get_wait_ms().into()).min(FLUSH_WAIT_MAX);
        drop(params);
        let _flushing = Flushing::begin(&self.is_flushing);
        let Control { queue, facts, hurry, .. } = &self.control;
        let gone = |_| capnp::Error::failed("internal: the agent is stopping".to_owned());
        queue.tell(Command::Publish).await.map_err(gone)?;
        hurry.notify_one();
        let deadline = tokio::time::Instant::now() + wait;
        let pending = loop {
            // The levels in `facts` are as of the last sync.
            queue.tell(Command::Publish).await.map_err(gone)?;
            let pending = facts.borrow().pending_batches;
            if pending == 0 || tokio::time::Instant::now() >= deadline {
                break pending;
            }
            tokio::time::sleep(FLUSH_LOOK).await;
        };
        results.get().set_pending_batches(pending);
        Ok(())
    }
}

/// One flush at a time, however it ends.
struct Flushing<'a>(&'a Cell<bool>);

impl<'a> Flushing<'a> {
    fn begin(is_flushing: &'a Cell<bool>) -> Self {
        is_flushing.set(true);
        Flushing(is_flushing)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
