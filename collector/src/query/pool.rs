//! The threads that evaluate queries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::oneshot;

/// Queries that may wait for a thread; more are told that we are overloaded.
const WAITING_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads. They end when the pool is dropped.
#[derive(Clone)]
pub struct Pool {
    jobs: mpsc::SyncSender<Job>,
}

/// The pool's waiting room is full, or the job panicked.
#[derive(Debug, PartialEq, Eq)]
pub enum PoolError {
    Overloaded,
    Panicked,
}

/// Set when nobody waits for an answer any more.
#[derive(Clone, Default)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cancels when dropped: the RPC system drops a method's future when its
/// caller goes away.
struct CancelOnDrop(Cancelled);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let (tx, rx) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let rx = Arc::new(Mutex::new(rx));
        for index in 0..threads.max(1) {
            let rx = rx.clone();
            std::thread::Builder::new().name(format!("query-{index}")).spawn(move || {
                loop {
                    let job = rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { break };
                    // A panic ends the query, not the thread; its oneshot is dropped.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(Pool { jobs: tx })
    }

    /// Runs `job` on a thread and waits for it.
    ///
    /// # Cancel safety
    ///
    /// A dropped call sets the job's [`Cancelled`]; the job ends soon after.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Cancelled) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let cancelled = Cancelled::default();
        let _guard = CancelOnDrop(cancelled.clone());
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !cancelled.is_set() {
                let _ = tx.send(job(&cancelled));
            }
        });
        self.jobs.try_send(job).map_err(|_| PoolError::Overloaded)?;
        rx.await.map_err(|_| PoolError::Panicked)
    }
}
