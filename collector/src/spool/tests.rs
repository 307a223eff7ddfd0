//! Age and clocks: segments go in time, also after a clock that was wrong.

use lm_fs::fault::FaultFs;

use super::*;

const HOUR: i64 = 3_600_000;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_millis(hours * HOUR)
}

fn open(fs: &FaultFs) -> Spool<FaultFs> {
    let options =
        SpoolOptions { bytes_max: 1 << 30, segment_bytes: 1 << 20, retention: Duration::from_secs(6 * 3600) };
    Spool::open(fs.clone(), PathBuf::from("/spool"), options).unwrap()
}

/// One record at `now`, in a new segment if the spool wants one. Answers whether it did.
fn append(spool: &mut Spool<FaultFs>, now: Timestamp) -> bool {
    let rolls = spool.needs_roll(now, 100);
    if rolls {
        spool.sync(now, &mut Vec::new).unwrap();
        spool.roll(now, vec![0; 8]).unwrap();
    }
    spool.append(now, &[0; 100], &mut Vec::new).unwrap();
    spool.sync(now, &mut Vec::new).unwrap();
    rolls
}

fn expire(spool: &mut Spool<FaultFs>, now: Timestamp) -> usize {
    spool.expire(now, SegmentId::MAX).unwrap().segments
}

#[test]
fn a_segment_that_is_not_covered_stays() {
    let mut spool = open(&FaultFs::new(1));
    (0..4).for_each(|hour| assert!(append(&mut spool, at(hour))));
    let covered = spool.active() - 2;
    let expired = spool.expire(at(100), covered).unwrap();
    assert_eq!(expired, Expired { segments: 1, is_held: true });
    let expired = spool.expire(at(100), covered + 1).unwrap();
    assert_eq!(expired, Expired { segments: 1, is_held: true });
    assert_eq!(expire(&mut spool, at(100)), 1, "the active one stays");
}

#[test]
fn a_segment_goes_when_the_next_one_is_old() {
    let mut spool = open(&FaultFs::new(1));
    for hour in 0..4 {
        assert!(append(&mut spool, at(hour)));
    }
    assert!(!append(&mut spool, Timestamp::from_millis(3 * HOUR + 100)), "half an hour is not over");
    assert_eq!(expire(&mut spool, at(7)), 0);
    assert_eq!(expire(&mut spool, Timestamp::from_millis(7 * HOUR + 1)), 1);
    assert_eq!(spool.begun(), Some(at(3)));
}

#[test]
fn segments_of_a_clock_that_was_ahead_go_in_time() {
    let fs = FaultFs::new(1);
    let mut spool = open(&fs);
    let year = 365 * 24;
    append(&mut spool, at(year));
    append(&mut spool, at(year + 1));
    // Set right: the next record begins a segment with the right time.
    assert!(append(&mut spool, at(1)));
    assert!(append(&mut spool, at(2)));
    assert_eq!(expire(&mut spool, at(7)), 0);
    assert_eq!(expire(&mut spool, at(8)), 2, "nothing in them is younger than what is behind them");
    drop(spool);
    assert_eq!(open(&fs).begun(), Some(at(2)));
}
