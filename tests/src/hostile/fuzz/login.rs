//! Bytes as a login: any credential, any facts, and lies about their sizes.

use capnp::text::Reader;
use lm_schema::mesh_capnp::gate;

use super::{Bytes, flip};
use crate::hostile::wire::{self, LIST_MAX, RawStruct, Target};

pub fn read(input: &[u8], token: &str) -> Vec<Vec<u8>> {
    let mut bytes = Bytes(input);
    let mut messages = vec![wire::bootstrap(0)];
    let count = 1 + bytes.below(3);
    for question in 1..=u32::from(count) {
        messages.push(match bytes.below(4) {
            0 => raw(&mut bytes, question),
            kind => {
                let mut login = written(&mut bytes, question, token);
                if kind == 1 {
                    flip(&mut bytes, &mut login);
                }
                login
            }
        });
    }
    messages
}

/// The bootstrap, whether or not it has been answered.
fn gate() -> Target {
    Target::Answer(0, Vec::new())
}

/// What a builder makes, of any size and with any bytes in texts.
fn written(bytes: &mut Bytes<'_>, question: u32, token: &str) -> Vec<u8> {
    wire::call(question, &gate(), wire::LOGIN, |payload| {
        let mut params = payload.get_content().init_as::<gate::login_params::Builder<'_>>();
        let mut credential = params.reborrow().init_credential();
        match bytes.below(6) {
            0 => credential.set_none(()),
            1 => {
                let text = text(bytes);
                credential.set_bearer(Reader(&text));
            }
            2 => credential.set_bearer(&token[..token.len() / 2]),
            3 => credential.set_bearer(&format!("{token}\0")[..]),
            // Right, so that the facts are looked at.
            _ => credential.set_bearer(token),
        }
        let mut peer = params.init_peer();
        peer.set_product(Reader(&text(bytes)));
        peer.set_version(Reader(&text(bytes)));
        peer.set_hostname(Reader(&text(bytes)));
        peer.set_cluster_id(&text(bytes));
        let versions = many(bytes);
        peer.reborrow().init_batch_versions(versions);
        let count = many(bytes);
        let mut held = peer.init_incarnations(count);
        for index in 0..count.min(8) {
            let mut entry = held.reborrow().get(index).init_incarnation();
            entry.set_ordinal(bytes.word());
            entry.set_nonce(bytes.word());
        }
    })
}

/// Short, or long and of one byte.
fn text(bytes: &mut Bytes<'_>) -> Vec<u8> {
    match bytes.byte() {
        length @ 0..250 => bytes.take(usize::from(length % 48)),
        long => vec![bytes.byte(); 1 << (long - 240)],
    }
}

fn many(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        few @ 0..240 => u32::from(few % 16),
        many => 1 << (many - 240),
    }
}

/// A credential and facts that no builder makes: pointers at each other, and
/// lists that claim more than there is.
fn raw(bytes: &mut Bytes<'_>, question: u32) -> Vec<u8> {
    let mut words = vec![wire::struct_pointer(1, 1, 1), wire::struct_pointer(2, 0, 6)];
    for _ in 0..=bytes.below(40) {
        let offset = i32::from(bytes.byte() as i8 / 8);
        let count = LIST_MAX >> bytes.below(30);
        words.push(match bytes.below(5) {
            0 => wire::struct_pointer(offset, u16::from(bytes.below(3)), u16::from(bytes.below(7))),
            1 => wire::list_pointer(offset, 2, count),
            2 => wire::list_pointer(offset, 7, u32::from(bytes.below(4))),
            3 => wire::struct_pointer(count as i32, u16::from(bytes.below(2)), u16::from(bytes.below(2))),
            _ => wire::list_pointer(offset, bytes.below(8), count),
        });
    }
    wire::raw_call(question, &gate(), wire::LOGIN, &RawStruct { data: 0, pointers: 2, words })
}
