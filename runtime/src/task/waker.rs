//! A waker is a number: which inbox, which task, which generation of its place.
//!
//! ```text
//!  63      52 51             28 27                0
//! |  inbox   |   generation    |      index        |
//! ```
//!
//! Clone copies it and drop does nothing, so a waker may outlive everything. On its own thread it
//! queues the task; from elsewhere it goes through the inbox (R14). A stale one costs a spurious
//! poll at most: 24 bits of the generation are compared here, none in the inbox.

use std::mem::ManuallyDrop;
use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::current;
use crate::inbox::Inbox;
use crate::op::{INDEX_BITS, INDEX_MAX};

const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const INBOX_SHIFT: u32 = INDEX_BITS + GENERATION_BITS;

/// What a waker of ours holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskNumber(u64);

impl TaskNumber {
    pub(crate) fn new(inbox: u32, index: u32, generation: u32) -> Self {
        debug_assert!(index <= INDEX_MAX);
        let generation = u64::from(generation & GENERATION_MASK);
        Self(u64::from(inbox) << INBOX_SHIFT | generation << INDEX_BITS | u64::from(index))
    }

    pub(crate) const fn inbox(self) -> u32 {
        (self.0 >> INBOX_SHIFT) as u32
    }

    pub(crate) const fn index(self) -> u32 {
        self.0 as u32 & INDEX_MAX
    }

    /// Whether `generation` is the one that was meant, as far as 24 bits tell.
    pub(crate) const fn means(self, generation: u32) -> bool {
        (self.0 >> INDEX_BITS) as u32 & GENERATION_MASK == generation & GENERATION_MASK
    }

    /// The number in `waker`, if it is one of ours.
    pub(crate) fn of(waker: &Waker) -> Option<Self> {
        ptr::eq(waker.vtable(), &VTABLE).then(|| Self(waker.data().addr() as u64))
    }

    /// A clone of a waker: of ours by copying its number, without the way through its vtable.
    pub(crate) fn clone_of(waker: &Waker) -> Waker {
        match Self::of(waker) {
            Some(number) => ManuallyDrop::into_inner(number.waker()),
            None => waker.clone(),
        }
    }

    /// A waker that need not be dropped.
    pub(crate) fn waker(self) -> ManuallyDrop<Waker> {
        // SAFETY: the vtable's functions take any number: they never follow it as a pointer.
        ManuallyDrop::new(unsafe { Waker::from_raw(raw(self.data())) })
    }

    const fn data(self) -> *const () {
        ptr::without_provenance(self.0 as usize)
    }

    pub(crate) fn wake(self) {
        let here = current::with(|current| match current {
            Some((runtime, _)) => runtime.wake_own(self),
            None => false,
        });
        if !here && let Some(inbox) = Inbox::by_number(self.inbox()) {
            inbox.wake(self.index());
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| {});

const fn raw(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn wake(data: *const ()) {
    TaskNumber(data.addr() as u64).wake();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_its_waker_and_foreign_wakers_are_told_apart() {
        let number = TaskNumber::new(4095, INDEX_MAX, 0xABFF_FFFE);
        let waker = (*number.waker()).clone();
        assert_eq!(TaskNumber::of(&waker), Some(number));
        assert_eq!((number.inbox(), number.index()), (4095, INDEX_MAX));
        assert!(number.means(0xABFF_FFFE) && number.means(0xFFFF_FFFE) && !number.means(1));
        assert_eq!(TaskNumber::of(Waker::noop()), None);
    }
}
