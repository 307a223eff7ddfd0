//! A session whose own task panics, not one of its calls. Logging is the one
//! thing in there that others can break: so here it does.

mod support;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{eventually, run};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Panics the first time that a session is said to be open.
struct Panics;

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

struct IsOpened(bool);

impl Visit for IsOpened {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "session opened";
    }
}

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut is_opened = IsOpened(false);
        event.record(&mut is_opened);
        assert!(!is_opened.0 || HAS_PANICKED.swap(true, Ordering::Relaxed), "on purpose");
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_session_that_panics_is_no_session_any_more() {
    tracing::subscriber::set_global_default(Panics).unwrap();
    run(async |bench| {
        // Once over each transport.
        HAS_PANICKED.store(false, Ordering::Relaxed);
        // Whether the login is answered first is a matter of luck.
        let why = match bench.try_connect(0).await {
            Ok(connected) => {
                let closing = tokio::time::timeout(Duration::from_secs(5), connected.closed()).await;
                closing.expect("the connection goes on").reason
            }
            Err(error) => error.to_string(),
        };
        assert!(why.contains("the session failed inside the collector"), "{why}");
        let registry = &bench.registry;
        eventually("nobody is listed", || registry.sessions().is_empty()).await;
        eventually("it is counted", || registry.incidents().panics.load(Ordering::Relaxed) == 1).await;
        let _other = bench.connect(1).await;
        eventually("the other is listed", || registry.sessions().len() == 1).await;
    });
}
