//! The same event again and again: written a few times, then counted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

use super::record::{FieldValue, Record};

/// How often the same event is written in [`WINDOW`].
const WRITTEN_MAX: u64 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// Events that are watched at a time. When there are more, new ones are
/// written and not counted.
const WATCHED_MAX: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    LeaveOut,
}

/// What was seen in the last moments, by place and words.
#[derive(Default)]
pub(super) struct Repeats {
    seen: HashMap<(Identifier, u64), Seen>,
    swept: Option<Instant>,
}

struct Seen {
    since: Instant,
    count: u64,
    /// The event, once some of it was left out.
    left_out: Option<Record>,
}

impl Repeats {
    /// Whether to write an event, and what is to be said of others whose time
    /// is over: how often they were left out.
    pub fn handle_record(
        &mut self,
        now: Instant,
        place: Identifier,
        record: &Record,
    ) -> (Verdict, Vec<Record>) {
        let summaries = self.sweep(now);
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let key = (place, hasher.finish());
        if self.seen.len() >= WATCHED_MAX && !self.seen.contains_key(&key) {
            return (Verdict::Write, summaries);
        }
        let seen = self.seen.entry(key).or_insert(Seen { since: now, count: 0, left_out: None });
        seen.count += 1;
        if seen.count <= WRITTEN_MAX {
            return (Verdict::Write, summaries);
        }
        seen.left_out.get_or_insert_with(|| record.clone());
        (Verdict::LeaveOut, summaries)
    }

    fn sweep(&mut self, now: Instant) -> Vec<Record> {
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= WINDOW / 10);
        if !is_due {
            return Vec::new();
        }
        self.swept = Some(now);
        let over = self.seen.extract_if(|_, seen| now.saturating_duration_since(seen.since) >= WINDOW);
        let mut summaries: Vec<_> = over
            .filter_map(|(_, seen)| {
                let mut record = seen.left_out?;
                record.fields.push(("left_out", FieldValue::Number((seen.count - WRITTEN_MAX).to_string())));
                Some((seen.since, record))
            })
            .collect();
        summaries.sort_by_key(|(since, _)| *since);
        summaries.into_iter().map(|(_, record)| record).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite as _, Level};

    use super::*;

    fn record(message: &str) -> Record {
        Record { level: Level::WARN, target: "t".to_owned(), message: message.to_owned(), fields: Vec::new() }
    }

    fn place() -> Identifier {
        tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields: message)
            .metadata()
            .callsite()
    }

    #[test]
    fn the_same_event_is_written_ten_times_and_then_counted() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let mut handle = |millis, message: &str| {
            let now = start + Duration::from_millis(millis);
            let (verdict, summaries) = repeats.handle_record(now, place(), &record(message));
            let summaries: Vec<_> =
                summaries.into_iter().map(|summary| (summary.message, summary.fields)).collect();
            (verdict, summaries)
        };
        for at in 0..10 {
            assert_eq!(handle(at, "a"), (Verdict::Write, vec![]));
        }
        for at in 10..40 {
            assert_eq!(handle(at, "a"), (Verdict::LeaveOut, vec![]));
            assert_eq!(handle(at, &format!("b {at}")), (Verdict::Write, vec![]), "another event");
        }
        let left_out = vec![("left_out", FieldValue::Number("30".to_owned()))];
        assert_eq!(handle(10_500, "a"), (Verdict::Write, vec![("a".to_owned(), left_out)]));
    }

    #[test]
    fn too_many_different_events_are_all_written() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..5000 {
            let (verdict, _) = repeats.handle_record(start, place(), &record(&number.to_string()));
            assert_eq!(verdict, Verdict::Write);
        }
        assert_eq!(repeats.seen.len(), WATCHED_MAX);
    }
}
