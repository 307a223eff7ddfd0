use std::collections::BTreeMap;

use lm_model::is_stale;

use super::super::relabel::{Action, Pattern, Rule};
use super::*;

fn job() -> Job {
    let limits = JobLimits {
        samples_max: 4,
        labels_max: 5,
        label_name_bytes_max: 21,
        label_value_bytes_max: 10,
        ..Job::default().limits
    };
    Job { limits, ..Job::default() }
}

fn target() -> LabelMap {
    BTreeMap::from([("instance", "a:1"), ("job", "app")].map(|(n, v)| (n.to_owned(), v.to_owned())))
}

/// One scrape as lines; what failed, and the ends that it brings, as well.
fn scrape(series: &mut TargetSeries, job: &Job, body: &str, second: i64) -> (Vec<String>, Counts, String) {
    let (mut out, mut counts) = (Vec::new(), Counts::default());
    let time = Timestamp::from_millis(second * 1000);
    let answer = (Format::PrometheusText, body.as_bytes());
    let read = series.read(job, &target(), answer, time, &mut counts, &mut out);
    if read.is_err() {
        assert!(out.is_empty(), "no partial data");
        series.end(time, &mut out);
    }
    let mut lines: Vec<_> = out
        .iter()
        .map(|sample| {
            let value = if is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
            format!("{} {value} @{}", sample.labels, sample.time.as_millis() / 1000)
        })
        .collect();
    lines.sort();
    (lines, counts, read.err().unwrap_or_default())
}

fn rule(action: Action, source: &str, regex: &str) -> Rule {
    let source_labels = if source.is_empty() { Vec::new() } else { vec![source.to_owned()] };
    Rule { action, source_labels, regex: Pattern::new(regex).unwrap(), ..Rule::default() }
}

#[test]
fn series_come_and_go() {
    let (mut series, job) = (TargetSeries::default(), job());
    let (lines, counts, _) = scrape(&mut series, &job, "a 1\nb{x=\"1\"} 2\n", 1);
    assert_eq!(
        lines,
        [
            r#"{__name__="a", instance="a:1", job="app"} 1 @1"#,
            r#"{__name__="b", instance="a:1", job="app", x="1"} 2 @1"#
        ]
    );
    assert_eq!(counts, Counts { scraped: 2, kept: 2, added: 2, native_histograms: 0 });
    let (lines, counts, _) = scrape(&mut series, &job, "a 3\nc 4\n", 2);
    assert_eq!(
        lines,
        [
            r#"{__name__="a", instance="a:1", job="app"} 3 @2"#,
            r#"{__name__="b", instance="a:1", job="app", x="1"} stale @2"#,
            r#"{__name__="c", instance="a:1", job="app"} 4 @2"#
        ]
    );
    assert_eq!(counts.added, 1);
    // A mistake behind good lines: nothing of it, and all that was there ends.
    let (lines, _, error) = scrape(&mut series, &job, "a 5\nnew 6\noops\n", 3);
    assert_eq!(error, "line 3: expected a space and a value, but the line ends");
    assert_eq!(
        lines,
        [
            r#"{__name__="a", instance="a:1", job="app"} stale @3"#,
            r#"{__name__="c", instance="a:1", job="app"} stale @3"#
        ]
    );
    // Ended once, not again.
    assert_eq!(scrape(&mut series, &job, "oops\n", 4).0, [""; 0]);
    let (lines, counts, _) = scrape(&mut series, &job, "a 7\n", 5);
    assert_eq!((lines.len(), counts.added), (1, 1));
}

#[test]
fn times_of_the_target() {
    let mut job = job();
    let mut series = TargetSeries::default();
    let body = "a 1 7000\na 2 8000\n";
    let (lines, ..) = scrape(&mut series, &job, body, 10);
    let labels = r#"{__name__="a", instance="a:1", job="app"}"#;
    assert_eq!(lines, [format!("{labels} 1 @7"), format!("{labels} 2 @8")]);
    // The target says when it was; nobody can say when it ended.
    assert_eq!(scrape(&mut series, &job, "", 11).0, [""; 0]);
    job.honor_timestamps = false;
    let mut series = TargetSeries::default();
    assert_eq!(scrape(&mut series, &job, body, 10).0, [format!("{labels} 1 @10")]);
    assert_eq!(scrape(&mut series, &job, "", 11).0, [format!("{labels} stale @11")]);
}

#[test]
fn labels_of_target_and_sample() {
    let mut job = job();
    let body = "a{job=\"mine\",exported_job=\"x\",instance=\"\",y=\"\"} 1\n";
    let (lines, ..) = scrape(&mut TargetSeries::default(), &job, body, 1);
    assert_eq!(
        lines,
        [r#"{__name__="a", exported_exported_job="mine", exported_job="x", instance="a:1", job="app"} 1 @1"#]
    );
    job.honor_labels = true;
    let (lines, ..) = scrape(&mut TargetSeries::default(), &job, body, 1);
    assert_eq!(lines, [r#"{__name__="a", exported_job="x", job="mine"} 1 @1"#]);
}

#[test]
fn metric_relabeling() {
    let mut job = job();
    job.metric_relabel = vec![
        rule(Action::Drop, "__name__", "go_.*"),
        rule(Action::LabelDrop, "", "x"),
        Rule { target_label: "__name__".to_owned(), ..rule(Action::Replace, "__name__", "old_(.*)") },
    ];
    let body = "go_threads 1\nold_a{x=\"1\"} 2\n";
    let mut series = TargetSeries::default();
    let (lines, counts, _) = scrape(&mut series, &job, body, 1);
    assert_eq!(lines, [r#"{__name__="a", instance="a:1", job="app"} 2 @1"#]);
    assert_eq!(counts, Counts { scraped: 2, kept: 1, added: 1, native_histograms: 0 });
    assert_eq!(scrape(&mut series, &job, body, 2).1.added, 0);
    job.metric_relabel = vec![rule(Action::LabelDrop, "", "__name__")];
    let (_, _, error) = scrape(&mut TargetSeries::default(), &job, "a 1\n", 1);
    assert_eq!(error, "metric_relabel_configs leaves a without a name");
}

#[test]
fn limits() {
    let job = job();
    let check = |body: &str, expected: &str| {
        assert_eq!(scrape(&mut TargetSeries::default(), &job, body, 1).2, expected, "{body}");
    };
    check("a 1\nb 1\nc 1\nd 1\n", "");
    check("a 1\nb 1\nc 1\nd 1\ne 1\n", "more than 4 samples (sample_limit)");
    check("a{b=\"1\",c=\"2\"} 1\n", "");
    check("a{b=\"1\",c=\"2\",d=\"3\"} 1\n", "a has 6 labels (label_limit is 5)");
    check("a{b=\"1234567890\"} 1\n", "");
    check("a{b=\"12345678901\"} 1\n", "a has 11 bytes in label b (label_value_length_limit is 10)");
    check(
        "a{b123456789012345678901=\"1\"} 1\n",
        "a has a label name of 22 bytes (label_name_length_limit is 21)",
    );
    // What is said twice is kept once.
    let (lines, counts, _) = scrape(&mut TargetSeries::default(), &job, "a 1\na 2\n", 1);
    assert_eq!(
        (lines, counts.kept),
        (vec![r#"{__name__="a", instance="a:1", job="app"} 1 @1"#.to_owned()], 1)
    );
}
