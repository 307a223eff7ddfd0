//! Who may link what: the table of the design, compared with `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// A crate, and what it may never link, directly or through others.
const NEVER: &[(&str, &[&str])] = &[
    ("lm-model", &["tokio", "capnp", "capnp-rpc", "quinn", "lm-*"]),
    ("lm-schema", &["tokio", "quinn"]),
    ("lm-mesh", &["lm-tsdb", "lm-promql", "lm-logs", "lm-journal"]),
    ("lm-fs", &["tokio", "capnp", "quinn", "lm-*"]),
    ("lm-journal", &["tokio", "capnp", "quinn", "lm-model", "lm-tsdb"]),
    ("lm-tsdb", &["tokio", "capnp", "quinn", "lm-promql", "lm-journal"]),
    ("lm-promql", &["tokio", "capnp", "quinn", "lm-tsdb"]),
    ("lm-logs", &["tokio", "capnp", "quinn"]),
    ("lm-exposition", &["tokio", "capnp", "quinn", "lm-*"]),
    ("lm-settings", &["tokio", "capnp", "quinn"]),
    ("lm-enrol", &["lm-tsdb", "lm-promql", "lm-logs", "lm-journal"]),
    ("lm-supervisor", &["lm-*", "capnp", "quinn"]),
    ("lm-telemetry", &["tokio", "capnp", "quinn", "hyper", "lm-model", "lm-mesh"]),
    ("lm-web", &["capnp", "quinn", "lm-mesh", "lm-tsdb", "lm-logs", "lm-promql"]),
    (
        "lm-lmctl",
        &["lm-tsdb", "lm-logs", "lm-promql", "lm-journal", "lm-agent", "lm-collector", "lm-gateway"],
    ),
    ("lm-agent", &["lm-tsdb", "lm-logs", "lm-promql", "lm-collector", "lm-gateway"]),
    ("lm-gateway", &["lm-tsdb", "lm-logs", "lm-promql", "lm-journal", "lm-agent", "lm-collector"]),
    ("lm-collector", &["lm-agent", "lm-gateway"]),
];

/// Crates that alone may name these libraries themselves. Tests may name all.
const ONLY: [(&str, &[&str]); 3] = [
    // RPC objects are made in the processes; QUIC is the mesh's business.
    ("quinn", &["lm-mesh"]),
    ("capnp-rpc", &["lm-mesh", "lm-collector", "lm-gateway", "lm-agent", "lm-lmctl"]),
    ("warp", &["lm-gateway"]),
];

/// What nobody links.
const BANNED: [&str; 8] =
    ["tonic", "openssl", "openssl-sys", "native-tls", "serde_yaml", "tower-grpc", "grpcio", "aws-lc-sys"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Package names and their dependencies of normal builds.
fn graph() -> Graph {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut names = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        names.insert(package["id"].as_str().expect("an id"), package["name"].as_str().expect("a name"));
    }
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let of = graph.entry(names[node["id"].as_str().expect("an id")].to_owned()).or_default();
        for dep in node["deps"].as_array().expect("deps") {
            let is_normal = |kind: &Value| kind["kind"].is_null();
            if dep["dep_kinds"].as_array().expect("kinds").iter().any(is_normal) {
                of.insert(names[dep["pkg"].as_str().expect("an id")].to_owned());
            }
        }
    }
    graph
}

/// The way from `from` to a crate that `is_wanted`, if there is one.
fn way(graph: &Graph, from: &str, is_wanted: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in &graph[way.last().expect("ways begin somewhere")] {
            let mut longer = way.clone();
            longer.push(next.clone());
            if is_wanted(next) {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

#[test]
fn nobody_links_what_the_table_forbids() {
    let graph = graph();
    let mut wrong = Vec::new();
    for (package, never) in NEVER {
        for name in *never {
            let is_wanted = |found: &str| match name.strip_suffix('*') {
                Some(prefix) => found.starts_with(prefix),
                None => found == *name,
            };
            wrong.extend(way(&graph, package, &is_wanted).map(|way| way.join(" -> ")));
        }
    }
    assert!(wrong.is_empty(), "the design forbids:\n{}", wrong.join("\n"));
}

#[test]
fn each_library_has_its_one_place() {
    let graph = graph();
    let mut wrong = Vec::new();
    for (package, dependencies) in
        graph.iter().filter(|(name, _)| name.starts_with("lm-") && *name != "lm-tests")
    {
        for (library, places) in ONLY {
            if dependencies.contains(library) && !places.contains(&&package[..]) {
                wrong.push(format!("{package} names {library}; only {places:?} may"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_links_what_is_banned() {
    let graph = graph();
    for package in graph.keys().filter(|name| name.starts_with("lm-")) {
        for banned in BANNED {
            let found = way(&graph, package, &|name| name == banned);
            assert!(found.is_none(), "{}", found.unwrap_or_default().join(" -> "));
        }
    }
}

#[test]
fn the_table_is_complete() {
    let known: BTreeSet<_> = NEVER.iter().map(|(name, _)| *name).collect();
    let ours = ["lm-tests", "lm-schema-codegen", "lm-manual"];
    let missing: Vec<_> = graph()
        .into_keys()
        .filter(|name| name.starts_with("lm-") && !known.contains(&name[..]) && !ours.contains(&&name[..]))
        .collect();
    assert!(missing.is_empty(), "the table says nothing of {missing:?}");
}
