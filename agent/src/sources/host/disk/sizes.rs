//! Asking file systems for their size without waiting for a dead file server.
//!
//! `statvfs` on such a server blocks for ever, and there is no way to give up.
//! So somebody else waits: [`Sizes::ask`] hands the question to a thread of its
//! own and goes on when no answer came in time. A mount whose thread still
//! waits is not asked again; the answer counts when it comes at last.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

/// An answer later than this counts in the next cycle.
const PATIENCE: Duration = Duration::from_millis(250);

/// Threads of the whole process, nearly all of which wait for servers that are
/// dead. With as many, nobody asks: a cycle waits for at most as many times
/// the patience, and once only.
const THREAD_COUNT_MAX: usize = 16;

static THREAD_COUNT: AtomicUsize = AtomicUsize::new(0);

/// How a path is asked: [`statvfs`](rustix::fs::statvfs), or a test's idea of it.
pub type Ask<A> = fn(&Path) -> A;

pub struct Sizes<A> {
    how: Ask<A>,
    /// A thread that has nothing to do.
    idle: Option<Asker<A>>,
    waiting: Vec<(PathBuf, Asker<A>)>,
}

struct Asker<A> {
    questions: Sender<PathBuf>,
    answers: Receiver<A>,
}

impl<A: Send + 'static> Sizes<A> {
    pub fn new(how: Ask<A>) -> Self {
        Sizes { how, idle: None, waiting: Vec::new() }
    }

    /// The answer for `path`; `None` when there is none in time, or nobody
    /// left to ask. Blocks for a quarter of a second at most.
    pub fn ask(&mut self, path: &Path) -> Option<A> {
        if let Some(at) = self.waiting.iter().position(|(asked, _)| asked == path) {
            return match self.waiting[at].1.answers.try_recv() {
                Ok(answer) => {
                    self.idle = Some(self.waiting.swap_remove(at).1);
                    Some(answer)
                }
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    self.waiting.swap_remove(at);
                    None
                }
            };
        }
        let asker = match self.idle.take() {
            Some(asker) => asker,
            None => Asker::start(self.how)?,
        };
        asker.questions.send(path.to_owned()).ok()?;
        match asker.answers.recv_timeout(PATIENCE) {
            Ok(answer) => {
                self.idle = Some(asker);
                Some(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.waiting.push((path.to_owned(), asker));
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl<A: Send + 'static> Asker<A> {
    /// `None` when there are enough threads, or the system refuses one.
    fn start(how: Ask<A>) -> Option<Self> {
        let counted = Counted::new()?;
        let (questions, asked) = channel::<PathBuf>();
        let (answer, answers) = channel();
        let run = move || {
            let _counted = counted;
            // Ends when the other side is gone.
            while let Ok(path) = asked.recv() {
                if answer.send(how(&path)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("statvfs".to_owned()).stack_size(64 << 10).spawn(run).ok()?;
        Some(Asker { questions, answers })
    }
}

/// A place among the threads, free again when dropped.
struct Counted;

impl Counted {
    fn new() -> Option<Self> {
        let more = |count| (count < THREAD_COUNT_MAX).then_some(count + 1);
        THREAD_COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREAD_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// All threads, for one test at a time.
    fn all_threads() -> MutexGuard<'static, ()> {
        static TESTS: Mutex<()> = Mutex::new(());
        let alone = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while THREAD_COUNT.load(Ordering::Relaxed) > 0 {
            assert!(std::time::Instant::now() < deadline, "threads of the other test never ended");
            std::thread::yield_now();
        }
        alone
    }

    /// Opening a FIFO waits for its other end, like a file system for its server.
    fn open(path: &Path) -> bool {
        std::fs::File::open(path).is_ok()
    }

    fn fifo(path: &Path) {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn a_path_that_hangs_costs_its_own_answer_only_and_may_come_back() {
        let _alone = all_threads();
        let dir = tempfile::tempdir().unwrap();
        let (dead, alive) = (dir.path().join("dead"), dir.path().join("alive"));
        fifo(&dead);
        std::fs::write(&alive, "").unwrap();
        let mut sizes = Sizes::new(open);
        assert_eq!(sizes.ask(&alive), Some(true));
        assert_eq!(sizes.ask(&dead), None);
        assert_eq!(sizes.ask(&alive), Some(true));
        // It is not asked again, so it does not cost time again.
        let asked = std::time::Instant::now();
        assert_eq!(sizes.ask(&dead), None);
        assert!(asked.elapsed() < PATIENCE);
        assert_eq!(sizes.waiting.len(), 1);

        let _server = std::fs::OpenOptions::new().write(true).open(&dead).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while sizes.ask(&dead) != Some(true) {
            assert!(std::time::Instant::now() < deadline, "the answer never came");
            std::thread::yield_now();
        }
        assert_eq!(sizes.waiting.len(), 0);
        assert_eq!(sizes.ask(&alive), Some(true));
    }

    #[test]
    fn the_number_of_threads_is_bounded() {
        let _alone = all_threads();
        let dir = tempfile::tempdir().unwrap();
        let mut sizes = Sizes::new(open);
        let paths: Vec<_> = (0..THREAD_COUNT_MAX + 4).map(|n| dir.path().join(n.to_string())).collect();
        for path in &paths {
            fifo(path);
            assert_eq!(sizes.ask(path), None);
        }
        assert!(sizes.waiting.len() <= THREAD_COUNT_MAX);
        assert!(THREAD_COUNT.load(Ordering::Relaxed) <= THREAD_COUNT_MAX);
        for (path, _) in &sizes.waiting {
            drop(std::fs::OpenOptions::new().write(true).open(path).unwrap());
        }
    }
}
