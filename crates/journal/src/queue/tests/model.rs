//! A collector and a ledger of all that was accepted, against which any life of a queue can be checked.

use proptest::prelude::*;

use super::*;
use lm_fs::fault::random;

/// What became of a batch, as the source knows it.
#[derive(Debug, Clone)]
struct Batch {
    /// Number over all batches; the snapshot tells how many there were.
    number: u64,
    items: u64,
    /// Known to be durable: it must be stored or declared lost.
    is_synced: bool,
    /// The source read it again after a crash: it may be in the queue or not.
    is_forgotten: bool,
}

#[derive(Debug, Default)]
struct Lane {
    batches: Vec<Batch>,
    /// The collector's watermark.
    watermark: u64,
    landed: u64,
    /// Watermarks that the collector went through: an answer always names one of them.
    passed: Vec<u64>,
    stored_items: u64,
    lost_items: u64,
    /// An answer got lost and a loss overlapped what was stored: items cannot be compared exactly.
    is_inexact: bool,
}

pub(super) struct World {
    pub fs: FaultFs,
    on_full: OnFull,
    queue: Option<Queue<FaultFs>>,
    lanes: BTreeMap<LaneKey, Lane>,
    number: u64,
    lives: u64,
    /// Damage was done: losses with reason `Corrupt` are expected.
    is_damaged: bool,
}

fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

impl World {
    pub fn new(on_full: OnFull, seed: u64) -> Option<World> {
        World::on(FaultFs::new(seed), on_full)
    }

    pub fn on(fs: FaultFs, on_full: OnFull) -> Option<World> {
        let mut world = World {
            fs,
            on_full,
            queue: None,
            lanes: BTreeMap::new(),
            number: 0,
            lives: 0,
            is_damaged: false,
        };
        world.reopen().then_some(world)
    }

    fn reopen(&mut self) -> bool {
        let candidate = Incarnation { ordinal: 1000, nonce: self.lives };
        self.lives += 1;
        // A bit larger than eight minimal segments, so that policies act early.
        let options = QueueOptions { bytes_max: 576 << 10, ..options(self.on_full) };
        match Queue::open(self.fs.clone(), Path::new(DIR), options, candidate) {
            Ok((queue, report)) => {
                assert!(self.is_damaged || report.corrupt == Dropped::default(), "{report:?}");
                self.queue = Some(queue);
                true
            }
            Err(Error::Io { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn queue(&mut self) -> &mut Queue<FaultFs> {
        self.queue.as_mut().expect("open between steps")
    }

    pub fn append(&mut self, stream: u8, items: u32, len: usize) -> bool {
        let number = self.number;
        let queue = self.queue.as_mut().expect("open between steps");
        let next = queue.next(stream);
        let mut snapshot = || number.to_le_bytes().to_vec();
        let outcome = queue.append(stream, items, &payload(number, len), &mut snapshot);
        let (incarnation, sequence) = match outcome {
            Ok(Appended::Queued { incarnation, sequence }) => (incarnation, sequence),
            Ok(Appended::Lost { incarnation, sequence }) => {
                assert_eq!(self.on_full, OnFull::DropNewest);
                (incarnation, sequence)
            }
            Err(AppendError::Full) => {
                assert_eq!(self.on_full, OnFull::Refuse);
                return false;
            }
            Err(AppendError::Journal(_)) => return false,
        };
        assert_eq!((next.incarnation, next.sequence), (incarnation, sequence));
        let lane = self.lanes.entry(LaneKey { stream, incarnation }).or_default();
        assert_eq!(lane.batches.len() as u64, sequence, "gapless");
        lane.batches.push(Batch { number, items: items.into(), is_synced: false, is_forgotten: false });
        self.number += 1;
        true
    }

    pub fn sync(&mut self) -> Result<(), Error> {
        let number = self.number;
        let outcome = self.queue().sync(&mut || number.to_le_bytes().to_vec());
        if outcome.is_ok() {
            self.all_synced();
        }
        outcome
    }

    fn all_synced(&mut self) {
        // Unsynced batches of an earlier incarnation may have died with it.
        let current = self.queue().incarnation();
        for (_, lane) in self.lanes.iter_mut().filter(|(key, _)| key.incarnation == current) {
            lane.batches.iter_mut().for_each(|batch| batch.is_synced = true);
        }
    }

    /// The collector receives up to `count` things on `stream`; it checks each as the real one would.
    pub fn deliver(&mut self, stream: u8, count: usize) -> bool {
        for _ in 0..count {
            let queue = self.queue.as_mut().expect("open between steps");
            let Ok(next) = queue.next_unsent(stream) else { return false };
            let Some(pending) = next else { return true };
            match pending {
                Pending::Payload { incarnation, sequence, items, payload: bytes, .. } => {
                    let lane = self.lanes.get_mut(&LaneKey { stream, incarnation }).expect("a lane we made");
                    let batch = &lane.batches[sequence as usize];
                    assert_eq!(bytes, payload(batch.number, bytes.len()), "bytes never change");
                    assert_eq!(u64::from(items), batch.items);
                    assert!(
                        sequence <= lane.watermark,
                        "stream {stream}: {sequence} skips {}",
                        lane.watermark
                    );
                    if sequence == lane.watermark {
                        lane.watermark += 1;
                        lane.passed.push(lane.watermark);
                        lane.stored_items += batch.items;
                    }
                }
                Pending::Loss { incarnation, start, end, items, reason, .. } => {
                    self.check_reason(reason);
                    let lane = self.lanes.get_mut(&LaneKey { stream, incarnation }).expect("a lane we made");
                    assert!(
                        start < end && start <= lane.watermark,
                        "{start}..{end} skips {}",
                        lane.watermark
                    );
                    let range = lane.batches.get(start as usize..end as usize);
                    let counted: Option<u64> = range.map(|range| range.iter().map(|batch| batch.items).sum());
                    if !lane.is_inexact {
                        assert_eq!(Some(items), counted, "items of {start}..{end}, {reason:?}");
                    }
                    if start < lane.watermark && end > lane.watermark {
                        lane.is_inexact = true;
                    }
                    if end > lane.watermark {
                        lane.watermark = end;
                        lane.passed.push(end);
                        lane.lost_items += items;
                    }
                }
            }
        }
        true
    }

    fn check_reason(&self, reason: Reason) {
        let expected = match self.on_full {
            OnFull::DropOldest => Some(Reason::DropOldest),
            OnFull::DropNewest => Some(Reason::DropNewest),
            OnFull::Refuse => None,
        };
        let is_expected = Some(reason) == expected || (reason == Reason::Corrupt && self.is_damaged);
        assert!(is_expected, "nobody chose {reason:?}");
    }

    /// The collector answers on `stream`, `behind` steps late.
    pub fn acknowledge(&mut self, stream: u8, behind: usize, is_landed: bool) {
        let queue = self.queue.as_mut().expect("open between steps");
        for (key, lane) in self.lanes.iter_mut().filter(|(key, _)| key.stream == stream) {
            let through = lane.passed.iter().rev().nth(behind).copied().unwrap_or(0);
            if is_landed {
                lane.landed = lane.landed.max(through);
            }
            let _ = queue.acknowledge(stream, key.incarnation, through, lane.landed);
        }
    }

    /// The process or the machine dies and comes back.
    pub fn restart(&mut self, crash: Option<u64>) {
        self.queue = None;
        match crash {
            Some(seed) => self.fs.crash(seed),
            None => self.fs.kill(),
        }
        self.fs.clear_faults();
        self.fs.set_capacity(None);
        self.come_back();
    }

    /// As `restart`, with a disk that fails and dies while the queue is being opened.
    pub fn restart_badly(&mut self, seed: u64) {
        self.queue = None;
        let mut rng = seed;
        for _ in 0..4 {
            let fault = [Fault::Eio, Fault::Enospc, Fault::ShortWrite][random(&mut rng) as usize % 3];
            if random(&mut rng).is_multiple_of(2) {
                self.fs.crash(random(&mut rng));
            } else {
                self.fs.kill();
            }
            self.fs.fail_at(self.fs.operations() + random(&mut rng) % 40, fault);
            if self.reopen() {
                self.fs.clear_faults();
                self.check_context();
                self.fs.fail_at(self.fs.operations() + random(&mut rng) % 10, fault);
                self.append((seed % 3) as u8, 1, 5000);
                self.queue = None;
            }
        }
        self.restart(Some(seed));
    }

    fn come_back(&mut self) {
        assert!(self.reopen(), "a healthy disk opens");
        self.check_context();
        // Dropped between the restart and this login, when nobody knew what the collector has.
        let state = &self.queue.as_ref().expect("just opened").state;
        for (key, lane) in &mut self.lanes {
            let loss = state.lanes.get(key).and_then(|known| known.loss_at(lane.watermark));
            lane.is_inexact |= loss.is_some_and(|loss| loss.start.sequence < lane.watermark);
        }
        let resume: Vec<ResumeAt> = self
            .lanes
            .iter()
            .map(|(key, lane)| ResumeAt {
                stream: key.stream,
                incarnation: key.incarnation,
                durable_end: lane.watermark,
                landed_end: lane.landed,
            })
            .collect();
        // A collector that nobody told about a batch cannot have told the queue about it.
        self.queue().resume(&resume).expect("a healthy disk reads");
    }

    /// The source goes on behind what the newest snapshot and later payloads say: that must be in the queue.
    fn check_context(&mut self) {
        let mut cursor = 0;
        let mut visit = |context: Context<'_>| {
            let (bytes, plus) = match context {
                Context::Snapshot(bytes) => (bytes, 0),
                Context::Payload { payload, .. } => (payload, 1),
            };
            cursor = cursor.max(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) + plus);
        };
        self.queue().latest_context(&mut visit).expect("a healthy disk reads");
        for lane in self.lanes.values_mut() {
            for batch in &mut lane.batches {
                batch.is_forgotten |= !batch.is_synced && batch.number >= cursor;
                batch.is_synced |= !batch.is_forgotten;
            }
        }
    }

    /// Delivers everything and checks that all that was synced is stored or declared lost.
    pub fn settle(&mut self) {
        self.fs.clear_faults();
        self.fs.set_capacity(None);
        self.sync().expect("a healthy disk syncs");
        for stream in 0..3 {
            self.queue().rewind(stream);
            assert!(self.deliver(stream, usize::MAX), "a healthy disk reads");
        }
        self.check_depth();
        for stream in 0..3 {
            self.acknowledge(stream, 0, true);
        }
        // The first sync may roll to write down what was acknowledged; the second removes what it left behind.
        self.sync().and_then(|()| self.sync()).expect("a healthy disk syncs");
        for (key, lane) in &self.lanes {
            let must_reach =
                lane.batches.iter().rposition(|batch| batch.is_synced).map_or(0, |last| last as u64 + 1);
            assert!(
                self.is_damaged || lane.watermark >= must_reach,
                "{key:?}: {} < {must_reach}",
                lane.watermark
            );
            let accounted: u64 =
                lane.batches[..lane.watermark as usize].iter().map(|batch| batch.items).sum();
            if !lane.is_inexact {
                assert_eq!(lane.stored_items + lane.lost_items, accounted, "{key:?}");
            }
        }
        let stats = self.queue().stats();
        for depth in &stats.streams {
            assert_eq!((depth.pending, depth.lost), (Dropped::default(), Dropped::default()));
        }
        assert!(stats.segments <= 1, "everything landed, yet {} segments", stats.segments);
        assert_eq!(stats.trim_errors, 0);
    }

    /// accepted = acknowledged + declared lost + pending, in items.
    fn check_depth(&mut self) {
        let queue = self.queue.as_ref().expect("open between steps");
        for (key, lane) in &queue.state.lanes {
            let mut held = lane.lost_pending().items;
            for (start, end) in lane.uncovered(lane.acknowledged, lane.next) {
                held += end.items - start.items;
            }
            assert_eq!(lane.acknowledged.items + held, lane.next.items, "{key:?}");
            assert!(lane.acknowledged.sequence <= lane.synced.sequence);
            assert!(
                lane.synced.sequence <= lane.appended.sequence
                    && lane.appended.sequence <= lane.next.sequence
            );
        }
    }

    /// Damages a file and reopens. Returns whether it could be opened.
    pub fn damage_and_reopen(&mut self, seed: u64) {
        let mut rng = seed;
        self.queue = None;
        self.is_damaged = true;
        let files = segments(&self.fs);
        let path = &files[random(&mut rng) as usize % files.len()];
        let len = self.fs.contents(path).expect("listed").len().max(1) as u64;
        let offset = random(&mut rng) % len;
        let damage = match random(&mut rng) % 7 {
            0..=2 => Damage::Flip { offset, mask: 1 << (random(&mut rng) % 8) },
            3 => Damage::Zero { offset, len: random(&mut rng) % 5000 },
            4 => Damage::Truncate { len: offset },
            5 => Damage::Unreadable { offset, len: random(&mut rng) % 9000 },
            _ => Damage::Delete,
        };
        self.fs.damage(path, damage);
        assert!(self.reopen(), "damage is never an error: {damage:?} of {path:?}");
    }

    pub fn stored_items(&self) -> u64 {
        self.lanes.values().map(|lane| lane.stored_items).sum()
    }
}

/// A fixed life with a fault at one operation; returns how many operations it took.
pub(super) fn scripted_life(on_full: OnFull, fault: Option<(u64, Fault)>) -> u64 {
    let fs = FaultFs::new(11);
    if let Some((operation, fault)) = fault {
        fs.fail_at(operation, fault);
    }
    let Some(mut world) = World::on(fs, on_full) else { return 0 };
    for round in 0..12u64 {
        world.append(0, 3, 30_000);
        world.append((round % 3) as u8, 2, 9_000);
        let _ = world.sync();
        if round % 3 == 1 {
            world.deliver(0, 2);
            world.acknowledge(0, 1, round > 6);
        }
        world.append(0, 5, 25_000);
        let _ = world.sync();
    }
    let operations = world.fs.operations();
    let seed = fault.map_or(0, |(operation, _)| operation);
    let crash = [None, Some(seed), Some(seed + 1000)][seed as usize % 3];
    world.restart(crash);
    world.settle();
    operations
}

#[test]
fn random_damage_costs_only_what_it_touches() {
    let mut worst = 0;
    for seed in 0..1000 {
        let mut world = World::new(OnFull::Refuse, seed).expect("no faults yet");
        let mut rng = seed;
        for _ in 0..18 {
            world.append((random(&mut rng) % 3) as u8, 4, 500 + (random(&mut rng) % 18_000) as usize);
            if random(&mut rng).is_multiple_of(2) {
                let _ = world.sync();
            }
        }
        let _ = world.sync();
        let accepted = 18 * 4;
        world.damage_and_reopen(seed ^ 0xabcd);
        let pending: u64 = world.queue().stats().streams.iter().map(|depth| depth.pending.items).sum();
        world.settle();
        assert_eq!(world.stored_items(), pending, "seed {seed}: what is reported pending is delivered");
        worst = worst.max(accepted - world.stored_items());
        // Whole segments hold about seven batches; damage stays within one.
        assert!(world.stored_items() >= accepted / 4, "seed {seed}: {} of {accepted}", world.stored_items());
    }
    assert!(worst > 0, "the damage did something");
}

#[derive(Debug, Clone)]
enum Step {
    Append { stream: u8, items: u32, len: usize },
    Sync,
    Deliver { stream: u8, count: usize },
    Acknowledge { stream: u8, behind: usize, is_landed: bool },
    Rewind(u8),
    Crash(u64),
    Kill,
    RestartBadly(u64),
    Fail { after: u64, fault: Fault },
    FailRandomly(u32, Fault),
    Full(bool),
    Heal,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = || prop_oneof![Just(Fault::Eio), Just(Fault::Enospc), Just(Fault::ShortWrite)];
    prop_oneof![
        12 => (0..3u8, 0..9u32, 8..45_000usize).prop_map(|(stream, items, len)| Step::Append { stream, items, len }),
        6 => Just(Step::Sync),
        4 => (0..3u8, 1..6usize).prop_map(|(stream, count)| Step::Deliver { stream, count }),
        3 => (0..3u8, 0..3usize, any::<bool>())
            .prop_map(|(stream, behind, is_landed)| Step::Acknowledge { stream, behind, is_landed }),
        1 => (0..3u8).prop_map(Step::Rewind),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::RestartBadly),
        2 => (0..12u64, fault()).prop_map(|(after, fault)| Step::Fail { after, fault }),
        1 => (1..300u32, fault()).prop_map(|(per_mille, fault)| Step::FailRandomly(per_mille, fault)),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::Heal),
        1 => Just(Step::Settle),
    ]
}

fn live(on_full: OnFull, steps: Vec<Step>) {
    let mut world = World::new(on_full, 17).expect("no faults yet");
    for step in steps {
        match step {
            Step::Append { stream, items, len } => drop(world.append(stream, items, len)),
            Step::Sync => drop(world.sync()),
            Step::Deliver { stream, count } => drop(world.deliver(stream, count)),
            Step::Acknowledge { stream, behind, is_landed } => world.acknowledge(stream, behind, is_landed),
            Step::Rewind(stream) => world.queue().rewind(stream),
            Step::Crash(seed) => world.restart(Some(seed)),
            Step::Kill => world.restart(None),
            Step::RestartBadly(seed) => world.restart_badly(seed),
            Step::Fail { after, fault } => world.fs.fail_at(world.fs.operations() + after, fault),
            Step::FailRandomly(per_mille, fault) => world.fs.fail_randomly(per_mille, fault),
            Step::Full(is_full) => world.fs.set_capacity(is_full.then(|| world.fs.bytes() + 30_000)),
            Step::Heal => world.fs.clear_faults(),
            Step::Settle => {
                let errors = world.queue().trim_errors;
                world.queue().trim_errors -= errors;
                world.settle();
            }
        }
        world.check_depth();
    }
    world.queue().trim_errors = 0;
    world.settle();
    world.restart(None);
    world.settle();
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn drop_oldest_accounts_for_everything(steps in prop::collection::vec(step(), 1..120)) {
        live(OnFull::DropOldest, steps);
    }

    #[test]
    fn drop_newest_accounts_for_everything(steps in prop::collection::vec(step(), 1..120)) {
        live(OnFull::DropNewest, steps);
    }

    #[test]
    fn refuse_loses_nothing(steps in prop::collection::vec(step(), 1..120)) {
        live(OnFull::Refuse, steps);
    }
}
