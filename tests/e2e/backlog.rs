//! A backlog of a day, delivered late.

use std::time::Duration;

use lm_tests::api::unix_ms;
use lm_tests::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::{System, system_options};

const HOUR: i64 = 3_600_000;

#[test]
fn a_day_old_backlog_is_stored_where_it_belongs() {
    let mut system = System::with(system_options(&["a"], &["late"]));
    system.collector_config.set_text("storage.retention", "48h");
    system.write_configs();
    system.start();
    let end = unix_ms();
    let start = end - 24 * HOUR;
    // A sample every 15 s of a day, a counter, oldest first; and what is new in between.
    let all: Vec<_> = (0..24 * 240).map(|i| (start + i * 15_000, i as f64)).collect();
    block_on(async {
        let session = MeshSession::open(&MeshConfig::of(&system, "late"), &[]).await.unwrap();
        let mut maker = BatchMaker::new(1);
        for samples in all.chunks(500) {
            let batch = maker.samples(&[("__name__", "backlog_total"), ("job", "late")], samples);
            assert_eq!(session.push(&batch).await.unwrap().outcome, Outcome::Durable);
            let now = maker.samples(&[("__name__", "fresh")], &[(unix_ms(), 1.0)]);
            assert_eq!(session.push(&now).await.unwrap().outcome, Outcome::Durable);
        }
        session.connected.close().await;
    });
    let expect = |system: &System| {
        for (expression, at, expected) in [
            ("backlog_total", start, 0.0),
            ("backlog_total", start + 12 * HOUR, 2880.0),
            ("count_over_time(backlog_total[24h])", end - 1, 5760.0),
            ("rate(backlog_total[1h])", start + 6 * HOUR, 1.0 / 15.0),
        ] {
            let found = system.api.query(expression, at).unwrap();
            assert_eq!(found.len(), 1, "{expression} at {at}: {found:?}");
            let value = found[0].samples[0].1;
            assert!((value - expected).abs() < 1e-9, "{expression} at {at}: {value}, not {expected}");
        }
        let range = system.api.query_range("backlog_total", start, end, Duration::from_secs(3600)).unwrap();
        assert_eq!(range[0].samples.len(), 25);
        let (stored, lost) = system.api.account("late", "metrics").unwrap();
        assert_eq!((stored, lost.len()), (5760 + 12, 0), "{lost:?}");
    };
    expect(&system);
    // And after a restart.
    system.collector.kill();
    system.collector.start();
    system.wait_ready();
    lm_tests::eventually("the gateway has a session again", crate::SOON, || system.api.losses());
    expect(&system);
}
