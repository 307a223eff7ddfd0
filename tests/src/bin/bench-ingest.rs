//! What the guard costs ingest: the same pushes to a collector that guards its
//! sinks and to one that does not, in turns.
//!
//! `bench-ingest BIN_DIR`, with binaries that were built with `mutants`.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lm_model::{Labels, Stream, Timestamp};
use lm_schema::batch::{Body, Encoder, SampleColumns};
use lm_tests::api::unix_ms;
use lm_tests::mesh::{Batch, BatchMaker, MeshConfig, MeshSession, Outcome, block_on};
use lm_tests::{System, SystemOptions};

/// Short and many: the machine's mood changes, and both sides have their share.
const ROUNDS: usize = 60;
const PUSHES: usize = 500;
const WINDOW: usize = 8;
/// One scrape of an agent.
const SERIES: u32 = 250;
const AGENT: &str = "bench";

/// A collector of its own with one session.
struct Side {
    name: &'static str,
    system: System,
    session: Rc<MeshSession>,
    maker: BatchMaker,
    encoder: Encoder,
    /// Of the last scrape.
    at: i64,
    spent: Vec<Duration>,
}

fn side(bin_dir: &std::path::Path, name: &'static str, mutant: &str) -> anyhow::Result<System> {
    let options = SystemOptions {
        tokens: vec![AGENT.to_owned()],
        bin_dir: Some(bin_dir.to_owned()),
        ..SystemOptions::default()
    };
    let mut system = System::with(options);
    system.collector.set_env(vec![("LM_MUTANT".to_owned(), mutant.to_owned())]);
    system.collector.start();
    system.wait_collector();
    eprintln!("{name}: pid {}", system.collector.pid().context("it runs")?);
    Ok(system)
}

/// CPU of all threads of a process so far, from the scheduler's own counters.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().context("a counter")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

impl Side {
    fn scrape(&mut self) -> anyhow::Result<Batch> {
        self.at += 1;
        let labels = |i: u32| Labels::from_pairs([("__name__", "bench".to_owned()), ("i", i.to_string())]);
        let known = self.maker.entries.len() as u32;
        let new: Vec<_> = (known..SERIES).map(labels).collect();
        self.maker.entries.extend(new.iter().cloned());
        let columns = SampleColumns {
            times: vec![Timestamp::from_millis(self.at)],
            lengths: vec![SERIES],
            references: (0..SERIES).collect(),
            values: (0..SERIES).map(|i| f64::from(i) * 1.37 + self.at as f64).collect(),
        };
        let body = self.encoder.encode(&new, &Body::Samples(columns))?;
        Ok(self.maker.place(Stream::Metrics, known, body))
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let pid = self.system.collector.pid().context("it runs")?;
        let before = cpu(pid)?;
        let mut under_way = FuturesUnordered::new();
        let mut answered = 0;
        let mut made = 0;
        while answered < PUSHES {
            while made < PUSHES && under_way.len() < WINDOW {
                let batch = self.scrape()?;
                let session = self.session.clone();
                under_way.push(async move { session.push(&batch).await });
                made += 1;
            }
            let receipt = under_way.next().await.context("one is under way")??;
            anyhow::ensure!(receipt.outcome == Outcome::Durable, "{receipt:?}");
            answered += 1;
        }
        self.spent.push(cpu(pid)? - before);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let bin_dir = PathBuf::from(std::env::args_os().nth(1).context("usage: bench-ingest BIN_DIR")?);
    let systems = [
        ("guarded", side(&bin_dir, "guarded", "")?),
        ("unguarded", side(&bin_dir, "unguarded", "unguarded_sink")?),
    ];
    block_on(async {
        let mut sides = Vec::new();
        for (name, system) in systems {
            let maker = BatchMaker::new(unix_ms() as u64);
            let config = MeshConfig::of(&system, AGENT);
            let session =
                MeshSession::open(&config, &maker.held()).await.map_err(|error| anyhow::anyhow!(error))?;
            sides.push(Side {
                name,
                system,
                session: Rc::new(session),
                maker,
                encoder: Encoder::new()?,
                at: unix_ms(),
                spent: Vec::new(),
            });
        }
        for _ in 0..=ROUNDS {
            for side in &mut sides {
                side.round().await?;
            }
        }
        println!("collector CPU a push of {SERIES} samples, {ROUNDS} rounds of {PUSHES}, {WINDOW} under way");
        let mut medians = Vec::new();
        for side in &mut sides {
            // The first warms up.
            let mut micros: Vec<f64> =
                side.spent[1..].iter().map(|spent| spent.as_secs_f64() * 1e6 / PUSHES as f64).collect();
            micros.sort_by(f64::total_cmp);
            let median = (micros[(ROUNDS - 1) / 2] + micros[ROUNDS / 2]) / 2.0;
            println!(
                "{:<10} median {median:>7.2} us   min {:>7.2} us   max {:>7.2} us",
                side.name,
                micros[0],
                micros[ROUNDS - 1]
            );
            medians.push(median);
        }
        println!("ratio      {:>14.3}", medians[0] / medians[1]);
        Ok(())
    })
}
