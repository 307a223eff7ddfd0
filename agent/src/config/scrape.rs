//! The `[[scrape]]` part: keys have Prometheus' words where they mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lm_settings::{Section, Value, units};

use super::{Limits, seconds};
use crate::sources::scrape::{Action, Credentials, Job, Pattern, Protocol, Rule, Scheme};

/// Jobs of one agent, and rules of one job.
const JOBS_MAX: usize = 64;
const RULES_MAX: usize = 100;
/// Entries of a table such as `labels` or `headers`.
const PAIRS_MAX: usize = 64;
/// Targets of all jobs of one agent.
pub const TARGETS_MAX: u32 = 1024;

/// Reads every `[[scrape]]` of the file.
pub fn take(root: &mut Section<'_, '_>, limits: &Limits) -> Vec<Job> {
    let mut names = BTreeSet::new();
    if !root.has("scrape") {
        // Only the key becomes known.
        root.sections("scrape", 0..=JOBS_MAX);
        return Vec::new();
    }
    root.sections("scrape", 0..=JOBS_MAX).into_iter().map(|from| job(from, limits, &mut names)).collect()
}

fn job(mut from: Section<'_, '_>, limits: &Limits, names: &mut BTreeSet<String>) -> Job {
    let mut job = Job::default();
    from.require("job_name", &mut job.name, units::text);
    if !job.name.is_empty() && !names.insert(job.name.clone()) {
        from.complain_at("job_name", &format!("job_name {:?} stands twice", job.name));
    }
    from.read("targets", &mut job.targets, targets);
    from.read("labels", &mut job.labels, labels);
    from.read("files", &mut job.files, files);
    if job.targets.is_empty() && job.files.is_empty() && !from.has("targets") && !from.has("files") {
        from.complain_at("targets", "targets is missing (or files in its place)");
    }
    schedule(&mut from, &mut job);
    request(&mut from, &mut job);
    from.read("honor_labels", &mut job.honor_labels, units::flag);
    from.read("honor_timestamps", &mut job.honor_timestamps, units::flag);
    rules(&mut from, "relabel_configs", &mut job.relabel);
    rules(&mut from, "metric_relabel_configs", &mut job.metric_relabel);
    job_limits(&mut from, &mut job, limits);
    from.read("extra_scrape_metrics", &mut job.extra_metrics, units::flag);
    from.finish();
    job
}

fn schedule(from: &mut Section<'_, '_>, job: &mut Job) {
    let range = seconds(1)..=seconds(3600);
    from.read("scrape_interval", &mut job.interval, |v| units::duration(v, range));
    job.timeout = job.timeout.min(job.interval);
    let range = Duration::from_millis(100)..=seconds(3600);
    from.read("scrape_timeout", &mut job.timeout, |v| units::duration(v, range));
    if job.timeout > job.interval {
        from.complain_at("scrape_timeout", "scrape_timeout is longer than scrape_interval");
    }
}

fn request(from: &mut Section<'_, '_>, job: &mut Job) {
    from.read("scheme", &mut job.scheme, |v| units::choice(v, &Scheme::NAMES));
    from.read("metrics_path", &mut job.metrics_path, metrics_path);
    from.read("params", &mut job.params, params);
    from.read("scrape_protocols", &mut job.protocols, protocols);
    from.read("headers", &mut job.headers, headers);
    let (mut token_file, mut username, mut password_file) = (None, None, None);
    from.read("authorization_credentials_file", &mut token_file, |v| units::path(v).map(Some));
    from.read("basic_auth_username", &mut username, |v| units::text(v).map(Some));
    from.read("basic_auth_password_file", &mut password_file, |v| units::path(v).map(Some));
    job.credentials = match (token_file, username, password_file) {
        (None, None, None) => Credentials::None,
        (Some(file), None, None) => Credentials::Bearer { file },
        (None, Some(username), Some(password_file)) => Credentials::Basic { username, password_file },
        (Some(_), ..) => {
            let message = "authorization_credentials_file and basic_auth exclude each other";
            from.complain_at("authorization_credentials_file", message);
            Credentials::None
        }
        (None, Some(_), None) => {
            from.complain_at("basic_auth_username", "basic_auth_password_file is missing");
            Credentials::None
        }
        (None, None, Some(_)) => {
            from.complain_at("basic_auth_password_file", "basic_auth_username is missing");
            Credentials::None
        }
    };
    from.read("tls_ca_file", &mut job.tls_ca_file, units::path);
    from.read("tls_server_name", &mut job.tls_server_name, |v| units::text(v).map(Some));
}

fn job_limits(from: &mut Section<'_, '_>, job: &mut Job, agent: &Limits) {
    let limits = &mut job.limits;
    limits.labels_max = agent.labels_per_series_max;
    limits.label_name_bytes_max = agent.label_key_bytes_max;
    limits.label_value_bytes_max = agent.label_value_bytes_max;
    from.read("body_size_limit", &mut limits.body_bytes_max, |v| units::size(v, 1 << 10..=64 << 20));
    from.read("sample_limit", &mut limits.samples_max, |v| units::integer(v, 1..=100_000));
    from.read("target_limit", &mut limits.targets_max, |v| units::integer(v, 1..=TARGETS_MAX));
    // Series over the agent's limits would be refused by the collector.
    let labels = 3..=agent.labels_per_series_max;
    from.read("label_limit", &mut limits.labels_max, |v| units::integer(v, labels));
    let bytes = 1..=agent.label_key_bytes_max;
    from.read("label_name_length_limit", &mut limits.label_name_bytes_max, |v| units::integer(v, bytes));
    let bytes = 1..=agent.label_value_bytes_max;
    from.read("label_value_length_limit", &mut limits.label_value_bytes_max, |v| units::integer(v, bytes));
}

fn rules(from: &mut Section<'_, '_>, key: &'static str, into: &mut Vec<Rule>) {
    for mut from in from.sections(key, 0..=RULES_MAX) {
        let mut rule = Rule::default();
        from.read("action", &mut rule.action, |v| units::choice(v, &Action::NAMES));
        from.read("source_labels", &mut rule.source_labels, units::texts);
        from.read("separator", &mut rule.separator, any_text);
        from.read("regex", &mut rule.regex, |v| Pattern::new(&any_text(v)?));
        from.read("target_label", &mut rule.target_label, units::text);
        from.read("replacement", &mut rule.replacement, any_text);
        if rule.action.needs_target() && !from.has("target_label") {
            from.complain_at("action", "target_label is missing");
        }
        from.finish();
        into.push(rule);
    }
}

fn any_text(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        _ => Err("expected a text".to_owned()),
    }
}

fn targets(value: &Value<'_>) -> Result<Vec<String>, String> {
    let found = units::texts(value)?;
    match found.iter().find(|target| target.contains(['/', '?', '#', '@', ' '])) {
        Some(target) => Err(format!("expected \"host:port\" without scheme and path, not {target:?}")),
        None => Ok(found),
    }
}

fn files(value: &Value<'_>) -> Result<Vec<String>, String> {
    let found = super::patterns(value)?;
    match found.iter().find(|pattern| !pattern.ends_with(".json")) {
        Some(pattern) => Err(format!("expected files that end in .json, not {pattern:?}")),
        None => Ok(found),
    }
}

fn metrics_path(value: &Value<'_>) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>');
    units::text(value)
        .ok()
        .filter(|path| path.starts_with('/') && path.bytes().all(is_plain))
        .ok_or_else(|| "expected a path such as \"/metrics\"; what follows a \"?\" goes to params".to_owned())
}

fn protocols(value: &Value<'_>) -> Result<Vec<Protocol>, String> {
    let names: Vec<_> = Protocol::NAMES.iter().map(|(name, _)| *name).collect();
    let expected = || format!("expected a list of {}", names.join(", "));
    let known =
        |text: &String| Protocol::NAMES.iter().find(|(name, _)| name == text).map(|(_, found)| *found);
    let found: Option<Vec<_>> = units::texts(value).map_err(|_| expected())?.iter().map(known).collect();
    found.filter(|found| !found.is_empty()).ok_or_else(expected)
}

/// The entries of a table.
fn pairs<T>(
    value: &Value<'_>,
    expected: &str,
    read: impl Fn(&Value<'_>) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let Value::Table(table) = value else { return Err(expected.to_owned()) };
    if table.len() > PAIRS_MAX {
        return Err(format!("expected at most {PAIRS_MAX} entries"));
    }
    let mut found = BTreeMap::new();
    for (key, value) in table.iter() {
        let value = read(value.get_ref()).map_err(|_| expected.to_owned())?;
        found.insert(key.get_ref().to_string(), value);
    }
    Ok(found)
}

fn labels(value: &Value<'_>) -> Result<BTreeMap<String, String>, String> {
    let found = pairs(value, "expected a table of texts such as { env = \"prod\" }", units::text)?;
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    match found.keys().find(|name| !is_name(name)) {
        Some(name) => Err(format!("{name:?} cannot be a label's name: use letters, digits and '_'")),
        None => Ok(found),
    }
}

fn params(value: &Value<'_>) -> Result<BTreeMap<String, Vec<String>>, String> {
    pairs(value, "expected a table of lists such as { module = [\"http_2xx\"] }", units::texts)
}

fn headers(value: &Value<'_>) -> Result<BTreeMap<String, String>, String> {
    let found = pairs(value, "expected a table of texts such as { X-Scope = \"a\" }", units::text)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
    let is_ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["host", "authorization", "accept", "accept-encoding", "user-agent", "connection", "content-length"]
            .contains(&&name[..])
            || name.starts_with("x-prometheus-")
    };
    for (name, value) in &found {
        if !name.bytes().all(is_token) || !value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            return Err(format!("{name:?} is no header of HTTP"));
        }
        if is_ours(name) {
            return Err(format!("{name} is set by the agent; credentials come from files"));
        }
    }
    Ok(found)
}
