//! What a reader is answered.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lm_schema::query_capnp::{ResultType, answer, failure, reader, target};

use super::rows::{Alive, FakeCursor, Rows};
use super::tail::FakeTail;
use super::{Said, Script};

pub struct FakeReader(pub Arc<Script>);

impl FakeReader {
    async fn say(&self, what: String, to: answer::Builder<'_>) -> Result<(), capnp::Error> {
        let said = self.0.answers.lock().unwrap().get(&what).cloned();
        self.0.asked.lock().unwrap().push(what);
        let mut said_warnings = Vec::new();
        let (kind, rows) = match said {
            None => (ResultType::Vector, Rows::Chunks(vec![vec![]])),
            Some(Said::Failed(kind, message)) => {
                let mut failed = to.init_failed();
                failed.set_kind(kind);
                failed.set_message(&message[..]);
                return Ok(());
            }
            Some(Said::Hangs) => {
                let _alive = Alive::new(&self.0);
                std::future::pending::<()>().await;
                return Ok(());
            }
            Some(Said::Revoked) => {
                return Err(capnp::Error::failed("revoked: an operator took this back".to_owned()));
            }
            Some(Said::Rows(kind, chunks, warnings)) => {
                said_warnings = warnings;
                (kind, Rows::Chunks(chunks))
            }
            Some(Said::Long(chunks)) => (ResultType::Matrix, Rows::Long { chunks, is_broken: false }),
            Some(Said::Breaks(chunks)) => (ResultType::Matrix, Rows::Long { chunks, is_broken: true }),
            Some(Said::Text(text)) => (ResultType::String, Rows::Text(text)),
        };
        let mut opened = to.init_ok();
        let mut list = opened.reborrow().init_warnings(said_warnings.len() as u32);
        for (index, warning) in said_warnings.iter().enumerate() {
            list.set(index as u32, &warning[..]);
        }
        opened.set_type(kind);
        opened.set_cursor(capnp_rpc::new_client(FakeCursor {
            alive: Alive::new(&self.0),
            rows,
            at: std::cell::Cell::new(0),
        }));
        Ok(())
    }
}

impl reader::Server for FakeReader {
    async fn query(
        self: Rc<Self>,
        params: reader::QueryParams,
        mut results: reader::QueryResults,
    ) -> Result<(), capnp::Error> {
        let what = params.get()?.get_expression()?.to_string()?;
        self.say(what, results.get().init_answer()).await
    }

    async fn query_range(
        self: Rc<Self>,
        params: reader::QueryRangeParams,
        mut results: reader::QueryRangeResults,
    ) -> Result<(), capnp::Error> {
        let what = params.get()?.get_expression()?.to_string()?;
        self.say(what, results.get().init_answer()).await
    }

    async fn series(
        self: Rc<Self>,
        params: reader::SeriesParams,
        mut results: reader::SeriesResults,
    ) -> Result<(), capnp::Error> {
        let selector = params.get()?.get_selection()?.get_selectors()?.get(0)?.to_string()?;
        let rows = vec![vec![(vec![("__name__", "up"), ("job", "a")], vec![], false)]];
        self.0.answers.lock().unwrap().insert(selector.clone(), Said::Rows(ResultType::Series, rows, vec![]));
        self.say(selector, results.get().init_answer()).await
    }

    async fn label_names(
        self: Rc<Self>,
        _: reader::LabelNamesParams,
        mut results: reader::LabelNamesResults,
    ) -> Result<(), capnp::Error> {
        let mut list = results.get().init_answer().init_ok(2);
        list.set(0, "__name__");
        list.set(1, "job");
        Ok(())
    }

    async fn label_values(
        self: Rc<Self>,
        params: reader::LabelValuesParams,
        mut results: reader::LabelValuesResults,
    ) -> Result<(), capnp::Error> {
        let name = params.get()?.get_name()?.to_string()?;
        let mut answer = results.get().init_answer();
        answer.set_is_truncated(true);
        answer.init_ok(1).set(0, &name[..]);
        Ok(())
    }

    async fn search_logs(
        self: Rc<Self>,
        params: reader::SearchLogsParams,
        mut results: reader::SearchLogsResults,
    ) -> Result<(), capnp::Error> {
        let search = params.get()?.get_search()?;
        let filter = search.get_filter()?;
        let text = format!(
            "{} {:?} {} {}",
            filter.get_selector()?.to_str()?,
            filter.get_contains()?.iter().map(|text| text.unwrap().to_string().unwrap()).collect::<Vec<_>>(),
            search.get_limit(),
            search.get_is_forward(),
        );
        let mut answer = results.get().init_answer();
        answer.set_is_truncated(true);
        let mut lines = answer.init_ok(2);
        lines.reborrow().get(0).set_time_unix_nano(1);
        lines.reborrow().get(0).set_line(text.as_bytes());
        lines.reborrow().get(1).set_line(b"\xff");
        Ok(())
    }

    async fn tail(
        self: Rc<Self>,
        params: reader::TailParams,
        mut results: reader::TailResults,
    ) -> Result<(), capnp::Error> {
        let after = params.get()?.get_after()?;
        let (epoch, position) = (after.get_epoch(), after.get_position());
        self.0.tail_after.lock().unwrap().push((epoch, position));
        let ours = self.0.epoch.load(Ordering::SeqCst) as u64;
        let end = self.0.events.lock().unwrap().last().map_or(0, |(at, _)| *at);
        let next = match epoch {
            0 => end + 1,
            epoch if epoch == ours => position + 1,
            _ => 0,
        };
        results.get().set_tail(capnp_rpc::new_client(FakeTail {
            script: self.0.clone(),
            next: std::cell::Cell::new(next),
            is_restarted: std::cell::Cell::new(epoch != 0 && epoch != ours),
        }));
        Ok(())
    }

    async fn metadata(
        self: Rc<Self>,
        params: reader::MetadataParams,
        mut results: reader::MetadataResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let asked = format!("metadata {:?} {}", params.get_metric()?.to_str()?, params.get_limit());
        self.0.asked.lock().unwrap().push(asked);
        let mut list = results.get().init_metrics(2);
        for (index, name) in ["a_seconds_total", "b"].into_iter().enumerate() {
            let mut of = list.reborrow().get(index as u32);
            of.set_metric(name);
            of.set_type(if index == 0 { "counter" } else { "unknown" });
            of.set_help(if index == 0 { "Says \"x\"." } else { "" });
            of.set_unit(if index == 0 { "seconds" } else { "" });
        }
        Ok(())
    }

    async fn targets(
        self: Rc<Self>,
        _: reader::TargetsParams,
        mut results: reader::TargetsResults,
    ) -> Result<(), capnp::Error> {
        let targets = [("node", "web-1"), ("app", "h:9"), ("db", "h:8")];
        let mut list = results.get().init_targets(targets.len() as u32);
        for (index, (job, instance)) in targets.into_iter().enumerate() {
            let mut of = list.reborrow().get(index as u32);
            of.set_is_host(job == "node");
            of.set_health(if job == "node" { target::Health::Up } else { target::Health::Down });
            of.set_last_sample_unix_ms(1_700_000_000_123);
            of.set_interval_ms(15_000);
            of.set_duration_micros(2_500);
            if job == "db" {
                of.set_scrape_url("https://h:8/m?a=1");
                of.set_last_error("cannot connect: \"no\"");
                of.set_scrape_interval_ms(30_000);
                of.set_scrape_timeout_ms(10_000);
            }
            let mut labels = of.init_labels(2);
            labels.reborrow().get(0).set_name("instance");
            labels.reborrow().get(0).set_value(instance);
            labels.reborrow().get(1).set_name("job");
            labels.reborrow().get(1).set_value(job);
        }
        Ok(())
    }

    async fn store_status(
        self: Rc<Self>,
        params: reader::StoreStatusParams,
        mut results: reader::StoreStatusResults,
    ) -> Result<(), capnp::Error> {
        let limit = params.get()?.get_limit();
        let mut status = results.get().init_status();
        status.set_series(limit.into());
        status.set_start_unix_ms(1_700_000_000_000);
        status.set_retention_ms(90_000_000);
        let mut entry = status.init_series_by_pair(1).get(0);
        entry.set_name("job=a\"");
        entry.set_count(3);
        Ok(())
    }

    async fn format(
        self: Rc<Self>,
        params: reader::FormatParams,
        mut results: reader::FormatResults,
    ) -> Result<(), capnp::Error> {
        let text = params.get()?.get_expression()?.to_string()?;
        let mut to = results.get().init_answer();
        if text == "bad" {
            let mut failed = to.init_failed();
            failed.set_kind(failure::Kind::BadData);
            failed.set_message("1:1: parse error: why");
        } else {
            to.set_ok(&format!("{text} / \"x\"")[..]);
        }
        Ok(())
    }

    async fn syntax_tree(
        self: Rc<Self>,
        params: reader::SyntaxTreeParams,
        mut results: reader::SyntaxTreeResults,
    ) -> Result<(), capnp::Error> {
        let text = params.get()?.get_expression()?.to_string()?;
        let tree = format!(r#"{{"type":"vectorSelector","name":"{text}"}}"#);
        results.get().init_answer().set_ok(&tree[..]);
        Ok(())
    }

    async fn losses(
        self: Rc<Self>,
        _: reader::LossesParams,
        mut results: reader::LossesResults,
    ) -> Result<(), capnp::Error> {
        let mut account = results.get().init_streams(1).get(0);
        account.set_agent("host-a");
        account.reborrow().init_incarnation().set_ordinal(5);
        account.set_durable_end(9);
        account.set_stored_items(80);
        account.set_is_fenced(true);
        let mut lost = account.init_lost(1).get(0);
        lost.set_reason("corrupt");
        lost.set_items(3);
        lost.set_batches(1);
        Ok(())
    }
}
