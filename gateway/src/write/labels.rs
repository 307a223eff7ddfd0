//! Labels as applications send them, checked one series at a time: a series
//! that makes no sense is refused and counted, the others of its request stay.

use lm_model::{Labels, METRIC_NAME};
use lm_schema::DecodeLimits;

const LIMITS: DecodeLimits = DecodeLimits::WRITER;

/// Why a series is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSeries {
    #[error("a series without a name")]
    NoName,
    #[error("a label without a name")]
    NoLabelName,
    #[error("label {0:?} stands twice")]
    Twice(String),
    #[error("label {0:?} is out of order")]
    Unsorted(String),
    #[error("a label that is not UTF-8")]
    NotText,
    #[error("a series of {0} labels (at most {max})", max = LIMITS.labels_per_series_max)]
    TooMany(usize),
    #[error("a label's name of {0} bytes (at most {max})", max = LIMITS.label_name_bytes_max)]
    LongName(usize),
    #[error("a native histogram that is none: {0}")]
    NativeHistogram(&'static str),
    #[error("a value of {1} bytes of label {0:?} (at most {max})", max = LIMITS.label_value_bytes_max)]
    LongValue(String, usize),
}

/// What of a request was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedSeries {
    pub samples: u64,
    /// Why the first of them was.
    pub first: Option<BadSeries>,
}

impl RefusedSeries {
    pub fn add(&mut self, samples: u64, why: BadSeries) {
        self.samples += samples;
        self.first.get_or_insert(why);
    }
}

/// Labels from pairs that are to be in order, as remote write has them.
///
/// # Errors
///
/// The first reason to refuse the series.
pub fn ordered<'a>(pairs: &[(&'a str, &'a str)]) -> Result<Labels, BadSeries> {
    for two in pairs.windows(2) {
        let (before, name) = (two[0].0, two[1].0);
        if before == name {
            return Err(BadSeries::Twice(cut(name)));
        }
        if before > name {
            return Err(BadSeries::Unsorted(cut(name)));
        }
    }
    check(pairs)?;
    Ok(Labels::from_pairs(pairs.iter().copied()))
}

fn check(pairs: &[(&str, &str)]) -> Result<(), BadSeries> {
    if pairs.len() > LIMITS.labels_per_series_max as usize {
        return Err(BadSeries::TooMany(pairs.len()));
    }
    for (name, value) in pairs {
        if name.is_empty() {
            return Err(BadSeries::NoLabelName);
        }
        if name.len() > LIMITS.label_name_bytes_max as usize {
            return Err(BadSeries::LongName(name.len()));
        }
        if value.len() > LIMITS.label_value_bytes_max as usize {
            return Err(BadSeries::LongValue(cut(name), value.len()));
        }
    }
    match pairs.iter().find(|(name, _)| *name == METRIC_NAME) {
        Some((_, value)) if !value.is_empty() => Ok(()),
        _ => Err(BadSeries::NoName),
    }
}

/// What a message shows of a name.
fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], expected: Result<&str, BadSeries>) {
        let found = ordered(pairs).map(|labels| labels.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{pairs:?}");
    }

    #[test]
    fn a_series_is_taken_or_refused_with_a_reason() {
        let name = ("__name__", "up");
        check(&[name, ("a", "1")], Ok(r#"{__name__="up", a="1"}"#));
        check(&[name, ("a", "")], Ok(r#"{__name__="up"}"#));
        check(&[name, ("grün.x", "1")], Ok(r#"{__name__="up", grün.x="1"}"#));
        check(&[("a", "1")], Err(BadSeries::NoName));
        check(&[("__name__", "")], Err(BadSeries::NoName));
        check(&[("", "1"), name], Err(BadSeries::NoLabelName));
        check(&[name, ("a", "1"), ("a", "2")], Err(BadSeries::Twice("a".to_owned())));
        check(&[name, ("b", "1"), ("a", "2")], Err(BadSeries::Unsorted("a".to_owned())));
        let (long, longer) = ("x".repeat(513), "y".repeat(4097));
        check(&[name, (&long, "1")], Err(BadSeries::LongName(513)));
        check(&[name, ("a", &longer)], Err(BadSeries::LongValue("a".to_owned(), 4097)));
        let names: Vec<_> = (0..64).map(|number| format!("a{number:02}")).collect();
        let many: Vec<_> = std::iter::once(name).chain(names.iter().map(|name| (&name[..], "1"))).collect();
        check(&many, Err(BadSeries::TooMany(65)));
        assert!(ordered(&many[..64]).is_ok());
    }
}
