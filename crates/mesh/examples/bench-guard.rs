//! What the guard and the ledger cost a call: the same server on the same
//! stream, once behind the guard and once not, in turns.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lm_mesh::Transport;
use lm_schema::query_capnp::reader;
use support::{PLAIN, reader, run_over, users};

const ROUNDS: usize = 10;
/// One after the other.
const CALLS: usize = 2_000;
/// With [`WINDOW`] under way.
const PIPELINED: usize = 20_000;
const WINDOW: usize = 32;
/// Of a push of a hundred samples.
const BODY_BYTES: usize = 656;

#[derive(Default)]
struct Figures {
    micros: Vec<f64>,
    empty: Duration,
    filled: Duration,
}

/// CPU of the server's threads so far, from the scheduler's own counters.
fn server_cpu() -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("mesh-") && !name.starts_with("mesh-udp") {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanos += stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(nanos)
}

async fn pipelined(reader: &reader::Client, bytes: usize) -> Duration {
    let text = "x".repeat(bytes);
    let call = || {
        let mut request = reader.label_values_request();
        request.get().set_name(&text[..]);
        request.send().promise
    };
    let before = server_cpu();
    let mut under_way = FuturesUnordered::new();
    for _ in 0..PIPELINED {
        under_way.push(call());
        if under_way.len() == WINDOW
            && let Some(answer) = under_way.next().await
        {
            answer.expect("the call is answered");
        }
    }
    while let Some(answer) = under_way.next().await {
        answer.expect("the call is answered");
    }
    server_cpu() - before
}

fn main() {
    run_over(Transport::Quic, async |bench| {
        let connected = bench.connect(0).await;
        let users = users(&connected).await;
        let (plain, guarded) = (reader(&users, PLAIN).await, reader(&users, "ada").await);
        let mut figures = [Figures::default(), Figures::default()];
        for round in 0..ROUNDS {
            for (figures, reader) in figures.iter_mut().zip([&plain, &guarded]) {
                for _ in 0..CALLS {
                    let began = Instant::now();
                    reader.label_values_request().send().promise.await.expect("the call is answered");
                    figures.micros.push(began.elapsed().as_secs_f64() * 1e6);
                }
                let (empty, filled) = (pipelined(reader, 0).await, pipelined(reader, BODY_BYTES).await);
                // The first warms up.
                if round > 0 {
                    figures.empty += empty;
                    figures.filled += filled;
                }
            }
        }
        println!("                  p50      p99      server CPU a call");
        println!("                                    empty    {BODY_BYTES} bytes  ({WINDOW} under way)");
        for (name, figures) in ["without guard", "with guard"].iter().zip(&mut figures) {
            let calls = (PIPELINED * (ROUNDS - 1)) as f64;
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / calls;
            figures.micros.drain(..CALLS);
            figures.micros.sort_by(f64::total_cmp);
            let at = |percent: usize| figures.micros[figures.micros.len() * percent / 100];
            println!(
                "{name:<14} {:>6.1} us {:>6.1} us   {:>5.2} us {:>5.2} us",
                at(50),
                at(99),
                micros(figures.empty),
                micros(figures.filled)
            );
        }
    });
}
