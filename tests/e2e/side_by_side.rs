//! node_exporter beside our agent on this host: same names, same labels, values
//! that agree.

use std::time::Duration;

use lm_tests::api::unix_ms;
use lm_tests::side_by_side::{DASHBOARD_NAMES, Peers, compare};
use lm_tests::{System, eventually};

/// What newer versions of node_exporter do by default: compressed memory is no
/// disk, and an unknown speed is no value.
const AS_NEWER: [&str; 2] = [
    "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
    "--collector.netclass.ignore-invalid-speed",
];

/// Off by default in both.
const OPTIONAL: [&str; 3] = ["interrupts", "processes", "tcpstat"];

/// Long enough that a slow cycle of either is in it.
const WINDOW: &str = "15s";

#[test]
fn what_node_exporter_tells_we_tell() {
    let mut system = System::new(&["host"]);
    let mut args: Vec<_> = OPTIONAL.map(|name| format!("--collector.{name}")).into();
    args.extend(AS_NEWER.map(str::to_owned));
    // The first needs a systemd to ask, and we ask another way; the other we lack.
    args.extend(["systemd", "selinux"].map(|name| format!("--no-collector.{name}")));
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let Some(mut peers) = Peers::find(&system.dir, &args) else { return };
    let names = OPTIONAL.map(|name| format!("\"{name}\"")).join(", ");
    system.agents[0].config.set("metrics.collectors.enable", format!("[{names}]"));
    system.write_configs();
    system.start();
    peers.start();
    // Both have measured for a whole window.
    let expression = format!("count_over_time(node_load1[{WINDOW}])");
    for api in [&system.api, &peers.api] {
        eventually("enough was measured", Duration::from_secs(60), || {
            let found = api.query(&expression, unix_ms())?;
            match found.first().map(|series| series.samples[0].1) {
                Some(count) if count >= 10.0 => Ok(()),
                other => Err(format!("{other:?} samples")),
            }
        });
    }
    let names: Vec<_> = DASHBOARD_NAMES.lines().collect();
    let found = compare(&system.api, "host", &peers.api, &names, WINDOW).unwrap();
    println!("{} names, {} series compared", found.compared_names, found.compared_series);
    assert!(found.compared_names > 100, "{found:#?}");
    assert!(found.missing.is_empty() && found.apart.is_empty(), "{found:#?}");
}
