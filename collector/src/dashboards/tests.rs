use std::fs;
use std::path::{Path, PathBuf};

use super::definition::take;
use super::*;
use crate::settings::{DefinitionPath, DefinitionPaths};

/// A definition without a mistake, and with a key of each kind.
const GOOD: &str = r#"id = "web"
title = "Web"
tags = ["a", "b"]
range = "6h"
refresh = "10s"

[[variables]]
name = "job"
label = "job"

[[variables]]
name = "instance"
title = "Host"
label = "instance"
selector = 'up{job="$job"}'

[[rows]]
title = "Now"
[[rows.panels]]
title = "Requests"
kind = "timeseries"
unit = "per_second"
width = 12
queries = [
    { expr = 'sum by (code) (rate(requests_total{instance=~"${instance}"}[$__rate_interval]))', legend = "code {{ code }}" },
    { expr = 'label_replace(up{path!~"/a$|/b$"}, "short", "$1", "instance", "(.*):.*")' },
]
thresholds = [{ from = -1, level = "ok" }, { from = 0.5, level = "critical" }]
[[rows.panels]]
title = "Errors"
kind = "logs"
logs = { selector = '{instance=~"$instance"}', contains = ["GET"], exclude = ["/health"], regex = "5[0-9]{2}$" }
"#;

#[test]
fn a_definition_is_read_whole() {
    let read = lm_settings::parse(Path::new("x.toml"), GOOD, take).unwrap();
    assert_eq!((read.id_line, read.override_line), (1, None));
    let Dashboard { id, title, tags, range, refresh, variables, rows, .. } = read.dashboard;
    assert_eq!((&id[..], &title[..], tags), ("web", "Web", vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((range, refresh), (Duration::from_secs(6 * 3600), Duration::from_secs(10)));
    let expected = Variable {
        name: "instance".to_owned(),
        title: "Host".to_owned(),
        label: "instance".to_owned(),
        selector: "up{job=\"$job\"}".to_owned(),
    };
    assert_eq!(variables[1], expected);
    let [requests, errors] = &rows[0].panels[..] else { panic!("{rows:?}") };
    assert_eq!((requests.kind, requests.unit), (PanelKind::Timeseries, PanelUnit::PerSecond));
    assert_eq!((requests.width, errors.width), (12, 6));
    assert_eq!(requests.thresholds[0], Threshold { from: -1.0, level: panel_threshold::Level::Ok });
    let Content::Queries(queries) = &requests.content else { panic!("{requests:?}") };
    assert_eq!((queries.len(), &queries[0].legend[..]), (2, "code {{ code }}"));
    let Content::Logs(logs) = &errors.content else { panic!("{errors:?}") };
    assert_eq!(logs.excludes, ["/health"]);
}

/// The mistakes of [`GOOD`] with `from` replaced by `to`: lines and messages.
fn mistakes(from: &str, to: &str) -> Vec<(usize, String)> {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    let found = lm_settings::parse(Path::new("x.toml"), &text, take).err().unwrap_or_default();
    found.into_iter().map(|mistake| (mistake.line, mistake.message)).collect()
}

#[test]
fn each_mistake_has_its_line() {
    let check = |from: &str, to: &str, line: usize, parts: &[&str]| {
        let found = mistakes(from, to);
        let [(at, message)] = &found[..] else { panic!("{to}: {found:#?}") };
        assert_eq!(*at, line, "{to}: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    check("id = \"web\"", "", 1, &["id is missing"]);
    check("id = \"web\"", "id = \"../web\"", 1, &["id is \"../web\"", "a-z"]);
    check("title = \"Web\"", "titel = 'x'\ntitle = 'y'", 2, &["titel", "did you mean \"title\"?"]);
    check("title = \"Web\"", "title = \"a\\u0007\"", 2, &["control characters"]);
    check("title = \"Web\"", &format!("title = '{}'", "x".repeat(257)), 2, &["257 bytes, at most 256"]);
    check("\"6h\"", "\"30s\"", 4, &["range is", "\"1m\""]);
    // Panels then miss the variable; the first mistake says why.
    let taken = (12, "variables.name is \"job\"; another variable has this name".to_owned());
    assert_eq!(mistakes("name = \"instance\"", "name = \"job\"")[0], taken);
    assert_eq!(mistakes("name = \"instance\"", "name = \"__x\"")[0].0, 12);
    check("label = \"job\"", "label = \"a-b\"", 9, &["the name of a label"]);
    check("up{job=\"$job\"}", "up{job=\"$instance\"}", 15, &["no variable $instance", "$job, $__interval"]);
    check("up{job=\"$job\"}", "rate(up[5m])", 15, &["is not a selector"]);
    check("timeseries", "graph", 21, &["rows.panels.kind is \"graph\"", "\"timeseries\", \"stat\""]);
    check("per_second", "rps", 22, &["rows.panels.unit"]);
    check("width = 12", "width = 13", 23, &["from 1 to 12"]);
    check("sum by (code) (rate(", "sum by (code) (rat(", 25, &["queries.expr is", "parse error", "rat"]);
    check("${instance}", "${instanc}", 25, &["no variable $instanc here", "$instance"]);
    check("sum by (code) (rate(", "sum by (code) ((", 25, &["parse error"]);
    check("up{path!~\"/a$|/b$\"}", "up{path!~\"(\"}", 26, &["queries.expr is"]);
    check("{ expr = 'label_replace(", "{ expr = 'up[5m]' }, { expr = 'label_replace(", 26, &["drawn"]);
    check("{{ code }}", "{{ code }", 25, &["legend is", "{{...}}"]);
    check("from = 0.5", "from = -1.5", 28, &["thresholds.from", "the one before is from -1"]);
    check("\"critical\"", "\"red\"", 28, &["thresholds.level", "\"warning\""]);
    check(
        "{instance=~\"$instance\"}'",
        "{instance=~\"$instance\"'",
        32,
        &["logs.selector is", "parse error"],
    );
    check("regex = \"5[0-9]{2}$\"", "regex = \"5[0-9\"", 32, &["logs.regex is"]);
    check("kind = \"logs\"", "kind = \"stat\"", 32, &["logs does not go with this kind"]);
    check("kind = \"timeseries\"", "kind = \"logs\"\nlogs = {}", 25, &["queries does not go with this kind"]);
    check("logs = { selector", "# ", 29, &["logs is missing"]);
}

#[test]
fn bounds_of_a_definition() {
    let rows = "[[rows]]\n[[rows.panels]]\ntitle = 'x'\nkind = 'stat'\nqueries = [{ expr = '1' }]\n";
    let check = |text: &str, line: usize, part: &str| {
        let text = format!("id = 'x'\ntitle = 'x'\n{text}");
        let found = lm_settings::parse(Path::new("x.toml"), &text, take).unwrap_err();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, line, "{found:?}");
        assert!(found[0].message.contains(part), "{found:?}");
    };
    check("", 1, "rows is missing");
    check(&rows.repeat(51), 3, "rows has 51 entries; expected 1 to 50");
    check("[[rows]]\npanels = []\n", 4, "rows.panels has 0 entries; expected 1 to 50");
    check(&rows.replace("{ expr = '1' }", &"{ expr = '1' },".repeat(21)), 7, "21 entries; expected 1 to 20");
    check(&rows.replace("{ expr = '1' }", ""), 7, "0 entries; expected 1 to 20");
    check(&format!("tags = [{}]\n{rows}", "'x',".repeat(17)), 3, "tags has 17 entries; expected 0 to 16");
    let long = format!("expr = '{}1'", "1 + ".repeat(1100));
    check(&rows.replace("expr = '1'", &long), 7, "at most 4096 are allowed");
}

/// A directory of definitions, and the settings that name it in line 7 and
/// some files in line 5.
struct World(tempfile::TempDir);

impl World {
    fn new() -> World {
        World(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self, files: &[&str], dirs: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let named = |names: &[&str], line| {
            names.iter().map(|name| DefinitionPath { path: self.path(name), line }).collect()
        };
        let paths = DefinitionPaths { files: named(files, 5), dirs: named(dirs, 7) };
        let shown = format!("{}/", self.0.path().display());
        Dashboards::load(&paths, &self.path("server.toml"))
            .map(|all| all.all().iter().map(|one| one.id.clone()).collect())
            .map_err(|found| found.iter().map(|mistake| mistake.to_string().replace(&shown, "")).collect())
    }
}

fn with_id(id: &str) -> String {
    GOOD.replacen("\"web\"", &format!("\"{id}\""), 1)
}

const BUILTIN: [&str; 6] = ["fleet", "host", "lightmetrics", "logs", "queues", "sessions"];

#[test]
fn what_is_built_in_is_right() {
    let all = Dashboards::load(&DefinitionPaths::default(), Path::new("server.toml")).unwrap();
    let ids: Vec<_> = all.all().iter().map(|one| &one.id[..]).collect();
    assert_eq!(ids, BUILTIN);
    assert!(all.all().iter().all(|one| one.is_builtin));
    assert_eq!(all.find("host").unwrap().title, "Host");
    assert_eq!(all.find("nothing"), None);
}

#[test]
fn files_and_directories_are_read() {
    let world = World::new();
    world.write("one.conf", &with_id("one"));
    world.write("d/b.toml", &with_id("two"));
    world.write("d/a.toml", &with_id("three"));
    // None of these is a definition.
    world.write("d/notes.txt", "nothing");
    world.write("d/.a.toml.swp", "nothing");
    world.write("d/.hidden.toml", "nothing");
    world.write("d/below.toml/c.toml", "nothing");
    let ids = world.load(&["one.conf"], &["d"]).unwrap();
    assert_eq!(ids, ["fleet", "host", "lightmetrics", "logs", "one", "queues", "sessions", "three", "two"]);
}

#[test]
fn a_built_in_dashboard_is_replaced_on_purpose_only() {
    let world = World::new();
    world.write("a.toml", &with_id("host"));
    let refused = "a.toml:1: id \"host\" is that of a built-in dashboard; choose another, or say \
                   overrides_builtin = true to replace it";
    assert_eq!(world.load(&["a.toml"], &[]), Err(vec![refused.to_owned()]));
    world.write("a.toml", &format!("overrides_builtin = true\n{}", with_id("host")));
    assert_eq!(world.load(&["a.toml"], &[]).unwrap(), BUILTIN);
    let paths = DefinitionPaths {
        files: vec![DefinitionPath { path: world.path("a.toml"), line: 1 }],
        dirs: Vec::new(),
    };
    let all = Dashboards::load(&paths, Path::new("server.toml")).unwrap();
    let host = all.find("host").unwrap();
    assert_eq!((&host.title[..], host.is_builtin), ("Web", false));
    world.write("a.toml", &format!("\noverrides_builtin = true\n{}", with_id("hosts")));
    let refused = "a.toml:2: overrides_builtin: \"hosts\" is not built in, remove the key; built in are \
                   fleet, host, lightmetrics, logs, queues, sessions";
    assert_eq!(world.load(&["a.toml"], &[]), Err(vec![refused.to_owned()]));
}

#[test]
fn every_mistake_of_every_file_is_found() {
    let world = World::new();
    world.write("a.toml", GOOD);
    world.write("b.toml", &format!("\n{}", GOOD.replace("kind", "knid")));
    world.write("d/c.toml", "id = = 'x'\n");
    let found = world.load(&["a.toml", "gone.toml", "b.toml", "a.toml"], &["d", "nowhere"]).unwrap_err();
    let expected = [
        "server.toml:5: a.toml is named already, by line 5",
        "server.toml:7: dashboards.definition_dirs: cannot read nowhere: No such file or directory (os error 2)",
        "server.toml:5: dashboards: cannot read gone.toml: No such file or directory (os error 2)",
        "b.toml:20: rows.panels.kind is missing",
        "b.toml:22: rows.panels.knid is not a known key; did you mean \"kind\"?",
        "b.toml:30: rows.panels.kind is missing",
        "b.toml:32: rows.panels.knid is not a known key; did you mean \"kind\"?",
        "b.toml:33: rows.panels.logs does not go with this kind; expected queries, or kind = \"logs\"",
        "d/c.toml:1: ",
        "b.toml:2: id \"web\" is taken by a.toml:1; each dashboard needs its own",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn bounds_of_all_definitions() {
    let world = World::new();
    for index in 0..101 {
        world.write(&format!("many/{index:03}.toml"), &with_id(&format!("d{index}")));
    }
    let found = world.load(&[], &["many"]).unwrap_err();
    assert_eq!(
        found,
        ["server.toml:7: dashboards: 101 definition files, at most 100 are read; the first too many is \
          many/100.toml"]
    );
    world.write("large.toml", &format!("{GOOD}# {}\n", "x".repeat(256 << 10)));
    let found = world.load(&["large.toml"], &[]).unwrap_err();
    assert_eq!(found, ["large.toml:1: larger than 262144 bytes: is it a configuration file?"]);
    let comment = "x".repeat(255 << 10);
    for index in 0..5 {
        let text = format!("{}# {comment}\n", with_id(&format!("d{index}")));
        world.write(&format!("heavy/{index}.toml"), &text);
    }
    let found = world.load(&[], &["heavy"]).unwrap_err();
    assert_eq!(
        found,
        [
            "server.toml:7: dashboards: definitions have more than 1048576 bytes with heavy/4.toml; remove some"
        ]
    );
    // Reading a FIFO or a device might never end.
    let found = Dashboards::load(
        &DefinitionPaths {
            files: vec![DefinitionPath { path: "/dev/zero".into(), line: 5 }],
            dirs: Vec::new(),
        },
        Path::new("server.toml"),
    );
    assert_eq!(found.unwrap_err()[0].to_string(), "/dev/zero:1: is not a regular file");
}

#[test]
fn an_answer_fits_into_a_message() {
    // What grows most on the wire: many small things.
    let panel = |content: &str| format!("[[rows.panels]]\ntitle='x'\nkind={content}\n");
    let terms = format!("[{}]", "'x',".repeat(16));
    for panel in [
        panel("'stat'\nqueries=[{expr='1'}]"),
        panel(&format!("'stat'\nqueries=[{}]", "{expr='1'},".repeat(20))),
        panel(&format!("'logs'\nlogs={{contains={terms},exclude={terms}}}")),
    ] {
        let text = format!("id='x'\ntitle='x'\n{}", format!("[[rows]]\n{panel}").repeat(50));
        let read = lm_settings::parse(Path::new("x.toml"), &text, take).unwrap();
        let mut message = capnp::message::Builder::new_default();
        write(&read.dashboard, message.init_root());
        let wire_bytes = capnp::serialize::compute_serialized_size_in_words(&message) * 8;
        let most = wire_bytes * (1 << 20) / text.len();
        assert!(most < 6 << 20, "{most} bytes for all files that are made of {panel}");
    }
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let page = include_str!("../../../docs/configuration.md");
    let example = page.split("```\n").find(|block| block.starts_with("id = \"shop\"")).unwrap();
    let read = lm_settings::parse(Path::new("docs/configuration.md"), example, take).unwrap();
    assert_eq!(read.dashboard.rows[0].panels.len(), 2);
}
