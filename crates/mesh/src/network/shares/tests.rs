use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const STEP: u64 = 64;
const MESSAGE: u64 = 512;
const TOTAL: u64 = 2048;
const ALLOWANCE: u64 = 2 * STEP;

/// Sessions that read messages step by step, as connections do.
struct World {
    shares: Shares,
    next_lease: LeaseId,
    /// By lease: session, taken so far, still to take, and the waiter.
    reading: BTreeMap<LeaseId, (SessionId, u64, u64, Option<WaiterId>)>,
    /// Read to their end: session, lease, bytes.
    answering: VecDeque<(SessionId, LeaseId, u64)>,
    /// Sessions in the order in which waiters were served.
    served: Vec<SessionId>,
}

impl World {
    fn new() -> World {
        World {
            shares: Shares::new(TOTAL, MESSAGE, ALLOWANCE),
            next_lease: 0,
            reading: BTreeMap::new(),
            answering: VecDeque::new(),
            served: Vec::new(),
        }
    }

    fn begin(&mut self, session: SessionId, bytes: u64) -> LeaseId {
        self.next_lease += 1;
        self.reading.insert(self.next_lease, (session, 0, bytes, None));
        self.next_lease
    }

    /// Reads one step of a message, unless it waits.
    fn step(&mut self, lease: LeaseId) {
        let Some((session, taken, left, waiter)) = self.reading.get_mut(&lease) else { return };
        if waiter.is_some() {
            return;
        }
        self.shares.set_slow(*session, lease, false);
        let bytes = STEP.min(*left);
        match self.shares.request(*session, lease, bytes) {
            None => {
                *taken += bytes;
                *left -= bytes;
            }
            Some(id) => *waiter = Some(id),
        }
        self.settle(lease);
    }

    fn settle(&mut self, lease: LeaseId) {
        let (session, taken, left, waiter) = self.reading[&lease];
        if left == 0 && waiter.is_none() {
            self.reading.remove(&lease);
            self.answering.push_back((session, lease, taken));
        }
    }

    fn granted(&mut self, ids: Vec<WaiterId>) {
        for id in ids {
            let (&lease, reading) =
                self.reading.iter_mut().find(|(_, reading)| reading.3 == Some(id)).expect("a known waiter");
            let bytes = STEP.min(reading.2);
            reading.1 += bytes;
            reading.2 -= bytes;
            reading.3 = None;
            self.served.push(reading.0);
            self.settle(lease);
        }
    }

    fn answer(&mut self) {
        let Some((session, lease, bytes)) = self.answering.pop_front() else { return };
        let granted = self.shares.release(session, lease, bytes);
        self.granted(granted);
    }

    fn abandon(&mut self, lease: LeaseId) {
        let Some((session, taken, _, waiter)) = self.reading.remove(&lease) else { return };
        if let Some(waiter) = waiter {
            let granted = self.shares.cancel(session, waiter);
            self.granted(granted);
        }
        let granted = self.shares.release(session, lease, taken);
        self.granted(granted);
    }
}

#[test]
fn one_session_may_take_what_nobody_else_asks_for() {
    let mut world = World::new();
    for _ in 0..3 {
        let lease = world.begin(1, MESSAGE);
        (0..MESSAGE / STEP).for_each(|_| world.step(lease));
    }
    assert_eq!((world.answering.len(), world.shares.used()), (3, 3 * MESSAGE));
}

#[test]
fn a_modest_session_is_served_before_a_greedy_one() {
    let mut world = World::new();
    // The greedy one fills everything, and has a crowd waiting.
    for _ in 0..20 {
        let lease = world.begin(1, MESSAGE);
        (0..MESSAGE / STEP).for_each(|_| world.step(lease));
    }
    let modest = world.begin(2, ALLOWANCE + STEP);
    (0..=ALLOWANCE / STEP).for_each(|_| world.step(modest));
    world.served.clear();
    while world.reading.contains_key(&modest) {
        world.answer();
    }
    // The finisher, which is half read, may go on; nobody else does.
    let before = world.served.iter().position(|session| *session == 2).unwrap() as u64;
    assert!(before <= MESSAGE / STEP, "{before} grants to the greedy one came first");
}

#[test]
fn who_holds_little_does_not_wait_for_those_who_hold_much() {
    let mut world = World::new();
    let read = |world: &mut World, session, bytes| {
        let lease = world.begin(session, bytes);
        (0..bytes / STEP).for_each(|_| world.step(lease));
        !world.reading.contains_key(&lease)
    };
    // Two that take all they can, and stop short of their ends.
    for session in 0..2 {
        for _ in 0..3 {
            let lease = world.begin(session, MESSAGE);
            (1..MESSAGE / STEP).for_each(|_| world.step(lease));
        }
    }
    assert!(!read(&mut world, 7, ALLOWANCE + STEP), "everything is taken");
    assert!(read(&mut world, 8, ALLOWANCE), "that is another's allowance");
    assert!(!read(&mut world, 9, ALLOWANCE), "the pool ends too");
    assert!(world.shares.used() <= TOTAL);
}

#[test]
fn of_those_that_are_slow_whoever_holds_most_is_cut_while_others_wait() {
    let mut shares = Shares::new(TOTAL, MESSAGE, ALLOWANCE);
    for (session, lease, bytes) in [(1, 1, 300), (2, 2, 500), (3, 3, 400), (4, 4, 200)] {
        shares.take_now(session, bytes);
        shares.set_slow(session, lease, session != 4);
    }
    assert_eq!(shares.next_cut(), None, "nobody waits");
    // One finishes, the other waits.
    assert_eq!(shares.request(5, 5, 200), None);
    assert!(shares.request(6, 6, 200).is_some());
    assert_eq!(shares.next_cut(), Some(2));
    assert_eq!(shares.next_cut(), None, "one at a time");
    // It goes on after all.
    shares.set_slow(2, 2, false);
    assert_eq!(shares.next_cut(), Some(3));
    let granted = shares.release(3, 3, 400);
    assert_eq!(granted.len(), 1);
    assert_eq!(shares.next_cut(), None, "nobody waits any more");
    // Nobody is cut for whoever holds as much.
    shares.take_now(6, 300);
    assert!(shares.request(6, 7, 200).is_some());
    assert_eq!(shares.next_cut(), None);
}

#[test]
fn messages_that_are_all_half_read_are_finished_one_after_the_other() {
    let mut world = World::new();
    let leases: Vec<_> = (0..40).map(|session| world.begin(session, MESSAGE)).collect();
    for _ in 0..MESSAGE / STEP {
        leases.iter().for_each(|lease| world.step(*lease));
    }
    let mut turns = 0;
    while !world.reading.is_empty() {
        world.answer();
        leases.iter().for_each(|lease| world.step(*lease));
        assert!(world.shares.used() <= TOTAL);
        turns += 1;
        assert!(turns < 1000, "nothing moves: {} are half read", world.reading.len());
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(SessionId, u64),
    Step(usize),
    Answer,
    Abandon(usize),
    Copy(SessionId, u64),
    Slow(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0u64..6, 1..=MESSAGE).prop_map(|(session, bytes)| Act::Begin(session, bytes)),
        12 => any::<usize>().prop_map(Act::Step),
        4 => Just(Act::Answer),
        1 => any::<usize>().prop_map(Act::Abandon),
        1 => (0u64..6, 1..=MESSAGE).prop_map(|(session, bytes)| Act::Copy(session, bytes)),
        2 => any::<usize>().prop_map(Act::Slow),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nobody_starves(acts in proptest::collection::vec(act(), 1..400)) {
        let mut world = World::new();
        let mut copied = 0;
        for act in acts {
            let pick = |at: usize| world.reading.keys().nth(at % world.reading.len().max(1)).copied();
            match act {
                Act::Begin(session, bytes) => { world.begin(session, bytes); }
                Act::Step(at) => if let Some(lease) = pick(at) { world.step(lease) },
                Act::Answer => world.answer(),
                Act::Abandon(at) => if let Some(lease) = pick(at) { world.abandon(lease) },
                // As a reader does that sees no bytes, and is cut or not.
                Act::Slow(at) => if let Some(lease) = pick(at) {
                    let (session, taken, _, waiter) = world.reading[&lease];
                    if waiter.is_none() && taken > 0 {
                        world.shares.set_slow(session, lease, true);
                    }
                    if let Some(lease) = world.shares.next_cut() {
                        world.abandon(lease);
                    }
                }
                // A copy of one thread at a time.
                Act::Copy(session, bytes) => {
                    world.shares.take_now(session, bytes);
                    copied = copied.max(bytes);
                    prop_assert!(world.shares.used() <= TOTAL + MESSAGE);
                    world.next_lease += 1;
                    let granted = world.shares.release(session, world.next_lease, bytes);
                    world.granted(granted);
                }
            }
            let held: u64 = world.reading.values().map(|reading| reading.1).sum::<u64>()
                + world.answering.iter().map(|answer| answer.2).sum::<u64>();
            prop_assert_eq!(world.shares.used(), held);
            prop_assert!(held <= TOTAL);
        }
        // From here on everybody reads and is answered.
        let mut turns = 0;
        while !world.reading.is_empty() || !world.answering.is_empty() {
            let leases: Vec<_> = world.reading.keys().copied().collect();
            leases.into_iter().for_each(|lease| world.step(lease));
            world.answer();
            turns += 1;
            prop_assert!(turns < 100_000, "a waiter was lost");
        }
        prop_assert_eq!(world.shares.used(), 0);
        prop_assert!(world.shares.holders.is_empty() && world.shares.order.is_empty());
        prop_assert!(world.shares.slow.is_empty() && world.shares.allowed == 0);
    }
}
