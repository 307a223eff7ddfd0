//! How large the message behind a call is. The stream knows that; the guard
//! asks. Walking the parameters instead would let a few hundred bytes whose
//! lists point at themselves cost as much as the largest message, and use up
//! the limit that the method itself reads within.

use std::cell::Cell;

use capnp::private::capability::ParamsHook;

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Said by an incoming message whenever somebody looks into it.
pub(crate) fn note(bytes: u64) {
    LAST.set(bytes);
}

/// Bytes of the message that brought these parameters; 0 when none did, as
/// for a call from within the process.
pub(crate) fn of(params: &dyn ParamsHook) -> u64 {
    LAST.set(0);
    // What is wrong with them the method will find too.
    let _ = params.get();
    LAST.get()
}
