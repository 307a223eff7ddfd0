//! Bounds what one RPC system may hold: capnp-rpc itself accepts any number of
//! outstanding calls and keeps all their bytes.
//!
//! A decorator of the two-party network. A call takes a permit, which travels
//! inside the incoming message until the method has dropped its parameters or
//! finished; when none is left, nothing more is read, and QUIC's flow control
//! makes the peer wait. Handlers therefore have deadlines and never wait for
//! their peer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use capnp::capability::Promise;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Connection, IncomingMessage, OutgoingMessage, VatNetwork, rpc_capnp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Wraps a network so that at most `calls_max` calls are held at a time.
pub(crate) struct Bounded<N> {
    inner: N,
    permits: Arc<Semaphore>,
    calls: Arc<AtomicU64>,
}

impl<N> Bounded<N> {
    /// `calls` counts every call that was read.
    pub(crate) fn new(inner: N, calls_max: usize, calls: Arc<AtomicU64>) -> Self {
        Bounded { inner, permits: Arc::new(Semaphore::new(calls_max)), calls }
    }

    fn wrap(&self, inner: Box<dyn Connection<Side>>) -> Box<dyn Connection<Side>> {
        wrap(inner, self.permits.clone(), self.calls.clone())
    }
}

fn wrap(
    inner: Box<dyn Connection<Side>>,
    permits: Arc<Semaphore>,
    calls: Arc<AtomicU64>,
) -> Box<dyn Connection<Side>> {
    Box::new(BoundedConnection { inner: Rc::new(RefCell::new(inner)), permits, calls })
}

impl<N: VatNetwork<Side>> VatNetwork<Side> for Bounded<N> {
    fn connect(&mut self, host_id: Side) -> Option<Box<dyn Connection<Side>>> {
        let inner = self.inner.connect(host_id)?;
        Some(self.wrap(inner))
    }

    fn accept(&mut self) -> Promise<Box<dyn Connection<Side>>, capnp::Error> {
        let accepted = self.inner.accept();
        let (permits, calls) = (self.permits.clone(), self.calls.clone());
        Promise::from_future(async move { Ok(wrap(accepted.await?, permits, calls)) })
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), capnp::Error> {
        self.inner.drive_until_shutdown()
    }
}

struct BoundedConnection {
    inner: Rc<RefCell<Box<dyn Connection<Side>>>>,
    permits: Arc<Semaphore>,
    calls: Arc<AtomicU64>,
}

struct BoundedMessage {
    inner: Box<dyn IncomingMessage>,
    _permit: OwnedSemaphorePermit,
}

impl IncomingMessage for BoundedMessage {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.inner.get_body()
    }
}

fn is_call(message: &dyn IncomingMessage) -> bool {
    let Ok(body) = message.get_body() else { return false };
    let Ok(root) = body.get_as::<rpc_capnp::message::Reader<'_>>() else { return false };
    matches!(root.which(), Ok(rpc_capnp::message::Call(_)))
}

impl Connection<Side> for BoundedConnection {
    fn get_peer_vat_id(&self) -> Side {
        self.inner.borrow().get_peer_vat_id()
    }

    fn new_outgoing_message(&mut self, first_segment_word_size: u32) -> Box<dyn OutgoingMessage> {
        self.inner.borrow_mut().new_outgoing_message(first_segment_word_size)
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn IncomingMessage>>, capnp::Error> {
        let (inner, permits, calls) = (self.inner.clone(), self.permits.clone(), self.calls.clone());
        Promise::from_future(async move {
            let received = inner.borrow_mut().receive_incoming_message();
            let Some(message) = received.await? else { return Ok(None) };
            if !is_call(&*message) {
                return Ok(Some(message));
            }
            calls.fetch_add(1, Ordering::Relaxed);
            let permit = permits
                .acquire_owned()
                .await
                .map_err(|_| capnp::Error::disconnected("the session has ended".to_owned()))?;
            Ok(Some(Box::new(BoundedMessage { inner: message, _permit: permit }) as Box<dyn IncomingMessage>))
        })
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), capnp::Error> {
        self.inner.borrow_mut().shutdown(result)
    }
}
