//! The `Reader` capability.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_logs::Direction;
use lm_mesh::{Grant, Terms};
use lm_model::{Labels, Matcher, Sample, TimeRange, Timestamp};
use lm_promql::{Answer, Engine, ErrorKind, Interrupt, Value};
use lm_schema::batch::{wire_stream, write_incarnation};
use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::{ResultType, answer, failure, names, query_options, reader, selection, tail};

use super::cursor::{CursorServer, Rows};
use super::pool::{Cancelled, Pool, PoolError};
use super::scope::{ReadScope, Scoped};
use super::tail::TailServer;
use crate::access::AgentScopes;
use crate::dashboards::{self, Dashboards};
use crate::ingest::IngestHandle;
use crate::log_filter::{LogFilter, matchers, read_query};
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
}

/// Most lines of one log answer: it is one message.
const LOG_LINES_MAX: usize = 5_000;
/// Bytes of one log answer, after which it is truncated.
const LOG_BYTES_MAX: usize = 16 << 20;
/// Selectors of one label query.
const SELECTORS_MAX: u32 = 64;

/// Reads what is in its scope. Every method goes through [`ReadScope`].
pub struct ReaderServer {
    pub context: Arc<QueryContext>,
    pub scope: Arc<ReadScope>,
    pub grant: Grant,
}

/// A failure that the caller shows its user.
#[derive(Debug)]
struct Failed {
    kind: failure::Kind,
    message: String,
}

fn bad_data(message: impl Into<String>) -> Failed {
    Failed { kind: failure::Kind::BadData, message: message.into() }
}

impl From<lm_promql::Error> for Failed {
    fn from(error: lm_promql::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::BadData => failure::Kind::BadData,
            ErrorKind::Execution => failure::Kind::Execution,
            ErrorKind::Canceled => failure::Kind::Canceled,
            ErrorKind::Timeout => failure::Kind::Timeout,
            ErrorKind::Limit => failure::Kind::Limit,
        };
        Failed { kind, message: error.to_string() }
    }
}

impl From<lm_promql::ParseError> for Failed {
    fn from(error: lm_promql::ParseError) -> Self {
        lm_promql::Error::from(error).into()
    }
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overloaded => Failed {
                kind: failure::Kind::Overloaded,
                message: "too many queries are waiting; try again in a moment".to_owned(),
            },
            PoolError::Panicked => Failed {
                kind: failure::Kind::Internal,
                message: "the query failed inside the collector; its log says why".to_owned(),
            },
        }
    }
}

fn write_failure(failed: &Failed, mut to: failure::Builder<'_>) {
    to.set_kind(failed.kind);
    to.set_message(&failed.message[..]);
}

/// Options as they mean something.
#[derive(Clone)]
struct Options {
    deadline: Instant,
    engine: Engine,
}

impl QueryContext {
    fn options(&self, from: query_options::Reader<'_>) -> Options {
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

    async fn evaluate(
        &self,
        options: Options,
        scope: Arc<ReadScope>,
        query: impl FnOnce(&Options, &Scoped<'_>, &dyn Fn() -> Option<Interrupt>) -> Result<Answer, Failed>
        + Send
        + 'static,
    ) -> Result<Answer, Failed> {
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
                query(&options, &Scoped { store: &store, scope: &scope }, &interrupt)
            })
            .await?
    }
}

impl QueryContext {
    /// Runs `job` on a query thread, unless `input` is a failure already.
    async fn compute<I: Send + 'static, T: Send + 'static>(
        &self,
        input: Result<I, Failed>,
        job: impl FnOnce(I, &Store) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let input = input?;
        let store = self.store.clone();
        self.pool.run(move |_: &Cancelled| job(input, &store)).await?
    }
}

fn write_answer(grant: &Grant, result: Result<Answer, Failed>, mut to: answer::Builder<'_>) {
    let answer = match result {
        Ok(answer) => answer,
        Err(failed) => return write_failure(&failed, to.init_failed()),
    };
    let mut opened = to.reborrow().init_ok();
    write_texts(&answer.warnings, opened.reborrow().init_warnings(answer.warnings.len() as u32));
    write_texts(&answer.infos, opened.reborrow().init_infos(answer.infos.len() as u32));
    let one = |(labels, sample): (Labels, Sample)| (labels, vec![sample]);
    let (kind, rows) = match answer.value {
        Value::Scalar(sample) => {
            (ResultType::Scalar, Rows { series: [one((Labels::empty(), sample))].into(), ..Rows::default() })
        }
        Value::Vector(samples) => {
            (ResultType::Vector, Rows { series: samples.into_iter().map(one).collect(), ..Rows::default() })
        }
        Value::Matrix(series) => {
            let series = series.into_iter().map(|series| (series.labels, series.samples)).collect();
            (ResultType::Matrix, Rows { series, ..Rows::default() })
        }
        Value::String(time, text) => {
            // Its time travels as a sample without a meaning of its own.
            let at = (Labels::empty(), Sample { time, value: 0.0 });
            (ResultType::String, Rows { series: [one(at)].into(), text })
        }
    };
    opened.set_type(kind);
    opened.set_cursor(grant.derive(Terms::default(), |_| CursorServer::new(rows)));
}

fn write_texts(from: &[String], mut to: capnp::text_list::Builder<'_>) {
    for (index, text) in from.iter().enumerate() {
        to.set(index as u32, &text[..]);
    }
}

/// Series that a label query is about.
struct Selected {
    /// Any of these; empty: all series.
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: usize,
}

fn read_selection(from: selection::Reader<'_>) -> Result<Selected, Failed> {
    let texts = from.get_selectors().map_err(|error| bad_data(error.to_string()))?;
    if texts.len() > SELECTORS_MAX {
        return Err(bad_data(format!("{} selectors (at most {SELECTORS_MAX})", texts.len())));
    }
    let mut selectors = Vec::new();
    for text in texts {
        let text = text.map_err(|error| bad_data(error.to_string()))?;
        let text = text.to_str().map_err(|error| bad_data(error.to_string()))?;
        selectors.push(matchers(text).map_err(bad_data)?);
    }
    let end = Timestamp::from_millis(from.get_end_unix_ms().saturating_add(1));
    Ok(Selected {
        selectors,
        range: TimeRange { start: Timestamp::from_millis(from.get_start_unix_ms()), end },
        limit: match from.get_limit() {
            0 => usize::MAX,
            limit => limit as usize,
        },
    })
}

impl Selected {
    /// Runs `find` for each selector, narrowed to the scope, and joins the
    /// answers, sorted.
    fn union<T: Ord>(
        &self,
        scope: &ReadScope,
        find: impl Fn(&[Matcher], TimeRange) -> Result<Vec<T>, lm_tsdb::Error>,
    ) -> Result<(Vec<T>, bool), Failed> {
        let all: [&[Matcher]; 1] = [&[]];
        let chosen: Vec<&[Matcher]> = match &self.selectors[..] {
            [] => all.to_vec(),
            some => some.iter().map(|matchers| &matchers[..]).collect(),
        };
        let mut found = Vec::new();
        for matchers in chosen {
            found.extend(
                find(&scope.narrow(matchers), self.range).map_err(|error| bad_data(error.to_string()))?,
            );
        }
        found.sort();
        found.dedup();
        let is_truncated = found.len() > self.limit;
        found.truncate(self.limit);
        Ok((found, is_truncated))
    }
}

fn write_names(result: Result<(Vec<String>, bool), Failed>, mut to: names::Builder<'_>) {
    match result {
        Ok((found, is_truncated)) => {
            to.set_is_truncated(is_truncated);
            write_texts(&found, to.init_ok(found.len() as u32));
        }
        Err(failed) => write_failure(&failed, to.init_failed()),
    }
}

const TRUNCATED: &str = "results truncated due to limit";

impl reader::Server for ReaderServer {
    async fn query(
        self: Rc<Self>,
        params: reader::QueryParams,
        mut results: reader::QueryResults,
    ) -> Result<(), capnp::Error> {
        let (expression, at, options) = {
            let params = params.get()?;
            let options = self.context.options(params.get_options()?);
            (
                params.get_expression()?.to_string()?,
                Timestamp::from_millis(params.get_time_unix_ms()),
                options,
            )
        };
        drop(params);
        let result = self
            .context
            .evaluate(options, self.scope.clone(), move |options, store, interrupt| {
                let expr = lm_promql::parse(&expression)?;
                Ok(options.engine.instant(&expr, store, at, interrupt)?)
            })
            .await;
        write_answer(&self.grant, result, results.get().init_answer());
        Ok(())
    }

    async fn query_range(
        self: Rc<Self>,
        params: reader::QueryRangeParams,
        mut results: reader::QueryRangeResults,
    ) -> Result<(), capnp::Error> {
        let (expression, start, end, step_ms, options) = {
            let params = params.get()?;
            (
                params.get_expression()?.to_string()?,
                Timestamp::from_millis(params.get_start_unix_ms()),
                Timestamp::from_millis(params.get_end_unix_ms()),
                params.get_step_ms(),
                self.context.options(params.get_options()?),
            )
        };
        drop(params);
        let result = self
            .context
            .evaluate(options, self.scope.clone(), move |options, store, interrupt| {
                let step = u64::try_from(step_ms)
                    .ok()
                    .filter(|step| *step > 0)
                    .ok_or_else(|| bad_data("the step must be positive"))?;
                let expr = lm_promql::parse(&expression)?;
                let step = Duration::from_millis(step);
                Ok(options.engine.range(&expr, store, start, end, step, interrupt)?)
            })
            .await;
        write_answer(&self.grant, result, results.get().init_answer());
        Ok(())
    }

    async fn series(
        self: Rc<Self>,
        params: reader::SeriesParams,
        mut results: reader::SeriesResults,
    ) -> Result<(), capnp::Error> {
        let selected = read_selection(params.get()?.get_selection()?);
        drop(params);
        let scope = self.scope.clone();
        let found = self
            .context
            .compute(selected, move |selected, store| {
                selected.union(&scope, |matchers, range| store.head().series_labels(matchers, range))
            })
            .await;
        let mut to = results.get().init_answer();
        match found {
            Ok((found, is_truncated)) => {
                let mut opened = to.reborrow().init_ok();
                opened.set_type(ResultType::Series);
                if is_truncated {
                    opened.reborrow().init_warnings(1).set(0, TRUNCATED);
                }
                let series = found.into_iter().map(|labels| (labels, Vec::new())).collect();
                let cursor = CursorServer::new(Rows { series, ..Rows::default() });
                opened.set_cursor(self.grant.derive(Terms::default(), |_| cursor));
            }
            Err(failed) => write_failure(&failed, to.init_failed()),
        }
        Ok(())
    }

    async fn label_names(
        self: Rc<Self>,
        params: reader::LabelNamesParams,
        mut results: reader::LabelNamesResults,
    ) -> Result<(), capnp::Error> {
        let selected = read_selection(params.get()?.get_selection()?);
        drop(params);
        let scope = self.scope.clone();
        let found = self
            .context
            .compute(selected, move |selected, store| {
                selected.union(&scope, |matchers, range| store.head().label_names(matchers, range))
            })
            .await;
        write_names(found, results.get().init_answer());
        Ok(())
    }

    async fn label_values(
        self: Rc<Self>,
        params: reader::LabelValuesParams,
        mut results: reader::LabelValuesResults,
    ) -> Result<(), capnp::Error> {
        let (name, selected) = {
            let params = params.get()?;
            (params.get_name()?.to_string()?, read_selection(params.get_selection()?))
        };
        drop(params);
        let scope = self.scope.clone();
        let found = self
            .context
            .compute(selected, move |selected, store| {
                selected.union(&scope, |matchers, range| store.head().label_values(&name, matchers, range))
            })
            .await;
        write_names(found, results.get().init_answer());
        Ok(())
    }

    async fn search_logs(
        self: Rc<Self>,
        params: reader::SearchLogsParams,
        mut results: reader::SearchLogsResults,
    ) -> Result<(), capnp::Error> {
        let query = {
            let search = params.get()?.get_search()?;
            read_query(search.get_filter()?).map(|mut query| {
                query.matchers = self.scope.narrow(&query.matchers);
                query.start_unix_nano = search.get_start_unix_nano();
                query.end_unix_nano = search.get_end_unix_nano();
                query.limit = (search.get_limit() as usize).clamp(1, LOG_LINES_MAX);
                query.direction =
                    if search.get_is_forward() { Direction::Forward } else { Direction::Backward };
                query
            })
        };
        drop(params);
        let found = self
            .context
            .compute(query.map_err(bad_data), |query, store| {
                store.recent().search(&query).map_err(|error| bad_data(error.to_string()))
            })
            .await;
        let mut to = results.get().init_answer();
        match found {
            Ok(answer) => {
                let mut bytes = 0;
                let fits = answer.records.iter().take_while(|record| {
                    bytes += record.line.len();
                    bytes <= LOG_BYTES_MAX
                });
                let count = fits.count();
                to.set_is_truncated(answer.truncated || count < answer.records.len());
                let mut list = to.init_ok(count as u32);
                for (index, record) in answer.records[..count].iter().enumerate() {
                    let mut line = list.reborrow().get(index as u32);
                    line.set_time_unix_nano(record.time_unix_nano);
                    line.set_line(&record.line);
                    write_pairs(&record.labels, line.init_labels(record.labels.len() as u32));
                }
            }
            Err(failed) => write_failure(&failed, to.init_failed()),
        }
        Ok(())
    }

    async fn tail(
        self: Rc<Self>,
        params: reader::TailParams,
        mut results: reader::TailResults,
    ) -> Result<(), capnp::Error> {
        let (epoch, position, filter) = {
            let params = params.get()?;
            let after = params.get_after()?;
            (
                after.get_epoch(),
                after.get_position(),
                LogFilter::read(params.get_filter()?, self.scope.clone()),
            )
        };
        let filter = filter.map_err(|message| capnp::Error::failed(format!("invalid: {message}")))?;
        let server = TailServer::new(self.context.clone(), filter, epoch, position);
        let tail: tail::Client = self.grant.derive(Terms::default(), |_| server);
        results.get().set_tail(tail);
        Ok(())
    }

    async fn losses(
        self: Rc<Self>,
        _: reader::LossesParams,
        mut results: reader::LossesResults,
    ) -> Result<(), capnp::Error> {
        let mut accounts = self
            .context
            .ingest
            .accounts()
            .await
            .ok_or_else(|| capnp::Error::overloaded("overloaded: ingest does not answer".to_owned()))?;
        accounts.retain(|of| self.scope.takes_agent(&of.agent));
        let mut list = results.get().init_streams(accounts.len() as u32);
        for (index, of) in accounts.iter().enumerate() {
            let mut entry = list.reborrow().get(index as u32);
            entry.set_agent(&of.agent[..]);
            entry.set_stream(wire_stream(of.stream));
            write_incarnation(of.incarnation, entry.reborrow().init_incarnation());
            entry.set_durable_end(of.account.durable_end);
            entry.set_stored_items(of.account.items);
            entry.set_is_fenced(of.is_fenced);
            let mut lost = entry.init_lost(of.account.lost.len() as u32);
            for (index, (reason, counts)) in of.account.lost.iter().enumerate() {
                let mut to = lost.reborrow().get(index as u32);
                to.set_reason(&reason[..]);
                to.set_items(counts.items);
                to.set_batches(counts.batches);
            }
        }
        Ok(())
    }

    async fn dashboards(
        self: Rc<Self>,
        params: reader::DashboardsParams,
        mut results: reader::DashboardsResults,
    ) -> Result<(), capnp::Error> {
        let id = params.get()?.get_id()?.to_string()?;
        drop(params);
        let dashboards = &self.context.dashboards;
        let chosen: Vec<_> = match &id[..] {
            "" => dashboards.all().iter().collect(),
            id => dashboards.find(id).into_iter().collect(),
        };
        let mut list = results.get().init_dashboards(chosen.len() as u32);
        for (index, dashboard) in chosen.into_iter().enumerate() {
            dashboards::write(dashboard, list.reborrow().get(index as u32));
        }
        Ok(())
    }
}
