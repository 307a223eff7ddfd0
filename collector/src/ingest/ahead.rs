//! Who sends samples and lines from the future: counted exactly, told now and
//! then. They are stored like all others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lm_model::{AHEAD, Timestamp};
use lm_schema::batch::{Body, Columns};

use crate::tail::Notice;

/// An agent is told of again after this long.
const NOTICE_INTERVAL: Duration = Duration::from_secs(300);

/// The agents that sent any since the start: at most as many as have a token.
#[derive(Default)]
pub struct AheadAgents {
    agents: BTreeMap<Arc<str>, Account>,
}

/// What one agent sent.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub samples: u64,
    pub log_lines: u64,
    /// Items since the last notice.
    untold: u64,
    /// How far ahead the furthest of them was.
    furthest: Duration,
    told: Option<Instant>,
}

impl AheadAgents {
    /// Counts what of a stored batch is ahead of `now`.
    pub fn count(&mut self, agent: &Arc<str>, body: &Body, dropped: &[u32], now: Timestamp) {
        let limit = now.saturating_add(AHEAD);
        let (mut samples, mut log_lines, mut newest) = (0, 0, limit);
        match body {
            Body::Samples(columns) => samples = ahead_of(columns, dropped, limit, &mut newest),
            Body::Histograms(columns) => samples = ahead_of(columns, dropped, limit, &mut newest),
            Body::Logs(columns) => {
                for (_, time_unix_nano, _) in columns.iter() {
                    let time = Timestamp::from_nanos(time_unix_nano);
                    if time > limit {
                        log_lines += 1;
                        newest = newest.max(time);
                    }
                }
            }
            Body::Events(_) | Body::Loss { .. } => {}
        }
        if samples + log_lines == 0 {
            return;
        }
        let account = self.agents.entry(agent.clone()).or_default();
        account.samples += samples;
        account.log_lines += log_lines;
        account.untold += samples + log_lines;
        let ahead = newest.as_millis().saturating_sub(now.as_millis());
        account.furthest = account.furthest.max(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Account)> {
        self.agents.iter()
    }

    /// The notices that are due: one for each agent with something new, at
    /// most every [`NOTICE_INTERVAL`].
    pub fn poll_notices(&mut self, monotonic: Instant, now: Timestamp) -> Vec<Notice> {
        let is_due = |account: &Account| {
            let waited = account.told.map(|told| monotonic.saturating_duration_since(told));
            account.untold > 0 && waited.is_none_or(|waited| waited >= NOTICE_INTERVAL)
        };
        let due = self.agents.iter_mut().filter(|(_, account)| is_due(account));
        due.map(|(agent, account)| {
            account.told = Some(monotonic);
            let ahead = std::mem::take(&mut account.furthest).as_secs();
            let items = std::mem::take(&mut account.untold);
            tracing::warn!(%agent, items, ahead_s = ahead, "times in the future: a clock is wrong, the agent's or ours");
            Notice {
                time_unix_nano: now.as_nanos(),
                code: "time_in_future".to_owned(),
                agent: agent.to_string(),
                message: format!("{items} items have times up to {ahead} s ahead of the collector's clock"),
                items,
            }
        })
        .collect()
    }
}

/// Samples after `limit` that were not dropped; `newest` becomes the last time.
fn ahead_of<T>(columns: &Columns<T>, dropped: &[u32], limit: Timestamp, newest: &mut Timestamp) -> u64 {
    let (mut samples, mut at) = (0, 0);
    for (time, length) in columns.times.iter().zip(&columns.lengths) {
        let end = at + *length as usize;
        if *time > limit {
            let stored = |reference: &&u32| dropped.binary_search(reference).is_err();
            let references = columns.references.get(at..end).unwrap_or_default();
            samples += references.iter().filter(stored).count() as u64;
            *newest = (*newest).max(*time);
        }
        at = end;
    }
    samples
}

#[cfg(test)]
mod tests {
    use lm_schema::batch::{LogColumns, SampleColumns};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn scrapes(ahead_s: &[i64]) -> Body {
        let times: Vec<_> =
            ahead_s.iter().map(|s| Timestamp::from_millis(NOW.as_millis() + s * 1000)).collect();
        let count = times.len();
        Body::Samples(SampleColumns {
            lengths: vec![2; count],
            references: (0..count as u32 * 2).collect(),
            values: vec![0.0; count * 2],
            times,
        })
    }

    #[test]
    fn only_what_is_ahead_and_stored_counts() {
        let (mut ahead, agent) = (AheadAgents::default(), Arc::from("a"));
        ahead.count(&agent, &scrapes(&[0, 600, -86_400]), &[], NOW);
        assert_eq!(ahead.iter().count(), 0);
        ahead.count(&agent, &scrapes(&[0, 601, 7200]), &[5], NOW);
        let mut lines = LogColumns::default();
        lines.push(0, NOW.as_nanos(), b"now");
        lines.push(0, NOW.saturating_add(AHEAD).as_nanos() + 1_000_000, b"ahead");
        ahead.count(&agent, &Body::Logs(lines), &[], NOW);
        let (_, account) = ahead.iter().next().unwrap();
        assert_eq!((account.samples, account.log_lines), (3, 1));
    }

    #[test]
    fn each_agent_is_told_of_now_and_then() {
        let (mut ahead, a, b) = (AheadAgents::default(), Arc::from("a"), Arc::from("b"));
        let start = Instant::now();
        let told = |ahead: &mut AheadAgents, s| {
            let notices = ahead.poll_notices(start + Duration::from_secs(s), NOW);
            notices.into_iter().map(|notice| (notice.agent, notice.items)).collect::<Vec<_>>()
        };
        ahead.count(&a, &scrapes(&[7200]), &[], NOW);
        assert_eq!(told(&mut ahead, 0), [("a".to_owned(), 2)]);
        ahead.count(&a, &scrapes(&[7200, 7200]), &[], NOW);
        ahead.count(&b, &scrapes(&[7200]), &[], NOW);
        assert_eq!(told(&mut ahead, 299), [("b".to_owned(), 2)]);
        assert_eq!(told(&mut ahead, 300), [("a".to_owned(), 4)]);
        assert_eq!(told(&mut ahead, 900), []);
    }
}
