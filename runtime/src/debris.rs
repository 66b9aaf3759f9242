//! User code that must run when nothing is borrowed (R10): wakers that are not ours, and payloads
//! whose operation ended after their future was gone.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::op::Orphan;
use crate::op::table::{Kind, Shot, Slot};
use crate::scope::ScopeKey;
use crate::task::TaskNumber;

/// Collected while something is borrowed, seen to when nothing is.
#[derive(Default)]
pub(crate) struct Debris(Vec<Item>);

pub(crate) enum Item {
    Wake(Waker),
    Drop(Waker),
    Remains(Remains),
    /// A request to stop, by its number, is forwarded to the tasks that are awaited in a scope.
    Forward(ScopeKey, u64),
}

/// What an operation leaves whose future is gone: its payload, and completions nobody fetched.
pub(crate) struct Remains {
    orphan: Box<dyn Orphan>,
    shots: VecDeque<Shot>,
}

impl Remains {
    /// Of a slot that is vacant now, if it has a payload.
    pub(crate) fn of(slot: &mut Slot) -> Option<Self> {
        let mut cold = slot.cold.take()?;
        if slot.kind != Kind::Multishot {
            cold.shots.push_back(Shot::new(slot.res, slot.word));
        }
        Some(Self {
            orphan: cold.orphan?,
            shots: cold.shots,
        })
    }

    fn see_to(mut self) {
        // A slot is vacated with its last completion, so there is one.
        let last = self.shots.pop_back();
        let last = last.unwrap_or(Shot::new(-libc::ECANCELED, 0));
        for shot in self.shots {
            quietly(|| self.orphan.shot(shot.cqe()));
        }
        quietly(|| self.orphan.orphaned(last.cqe()));
    }
}

impl Debris {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.0.push(item);
    }

    /// Has a waker woken, if there is one.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.0.extend(waker.map(Item::Wake));
    }

    /// Has a waker dropped that is not needed any more: only one that is not ours, since dropping
    /// ours does nothing.
    pub(crate) fn drop_waker(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker
            && TaskNumber::of(&waker).is_none()
        {
            self.push(Item::Drop(waker));
        }
    }

    /// Runs it all; `forward` is called with the requests that are to be forwarded. A panic in one
    /// of them harms nobody (C10); the hook has reported it.
    pub(crate) fn clear_away(&mut self, mut forward: impl FnMut(ScopeKey, u64)) {
        for item in self.0.drain(..) {
            match item {
                Item::Wake(waker) => quietly(|| waker.wake()),
                Item::Drop(waker) => quietly(|| drop(waker)),
                Item::Remains(remains) => remains.see_to(),
                Item::Forward(scope, number) => forward(scope, number),
            }
        }
    }
}

/// Runs a piece of user code whose panic is nobody else's.
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        discard_panic(panic);
    }
}

/// What a panic was raised with is user code as well: its drop may panic in turn.
#[cold]
pub(crate) fn discard_panic(panic: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // There is no end to this game: leaked.
        Box::leak(another);
    }
}
