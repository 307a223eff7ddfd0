//! A strict reader of the text format of Prometheus, in place of `promtool
//! check metrics` where that is not installed.

use std::collections::{BTreeMap, BTreeSet};

/// A whole answer of `/metrics`.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Type by family.
    pub families: BTreeMap<String, String>,
    /// Value by series, as it is written.
    pub series: BTreeMap<String, f64>,
}

impl Exposition {
    /// # Errors
    ///
    /// The first line that breaks a rule: of the format, or of naming.
    pub fn parse(text: &str) -> Result<Exposition, String> {
        let mut found = Exposition::default();
        let mut family = String::new();
        let mut helped = BTreeSet::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines() {
            found.take(line, &mut family, &mut helped).map_err(|why| format!("{why}: {line}"))?;
        }
        found.check_histograms()?;
        Ok(found)
    }

    /// The value of the only series that begins so.
    pub fn value(&self, start: &str) -> Result<f64, String> {
        let mut of: Vec<_> = self.series.iter().filter(|(series, _)| series.starts_with(start)).collect();
        match (of.pop(), of.is_empty()) {
            (Some((_, value)), true) => Ok(*value),
            _ => Err(format!("{start} is not one series: {:?}", self.series.keys())),
        }
    }

    fn take(
        &mut self,
        line: &str,
        family: &mut String,
        helped: &mut BTreeSet<String>,
    ) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("help without a text")?;
            if help.trim().is_empty() || !helped.insert(name.to_owned()) {
                return Err("help is empty or there twice");
            }
            *family = name.to_owned();
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("type without a kind")?;
            let is_counter = name.ends_with("_total");
            match kind {
                _ if name != family => return Err("type of another family than the help before it"),
                "counter" if !is_counter => return Err("a counter without _total"),
                "gauge" if is_counter => return Err("a gauge that looks like a counter"),
                "counter" | "gauge" | "histogram" => {}
                _ => return Err("an unknown type"),
            }
            return match self.families.insert(name.to_owned(), kind.to_owned()) {
                None => Ok(()),
                Some(_) => Err("the family is there twice"),
            };
        }
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let name = series.split('{').next().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("a bad name");
        }
        let kind = self.families.get(family).ok_or("a series before its type")?;
        let is_of_family = match (&kind[..], name.strip_prefix(&family[..])) {
            ("histogram", Some(suffix)) => ["_bucket", "_sum", "_count"].contains(&suffix),
            (_, suffix) => suffix == Some(""),
        };
        if !is_of_family {
            return Err("a series of another family");
        }
        let number = match value {
            "+Inf" => f64::INFINITY,
            value => value.parse().map_err(|_| "no number")?,
        };
        if kind != "gauge" && (number < 0.0 || number.is_nan()) {
            return Err("a count below zero");
        }
        match self.series.insert(series.to_owned(), number) {
            None => Ok(()),
            Some(_) => Err("the series is there twice"),
        }
    }

    /// Buckets never shrink, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        let mut counts: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in self.series.iter().filter(|(series, _)| series.contains("_bucket{")) {
            let (rest, bound) = series.rsplit_once("le=\"").ok_or("a bucket without le")?;
            let bound = bound.trim_end_matches("\"}");
            let bound =
                if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| "a bad le")? };
            counts.entry(rest.to_owned()).or_default().push((bound, *value));
        }
        for (series, mut buckets) in counts {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
                return Err(format!("{series} has no bucket without a bound"));
            }
            if !buckets.is_sorted_by_key(|(_, count)| *count) {
                return Err(format!("{series} shrinks: {buckets:?}"));
            }
        }
        Ok(())
    }
}
