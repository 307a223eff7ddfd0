//! Clients that leave before their answer, by the thousand.

use std::time::Duration;

use lm_mesh::MeshLimits;
use lm_schema::query_capnp::ResultType;

use crate::support::{ALICE, Said, World};

const QUICK: Duration = Duration::from_secs(20);
/// Instead of 65,536.
const CANCELLED_MAX: usize = 256;
const LEAVERS: usize = 4 * CANCELLED_MAX;
/// As many leave at a time; the gateway passes on 64 queries at a time.
const AT_ONCE: usize = 32;

/// capnp-rpc keeps a slot for each cancelled call, and the collector ends the
/// session of a peer that has too many of them.
#[tokio::test]
async fn clients_that_leave_do_not_hurt_others() {
    let mut limits = MeshLimits::default();
    limits.query.cancelled_max = CANCELLED_MAX;
    let world = World::bounded("", limits).await;
    world.script.say("hangs", Said::Hangs);
    let row = (vec![("a", "1")], vec![(1_000, 1.0)], false);
    world.script.say("up", Said::Rows(ResultType::Vector, vec![vec![row]], vec![]));
    let first = world.registry.sessions()[0].id;
    let mut live = world.live("", "").await;
    assert_eq!(live.event().await.unwrap(), "retry: 1000\n");

    let asked = || world.script.asked.lock().unwrap().iter().filter(|asked| *asked == "hangs").count();
    for round in 0..LEAVERS / AT_ONCE {
        let request = format!(
            "GET /api/v1/query?query=hangs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ALICE}\r\n\r\n"
        );
        let mut leavers = Vec::new();
        for _ in 0..AT_ONCE {
            leavers.push(world.open(&request).await);
        }
        let deadline = tokio::time::Instant::now() + QUICK;
        while asked() < (round + 1) * AT_ONCE {
            assert!(tokio::time::Instant::now() < deadline, "{} of {} were asked", asked(), round * AT_ONCE);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(leavers);
        let honest = world.get("/api/v1/query?query=up&time=1").await;
        assert_eq!(honest.status, 200, "after {} leavers: {}", (round + 1) * AT_ONCE, honest.text());
        world.script.publish([(round as u64 + 1, format!("line {round}"))]);
        let event = live.event().await.expect("the live tail goes on");
        assert!(event.contains(&format!("line {round}")), "{event}");
    }

    let sessions: Vec<u64> = world.registry.sessions().iter().map(|session| session.id).collect();
    assert_eq!(sessions, [first], "one session all the time");
    let gates = || world.registry.ledger().count_by_interface().get("UserGate").copied().unwrap_or(0);
    let deadline = tokio::time::Instant::now() + QUICK;
    while gates() != 1 {
        assert!(tokio::time::Instant::now() < deadline, "{} streams are open", gates());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (granted, _) = world.registry.ledger().capabilities(0, 100, |facts| facts.interface == "UserGate");
    assert!(granted[0].id > 5, "it is not the first one: {granted:?}");
}
