//! What the three processes say of themselves: `/metrics` and their logs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use lm_tests::exposition::Exposition;
use lm_tests::namespace::find;
use lm_tests::ports::Port;
use lm_tests::process::Service;
use lm_tests::{System, eventually, http};
use serde_json::Value;

use crate::SOON;

fn address(port: &Port) -> SocketAddr {
    ([127, 0, 0, 1], port.number).into()
}

/// The figures of a process, checked.
fn figures(addr: SocketAddr) -> Result<Exposition, String> {
    let response = http::get(addr, "/metrics", None).map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.body));
    }
    check_with_promtool(&response.body);
    Exposition::parse(&response.body)
}

/// Beside our own reader, where it is installed.
fn check_with_promtool(text: &str) {
    let Some(promtool) = find("promtool") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let done = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(file.path()).unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}\n{text}", String::from_utf8_lossy(&done.stderr));
}

/// A system whose gateway and agent have health listeners too.
fn system() -> (System, [Port; 2]) {
    let mut system = System::new(&["a"]);
    let ports = [Port::reserve(), Port::reserve()];
    system.gateway_config.set_text("health.listen", address(&ports[0]));
    system.agents[0].config.set_text("health.listen", address(&ports[1]));
    system.write_configs();
    (system, ports)
}

#[test]
fn all_three_have_figures_that_prometheus_reads() {
    let (mut system, [gateway, agent]) = system();
    system.start();
    let all = [
        ("lmcollector", system.health_addr()),
        ("lmgateway", address(&gateway)),
        ("lmagent", address(&agent)),
    ];
    for (prefix, addr) in all {
        let found = figures(addr).unwrap();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
            &format!("{prefix}_build_info"),
            &format!("{prefix}_config_last_reload_successful"),
            &format!("{prefix}_config_last_reload_success_timestamp_seconds"),
        ] {
            assert!(found.families.contains_key(name), "{name} of {prefix}: {:?}", found.families);
        }
        for path in ["/livez", "/startupz", "/healthz"] {
            assert_eq!(http::get(addr, path, None).unwrap().status, 200, "{path} of {prefix}");
        }
        assert_eq!(http::get(addr, "/api/v1/query", None).unwrap().status, 404);
    }
    let of_gateway = || figures(address(&gateway));
    let asked = "lmgateway_http_requests_total{code=\"200\",method=\"GET\",handler=\"/api/v1/query\"}";
    let before = of_gateway().unwrap().value(asked).unwrap();
    system.api.value("lmcollector_up").unwrap();
    let _ = system.api.get("/api/v1/dashboards/no-such-one");
    let _ = system.api.get("/no/such/path");
    let after = of_gateway().unwrap();
    assert_eq!(after.value(asked), Ok(before + 1.0));
    for handler in ["handler=\"/api/v1/dashboards/:\"", "handler=\"other\""] {
        let is_counted =
            after.series.keys().any(|series| series.contains("code=\"404\"") && series.contains(handler));
        assert!(is_counted, "{handler}: {:?}", after.series);
    }
    let of_agent = figures(address(&agent)).unwrap();
    assert_eq!(of_agent.value("lmagent_rpc_sessions"), Ok(1.0));
    let of_collector = figures(system.health_addr()).unwrap();
    assert!(of_collector.value("lmcollector_ingest_accepted_batches_total").unwrap() > 0.0);
    let pushes = "lmcollector_rpc_calls_total{interface=\"BatchSink\",method=\"push\",outcome=\"ok\"}";
    assert!(of_collector.value(pushes).unwrap() > 0.0);
    assert!(of_collector.value("lmcollector_quic_bytes_total{direction=\"received\"}").unwrap() > 0.0);
    // What the collector counts is stored too, histograms as their series.
    eventually("the duration of calls is stored", SOON, || {
        let quantile =
            "histogram_quantile(0.9, lmcollector_rpc_call_duration_seconds_bucket{method=\"push\"})";
        system.api.value(quantile)
    });
}

#[test]
fn metrics_can_be_switched_off_and_an_agent_goes_on_without_its_address() {
    let (mut system, [gateway, agent]) = system();
    system.gateway_config.set("health.metrics", false);
    // Somebody else has the agent's.
    let taken = std::net::TcpListener::bind(address(&agent)).unwrap();
    system.write_configs();
    system.start();
    assert_eq!(http::get(address(&gateway), "/metrics", None).unwrap().status, 404);
    assert_eq!(http::get(address(&gateway), "/readyz", None).unwrap().status, 200);
    let log = system.agents[0].process.log_text();
    assert!(log.contains("set health.listen"), "{log}");
    drop(taken);
}

/// Every line that the process itself has written, as JSON.
fn json_lines(service: &Service) -> Vec<Value> {
    let log = service.log_text();
    let own = log.lines().filter(|line| !line.starts_with("---"));
    own.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn logs_are_ecs_documents_and_hold_no_secret() {
    let (mut system, _ports) = system();
    let sets = |config: &mut lm_tests::config::ConfigFile| {
        config.set_text("log.format", "ecs").set_text("log.level", "trace");
    };
    sets(&mut system.collector_config);
    sets(&mut system.gateway_config);
    sets(&mut system.agents[0].config);
    system.write_configs();
    system.start();
    let secret = "s3cr3t-of-nobody-0123456789abcdef0123456789";
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let hostile = r#"evil" \n{"forged":1}"#;
    let body = format!("query={secret}");
    let mut stream = TcpStream::connect(system.api.addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!(
        "POST /api/v1/query?query={secret}&token={secret} HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {secret}\r\ncookie: session={secret}\r\ntraceparent: {trace}\r\n\
             user-agent: {hostile}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let request = eventually("the request is logged", SOON, || {
        let lines = json_lines(&system.gateway);
        let found = lines.iter().find(|line| line["trace.id"] == "4bf92f3577b34da6a3ce929d0e0e4736");
        found.cloned().ok_or_else(|| "not yet".to_owned())
    });
    for (name, expected) in [
        ("log.level", Value::from("info")),
        ("message", "request".into()),
        ("service.name", "lm-gateway".into()),
        ("event.dataset", "lm-gateway.request".into()),
        ("http.request.method", "POST".into()),
        ("url.path", "/api/v1/query".into()),
        ("http.response.status_code", 401.into()),
        ("http.request.body.bytes", body.len().into()),
        ("span.id", "00f067aa0ba902b7".into()),
    ] {
        assert_eq!(request[name], expected, "{name} of {request}");
    }
    assert_eq!(request["user_agent.original"], hostile);
    assert!(request["event.duration"].as_u64().unwrap() > 0);
    assert!(request["client.address"].as_str().unwrap().starts_with("127.0.0.1"));
    let calls = json_lines(&system.collector);
    let push = calls.iter().find(|line| line["rpc.method"] == "push").unwrap();
    assert_eq!((&push["rpc.system"], &push["rpc.service"]), (&"capnp".into(), &"BatchSink".into()));
    assert_eq!(push["user.id"], "a");

    let mut secrets = vec![secret.to_owned()];
    for file in ["gateway-token", "query-token", "operator-token", "write-token", "token-a"] {
        secrets.push(read(&system.path(file)));
    }
    for service in [&system.collector, &system.gateway, &system.agents[0].process] {
        assert!(json_lines(service).len() > 3, "{} logs", service.name);
        let log = service.log_text();
        for secret in &secrets {
            assert!(!log.contains(secret), "{secret} is in the log of {}", service.name);
        }
    }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

#[test]
fn the_level_changes_at_sighup_and_a_mistake_keeps_it() {
    let (mut system, [gateway, agent]) = system();
    system.start();
    fn debug_lines(service: &Service) -> usize {
        service.log_text().matches(" DEBUG ").count()
    }
    let names = ["collector", "gateway", "agent"];
    let addrs = [system.health_addr(), address(&gateway), address(&agent)];
    for (index, name) in names.into_iter().enumerate() {
        let good = format!("lm{name}_config_last_reload_successful{{part=\"log\"}}");
        let change = |system: &mut System, level: &str| {
            match index {
                0 => system.collector_config.set_text("log.level", level),
                1 => system.gateway_config.set_text("log.level", level),
                _ => system.agents[0].config.set_text("log.level", level),
            };
            system.write_configs();
            service_mut(system, index).hang_up();
        };
        let expect = |expected: f64| {
            eventually(&format!("{good} is {expected}"), SOON, || {
                let found = figures(addrs[index])?.value(&good)?;
                if found == expected { Ok(()) } else { Err(found.to_string()) }
            });
        };
        expect(1.0);
        assert_eq!(debug_lines(service_mut(&mut system, index)), 0, "{name}");
        change(&mut system, "loud");
        expect(0.0);
        assert!(service_mut(&mut system, index).log_text().contains("log.level"), "{name} says which key");
        change(&mut system, "debug");
        expect(1.0);
        eventually(&format!("level debug of {name}"), SOON, || {
            // Something to talk about.
            let _ = system.api.value("up");
            let log = service_mut(&mut system, index).log_text();
            if log.contains("reloaded: level debug") { Ok(()) } else { Err("not yet".to_owned()) }
        });
    }
    eventually("the collector tells of calls", SOON, || {
        let _ = system.api.value("up");
        if debug_lines(&system.collector) > 0 { Ok(()) } else { Err("none".to_owned()) }
    });
}

fn service_mut(system: &mut System, index: usize) -> &mut Service {
    match index {
        0 => &mut system.collector,
        1 => &mut system.gateway,
        _ => &mut system.agents[0].process,
    }
}
