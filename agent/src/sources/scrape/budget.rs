//! Memory that answers take while they arrive, for all targets together.
//!
//! When there is no room, who holds most gives way: a target that floods
//! cannot make one fail that answers modestly.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// Shared by all scrapes of one thread.
#[derive(Clone)]
pub struct Budget(Rc<RefCell<Inner>>);

struct Inner {
    free: usize,
    holders: BTreeMap<u64, Holder>,
    next: u64,
}

#[derive(Default)]
struct Holder {
    bytes: usize,
    has_given_way: Rc<Notify>,
}

/// What one scrape holds; given back when dropped.
pub struct Share {
    budget: Budget,
    id: u64,
    has_given_way: Rc<Notify>,
}

/// The scrape had to give way, or asks for more than there is.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Budget(Rc::new(RefCell::new(Inner { free: bytes, holders: BTreeMap::new(), next: 0 })))
    }

    pub fn share(&self) -> Share {
        let mut inner = self.0.borrow_mut();
        let id = inner.next;
        inner.next += 1;
        let holder = Holder::default();
        let has_given_way = holder.has_given_way.clone();
        inner.holders.insert(id, holder);
        Share { budget: self.clone(), id, has_given_way }
    }
}

impl Share {
    /// Takes `bytes` more.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when another scrape has taken over what this one held, or
    /// when nobody else holds as much: the scrape has to end.
    pub fn grow(&self, bytes: usize) -> Result<(), NoRoom> {
        let mut inner = self.budget.0.borrow_mut();
        let Some(own) = inner.holders.get(&self.id).map(|holder| holder.bytes) else { return Err(NoRoom) };
        while inner.free < bytes {
            let largest = inner.holders.iter().max_by_key(|(_, holder)| holder.bytes);
            let Some((largest, most)) = largest.map(|(id, holder)| (*id, holder.bytes)) else { break };
            if largest == self.id || most <= own + bytes {
                return Err(NoRoom);
            }
            if let Some(holder) = inner.holders.remove(&largest) {
                holder.has_given_way.notify_one();
                inner.free += most;
            }
        }
        inner.free = inner.free.checked_sub(bytes).ok_or(NoRoom)?;
        if let Some(holder) = inner.holders.get_mut(&self.id) {
            holder.bytes += bytes;
        }
        Ok(())
    }

    /// Waits until another scrape has taken over what this one held, so that
    /// its memory is given back although no more bytes come. Cancel safe.
    pub async fn given_way(&self) {
        self.has_given_way.notified().await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut inner = self.budget.0.borrow_mut();
        let held = inner.holders.remove(&self.id).map_or(0, |holder| holder.bytes);
        inner.free += held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_most_gives_way() {
        let budget = Budget::new(100);
        let (flood, modest) = (budget.share(), budget.share());
        assert_eq!(flood.grow(80), Ok(()));
        assert_eq!(modest.grow(20), Ok(()));
        // The flood cannot push the modest one out, the modest one can.
        assert_eq!(flood.grow(10), Err(NoRoom));
        assert_eq!(modest.grow(10), Ok(()));
        assert_eq!(flood.grow(1), Err(NoRoom), "it gave way");
        drop(flood);
        assert_eq!(modest.grow(70), Ok(()));
        assert_eq!(modest.grow(1), Err(NoRoom));
        drop(modest);
        assert_eq!(budget.share().grow(100), Ok(()));
    }
}
