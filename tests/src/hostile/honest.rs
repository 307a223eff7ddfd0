//! An agent that does nothing wrong, and notices what others do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api::unix_ms;
use crate::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};

/// Whoever waits longer for an answer is not served any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session that pushes at a steady rate and measures each acknowledgement,
/// from the moment that the push was due.
pub struct Honest {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    times: Mutex<Vec<Duration>>,
    failure: Mutex<Option<String>>,
}

impl Honest {
    /// Pushes once in every `period`.
    pub fn start(config: MeshConfig, period: Duration) -> Honest {
        let shared = Arc::new(Shared::default());
        let mine = shared.clone();
        let thread = std::thread::spawn(move || {
            if let Err(why) = block_on(push_steadily(&config, period, &mine)) {
                *mine.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        });
        Honest { shared, thread: Some(thread) }
    }

    /// How many pushes were acknowledged.
    pub fn count(&self) -> usize {
        self.times().len()
    }

    /// Waits for so many more acknowledgements.
    ///
    /// # Errors
    ///
    /// When the session has failed, or they do not come in time.
    pub fn wait_more(&self, count: usize, within: Duration) -> Result<(), String> {
        let wanted = self.count() + count;
        crate::try_eventually(within, || {
            self.check()?;
            if self.count() >= wanted { Ok(()) } else { Err(format!("{} of {wanted}", self.count())) }
        })
    }

    /// # Errors
    ///
    /// When the session has failed: why.
    pub fn check(&self) -> Result<(), String> {
        match &*self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(format!("the honest agent: {why}")),
            None => Ok(()),
        }
    }

    /// The 99th percentile of the acknowledgements since the n-th.
    pub fn p99_since(&self, since: usize) -> Duration {
        let mut times = self.times()[since..].to_vec();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.shared.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn push_steadily(config: &MeshConfig, period: Duration, shared: &Shared) -> Result<(), String> {
    let mut maker = BatchMaker::new(unix_ms() as u64);
    let mut session = MeshSession::open(config, &maker.held()).await?;
    session.patience = PATIENCE;
    let mut due = Instant::now();
    let mut value = 0.0;
    while !shared.stop.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        value += 1.0;
        let batch = maker.samples(&[("__name__", "honest")], &[(unix_ms(), value)]);
        loop {
            let receipt = match session.push(&batch).await {
                Ok(receipt) => receipt,
                Err(error) => return Err(format!("{error} ({:?})", session.connected.last_words().await)),
            };
            match receipt.outcome {
                Outcome::Durable => break,
                Outcome::RetryAfterMs(wait) => {
                    tokio::time::sleep(Duration::from_millis(wait.into())).await;
                }
                other => return Err(format!("a batch is answered {other:?}")),
            }
        }
        shared.times.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
        due += period;
    }
    session.connected.close().await;
    Ok(())
}
