use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::message;

use super::super::MeshLimits;
use super::*;

type Message = Builder<HeapAllocator>;

fn message(build: impl FnOnce(message::Builder<'_>)) -> Message {
    let mut message = Builder::new_default();
    build(message.init_root());
    message
}

fn bootstrap(id: u32) -> Message {
    message(|root| root.init_bootstrap().set_question_id(id))
}

fn call(id: u32) -> Message {
    call_with(id, |_| {})
}

fn call_with(id: u32, more: impl FnOnce(call::Builder<'_>)) -> Message {
    message(|root| {
        let mut call = root.init_call();
        call.set_question_id(id);
        call.reborrow().init_target().set_imported_cap(0);
        call.reborrow().get_send_results_to().set_caller(());
        more(call);
    })
}

/// A call on the answer of `on`, `ops` steps into it.
fn pipelined(id: u32, on: u32, ops: u32) -> Message {
    call_with(id, |call| {
        let mut answer = call.init_target().init_promised_answer();
        answer.set_question_id(on);
        answer.init_transform(ops);
    })
}

/// A call with `count` capabilities of one kind in its parameters.
fn call_passing(id: u32, count: u32, describe: impl Fn(cap_descriptor::Builder<'_>)) -> Message {
    call_with(id, |call| {
        let mut table = call.init_params().init_cap_table(count);
        (0..count).for_each(|index| describe(table.reborrow().get(index)));
    })
}

fn finish(id: u32, releases: bool) -> Message {
    message(|root| {
        let mut finish = root.init_finish();
        finish.set_question_id(id);
        finish.set_release_result_caps(releases);
    })
}

fn release(id: u32, count: u32) -> Message {
    message(|root| {
        let mut release = root.init_release();
        release.set_id(id);
        release.set_reference_count(count);
    })
}

/// Our answer, with references to these objects of ours.
fn answer(id: u32, exports: &[u32]) -> Message {
    message(|root| {
        let mut returned = root.init_return();
        returned.set_answer_id(id);
        returned.set_no_finish_needed(exports.is_empty());
        let mut table = returned.init_results().init_cap_table(exports.len() as u32);
        for (index, export) in exports.iter().enumerate() {
            table.reborrow().get(index as u32).set_sender_hosted(*export);
        }
    })
}

struct Peer {
    tables: Tables,
    limits: StreamLimits,
    meter: Arc<Meter>,
}

fn peer() -> Peer {
    let meter = Arc::new(Meter::default());
    let limits =
        StreamLimits { questions_max: 4, cancelled_max: 3, exports_max: 5, ..MeshLimits::default().control };
    Peer { tables: Tables::new(Trust::Stranger, meter.clone()), limits, meter }
}

impl Peer {
    /// The peer's message: what is said of it.
    fn sends(&mut self, message: Message) -> String {
        words(self.tables.handle_incoming(message.get_root_as_reader().unwrap(), &self.limits))
    }

    fn gets(&mut self, message: Message) -> String {
        words(self.tables.handle_outgoing(message.get_root_as_reader().unwrap(), &self.limits))
    }

    /// Questions, calls in flight, references.
    fn holds(&self) -> (u64, u64, u64) {
        let facts = self.meter.facts();
        assert_eq!(facts.questions as usize, self.tables.questions());
        (facts.questions, facts.calls_in_flight, facts.exports)
    }
}

fn words<T>(result: Result<T, Refused>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(Refused::Violation(reason)) => reason,
        Err(Refused::Lost(error)) => panic!("{error}"),
    }
}

#[test]
fn a_question_lasts_until_both_sides_are_done_with_it() {
    let mut peer = peer();
    assert_eq!(peer.sends(bootstrap(0)), "");
    assert_eq!(peer.gets(answer(0, &[0])), "");
    assert_eq!(peer.sends(call(1)), "");
    assert_eq!(peer.holds(), (2, 1, 1));
    // With a reference in it the answer waits for the Finish; without, not.
    peer.gets(answer(1, &[7, 7, 8]));
    assert_eq!(peer.holds(), (2, 0, 4));
    peer.sends(finish(1, true));
    assert_eq!(peer.holds(), (1, 0, 1));
    peer.sends(call(1));
    peer.gets(answer(1, &[]));
    peer.sends(finish(1, true));
    assert_eq!(peer.holds(), (1, 0, 1));
    // Kept by a Finish that does not release, until a Release.
    peer.sends(call(1));
    peer.gets(answer(1, &[7, 8]));
    peer.sends(finish(1, false));
    assert_eq!(peer.holds(), (1, 0, 3));
    peer.sends(release(7, 1));
    peer.sends(release(8, 5));
    peer.sends(release(99, 1));
    assert_eq!(peer.holds(), (1, 0, 1));
    let meter = peer.meter.clone();
    drop(peer);
    assert_eq!((meter.facts().questions, meter.facts().exports), (0, 0));
}

#[test]
fn what_is_not_finished_or_released_has_a_bound() {
    let mut peer = self::peer();
    for id in 0..4 {
        assert_eq!(peer.sends(call(id)), "");
    }
    assert_eq!(peer.sends(call(4)), "limit: 5 calls not finished (at most 4)");

    let mut peer = self::peer();
    peer.sends(call(0));
    assert_eq!(peer.gets(answer(0, &[1, 2, 3, 4, 5])), "");
    peer.sends(call(1));
    assert_eq!(peer.gets(answer(1, &[1])), "limit: 6 references not released (at most 5)");

    let mut peer = self::peer();
    for id in 0..3 {
        peer.sends(call(id));
        assert_eq!(peer.sends(finish(id, true)), "");
        assert_eq!(peer.holds(), (0, 0, 0));
    }
    peer.sends(call(3));
    assert_eq!(peer.sends(finish(3, true)), "limit: 4 cancelled calls of one stream (at most 3)");
    // Cancelled and then answered after all: forgotten.
    let mut peer = self::peer();
    for id in 0..100 {
        peer.sends(call(id));
        assert_eq!(peer.sends(finish(id, true)), "");
        peer.gets(answer(id, &[]));
    }
    assert_eq!((peer.holds(), peer.tables.answers.len()), ((0, 0, 0), 0));
}

#[test]
fn calls_on_answers_have_a_bound_in_length_and_depth() {
    let mut peer = peer();
    peer.limits.questions_max = 1000;
    peer.sends(call(0));
    for id in 1..=16 {
        assert_eq!(peer.sends(pipelined(id, id - 1, 16)), "");
    }
    assert_eq!(peer.sends(pipelined(17, 16, 0)), "limit: 17 calls that wait for each other (at most 16)");
    // Passing an answer on is waiting for it too.
    let passing = |id, on| call_passing(id, 1, |cap| cap.init_receiver_answer().set_question_id(on));
    assert_eq!(peer.sends(passing(17, 16)), "limit: 17 calls that wait for each other (at most 16)");
    assert_eq!(peer.sends(pipelined(18, 0, 17)), "limit: 17 steps into an answer (at most 16)");
    // An answered call holds nobody up.
    peer.gets(answer(16, &[1]));
    assert_eq!(peer.sends(pipelined(19, 16, 1)), "");
}

#[test]
fn capabilities_that_capnp_rpc_cannot_take_are_refused() {
    let check = |message, expected: &str| assert_eq!(peer().sends(message), expected);
    check(call_passing(0, 16, |mut cap| cap.set_sender_hosted(1)), "");
    check(
        call_passing(0, 17, |mut cap| cap.set_none(())),
        "limit: 17 capabilities in a message (at most 16)",
    );
    let promise = "invalid: a promise where a capability is needed";
    check(call_passing(0, 1, |mut cap| cap.set_sender_promise(1)), promise);
    let third = "invalid: a capability of a third party";
    check(
        call_passing(0, 1, |cap| {
            cap.init_third_party_hosted();
        }),
        third,
    );
    let resolve = message(|root| {
        let mut resolve = root.init_resolve();
        resolve.set_promise_id(1);
        resolve.init_cap().set_sender_hosted(1);
    });
    check(resolve, "invalid: a promise that we were not given");
}

#[test]
fn messages_that_nobody_of_us_sends_are_refused() {
    let check = |message, expected: &str| assert_eq!(peer().sends(message), expected);
    let third = "invalid: an RPC message for a third party";
    check(
        message(|root| {
            root.init_provide();
        }),
        third,
    );
    check(
        message(|root| {
            root.init_accept();
        }),
        third,
    );
    check(
        message(|root| {
            root.init_join();
        }),
        third,
    );
    check(
        message(|root| {
            root.init_obsolete_save();
        }),
        "invalid: an RPC message that is obsolete",
    );
    check(
        message(|root| {
            root.init_obsolete_delete();
        }),
        "invalid: an RPC message that is obsolete",
    );
    check(
        message(|root| root.init_disembargo().init_context().set_provide(1)),
        "invalid: a disembargo for a third party",
    );
    let elsewhere = "invalid: results that should be sent elsewhere";
    check(call_with(0, |call| call.get_send_results_to().set_yourself(())), elsewhere);
    check(
        message(|root| root.init_return().set_take_from_other_question(1)),
        "invalid: results that come from elsewhere",
    );
    check(message(|root| root.init_return().set_canceled(())), "");
    let mut twice = peer();
    twice.sends(call(3));
    assert_eq!(twice.sends(bootstrap(3)), "invalid: a question whose number is in use");
    // A kind from the future: the discriminant is the first half word.
    let unknown = [0u64, 1 << 32 | 1 << 48, 99, 0];
    let bytes: Vec<u8> = unknown.iter().flat_map(|word| word.to_le_bytes()).collect();
    let framed = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &bytes[8..]].concat();
    let read = capnp::serialize::read_message(&framed[..], Default::default()).unwrap();
    let refused = peer();
    let (mut tables, limits) = (refused.tables, refused.limits);
    assert_eq!(
        words(tables.handle_incoming(read.get_root().unwrap(), &limits)),
        "invalid: an RPC message of kind 99"
    );
}

#[test]
fn an_unimplemented_resolve_gives_its_reference_back() {
    let mut peer = peer();
    let resolve = |mut root: message::Builder<'_>| {
        let mut resolve = root.reborrow().init_resolve();
        resolve.set_promise_id(1);
        resolve.init_cap().set_sender_hosted(4);
    };
    peer.gets(message(resolve));
    assert_eq!(peer.holds(), (0, 0, 1));
    peer.sends(message(|root| resolve(root.init_unimplemented())));
    assert_eq!(peer.holds(), (0, 0, 0));
}
