//! `ingest-tokens.toml`: who may send, labelled with what, how fast.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lm_mesh::{Principal, Rates, Role, Scope, TokenTable, read_secret_file};
use lm_model::{Labels, METRIC_NAME};
use lm_settings::{Section, Value, parse_secret, units};

use super::{AccessError, entry};
use crate::ingest::{INSTANCE, PATTERN_END};

/// Agents of one file: it must be read within its size limit anyway.
const ENTRIES_MAX: usize = 1_000_000;
/// Labels that one agent may be given.
const LABELS_MAX: usize = 32;
const LABEL_VALUE_BYTES_MAX: usize = 512;
/// Patterns of instances that one agent may be given.
const INSTANCES_MAX: usize = 64;

/// Adds the agents of `file` to `table`.
pub fn read(file: &Path, table: &mut TokenTable) -> Result<(), Vec<AccessError>> {
    let text = read_secret_file(file).map_err(|error| vec![error.into()])?;
    parse_secret(file, &text, |root| {
        let mut names = BTreeSet::new();
        for section in root.sections("tokens", 0..=ENTRIES_MAX) {
            take(section, &mut names, table);
        }
    })
    .map_err(|mistakes| mistakes.into_iter().map(AccessError::Mistake).collect())
}

fn take(mut from: Section<'_, '_>, names: &mut BTreeSet<String>, table: &mut TokenTable) {
    let (mut name, mut labels, mut rates) = (String::new(), Labels::empty(), Rates::default());
    from.read("agent_id", &mut name, entry::identity);
    let digest = entry::digest(&mut from);
    from.read("labels", &mut labels, read_labels);
    let mut instances = Vec::new();
    from.read("instances", &mut instances, read_instances);
    let mut rate = |key, into: &mut Option<u32>| {
        from.read(key, into, |value| units::integer(value, 1..=u32::MAX).map(Some));
    };
    rate("samples_per_second", &mut rates.samples);
    rate("lines_per_second", &mut rates.lines);
    rate("bytes_per_second", &mut rates.bytes);
    if !from.has("agent_id") {
        from.complain_at("agent_id", "agent_id is missing");
    } else if !name.is_empty() && !names.insert(name.clone()) {
        from.complain_at("agent_id", &format!("agent_id {name:?} stands twice"));
    }
    if let Some(digest) = digest
        && !name.is_empty()
    {
        let scope = Arc::new(Scope { labels, instances, rates, ..Scope::default() });
        entry::add(table, &from, digest, Principal { name, role: Role::Agent, scope });
    }
    from.finish();
}

/// `{ env = "prod" }`
fn read_labels(value: &Value<'_>) -> Result<Labels, String> {
    let expected = "expected a table of texts such as { env = \"prod\" }";
    let Value::Table(table) = value else { return Err(expected.to_owned()) };
    if table.len() > LABELS_MAX {
        return Err(format!("expected at most {LABELS_MAX} labels"));
    }
    let mut pairs = Vec::new();
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        if !is_label_name(name) {
            return Err(format!("{name:?} cannot be a label's name: use letters, digits and '_'"));
        }
        if name == INSTANCE || name == METRIC_NAME || name.starts_with("__") {
            return Err(format!("{name} cannot be given: instance is the agent_id, and __ is ours"));
        }
        let text = units::text(value.get_ref()).map_err(|_| expected.to_owned())?;
        if text.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!("expected values of at most {LABEL_VALUE_BYTES_MAX} bytes"));
        }
        pairs.push((name.to_owned(), text));
    }
    Ok(Labels::from_pairs(pairs))
}

/// `["db*:9100"]`
fn read_instances(value: &Value<'_>) -> Result<Vec<String>, String> {
    let expected = "expected a list of instances such as [\"10.0.0.*:9100\"]";
    let found = units::texts(value).map_err(|_| expected.to_owned())?;
    if found.len() > INSTANCES_MAX {
        return Err(format!("expected at most {INSTANCES_MAX} instances"));
    }
    if found.iter().any(|pattern| pattern.contains(PATTERN_END) || pattern.len() > LABEL_VALUE_BYTES_MAX) {
        return Err(format!(
            "{expected}, each of at most {LABEL_VALUE_BYTES_MAX} bytes without {PATTERN_END:?}"
        ));
    }
    Ok(found)
}

fn is_label_name(name: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(is_start)
        && name.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}
