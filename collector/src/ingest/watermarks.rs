//! Which sequences of each agent's streams are stored: the dedupe core.
//!
//! One entry for each (agent, stream, incarnation). The newest incarnation of
//! a stream is current; when a newer one starts, the others are fenced: what
//! is at or below their final watermark is a duplicate, anything else is kept
//! apart and declared. Pure state: rebuilt from the spool, never a file of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use lm_model::{Incarnation, LossReason, Resume, Stream};

/// Fenced incarnations that are remembered for each agent and stream. The
/// oldest is forgotten first; a re-send of it would then be quarantined.
const FENCED_MAX: usize = 32;

/// What to do with a batch, before looking inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one: store it.
    Next,
    /// Stored already.
    Duplicate,
    /// Something before it is missing.
    Gap { expected: u64 },
    /// From an incarnation that has ended, and not known to be stored.
    Fenced,
}

/// What is stored of one incarnation of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Every sequence below is stored or declared lost.
    pub durable_end: u64,
    /// Items stored.
    pub items: u64,
    /// Declared lost, by reason: (batches, items).
    pub lost: BTreeMap<String, Lost>,
}

impl Account {
    /// Items stored and lost.
    pub fn total(&self) -> u64 {
        self.items + self.lost.values().map(|lost| lost.items).sum::<u64>()
    }
}

/// Declared losses of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub batches: u64,
    pub items: u64,
}

/// One stream of one agent: its incarnations in order, the last one current.
/// A list as long as it must be, since there are many agents and nearly all
/// have one incarnation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StreamState {
    incarnations: Vec<(Incarnation, Account)>,
}

impl StreamState {
    fn find(&self, incarnation: Incarnation) -> Result<usize, usize> {
        self.incarnations.binary_search_by_key(&incarnation, |(known, _)| *known)
    }

    fn get(&self, incarnation: Incarnation) -> Option<&Account> {
        self.find(incarnation).ok().map(|at| &self.incarnations[at].1)
    }

    /// Adds an empty account when there is none.
    fn entry(&mut self, incarnation: Incarnation) -> &mut Account {
        let at = self.find(incarnation).unwrap_or_else(|at| {
            self.incarnations.reserve_exact(1);
            self.incarnations.insert(at, (incarnation, Account::default()));
            at
        });
        &mut self.incarnations[at].1
    }

    fn current(&self) -> Option<Incarnation> {
        self.incarnations.last().map(|(incarnation, _)| *incarnation)
    }
}

/// The watermarks of all agents.
#[derive(Clone, Debug, Default)]
pub struct Watermarks {
    streams: BTreeMap<(Arc<str>, Stream), StreamState>,
}

/// What an accepted record adds to an account.
#[derive(Clone, Debug)]
pub enum Outcome {
    Stored { items: u64 },
    Lost { items: u64, reason: String },
}

impl Watermarks {
    /// Judges sequences `[start, end)`.
    pub fn check(
        &self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        start: u64,
        end: u64,
    ) -> Verdict {
        let Some(state) = self.streams.get(&(agent.clone(), stream)) else {
            return next_or_gap(start, 0);
        };
        let Some(current) = state.current() else {
            return next_or_gap(start, 0);
        };
        match state.get(incarnation) {
            Some(account) if end <= account.durable_end => Verdict::Duplicate,
            Some(account) if incarnation == current => next_or_gap(start, account.durable_end),
            Some(_) => Verdict::Fenced,
            None if incarnation > current => next_or_gap(start, 0),
            None => Verdict::Fenced,
        }
    }

    /// Records that `[.., end)` is now covered. Call only after
    /// [`Verdict::Next`], or with records of the spool.
    pub fn advance(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        start: u64,
        end: u64,
        outcome: &Outcome,
    ) {
        let state = self.streams.entry((agent.clone(), stream)).or_default();
        let account = state.entry(incarnation);
        account.durable_end = account.durable_end.max(end);
        match outcome {
            Outcome::Stored { items } => account.items += items,
            Outcome::Lost { items, reason } => {
                let lost = account.lost.entry(reason.clone()).or_default();
                lost.batches += end.saturating_sub(start);
                lost.items += items;
            }
        }
        let forgotten = state.incarnations.len().saturating_sub(FENCED_MAX);
        state.incarnations.drain(..forgotten);
    }

    /// Adds losses that are no sequence of their own, for example samples of
    /// a stored batch that a limit dropped.
    pub fn add_lost(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        reason: &str,
        items: u64,
    ) {
        let state = self.streams.entry((agent.clone(), stream)).or_default();
        let account = state.entry(incarnation);
        account.lost.entry(reason.to_owned()).or_default().items += items;
    }

    /// Counts stored items as lost: the store refused them after all.
    pub fn move_to_lost(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        reason: &str,
        items: u64,
    ) {
        self.add_lost(agent, stream, incarnation, reason, items);
        let state = self.streams.entry((agent.clone(), stream)).or_default();
        let account = state.entry(incarnation);
        account.items = account.items.saturating_sub(items);
    }

    /// Declares batches lost that an account counts as stored: their records
    /// are gone. Its end stays.
    pub fn lose_stored(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        batches: u64,
        items: u64,
    ) {
        let reason = LossReason::Corrupt.name();
        self.move_to_lost(agent, stream, incarnation, reason, items);
        let state = self.streams.entry((agent.clone(), stream)).or_default();
        let account = state.entry(incarnation);
        account.lost.entry(reason.to_owned()).or_default().batches += batches;
    }

    /// What is stored and lost of one incarnation.
    pub fn account(&self, agent: &Arc<str>, stream: Stream, incarnation: Incarnation) -> Option<&Account> {
        self.streams.get(&(agent.clone(), stream))?.get(incarnation)
    }

    /// A batch says how many items its stream had before it. What is not
    /// accounted for was in a hole whose sender could not count it.
    pub fn note_items_before(
        &mut self,
        agent: &Arc<str>,
        stream: Stream,
        incarnation: Incarnation,
        before: u64,
    ) {
        let Some(state) = self.streams.get_mut(&(agent.clone(), stream)) else { return };
        let Ok(at) = state.find(incarnation) else { return };
        let account = &mut state.incarnations[at].1;
        let missing = before.saturating_sub(account.total());
        if missing > 0 && !account.lost.is_empty() {
            account.lost.entry(LossReason::Corrupt.name().to_owned()).or_default().items += missing;
        }
    }

    /// Where the given incarnations of an agent stand; unknown ones are at 0.
    /// Behind them the newest of each stream, if it is not among them: an
    /// agent that lost its queue learns what its next one must be above.
    pub fn resume(&self, agent: &Arc<str>, held: &[(Stream, Incarnation)]) -> Vec<Resume> {
        let newest = Stream::ALL.into_iter().filter_map(|stream| {
            let state = self.streams.get(&(agent.clone(), stream))?;
            Some((stream, state.current()?)).filter(|newest| !held.contains(newest))
        });
        held.iter()
            .copied()
            .chain(newest)
            .map(|(stream, incarnation)| {
                let durable_end = self.durable_end(agent, stream, incarnation);
                // Without an object store, durable is as far as data goes.
                Resume { stream, incarnation, durable_end, landed_end: durable_end }
            })
            .collect()
    }

    /// The end of what is stored of one incarnation.
    pub fn durable_end(&self, agent: &Arc<str>, stream: Stream, incarnation: Incarnation) -> u64 {
        self.account(agent, stream, incarnation).map_or(0, |account| account.durable_end)
    }

    /// Replaces an entry by what a snapshot says.
    pub fn restore(&mut self, agent: &Arc<str>, stream: Stream, incarnation: Incarnation, account: Account) {
        *self.streams.entry((agent.clone(), stream)).or_default().entry(incarnation) = account;
    }

    /// Every entry: `(agent, stream, incarnation, is fenced, account)`.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Stream, Incarnation, bool, &Account)> {
        self.streams.iter().flat_map(|((agent, stream), state)| {
            let current = state.current();
            state.incarnations.iter().map(move |(incarnation, account)| {
                (agent, *stream, *incarnation, Some(*incarnation) != current, account)
            })
        })
    }
}

fn next_or_gap(start: u64, expected: u64) -> Verdict {
    if start == expected { Verdict::Next } else { Verdict::Gap { expected } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(ordinal: u64) -> Incarnation {
        Incarnation { ordinal, nonce: 7 }
    }

    fn store(marks: &mut Watermarks, agent: &Arc<str>, ordinal: u64, sequence: u64) -> Verdict {
        let verdict = marks.check(agent, Stream::Metrics, incarnation(ordinal), sequence, sequence + 1);
        if verdict == Verdict::Next {
            let outcome = Outcome::Stored { items: 10 };
            marks.advance(agent, Stream::Metrics, incarnation(ordinal), sequence, sequence + 1, &outcome);
        }
        verdict
    }

    #[test]
    fn sequences_are_taken_once_and_in_order() {
        let (mut marks, agent) = (Watermarks::default(), Arc::from("a"));
        assert_eq!(store(&mut marks, &agent, 1, 1), Verdict::Gap { expected: 0 });
        assert_eq!(store(&mut marks, &agent, 1, 0), Verdict::Next);
        assert_eq!(store(&mut marks, &agent, 1, 0), Verdict::Duplicate);
        assert_eq!(store(&mut marks, &agent, 1, 1), Verdict::Next);
        assert_eq!(store(&mut marks, &agent, 1, 3), Verdict::Gap { expected: 2 });
        assert_eq!(marks.durable_end(&agent, Stream::Metrics, incarnation(1)), 2);
    }

    #[test]
    fn what_a_hole_could_not_count_is_counted_by_what_follows() {
        let (mut marks, agent) = (Watermarks::default(), Arc::from("a"));
        store(&mut marks, &agent, 1, 0);
        let outcome = Outcome::Lost { items: 0, reason: "corrupt".to_owned() };
        marks.advance(&agent, Stream::Metrics, incarnation(1), 1, 3, &outcome);
        marks.note_items_before(&agent, Stream::Metrics, incarnation(1), 30);
        store(&mut marks, &agent, 1, 3);
        let (.., account) = marks.iter().next().unwrap();
        assert_eq!((account.lost["corrupt"], account.items), (Lost { batches: 2, items: 20 }, 20));
        marks.note_items_before(&agent, Stream::Metrics, incarnation(1), 40);
        assert_eq!(marks.iter().next().unwrap().4.total(), 40);
    }

    #[test]
    fn a_newer_incarnation_fences_the_older() {
        let (mut marks, agent) = (Watermarks::default(), Arc::from("a"));
        store(&mut marks, &agent, 1, 0);
        assert_eq!(store(&mut marks, &agent, 2, 1), Verdict::Gap { expected: 0 });
        assert_eq!(store(&mut marks, &agent, 2, 0), Verdict::Next);
        assert_eq!(store(&mut marks, &agent, 1, 0), Verdict::Duplicate);
        assert_eq!(store(&mut marks, &agent, 1, 1), Verdict::Fenced);
        assert_eq!(store(&mut marks, &agent, 0, 0), Verdict::Fenced);
        // Other streams and agents have their own.
        assert_eq!(marks.check(&agent, Stream::Logs, incarnation(1), 0, 1), Verdict::Next);
        assert_eq!(store(&mut marks, &Arc::from("b"), 1, 0), Verdict::Next);
    }

    #[test]
    fn a_login_learns_the_newest_incarnation() {
        let (mut marks, agent) = (Watermarks::default(), Arc::from("a"));
        let resume = |marks: &Watermarks, held: &[(Stream, Incarnation)]| -> Vec<(Stream, u64, u64)> {
            let answers = marks.resume(&agent, held).into_iter();
            answers.map(|at| (at.stream, at.incarnation.ordinal, at.durable_end)).collect()
        };
        assert_eq!(resume(&marks, &[(Stream::Metrics, incarnation(3))]), [(Stream::Metrics, 3, 0)]);
        store(&mut marks, &agent, 4, 0);
        store(&mut marks, &agent, 7, 0);
        let held = [(Stream::Metrics, incarnation(4)), (Stream::Logs, incarnation(5))];
        let expected = [(Stream::Metrics, 4, 1), (Stream::Logs, 5, 0), (Stream::Metrics, 7, 1)];
        assert_eq!(resume(&marks, &held), expected);
        assert_eq!(resume(&marks, &[(Stream::Metrics, incarnation(7))]), [(Stream::Metrics, 7, 1)]);
    }

    #[test]
    fn a_loss_fills_exactly_its_hole() {
        let (mut marks, agent) = (Watermarks::default(), Arc::from("a"));
        store(&mut marks, &agent, 1, 0);
        let check =
            |marks: &Watermarks, start, end| marks.check(&agent, Stream::Metrics, incarnation(1), start, end);
        assert_eq!(check(&marks, 2, 5), Verdict::Gap { expected: 1 });
        // Begins below the watermark and ends above it: never sent by a
        // correct agent, never accepted.
        assert_eq!(check(&marks, 0, 5), Verdict::Gap { expected: 1 });
        assert_eq!(check(&marks, 1, 5), Verdict::Next);
        let outcome = Outcome::Lost { items: 40, reason: "queue_full_oldest".to_owned() };
        marks.advance(&agent, Stream::Metrics, incarnation(1), 1, 5, &outcome);
        assert_eq!(check(&marks, 5, 6), Verdict::Next);
        let (.., account) = marks.iter().next().unwrap();
        assert_eq!(account.lost["queue_full_oldest"], Lost { batches: 4, items: 40 });
        assert_eq!(account.items, 10);
    }
}
