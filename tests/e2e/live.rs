//! The live tail: slow clients and clients that come back.

use std::time::Duration;

use lm_tests::api::unix_nano;
use lm_tests::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::sse::{Event, Sse};
use lm_tests::{System, system_options};

use crate::SOON;

/// Reads `log` events up to the one whose line begins with `last`.
#[track_caller]
fn read_until(sse: &mut Sse, last: &str) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = sse.next(SOON).unwrap_or_else(|| {
            panic!("no {last:?} after {} events; closed: {}", events.len(), sse.is_closed())
        });
        let is_last = event.kind == "log" && event.line().starts_with(last);
        events.push(event);
        if is_last {
            return events;
        }
    }
}

fn numbers(events: &[Event]) -> Vec<usize> {
    let lines = events.iter().filter(|event| event.kind == "log").map(Event::line);
    lines.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// A running system, and a function that writes lines `first..end`.
fn with_lines(test: impl AsyncFnOnce(&mut System, &dyn Fn(std::ops::Range<usize>, usize))) {
    let mut system = System::with(system_options(&[], &["m"]));
    system.collector.start();
    system.gateway.start();
    system.wait_ready();
    let config = MeshConfig::of(&system, "m");
    let (lines_tx, lines_rx) = std::sync::mpsc::channel::<(std::ops::Range<usize>, usize)>();
    let (done_tx, done_rx) = std::sync::mpsc::channel();
    let pusher = std::thread::spawn(move || {
        block_on(async {
            let session = MeshSession::open(&config, &[]).await.unwrap();
            let mut maker = BatchMaker::new(1);
            while let Ok((range, padding)) = lines_rx.recv() {
                let lines: Vec<_> = range.map(|i| format!("{i} {}", "x".repeat(padding))).collect();
                let batch =
                    maker.lines(&[("filename", "live")], lines.iter().map(|line| (unix_nano(), &line[..])));
                let receipt = session.push(&batch).await.unwrap();
                done_tx.send(receipt.outcome).unwrap();
            }
        });
    });
    let push = |range: std::ops::Range<usize>, padding: usize| {
        lines_tx.send((range, padding)).unwrap();
        assert_eq!(done_rx.recv_timeout(SOON), Ok(Outcome::Durable));
    };
    block_on(test(&mut system, &push));
    drop(lines_tx);
    pusher.join().unwrap();
}

#[test]
fn a_slow_client_misses_events_and_is_told() {
    with_lines(async |system, push| {
        let mut slow = system.api.live("", None);
        let mut fast = system.api.live("", None);
        push(0..1, 0);
        assert_eq!(numbers(&read_until(&mut fast, "0 ")), [0]);
        // More than sockets, gateway and collector keep for one who does not read.
        let (batch, batches) = (150, 60);
        for round in 0..batches {
            let range = 1 + round * batch..1 + (round + 1) * batch;
            push(range.clone(), 4000);
            let read = read_until(&mut fast, &format!("{} ", range.end - 1));
            assert_eq!(numbers(&read), range.collect::<Vec<_>>(), "the fast client misses nothing");
        }
        let last = batch * batches;
        let (mut received, mut missed, mut next) = (0, 0, 0);
        while received + missed <= last {
            let Some(event) = slow.next(SOON) else { break };
            match &event.kind[..] {
                "gap" => {
                    missed += event.missed() as usize;
                    next += event.missed() as usize;
                }
                _ => {
                    let number = numbers(std::slice::from_ref(&event))[0];
                    assert_eq!(number, next, "what is missing is told");
                    next += 1;
                    received += 1;
                }
            }
        }
        println!("slow client: {received} received, {missed} missed, closed: {}", slow.is_closed());
        assert!(slow.is_closed() || missed > 0, "nothing was missed: the test does not test");
        assert!(slow.is_closed() || received + missed == last + 1);
        // Nobody else noticed, and questions are answered.
        push(last + 1..last + 2, 0);
        assert_eq!(numbers(&read_until(&mut fast, &format!("{} ", last + 1))), [last + 1]);
        assert!(system.api.losses().is_ok());
    });
}

#[test]
fn a_client_comes_back_without_loss_or_repeats() {
    with_lines(async |system, push| {
        let mut first = system.api.live("selector=%7Bfilename%3D%22live%22%7D", None);
        push(0..10, 0);
        let read = read_until(&mut first, "4 ");
        assert_eq!(numbers(&read), [0, 1, 2, 3, 4]);
        let id = read.last().unwrap().id.clone().unwrap();
        drop(first);
        push(10..20, 0);
        let mut second = system.api.live("selector=%7Bfilename%3D%22live%22%7D", Some(&id));
        let read = read_until(&mut second, "19 ");
        assert_eq!(numbers(&read), (5..20).collect::<Vec<_>>());
        assert!(read.iter().all(|event| event.kind == "log"), "{read:?}");
        let id = read.last().unwrap().id.clone().unwrap();

        // Over a gateway that is killed.
        system.gateway.kill();
        push(20..25, 0);
        system.gateway.start();
        system.wait_ready();
        let mut third = system.api.live("", Some(&id));
        assert_eq!(numbers(&read_until(&mut third, "24 ")), (20..25).collect::<Vec<_>>());
        // Nothing more comes, in particular nothing again.
        assert_eq!(third.next(Duration::from_millis(300)), None);
        let wrong = system.api.get("/api/v1/live?last_event_id=nonsense").unwrap();
        assert_eq!(wrong.status, 400, "{}", wrong.body);
    });
}
