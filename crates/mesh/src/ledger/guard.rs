//! The one guard around every capability: it knows no interface, only that
//! calls come in and answers go out.

use std::ops::Deref;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::{DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results, Server};
use capnp::private::capability::{ClientHook, PipelineHook, RequestHook, ResultsHook};
use capnp::traits::HasTypeId;

use super::{Call, Grant, Terms};
use crate::message_bytes;

impl Grant {
    /// A capability derived from this one: `make` gets the new grant, and the
    /// server it returns is called only while that grant stands.
    ///
    /// # Panics
    ///
    /// When `C` is no interface of our schema.
    pub fn derive<C, S>(&self, terms: Terms, make: impl FnOnce(Grant) -> S) -> C
    where
        C: FromServer<S> + HasTypeId,
        S: 'static,
    {
        let interface = lm_schema::interfaces::by_id(C::TYPE_ID)
            .expect("the table of interfaces is made from the same schema as the client type");
        let grant = self.below(interface, terms);
        let dispatch = C::from_server(Rc::new(make(grant.clone())));
        let any: AnyClient = capnp_rpc::new_client(Guarded { dispatch, grant });
        any.cast_to()
    }
}

/// A server behind the guard. Dropped when the peer has released the
/// capability or its session is gone.
struct Guarded<D> {
    dispatch: D,
    grant: Grant,
}

impl<D> Drop for Guarded<D> {
    fn drop(&mut self) {
        self.grant.ledger.release(&self.grant.entry);
    }
}

struct Dispatch<D>(Rc<Guarded<D>>);

impl<D> Clone for Dispatch<D> {
    fn clone(&self) -> Self {
        Dispatch(self.0.clone())
    }
}

impl<D> Deref for Dispatch<D> {
    type Target = Guarded<D>;

    fn deref(&self) -> &Guarded<D> {
        &self.0
    }
}

impl<D: Server + Clone + 'static> Server for Dispatch<D> {
    fn dispatch_call(
        self,
        interface_id: u64,
        method_id: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        let grant = &self.0.grant;
        let call = match grant.begin(interface_id, method_id, message_bytes::of(&*params.hook)) {
            Ok(call) => Rc::new(call),
            Err(error) => return DispatchCallResult::new(Promise::err(error), false),
        };
        let counted = CountedResults { inner: Some(results.hook), call: call.clone() };
        let results = Results::new(Box::new(counted));
        let dispatched = self.0.dispatch.clone().dispatch_call(interface_id, method_id, params, results);
        let is_streaming = dispatched.is_streaming;
        let grant = grant.clone();
        let guarded = async move {
            let result = if grant.entry.finishes_calls {
                dispatched.promise.await
            } else {
                tokio::select! {
                    biased;
                    result = dispatched.promise => result,
                    () = grant.revoked() => Err(grant.ended()),
                }
            };
            let result = result.map_err(told);
            call.finished(result.as_ref().err());
            result
        };
        DispatchCallResult::new(Promise::from_future(guarded), is_streaming)
    }

    fn as_ptr(&self) -> usize {
        self.0.dispatch.as_ptr()
    }
}

/// What a peer is told. A message that cannot be read is the peer's own
/// fault, and capnp's words for it carry no stable code.
pub(crate) fn told(error: capnp::Error) -> capnp::Error {
    use capnp::ErrorKind::{Disconnected, Failed, Overloaded, Unimplemented};
    match error.kind {
        Failed | Overloaded | Disconnected | Unimplemented => error,
        _ => capnp::Error::failed(format!("invalid: the message cannot be read: {error}")),
    }
}

/// Results that are measured when the method is through with them.
struct CountedResults {
    /// Taken by a tail call, which has no results here.
    inner: Option<Box<dyn ResultsHook>>,
    call: Rc<Call>,
}

impl Drop for CountedResults {
    fn drop(&mut self) {
        if let Some(inner) = &mut self.inner
            && let Ok(results) = inner.get()
            && let Ok(size) = results.target_size()
        {
            self.call.sent(size.word_count * 8);
        }
    }
}

impl CountedResults {
    fn take(mut self) -> Box<dyn ResultsHook> {
        self.inner.take().expect("only the two tail calls take it, and both consume self")
    }
}

impl ResultsHook for CountedResults {
    fn get(&mut self) -> capnp::Result<any_pointer::Builder<'_>> {
        match &mut self.inner {
            Some(inner) => inner.get(),
            None => Err(capnp::Error::failed("internal: results are gone".to_owned())),
        }
    }

    fn set_pipeline(&mut self) -> capnp::Result<()> {
        match &mut self.inner {
            Some(inner) => inner.set_pipeline(),
            None => Err(capnp::Error::failed("internal: results are gone".to_owned())),
        }
    }

    fn allow_cancellation(&self) {
        if let Some(inner) = &self.inner {
            inner.allow_cancellation();
        }
    }

    fn tail_call(self: Box<Self>, request: Box<dyn RequestHook>) -> Promise<(), capnp::Error> {
        (*self).take().tail_call(request)
    }

    fn direct_tail_call(
        self: Box<Self>,
        request: Box<dyn RequestHook>,
    ) -> (Promise<(), capnp::Error>, Box<dyn PipelineHook>) {
        (*self).take().direct_tail_call(request)
    }
}

/// A client of whatever interface: what the guard is wrapped in until it is
/// cast to the interface that its server has.
struct AnyClient(Box<dyn ClientHook>);

impl FromClientHook for AnyClient {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        AnyClient(hook)
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        &*self.0
    }
}

impl<D: Server + Clone + 'static> FromServer<Guarded<D>> for AnyClient {
    type Dispatch = Dispatch<D>;

    fn from_server(server: Rc<Guarded<D>>) -> Dispatch<D> {
        Dispatch(server)
    }
}
