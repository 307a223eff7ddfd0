//! Bytes as a sequence of operations on a stream.

use super::{Bytes, Door, flip};
use crate::hostile::wire::{self, Descriptor, LIST_MAX, METHODS, Method, RawStruct, Target};

/// Operations of one input.
const OPERATIONS_MAX: usize = 96;
/// Words of one raw struct.
const WORDS_MAX: u8 = 40;

const DOORS: [Door; 6] =
    [Door::Agent, Door::Bulk, Door::Stranger, Door::Users, Door::Gateway, Door::Operator];

/// Numbers that a table of questions or references may not expect.
const ODD: [u32; 6] = [64, 100, 1 << 16, 0x7fff_ffff, u32::MAX - 1, u32::MAX];

pub fn read(input: &[u8], token: &str) -> (Door, Vec<Vec<u8>>) {
    let mut bytes = Bytes(input);
    let door = DOORS[usize::from(bytes.below(DOORS.len() as u8))];
    let mut messages: Vec<Vec<u8>> = Vec::new();
    while !bytes.is_empty() && messages.len() < OPERATIONS_MAX {
        let message = operation(&mut bytes, token, messages.last());
        messages.push(message);
    }
    (door, messages)
}

fn operation(bytes: &mut Bytes<'_>, token: &str, last: Option<&Vec<u8>>) -> Vec<u8> {
    match bytes.below(20) {
        0 => wire::bootstrap(id(bytes)),
        1..=3 => wire::empty_call(id(bytes), &target(bytes), method(bytes)),
        4..=5 => {
            let (question, target, method) = (id(bytes), target(bytes), method(bytes));
            wire::raw_call(question, &target, method, &raw(bytes))
        }
        6..=7 => {
            let (question, target, method) = (id(bytes), target(bytes), method(bytes));
            let table = table(bytes);
            wire::call(question, &target, method, |payload| wire::write_table(&table, payload))
        }
        8..=9 => wire::finish(id(bytes), bytes.below(2) == 0),
        10 => wire::release(id(bytes), id(bytes)),
        11 => {
            let promise = id(bytes);
            match bytes.below(4) {
                0 => wire::resolve(promise, None),
                _ => wire::resolve(promise, Some(&descriptor(bytes))),
            }
        }
        12 => {
            let target = target(bytes);
            wire::disembargo(&target, bytes.below(4), id(bytes))
        }
        13 => {
            let (question, kind) = (id(bytes), bytes.below(5));
            wire::answer(question, kind, &table(bytes))
        }
        14 => {
            let promise = id(bytes);
            wire::unimplemented(promise, &descriptor(bytes))
        }
        15 => match bytes.below(8) {
            0 => wire::abort("because"),
            1 => wire::login(id(bytes), &target(bytes), token),
            2 => wire::attach(id(bytes), &target(bytes), &[7; 16]),
            _ => other_kind(bytes),
        },
        // What was just sent, slightly wrong.
        16..=17 => {
            let mut again = last.cloned().unwrap_or_else(|| wire::bootstrap(0));
            flip(bytes, &mut again);
            again
        }
        18 => {
            let sizes: Vec<u32> = (0..bytes.below(5)).map(|_| id(bytes)).collect();
            wire::table(&sizes)
        }
        _ => {
            let count = usize::from(bytes.byte());
            bytes.take(count)
        }
    }
}

/// A message of any kind, known or not, with one pointer.
fn other_kind(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut words = vec![wire::struct_pointer(0, 1, 1), u64::from(bytes.below(20))];
    words.extend(raw(bytes).words);
    let segment: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    wire::frame(&[&segment])
}

/// Mostly small: such as are in use.
fn id(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        small @ 0..220 => u32::from(small % 12),
        odd => ODD[usize::from(odd) % ODD.len()],
    }
}

fn target(bytes: &mut Bytes<'_>) -> Target {
    match bytes.below(2) {
        0 => Target::Import(id(bytes)),
        _ => Target::Answer(id(bytes), fields(bytes)),
    }
}

fn fields(bytes: &mut Bytes<'_>) -> Vec<u16> {
    let count = match bytes.byte() {
        few @ 0..250 => few % 4,
        many => many - 230,
    };
    (0..count).map(|_| u16::from(bytes.below(4))).collect()
}

fn method(bytes: &mut Bytes<'_>) -> Method {
    match bytes.byte() {
        known @ 0..240 => METHODS[usize::from(known) % METHODS.len()],
        _ => Method { interface: bytes.word(), ordinal: id(bytes) as u16 },
    }
}

fn descriptor(bytes: &mut Bytes<'_>) -> Descriptor {
    match bytes.below(6) {
        0 => Descriptor::None,
        1 => Descriptor::SenderHosted(id(bytes)),
        2 => Descriptor::SenderPromise(id(bytes)),
        3 => Descriptor::ReceiverHosted(id(bytes)),
        4 => Descriptor::ReceiverAnswer(id(bytes), fields(bytes)),
        _ => Descriptor::ThirdParty(id(bytes)),
    }
}

fn table(bytes: &mut Bytes<'_>) -> Vec<Descriptor> {
    (0..bytes.below(5)).map(|_| descriptor(bytes)).collect()
}

fn raw(bytes: &mut Bytes<'_>) -> RawStruct {
    let (data, pointers) = (u16::from(bytes.below(4)), u16::from(bytes.below(8)));
    let words = (0..=bytes.below(WORDS_MAX)).map(|_| raw_word(bytes)).collect();
    RawStruct { data, pointers, words }
}

fn raw_word(bytes: &mut Bytes<'_>) -> u64 {
    let near = |bytes: &mut Bytes<'_>| i32::from(bytes.byte() as i8 / 8);
    match bytes.below(6) {
        0 => 0,
        1 => wire::struct_pointer(near(bytes), u16::from(bytes.below(5)), u16::from(bytes.below(8))),
        2 => {
            let (offset, size) = (near(bytes), bytes.below(8));
            let count = match bytes.byte() {
                few @ 0..200 => u32::from(few),
                many => LIST_MAX >> (many % 16),
            };
            wire::list_pointer(offset, size, count)
        }
        // A capability, or a far pointer.
        3 => 3 | u64::from(id(bytes)) << 32,
        4 => 2 | u64::from(bytes.byte()) << 2 | u64::from(id(bytes)) << 32,
        _ => bytes.word(),
    }
}
