//! Runs inputs against a collector, and watches it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Corpus, Door, Subject};
use crate::hostile::{Attacker, Channel, Honest, Peer, Status, Transport, keep_in_memory, wire};
use crate::mesh::{MeshConfig, block_on};
use crate::random::Random;
use crate::{System, SystemOptions};

/// Inputs under way at a time, each as an agent of its own.
const WORKERS: usize = 6;
/// How long an input's answers are waited for. Most end by themselves; those
/// that leave half a message behind do not.
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);
/// How long anybody may wait for a session.
const SESSION_WITHIN: Duration = Duration::from_secs(5);
/// Between two pushes of the honest agent.
const PERIOD: Duration = Duration::from_millis(50);
/// Between two looks at the collector.
const LOOK: Duration = Duration::from_millis(100);
/// More inputs than end between two looks.
const LAST_KEPT: usize = 64;
/// What all sessions of the fuzzer together may cost: a handful at a time, at
/// 16 MiB each.
const GROWTH_KIB_MAX: u64 = (WORKERS as u64 * 16) << 10;
/// The question at the end, whose answer says that all before it was read.
const LAST_QUESTION: u32 = 0x7eee_eeee;

/// What to do.
#[derive(Clone, Debug)]
pub struct Fuzz {
    pub subject: Subject,
    pub seed: u64,
    /// Replayed first; grows when `grows`.
    pub corpus: PathBuf,
    pub grows: bool,
    /// For inventing; none at all for a mere replay.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub executed: u64,
    /// Inputs that were worth keeping.
    pub added: usize,
    pub answers: Vec<String>,
    pub growth_kib: u64,
}

/// What should not have happened.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    /// One of these, or several together.
    pub inputs: Vec<Vec<u8>>,
}

/// Shared with the thread that watches.
#[derive(Default)]
struct Progress {
    executed: u64,
    under_way: [Vec<u8>; WORKERS],
    /// The last ones: what they break may show a moment later.
    last: Vec<Vec<u8>>,
    must_stop: bool,
}

type Shared = Arc<Mutex<Progress>>;

fn locked(shared: &Shared) -> std::sync::MutexGuard<'_, Progress> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Errors
///
/// When the collector or an honest session fails, with the inputs.
///
/// # Panics
///
/// When no collector can be set up, or the corpus cannot be read.
pub fn run(options: &Fuzz) -> Result<Report, Failure> {
    let mut tokens: Vec<String> = (0..WORKERS).map(|index| format!("f{index}")).collect();
    tokens.push("honest".to_owned());
    let mut system = System::with(SystemOptions { tokens, ..SystemOptions::default() });
    let _memory = keep_in_memory(&mut system);
    system.collector.start();
    system.wait_collector();

    let corpus = Corpus::open(&options.corpus, options.grows)
        .unwrap_or_else(|error| panic!("corpus {}: {error}", options.corpus.display()));
    let shared = Shared::default();
    let honest = Honest::start(MeshConfig::of(&system, "honest"), PERIOD);
    let mut seen = Ok(());
    let mut growth_kib = 0;
    let mut read = 0;
    let corpus = std::thread::scope(|scope| {
        let (of_fuzzer, addressed) = (shared.clone(), &system);
        let fuzzer = scope.spawn(move || block_on(attack(options, addressed, corpus, of_fuzzer)));
        let before = system.collector.memory_kib();
        while !fuzzer.is_finished() && seen.is_ok() {
            std::thread::sleep(LOOK);
            let memory = system.collector.memory_kib();
            growth_kib = growth_kib.max(memory.saturating_sub(before));
            seen = if growth_kib > GROWTH_KIB_MAX {
                Err(format!("{growth_kib} KiB more than at the start"))
            } else if memory == 0 {
                Err("the collector died".to_owned())
            } else {
                no_panic(&system, &mut read).and_then(|()| honest.check())
            };
        }
        locked(&shared).must_stop = true;
        fuzzer.join().unwrap_or_else(|_| Err("the fuzzer panicked".to_owned()))
    });
    let seen = seen.and(corpus).and_then(|corpus| {
        honest.wait_more(1, SESSION_WITHIN)?;
        let Status { panics, .. } = block_on(Status::ask(&system))?;
        if panics > 0 { Err(format!("{panics} panics are counted")) } else { Ok(corpus) }
    });
    let seen = seen.and_then(|corpus| no_panic(&system, &mut read).map(|()| corpus));
    let progress = locked(&shared);
    match seen {
        Ok(corpus) => Ok(Report {
            executed: progress.executed,
            added: corpus.added,
            answers: corpus.answers().map(str::to_owned).collect(),
            growth_kib,
        }),
        Err(why) => {
            let inputs = progress.under_way.iter().chain(&progress.last);
            Err(Failure {
                what: format!("{why}\n{}", system.collector.tail()),
                inputs: inputs.filter(|input| !input.is_empty()).cloned().collect(),
            })
        }
    }
}

/// A panic that nobody counts is one too.
fn no_panic(system: &System, read: &mut u64) -> Result<(), String> {
    let log = system.collector.log_since(read);
    let panic = log.lines().find(|line| line.contains("panicked at"));
    panic.map_or(Ok(()), |line| Err(line.to_owned()))
}

struct Source {
    corpus: Corpus,
    replayed: usize,
    random: Random,
    until: Instant,
}

impl Source {
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(input) = self.corpus.inputs().get(self.replayed) {
            self.replayed += 1;
            return Some(input.clone());
        }
        self.replayed = usize::MAX;
        (Instant::now() < self.until).then(|| self.corpus.invent(&mut self.random))
    }
}

async fn attack(options: &Fuzz, system: &System, corpus: Corpus, shared: Shared) -> Result<Corpus, String> {
    let attacker = Rc::new(Attacker::new(system, Transport::Usual)?);
    let source = Source {
        corpus,
        replayed: 0,
        random: Random::new(options.seed),
        until: Instant::now() + options.time,
    };
    let source = Rc::new(RefCell::new(source));
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        let (source, shared, attacker) = (source.clone(), shared.clone(), attacker.clone());
        let keys = Keys::of(system, index)?;
        let subject = options.subject;
        workers.push(tokio::task::spawn_local(async move {
            loop {
                let Some(input) = source.borrow_mut().next() else { return Ok(()) };
                {
                    let mut progress = locked(&shared);
                    if progress.must_stop {
                        return Ok(());
                    }
                    progress.under_way[index].clone_from(&input);
                }
                let answers = attempt(&attacker, subject, &keys, &input).await?;
                source.borrow_mut().corpus.learn(&input, answers).map_err(|error| error.to_string())?;
                let mut progress = locked(&shared);
                progress.executed += 1;
                progress.under_way[index].clear();
                progress.last.push(input);
                let surplus = progress.last.len().saturating_sub(LAST_KEPT);
                progress.last.drain(..surplus);
            }
        }));
    }
    let mut result = Ok(());
    for worker in workers {
        let worked = worker.await.unwrap_or_else(|error| Err(error.to_string()));
        result = result.and(worked);
    }
    attacker.leave().await;
    result?;
    let source = Rc::into_inner(source).ok_or("a worker still runs")?;
    Ok(source.into_inner().corpus)
}

/// The tokens of one worker.
struct Keys {
    agent: String,
    gateway: String,
    operator: String,
}

impl Keys {
    fn of(system: &System, index: usize) -> Result<Keys, String> {
        let read = |name: &str| {
            let token = std::fs::read_to_string(system.path(name));
            token.map(|token| token.trim().to_owned()).map_err(|error| format!("{name}: {error}"))
        };
        Ok(Keys {
            agent: read(&format!("token-f{index}"))?,
            gateway: read("gateway-token")?,
            operator: read("operator-token")?,
        })
    }
}

/// Where an input goes, with whatever must live meanwhile.
struct Opened {
    peer: Peer,
    _control: Option<Channel>,
    channel: Channel,
}

async fn open(attacker: &Attacker, door: Door, keys: &Keys) -> Result<Opened, String> {
    let alone = |(peer, channel)| Opened { peer, _control: None, channel };
    let beside = |(peer, control, channel)| Opened { peer, _control: Some(control), channel };
    match door {
        Door::Stranger => {
            let peer = attacker.connect().await?;
            let channel = peer.open().await?;
            Ok(alone((peer, channel)))
        }
        Door::Agent => attacker.log_in(&keys.agent).await.map(alone),
        Door::Gateway => attacker.log_in(&keys.gateway).await.map(alone),
        Door::Operator => attacker.log_in(&keys.operator).await.map(alone),
        Door::Bulk => attacker.attach(&keys.agent, wire::BULK_TICKET).await.map(beside),
        Door::Users => attacker.attach(&keys.gateway, wire::QUERY_TICKET).await.map(beside),
    }
}

/// Sends one input and answers which kinds of answers came.
async fn attempt(
    attacker: &Attacker,
    subject: Subject,
    keys: &Keys,
    input: &[u8],
) -> Result<BTreeSet<String>, String> {
    let (door, messages) = subject.read(input, &keys.agent);
    let opened = tokio::time::timeout(SESSION_WITHIN, open(attacker, door, keys)).await;
    let mut opened = opened
        .map_err(|_| format!("no session within {SESSION_WITHIN:?}: {door:?}"))?
        .map_err(|why| format!("a session is refused: {why}"))?;
    let mut all = messages.concat();
    all.extend(wire::bootstrap(LAST_QUESTION));
    let mut answers = BTreeSet::new();
    let exchange = async {
        let Channel { send, receive, .. } = &mut opened.channel;
        let sending = async { send.write_all(&all).await.is_ok() };
        let receiving = async {
            while let Ok(said) = Channel::receive_from(receive).await {
                if matches!(said, wire::Said::Results { question: LAST_QUESTION, .. }) {
                    return;
                }
                answers.insert(class(door, &said));
            }
        };
        tokio::join!(sending, receiving);
    };
    let is_over = tokio::time::timeout(ANSWERS_WITHIN, exchange).await.is_ok();
    let ended = if is_over { opened.peer.ended(Duration::from_millis(20)).await } else { None };
    if let Some(ended) = ended {
        answers.insert(format!("{door:?} closed {:?} {}", ended.code, plain(&ended.reason)));
    }
    opened.peer.close();
    Ok(answers)
}

fn class(door: Door, said: &wire::Said) -> String {
    match said {
        wire::Said::Results { exports, .. } => format!("{door:?} results {}", exports.len().min(3)),
        wire::Said::Exception { reason, .. } => format!("{door:?} exception {}", plain(reason)),
        wire::Said::Abort(reason) => format!("{door:?} abort {}", plain(reason)),
        wire::Said::Unimplemented => format!("{door:?} unimplemented"),
        wire::Said::Other => format!("{door:?} other"),
    }
}

/// The words of a text without those that have a number in them, and without
/// quotations.
fn plain(text: &str) -> String {
    let unquoted: String = text.split('"').step_by(2).collect();
    let has_number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let words = unquoted.split_whitespace().map(|word| if has_number(word) { "#" } else { word });
    words.take(12).collect::<Vec<_>>().join(" ")
}
