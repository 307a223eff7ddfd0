//! What each way of calling the agent does, and its exit code.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lm_journal::Stats;
use lm_model::Timestamp;
use lm_supervisor::Supervisor;
use lm_telemetry::log::{self, LogControl, LogOptions, LogReload, Output};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::batcher::Batcher;
use crate::cli::{Cli, Command, Format, LogFlags, QueueCommand, SetupArgs};
use crate::config::{DEFAULTS, Loaded, Settings};
use crate::counters::Counters;
use crate::health;
use crate::intake::{self, Mode, Running, Sources};
use crate::outbox::{self, Outbox};
use crate::queue_handle::{self, QueueFacts};
use crate::sender::{Ending, Goal, Sender};
use crate::setup::{self, SetupError, SetupOptions};

/// Exit codes of `sysexits.h`; supervisors and scripts act on them.
pub mod exit {
    pub const UNEXPECTED: u8 = 1;
    /// No collector was reached.
    pub const UNAVAILABLE: u8 = 69;
    /// Something is left in the queue, or another process has the queue.
    pub const TEMPORARY: u8 = 75;
    /// The collector refused us.
    pub const REFUSED: u8 = 77;
    /// The configuration has mistakes.
    pub const CONFIG: u8 = 78;
}

/// Why a run ended early: a message for people and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { message: error.to_string(), code: exit::UNEXPECTED }
    }
}

/// Does what was asked for.
pub fn run(cli: Cli) -> ExitCode {
    let (mode, log) = (cli.mode, cli.log);
    let done = match (cli.command, mode) {
        (Some(Command::Queue(QueueCommand::Status { file, output })), _) => queue_status(&file, output, &log),
        (Some(Command::Queue(QueueCommand::Reassign { file })), _) => queue_reassign(&file, &log),
        (Some(Command::Setup(args)), _) => set_up(args),
        (None, mode) if mode.print_defaults => {
            print!("{DEFAULTS}");
            Ok(ExitCode::SUCCESS)
        }
        (None, mode) => match (mode.check_config, mode.once, mode.daemon, mode.flush, mode.file) {
            (Some(file), ..) => check_config(&file),
            (_, Some(file), ..) => deliver(&file, &log, Mode::Once),
            (_, _, Some(file), ..) => daemon(&file, &log),
            (_, _, _, Some(file), _) => deliver(&file, &log, Mode::Flush),
            (.., Some(file)) => heartbeat(&file, &log),
            _ => Err(Failure { message: "nothing to do; see --help".to_owned(), code: 2 }),
        },
    };
    done.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            eprintln!("lm-agent: {}", failure.message);
        }
        ExitCode::from(failure.code)
    })
}

fn set_up(args: SetupArgs) -> Result<ExitCode, Failure> {
    let SetupArgs { bundle, logs, dir, units } = args;
    let is_of_host = dir == Path::new(lm_enrol::CONFIG_DIR);
    let unit_dir = units.or_else(|| is_of_host.then(|| lm_enrol::UNIT_DIR.into()));
    let is_service = unit_dir.is_some();
    let failed = |error: SetupError| Failure { message: error.to_string(), code: error.exit_code() };
    let bundle = setup::read_bundle(&bundle).map_err(|error| failed(error.into()))?;
    let config = dir.join("agent.toml");
    let outcome = setup::setup(&bundle, &SetupOptions { dir, logs, unit_dir }).map_err(failed)?;
    for file in &outcome.written {
        println!("{}", file.display());
    }
    println!("This host is agent {}. Next:", bundle.agent_id);
    match (is_service, outcome.is_known) {
        (true, false) => println!("  systemctl enable --now lm-agent"),
        (true, true) => println!("  systemctl restart lm-agent"),
        (false, _) => println!("  lm-agent --daemon {}", config.display()),
    }
    Ok(ExitCode::SUCCESS)
}

fn load(file: &Path, flags: &LogFlags, output: Output) -> Result<(Loaded, LogControl), Failure> {
    let loaded = settings(file)?;
    let of = &loaded.settings.log;
    let control = log::start(LogOptions {
        service: "lm-agent",
        version: env!("CARGO_PKG_VERSION"),
        filter: flags.log_level.clone().unwrap_or_else(|| of.level.clone()),
        format: flags.log_format.unwrap_or(of.format),
        output,
    });
    Ok((loaded, control))
}

/// Every mistake is on standard error already when this fails.
fn settings(file: &Path) -> Result<Loaded, Failure> {
    Settings::load(file).map_err(|mistakes| {
        mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
        Failure { message: String::new(), code: exit::CONFIG }
    })
}

fn check_config(file: &Path) -> Result<ExitCode, Failure> {
    settings(file)?;
    println!("{}: no mistakes", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Encodes one cycle and says what it is; touches neither queue nor network.
fn heartbeat(file: &Path, flags: &LogFlags) -> Result<ExitCode, Failure> {
    let (Loaded { settings, .. }, _) = load(file, flags, Output::Stderr)?;
    let mut batcher = Batcher::new(&settings)?;
    let mut sources = Sources::new(&settings, Vec::new())?;
    let time = Timestamp::from_millis(unix_ms() as i64);
    sources.measure(time, &QueueFacts::default(), &Counters::default());
    let (mut rest, table) = sources.measurements();
    let (mut batches, mut samples, mut bytes, mut raw_bytes) = (0, 0, 0, 0);
    while let Some(draft) = batcher.draft_samples(time, &mut rest, table)? {
        batcher.commit();
        batches += 1;
        samples += draft.body.item_count;
        bytes += draft.body.bytes.len();
        raw_bytes += draft.body.raw_bytes;
    }
    println!("series: {}", table.len());
    println!("samples: {samples}");
    println!("batches: {batches}");
    println!("bytes: {bytes} ({raw_bytes} before compression)");
    Ok(ExitCode::SUCCESS)
}

fn open_queue(settings: &Settings) -> Result<Outbox, Failure> {
    Outbox::open(settings, unix_ms()).map_err(|error| {
        let code = match &error {
            outbox::Error::Queue(lm_journal::Error::Locked { .. }) => exit::TEMPORARY,
            _ => exit::UNEXPECTED,
        };
        Failure { message: error.to_string(), code }
    })
}

fn queue_status(file: &Path, output: Format, flags: &LogFlags) -> Result<ExitCode, Failure> {
    let (Loaded { settings, .. }, _) = load(file, flags, Output::Stderr)?;
    let mut outbox = open_queue(&settings)?;
    let (identity, stats) = (outbox.identity(), outbox.stats());
    let cluster: String = identity.cluster_id.iter().map(|byte| format!("{byte:02x}")).collect();
    if output == Format::Json {
        println!("{}", queue_json(&cluster, &stats, outbox.cursors().count()));
        return Ok(ExitCode::SUCCESS);
    }
    println!("cluster: {}", if cluster.is_empty() { "none yet" } else { &cluster });
    println!("bytes: {} of {}", stats.bytes, stats.bytes_max);
    println!("segments: {}", stats.segments);
    for (stream, depth) in lm_model::Stream::ALL.into_iter().zip(&stats.streams) {
        let (pending, lost) = (depth.pending, depth.lost);
        println!(
            "{stream}: {} batches, {} items, {} bytes pending; {} batches, {} items lost and not yet declared",
            pending.records, pending.items, pending.bytes, lost.records, lost.items
        );
    }
    println!("log files: {}", outbox.cursors().count());
    Ok(ExitCode::SUCCESS)
}

/// Hex digits, numbers and names of streams: nothing that needs an escape.
fn queue_json(cluster: &str, stats: &Stats, log_files: usize) -> String {
    let Stats { bytes, bytes_max, segments, streams, .. } = stats;
    let streams = lm_model::Stream::ALL.into_iter().zip(streams).map(|(stream, depth)| {
        let (pending, lost) = (depth.pending, depth.lost);
        format!(
            "{{\"stream\":\"{stream}\",\"pending_batches\":{},\"pending_items\":{},\"pending_bytes\":{},\
             \"lost_batches\":{},\"lost_items\":{}}}",
            pending.records, pending.items, pending.bytes, lost.records, lost.items
        )
    });
    let streams = streams.collect::<Vec<_>>().join(",");
    format!(
        "{{\"cluster\":\"{cluster}\",\"bytes\":{bytes},\"bytes_max\":{bytes_max},\"segments\":{segments},\
         \"log_files\":{log_files},\"streams\":[{streams}]}}"
    )
}

fn queue_reassign(file: &Path, flags: &LogFlags) -> Result<ExitCode, Failure> {
    let (Loaded { settings, .. }, _) = load(file, flags, Output::Stderr)?;
    let mut outbox = open_queue(&settings)?;
    outbox.reassign()?;
    outbox.close()?;
    println!("the queue now belongs to the next collector that answers");
    Ok(ExitCode::SUCCESS)
}

/// `--once` and `--flush`.
fn deliver(file: &Path, flags: &LogFlags, mode: Mode) -> Result<ExitCode, Failure> {
    let (Loaded { settings, sha256 }, _) = load(file, flags, Output::Stderr)?;
    let settings = Arc::new(settings);
    let counters = Arc::new(Counters::default());
    let Running { queue, facts, thread, scraped } =
        intake::start(settings.clone(), open_queue(&settings)?, mode, counters.clone())?;
    let code = on_runtime(async {
        let (_goal, goal) = watch::channel(Goal::DrainedOrRefused);
        // The queue is published once everything is collected.
        let mut collected = facts.clone();
        let sender = Sender::new(settings.clone(), sha256, queue, facts, goal, counters).telling(scraped);
        let reached = sender.reached();
        let mut signals = Signals::new()?;
        let delivery = async {
            let _ = collected.wait_for(|facts| facts.is_final).await;
            tokio::time::timeout(settings.upload_timeout, sender.run()).await
        };
        let ended = tokio::select! {
            ended = delivery => ended,
            () = signals.next() => return Ok(ExitCode::from(exit::TEMPORARY)),
        };
        let is_reached = reached.borrow().session;
        Ok(match ended {
            Ok(Ok(Ending::Drained)) => ExitCode::SUCCESS,
            Ok(Ok(Ending::Refused)) => ExitCode::from(exit::REFUSED),
            Ok(Err(gone)) => return Err(gone.into()),
            Err(_) if is_reached => ExitCode::from(exit::TEMPORARY),
            Err(_) => ExitCode::from(exit::UNAVAILABLE),
        })
    })?;
    join(thread)?;
    Ok(code)
}

fn daemon(file: &Path, flags: &LogFlags) -> Result<ExitCode, Failure> {
    let (Loaded { settings, sha256 }, control) = load(file, flags, Output::Stdout)?;
    let settings = Arc::new(settings);
    let read = |file: &Path| Settings::load(file).map(|loaded| loaded.settings.log.level);
    let log = Arc::new(LogReload::new(file.to_owned(), flags.log_level.clone(), control, read));
    let counters = Arc::new(Counters::default());
    let outbox = open_queue(&settings)?;
    let Running { queue, facts, thread, scraped } =
        intake::start(settings.clone(), outbox, Mode::Daemon, counters.clone())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), agent_id = %settings.agent_id, "started");
    on_runtime(async {
        let mut signals = Signals::new()?;
        let mut hangup = signal(SignalKind::hangup())?;
        let reloading = log.clone();
        tokio::task::spawn_local(async move {
            while hangup.recv().await.is_some() {
                reloading.reload_and_tell();
            }
        });
        let (goal_tx, goal) = watch::channel(Goal::Forever);
        let sender =
            Sender::new(settings.clone(), sha256, queue.clone(), facts.clone(), goal, counters.clone())
                .telling(scraped);
        let health = health::start(&settings, log, counters, facts).await;
        let mut sending = pin!(sender.run());
        let supervisor = Supervisor::from_env();
        supervisor.ready();
        tokio::select! {
            ended = &mut sending => return ended.map(drop).map_err(Failure::from),
            () = signals.next() => {}
            () = supervisor.watch(async || queue.ask(queue_handle::Command::Identity).await.is_ok()) => {}
        }
        supervisor.stopping();
        health.stopping();
        tracing::info!(timeout_ms = settings.shutdown_timeout.as_millis() as u64, "stopping");
        queue.tell(queue_handle::Command::CloseSources).await?;
        let _ = goal_tx.send(Goal::Drained);
        tokio::select! {
            ended = tokio::time::timeout(settings.shutdown_timeout, sending) => match ended {
                Ok(_) => tracing::info!("everything is delivered"),
                Err(_) => tracing::warn!("not everything is delivered; the rest is kept in the queue"),
            },
            () = signals.next() => {
                tracing::warn!("second signal: exiting at once");
                std::process::exit(exit::UNEXPECTED.into());
            }
        }
        Ok(())
    })?;
    // The thread ends when nobody can ask it any more.
    drop(queue);
    join(thread)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for the last sync.
fn join(thread: std::thread::JoinHandle<()>) -> Result<(), Failure> {
    thread
        .join()
        .map_err(|_| Failure { message: "the queue's thread panicked".to_owned(), code: exit::UNEXPECTED })
}

fn on_runtime<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
