//! How fast an agent may send: token buckets that take time as an argument.
//!
//! Over its rate an agent is told to come back; nothing is lost by it. A batch
//! is taken while its buckets are not in debt and may bring them into debt, so
//! that one larger than a second's worth passes too; the debt is the wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lm_mesh::Rates;

/// The longest that an agent is told to wait: it asks again sooner than a
/// debt of many seconds is paid, and a changed rate soon counts.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What a batch costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub samples: u32,
    pub lines: u32,
    pub bytes: u32,
}

/// Fills with a rate, up to a second's worth.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: f64,
    /// Negative: in debt.
    level: f64,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Bucket { per_second: per_second.into(), level: per_second.into() }
    }

    fn fill(&mut self, elapsed: Duration) {
        self.level = (self.level + self.per_second * elapsed.as_secs_f64()).min(self.per_second);
    }

    /// Until it is out of debt.
    fn wait(&self) -> Duration {
        Duration::from_secs_f64((-self.level / self.per_second).max(0.0)).min(WAIT_MAX)
    }
}

/// The buckets of one agent.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    buckets: [Option<Bucket>; 3],
    filled_at: Instant,
}

impl Limiter {
    pub fn new(rates: Rates, now: Instant) -> Self {
        let buckets = [rates.samples, rates.lines, rates.bytes].map(|rate| rate.map(Bucket::new));
        Limiter { rates, buckets, filled_at: now }
    }

    /// Takes what a batch costs, or tells how long to wait.
    ///
    /// # Errors
    ///
    /// The wait, more than nothing, when a bucket that the batch needs is in
    /// debt. Nothing is taken then.
    pub fn take(&mut self, cost: Cost, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.filled_at = now;
        let mut wait = Duration::ZERO;
        for (bucket, amount) in parts(&mut self.buckets, cost) {
            bucket.fill(elapsed);
            if amount > 0.0 {
                wait = wait.max(bucket.wait());
            }
        }
        if !wait.is_zero() {
            // The wire counts in milliseconds; 0 would mean "now".
            return Err(wait.max(Duration::from_millis(1)));
        }
        self.add(cost, -1.0);
        Ok(())
    }

    /// Gives back what a batch cost that was not taken after all.
    pub fn give_back(&mut self, cost: Cost) {
        self.add(cost, 1.0);
    }

    fn add(&mut self, cost: Cost, sign: f64) {
        for (bucket, amount) in parts(&mut self.buckets, cost) {
            bucket.level = (bucket.level + sign * amount).min(bucket.per_second);
        }
    }
}

/// Buckets that exist, with their part of a cost.
fn parts(buckets: &mut [Option<Bucket>; 3], cost: Cost) -> impl Iterator<Item = (&mut Bucket, f64)> {
    let amounts = [cost.samples, cost.lines, cost.bytes].map(f64::from);
    buckets.iter_mut().zip(amounts).filter_map(|(bucket, amount)| Some((bucket.as_mut()?, amount)))
}

/// The limiters of all agents that have rates: they outlive sessions, so that
/// a new session gives no new credit.
#[derive(Default)]
pub struct Limiters(Mutex<HashMap<String, Arc<Mutex<Limiter>>>>);

impl Limiters {
    /// The limiter of an agent; `None` when it may send any amount. Forgets
    /// agents that are not known any more.
    pub fn of(
        &self,
        agent: &str,
        rates: Rates,
        is_known: impl Fn(&str) -> bool,
    ) -> Option<Arc<Mutex<Limiter>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rates == Rates::default() {
            all.remove(agent);
            return None;
        }
        let fresh = || Arc::new(Mutex::new(Limiter::new(rates, Instant::now())));
        if !all.contains_key(agent) {
            all.retain(|name, _| is_known(name));
        }
        let limiter = all.entry(agent.to_owned()).or_insert_with(fresh);
        let is_current = limiter.lock().unwrap_or_else(PoisonError::into_inner).rates == rates;
        if !is_current {
            *limiter = fresh();
        }
        Some(limiter.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(samples: u32, now: Instant) -> Limiter {
        Limiter::new(Rates { samples: Some(samples), ..Rates::default() }, now)
    }

    fn samples(samples: u32) -> Cost {
        Cost { samples, lines: 9, bytes: 9_000_000 }
    }

    #[test]
    fn over_the_rate_the_wait_is_what_the_debt_takes() {
        let start = Instant::now();
        let mut limiter = limiter(100, start);
        assert_eq!(limiter.take(samples(250), start), Ok(()), "larger than a second's worth");
        assert_eq!(limiter.take(samples(1), start), Err(Duration::from_millis(1500)));
        let later = start + Duration::from_millis(1400);
        assert_eq!(limiter.take(samples(1), later), Err(Duration::from_millis(100)));
        let paid = start + Duration::from_millis(1500);
        assert_eq!(limiter.take(samples(1), paid), Ok(()));
    }

    #[test]
    fn what_has_no_rate_costs_nothing_and_waits_for_nobody() {
        let start = Instant::now();
        let mut limiter = limiter(1, start);
        limiter.take(samples(1000), start).unwrap();
        let lines = Cost { samples: 0, lines: 1_000_000, bytes: u32::MAX };
        assert_eq!(limiter.take(lines, start), Ok(()));
        assert_eq!(limiter.take(samples(1), start), Err(WAIT_MAX));
    }

    #[test]
    fn a_refused_batch_is_given_back_and_credit_does_not_grow() {
        let start = Instant::now();
        let mut limiter = limiter(10, start);
        limiter.take(samples(20), start).unwrap();
        limiter.give_back(samples(20));
        assert_eq!(limiter.take(samples(20), start + Duration::from_secs(60)), Ok(()));
        assert_eq!(limiter.take(samples(1), start + Duration::from_secs(60)), Err(Duration::from_secs(1)));
    }

    #[test]
    fn over_a_long_time_the_rate_holds() {
        let start = Instant::now();
        let mut limiter = limiter(1000, start);
        let (mut at, mut taken) = (start, 0u64);
        while at < start + Duration::from_secs(100) {
            match limiter.take(samples(70), at) {
                Ok(()) => taken += 70,
                Err(wait) => at += wait,
            }
        }
        assert!((100_000..=101_100).contains(&taken), "{taken}");
    }
}
