//! What every reader shares, and how it runs a job on a query thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_model::Timestamp;
use lm_promql::{Answer, Engine, Interrupt};
use lm_schema::query_capnp::query_options;

use super::failed::Failed;
use super::pool::{Cancelled, Pool};
use super::scope::{ReadScope, Scoped};
use crate::access::AgentScopes;
use crate::dashboards::Dashboards;
use crate::ingest::IngestHandle;
use crate::metadata::Metadata;
use crate::scraped::ScrapedTargets;
use crate::store::Store;

/// What every reader of this collector shares.
pub struct QueryContext {
    pub store: Arc<Store>,
    pub ingest: IngestHandle,
    pub pool: Pool,
    pub engine: Engine,
    pub agents: AgentScopes,
    /// When the caller names none, and the longest that it may name.
    pub timeout: Duration,
    pub dashboards: Dashboards,
    pub metadata: Metadata,
    pub scraped: ScrapedTargets,
    /// When the process began.
    pub started: Timestamp,
    /// How long samples are kept.
    pub retention: Duration,
}

/// An answer, and the time it took.
pub(super) struct Evaluated {
    pub answer: Answer,
    /// For a thread.
    pub waited: Duration,
    pub took: Duration,
}

/// Options as they mean something.
#[derive(Clone)]
pub(super) struct Options {
    pub deadline: Instant,
    pub engine: Engine,
}

impl QueryContext {
    pub(super) fn options(&self, from: query_options::Reader<'_>) -> Options {
        let mut engine = self.engine.clone();
        if from.get_lookback_ms() > 0 {
            engine.lookback = Duration::from_millis(from.get_lookback_ms().into());
        }
        let timeout = match from.get_timeout_ms() {
            0 => self.timeout,
            ms => Duration::from_millis(ms.into()).min(self.timeout),
        };
        Options { deadline: Instant::now() + timeout, engine }
    }

    pub(super) async fn evaluate(
        &self,
        options: Options,
        scope: Arc<ReadScope>,
        query: impl FnOnce(
            &Options,
            &Scoped<'_>,
            &(dyn Fn() -> Option<Interrupt> + Sync),
        ) -> Result<Answer, Failed>
        + Send
        + 'static,
    ) -> Result<Evaluated, Failed> {
        let asked = Instant::now();
        let store = self.store.clone();
        self.pool
            .run(move |cancelled: &Cancelled| {
                let interrupt = || {
                    if cancelled.is_set() {
                        Some(Interrupt::Canceled)
                    } else if Instant::now() >= options.deadline {
                        Some(Interrupt::Timeout)
                    } else {
                        None
                    }
                };
                let begun = Instant::now();
                let answer = query(&options, &Scoped { store: &store, scope: &scope }, &interrupt)?;
                Ok(Evaluated { answer, waited: begun - asked, took: begun.elapsed() })
            })
            .await?
    }

    /// Runs `job` on a query thread, unless `input` is a failure already.
    pub(super) async fn compute<I: Send + 'static, T: Send + 'static>(
        &self,
        input: Result<I, Failed>,
        job: impl FnOnce(I, &Store) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let input = input?;
        let store = self.store.clone();
        self.pool.run(move |_: &Cancelled| job(input, &store)).await?
    }
}
