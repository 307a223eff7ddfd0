//! Whatever byte of whatever file is wrong: the store opens, neighbours
//! survive, and what is lost is counted.

use lm_fs::Fs;
use lm_fs::fault::random;

use super::*;

const BLOCKS: i64 = 4;
const SERIES: u8 = 20;
const STEPS: i64 = 30;

/// Four blocks of different days, each with all series.
fn prepared() -> FaultFs {
    let fs = FaultFs::new(1);
    let (db, _) = open(&fs);
    for block in 0..BLOCKS {
        let begin = block * 2 * HOUR;
        for step in 0..STEPS {
            for series in 0..SERIES {
                append(&db, begin + step * 1000, series, (step * i64::from(series)) as f64 * 0.1);
            }
        }
        flush(&db, begin + HOUR, block as u64 + 1);
    }
    fs
}

fn damage(fs: &FaultFs, seed: &mut u64) -> (String, Damage) {
    let dir = Path::new("/metrics");
    let mut names = fs.list(dir).unwrap();
    names.retain(|name| name != "lock");
    names.sort();
    let name = names[random(seed) as usize % names.len()].clone();
    let path = dir.join(&name);
    let len = lm_fs::File::len(&fs.open(&path).unwrap()).unwrap().max(1);
    let offset = random(seed) % len;
    let damage = match random(seed) % 8 {
        0 => Damage::Truncate { len: offset },
        // Nobody can know of a manifest that is not there.
        1 if name.ends_with(".block") => Damage::Delete,
        2 => Damage::Zero { offset, len: random(seed) % 100 + 1 },
        3 => Damage::Unreadable { offset, len: 1 },
        _ => Damage::Flip { offset, mask: 1 << (random(seed) % 8) },
    };
    fs.damage(&path, damage);
    (name, damage)
}

#[test]
fn a_thousand_corruptions() {
    let whole = prepared();
    for case in 0..1000u64 {
        let fs = whole.fork();
        let mut seed = case;
        let (name, damage) = damage(&fs, &mut seed);
        let what = format!("case {case}: {damage:?} of {name}");
        let (db, opened) = Db::open(fs.clone(), Path::new("/metrics"), options())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = shown(&db, &[], TimeRange::ALL);
        let samples = found.iter().map(|(_, samples)| samples.len()).sum::<usize>();
        for (_, samples) in &found {
            assert!(samples.times.is_sorted(), "{what}");
        }
        let all = BLOCKS as usize * usize::from(SERIES) * STEPS as usize;
        let of_block = all / BLOCKS as usize;
        assert!(samples >= all - of_block, "{what}: {samples} of {all} are left");
        if name.starts_with("manifest") {
            assert_eq!(samples, all, "{what}");
            continue;
        }
        // Maintenance saves what is left; what is not is counted.
        while db.maintain(at(8 * HOUR), &mut |_| ControlFlow::Continue(())).is_ok_and(|done| !done.is_idle())
        {
        }
        assert_eq!(shown(&db, &[], TimeRange::ALL), found, "{what}: after maintenance");
        let is_io = matches!(damage, Damage::Unreadable { .. });
        if !is_io {
            assert_eq!(db.lost() as usize, all - samples, "{what}: {opened:?}");
        }
        drop(db);
        let (db, opened) = open(&fs);
        assert!(opened.quarantined.is_empty(), "{what}: {opened:?}");
        assert_eq!(shown(&db, &[], TimeRange::ALL), found, "{what}: after another start");
    }
}

#[test]
fn verification_finds_a_flipped_bit_and_changes_nothing() {
    let fs = prepared();
    let dir = Path::new("/metrics");
    let found = |fs: &FaultFs| {
        let mut damaged = Vec::new();
        let verified = verify(fs, dir, |step| {
            if let Step::Damage(error) = step {
                damaged.push(error.to_string());
            }
            ControlFlow::Continue(())
        });
        (verified.unwrap(), damaged)
    };
    let (verified, damaged) = found(&fs);
    assert_eq!((verified.blocks, verified.damaged, damaged), (4, 0, Vec::new()));
    assert_eq!(verified.samples, 4 * 20 * 30);
    let mut names = fs.list(dir).unwrap();
    names.sort();
    for offset in [1, 100, 1000] {
        let fs = fs.fork();
        fs.damage(&dir.join(&names[1]), Damage::Flip { offset, mask: 4 });
        let (verified, damaged) = found(&fs);
        assert_eq!((verified.blocks, verified.damaged), (4, 1), "{damaged:?}");
        assert!(damaged[0].contains(&names[1]), "{damaged:?}");
        let mut after = fs.list(dir).unwrap();
        after.sort();
        assert_eq!(after, names);
    }
    let (db, _) = open(&fs);
    assert!(matches!(verify(&fs, dir, |_| ControlFlow::Continue(())), Err(DbError::InUse { .. })));
    drop(db);
    let all = verify(&fs, dir, |_| ControlFlow::Break(())).unwrap();
    assert!(all.is_cancelled && all.blocks == 0);
}
