//! Waiting for a task: the one who waits is in a scope, and a request to stop that reaches that
//! scope is forwarded to the task (C7).
//!
//! A task is awaited by one other at most, so its header has the links of the list that the scope
//! keeps of what is awaited in it. Only the runtime that has the tasks changes them.

use super::TaskCell;
use crate::current::NO_TASK;
use crate::runtime::Runtime;
use crate::scope::{ScopeIndex, ScopeKey};

/// Where a task is awaited.
#[derive(Clone, Copy)]
pub(crate) struct Join {
    /// `NONE`: in no scope.
    scope: ScopeIndex,
    /// Its neighbours there, by index.
    previous: u32,
    next: u32,
    /// The latest request that was forwarded; 0 is none.
    cause: u64,
}

impl Join {
    pub(super) const NONE: Self = Self {
        scope: ScopeIndex::NONE,
        previous: NO_TASK,
        next: NO_TASK,
        cause: 0,
    };
}

impl Runtime {
    /// The task is awaited under `scope` from here on.
    pub(super) fn join(&self, cell: &TaskCell, scope: ScopeIndex) {
        let join = cell.header().join.get();
        if join.scope == scope {
            return;
        }
        if join.scope == ScopeIndex::NONE {
            // A request that is pending is forwarded, as one that comes later is. It is used up
            // when the task has used it up.
            let pending = self.with_core(|core| core.pending(scope));
            self.link_join(cell, scope, 0);
            if let Some(number) = pending {
                self.forward(cell, number);
            }
        } else {
            self.unjoin(cell);
            self.link_join(cell, scope, join.cause);
        }
    }

    fn link_join(&self, cell: &TaskCell, scope: ScopeIndex, cause: u64) {
        let mut next = NO_TASK;
        if scope != ScopeIndex::NONE {
            let index = cell.header().index.get();
            next = std::mem::replace(&mut self.core().scopes.at(scope).first_join, index);
            self.with_join(next, |next| next.previous = index);
        }
        cell.header().join.set(Join {
            scope,
            previous: NO_TASK,
            next,
            cause,
        });
    }

    /// The task is awaited no more.
    pub(super) fn unjoin(&self, cell: &TaskCell) {
        let Join {
            scope,
            previous,
            next,
            ..
        } = cell.header().join.replace(Join::NONE);
        if scope == ScopeIndex::NONE {
            return;
        }
        match previous {
            NO_TASK => self.core().scopes.at(scope).first_join = next,
            previous => self.with_join(previous, |previous| previous.next = next),
        }
        self.with_join(next, |next| next.previous = previous);
    }

    fn with_join(&self, index: u32, change: impl FnOnce(&mut Join)) {
        if let Some(cell) = self.tasks().get(index) {
            let mut join = cell.header().join.get();
            change(&mut join);
            cell.header().join.set(join);
        }
    }

    /// The task has ended. If it has `heard` of the request that was forwarded to it, nobody else
    /// must.
    pub(crate) fn end_join(&self, cell: &TaskCell, heard: bool) {
        let Join { scope, cause, .. } = cell.header().join.get();
        if scope == ScopeIndex::NONE {
            return;
        }
        self.unjoin(cell);
        if heard && cause != 0 {
            self.core().delivered(scope, cause);
        }
    }

    /// A request has reached a scope: it goes on to the tasks that are awaited there.
    pub(crate) fn forward_all(&self, scope: ScopeKey, number: u64) {
        let Some(mut next) = self.core().scopes.first_join(scope) else {
            return;
        };
        while next != NO_TASK {
            let Some(cell) = self.tasks().get(next).cloned() else {
                return;
            };
            self.forward(&cell, number);
            next = cell.header().join.get().next;
        }
    }

    fn forward(&self, cell: &TaskCell, number: u64) {
        let mut join = cell.header().join.get();
        join.cause = number;
        cell.header().join.set(join);
        self.request_task(cell);
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
            let cause = cell.header().join.get().cause;
            self.unjoin(&cell);
            self.link_join(&cell, parent, cause);
        }
    }
}
