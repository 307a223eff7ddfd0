//! Sockets, swap and the clock, of which node_exporter's output has nothing or half.

use std::fs;

use lm_agent::sources::host::HostOptions;

use crate::fixtures::test_host;
use crate::machine::Machine;

const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

fn options(files: &[(&str, String)], collector: &'static str) -> (tempfile::TempDir, HostOptions) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("net")).unwrap();
    for (file, contents) in files {
        fs::write(dir.path().join("net").join(file), contents).unwrap();
    }
    let options = HostOptions {
        procfs: dir.path().to_owned(),
        collectors: [collector].into(),
        ..HostOptions::default()
    };
    (dir, options)
}

#[test]
fn connections_of_both_versions_by_state() {
    let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0\n   \
                  1: 0100007F:1F90 0100007F:C350 01 0000000A:00000014 00:00000000 00000000     0\n";
    let tcp6 = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A \
                   00000000:00000000 00:00000000 00000000     0\n   \
                   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 63 \
                   00000001:00000001 00:00000000 00000000     0\n";
    let files = [("tcp", format!("{HEADER}{tcp}")), ("tcp6", format!("{HEADER}{tcp6}"))];
    let (_dir, options) = options(&files, "tcpstat");
    let (values, failures) = Machine::new(options).cycle();
    assert_eq!(failures, []);
    let state = |name: &str| values.get(&format!("node_tcp_connection_states{{state={name:?}}}")).copied();
    assert_eq!(state("listen"), Some(2.0));
    assert_eq!(state("established"), Some(1.0));
    assert_eq!(state("time_wait"), None);
    assert_eq!((state("tx_queued_bytes"), state("rx_queued_bytes")), (Some(11.0), Some(23.0)));
}

#[test]
fn queues_of_both_versions() {
    let socket = "   0: 00000000:0016 00000000:0000 07 00000015:00000001 00:00000000 00000000     0\n";
    let files = [("udp", HEADER.to_owned()), ("udp6", format!("{HEADER}{socket}{socket}"))];
    let (_dir, options) = options(&files, "udp_queues");
    let (values, failures) = Machine::new(options).cycle();
    assert_eq!(failures, []);
    assert_eq!(values[r#"node_udp_queues{ip="v6",queue="tx"}"#], 42.0);
    assert_eq!(values[r#"node_udp_queues{ip="v6",queue="rx"}"#], 2.0);
    assert_eq!(values[r#"node_udp_queues{ip="v4",queue="tx"}"#], 0.0);
}

#[test]
fn a_line_that_is_no_socket_is_refused() {
    for line in ["0: 1 2", "0: 1 2 0A 15", "0: 1 2 0A 15:", "0: 1 2 0A -1:0", "0: 1 2 0G 1:1"] {
        let (_dir, options) = options(&[("tcp", format!("{HEADER}{line}\n"))], "tcpstat");
        let (_, failures) = Machine::new(options).cycle();
        assert!(failures[0].1.ends_with("net/tcp: line 2: is not a socket"), "{line}: {failures:?}");
    }
}

#[test]
fn swap_by_device() {
    let host = test_host();
    let options =
        HostOptions { procfs: host.join("proc"), collectors: ["swap"].into(), ..HostOptions::default() };
    let (values, failures) = Machine::new(options).cycle();
    assert_eq!(failures, []);
    let device = r#"{device="/dev/zram0",swap_type="partition"}"#;
    assert_eq!(values[&format!("node_swap_size_bytes{device}")], 8_388_604.0 * 1024.0);
    assert_eq!(values[&format!("node_swap_used_bytes{device}")], 76.0 * 1024.0);
    assert_eq!(values[&format!("node_swap_priority{device}")], 100.0);
}

#[test]
fn the_clock_of_this_machine() {
    let options = HostOptions { collectors: ["timex"].into(), ..HostOptions::default() };
    let (values, failures) = Machine::new(options).cycle();
    if let Some((_, reason)) = failures.first() {
        println!("SKIPPED: a sandbox may forbid the call: {reason}");
        assert!(std::env::var_os("LM_REQUIRE_ALL").is_none());
        return;
    }
    assert_eq!(values.keys().filter(|series| series.starts_with("node_timex_")).count(), 18);
    // The kernel corrects by 500 ppm at most; a tick is 9 to 11 ms.
    assert!((values["node_timex_frequency_adjustment_ratio"] - 1.0).abs() <= 0.0005);
    assert!((0.009..=0.011).contains(&values["node_timex_tick_seconds"]));
    assert!([0.0, 1.0].contains(&values["node_timex_sync_status"]));
}
