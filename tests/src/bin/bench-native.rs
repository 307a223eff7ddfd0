//! Native ingest: hosts of 922 series each push scrape after scrape to a real
//! collector over QUIC, as fast as it takes them.
//!
//! `bench-native HOSTS TICKS [INTERVAL_SECONDS]` prints what the collector
//! spent for each sample and each new series, and its memory. The scrapes lie
//! in the past and end now.

use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lm_model::{Stream, Timestamp};
use lm_schema::batch::{Body, Encoder, SampleColumns};
use lm_tests::api::unix_ms;
use lm_tests::mesh::{BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::node::Node;
use lm_tests::{System, try_eventually};

/// Pushes under way at once, of all hosts together.
const WINDOW: usize = 8;

struct Host {
    node: Node,
    session: Rc<MeshSession>,
    maker: BatchMaker,
}

impl Host {
    async fn push(&mut self, encoder: &mut Encoder, at: i64, seconds: f64) -> anyhow::Result<u64> {
        self.node.step(seconds);
        let count = self.node.values.len() as u32;
        let known = self.maker.entries.len() as u32;
        let new = if known == 0 { self.node.labels.clone() } else { Vec::new() };
        self.maker.entries.extend(new.iter().cloned());
        let columns = SampleColumns {
            times: vec![Timestamp::from_millis(at)],
            lengths: vec![count],
            references: (0..count).collect(),
            values: self.node.values.clone(),
        };
        let body = encoder.encode(&new, &Body::Samples(columns))?;
        let batch = self.maker.place(Stream::Metrics, known, body);
        let receipt = self.session.push(&batch).await?;
        anyhow::ensure!(receipt.outcome == Outcome::Durable, "{receipt:?}");
        Ok(u64::from(count))
    }
}

/// All hosts push the scrape of one time.
async fn tick(hosts: &mut [Host], encoders: &mut [Encoder], at: i64, seconds: f64) -> anyhow::Result<u64> {
    let mut pushed = 0;
    for group in hosts.chunks_mut(WINDOW) {
        let mut under_way: FuturesUnordered<_> = group
            .iter_mut()
            .zip(encoders.iter_mut())
            .map(|(host, encoder)| host.push(encoder, at, seconds))
            .collect();
        while let Some(count) = under_way.next().await {
            pushed += count?;
        }
    }
    Ok(pushed)
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bench-native HOSTS TICKS [INTERVAL_SECONDS]";
    let count: usize = args.next().context(usage)?.parse()?;
    let ticks: i64 = args.next().context(usage)?.parse()?;
    let interval: i64 = args.next().map_or(Ok(30), |text| text.parse())?;
    let mut system = System::new(&[]);
    let mut entries = String::new();
    for host in 0..count {
        let token = format!("{host:032x}");
        std::fs::write(system.path(&format!("token-h{host}")), &token)?;
        entries.push_str(&format!("[[tokens]]\nagent_id = \"h{host}\"\ntoken = \"{token}\"\n"));
    }
    let file = system.path("ingest-tokens.toml");
    std::fs::write(&file, entries)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    system.write_configs();
    system.collector.start();
    system.wait_collector();
    let idle_kib = system.collector.memory_kib();
    block_on(async {
        let mut hosts = Vec::new();
        for host in 0..count {
            let maker = BatchMaker::new(unix_ms() as u64);
            let config = MeshConfig::of(&system, &format!("h{host}"));
            let session = MeshSession::open(&config, &maker.held()).await.map_err(anyhow::Error::msg)?;
            hosts.push(Host { node: Node::new(host), session: Rc::new(session), maker });
        }
        let mut encoders = (0..WINDOW).map(|_| Encoder::new()).collect::<Result<Vec<_>, _>>()?;
        let first = unix_ms() - ticks * interval * 1000;
        let began = Instant::now();
        let before = system.collector.cpu_time();
        let series = tick(&mut hosts, &mut encoders, first, interval as f64).await?;
        let after_first = system.collector.cpu_time();
        let mut samples = 0;
        for at in 1..ticks {
            samples += tick(&mut hosts, &mut encoders, first + at * interval * 1000, interval as f64).await?;
        }
        let took = began.elapsed();
        let after_all = system.collector.cpu_time();
        let kib = system.collector.memory_kib();
        println!("series              {series}, {ticks} scrapes of {interval} s");
        println!(
            "new series          {:.0} k per CPU-second",
            series as f64 / (after_first - before).as_secs_f64() / 1e3
        );
        println!(
            "samples             {samples} in {:.1} s, {:.1} s CPU",
            took.as_secs_f64(),
            (after_all - after_first).as_secs_f64()
        );
        println!(
            "memory              {:.0} MiB, idle {:.0} MiB",
            kib as f64 / 1024.0,
            idle_kib as f64 / 1024.0
        );
        println!("memory a series     {:.2} KiB", kib as f64 / series as f64);
        // What is still in memory is written at the end: it counts too.
        system.collector.terminate();
        let mut last = after_all;
        let ended = try_eventually(Duration::from_secs(120), || {
            let is_running = system.collector.is_running();
            if is_running {
                last = last.max(system.collector.cpu_time());
            }
            if is_running { Err("it still runs".to_owned()) } else { Ok(()) }
        });
        ended.map_err(anyhow::Error::msg)?;
        println!(
            "samples             {:.2} M per CPU-second, the end included",
            samples as f64 / (last - after_first).as_secs_f64() / 1e6
        );
        for dir in ["spool", "metrics"] {
            let bytes = size(&system.path("collector").join(dir))?;
            println!("disk {dir:<14} {:.2} bytes a sample", bytes as f64 / (samples + series) as f64);
        }
        Ok(())
    })
}

/// Of all files in a directory and below; nothing when it is not there.
fn size(dir: &std::path::Path) -> anyhow::Result<u64> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(0) };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
