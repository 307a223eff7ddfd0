//! `label_replace` and `label_join`.

use lm_model::METRIC_NAME;

use crate::engine::Error;
use crate::eval::Evaluator;
use crate::rows::{Row, unite};
use crate::text;

/// Longest label value that these functions make.
const VALUE_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn replace(
    evaluator: &mut Evaluator<'_>,
    mut rows: Vec<Row>,
    destination: &str,
    replacement: &str,
    source: &str,
    pattern: &str,
) -> Result<Vec<Row>, Error> {
    let regex = text::anchored(pattern)
        .map_err(|_| Error::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?
        .regex;
    check_name(destination, "label_replace")?;
    for row in &mut rows {
        let value = row.labels.get(source).unwrap_or("");
        if let Some(captures) = regex.captures(value) {
            let references = replacement.matches('$').count();
            account(evaluator, replacement.len().saturating_add(references.saturating_mul(value.len())))?;
            let mut expanded = String::new();
            captures.expand(replacement, &mut expanded);
            set(row, destination, expanded);
        }
    }
    unite(rows)
}

pub(crate) fn join(
    evaluator: &mut Evaluator<'_>,
    mut rows: Vec<Row>,
    destination: &str,
    separator: &str,
    sources: &[&str],
) -> Result<Vec<Row>, Error> {
    check_name(destination, "label_join")?;
    for row in &mut rows {
        let values: Vec<&str> = sources.iter().map(|name| row.labels.get(name).unwrap_or("")).collect();
        let separators = separator.len().saturating_mul(values.len());
        account(evaluator, separators.saturating_add(values.iter().map(|value| value.len()).sum()))?;
        let joined = values.join(separator);
        set(row, destination, joined);
    }
    unite(rows)
}

/// Asks for room for a value of up to `bytes`.
fn account(evaluator: &mut Evaluator<'_>, bytes: usize) -> Result<(), Error> {
    if bytes > VALUE_BYTES_MAX {
        return Err(Error::Limit(format!("a label value would exceed {VALUE_BYTES_MAX} bytes")));
    }
    evaluator.charge(bytes / size_of::<f64>() + 1)
}

/// Any UTF-8 names a label, except nothing.
fn check_name(name: &str, function: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Execution(format!("invalid destination label name in {function}(): {name}")));
    }
    Ok(())
}

fn set(row: &mut Row, name: &str, value: String) {
    let mut builder = row.labels.to_builder();
    builder.set(name, value);
    row.labels = builder.build();
    if name == METRIC_NAME {
        // A name that was set on purpose stays.
        row.drops_name = false;
    }
}
