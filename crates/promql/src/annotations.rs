//! Warnings and infos of one evaluation: probable mistakes in a query or its
//! data, in the words of Prometheus 3 (`util/annotations/annotations.go`) and
//! with the place in the query that they are about.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::dates::rfc3339;
use crate::native::Events;
use crate::text::shortest;

/// What may be wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note {
    InvalidQuantile(f64),
    InvalidRatio {
        found: f64,
        capped: f64,
    },
    IneffectiveSort,
    /// Of the label `le`.
    BadBucketLabel(String),
    MixedRange,
    MixedAggregation,
    MixedClassicAndNative,
    NotCounter,
    NotGauge,
    MixedSchemas,
    IncompatibleLayout(BinaryOp),
    CollidingResets(Operation),
    PossibleNonCounter,
    /// By its `__type__`.
    PossibleNonCounterType(String),
    ForcedMonotonic(Raised),
    IncompatibleTypes {
        left: &'static str,
        op: BinaryOp,
        right: &'static str,
    },
    IgnoredInAggregation(AggregateOp),
    IgnoredInMixedRange,
    QuantileIsNan,
    QuantileIsSkewed,
    FractionWithoutNans,
    ReconciledBounds(Operation),
}

/// What was being done with histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

/// Buckets of classic histograms whose counts had to be raised.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raised {
    /// Bounds of the lowest and the highest of them.
    pub lowest: f64,
    pub highest: f64,
    pub by_at_most: f64,
    pub count: usize,
    /// In milliseconds.
    pub first: i64,
    pub last: i64,
}

impl Raised {
    /// Takes another histogram's into account.
    pub fn merge(&mut self, other: &Raised) {
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        self.by_at_most = self.by_at_most.max(other.by_at_most);
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl Note {
    fn is_info(&self) -> bool {
        use Note::*;
        matches!(
            self,
            PossibleNonCounter
                | PossibleNonCounterType(_)
                | ForcedMonotonic(_)
                | IncompatibleTypes { .. }
                | IgnoredInAggregation(_)
                | IgnoredInMixedRange
                | QuantileIsNan
                | QuantileIsSkewed
                | FractionWithoutNans
                | ReconciledBounds(_)
        )
    }

    /// The text, without details that are still being collected.
    fn text(&self, metric: &str) -> String {
        use Note::*;
        let of_metric =
            if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") };
        match self {
            InvalidQuantile(q) => format!("quantile value should be between 0 and 1, got {}", shortest(*q)),
            InvalidRatio { found, capped } => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                shortest(*found),
                shortest(*capped)
            ),
            IneffectiveSort => {
                "sort is ineffective for range queries since results are always ordered by labels".into()
            }
            BadBucketLabel(le) => {
                format!("bucket label \"le\" is missing or has a malformed value of {le:?}{of_metric}")
            }
            MixedRange => format!("encountered a mix of histograms and floats for metric name {metric:?}"),
            MixedAggregation => "encountered a mix of histograms and floats for aggregation".into(),
            MixedClassicAndNative => {
                format!("vector contains a mix of classic and native histograms{of_metric}")
            }
            NotCounter => format!("this native histogram metric is not a counter: {metric:?}"),
            NotGauge => format!("this native histogram metric is not a gauge: {metric:?}"),
            MixedSchemas => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric \
                 name {metric:?}"
            ),
            IncompatibleLayout(op) => {
                format!("incompatible bucket layout encountered for binary operator {}", op.symbol())
            }
            CollidingResets(operation) => {
                format!("conflicting counter resets during histogram {operation}")
            }
            PossibleNonCounter => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}"
            ),
            PossibleNonCounterType(found) => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", \
                 got {found:?}: {metric:?}"
            ),
            ForcedMonotonic(_) => format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)\
                 {of_metric}"
            ),
            IncompatibleTypes { left, op, right } => {
                let op = op.symbol();
                format!(
                    "incompatible sample types encountered for binary operator {op:?}: {left} {op} {right}"
                )
            }
            IgnoredInAggregation(op) => format!("ignored histogram in {} aggregation", op.name()),
            IgnoredInMixedRange => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {metric:?}"
            ),
            QuantileIsNan => {
                format!("input to histogram_quantile has NaN observations, result is NaN{of_metric}")
            }
            QuantileIsSkewed => {
                format!(
                    "input to histogram_quantile has NaN observations, result is skewed higher{of_metric}"
                )
            }
            FractionWithoutNans => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions\
                 {of_metric}"
            ),
            ReconciledBounds(operation) => {
                format!("mismatched custom buckets were reconciled during {operation}")
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        })
    }
}

/// Notes of all that work for one query. Each text is kept once, with the place
/// where it was first met.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    warnings: BTreeMap<String, (Span, Note)>,
    infos: BTreeMap<String, (Span, Note)>,
}

/// More annotations than this say nothing new.
const ANNOTATIONS_MAX: usize = 50;

impl Annotations {
    /// Notes something about a metric, whose name may be empty.
    pub fn add(&self, note: Note, metric: &str, span: Span) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = if note.is_info() { &mut notes.infos } else { &mut notes.warnings };
        let text = note.text(metric);
        let is_full = notes.len() >= ANNOTATIONS_MAX;
        match (notes.get_mut(&text), note) {
            (Some((_, Note::ForcedMonotonic(raised))), Note::ForcedMonotonic(more)) => raised.merge(&more),
            (None, note) if !is_full => {
                notes.insert(text, (span, note));
            }
            _ => {}
        }
    }

    /// What summing up histograms brought up.
    pub fn add_events(&self, events: Events, operation: Operation, span: Span) {
        if events.hints_collide {
            self.add(Note::CollidingResets(operation), "", span);
        }
        if events.bounds_differed {
            self.add(Note::ReconciledBounds(operation), "", span);
        }
    }

    /// Warnings and infos as the API shows them.
    pub fn finish(self) -> (Vec<String>, Vec<String>) {
        let shown = |kind: &str, notes: BTreeMap<String, (Span, Note)>| {
            notes.into_iter().map(|(text, (span, note))| show(kind, &text, span, &note)).collect()
        };
        let notes = self.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        (shown("PromQL warning", notes.warnings), shown("PromQL info", notes.infos))
    }
}

fn show(kind: &str, text: &str, span: Span, note: &Note) -> String {
    let details = match note {
        Note::ForcedMonotonic(raised) => format!(
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            shortest(raised.lowest),
            shortest(raised.highest),
            two_digits(raised.by_at_most),
            raised.count,
            rfc3339(raised.first.div_euclid(1000)),
            rfc3339(raised.last.div_euclid(1000)),
        ),
        _ => String::new(),
    };
    format!("{kind}: {text}{details} ({}:{})", span.place.line, span.place.column)
}

/// As `%.2g` writes it.
fn two_digits(value: f64) -> String {
    let rounded = format!("{value:.1e}").parse().unwrap_or(value);
    let text = shortest(rounded);
    if rounded.abs() < 100.0 { text } else { go_exponent(rounded) }
}

fn go_exponent(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Place;

    fn at(column: usize) -> Span {
        Span { start: 0, end: 0, place: Place { line: 1, column } }
    }

    #[test]
    fn each_text_is_shown_once_with_its_first_place() {
        let annotations = Annotations::default();
        annotations.add(Note::InvalidQuantile(1.5), "", at(3));
        annotations.add(Note::InvalidQuantile(1.5), "", at(9));
        annotations.add(Note::QuantileIsNan, "m", at(4));
        let (warnings, infos) = annotations.finish();
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:3)"]);
        assert_eq!(
            infos,
            ["PromQL info: input to histogram_quantile has NaN observations, result is NaN for metric name \
              \"m\" (1:4)"]
        );
    }

    #[test]
    fn raised_buckets_are_summed_up() {
        let annotations = Annotations::default();
        let raised = |lowest, highest, by_at_most, time| {
            Note::ForcedMonotonic(Raised { lowest, highest, by_at_most, count: 1, first: time, last: time })
        };
        annotations.add(raised(2.5, 10.0, 0.014, 0), "m", at(1));
        annotations.add(raised(5.0, 100.0, 120.0, 86_400_000), "m", at(1));
        let (_, infos) = annotations.finish();
        let end = "from buckets 2.5 to 100, with a max diff of 1.2e+02, over 2 samples from \
                   1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z (1:1)";
        assert!(infos[0].ends_with(end), "{infos:?}");
    }

    #[test]
    fn notes_are_bounded() {
        let annotations = Annotations::default();
        for q in 2..1000 {
            annotations.add(Note::InvalidQuantile(f64::from(q)), "", at(1));
        }
        assert_eq!(annotations.finish().0.len(), ANNOTATIONS_MAX);
    }
}
