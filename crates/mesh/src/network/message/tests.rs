use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

/// Gives the bytes in pieces of `piece`, each after `pause`; then nothing,
/// for ever, unless it `ends`.
struct Slow {
    bytes: Vec<u8>,
    at: usize,
    piece: usize,
    pause: Duration,
    ends: bool,
    timer: Pin<Box<tokio::time::Sleep>>,
}

fn slow(bytes: Vec<u8>, piece: usize, pause: Duration, ends: bool) -> Slow {
    Slow { bytes, at: 0, piece, pause, ends, timer: Box::pin(tokio::time::sleep(pause)) }
}

impl AsyncRead for Slow {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.at == this.bytes.len() {
            return if this.ends { Poll::Ready(Ok(0)) } else { Poll::Pending };
        }
        if !this.pause.is_zero() {
            std::task::ready!(this.timer.as_mut().poll(cx));
            this.timer.as_mut().reset(Instant::now() + this.pause);
        }
        let count = this.piece.min(into.len()).min(this.bytes.len() - this.at);
        into[..count].copy_from_slice(&this.bytes[this.at..this.at + count]);
        this.at += count;
        Poll::Ready(Ok(count))
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn table_bytes(sizes: &[u32]) -> Vec<u8> {
    let mut bytes = (sizes.len() as u32).wrapping_sub(1).to_le_bytes().to_vec();
    sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn reason<T>(result: Result<T, Refused>) -> String {
    match result {
        Err(Refused::Violation(reason)) => reason,
        Err(Refused::Lost(error)) => format!("lost: {:?}", error.kind),
        Ok(_) => "fine".to_owned(),
    }
}

fn read(bytes: Vec<u8>, piece: usize) -> Result<Option<Table>, Refused> {
    run(async { read_table(&mut slow(bytes, piece, Duration::ZERO, true)).await })
}

#[test]
fn tables_of_any_shape_are_read_however_torn() {
    for count in 1..=64u32 {
        let sizes: Vec<u32> = (0..count).map(|index| index * 7 % 5).collect();
        for piece in [1, 3, 8, 4096] {
            let table = read(table_bytes(&sizes), piece).unwrap().unwrap();
            assert_eq!(table.words() as u32, sizes.iter().sum::<u32>());
            assert_eq!(table.ends.len() as u32 + 1, count);
        }
    }
    assert!(read(Vec::new(), 1).unwrap().is_none());
}

#[test]
fn tables_that_are_wrong_are_refused_by_themselves() {
    let check = |bytes: Vec<u8>, expected: &str| assert_eq!(reason(read(bytes, 8)), expected);
    check(vec![0xff; 64], "invalid: a message of no segments");
    check(table_bytes(&[1; 65]), "limit: 65 segments of a message (at most 64)");
    check(table_bytes(&[1; 511]), "limit: 511 segments of a message (at most 64)");
    check(vec![0xfe, 0xff, 0xff, 0xff, 1, 0, 0, 0], "limit: 4294967295 segments of a message (at most 64)");
    check(vec![0, 0, 0], "lost: PrematureEndOfFile");
    check(table_bytes(&[1; 9])[..16].to_vec(), "lost: PrematureEndOfFile");
    // The largest claim that a table can make does not overflow.
    let largest = read(table_bytes(&[u32::MAX; 64]), 8).unwrap().unwrap();
    assert_eq!(largest.bytes() as u64, 64 * 8 * u64::from(u32::MAX));
}

#[test]
fn a_table_that_does_not_go_on_is_refused() {
    run(async {
        let began = Instant::now();
        let mut reader = slow(table_bytes(&[1])[..7].to_vec(), 1, Duration::from_millis(1), false);
        assert_eq!(reason(read_table(&mut reader).await), "limit: a message that does not go on");
        assert!((10..13).contains(&began.elapsed().as_secs()));
        // Between two messages there is no deadline.
        let mut idle = slow(Vec::new(), 1, Duration::ZERO, false);
        let long = timeout(Duration::from_secs(86_400), read_table(&mut idle)).await;
        assert!(long.is_err());
    });
}

fn message(bytes: usize) -> (Vec<u8>, Table) {
    let mut builder = capnp::message::Builder::new_default();
    builder.set_root::<capnp::data::Owned>(&vec![7u8; bytes][..]).unwrap();
    let written = capnp::serialize::write_message_to_words(&builder);
    let (_, table) = run(async {
        let mut reader = futures::io::Cursor::new(written.clone());
        let table = read_table(&mut reader).await.unwrap().unwrap();
        (reader, table)
    });
    let body = written[written.len() - table.bytes()..].to_vec();
    (body, table)
}

#[test]
fn bodies_arrive_whole_however_torn() {
    for bytes in [0, 1, 8, STEP_BYTES - 8, STEP_BYTES, STEP_BYTES + 8, 300_000] {
        for piece in [977, usize::MAX] {
            let (body, table) = message(bytes);
            let read = run(async {
                let mut reader = slow(body, piece, Duration::ZERO, true);
                let message = read_body(&mut reader, table, 0, None).await.unwrap();
                message.get_root::<capnp::data::Reader<'_>>().unwrap().to_vec()
            });
            assert_eq!(read, vec![7u8; bytes]);
        }
    }
}

#[test]
fn a_body_may_be_slow_and_not_silent() {
    let (body, table) = message(1 << 20);
    run(async {
        let mut reader = slow(body, 16 << 10, Duration::from_secs(9), true);
        read_body(&mut reader, table, 0, None).await.unwrap();
    });
    let (mut body, table) = message(1 << 20);
    let bytes = table.bytes();
    body.pop();
    run(async {
        let began = Instant::now();
        let mut reader = slow(body, 64 << 10, Duration::from_millis(1), false);
        let expected = format!("limit: a message of {bytes} bytes that does not arrive");
        assert_eq!(reason(read_body(&mut reader, table, 0, None).await), expected);
        assert!((10..13).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    });
}

#[test]
fn a_body_that_is_slow_is_cut_once_somebody_waits_for_its_memory() {
    let cut = "comes too slowly while others wait";
    for (piece, pause_ms, expected) in
        [(64 << 10, 500, None), (16 << 10, 500, Some(cut)), (usize::MAX, 0, Some(cut))]
    {
        let (mut body, table) = message(1 << 20);
        body.pop();
        run(async {
            let (budget, meter) = (crate::Budget::new(8 << 20, 2 << 20), std::sync::Arc::default());
            let [mut lease, mut finisher, mut waiter] =
                [1, 2, 3].map(|session| budget.lease(session, &meter));
            let mut reader = slow(body, piece, Duration::from_millis(pause_ms), false);
            let mut reading = Box::pin(read_body(&mut reader, table, 0, Some(&mut lease)));
            let alone = timeout(Duration::from_secs(5), &mut reading).await;
            assert!(alone.is_err(), "nobody waits");
            let _all = budget.lease_now(4, &meter, 8 << 20);
            finisher.grow(300 << 10).await;
            let waiting = async { timeout(Duration::from_secs(2), waiter.grow(300 << 10)).await };
            let (read, _) = tokio::join!(timeout(Duration::from_secs(2), &mut reading), waiting);
            let said = read.ok().map(reason);
            assert_eq!(said.is_some(), expected.is_some(), "{piece}: {said:?}");
            assert!(expected.is_none_or(|words| said.is_some_and(|said| said.contains(words))));
        });
    }
}

#[test]
fn waiting_for_the_budget_is_not_the_peers_time() {
    let (body, table) = message(STEP_BYTES);
    run(async {
        let (budget, meter) = (crate::Budget::new(1 << 20, 1 << 19), std::sync::Arc::default());
        let (all, mut first) = (budget.lease_now(1, &meter, 1 << 20), budget.lease(2, &meter));
        first.grow(1).await;
        let mut lease = budget.lease(3, &meter);
        let free = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop((all, first));
        };
        let mut reader = slow(body, usize::MAX, Duration::ZERO, true);
        let (read, ()) = tokio::join!(read_body(&mut reader, table, 0, Some(&mut lease)), free);
        read.map(drop).unwrap();
    });
}

#[test]
fn what_a_message_makes_us_visit_is_bounded_by_its_size() {
    // A list of 2^29 - 1 empty structs in three words.
    let words: [u64; 3] = [
        0x0000_0007_0000_0001,   // list of structs, 0 words
        ((1u64 << 29) - 1) << 2, // its tag: no data, no pointers
        0,
    ];
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    run(async {
        let mut reader = slow(body, usize::MAX, Duration::ZERO, true);
        let table = Table { words: 3, ends: Vec::new() };
        let message = read_body(&mut reader, table, 4096, None).await.unwrap();
        let list = message.get_root::<capnp::struct_list::Reader<'_, capnp_rpc::rpc_capnp::message::Owned>>();
        assert_eq!(list.err().unwrap().kind, capnp::ErrorKind::ReadLimitExceeded);
    });
}

/// Ours against the one of capnp-futures, for pushes of 1 KiB, 64 KiB and
/// 1 MiB. Both are compiled as this crate is, so they are compared fairly with
/// `cargo test --release -p lm-mesh --lib reading_costs -- --ignored --nocapture`.
#[test]
#[ignore = "prints times, judges nothing"]
fn reading_costs_no_more_than_it_did() {
    for (bytes, rounds) in [(1 << 10, 100_000), (64 << 10, 20_000), (1 << 20, 1_000)] {
        let mut builder = capnp::message::Builder::new_default();
        builder.set_root::<capnp::data::Owned>(&vec![7u8; bytes][..]).unwrap();
        let written = capnp::serialize::write_message_to_words(&builder);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for turn in ["theirs", "ours", "theirs", "ours"] {
            let began = std::time::Instant::now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    let mut reader = futures::io::Cursor::new(&written);
                    let length = if turn == "ours" {
                        let table = read_table(&mut reader).await.unwrap().unwrap();
                        let message = read_body(&mut reader, table, 4096, None).await.unwrap();
                        message.get_root::<capnp::data::Reader<'_>>().unwrap().len()
                    } else {
                        let options = ReaderOptions::new();
                        let message = capnp_futures::serialize::read_message(&mut reader, options);
                        message.await.unwrap().get_root::<capnp::data::Reader<'_>>().unwrap().len()
                    };
                    assert_eq!(length, bytes);
                }
            });
            println!("{bytes} bytes, {turn}: {} ns a message", began.elapsed().as_nanos() / rounds);
        }
    }
}
