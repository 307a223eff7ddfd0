//! The thread that runs collectors, so that nobody waits for a kernel file
//! that never answers.
//!
//! A read that hangs in the kernel cannot be taken back. So collectors run on a
//! thread of their own, and [`Workshop::run`] waits for them no longer than
//! their time: a collector that is over it is left with its thread, which is
//! lost until the read returns, and another thread goes on with the next. What
//! the lost thread does afterwards changes nothing; then the collector is made
//! anew and has its turn again. So each collector holds one thread at most.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lm_model::Timestamp;

use super::collector::{Collect, Cycle, SharedStat};
use super::registry::KnownCollector;
use super::{CycleReport, Error, HostOptions};
use crate::sources::{Measurement, SeriesIndex, SeriesTable};

/// Building thousands of series to find that they do not fit is costly, and
/// the next cycle seldom finds fewer.
const PAUSE_CYCLES: u32 = 20;
/// Each collector that stalls halves the time of those after it in that cycle,
/// down to this: many may hang for one reason.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// For collectors and what they call. Only what is used is memory.
const STACK_BYTES: usize = 512 << 10;

/// All collectors, and the thread that runs them.
pub struct Workshop {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

struct Worker {
    cycles: SyncSender<()>,
    done: Receiver<()>,
}

struct Shared {
    options: HostOptions,
    state: Mutex<State>,
}

/// Locked for moments, never while a collector runs.
struct State {
    /// Counts workers: only the last one may change anything.
    worker: u64,
    collectors: Vec<(&'static KnownCollector, Place)>,
    /// The collector that is next, or runs since then.
    at: usize,
    began: Option<Instant>,
    now: Timestamp,
    table: SeriesTable,
    out: Vec<Measurement>,
    report: CycleReport,
}

/// Where a collector is.
enum Place {
    Here(Running),
    /// On the thread of this worker.
    Away(u64),
}

struct Running {
    collect: Box<dyn Collect>,
    series: Option<[SeriesIndex; 2]>,
    /// Cycles to leave out, after one that had more series than there is room.
    pause: u32,
}

/// The series that collectors measure, for the worker `of` alone.
pub struct Table<'a> {
    shared: &'a Shared,
    of: u64,
}

impl Workshop {
    pub fn new(options: HostOptions, known: impl Iterator<Item = &'static KnownCollector>) -> Self {
        let collectors = known.map(|known| (known, Place::Here(Running::new(known, &options)))).collect();
        let state = State {
            worker: 0,
            collectors,
            at: 0,
            began: None,
            now: Timestamp::default(),
            table: SeriesTable::new(0),
            out: Vec::new(),
            report: CycleReport::default(),
        };
        Workshop { shared: Arc::new(Shared { options, state: Mutex::new(state) }), worker: None }
    }

    /// The table was cleared: collectors remember series that are gone.
    pub fn renew(&mut self) {
        let mut state = self.shared.state();
        for (known, place) in &mut state.collectors {
            if let Place::Here(running) = place {
                *running = Running::new(known, &self.shared.options);
            }
        }
    }

    /// Runs every collector once. Blocks for at most twice
    /// [`HostOptions::collector_time_max`] and a little for each collector.
    pub fn run(
        &mut self,
        now: Timestamp,
        table: &mut SeriesTable,
        out: &mut Vec<Measurement>,
    ) -> CycleReport {
        let mut state = self.shared.state();
        (state.at, state.now, state.report) = (0, now, CycleReport::default());
        std::mem::swap(&mut state.table, table);
        std::mem::swap(&mut state.out, out);
        drop(state);
        let mut patience = self.shared.options.collector_time_max;
        while !self.try_run(patience) {
            patience = (patience / 2).max(PATIENCE_MIN);
        }
        let mut state = self.shared.state();
        std::mem::swap(&mut state.table, table);
        std::mem::swap(&mut state.out, out);
        std::mem::take(&mut state.report)
    }

    /// Lets a worker run what is left of the cycle; false when it was lost.
    fn try_run(&mut self, patience: Duration) -> bool {
        let number = self.shared.state().worker;
        if self.worker.is_none() {
            self.worker = Worker::start(&self.shared, number);
        }
        let Some(worker) = &self.worker else {
            self.shared.state().skip_all(|| Error::NoThread);
            return true;
        };
        worker.cycles.send(()).expect("a worker waits for its next cycle");
        let mut wait = patience;
        loop {
            match worker.done.recv_timeout(wait) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => panic!("a collector of the host panicked"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut state = self.shared.state();
            let ran = state.began.map_or(Duration::ZERO, |began| began.elapsed());
            if ran >= patience {
                state.leave_behind(ran);
                drop(state);
                self.worker = None;
                return false;
            }
            wait = patience - ran;
        }
    }
}

impl Worker {
    fn start(shared: &Arc<Shared>, number: u64) -> Option<Worker> {
        let (cycles, asked) = sync_channel(1);
        let (answer, done) = sync_channel(1);
        let shared = shared.clone();
        let run = move || {
            let mut desk = Desk::new(&shared.options);
            // Ends with its workshop, or when it was left behind.
            while asked.recv().is_ok() && desk.cycle(&shared, number) && answer.send(()).is_ok() {}
        };
        std::thread::Builder::new().name("host".to_owned()).stack_size(STACK_BYTES).spawn(run).ok()?;
        Some(Worker { cycles, done })
    }
}

/// What a worker keeps between collectors.
struct Desk {
    buffer: Vec<u8>,
    stat: SharedStat,
    out: Vec<Measurement>,
    left_out: Vec<Error>,
}

impl Desk {
    fn new(options: &HostOptions) -> Self {
        Desk { buffer: Vec::new(), stat: SharedStat::new(options), out: Vec::new(), left_out: Vec::new() }
    }

    /// Runs all collectors that are left; false once it was left behind.
    fn cycle(&mut self, shared: &Shared, worker: u64) -> bool {
        self.stat.is_read = false;
        loop {
            let mut state = shared.state();
            let Some((known, mut running, now)) = state.take_next(worker) else {
                return state.worker == worker;
            };
            let known_series = state.table.len();
            if running.pause > 0 {
                running.pause -= 1;
                let full = Error::TableFull { series_count_max: state.table.series_count_max() };
                state.finish(known, running, Err(full), self);
                continue;
            }
            drop(state);
            let result = self.collect(shared, worker, &mut running, now);
            let mut state = shared.state();
            if state.worker != worker {
                state.came_back(worker, &shared.options);
                return false;
            }
            if let Err(Error::TableFull { .. }) = result {
                // So that those after it have that room; it remembers series
                // that are gone.
                state.table.truncate(known_series);
                running = Running { pause: PAUSE_CYCLES, ..Running::new(known, &shared.options) };
            }
            state.finish(known, running, result, self);
        }
    }

    /// Collects everything or nothing.
    fn collect(
        &mut self,
        shared: &Shared,
        worker: u64,
        running: &mut Running,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.out.clear();
        let table = Table { shared, of: worker };
        let Desk { buffer, stat, out, left_out } = self;
        let mut cycle = Cycle { now, table, out, shared: stat, left_out };
        running.collect.collect(&mut cycle, buffer)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while it holds the state")
    }
}

impl State {
    /// The next collector that is here, for `worker` to run; `None` when there
    /// is none left, or the worker was left behind.
    fn take_next(&mut self, worker: u64) -> Option<(&'static KnownCollector, Running, Timestamp)> {
        if self.worker != worker {
            return None;
        }
        while let Some((known, place)) = self.collectors.get_mut(self.at) {
            let known = *known;
            match std::mem::replace(place, Place::Away(worker)) {
                Place::Here(running) => {
                    self.began = Some(Instant::now());
                    return Some((known, running, self.now));
                }
                Place::Away(of) => {
                    *place = Place::Away(of);
                    self.failed(known, Error::Stalled, Duration::ZERO);
                    self.at += 1;
                }
            }
        }
        None
    }

    fn finish(
        &mut self,
        known: &'static KnownCollector,
        mut running: Running,
        result: Result<(), Error>,
        desk: &mut Desk,
    ) {
        let took = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        self.report.left_out.extend(desk.left_out.drain(..).map(|error| (known.name, error)));
        let success = result.is_ok();
        match result {
            Ok(()) => self.out.append(&mut desk.out),
            Err(error) => self.report.failures.push((known.name, error)),
        }
        // Without room for its two series a collector still counts as run.
        if running.series.is_none() {
            running.series = own_series(&mut self.table, known.name);
        }
        self.push_own(running.series, success, took);
        self.collectors[self.at].1 = Place::Here(running);
        self.at += 1;
    }

    /// The collector that runs now has had its time: the rest of the cycle is
    /// another worker's.
    fn leave_behind(&mut self, ran: Duration) {
        let known = self.collectors[self.at].0;
        self.began = None;
        self.worker += 1;
        self.at += 1;
        self.report.stalls += 1;
        self.failed(known, Error::Stalled, ran);
    }

    /// A worker that was left behind has its collector's result after all.
    fn came_back(&mut self, worker: u64, options: &HostOptions) {
        for (known, place) in &mut self.collectors {
            if matches!(place, Place::Away(of) if *of == worker) {
                *place = Place::Here(Running::new(known, options));
            }
        }
    }

    fn skip_all(&mut self, why: impl Fn() -> Error) {
        for at in self.at..self.collectors.len() {
            self.failed(self.collectors[at].0, why(), Duration::ZERO);
        }
        self.at = self.collectors.len();
    }

    fn failed(&mut self, known: &'static KnownCollector, error: Error, ran: Duration) {
        self.report.failures.push((known.name, error));
        let series = own_series(&mut self.table, known.name);
        self.push_own(series, false, ran);
    }

    fn push_own(&mut self, series: Option<[SeriesIndex; 2]>, success: bool, took: Duration) {
        let Some([success_series, duration_series]) = series else { return };
        self.out.push(Measurement { series: success_series, value: f64::from(u8::from(success)) });
        self.out.push(Measurement { series: duration_series, value: took.as_secs_f64() });
    }
}

impl Running {
    fn new(known: &KnownCollector, options: &HostOptions) -> Self {
        Running { collect: (known.make)(options), series: None, pause: 0 }
    }
}

fn own_series(table: &mut SeriesTable, collector: &str) -> Option<[SeriesIndex; 2]> {
    let labels = [("collector", collector)];
    let success = table.get_or_insert("node_scrape_collector_success", &labels)?;
    let duration = table.get_or_insert("node_scrape_collector_duration_seconds", &labels)?;
    Some([success, duration])
}

impl Table<'_> {
    /// # Errors
    ///
    /// When the table is full, or nobody waits for this worker any more.
    pub fn series(&self, name: &str, labels: &[(&str, &str)]) -> Result<SeriesIndex, Error> {
        let mut state = self.shared.state();
        if state.worker != self.of {
            return Err(Error::Stalled);
        }
        let series = state.table.get_or_insert(name, labels);
        series.ok_or(Error::TableFull { series_count_max: state.table.series_count_max() })
    }
}

#[cfg(test)]
mod tests;
