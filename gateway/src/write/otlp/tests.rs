use lm_model::Timestamp;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;
use crate::write::sink::Sink;
use crate::write::tests::World;

/// What a body becomes: samples, and what was left out.
fn write(world: &mut World, deltas: &mut Deltas, encoding: Encoding, body: &[u8]) -> (Vec<String>, Rejected) {
    let mut rejected = Rejected::default();
    let shown = world.write(|sink: &mut Sink<'_, '_>, metadata| {
        let now = Timestamp::from_millis(99_000);
        let mut translation = Translation::new(sink, deltas, 1, metadata, now);
        read(encoding, body, &mut translation).unwrap();
        rejected = translation.rejected();
    });
    (shown, rejected)
}

fn check(json: serde_json::Value, expected: &[&str]) {
    let (mut world, mut deltas) = (World::new(), Deltas::default());
    let (mut shown, rejected) = write(&mut world, &mut deltas, Encoding::Json, json.to_string().as_bytes());
    shown.sort();
    assert_eq!(shown, expected);
    assert_eq!(rejected, Rejected::default());
}

fn request(metrics: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"resourceMetrics": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "service.namespace", "value": {"stringValue": "web"}},
            {"key": "service.instance.id", "value": {"stringValue": "shop-1"}},
            {"key": "host.name", "value": {"stringValue": "db1"}},
            {"key": "process.args", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}]}}},
        ]},
        "scopeMetrics": [{"scope": {"name": "x"}, "metrics": metrics}],
    }]})
}

const TARGET: &str =
    r#"target_info{host_name="db1", instance="shop-1", job="web/shop", process_args="["a",2]"}@5000=1"#;

#[test]
fn gauges_and_sums() {
    let json = request(serde_json::json!([
        {"name": "queue.size", "unit": "By", "gauge": {"dataPoints": [
            {"timeUnixNano": "5000000000", "asInt": "7", "attributes": [
                {"key": "a.b", "value": {"boolValue": true}}, {"key": "a_b", "value": {"doubleValue": 0.5}}]},
        ]}},
        {"name": "requests", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
            {"timeUnixNano": 5000000000u64, "asDouble": 1.5},
            {"timeUnixNano": "4000000000", "flags": 1},
        ]}},
        {"name": "open", "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [
            {"asInt": -3},
        ]}},
    ]));
    // A point without a time is of now, and so is the resource.
    let target = TARGET.replace("@5000", "@99000");
    check(
        json,
        &[
            r#"open{instance="shop-1", job="web/shop"}@99000=-3"#,
            r#"queue_size_bytes{a_b="true;0.5", instance="shop-1", job="web/shop"}@5000=7"#,
            r#"requests_total{instance="shop-1", job="web/shop"}@4000=stale"#,
            r#"requests_total{instance="shop-1", job="web/shop"}@5000=1.5"#,
            &target,
        ],
    );
}

#[test]
fn histograms_and_summaries() {
    let json = request(serde_json::json!([
        {"name": "took", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": "5000000000", "count": "6", "sum": 2.5,
             "explicitBounds": [0.5, 1], "bucketCounts": ["1", "2", "3"]},
        ]}},
        {"name": "size", "summary": {"dataPoints": [
            {"timeUnixNano": "5000000000", "count": 4, "sum": 9,
             "quantileValues": [{"quantile": 0.5, "value": 2}]},
        ]}},
    ]));
    let own = r#"instance="shop-1", job="web/shop""#;
    check(
        json,
        &[
            &format!("size_count{{{own}}}@5000=4"),
            &format!("size_sum{{{own}}}@5000=9"),
            &format!("size{{{own}, quantile=\"0.5\"}}@5000=2"),
            TARGET,
            &format!("took_seconds_bucket{{{own}, le=\"+Inf\"}}@5000=6"),
            &format!("took_seconds_bucket{{{own}, le=\"0.5\"}}@5000=1"),
            &format!("took_seconds_bucket{{{own}, le=\"1\"}}@5000=3"),
            &format!("took_seconds_count{{{own}}}@5000=6"),
            &format!("took_seconds_sum{{{own}}}@5000=2.5"),
        ],
    );
}

#[test]
fn deltas_add_up_and_a_request_that_is_sent_again_adds_nothing() {
    let body = |seconds: u64, requests: u64, counts: [u64; 2]| {
        serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "r", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
                {"timeUnixNano": seconds * 1_000_000_000, "asInt": requests}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": seconds * 1_000_000_000, "count": counts[0] + counts[1],
                 "explicitBounds": [1], "bucketCounts": counts}]}},
        ]}]}]})
        .to_string()
    };
    let (mut world, mut deltas) = (World::new(), Deltas::default());
    let mut write = |body: &str| write(&mut world, &mut deltas, Encoding::Json, body.as_bytes());
    let expected = |ms: u64, r: u64, le1: u64, all: u64| {
        vec![
            format!("r_total{{}}@{ms}={r}"),
            format!("h_bucket{{le=\"1\"}}@{ms}={le1}"),
            format!("h_bucket{{le=\"+Inf\"}}@{ms}={all}"),
            format!("h_count{{}}@{ms}={all}"),
        ]
    };
    assert_eq!(write(&body(1, 5, [1, 2])).0, expected(1000, 5, 1, 3));
    assert_eq!(write(&body(2, 2, [3, 0])).0, expected(2000, 7, 4, 6));
    assert_eq!(write(&body(2, 2, [3, 0])).0, expected(2000, 7, 4, 6));
    let (shown, rejected) = write(&body(1, 5, [1, 2]));
    assert_eq!((shown, rejected.old_deltas), (Vec::new(), 4));
}

#[test]
fn what_is_left_out_is_counted() {
    let json = request(serde_json::json!([
        {"name": "e", "exponentialHistogram": {"dataPoints": [{}, {}]}},
        {"name": "h", "histogram": {"dataPoints": [{"explicitBounds": [1, 2], "bucketCounts": [1]}]}},
    ]));
    let (mut world, mut deltas) = (World::new(), Deltas::default());
    let (shown, rejected) = write(&mut world, &mut deltas, Encoding::Json, json.to_string().as_bytes());
    assert_eq!(rejected, Rejected { exponential: 2, odd: 1, old_deltas: 0 });
    assert_eq!(shown.len(), 1, "only target_info: {shown:?}");
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut to);
    encode_varint(bytes.len() as u64, &mut to);
    to.extend_from_slice(bytes);
    to
}

fn fixed(number: u32, bits: u64) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::SixtyFourBit, &mut to);
    to.extend_from_slice(&bits.to_le_bytes());
    to
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut to = Vec::new();
    encode_key(number, WireType::Varint, &mut to);
    encode_varint(value, &mut to);
    to
}

fn attribute(number: u32, key: &str, value: &[u8]) -> Vec<u8> {
    field(number, &[field(1, key.as_bytes()), field(2, value)].concat())
}

#[test]
fn protobuf_says_the_same() {
    let time = fixed(3, 5_000_000_000);
    let gauge = [
        field(1, b"queue.size"),
        field(3, b"By"),
        field(5, &field(1, &[time.clone(), fixed(6, 7), attribute(7, "up", &varint(2, 1))].concat())),
    ];
    let counts: Vec<u8> = [1u64, 2].iter().flat_map(|count| count.to_le_bytes()).collect();
    let histogram_point =
        [time.clone(), fixed(4, 3), fixed(5, 2.5f64.to_bits()), field(6, &counts), fixed(7, 1f64.to_bits())];
    let histogram =
        [field(1, b"took"), field(9, &[field(1, &histogram_point.concat()), varint(2, 2)].concat())];
    let summary_point = [
        time,
        fixed(4, 4),
        fixed(5, 9f64.to_bits()),
        field(6, &[fixed(1, 0.5f64.to_bits()), fixed(2, 2f64.to_bits())].concat()),
    ];
    let summary = [field(1, b"size"), field(11, &field(1, &summary_point.concat()))];
    let nested = field(5, &[field(1, &field(1, b"a")), field(1, &varint(3, 2))].concat());
    let resource = [attribute(1, "service.name", &field(1, b"shop")), attribute(1, "args", &nested)];
    let metrics =
        [gauge.concat(), histogram.concat(), summary.concat()].map(|metric| field(2, &metric)).concat();
    let body = field(1, &[field(1, &resource.concat()), field(2, &metrics)].concat());

    let (mut world, mut deltas) = (World::new(), Deltas::default());
    let (shown, rejected) = write(&mut world, &mut deltas, Encoding::Protobuf, &body);
    let expected = [
        r#"queue_size_bytes{job="shop", up="true"}@5000=7"#,
        r#"took_bucket{job="shop", le="1"}@5000=1"#,
        r#"took_bucket{job="shop", le="+Inf"}@5000=3"#,
        r#"took_sum{job="shop"}@5000=2.5"#,
        r#"took_count{job="shop"}@5000=3"#,
        r#"size{job="shop", quantile="0.5"}@5000=2"#,
        r#"size_sum{job="shop"}@5000=9"#,
        r#"size_count{job="shop"}@5000=4"#,
        r#"target_info{args="["a",2]", job="shop"}@5000=1"#,
    ];
    assert_eq!(shown, expected);
    assert_eq!(rejected, Rejected::default());
    // Every prefix is an error or less of it, and never a panic.
    for length in 0..body.len() {
        world.write(|sink: &mut Sink<'_, '_>, metadata| {
            let mut translation = Translation::new(sink, &mut deltas, 1, metadata, Timestamp::default());
            assert_eq!(read(Encoding::Protobuf, &body[..length], &mut translation).is_ok(), length == 0);
        });
    }
}

#[test]
fn what_is_no_request_is_told() {
    let (mut world, mut deltas) = (World::new(), Deltas::default());
    for body in [
        "",
        "[]",
        "{",
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"timeUnixNano":"x"}]}}]}]}]}"#,
    ] {
        world.write(|sink: &mut Sink<'_, '_>, metadata| {
            let mut translation = Translation::new(sink, &mut deltas, 1, metadata, Timestamp::default());
            let read = read(Encoding::Json, body.as_bytes(), &mut translation);
            assert!(matches!(read, Err(Malformed::Json(_))), "{body}");
        });
    }
}
