//! The text formats. Cases and what they mean are those of the tests of
//! Prometheus' parsers (model/textparse), written for this reader.

use lm_exposition::{Entry, Error, Exemplar, Format, Label, Limits, Metadata, Reader};

/// Every entry as one line of text.
fn read(format: Format, input: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(format, input, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(match entry {
            Entry::Metadata(Metadata::Help { family, text }) => format!("HELP {family}: {text}"),
            Entry::Metadata(Metadata::Type { family, metric_type }) => {
                format!("TYPE {family}: {}", metric_type.name())
            }
            Entry::Metadata(Metadata::Unit { family, unit }) => format!("UNIT {family}: {unit}"),
            Entry::Sample(sample) => {
                let mut line = format!("{}{} {:?}", sample.name, set(sample.labels), sample.value);
                if let Some(time) = sample.time_unix_ms {
                    line += &format!(" @{time}");
                }
                if let Some(Exemplar { labels, value, time_unix_ms }) = sample.exemplar {
                    line += &format!(" # {}{value:?}", set(labels));
                    if let Some(time) = time_unix_ms {
                        line += &format!(" @{time}");
                    }
                }
                line
            }
            Entry::NativeHistogram(_) => unreachable!("text has none"),
        });
    }
    Ok(entries)
}

fn set(labels: &[Label<'_>]) -> String {
    let pairs: Vec<_> = labels.iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn check(format: Format, input: &str, expected: &[&str]) {
    assert_eq!(read(format, input.as_bytes()).unwrap(), expected, "{input}");
}

#[test]
fn prometheus_text() {
    check(
        Format::PrometheusText,
        r#"# HELP go_gc_duration_seconds A summary of the GC invocation durations.
# 	TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile="0"} 4.9351e-05
go_gc_duration_seconds{quantile="0.25",} 7.424100000000001e-05
go_gc_duration_seconds{quantile="0.5",a="b"} 8.3835e-05
go_gc_duration_seconds{ quantile="0.9", a="b"} 8.3835e-05
# Hrandom comment starting with prefix of HELP
#

wind_speed{A="2",c="3"} 12345
# comment with escaped \n newline
# HELP nohelp1
# HELP nohelp2 
# HELP escaped a \\ b \n c \" d \x
go_gc_duration_seconds { quantile = "1.0", a = "b" } 8.3835e-05
go_gc_duration_seconds { quantile = "2.0" a = "b" } 8.3835e-05
go_gc_duration_seconds_count 99
some:aggregate:rate5m{a_b="c"}	1
# TYPE go_goroutines gauge
go_goroutines 33  	123123
_metric_starting_with_underscore 1
testmetric{_label_starting_with_underscore="foo"} 1
testmetric{label="\"bar\""} 1
testmetric{label="a\nb\\c\xd",empty=""} -Inf -5
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_other{le="1"} 1
# TYPE h untyped
no_line_feed NaN"#,
        &[
            "HELP go_gc_duration_seconds: A summary of the GC invocation durations.",
            "TYPE go_gc_duration_seconds: summary",
            r#"go_gc_duration_seconds{quantile="0.0"} 4.9351e-5"#,
            r#"go_gc_duration_seconds{quantile="0.25"} 7.424100000000001e-5"#,
            r#"go_gc_duration_seconds{quantile="0.5",a="b"} 8.3835e-5"#,
            r#"go_gc_duration_seconds{quantile="0.9",a="b"} 8.3835e-5"#,
            r#"wind_speed{A="2",c="3"} 12345.0"#,
            "HELP nohelp1: ",
            "HELP nohelp2: ",
            "HELP escaped: a \\ b \n c \\\" d \\x",
            r#"go_gc_duration_seconds{quantile="1.0",a="b"} 8.3835e-5"#,
            r#"go_gc_duration_seconds{quantile="2.0",a="b"} 8.3835e-5"#,
            "go_gc_duration_seconds_count 99.0",
            r#"some:aggregate:rate5m{a_b="c"} 1.0"#,
            "TYPE go_goroutines: gauge",
            "go_goroutines 33.0 @123123",
            "_metric_starting_with_underscore 1.0",
            r#"testmetric{_label_starting_with_underscore="foo"} 1.0"#,
            r#"testmetric{label="\"bar\""} 1.0"#,
            r#"testmetric{label="a\nb\\c\\xd",empty=""} -inf @-5"#,
            "TYPE h: histogram",
            r#"h_bucket{le="1.0"} 1.0"#,
            r#"h_bucket{le="+Inf"} 2.0"#,
            r#"h_other{le="1"} 1.0"#,
            "TYPE h: unknown",
            "no_line_feed NaN",
        ],
    );
    check(Format::PrometheusText, "", &[]);
    check(
        Format::PrometheusText,
        "# HELP metric foo\0bar\nnull_byte_metric{a=\"abc\0\"} 1\n",
        &["HELP metric: foo\0bar", r#"null_byte_metric{a="abc\0"} 1.0"#],
    );
}

#[test]
fn names_in_quotes() {
    let input = r#"# HELP "go.gc_duration_seconds" A summary.
# TYPE "go.gc_duration_seconds" summary
{"go.gc_duration_seconds",quantile="0"} 4.9351e-05
{"go.gc_duration_seconds_count"} 99
{q="0.9","http.status",a="b"} 8
{"Heizölrückstoßabdämpfung 10€ metric with \"interesting\" {character\nchoices}","strange©™\n'quoted' \"name\""="6"} 10.0
"#;
    let expected = [
        "HELP go.gc_duration_seconds: A summary.",
        "TYPE go.gc_duration_seconds: summary",
        r#"go.gc_duration_seconds{quantile="0.0"} 4.9351e-5"#,
        "go.gc_duration_seconds_count 99.0",
        r#"http.status{q="0.9",a="b"} 8.0"#,
        "Heizölrückstoßabdämpfung 10€ metric with \"interesting\" {character\nchoices}\
         {strange©™\n'quoted' \"name\"=\"6\"} 10.0",
    ];
    check(Format::PrometheusText, input, &expected);
    check(Format::OpenMetricsText, &format!("{input}# EOF\n"), &expected);
}

#[test]
fn openmetrics() {
    check(
        Format::OpenMetricsText,
        r#"# HELP go_gc_duration_seconds A summary of the GC invocation durations.
# TYPE go_gc_duration_seconds summary
# UNIT go_gc_duration_seconds seconds
go_gc_duration_seconds{quantile="0"} 4.9351e-05
go_gc_duration_seconds{quantile="0.5",a="b"} 8.3835e-05
# HELP nohelp1 
# HELP help2 escape \ \n \\ \" \x chars
# UNIT nounit 
go_goroutines 33 123.123
# TYPE hhh histogram
hhh_bucket{le="+Inf"} 1 # {id="histogram-bucket-test"} 4
# TYPE ggh gaugehistogram
ggh_bucket{le="1"} 1 # {id="x",xx="yy"} 4 123.123
ggh_count 1 5 # {"id.thing"="y"} 4 123.123
bare_total 1 # {} 2
# TYPE ii info
ii{foo="bar"} 1
# TYPE ss stateset
ss{ss="foo"} 1
# TYPE un unknown
# TYPE foo counter
foo_total 17.0 1520879607.789 # {id="counter-test"} 5
foo_created 1520872607.123
# EOF
"#,
        &[
            "HELP go_gc_duration_seconds: A summary of the GC invocation durations.",
            "TYPE go_gc_duration_seconds: summary",
            "UNIT go_gc_duration_seconds: seconds",
            r#"go_gc_duration_seconds{quantile="0.0"} 4.9351e-5"#,
            r#"go_gc_duration_seconds{quantile="0.5",a="b"} 8.3835e-5"#,
            "HELP nohelp1: ",
            "HELP help2: escape \\ \n \\ \" \\x chars",
            "UNIT nounit: ",
            "go_goroutines 33.0 @123123",
            "TYPE hhh: histogram",
            r#"hhh_bucket{le="+Inf"} 1.0 # {id="histogram-bucket-test"}4.0"#,
            "TYPE ggh: gaugehistogram",
            r#"ggh_bucket{le="1.0"} 1.0 # {id="x",xx="yy"}4.0 @123123"#,
            r#"ggh_count 1.0 @5000 # {id.thing="y"}4.0 @123123"#,
            "bare_total 1.0 # 2.0",
            "TYPE ii: info",
            r#"ii{foo="bar"} 1.0"#,
            "TYPE ss: stateset",
            r#"ss{ss="foo"} 1.0"#,
            "TYPE un: unknown",
            "TYPE foo: counter",
            r#"foo_total 17.0 @1520879607789 # {id="counter-test"}5.0"#,
            "foo_created 1520872607.123",
        ],
    );
    check(Format::OpenMetricsText, "# EOF", &[]);
    check(Format::OpenMetricsText, "# EOF\n", &[]);
}

#[test]
fn mistakes_of_prometheus_text() {
    for (input, expected) in [
        (&b"ok 1\na"[..], "line 2: expected a space and a value, but the line ends"),
        (b"a{b='c'} 1\n", "line 1: expected a label's value in quotes, found \"'c'} 1\""),
        (b"a{b=\n", "line 1: expected a label's value in quotes, but the line ends"),
        (b"a{\xff=\"foo\"} 1\n", "line 1: expected a label's name, found \"\u{fffd}=\\\"foo\\\"} 1\""),
        (b"a{b=\"\xff\"} 1\n", "line 1: \"\u{fffd}\" is not UTF-8"),
        (br#"{"a", "b = "c"}"#, "line 1: expected '=', found \"c\\\"}\""),
        (b"a true\n", "line 1: expected a value, found \"true\""),
        (b"w{p=\"", "line 1: expected a label's value in quotes, but no quote ends \"\\\"\""),
        (b"w{p=\"a\\\"", "line 1: expected a label's value in quotes, but no quote ends \"\\\"a\\\\\\\"\""),
        (b"w{p=\"a\\", "line 1: expected a label's value in quotes, but no quote ends \"\\\"a\\\\\""),
        (b"e{=\"\"} 0", "line 1: expected a label's name, found \"=\\\"\\\"} 0\""),
        (b"foo 1_2\n", "line 1: expected a value, found \"1_2\""),
        (b"foo 0x1p-3\n", "line 1: expected a value, found \"0x1p-3\""),
        (b"foo 0 1_2\n", "line 1: expected a time in milliseconds, found \"1_2\""),
        (b"foo 0 1 2\n", "line 1: expected the end of the line, found \"2\""),
        (br#"{a="ok"} 1"#, "line 1: the metric has no name"),
        (br#"{"","a"="ok"} 1"#, "line 1: the metric has no name"),
        (br#"a{"b"} 1"#, "line 1: the metric has two names"),
        (br#"{"a","b"} 1"#, "line 1: the metric has two names"),
        (br#"a{__name__="b"} 1"#, "line 1: the metric has two names"),
        (br#"a{b="1",b="2"} 1"#, "line 1: label \"b\" is there twice"),
        (br#"a{""="1"} 1"#, "line 1: a label has an empty name"),
        (b"9 1\n", "line 1: expected a metric's name, found \"9 1\""),
        (b"# TYPE #\n", "line 1: expected a metric's name after TYPE, found \"#\""),
        (b"# HELP #\n", "line 1: expected a metric's name after HELP, found \"#\""),
        (b"# TYPE a gauges\n", "line 1: \"gauges\" is no type of metrics"),
        (b"# HELP a \xff\n", "line 1: the help text is not UTF-8"),
        (b"a{b\0=\"hiih\"}\t1", "line 1: expected '=', found \"\\0=\\\"hiih\\\"}\\t1\""),
        (b"a\0{b=\"ddd\"} 1", "line 1: expected a space and a value, found \"\\0{b=\\\"ddd\\\"} 1\""),
        (b"a 0 1\0", "line 1: expected a time in milliseconds, found \"1\\0\""),
        (b"a 1\r\n", "line 1: expected a value, found \"1\\r\""),
        (b"<!DOCTYPE html>\n", "line 1: expected a metric's name, found \"<!DOCTYPE html>\""),
    ] {
        let error = read(Format::PrometheusText, input).unwrap_err();
        assert_eq!(error.to_string(), expected, "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn mistakes_of_openmetrics() {
    for input in [
        "",
        "\n",
        "metric",
        "metric 1",
        "metric 1\n",
        "metric_total 1 # {aa=\"bb\"} 4",
        "a\n# EOF\n",
        "\n\n# EOF\n",
        " a 1\n# EOF\n",
        "9\n# EOF\n",
        "# TYPE u untyped\n# EOF\n",
        "# TYPE c counter \n# EOF\n",
        "#  TYPE c counter\n# EOF\n",
        "# TYPE \n# EOF\n",
        "# TYPE m\n# EOF\n",
        "# UNIT metric suffix\n# EOF\n",
        "# UNIT metricsuffix suffix\n# EOF\n",
        "# UNIT m suffix\n# EOF\n",
        "# UNIT m\n# EOF\n",
        "# HELP \n# EOF\n",
        "# HELP m\n# EOF\n",
        "a\t1\n# EOF\n",
        "a 1\t2\n# EOF\n",
        "a 1 2 \n# EOF\n",
        "a 1 2 #\n# EOF\n",
        "a 1 1z\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "a 1 -Inf\n# EOF\n",
        "a 1 1e300\n# EOF\n",
        "a 1  2\n# EOF\n",
        " # EOF\n",
        "# EOF\na 1",
        "# EOF\n\n",
        "# EOFa 1",
        "#\tTYPE c counter\n# EOF\n",
        "# TYPE c  counter\n# EOF\n",
        "a 1 1 1\n# EOF\n",
        "a {b=\"c\"} 1\n# EOF\n",
        "a{b=\"c\"}1\n# EOF\n",
        "a{,b=\"c\"} 1\n# EOF\n",
        "a{b=\"c\"d=\"e\"} 1\n# EOF\n",
        "a{b=\"c\",,d=\"e\"} 1\n# EOF\n",
        "a{b=\n# EOF\n",
        "foo 0 1_2\n# EOF\n",
        "m_total 1 # {aa=bb}\n# EOF\n",
        "m_total 1 # {aa=\"bb\"}\n# EOF\n",
        "m_total 1 # {bb}\n# EOF\n",
        "m_total 1 # {\"bb\"} 1\n# EOF\n",
        "m_total 1 # {aa=\"bb\",,cc=\"dd\"} 1\n# EOF\n",
        "m_total 1 # {aa=\"bb\"} 1_2\n# EOF\n",
        "m_total 1 # {aa=\"bb\"} 4 NaN\n# EOF\n",
        "m_total 1 # {aa=\"bb\"} 4 1 1\n# EOF\n",
        "{b=\"c\",} 1\n# EOF\n",
        "# H\n# EOF\n",
        "#\n# EOF\n",
        "# random\n# EOF\n",
    ] {
        assert!(read(Format::OpenMetricsText, input.as_bytes()).is_err(), "{input:?}");
    }
    let unfinished = read(Format::OpenMetricsText, b"metric 1\n").unwrap_err();
    assert_eq!(unfinished, Error::Unfinished);
}

#[test]
fn limits() {
    let limits = Limits { line_bytes_max: 16, labels_max: 1, samples_max: 2, native_buckets_max: 1 };
    let all = |input: &str| -> Result<usize, String> {
        let mut reader = Reader::new(Format::PrometheusText, input.as_bytes(), limits);
        let mut count = 0;
        while reader.next().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    assert_eq!(all("a 1\nb 2\n"), Ok(2));
    assert_eq!(all("a 1\nb 2\nc 3\n"), Err("more than 2 samples".to_owned()));
    assert_eq!(all("a12345678901 15\n"), Ok(1));
    assert_eq!(all("a123456789012 16\n"), Err("line 1: more than 16 bytes".to_owned()));
    assert_eq!(all("\n# 45678901234567890\n"), Err("line 2: more than 16 bytes".to_owned()));
    assert_eq!(all("a{b=\"1\"} 1"), Ok(1));
    assert_eq!(all("a{b=\"\",c=\"\"} 1"), Err("line 1: more than 1 labels".to_owned()));
}
