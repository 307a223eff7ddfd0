//! What a scoped reader answers is what an unscoped one would answer if the
//! store held only what is in scope: for every method, for random data,
//! scopes and questions.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lm_fs::RealFs;
use lm_mesh::{Activity, Ledger, Principal, Role, Root, Scope, Terms, TokenTable};
use lm_model::Labels;
use lm_model::{BatchId, Incarnation, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Stream, Timestamp};
use lm_promql::Engine;
use lm_schema::labels::read_pairs;
use lm_schema::query_capnp::{answer, log_answer, names, reader, tail_event};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::access::AgentScopes;
use crate::dashboards::Dashboards;
use crate::ingest::{Core, CoreOptions, IngestHandle, Push, Unreadable, stamp};
use crate::metadata::Metadata;
use crate::scraped::ScrapedTargets;
use crate::spool::{Spool, SpoolOptions};
use crate::store::{Store, testing};
use crate::tail::{Notice, TailEvent};

/// Samples stand at these minutes before it.
const NOW_MS: i64 = 1_700_000_000_000;
const MINUTES: i64 = 6;
const HOUR: Duration = Duration::from_secs(3600);

/// Regular expressions with a meaning that needs none.
type Pattern = (&'static str, fn(&str) -> bool);
const PATTERNS: [Pattern; 5] = [
    ("web-.*", |value| value.starts_with("web-")),
    ("prod|dev", |value| value == "prod" || value == "dev"),
    (".+", |value| !value.is_empty()),
    (".*", |_| true),
    ("a?", |value| value.is_empty() || value == "a"),
];

/// What `matcher` means, written a second time.
fn holds(matcher: &Matcher, labels: &Labels) -> bool {
    let value = labels.get(&matcher.name).unwrap_or("");
    let pattern = || PATTERNS.iter().find(|(text, _)| **text == *matcher.value).expect("ours").1(value);
    match matcher.op {
        MatchOp::Eq => *value == *matcher.value,
        MatchOp::Ne => *value != *matcher.value,
        MatchOp::Re => pattern(),
        MatchOp::Nre => !pattern(),
    }
}

fn in_scope(scope: &[Matcher], labels: &Labels) -> bool {
    scope.iter().all(|matcher| holds(matcher, labels))
}

#[derive(Clone, Debug)]
struct Data {
    series: Vec<(Labels, Vec<(i64, f64)>)>,
    lines: Vec<(Labels, i64, String)>,
    notices: Vec<String>,
}

const VALUES: [(&str, &[&str]); 3] = [
    ("env", &["prod", "dev", "test", ""]),
    ("instance", &["web-1", "web-2", "db-1"]),
    ("job", &["a", "b", ""]),
];
const METRICS: [&str; 3] = ["up", "requests_total", "h_bucket"];

fn labels(with_name: bool) -> impl Strategy<Value = Labels> {
    let of = |index: usize| select(VALUES[index].1);
    (of(0), of(1), of(2), select(&METRICS[..])).prop_map(move |(env, instance, job, name)| {
        let mut builder = LabelsBuilder::default();
        builder.set("env", env).set("instance", instance).set("job", job);
        if with_name {
            builder.set(METRIC_NAME, name);
        }
        builder.build()
    })
}

fn data() -> impl Strategy<Value = Data> {
    let samples = prop::collection::btree_map(0..=MINUTES, 0..100i32, 1..6);
    let samples = samples.prop_map(|all| {
        all.into_iter()
            .map(|(minute, value)| (NOW_MS - minute * 60_000, f64::from(value)))
            .collect::<Vec<_>>()
    });
    let series = prop::collection::btree_map(labels(true), samples, 0..16);
    let line = (labels(false), 0..MINUTES, "[abc]{1,3}");
    let notices = prop::collection::vec(select(VALUES[1].1).prop_map(str::to_owned), 0..5);
    (series, prop::collection::vec(line, 0..16), notices).prop_map(|(series, lines, notices)| Data {
        series: series
            .into_iter()
            .map(|(labels, mut samples)| {
                samples.sort_by_key(|(time, _)| *time);
                (labels, samples)
            })
            .collect(),
        lines: lines.into_iter().map(|(labels, at, text)| (labels, NOW_MS - at * 60_000, text)).collect(),
        notices,
    })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let exact = (0..3usize).prop_flat_map(|label| {
        let (name, values) = VALUES[label];
        (Just(name), select(values), select(&[MatchOp::Eq, MatchOp::Ne][..]))
    });
    let pattern = (select(&["env", "instance", "job", METRIC_NAME][..]), select(&PATTERNS[..]))
        .prop_flat_map(|(name, (text, _))| {
            (Just(name), Just(text), select(&[MatchOp::Re, MatchOp::Nre][..]))
        });
    prop_oneof![exact, pattern].prop_map(|(name, value, op)| Matcher::new(name, op, value))
}

fn scope() -> impl Strategy<Value = Vec<Matcher>> {
    prop::collection::vec(matcher(), 1..4)
}

/// A selector in text.
fn selector() -> impl Strategy<Value = String> {
    let name = select(&METRICS[..]);
    (name, prop::collection::vec(matcher(), 0..3)).prop_map(|(name, matchers)| {
        let texts: Vec<_> = matchers
            .iter()
            .filter(|matcher| *matcher.name != *METRIC_NAME)
            .map(|matcher| format!("{}{}\"{}\"", matcher.name, matcher.op, matcher.value))
            .collect();
        format!("{name}{{{}}}", texts.join(","))
    })
}

/// Vectors of every shape that the language has.
fn expression() -> impl Strategy<Value = String> {
    let modified = (selector(), select(&["", " offset 2m", " @ 1699999900", " @ end()"][..]))
        .prop_map(|(selector, modifier)| selector + modifier);
    let range = (select(&["rate", "max_over_time", "count_over_time", "absent_over_time"][..]), selector())
        .prop_map(|(function, selector)| format!("{function}({selector}[3m])"));
    let absent = selector().prop_map(|selector| format!("absent({selector})"));
    prop_oneof![modified, range, absent].prop_recursive(3, 12, 2, |inner| {
        let aggregate = (
            select(&["sum", "count", "max", "topk(2, ", "count_values(\"env\", ", "group"][..]),
            select(&["by (env)", "without (instance)", "by (__name__)", ""][..]),
            inner.clone(),
        )
            .prop_map(|(op, grouping, inner)| match op.split_once('(') {
                Some((op, param)) => format!("{op} {grouping} ({param}{inner})"),
                None => format!("{op} {grouping} ({inner})"),
            });
        let function = (
            select(
                &[
                    "label_replace(%, \"env\", \"prod\", \"instance\", \".*\")",
                    "label_replace(%, \"instance\", \"$1\", \"job\", \"(.*)\")",
                    "label_join(%, \"env\", \"-\", \"instance\", \"job\")",
                    "max_over_time((%)[4m:1m])",
                    "absent_over_time((%)[4m:1m] offset 1m)",
                    "vector(scalar(%))",
                    "timestamp(%)",
                    "sort(%)",
                    "absent(%)",
                    "-(%)",
                ][..],
            ),
            inner.clone(),
        )
            .prop_map(|(shape, inner)| shape.replace('%', &inner));
        let binary = (
            inner.clone(),
            select(
                &[
                    "+",
                    "== bool",
                    ">",
                    "and",
                    "or",
                    "unless",
                    "or on (env)",
                    "unless on (env)",
                    "and ignoring (job)",
                    "* on (instance) group_left (env)",
                    "/ ignoring (env) group_right",
                ][..],
            ),
            inner,
        )
            .prop_map(|(left, op, right)| format!("({left}) {op} ({right})"));
        prop_oneof![aggregate, function, binary]
    })
}

struct World {
    pool: Pool,
    ingest: IngestHandle,
    agents: AgentScopes,
    /// What all readers derive from.
    root: Root,
    /// Never ends: the process does.
    _spool: tempfile::TempDir,
}

/// Threads and an ingest handle that all cases share. Agents are labelled with
/// the first value of their name: web-* are prod, others are nothing.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let options = SpoolOptions { bytes_max: 1 << 30, segment_bytes: 1 << 20, retention: HOUR };
        let spool = Spool::open(RealFs, dir.path().to_owned(), options).unwrap();
        let core_options = CoreOptions {
            limits: Default::default(),
            wall_clock: crate::unix_now,
            monotonic_clock: std::time::Instant::now,
            mutant: None,
            out_of_order_window: Duration::from_secs(600),
            flush_interval: HOUR,
            samples_bytes_max: usize::MAX,
        };
        let store = store(&Data::empty());
        let (core, _) = Core::open(spool, store, Arc::default(), Arc::default(), core_options).unwrap();
        let (ingest, _) = crate::ingest::start(core).unwrap();
        let mut table = TokenTable::default();
        for (index, name) in VALUES[1].1.iter().enumerate() {
            let scope = Scope { labels: given(name), ..Scope::default() };
            let principal = Principal { name: (*name).to_owned(), role: Role::Agent, scope: Arc::new(scope) };
            table.add([index as u8; 32], principal).unwrap();
        }
        let agents = AgentScopes::default();
        agents.replace(&table);
        let activity = Arc::new(Activity::new(u32::MAX, Arc::default()));
        let root = Ledger::new().root(0, Arc::from("test"), activity);
        World { pool: Pool::new(2).unwrap(), ingest, agents, root, _spool: dir }
    })
}

fn given(agent: &str) -> Labels {
    let env = if agent.starts_with("web-") { "prod" } else { "" };
    Labels::from_pairs([("env", env)])
}

/// Whether an agent's notices and accounts are in scope: every label of the
/// scope must be one that all of its data has.
fn agent_in_scope(scope: &[Matcher], agent: &str) -> bool {
    let stamp = stamp(agent, &given(agent));
    scope.iter().all(|matcher| stamp.get(&matcher.name).is_some() && holds(matcher, &stamp))
}

impl Data {
    fn empty() -> Data {
        Data { series: Vec::new(), lines: Vec::new(), notices: Vec::new() }
    }

    fn within(&self, scope: &[Matcher]) -> Data {
        let mut data = self.clone();
        data.series.retain(|(labels, _)| in_scope(scope, labels));
        data.lines.retain(|(labels, ..)| in_scope(scope, labels));
        data.notices.retain(|agent| agent_in_scope(scope, agent));
        data
    }
}

fn store(data: &Data) -> Arc<Store> {
    // What is in memory needs the directory no more.
    let (store, _dir) = testing::store();
    store.db.with_head(|head| {
        for (labels, samples) in &data.series {
            let series = head.series(labels).unwrap();
            for (time, value) in samples {
                head.append(Timestamp::from_millis(*time), [(series, *value)]);
            }
        }
    });
    for (labels, time, text) in &data.lines {
        let time_unix_nano = time * 1_000_000;
        store.recent_mut().append(labels, time_unix_nano, text.as_bytes()).unwrap();
        store.tail.publish([TailEvent::Log {
            labels: labels.clone(),
            time_unix_nano,
            line: text.as_bytes().into(),
        }]);
    }
    for agent in &data.notices {
        store.tail.publish([TailEvent::Notice(Notice {
            time_unix_nano: 1,
            code: "test".to_owned(),
            agent: agent.clone(),
            message: String::new(),
            items: 0,
        })]);
    }
    Arc::new(store)
}

fn reader(store: Arc<Store>, selector: Vec<Matcher>) -> reader::Client {
    let world = world();
    let context = Arc::new(QueryContext {
        store,
        ingest: world.ingest.clone(),
        pool: world.pool.clone(),
        engine: Engine::default(),
        agents: world.agents.clone(),
        timeout: Duration::from_secs(30),
        dashboards: Dashboards::load(&Default::default(), Path::new("test")).unwrap(),
        metadata: Metadata::default(),
        scraped: ScrapedTargets::default(),
        started: Timestamp::from_millis(1_000),
        retention: Duration::from_secs(3600),
    });
    let scope = ReadScope::new(&Scope { selector, ..Scope::default() }, world.agents.clone()).unwrap();
    world.root.grant().derive(Terms::default(), |grant| ReaderServer { context, scope, grant })
}

/// A question, and everything that was answered, as text.
#[derive(Clone, Debug)]
struct Questions {
    expression: String,
    selectors: Vec<String>,
    filter: String,
}

fn questions() -> impl Strategy<Value = Questions> {
    let filter = prop_oneof![
        Just(String::new()),
        matcher().prop_map(|matcher| {
            // Some matcher must not match nothing.
            format!("{{{}{}\"{}\",instance=~\".+\"}}", matcher.name, matcher.op, matcher.value)
        })
    ];
    (expression(), prop::collection::vec(selector(), 0..3), filter)
        .prop_map(|(expression, selectors, filter)| Questions { expression, selectors, filter })
}

async fn ask(reader: &reader::Client, questions: &Questions) -> Vec<(&'static str, String)> {
    let mut answers = Vec::new();
    let mut request = reader.query_request();
    request.get().set_expression(&questions.expression[..]);
    request.get().set_time_unix_ms(NOW_MS);
    let response = request.send().promise.await.unwrap();
    answers.push(("query", rows(response.get().unwrap().get_answer().unwrap()).await));

    let mut request = reader.query_range_request();
    request.get().set_expression(&questions.expression[..]);
    request.get().set_start_unix_ms(NOW_MS - MINUTES * 60_000);
    request.get().set_end_unix_ms(NOW_MS);
    request.get().set_step_ms(60_000);
    let response = request.send().promise.await.unwrap();
    answers.push(("queryRange", rows(response.get().unwrap().get_answer().unwrap()).await));

    let select = |mut to: lm_schema::query_capnp::selection::Builder<'_>| {
        to.set_start_unix_ms(0);
        to.set_end_unix_ms(NOW_MS);
        let mut list = to.init_selectors(questions.selectors.len() as u32);
        for (index, text) in questions.selectors.iter().enumerate() {
            list.set(index as u32, &text[..]);
        }
    };
    let mut request = reader.series_request();
    select(request.get().init_selection());
    let response = request.send().promise.await.unwrap();
    answers.push(("series", rows(response.get().unwrap().get_answer().unwrap()).await));
    let mut request = reader.label_names_request();
    select(request.get().init_selection());
    let response = request.send().promise.await.unwrap();
    answers.push(("labelNames", texts(response.get().unwrap().get_answer().unwrap())));
    for name in ["env", "instance", METRIC_NAME] {
        let mut request = reader.label_values_request();
        request.get().set_name(name);
        select(request.get().init_selection());
        let response = request.send().promise.await.unwrap();
        answers.push(("labelValues", texts(response.get().unwrap().get_answer().unwrap())));
    }

    let mut request = reader.search_logs_request();
    let mut search = request.get().init_search();
    search.set_end_unix_nano(i64::MAX);
    search.set_limit(1000);
    search.init_filter().set_selector(&questions.filter[..]);
    let response = request.send().promise.await.unwrap();
    let found = match response.get().unwrap().get_answer().unwrap().which().unwrap() {
        log_answer::Ok(lines) => lines
            .unwrap()
            .iter()
            .map(|line| {
                let labels = read_pairs(line.get_labels().unwrap()).unwrap();
                format!("{} {labels} {:?}\n", line.get_time_unix_nano(), line.get_line().unwrap())
            })
            .collect(),
        log_answer::Failed(failed) => failed.unwrap().get_message().unwrap().to_string().unwrap(),
    };
    answers.push(("searchLogs", found));
    answers.push(("tail", tailed(reader, &questions.filter).await));

    let response = reader.metadata_request().send().promise.await.unwrap();
    let metrics = response.get().unwrap().get_metrics().unwrap();
    let names = metrics.iter().map(|of| of.get_metric().unwrap().to_string().unwrap() + "\n");
    answers.push(("metadata", names.collect()));
    let mut request = reader.store_status_request();
    request.get().set_limit(1000);
    let response = request.send().promise.await.unwrap();
    let status = response.get().unwrap().get_status().unwrap();
    let mut counted = format!("{} {}\n", status.get_series(), status.get_label_pairs());
    for list in [
        status.get_series_by_metric(),
        status.get_values_by_label(),
        status.get_bytes_by_label(),
        status.get_series_by_pair(),
    ] {
        for of in list.unwrap() {
            counted += &format!("{} {}\n", of.get_name().unwrap().to_str().unwrap(), of.get_count());
        }
    }
    answers.push(("storeStatus", counted));
    answers
}

async fn rows(answer: answer::Reader<'_>) -> String {
    let opened = match answer.which().unwrap() {
        answer::Ok(opened) => opened.unwrap(),
        answer::Failed(failed) => return failed.unwrap().get_message().unwrap().to_string().unwrap(),
    };
    let mut text = format!("{:?} {:?}\n", opened.get_warnings().unwrap(), opened.get_infos().unwrap());
    let cursor = opened.get_cursor().unwrap();
    loop {
        let response = cursor.next_request().send().promise.await.unwrap();
        let next = response.get().unwrap();
        let mut lines = Vec::new();
        for series in next.get_chunk().unwrap().get_series().unwrap() {
            let labels = read_pairs(series.get_labels().unwrap()).unwrap();
            let times: Vec<_> = series.get_times_unix_ms().unwrap().iter().collect();
            let values: Vec<_> = series.get_values().unwrap().iter().collect();
            lines.push(format!("{labels} {times:?} {values:?}\n"));
        }
        // Series of equal values have no order of their own.
        lines.sort();
        text.extend(lines);
        if next.get_done() {
            return text;
        }
    }
}

fn texts(answer: names::Reader<'_>) -> String {
    match answer.which().unwrap() {
        names::Ok(list) => {
            list.unwrap().iter().map(|name| name.unwrap().to_string().unwrap() + "\n").collect()
        }
        names::Failed(failed) => failed.unwrap().get_message().unwrap().to_string().unwrap(),
    }
}

/// All events of a tail, without their numbers.
async fn tailed(reader: &reader::Client, filter: &str) -> String {
    let mut request = reader.tail_request();
    let mut after = request.get().init_after();
    after.set_epoch(1);
    after.set_position(0);
    request.get().init_filter().set_selector(filter);
    let response = match request.send().promise.await {
        Ok(response) => response,
        Err(error) => return error.to_string(),
    };
    let mut request = response.get().unwrap().get_tail().unwrap().next_request();
    request.get().set_events_max(256);
    let response = request.send().promise.await.unwrap();
    let next = response.get().unwrap();
    let mut text = String::new();
    for event in next.get_events().unwrap() {
        text += &match event.which().unwrap() {
            tail_event::Log(line) => {
                let line = line.unwrap();
                let labels = read_pairs(line.get_labels().unwrap()).unwrap();
                format!("{labels} {:?}\n", line.get_line().unwrap())
            }
            tail_event::Notice(notice) => {
                format!("notice of {:?}\n", notice.unwrap().get_agent().unwrap())
            }
        };
    }
    text
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_scope_is_a_smaller_store(data in data(), scope in scope(), questions in questions()) {
        let scoped = reader(store(&data), scope.clone());
        let smaller = reader(store(&data.within(&scope)), Vec::new());
        let (found, wanted) =
            block_on(async { (ask(&scoped, &questions).await, ask(&smaller, &questions).await) });
        prop_assert_eq!(found, wanted);
    }
}

/// One of everything inside the scope `{env="prod"}`, and one outside of it.
fn two_sides() -> Data {
    let labels = |env: &str, instance: &str, name: &str| {
        Labels::from_pairs([("env", env), ("instance", instance), (METRIC_NAME, name), (name, "x")])
    };
    let line = |env: &str, text: &str| (Labels::from_pairs([("env", env)]), NOW_MS, text.to_owned());
    Data {
        series: vec![
            (labels("prod", "web-1", "seen"), vec![(NOW_MS, 1.0)]),
            (labels("dev", "db-1", "hidden"), vec![(NOW_MS, 1.0)]),
        ],
        lines: vec![line("prod", "a line seen"), line("dev", "a line hidden")],
        notices: vec!["web-1".to_owned(), "db-1".to_owned()],
    }
}

#[test]
fn no_method_shows_what_is_outside() {
    let prod = vec![Matcher::new("env", MatchOp::Eq, "prod")];
    let (scoped, free) = (reader(store(&two_sides()), prod), reader(store(&two_sides()), Vec::new()));
    let outside = ["hidden", "dev", "db-1"];
    for expression in [
        "{__name__=~\".+\"}",
        "hidden",
        "{env=\"dev\"}",
        "{env!=\"prod\",__name__=~\".+\"}",
        "label_replace({__name__=~\".+\"}, \"env\", \"prod\", \"\", \"\")",
        "count by (env, instance, __name__) ({__name__=~\".+\"})",
        "max_over_time({__name__=~\".+\"}[5m])",
        "max_over_time({__name__=~\".+\"}[5m:1m])",
        "seen or hidden",
        "seen * on () group_left (env) hidden",
    ] {
        for filter in ["", "{env=~\".+\"}", "{env=\"dev\"}"] {
            let questions = Questions {
                expression: expression.to_owned(),
                selectors: vec!["{env=~\".+\"}".to_owned()],
                filter: filter.to_owned(),
            };
            let none = Questions { selectors: Vec::new(), ..questions.clone() };
            for questions in [questions, none] {
                for (method, text) in block_on(ask(&scoped, &questions)) {
                    let told = outside.iter().any(|word| text.contains(word));
                    assert!(!told, "{method} of {questions:?} told {text}");
                }
            }
        }
    }
    // The same questions find what is outside without a scope.
    let questions = Questions {
        expression: "{__name__=~\".+\"}".to_owned(),
        selectors: Vec::new(),
        filter: String::new(),
    };
    for (method, text) in block_on(ask(&free, &questions)) {
        assert!(outside.iter().any(|word| text.contains(word)), "{method} found {text}");
    }
}

#[test]
fn losses_are_those_of_agents_in_scope() {
    let rejected = |agent: &str| Push {
        lease: None,
        grant: None,
        agent: Arc::from(agent),
        stamp: stamp(agent, &given(agent)),
        id: BatchId { stream: Stream::Logs, incarnation: Incarnation { ordinal: 1, nonce: 1 }, sequence: 0 },
        sequence_end: 1,
        item_count: 1,
        header: Err(Unreadable::Invalid("test".to_owned())),
        body: Vec::new(),
        body_bytes: 0,
    };
    let agents = |scope: &[Matcher]| {
        let reader = reader(store(&Data::empty()), scope.to_vec());
        block_on(async move {
            for agent in VALUES[1].1 {
                world().ingest.push(rejected(agent)).await;
            }
            let response = reader.losses_request().send().promise.await.unwrap();
            let streams = response.get().unwrap().get_streams().unwrap();
            let agents = streams.iter().map(|stream| stream.get_agent().unwrap().to_string().unwrap());
            agents.collect::<Vec<_>>()
        })
    };
    let is = |name: &str, op, value: &str| Matcher::new(name, op, value);
    assert_eq!(agents(&[]), ["db-1", "web-1", "web-2"]);
    assert_eq!(agents(&[is("instance", MatchOp::Re, "web-.*")]), ["web-1", "web-2"]);
    assert_eq!(agents(&[is("env", MatchOp::Eq, "prod")]), ["web-1", "web-2"]);
    // Nobody knows which part of an agent's losses was of this job.
    assert_eq!(agents(&[is("job", MatchOp::Ne, "b")]), [""; 0]);
    assert_eq!(agents(&[is("env", MatchOp::Ne, "dev"), is("instance", MatchOp::Ne, "web-1")]), ["web-2"]);
}
