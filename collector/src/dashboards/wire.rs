//! Dashboards as a reader gets them.

use lm_schema::query_capnp::{dashboard, dashboard_panel, dashboard_row, dashboard_variable};

use super::{Content, Dashboard, Panel, Row, Variable};

pub fn write(from: &Dashboard, mut to: dashboard::Builder<'_>) {
    to.set_id(&from.id[..]);
    to.set_title(&from.title[..]);
    to.set_description(&from.description[..]);
    write_texts(&from.tags, to.reborrow().init_tags(from.tags.len() as u32));
    to.set_is_builtin(from.is_builtin);
    to.set_range_ms(from.range.as_millis() as u64);
    to.set_refresh_ms(from.refresh.as_millis() as u64);
    let mut variables = to.reborrow().init_variables(from.variables.len() as u32);
    for (index, variable) in from.variables.iter().enumerate() {
        write_variable(variable, variables.reborrow().get(index as u32));
    }
    let mut rows = to.init_rows(from.rows.len() as u32);
    for (index, row) in from.rows.iter().enumerate() {
        write_row(row, rows.reborrow().get(index as u32));
    }
}

fn write_variable(from: &Variable, mut to: dashboard_variable::Builder<'_>) {
    to.set_name(&from.name[..]);
    to.set_title(&from.title[..]);
    to.set_label(&from.label[..]);
    to.set_selector(&from.selector[..]);
}

fn write_row(from: &Row, mut to: dashboard_row::Builder<'_>) {
    to.set_title(&from.title[..]);
    let mut panels = to.init_panels(from.panels.len() as u32);
    for (index, panel) in from.panels.iter().enumerate() {
        write_panel(panel, panels.reborrow().get(index as u32));
    }
}

fn write_panel(from: &Panel, mut to: dashboard_panel::Builder<'_>) {
    to.set_title(&from.title[..]);
    to.set_description(&from.description[..]);
    to.set_kind(from.kind);
    to.set_unit(from.unit);
    to.set_width(from.width);
    let mut thresholds = to.reborrow().init_thresholds(from.thresholds.len() as u32);
    for (index, threshold) in from.thresholds.iter().enumerate() {
        let mut to = thresholds.reborrow().get(index as u32);
        to.set_from(threshold.from);
        to.set_level(threshold.level);
    }
    match &from.content {
        Content::Queries(queries) => {
            let mut list = to.init_queries(queries.len() as u32);
            for (index, query) in queries.iter().enumerate() {
                let mut to = list.reborrow().get(index as u32);
                to.set_expression(&query.expression[..]);
                to.set_legend(&query.legend[..]);
            }
        }
        Content::Logs(logs) => {
            let mut to = to.init_logs();
            to.set_selector(&logs.selector[..]);
            to.set_regex(&logs.regex[..]);
            write_texts(&logs.contains, to.reborrow().init_contains(logs.contains.len() as u32));
            write_texts(&logs.excludes, to.init_excludes(logs.excludes.len() as u32));
        }
    }
}

fn write_texts(from: &[String], mut to: capnp::text_list::Builder<'_>) {
    for (index, text) in from.iter().enumerate() {
        to.set(index as u32, &text[..]);
    }
}
