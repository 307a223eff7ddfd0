//! Dashboards: what to ask, and how to show it.
//!
//! A definition is a TOML file that is read and checked completely at start
//! (and by `--check-config`); nothing here evaluates or draws. Built-in ones
//! are the files in `config/dashboards`; others are named in `[dashboards]`.
//! Start with [`Dashboard`]; [`Dashboards::load`] reads them all.

mod definition;
mod load;
mod template;
mod wire;

use std::time::Duration;

use lm_schema::query_capnp::{PanelKind, PanelUnit, panel_threshold};

pub use load::Dashboards;
pub use wire::write;

/// One dashboard. Its texts are checked: see `docs/configuration.md`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dashboard {
    pub id: String,
    pub title: String,
    pub description: String,
    pub tags: Vec<String>,
    pub is_builtin: bool,
    /// How far back to look at first.
    pub range: Duration,
    /// Zero: not by itself.
    pub refresh: Duration,
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

/// A choice that its reader makes: one of a label's values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variable {
    pub name: String,
    pub title: String,
    pub label: String,
    /// Of which series; empty: of all.
    pub selector: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub title: String,
    pub description: String,
    pub kind: PanelKind,
    pub unit: PanelUnit,
    /// Of the twelve columns of a row.
    pub width: u8,
    /// In rising order.
    pub thresholds: Vec<Threshold>,
    pub content: Content,
}

/// What a panel asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Queries(Vec<Query>),
    Logs(Logs),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub expression: String,
    pub legend: String,
}

/// As of a log search; empty texts and lists test nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logs {
    pub selector: String,
    pub contains: Vec<String>,
    pub excludes: Vec<String>,
    pub regex: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub from: f64,
    pub level: panel_threshold::Level,
}

#[cfg(test)]
mod tests;
