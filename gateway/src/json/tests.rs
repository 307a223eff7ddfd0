use lm_model::Span;

use super::*;

fn float(value: f64) -> String {
    let mut to = Vec::new();
    push_float(&mut to, value);
    String::from_utf8(to).unwrap()
}

#[test]
fn floats_are_written_as_prometheus_writes_them() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-17.0, "-17"),
        (0.1, "0.1"),
        (1.0 / 3.0, "0.3333333333333333"),
        (100000.0, "100000"),
        (123456789.125, "123456789.125"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.5e22, "-1.5e+22"),
        (1e-6, "0.000001"),
        (1e-7, "1e-07"),
        (1.25e-10, "1.25e-10"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (9007199254740993.0, "9007199254740992"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ];
    for (value, expected) in cases {
        assert_eq!(float(value), expected);
    }
}

#[test]
fn seconds() {
    let cases = [
        (0, "0"),
        (4_000, "4"),
        (1_700_000_000_123, "1700000000.123"),
        (1_700_000_000_100, "1700000000.100"),
        (1, "0.001"),
        (-1, "-0.001"),
        (-1_500, "-1.500"),
        (i64::MIN, "-9223372036854775.808"),
    ];
    for (unix_ms, expected) in cases {
        let mut to = Vec::new();
        push_seconds(&mut to, unix_ms);
        assert_eq!(String::from_utf8(to).unwrap(), expected);
    }
}

type Part<'a> = (bool, &'a [(&'a str, &'a str)], &'a [(i64, f64)]);

fn written(shape: Shape, notes: Notes, limit: usize, parts: &[Part<'_>]) -> String {
    let mut to = Vec::new();
    let mut results = Results::new(shape, notes, limit);
    results.head(&mut to);
    for (is_continued, labels, samples) in parts {
        let (labels, samples) = (labels.iter().copied(), samples.iter().copied());
        results.series(&mut to, *is_continued, labels, samples, std::iter::empty());
    }
    results.finish(&mut to);
    let text = String::from_utf8(to).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    text
}

#[test]
fn shapes() {
    assert_eq!(
        written(Shape::Vector, Notes::default(), 0, &[]),
        r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
    );
    assert_eq!(
        written(
            Shape::Vector,
            Notes { warnings: vec!["w\"".into()], infos: vec!["i".into()], stats: None },
            0,
            &[
                (false, &[("__name__", "up"), ("a", "\u{1}\"")], &[(4_000, 1.0)]),
                (false, &[], &[(4_000, 2.5)])
            ]
        ),
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","a":"\u0001\""},"value":[4,"1"]},{"metric":{},"value":[4,"2.5"]}]},"warnings":["w\""],"infos":["i"]}"#
    );
    assert_eq!(
        written(Shape::Scalar, Notes::default(), 0, &[(false, &[], &[(4_000, 2.0)])]),
        r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#
    );
    assert_eq!(
        written(Shape::Scalar, Notes::default(), 0, &[]),
        r#"{"status":"success","data":{"resultType":"scalar","result":null}}"#
    );
    assert_eq!(
        written(
            Shape::Series,
            Notes::default(),
            0,
            &[(false, &[("a", "1")], &[]), (false, &[("a", "2")], &[])]
        ),
        r#"{"status":"success","data":[{"a":"1"},{"a":"2"}]}"#
    );
}

#[test]
fn a_series_may_span_chunks() {
    let parts: &[Part<'_>] = &[
        (false, &[("a", "1")], &[(1_000, 1.0), (2_000, 2.0)]),
        (true, &[("a", "1")], &[(3_000, 3.0)]),
        (true, &[], &[]),
        (false, &[("a", "2")], &[]),
        (true, &[], &[(1_000, f64::NAN)]),
    ];
    written(Shape::Matrix, Notes::default(), 0, parts);
    let text = written(Shape::Matrix, Notes::default(), 0, &parts[..4]);
    assert_eq!(
        text,
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1"],[2,"2"],[3,"3"]]},{"metric":{"a":"2"},"values":[]}]}}"#
    );
}

#[test]
fn histograms_are_written_as_prometheus_writes_them() {
    let histogram = Histogram {
        count: 10.0,
        sum: 2.5,
        zero_threshold: 0.5,
        zero_count: 1.0,
        positive_spans: vec![Span { offset: 1, length: 3 }],
        positive_counts: vec![2.0, 0.0, 3.0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_counts: vec![4.0],
        ..Histogram::default()
    };
    let shown = r#"{"count":"10","sum":"2.5","buckets":[[1,"-2","-1","4"],[3,"-0.5","0.5","1"],[0,"1","2","2"],[0,"4","8","3"]]}"#;
    type Mixed<'a> = (bool, &'a [(i64, f64)], &'a [(i64, Histogram)]);
    let write = |shape: Shape, parts: &[Mixed<'_>]| {
        let mut to = Vec::new();
        let mut results = Results::new(shape, Notes::default(), 0);
        results.head(&mut to);
        for (is_continued, samples, histograms) in parts {
            let (samples, histograms) = (samples.iter().copied(), histograms.iter().cloned());
            results.series(&mut to, *is_continued, std::iter::empty(), samples, histograms);
        }
        results.finish(&mut to);
        String::from_utf8(to).unwrap()
    };
    let one = [(4_000, histogram.clone())];
    assert_eq!(
        write(Shape::Vector, &[(false, &[], &one)]),
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"histogram":[4,{shown}]}}]}}}}"#
        )
    );
    let numbers = [(1_000, 1.0), (2_000, 2.0)];
    let parts: [Mixed<'_>; 4] =
        [(false, &numbers[..1], &[]), (true, &numbers[1..], &one), (true, &[], &one), (false, &[], &one)];
    assert_eq!(
        write(Shape::Matrix, &parts),
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[1,"1"],[2,"2"]],"histograms":[[4,{shown}],[4,{shown}]]}},{{"metric":{{}},"histograms":[[4,{shown}]]}}]}}}}"#
        )
    );
    assert!(
        write(Shape::Vector, &[(false, &[], &[(0, Histogram::default())])])
            .contains(r#"{"count":"0","sum":"0"}"#)
    );
}

#[test]
fn a_limit_cuts_and_says_so() {
    let parts: &[Part<'_>] = &[
        (false, &[("a", "1")], &[(1_000, 1.0)]),
        (true, &[], &[(2_000, 1.0)]),
        (false, &[("a", "2")], &[(1_000, 1.0)]),
        (true, &[], &[(2_000, 1.0)]),
    ];
    assert_eq!(
        written(Shape::Matrix, Notes::default(), 1, parts),
        r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1"],[2,"1"]]}]},"warnings":["results truncated due to limit"]}"#
    );
    assert!(!written(Shape::Matrix, Notes::default(), 2, parts).contains("truncated"));
}

#[test]
fn lines_keep_what_is_not_utf8_visible() {
    let mut to = Vec::new();
    push_line(&mut to, 5, [("a", "b")].into_iter(), b"x\xffy");
    assert_eq!(
        String::from_utf8(to).unwrap(),
        "{\"timestamp\":\"5\",\"labels\":{\"a\":\"b\"},\"line\":\"x\u{fffd}y\",\"lossy\":true}"
    );
}
