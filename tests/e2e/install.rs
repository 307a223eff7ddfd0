//! The guide, `docs/install.md`, command by command: one host, two, ten. What
//! stands for systemd, ssh and the hosts is in `lm_tests::fleet`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lm_tests::eventually;
use lm_tests::fleet::Fleet;
use lm_tests::http::escape;
use lm_tests::process::binary;
use serde_json::Value;

const HOSTS: [&str; 10] =
    ["mon", "web-1", "web-2", "web-3", "web-4", "web-5", "web-6", "web-7", "web-8", "web-9"];
/// What a block of the guide should show may take an agent's next measurement.
const SHOWN_WITHIN: Duration = Duration::from_secs(40);
/// Three heartbeats, and a little for a busy machine.
const DOWN_WITHIN: Duration = Duration::from_secs(35);
/// A host that is back dials again after its back-off, of at most a minute.
const BACK_WITHIN: Duration = Duration::from_secs(90);

/// Commands for one host, as they stand in the guide.
struct Block {
    host: String,
    /// What its output has in it, at the latest when it is run again.
    shows: Option<String>,
    script: String,
}

/// The blocks that begin with ```` ```sh HOST [shows=TEXT] ````.
fn blocks(guide: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for line in guide.lines() {
        match line.strip_prefix("```sh ") {
            Some(head) => {
                let (host, shows) = head.split_once(' ').unwrap_or((head, ""));
                let shows = shows.strip_prefix("shows=").map(|text| text.trim_matches('"').to_owned());
                found.push(Block { host: host.to_owned(), shows, script: String::new() });
                is_inside = true;
            }
            None if line.starts_with("```") => is_inside = false,
            None if is_inside => {
                let block = found.last_mut().expect("a block was begun");
                block.script.push_str(line);
                block.script.push('\n');
            }
            None => {}
        }
    }
    found
}

fn follow(fleet: &Fleet, guide: &str) {
    for Block { host, shows, script } in blocks(guide) {
        println!("--- {host}\n{script}");
        let Some(shows) = shows else {
            let output = fleet.on(&host, &script);
            println!("{}{}", output.stdout, output.stderr);
            continue;
        };
        let shown = eventually(&format!("{script} shows {shows}"), SHOWN_WITHIN, || {
            let output = fleet.try_on(&host, &script);
            let is_shown = output.code == Some(0) && output.stdout.contains(&shows);
            if is_shown { Ok(output.stdout) } else { Err(output.to_string()) }
        });
        println!("{shown}");
    }
}

/// Asks the gateway as the guide does.
fn ask(fleet: &Fleet, path: &str) -> Result<Value, String> {
    let output = fleet.try_on(
        "mon",
        &format!(
            "sed 's/^/Authorization: Bearer /' /etc/lightmetrics/query-token |\n\
             curl -sS --cacert /etc/lightmetrics/ca.pem -H @- 'https://mon.example.com:18080{path}'"
        ),
    );
    let answer: Value = serde_json::from_str(&output.stdout).map_err(|_| output.to_string())?;
    Ok(answer["data"].clone())
}

fn expect_up(fleet: &Fleet, host: &str, expected: &str, within: Duration) {
    let query = escape(&format!("up{{instance=\"{host}\"}}"));
    eventually(&format!("up of {host} is {expected}"), within, || {
        let data = ask(fleet, &format!("/api/v1/query?query={query}"))?;
        let value = &data["result"][0]["value"][1];
        if value == expected { Ok(()) } else { Err(data.to_string()) }
    });
}

/// The lines of a host with this text.
fn lines(fleet: &Fleet, host: &str, contains: &str) -> Result<Vec<String>, String> {
    let selector = escape(&format!("{{instance=\"{host}\"}}"));
    let data = ask(fleet, &format!("/api/v1/logs?selector={selector}&contains={contains}&limit=1000"))?;
    let found = data["lines"].as_array().ok_or_else(|| data.to_string())?;
    Ok(found.iter().map(|line| line["line"].as_str().unwrap_or_default().to_owned()).collect())
}

fn write_lines(log: &Path, text: &str, count: usize) {
    let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
    for number in 0..count {
        writeln!(file, "{text} {number:03}").unwrap();
    }
}

fn expect_lines(fleet: &Fleet, host: &str, text: &str, count: usize, within: Duration) {
    let mut found = eventually(&format!("the lines of {host}"), within, || {
        let found = lines(fleet, host, text)?;
        if found.len() >= count { Ok(found) } else { Err(format!("{} of {count}", found.len())) }
    });
    found.sort();
    let wanted: Vec<_> = (0..count).map(|number| format!("{text} {number:03}")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_guide_installs_ten_hosts_and_one_that_was_unplugged_comes_back() {
    let Some(fleet) = Fleet::new(&HOSTS, "mon.example.com") else { return };
    let guide = include_str!("../../docs/install.md");
    let (install, later) = guide.split_once("\n## Later\n").expect("the guide has this part");
    // What `cargo build --release` leaves.
    let built = fleet.file("mon", "root/target/release");
    std::fs::create_dir_all(&built).unwrap();
    for name in ["lm-collector", "lm-gateway", "lm-agent", "lmctl"] {
        std::fs::copy(binary(name), built.join(name)).unwrap();
    }
    follow(&fleet, install);
    for host in HOSTS {
        write_lines(&fleet.file(host, "log/app.log"), "plugged", 3);
    }
    for host in HOSTS {
        expect_lines(&fleet, host, "plugged", 3, SHOWN_WITHIN);
        let query = escape(&format!("node_time_seconds{{instance=\"{host}\"}}"));
        eventually(&format!("metrics of {host}"), SHOWN_WITHIN, || {
            let data = ask(&fleet, &format!("/api/v1/query?query={query}"))?;
            if data["result"][0].is_object() { Ok(()) } else { Err(data.to_string()) }
        });
        expect_up(&fleet, host, "1", SHOWN_WITHIN);
    }

    fleet.plug("web-3", false);
    let began = Instant::now();
    write_lines(&fleet.file("web-3", "log/app.log"), "offline", 200);
    expect_up(&fleet, "web-3", "0", DOWN_WITHIN);
    println!("down after {:?}", began.elapsed());
    expect_up(&fleet, "web-4", "1", DOWN_WITHIN);
    assert_eq!(lines(&fleet, "web-3", "offline"), Ok(Vec::new()));
    fleet.plug("web-3", true);
    let began = Instant::now();
    expect_lines(&fleet, "web-3", "offline", 200, BACK_WITHIN);
    expect_up(&fleet, "web-3", "1", DOWN_WITHIN);
    println!("back after {:?}", began.elapsed());

    follow(&fleet, later);
    expect_up(&fleet, "web-8", "1", DOWN_WITHIN);
    let listed = fleet.on("mon", "lmctl agent list").stdout;
    assert!(!listed.contains("web-9") && listed.contains("web-8"), "{listed}");
    // No token was ever an argument of anybody: none is in a unit or a log.
    for host in HOSTS {
        let token = std::fs::read_to_string(fleet.file(host, "etc/lightmetrics/token")).unwrap();
        let found = fleet.try_on(host, &format!("! grep -rqF {} /run/units /etc/systemd", token.trim()));
        assert_eq!(found.code, Some(0), "a token of {host} is told");
    }
}
