//! The live tail.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lm_schema::query_capnp::tail;

use super::Script;

pub struct FakeTail {
    pub script: Arc<Script>,
    pub next: std::cell::Cell<u64>,
    pub is_restarted: std::cell::Cell<bool>,
}

impl tail::Server for FakeTail {
    async fn next(
        self: Rc<Self>,
        params: tail::NextParams,
        mut results: tail::NextResults,
    ) -> Result<(), capnp::Error> {
        let max = params.get()?.get_events_max() as usize;
        let wait = Duration::from_millis(params.get()?.get_wait_ms().into());
        drop(params);
        let deadline = tokio::time::Instant::now() + wait;
        let (events, missed) = loop {
            let news = self.script.news.notified();
            let from = self.next.get();
            let (events, missed) = {
                let all = self.script.events.lock().unwrap();
                let events: Vec<_> = all.iter().filter(|(at, _)| *at >= from).take(max).cloned().collect();
                let missed = match events.first() {
                    Some((at, _)) if from > 0 => at - from,
                    _ => 0,
                };
                (events, missed)
            };
            if !events.is_empty() || tokio::time::timeout_at(deadline, news).await.is_err() {
                break (events, missed);
            }
        };
        let epoch = self.script.epoch.load(Ordering::SeqCst) as u64;
        if let Some((at, _)) = events.last() {
            self.next.set(at + 1);
        }
        let mut to = results.get();
        to.set_missed(missed);
        to.set_is_restarted(self.is_restarted.replace(false));
        to.reborrow().init_next().set_epoch(epoch);
        to.reborrow().get_next()?.set_position(self.next.get().saturating_sub(1));
        let mut list = to.init_events(events.len() as u32);
        for (index, (at, text)) in events.iter().enumerate() {
            let mut event = list.reborrow().get(index as u32);
            event.reborrow().init_id().set_epoch(epoch);
            event.reborrow().get_id()?.set_position(*at);
            if let Some(code) = text.strip_prefix("notice:") {
                event.set_time_unix_nano(7);
                event.init_notice().set_code(code);
            } else {
                event.init_log().set_line(text.as_bytes());
            }
        }
        Ok(())
    }
}
