//! A tap that an operator opened.

use std::rc::Rc;
use std::time::Duration;

use lm_mesh::TapReader;
use lm_schema::operator as wire;
use lm_schema::operator_capnp::tap;

use super::facts;

/// Longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Most calls of one answer.
const CALLS_MAX: usize = 256;

pub struct TapServer(pub TapReader);

impl tap::Server for TapServer {
    async fn next(
        self: Rc<Self>,
        params: tap::NextParams,
        mut results: tap::NextResults,
    ) -> Result<(), capnp::Error> {
        let (wait, limit) = {
            let params = params.get()?;
            let wait = Duration::from_millis(params.get_wait_ms().into()).min(WAIT_MAX);
            (wait, (params.get_limit() as usize).clamp(1, CALLS_MAX))
        };
        drop(params);
        let batch = self.0.next(wait, limit).await;
        let calls: Vec<_> = batch.calls.into_iter().map(facts::call).collect();
        let mut to = results.get();
        to.set_missed(batch.missed);
        wire::write_list(&calls, to.reborrow().init_calls(calls.len() as u32), |call, to| call.write(to));
        let cost = wire::TapCost {
            seen: batch.cost.seen,
            matched: batch.cost.matched,
            nanos: batch.cost.duration.as_nanos() as u64,
        };
        cost.write(to.init_cost());
        Ok(())
    }
}
