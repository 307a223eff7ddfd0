//! The thread that scrapes: one task a target, spread over the interval.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lm_model::{Labels, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::MissedTickBehavior;

use super::budget::Budget;
use super::file_sd::TargetFiles;
use super::http::{Answer, Client};
use super::job::Job;
use super::relabel::LabelMap;
use super::report::{Facts, Report};
use super::series::{Counts, ScrapedSample, TargetSeries};
use super::status::{ScrapeStatus, TargetStatus};
use super::target::Target;

/// Targets of all jobs: each has a task and a connection.
const TARGETS_MAX: usize = 1024;
/// Answers in memory, compressed and plain, of all targets together.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// Finished scrapes that wait for the intake thread. A target whose set has
/// no room yet does not take its answer apart.
const FINISHED_MAX: usize = 4;
/// How often files that list targets are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(5);
/// Threads that resolve host names; each blocks as long as the resolver does.
const RESOLVERS_MAX: usize = 4;

/// The samples of one scrape, its report series among them.
#[derive(Debug, PartialEq)]
pub struct Finished(pub Vec<ScrapedSample>);

/// A running scrape thread. It ends when this is dropped.
pub struct ScrapeSource {
    status: ScrapeStatus,
    finished: mpsc::Receiver<Finished>,
    _stop: oneshot::Sender<()>,
}

/// Whether targets are scraped until the end or once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Forever,
    Once,
}

impl ScrapeSource {
    /// Scrapes `jobs` until dropped; calls `wake` whenever a scrape is done.
    ///
    /// # Errors
    ///
    /// When the thread cannot start.
    pub fn start(jobs: Vec<Job>, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        ScrapeSource::spawn(jobs, Pace::Forever, wake)
    }

    /// Scrapes every target once.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn once(jobs: Vec<Job>) -> std::io::Result<Self> {
        ScrapeSource::spawn(jobs, Pace::Once, || ())
    }

    fn spawn(jobs: Vec<Job>, pace: Pace, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (tx, finished) = mpsc::channel(FINISHED_MAX);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVERS_MAX)
            .thread_keep_alive(Duration::from_secs(1))
            .build()?;
        let status = ScrapeStatus::default();
        let told = status.clone();
        std::thread::Builder::new().name("scrape".to_owned()).spawn(move || {
            let budget = Budget::new(BODIES_BYTES_MAX);
            let shared = Rc::new(Shared { pace, finished: tx, wake, budget, status: told });
            LocalSet::new().block_on(&runtime, run(jobs, shared, stopped));
            // A resolver may still be at it.
            runtime.shutdown_background();
        })?;
        Ok(ScrapeSource { status, finished, _stop: stop })
    }

    /// How the targets fare.
    pub fn status(&self) -> ScrapeStatus {
        self.status.clone()
    }

    /// What is done, without waiting.
    pub fn try_next(&mut self) -> Option<Finished> {
        self.finished.try_recv().ok()
    }

    /// The next scrape that is done; `None` when all were done once. Blocks
    /// for at most the longest timeout of a job.
    pub fn wait_next(&mut self) -> Option<Finished> {
        self.finished.blocking_recv()
    }
}

/// What all targets have in common.
struct Shared<W> {
    pace: Pace,
    finished: mpsc::Sender<Finished>,
    wake: W,
    budget: Budget,
    status: ScrapeStatus,
}

/// A target's task. Dropping `_gone` ends it, and its series.
struct Running {
    _gone: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// One job and where its targets come from.
struct Discovery {
    job: Rc<Job>,
    files: TargetFiles,
}

async fn run<W: Fn() + 'static>(jobs: Vec<Job>, shared: Rc<Shared<W>>, stopped: oneshot::Receiver<()>) {
    let discoveries = jobs
        .into_iter()
        .map(|job| Discovery { files: TargetFiles::new(job.files.clone()), job: Rc::new(job) })
        .collect();
    tokio::select! {
        _ = stopped => {}
        () = follow(discoveries, shared) => {}
    }
}

/// Keeps a task for each target that there is.
async fn follow<W: Fn() + 'static>(mut discoveries: Vec<Discovery>, shared: Rc<Shared<W>>) {
    let has_files = discoveries.iter().any(|discovery| !discovery.job.files.is_empty());
    let mut running: BTreeMap<(usize, Target), Running> = BTreeMap::new();
    let mut is_first = true;
    loop {
        let has_changed = discoveries.iter_mut().fold(false, |changed, one| one.files.refresh() | changed);
        if has_changed || std::mem::take(&mut is_first) {
            reconcile(&discoveries, &mut running, &shared);
        }
        if shared.pace == Pace::Once {
            for one in running.into_values() {
                let _ = one.task.await;
            }
            return;
        }
        let wait = if has_files { FILES_INTERVAL } else { Duration::MAX };
        tokio::time::sleep(wait).await;
    }
}

/// Starts the tasks of new targets and ends those of targets that are gone.
fn reconcile<W: Fn() + 'static>(
    discoveries: &[Discovery],
    running: &mut BTreeMap<(usize, Target), Running>,
    shared: &Rc<Shared<W>>,
) {
    let mut wanted = BTreeMap::new();
    for (at, discovery) in discoveries.iter().enumerate() {
        let targets = targets(discovery);
        wanted.extend(targets.into_iter().map(|target| ((at, target), &discovery.job)));
    }
    while wanted.len() > TARGETS_MAX {
        if let Some(((_, target), job)) = wanted.pop_last() {
            tracing::warn!(job = %job.name, target = %target.url(), "over {TARGETS_MAX} targets; not scraped");
        }
    }
    running.retain(|key, _| wanted.contains_key(key));
    for (key, job) in wanted {
        running.entry(key).or_insert_with_key(|(_, target)| {
            let (gone, is_gone) = oneshot::channel();
            let scraping = scrape_target(shared.clone(), job.clone(), target.clone(), is_gone);
            Running { _gone: gone, task: tokio::task::spawn_local(scraping) }
        });
    }
}

/// The targets of a job; what cannot be one is logged.
fn targets(Discovery { job, files }: &Discovery) -> Vec<Target> {
    let of_config = job.targets.iter().map(|address| {
        let mut labels: LabelMap = job.labels.clone();
        labels.insert("__address__".to_owned(), address.clone());
        labels
    });
    let mut targets = Vec::new();
    for labels in of_config.chain(files.targets().cloned()) {
        match Target::new(job, &labels) {
            Ok(Some(target)) if targets.len() < job.limits.targets_max as usize => targets.push(target),
            Ok(Some(target)) => {
                tracing::warn!(job = %job.name, target = %target.url(), "over target_limit; not scraped");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(job = %job.name, %error, "a target cannot be scraped"),
        }
    }
    targets
}

/// Scrapes one target until it is gone.
async fn scrape_target<W: Fn()>(
    shared: Rc<Shared<W>>,
    job: Rc<Job>,
    target: Target,
    mut is_gone: oneshot::Receiver<()>,
) {
    let mut scraper = Scraper {
        client: Client::new(job.clone(), target.clone()),
        labels: Labels::from_pairs(target.labels.clone()),
        report: Report::new(&job, &target.labels),
        series: TargetSeries::default(),
        trouble: String::new(),
        has_native_histograms: false,
        shared,
        job,
        target,
    };
    if scraper.shared.pace == Pace::Once {
        scraper.scrape().await;
        return;
    }
    let interval = scraper.job.interval;
    let start = tokio::time::Instant::now() + until_turn(scraper.target.offset(interval), interval);
    let mut turns = tokio::time::interval_at(start, interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let turn = async {
            turns.tick().await;
            scraper.scrape().await;
        };
        tokio::select! {
            biased;
            _ = &mut is_gone => break,
            () = turn => {}
        }
    }
    scraper.end().await;
}

/// How long until the next time that lies `offset` behind a whole interval of
/// the wall clock.
fn until_turn(offset: Duration, interval: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let interval_nanos = interval.as_nanos().max(1);
    let since = (now.as_nanos() + interval_nanos - offset.as_nanos() % interval_nanos) % interval_nanos;
    Duration::from_nanos(u64::try_from((interval_nanos - since) % interval_nanos).unwrap_or(0))
}

/// One target and what is known of it.
struct Scraper<W> {
    shared: Rc<Shared<W>>,
    job: Rc<Job>,
    target: Target,
    /// Of the target, as its series have them.
    labels: Labels,
    client: Client,
    report: Report,
    series: TargetSeries,
    /// What went wrong last, so that lasting trouble is logged once.
    trouble: String,
    has_native_histograms: bool,
}

impl<W: Fn()> Scraper<W> {
    async fn scrape(&mut self) {
        let (began, time) = (Instant::now(), now());
        let answer = tokio::time::timeout(self.job.timeout, self.client.get(&self.shared.budget)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.job.timeout)));
        let duration = began.elapsed();
        let Ok(room) = self.shared.finished.reserve().await else { return };
        let (mut samples, mut counts) = (Vec::new(), Counts::default());
        let body_bytes = answer.as_ref().ok().map(|answer| answer.body.len());
        let taken = answer.and_then(|Answer { format, body, .. }| {
            let answer = (format, &body[..]);
            self.series.read(&self.job, &self.target.labels, answer, time, &mut counts, &mut samples)
        });
        if taken.is_err() {
            counts.added = 0;
            self.series.end(time, &mut samples);
        }
        let facts = Facts { is_up: taken.is_ok(), duration, counts, body_bytes };
        self.report.write(&self.job, &facts, time, &mut samples);
        room.send(Finished(samples));
        (self.shared.wake)();
        let trouble = taken.err().unwrap_or_default();
        let (interval, timeout) = (self.job.interval, self.job.timeout);
        let status = TargetStatus { url: self.target.url(), interval, timeout, error: trouble.clone() };
        self.shared.status.set(&self.labels, status);
        self.log(trouble, &counts);
    }

    /// Says that the target and its series are gone.
    async fn end(&mut self) {
        self.shared.status.remove(&self.labels);
        let Ok(room) = self.shared.finished.reserve().await else { return };
        let (time, mut samples) = (now(), Vec::new());
        self.series.end(time, &mut samples);
        self.report.end(time, &mut samples);
        room.send(Finished(samples));
        (self.shared.wake)();
    }

    fn log(&mut self, trouble: String, counts: &Counts) {
        let (job, target) = (&self.job.name, self.target.url());
        if trouble != self.trouble {
            if trouble.is_empty() {
                tracing::info!(%job, %target, "the target is up again");
            } else {
                tracing::warn!(%job, %target, error = %trouble, "a scrape has failed");
            }
            self.trouble = trouble;
        }
        if counts.native_histograms > 0 && !std::mem::replace(&mut self.has_native_histograms, true) {
            tracing::warn!(
                %job, %target,
                "of native histograms only count, sum and classic buckets are stored"
            );
        }
    }
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX))
}
