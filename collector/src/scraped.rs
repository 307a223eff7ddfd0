//! What agents say of the targets that they scrape, beside samples. In memory
//! only, and only as long as the session that said it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lm_model::Labels;

/// As many targets as an agent has at most. An agent has one session.
const TARGETS_OF_SESSION_MAX: usize = 1024;
/// Of all agents; with the next two no more than 96 MiB. Beyond them nothing
/// new is kept: the target is shown as far as its samples tell.
const TARGETS_MAX: usize = 16_384;
const LABELS_BYTES_MAX: usize = 4096;
/// Of each of the two texts; longer ones are cut.
const TEXT_BYTES_MAX: usize = 1024;

/// How a target fares, as its agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapedTarget {
    pub url: Box<str>,
    /// Empty: the last scrape was good.
    pub error: Box<str>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
}

impl ScrapedTarget {
    pub fn new(url: &str, error: &str, interval_ms: u64, timeout_ms: u64) -> Self {
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].into();
        ScrapedTarget { url: cut(url), error: cut(error), interval_ms, timeout_ms }
    }
}

/// By the labels of a target's series as they are stored, so that an agent can
/// speak of none but its own.
#[derive(Clone, Default)]
pub struct ScrapedTargets(Arc<Mutex<Targets>>);

#[derive(Default)]
struct Targets {
    /// With the session that spoke of them last.
    by_labels: HashMap<Labels, (u64, ScrapedTarget)>,
    of_session: HashMap<u64, usize>,
}

impl ScrapedTargets {
    /// What the session of this number says of a target.
    pub fn set(&self, session: u64, labels: Labels, target: ScrapedTarget) {
        let mut targets = self.targets();
        targets.remove(&labels);
        let of_session = targets.of_session.get(&session).copied().unwrap_or(0);
        if labels.bytes() <= LABELS_BYTES_MAX
            && of_session < TARGETS_OF_SESSION_MAX
            && targets.by_labels.len() < TARGETS_MAX
        {
            targets.by_labels.insert(labels, (session, target));
            targets.of_session.insert(session, of_session + 1);
        }
    }

    /// A target is no longer scraped.
    pub fn remove(&self, labels: &Labels) {
        self.targets().remove(labels);
    }

    /// A session has ended.
    pub fn forget(&self, session: u64) {
        let mut targets = self.targets();
        if targets.of_session.remove(&session).is_some() {
            targets.by_labels.retain(|_, (of, _)| *of != session);
        }
    }

    pub fn get(&self, labels: &Labels) -> Option<ScrapedTarget> {
        self.targets().by_labels.get(labels).map(|(_, target)| target.clone())
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Targets {
    fn remove(&mut self, labels: &Labels) {
        if let Some((session, _)) = self.by_labels.remove(labels)
            && let Some(count) = self.of_session.get_mut(&session)
        {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(n: usize) -> Labels {
        Labels::from_pairs([("instance", &n.to_string()[..])])
    }

    fn of(error: &str) -> ScrapedTarget {
        ScrapedTarget::new("http://a/metrics", error, 1000, 500)
    }

    #[test]
    fn a_session_has_its_share_and_takes_it_along() {
        let targets = ScrapedTargets::default();
        let more = labels(TARGETS_OF_SESSION_MAX);
        for n in 0..=TARGETS_OF_SESSION_MAX {
            targets.set(1, labels(n), of("a"));
        }
        assert_eq!(targets.get(&more), None);
        targets.set(1, labels(0), of(&"é".repeat(TEXT_BYTES_MAX)));
        assert_eq!(targets.get(&labels(0)).unwrap().error.len(), TEXT_BYTES_MAX);
        targets.remove(&labels(2));
        targets.set(1, more.clone(), of("a"));
        assert_eq!((targets.get(&labels(2)), targets.get(&more)), (None, Some(of("a"))));
        // The agent has come back before its old session ended.
        targets.set(2, labels(1), of("b"));
        targets.forget(1);
        assert_eq!((targets.get(&labels(0)), targets.get(&labels(1))), (None, Some(of("b"))));
        targets.forget(2);
        assert!(targets.targets().by_labels.is_empty() && targets.targets().of_session.is_empty());
    }

    #[test]
    fn all_sessions_together_and_their_labels_are_bounded() {
        let targets = ScrapedTargets::default();
        for n in 0..=TARGETS_MAX {
            targets.set((n / TARGETS_OF_SESSION_MAX) as u64, labels(n), of(""));
        }
        assert_eq!(targets.targets().by_labels.len(), TARGETS_MAX);
        targets.forget(0);
        let long = Labels::from_pairs([("instance", &"x".repeat(LABELS_BYTES_MAX)[..])]);
        targets.set(99, long.clone(), of(""));
        assert_eq!(targets.get(&long), None);
    }
}
