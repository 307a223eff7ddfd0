//! The network that capnp-rpc sees: one connection, over any byte stream.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator, Reader};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Connection, IncomingMessage, OutgoingMessage, VatNetwork, rpc_capnp};
use futures::channel::oneshot;
use futures::future::Shared;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use tokio::sync::Notify;

use super::message::{Segments, read_body, read_table};
use super::refusal::{Refused, invalid, limit};
use super::tables::{Incoming, Tables};
use super::writer::{Outbound, Unsent, Watched};
use super::{Lease, StreamKind, Terms, Trust};
use crate::message_bytes;

/// How long a stream whose messages are there already may keep its thread,
/// give or take one of them. Its other streams, and the sockets, have to wait.
const TURN: Duration = Duration::from_micros(200);

/// What every message of one stream passes, in both directions.
pub(crate) struct Gate {
    terms: Rc<Terms>,
    tables: RefCell<Tables>,
    unsent: Rc<Unsent>,
    /// Messages of the peer that somebody still looks at.
    held_bytes: Cell<usize>,
    /// Told when a method lets a message go or has answered.
    given_back: Notify,
    violation: RefCell<Option<String>>,
    violated: Notify,
    /// When reading last had to wait, or gave way.
    turn_began: Cell<Instant>,
}

impl Gate {
    fn new(terms: Rc<Terms>, trust: Trust) -> Self {
        let meter = &terms.meter;
        Gate {
            tables: RefCell::new(Tables::new(trust, meter.clone())),
            unsent: Rc::new(Unsent::new(meter.clone())),
            held_bytes: Cell::new(0),
            given_back: Notify::new(),
            violation: RefCell::new(None),
            violated: Notify::new(),
            turn_began: Cell::new(Instant::now()),
            terms,
        }
    }

    /// Waits until the peer has broken a bound, and says which.
    pub async fn violation(&self) -> String {
        loop {
            if let Some(reason) = self.violation.borrow().clone() {
                return reason;
            }
            tokio::select! {
                () = self.violated.notified() => {}
                () = self.unsent.stalled() => {
                    self.violate(format!("limit: {} bytes that nobody reads", self.unsent.bytes()));
                }
            }
        }
    }

    /// The bound that was broken, if one was.
    pub fn broken(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// The first reason counts.
    fn violate(&self, reason: String) {
        let mut violation = self.violation.borrow_mut();
        if violation.is_none() {
            self.terms.meter.violations.add(1);
            *violation = Some(reason);
            self.violated.notify_one();
        }
    }

    fn may_read(&self) -> bool {
        let limits = self.terms.limits();
        self.unsent.bytes() <= limits.unsent_pause_bytes
            && (limits.kind != StreamKind::Bulk
                || (self.tables.borrow().calls_in_flight() < limits.calls_max
                    && self.held_bytes.get() < limits.held_bytes_max))
    }

    /// Waits until there is room for another message.
    async fn room(&self) {
        if self.may_read() {
            return;
        }
        self.terms.meter.read_pauses.add(1);
        while !self.may_read() {
            tokio::select! {
                () = self.unsent.left.notified() => {}
                () = self.given_back.notified() => {}
            }
        }
    }

    async fn receive<R: AsyncRead + Unpin>(
        self: &Rc<Self>,
        reader: &mut R,
    ) -> Result<Option<Received>, Refused> {
        self.room().await;
        let table = {
            let reading = pin!(read_table(reader));
            self.in_turn(reading).await?
        };
        let Some(table) = table else { return Ok(None) };
        // As of now: the message before may have been the login.
        let limits = self.terms.limits();
        let bytes = table.bytes();
        if bytes > limits.message_bytes_max {
            return Err(limit(bytes, "bytes in a message", limits.message_bytes_max));
        }
        let mut lease = self.terms.lease();
        let message = read_body(reader, table, limits.visit_words_extra, lease.as_mut()).await?;
        let root = message.get_root::<rpc_capnp::message::Reader<'_>>();
        let root = root.map_err(|error| invalid(format_args!("no RPC message: {:?}", error.kind)))?;
        let kind = self.tables.borrow_mut().handle_incoming(root, &limits)?;
        self.terms.meter.messages_in.add(1);
        self.terms.meter.message_bytes_in.add(bytes as u64);

        let received = Received { message, held: self.hold(bytes, lease) };
        let held = self.held_bytes.get();
        if kind == Incoming::Call && limits.kind != StreamKind::Bulk && held > limits.held_bytes_max {
            return Err(limit(held, "bytes in unanswered calls", limits.held_bytes_max));
        }
        Ok(Some(received))
    }

    /// Gives way to others when nothing has had to be waited for in a while:
    /// a thread looks at its sockets again only when its tasks let it.
    async fn in_turn<T>(&self, mut reading: Pin<&mut impl Future<Output = T>>) -> T {
        let mut has_waited = false;
        let read = std::future::poll_fn(|cx| {
            let polled = reading.as_mut().poll(cx);
            has_waited |= polled.is_pending();
            polled
        });
        let read = read.await;
        if has_waited || self.turn_began.get().elapsed() >= TURN {
            if !has_waited {
                tokio::task::yield_now().await;
            }
            self.turn_began.set(Instant::now());
        }
        read
    }

    fn hold(self: &Rc<Self>, bytes: usize, lease: Option<Lease>) -> Held {
        self.held_bytes.set(self.held_bytes.get() + bytes);
        self.terms.meter.held_bytes.add(bytes as u64);
        Held { bytes, gate: self.clone(), _lease: lease }
    }

    /// Follows a message that is about to be queued.
    fn pass(&self, message: &Builder<HeapAllocator>) -> usize {
        let limits = self.terms.limits();
        let bytes = message.size_in_words() * 8;
        self.terms.meter.messages_out.add(1);
        self.terms.meter.message_bytes_out.add(bytes as u64);
        let unsent = self.unsent.bytes() + bytes;
        let followed = match message.get_root_as_reader::<rpc_capnp::message::Reader<'_>>() {
            Ok(root) => self.tables.borrow_mut().handle_outgoing(root, &limits),
            // Ours: capnp-rpc has written it.
            Err(_) => Ok(()),
        };
        self.given_back.notify_one();
        let followed = followed.and_then(|()| match unsent > limits.unsent_bytes_max {
            true => Err(limit(unsent, "bytes that are not read", limits.unsent_bytes_max)),
            false => Ok(()),
        });
        if let Err(Refused::Violation(reason)) = followed {
            self.violate(reason);
        }
        bytes
    }
}

/// A message of the peer, counted for as long as somebody looks at it: until
/// the method has dropped its parameters or finished.
struct Received {
    message: Reader<Segments>,
    held: Held,
}

struct Held {
    bytes: usize,
    gate: Rc<Gate>,
    _lease: Option<Lease>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.held_bytes.set(self.gate.held_bytes.get() - self.bytes);
        self.gate.terms.meter.held_bytes.sub(self.bytes as u64);
        self.gate.given_back.notify_one();
    }
}

impl IncomingMessage for Received {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        message_bytes::note(self.held.bytes as u64);
        self.message.get_root()
    }
}

struct Outgoing {
    message: Builder<HeapAllocator>,
    sender: capnp_futures::Sender<Outbound>,
    gate: Rc<Gate>,
}

impl OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), capnp::Error>, Rc<Builder<HeapAllocator>>) {
        let Outgoing { message, mut sender, gate } = *self;
        let bytes = gate.pass(&message);
        let message = Rc::new(message);
        let sent = sender.send(gate.unsent.queue(message.clone(), bytes));
        (Promise::from_future(async move { sent.await.map(drop) }), message)
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

/// Lives as long as capnp-rpc holds the connection; the network ends with it.
struct Link<R> {
    /// Taken while a message is read.
    reader: Rc<RefCell<Option<R>>>,
    sender: capnp_futures::Sender<Outbound>,
    gate: Rc<Gate>,
    peer: Side,
    _gone: oneshot::Sender<()>,
}

struct Handle<R>(Rc<RefCell<Link<R>>>);

impl<R: AsyncRead + Unpin + 'static> Connection<Side> for Handle<R> {
    fn get_peer_vat_id(&self) -> Side {
        self.0.borrow().peer
    }

    fn new_outgoing_message(&mut self, first_segment_word_size: u32) -> Box<dyn OutgoingMessage> {
        let link = self.0.borrow();
        let allocator = HeapAllocator::new().first_segment_words(first_segment_word_size);
        Box::new(Outgoing {
            message: Builder::new(allocator),
            sender: link.sender.clone(),
            gate: link.gate.clone(),
        })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn IncomingMessage>>, capnp::Error> {
        // Not the link itself: the future must not keep it alive.
        let (slot, gate) = (self.0.borrow().reader.clone(), self.0.borrow().gate.clone());
        Promise::from_future(async move {
            let taken = slot.borrow_mut().take();
            let Some(mut reader) = taken else {
                return Err(capnp::Error::failed("a message is being read already".to_owned()));
            };
            let received = gate.receive(&mut reader).await;
            *slot.borrow_mut() = Some(reader);
            match received {
                Ok(received) => Ok(received.map(|received| Box::new(received) as Box<dyn IncomingMessage>)),
                Err(Refused::Lost(error)) => Err(error),
                Err(Refused::Violation(reason)) => {
                    gate.violate(reason.clone());
                    Err(capnp::Error::failed(reason))
                }
            }
        })
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), capnp::Error> {
        let terminated = self.0.borrow_mut().sender.terminate(result);
        // capnp-rpc prints a failure here to stdout; the stream's end says it.
        Promise::from_future(async move {
            let _ = terminated.await;
            Ok(())
        })
    }
}

/// One stream as a network of two.
pub(crate) struct Network<R> {
    accepted: Option<Handle<R>>,
    link: Weak<RefCell<Link<R>>>,
    driver: Shared<Promise<(), capnp::Error>>,
    side: Side,
}

impl<R: AsyncRead + Unpin + 'static> Network<R> {
    /// `side` is ours.
    pub fn new<W: AsyncWrite + Unpin + 'static>(
        reader: R,
        writer: W,
        side: Side,
        trust: Trust,
        terms: Rc<Terms>,
    ) -> (Self, Rc<Gate>) {
        let gate = Rc::new(Gate::new(terms, trust));
        let (sender, queue) =
            capnp_futures::write_queue(Watched { inner: writer, unsent: gate.unsent.clone() });
        let (gone_tx, gone_rx) = oneshot::channel::<()>();
        // Even after a failed write the connection is let go first.
        let driver = Promise::from_future(queue.then(|written| gone_rx.map(|_| written))).shared();
        let link = Rc::new(RefCell::new(Link {
            reader: Rc::new(RefCell::new(Some(reader))),
            sender,
            gate: gate.clone(),
            peer: match side {
                Side::Client => Side::Server,
                Side::Server => Side::Client,
            },
            _gone: gone_tx,
        }));
        let weak = Rc::downgrade(&link);
        (Network { accepted: Some(Handle(link)), link: weak, driver, side }, gate)
    }
}

impl<R: AsyncRead + Unpin + 'static> VatNetwork<Side> for Network<R> {
    fn connect(&mut self, host_id: Side) -> Option<Box<dyn Connection<Side>>> {
        if host_id == self.side {
            return None;
        }
        let link = self.link.upgrade()?;
        Some(Box::new(Handle(link)))
    }

    fn accept(&mut self) -> Promise<Box<dyn Connection<Side>>, capnp::Error> {
        match self.accepted.take() {
            Some(handle) => Promise::ok(Box::new(handle)),
            None => Promise::from_future(std::future::pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), capnp::Error> {
        Promise::from_future(self.driver.clone())
    }
}

#[cfg(test)]
mod tests;
