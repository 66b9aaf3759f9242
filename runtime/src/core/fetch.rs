//! What a future finds in its slot when it is polled.

use super::Core;
use crate::error::Cause;
use crate::op::table::{Cancel, Key, Kind, Slot, State, Success};
use crate::op::{Cqe, is_stopped};
use crate::pool::has_buffer;
use crate::scope::ScopeIndex;
use std::task::Waker;

/// What a multishot has for who waits for it.
pub(crate) enum NextShot {
    Cqe(Cqe),
    /// The kernel has ended the multishot with this one. The slot is vacant.
    Last(Cqe),
    /// It was ended here, and has nothing left. The slot is vacant.
    Stopped,
    Pending,
}

impl NextShot {
    /// `None`: there is nothing yet.
    pub(crate) fn fetched(self) -> Option<Self> {
        match self {
            Self::Pending => None,
            shot => Some(shot),
        }
    }
}

/// Whether a multishot was cancelled by nobody but the runtime: it held too much, or was stopped.
fn is_stopped_here(slot: &Slot, res: i32) -> bool {
    is_stopped(res) && slot.cause == 0 && matches!(slot.cancel, Cancel::Asked(_))
}

/// Whether a request that has reached a multishot has ended no more than a wait for it. One that was
/// cancelled in the queue still says why.
fn is_of_the_wait(slot: &Slot) -> bool {
    slot.state == State::InFlight || matches!(slot.cancel, Cancel::Asked(_))
}

impl Core {
    /// The outcome of what is in `key`, polled under `scope`: then the slot is vacant. `None`: it
    /// is not over.
    pub(crate) fn fetch(&mut self, key: Key, scope: Option<ScopeIndex>) -> Option<Cqe> {
        let slot = self.table.slot(key);
        if slot.state != State::Done
            && let Some(scope) = scope
            && slot.scope != scope
        {
            self.reattach(key.index(), scope);
            // A request that is pending there stops it, as it would have stopped its start (C7).
            if let Some(number) = self.pending(scope)
                && self.table.slot(key).cause == 0
            {
                self.hit(key.index(), number);
            }
        }
        let slot = self.table.slot(key);
        if slot.state != State::Done {
            return None;
        }
        let stray = slot.cancel == Cancel::Stray;
        let (res, flags, cause) = (slot.res, slot.word, slot.cause);
        let under = self.vacate(key);
        if stray {
            return Some(Cqe::cancelled(Cause::STRAY));
        }
        let cqe = Cqe::new(res, flags);
        if cause != 0 && is_stopped(res) {
            self.delivered(under, cause);
            return Some(cqe.with_cause(Cause::of(cause)));
        }
        // A request that came when it had its result is for the next await, if none has returned it
        // (C1, C2).
        Some(cqe)
    }

    /// The next completion of the multishot in `key`, waited for under `scope`.
    pub(crate) fn fetch_shot(&mut self, key: Key, scope: Option<ScopeIndex>) -> NextShot {
        let slot = self.table.slot(key);
        debug_assert_eq!(slot.kind, Kind::Multishot);
        // Linked while it is waited for: so this is a new wait, and a cancellation point (C7).
        let begins = slot.scope == ScopeIndex::NONE;
        if begins
            && let Some(scope) = scope
            && let Some(cause) = self.checkpoint(scope)
        {
            return NextShot::Cqe(Cqe::cancelled(cause));
        }
        let slot = self.table.slot(key);
        if let Some(shot) = slot.cold().pop() {
            let (res, cqe) = (shot.res, shot.cqe());
            if slot.state == State::Done && slot.cold().shots.is_empty() {
                if is_stopped_here(slot, res) {
                    self.vacate(key);
                    return NextShot::Stopped;
                }
                let cause = slot.cause;
                let under = self.vacate(key);
                // One with a buffer has come, whoever asked (C1).
                if cause == 0 || has_buffer(cqe.flags()) {
                    return NextShot::Last(cqe);
                }
                if is_stopped(res) {
                    self.delivered(under, cause);
                }
                return NextShot::Last(cqe.with_cause(Cause::of(cause)));
            }
            // The completion won: a request that had reached this wait is not the next one's (C1).
            if is_of_the_wait(slot) {
                slot.cause = 0;
            }
            self.unlink(key.index());
            return NextShot::Cqe(cqe);
        }
        let number = std::mem::take(&mut slot.cause);
        if number != 0 {
            let scope = slot.scope;
            self.unlink(key.index());
            self.delivered(scope, number);
            return NextShot::Cqe(Cqe::cancelled(Cause::of(number)));
        }
        if let Some(scope) = scope
            && slot.scope != scope
        {
            self.reattach(key.index(), scope);
            // As for a one-shot that had begun: a request that is pending there stops it.
            if !begins && let Some(cause) = self.checkpoint(scope) {
                self.unlink(key.index());
                return NextShot::Cqe(Cqe::cancelled(cause));
            }
        }
        NextShot::Pending
    }

    /// The wait for the multishot in `key` is given up; it stays armed.
    pub(crate) fn leave_shot(&mut self, key: Key) {
        self.unlink(key.index());
        let slot = self.table.slot(key);
        let waker = slot.waker.take();
        if is_of_the_wait(slot) {
            slot.cause = 0;
        }
        self.debris.drop_waker(waker);
    }

    /// Has `waker` woken when the slot's wait is over.
    pub(crate) fn set_waker(&mut self, key: Key, waker: Waker) {
        let slot = self.table.slot(key);
        slot.success = Success::Told;
        let old = slot.waker.replace(waker);
        self.debris.drop_waker(old);
    }

    /// Makes a slot vacant. Gives the scope that it was a leaf of.
    pub(super) fn vacate(&mut self, key: Key) -> ScopeIndex {
        let slot = self.table.slot(key);
        if slot.cold.is_some() {
            slot.cold = None;
        }
        if let waker @ Some(_) = slot.waker.take() {
            self.debris.drop_waker(waker);
        }
        let links = self.table.remove(key.index());
        self.close_gap(links);
        links.scope
    }
}
