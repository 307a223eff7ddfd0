//! Messages that are wrong in one way each.

use lm_tests::hostile::wire::{self, LIST_MAX, RawStruct, list_pointer, struct_pointer};

/// Parameters of a call. All are structs of pointers only, as most of ours.
pub fn parameters() -> Vec<(&'static str, RawStruct)> {
    let raw = |pointers: u16, words: Vec<u64>| RawStruct { data: 0, pointers, words };
    let nothing_often = struct_pointer(LIST_MAX as i32, 0, 0);
    vec![
        ("structs nested 5,000 deep", raw(1, vec![struct_pointer(0, 0, 1); 5000])),
        ("lists nested 5,000 deep", raw(1, vec![list_pointer(0, 6, 1); 5000])),
        ("a list that holds itself", raw(1, itself(8))),
        ("a list that holds itself 1,000 times", raw(1, itself(1000))),
        ("a struct that holds itself", raw(2, vec![struct_pointer(-1, 0, 2), struct_pointer(-2, 0, 2)])),
        // For a text, a struct, a list of structs, and data in turn.
        ("half a billion of nothing", raw(6, vec![list_pointer(6, 0, LIST_MAX); 7])),
        ("half a billion empty structs", raw(1, vec![list_pointer(0, 7, 0), nothing_often])),
        ("the same, in each field of the facts", raw(2, facts_of(nothing_often))),
        ("half a billion words", raw(6, vec![list_pointer(0, 5, LIST_MAX); 6])),
        ("half a billion structs", raw(6, vec![list_pointer(0, 7, LIST_MAX); 6])),
        ("negative offsets", raw(6, vec![struct_pointer(-0x1000_0000, 0xffff, 0xffff); 6])),
        ("far pointers into themselves", raw(6, vec![far_pointer(0, 0, false); 6])),
        ("double far pointers", raw(6, vec![far_pointer(0, 0, true); 6])),
        ("far pointers to nowhere", raw(6, vec![far_pointer(u32::MAX, 0x1fff_ffff, false); 6])),
        ("capabilities that are not in the table", raw(6, vec![3 | 0xffff_ffff << 32; 6])),
        ("pointers of no kind", raw(6, vec![u64::MAX; 6])),
        ("texts without an end", raw(6, vec![list_pointer(5, 2, 40); 32])),
    ]
}

/// A list of pointers, each of which points at the list.
fn itself(count: u32) -> Vec<u64> {
    let back = (1..=count as i32).map(|index| list_pointer(-index, 6, count));
    std::iter::once(list_pointer(0, 6, count)).chain(back).collect()
}

/// No credential, and a peer whose six facts all are one list of structs that
/// take no room.
fn facts_of(tag: u64) -> Vec<u64> {
    let facts = (0..6).map(|index| list_pointer(5 - index, 7, 0));
    [0, struct_pointer(0, 0, 6)].into_iter().chain(facts).chain([tag]).collect()
}

fn far_pointer(segment: u32, offset: u32, is_double: bool) -> u64 {
    2 | u64::from(is_double) << 2 | u64::from(offset << 3) | u64::from(segment) << 32
}

/// Bytes that no message begins with, or that are none.
pub fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut wrong_root = wire::table(&[2]);
    wrong_root.extend(struct_pointer(0, 1, 0).to_le_bytes());
    wrong_root.extend([0xff; 8]);
    let mut no_root = wire::table(&[1]);
    no_root.extend([0xff; 8]);
    let mut one_word_each = wire::table(&[1; 511]);
    one_word_each.extend([0; 511 * 8]);
    let mut listed = wire::table(&[1]);
    listed.extend(list_pointer(0, 0, LIST_MAX).to_le_bytes());
    vec![
        ("all ones", vec![0xff; 64]),
        ("text", b"GET / HTTP/1.1\r\nHost: collector\r\n\r\n".to_vec()),
        ("no segments", wire::table(&[])),
        ("511 segments of 2 GiB", wire::table(&[0x0fff_ffff; 511])),
        ("511 segments of a word", one_word_each),
        ("512 segments", wire::table(&[0; 512])),
        ("a billion segments", [0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0].to_vec()),
        ("a root of another kind", wrong_root),
        ("no root", no_root),
        ("a list as the root", listed),
        ("an empty message", wire::table(&[0])),
    ]
}
