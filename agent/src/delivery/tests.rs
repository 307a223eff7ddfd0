use lm_model::{BatchId, Timestamp};
use lm_schema::batch::Codec;

use super::*;

const RUN: Incarnation = Incarnation { ordinal: 7, nonce: 0 };

fn batch(stream: Stream, sequence: u64, position: u64) -> Outgoing<u64> {
    let header = BatchHeader {
        id: BatchId { stream, incarnation: RUN, sequence },
        sequence_end: sequence + 1,
        kind: Kind::Logs,
        item_count: 1,
        items_before: sequence,
        time_min: Timestamp::default(),
        time_max: Timestamp::default(),
        dictionary_epoch: 0,
        dictionary_length: 0,
        codec: Codec::None,
        raw_bytes: 8,
        body_crc32c: 0,
    };
    Outgoing { header, body: vec![0; 8], position: Some(position) }
}

/// A session over a queue in memory: batch `n` of a stream is at position
/// `10 * n + stream`, and steps are written down as words.
struct Bench {
    delivery: Delivery<u64>,
    now: Instant,
    /// Of each stream: first that is not acknowledged, next to fetch, end.
    queues: [(u64, u64, u64); 3],
    sent: Vec<BatchHeader>,
    fetches: usize,
}

impl Bench {
    fn new(ends: [u64; 3]) -> Self {
        let queues = ends.map(|end| (0, 0, end));
        Bench { delivery: Delivery::new(4), now: Instant::now(), queues, sent: Vec::new(), fetches: 0 }
    }

    /// Runs until there is nothing to do; what was done that matters.
    fn run(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(step) = self.delivery.poll(self.now) {
            match step {
                Step::Fetch(stream) => {
                    let (_, next, end) = &mut self.queues[stream as usize];
                    let fetched = (*next < *end).then(|| batch(stream, *next, 10 * *next + stream as u64));
                    *next += u64::from(fetched.is_some());
                    self.fetches += 1;
                    let is_last = fetched.is_some() && *next == *end;
                    self.delivery.handle_fetched(stream, fetched, is_last);
                }
                Step::Rewind(stream) => {
                    let (first, next, _) = &mut self.queues[stream as usize];
                    *next = *first;
                }
                Step::Send(batch) => {
                    words.push(format!(
                        "{}{}",
                        &batch.header.id.stream.name()[..1],
                        batch.header.id.sequence
                    ));
                    self.sent.push(batch.header);
                }
                Step::Define { header, position, .. } => {
                    words.push(format!("define({}, at {position})", header.dictionary_epoch));
                    self.delivery.handle_defined(self.now, header.id.stream, None);
                }
                Step::Hole { stream, incarnation, start, end, items_before, items } => {
                    words.push(format!("hole({start}..{end}, {items} after {items_before})"));
                    let mut loss = batch(stream, start, 0);
                    loss.header.kind = Kind::Loss;
                    loss.header.sequence_end = end;
                    loss.position = None;
                    assert_eq!(incarnation, RUN);
                    self.delivery.handle_hole(stream, loss);
                }
            }
        }
        words.join(" ")
    }

    /// Answers the oldest call to `sequence` of `stream`; what is acknowledged.
    fn answer(&mut self, stream: Stream, sequence: u64, outcome: Outcome) -> Option<u64> {
        let at = self.sent.iter().position(|h| h.id.stream == stream && h.id.sequence == sequence).unwrap();
        let header = self.sent.remove(at);
        let receipt = Receipt { outcome, durable_end: 0, landed_end: 0, credit: 4, dropped_items: 0 };
        let acknowledged = self.delivery.handle_receipt(&header, &receipt)?;
        self.queues[stream as usize].0 = acknowledged.durable_end;
        Some(acknowledged.durable_end)
    }
}

#[test]
fn batches_go_in_the_order_of_the_queue() {
    let mut bench = Bench::new([2, 2, 0]);
    assert_eq!(bench.run(), "m0 l0 m1 l1");
    assert!(!bench.delivery.is_drained());
    assert_eq!(bench.answer(Stream::Metrics, 0, Outcome::Durable), Some(1));
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Duplicate), Some(1));
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::Rejected("no".to_owned())), Some(2));
    assert_eq!(bench.answer(Stream::Metrics, 1, Outcome::Quarantined), Some(2));
    assert_eq!(bench.run(), "");
    assert!(bench.delivery.is_drained());
    bench.queues[1].2 = 3;
    bench.delivery.handle_growth(Stream::Logs);
    assert_eq!(bench.run(), "l2");
}

#[test]
fn calls_in_flight_are_bounded() {
    let mut bench = Bench::new([0, 9, 0]);
    assert_eq!(bench.run(), "l0 l1 l2 l3");
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Durable), Some(1));
    assert_eq!(bench.run(), "l4");
    assert_eq!(bench.delivery.in_flight(), (4, 32));
}

#[test]
fn answers_out_of_order_acknowledge_in_order() {
    let mut bench = Bench::new([0, 3, 0]);
    bench.run();
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::Durable), None);
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Durable), Some(2));
}

#[test]
fn a_missing_dictionary_is_defined_and_the_same_batches_sent_again() {
    let mut bench = Bench::new([0, 3, 0]);
    assert_eq!(bench.run(), "l0 l1 l2");
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Durable), Some(1));
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::NeedDictionary(0)), None);
    assert_eq!(bench.run(), "");
    assert_eq!(bench.answer(Stream::Logs, 2, Outcome::Gap(1)), None);
    assert_eq!(bench.run(), "define(0, at 11) l1 l2");
}

#[test]
fn a_dictionary_that_is_asked_for_again_waits() {
    let mut bench = Bench::new([0, 1, 0]);
    assert_eq!(bench.run(), "l0");
    bench.answer(Stream::Logs, 0, Outcome::NeedDictionary(0));
    assert_eq!(bench.run(), "define(0, at 1) l0");
    bench.answer(Stream::Logs, 0, Outcome::NeedDictionary(0));
    assert_eq!(bench.run(), "");
    bench.now += NONSENSE_WAIT;
    assert_eq!(bench.run(), "l0");
    bench.answer(Stream::Logs, 0, Outcome::NeedDictionary(0));
    assert_eq!(bench.run(), "define(0, at 1) l0");
}

#[test]
fn a_stalled_lane_does_not_hold_up_others() {
    let mut bench = Bench::new([1, 1, 0]);
    assert_eq!(bench.run(), "m0 l0");
    assert_eq!(bench.answer(Stream::Metrics, 0, Outcome::RetryAfter(Duration::from_secs(5))), None);
    assert_eq!(bench.run(), "");
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Durable), Some(1));
    bench.queues[1].2 = 2;
    bench.delivery.handle_growth(Stream::Logs);
    assert_eq!(bench.run(), "l1");
    let wait = bench.delivery.poll_timeout().unwrap() - bench.now;
    assert_eq!(wait, Duration::from_secs(5));
    bench.now += wait;
    assert_eq!(bench.run(), "m0");
    assert_eq!(bench.delivery.poll_timeout(), None);
}

#[test]
fn a_gap_that_the_queue_can_fill() {
    let mut bench = Bench::new([0, 3, 0]);
    bench.queues[1] = (1, 1, 3);
    assert_eq!(bench.run(), "l1 l2");
    // The collector lost what it once had, and so do we believe: rewind.
    bench.queues[1].0 = 0;
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::Gap(0)), None);
    assert_eq!(bench.answer(Stream::Logs, 2, Outcome::Gap(0)), None);
    assert_eq!(bench.run(), "l0 l1 l2");
}

#[test]
fn a_gap_that_nobody_can_fill_becomes_a_loss() {
    let mut bench = Bench::new([0, 7, 0]);
    bench.queues[1] = (5, 5, 7);
    assert_eq!(bench.run(), "l5 l6");
    assert_eq!(bench.answer(Stream::Logs, 5, Outcome::Gap(2)), None);
    assert_eq!(bench.answer(Stream::Logs, 6, Outcome::Gap(2)), None);
    assert_eq!(bench.run(), "hole(2..5, 0 after 0) l2 l5 l6");
    assert_eq!(bench.answer(Stream::Logs, 2, Outcome::Durable), Some(5));
}

#[test]
fn the_items_of_a_hole_are_counted_where_both_sides_of_it_are_known() {
    let from_the_start = || {
        let mut bench = Bench::new([0, 7, 0]);
        bench.queues[1] = (5, 5, 6);
        bench.run();
        bench.answer(Stream::Logs, 5, Outcome::Gap(0));
        bench
    };
    assert_eq!(from_the_start().run(), "hole(0..5, 5 after 0) l0 l5");

    let mut bench = Bench::new([0, 3, 0]);
    bench.queues[1] = (1, 1, 2);
    assert_eq!(bench.run(), "l1");
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::Durable), Some(2));
    bench.queues[1] = (5, 5, 6);
    bench.delivery.handle_growth(Stream::Logs);
    assert_eq!(bench.run(), "l5");
    bench.answer(Stream::Logs, 5, Outcome::Gap(2));
    assert_eq!(bench.run(), "hole(2..5, 3 after 2) l2 l5");
}

#[test]
fn the_queue_is_not_asked_for_what_it_is_known_not_to_have() {
    let mut bench = Bench::new([2, 0, 0]);
    assert_eq!(bench.run(), "m0 m1");
    assert_eq!(bench.fetches, 4, "two batches, and once for each other stream");
    bench.queues[0].2 = 3;
    bench.delivery.handle_growth(Stream::Metrics);
    assert_eq!(bench.run(), "m2");
    assert_eq!(bench.fetches, 5);
    for sequence in 0..3 {
        bench.answer(Stream::Metrics, sequence, Outcome::Durable);
    }
    assert!(bench.delivery.is_drained());
    assert_eq!((bench.run(), bench.fetches), (String::new(), 5));
}

#[test]
fn nonsense_is_answered_with_patience() {
    let mut bench = Bench::new([0, 1, 0]);
    assert_eq!(bench.run(), "l0");
    assert_eq!(bench.answer(Stream::Logs, 0, Outcome::Gap(0)), None);
    assert_eq!(bench.run(), "");
    assert_eq!(bench.delivery.poll_timeout(), Some(bench.now + NONSENSE_WAIT));
    bench.now += NONSENSE_WAIT;
    assert_eq!(bench.run(), "l0");
    let unknown = batch(Stream::Logs, 99, 0).header;
    let receipt =
        Receipt { outcome: Outcome::Durable, durable_end: 0, landed_end: 0, credit: 0, dropped_items: 0 };
    assert_eq!(bench.delivery.handle_receipt(&unknown, &receipt), None);
}

#[test]
fn no_credit_still_lets_one_call_ask_for_more() {
    let mut bench = Bench::new([0, 3, 0]);
    bench.run();
    let header = bench.sent.remove(0);
    let receipt =
        Receipt { outcome: Outcome::Durable, durable_end: 1, landed_end: 0, credit: 0, dropped_items: 0 };
    bench.delivery.handle_receipt(&header, &receipt);
    bench.queues[1].2 = 9;
    assert_eq!(bench.answer(Stream::Logs, 1, Outcome::Durable), Some(2));
    assert_eq!(bench.answer(Stream::Logs, 2, Outcome::Durable), Some(3));
    bench.delivery.handle_growth(Stream::Logs);
    assert_eq!(bench.run(), "l3 l4 l5 l6");
}

#[test]
fn a_new_incarnation_waits_for_the_one_before_it() {
    let mut delivery = Delivery::new(8);
    let now = Instant::now();
    // Two batches of the old run, whose first is lost, and one of the new.
    let mut queue = [batch(Stream::Logs, 1, 10), batch(Stream::Logs, 2, 20), batch(Stream::Logs, 0, 30)];
    queue[2].header.id.incarnation = Incarnation { ordinal: 8, nonce: 0 };
    let mut next = 0;
    let mut run = |delivery: &mut Delivery<u64>, first: usize| {
        let mut sent = Vec::new();
        while let Some(step) = delivery.poll(now) {
            match step {
                Step::Fetch(Stream::Logs) => {
                    let fetched = queue.get(next).map(|of| Outgoing {
                        header: of.header,
                        ..batch(Stream::Logs, 0, of.position.unwrap())
                    });
                    next += usize::from(fetched.is_some());
                    delivery.handle_fetched(Stream::Logs, fetched, next == queue.len());
                }
                Step::Fetch(stream) => delivery.handle_fetched(stream, None, true),
                Step::Rewind(stream) => next = if stream == Stream::Logs { first } else { next },
                Step::Send(batch) => sent.push(batch.header),
                Step::Hole { stream, start, end, .. } => {
                    let mut loss = batch(stream, start, 0);
                    (loss.header.kind, loss.header.sequence_end, loss.position) = (Kind::Loss, end, None);
                    delivery.handle_hole(stream, loss);
                }
                Step::Define { .. } => unreachable!("no dictionary is missing"),
            }
        }
        sent
    };
    let receipt = |outcome| Receipt { outcome, durable_end: 0, landed_end: 0, credit: 8, dropped_items: 0 };
    let ids = |sent: &[BatchHeader]| {
        sent.iter().map(|header| (header.id.incarnation.ordinal, header.id.sequence)).collect::<Vec<_>>()
    };
    let sent = run(&mut delivery, 0);
    assert_eq!(ids(&sent), [(7, 1), (7, 2)], "the new run waits");
    for header in &sent {
        delivery.handle_receipt(header, &receipt(Outcome::Gap(0)));
    }
    let sent = run(&mut delivery, 0);
    assert_eq!(ids(&sent), [(7, 0), (7, 1), (7, 2)], "the hole, then what it held up");
    for header in &sent {
        assert_eq!(run(&mut delivery, 0), []);
        delivery.handle_receipt(header, &receipt(Outcome::Durable));
    }
    assert_eq!(ids(&run(&mut delivery, 2)), [(8, 0)]);
}

#[test]
fn a_hurry_ends_waits_and_nothing_else() {
    let mut bench = Bench::new([1, 1, 0]);
    assert_eq!(bench.run(), "m0 l0");
    bench.answer(Stream::Metrics, 0, Outcome::RetryAfter(Duration::from_secs(5)));
    assert_eq!(bench.run(), "");
    bench.delivery.handle_hurry();
    assert_eq!(bench.run(), "m0", "what is under way is not sent again");
    assert_eq!(bench.delivery.poll_timeout(), None);
}
