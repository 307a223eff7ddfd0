//! What a collector may know of targets beside their samples: where they are,
//! how often they are asked, and why a scrape failed.
//!
//! The scrape thread writes here, the sender reads. Nothing of it is queued:
//! it is of now, and a new session is told everything again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lm_model::Labels;

/// Of an error, in bytes; it may quote what a target answered.
const ERROR_BYTES_MAX: usize = 512;
const URL_BYTES_MAX: usize = 1024;
/// A target with longer labels is not told of; its samples say what they say.
const LABELS_BYTES_MAX: usize = 4096;
/// Of what stands around a target and around each of its labels in a message.
const OVERHEAD_BYTES: usize = 64;
/// Targets that are gone and of which nobody was told yet.
const GONE_MAX: usize = 1024;

/// How one target fares.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetStatus {
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Why the last scrape failed; empty: it did not.
    pub error: String,
}

/// How all targets fare. At most as many as are scraped, and [`GONE_MAX`].
/// One session at a time is told.
#[derive(Clone, Default)]
pub struct ScrapeStatus(Arc<Mutex<Targets>>);

#[derive(Default)]
struct Targets {
    /// By what the series of a target have in common.
    by_labels: HashMap<Labels, Changed>,
    /// Counts changes.
    version: u64,
}

struct Changed {
    version: u64,
    /// `None`: the target is gone.
    status: Option<TargetStatus>,
}

impl Targets {
    fn change(&mut self, labels: &Labels, status: Option<TargetStatus>) {
        self.version += 1;
        self.by_labels.insert(labels.clone(), Changed { version: self.version, status });
    }
}

impl ScrapeStatus {
    pub fn set(&self, labels: &Labels, mut status: TargetStatus) {
        if labels.bytes() > LABELS_BYTES_MAX {
            return;
        }
        status.error.truncate(status.error.floor_char_boundary(ERROR_BYTES_MAX));
        status.url.truncate(status.url.floor_char_boundary(URL_BYTES_MAX));
        let status = Some(status);
        let mut targets = self.targets();
        if targets.by_labels.get(labels).is_none_or(|known| known.status != status) {
            targets.change(labels, status);
        }
    }

    /// The target is gone.
    pub fn remove(&self, labels: &Labels) {
        let mut targets = self.targets();
        if targets.by_labels.get(labels).is_none_or(|known| known.status.is_none()) {
            return;
        }
        targets.by_labels.remove(labels);
        let gone = targets.by_labels.values().filter(|known| known.status.is_none()).count();
        if gone < GONE_MAX {
            targets.change(labels, None);
        }
    }

    /// Those of the targets that changed after `version`, the oldest change
    /// first, and the version up to which this tells: as many as a message of
    /// `bytes_max` holds, but at least one. A session begins with version 0.
    pub fn changed_after(
        &self,
        version: u64,
        bytes_max: usize,
    ) -> (Vec<(Labels, Option<TargetStatus>)>, u64) {
        let mut targets = self.targets();
        // What was told; and to a new session they are no news.
        let is_news = |known: &Changed| known.status.is_some() || (version > 0 && known.version > version);
        targets.by_labels.retain(|_, known| is_news(known));
        let mut changed: Vec<_> =
            targets.by_labels.iter().filter(|(_, known)| known.version > version).collect();
        changed.sort_by_key(|(_, known)| known.version);
        let mut bytes = 0;
        let fitting = changed.iter().take_while(|(labels, known)| {
            bytes += message_bytes(labels, known.status.as_ref());
            bytes <= bytes_max
        });
        let count = fitting.count().max(1);
        changed.truncate(count);
        let told = changed.last().map_or(version, |(_, known)| known.version);
        (changed.into_iter().map(|(labels, known)| (labels.clone(), known.status.clone())).collect(), told)
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No less than what a message takes for this target.
fn message_bytes(labels: &Labels, status: Option<&TargetStatus>) -> usize {
    let texts = status.map_or(0, |status| status.url.len() + status.error.len());
    labels.bytes() + texts + (1 + labels.len()) * OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("instance", name)])
    }

    fn of(error: &str) -> TargetStatus {
        TargetStatus {
            url: "http://a/metrics".to_owned(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            error: error.to_owned(),
        }
    }

    /// Whose change is told, with `-` before those that are gone.
    fn told(status: &ScrapeStatus, after: u64, bytes_max: usize) -> (String, u64) {
        let (changed, version) = status.changed_after(after, bytes_max);
        let name = |(labels, status): &(Labels, Option<TargetStatus>)| {
            let is_gone = if status.is_none() { "-" } else { "" };
            format!("{is_gone}{}", labels.get("instance").unwrap())
        };
        (changed.iter().map(name).collect::<Vec<_>>().join(" "), version)
    }

    #[test]
    fn each_change_is_told_once() {
        let status = ScrapeStatus::default();
        for name in ["a", "b", "c"] {
            status.set(&labels(name), of(""));
        }
        let two = 2 * message_bytes(&labels("a"), Some(&of("")));
        assert_eq!(told(&status, 0, two), ("a b".to_owned(), 2));
        assert_eq!(told(&status, 2, two), ("c".to_owned(), 3));
        status.set(&labels("b"), of(""));
        assert_eq!(told(&status, 3, two), (String::new(), 3));
        status.set(&labels("a"), of(&"é".repeat(ERROR_BYTES_MAX)));
        status.remove(&labels("c"));
        status.remove(&labels("c"));
        let (changed, _) = status.changed_after(3, 0);
        assert_eq!(changed[0].1.as_ref().unwrap().error.len(), ERROR_BYTES_MAX);
        assert_eq!(told(&status, 3, 0), ("a".to_owned(), 4));
        assert_eq!(told(&status, 4, 0), ("-c".to_owned(), 5));
        assert_eq!(told(&status, 5, two), (String::new(), 5));
        assert_eq!(status.targets().by_labels.len(), 2);
        // A new session; one that is gone is no news to it.
        status.remove(&labels("b"));
        assert_eq!(told(&status, 0, 9 * two), ("a".to_owned(), 4));
        assert_eq!(status.targets().by_labels.len(), 1);
    }

    #[test]
    fn what_nobody_is_told_is_bounded() {
        let status = ScrapeStatus::default();
        for n in 0..GONE_MAX + 9 {
            status.set(&labels(&n.to_string()), of(""));
            status.remove(&labels(&n.to_string()));
        }
        assert_eq!(status.targets().by_labels.len(), GONE_MAX);
        status.set(&labels(&"x".repeat(LABELS_BYTES_MAX)), of(""));
        assert_eq!(told(&status, 0, 0).0, "");
    }
}
