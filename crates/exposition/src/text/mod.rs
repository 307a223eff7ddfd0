//! The two text formats, line by line.
//!
//! ```text
//! # HELP name text        # TYPE name counter       # UNIT name bytes (OpenMetrics)
//! name{label="value",...} value [timestamp] [# {label="value"} value [timestamp]]
//! {"name in quotes",label="value",...} value ...
//! # EOF                                              (OpenMetrics)
//! ```
//!
//! OpenMetrics separates words by one space, says times in seconds and must
//! end with `# EOF`; the older format takes any blanks, empty lines and other
//! comments, and says times in milliseconds. Exemplars are OpenMetrics'.

mod cursor;

use std::borrow::Cow;

use memchr::memchr;

use self::cursor::{Cursor, Fault, SetOf, unescape};
use crate::entry::{Entry, Exemplar, Label, Metadata, MetricType, Sample};
use crate::error::shown;
use crate::{Error, Limits, Place, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// Reads lines.
pub struct TextReader<'a> {
    rest: &'a [u8],
    line: usize,
    dialect: Dialect,
    limits: Limits,
    /// The family whose type was said last.
    family: Cow<'a, str>,
    family_type: MetricType,
    /// What the current line says.
    name: Cow<'a, str>,
    text: Cow<'a, str>,
    labels: Vec<Label<'a>>,
    exemplar_labels: Vec<Label<'a>>,
}

/// What a line is; its texts are in the reader.
enum Line {
    Nothing,
    Help,
    Type(MetricType),
    Unit,
    Sample { value: f64, time_unix_ms: Option<i64>, exemplar: Option<(f64, Option<i64>)> },
    End,
}

impl<'a> TextReader<'a> {
    pub fn new(bytes: &'a [u8], dialect: Dialect, limits: Limits) -> Self {
        TextReader {
            rest: bytes,
            line: 0,
            dialect,
            limits,
            family: Cow::Borrowed(""),
            family_type: MetricType::Unknown,
            name: Cow::Borrowed(""),
            text: Cow::Borrowed(""),
            labels: Vec::new(),
            exemplar_labels: Vec::new(),
        }
    }

    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let line = loop {
            match self.read_line()? {
                None => return Ok(None),
                Some(Line::Nothing) => {}
                Some(line) => break line,
            }
        };
        let family = &self.name[..];
        Ok(Some(match line {
            Line::Help => Entry::Metadata(Metadata::Help { family, text: &self.text }),
            Line::Type(metric_type) => Entry::Metadata(Metadata::Type { family, metric_type }),
            Line::Unit => Entry::Metadata(Metadata::Unit { family, unit: &self.text }),
            Line::Sample { value, time_unix_ms, exemplar } => Entry::Sample(Sample {
                name: family,
                labels: &self.labels,
                value,
                time_unix_ms,
                exemplar: exemplar.map(|(value, time_unix_ms)| Exemplar {
                    labels: &self.exemplar_labels,
                    value,
                    time_unix_ms,
                }),
            }),
            Line::Nothing | Line::End => return Ok(None),
        }))
    }

    /// The next line, `None` behind the last one.
    fn read_line(&mut self) -> Result<Option<Line>, Error> {
        if self.rest.is_empty() {
            return match self.dialect {
                Dialect::Prometheus => Ok(None),
                Dialect::OpenMetrics => Err(Error::Unfinished),
            };
        }
        self.line += 1;
        let place = Place::Line(self.line);
        let limit = self.limits.line_bytes_max;
        let (line, rest) = match memchr(b'\n', self.rest) {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        if line.len() >= limit {
            return Err(Error::TooLarge { place, of: "bytes", limit });
        }
        self.rest = rest;
        let read = self.parse(line).map_err(|fault| match fault {
            Fault::Malformed(what) => Error::malformed(place, what),
            Fault::Labels => Error::TooLarge { place, of: "labels", limit: self.limits.labels_max },
        })?;
        if matches!(read, Line::End) && !self.rest.is_empty() {
            return Err(Error::malformed(Place::Line(self.line + 1), "nothing may follow \"# EOF\""));
        }
        Ok(Some(read).filter(|read| !matches!(read, Line::End)))
    }

    fn parse(&mut self, line: &'a [u8]) -> Result<Line, Fault> {
        match (self.dialect, line) {
            (Dialect::Prometheus, line) => {
                let mut cursor = Cursor::new(line, self.dialect);
                cursor.skip_blanks();
                match cursor.peek() {
                    None => Ok(Line::Nothing),
                    Some(b'#') => self.comment(cursor),
                    Some(_) => self.sample(cursor),
                }
            }
            (Dialect::OpenMetrics, b"# EOF") => Ok(Line::End),
            (Dialect::OpenMetrics, [b'#', ..]) => self.descriptor(line),
            (Dialect::OpenMetrics, _) => self.sample(Cursor::new(line, self.dialect)),
        }
    }

    /// A comment of the older format, which may describe a family.
    fn comment(&mut self, mut cursor: Cursor<'a>) -> Result<Line, Fault> {
        cursor.take(b'#');
        if !cursor.take_gap() {
            return Ok(Line::Nothing);
        }
        let keyword = cursor.word();
        let has_gap = cursor.take_gap();
        match keyword {
            b"HELP" | b"TYPE" if !has_gap => Ok(Line::Nothing),
            b"HELP" => {
                self.name = cursor.family("a metric's name after HELP")?;
                cursor.take_gap();
                self.help(cursor.rest(), false)
            }
            b"TYPE" => {
                self.name = cursor.family("a metric's name after TYPE")?;
                cursor.take_gap();
                let word = cursor.word();
                cursor.skip_blanks();
                if !cursor.is_at_end() {
                    return Err(cursor.expected("the end of the line"));
                }
                self.metric_type(match word {
                    b"counter" => MetricType::Counter,
                    b"gauge" => MetricType::Gauge,
                    b"histogram" => MetricType::Histogram,
                    b"summary" => MetricType::Summary,
                    b"untyped" => MetricType::Unknown,
                    word => return Err(unknown_type(word)),
                })
            }
            _ => Ok(Line::Nothing),
        }
    }

    /// What OpenMetrics says of a family; it has no other comments.
    fn descriptor(&mut self, line: &'a [u8]) -> Result<Line, Fault> {
        let (keyword, rest) = match line {
            [b'#', b' ', b'H', b'E', b'L', b'P', b' ', rest @ ..] => ("HELP", rest),
            [b'#', b' ', b'T', b'Y', b'P', b'E', b' ', rest @ ..] => ("TYPE", rest),
            [b'#', b' ', b'U', b'N', b'I', b'T', b' ', rest @ ..] => ("UNIT", rest),
            _ if line.starts_with(b"# EOF") => return Err(Fault::new("nothing may follow \"# EOF\"")),
            _ => {
                return Err(Fault::new(format!("expected HELP, TYPE, UNIT or EOF, found {}", shown(line))));
            }
        };
        let mut cursor = Cursor::new(rest, self.dialect);
        self.name = cursor.family(&format!("a metric's name after {keyword}"))?;
        if !cursor.take(b' ') {
            return Err(cursor.expected(&format!("a space and the text of {keyword}")));
        }
        match keyword {
            "HELP" => self.help(cursor.rest(), true),
            "TYPE" => self.metric_type(match cursor.rest() {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"gaugehistogram" => MetricType::GaugeHistogram,
                b"summary" => MetricType::Summary,
                b"info" => MetricType::Info,
                b"stateset" => MetricType::StateSet,
                b"unknown" => MetricType::Unknown,
                word => return Err(unknown_type(word)),
            }),
            _ => {
                let unit = utf8(cursor.rest(), "the unit")?;
                let is_suffix = self.name.strip_suffix(unit).is_some_and(|before| before.ends_with('_'));
                if !unit.is_empty() && !is_suffix {
                    let shown = shown(unit.as_bytes());
                    return Err(Fault::new(format!("the metric's name does not end with its unit {shown}")));
                }
                self.text = Cow::Borrowed(unit);
                Ok(Line::Unit)
            }
        }
    }

    fn help(&mut self, text: &'a [u8], has_quotes: bool) -> Result<Line, Fault> {
        let text = utf8(text, "the help text")?;
        self.text = match memchr(b'\\', text.as_bytes()) {
            Some(_) => Cow::Owned(unescape(text, has_quotes)),
            None => Cow::Borrowed(text),
        };
        Ok(Line::Help)
    }

    fn metric_type(&mut self, metric_type: MetricType) -> Result<Line, Fault> {
        (self.family, self.family_type) = (self.name.clone(), metric_type);
        Ok(Line::Type(metric_type))
    }

    fn sample(&mut self, mut cursor: Cursor<'a>) -> Result<Line, Fault> {
        self.labels.clear();
        self.exemplar_labels.clear();
        let mut name = None;
        if cursor.peek() != Some(b'{') {
            name = Some(Cow::Borrowed(cursor.metric_name("a metric's name")?));
        }
        // In OpenMetrics the brace follows at once, a space comes before the value.
        let mut has_gap = self.dialect == Dialect::Prometheus && cursor.take_gap();
        if cursor.take(b'{') {
            let found = cursor.labels(&mut self.labels, self.limits.labels_max, SetOf::Sample)?;
            if found.is_some() && name.is_some() {
                return Err(Fault::new("the metric has two names"));
            }
            name = found.or(name);
            has_gap = self.dialect == Dialect::Prometheus;
            if has_gap {
                cursor.skip_blanks();
            }
        }
        self.name = match name {
            Some(name) if !name.is_empty() => name,
            _ => return Err(Fault::new("the metric has no name")),
        };
        if self.labels.iter().any(|label| label.name == "__name__") {
            return Err(Fault::new("the metric has two names"));
        }
        if !has_gap && !cursor.take_gap() {
            return Err(cursor.expected("a space and a value"));
        }
        let value = cursor.number("a value")?;
        self.write_bounds_alike();
        let (time_unix_ms, exemplar) = match self.dialect {
            Dialect::Prometheus => (milliseconds(&mut cursor)?, None),
            Dialect::OpenMetrics => self.seconds_and_exemplar(&mut cursor)?,
        };
        if !cursor.is_at_end() {
            return Err(cursor.expected("the end of the line"));
        }
        Ok(Line::Sample { value, time_unix_ms, exemplar })
    }

    #[expect(clippy::type_complexity, reason = "two optional things, the second has a value and a time")]
    fn seconds_and_exemplar(
        &mut self,
        cursor: &mut Cursor<'a>,
    ) -> Result<(Option<i64>, Option<(f64, Option<i64>)>), Fault> {
        let mut time = None;
        if cursor.is_at_end() {
            return Ok((None, None));
        }
        let rest = cursor.rest();
        if !rest.starts_with(b" # ") {
            time = Some(seconds(cursor)?);
        }
        if cursor.is_at_end() {
            return Ok((time, None));
        }
        if !(cursor.take(b' ') && cursor.take(b'#') && cursor.take(b' ') && cursor.take(b'{')) {
            return Err(cursor.expected("the end of the line, or an exemplar"));
        }
        cursor.labels(&mut self.exemplar_labels, self.limits.labels_max, SetOf::Exemplar)?;
        if !cursor.take(b' ') {
            return Err(cursor.expected("a space and the exemplar's value"));
        }
        let value = cursor.number("the exemplar's value")?;
        let exemplar_time = if cursor.is_at_end() { None } else { Some(seconds(cursor)?) };
        Ok((time, Some((value, exemplar_time))))
    }

    /// Writes the bound that names a bucket or quantile as every format does.
    fn write_bounds_alike(&mut self) {
        let (suffix, bound) = match self.family_type {
            MetricType::Histogram | MetricType::GaugeHistogram => ("_bucket", "le"),
            MetricType::Summary => ("", "quantile"),
            _ => return,
        };
        if self.name.strip_suffix(suffix) != Some(&self.family) {
            return;
        }
        if let Some(label) = self.labels.iter_mut().find(|label| label.name == bound) {
            label.value = number::canonical(std::mem::take(&mut label.value));
        }
    }
}

/// A time in milliseconds, if there is one, and the blanks behind it.
fn milliseconds(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Fault> {
    cursor.skip_blanks();
    if cursor.is_at_end() {
        return Ok(None);
    }
    let word = cursor.word();
    let time = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    let Some(time) = time else {
        return Err(Fault::new(format!("expected a time in milliseconds, found {}", shown(word))));
    };
    cursor.skip_blanks();
    Ok(Some(time))
}

/// A space, and a time in seconds.
fn seconds(cursor: &mut Cursor<'_>) -> Result<i64, Fault> {
    if !cursor.take(b' ') {
        return Err(cursor.expected("a space"));
    }
    let seconds = cursor.number("a time in seconds")?;
    let milliseconds = (seconds * 1000.0).round();
    // The bounds are floats beyond which the conversion would saturate.
    if !(-9e18..=9e18).contains(&milliseconds) {
        return Err(Fault::new(format!("{seconds} is no time")));
    }
    Ok(milliseconds as i64)
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new(format!("{what} is not UTF-8")))
}

fn unknown_type(word: &[u8]) -> Fault {
    Fault::new(format!("{} is no type of metrics", shown(word)))
}
