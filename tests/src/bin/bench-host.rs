//! The whole of us beside the whole of what people run: agent, collector and
//! gateway on one side, node_exporter and Prometheus on the other, both
//! measuring this host once a second and answering the same queries.
//!
//! `LM_BENCH_SECONDS` (60) is how long; `LM_BIN_DIR` where release binaries are.

use std::time::Duration;

use lm_tests::api::unix_ms;
use lm_tests::process::Service;
use lm_tests::side_by_side::{DASHBOARD_NAMES, Peers, compare};
use lm_tests::{System, eventually};

fn main() {
    let seconds = std::env::var("LM_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut system = System::new(&["host"]);
    let Some(mut peers) = Peers::find(&system.dir, &[]) else {
        eprintln!("bench-host: node_exporter or Prometheus is missing");
        std::process::exit(69);
    };
    system.start();
    peers.start();
    for api in [&system.api, &peers.api] {
        eventually("measuring has begun", Duration::from_secs(30), || {
            if api.query("node_load1", unix_ms())?.is_empty() { Err("no samples".to_owned()) } else { Ok(()) }
        });
    }
    // Caches and first series are not what is measured.
    std::thread::sleep(Duration::from_secs(5));
    let sides: [(&str, Vec<&Service>); 2] = [
        ("lightmetrics", vec![&system.agents[0].process, &system.collector, &system.gateway]),
        ("prometheus", vec![&peers.exporter, &peers.prometheus]),
    ];
    let before: Vec<Vec<Duration>> = sides
        .iter()
        .map(|(_, services)| services.iter().map(|service| service.cpu_time()).collect())
        .collect();
    std::thread::sleep(Duration::from_secs(seconds));
    let mut totals = Vec::new();
    for ((side, services), before) in sides.iter().zip(&before) {
        let mut total = (0.0, 0.0);
        for (service, before) in services.iter().zip(before) {
            let cpu = (service.cpu_time() - *before).as_secs_f64() * 1000.0 / seconds as f64;
            let rss = service.memory_kib() as f64 / 1024.0;
            println!("{side:<13} {:<14} {cpu:7.2} ms CPU a second {rss:7.1} MiB RSS", service.name);
            total = (total.0 + cpu, total.1 + rss);
        }
        println!("{side:<13} {:<14} {:7.2} ms CPU a second {:7.1} MiB RSS", "together", total.0, total.1);
        totals.push(total);
    }
    println!("ratio         CPU {:.2}, RSS {:.2}", totals[0].0 / totals[1].0, totals[0].1 / totals[1].1);
    let count = |api: &lm_tests::api::Api| api.value("count({__name__=~\"node_.+\"})");
    println!("series        ours {:?}, theirs {:?}", count(&system.api), count(&peers.api));
    let names: Vec<_> = DASHBOARD_NAMES.lines().collect();
    match compare(&system.api, "host", &peers.api, &names, "15s") {
        Ok(found) => println!(
            "compared      {} names, {} series: {} missing here, {} with other values",
            found.compared_names,
            found.compared_series,
            found.missing.len(),
            found.apart.len()
        ),
        Err(error) => println!("compared      nothing: {error}"),
    }
}
