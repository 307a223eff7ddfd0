//! Deliberate mistakes and crashes, for proving that the accounting checker
//! finds them, that a panic costs one session, and what the guard costs. Only a
//! build with the feature `mutants` can choose any.

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Answer before the sync.
    AckBeforeSync,
    /// Store what was stored already.
    NoDedupe,
    /// Panic in a method of a session.
    PanicInHeartbeat,
    /// Hand out sinks without a guard: what the guard costs is measured so.
    UnguardedSink,
}

impl Mutant {
    /// What `LM_MUTANT` names.
    #[cfg(feature = "mutants")]
    pub fn chosen() -> Option<Mutant> {
        match std::env::var("LM_MUTANT").as_deref() {
            Ok("ack_before_sync") => Some(Mutant::AckBeforeSync),
            Ok("no_dedupe") => Some(Mutant::NoDedupe),
            Ok("panic_in_heartbeat") => Some(Mutant::PanicInHeartbeat),
            Ok("unguarded_sink") => Some(Mutant::UnguardedSink),
            _ => None,
        }
    }

    #[cfg(not(feature = "mutants"))]
    pub fn chosen() -> Option<Mutant> {
        None
    }
}

/// Aborts the process at the n-th call, when `LM_CRASH_AT` says n.
#[cfg(feature = "mutants")]
pub fn sync_point() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT: OnceLock<Option<u64>> = OnceLock::new();
    let crash_at = CRASH_AT.get_or_init(|| std::env::var("LM_CRASH_AT").ok()?.parse().ok());
    if Some(CALLS.fetch_add(1, Ordering::Relaxed) + 1) == *crash_at {
        // What was answered before now must have left, or nobody could miss it.
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::process::abort();
    }
}

#[cfg(not(feature = "mutants"))]
pub fn sync_point() {}
