//! The ledger as plain data: no session, no socket.

use super::*;
use capnp::message::{Reader, ReaderOptions, SegmentArray};
use capnp::private::capability::ParamsHook;
use lm_schema::interfaces;

fn root(ledger: &Ledger, session: u64, holder: &str) -> Root {
    ledger.root(session, Arc::from(holder), Arc::new(Activity::new(8, Arc::default())))
}

fn below(grant: &Grant, interface: &str, terms: Terms) -> Grant {
    grant.below(interfaces::by_name(interface).unwrap(), terms)
}

fn revoked() -> Verdict {
    Verdict { code: "revoked", reason: "x".to_owned() }
}

#[test]
fn what_is_derived_during_a_revocation_is_never_listed() {
    let ledger = Ledger::new();
    let root = root(&ledger, 1, "a");
    let reader = below(&root.0, "Reader", Terms::default());
    ledger.revoke(reader.id(), &revoked()).unwrap();
    let late = below(&reader, "Cursor", Terms::default());
    assert!(late.check().unwrap_err().to_string().contains("revoked: x"));
    assert_eq!(ledger.len(), 0);
    assert_eq!(root.0.entry.activity.capabilities(), 1, "the root");
    // Its server goes later; that is counted once.
    ledger.release(&late.entry);
    ledger.release(&reader.entry);
    assert_eq!(root.0.entry.activity.capabilities(), 1);
}

#[test]
fn the_nearest_verdict_is_told() {
    let ledger = Ledger::new();
    let root = root(&ledger, 1, "a");
    let reader = below(&root.0, "Reader", Terms::default());
    let cursor = below(&reader, "Cursor", Terms::default());
    ledger.revoke(cursor.id(), &Verdict { code: "revoked", reason: "first".to_owned() }).unwrap();
    ledger.revoke_holder("a", &Verdict { code: "denied", reason: "second".to_owned() });
    assert_eq!(cursor.verdict().unwrap().reason, "first");
    assert_eq!(reader.verdict().unwrap().reason, "second");
    assert!(root.0.check().unwrap_err().to_string().contains("denied: second"));
}

#[test]
fn a_session_that_ended_takes_its_entries_and_no_others() {
    let ledger = Ledger::new();
    let (first, second) = (root(&ledger, 1, "a"), root(&ledger, 2, "a"));
    let reader = below(&first.0, "Reader", Terms::default());
    let other = below(&second.0, "Reader", Terms::default());
    drop(first);
    assert_eq!(reader.check().unwrap_err().kind, capnp::ErrorKind::Disconnected);
    other.check().unwrap();
    let (left, has_more) = ledger.capabilities(0, 10, |_| true);
    assert_eq!((left.len(), has_more), (2, false));
    assert!(left.iter().all(|facts| facts.session == 2));
}

#[test]
fn a_listing_has_more_only_if_more_is_wanted() {
    let ledger = Ledger::new();
    let root = root(&ledger, 1, "a");
    let count = 2 * LISTED_AT_ONCE;
    let grants: Vec<_> = (0..count)
        .map(|index| below(&root.0, if index % 2 == 0 { "Reader" } else { "Cursor" }, Terms::default()))
        .collect();
    let wanted = |facts: &CapabilityFacts| facts.interface == "Reader";
    let (found, has_more) = ledger.capabilities(0, count / 2, wanted);
    assert_eq!((found.len(), has_more), (count / 2, false));
    let (found, has_more) = ledger.capabilities(0, count / 2 - 1, wanted);
    assert_eq!((found.len(), has_more), (count / 2 - 1, true));
    let last = found.last().unwrap().id;
    assert_eq!(ledger.capabilities(last, 10, wanted).0.len(), 1);
    assert_eq!(ledger.capabilities(u64::MAX, 10, wanted).0.len(), 0);
    drop(grants);
}

/// Parameters that came over the wire.
struct Arrived {
    message: Reader<SegmentArray<'static>>,
    bytes: u64,
}

impl ParamsHook for Arrived {
    fn get(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        crate::message_bytes::note(self.bytes);
        self.message.get_root()
    }
}

/// A list of pointers that all point at the list itself: to walk it costs as
/// much as the largest message, and leaves nothing for the method.
#[test]
fn a_list_of_itself_is_measured_at_no_cost() {
    const COUNT: usize = 1023;
    // Word 0 is the root, a pointer to the list behind it; its pointers too,
    // each as far back as it stands behind the list's start.
    let list = |offset: i32| ((COUNT as u64) << 3 | 6) << 32 | u64::from((offset << 2 | 1) as u32);
    let mut words = vec![list(0)];
    words.extend((0..COUNT as i32).map(|at| list(-(at + 1))));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let segments: &'static [&'static [u8]] = Box::leak(Box::new([&*Box::leak(bytes.into_boxed_slice())]));
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(1 << 20)).nesting_limit(16);
    let arrived =
        Arrived { message: Reader::new(SegmentArray::new(segments), options), bytes: (COUNT as u64 + 1) * 8 };

    assert_eq!(crate::message_bytes::of(&arrived), 8192);
    // The limit is the method's still: each look at the list takes the root's
    // pointer and the list, and measuring took the former once.
    let left = |arrived: &Arrived| {
        let mut visits = 0;
        while arrived.get().unwrap().get_as::<capnp::text_list::Reader<'_>>().is_ok() {
            visits += 1;
        }
        visits
    };
    assert_eq!(left(&arrived), ((1 << 20) - 1) / (COUNT + 1));
}
