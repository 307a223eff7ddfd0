//! `lmctl top`: a live view on a terminal.
//!
//! [`view`] is pure: samples and keys in, lines of text out. This file asks
//! the collector once a period; [`terminal`] owns the screen.

mod terminal;
mod view;

use std::io::IsTerminal as _;
use std::pin::Pin;
use std::time::{Duration, Instant};

use clap::Args;
use crossterm::event::Event;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{EXIT_SOFTWARE, EXIT_TEMPORARY, Failure};
use crate::link::{Link, unix_ms};
use crate::output::Format;
use crate::{calls, duration, sessions, status};
use terminal::Screen;
use view::{Sample, View};

/// As clap's for a wrong command line.
const EXIT_USAGE: u8 = 2;
/// What a shell reports of a process that SIGTERM ended.
const EXIT_TERMINATED: u8 = 143;
/// Calls that are shorter are no news on a screen that changes once a second.
const CALLS_OVER_MICROS: u64 = 1000;

type Looking<'l> = Pin<Box<dyn Future<Output = Result<Sample, Failure>> + 'l>>;

#[derive(Args)]
pub struct TopArgs {
    /// Time between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = duration::parse_period)]
    every: Duration,
}

/// Whether this can be shown at all. Asked before anything else happens.
pub fn check_terminal(format: Format) -> Result<(), Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if is_terminal && format == Format::Table {
        return Ok(());
    }
    Err(Failure {
        code: EXIT_USAGE,
        message: "top needs a terminal".to_owned(),
        advice: "For scripts: 'lmctl status --watch --output json', and the same of sessions and calls.",
    })
}

pub async fn run(link: &Link, args: &TopArgs) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| Failure::new(EXIT_SOFTWARE, format!("cannot use the terminal: {error}"));
    let begun = Instant::now();
    let mut view = View::new(&link.endpoint(), sample(link, begun, Duration::ZERO).await?);
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).map_err(cannot));
    let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut ends else {
        return Err(Failure::new(EXIT_SOFTWARE, "cannot wait for signals"));
    };
    // From here on every way out restores the terminal: the screen's drop, or
    // its panic hook.
    let mut screen = Screen::open().map_err(cannot)?;
    let mut events = terminal::events();
    let mut next: Looking<'_> = Box::pin(sample(link, begun, args.every));
    loop {
        screen.draw(&view).map_err(cannot)?;
        tokio::select! {
            sample = &mut next => {
                next = Box::pin(self::sample(link, begun, args.every));
                match sample {
                    Ok(sample) => view.handle_sample(sample),
                    // When there is too much to do is when one wants to look.
                    Err(failure) if failure.code == EXIT_TEMPORARY => view.handle_trouble(&failure.message),
                    Err(failure) if failure.is_passing() => {
                        view.handle_trouble(&format!("{}; reconnecting", failure.message));
                        next = Box::pin(sample_anew(link, begun));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            event = events.recv() => match event {
                Some(Event::Key(key)) => {
                    if view.handle_key(key) {
                        return Ok(());
                    }
                }
                // A resize, or something that the next draw shows as well.
                Some(_) => {}
                None => return Err(Failure::new(EXIT_SOFTWARE, "the terminal cannot be read any more")),
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Err(Failure::new(EXIT_TERMINATED, "")),
            _ = hangup.recv() => return Err(Failure::new(EXIT_TERMINATED, "")),
        }
    }
}

/// Looks once there is a session again.
async fn sample_anew(link: &Link, begun: Instant) -> Result<Sample, Failure> {
    link.reopen().await?;
    sample(link, begun, Duration::ZERO).await
}

/// Looks once, after `wait`.
async fn sample(link: &Link, begun: Instant, wait: Duration) -> Result<Sample, Failure> {
    tokio::time::sleep(wait).await;
    let status = status::fetch(link).await?;
    let sessions = sessions::fetch(link).await?;
    let calls = calls::fetch(link, CALLS_OVER_MICROS).await?.calls;
    Ok(Sample { at: begun.elapsed(), unix_ms: unix_ms(), status, sessions, calls })
}
