//! A dashboard definition as Grafana's dashboard model.
//!
//! The definition is the one source: what Grafana shows and what we show stay
//! the same because one is made from the other. Panels of log lines are left
//! out, as they need a data source of another kind.
//!
//! The model has no published schema of its own; this follows the "Dashboard
//! JSON model" page of Grafana's documentation, `schemaVersion` 39 (Grafana 10.4
//! and later read it and bring it up to date).

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Grafana's grid has 24 columns, ours 12.
const COLUMNS: u32 = 24;
const SCHEMA_VERSION: u32 = 39;
/// Lets the reader choose the data source, so that no uid is in the file.
const DATASOURCE: &str = "${datasource}";

/// What `/api/v1/dashboards/ID` answers, as far as Grafana can use it.
#[derive(Deserialize)]
struct Answer {
    data: Dashboard,
}

#[derive(Deserialize)]
struct Dashboard {
    id: String,
    title: String,
    description: String,
    tags: Vec<String>,
    range_seconds: f64,
    refresh_seconds: f64,
    variables: Vec<Variable>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    title: String,
    label: String,
    selector: String,
}

#[derive(Deserialize)]
struct Row {
    title: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    title: String,
    description: String,
    kind: String,
    unit: String,
    width: u32,
    thresholds: Vec<Threshold>,
    /// Absent: a panel of log lines.
    queries: Option<Vec<Query>>,
}

#[derive(Deserialize)]
struct Threshold {
    from: Option<f64>,
    level: String,
}

#[derive(Deserialize)]
struct Query {
    expr: String,
    legend: String,
}

/// Grafana's model of the dashboard in `answer`, indented for people.
///
/// # Errors
///
/// When `answer` is not the JSON of one dashboard.
pub fn model(answer: &[u8]) -> serde_json::Result<Vec<u8>> {
    let Answer { data } = serde_json::from_slice(answer)?;
    let mut text = serde_json::to_vec_pretty(&dashboard(&data))?;
    text.push(b'\n');
    Ok(text)
}

fn dashboard(from: &Dashboard) -> Value {
    let mut variables = vec![json!({
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    })];
    variables.extend(from.variables.iter().map(variable));
    let mut tags = from.tags.clone();
    // Ours carry it already.
    if !tags.iter().any(|tag| tag == "lightmetrics") {
        tags.push("lightmetrics".to_owned());
    }
    json!({
        "uid": format!("lightmetrics-{}", from.id),
        "title": from.title,
        "description": from.description,
        "tags": tags,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": true,
        // Crosshair shared by all panels.
        "graphTooltip": 1,
        "timezone": "browser",
        "time": { "from": format!("now-{}s", from.range_seconds), "to": "now" },
        "refresh": if from.refresh_seconds > 0.0 { format!("{}s", from.refresh_seconds) } else { String::new() },
        "templating": { "list": variables },
        "annotations": { "list": [] },
        "panels": panels(&from.rows),
    })
}

fn variable(from: &Variable) -> Value {
    let query = match &*from.selector {
        "" => format!("label_values({})", from.label),
        selector => format!("label_values({selector}, {})", from.label),
    };
    json!({
        "name": from.name,
        "label": if from.title.is_empty() { &from.name } else { &from.title },
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": { "query": query, "refId": from.name },
        // Asked again when the time range changes.
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".+",
        "current": { "text": ["All"], "value": ["$__all"] },
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": DATASOURCE })
}

/// Rows with their panels from left to right, breaking where the next does not fit.
fn panels(rows: &[Row]) -> Vec<Value> {
    let mut placed = Vec::new();
    let mut y = 0;
    for row in rows {
        let shown: Vec<_> = row
            .panels
            .iter()
            .filter_map(|panel| panel.queries.as_deref().map(|queries| (panel, queries)))
            .collect();
        if shown.is_empty() {
            continue;
        }
        let id = placed.len() + 1;
        placed.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for (panel, queries) in shown {
            let width = (panel.width * 2).min(COLUMNS);
            if x + width > COLUMNS {
                (x, y, tallest) = (0, y + tallest, 0);
            }
            let height = height(&panel.kind);
            let mut made = panel_model(panel, queries);
            made.insert("id".to_owned(), json!(placed.len() + 1));
            made.insert("gridPos".to_owned(), json!({ "x": x, "y": y, "w": width, "h": height }));
            placed.push(Value::Object(made));
            x += width;
            tallest = tallest.max(height);
        }
        y += tallest;
    }
    placed
}

fn height(kind: &str) -> u32 {
    match kind {
        "stat" | "gauge" => 5,
        _ => 8,
    }
}

fn panel_model(panel: &Panel, queries: &[Query]) -> Map<String, Value> {
    let is_series = panel.kind == "timeseries";
    let targets: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| {
            json!({
                "refId": ref_id(index),
                "datasource": datasource(),
                "expr": query.expr,
                "legendFormat": if query.legend.is_empty() { "__auto" } else { &query.legend },
                "range": is_series,
                "instant": !is_series,
                "format": "time_series",
            })
        })
        .collect();
    let mut defaults = json!({ "unit": unit(&panel.unit), "thresholds": thresholds(&panel.thresholds) });
    if panel.unit == "ratio" && panel.kind == "gauge" {
        defaults["min"] = json!(0);
        defaults["max"] = json!(1);
    }
    if is_series {
        defaults["custom"] = json!({ "fillOpacity": 8, "showPoints": "never" });
        defaults["color"] = json!({ "mode": "palette-classic" });
    } else {
        defaults["color"] = json!({ "mode": "thresholds" });
    }
    let options = match &*panel.kind {
        "timeseries" => json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        "table" => json!({ "showHeader": true }),
        _ => json!({ "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false } }),
    };
    let mut made = json!({
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource(),
        "targets": targets,
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": options,
    });
    if panel.kind == "table" {
        // One line for each series: its name and its value.
        made["transformations"] = json!([{ "id": "reduce", "options": { "reducers": ["lastNotNull"] } }]);
    }
    match made {
        Value::Object(made) => made,
        _ => unreachable!("it was made as an object"),
    }
}

/// A to Z, then A1 and so on.
fn ref_id(index: usize) -> String {
    let letter = char::from(b'A' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

/// Grafana's names of units.
fn unit(ours: &str) -> &'static str {
    match ours {
        "count" => "short",
        "per_second" => "cps",
        "bytes" => "bytes",
        "bytes_per_second" => "binBps",
        "seconds" => "s",
        "ratio" => "percentunit",
        "unix_seconds" => "dateTimeFromNow",
        _ => "none",
    }
}

/// The first step has no lower end.
fn thresholds(ours: &[Threshold]) -> Value {
    let mut steps = vec![json!({ "color": "green", "value": null })];
    for threshold in ours {
        let color = match &*threshold.level {
            "critical" => "red",
            "warning" => "orange",
            _ => "green",
        };
        steps.push(json!({ "color": color, "value": threshold.from }));
    }
    json!({ "mode": "absolute", "steps": steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"status":"success","data":{"id":"x","title":"X","description":"","tags":["t"],
        "builtin":true,"range_seconds":3600,"refresh_seconds":30,
        "variables":[{"name":"i","title":"","label":"instance","selector":"up"}],
        "rows":[
          {"title":"lines","panels":[{"title":"l","description":"","kind":"logs","unit":"none","width":12,
            "thresholds":[],"logs":{}}]},
          {"title":"r","panels":[
            {"title":"wide","description":"","kind":"timeseries","unit":"bytes","width":12,"thresholds":[],
             "queries":[{"expr":"a","legend":"{{instance}}"},{"expr":"b","legend":""}]},
            {"title":"small","description":"","kind":"gauge","unit":"ratio","width":6,
             "thresholds":[{"from":0.5,"level":"critical"}],"queries":[{"expr":"c","legend":""}]}]}]}}"#;

    #[test]
    fn panels_are_placed_and_log_panels_left_out() {
        let made: Value = serde_json::from_slice(&model(ANSWER.as_bytes()).unwrap()).unwrap();
        let at = |index: usize| {
            (made["panels"][index]["title"].as_str(), made["panels"][index]["gridPos"].clone())
        };
        assert_eq!(made["panels"].as_array().map(Vec::len), Some(3));
        assert_eq!(at(0), (Some("r"), json!({ "x": 0, "y": 0, "w": 24, "h": 1 })));
        assert_eq!(at(1), (Some("wide"), json!({ "x": 0, "y": 1, "w": 24, "h": 8 })));
        assert_eq!(at(2), (Some("small"), json!({ "x": 0, "y": 9, "w": 12, "h": 5 })));
        let wide = &made["panels"][1];
        assert_eq!(wide["targets"][0]["legendFormat"], "{{instance}}");
        assert_eq!(wide["targets"][1]["legendFormat"], "__auto");
        let gauge = &made["panels"][2]["fieldConfig"]["defaults"];
        assert_eq!(gauge["unit"], "percentunit");
        assert_eq!(gauge["thresholds"]["steps"][1], json!({ "color": "red", "value": 0.5 }));
        assert_eq!(made["templating"]["list"][1]["query"]["query"], "label_values(up, instance)");
        assert_eq!((&made["time"]["from"], &made["refresh"]), (&json!("now-3600s"), &json!("30s")));
        assert_eq!(made["tags"], json!(["t", "lightmetrics"]));
    }

    #[test]
    fn what_is_no_dashboard_is_an_error() {
        assert!(model(b"{\"status\":\"success\",\"data\":{}}").is_err());
        assert!(model(b"").is_err());
    }

    #[test]
    fn many_queries_have_different_names() {
        assert_eq!([ref_id(0), ref_id(25), ref_id(26)], ["A", "Z", "A1"]);
    }
}
