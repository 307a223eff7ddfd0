//! Peers that mean harm, against the real collector. Each attack is repeated
//! while an honest agent measures its acknowledgements; `lm_tests::hostile`
//! says what is demanded. Growth of a peer's session may be 16 MiB; what is
//! refused outright may cost 4 MiB or less.
//!
//! The allocator keeps arenas and the tables of closed connections for a
//! while, so even an attack that is refused at once shows a few MiB.

#[path = "hostile/crafted.rs"]
mod crafted;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lm_mesh::CloseCode;
use lm_schema::mesh_capnp::{agent_session, user_gate};
use lm_schema::operator_capnp::{operator, tap};
use lm_tests::System;
use lm_tests::hostile::fuzz::{Fuzz, Subject, run};
use lm_tests::hostile::initial::{Flooded, Initial, flood};
use lm_tests::hostile::wire::{self, Descriptor, RawStruct, Said, Target};
use lm_tests::hostile::{Bounds, Channel, Ended, Peer, Siege, Transport, alone, client_config, siege};
use lm_tests::random::Random;

/// How soon a peer is cut that has broken a bound.
const CUT_WITHIN: Duration = Duration::from_secs(3);
/// How long it may take to break a bound with all that is sent.
const PRESSED_WITHIN: Duration = Duration::from_secs(15);
/// Words of 60 MiB.
const CLAIM: u32 = 60 << 17;
/// What the many calls carry.
const LUGGAGE_WORDS: usize = 512;
/// What refusing outright may cost.
const REFUSED: Bounds = Bounds { growth_mib: 4, left_mib: 4, panics: 0 };
/// One session at its worst.
const SESSION: Bounds = Bounds { growth_mib: 16, left_mib: 16, panics: 0 };

fn token(system: &System, file: &str) -> String {
    std::fs::read_to_string(system.path(file)).unwrap().trim().to_owned()
}

fn agent_token(system: &System, index: usize) -> String {
    token(system, &format!("token-a{index}"))
}

/// Demands that the collector ends a connection for a bound that it broke.
async fn expect_cut(peer: &Peer) -> Result<(), String> {
    let ended = peer.ended(CUT_WITHIN).await.ok_or(format!("not cut within {CUT_WITHIN:?}"))?;
    expect_limit(&ended)
}

/// Demands that the reason is a bound, and says which.
fn expect_limit(ended: &Ended) -> Result<(), String> {
    let is_limit = ended.code == Some(CloseCode::Limit as u64)
        && ["limit: ", "invalid: "].iter().any(|code| ended.reason.starts_with(code));
    if is_limit { Ok(()) } else { Err(format!("cut for another reason: {ended:?}")) }
}

/// Sends until everything is sent or the connection is gone.
async fn send_all(channel: &mut Channel, messages: impl IntoIterator<Item = Vec<u8>>) {
    for message in messages {
        if channel.send(&message).await.is_err() {
            return;
        }
    }
}

/// Sends everything while it reads whatever comes, until a last question is
/// answered or the peer is cut: then, why.
async fn press(
    peer: &Peer,
    channel: &mut Channel,
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> Result<Option<Ended>, String> {
    const LAST: u32 = u32::MAX - 1;
    let Channel { send, receive, .. } = channel;
    let last = std::iter::once(wire::bootstrap(LAST));
    let sending = async {
        for message in messages.into_iter().chain(last) {
            if send.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let answered = async {
        loop {
            match Channel::receive_from(receive).await {
                Ok(Said::Results { question: LAST, .. }) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    let pressing = async { tokio::join!(sending, answered).1 };
    match tokio::time::timeout(PRESSED_WITHIN, pressing).await {
        Ok(true) => Ok(None),
        Ok(false) => {
            let ended = peer.ended(CUT_WITHIN).await;
            ended.map(Some).ok_or("the stream has ended, the connection goes on".to_owned())
        }
        Err(_) => Err(format!("neither answered nor cut within {PRESSED_WITHIN:?}")),
    }
}

/// As [`press`], where a bound must be broken.
async fn press_until_cut(
    peer: &Peer,
    channel: &mut Channel,
    messages: impl IntoIterator<Item = Vec<u8>>,
) -> Result<(), String> {
    match press(peer, channel, messages).await? {
        Some(ended) => expect_limit(&ended),
        None => Err("all of it was let in".to_owned()),
    }
}

/// Parameters of any method that carry what it does not look at.
fn luggage() -> RawStruct {
    RawStruct { data: LUGGAGE_WORDS as u16, pointers: 0, words: vec![7; LUGGAGE_WORDS] }
}

#[test]
fn silent_claims_before_login() {
    siege("50 claims of 60 MiB before login", &Siege::default(), REFUSED, async |_, attacker| {
        let mut peers = Vec::new();
        for _ in 0..50 {
            let peer = attacker.connect().await?;
            let mut control = peer.open().await?;
            control.send(&wire::table(&[CLAIM])).await?;
            peers.push((peer, control));
        }
        for (peer, _) in &peers {
            expect_cut(peer).await?;
        }
        Ok(())
    });
}

#[test]
fn silent_claims_on_bulk() {
    // 50 sessions of 0.3 MiB: keys, windows, tables and capabilities of each.
    let bounds = Bounds { growth_mib: 16, left_mib: 16, panics: 0 };
    siege("50 claims of 60 MiB on bulk", &Siege::tokens(50), bounds, async |system, attacker| {
        let mut peers = Vec::new();
        for index in 0..50 {
            let (peer, control, mut bulk) =
                attacker.attach(&agent_token(system, index), wire::BULK_TICKET).await?;
            bulk.send(&wire::table(&[CLAIM])).await?;
            peers.push((peer, control, bulk));
        }
        for (peer, ..) in &peers {
            expect_cut(peer).await?;
        }
        Ok(())
    });
}

/// Claims that are within the bounds, with little behind them: they may stay,
/// and cost what they have sent.
#[test]
fn silent_claims_that_are_allowed() {
    siege("40 messages of 4 MiB that do not go on", &Siege::tokens(40), SESSION, async |system, attacker| {
        let mut peers = Vec::new();
        for index in 0..40 {
            let (peer, control, mut bulk) =
                attacker.attach(&agent_token(system, index), wire::BULK_TICKET).await?;
            bulk.send(&wire::table(&[4 << 17])).await?;
            bulk.send(&[0; 4 << 10]).await?;
            peers.push((peer, control, bulk));
        }
        // For as long as this takes, all of them claim.
        let (peer, control, _) = &peers[0];
        assert!(peer.ended(Duration::from_secs(1)).await.is_none(), "{:?} was cut", control.target());
        Ok(())
    });
}

/// The same with everything behind them but the last byte: the budget of the
/// process, two stream windows each, and one session's worth of the rest.
#[test]
fn messages_without_their_last_byte() {
    let most = 64 + 16 * 2 + 16;
    // The allocator keeps arenas that it may use again: what a second round
    // costs is seen in the first bound.
    let bounds = Bounds { growth_mib: most, left_mib: most, panics: 0 };
    siege(
        "16 messages of 4 MiB without their last byte",
        &Siege::tokens(16),
        bounds,
        async |system, attacker| {
            let mut peers = Vec::new();
            for index in 0..16 {
                let (peer, control, mut bulk) =
                    attacker.attach(&agent_token(system, index), wire::BULK_TICKET).await?;
                bulk.send(&wire::table(&[4 << 17])).await?;
                let mut body = vec![0; 1 << 20];
                body.resize((4 << 20) - 1, 0);
                let sending = tokio::task::spawn_local(async move {
                    let _ = bulk.send.write_all(&body).await;
                    bulk
                });
                peers.push((peer, control, sending));
            }
            let held = tokio::time::timeout(Duration::from_secs(2), async {
                for (peer, ..) in &peers {
                    peer.ended(Duration::from_secs(2)).await;
                }
            });
            let _ = held.await;
            for (peer, _, sending) in peers {
                peer.close();
                let _ = sending.await;
            }
            Ok(())
        },
    );
}

/// What has no capabilities in its results is forgotten once it is answered,
/// finished or not; so this may all be let in, and must cost nothing.
#[test]
fn calls_that_never_finish() {
    siege("20,000 calls that never finish", &Siege::tokens(1), SESSION, async |system, attacker| {
        let (peer, mut control) = attacker.log_in(&agent_token(system, 0)).await?;
        let target = control.target();
        let calls =
            (100..20_100).map(|question| wire::raw_call(question, &target, wire::HEARTBEAT, &luggage()));
        press(&peer, &mut control, calls).await.map(drop)
    });
}

#[test]
fn calls_that_never_finish_on_bulk() {
    siege("20,000 pushes that never finish", &Siege::tokens(1), SESSION, async |system, attacker| {
        let (peer, _control, mut bulk) = attacker.attach(&agent_token(system, 0), wire::BULK_TICKET).await?;
        let target = bulk.target();
        let calls = (100..20_100).map(|question| wire::raw_call(question, &target, wire::PUSH, &luggage()));
        press(&peer, &mut bulk, calls).await.map(drop)
    });
}

/// Long polls: calls that the collector itself does not finish. Most are
/// answered `overloaded:`.
#[test]
fn long_polls_that_never_finish() {
    siege("20,000 long polls", &Siege::default(), SESSION, async |system, attacker| {
        let (peer, mut control) = attacker.log_in(&token(system, "operator-token")).await?;
        let question = control.ask();
        let target = control.target();
        control
            .send(&wire::call(question, &target, wire::TAP, |payload| {
                let params = payload.get_content().init_as::<operator::tap_params::Builder<'_>>();
                // A session that there is not: it will wait for ever.
                params.init_filter().set_session(u64::MAX);
            }))
            .await?;
        let target = Target::Import(control.capability_of(question).await?);
        let calls = (100..20_100).map(|question| {
            wire::call(question, &target, wire::NEXT_CALLS, |payload| {
                let mut params = payload.get_content().init_as::<tap::next_params::Builder<'_>>();
                params.set_wait_ms(60_000);
                params.set_limit(1);
            })
        });
        press(&peer, &mut control, calls).await.map(drop)
    });
}

/// Readers for a user, each kept: as a gateway that has been taken over.
#[test]
fn capabilities_never_released() {
    siege("40,000 capabilities never released", &Siege::default(), SESSION, async |system, attacker| {
        let (peer, _control, mut users) =
            attacker.attach(&token(system, "gateway-token"), wire::QUERY_TICKET).await?;
        let (target, user) = (users.target(), token(system, "query-token"));
        let mut kept = 0;
        'kept: while kept < 40_000 {
            let questions: Vec<u32> = (0..100).map(|_| users.ask()).collect();
            let mut calls = Vec::new();
            for question in &questions {
                calls.extend(wire::call(*question, &target, wire::AUTHENTICATE, |payload| {
                    let params =
                        payload.get_content().init_as::<user_gate::authenticate_params::Builder<'_>>();
                    params.init_credential().set_bearer(&user[..]);
                }));
            }
            let _ = users.send(&calls).await;
            // In any order; each is finished, and what it gave is kept.
            for _ in &questions {
                let Ok(said) = users.receive().await else { break 'kept };
                if let Said::Results { question, exports, .. } = said {
                    kept += exports.len();
                    let _ = users.send(&wire::finish(question, false)).await;
                }
            }
        }
        expect_cut(&peer).await
    });
}

/// Bootstraps before login, and capabilities of ours in the tables of calls.
#[test]
fn references_without_end() {
    siege("40,000 references", &Siege::tokens(1), SESSION, async |system, attacker| {
        let peer = attacker.connect().await?;
        let mut control = peer.open().await?;
        let asks =
            (0..40_000).flat_map(|question| [wire::bootstrap(question), wire::finish(question, false)]);
        press_until_cut(&peer, &mut control, asks).await?;

        let (peer, mut control) = attacker.log_in(&agent_token(system, 0)).await?;
        let target = control.target();
        let calls = (0..40u32).map(|call| {
            wire::call(100 + call, &target, wire::HEARTBEAT, |payload| {
                let ours: Vec<_> = (0..1000).map(|id| Descriptor::SenderHosted(call * 1000 + id)).collect();
                wire::write_table(&ours, payload);
            })
        });
        press_until_cut(&peer, &mut control, calls).await
    });
}

/// Answers that pile up: the collector stops reading, and the attacker stands.
#[test]
fn returns_never_read() {
    let narrow = Siege { transport: Transport::Narrow, ..Siege::tokens(1) };
    // Of two sessions.
    let bounds = Bounds { growth_mib: 32, left_mib: 32, panics: 0 };
    siege("returns never read", &narrow, bounds, async |system, attacker| {
        let (agent, mut control) = attacker.log_in(&agent_token(system, 0)).await?;
        let target = control.target();
        let (operator, mut inspection) = attacker.log_in(&token(system, "operator-token")).await?;
        let of_operator = inspection.target();
        let pressing = async {
            tokio::join!(
                send_all(
                    &mut control,
                    (100..40_100).flat_map(|question| [
                        wire::empty_call(question, &target, wire::HEARTBEAT),
                        wire::finish(question, true)
                    ])
                ),
                // Each asks for the whole schema.
                send_all(
                    &mut inspection,
                    (100..4100).map(|question| wire::empty_call(question, &of_operator, wire::DESCRIBE))
                )
            )
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), pressing).await;
        drop((agent, operator));
        Ok(())
    });
}

/// Calls on the answers of calls on the answers of calls.
#[test]
fn pipelines_without_end() {
    siege("20,000 calls on each other's answers", &Siege::tokens(1), SESSION, async |system, attacker| {
        let peer = attacker.connect().await?;
        let mut control = peer.open().await?;
        let chain = (1..20_000)
            .map(|question| wire::empty_call(question, &Target::Answer(question - 1, vec![0]), wire::LOGIN));
        press_until_cut(&peer, &mut control, std::iter::once(wire::bootstrap(0)).chain(chain)).await?;

        // Through the tables, and with many steps each.
        let (peer, mut control) = attacker.log_in(&agent_token(system, 0)).await?;
        let target = control.target();
        let chain = (100..20_100).map(|question: u32| {
            wire::call(question, &target, wire::BULK_TICKET, |payload| {
                let steps = vec![0; 1 + (question % 40) as usize];
                wire::write_table(&[Descriptor::ReceiverAnswer(question - 1, steps)], payload);
            })
        });
        press_until_cut(&peer, &mut control, chain).await
    });
}

#[test]
fn crafted_messages() {
    siege("crafted messages", &Siege::tokens(1), REFUSED, async |system, attacker| {
        let agent = agent_token(system, 0);
        for (name, raw) in crafted::parameters() {
            let of = |why: String| format!("{name}: {why}");
            let peer = attacker.connect().await?;
            let mut control = peer.open().await?;
            control.root = control.bootstrap().await?;
            let call = wire::raw_call(100, &control.target(), wire::LOGIN, &raw);
            expect_refusal(&peer, &mut control, &call).await.map_err(of)?;

            let (peer, mut control) = attacker.log_in(&agent).await?;
            let call = wire::raw_call(100, &control.target(), wire::HEARTBEAT, &raw);
            expect_refusal(&peer, &mut control, &call).await.map_err(of)?;

            for method in [wire::PUSH, wire::DEFINE] {
                let (peer, _control, mut bulk) = attacker.attach(&agent, wire::BULK_TICKET).await?;
                let call = wire::raw_call(100, &bulk.target(), method, &raw);
                expect_refusal(&peer, &mut bulk, &call).await.map_err(of)?;
            }
        }
        Ok(())
    });
}

#[test]
fn frames_that_are_none() {
    siege("frames that are none", &Siege::tokens(1), REFUSED, async |system, attacker| {
        for (name, bytes) in crafted::frames() {
            let of = |why: String| format!("{name}: {why}");
            let peer = attacker.connect().await?;
            let mut control = peer.open().await?;
            let _ = control.send(&bytes).await;
            expect_cut(&peer).await.map_err(of)?;
            let (peer, _control, mut bulk) =
                attacker.attach(&agent_token(system, 0), wire::BULK_TICKET).await?;
            let _ = bulk.send(&bytes).await;
            expect_cut(&peer).await.map_err(of)?;
        }
        Ok(())
    });
}

/// Demands that a call gets an answer of any kind, or the peer is cut.
async fn expect_refusal(peer: &Peer, channel: &mut Channel, call: &[u8]) -> Result<(), String> {
    let began = Instant::now();
    let _ = channel.send(call).await;
    tokio::select! {
        _ = channel.answer_to(100) => {}
        ended = peer.ended(CUT_WITHIN) => { ended.ok_or("no answer")?; }
    }
    // The exact bound of a refusal is a millisecond; the rest is the machine.
    let took = began.elapsed();
    if took > Duration::from_secs(1) { Err(format!("took {took:?}")) } else { Ok(()) }
}

/// Strangers that say nothing, begin a message, or claim what they may.
#[test]
fn login_never_sent() {
    // 150 connections of some 60 KiB.
    let bounds = Bounds { growth_mib: 16, left_mib: 16, panics: 0 };
    siege("150 peers that never log in", &Siege::default(), bounds, async |_, attacker| {
        let mut peers = Vec::new();
        for index in 0..150 {
            let peer = attacker.connect().await?;
            let mut control = peer.open().await?;
            match index % 5 {
                0 => control.send(&[0; 3]).await?,
                1 => control.send(&wire::table(&[60 << 7])).await?,
                2 => control.send(&wire::bootstrap(0)).await?,
                // Never seen: nothing is sent on it.
                3 => {}
                _ => {
                    control.send(&wire::table(&[60 << 7])).await?;
                    control.send(&[0; 32 << 10]).await?;
                }
            }
            peers.push((peer, control));
        }
        for (peer, _) in &peers {
            let ended = peer.ended(Duration::from_secs(7)).await.ok_or("a stranger may stay for 7 s")?;
            if ended.code != Some(CloseCode::LoginTimeout as u64) {
                return Err(format!("{ended:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn half_open_handshakes() {
    let bounds = Bounds { growth_mib: 24, left_mib: 24, panics: 0 };
    let seed = AtomicBool::new(false);
    siege("5,000 half-open handshakes", &Siege::default(), bounds, async |system, _| {
        let config = client_config(&system.path("ca.pem"), Transport::Usual)?;
        let initial = Initial::capture(config).await?;
        let mut random = Random::new(if seed.swap(true, Ordering::Relaxed) { 2 } else { 1 });
        let flooded = flood(&initial, system.mesh_addr(), 5000, 5000, &mut random).await;
        let Flooded { sent_bytes, received_bytes } = flooded.map_err(|error| error.to_string())?;
        // The protocol's own bound for an address that was not proven.
        if received_bytes > 3 * sent_bytes {
            return Err(format!("{received_bytes} bytes for {sent_bytes}"));
        }
        if received_bytes == 0 {
            return Err("no handshake was answered: the packets are no good".to_owned());
        }
        Ok(())
    });
}

#[test]
fn stream_flood() {
    siege("5,000 streams", &Siege::tokens(1), SESSION, async |system, attacker| {
        let (peer, _control) = attacker.log_in(&agent_token(system, 0)).await?;
        let message = wire::bootstrap(0);
        let opening = async {
            for index in 0..5000 {
                // A wait for the server's leave to open one is the bound at work.
                let Ok(mut stream) = peer.open().await else { return };
                let length = [1, 7, 8, message.len()][index % 4];
                if stream.send(&message[..length]).await.is_err() {
                    return;
                }
                let _ = stream.send.reset(quinn::VarInt::from_u32(0));
                let _ = stream.receive.stop(quinn::VarInt::from_u32(0));
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), opening).await;
        Ok(())
    });
}

#[test]
fn a_panic_costs_one_session() {
    let Some(bin_dir) = std::env::var_os("LM_MUTANTS_BIN_DIR") else {
        println!(
            "SKIPPED a panic in a handler: LM_MUTANTS_BIN_DIR names no build with the feature `mutants`"
        );
        assert!(std::env::var_os("LM_REQUIRE_ALL").is_none(), "required by LM_REQUIRE_ALL");
        return;
    };
    let mutant = Siege {
        bin_dir: Some(bin_dir.into()),
        // A backtrace would read all symbols of a test build: 60 MiB.
        env: [("LM_MUTANT", "panic_in_heartbeat"), ("RUST_BACKTRACE", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Siege::tokens(2)
    };
    let has_panicked = AtomicBool::new(false);
    let bounds = Bounds { panics: 1, ..SESSION };
    siege("a panic in a handler", &mutant, bounds, async |system, attacker| {
        let (bystander, _control, _bulk) =
            attacker.attach(&agent_token(system, 1), wire::BULK_TICKET).await?;
        if !has_panicked.swap(true, Ordering::Relaxed) {
            let (peer, mut control) = attacker.log_in(&agent_token(system, 0)).await?;
            let call = wire::call(100, &control.target(), wire::HEARTBEAT, |payload| {
                payload.get_content().init_as::<agent_session::heartbeat_params::Builder<'_>>().init_facts();
            });
            control.send(&call).await?;
            let ended = peer.ended(CUT_WITHIN).await.ok_or("the session outlives a panic")?;
            if ended.code != Some(CloseCode::Internal as u64) {
                return Err(format!("{ended:?}"));
            }
        }
        if let Some(ended) = bystander.ended(Duration::from_millis(500)).await {
            return Err(format!("a bystander's session: {ended:?}"));
        }
        Ok(())
    });
}

/// What the fuzzers have found worth keeping; `scripts/faults` looks for more.
#[test]
fn corpora_are_replayed() {
    let _alone = alone();
    for subject in [Subject::Mesh, Subject::Login] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(subject.name());
        let fuzz = Fuzz { subject, seed: 0, corpus, grows: false, time: Duration::ZERO };
        let report = run(&fuzz).unwrap_or_else(|failure| panic!("{failure:?}"));
        println!("{}: {} inputs, {} kinds of answers", subject.name(), report.executed, report.answers.len());
        assert!(report.executed > 0, "the corpus is empty");
    }
}
