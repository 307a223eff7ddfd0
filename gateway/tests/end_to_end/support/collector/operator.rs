//! What an operator is answered.

use std::rc::Rc;
use std::sync::Arc;

use lm_schema::operator::{
    CallFacts, CapabilityFacts, CapabilityFilter, MeshStatus, SessionFacts, write_list,
};
use lm_schema::operator_capnp::operator;

use super::Script;

pub struct FakeOperator(pub Arc<Script>);

/// Entries of one page, so that requests need several.
const PAGE: usize = 3;

impl FakeOperator {
    fn check(&self) -> Result<(), capnp::Error> {
        match &*self.0.operator_error.lock().unwrap() {
            Some(message) => Err(capnp::Error::failed(message.clone())),
            None => Ok(()),
        }
    }
}

impl operator::Server for FakeOperator {
    async fn sessions(
        self: Rc<Self>,
        params: operator::SessionsParams,
        mut results: operator::SessionsResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let after = params.get()?.get_after_id();
        let all = self.0.sessions.lock().unwrap();
        let left: Vec<_> = all.iter().filter(|facts| facts.id > after).cloned().collect();
        let page = &left[..left.len().min(PAGE)];
        results.get().set_has_more(left.len() > PAGE);
        write_list(page, results.get().init_sessions(page.len() as u32), SessionFacts::write);
        Ok(())
    }

    async fn capabilities(
        self: Rc<Self>,
        params: operator::CapabilitiesParams,
        mut results: operator::CapabilitiesResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let params = params.get()?;
        // What was asked for comes back as the one entry there is.
        let filter = CapabilityFilter::read(params.get_filter()?).unwrap();
        let facts = CapabilityFacts {
            id: params.get_after_id() + 1,
            session: filter.session,
            holder: filter.holder,
            interface: filter.interface,
            ..CapabilityFacts::default()
        };
        write_list(&[facts], results.get().init_capabilities(1), CapabilityFacts::write);
        Ok(())
    }

    async fn calls(
        self: Rc<Self>,
        params: operator::CallsParams,
        mut results: operator::CallsResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let over = params.get()?.get_slower_than_micros();
        let call = |micros, is_in_flight| CallFacts { micros, is_in_flight, ..CallFacts::default() };
        let mut calls = vec![call(30_000, true), call(5_000, true)];
        calls.retain(|call| call.micros > over);
        calls.extend([call(200_000, false), call(9_000, false)]);
        results.get().set_slow_after_micros(100);
        write_list(&calls, results.get().init_calls(calls.len() as u32), CallFacts::write);
        Ok(())
    }

    async fn status(
        self: Rc<Self>,
        _: operator::StatusParams,
        mut results: operator::StatusResults,
    ) -> Result<(), capnp::Error> {
        self.check()?;
        let status = MeshStatus { version: "9".to_owned(), cluster_id: vec![0xfe], ..MeshStatus::default() };
        status.write(results.get().init_status());
        Ok(())
    }
}
