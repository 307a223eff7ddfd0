//! `users.toml`: who may ask or write over HTTP, and what they see.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use lm_mesh::{Principal, Role, Scope, TokenTable, read_secret_file};
use lm_model::Matcher;
use lm_settings::{Section, Value, parse_secret, units};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{AccessError, entry};
use crate::log_filter::matchers;

/// Users of one file: gateways remember some thousands.
const ENTRIES_MAX: usize = 10_000;
/// Matchers of one scope: they are added to every selector of a query.
const MATCHERS_MAX: usize = 16;

const ROLES: [(&str, Role); 3] =
    [("viewer", Role::Viewer), ("writer", Role::Writer), ("operator", Role::Operator)];

/// Adds the users of `file` to `table`.
pub fn read(file: &Path, table: &mut TokenTable) -> Result<(), Vec<AccessError>> {
    let text = read_secret_file(file).map_err(|error| vec![error.into()])?;
    parse_secret(file, &text, |root| {
        let mut names = BTreeSet::new();
        for section in root.sections("users", 0..=ENTRIES_MAX) {
            take(section, &mut names, table);
        }
    })
    .map_err(|mistakes| mistakes.into_iter().map(AccessError::Mistake).collect())
}

fn take(mut from: Section<'_, '_>, names: &mut BTreeSet<String>, table: &mut TokenTable) {
    let (mut name, mut role, mut scope) = (String::new(), None, Scope::default());
    from.read("name", &mut name, entry::identity);
    from.read("role", &mut role, |value| units::choice(value, &ROLES).map(Some));
    let digest = entry::digest(&mut from);
    from.read("scope", &mut scope.selector, read_selector);
    from.read("labels", &mut scope.labels, entry::labels);
    entry::count(&mut from, "samples_per_second", &mut scope.rates.samples);
    entry::count(&mut from, "bytes_per_second", &mut scope.rates.bytes);
    entry::count(&mut from, "series_max", &mut scope.series_max);
    from.read("expires", &mut scope.expires_unix_ms, |value| read_time(value).map(Some));
    if !from.has("name") {
        from.complain_at("name", "name is missing");
    } else if ROLES.iter().any(|(role, _)| *role == name) {
        from.complain_at("name", &format!("{name} is the holder of a token of [auth]; choose another name"));
    } else if !name.is_empty() && !names.insert(name.clone()) {
        from.complain_at("name", &format!("name {name:?} stands twice"));
    }
    if !from.has("role") {
        from.complain_at("role", "role is missing: viewer, writer or operator");
    }
    if from.has("scope") && matches!(role, Some(Role::Writer | Role::Operator)) {
        from.complain_at("scope", "scope is for viewers: it limits what is read");
    }
    for key in ["labels", "samples_per_second", "bytes_per_second", "series_max"] {
        if from.has(key) && matches!(role, Some(Role::Viewer | Role::Operator)) {
            from.complain_at(key, &format!("{key} is for writers: it limits what is written"));
        }
    }
    if let (Some(digest), Some(role)) = (digest, role)
        && !name.is_empty()
    {
        entry::add(table, &from, digest, Principal { name, role, scope: Arc::new(scope) });
    }
    from.finish();
}

fn read_selector(value: &Value<'_>) -> Result<Vec<Matcher>, String> {
    let expected = "expected a selector such as '{env=\"prod\",instance=~\"web-.*\"}'";
    let text = units::text(value).map_err(|_| expected.to_owned())?;
    let found = matchers(&text).map_err(|error| match text.contains('{') {
        true => format!("{expected}: {error}"),
        // Who knows what that is: it is not repeated.
        false => expected.to_owned(),
    })?;
    if found.len() > MATCHERS_MAX {
        return Err(format!("expected at most {MATCHERS_MAX} matchers"));
    }
    Ok(found)
}

/// A date and time with an offset, in milliseconds since 1970; a text or
/// TOML's own kind.
fn read_time(value: &Value<'_>) -> Result<i64, String> {
    let text = match value {
        Value::Datetime(time) => time.to_string(),
        value => units::text(value).unwrap_or_default(),
    };
    OffsetDateTime::parse(&text, &Rfc3339)
        .map(|time| (time.unix_timestamp_nanos() / 1_000_000) as i64)
        .map_err(|_| "expected a time such as 2027-01-31T18:00:00Z".to_owned())
}
