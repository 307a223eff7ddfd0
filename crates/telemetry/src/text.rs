//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::{Figure, Value};

/// What it is sent as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Lines of one name stand together, whoever they come from.
pub(crate) fn write(mut figures: Vec<Figure>) -> String {
    figures.sort_by_key(|figure| figure.name);
    let mut text = String::new();
    let mut last = "";
    for figure in &figures {
        // Writing to a string cannot fail.
        if figure.name != last {
            last = figure.name;
            let kind = match figure.value {
                Value::Histogram(_) => "histogram",
                Value::Number(_) if last.ends_with("_total") => "counter",
                Value::Number(_) => "gauge",
            };
            let help = figure.help.replace('\\', r"\\").replace('\n', r"\n");
            let _ = writeln!(text, "# HELP {last} {help}\n# TYPE {last} {kind}");
        }
        for (suffix, bound, number) in figure.series() {
            text.push_str(figure.name);
            text.push_str(suffix);
            let bound = bound.map(|bound| ("le", bound));
            let labels = figure.labels.iter().map(|(name, value)| (*name, &value[..])).chain(bound);
            let mut open = '{';
            for (name, value) in labels {
                let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                let _ = write!(text, "{open}{name}=\"{value}\"");
                open = ',';
            }
            if open == ',' {
                text.push('}');
            }
            let _ = match number {
                number if number.is_infinite() && number > 0.0 => writeln!(text, " +Inf"),
                number if number.is_infinite() => writeln!(text, " -Inf"),
                number => writeln!(text, " {number}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Figure, Histogram, Telemetry};

    #[test]
    fn text_groups_names_and_escapes_labels() {
        let telemetry = Telemetry::default();
        telemetry.add(|to| {
            to.push(Figure::new("a_total", "Counts.", 1.0).with("x", "q\"\\\n"));
            to.push(Figure::new("b", "Is.", 0.5));
        });
        telemetry.add(|to| to.push(Figure::new("a_total", "Counts.", 2.0).with("x", "y").with("z", "1")));
        let expected = "# HELP a_total Counts.\n# TYPE a_total counter\n\
                        a_total{x=\"q\\\"\\\\\\n\"} 1\na_total{x=\"y\",z=\"1\"} 2\n\
                        # HELP b Is.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(telemetry.text(), expected);
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_millis(7));
        let text = super::write(vec![Figure::histogram("t_seconds", "Takes.", histogram.snapshot())]);
        assert!(text.starts_with("# HELP t_seconds Takes.\n# TYPE t_seconds histogram\n"), "{text}");
        for line in [
            "t_seconds_bucket{le=\"0.001\"} 0\n",
            "t_seconds_bucket{le=\"0.005\"} 1\n",
            "t_seconds_bucket{le=\"+Inf\"} 2\n",
            "t_seconds_sum 0.01\n",
            "t_seconds_count 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
