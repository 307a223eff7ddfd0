//! Lists that are shown once, or again and again.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::duration;
use crate::failure::Failure;
use crate::output::Out;

#[derive(Args)]
pub struct WatchArgs {
    /// Show it again every so many seconds; on a terminal in its place
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = duration::parse_period)]
    pub watch: Option<Duration>,
}

/// Shows what `fetch` finds. Ends with the first failure, or at once when
/// nothing is to be watched.
pub async fn show<T: Serialize>(
    args: &WatchArgs,
    out: &mut Out,
    fetch: impl AsyncFn() -> Result<T, Failure>,
    table: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    let Some(period) = args.watch else {
        return out.show(&fetch().await?, table);
    };
    loop {
        out.redraw(&fetch().await?, &table)?;
        tokio::time::sleep(period).await;
    }
}
