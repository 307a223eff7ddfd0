//! Dashboards, as JSON.

use std::io::Write as _;

use capnp::struct_list;
use lm_schema::query_capnp::{
    PanelKind, PanelUnit, dashboard, dashboard_panel, dashboard_row, dashboard_variable, log_filter,
    panel_query, panel_threshold,
};

use crate::json;

type Written = Result<(), capnp::Error>;

/// `{"status":"success","data":{"dashboards":[...]}}`.
pub fn all(list: struct_list::Reader<'_, dashboard::Owned>) -> Result<Vec<u8>, capnp::Error> {
    let mut to = br#"{"status":"success","data":{"dashboards":"#.to_vec();
    each(&mut to, list.iter(), push_dashboard)?;
    to.extend_from_slice(b"}}");
    Ok(to)
}

/// `{"status":"success","data":{...}}`; nothing when the list has none.
pub fn one(list: struct_list::Reader<'_, dashboard::Owned>) -> Result<Option<Vec<u8>>, capnp::Error> {
    let Some(found) = list.iter().next() else { return Ok(None) };
    let mut to = br#"{"status":"success","data":"#.to_vec();
    push_dashboard(&mut to, found)?;
    to.push(b'}');
    Ok(Some(to))
}

/// A list, entry by entry.
fn each<T>(
    to: &mut Vec<u8>,
    entries: impl Iterator<Item = T>,
    push: impl Fn(&mut Vec<u8>, T) -> Written,
) -> Written {
    to.push(b'[');
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            to.push(b',');
        }
        push(to, entry)?;
    }
    to.push(b']');
    Ok(())
}

/// `"key":"text"`, after `before`: the brace or comma.
fn text(to: &mut Vec<u8>, before: &str, key: &str, text: capnp::Result<capnp::text::Reader<'_>>) -> Written {
    let _ = write!(to, "{before}\"{key}\":");
    json::push_string(to, text?.to_str()?);
    Ok(())
}

fn texts(to: &mut Vec<u8>, key: &str, list: capnp::Result<capnp::text_list::Reader<'_>>) -> Written {
    let _ = write!(to, ",\"{key}\":");
    each(to, list?.iter(), |to, text| {
        json::push_string(to, text?.to_str()?);
        Ok(())
    })
}

fn push_dashboard(to: &mut Vec<u8>, from: dashboard::Reader<'_>) -> Written {
    text(to, "{", "id", from.get_id())?;
    text(to, ",", "title", from.get_title())?;
    text(to, ",", "description", from.get_description())?;
    texts(to, "tags", from.get_tags())?;
    let _ = write!(to, ",\"builtin\":{}", from.get_is_builtin());
    for (key, ms) in [("range_seconds", from.get_range_ms()), ("refresh_seconds", from.get_refresh_ms())] {
        let _ = write!(to, ",\"{key}\":");
        json::push_seconds(to, i64::try_from(ms).unwrap_or(i64::MAX));
    }
    to.extend_from_slice(br#","variables":"#);
    each(to, from.get_variables()?.iter(), push_variable)?;
    to.extend_from_slice(br#","rows":"#);
    each(to, from.get_rows()?.iter(), push_row)?;
    to.push(b'}');
    Ok(())
}

fn push_variable(to: &mut Vec<u8>, from: dashboard_variable::Reader<'_>) -> Written {
    text(to, "{", "name", from.get_name())?;
    text(to, ",", "title", from.get_title())?;
    text(to, ",", "label", from.get_label())?;
    text(to, ",", "selector", from.get_selector())?;
    to.push(b'}');
    Ok(())
}

fn push_row(to: &mut Vec<u8>, from: dashboard_row::Reader<'_>) -> Written {
    text(to, "{", "title", from.get_title())?;
    to.extend_from_slice(br#","panels":"#);
    each(to, from.get_panels()?.iter(), push_panel)?;
    to.push(b'}');
    Ok(())
}

fn push_panel(to: &mut Vec<u8>, from: dashboard_panel::Reader<'_>) -> Written {
    text(to, "{", "title", from.get_title())?;
    text(to, ",", "description", from.get_description())?;
    let (kind, unit) = (kind_word(from.get_kind()?), unit_word(from.get_unit()?));
    let _ = write!(to, r#","kind":"{kind}","unit":"{unit}","width":{},"thresholds":"#, from.get_width());
    each(to, from.get_thresholds()?.iter(), push_threshold)?;
    match from.which()? {
        dashboard_panel::Queries(queries) => {
            to.extend_from_slice(br#","queries":"#);
            each(to, queries?.iter(), push_query)?;
        }
        dashboard_panel::Logs(logs) => {
            to.extend_from_slice(br#","logs":"#);
            push_logs(to, logs?)?;
        }
    }
    to.push(b'}');
    Ok(())
}

fn push_query(to: &mut Vec<u8>, from: panel_query::Reader<'_>) -> Written {
    text(to, "{", "expr", from.get_expression())?;
    text(to, ",", "legend", from.get_legend())?;
    to.push(b'}');
    Ok(())
}

fn push_logs(to: &mut Vec<u8>, from: log_filter::Reader<'_>) -> Written {
    text(to, "{", "selector", from.get_selector())?;
    texts(to, "contains", from.get_contains())?;
    texts(to, "exclude", from.get_excludes())?;
    text(to, ",", "regex", from.get_regex())?;
    to.push(b'}');
    Ok(())
}

fn push_threshold(to: &mut Vec<u8>, from: panel_threshold::Reader<'_>) -> Written {
    let level = match from.get_level()? {
        panel_threshold::Level::Ok => "ok",
        panel_threshold::Level::Warning => "warning",
        panel_threshold::Level::Critical => "critical",
    };
    to.extend_from_slice(br#"{"from":"#);
    match from.get_from() {
        from if from.is_finite() => json::push_float(to, from),
        _ => to.extend_from_slice(b"null"),
    }
    let _ = write!(to, r#","level":"{level}"}}"#);
    Ok(())
}

fn kind_word(kind: PanelKind) -> &'static str {
    match kind {
        PanelKind::Timeseries => "timeseries",
        PanelKind::Stat => "stat",
        PanelKind::Gauge => "gauge",
        PanelKind::Table => "table",
        PanelKind::Logs => "logs",
    }
}

fn unit_word(unit: PanelUnit) -> &'static str {
    match unit {
        PanelUnit::None => "none",
        PanelUnit::Count => "count",
        PanelUnit::PerSecond => "per_second",
        PanelUnit::Bytes => "bytes",
        PanelUnit::BytesPerSecond => "bytes_per_second",
        PanelUnit::Seconds => "seconds",
        PanelUnit::Ratio => "ratio",
        PanelUnit::UnixSeconds => "unix_seconds",
    }
}
