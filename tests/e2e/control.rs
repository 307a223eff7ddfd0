//! What operators may ask of agents, and what agents let them.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lm_schema::mesh_capnp::agent_control;
use lm_schema::operator::{AgentAnswer, CapabilityFilter, Target};
use lm_tests::mesh::{MeshConfig, MeshSession, block_on};
use lm_tests::operator::{OperatorSession, as_operator};
use lm_tests::process::run;
use lm_tests::{System, eventually, system_options};

use crate::SOON;

/// The ledger's entries of what agents handed out: identifier and scope.
fn controls(system: &System) -> Vec<(u64, String)> {
    as_operator(system, async |operator| {
        let filter = CapabilityFilter { interface: "AgentControl".to_owned(), ..CapabilityFilter::default() };
        let found = operator.capabilities(&filter).await?;
        Ok(found.into_iter().map(|found| (found.id, format!("{} {}", found.holder, found.scope))).collect())
    })
}

#[test]
fn an_agent_that_allows_it_is_asked_and_flushed() {
    let mut system = System::new(&["a", "b"]);
    system.agent("a").config.set("collector.control", true);
    system.write_configs();
    system.start();
    let held = eventually("the agent hands out its control", SOON, || match &controls(&system)[..] {
        [(id, holder)] => Ok((*id, holder.clone())),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(held.1, "local:collector status and flush of a");

    let status = system.lmctl(&["ask", "status", "a", "--output", "json"]);
    status.expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let file = system.agent("a").config_file.display().to_string();
    let sum = run(Path::new("/usr/bin/sha256sum"), &[&file], SOON);
    assert_eq!(status["config_sha256"].as_str().unwrap(), sum.stdout.split(' ').next().unwrap());
    assert_eq!((&status["agent"], &status["version"]), (&"a".into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(status["sent_batches"].as_u64().unwrap() > 0, "{status}");
    let table = system.lmctl(&["ask", "status", "a"]);
    assert!(table.stdout.contains("version") && table.stdout.contains("configuration"), "{table}");
    let flushed = system.lmctl(&["ask", "flush", "a"]);
    flushed.expect_code(0);
    assert_eq!(flushed.stdout, "a has sent all that was queued\n");

    // The other one does not allow it, and nobody is no agent.
    system.lmctl(&["ask", "status", "b"]).expect_code(77).expect_stderr(&["does not let its collector ask"]);
    system.lmctl(&["ask", "flush", "nobody"]).expect_code(69).expect_stderr(&["has no session"]);

    // The agent bounds how often it answers.
    let answers = as_operator(&system, async |operator| {
        let mut answers = Vec::new();
        for _ in 0..12 {
            answers.push(operator.agent_status("a").await?);
        }
        Ok(answers)
    });
    let refused = |answer: &AgentAnswer| matches!(answer, AgentAnswer::Failed(said) if said.starts_with("overloaded: this agent answers 10 "));
    assert!(matches!(answers[0], AgentAnswer::Status(_)), "{answers:?}");
    assert!(answers.iter().any(refused), "{answers:?}");

    // Revoked, nobody can ask it, and it goes on.
    let before = session_of(&system, "a");
    let (id, _) = held;
    system.lmctl(&["revoke", &format!("c{id}"), "--reason", "not needed"]).expect_code(0);
    system.lmctl(&["ask", "status", "a"]).expect_code(77).expect_stderr(&["the capability was revoked"]);
    assert_eq!(session_of(&system, "a"), before);
    // Its next session brings another.
    system.lmctl(&["revoke", &format!("s{before}"), "--reason", "again"]).expect_code(0);
    assert_eq!(controls(&system), []);
}

fn session_of(system: &System, agent: &str) -> u64 {
    as_operator(system, async |operator| {
        let sessions = operator.sessions().await?;
        Ok(sessions.iter().find(|session| session.identity == agent).map_or(0, |session| session.id))
    })
}

/// An agent whose control does what it should not.
enum Hostile {
    Silent,
    Wordy,
    Rude,
}

impl agent_control::Server for Hostile {
    async fn status(
        self: Rc<Self>,
        _: agent_control::StatusParams,
        mut results: agent_control::StatusResults,
    ) -> Result<(), capnp::Error> {
        match *self {
            Hostile::Silent => std::future::pending().await,
            Hostile::Wordy => {
                results.get().init_status().set_version("x".repeat(100_000));
                Ok(())
            }
            Hostile::Rude => Err(capnp::Error::failed("\x1b[2Jgo away".to_owned())),
        }
    }
}

#[test]
fn hostile_controls_cost_the_collector_little() {
    let mut system = System::with(system_options(&[], &["m"]));
    system.collector.start();
    system.wait_collector();
    let config = MeshConfig::of(&system, "m");
    block_on(async {
        let agent = MeshSession::open(&config, &[]).await.unwrap();
        let operator = MeshConfig { token: system.path("operator-token"), ..config.clone() };
        let operator = OperatorSession::open(&operator).await.unwrap();
        let hand_out = async |control: Hostile| {
            let mut request = agent.agent.control_request();
            request.get().set_control(capnp_rpc::new_client(control));
            request.send().promise.await.map(drop)
        };
        let filter = CapabilityFilter { interface: "AgentControl".to_owned(), ..CapabilityFilter::default() };

        hand_out(Hostile::Wordy).await.unwrap();
        let AgentAnswer::Status(status) = operator.agent_status("m").await.unwrap() else {
            panic!("no status")
        };
        assert_eq!(status.version.len(), 4096);
        hand_out(Hostile::Rude).await.unwrap();
        assert_eq!(
            operator.agent_status("m").await.unwrap(),
            AgentAnswer::Failed("\x1b[2Jgo away".to_owned())
        );

        // As many as it likes: the last one counts, the others are let go.
        for _ in 0..500 {
            hand_out(Hostile::Silent).await.unwrap();
        }
        let began = Instant::now();
        let asked = async {
            let answer = operator.agent_status("m").await.unwrap();
            let AgentAnswer::Failed(said) = answer else { panic!("{answer:?}") };
            assert_eq!(said, "the agent did not answer within 5 s");
        };
        // Nobody waits for it: its own calls go on.
        let beats = async {
            for _ in 0..20 {
                agent.heartbeat().await.unwrap();
            }
            assert!(began.elapsed() < Duration::from_secs(4), "heartbeats waited for the control");
        };
        tokio::join!(asked, beats);
        let held = operator.capabilities(&filter).await.unwrap();
        assert_eq!(held.len(), 1, "{held:?}");

        // A revocation cuts a question that is under way.
        let asked = async {
            let answer = operator.agent_status("m").await.unwrap();
            let AgentAnswer::Failed(said) = &answer else { panic!("{answer:?}") };
            assert!(said.starts_with("revoked: enough"), "{said}");
        };
        let revoked = async {
            while operator.capabilities(&filter).await.unwrap()[0].in_flight == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            operator.revoke(Target::Capability(held[0].id), "enough").await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(4), async { tokio::join!(asked, revoked) }).await.unwrap();
        assert_eq!(operator.agent_status("m").await.unwrap(), AgentAnswer::NotAllowed);
        drop(agent);
    });
}
