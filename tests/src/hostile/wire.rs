//! RPC messages made by hand, and their frames.

use capnp::any_pointer;
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::traits::HasTypeId;
use capnp_rpc::rpc_capnp::{cap_descriptor, message, message_target, payload};
use lm_schema::mesh_capnp::{agent_session, attach, batch_sink, gate, gateway_session, user_gate};
use lm_schema::operator_capnp::{operator, tap};

/// What a call or a disembargo is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A capability that the server has exported.
    Import(u32),
    /// One in the answer to a question, after these pointer fields.
    Answer(u32, Vec<u16>),
}

/// A capability in a message's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    None,
    SenderHosted(u32),
    SenderPromise(u32),
    ReceiverHosted(u32),
    ReceiverAnswer(u32, Vec<u16>),
    ThirdParty(u32),
}

/// A method, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    pub interface: u64,
    pub ordinal: u16,
}

macro_rules! methods {
    ($($name:ident = $interface:ident $ordinal:literal;)*) => {
        $(pub const $name: Method = Method {
            interface: <$interface::Client as HasTypeId>::TYPE_ID,
            ordinal: $ordinal,
        };)*
    };
}

methods! {
    LOGIN = gate 0;
    ATTACH = attach 0;
    HEARTBEAT = agent_session 0;
    BULK_TICKET = agent_session 1;
    PUSH = batch_sink 0;
    DEFINE = batch_sink 1;
    GATEWAY_HEARTBEAT = gateway_session 0;
    QUERY_TICKET = gateway_session 1;
    REVOCATIONS = gateway_session 2;
    AUTHENTICATE = user_gate 0;
    SESSIONS = operator 0;
    TAP = operator 3;
    DESCRIBE = operator 8;
    STATUS = operator 10;
    NEXT_CALLS = tap 0;
}

/// Every method that a peer can name, for fuzzers.
pub const METHODS: [Method; 15] = [
    LOGIN,
    ATTACH,
    HEARTBEAT,
    BULK_TICKET,
    PUSH,
    DEFINE,
    GATEWAY_HEARTBEAT,
    QUERY_TICKET,
    REVOCATIONS,
    AUTHENTICATE,
    SESSIONS,
    TAP,
    DESCRIBE,
    STATUS,
    NEXT_CALLS,
];

/// Words that a raw struct may hold beside the message's own.
const SPARE_WORDS: u32 = 256;

/// A framed message of one segment.
pub fn message(build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    sized(SPARE_WORDS, build)
}

fn sized(words: u32, build: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut builder = Builder::new(HeapAllocator::new().first_segment_words(words));
    build(builder.init_root());
    frame(&builder.get_segments_for_output())
}

/// A frame that tells the truth.
pub fn frame(segments: &[&[u8]]) -> Vec<u8> {
    let words: Vec<u32> = segments.iter().map(|segment| (segment.len() / 8) as u32).collect();
    let mut bytes = table(&words);
    segments.iter().for_each(|segment| bytes.extend_from_slice(segment));
    bytes
}

/// A frame's head, that claims segments of so many words.
pub fn table(words: &[u32]) -> Vec<u8> {
    let mut bytes = (words.len() as u32).wrapping_sub(1).to_le_bytes().to_vec();
    for size in words {
        bytes.extend_from_slice(&size.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub fn bootstrap(question: u32) -> Vec<u8> {
    message(|root| root.init_bootstrap().set_question_id(question))
}

/// A call whose parameters `fill` writes.
pub fn call(
    question: u32,
    target: &Target,
    method: Method,
    fill: impl FnOnce(payload::Builder<'_>),
) -> Vec<u8> {
    message(|root| {
        let mut call = root.init_call();
        call.set_question_id(question);
        call.set_interface_id(method.interface);
        call.set_method_id(method.ordinal);
        write_target(target, call.reborrow().init_target());
        fill(call.init_params());
    })
}

/// A call with nothing in it.
pub fn empty_call(question: u32, target: &Target, method: Method) -> Vec<u8> {
    call(question, target, method, |_| {})
}

fn write_target(from: &Target, mut to: message_target::Builder<'_>) {
    match from {
        Target::Import(id) => to.set_imported_cap(*id),
        Target::Answer(question, fields) => {
            let mut answer = to.init_promised_answer();
            answer.set_question_id(*question);
            let mut ops = answer.init_transform(fields.len() as u32);
            for (index, field) in fields.iter().enumerate() {
                ops.reborrow().get(index as u32).set_get_pointer_field(*field);
            }
        }
    }
}

pub fn write_descriptor(from: &Descriptor, mut to: cap_descriptor::Builder<'_>) {
    match from {
        Descriptor::None => to.set_none(()),
        Descriptor::SenderHosted(id) => to.set_sender_hosted(*id),
        Descriptor::SenderPromise(id) => to.set_sender_promise(*id),
        Descriptor::ReceiverHosted(id) => to.set_receiver_hosted(*id),
        Descriptor::ReceiverAnswer(question, fields) => {
            let mut answer = to.init_receiver_answer();
            answer.set_question_id(*question);
            let mut ops = answer.init_transform(fields.len() as u32);
            for (index, field) in fields.iter().enumerate() {
                ops.reborrow().get(index as u32).set_get_pointer_field(*field);
            }
        }
        Descriptor::ThirdParty(vine) => to.init_third_party_hosted().set_vine_id(*vine),
    }
}

pub fn write_table(from: &[Descriptor], to: payload::Builder<'_>) {
    let mut table = to.init_cap_table(from.len() as u32);
    for (index, descriptor) in from.iter().enumerate() {
        write_descriptor(descriptor, table.reborrow().get(index as u32));
    }
}

pub fn finish(question: u32, releases: bool) -> Vec<u8> {
    message(|root| {
        let mut finish = root.init_finish();
        finish.set_question_id(question);
        finish.set_release_result_caps(releases);
    })
}

pub fn release(id: u32, count: u32) -> Vec<u8> {
    message(|root| {
        let mut release = root.init_release();
        release.set_id(id);
        release.set_reference_count(count);
    })
}

pub fn resolve(promise: u32, to: Option<&Descriptor>) -> Vec<u8> {
    message(|root| {
        let mut resolve = root.init_resolve();
        resolve.set_promise_id(promise);
        match to {
            Some(descriptor) => write_descriptor(descriptor, resolve.init_cap()),
            None => resolve.init_exception().set_reason("broken"),
        }
    })
}

/// `context`: 0 sender loopback, 1 receiver loopback, 2 accept, else provide.
pub fn disembargo(target: &Target, context: u8, id: u32) -> Vec<u8> {
    message(|root| {
        let mut disembargo = root.init_disembargo();
        write_target(target, disembargo.reborrow().init_target());
        let mut to = disembargo.init_context();
        match context {
            0 => to.set_sender_loopback(id),
            1 => to.set_receiver_loopback(id),
            2 => to.set_accept(()),
            _ => to.set_provide(id),
        }
    })
}

/// An answer to a question that the server may never have asked. `kind`: 0
/// results, 1 an exception, 2 canceled, 3 sent elsewhere, else taken from
/// another question.
pub fn answer(question: u32, kind: u8, table: &[Descriptor]) -> Vec<u8> {
    message(|root| {
        let mut returned = root.init_return();
        returned.set_answer_id(question);
        match kind {
            0 => write_table(table, returned.init_results()),
            1 => returned.init_exception().set_reason("no"),
            2 => returned.set_canceled(()),
            3 => returned.set_results_sent_elsewhere(()),
            _ => returned.set_take_from_other_question(question.wrapping_add(1)),
        }
    })
}

pub fn abort(reason: &str) -> Vec<u8> {
    message(|root| root.init_abort().set_reason(reason))
}

/// `unimplemented`, which returns a message of the server to it.
pub fn unimplemented(promise: u32, to: &Descriptor) -> Vec<u8> {
    message(|root| {
        let mut resolve = root.init_unimplemented().init_resolve();
        resolve.set_promise_id(promise);
        write_descriptor(to, resolve.init_cap());
    })
}

/// Asks to log in with a token, and facts that are all empty.
pub fn login(question: u32, target: &Target, token: &str) -> Vec<u8> {
    call(question, target, LOGIN, |payload| {
        let mut params = payload.get_content().init_as::<gate::login_params::Builder<'_>>();
        params.reborrow().init_credential().set_bearer(token);
        params.init_peer();
    })
}

pub fn attach(question: u32, target: &Target, ticket: &[u8]) -> Vec<u8> {
    call(question, target, ATTACH, |payload| {
        payload.get_content().init_as::<attach::attach_params::Builder<'_>>().set_ticket(ticket);
    })
}

/// A pointer to a struct of `data` and `pointers` words, `offset` words after it.
pub fn struct_pointer(offset: i32, data: u16, pointers: u16) -> u64 {
    u64::from((offset << 2) as u32) | u64::from(data) << 32 | u64::from(pointers) << 48
}

/// A pointer to a list. `size` 0: nothing, 1: bits, 2: bytes, 3, 4, 5: two,
/// four, eight bytes, 6: pointers, 7: structs, where `count` is in words.
pub fn list_pointer(offset: i32, size: u8, count: u32) -> u64 {
    1 | u64::from((offset << 2) as u32) | u64::from(u32::from(size & 7) | count << 3) << 32
}

/// No list has more elements.
pub const LIST_MAX: u32 = (1 << 29) - 1;

/// The struct at the top of a call's parameters, word by word: `data` words,
/// then `pointers` words, then whatever the pointers mean.
#[derive(Clone, Debug)]
pub struct RawStruct {
    pub data: u16,
    pub pointers: u16,
    pub words: Vec<u64>,
}

/// Stands where a raw struct will be, until it is.
const MARK: u64 = 0x5eed_ab1e_0ddb_a115;

/// A call with parameters that no builder would make.
///
/// # Panics
///
/// When the raw struct is empty.
pub fn raw_call(question: u32, target: &Target, method: Method, raw: &RawStruct) -> Vec<u8> {
    let count = raw.words.len() as u32;
    assert!(count > 0, "there is a word to put the mark in");
    let mut bytes = sized(SPARE_WORDS + count, |root| {
        let mut call = root.init_call();
        call.set_question_id(question);
        call.set_interface_id(method.interface);
        call.set_method_id(method.ordinal);
        write_target(target, call.reborrow().init_target());
        let content: any_pointer::Builder<'_> = call.init_params().get_content();
        content.initn_as::<capnp::primitive_list::Builder<'_, u64>>(count).set(0, MARK);
    });
    graft(&mut bytes, raw);
    bytes
}

/// Puts the raw struct where the marked list is.
fn graft(bytes: &mut [u8], raw: &RawStruct) {
    let (words, _) = bytes.as_chunks_mut::<8>();
    let at = words.iter().position(|word| u64::from_le_bytes(*word) == MARK).expect("the mark was written");
    let pointer = (0..at)
        .rev()
        .find(|index| {
            let offset = (at - index - 1) as i32;
            u64::from_le_bytes(words[*index]) == list_pointer(offset, 5, raw.words.len() as u32)
        })
        .expect("something points at the list");
    words[pointer] = struct_pointer((at - pointer - 1) as i32, raw.data, raw.pointers).to_le_bytes();
    for (to, from) in words[at..].iter_mut().zip(&raw.words) {
        *to = from.to_le_bytes();
    }
}

/// What a framed message of the server says; `None` when it is none.
pub fn read(bytes: &[u8]) -> Option<Said> {
    let reader = capnp::serialize::read_message(bytes, ReaderOptions::new()).ok()?;
    let root: message::Reader<'_> = reader.get_root().ok()?;
    let text = |text: capnp::Result<capnp::text::Reader<'_>>| -> String {
        text.ok().and_then(|text| text.to_str().ok().map(str::to_owned)).unwrap_or_default()
    };
    Some(match root.which().ok()? {
        message::Return(returned) => {
            let returned = returned.ok()?;
            let question = returned.get_answer_id();
            match returned.which().ok()? {
                capnp_rpc::rpc_capnp::return_::Results(results) => {
                    let results = results.ok()?;
                    let exported = |descriptor: cap_descriptor::Reader<'_>| match descriptor.which() {
                        Ok(cap_descriptor::SenderHosted(id) | cap_descriptor::SenderPromise(id)) => Some(id),
                        _ => None,
                    };
                    let exports = results.get_cap_table().ok()?.iter().filter_map(exported).collect();
                    Said::Results { question, exports, data: first_data(results) }
                }
                capnp_rpc::rpc_capnp::return_::Exception(exception) => {
                    Said::Exception { question, reason: text(exception.ok()?.get_reason()) }
                }
                _ => Said::Other,
            }
        }
        message::Abort(exception) => Said::Abort(text(exception.ok()?.get_reason())),
        message::Unimplemented(_) => Said::Unimplemented,
        _ => Said::Other,
    })
}

/// The data in the first pointer of the results: a ticket, where there is one.
fn first_data(from: payload::Reader<'_>) -> Vec<u8> {
    let ticket = from.get_content().get_as::<agent_session::bulk_ticket_results::Reader<'_>>();
    ticket.and_then(|ticket| ticket.get_ticket().map(<[u8]>::to_vec)).unwrap_or_default()
}

/// A message of the server, as far as anybody here cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Results { question: u32, exports: Vec<u32>, data: Vec<u8> },
    Exception { question: u32, reason: String },
    Abort(String),
    Unimplemented,
    Other,
}
