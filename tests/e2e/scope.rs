//! Whatever an agent's session is asked to do, nothing outside its scope
//! changes, and nothing it stores pretends to be somebody else's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use lm_model::{Incarnation, Labels};
use lm_tests::api::{Api, unix_ms, unix_nano};
use lm_tests::mesh::{Batch, BatchMaker, EPOCH, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::random::Random;
use lm_tests::{System, system_options};

const CALLS: u64 = 300;

/// The rogue may send what it likes; the collector puts this on it, and its
/// name in `instance`, or in `agent` where it may name another instance.
const STAMPED: (&str, &str) = ("env", "prod");
/// A target that every host may have: the series of each are its own.
const LOOPBACK: &str = "127.0.0.1:9100";

/// Everything of others that a reader can see.
fn others(api: &Api, at: i64) -> (Vec<BTreeMap<String, String>>, Vec<String>, Vec<String>) {
    let mut series: Vec<_> = api
        .query("{instance!=\"rogue\",agent!=\"rogue\",instance!=\"collector\",__name__=~\".+\"}", at)
        .unwrap()
        .into_iter()
        .map(|series| {
            let mut labels = series.labels;
            labels.insert("value".to_owned(), format!("{:?}", series.samples));
            labels
        })
        .collect();
    series.sort();
    let mut lines: Vec<_> = api
        .all_lines("{instance!=\"rogue\",agent!=\"rogue\",filename=~\".+\"}", "")
        .unwrap()
        .into_iter()
        .map(|line| format!("{line:?}"))
        .collect();
    lines.sort();
    let accounts = api.losses().unwrap().into_iter().filter(|account| account.agent != "rogue");
    (series, lines, accounts.map(|account| format!("{account:?}")).collect())
}

fn random_labels(random: &mut Random) -> Vec<(&'static str, &'static str)> {
    let mut labels = vec![("__name__", ["up", "stolen", "lmagent_up"][random.between(0, 3) as usize])];
    for (name, values) in [
        ("instance", ["victim", "rogue", "collector", LOOPBACK]),
        ("env", ["dev", "prod", "victim", "x"]),
        ("agent", ["victim", "rogue", "a", "b"]),
        ("job", ["victim", "lightmetrics", "node", "x"]),
    ] {
        if random.percent(60) {
            labels.push((name, values[random.between(0, 4) as usize]));
        }
    }
    labels
}

#[test]
fn a_rogue_agent_writes_nothing_outside_its_scope() {
    let mut system = System::with(system_options(&[], &["rogue", "victim"]));
    let tokens = system.path("ingest-tokens.toml");
    let entry = "agent_id = \"rogue\"\n";
    let text = fs::read_to_string(&tokens).unwrap();
    fs::write(&tokens, text.replace(entry, &format!("{entry}labels = {{ env = \"prod\" }}\n"))).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    system.start();
    let seed = std::env::var("LM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| unix_nano() as u64);
    eprintln!("LM_SEED={seed}");
    let mut random = Random::new(seed);

    // Something to steal: the victim's own data, and a session that stays.
    let mut own = BatchMaker::new(unix_ms() as u64);
    let at = unix_ms();
    let victim = MeshConfig::of(&system, "victim");
    let rogue = MeshConfig::of(&system, "rogue");
    block_on(async {
        let session = MeshSession::open(&victim, &own.held()).await.unwrap();
        let samples = own.samples(&[("__name__", "up"), ("env", "dev")], &[(at, 1.0)]);
        let lines = own.lines(&[("filename", "/v.log")], [(unix_nano(), "of the victim")]);
        let scraped = own.samples(&[("__name__", "up"), ("instance", LOOPBACK)], &[(at, 1.0)]);
        for batch in [&samples, &lines, &scraped] {
            assert_eq!(session.push(batch).await.unwrap().outcome, Outcome::Durable);
        }
        let before = others(&system.api, at);
        assert!(!before.0.is_empty() && !before.1.is_empty() && !before.2.is_empty(), "{before:?}");

        // The victim's very incarnation is as good as any other.
        let mut maker = BatchMaker::new(own.incarnation.ordinal);
        assert_eq!(maker.incarnation, own.incarnation);
        let mut attack = MeshSession::open(&rogue, &own.held()).await.unwrap();
        let mut durable = 0_u64;
        for _ in 0..CALLS {
            let labels = random_labels(&mut random);
            match random.between(0, 10) {
                0..=3 => durable += sent(&attack, &maker.samples(&labels, &[(at, 666.0)])).await,
                4..=6 => {
                    let mut labels = labels;
                    labels.push(("filename", "/v.log"));
                    durable += sent(&attack, &maker.lines(&labels, [(unix_nano(), "of the rogue")])).await;
                }
                7 => {
                    // A batch of the victim's, byte for byte, or out of place.
                    let mut stolen = if random.percent(50) { samples.clone() } else { lines.clone() };
                    if random.percent(50) {
                        stolen.header.id.sequence = random.between(0, 1 << 40);
                        stolen.header.sequence_end = stolen.header.id.sequence + 1;
                    }
                    let _ = attack.push(&stolen).await;
                }
                8 => {
                    let entries = [Labels::from_pairs(labels.iter().copied())];
                    let ordinal = random.between(0, own.incarnation.ordinal * 2);
                    let other = Incarnation { ordinal, ..own.incarnation };
                    let _ = attack.define(other, EPOCH + 1, &entries).await;
                }
                _ => {
                    // A login that claims the victim's queue, and a new start.
                    maker = BatchMaker::new(unix_ms() as u64 + random.between(0, 1000));
                    let held = if random.percent(50) { own.held() } else { maker.held() };
                    attack = MeshSession::open(&rogue, &held).await.unwrap();
                }
            }
        }
        assert!(durable > 0, "nothing of the rogue was stored");
        assert_eq!(others(&system.api, at), before, "something of others has changed");
        // The victim's session, and its place in its sequence, are as they were.
        let more = own.lines(&[("filename", "/v.log")], [(unix_nano(), "more")]);
        assert_eq!(session.push(&more).await.unwrap().outcome, Outcome::Durable);
    });

    // What the rogue did store says that it is the rogue's.
    let stolen = system.api.query("{__name__=~\"up|stolen|lmagent_up\"} == 666", at).unwrap();
    assert!(!stolen.is_empty());
    let lines = system.api.all_lines("", "of the rogue").unwrap();
    let found = stolen.iter().map(|series| &series.labels).chain(lines.iter().map(|line| &line.labels));
    for labels in found {
        let said = |name: &str| labels.get(name).map(String::as_str);
        assert_eq!(said(STAMPED.0), Some(STAMPED.1), "{labels:?}");
        let whose = if said("instance") == Some(LOOPBACK) { "agent" } else { "instance" };
        assert_eq!(said(whose), Some("rogue"), "{labels:?}");
    }
}

/// Items of a batch that became durable.
async fn sent(session: &MeshSession, batch: &Batch) -> u64 {
    match session.push(batch).await {
        Ok(receipt) if receipt.outcome == Outcome::Durable => u64::from(batch.header.item_count),
        // Out of order after a new start, or quarantined.
        _ => 0,
    }
}
