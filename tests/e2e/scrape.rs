//! Scraping: real targets on loopback, asked by an agent, found by a user.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lm_tests::api::{unix_ms, values_of};
use lm_tests::ports::Port;
use lm_tests::target::{Does, Target};
use lm_tests::{System, eventually, http, process, tools};

use crate::SOON;

const BODY: &str = "# TYPE app_requests_total counter\n\
    app_requests_total{code=\"200\"} 7\n\
    app_requests_total{code=\"500\"} 1\n\
    app_temperature 21.5\n";

/// A system with one agent that has these jobs, as inline tables of TOML.
fn system(jobs: &[String]) -> System {
    let mut system = System::new(&["web-1"]);
    system.agents[0].config.set("scrape", format_args!("[{}]", jobs.join(", ")));
    system.write_configs();
    system
}

/// A job that scrapes every second.
fn job(name: &str, targets: &[&Target], more: &str) -> String {
    let targets: Vec<_> = targets.iter().map(|target| format!("{:?}", target.address())).collect();
    let targets = targets.join(", ");
    format!("{{ job_name = {name:?}, scrape_interval = \"1s\", targets = [{targets}]{more} }}")
}

#[track_caller]
fn expect(system: &System, expression: &str, value: f64) {
    eventually(&format!("{expression} is {value}"), SOON, || match system.api.value(expression)? {
        found if found == value => Ok(()),
        found => Err(found.to_string()),
    });
}

#[track_caller]
fn expect_none(system: &System, expression: &str) {
    eventually(&format!("{expression} is gone"), SOON, || {
        let found = system.api.query(expression, unix_ms())?;
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[track_caller]
fn expect_log(system: &System, text: &str) {
    eventually(&format!("the agent logs {text:?}"), SOON, || {
        let log = system.agents[0].process.log_text();
        if log.contains(text) { Ok(()) } else { Err("it does not".to_owned()) }
    });
}

#[test]
fn a_target_comes_changes_and_goes() {
    let mut target = Target::start(Does::text(BODY));
    let more = ", extra_scrape_metrics = true, labels = { env = \"prod\" }";
    let mut system = system(&[job("app", &[&target], more)]);
    system.start();
    let instance = target.address();
    expect(&system, &format!("up{{job=\"app\", instance=\"{instance}\"}}"), 1.0);
    expect(&system, "app_requests_total{code=\"200\"}", 7.0);
    let found = system.api.query("app_temperature", unix_ms()).unwrap();
    let labels: Vec<_> = found[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "__name__=app_temperature".to_owned(),
        "agent=web-1".to_owned(),
        "env=prod".to_owned(),
        format!("instance={instance}"),
        "job=app".to_owned(),
    ];
    assert_eq!(labels, expected);
    for (name, value) in [
        ("scrape_samples_scraped", 3.0),
        ("scrape_samples_post_metric_relabeling", 3.0),
        ("scrape_series_added", 0.0),
        ("scrape_timeout_seconds", 1.0),
        ("scrape_sample_limit", 10_000.0),
        ("scrape_body_size_bytes", BODY.len() as f64),
    ] {
        expect(&system, name, value);
    }
    assert!(system.api.value("scrape_duration_seconds").unwrap() < 1.0);

    // A series ends long before the five minutes of the look-back.
    target.does(Does::text("app_temperature 22\n"));
    expect(&system, "app_temperature", 22.0);
    expect_none(&system, "app_requests_total");
    target.stop();
    expect(&system, "up{job=\"app\"}", 0.0);
    expect_none(&system, "app_temperature");
    expect_log(&system, "cannot connect: Connection refused");
    target.restart();
    expect(&system, "up{job=\"app\"}", 1.0);
    expect(&system, "app_temperature", 22.0);
    expect_log(&system, "the target is up again");
    target.does(Does::Refuse("503 Service Unavailable"));
    expect(&system, "up{job=\"app\"}", 0.0);
    expect_log(&system, "answered 503 Service Unavailable");
    target.does(Does::Refuse("302 Found\r\nLocation: http://127.0.0.1:1/metrics"));
    expect_log(&system, "redirects are not followed");
    // One connection served every scrape between two failures.
    assert!(target.heads()[0].starts_with("GET /metrics HTTP/1.1\r\n"), "{:?}", target.heads()[0]);
}

#[test]
fn targets_that_files_list() {
    let (a, b) = (Target::start(Does::text("a 1\n")), Target::start(Does::text("b 2\n")));
    let dir = tempfile::tempdir().unwrap();
    let job = format!(
        "{{ job_name = \"listed\", scrape_interval = \"1s\", files = [\"{}/*.json\"], relabel_configs = [\
         {{ source_labels = [\"__meta_filepath\"], regex = \".*/(.*).json\", target_label = \"file\" }}] }}",
        dir.path().display()
    );
    // As a tool should write it: whole or not at all.
    let list = |targets: &[&Target]| {
        let targets: Vec<_> = targets.iter().map(|target| target.address()).collect();
        let text = format!("[{{ \"targets\": {targets:?}, \"labels\": {{ \"team\": \"x\" }} }}]");
        fs::write(dir.path().join("new"), text).unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("apps.json")).unwrap();
    };
    let mut system = system(&[job]);
    list(&[&a]);
    system.start();
    expect(&system, "a{team=\"x\", file=\"apps\"}", 1.0);
    list(&[&b]);
    expect(&system, "b{team=\"x\"}", 2.0);
    expect_none(&system, "a");
    expect_none(&system, &format!("up{{instance=\"{}\"}}", a.address()));
    fs::write(dir.path().join("apps.json"), "[{\"targets\": [").unwrap();
    expect_log(&system, "a file that lists targets is not used");
    expect(&system, "up{job=\"listed\"}", 1.0);
    fs::remove_file(dir.path().join("apps.json")).unwrap();
    expect_none(&system, "up{job=\"listed\"}");
}

#[test]
fn relabeling_and_limits() {
    let target = Target::start(Does::text(BODY));
    let relabel = ", metric_relabel_configs = [\
        { source_labels = [\"code\"], regex = \"5..\", action = \"drop\" }, \
        { source_labels = [\"__name__\"], regex = \"app_(.*)\", target_label = \"__name__\" }]";
    let jobs = [
        job("relabeled", &[&target], relabel),
        job("samples", &[&target], ", sample_limit = 2"),
        job("labels", &[&target], ", label_limit = 3"),
        job("values", &[&target], ", label_value_length_limit = 5, honor_labels = true"),
        job("body", &[&target], ", body_size_limit = 1024, params = { big = [\"1\"] }"),
    ];
    let mut system = system(&jobs);
    system.start();
    expect(&system, "requests_total{job=\"relabeled\"}", 7.0);
    expect(&system, "scrape_samples_scraped{job=\"relabeled\"}", 3.0);
    expect(&system, "scrape_samples_post_metric_relabeling{job=\"relabeled\"}", 2.0);
    for (job, reason) in [
        ("samples", "more than 2 samples (sample_limit)"),
        ("labels", "app_requests_total has 4 labels (label_limit is 3)"),
        ("values", "app_requests_total has 18 bytes in label __name__ (label_value_length_limit is 5)"),
    ] {
        expect(&system, &format!("up{{job=\"{job}\"}}"), 0.0);
        expect_log(&system, reason);
    }
    expect(&system, "up{job=\"body\"}", 1.0);
    target.does(Does::text(&format!("{BODY}# {}\n", "x".repeat(1024))));
    expect(&system, "up{job=\"body\"}", 0.0);
    expect_log(&system, "more than 1024 bytes (body_size_limit)");
    // Nothing of a scrape that failed was taken, from its first second on.
    let ever = "count_over_time({__name__=~\"app_.*\", job=~\"samples|labels|values\"}[5m])";
    assert!(system.api.query(ever, unix_ms()).unwrap().is_empty());
}

#[test]
fn bad_neighbours() {
    let good = Target::start(Does::text(BODY));
    let bad: Vec<_> =
        [Does::Hang, Does::Flood, Does::Hang, Does::Flood].into_iter().map(Target::start).collect();
    let mut system = system(&[
        job("good", &[&good], ""),
        job("bad", &bad.iter().collect::<Vec<_>>(), ", body_size_limit = \"64MiB\""),
    ]);
    system.start();
    expect(&system, "count(up{job=\"bad\"} == 0)", 4.0);
    expect_log(&system, "no answer within 1s");
    // Every second, in time, for ten seconds beside them.
    expect(&system, "count_over_time(up{job=\"good\"}[10s])", 10.0);
    assert_eq!(system.api.value("min_over_time(up{job=\"good\"}[10s])"), Ok(1.0));
    assert!(system.api.query("flood", unix_ms()).unwrap().is_empty());
    let memory = system.agents[0].process.memory_kib();
    eprintln!("the agent has {memory} KiB beside two floods");
    assert!(memory < 256 << 10, "{memory} KiB");
}

#[test]
fn what_a_request_says_and_an_answer_may_be() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"# TYPE packed gauge\npacked 1\n# EOF\n").unwrap();
    let packed = Target::start(Does::Answer {
        headers: "Content-Type: application/openmetrics-text; version=1.0.0\r\nContent-Encoding: gzip\r\n"
            .to_owned(),
        body: gzip.finish().unwrap(),
    });
    // name: "proto_sum", type: GAUGE, metric { gauge { value: 1.5 } }
    let mut family = b"\x0a\x09proto_sum\x18\x01\x22\x0b\x12\x09\x09".to_vec();
    family.extend(1.5_f64.to_le_bytes());
    family.insert(0, family.len() as u8);
    let proto = Target::start(Does::Answer {
        headers: "Content-Type: application/vnd.google.protobuf; \
                  proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n"
            .to_owned(),
        body: family,
    });
    let html = Target::start(Does::Answer {
        headers: "Content-Type: text/html\r\n".to_owned(),
        body: b"<html>".to_vec(),
    });
    let mut system = System::new(&["web-1"]);
    let secret = |name: &str, text: &str| {
        let file = system.path(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file.display().to_string()
    };
    let (token, password) = (secret("app-token", "s3cret\n"), secret("app-password", "pass word\n"));
    let jobs = [
        job(
            "packed",
            &[&packed],
            &format!(
                ", authorization_credentials_file = {token:?}, headers = {{ X-Scope = \"a b\" }}, \
                 metrics_path = \"/m\", params = {{ module = [\"x y\"] }}"
            ),
        ),
        job(
            "proto",
            &[&proto],
            &format!(
                ", basic_auth_username = \"ann\", basic_auth_password_file = {password:?}, \
                 scrape_protocols = [\"PrometheusProto\", \"PrometheusText0.0.4\"]"
            ),
        ),
        job("html", &[&html], ""),
        job("exposed", &[&packed], &format!(", authorization_credentials_file = {:?}", exposed(&system.dir))),
    ];
    system.agents[0].config.set("scrape", format_args!("[{}]", jobs.join(", ")));
    system.write_configs();
    system.start();
    expect(&system, "packed{job=\"packed\"}", 1.0);
    expect(&system, "proto_sum", 1.5);
    expect(&system, "up{job=\"html\"}", 0.0);
    expect_log(&system, "no format of metrics");
    expect(&system, "up{job=\"exposed\"}", 0.0);
    expect_log(&system, "can be read by others");

    let head = packed.heads()[0].to_ascii_lowercase();
    for line in [
        "get /m?module=x+y http/1.1\r\n",
        "\r\nauthorization: bearer s3cret\r\n",
        "\r\nx-scope: a b\r\n",
        "\r\naccept-encoding: gzip\r\n",
        "\r\nx-prometheus-scrape-timeout-seconds: 1\r\n",
        "\r\naccept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,",
        ",text/plain;version=0.0.4;q=0.2,*/*;q=0.1\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let head = &proto.heads()[0];
    assert!(head.to_ascii_lowercase().contains("\r\nauthorization: basic "), "{head}");
    assert!(head.contains("YW5uOnBhc3Mgd29yZA=="), "{head}");
    assert!(!system.agents[0].process.log_text().contains("s3cret"));
}

/// A secret that others can read.
fn exposed(dir: &Path) -> String {
    let file = dir.join("exposed-token");
    fs::write(&file, "s3cret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    file.display().to_string()
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn real_exporters() {
    let mut system = System::new(&["web-1"]);
    let collector = system.health_addr();
    let mut jobs = vec![format!(
        "{{ job_name = \"lightmetrics-self\", scrape_interval = \"1s\", targets = [\"{collector}\"] }}"
    )];
    let exporter = Path::new("/usr/bin/prometheus-node-exporter");
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number);
    let running = exporter.exists().then(|| {
        let listen = format!("--web.listen-address={address}");
        let child = Command::new(exporter).arg(listen).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        jobs.push(format!(
            "{{ job_name = \"exporter\", scrape_interval = \"1s\", targets = [\"{address}\"] }}"
        ));
        Running(child.unwrap())
    });
    system.agents[0].config.set("scrape", format_args!("[{}]", jobs.join(", ")));
    system.write_configs();
    system.start();
    expect(&system, "up{job=\"lightmetrics-self\"}", 1.0);
    let found = system.api.query("lmcollector_up{job=\"lightmetrics-self\"}", unix_ms()).unwrap();
    assert_eq!(values_of(&found, "instance"), BTreeSet::from([collector.to_string()]));
    let Some(_running) = running else {
        return tools::skipped("a node_exporter is scraped", "prometheus-node-exporter is not installed");
    };
    expect(&system, "up{job=\"exporter\"}", 1.0);
    // What the exporter says now and what was stored have the same names.
    let answer = http::get(address.parse().unwrap(), "/metrics", None).unwrap().body;
    let said: BTreeSet<_> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter(|line| line.ends_with(" gauge") || line.ends_with(" counter"))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    let found = system.api.query("{job=\"exporter\"}", unix_ms()).unwrap();
    let stored = values_of(&found, "__name__");
    let missing: Vec<_> = said.difference(&stored).collect();
    assert!(said.len() > 100 && missing.is_empty(), "{missing:?} of {}", said.len());
}

#[test]
fn once_scrapes_once() {
    let target = Target::start(Does::text(BODY));
    let mut system = system(&[job("app", &[&target], "")]);
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    let file = system.agents[0].config_file.display().to_string();
    process::run(&process::binary("lm-agent"), &["--once".to_owned(), file], Duration::from_secs(20))
        .expect_code(0);
    expect(&system, "up{job=\"app\"}", 1.0);
    expect(&system, "app_temperature", 21.5);
    assert_eq!(target.heads().len(), 1);
}

#[test]
fn why_a_scrape_fails_is_said_of_its_target() {
    let target = Target::start(Does::Refuse("503 Service Unavailable"));
    let mut system = system(&[job("app", &[&target], ", scrape_timeout = \"500ms\"")]);
    system.start();
    let expect = |health: &str, error: &str| {
        eventually(&format!("the target is {health}"), SOON, || {
            let answer = system.api.get("/api/v1/targets?scrapePool=app")?.json();
            let of = &answer["data"]["activeTargets"][0];
            let found =
                ["health", "lastError", "scrapeInterval", "scrapeTimeout", "scrapeUrl"].map(|key| &of[key]);
            let url = format!("http://{}/metrics", target.address());
            if found == [health, error, "1s", "500ms", &url] { Ok(()) } else { Err(format!("{answer}")) }
        });
    };
    expect("down", "answered 503 Service Unavailable");
    target.does(Does::text(BODY));
    expect("up", "");
    // The next session is told again.
    system.collector.kill();
    target.does(Does::Refuse("404 Not Found"));
    system.collector.start();
    system.wait_collector();
    expect("down", "answered 404 Not Found");
    // What an agent said goes with its session, which it closes.
    assert!(system.agents[0].process.stop().success());
    eventually("only samples tell", SOON, || {
        let answer = system.api.get("/api/v1/targets?scrapePool=app")?.json();
        let error = &answer["data"]["activeTargets"][0]["lastError"];
        if error == "the scrape failed" { Ok(()) } else { Err(format!("{answer}")) }
    });
}
