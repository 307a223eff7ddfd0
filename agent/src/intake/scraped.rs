//! From finished scrapes into the queue.

use std::sync::atomic::Ordering;

use lm_model::{LossReason, Stream};

use crate::counters::Counters;
use crate::outbox::{Error, Outbox, Stored};
use crate::sources::scrape::Finished;

/// Queues the samples of one scrape. What finds no room is counted: it was
/// never accepted, and the target has the next values.
pub fn store(Finished(samples): &Finished, outbox: &mut Outbox, counters: &Counters) -> Result<(), Error> {
    let mut rest = &samples[..];
    while let Some(draft) = outbox.batcher.draft_scraped(&mut rest)? {
        let items = u64::from(draft.body.item_count);
        if outbox.append(draft, &[])? == Stored::Refused {
            let refused = items + rest.len() as u64;
            counters.refused_items[Stream::Metrics as usize].fetch_add(refused, Ordering::Relaxed);
            break;
        }
    }
    counters.dropped(Stream::Metrics, LossReason::Limit, outbox.batcher.take_left_out());
    Ok(())
}
