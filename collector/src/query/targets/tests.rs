use lm_mesh::Scope;

use super::*;
use crate::access::AgentScopes;
use crate::store::testing;

const NOW_MS: i64 = 1_700_000_000_000;
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Labels, and samples as `(ms ago, value)`.
type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

fn store(series: &[Series<'_>]) -> (Store, tempfile::TempDir) {
    let (store, dir) = testing::store();
    store.db.with_head(|head| {
        for (labels, samples) in series {
            let id = head.series(&Labels::from_pairs(labels.iter().copied())).unwrap();
            for (ago, value) in *samples {
                head.append(Timestamp::from_millis(NOW_MS - ago), [(id, *value)]);
            }
        }
    });
    (store, dir)
}

fn shown(store: &Store, selector: Vec<Matcher>) -> Vec<String> {
    let scope = ReadScope::new(&Scope { selector, ..Scope::default() }, AgentScopes::default()).unwrap();
    let found = find(store, &scope, Timestamp::from_millis(NOW_MS)).unwrap();
    found
        .iter()
        .map(|of| {
            let Target { labels, health, last, interval_millis, duration_micros, is_host } = of;
            let ago = NOW_MS - last.as_millis();
            format!("{labels} {health:?} {ago} {interval_millis} {duration_micros} {is_host}")
        })
        .collect()
}

#[test]
fn targets_are_what_says_up() {
    let host = |name| [(METRIC_NAME, name), ("instance", "web-1"), ("job", "node")];
    let old = |name| [(METRIC_NAME, name), ("instance", "web-2"), ("job", "node")];
    let app = |name| [(METRIC_NAME, name), ("instance", "h:9"), ("job", "app")];
    let gone = [(METRIC_NAME, "up"), ("instance", "h:8"), ("job", "app")];
    let ended = [(METRIC_NAME, "up"), ("instance", "h:7"), ("job", "app")];
    let (store, _dir) = store(&[
        (&host("up"), &[(20_000, 1.0), (5_000, 0.0)]),
        (&host("lmagent_up"), &[(60_000, 1.0)]),
        (&old("lmagent_up"), &[(15_000, 1.0), (1_000, 1.0)]),
        (&app("up"), &[(10_000, 1.0)]),
        (&app("scrape_duration_seconds"), &[(10_000, 0.25)]),
        // Too old, and ended by a staleness marker.
        (&gone, &[(300_000, 1.0)]),
        (&ended, &[(30_000, 1.0), (2_000, f64::from_bits(STALE))]),
    ]);
    let app = "{instance=\"h:9\", job=\"app\"} Up 10000 0 250000 false";
    let all = [
        app,
        "{instance=\"web-1\", job=\"node\"} Down 5000 15000 0 true",
        "{instance=\"web-2\", job=\"node\"} Up 1000 14000 0 true",
    ];
    assert_eq!(shown(&store, Vec::new()), all);
    assert_eq!(shown(&store, vec![Matcher::new("job", MatchOp::Eq, "app")]), [app]);
}
