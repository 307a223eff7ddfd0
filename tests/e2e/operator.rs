//! What an operator sees, cuts, keeps out and lets in again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lm_schema::operator::{CapabilityFilter, Target};
use lm_tests::accounting::lines::LineWriter;
use lm_tests::api::unix_nano;
use lm_tests::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on, code_of};
use lm_tests::operator::{OperatorSession, as_operator};
use lm_tests::random::Random;
use lm_tests::{System, eventually, system_options};

use crate::{SOON, expect_lines};

/// The one capability of an interface and holder.
async fn capability(operator: &OperatorSession, interface: &str, holder: &str) -> Result<u64, String> {
    let filter = CapabilityFilter { interface: interface.to_owned(), holder: holder.to_owned(), session: 0 };
    match &operator.capabilities(&filter).await?[..] {
        [one] => Ok(one.id),
        other => Err(format!("{interface} of {holder}: {other:?}")),
    }
}

#[track_caller]
fn wait_for_log(log: impl Fn() -> String, part: &str) {
    eventually(&format!("the log says {part:?}"), SOON, || {
        let text = log();
        if text.contains(part) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn an_operator_sees_who_is_there_and_what_they_hold() {
    let mut system = System::new(&["a"]);
    system.start();
    let (sessions, capabilities, status) = as_operator(&system, async |operator| {
        let all = CapabilityFilter::default();
        Ok((operator.sessions().await?, operator.capabilities(&all).await?, operator.status().await?))
    });
    let of = |role: &str| {
        let of: Vec<_> = sessions.iter().filter(|session| session.role == role).collect();
        assert_eq!(of.len(), 1, "{role}: {sessions:?}");
        of[0].clone()
    };
    let agent = of("agent");
    assert_eq!((&agent.identity[..], &agent.product[..]), ("a", "lm-agent"));
    assert!(agent.calls > 0 && agent.batches > 0 && agent.bytes_received > 0, "{agent:?}");
    let (gateway, own) = (of("gateway"), of("operator"));
    let held = |session: u64| {
        let held = capabilities.iter().filter(|capability| capability.session == session);
        held.map(|capability| &capability.interface[..]).collect::<Vec<_>>()
    };
    assert_eq!(held(agent.id), ["Session", "AgentSession", "BatchSink"]);
    assert_eq!(agent.capabilities, 3);
    assert_eq!(held(own.id), ["Session", "Operator"]);
    // A gate on each of its streams, for readers and for writers, and users' capabilities as they come.
    let of_gateway: BTreeSet<&str> = held(gateway.id).into_iter().collect();
    assert_eq!(of_gateway, BTreeSet::from(["GatewaySession", "Reader", "Session", "UserGate"]));
    let by_id: BTreeMap<u64, _> = capabilities.iter().map(|capability| (capability.id, capability)).collect();
    for capability in &capabilities {
        match capability.interface.as_str() {
            "Session" => assert_eq!(capability.grantor, 0),
            _ => assert_eq!(by_id[&capability.grantor].session, capability.session, "{capability:?}"),
        }
    }
    let sink = capabilities.iter().find(|capability| capability.interface == "BatchSink").unwrap();
    assert_eq!((&sink.scope[..], &sink.last_method[..]), ("agent=a", "push"));
    assert_eq!(sink.calls, agent.batches + u64::from(sink.in_flight), "{sink:?}");
    assert_eq!((status.sessions, status.denials), (3, 0));
}

#[test]
fn a_revoked_sink_takes_no_batch_and_the_session_goes_on() {
    let mut system = System::with(system_options(&[], &["m"]));
    system.start();
    block_on(async {
        let mut maker = BatchMaker::new(1);
        let agent = MeshSession::open(&MeshConfig::of(&system, "m"), &maker.held()).await.unwrap();
        let operator = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(&system, "m") };
        let operator = OperatorSession::open(&operator).await.unwrap();
        let mut push = async || {
            let batch = maker.lines(&[("job", "t")], [(unix_nano(), "p=0 one line")]);
            agent.push(&batch).await
        };
        assert_eq!(push().await.unwrap().outcome, Outcome::Durable);
        let sink = capability(&operator, "BatchSink", "m").await.unwrap();
        let outcome = operator.revoke(Target::Capability(sink), "a noisy host").await.unwrap();
        assert_eq!((outcome.was_found, outcome.capabilities, outcome.sessions), (true, 1, 0));
        assert_eq!(code_of(&push().await.unwrap_err()), "revoked: a noisy host");
        let define = agent.define(maker.incarnation, 1, &maker.entries).await;
        assert_eq!(code_of(&define.unwrap_err()), "revoked: a noisy host");
        agent.heartbeat().await.unwrap();
        // What is not there cannot be revoked.
        for target in [Target::Capability(sink), Target::Capability(1 << 40), Target::Session(u64::MAX)] {
            let outcome = operator.revoke(target, "").await.unwrap();
            assert_eq!((outcome.was_found, outcome.capabilities, outcome.sessions), (false, 0, 0));
        }
    });
    let (stored, lost) = system.api.account("m", "logs").unwrap();
    assert_eq!((stored, lost.len()), (1, 0));
}

/// Waits for nothing that a person would have to: agents that were refused
/// wait half a minute, a restarted one does not.
fn restart_agent(system: &mut System) {
    let agent = &mut system.agents[0].process;
    assert!(agent.is_running());
    agent.kill();
    agent.start();
}

#[test]
fn all_sessions_of_a_filter_are_revoked_in_one_call() {
    let mut system = System::with(system_options(&["a"], &["m", "n"]));
    system.start();
    block_on(async {
        let open = async |name| MeshSession::open(&MeshConfig::of(&system, name), &[]).await.unwrap();
        let (m, n) = (open("m").await, open("n").await);
        let operator = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(&system, "m") };
        let operator = OperatorSession::open(&operator).await.unwrap();
        let left = async || {
            let mut left: Vec<_> =
                operator.sessions().await.unwrap().into_iter().map(|session| session.identity).collect();
            left.sort();
            left
        };
        assert_eq!(left().await, ["a", "gateway", "m", "n", "operator"]);
        // Nothing fits both.
        let outcome = operator.revoke_sessions("gateway", "m", "x").await.unwrap();
        assert_eq!((outcome.was_found, outcome.sessions, outcome.capabilities), (true, 0, 0));
        let outcome = operator.revoke_sessions("", "m", "moved").await.unwrap();
        assert_eq!((outcome.sessions, outcome.capabilities), (1, 2));
        assert!(m.connected.closed().await.reason.starts_with("revoked: moved"));
        let outcome = operator.revoke_sessions("agent", "", "new certificates").await.unwrap();
        assert_eq!((outcome.sessions, outcome.capabilities), (2, 4));
        assert!(n.connected.closed().await.reason.starts_with("revoked: new certificates"));
        // Agents wait before they come back, the gateway does not.
        assert_eq!(left().await, ["gateway", "operator"]);
        let wrong = operator.revoke_sessions("gatway", "", "x").await.unwrap_err();
        assert!(wrong.starts_with("invalid: a role is one of agent, gateway, operator"), "{wrong}");
        let empty = operator.revoke_sessions("", "", "x").await.unwrap_err();
        assert!(empty.starts_with("invalid: name a role or an identity, or set `all`"), "{empty}");
        assert_eq!(left().await, ["gateway", "operator"]);
        let outcome = operator.revoke_all_sessions("all").await.unwrap();
        assert_eq!(outcome.sessions, 1, "our own session is left out");
        operator.status().await.unwrap();
    });
    let revoked = system.lmctl(&["revoke", "--all", "--identity", "n", "--reason", "lost laptop"]);
    revoked.expect_code(0);
    assert_eq!(revoked.stdout, "revoked all sessions of n: 0 capabilities ended\n");
    let revoked = system.lmctl(&["revoke", "--all", "--reason", "all go"]);
    revoked.expect_code(0);
    assert!(revoked.stdout.starts_with("revoked all sessions: "), "{}", revoked.stdout);
    system.lmctl(&["revoke", "--role", "agent", "--reason", "x"]).expect_code(2);
    system.lmctl(&["revoke", "c1", "--all", "--reason", "x"]).expect_code(2);
}

#[test]
fn an_agent_whose_session_is_revoked_says_why_and_loses_nothing() {
    let mut system = System::new(&["a"]);
    system.start();
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(50);
    let outcome = as_operator(&system, async |operator| {
        let sessions = operator.sessions().await?;
        let of_agent = sessions.iter().find(|session| session.identity == "a").unwrap();
        operator.revoke(Target::Session(of_agent.id), "moving to another rack").await
    });
    assert_eq!((outcome.was_found, outcome.sessions), (true, 1));
    wait_for_log(|| system.agents[0].process.log_text(), "revoked: moving to another rack");
    writer.write(50);
    restart_agent(&mut system);
    expect_lines(&system.api, "a", writer.written(), SOON);
    let (stored, lost) = system.api.account("a", "logs").unwrap();
    assert_eq!((stored, lost.len()), (writer.written(), 0), "{lost:?}");
}

#[test]
fn a_denied_agent_stays_out_over_restarts_and_keeps_its_queue() {
    let mut system = System::new(&["a"]);
    system.start();
    let mut writer = LineWriter::new(&system.agents[0].logs, 0);
    writer.write(20);
    expect_lines(&system.api, "a", 20, SOON);
    // The collector dies as soon as it has answered, before it could write
    // anything that it had not written yet.
    let config = MeshConfig { token: system.path("operator-token"), ..MeshConfig::of(&system, "a") };
    let collector = &mut system.collector;
    let outcome = block_on(async {
        let operator = OperatorSession::open(&config).await.unwrap();
        let outcome = operator.deny("a", "stolen\u{7}").await.unwrap();
        collector.kill();
        outcome
    });
    assert_eq!((outcome.was_found, outcome.sessions), (true, 1));
    system.collector.start();
    system.wait_ready();
    writer.write(30);
    restart_agent(&mut system);
    wait_for_log(|| system.agents[0].process.log_text(), "denied: stolen");
    let (sessions, denials) =
        as_operator(&system, async |operator| Ok((operator.sessions().await?, operator.denials().await?)));
    assert!(sessions.iter().all(|session| session.identity != "a"), "{sessions:?}");
    assert_eq!(denials.len(), 1);
    assert_eq!((&denials[0].identity[..], &denials[0].reason[..]), ("a", "stolen"));
    assert_eq!(denials[0].by, "operator");
    assert!(system.agents[0].process.is_running());
    // Soon: the gateway learns only now that its collector was another one.
    let stored = eventually("the account is told", SOON, || system.api.account("a", "logs"));
    assert_eq!(stored.0, 20);

    let allowed = as_operator(&system, async |operator| {
        Ok((operator.allow("a").await?, operator.allow("a").await?, operator.denials().await?.len()))
    });
    assert_eq!(allowed, (true, false, 0));
    restart_agent(&mut system);
    expect_lines(&system.api, "a", writer.written(), SOON);
    let (stored, lost) = system.api.account("a", "logs").unwrap();
    assert_eq!((stored, lost.len()), (writer.written(), 0), "{lost:?}");
}

#[test]
fn a_denied_agent_is_cut_at_once() {
    let mut system = System::new(&["a"]);
    system.start();
    let outcome = as_operator(&system, async |operator| operator.deny("a", "for now").await);
    assert_eq!((outcome.was_found, outcome.sessions, outcome.capabilities), (true, 1, 2));
    wait_for_log(|| system.agents[0].process.log_text(), "denied: for now");
    as_operator(&system, async |operator| operator.allow("a").await);
}

#[test]
fn a_denied_user_is_refused_at_the_gateway() {
    let mut system = System::new(&["a"]);
    system.start();
    let reader = as_operator(&system, async |operator| {
        let all = operator.capabilities(&CapabilityFilter::default()).await?;
        Ok(all.into_iter().find(|capability| capability.interface == "Reader").unwrap())
    });
    let path = "/api/v1/labels";
    assert_eq!(system.api.get(path).unwrap().status, 200);
    let outcome = as_operator(&system, async |operator| operator.deny(&reader.holder, "has left").await);
    assert_eq!((outcome.sessions, outcome.capabilities), (0, 1), "his reader, not the gateway");
    // The gateway remembers the exchange: what it remembers is worth nothing.
    for _ in 0..2 {
        let response = system.api.get(path).unwrap();
        assert_eq!(response.status, 401, "{response:?}");
        assert!(response.body.contains("denied: has left"), "{response:?}");
    }
    as_operator(&system, async |operator| operator.allow(&reader.holder).await);
    eventually("he is let in again", SOON, || {
        let response = system.api.get(path)?;
        if response.status == 200 { Ok(()) } else { Err(format!("{response:?}")) }
    });
}

#[test]
fn an_operator_cannot_lock_itself_out_or_deny_nonsense() {
    let mut system = System::new(&[]);
    system.collector.start();
    system.wait_collector();
    as_operator(&system, async |operator| {
        let own = operator.deny("operator", "oops").await.unwrap_err();
        assert!(own.starts_with("invalid: that is your own identity"), "{own}");
        for identity in ["", "a b", "../etc", &"x".repeat(129), "ä"] {
            let error = operator.deny(identity, "").await.unwrap_err();
            assert!(error.starts_with("invalid:"), "{identity:?}: {error}");
        }
        assert_eq!(operator.denials().await?, []);
        // An identity that nobody has yet can be kept out before it comes.
        let outcome = operator.deny("not-yet", "").await?;
        assert_eq!((outcome.was_found, outcome.sessions), (true, 0));
        assert!(operator.allow("not-yet").await?);
        Ok(())
    });
}

/// What one agent's pushes came to.
#[derive(Default)]
struct Pushed {
    acknowledged: u64,
    /// Refused, or cut off without an answer.
    refused: u64,
    unanswered: u64,
}

/// Pushes batches of one line until it was revoked `times` times.
async fn push_until_revoked(config: &MeshConfig, ordinal: u64, times: u32) -> Pushed {
    let mut maker = BatchMaker::new(ordinal);
    let mut pushed = Pushed::default();
    let mut batches = Vec::new();
    for _ in 0..times {
        let Ok(session) = MeshSession::open(config, &maker.held()).await else {
            // Revoked between login and sink.
            continue;
        };
        loop {
            // Four at a time, as an agent does.
            let next = pushed.acknowledged as usize;
            while batches.len() < next + 4 {
                let line = format!("p=0 n={}", batches.len());
                let now = unix_nano();
                batches.push(maker.lines(&[("job", "t")], [(now, &line[..])]));
            }
            let [a, b, c, d] = [0, 1, 2, 3].map(|index| session.push(&batches[next + index]));
            let answers = tokio::join!(a, b, c, d);
            let mut is_revoked = false;
            for answer in [answers.0, answers.1, answers.2, answers.3] {
                match answer {
                    Ok(receipt) => match receipt.outcome {
                        // A duplicate was stored when its connection was lost.
                        Outcome::Durable | Outcome::Duplicate => {
                            pushed.acknowledged = pushed.acknowledged.max(receipt.durable_end);
                        }
                        other => assert!(is_revoked, "{other:?} although all before it are stored"),
                    },
                    Err(error) => {
                        is_revoked = true;
                        match code_of(&error) {
                            words if words.starts_with("revoked:") => pushed.refused += 1,
                            _ => pushed.unanswered += 1,
                        }
                    }
                }
            }
            if is_revoked {
                break;
            }
        }
    }
    pushed
}

#[test]
fn a_push_that_meets_a_revocation_is_stored_and_acknowledged_or_neither() {
    const AGENTS: usize = 4;
    const TIMES: u32 = 12;
    let names: Vec<String> = (0..AGENTS).map(|index| format!("m{index}")).collect();
    let all: Vec<&str> = names.iter().map(|name| &name[..]).collect();
    let mut system = System::with(system_options(&[], &all));
    system.start();
    let seed = std::env::var("LM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| unix_nano() as u64);
    eprintln!("LM_SEED={seed}");
    let mut random = Random::new(seed);
    let config = |name: &str| MeshConfig::of(&system, name);
    let pushed: Vec<Pushed> = block_on(async {
        let operator = MeshConfig { token: system.path("operator-token"), ..config("m0") };
        let operator = OperatorSession::open(&operator).await.unwrap();
        let pushing: Vec<_> = names
            .iter()
            .map(|name| {
                let config = config(name);
                tokio::task::spawn_local(async move { push_until_revoked(&config, 1, TIMES).await })
            })
            .collect();
        while !pushing.iter().all(|pushing| pushing.is_finished()) {
            tokio::time::sleep(Duration::from_micros(random.between(0, 20_000))).await;
            let name = &names[random.between(0, AGENTS as u64) as usize];
            // Sinks by themselves, and whole sessions.
            if random.percent(70) {
                if let Ok(sink) = capability(&operator, "BatchSink", name).await {
                    operator.revoke(Target::Capability(sink), "chance").await.unwrap();
                }
            } else if let Some(session) =
                operator.sessions().await.unwrap().iter().find(|session| session.identity == *name)
            {
                operator.revoke(Target::Session(session.id), "chance").await.unwrap();
            }
        }
        let mut all = Vec::new();
        for pushing in pushing {
            all.push(pushing.await.unwrap());
        }
        all
    });
    for (name, pushed) in names.iter().zip(&pushed) {
        let Pushed { acknowledged, refused, unanswered } = *pushed;
        eprintln!("{name}: {acknowledged} acknowledged, {refused} refused, {unanswered} unanswered");
        let (stored, lost) = system.api.account(name, "logs").unwrap();
        // Without an answer one cannot know; but not more than those.
        assert!((acknowledged..=acknowledged + unanswered).contains(&stored), "{name}: {stored} are stored");
        assert!(lost.is_empty(), "{name}: {lost:?}");
        let found = system.api.all_lines(&format!("{{instance=\"{name}\"}}"), "p=0").unwrap();
        let mut numbers: Vec<_> = found.iter().map(|line| line.line.clone()).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!((found.len() as u64, numbers.len() as u64), (stored, stored), "{name}: lines are doubled");
    }
    let refused: u64 = pushed.iter().map(|pushed| pushed.refused).sum();
    assert!(refused > 0, "no revocation met a push");
}
