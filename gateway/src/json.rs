//! Answers as Prometheus writes them, piece by piece.
//!
//! [`Results`] turns chunks of a cursor into JSON without ever holding a whole
//! answer: `head`, then each series as it arrives, then `finish`.

use std::io::Write as _;

use lm_model::{Histogram, buckets};

use crate::backend::{Failure, FailureKind};

/// A time in seconds, as the Prometheus API writes it: a JSON number, with
/// three decimals when it is no whole second.
pub fn push_seconds(to: &mut Vec<u8>, unix_ms: i64) {
    if unix_ms < 0 {
        to.push(b'-');
    }
    let abs = unix_ms.unsigned_abs();
    let _ = write!(to, "{}", abs / 1000);
    if !abs.is_multiple_of(1000) {
        let _ = write!(to, ".{:03}", abs % 1000);
    }
}

/// Whole numbers below this are exact and print fastest as integers.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A value without its quotes, as Go's `strconv.FormatFloat` and Prometheus's
/// `jsonutil` write it: shortest digits that read back equal, an exponent
/// below 1e-6 and from 1e21 on.
pub fn push_float(to: &mut Vec<u8>, value: f64) {
    let abs = value.abs();
    if value.is_nan() {
        to.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        to.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if abs < INTEGER_MAX && value.trunc() == value && (value != 0.0 || value.is_sign_positive()) {
        let _ = write!(to, "{}", value as i64);
    } else if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').expect("{:e} writes an exponent");
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        let _ = write!(to, "{digits}e{sign}{exponent:0>2}");
    } else {
        let _ = write!(to, "{value}");
    }
}

/// A quoted and escaped string.
pub fn push_string(to: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(to, text);
}

/// `{"a":"1","b":"2"}`.
pub fn push_labels<'a>(to: &mut Vec<u8>, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    to.push(b'{');
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            to.push(b',');
        }
        push_string(to, name);
        to.push(b':');
        push_string(to, value);
    }
    to.push(b'}');
}

fn push_strings(to: &mut Vec<u8>, texts: &[String]) {
    to.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        push_string(to, text);
    }
    to.push(b']');
}

fn push_notes(to: &mut Vec<u8>, notes: &Notes) {
    for (key, texts) in [("warnings", &notes.warnings), ("infos", &notes.infos)] {
        if !texts.is_empty() {
            let _ = write!(to, ",\"{key}\":");
            push_strings(to, texts);
        }
    }
}

/// What an answer says beside its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    /// Within the data, when it was asked for.
    pub stats: Option<Stats>,
}

/// What an evaluation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub queue_micros: u64,
    pub eval_micros: u64,
    pub samples_read: u64,
    pub samples_peak: u64,
}

/// In the shape of Prometheus, whose clocks we do not have all of.
fn push_stats(to: &mut Vec<u8>, stats: &Stats) {
    let seconds = |micros: u64| micros as f64 / 1e6;
    let (eval, queue) = (seconds(stats.eval_micros), seconds(stats.queue_micros));
    let _ = write!(
        to,
        r#","stats":{{"timings":{{"evalTotalTime":{eval},"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":{eval},"execQueueTime":{queue},"execTotalTime":{}}},"samples":{{"totalQueryableSamples":{},"peakSamples":{}}}}}"#,
        seconds(stats.eval_micros + stats.queue_micros),
        stats.samples_read,
        stats.samples_peak,
    );
}

/// What Prometheus says when it cut an answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Scalar,
    Vector,
    Matrix,
    String,
    /// Label sets, as of `/api/v1/series`.
    Series,
}

/// Writes one answer.
pub struct Results {
    shape: Shape,
    notes: Notes,
    /// Series to write at most; 0: all.
    limit: usize,
    series: usize,
    /// A matrix's series is begun and not ended.
    is_open: bool,
    /// The list of numbers, or of histograms, that is being written.
    list: Option<&'static str>,
    has_scalar: bool,
    is_cut: bool,
}

impl Results {
    pub fn new(shape: Shape, notes: Notes, limit: usize) -> Self {
        Results {
            shape,
            notes,
            limit,
            series: 0,
            is_open: false,
            list: None,
            has_scalar: false,
            is_cut: false,
        }
    }

    /// Everything before the first series.
    pub fn head(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(br#"{"status":"success","data":"#);
        to.extend_from_slice(match self.shape {
            Shape::Scalar => br#"{"resultType":"scalar","result":"#,
            Shape::String => br#"{"resultType":"string","result":"#,
            Shape::Vector => br#"{"resultType":"vector","result":["#,
            Shape::Matrix => br#"{"resultType":"matrix","result":["#,
            Shape::Series => b"[",
        });
    }

    /// One series, or more of the last one.
    pub fn series<'a>(
        &mut self,
        to: &mut Vec<u8>,
        is_continued: bool,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        mut samples: impl Iterator<Item = (i64, f64)>,
        mut histograms: impl Iterator<Item = (i64, Histogram)>,
    ) {
        if self.is_cut || (self.shape == Shape::Scalar && self.has_scalar) {
            return;
        }
        if is_continued && self.is_open {
            return self.samples(to, samples, histograms);
        }
        self.end_series(to);
        if self.limit > 0 && self.series == self.limit {
            self.is_cut = true;
            self.notes.warnings.push(TRUNCATED.to_owned());
            return;
        }
        if self.series > 0 {
            to.push(b',');
        }
        self.series += 1;
        match self.shape {
            Shape::Scalar => {
                if let Some(sample) = samples.next() {
                    self.has_scalar = true;
                    push_sample(to, sample);
                }
            }
            // Of a string only the time is in the samples; `string` writes it.
            Shape::String => {}
            Shape::Series => push_labels(to, labels),
            Shape::Vector => {
                to.extend_from_slice(br#"{"metric":"#);
                push_labels(to, labels);
                match (samples.next(), histograms.next()) {
                    (None, Some(histogram)) => {
                        to.extend_from_slice(br#","histogram":"#);
                        push_histogram(to, &histogram);
                    }
                    (sample, _) => {
                        to.extend_from_slice(br#","value":"#);
                        push_sample(to, sample.unwrap_or((0, f64::NAN)));
                    }
                }
                to.push(b'}');
            }
            Shape::Matrix => {
                to.extend_from_slice(br#"{"metric":"#);
                push_labels(to, labels);
                self.is_open = true;
                self.list = None;
                self.samples(to, samples, histograms);
            }
        }
    }

    /// Numbers, then histograms: each kind is one list.
    fn samples(
        &mut self,
        to: &mut Vec<u8>,
        samples: impl Iterator<Item = (i64, f64)>,
        histograms: impl Iterator<Item = (i64, Histogram)>,
    ) {
        for sample in samples {
            self.item(to, "values");
            push_sample(to, sample);
        }
        for histogram in histograms {
            self.item(to, "histograms");
            push_histogram(to, &histogram);
        }
    }

    /// What stands before an item of a list.
    fn item(&mut self, to: &mut Vec<u8>, list: &'static str) {
        if self.list == Some(list) {
            return to.push(b',');
        }
        if self.list.is_some() {
            to.push(b']');
        }
        let _ = write!(to, ",\"{list}\":[");
        self.list = Some(list);
    }

    /// The text of a string answer.
    pub fn string(&mut self, to: &mut Vec<u8>, unix_ms: i64, text: &str) {
        self.has_scalar = true;
        to.push(b'[');
        push_seconds(to, unix_ms);
        to.push(b',');
        push_string(to, text);
        to.push(b']');
    }

    /// Whether more series would change nothing.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Everything after the last series.
    pub fn finish(mut self, to: &mut Vec<u8>) {
        self.end_series(to);
        to.extend_from_slice(match self.shape {
            Shape::Scalar | Shape::String if self.has_scalar => b"",
            // A promise of the collector is broken; stay valid JSON.
            Shape::Scalar | Shape::String => b"null",
            Shape::Vector | Shape::Matrix | Shape::Series => b"]",
        });
        if self.shape != Shape::Series {
            if let Some(stats) = &self.notes.stats {
                push_stats(to, stats);
            }
            to.push(b'}');
        }
        push_notes(to, &self.notes);
        to.push(b'}');
    }

    fn end_series(&mut self, to: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_open) {
            // A matrix has no series without samples; stay as Prometheus writes them.
            to.extend_from_slice(if self.list.is_some() { b"]}" } else { br#","values":[]}"# });
        }
    }
}

/// `[1700000000.123,"1.5"]`.
fn push_sample(to: &mut Vec<u8>, (unix_ms, value): (i64, f64)) {
    to.push(b'[');
    push_seconds(to, unix_ms);
    to.extend_from_slice(b",\"");
    push_float(to, value);
    to.extend_from_slice(b"\"]");
}

/// `[1700000000,{"count":"4","sum":"2.5","buckets":[[0,"1","2","4"]]}]`, as
/// Prometheus' `jsonutil.MarshalHistogram`: empty buckets are left out. The first
/// number of a bucket says which bounds belong to it: 0 the upper one, 1 the
/// lower one, 2 none, 3 both.
fn push_histogram(to: &mut Vec<u8>, (unix_ms, histogram): &(i64, Histogram)) {
    to.push(b'[');
    push_seconds(to, *unix_ms);
    to.extend_from_slice(b",{\"count\":\"");
    push_float(to, histogram.count);
    to.extend_from_slice(b"\",\"sum\":\"");
    push_float(to, histogram.sum);
    to.push(b'"');
    let buckets = buckets::all(histogram);
    let mut is_first = true;
    for bucket in buckets.iter().filter(|bucket| bucket.count != 0.0) {
        to.extend_from_slice(if std::mem::take(&mut is_first) { b",\"buckets\":[[" } else { b",[" });
        let boundaries = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        };
        to.push(boundaries);
        for value in [bucket.lower, bucket.upper, bucket.count] {
            to.extend_from_slice(b",\"");
            push_float(to, value);
            to.push(b'"');
        }
        to.push(b']');
    }
    if !is_first {
        to.push(b']');
    }
    to.extend_from_slice(b"}]");
}

/// Text that is JSON already, as the data.
pub fn data(json: &str) -> Vec<u8> {
    format!(r#"{{"status":"success","data":{json}}}"#).into_bytes()
}

/// A list of names.
pub fn names(names: &[String], is_truncated: bool) -> Vec<u8> {
    let mut to = br#"{"status":"success","data":"#.to_vec();
    push_strings(&mut to, names);
    let warnings = if is_truncated { vec![TRUNCATED.to_owned()] } else { Vec::new() };
    push_notes(&mut to, &Notes { warnings, ..Notes::default() });
    to.push(b'}');
    to
}

/// A text.
pub fn text(text: &str) -> Vec<u8> {
    let mut to = br#"{"status":"success","data":"#.to_vec();
    push_string(&mut to, text);
    to.push(b'}');
    to
}

/// A line of a log, as search and live tails show it.
pub fn push_line<'a>(
    to: &mut Vec<u8>,
    unix_nano: i64,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    line: &[u8],
) {
    let _ = write!(to, r#"{{"timestamp":"{unix_nano}","labels":"#);
    push_labels(to, labels);
    to.extend_from_slice(br#","line":"#);
    match std::str::from_utf8(line) {
        Ok(line) => push_string(to, line),
        Err(_) => {
            push_string(to, &String::from_utf8_lossy(line));
            to.extend_from_slice(br#","lossy":true"#);
        }
    }
    to.push(b'}');
}

/// `{"status":"error",...}`.
pub fn error(failure: &Failure) -> Vec<u8> {
    let mut to = br#"{"status":"error","errorType":"#.to_vec();
    push_string(&mut to, error_type(failure.kind));
    to.extend_from_slice(br#","error":"#);
    push_string(&mut to, &failure.message);
    to.push(b'}');
    to
}

/// The word that Prometheus uses.
fn error_type(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::BadData
        | FailureKind::TooLarge
        | FailureKind::MediaType
        | FailureKind::Method
        | FailureKind::MethodOrForm
        | FailureKind::Post => "bad_data",
        FailureKind::Execution | FailureKind::Limit => "execution",
        FailureKind::Timeout => "timeout",
        FailureKind::Canceled => "canceled",
        FailureKind::Overloaded
        | FailureKind::Unavailable
        | FailureKind::TooMany
        | FailureKind::Limited { .. } => "unavailable",
        FailureKind::Internal => "internal",
        FailureKind::NotFound => "not_found",
        FailureKind::Unauthorized => "unauthorized",
        FailureKind::Forbidden | FailureKind::Host => "forbidden",
    }
}

#[cfg(test)]
mod tests;
