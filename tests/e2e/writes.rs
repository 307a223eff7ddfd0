//! Applications that write: what a success promises, and what each answer
//! makes a sender do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use lm_tests::System;
use lm_tests::api::{Api, unix_ms};
use lm_tests::config::text;
use lm_tests::http::{self, Request, Response};
use lm_tests::ports::Port;
use lm_tests::process::Service;
use lm_tests::remote_write::{HEADERS, HEADERS2, Series, body, compress, message, native, natives, natives2};
use lm_tests::side_by_side::program;

use crate::rights::{api, user, write};
use crate::{SOON, eventually};

/// A system with a writer "wil", who may do this.
fn system(more: &str) -> System {
    let mut system = laid_out(&(user("ann", "viewer", "") + &user("wil", "writer", more)));
    system.start();
    system
}

fn laid_out(users: &str) -> System {
    let mut system = System::new(&[]);
    write(&system, "users.toml", users);
    let path = system.path("users.toml");
    system.collector_config.set_path("users.tokens_file", &path);
    system.write_configs();
    system
}

fn post(api: &Api, headers: &[(&str, &str)], body: &[u8]) -> Response {
    post_to(api, "/api/v1/write", headers, body)
}

fn post_to(api: &Api, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let request = Request { method: "POST", path, token: Some(&api.token), headers, body };
    http::exchange(api.addr, request).unwrap()
}

fn series<'a>(labels: &'a [(&'a str, &'a str)], samples: &'a [(i64, f64)]) -> Series<'a> {
    Series { labels, samples }
}

#[test]
fn what_was_answered_with_success_is_there_after_any_kill() {
    let mut system = system("labels = { env = \"prod\" }");
    let wil = api(&system, "wil");
    let begin = unix_ms() - 60_000;
    for round in 0..30 {
        let number = round.to_string();
        let (each, one) = ([("__name__", "each"), ("round", &number)], [("__name__", "one")]);
        let samples = [(begin + round, round as f64)];
        let written = body(&[series(&each, &samples), series(&one, &samples)]);
        if round % 10 == 5 {
            system.collector.kill();
            let answer = post(&wil, &HEADERS, &written);
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"));
            system.collector.start();
            system.wait_ready();
        }
        let answer = post(&wil, &HEADERS, &written);
        assert_eq!((answer.status, &answer.body[..]), (204, ""), "round {round}");
    }
    system.collector.kill();
    system.collector.start();
    system.wait_ready();
    for (expression, expected) in [
        ("count(last_over_time(each{env=\"prod\"}[5m]))", 30.0),
        ("sum(last_over_time(each[5m]))", 435.0),
        ("count_over_time(one{env=\"prod\"}[5m])", 30.0),
    ] {
        eventually("the spool gives everything back", SOON, || {
            let found = system.api.value(expression)?;
            if found == expected { Ok(()) } else { Err(format!("{expression}: {found}")) }
        });
    }
}

#[test]
fn each_answer_tells_a_sender_what_to_do() {
    let system = system("");
    let (ann, wil) = (api(&system, "ann"), api(&system, "wil"));
    let now = unix_ms();
    let name = [("__name__", "x")];
    let good = || body(&[series(&name, &[(now, 1.0)])]);
    let snappy = ("Content-Encoding", "snappy");
    let protobuf = ("Content-Type", "application/x-protobuf");
    let of = |proto: &'static str| ("Content-Type", proto);
    let check = |api: &Api, headers: &[(&str, &str)], body: &[u8], status: u16, says: &str| {
        let answer = post(api, headers, body);
        assert_eq!(answer.status, status, "{headers:?} {answer:?}");
        assert!(answer.body.contains(says), "{says:?} is missing: {answer:?}");
    };
    check(&wil, &HEADERS, &good(), 204, "");
    check(&wil, &HEADERS, &good(), 204, "");
    check(&wil, &[], &good(), 204, "");
    check(&wil, &[snappy, of("application/x-protobuf;proto=prometheus.WriteRequest")], &good(), 204, "");
    // Nothing that a sender should try again as it is.
    check(&ann, &HEADERS, &good(), 403, "ann may not write");
    let nobody = Api { token: "no".repeat(20), ..wil.clone() };
    check(&nobody, &HEADERS, &good(), 401, "denied");
    check(&wil, &[("Content-Encoding", "gzip"), protobuf], &good(), 415, "snappy");
    check(&wil, &[snappy, of("application/json")], &good(), 415, "protobuf");
    check(&wil, &[snappy, of("application/x-protobuf;proto=x.y.Z")], &good(), 415, "x.y.Z");
    let otlp = post_to(&wil, "/api/v1/otlp/v1/metrics", &[of("text/plain")], b"");
    assert_eq!(otlp.status, 415, "{otlp:?}");
    check(&wil, &HEADERS, b"", 400, "");
    check(&wil, &HEADERS, b"no snappy at all", 400, "");
    check(&wil, &HEADERS, &compress(b"no protobuf at all"), 400, "protobuf");
    let raw = message(&[series(&name, &[(now, 1.0)])]);
    check(&wil, &HEADERS, &compress(&raw[..raw.len() - 1]), 400, "protobuf");
    // A block that claims to be 4 GiB, and one that is 64 MiB of nothing.
    check(&wil, &HEADERS, &[0xff, 0xff, 0xff, 0xff, 0x0f], 413, "");
    check(&wil, &HEADERS, &compress(&vec![0; 64 << 20]), 413, "decompressed");
    // Refused in part: the rest is stored, and the sender drops the request.
    let twice = [("__name__", "x"), ("a", "1"), ("a", "2")];
    let (bad, one) = ([(now, 2.0), (now - 7_200_000, 1.0), (now + 1, 3.0)], [(now, 1.0)]);
    let mixed = [series(&name, &bad), series(&twice, &one)];
    let says = "3 of 4 samples were refused, the others are stored: 1 of series that make no sense, the \
                first: label \\\"a\\\" stands twice; 1 too old; 1 have another value at the same time";
    check(&wil, &HEADERS, &body(&mixed), 400, says);
    assert_eq!(system.api.value("count_over_time(x[1m])"), Ok(2.0));
    let get = http::get(wil.addr, "/api/v1/write", Some(&wil.token)).unwrap();
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    // A write token reads nothing.
    assert_eq!(wil.get("/api/v1/labels").unwrap().status, 403);
}

#[test]
fn a_writer_has_limits_of_its_own() {
    let limits = "samples_per_second = 10\nseries_max = 3";
    let mut system = laid_out(&(user("wil", "writer", limits) + &user("bert", "writer", "")));
    system.gateway_config.set("limits.write_body_bytes_max", text("64KiB"));
    system.write_configs();
    system.start();
    let (wil, bert) = (api(&system, "wil"), api(&system, "bert"));
    let now = unix_ms();
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    let labels: Vec<_> = names.iter().map(|name| [("__name__", &name[..])]).collect();
    let samples = [(now, 1.0)];
    let many: Vec<_> = labels.iter().map(|labels| series(labels, &samples)).collect();
    let answer = post(&wil, &HEADERS, &body(&many));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("17 of series over the limit of series"), "{answer:?}");
    // Twice a second's worth was taken: the debt has to be paid first.
    let answer = post(&wil, &HEADERS, &body(&many[..1]));
    assert_eq!(answer.status, 429, "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(post(&bert, &HEADERS, &body(&many)).status, 204, "others have their own");
    assert_eq!(system.api.value("count({__name__=~\"s.*\"})"), Ok(20.0));

    // A body that says that it is too long is refused unread, and so is one
    // that does not say.
    let long = vec![b'x'; 65 << 10];
    assert_eq!(post(&bert, &HEADERS, &long).status, 413);
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        bert.token,
        long.len()
    );
    let mut stream = TcpStream::connect(bert.addr).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // It may be answered, and the connection closed, before all was written.
    let _ = stream.write_all(&long);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn a_token_that_is_taken_away_writes_nothing_more() {
    let mut system = system("");
    let wil = api(&system, "wil");
    let name = [("__name__", "x")];
    let try_it = |value: f64| post(&wil, &HEADERS, &body(&[series(&name, &[(unix_ms(), value)])])).status;
    assert_eq!(try_it(1.0), 204);
    write(&system, "users.toml", &user("ann", "viewer", ""));
    system.collector.hang_up();
    eventually("the token is worth nothing", Duration::from_secs(5), || match try_it(2.0) {
        401 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(try_it(3.0), 401);
}

#[test]
fn every_format_ends_in_the_same_store() {
    let system = system("");
    let wil = api(&system, "wil");
    let now = unix_ms();
    let json = ("Content-Type", "application/json");
    let otlp = |points: &str| {
        let metric = format!(r#"{{"name":"jobs.done","gauge":{{"dataPoints":[{points}]}}}}"#);
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},
               {{"key":"host.name","value":{{"stringValue":"h1"}}}}]}},"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#
        )
    };
    let point = format!(r#"{{"timeUnixNano":"{now}000000","asInt":"3"}}"#);
    let answer = post_to(&wil, "/api/v1/otlp/v1/metrics", &[json], otlp(&point).as_bytes());
    assert_eq!((answer.status, &answer.body[..]), (200, "{}"));
    assert_eq!(system.api.value("jobs_done{job=\"shop\"}"), Ok(3.0));
    assert_eq!(
        system.api.value("jobs_done * on (job) group_left (host_name) target_info{host_name=\"h1\"}"),
        Ok(3.0)
    );
    // In part: success, and what is missing.
    let mixed = format!(r#"{point},{{"timeUnixNano":"{}000000","asInt":"4"}}"#, now - 7_200_000);
    let answer = post_to(&wil, "/api/v1/otlp/v1/metrics", &[json], otlp(&mixed).as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["partialSuccess"]["rejectedDataPoints"], "1");

    let text = b"# TYPE pushed_total counter\npushed_total{way=\"text\"} 5\n{\"\xc3\xa4\"} 6\n";
    let path = "/api/v1/import/prometheus?job=ci&instance=run-1";
    assert_eq!(post_to(&wil, path, &[], text).status, 204);
    assert_eq!(system.api.value("pushed_total{job=\"ci\",instance=\"run-1\",way=\"text\"}"), Ok(5.0));
    assert_eq!(system.api.value("{\"\u{e4}\"}"), Ok(6.0), "a name of any letters");
    let answer = post_to(&wil, path, &[], b"a 1\nb x\n");
    assert!(answer.status == 400 && answer.body.contains("line 2"), "{answer:?}");
    assert!(system.api.value("a").is_err(), "nothing of a body with a mistake is stored");
    let described = system.api.get("/api/v1/metadata?metric=pushed_total").unwrap().json();
    assert_eq!(described["data"]["pushed_total"][0]["type"], "counter");

    // Remote write 2.0 is told how much was written.
    let answer = post(&wil, &HEADERS2, &compress(&lm_tests::remote_write::message2("second", now, 7.0)));
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), Some("1"));
    assert_eq!(answer.header("x-prometheus-remote-write-histograms-written"), Some("0"));
    assert_eq!(system.api.value("second"), Ok(7.0));
}

#[test]
fn native_histograms_are_evaluated_and_shown_also_from_blocks() {
    let mut system = laid_out(&(user("ann", "viewer", "") + &user("wil", "writer", "")));
    system.collector_config.set_text("storage.flush_interval", "1s");
    system.write_configs();
    system.start();
    let wil = api(&system, "wil");
    let now = unix_ms();
    let (first, last) = (native(now - 60_000, 4.0, &[1, 1, 0]), native(now, 24.0, &[4, 2, 2]));
    let answer = post(&wil, &HEADERS, &compress(&natives("one", &[first.clone(), last.clone()])));
    assert_eq!((answer.status, &answer.body[..]), (204, ""));
    let second = compress(&natives2("two", &[first, last]));
    let answer = post(&wil, &HEADERS2, &second);
    assert_eq!(answer.status, 204, "{answer:?}");
    let written = |answer: &Response, what: &str| {
        answer.header(&format!("x-prometheus-remote-write-{what}-written")).map(str::to_owned)
    };
    assert_eq!(written(&answer, "histograms").as_deref(), Some("2"));
    assert_eq!(written(&answer, "samples").as_deref(), Some("0"));
    // One of another value at the same time, and one that is none.
    let (other, new) = (native(now, 25.0, &[4, 2, 2]), native(now - 30_000, 14.0, &[2, 2, 1]));
    let odd = [&native(now + 1, 1.0, &[1])[..], &[4 << 3, 18]].concat();
    let answer = post(&wil, &HEADERS2, &compress(&natives2("two", &[other, new, odd])));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(written(&answer, "histograms").as_deref(), Some("1"));
    assert!(answer.body.contains("2 of 3 samples were refused"), "{answer:?}");

    let check = |system: &System| {
        for name in ["one", "two"] {
            // Three, one and two more than a minute before: the third of them ends
            // the first bucket, at 2.
            let expression = format!("histogram_quantile(0.5, rate({name}[5m]))");
            let found = system.api.query(&expression, now).unwrap();
            assert_eq!(found[0].samples, [(now, 2.0)]);
            let path = format!("/api/v1/query?query={name}&time={}", now as f64 / 1000.0);
            let found = system.api.get(&path).unwrap().json()["data"]["result"][0]["histogram"][1].clone();
            let buckets = [(0, "1", "2", "4"), (0, "2", "4", "2"), (0, "4", "8", "2")];
            assert_eq!(found, serde_json::json!({"count": "8", "sum": "24", "buckets": buckets}));
        }
    };
    check(&system);
    // A start sets apart what the spool gave back: the next has it from a block.
    for _ in 0..2 {
        system.collector.kill();
        system.collector.start();
        system.wait_ready();
        eventually("the gateway has a session again", SOON, || system.api.value("vector(1)").map(drop));
        check(&system);
        eventually("what was set apart is in a block", SOON, || {
            let found =
                std::fs::read_dir(system.path("collector/metrics")).map_err(|error| error.to_string())?;
            let names: Vec<_> = found.map(|entry| entry.unwrap().file_name()).collect();
            let is_block = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".block");
            if names.iter().any(is_block) { Ok(()) } else { Err(format!("{names:?}")) }
        });
    }
}

#[test]
fn a_prometheus_that_writes_to_us_gets_its_own_answers_back() {
    let mut system = system("");
    let Some(prometheus) = program("prometheus", "prometheus") else { return };
    let (wil, port) = (api(&system, "wil"), Port::reserve());
    write(&system, "wil-token", &wil.token);
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
         scrape_configs:\n  - {{ job_name: self, static_configs: [{{ targets: [\"127.0.0.1:{}\"] }}] }}\n\
         remote_write:\n  - url: http://{}/api/v1/write\n    authorization: {{ credentials_file: {} }}\n    \
         queue_config: {{ batch_send_deadline: 1s }}\n    metadata_config: {{ send_interval: 2s }}\n",
        port.number,
        wil.addr,
        system.path("wil-token").display()
    );
    write(&system, "prometheus.yml", &config);
    let args = [
        format!("--web.listen-address=127.0.0.1:{}", port.number),
        format!("--config.file={}", system.path("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", system.path("prometheus-data").display()),
        "--log.level=warn".to_owned(),
    ];
    let args = args.into_iter().map(Into::into).collect();
    let mut peer = Service::new("prometheus", prometheus, args, system.path("prometheus.log"));
    peer.start();
    let theirs = Api { addr: ([127, 0, 0, 1], port.number).into(), token: "none".to_owned() };
    let half = Duration::from_secs(60);
    eventually("it has scraped itself a few times", half, || {
        match theirs.value("count_over_time(up[1m])")? {
            count if count >= 5.0 => Ok(()),
            count => Err(count.to_string()),
        }
    });
    // A collector that dies meanwhile costs nothing: the sender tries again.
    system.collector.kill();
    system.collector.start();
    system.wait_ready();
    let at = unix_ms();
    for expression in ["{job=\"self\"}[20s]", "sum by (le) (prometheus_http_request_duration_seconds_bucket)"]
    {
        eventually(&format!("both answer {expression} alike"), half, || {
            let shown = |api: &Api| -> Result<Vec<String>, String> {
                let mut shown: Vec<_> =
                    api.query(expression, at)?.iter().map(|series| format!("{series:?}")).collect();
                shown.sort();
                Ok(shown)
            };
            let (ours, theirs) = (shown(&system.api)?, shown(&theirs)?);
            let differ = || ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
            match ours == theirs && !ours.is_empty() {
                true => Ok(()),
                false => Err(format!("{} and {} series: {:?}", ours.len(), theirs.len(), differ())),
            }
        });
    }
    eventually("what metrics mean came too", half, || {
        let described = system.api.get("/api/v1/metadata?metric=prometheus_build_info")?.json();
        let kind = &described["data"]["prometheus_build_info"][0]["type"];
        if kind == "gauge" { Ok(()) } else { Err(described.to_string()) }
    });
}
