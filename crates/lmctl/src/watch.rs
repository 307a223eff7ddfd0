//! Lists that are shown once, or again and again.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::duration;
use crate::escape::printable;
use crate::failure::{EXIT_TEMPORARY, Failure};
use crate::link::Link;
use crate::output::Out;

#[derive(Args)]
pub struct WatchArgs {
    /// Show it again every so many seconds; on a terminal in its place
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = duration::parse_period)]
    pub watch: Option<Duration>,
}

/// Shows what `fetch` finds. Ends at once when nothing is to be watched, and
/// with the first failure that is not for the moment only; a session that is
/// lost is opened again.
pub async fn show<T: Serialize>(
    link: &Link,
    args: &WatchArgs,
    out: &mut Out,
    fetch: impl AsyncFn() -> Result<T, Failure>,
    table: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let Some(period) = args.watch else {
        return out.show(&fetch().await?, table);
    };
    loop {
        match fetch().await {
            Ok(found) => out.redraw(&found, &table)?,
            // Too much to do just now: the next look may succeed.
            Err(failure) if failure.code == EXIT_TEMPORARY => eprint!("{}", failure.text()),
            Err(failure) if failure.is_passing() => {
                eprintln!("lmctl: {}; reconnecting", printable(&failure.message));
                link.reopen().await?;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(period).await;
    }
}
