use lm_schema::DecodeLimits;
use lm_schema::batch::{Body, decode_body};

use super::*;
use crate::config::Durability;

struct Bench {
    dir: tempfile::TempDir,
    settings: Settings,
    counters: Counters,
}

impl Bench {
    fn new(set: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.queue.dir = dir.path().join("queue");
        settings.queue.bytes_max = 64 << 20;
        settings.queue.durability = Durability::Interval;
        settings.metrics.host = false;
        settings.logs.files = vec![format!("{}/*.log", dir.path().display())];
        settings.logs.from = From::Start;
        set(&mut settings);
        Bench { dir, settings, counters: Counters::default() }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn open(&self) -> (Outbox, Sources) {
        let outbox = Outbox::open(&self.settings, 1000).unwrap();
        (outbox, Sources::new(&self.settings, Vec::new()).unwrap())
    }
}

/// Text that does not compress to much less than three quarters.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b' ' + (state >> 58) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn limits() -> DecodeLimits {
    DecodeLimits { raw_bytes_max: 256 << 10, series_per_batch_max: 107, ..DecodeLimits::default() }
}

#[test]
fn batches_of_lines_are_what_every_collector_accepts() {
    let bench = Bench::new(|settings| settings.limits.series_per_batch_max = 107);
    let short = "a line like many others\n".repeat(10_000);
    bench.write("1.log", &short);
    let mut long = noise(60_000);
    long.push(b'\n');
    bench.write("2.log", long.repeat(20));
    bench.write("3.log", noise(700_000).chunks(100).collect::<Vec<_>>().join(&b'\n'));
    for file in 0..300 {
        bench.write(&format!("many-{file}.log"), "one line\n");
    }
    let (mut outbox, mut sources) = bench.open();
    sources.discover(Instant::now());
    while sources.poll_logs(&mut outbox).unwrap() != Polled::Idle {
        outbox.sync().unwrap();
    }
    let (mut lines, mut bytes_max, mut entries_max) = (0, 0, 0);
    while let Some(batch) = outbox.fetch(Stream::Logs).unwrap() {
        assert!(batch.body.len() <= ENCODED_BYTES_MAX, "{} bytes", batch.body.len());
        let decoded = decode_body(&batch.header, &batch.body, &limits()).unwrap();
        let Body::Logs(columns) = decoded.body else { panic!("not lines") };
        lines += columns.len();
        bytes_max = bytes_max.max(batch.header.raw_bytes as usize);
        entries_max = entries_max.max(decoded.new_entries.len());
    }
    assert_eq!(lines, 10_000 + 20 + 6_999 + 300);
    assert!(bytes_max > RAW_BYTES_MAX / 2 && entries_max > 50, "{bytes_max} bytes, {entries_max} files");
}

#[test]
fn a_line_that_is_too_large_is_alone() {
    let bench = Bench::new(|settings| settings.logs.log_message_bytes_max = 1 << 20);
    let long = noise(600_000);
    bench.write("a.log", [b"before\n", &long[..], b"\nafter\n"].concat());
    let (mut outbox, mut sources) = bench.open();
    sources.discover(Instant::now());
    while sources.poll_logs(&mut outbox).unwrap() != Polled::Idle {}
    outbox.sync().unwrap();
    let mut found = Vec::new();
    while let Some(batch) = outbox.fetch(Stream::Logs).unwrap() {
        found.push((batch.header.item_count, batch.header.raw_bytes > 256 << 10));
    }
    assert_eq!(found, [(1, false), (1, true), (1, false)]);
}

#[test]
fn measurements_that_a_full_queue_refuses_are_counted() {
    let bench = Bench::new(|settings| {
        settings.queue.bytes_max = 4 << 20;
        settings.queue.segment_bytes = 64 << 10;
        settings.queue.on_full = OnFull::Refuse;
    });
    bench.write("a.log", noise(6 << 20).chunks(1000).collect::<Vec<_>>().join(&b'\n'));
    let (mut outbox, mut sources) = bench.open();
    sources.discover(Instant::now());
    while sources.poll_logs(&mut outbox).unwrap() != Polled::Refused {
        outbox.sync().unwrap();
    }
    let refused = || bench.counters.refused_items[Stream::Metrics as usize].load(Ordering::Relaxed);
    let mut facts = QueueFacts::default();
    while refused() == 0 {
        sources.cycle(&mut outbox, &facts, &bench.counters).unwrap();
        outbox.sync().unwrap();
        facts = outbox.facts(&bench.counters);
    }
    let items = sources.measurements().0.len() as u64;
    assert_eq!((refused(), sources.is_refused, bench.counters.dropped_total()), (items, true, 0));
    sources.cycle(&mut outbox, &facts, &bench.counters).unwrap();
    assert_eq!(refused(), 2 * items);
    let (measured, table) = sources.measurements();
    let name = r#"{__name__="lmagent_refused_items_total", stream="metrics"}"#;
    let own = measured.iter().find(|measured| table.labels(measured.series).to_string() == name);
    assert_eq!(own.map(|own| own.value), Some(items as f64));
}
