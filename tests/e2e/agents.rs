//! Two agents in one collector stay apart.

use lm_tests::api::{unix_ms, values_of};
use lm_tests::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::system_options;
use lm_tests::{System, eventually};

use crate::{SOON, append, expect_line};

#[test]
fn two_agents_stay_apart() {
    let mut system = System::new(&["a", "b"]);
    for name in ["a", "b"] {
        append(&system.agent(name).logs.join("app.log"), &format!("written by {name}\n"));
    }
    system.start();
    for name in ["a", "b"] {
        assert_eq!(system.api.value(&format!("lmagent_up{{instance=\"{name}\"}}")), Ok(1.0));
        let found = expect_line(&system.api, &format!("{{instance=\"{name}\"}}"), "written by");
        assert_eq!(found, 1);
        expect_line(&system.api, &format!("{{instance=\"{name}\"}}"), &format!("written by {name}"));
    }
    eventually("both are counted", SOON, || match system.api.value("count(node_load1)") {
        Ok(2.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn nobody_writes_as_another() {
    let mut system = System::with(system_options(&["a"], &["mallory"]));
    system.start();
    block_on(async {
        let session = MeshSession::open(&MeshConfig::of(&system, "mallory"), &[]).await.unwrap();
        assert_eq!(session.connected.identity, "mallory");
        let mut maker = BatchMaker::new(1);
        let labels = [("__name__", "forged"), ("instance", "a"), ("job", "node")];
        let receipt = session.push(&maker.samples(&labels, &[(unix_ms(), 1.0)])).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Durable);
        let line =
            maker.lines(&[("instance", "a"), ("filename", "x")], [(unix_ms() * 1_000_000, "forged line")]);
        assert_eq!(session.push(&line).await.unwrap().outcome, Outcome::Durable);
    });
    // A receipt says that it is stored; shown it is a moment later.
    let found = eventually("the forged sample is found", SOON, || {
        let found = system.api.query("forged", unix_ms())?;
        if found.is_empty() { Err("no series".to_owned()) } else { Ok(found) }
    });
    assert_eq!(values_of(&found, "instance"), ["mallory".to_owned()].into(), "{found:?}");
    assert_eq!(expect_line(&system.api, "{filename=\"x\"}", "forged line"), 1);
    let lines = system.api.all_lines("{filename=\"x\"}", "forged line").unwrap();
    assert_eq!(lines[0].labels["instance"], "mallory");
    assert!(
        system
            .api
            .losses()
            .unwrap()
            .iter()
            .all(|account| account.agent != "a" || account.incarnation.len() > 20)
    );
}

#[test]
fn the_token_says_who_an_agent_is() {
    // Whatever its configuration claims.
    let mut system = System::new(&["a"]);
    system.agent("a").config.set_text("agent_id", "b");
    system.write_configs();
    system.start();
    assert_eq!(system.api.value("lmagent_up{instance=\"a\"}"), Ok(1.0));
    assert_eq!(system.api.query("lmagent_up{instance=\"b\"}", unix_ms()).unwrap().len(), 0);
}
