//! What the peer of one stream holds here, followed message by message.
//!
//! capnp-rpc keeps tables of questions and references without a bound, and
//! shows them to nobody. Every change of them is a message, so counting the
//! messages gives the same tables. A message that would break a bound, or that
//! capnp-rpc is known to answer with a panic, an endless loop or unbounded
//! work, is refused before it gets there. No I/O and no clock in here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use capnp_rpc::rpc_capnp::{
    call, cap_descriptor, disembargo, message, message_target, payload, promised_answer, resolve, return_,
};

use super::refusal::{Refused, invalid, limit};
use super::{Meter, StreamLimits};

/// Steps from an answer to the capability in it that is called.
const PIPELINE_OPS_MAX: usize = 16;
/// Calls on answers of calls on answers. capnp-rpc polls and drops such a
/// chain recursively: a long one overflows the stack of its thread.
const PIPELINE_DEPTH_MAX: u8 = 16;

/// Who we are: a server trusts its peer with less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// We serve an unknown peer.
    Stranger,
    /// We called a server whose certificate holds.
    Server,
}

/// What a message is, as far as reading on is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Call,
    Other,
}

/// One question of the peer.
#[derive(Default)]
struct Answer {
    is_call: bool,
    returned: bool,
    cancelled: bool,
    /// Of the chain of unanswered calls that it hangs on.
    depth: u8,
    /// References in its results.
    exports: Vec<u32>,
}

pub(super) struct Tables {
    trust: Trust,
    meter: Arc<Meter>,
    answers: HashMap<u32, Answer>,
    exports: HashMap<u32, u32>,
    exported: usize,
    in_flight: usize,
    /// Cancelled, and not returned: capnp-rpc forgets to answer them.
    cancelled: usize,
    /// Our own questions that were not answered yet.
    asked: HashSet<u32>,
    /// Those of them that we cancelled: the peer keeps a slot for each.
    abandoned: HashSet<u32>,
}

impl Tables {
    pub fn new(trust: Trust, meter: Arc<Meter>) -> Self {
        Tables {
            trust,
            meter,
            answers: HashMap::new(),
            exports: HashMap::new(),
            exported: 0,
            in_flight: 0,
            cancelled: 0,
            asked: HashSet::new(),
            abandoned: HashSet::new(),
        }
    }

    /// Calls read and neither answered nor cancelled.
    pub fn calls_in_flight(&self) -> usize {
        self.in_flight
    }

    /// Calls and bootstraps that were not finished.
    pub fn questions(&self) -> usize {
        self.answers.len() - self.cancelled
    }

    /// Checks and follows a message of the peer.
    pub fn handle_incoming(
        &mut self,
        message: message::Reader<'_>,
        limits: &StreamLimits,
    ) -> Result<Incoming, Refused> {
        match message.which().map_err(|kind| invalid(format_args!("an RPC message of kind {}", kind.0)))? {
            message::Bootstrap(bootstrap) => {
                let bootstrap = bootstrap.map_err(unreadable)?;
                self.ask(bootstrap.get_question_id(), Answer::default(), limits)?;
            }
            message::Call(call) => {
                self.call(call.map_err(unreadable)?, limits)?;
                return Ok(Incoming::Call);
            }
            message::Return(returned) => {
                let returned = returned.map_err(unreadable)?;
                self.answered(returned.get_answer_id());
                self.check_return(returned, limits)?;
            }
            message::Finish(finish) => {
                let finish = finish.map_err(unreadable)?;
                self.finish(finish.get_question_id(), finish.get_release_result_caps(), limits)?;
            }
            message::Release(release) => {
                let release = release.map_err(unreadable)?;
                self.release(release.get_id(), release.get_reference_count());
            }
            message::Resolve(resolved) => self.check_resolve(resolved.map_err(unreadable)?, limits)?,
            message::Disembargo(disembargo) => {
                let context = disembargo.map_err(unreadable)?.get_context();
                match context.which() {
                    Ok(disembargo::context::SenderLoopback(_) | disembargo::context::ReceiverLoopback(_)) => {
                    }
                    _ => return Err(invalid("a disembargo for a third party")),
                }
            }
            // The peer did not know our Resolve: the reference in it comes back.
            message::Unimplemented(original) => {
                if let Ok(message::Resolve(Ok(resolved))) = original.map_err(unreadable)?.which()
                    && let Ok(resolve::Cap(Ok(cap))) = resolved.which()
                    && let Some(id) = exported_id(cap)
                {
                    self.release(id, 1);
                }
            }
            message::Abort(_) => {}
            message::Provide(_) | message::Accept(_) | message::Join(_) => {
                return Err(invalid("an RPC message for a third party"));
            }
            message::ObsoleteSave(_) | message::ObsoleteDelete(_) => {
                return Err(invalid("an RPC message that is obsolete"));
            }
        }
        Ok(Incoming::Other)
    }

    /// Follows a message of ours.
    pub fn handle_outgoing(
        &mut self,
        message: message::Reader<'_>,
        limits: &StreamLimits,
    ) -> Result<(), Refused> {
        match message.which() {
            Ok(message::Return(Ok(returned))) => {
                let exports = match returned.which() {
                    Ok(return_::Results(Ok(payload))) => self.export_all(payload),
                    _ => Vec::new(),
                };
                self.returned(returned.get_answer_id(), returned.get_no_finish_needed(), exports);
            }
            Ok(message::Call(Ok(call))) => {
                self.asked.insert(call.get_question_id());
                if let Ok(payload) = call.get_params() {
                    self.export_all(payload);
                }
            }
            Ok(message::Finish(Ok(finish))) => self.abandon(finish.get_question_id()),
            Ok(message::Resolve(Ok(resolved))) => {
                if let Ok(resolve::Cap(Ok(cap))) = resolved.which()
                    && let Some(id) = exported_id(cap)
                {
                    self.export(id);
                }
            }
            _ => {}
        }
        if self.exported > limits.exports_max {
            return Err(limit(self.exported, "references not released", limits.exports_max));
        }
        Ok(())
    }

    fn call(&mut self, call: call::Reader<'_>, limits: &StreamLimits) -> Result<(), Refused> {
        match call.get_send_results_to().which() {
            Ok(call::send_results_to::Caller(())) => {}
            // Level 3, and tail calls: capnp-rpc keeps the results for ever.
            _ => return Err(invalid("results that should be sent elsewhere")),
        }
        let mut depth = 0;
        match call.get_target().and_then(|target| Ok(target.which()?)).map_err(unreadable)? {
            message_target::ImportedCap(_) => {}
            message_target::PromisedAnswer(answer) => depth = self.depth_on(answer.map_err(unreadable)?)?,
        }
        let payload = call.get_params().map_err(unreadable)?;
        depth = depth.max(self.check_capabilities(payload, limits)?);
        if depth > PIPELINE_DEPTH_MAX {
            return Err(limit(
                usize::from(depth),
                "calls that wait for each other",
                PIPELINE_DEPTH_MAX.into(),
            ));
        }
        self.ask(call.get_question_id(), Answer { is_call: true, depth, ..Answer::default() }, limits)?;
        self.in_flight += 1;
        self.meter.calls.add(1);
        self.meter.calls_in_flight.add(1);
        Ok(())
    }

    fn ask(&mut self, id: u32, answer: Answer, limits: &StreamLimits) -> Result<(), Refused> {
        if self.answers.contains_key(&id) {
            return Err(invalid("a question whose number is in use"));
        }
        self.answers.insert(id, answer);
        self.meter.questions.add(1);
        if self.questions() > limits.questions_max {
            return Err(limit(self.questions(), "calls not finished", limits.questions_max));
        }
        Ok(())
    }

    fn returned(&mut self, id: u32, is_final: bool, exports: Vec<u32>) {
        let Some(answer) = self.answers.get_mut(&id) else { return };
        if std::mem::replace(&mut answer.returned, true) {
            return;
        }
        answer.exports = exports;
        if answer.cancelled {
            self.cancelled -= 1;
            self.answers.remove(&id);
            return;
        }
        if answer.is_call {
            self.in_flight -= 1;
            self.meter.calls_in_flight.sub(1);
        }
        if is_final {
            self.answers.remove(&id);
            self.meter.questions.sub(1);
        }
    }

    fn finish(&mut self, id: u32, releases: bool, limits: &StreamLimits) -> Result<(), Refused> {
        // Ours that need no Finish are forgotten already; capnp-rpc agrees.
        let Some(answer) = self.answers.get_mut(&id) else { return Ok(()) };
        if std::mem::replace(&mut answer.cancelled, true) {
            return Ok(());
        }
        self.meter.questions.sub(1);
        if answer.returned {
            let answer = self.answers.remove(&id);
            if releases {
                answer.into_iter().flat_map(|answer| answer.exports).for_each(|id| self.release(id, 1));
            }
            return Ok(());
        }
        if answer.is_call {
            self.in_flight -= 1;
            self.meter.calls_in_flight.sub(1);
        }
        self.cancelled += 1;
        if self.cancelled > limits.cancelled_max {
            return Err(limit(self.cancelled, "cancelled calls of one stream", limits.cancelled_max));
        }
        Ok(())
    }

    /// A question of ours is finished. One that was not answered is
    /// abandoned; its number is not used again until it is.
    fn abandon(&mut self, id: u32) {
        if self.asked.remove(&id) && self.abandoned.insert(id) {
            self.meter.abandoned.add(1);
        }
    }

    fn answered(&mut self, id: u32) {
        self.asked.remove(&id);
        if self.abandoned.remove(&id) {
            self.meter.abandoned.sub(1);
        }
    }

    fn export_all(&mut self, payload: payload::Reader<'_>) -> Vec<u32> {
        let Ok(table) = payload.get_cap_table() else { return Vec::new() };
        let ids: Vec<u32> = table.iter().filter_map(exported_id).collect();
        ids.iter().for_each(|id| self.export(*id));
        ids
    }

    fn export(&mut self, id: u32) {
        *self.exports.entry(id).or_default() += 1;
        self.exported += 1;
        self.meter.exports.add(1);
    }

    /// A count that is too large is not ours to answer: capnp-rpc does.
    fn release(&mut self, id: u32, count: u32) {
        let Some(references) = self.exports.get_mut(&id) else { return };
        let count = count.min(*references);
        *references -= count;
        if *references == 0 {
            self.exports.remove(&id);
        }
        self.exported -= count as usize;
        self.meter.exports.sub(count.into());
    }

    fn check_return(&self, returned: return_::Reader<'_>, limits: &StreamLimits) -> Result<(), Refused> {
        match returned.which() {
            Ok(return_::Results(results)) => {
                self.check_capabilities(results.map_err(unreadable)?, limits)?;
                Ok(())
            }
            Ok(return_::Exception(_) | return_::Canceled(())) => Ok(()),
            // Answers to tail calls and third parties; we make and know none.
            _ => Err(invalid("results that come from elsewhere")),
        }
    }

    fn check_resolve(&self, resolved: resolve::Reader<'_>, limits: &StreamLimits) -> Result<(), Refused> {
        if self.trust == Trust::Stranger {
            // It gave us no promise, see `check_descriptor`.
            return Err(invalid("a promise that we were not given"));
        }
        if let Ok(resolve::Cap(Ok(cap))) = resolved.which() {
            self.check_descriptor(cap, limits)?;
        }
        Ok(())
    }

    /// Returns the depth of the deepest unanswered question that is passed on.
    fn check_capabilities(&self, payload: payload::Reader<'_>, limits: &StreamLimits) -> Result<u8, Refused> {
        let table = payload.get_cap_table().map_err(unreadable)?;
        let count = table.len() as usize;
        if count > limits.capabilities_max {
            return Err(limit(count, "capabilities in a message", limits.capabilities_max));
        }
        let mut depth = 0;
        for descriptor in table {
            depth = depth.max(self.check_descriptor(descriptor, limits)?);
        }
        Ok(depth)
    }

    fn check_descriptor(
        &self,
        descriptor: cap_descriptor::Reader<'_>,
        _: &StreamLimits,
    ) -> Result<u8, Refused> {
        match descriptor.which().map_err(|_| invalid("a capability of an unknown kind"))? {
            cap_descriptor::None(())
            | cap_descriptor::SenderHosted(_)
            | cap_descriptor::ReceiverHosted(_) => Ok(0),
            // A promise can resolve to itself, and capnp-rpc follows it for
            // ever. No method of ours takes one.
            cap_descriptor::SenderPromise(_) if self.trust == Trust::Stranger => {
                Err(invalid("a promise where a capability is needed"))
            }
            cap_descriptor::SenderPromise(_) => Ok(0),
            cap_descriptor::ReceiverAnswer(answer) => self.depth_on(answer.map_err(unreadable)?),
            cap_descriptor::ThirdPartyHosted(_) => Err(invalid("a capability of a third party")),
        }
    }

    fn depth_on(&self, answer: promised_answer::Reader<'_>) -> Result<u8, Refused> {
        let ops = answer.get_transform().map_err(unreadable)?.len() as usize;
        if ops > PIPELINE_OPS_MAX {
            return Err(limit(ops, "steps into an answer", PIPELINE_OPS_MAX));
        }
        Ok(match self.answers.get(&answer.get_question_id()) {
            Some(answer) if !answer.returned && !answer.cancelled && answer.is_call => answer.depth + 1,
            _ => 0,
        })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.meter.calls_in_flight.sub(self.in_flight as u64);
        self.meter.questions.sub(self.questions() as u64);
        self.meter.exports.sub(self.exported as u64);
        self.meter.abandoned.sub(self.abandoned.len() as u64);
    }
}

fn exported_id(descriptor: cap_descriptor::Reader<'_>) -> Option<u32> {
    match descriptor.which() {
        Ok(cap_descriptor::SenderHosted(id) | cap_descriptor::SenderPromise(id)) => Some(id),
        _ => None,
    }
}

fn unreadable(error: capnp::Error) -> Refused {
    // The kind only: the rest may quote the message.
    invalid(format_args!("a message that cannot be read: {:?}", error.kind))
}

#[cfg(test)]
mod tests;
