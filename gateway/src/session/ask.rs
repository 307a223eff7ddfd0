//! One question: an RPC call, and its answer as JSON.

use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use lm_model::Histogram;
use lm_schema::batch_capnp::label;
use lm_schema::histogram::read_histogram;
use lm_schema::query_capnp::{
    ResultType, answer, chunk, cursor, failure, formatted, log_answer, log_filter, names, query_options,
    query_stats, reader, selection, series_chunk, stream_account,
};
use tokio::sync::mpsc;

use super::stream::QueryStream;
use super::users::User;
use super::{Session, call_failed, console, dashboards, failed, metadata, timed_out};
use crate::backend::{
    Answered, CHUNKS_AHEAD, Failure, FailureKind, QueryOptions, Question, StatusForm, Token,
};
use crate::json::{self, Notes, Results, Shape, Stats};
use crate::params::{LogFilter, LogSearch, Selection};

/// Fills the rest of an answer; run it after the beginning was handed over.
type More = LocalBoxFuture<'static, ()>;
/// The collector gets this much longer to answer than to evaluate.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
const NO_DASHBOARD: &str = "there is no dashboard with this id; /api/v1/dashboards lists all";

/// Answers `question` with the rights of the token's holder.
pub(super) async fn ask(
    session: &Rc<Session>,
    token: &Token,
    question: Question,
) -> Result<(Answered, Option<More>), Failure> {
    let mut is_second = false;
    loop {
        let user = session.users.find(token).await?;
        let result = dispatch(session, &user, question.clone()).await;
        if let Err(Failure { kind: FailureKind::Unauthorized, .. }) = &result {
            // The capability is void; the token may still be worth another.
            session.users.forget(token);
            if !is_second {
                is_second = true;
                continue;
            }
        }
        return result;
    }
}

async fn dispatch(
    session: &Session,
    user: &User,
    question: Question,
) -> Result<(Answered, Option<More>), Failure> {
    let reader = user.reader()?;
    let whole = |bytes: Vec<u8>| Ok((Answered { first: bytes.into(), rest: None }, None));
    match question {
        Question::WhoAmI => whole(Vec::new()),
        Question::Query { expression, time_ms, options } => {
            let mut request = reader.query_request();
            request.get().set_expression(&expression[..]);
            request.get().set_time_unix_ms(time_ms);
            write_options(options, request.get().init_options());
            let patience = options.timeout + ANSWER_GRACE;
            let response = in_time(patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            let answer = answer.map_err(|error| failed(&error))?;
            stream(answer, options, time_ms, patience, user)
                .await
                .map_err(|failure| failure.of_parameter("query"))
        }
        Question::QueryRange { expression, range, options } => {
            let mut request = reader.query_range_request();
            let mut params = request.get();
            params.set_expression(&expression[..]);
            params.set_start_unix_ms(range.start_ms);
            params.set_end_unix_ms(range.end_ms);
            params.set_step_ms(range.step_ms);
            write_options(options, params.init_options());
            let patience = options.timeout + ANSWER_GRACE;
            let response = in_time(patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            let answer = answer.map_err(|error| failed(&error))?;
            stream(answer, options, range.start_ms, patience, user)
                .await
                .map_err(|failure| failure.of_parameter("query"))
        }
        Question::Series(selected) => {
            let mut request = reader.series_request();
            write_selection(&selected, request.get().init_selection());
            let response = in_time(session.patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            let answer = answer.map_err(|error| failed(&error))?;
            let options = QueryOptions {
                timeout: session.patience,
                lookback_ms: 0,
                limit: selected.limit,
                with_stats: false,
            };
            stream(answer, options, 0, session.patience, user)
                .await
                .map_err(|failure| failure.of_parameter("match[]"))
        }
        Question::LabelNames(selected) => {
            let mut request = reader.label_names_request();
            write_selection(&selected, request.get().init_selection());
            let response = in_time(session.patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            whole(read_names(answer.map_err(|error| failed(&error))?)?)
        }
        Question::LabelValues { name, selection } => {
            let mut request = reader.label_values_request();
            request.get().set_name(&name[..]);
            write_selection(&selection, request.get().init_selection());
            let response = in_time(session.patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            whole(read_names(answer.map_err(|error| failed(&error))?)?)
        }
        Question::SearchLogs(search) => whole(search_logs(reader, &search, session.patience).await?),
        Question::Metadata { metric, limit } => {
            let mut request = reader.metadata_request();
            request.get().set_metric(&metric[..]);
            request.get().set_limit(u32::try_from(limit).unwrap_or(u32::MAX));
            let response = in_time(session.patience, request.send().promise).await?;
            let list = response.get().and_then(|results| results.get_metrics());
            whole(list.and_then(metadata::descriptions).map_err(|error| failed(&error))?)
        }
        Question::Targets(filter) => {
            let response = in_time(session.patience, reader.targets_request().send().promise).await?;
            let list = response.get().and_then(|results| results.get_targets());
            whole(list.and_then(|list| metadata::targets(list, &filter)).map_err(|error| failed(&error))?)
        }
        Question::StoreStatus(form) => {
            let mut request = reader.store_status_request();
            if let StatusForm::Tsdb { limit } = form {
                request.get().set_limit(u32::try_from(limit).unwrap_or(u32::MAX));
            }
            let response = in_time(session.patience, request.send().promise).await?;
            let status = response.get().and_then(|results| results.get_status());
            let shown = status.and_then(|status| match form {
                StatusForm::Tsdb { .. } => metadata::tsdb(status),
                StatusForm::Runtime => Ok(metadata::runtime(status)),
            });
            whole(shown.map_err(|error| failed(&error))?)
        }
        Question::Format(expression) => {
            let mut request = reader.format_request();
            request.get().set_expression(&expression[..]);
            let response = in_time(session.patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            whole(formatted_text(answer, json::text)?)
        }
        Question::SyntaxTree(expression) => {
            let mut request = reader.syntax_tree_request();
            request.get().set_expression(&expression[..]);
            let response = in_time(session.patience, request.send().promise).await?;
            let answer = response.get().and_then(|results| results.get_answer());
            whole(formatted_text(answer, json::data)?)
        }
        Question::Losses => {
            let response = in_time(session.patience, reader.losses_request().send().promise).await?;
            let streams = response.get().and_then(|results| results.get_streams());
            whole(streams.and_then(losses).map_err(|error| failed(&error))?)
        }
        Question::Dashboards => {
            let response = in_time(session.patience, reader.dashboards_request().send().promise).await?;
            let list = response.get().and_then(|results| results.get_dashboards());
            whole(list.and_then(dashboards::all).map_err(|error| failed(&error))?)
        }
        Question::Dashboard(id) => {
            let mut request = reader.dashboards_request();
            request.get().set_id(&id[..]);
            let response = in_time(session.patience, request.send().promise).await?;
            let list = response.get().and_then(|results| results.get_dashboards());
            let found = list.and_then(dashboards::one).map_err(|error| failed(&error))?;
            whole(found.ok_or_else(|| Failure::new(FailureKind::NotFound, NO_DASHBOARD))?)
        }
        Question::Console(question) => whole(console::ask(session, user, question).await?),
    }
}

pub(super) async fn in_time<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, Failure> {
    tokio::time::timeout(patience, call).await.map_err(|_| timed_out())?.map_err(|error| call_failed(&error))
}

fn write_options(from: QueryOptions, mut to: query_options::Builder<'_>) {
    to.set_timeout_ms(u32::try_from(from.timeout.as_millis()).unwrap_or(u32::MAX).max(1));
    to.set_lookback_ms(from.lookback_ms);
}

fn write_selection(from: &Selection, mut to: selection::Builder<'_>) {
    to.set_start_unix_ms(from.start_ms);
    to.set_end_unix_ms(from.end_ms);
    to.set_limit(match from.limit {
        0 => 0,
        limit => u32::try_from(limit).unwrap_or(u32::MAX),
    });
    write_texts(&from.selectors, to.init_selectors(from.selectors.len() as u32));
}

fn write_texts(from: &[String], mut to: capnp::text_list::Builder<'_>) {
    for (index, text) in from.iter().enumerate() {
        to.set(index as u32, &text[..]);
    }
}

pub(super) fn write_filter(from: &LogFilter, mut to: log_filter::Builder<'_>) {
    to.set_selector(&from.selector[..]);
    to.set_regex(&from.regex[..]);
    write_texts(&from.contains, to.reborrow().init_contains(from.contains.len() as u32));
    write_texts(&from.excludes, to.init_excludes(from.excludes.len() as u32));
}

fn read_failure(from: Result<failure::Reader<'_>, capnp::Error>) -> Failure {
    let read = || -> Result<Failure, capnp::Error> {
        let from = from?;
        let kind = match from.get_kind()? {
            failure::Kind::BadData => FailureKind::BadData,
            failure::Kind::Execution => FailureKind::Execution,
            failure::Kind::Timeout => FailureKind::Timeout,
            failure::Kind::Canceled => FailureKind::Canceled,
            failure::Kind::Limit => FailureKind::Limit,
            failure::Kind::Overloaded => FailureKind::Overloaded,
            failure::Kind::Internal => FailureKind::Internal,
        };
        Ok(Failure::new(kind, from.get_message()?.to_str()?))
    };
    read().unwrap_or_else(|error| failed(&error))
}

fn read_texts(from: capnp::text_list::Reader<'_>) -> Result<Vec<String>, capnp::Error> {
    from.iter().map(|text| Ok(text?.to_str()?.to_owned())).collect()
}

fn read_names(from: names::Reader<'_>) -> Result<Vec<u8>, Failure> {
    let not_understood = |error: capnp::Error| failed(&error);
    match from.which().map_err(|error| not_understood(error.into()))? {
        names::Failed(failure) => Err(read_failure(failure).of_parameter("match[]")),
        names::Ok(list) => {
            let names = list.and_then(read_texts).map_err(not_understood)?;
            Ok(json::names(&names, from.get_is_truncated()))
        }
    }
}

fn read_stats(from: query_stats::Reader<'_>) -> Stats {
    Stats {
        queue_micros: from.get_queue_micros(),
        eval_micros: from.get_eval_micros(),
        samples_read: from.get_samples_read(),
        samples_peak: from.get_samples_peak(),
    }
}

/// Begins an answer: waits for its first chunk, so that a failure still gets
/// its own status.
async fn stream(
    from: answer::Reader<'_>,
    options: QueryOptions,
    unix_ms: i64,
    patience: Duration,
    user: &User,
) -> Result<(Answered, Option<More>), Failure> {
    let not_understood = |error: capnp::Error| failed(&error);
    let opened = match from.which().map_err(|error| not_understood(error.into()))? {
        answer::Failed(failure) => return Err(read_failure(failure)),
        answer::Ok(opened) => opened.map_err(not_understood)?,
    };
    let read = || -> Result<(Shape, Notes, cursor::Client), capnp::Error> {
        let shape = match opened.get_type()? {
            ResultType::Scalar => Shape::Scalar,
            ResultType::Vector => Shape::Vector,
            ResultType::Matrix => Shape::Matrix,
            ResultType::String => Shape::String,
            ResultType::Series => Shape::Series,
        };
        let stats = if options.with_stats { Some(read_stats(opened.get_stats()?)) } else { None };
        let notes = Notes {
            warnings: read_texts(opened.get_warnings()?)?,
            infos: read_texts(opened.get_infos()?)?,
            stats,
        };
        Ok((shape, notes, opened.get_cursor()?))
    };
    let (shape, notes, cursor) = read().map_err(not_understood)?;
    let mut pull = Pull {
        cursor,
        results: Some(Results::new(shape, notes, options.limit)),
        shape,
        unix_ms,
        patience,
        next: None,
        _stream: user.stream.clone(),
    };
    let mut first = Vec::new();
    pull.results.as_ref().expect("set in the line above").head(&mut first);
    let is_done = pull.chunk(&mut first).await?;
    if is_done {
        return Ok((Answered { first: first.into(), rest: None }, None));
    }
    let (tx, rest) = mpsc::channel(CHUNKS_AHEAD);
    Ok((Answered { first: first.into(), rest: Some(rest) }, Some(more(pull, tx).boxed_local())))
}

/// Sends chunk after chunk; ends, and with it the query, when the client is gone.
async fn more(mut pull: Pull, to: mpsc::Sender<Result<Bytes, Failure>>) {
    loop {
        let mut bytes = Vec::new();
        let pulled = tokio::select! {
            pulled = pull.chunk(&mut bytes) => pulled,
            () = to.closed() => return,
        };
        let is_last = !matches!(pulled, Ok(false));
        let is_broken = pulled.is_err();
        if to.send(pulled.map(|_| bytes.into())).await.is_err() || is_broken {
            return;
        }
        if is_last {
            // An empty piece marks the end.
            let _ = to.send(Ok(Bytes::new())).await;
            return;
        }
    }
}

fn formatted_text(
    answer: Result<formatted::Reader<'_>, capnp::Error>,
    to_json: fn(&str) -> Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    match answer.and_then(|answer| Ok(answer.which()?)).map_err(|error| failed(&error))? {
        formatted::Failed(failure) => Err(read_failure(failure).of_parameter("query")),
        formatted::Ok(text) => {
            let text = text.and_then(|text| Ok(text.to_str()?)).map_err(|error| failed(&error))?;
            Ok(to_json(text))
        }
    }
}

type NextPromise =
    capnp::capability::Promise<capnp::capability::Response<cursor::next_results::Owned>, capnp::Error>;

/// An answer being read. The chunk after the one being written is already
/// asked for.
struct Pull {
    cursor: cursor::Client,
    /// Taken at the end.
    results: Option<Results>,
    shape: Shape,
    /// Time of a string that comes without one.
    unix_ms: i64,
    patience: Duration,
    next: Option<NextPromise>,
    /// Open for as long as the cursor is read.
    _stream: Rc<QueryStream>,
}

impl Pull {
    /// Writes the next chunk; true when it was the last.
    async fn chunk(&mut self, to: &mut Vec<u8>) -> Result<bool, Failure> {
        let promise = self.next.take().unwrap_or_else(|| self.cursor.next_request().send().promise);
        let response = in_time(self.patience, promise).await?;
        let read = response.get().map_err(|error| failed(&error))?;
        let is_last = read.get_done();
        if !is_last {
            self.next = Some(self.cursor.next_request().send().promise);
        }
        let results = self.results.as_mut().expect("nobody reads on after the end");
        read.get_chunk()
            .and_then(|chunk| write_chunk(chunk, self.shape, self.unix_ms, results, to))
            .map_err(|error| failed(&error))?;
        let is_done = is_last || results.is_cut();
        if is_done {
            self.next = None;
            self.results.take().expect("it was there above").finish(to);
        }
        Ok(is_done)
    }
}

fn write_chunk(
    chunk: chunk::Reader<'_>,
    shape: Shape,
    unix_ms: i64,
    results: &mut Results,
    to: &mut Vec<u8>,
) -> Result<(), capnp::Error> {
    let mut labels = Vec::new();
    let all = chunk.get_series()?;
    if shape == Shape::String {
        let time = if all.is_empty() {
            unix_ms
        } else {
            all.get(0).get_times_unix_ms()?.iter().next().unwrap_or(unix_ms)
        };
        results.string(to, time, chunk.get_text()?.to_str()?);
        return Ok(());
    }
    for series in all {
        labels.clear();
        read_labels(series.get_labels()?, &mut labels)?;
        let samples = series.get_times_unix_ms()?.iter().zip(series.get_values()?.iter());
        let histograms = read_histograms(series)?;
        results.series(
            to,
            series.get_is_continued(),
            labels.iter().copied(),
            samples,
            histograms.into_iter(),
        );
    }
    Ok(())
}

fn read_histograms(series: series_chunk::Reader<'_>) -> Result<Vec<(i64, Histogram)>, capnp::Error> {
    if !series.has_histograms() {
        return Ok(Vec::new());
    }
    let times = series.get_histogram_times_unix_ms()?.iter();
    let read = |from| read_histogram(from).map_err(|error| capnp::Error::failed(error.to_string()));
    times.zip(series.get_histograms()?).map(|(time, from)| Ok((time, read(from)?))).collect()
}

pub(super) fn read_labels<'a>(
    from: capnp::struct_list::Reader<'a, label::Owned>,
    to: &mut Vec<(&'a str, &'a str)>,
) -> Result<(), capnp::Error> {
    for pair in from {
        to.push((pair.get_name()?.to_str()?, pair.get_value()?.to_str()?));
    }
    Ok(())
}

async fn search_logs(
    reader: &reader::Client,
    search: &LogSearch,
    patience: Duration,
) -> Result<Vec<u8>, Failure> {
    let mut request = reader.search_logs_request();
    let mut to = request.get().init_search();
    to.set_start_unix_nano(search.start_nano);
    to.set_end_unix_nano(search.end_nano);
    to.set_limit(search.limit as u32);
    to.set_is_forward(search.is_forward);
    write_filter(&search.filter, to.init_filter());
    let response = in_time(patience, request.send().promise).await?;
    let answer = response.get().and_then(|results| results.get_answer()).map_err(|error| failed(&error))?;
    match answer.which().map_err(|error| failed(&error.into()))? {
        log_answer::Failed(failure) => Err(read_failure(failure)),
        log_answer::Ok(lines) => lines
            .and_then(|lines| log_lines(lines, answer.get_is_truncated()))
            .map_err(|error| failed(&error)),
    }
}

fn log_lines(
    lines: capnp::struct_list::Reader<'_, lm_schema::query_capnp::log_line::Owned>,
    is_truncated: bool,
) -> Result<Vec<u8>, capnp::Error> {
    let mut to = br#"{"status":"success","data":{"lines":["#.to_vec();
    let mut labels = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        labels.clear();
        read_labels(line.get_labels()?, &mut labels)?;
        json::push_line(&mut to, line.get_time_unix_nano(), labels.iter().copied(), line.get_line()?);
    }
    let _ = write!(to, "],\"truncated\":{is_truncated}}}}}");
    Ok(to)
}

fn losses(streams: capnp::struct_list::Reader<'_, stream_account::Owned>) -> Result<Vec<u8>, capnp::Error> {
    let mut to = br#"{"status":"success","data":{"streams":["#.to_vec();
    for (index, account) in streams.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        to.extend_from_slice(br#"{"agent":"#);
        json::push_string(&mut to, account.get_agent()?.to_str()?);
        let incarnation = lm_schema::batch::read_incarnation(account.get_incarnation()?);
        let _ = write!(
            to,
            r#","stream":"{}","incarnation":"{incarnation}","durable_end":{},"stored_items":{},"fenced":{},"lost":["#,
            lm_schema::batch::read_stream(account.get_stream()?),
            account.get_durable_end(),
            account.get_stored_items(),
            account.get_is_fenced(),
        );
        for (index, lost) in account.get_lost()?.iter().enumerate() {
            to.extend_from_slice(if index > 0 { br#",{"reason":"# } else { br#"{"reason":"# });
            json::push_string(&mut to, lost.get_reason()?.to_str()?);
            let _ = write!(to, r#","items":{},"batches":{}}}"#, lost.get_items(), lost.get_batches());
        }
        to.extend_from_slice(b"]}");
    }
    to.extend_from_slice(b"]}}");
    Ok(to)
}
