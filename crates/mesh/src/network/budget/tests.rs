use futures::FutureExt;

use super::*;

const MESSAGE: usize = 100;

fn full() -> (Budget, Arc<Meter>, Lease) {
    let (budget, meter) = (Budget::new(200, MESSAGE), Arc::new(Meter::default()));
    let all = budget.lease_now(1, &meter, 200);
    (budget, meter, all)
}

#[test]
fn a_lease_waits_and_is_woken() {
    let (budget, meter, all) = full();
    let mut lease = budget.lease(2, &meter);
    // The first that waits becomes the finisher and may use the reserve.
    lease.grow(60).now_or_never().unwrap();
    let mut second = budget.lease(3, &meter);
    let mut waiting = Box::pin(second.grow(50));
    assert!((&mut waiting).now_or_never().is_none());
    drop(all);
    assert!((&mut waiting).now_or_never().is_none(), "150 would be in general use, and 100 may be");
    drop(lease);
    assert!((&mut waiting).now_or_never().is_some());
    drop(waiting);
    assert_eq!((budget.used_bytes(), meter.facts().budget_bytes, budget.waits()), (50, 50, 1));
    drop(second);
    assert_eq!((budget.used_bytes(), meter.facts().budget_bytes), (0, 0));
}

#[test]
fn a_waiter_that_is_dropped_takes_nothing_along() {
    let (budget, meter, all) = full();
    let mut finisher = budget.lease(2, &meter);
    finisher.grow(60).now_or_never().unwrap();
    let (mut second, mut third) = (budget.lease(3, &meter), budget.lease(4, &meter));
    let mut waiting = Box::pin(second.grow(80));
    let mut behind = Box::pin(third.grow(80));
    assert!((&mut waiting).now_or_never().is_none());
    assert!((&mut behind).now_or_never().is_none());
    // Granted, and dropped before it looks: the next one gets it.
    drop((all, finisher));
    drop(waiting);
    assert!((&mut behind).now_or_never().is_some());
    drop(behind);
    drop((second, third));
    assert_eq!(budget.used_bytes(), 0);
    assert!(budget.locked().granted.is_empty() && budget.locked().wakers.is_empty());
}

#[test]
fn a_slow_lease_is_told_when_somebody_waits() {
    let slow = |lease: &mut Lease| std::future::poll_fn(|cx| lease.poll_slow(cx)).now_or_never();
    let (budget, meter, all) = full();
    let [mut small, mut large, mut finisher, mut asking] =
        [2, 3, 4, 5].map(|session| budget.lease(session, &meter));
    finisher.grow(1).now_or_never().expect("the first may use the reserve");
    let more = [(2, 10), (3, 20)].map(|(session, bytes)| budget.lease_now(session, &meter, bytes));
    assert!(slow(&mut small).is_none() && slow(&mut large).is_none(), "nobody waits");
    let mut waiting = Box::pin(asking.grow(50));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(slow(&mut small).is_none(), "it holds less");
    assert!(slow(&mut large).is_some(), "somebody waits");
    drop(large);
    assert!(slow(&mut small).is_some(), "and still does");
    small.not_slow();
    drop(all);
    assert_eq!((&mut waiting).now_or_never(), Some(true));
    drop(waiting);
    drop((asking, finisher, more, small));
    let state = budget.locked();
    assert!(state.shares.used() == 0 && state.cuts.is_empty() && state.slow_wakers.is_empty());
}

#[test]
fn threads_share_a_budget() {
    let budget = Budget::new(1 << 20, 1 << 18);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let threads: Vec<_> = (0..8u64)
        .map(|session| {
            let budget = budget.clone();
            std::thread::spawn(move || {
                let runtime = runtime();
                let meter = Arc::new(Meter::default());
                for round in 0..200 {
                    let mut lease = budget.lease(session, &meter);
                    for _ in 0..4 {
                        runtime.block_on(lease.grow(1 << 16));
                    }
                    assert!(budget.used_bytes() <= (1 << 20) + 8 * (1 << 18));
                    let copy = (round % 3 == 0).then(|| budget.lease_now(session, &meter, 1 << 18));
                    drop((lease, copy));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(budget.used_bytes(), 0);
}
