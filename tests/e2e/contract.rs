//! The contract with Grafana's Prometheus data source: every request that it
//! sends, as it sends it, and the shape of the answer that it can read.
//!
//! Requests are those of Grafana's `pkg/promlib` (`client/client.go`,
//! `healthcheck.go`, `resource/`) and of the front end's `datasource.ts` and
//! `language_provider.ts`: queries are POST forms (GET when the data source is
//! set so), resources that have only GET are GET, a resource that was answered
//! 400 or 405 is asked again with GET.

use std::io::Read as _;

use lm_tests::System;
use lm_tests::api::unix_ms;
use lm_tests::http::{self, Request, Response, escape};
use lm_tests::shape::{Json, check};

use crate::{SOON, eventually};

/// What comes with every request; nothing of it may matter.
const HEADERS: [(&str, &str); 9] = [
    ("User-Agent", "Grafana/12.3.0"),
    ("Accept-Encoding", "gzip"),
    ("X-Dashboard-Uid", "rYdddlPWk"),
    ("X-Dashboard-Title", "Node Exporter Full"),
    ("X-Panel-Id", "77"),
    ("X-Grafana-Org-Id", "1"),
    ("X-Query-Group-Id", "6ccf5c4c-0f0c-4c0f-8a5b-3b4d1c1a5b6e"),
    ("X-Scope-OrgID", "tenant"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

/// How the data source is set up: its URL's path, its method.
#[derive(Clone, Copy, Debug)]
struct Source {
    base: &'static str,
    is_post: bool,
}

impl Source {
    const ALL: [Source; 3] = [
        Source { base: "", is_post: true },
        Source { base: "", is_post: false },
        Source { base: "/t/a/prometheus", is_post: true },
    ];
}

/// What one data source sends, and what it sees.
struct Grafana<'a> {
    system: &'a System,
    source: Source,
}

impl Grafana<'_> {
    fn exchange(&self, method: &str, path: &str, parameters: &str) -> Response {
        let (path, body) = match method {
            "POST" => (format!("{}{path}", self.source.base), parameters),
            _ if parameters.is_empty() => (format!("{}{path}", self.source.base), ""),
            _ => (format!("{}{path}?{parameters}", self.source.base), ""),
        };
        let mut headers = HEADERS.to_vec();
        if method == "POST" {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        }
        let token = Some(&self.system.api.token[..]);
        let request = Request { method, path: &path, token, headers: &headers, body: body.as_bytes() };
        let mut response = http::exchange(self.system.api.addr, request).unwrap();
        if response.header("content-encoding") == Some("gzip") {
            response.body.clear();
            flate2::read::GzDecoder::new(&response.bytes[..]).read_to_string(&mut response.body).unwrap();
        }
        assert_eq!(response.header("content-type"), Some("application/json"), "{path}: {response:?}");
        response
    }

    /// `QueryRange`, `QueryInstant`, `QueryExemplars`.
    fn query(&self, path: &str, parameters: &str) -> Response {
        self.exchange(if self.source.is_post { "POST" } else { "GET" }, path, parameters)
    }

    /// `QueryResource`.
    fn resource(&self, path: &str, parameters: &str) -> Response {
        const GET_ONLY: [&str; 14] = [
            "/api/v1/label/",
            "/api/v1/metadata",
            "/api/v1/targets",
            "/api/v1/rules",
            "/api/v1/alerts",
            "/api/v1/targets/metadata",
            "/api/v1/alertmanagers",
            "/api/v1/status/config",
            "/api/v1/status/flags",
            "/api/v1/status/runtimeinfo",
            "/api/v1/status/buildinfo",
            "/api/v1/status/tsdb",
            "/api/v1/status/walreplay",
            "/api/v1/notifications",
        ];
        if !self.source.is_post || GET_ONLY.iter().any(|start| path.starts_with(start)) {
            return self.exchange("GET", path, parameters);
        }
        let posted = self.exchange("POST", path, parameters);
        if ![400, 405].contains(&posted.status) {
            return posted;
        }
        let got = self.exchange("GET", path, parameters);
        assert_eq!((got.status, &got.body), (posted.status, &posted.body), "the same with either method");
        got
    }
}

#[track_caller]
fn expect(what: &str, response: &Response, status: u16, shape: &str) {
    assert_eq!(response.status, status, "{what}: {}", response.body);
    if let Err(difference) = check(&Json::parse(shape), &Json::parse(&response.body)) {
        panic!("{what}: {difference}\n{}", response.body);
    }
}

/// The shape of a query's answer, around that of its result.
fn data(kind: &str, result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
}

const LABELS: &str = r#"{"<each>":"<text>"}"#;
const NAMES: &str = r#"{"status":"success","data":["<text>"]}"#;

fn start(base: &str) -> System {
    let mut system = System::new(&["web-1"]);
    if !base.is_empty() {
        system.gateway_config.set_text("api.path_prefix", base);
        system.write_configs();
    }
    system.start();
    // Two samples, so that rates have something to say.
    eventually("there is a rate", SOON, || {
        system.api.value("count(rate(node_cpu_seconds_total[1m])) > 0").map(drop)
    });
    system
}

#[test]
fn every_request_of_a_data_source_is_answered_as_it_expects() {
    let system = start("/t/a/prometheus");
    for source in Source::ALL {
        let grafana = Grafana { system: &system, source };
        saves_and_tests(&grafana);
        shows_panels(&grafana);
        explores(&grafana);
        is_told_what_is_wrong(&grafana);
    }
}

/// "Save & test", and what is asked once when a data source is opened.
fn saves_and_tests(grafana: &Grafana<'_>) {
    let checked = grafana.query("/api/v1/query", "query=1%2B1&time=4");
    assert_eq!(
        checked.body, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#,
        "{:?}",
        grafana.source
    );
    expect(
        "buildinfo",
        &grafana.resource("/api/v1/status/buildinfo", ""),
        200,
        r#"{"status":"success","data":{"version":"3.5.0","revision":"<text>","branch":"<text>",
            "buildUser":"<text>","buildDate":"<text>","goVersion":"<text>"}}"#,
    );
    // Whoever answers this is taken for Thanos.
    assert_eq!(grafana.resource("/api/v1/status/flags", "").status, 404);
    let ms = unix_ms();
    let probe = format!("query=test&start={}&end={ms}", ms - 3_600_000);
    expect(
        "exemplars",
        &grafana.resource("/api/v1/query_exemplars", &probe),
        200,
        r#"{"status":"success","data":[]}"#,
    );
    expect(
        "rules",
        &grafana.resource("/api/v1/rules", ""),
        200,
        r#"{"status":"success","data":{"groups":[]}}"#,
    );
    expect(
        "alerts",
        &grafana.resource("/api/v1/alerts", ""),
        200,
        r#"{"status":"success","data":{"alerts":[]}}"#,
    );
}

/// Panels, annotations, alert rules.
fn shows_panels(grafana: &Grafana<'_>) {
    // The last step is a little ahead: the system has run for two seconds.
    let end = unix_ms() / 1000 + 16;
    let range =
        |query: &str, more: &str| format!("end={}&query={}&start={}{more}", end, escape(query), end - 3600);
    let instant = |query: &str| format!("query={}&time={}", escape(query), unix_ms() as f64 / 1000.0);
    let matrix = data("matrix", &format!(r#"[{{"metric":{LABELS},"values":[["<number>","<float>"]]}}]"#));
    let matrix = matrix.replace(r#"[["<number>","<float>"]]"#, r#"["<any>"]"#);
    for query in [
        r#"sum by(instance) (rate(node_cpu_seconds_total{mode="system",instance="web-1"}[5m0s])) * 100"#,
        "node_load1{instance=~\"web-1|web-2\"}",
        "rate(node_network_receive_bytes_total[4h0m0s])*8",
        r#"{"node_memory_MemTotal_bytes", "instance"="web-1"}"#,
        "42",
    ] {
        for step in ["&step=15", "&step=60", "&step=15.5", "&step=15&timeout=30s"] {
            let response = grafana.query("/api/v1/query_range", &range(query, step));
            expect(query, &response, 200, &matrix);
            let sample = Json::parse(r#"["<number>","<float>"]"#);
            let Json::Object(top) = Json::parse(&response.body) else { panic!() };
            let Json::Object(data) = &top[1].1 else { panic!() };
            let Json::List(series) = &data[1].1 else { panic!() };
            for one in series {
                let Json::Object(one) = one else { panic!() };
                let Json::List(values) = &one[1].1 else { panic!() };
                values.iter().for_each(|value| check(&sample, value).unwrap());
            }
        }
    }
    expect(
        "no data",
        &grafana.query("/api/v1/query_range", &range("nothing", "&step=15")),
        200,
        &data("matrix", "[]"),
    );
    let vector = data("vector", &format!(r#"[{{"metric":{LABELS},"value":["<number>","<float>"]}}]"#));
    for query in ["node_load1", "topk(3, node_filesystem_size_bytes) or node_load1", "1/vector(0)"] {
        expect(query, &grafana.query("/api/v1/query", &instant(query)), 200, &vector);
    }
    expect("none", &grafana.query("/api/v1/query", &instant("nothing")), 200, &data("vector", "[]"));
    let scalar = data("scalar", r#"["<number>","<float>"]"#);
    expect("scalar", &grafana.query("/api/v1/query", &instant("scalar(nothing)")), 200, &scalar);
    let string = data("string", r#"["<number>","text"]"#);
    expect("string", &grafana.query("/api/v1/query", &instant("\"text\"")), 200, &string);
    let range_vector = grafana.query("/api/v1/query", &instant("node_load1[1m]"));
    expect("a range vector", &range_vector, 200, &matrix);
    // Statistics, for the inspector of queries.
    let stats = format!("{}&stats=all", instant("node_load1"));
    let with_stats = vector.replace(
        "}]}}",
        r#"}],"stats":{"timings":{"evalTotalTime":"<number>","resultSortTime":"<number>",
           "queryPreparationTime":"<number>","innerEvalTime":"<number>","execQueueTime":"<number>",
           "execTotalTime":"<number>"},"samples":{"totalQueryableSamples":"<count>","peakSamples":"<count>"}}}}"#,
    );
    expect("stats", &grafana.query("/api/v1/query", &stats), 200, &with_stats);
    // Notices on the panel.
    let noticed = grafana.query("/api/v1/query", &instant("rate(node_load1[1m])"));
    let infos = vector.replace("}]}}", r#"}]},"infos":["<text>"]}"#);
    expect("a notice", &noticed, 200, &infos);
}

/// The query builder, template variables, Metrics Drilldown.
fn explores(grafana: &Grafana<'_>) {
    let now = unix_ms() / 1000;
    let times = format!("start={}&end={now}", now - 3600);
    let selector = escape(r#"{job="node",__name__="node_cpu_seconds_total"}"#);
    for (what, path, parameters) in [
        ("labels", "/api/v1/labels", format!("{times}&limit=40000")),
        ("labels", "/api/v1/labels", format!("{times}&limit=40000&match[]={selector}")),
        ("labels of two", "/api/v1/labels", format!("{times}&match[]={selector}&match%5B%5D=node_load1")),
        ("names", "/api/v1/label/__name__/values", format!("{times}&limit=40000")),
        ("values", "/api/v1/label/mode/values", format!("{times}&limit=1000&match[]={selector}")),
        ("a variable", "/api/v1/label/instance/values", "match[]=node_uname_info".to_owned()),
        ("escaped", "/api/v1/label/U__mode/values", times.clone()),
    ] {
        let response = grafana.resource(path, &parameters);
        // Nothing but names of the system under test decides whether some exist.
        if what == "a variable" && response.body.ends_with("[]}") {
            continue;
        }
        expect(what, &response, 200, NAMES);
    }
    let none = grafana.resource("/api/v1/label/U__no_2e_such/values", &times);
    expect("none", &none, 200, r#"{"status":"success","data":[]}"#);
    let series = format!(r#"{{"status":"success","data":[{LABELS}]}}"#);
    for selector in ["node_load1", r#"{__name__!=""}"#, r#"{"node_load1"}"#] {
        let parameters = format!("match[]={}&{times}&limit=40000", escape(selector));
        expect(selector, &grafana.resource("/api/v1/series", &parameters), 200, &series);
    }
    let cut = r#"["results truncated due to limit"]"#;
    let names = format!(r#"{{"status":"success","data":["<text>"],"warnings":{cut}}}"#);
    expect("cut", &grafana.resource("/api/v1/labels", "limit=1"), 200, &names);
    expect("cut", &grafana.resource("/api/v1/label/__name__/values", "limit=1"), 200, &names);
    let one = grafana.resource("/api/v1/series", &format!("match[]={selector}&limit=1"));
    expect("cut", &one, 200, &format!(r#"{{"status":"success","data":[{LABELS}],"warnings":{cut}}}"#));
    let described =
        r#"{"status":"success","data":{"<each>":[{"type":"<text>","help":"<text>","unit":"<text>"}]}}"#;
    for parameters in ["", "limit=10000", "limit_per_metric=1&limit=40000"] {
        expect("metadata", &grafana.resource("/api/v1/metadata", parameters), 200, described);
    }
    expect(
        "metadata of one",
        &grafana.resource("/api/v1/metadata", "metric=node_cpu_seconds_total"),
        200,
        r#"{"status":"success","data":{"node_cpu_seconds_total":[
            {"type":"counter","help":"Seconds the CPUs spent in each mode.","unit":"seconds"}]}}"#,
    );
    let counts = r#"[{"name":"<text>","value":"<count>"}]"#;
    expect(
        "status/tsdb",
        &grafana.resource("/api/v1/status/tsdb", ""),
        200,
        &format!(
            r#"{{"status":"success","data":{{"headStats":{{"numSeries":"<count>","numLabelPairs":"<count>",
                "chunkCount":"<count>","minTime":"<number>","maxTime":"<number>"}},
                "seriesCountByMetricName":{counts},"labelValueCountByLabelName":{counts},
                "memoryInBytesByLabelName":{counts},"seriesCountByLabelValuePair":{counts}}}}}"#
        ),
    );
    expect(
        "targets",
        &grafana.resource("/api/v1/targets", "state=active"),
        200,
        &format!(
            r#"{{"status":"success","data":{{"activeTargets":[{{"discoveredLabels":{LABELS},"labels":{LABELS},
                "scrapePool":"node","scrapeUrl":"<text>","globalUrl":"<text>","lastError":"",
                "lastScrape":"<text>","lastScrapeDuration":"<number>","health":"up",
                "scrapeInterval":"<text>","scrapeTimeout":"<text>"}}],
                "droppedTargets":[],"droppedTargetCounts":{{}}}}}}"#
        ),
    );
    expect(
        "format_query",
        &grafana.resource("/api/v1/format_query", &format!("query={}", escape("a+b"))),
        200,
        r#"{"status":"success","data":"a + b"}"#,
    );
}

/// Every error is JSON with these keys, and a code that says whose fault it is.
fn is_told_what_is_wrong(grafana: &Grafana<'_>) {
    let error =
        |kind: &str, text: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":{text}}}"#);
    let range = "query=node_load1&start=0&end=11001&step=1";
    let points = r#""exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)""#;
    let cases = [
        ("query_range", range, 400, "bad_data", points),
        (
            "query_range",
            "query=node_load1&start=2&end=1&step=1",
            400,
            "bad_data",
            r#""invalid parameter \"end\": end timestamp must not be before start time""#,
        ),
        (
            "query_range",
            "query=node_load1&start=1&end=2&step=0",
            400,
            "bad_data",
            r#""invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer""#,
        ),
        (
            "query_range",
            "query=node_load1&start=x&end=2&step=1",
            400,
            "bad_data",
            r#""invalid parameter \"start\": cannot parse \"x\" to a valid timestamp""#,
        ),
        (
            "query_range",
            "query=node_load1[5m]&start=1&end=2&step=1",
            400,
            "bad_data",
            r#""invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector""#,
        ),
        (
            "query",
            "query=&time=1",
            400,
            "bad_data",
            r#""invalid parameter \"query\": unknown position: parse error: no expression found in input""#,
        ),
        ("query", "query=node_load1&limit=-1", 400, "bad_data", r#""<text>""#),
        ("query", "query=sum(", 400, "bad_data", r#""<text>""#),
        ("series", "start=1&end=2", 400, "bad_data", r#""no match[] parameter provided""#),
        ("series", "match[]=%7B%7D", 400, "bad_data", r#""<text>""#),
        ("labels", "start=2&end=1", 400, "bad_data", r#""<text>""#),
        // Fails on the data there is.
        (
            "query",
            "query=node_cpu_seconds_total*on(job)node_cpu_seconds_total",
            422,
            "execution",
            r#""<text>""#,
        ),
        // Over a bound of the engine.
        ("query", "query=sum_over_time(vector(1)[100y:1ms])", 422, "execution", r#""<text>""#),
        ("query", "query=sum_over_time(vector(1)[30000000s:1s])&timeout=1ms", 503, "timeout", r#""<text>""#),
        ("nothing", "query=1", 404, "not_found", r#""<text>""#),
    ];
    for (path, parameters, status, kind, text) in cases {
        let response = grafana.resource(&format!("/api/v1/{path}"), parameters);
        expect(&format!("{path}?{parameters}"), &response, status, &error(kind, text));
    }
    let posted = grafana.exchange("POST", "/api/v1/metadata", "metric=up");
    expect("POST where there is only GET", &posted, 405, &error("bad_data", r#""<text>""#));
    let large = grafana.exchange("POST", "/api/v1/query", &format!("query={}", "1%2B".repeat(500_000)));
    expect("a body beyond limits", &large, 413, &error("bad_data", r#""<text>""#));
}
