//! Files that other programs leave.

use std::fs;
use std::path::Path;

use lm_agent::sources::SeriesTable;
use lm_agent::sources::host::HostOptions;

use crate::fixtures::test_host;
use crate::machine::{Machine, Values};

fn machine(patterns: &[&Path]) -> Machine {
    let textfile = patterns.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    Machine::new(HostOptions { textfile, collectors: ["textfile"].into(), ..HostOptions::default() })
}

fn cycle(patterns: &[&Path]) -> (Values, Vec<String>) {
    let mut machine = machine(patterns);
    let (values, failures) = machine.cycle();
    assert_eq!(failures, []);
    (values, machine.left_out)
}

fn error(values: &Values) -> f64 {
    values["node_textfile_scrape_error"]
}

#[test]
fn the_files_of_the_test_host() {
    let all = test_host().join("textfile");
    let check = |directory: &str, expected_error: f64, series: &str, expected: Option<f64>| {
        let (values, left_out) = cycle(&[&all.join(directory)]);
        assert_eq!(error(&values), expected_error, "{directory}: {left_out:?}");
        assert_eq!(left_out.is_empty(), expected_error == 0.0, "{directory}: {left_out:?}");
        assert_eq!(values.get(series).copied(), expected, "{directory}");
        let has_time = values.keys().any(|series| series.starts_with("node_textfile_mtime_seconds"));
        assert_eq!(has_time, expected.is_some(), "{directory}");
    };
    check("two_metric_files", 0.0, r#"testmetric1_2{foo="baz"}"#, Some(20.0));
    check("different_metric_types", 0.0, r#"events_total{foo="baz"}"#, Some(20.0));
    check("histogram", 0.0, "prometheus_tsdb_compaction_chunk_range_count", Some(1.691853e6));
    check("summary", 0.0, r#"event_duration_seconds_total_sum{baz="result_sort"}"#, Some(3.4123187829998307));
    check("inconsistent_metrics", 0.0, r#"go_goroutines{foo="bar"}"#, Some(229.0));
    check("client_side_timestamp", 1.0, "metric_with_custom_timestamp", None);
    check("no_metric_files", 0.0, "x", None);
    check("nonexistent_path", 1.0, "x", None);
}

#[test]
fn patterns_find_directories() {
    let (values, _) = cycle(&[&test_host().join("textfile/*_extra_dimension")]);
    assert_eq!(error(&values), 0.0);
    let times = values.keys().filter(|series| series.starts_with("node_textfile_mtime_seconds"));
    assert_eq!(times.count(), 2);
    assert_eq!(error(&cycle(&[]).0), 0.0);
}

#[test]
fn a_wrong_file_counts_not_at_all_and_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
    write("a.prom", b"a 1\n");
    write("b.prom", b"b 1\nb 2 x y\n");
    write("c.prom", "c{x=\"1\"} NaN\nc{x=\"2\"} +Inf\n".as_bytes());
    write("d.prom", &[0xff; 100]);
    write("e.prom", "e{i=\"0\"} 1\n".repeat(5000).as_bytes());
    write("f.prom", format!("f{{i=\"{}\"}} 1\n", "x".repeat(70_000)).as_bytes());
    write("ignored.txt", b"g 1\n");
    fs::create_dir(dir.path().join("g.prom")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("h.prom"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();

    let (values, left_out) = cycle(&[dir.path()]);
    let starts = |prefix: &str| values.keys().filter(|series| series.starts_with(prefix)).count();
    assert_eq!(
        (starts("a"), starts("b"), starts("c"), starts("d"), starts("e"), starts("f")),
        (1, 0, 2, 0, 0, 0)
    );
    assert!(values[r#"c{x="1"}"#].is_nan());
    assert_eq!(error(&values), 1.0);
    println!("{left_out:#?}");
    let says = |name: &str, why: &str| {
        left_out.iter().any(|message| message.contains(&format!("/{name}.prom: ")) && message.contains(why))
    };
    assert!(says("b", "line 2"));
    assert!(says("d", "line 1"));
    assert!(says("e", "more than 4096 samples"));
    assert!(says("f", "line 1: more than 65536"));
    assert!(says("g", "directory"));
    assert_eq!(left_out.len(), 5);
}

#[test]
fn a_file_that_does_not_fit_the_table_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..100).map(|n| format!("large{{n=\"{n}\"}} 1\n")).collect();
    fs::write(dir.path().join("a.prom"), "small 1\n").unwrap();
    fs::write(dir.path().join("b.prom"), lines.concat()).unwrap();
    let mut machine = machine(&[dir.path()]);
    machine.table = SeriesTable::new(50);
    let (values, failures) = machine.cycle();
    assert!(values.contains_key("small"), "{values:?} {failures:?}");
}
