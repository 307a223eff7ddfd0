use super::*;
use lm_telemetry::Figure;

#[test]
fn the_first_source_that_knows_a_name_counts() {
    let telemetry = Telemetry::default();
    telemetry.add(|to| to.push(Figure::new("lmcollector_x_bytes_total", "Counts bytes.", 1.0)));
    let names = [
        "lmcollector_x_bytes_total",
        "node_load1",
        "node_cpu_seconds_total",
        "node_netstat_Tcp_CurrEstab",
        "up",
        "h_seconds_bucket",
        "h_seconds_count",
        "h_seconds_sum",
        "s",
        "s_sum",
        "s_count",
        "lone_count",
        "app_build_info",
        "requests_total",
        "temperature_celsius",
        "",
    ];
    let described = Metadata::new(telemetry).describe(&names.map(str::to_owned));
    let shown: Vec<String> = described
        .iter()
        .map(|(name, of)| format!("{name}|{}|{}|{}", of.kind.name(), of.unit, of.help))
        .collect();
    let expected = [
        "|unknown||",
        "app_build_info|info||",
        "h_seconds|histogram|seconds|",
        "lmcollector_x_bytes_total|counter|bytes|Counts bytes.",
        "lone_count|unknown||",
        "node_cpu_seconds_total|counter|seconds|Seconds the CPUs spent in each mode.",
        "node_load1|gauge||1m load average.",
        "node_netstat_Tcp_CurrEstab|unknown||Statistic TcpCurrEstab.",
        "requests_total|counter||",
        "s|summary||",
        "temperature_celsius|unknown|celsius|",
        "up|gauge||Whether the target or host answered: 1 if so, 0 if not.",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn every_line_of_the_tables_is_read() {
    for text in [include_str!("node_exporter/metrics.txt"), include_str!("own.txt")] {
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            assert_eq!(words.next(), Some("#"), "{line}");
            assert!(matches!(words.next(), Some("HELP" | "TYPE")), "{line}");
            let name = words.next().unwrap();
            assert!(table::find(name).is_some_and(|(_, help)| !help.is_empty()), "{line}");
        }
    }
}
