//! Our own figures: stored beside what agents send (see `own`), so that they
//! are asked for in the same way, and shown at `/metrics`.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// One figure, as of now. A name that ends in `_total` is a counter, every
/// other a gauge. The number of label values is bounded by the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Figure {
    pub fn new(name: &'static str, help: &'static str, value: f64) -> Figure {
        Figure { name, help, labels: Vec::new(), value }
    }

    /// With one more label.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Figure {
        self.labels.push((name, value.into()));
        self
    }
}

type Source = Box<dyn Fn(&mut Vec<Figure>) + Send + Sync>;

/// Everybody who has figures. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Telemetry {
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Telemetry {
    /// `source` is asked at every look; it must not wait.
    pub fn add(&self, source: impl Fn(&mut Vec<Figure>) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Everything, as of now.
    pub fn collect(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&mut figures);
        }
        figures
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn text(&self) -> String {
        let mut figures = self.collect();
        // Lines of one name stand together.
        figures.sort_by_key(|figure| figure.name);
        let mut text = String::new();
        let mut last = "";
        for figure in &figures {
            // Writing to a string cannot fail.
            if figure.name != last {
                last = figure.name;
                let kind = if last.ends_with("_total") { "counter" } else { "gauge" };
                let _ = writeln!(text, "# HELP {last} {}\n# TYPE {last} {kind}", figure.help);
            }
            text.push_str(figure.name);
            for (index, (name, value)) in figure.labels.iter().enumerate() {
                let open = if index == 0 { '{' } else { ',' };
                let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
                let _ = write!(text, "{open}{name}=\"{value}\"");
            }
            if !figure.labels.is_empty() {
                text.push('}');
            }
            let _ = writeln!(text, " {}", figure.value);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
