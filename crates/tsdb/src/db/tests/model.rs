//! Any order of appends, late data, conflicts, rotations, merges, deletions,
//! crashes and failing operations shows what a map would.

use std::collections::BTreeMap;

use lm_fs::fault::Fault;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    /// Minutes before now, and values by series.
    Append {
        ago: i64,
        samples: Vec<(u8, u8)>,
    },
    Wait {
        minutes: i64,
    },
    Freeze,
    Flush,
    Maintain,
    Delete {
        series: u8,
        from_ago: i64,
        minutes: i64,
    },
    /// The n-th operation from now fails.
    Fail {
        after: u64,
        is_full: bool,
    },
    Crash {
        seed: u64,
    },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let samples = prop::collection::vec((0u8..5, 0u8..3), 1..6);
    let ago = prop_oneof![4 => Just(0i64), 2 => 0i64..30, 1 => 0i64..3000];
    prop_oneof![
        16 => (ago, samples).prop_map(|(ago, samples)| Action::Append { ago, samples }),
        6 => (1i64..200).prop_map(|minutes| Action::Wait { minutes }),
        4 => Just(Action::Freeze),
        4 => Just(Action::Flush),
        4 => Just(Action::Maintain),
        1 => (0u8..5, 0i64..3000, 0i64..3000)
            .prop_map(|(series, from_ago, minutes)| Action::Delete { series, from_ago, minutes }),
        2 => (0u64..40, any::<bool>()).prop_map(|(after, is_full)| Action::Fail { after, is_full }),
        2 => any::<u64>().prop_map(|seed| Action::Crash { seed }),
        1 => Just(Action::Restart),
    ]
}

/// The log that feeds the store, and what it means.
struct World {
    fs: FaultFs,
    db: Option<Db<FaultFs>>,
    /// (segment, time, series, value): what a restart reads again.
    log: Vec<(u64, i64, u8, f64)>,
    segment: u64,
    now: i64,
    expected: BTreeMap<(u8, i64), f64>,
}

impl World {
    fn new() -> World {
        let fs = FaultFs::new(1);
        let (db, _) = open(&fs);
        World { fs, db: Some(db), log: Vec::new(), segment: 1, now: 100 * HOUR, expected: BTreeMap::new() }
    }

    fn db(&self) -> &Db<FaultFs> {
        self.db.as_ref().expect("it is only gone while it is opened again")
    }

    fn append(&mut self, ago: i64, samples: &[(u8, u8)]) {
        let time = self.now - ago * 60_000;
        for (series, value) in samples {
            let value = f64::from(*value);
            self.log.push((self.segment, time, *series, value));
            append(self.db(), time, *series, value);
            self.expected.entry((*series, time)).or_insert(value);
        }
    }

    fn freeze(&mut self) {
        // As ingest does: a new segment, so that all before it is covered.
        self.segment += 1;
        self.db().freeze(at(self.now), position(self.segment));
    }

    /// Deletes; only if everything is in blocks, so that the model can follow.
    fn delete(&mut self, series: u8, from_ago: i64, minutes: i64) {
        self.fs.clear_faults();
        // What was set apart before, and what came since.
        for _ in 0..2 {
            self.freeze();
            self.db().flush().unwrap();
        }
        let start = self.now - from_ago * 60_000;
        let end = start + minutes * 60_000;
        let matchers = vec![Matcher::new("s", MatchOp::Eq, series.to_string())];
        self.db().delete(matchers, range(start, end)).unwrap();
        self.expected.retain(|(s, time), _| *s != series || *time < start || *time >= end);
        // Memory still knows the newest sample of a series: what comes next is newer.
        self.now += 60_000;
    }

    fn open_again(&mut self) {
        self.fs.clear_faults();
        self.db = None;
        let (db, opened) = open(&self.fs);
        assert!(opened.quarantined.is_empty() && opened.damaged_manifests.is_empty(), "{opened:?}");
        for (segment, time, series, value) in &self.log {
            if *segment >= opened.covered.segment {
                append(&db, *time, *series, *value);
            }
        }
        self.db = Some(db);
        self.segment += 1;
    }

    fn check(&self) {
        self.db().expire(at(self.now));
        let cutoff = self.now - 48 * HOUR;
        let mut expected: BTreeMap<Labels, Samples> = BTreeMap::new();
        for ((series, time), value) in self.expected.iter().filter(|((_, time), _)| *time >= cutoff) {
            expected.entry(name(*series)).or_default().push(at(*time), *value);
        }
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(shown(self.db(), &[], TimeRange::ALL), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn shows_what_a_map_would(actions in prop::collection::vec(action(), 1..60)) {
        let mut world = World::new();
        for action in actions {
            match action {
                Action::Append { ago, samples } => world.append(ago, &samples),
                Action::Wait { minutes } => world.now += minutes * 60_000,
                Action::Freeze => world.freeze(),
                Action::Flush => drop(world.db().flush()),
                Action::Maintain => {
                    while let Ok(done) = world.db().maintain(at(world.now), &mut |_| ControlFlow::Continue(())) {
                        if done.is_idle() {
                            break;
                        }
                        assert_eq!(done.lost_samples, 0);
                    }
                }
                Action::Delete { series, from_ago, minutes } => world.delete(series, from_ago, minutes),
                Action::Fail { after, is_full } => {
                    let fault = if is_full { Fault::Enospc } else { Fault::Eio };
                    world.fs.fail_at(world.fs.operations() + after, fault);
                }
                Action::Crash { seed } => {
                    world.fs.crash(seed);
                    world.open_again();
                }
                Action::Restart => world.open_again(),
            }
            // A look may meet the failing operation too.
            world.fs.clear_faults();
            world.check();
        }
    }
}
