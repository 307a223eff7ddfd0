//! The thread that owns the sources and the queue.
//!
//! It reads log files at least twice a second and measures the host at the
//! configured interval, appends everything of a tick, syncs once, and answers
//! the sender's questions in between. Sources that find no room are asked
//! again later; their files are the buffer.

mod collect;
mod scraped;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::{Durability, Settings};
use crate::counters::Counters;
use crate::outbox::{Error, Outbox};
use crate::queue_handle::{COMMANDS_MAX, Command, QueueFacts, QueueHandle};
use crate::sources::scrape::{Finished, ScrapeSource, ScrapeStatus};
pub use collect::Sources;

/// How soon files are looked at again that had something to read, and that had
/// not. A wake-up costs more than the look: an idle agent has two a second.
const LOG_POLL_INTERVAL: Duration = Duration::from_millis(200);
const LOG_IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// Discoveries happen with a poll, this long after the last or a little more.
const DISCOVER_INTERVAL: Duration = Duration::from_millis(900);
/// How long sources rest when the queue had no room or the disk failed.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// Space of acknowledged batches is freed this often.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
/// Questions that are answered before sources have a turn again.
const COMMANDS_PER_TURN: usize = 64;

/// Scrapes that are queued before questions are answered again.
const SCRAPES_PER_TURN: usize = 8;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything, until told to stop.
    Daemon,
    /// Everything, once.
    Once,
    /// Nothing.
    Flush,
}

/// A running intake thread.
pub struct Running {
    pub queue: QueueHandle,
    pub facts: watch::Receiver<QueueFacts>,
    pub thread: std::thread::JoinHandle<()>,
    /// Of the targets, if any are scraped.
    pub scraped: ScrapeStatus,
}

struct Intake {
    settings: Arc<Settings>,
    outbox: Outbox,
    /// `None` once they are closed.
    sources: Option<Sources>,
    /// Gone with the sources.
    scrapes: Option<ScrapeSource>,
    counters: Arc<Counters>,
    facts: watch::Sender<QueueFacts>,
    due: Due,
    has_acknowledgements: bool,
    /// There may be finished scrapes that the last turn left.
    has_more_scrapes: bool,
}

/// When what is to be done next.
struct Due {
    cycle: Instant,
    poll: Instant,
    discover: Instant,
    sync: Instant,
    trim: Instant,
}

/// Starts the thread. It ends when every [`QueueHandle`] is gone.
///
/// # Errors
///
/// When the sources cannot be set up or the thread cannot start.
pub fn start(
    settings: Arc<Settings>,
    outbox: Outbox,
    mode: Mode,
    counters: Arc<Counters>,
) -> Result<Running, std::io::Error> {
    let sources = match mode {
        Mode::Flush => None,
        Mode::Daemon | Mode::Once => Some(
            Sources::new(&settings, outbox.cursors().cloned().collect()).map_err(std::io::Error::other)?,
        ),
    };
    let (tx, rx) = sync_channel(COMMANDS_MAX);
    let scrapes = start_scrapes(&settings, mode, tx.clone())?;
    let scraped = scrapes.as_ref().map(ScrapeSource::status).unwrap_or_default();
    let (facts, facts_rx) = watch::channel(QueueFacts::default());
    let now = Instant::now();
    let due = Due { cycle: now, poll: now, discover: now, sync: now, trim: now };
    let intake = Intake {
        settings,
        outbox,
        sources,
        scrapes,
        counters,
        facts,
        due,
        has_acknowledgements: false,
        has_more_scrapes: false,
    };
    let thread =
        std::thread::Builder::new().name("intake".to_owned()).spawn(move || intake.run(mode, &rx))?;
    Ok(Running { queue: QueueHandle::new(tx), facts: facts_rx, thread, scraped })
}

/// Starts the scrape thread if there is anything to scrape. It ends when it
/// is dropped, and so does its hold on `commands`.
fn start_scrapes(
    settings: &Settings,
    mode: Mode,
    commands: SyncSender<Command>,
) -> Result<Option<ScrapeSource>, std::io::Error> {
    if settings.scrape.is_empty() {
        return Ok(None);
    }
    let jobs = settings.scrape.clone();
    match mode {
        // Without room for the command, this thread has others and looks anyway.
        Mode::Daemon => {
            ScrapeSource::start(jobs, move || drop(commands.try_send(Command::Scraped))).map(Some)
        }
        Mode::Once => ScrapeSource::once(jobs).map(Some),
        Mode::Flush => Ok(None),
    }
}

impl Intake {
    fn run(mut self, mode: Mode, commands: &Receiver<Command>) {
        if mode == Mode::Once {
            self.collect_everything();
        }
        if mode != Mode::Daemon {
            self.close_sources();
        }
        self.sync();
        self.publish();
        loop {
            self.turn();
            match commands.recv_timeout(self.next_due().saturating_duration_since(Instant::now())) {
                Ok(command) => {
                    self.handle(command);
                    for command in commands.try_iter().take(COMMANDS_PER_TURN) {
                        self.handle(command);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.outbox.close() {
            tracing::error!(%error, "the queue could not be closed cleanly; it will be recovered");
        }
    }

    /// Does what is due.
    fn turn(&mut self) {
        self.take_scrapes();
        let now = Instant::now();
        if let Some(sources) = &mut self.sources {
            if sources.follows_logs() && self.due.poll <= now {
                if self.due.discover <= now {
                    sources.discover(now);
                    self.due.discover = now + DISCOVER_INTERVAL;
                }
                let wait = match sources.poll_logs(&mut self.outbox) {
                    Ok(collect::Polled::Idle) => LOG_IDLE_INTERVAL,
                    Ok(collect::Polled::Everything) => LOG_POLL_INTERVAL,
                    Ok(collect::Polled::MoreToRead) => Duration::ZERO,
                    Ok(collect::Polled::Refused) => REFUSED_WAIT,
                    Err(error) => {
                        tracing::error!(%error, "log lines cannot be queued");
                        REFUSED_WAIT
                    }
                };
                self.due.poll = now + wait;
            }
            if self.due.cycle <= now {
                let facts = self.facts.borrow().clone();
                if let Err(error) = sources.cycle(&mut self.outbox, &facts, &self.counters) {
                    tracing::error!(%error, "measurements cannot be queued");
                }
                // From the plan, not from now, so that cycles do not drift;
                // missed ones are not made up for.
                self.due.cycle += self.settings.metrics.interval;
                if self.due.cycle <= now {
                    self.due.cycle = now + self.settings.metrics.interval;
                }
            }
        }
        let interval = match self.settings.queue.durability {
            Durability::Sync => Duration::ZERO,
            Durability::Interval => self.settings.queue.flush_interval,
        };
        if self.outbox.is_dirty() && self.due.sync <= now {
            // Before the sync: one that fails puts it off for longer.
            self.due.sync = now + interval;
            self.sync();
            self.publish();
        } else if self.outbox.is_dirty() {
            if let Err(error) = self.outbox.flush() {
                tracing::error!(%error, "the queue cannot be written");
            }
        } else if self.has_acknowledgements && self.due.trim <= now {
            self.sync();
            self.due.trim = now + TRIM_INTERVAL;
            self.publish();
        }
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        if self.has_more_scrapes {
            return now;
        }
        let mut next = now + Duration::from_secs(60);
        if let Some(sources) = &self.sources {
            next = next.min(self.due.cycle);
            if sources.follows_logs() {
                next = next.min(self.due.poll);
            }
        }
        if self.outbox.is_dirty() {
            next = next.min(self.due.sync);
        }
        if self.has_acknowledgements {
            next = next.min(self.due.trim);
        }
        next
    }

    /// One cycle of everything, as `--once` promises.
    fn collect_everything(&mut self) {
        let Some(sources) = &mut self.sources else { return };
        let facts = self.outbox.facts(&self.counters);
        let mut collect = || -> Result<(), Error> {
            sources.cycle(&mut self.outbox, &facts, &self.counters)?;
            if sources.follows_logs() {
                sources.discover(Instant::now());
                while sources.poll_logs(&mut self.outbox)? == collect::Polled::MoreToRead {
                    self.outbox.sync()?;
                }
            }
            Ok(())
        };
        if let Err(error) = collect() {
            tracing::error!(%error, "not everything could be queued");
        }
        while let Some(finished) = self.scrapes.as_mut().and_then(ScrapeSource::wait_next) {
            self.store_scrape(&finished);
        }
    }

    fn close_sources(&mut self) {
        self.sources = None;
        self.scrapes = None;
    }

    /// Queues what the scrape thread has finished, a few scrapes at most.
    fn take_scrapes(&mut self) {
        self.has_more_scrapes = false;
        for _ in 0..SCRAPES_PER_TURN {
            let Some(finished) = self.scrapes.as_mut().and_then(ScrapeSource::try_next) else { return };
            self.store_scrape(&finished);
        }
        self.has_more_scrapes = true;
    }

    fn store_scrape(&mut self, finished: &Finished) {
        if let Err(error) = scraped::store(finished, &mut self.outbox, &self.counters) {
            tracing::error!(%error, "scraped samples cannot be queued");
        }
    }

    fn sync(&mut self) {
        match self.outbox.sync() {
            Ok(()) => self.has_acknowledgements = false,
            Err(error) => {
                tracing::error!(%error, "the queue cannot be synced; trying again");
                self.due.sync = Instant::now() + REFUSED_WAIT;
            }
        }
    }

    fn publish(&mut self) {
        let mut facts = self.outbox.facts(&self.counters);
        facts.is_final = self.sources.is_none();
        // Levels change with every acknowledgement, which the sender knows of:
        // waking it for them would have it ask for batches that are not there.
        self.facts.send_if_modified(|known| {
            let is_news = facts.is_news_after(known);
            *known = facts;
            is_news
        });
    }

    /// Answers one question. Nobody waits for an answer that cannot be given:
    /// the sender may be gone.
    fn handle(&mut self, command: Command) {
        match command {
            Command::Identity(reply) => drop(reply.send(self.outbox.identity())),
            Command::Begin { cluster_id, resume, reply } => {
                let began = self.outbox.begin(&cluster_id, &resume);
                self.has_acknowledgements = true;
                // Before the answer: the incarnation may be a new one.
                self.publish();
                drop(reply.send(began.map_err(|error| error.to_string())));
            }
            Command::Fetch { stream, reply } => {
                let fetched = self.outbox.fetch(stream);
                drop(reply.send(fetched.map_err(|error| error.to_string())));
            }
            Command::Loss { hole, reply } => {
                drop(reply.send(self.outbox.loss(&hole).map_err(|error| error.to_string())));
            }
            Command::Dictionary { header, position, reply } => {
                let part = self.outbox.dictionary(&header, position);
                drop(reply.send(part.map_err(|error| error.to_string())));
            }
            Command::Rewind(stream) => self.outbox.rewind(stream),
            Command::Acknowledge(end) => {
                if let Err(error) = self.outbox.acknowledge(&end) {
                    // The same batches are sent again and found to be duplicates.
                    tracing::warn!(%error, "an acknowledgement could not be noted");
                }
                self.has_acknowledgements = true;
            }
            Command::Publish => {
                if self.outbox.is_dirty() {
                    self.sync();
                }
                self.publish();
            }
            // The turn that follows looks.
            Command::Scraped => {}
            Command::CloseSources => {
                self.close_sources();
                self.sync();
                self.publish();
            }
        }
    }
}
