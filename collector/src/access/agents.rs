//! `ingest-tokens.toml`: who may send, labelled with what, how fast.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lm_mesh::{Principal, Rates, Role, Scope, TokenTable, read_secret_file};
use lm_model::Labels;
use lm_settings::{Section, Value, parse_secret, units};

use super::{AccessError, entry};
use crate::ingest::PATTERN_END;

/// Agents of one file: it must be read within its size limit anyway.
const ENTRIES_MAX: usize = 1_000_000;
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
    from.read("labels", &mut labels, entry::labels);
    let mut instances = Vec::new();
    from.read("instances", &mut instances, read_instances);
    entry::count(&mut from, "samples_per_second", &mut rates.samples);
    entry::count(&mut from, "lines_per_second", &mut rates.lines);
    entry::count(&mut from, "bytes_per_second", &mut rates.bytes);
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

/// `["db*:9100"]`
fn read_instances(value: &Value<'_>) -> Result<Vec<String>, String> {
    let expected = "expected a list of instances such as [\"10.0.0.*:9100\"]";
    let found = units::texts(value).map_err(|_| expected.to_owned())?;
    if found.len() > INSTANCES_MAX {
        return Err(format!("expected at most {INSTANCES_MAX} instances"));
    }
    if found
        .iter()
        .any(|pattern| pattern.contains(PATTERN_END) || pattern.len() > entry::LABEL_VALUE_BYTES_MAX)
    {
        return Err(format!(
            "{expected}, each of at most {max} bytes without {PATTERN_END:?}",
            max = entry::LABEL_VALUE_BYTES_MAX
        ));
    }
    Ok(found)
}
