//! Time from a push to its acknowledgement, beside a bare loop of append and
//! fdatasync with the same sizes, in turns in one run.
//!
//! `bench-acknowledge COLLECTOR CA TOKEN_FILE DIR [RATE [SECONDS]]`; DIR must
//! be on the collector's disk. `scripts/bench-path` runs it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use lm_mesh::{Attachment, Dialer, DialerConfig, Granted, PeerDescription, Transport};
use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::batch::{BatchHeader, Body, Encoder, SampleColumns};
use lm_schema::mesh_capnp::{batch_sink, receipt};

const SERIES: u32 = 100;
const ROUNDS: u32 = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [collector, ca, token, dir, rest @ ..] = &arguments[..] else {
        bail!("usage: bench-acknowledge COLLECTOR CA TOKEN_FILE DIR [RATE [SECONDS]]");
    };
    let rate: u32 = rest.first().map_or(Ok(1000), |text| text.parse())?;
    let seconds: u32 = rest.get(1).map_or(Ok(5), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = DialerConfig {
        endpoints: vec![collector.clone()],
        server_name: None,
        ca: PathBuf::from(ca),
        token: PathBuf::from(token),
        transport: Transport::Auto,
        retry_quic_after: Duration::from_secs(300),
        keep_alive: lm_mesh::KeepAlive::default(),
    };
    tokio::task::LocalSet::new().block_on(&runtime, run(config, PathBuf::from(dir), rate, seconds))
}

async fn run(config: DialerConfig, dir: PathBuf, rate: u32, seconds: u32) -> anyhow::Result<()> {
    let peer = PeerDescription { product: "bench".into(), version: "0".into(), ..PeerDescription::default() };
    let connected = Dialer::new(config).dial(&peer, &[], &[]).await?;
    let Granted::Agent(agent) = &connected.granted else { bail!("the token is not an agent's") };
    let ticket = agent.bulk_ticket_request().send().promise.await?;
    let Attachment::Sink(sink) = connected.attach(ticket.get()?.get_ticket()?).await? else {
        bail!("the ticket gave no sink")
    };
    let incarnation = Incarnation { ordinal: unix_ms() as u64, nonce: 1 };
    let mut sender = Sender { sink, incarnation, sequence: 0, encoder: Encoder::new()? };
    let mut pushes = Vec::new();
    let mut bare = Vec::new();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        bytes = sender.run(rate, seconds, &mut pushes).await?;
        bare.extend(bare_loop(&dir, bytes, rate, seconds)?);
    }
    let count = pushes.len();
    let [p50, p99] = percentiles(&mut pushes);
    let [bare50, bare99] = percentiles(&mut bare);
    println!(
        "batches of {SERIES} samples, {bytes} bytes, {rate}/s, {ROUNDS} rounds of {seconds} s, in turns"
    );
    println!("acknowledged {count:>7}   p50 {p50:>8.3} ms   p99 {p99:>8.3} ms");
    println!("fdatasync    {:>7}   p50 {bare50:>8.3} ms   p99 {bare99:>8.3} ms", bare.len());
    println!("ratio                  p50 {:>8.2}      p99 {:>8.2}", p50 / bare50, p99 / bare99);
    connected.close().await;
    Ok(())
}

struct Sender {
    sink: batch_sink::Client,
    incarnation: Incarnation,
    sequence: u64,
    encoder: Encoder,
}

impl Sender {
    /// Sends at a fixed rate, whatever the answers take; returns a body's bytes.
    async fn run(&mut self, rate: u32, seconds: u32, into: &mut Vec<f64>) -> anyhow::Result<usize> {
        let times = Rc::new(RefCell::new(Vec::new()));
        let failed = Rc::new(RefCell::new(None));
        let mut bytes = 0;
        let began = tokio::time::Instant::now();
        let mut tasks = Vec::new();
        for index in 0..rate * seconds {
            tokio::time::sleep_until(began + Duration::from_secs(1) * index / rate).await;
            let (request, size) = self.next()?;
            bytes = size;
            let sent = Instant::now();
            let (times, failed) = (times.clone(), failed.clone());
            let promise = request.send().promise;
            tasks.push(tokio::task::spawn_local(async move {
                let outcome = async {
                    let response = promise.await?;
                    let receipt = response.get()?.get_receipt()?;
                    Ok::<bool, capnp::Error>(matches!(receipt.which()?, receipt::Durable(())))
                };
                match outcome.await {
                    Ok(true) => times.borrow_mut().push(sent.elapsed().as_secs_f64() * 1000.0),
                    Ok(false) => *failed.borrow_mut() = Some("a batch was not acknowledged".to_owned()),
                    Err(error) => *failed.borrow_mut() = Some(error.to_string()),
                }
            }));
        }
        for task in tasks {
            task.await.context("a push panicked")?;
        }
        if let Some(why) = failed.borrow_mut().take() {
            bail!("{why}");
        }
        into.append(&mut times.borrow_mut());
        Ok(bytes)
    }

    fn next(&mut self) -> anyhow::Result<(Request, usize)> {
        let entries: Vec<Labels> = (0..SERIES)
            .map(|i| Labels::from_pairs([("__name__", "bench_value".to_owned()), ("i", i.to_string())]))
            .collect();
        let time = Timestamp::from_millis(unix_ms());
        let columns = SampleColumns {
            times: vec![time],
            lengths: vec![SERIES],
            references: (0..SERIES).collect(),
            values: (0..SERIES).map(|i| f64::from(i) * 1.37 + self.sequence as f64).collect(),
        };
        let (new, known) = if self.sequence == 0 { (&entries[..], 0) } else { (&[][..], SERIES) };
        let body = self.encoder.encode(new, &Body::Samples(columns))?;
        let id = BatchId { stream: Stream::Metrics, incarnation: self.incarnation, sequence: self.sequence };
        let header = BatchHeader::new(id, self.sequence * u64::from(SERIES), 0, known, &body);
        let mut request = self.sink.push_request();
        header.write(&body.bytes, request.get().init_batch());
        self.sequence += 1;
        Ok((request, body.bytes.len()))
    }
}

type Request = capnp::capability::Request<batch_sink::push_params::Owned, batch_sink::push_results::Owned>;

/// Append and fdatasync at the same rate, one after the other.
fn bare_loop(dir: &std::path::Path, bytes: usize, rate: u32, seconds: u32) -> anyhow::Result<Vec<f64>> {
    let path = dir.join("bench-fdatasync");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = vec![7; bytes];
    let began = Instant::now();
    let mut times = Vec::new();
    for index in 0..rate * seconds {
        let due = began + Duration::from_secs(1) * index / rate;
        let wait = due.saturating_duration_since(Instant::now());
        if began.elapsed() > Duration::from_secs(u64::from(seconds) * 2) {
            break;
        }
        // What is due while a slow one is under way waits for it, as a push does.
        let start = if wait.is_zero() {
            due
        } else {
            std::thread::sleep(wait);
            Instant::now()
        };
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

/// p50 and p99.
fn percentiles(times: &mut [f64]) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [50, 99].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN))
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
