//! Threads that help with a query. This crate starts none.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::engine::Error;

/// Threads that may help with a query.
pub trait Workers: fmt::Debug + Send + Sync {
    /// Calls `job` on this thread and, at the same time, on as many others as
    /// are free. Returns when every call has. A call takes up what is left to
    /// do, so how many there are changes nothing but the time it takes.
    ///
    /// # Panics
    ///
    /// If one of the calls did.
    fn run(&self, job: &(dyn Fn() + Sync));
}

/// No threads but the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Workers for Alone {
    fn run(&self, job: &(dyn Fn() + Sync)) {
        job();
    }
}

/// Does `parts` parts of some work, each by `work(state, part)`, where every
/// thread has a state of its own. Returns the results in the order of the
/// parts, and the states.
///
/// # Errors
///
/// That of the first part that failed; no further ones are begun.
pub(crate) fn in_parts<S: Send, T: Send>(
    workers: &dyn Workers,
    parts: usize,
    state: impl Fn() -> Result<S, Error> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T, Error> + Sync,
) -> Result<(Vec<T>, Vec<S>), Error> {
    let done: Mutex<Done<S, T>> =
        Mutex::new(Done { results: (0..parts).map(|_| None).collect(), states: Vec::new(), failed: None });
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let lock = || done.lock().unwrap_or_else(PoisonError::into_inner);
    let fail = |part: usize, error: Error| {
        is_over.store(true, Ordering::Relaxed);
        let mut done = lock();
        if done.failed.as_ref().is_none_or(|(first, _)| part < *first) {
            done.failed = Some((part, error));
        }
    };
    workers.run(&|| {
        let mut own: Option<S> = None;
        while !is_over.load(Ordering::Relaxed) {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let result = match &mut own {
                Some(own) => work(own, part),
                None => state().and_then(|state| work(own.insert(state), part)),
            };
            match result {
                Ok(result) => lock().results[part] = Some(result),
                Err(error) => fail(part, error),
            }
        }
        lock().states.extend(own);
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = done.failed {
        return Err(error);
    }
    let results: Option<Vec<T>> = done.results.into_iter().collect();
    // Whoever runs the calls must let a panic through; if not, it shows here.
    let results = results.ok_or_else(|| Error::Execution("a part of the query was not evaluated".into()))?;
    Ok((results, done.states))
}

struct Done<S, T> {
    results: Vec<Option<T>>,
    states: Vec<S>,
    failed: Option<(usize, Error)>,
}
