//! A producer with a session of its own: the at-least-once client that the
//! protocol promises to serve. It sends each batch until it is acknowledged,
//! believes nothing else, and now and then sends an acknowledged one again,
//! as a client would that never saw the answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Violations;
use super::lines::line;
use crate::api::{Series, unix_ms};
use crate::mesh::{Batch, BatchMaker, EPOCH, MeshConfig, MeshSession, Outcome, block_on};
use crate::random::Random;

/// The numbered series: value `i` at `start_ms + i * STEP_MS`.
pub const SERIES: &str = "lmtest_sequence";
pub const STEP_MS: i64 = 10;
/// Its lines' producer number.
pub const PRODUCER: u32 = 1;
/// The `filename` label of its lines.
pub const FILENAME: &str = "mesh";

/// A producer that waits is one that tests nothing.
const DIAL_WITHIN: Duration = Duration::from_millis(700);
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// What it has sent in the end.
#[derive(Debug)]
pub struct Sent {
    pub samples: u64,
    pub lines: u64,
    pub start_ms: i64,
    pub repeats: u64,
    pub violations: Vec<String>,
}

/// The running producer.
pub struct MeshProducer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sent>,
}

impl MeshProducer {
    pub fn start(config: MeshConfig, random: Random, finish_within: Duration) -> MeshProducer {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let ordinal = unix_ms() as u64;
            let sent = Sent {
                samples: 0,
                lines: 0,
                start_ms: unix_ms() - 600_000,
                repeats: 0,
                violations: Vec::new(),
            };
            let producer = Producer {
                config,
                random,
                maker: BatchMaker::new(ordinal),
                pending: VecDeque::new(),
                session: None,
                acknowledged: [0; 3],
                sent,
            };
            block_on(producer.run(&told, finish_within))
        });
        MeshProducer { stop, thread }
    }

    /// Makes no more, delivers what is pending, and answers what was sent.
    ///
    /// # Panics
    ///
    /// When the producer itself did.
    pub fn finish(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer does not panic")
    }
}

struct Producer {
    config: MeshConfig,
    random: Random,
    maker: BatchMaker,
    pending: VecDeque<Batch>,
    session: Option<MeshSession>,
    /// The end of what was acknowledged, by stream.
    acknowledged: [u64; 3],
    sent: Sent,
}

impl Producer {
    async fn run(mut self, stop: &AtomicBool, finish_within: Duration) -> Sent {
        let mut deadline = None;
        // One wrong answer is enough; the rest would repeat it.
        while self.sent.violations.is_empty() {
            if stop.load(Ordering::Relaxed) {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + finish_within);
                if self.pending.is_empty() {
                    break;
                }
                if Instant::now() > deadline {
                    let left = self.pending.len();
                    self.sent
                        .violations
                        .push(format!("{left} batches of the mesh producer were never acknowledged"));
                    break;
                }
            } else if self.pending.len() < 64 {
                self.make();
            }
            if self.deliver().await.is_err() {
                // Whatever was under way may be stored or not: it is sent again.
                self.session = None;
                tokio::time::sleep(Duration::from_millis(self.random.between(10, 100))).await;
            }
            tokio::time::sleep(Duration::from_millis(self.random.between(1, 20))).await;
        }
        if let Some(session) = self.session.take() {
            session.connected.close().await;
        }
        self.sent
    }

    fn make(&mut self) {
        let count = self.random.between(1, 20);
        if self.random.percent(50) {
            let first = self.sent.samples;
            let at = |i: u64| (self.sent.start_ms + i as i64 * STEP_MS, i as f64);
            let samples: Vec<_> = (first..first + count).map(at).collect();
            self.pending.push_back(self.maker.samples(&[("__name__", SERIES)], &samples));
            self.sent.samples += count;
        } else {
            let first = self.sent.lines;
            let now = unix_ms() * 1_000_000;
            let lines: Vec<_> = (first..first + count).map(|i| (now + i as i64, line(PRODUCER, i))).collect();
            let lines = lines.iter().map(|(time, line)| (*time, &line[..]));
            self.pending.push_back(self.maker.lines(&[("filename", FILENAME)], lines));
            self.sent.lines += count;
        }
    }

    async fn deliver(&mut self) -> Result<(), String> {
        let session = match self.session.take() {
            Some(session) => session,
            // A dead collector answers nothing: dial anew rather than wait.
            None => tokio::time::timeout(DIAL_WITHIN, MeshSession::open(&self.config, &self.maker.held()))
                .await
                .map_err(|_| "no session in time".to_owned())??,
        };
        let session = self.session.insert(session);
        session.patience = ANSWER_WITHIN;
        while let Some(batch) = self.pending.front() {
            let id = batch.header.id;
            let receipt = session.push(batch).await.map_err(|error| error.to_string())?;
            let acknowledged = &mut self.acknowledged[id.stream as usize];
            let mut wrong = Violations::default();
            match receipt.outcome {
                Outcome::Durable | Outcome::Duplicate => {
                    *acknowledged = id.sequence + 1;
                    // Whatever becomes of the repetition, this one is done.
                    let Some(batch) = self.pending.pop_front() else { break };
                    if self.random.percent(10) {
                        self.sent.repeats += 1;
                        let again = session.push(&batch).await.map_err(|error| error.to_string())?;
                        if again.outcome != Outcome::Duplicate {
                            wrong.add(format!("batch {id} was acknowledged and is {:?} now", again.outcome));
                        }
                    }
                }
                Outcome::NeedDictionary(epoch) if epoch == EPOCH => {
                    let entries = &self.maker.entries[..batch.header.dictionary_length as usize];
                    let defined = session.define(self.maker.incarnation, epoch, entries).await;
                    defined.map_err(|error| error.to_string())??;
                }
                Outcome::RetryAfterMs(wait) => {
                    tokio::time::sleep(Duration::from_millis(u64::from(wait).min(500))).await;
                }
                Outcome::Gap(expected) if expected < *acknowledged => {
                    wrong.add(format!(
                        "the collector asks for {}/{expected}, but {acknowledged} were acknowledged",
                        id.stream
                    ));
                }
                outcome => wrong.add(format!("batch {id} is answered {outcome:?}")),
            }
            if !wrong.is_empty() {
                self.sent.violations.extend(wrong.into_vec());
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Checks the numbered series.
pub fn check_samples(found: &[Series], sent: &Sent, violations: &mut Violations) {
    let samples: Vec<_> = found.iter().flat_map(|series| &series.samples).collect();
    let wrong: Vec<_> = samples
        .iter()
        .zip(0_i64..)
        .filter(|((time, value), i)| *time != sent.start_ms + i * STEP_MS || *value != *i as f64)
        .map(|(sample, i)| (i, **sample))
        .collect();
    violations.add_all("numbered samples that are lost, doubled or wrong", &wrong);
    if samples.len() as u64 != sent.samples {
        violations.add(format!("{} numbered samples are there, {} were sent", samples.len(), sent.samples));
    }
}
