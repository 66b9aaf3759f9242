//! Waiting for a task: the one who waits is in a scope, and a request to stop that reaches that
//! scope is forwarded to the task (C7).
//!
//! A task is awaited by one other at most, so its header has the links of the list that the scope
//! keeps of what is awaited in it. Only the runtime that has the tasks changes them.

use std::cell::Cell;
use std::rc::Rc;

use super::TaskCell;
use crate::current::NO_TASK;
use crate::runtime::Runtime;
use crate::scope::{ScopeIndex, ScopeKey};

/// Where a task is awaited.
pub(crate) struct Join {
    /// `NONE`: in no scope.
    scope: Cell<ScopeIndex>,
    /// Its neighbours there, by index.
    previous: Cell<u32>,
    next: Cell<u32>,
    /// The latest request that was forwarded; 0 is none. Once the task has ended, the latest one that
    /// it has used up: whoever takes its output has, by that.
    pub(crate) cause: Cell<u64>,
    /// There is nothing to wait for any more.
    pub(super) done: Cell<bool>,
    /// The task is being polled, or dropped, and is not to be dropped meanwhile.
    pub(super) busy: Cell<bool>,
    /// What it was asked for, at any time.
    pub(crate) asked: Cell<Asked>,
}

/// What a task was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    ToStop,
    /// While it was busy: it is to be dropped after that.
    ToBeDropped,
}

impl Join {
    pub(super) const fn new() -> Self {
        Self {
            scope: Cell::new(ScopeIndex::NONE),
            previous: Cell::new(NO_TASK),
            next: Cell::new(NO_TASK),
            cause: Cell::new(0),
            done: Cell::new(false),
            busy: Cell::new(false),
            asked: Cell::new(Asked::Nothing),
        }
    }
}

impl Runtime {
    // ---- from outside of a task ----

    /// Asks a task to stop.
    pub(crate) fn cancel(&self, cell: &TaskCell, reason: Option<Rc<str>>) {
        self.request_task(cell, reason);
        self.settle();
        self.tell_host();
    }

    pub(super) fn cancelling(&self, cell: &TaskCell) -> usize {
        match cell.header().scope.get() {
            ScopeIndex::NONE => 0,
            root => self.core().scopes.cancelling(root) as usize,
        }
    }

    pub(super) fn uncancel(&self, cell: &TaskCell) -> usize {
        match cell.header().scope.get() {
            ScopeIndex::NONE => 0,
            root => self.core().scopes.uncancel(root) as usize,
        }
    }

    /// Drops the future of a task, now or at the end of its poll.
    pub(super) fn abort(&self, cell: &TaskCell) {
        if cell.join().busy.get() {
            cell.join().asked.set(Asked::ToBeDropped);
        } else {
            self.discard(cell);
            self.tell_host();
        }
    }

    /// Whether a task that has been polled is to be dropped.
    pub(crate) fn is_aborted(&self, cell: &TaskCell) -> bool {
        cell.join().asked.get() == Asked::ToBeDropped
    }

    // ---- where it is awaited ----

    /// The task is awaited under `scope` from here on.
    pub(super) fn join(&self, cell: &TaskCell, scope: ScopeIndex) {
        match cell.join().scope.get() {
            same if same == scope => {}
            ScopeIndex::NONE => {
                // A request that is pending is forwarded, as one that comes later is. It is used
                // up when the task has used it up.
                let pending = self.with_core(|core| core.pending_for_tasks(scope));
                self.link_join(cell, scope);
                if let Some(number) = pending {
                    self.forward(cell, number);
                }
            }
            _ => {
                self.move_join(cell, scope);
                let pending = self.with_core(|core| core.pending_for_tasks(scope));
                if let Some(number) = pending
                    && number > cell.join().cause.get()
                {
                    self.forward(cell, number);
                }
            }
        }
    }

    fn link_join(&self, cell: &TaskCell, scope: ScopeIndex) {
        let join = cell.join();
        join.scope.set(scope);
        if scope == ScopeIndex::NONE {
            return;
        }
        let index = cell.header().index.get();
        let next = std::mem::replace(&mut self.core().scopes.at(scope).first_join, index);
        join.previous.set(NO_TASK);
        join.next.set(next);
        if next != NO_TASK
            && let Some(next) = self.tasks().get(next)
        {
            next.join().previous.set(index);
        }
    }

    /// It is in no list from here on.
    pub(crate) fn unlink_join(&self, cell: &TaskCell) {
        let join = cell.join();
        let scope = join.scope.replace(ScopeIndex::NONE);
        if scope == ScopeIndex::NONE {
            return;
        }
        let (previous, next) = (join.previous.get(), join.next.get());
        if previous == NO_TASK {
            self.core().scopes.at(scope).first_join = next;
        } else if let Some(previous) = self.tasks().get(previous) {
            previous.join().next.set(next);
        }
        if next != NO_TASK
            && let Some(next) = self.tasks().get(next)
        {
            next.join().previous.set(previous);
        }
    }

    /// It is awaited under `scope` now. What was forwarded from elsewhere is not from there.
    fn move_join(&self, cell: &TaskCell, scope: ScopeIndex) {
        self.unlink_join(cell);
        self.link_join(cell, scope);
        let cause = &cell.join().cause;
        if cause.get() != 0 && !self.core().scopes.is_from_above(scope, cause.get()) {
            cause.set(0);
        }
    }

    /// The task is awaited no more.
    pub(super) fn unjoin(&self, cell: &TaskCell) {
        self.unlink_join(cell);
        cell.join().cause.set(0);
    }

    /// The output of a task is taken under `scope`: if the task has used up a request that was
    /// forwarded to it from there, nobody else is to hear of it.
    pub(super) fn deliver_joined(&self, cell: &TaskCell, scope: ScopeIndex) {
        let heard = cell.join().cause.take();
        let mut core = self.core();
        if core.scopes.may_be_from_above(scope, heard) {
            core.delivered(scope, heard);
        }
    }

    /// A request has reached a scope: it goes on to the tasks that are awaited there, but for those
    /// that one since `since` was forwarded to.
    pub(crate) fn forward_all(&self, scope: ScopeKey, number: u64, since: u64) {
        let Some(mut next) = self.core().scopes.first_join(scope) else {
            return;
        };
        while next != NO_TASK {
            let Some(cell) = self.tasks().get(next).cloned() else {
                return;
            };
            let last = cell.join().cause.get();
            if number > last {
                cell.join().cause.set(number);
                if last <= since {
                    self.request_from_joiner(&cell, number, last);
                }
            }
            next = cell.join().next.get();
        }
    }

    fn forward(&self, cell: &TaskCell, number: u64) {
        let last = cell.join().cause.replace(number);
        self.request_from_joiner(cell, number, last);
    }

    /// `last`: what was forwarded before.
    fn request_from_joiner(&self, cell: &TaskCell, number: u64, last: u64) {
        let (root, scope) = (self.root_scope(cell), cell.join().scope.get());
        if last != 0 && self.core().scopes.has_heard_forwarded(root) {
            // The task has used that one up, so who awaits it has.
            self.core().delivered(scope, last);
        }
        let reason = self.core().scopes.reason(scope, number);
        self.request_task(cell, reason);
        self.core().scopes.note_forwarded(root);
    }

    /// A scope ends, and what is awaited in it is awaited no more. A request that came by way of that
    /// and was used up is used up around the scope.
    #[cold]
    pub(crate) fn leave_joins(&self, scope: ScopeKey) {
        let parent = self.core().scopes.at(scope.index).parent;
        loop {
            let first = self.core().scopes.at(scope.index).first_join;
            let Some(cell) = self.tasks().get(first).cloned() else {
                return;
            };
            let (cause, root) = (cell.join().cause.get(), cell.header().scope.get());
            let mut core = self.core();
            if cause != 0
                && core.scopes.has_heard_forwarded(root)
                && core.scopes.may_be_from_above(parent, cause)
            {
                core.delivered(parent, cause);
            }
            drop(core);
            self.unjoin(&cell);
        }
    }

    /// Whether somebody in the runtime awaits it.
    pub(crate) fn is_awaited(cell: &TaskCell) -> bool {
        cell.join().scope.get() != ScopeIndex::NONE
    }

    /// A scope ends: what is awaited in it and lives on is awaited in the one around it.
    #[cold]
    pub(crate) fn hand_joins_on(&self, scope: ScopeKey) {
        let parent = self.core().scopes.at(scope.index).parent;
        loop {
            let first = self.core().scopes.at(scope.index).first_join;
            let Some(cell) = self.tasks().get(first).cloned() else {
                return;
            };
            self.move_join(&cell, parent);
        }
    }
}
