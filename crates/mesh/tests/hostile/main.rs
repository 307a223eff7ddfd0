//! A peer with a valid token and no manners, speaking RPC by hand over real
//! QUIC: each test breaks one bound, expects to be told which, and that nobody
//! else noticed.

mod bench;
#[path = "../support/place.rs"]
mod place;
#[path = "../support/trusting.rs"]
mod trusting;
mod wire;

use std::time::Duration;

use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::message;
use lm_mesh::MeshLimits;
use lm_schema::mesh_capnp::agent_session;

use bench::run;
use place::eventually;
use wire::{Target, Wire, bootstrap, finish, rpc};

#[test]
fn a_claim_that_is_too_large_ends_the_session_at_once() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"hang")).await;
        eventually("a push hangs", || bench.alive() == 1).await;
        // 60 MiB.
        bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x78, 0]).await.unwrap();
        hostile.ended_because("limit: 62914560 bytes in a message (at most 4259840)").await;
        // capnp-rpc alone would keep the push for ever.
        eventually("the push is dropped", || bench.alive() == 0).await;
        eventually("its memory is back", || bench.server.registry().budget().used_bytes() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn before_login_a_message_is_small() {
    run(MeshLimits::default(), async |bench| {
        let (_endpoint, connection) = bench.connection().await;
        let mut control = Wire::open(&connection).await;
        control.send(&control.push(0, Target::Answer(0), &[0; 70_000])).await;
        let reason = connection.closed().await.to_string();
        assert!(reason.contains("bytes in a message (at most 65536)"), "{reason}");
        bench.others_are_fine().await;
    });
}

#[test]
fn silent_claims_hold_one_step_each() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let mut streams = Vec::new();
        for id in 2..5 {
            let (mut bulk, _) = hostile.bulk(id).await;
            // 4 MiB, of which one word arrives.
            bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x08, 0, 1, 1, 1, 1, 1, 1, 1, 1]).await.unwrap();
            streams.push(bulk);
        }
        let held = || bench.session().meter().facts().budget_bytes;
        eventually("the claims are being read", || held() == 3 * (64 << 10)).await;
        bench.others_are_fine().await;
        assert_eq!(held(), 3 * (64 << 10));
        drop((streams, hostile));
        eventually("the budget is back", || bench.server.registry().budget().used_bytes() == 0).await;
    });
}

/// All of the budget that one session may have, in messages that never end.
#[test]
fn messages_that_do_not_end_keep_nobody_waiting() {
    let limits = MeshLimits { ingest_bytes_max: 12 << 20, ..MeshLimits::default() };
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let mut streams = Vec::new();
        for id in 2..5 {
            let (mut bulk, _) = hostile.bulk(id).await;
            // 4 MiB, of which the last byte does not arrive.
            bulk.send.write_all(&[0, 0, 0, 0, 0, 0, 0x08, 0]).await.unwrap();
            streams.push(tokio::task::spawn_local(async move {
                let _ = bulk.send.write_all(&vec![0; (4 << 20) - 1]).await;
                bulk
            }));
        }
        let budget = bench.server.registry().budget().clone();
        eventually("the budget is taken", || budget.waits() > 0).await;
        // What most batches are.
        bench.others_push(&[10, 100_000, 200_000], Duration::from_millis(500)).await;
        // More than an allowance: somebody has to go.
        bench.others_push(&[900_000], Duration::from_secs(5)).await;
        hostile.ended_because("bytes that comes too slowly while others wait").await;
        eventually("the budget is back", || budget.used_bytes() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn calls_that_are_never_finished_end_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        // Answered with an error, which waits for its Finish. Two are open:
        // bootstrap and login.
        for id in 0..1023 {
            let agent = Target::Import(hostile.agent);
            let call = hostile.control.call(id + 2, agent, agent_session::Client::TYPE_ID, 99, |_| {});
            hostile.control.send(&call).await;
        }
        hostile.ended_because("limit: 1025 calls not finished (at most 1024)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn references_that_are_never_released_end_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        for id in 2..300 {
            hostile.control.send(&bootstrap(id)).await;
            hostile.control.send(&finish(id, false)).await;
        }
        hostile.ended_because("limit: 257 references not released (at most 256)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn on_bulk_too_many_calls_only_wait() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        for id in 2..100 {
            bulk.send(&bulk.push(id, sink.same(), b"hang")).await;
        }
        let facts = || bench.session().meter().facts();
        eventually("all that may be are under way", || bench.alive() == 64).await;
        eventually("reading waits", || facts().read_pauses == 1).await;
        assert_eq!(facts().calls_in_flight, 64);
        bench.others_are_fine().await;
        // Control is another stream: it answers.
        hostile.bulk(3).await;
        assert_eq!((facts().calls_in_flight, bench.alive()), (64, 64));
        drop((bulk, hostile));
        eventually("all are dropped", || bench.alive() == 0).await;
    });
}

#[test]
fn answers_that_are_not_read_stop_the_reading() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        // 64 KiB each: some fill QUIC's windows, the rest waits here.
        let flood = async {
            for id in 2..2000 {
                bulk.send(&bulk.push(id, sink.same(), b"talk")).await;
            }
            std::future::pending::<()>().await;
        };
        let session = bench.session();
        let paused = async {
            eventually("reading waits", || session.meter().facts().read_pauses > 0).await;
            bench.others_are_fine().await;
            let facts = session.meter().facts();
            assert!(facts.unsent_bytes < 1 << 20, "{facts:?}");
            assert!(facts.messages_in < 1000, "{facts:?}");
        };
        tokio::select! {
            () = flood => unreachable!("it never ends"),
            () = paused => {}
        }
    });
}

#[test]
fn more_unsent_than_ever_allowed_ends_the_session() {
    let mut limits = MeshLimits::default();
    limits.bulk.unsent_bytes_max = 50_000;
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"talk")).await;
        hostile.ended_because("bytes that are not read (at most 50000)").await;
        bench.others_are_fine().await;
    });
}

#[test]
fn noise_ends_the_session_and_nothing_else() {
    run(MeshLimits::default(), async |bench| {
        // A body from a small generator, then a table that is none. What
        // capnp-rpc refuses by itself ends only the stream.
        for seed in 1..40u64 {
            let mut hostile = bench.log_in().await;
            let (mut bulk, _) = hostile.bulk(2).await;
            let session = bench.session();
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut noise = vec![0, 0, 0, 0, 0x40, 0, 0, 0];
            for _ in 0..0x40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly small numbers, so that some pointers hold.
                let word = (state >> 33) & 0x0000_0003_0001_000f;
                noise.extend(word.to_le_bytes());
            }
            noise.extend([0xff; 64]);
            let _ = bulk.send.write_all(&noise).await;
            let rest = tokio::time::timeout(Duration::from_secs(10), bulk.receive.read_to_end(1 << 20));
            let _ = rest.await.expect("the stream goes on");
            eventually("nothing is held", || session.meter().facts().held_bytes == 0).await;
            hostile.connection.close(0u32.into(), b"");
        }
        bench.others_are_fine().await;
    });
}

#[test]
fn a_long_chain_of_calls_on_answers_ends_the_session() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink, b"hang")).await;
        for id in 3..60 {
            bulk.send(&bulk.push(id, Target::Answer(id - 1), b"hang")).await;
        }
        hostile.ended_because("limit: 17 calls that wait for each other (at most 16)").await;
        eventually("all are dropped", || bench.alive() == 0).await;
        bench.others_are_fine().await;
    });
}

#[test]
fn a_promise_that_resolves_to_itself_is_not_followed() {
    run(MeshLimits::default(), async |bench| {
        let mut hostile = bench.log_in().await;
        let agent = Target::Import(hostile.agent);
        let mut call = hostile.control.call(2, agent, agent_session::Client::TYPE_ID, 0, |_| {});
        let root: message::Builder<'_> = call.get_root().unwrap();
        let Ok(message::Call(Ok(body))) = root.which() else { panic!("not a call") };
        body.get_params().unwrap().init_cap_table(1).get(0).set_sender_promise(7);
        hostile.control.send(&call).await;
        let resolve = rpc(|root| {
            let mut resolve = root.init_resolve();
            resolve.set_promise_id(7);
            resolve.init_cap().set_sender_promise(7);
        });
        hostile.control.send(&resolve).await;
        hostile.ended_because("invalid: a promise where a capability is needed").await;
        bench.others_are_fine().await;
    });
}

/// Why cancelled calls have a bound of their own. When a new capnp-rpc answers
/// them, the bound can go.
#[test]
fn a_cancelled_call_is_dropped_and_never_answered() {
    let mut limits = MeshLimits::default();
    limits.bulk.cancelled_max = 100;
    run(limits, async |bench| {
        let mut hostile = bench.log_in().await;
        let (mut bulk, sink) = hostile.bulk(2).await;
        bulk.send(&bulk.push(2, sink.same(), b"hang")).await;
        eventually("it hangs", || bench.alive() == 1).await;
        bulk.send(&finish(2, true)).await;
        eventually("it is dropped", || bench.alive() == 0).await;
        bulk.send(&bulk.push(3, sink.same(), b"fine")).await;
        let first = capnp_futures::serialize::read_message(&mut bulk.receive, Default::default());
        let first = first.await.unwrap();
        let Ok(message::Return(Ok(returned))) = first.get_root::<message::Reader<'_>>().unwrap().which()
        else {
            panic!("not a return")
        };
        assert_eq!(returned.get_answer_id(), 3);
        for id in 4..200 {
            bulk.send(&bulk.push(id, sink.same(), b"hang")).await;
            bulk.send(&finish(id, true)).await;
        }
        hostile.ended_because("limit: 101 cancelled calls of one stream (at most 100)").await;
        bench.others_are_fine().await;
    });
}
