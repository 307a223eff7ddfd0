//! One definition: a TOML file as a [`Dashboard`], with every mistake in it.

use std::time::Duration;

use lm_logs::{Direction, LineFilter, LogQuery};
use lm_model::Matcher;
use lm_promql::ValueType;
use lm_schema::query_capnp::{PanelKind, PanelUnit, panel_threshold::Level};
use lm_settings::{Section, Value, units};

use super::template::{fill, is_legend, is_name};
use super::{Content, Dashboard, Logs, Panel, Query, Row, Threshold, Variable};
use crate::log_filter::matchers;

/// Bounds of one definition. A file that is over one is a mistake.
const TAGS_MAX: usize = 16;
const VARIABLES_MAX: usize = 16;
const ROWS_MAX: usize = 50;
const PANELS_PER_ROW_MAX: usize = 50;
const QUERIES_PER_PANEL_MAX: usize = 20;
const THRESHOLDS_PER_PANEL_MAX: usize = 10;
const TERMS_MAX: usize = 16;
/// Longest id or name.
const NAME_BYTES_MAX: usize = 64;
/// Longest title, tag, legend or search term.
const TITLE_BYTES_MAX: usize = 256;
/// Longest description, expression, selector or regular expression.
const TEXT_BYTES_MAX: usize = 4096;
const COLUMNS: u32 = 12;

/// What a file says; what only other files can show to be a mistake, with its
/// line.
#[derive(Debug, PartialEq)]
pub struct Definition {
    pub dashboard: Dashboard,
    pub id_line: usize,
    /// The line that says that a built-in one is replaced.
    pub override_line: Option<usize>,
}

const KINDS: [(&str, PanelKind); 5] = [
    ("timeseries", PanelKind::Timeseries),
    ("stat", PanelKind::Stat),
    ("gauge", PanelKind::Gauge),
    ("table", PanelKind::Table),
    ("logs", PanelKind::Logs),
];

const UNITS: [(&str, PanelUnit); 8] = [
    ("none", PanelUnit::None),
    ("count", PanelUnit::Count),
    ("per_second", PanelUnit::PerSecond),
    ("bytes", PanelUnit::Bytes),
    ("bytes_per_second", PanelUnit::BytesPerSecond),
    ("seconds", PanelUnit::Seconds),
    ("ratio", PanelUnit::Ratio),
    ("unix_seconds", PanelUnit::UnixSeconds),
];

const LEVELS: [(&str, Level); 3] =
    [("ok", Level::Ok), ("warning", Level::Warning), ("critical", Level::Critical)];

/// Takes a whole definition from its file.
pub fn take(root: &mut Section<'_, '_>) -> Definition {
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    let mut dashboard = Dashboard { range: Duration::from_secs(3600), ..Dashboard::default() };
    root.require("id", &mut dashboard.id, id);
    root.require("title", &mut dashboard.title, title);
    root.read("description", &mut dashboard.description, description);
    root.read_each("tags", &mut dashboard.tags, TAGS_MAX, |value, _| title(value));
    root.read("range", &mut dashboard.range, |value| units::duration(value, seconds(60, 366 * 86_400)));
    root.read("refresh", &mut dashboard.refresh, |value| units::duration(value, seconds(5, 86_400)));
    let mut overrides = false;
    root.read("overrides_builtin", &mut overrides, units::flag);
    let mut names = Vec::new();
    for from in root.sections("variables", 0..=VARIABLES_MAX) {
        dashboard.variables.push(take_variable(from, &mut names));
    }
    for from in root.sections("rows", 1..=ROWS_MAX) {
        dashboard.rows.push(take_row(from, &names));
    }
    Definition {
        dashboard,
        id_line: root.line_at("id"),
        override_line: overrides.then(|| root.line_at("overrides_builtin")),
    }
}

/// Adds its name to `names`, which the variables after it and all panels know.
fn take_variable(mut from: Section<'_, '_>, names: &mut Vec<String>) -> Variable {
    let mut variable = Variable::default();
    from.require("name", &mut variable.name, |value| new_name(value, names));
    from.read("title", &mut variable.title, title);
    from.require("label", &mut variable.label, label);
    from.read("selector", &mut variable.selector, |value| selector(value, names));
    from.finish();
    if !variable.name.is_empty() {
        names.push(variable.name.clone());
    }
    variable
}

fn take_row(mut from: Section<'_, '_>, names: &[String]) -> Row {
    let mut row = Row::default();
    from.read("title", &mut row.title, title);
    for panel in from.sections("panels", 1..=PANELS_PER_ROW_MAX) {
        row.panels.push(take_panel(panel, names));
    }
    from.finish();
    row
}

fn take_panel(mut from: Section<'_, '_>, names: &[String]) -> Panel {
    let mut panel = Panel {
        title: String::new(),
        description: String::new(),
        kind: PanelKind::Timeseries,
        unit: PanelUnit::None,
        width: 6,
        thresholds: Vec::new(),
        content: Content::Queries(Vec::new()),
    };
    from.require("title", &mut panel.title, title);
    from.read("description", &mut panel.description, description);
    from.require("kind", &mut panel.kind, |value| units::choice(value, &KINDS));
    from.read("unit", &mut panel.unit, |value| units::choice(value, &UNITS));
    from.read("width", &mut panel.width, |value| {
        units::integer(value, 1..=COLUMNS).map(|columns| columns as u8)
    });
    for threshold in from.sections("thresholds", 0..=THRESHOLDS_PER_PANEL_MAX) {
        let before = panel.thresholds.last().map(|last: &Threshold| last.from);
        panel.thresholds.push(take_threshold(threshold, before));
    }
    panel.content = take_content(&mut from, panel.kind == PanelKind::Logs, names);
    from.finish();
    panel
}

/// Both keys are read whatever the kind, so that a wrong kind is one mistake.
fn take_content(from: &mut Section<'_, '_>, is_logs: bool, names: &[String]) -> Content {
    if is_logs && !from.has("logs") {
        from.complain_at(
            "logs",
            "logs is missing; say logs = { selector = \"{...}\" }, or logs = {} for all lines",
        );
    }
    for (key, is_allowed) in [("queries", !is_logs), ("logs", is_logs)] {
        if from.has(key) && !is_allowed {
            let other = if is_logs { "logs with kind = \"logs\"" } else { "queries, or kind = \"logs\"" };
            from.complain_at(key, &format!("{key} does not go with this kind; expected {other}"));
        }
    }
    let queries_min = usize::from(!is_logs && !from.has("logs"));
    let queries = from.sections("queries", queries_min..=QUERIES_PER_PANEL_MAX);
    let queries = queries.into_iter().map(|query| take_query(query, names)).collect();
    let logs = take_logs(from.section("logs"), names);
    if is_logs { Content::Logs(logs) } else { Content::Queries(queries) }
}

fn take_query(mut from: Section<'_, '_>, names: &[String]) -> Query {
    let mut query = Query::default();
    from.require("expr", &mut query.expression, |value| expression(value, names));
    from.read("legend", &mut query.legend, legend);
    from.finish();
    query
}

fn take_logs(mut from: Section<'_, '_>, names: &[String]) -> Logs {
    let mut logs = Logs::default();
    from.read("selector", &mut logs.selector, |value| {
        let selector = selector(value, names)?;
        let matchers = matchers(&fill(&selector, names)?)?;
        check_search(matchers, None)?;
        Ok(selector)
    });
    from.read_each("contains", &mut logs.contains, TERMS_MAX, |value, _| title(value));
    from.read_each("exclude", &mut logs.excludes, TERMS_MAX, |value, _| title(value));
    from.read("regex", &mut logs.regex, |value| {
        let regex = text(value, TEXT_BYTES_MAX)?;
        check_search(Vec::new(), Some(regex.clone()))?;
        Ok(regex)
    });
    from.finish();
    logs
}

fn take_threshold(mut from: Section<'_, '_>, before: Option<f64>) -> Threshold {
    // Until it is read, nothing is known to be below it.
    let mut threshold = Threshold { from: f64::NAN, level: Level::Ok };
    from.require("from", &mut threshold.from, |value| {
        let found = units::number(value)?;
        match before.filter(|before| found <= *before) {
            Some(before) => Err(format!("thresholds rise; the one before is from {before}")),
            None => Ok(found),
        }
    });
    from.require("level", &mut threshold.level, |value| units::choice(value, &LEVELS));
    from.finish();
    threshold
}

fn text(value: &Value<'_>, bytes_max: usize) -> Result<String, String> {
    let found = units::text(value)?;
    if found.len() > bytes_max {
        return Err(format!("it has {} bytes, at most {bytes_max} are allowed", found.len()));
    }
    Ok(found)
}

/// One line.
fn title(value: &Value<'_>) -> Result<String, String> {
    let found = text(value, TITLE_BYTES_MAX)?;
    if found.chars().any(char::is_control) {
        return Err("expected one line without control characters".to_owned());
    }
    Ok(found)
}

fn description(value: &Value<'_>) -> Result<String, String> {
    let found = text(value, TEXT_BYTES_MAX)?;
    if found.chars().any(|c| c.is_control() && c != '\n') {
        return Err("expected a text without control characters".to_owned());
    }
    Ok(found)
}

/// It becomes part of a path.
fn id(value: &Value<'_>) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    text(value, NAME_BYTES_MAX)
        .ok()
        .filter(|found| found.chars().all(is_plain) && found.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .ok_or_else(|| {
            format!("expected 1 to {NAME_BYTES_MAX} of a-z, 0-9, '-', '_', first a letter or digit")
        })
}

fn new_name(value: &Value<'_>, names: &[String]) -> Result<String, String> {
    let found = text(value, NAME_BYTES_MAX)
        .ok()
        .filter(|found| is_name(found) && !found.starts_with("__"))
        .ok_or_else(|| {
        format!("expected 1 to {NAME_BYTES_MAX} letters, digits or '_', not \"__\" first")
    })?;
    if names.contains(&found) { Err("another variable has this name".to_owned()) } else { Ok(found) }
}

fn label(value: &Value<'_>) -> Result<String, String> {
    text(value, TITLE_BYTES_MAX)
        .ok()
        .filter(|found| is_name(found))
        .ok_or_else(|| "expected the name of a label".to_owned())
}

fn legend(value: &Value<'_>) -> Result<String, String> {
    let found = title(value)?;
    if is_legend(&found) {
        Ok(found)
    } else {
        Err("expected a text in which each {{...}} names a label".to_owned())
    }
}

fn expression(value: &Value<'_>, names: &[String]) -> Result<String, String> {
    let found = text(value, TEXT_BYTES_MAX)?;
    let parsed = lm_promql::parse(&fill(&found, names)?).map_err(|error| error.to_string())?;
    match parsed.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(found),
        _ => Err("expected an instant vector or a scalar: nothing else can be drawn".to_owned()),
    }
}

fn selector(value: &Value<'_>, names: &[String]) -> Result<String, String> {
    let found = text(value, TEXT_BYTES_MAX)?;
    matchers(&fill(&found, names)?)?;
    Ok(found)
}

/// Whether the log store would take such a search.
fn check_search(matchers: Vec<Matcher>, regex: Option<String>) -> Result<(), String> {
    let query = LogQuery {
        matchers,
        contains: Vec::new(),
        excludes: Vec::new(),
        regex,
        start_unix_nano: 0,
        end_unix_nano: 0,
        limit: 1,
        direction: Direction::Backward,
        scan_bytes_max: 0,
    };
    LineFilter::new(&query).map(drop).map_err(|error| error.to_string())
}
