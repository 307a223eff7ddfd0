//! The `Reader` capability.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lm_logs::Direction;
use lm_mesh::{Grant, Terms};
use lm_model::{METRIC_NAME, TimeRange, Timestamp};
use lm_promql::SeriesData;
use lm_schema::batch::{wire_stream, write_incarnation};
use lm_schema::labels::write_pairs;
use lm_schema::query_capnp::{ResultType, reader, tail};

use super::answer::{write_answer, write_failure, write_names, write_text};
use super::context::QueryContext;
use super::cursor::{CursorServer, Rows};
use super::failed::{bad_data, exception};
use super::scope::ReadScope;
use super::selection::read_selection;
use super::status;
use super::tail::TailServer;
use super::targets;
use crate::dashboards;
use crate::log_filter::{LogFilter, read_query};
use crate::store::Store;
use crate::unix_now;

/// Most lines of one log answer: it is one message.
const LOG_LINES_MAX: usize = 5_000;
/// Bytes of one log answer, after which it is truncated.
const LOG_BYTES_MAX: usize = 16 << 20;

/// Metrics of one metadata answer: it is one message.
const METADATA_MAX: usize = 20_000;

/// Reads what is in its scope. Every method goes through [`ReadScope`].
pub struct ReaderServer {
    pub context: Arc<QueryContext>,
    pub scope: Arc<ReadScope>,
    pub grant: Grant,
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
                let expr = options.engine.parse(&expression)?;
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
                let expr = options.engine.parse(&expression)?;
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
                selected.union(&scope, |matchers, range| store.db.series_labels(matchers, range, usize::MAX))
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
                let series = |labels| SeriesData { labels, samples: Vec::new(), histograms: Vec::new() };
                let series = found.into_iter().map(series).collect();
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
                selected.union(&scope, |matchers, range| store.db.label_names(matchers, range))
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
                selected.union(&scope, |matchers, range| store.db.label_values(&name, matchers, range))
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

    async fn metadata(
        self: Rc<Self>,
        params: reader::MetadataParams,
        mut results: reader::MetadataResults,
    ) -> Result<(), capnp::Error> {
        let (metric, limit) = {
            let params = params.get()?;
            (params.get_metric()?.to_string()?, params.get_limit() as usize)
        };
        drop(params);
        let (scope, metadata) = (self.scope.clone(), self.context.metadata.clone());
        let described = self
            .context
            .compute(Ok(()), move |(), store| {
                let names = store
                    .db
                    .label_values(METRIC_NAME, &scope.narrow(&[]), TimeRange::ALL)
                    .map_err(|error| bad_data(error.to_string()))?;
                Ok(metadata.describe(&names))
            })
            .await
            .map_err(exception)?;
        let limit = if limit == 0 { METADATA_MAX } else { limit.min(METADATA_MAX) };
        let chosen: Vec<_> =
            described.iter().filter(|(name, _)| metric.is_empty() || **name == metric).take(limit).collect();
        let mut list = results.get().init_metrics(chosen.len() as u32);
        for (index, (name, description)) in chosen.into_iter().enumerate() {
            let mut to = list.reborrow().get(index as u32);
            to.set_metric(&name[..]);
            to.set_type(description.kind.name());
            to.set_help(&description.help[..]);
            to.set_unit(&description.unit[..]);
        }
        Ok(())
    }

    async fn targets(
        self: Rc<Self>,
        _: reader::TargetsParams,
        mut results: reader::TargetsResults,
    ) -> Result<(), capnp::Error> {
        let (scope, now) = (self.scope.clone(), unix_now());
        let found = self
            .context
            .compute(Ok(()), move |(), store| targets::find(store, &scope, now))
            .await
            .map_err(exception)?;
        let mut list = results.get().init_targets(found.len() as u32);
        for (index, target) in found.iter().enumerate() {
            let said = self.context.scraped.get(&target.labels).unwrap_or_default();
            target.write(&said, list.reborrow().get(index as u32));
        }
        Ok(())
    }

    async fn store_status(
        self: Rc<Self>,
        params: reader::StoreStatusParams,
        mut results: reader::StoreStatusResults,
    ) -> Result<(), capnp::Error> {
        let limit = params.get()?.get_limit() as usize;
        drop(params);
        let scope = self.scope.clone();
        let status = self
            .context
            .compute(Ok(()), move |(), store| status::count(store, &scope, limit))
            .await
            .map_err(exception)?;
        let mut to = results.get().init_status();
        status.write(&mut to);
        to.set_start_unix_ms(self.context.started.as_millis());
        to.set_retention_ms(self.context.retention.as_millis() as u64);
        Ok(())
    }

    async fn format(
        self: Rc<Self>,
        params: reader::FormatParams,
        mut results: reader::FormatResults,
    ) -> Result<(), capnp::Error> {
        let expression = params.get()?.get_expression()?.to_string()?;
        drop(params);
        let features = self.context.engine.features;
        let format = move |text: String, _: &Store| Ok(lm_promql::format(&text, features)?);
        let formatted = self.context.compute(Ok(expression), format).await;
        write_text(formatted, results.get().init_answer());
        Ok(())
    }

    async fn syntax_tree(
        self: Rc<Self>,
        params: reader::SyntaxTreeParams,
        mut results: reader::SyntaxTreeResults,
    ) -> Result<(), capnp::Error> {
        let expression = params.get()?.get_expression()?.to_string()?;
        drop(params);
        let features = self.context.engine.features;
        let tree = move |text: String, _: &Store| Ok(lm_promql::tree_json(&text, features)?);
        let tree = self.context.compute(Ok(expression), tree).await;
        write_text(tree, results.get().init_answer());
        Ok(())
    }
}
