//! Sessions that keep calling, and when they were last let and first refused.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use lm_mesh::{Connected, Granted};
use lm_tests::mesh::code_of;

/// Calls a second of all sessions together, but for those with the short
/// pause: enough to see by, and not what the collector is busy with.
const CALLS_PER_SECOND: u32 = 2000;
/// Between the answer to a call and the next one, of the few sessions that are
/// revoked one by one.
pub const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// The same, of each of the others.
pub fn pause(sessions: usize) -> Duration {
    Duration::from_secs(sessions as u64) / CALLS_PER_SECOND
}

/// What one session saw of its end.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub session: u64,
    /// The last call that was answered: when it was sent, and the answer there.
    pub accepted: (Instant, Instant),
    /// The end was known here: by the answer to a call, or by the session's.
    pub refused: Instant,
    pub by_answer: bool,
    pub ended: Instant,
}

/// Calls until that is refused, and waits for the session's end.
///
/// # Errors
///
/// When no call was ever answered, or one failed that was not refused.
pub async fn call_on(connected: Rc<Connected>, offset: Duration, pause: Duration) -> anyhow::Result<Seen> {
    let Granted::Agent(agent) = &connected.granted else { anyhow::bail!("not an agent") };
    let mut accepted = None;
    let mut wait = offset;
    let (refused, by_answer) = loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = connected.closed() => break (Instant::now(), false),
        }
        wait = pause;
        let sent = Instant::now();
        match agent.heartbeat_request().send().promise.await {
            Ok(_) => accepted = Some((sent, Instant::now())),
            Err(error) if error.kind == capnp::ErrorKind::Disconnected => break (Instant::now(), false),
            Err(error) => {
                let words = code_of(&error);
                anyhow::ensure!(words.starts_with("revoked:"), "session {}: {words}", connected.session_id);
                break (Instant::now(), true);
            }
        }
    };
    connected.closed().await;
    let accepted =
        accepted.with_context(|| format!("session {} was never answered", connected.session_id))?;
    Ok(Seen { session: connected.session_id, accepted, refused, by_answer, ended: Instant::now() })
}
