//! Requests to stop: who was asked, who has heard of it, and what that leaves pending.
//!
//! A request has a number, counted over the runtime. It hits the leaves that are there (`Core::hit`);
//! an await that returns it has heard of it, and with it of all that was asked before (C2). Two
//! numbers of each scope say the rest: a request is pending if it is greater than what was heard.
//!
//! ```text
//! root         made 7  heard 4    7 is pending for an await in the root ...
//!   limit      made 6  heard 6    ... and in here, where one has returned 6
//!   branch     made 0  heard 7    ... but not in here: a branch has an account of its own
//! ```
//!
//! A scope with an account (`Border::Account`, `Border::Branch`) keeps what was heard in it to
//! itself, and settles with the scope around it when it closes. If it is dropped instead, nobody
//! out there has been told, and what was pending there still is.

use std::rc::Rc;

use super::{Cold, ScopeIndex, Scopes};

/// What a scope knows of requests.
pub(super) struct Requests {
    /// The last one made here; 0 is none.
    made: u64,
    /// The first of those that were pending together with that.
    first: u64,
    /// The last one that an await in here has returned, made here or further out.
    heard: u64,
    /// The last one made anywhere when the scope began, or was moved: but for those that were pending
    /// around it, which are for it as well.
    pub(super) began: u64,
    /// Of a task's root: the last one that who awaits the task has passed on.
    forwarded: u64,
    /// Of a task's root: how often the task was asked to stop, less what was taken back.
    cancelling: u32,
    /// An await in here has returned one that was made further out.
    heard_outer: bool,
}

impl Requests {
    pub(super) const fn since(began: u64) -> Self {
        Self {
            made: 0,
            first: 0,
            heard: 0,
            began,
            forwarded: 0,
            cancelling: 0,
            heard_outer: false,
        }
    }
}

impl Scopes {
    // ---- they are made ----

    /// Records a new request at `index` and gives its number.
    pub(crate) fn request(&mut self, index: ScopeIndex, reason: Option<Rc<str>>) -> u64 {
        let requests = &mut self.cold(index).requests;
        let (before, is_first) = (requests.made, requests.made <= requests.heard);
        self.requests += 1;
        let number = self.requests;
        self.asked += usize::from(before == 0);
        let requests = &mut self.cold(index).requests;
        requests.made = number;
        if is_first {
            requests.first = number;
        }
        self.reasons.remove(&before);
        if let Some(reason) = reason {
            self.reasons.insert(number, reason);
        }
        number
    }

    /// Takes a request to a task back. With none left, what is pending is dropped.
    pub(crate) fn uncancel(&mut self, root: ScopeIndex) -> u32 {
        let requests = &mut self.cold(root).requests;
        requests.cancelling = requests.cancelling.saturating_sub(1);
        let left = requests.cancelling;
        if left == 0 {
            if !self.has_heard_forwarded(root) {
                self.cold(root).requests.forwarded = 0;
            }
            for at in self.from(root) {
                if let Some(requests) = self.requests_of(at) {
                    requests.heard_outer = false;
                }
            }
            self.forget_request(root);
        }
        left
    }

    /// Nothing was asked at `index`, from here on.
    pub(super) fn forget_request(&mut self, index: ScopeIndex) {
        let made = std::mem::take(&mut self.cold(index).requests.made);
        self.asked -= usize::from(made != 0);
        if !self.reasons.is_empty() {
            self.reasons.remove(&made);
        }
    }

    /// Requests up to `began` are nothing to a scope, if they come from further out.
    pub(crate) fn begin_since(&mut self, index: ScopeIndex, began: u64) {
        if let Some(requests) = self.requests_of(index) {
            requests.began = began;
            requests.heard_outer = false;
        }
    }

    /// A scope is polled in another task now: what was heard in there, of requests to the one where
    /// it was, is not heard here.
    pub(super) fn begin_anew(&mut self, index: ScopeIndex, began: u64) {
        self.begin_since(index, began);
        for at in self.from(index) {
            let path = self.outwards(at).take_while(|&outer| outer != index);
            let inside = path.chain([index]).map(|at| self.last_request(at)).max();
            let Some(requests) = self.requests_of(at) else {
                continue;
            };
            let heard = requests.heard.min(inside.unwrap_or(0));
            // What a scope that moves with it has asked is still to be heard of.
            let is_asked = at != index && inside.is_some_and(|made| made > requests.heard);
            requests.began = if is_asked { began.min(heard) } else { began };
            requests.heard = heard;
            requests.heard_outer = false;
        }
    }

    fn requests_of(&mut self, index: ScopeIndex) -> Option<&mut Requests> {
        let at = self.at(index).cold as usize;
        self.cold.get_mut(at).map(|cold| &mut cold.requests)
    }

    /// The last request that is nothing to a scope that begins below `parent`.
    pub(crate) fn began(&self, parent: ScopeIndex) -> u64 {
        let first = self.all_pending(parent).map(|(_, number)| number).min();
        first.map_or(self.requests, |number| number - 1)
    }

    // ---- they are pending ----

    /// The requests that an await under `index` would return, each with the scope it was made at.
    pub(crate) fn all_pending(&self, index: ScopeIndex) -> impl Iterator<Item = (ScopeIndex, u64)> {
        let index = if self.asked == 0 {
            ScopeIndex::NONE
        } else {
            index
        };
        // The innermost account holds for all that is further out.
        let mut account = None;
        self.outwards(index).filter_map(move |at| {
            let Cold {
                requests, border, ..
            } = self.cold_of(at)?;
            let heard = account.unwrap_or(requests.heard);
            if border.has_account() {
                account.get_or_insert(requests.heard.max(requests.began));
            }
            (requests.made > heard).then_some((at, requests.made))
        })
    }

    /// The latest of them.
    pub(crate) fn pending(&self, index: ScopeIndex) -> Option<u64> {
        self.all_pending(index).map(|(_, number)| number).max()
    }

    /// The latest one that is for tasks too which are awaited there: what its siblings ask of a
    /// branch leaves those running.
    pub(crate) fn pending_for_tasks(&self, index: ScopeIndex) -> Option<u64> {
        let all = self.all_pending(index);
        all.filter(|&(at, _)| !self.is_branch(at))
            .map(|(_, number)| number)
            .max()
    }

    /// The reason of the request `number`, which is pending for `index`. If it has none, as one that a
    /// limit makes, that of the outermost one which is used up with it: who decides what is seen
    /// (C8).
    pub(crate) fn reason(&self, index: ScopeIndex, number: u64) -> Option<Rc<str>> {
        if self.reasons.is_empty() {
            return None;
        }
        let own = self.reasons.get(&number);
        let all = self.all_pending(index);
        let merged = || {
            all.filter(|&(_, other)| other < number)
                .filter_map(|(_, other)| self.reasons.get(&other))
                .last()
        };
        own.or_else(merged).cloned()
    }

    /// The reason of the request that an await has just returned.
    pub(crate) fn last_reason(&self, number: u64) -> Option<Rc<str>> {
        let last = self.last_reason.as_ref();
        last.filter(|(of, _)| *of == number)
            .map(|(_, reason)| reason.clone())
    }

    /// Whether a request that is pending for `index` is one that nobody in there has heard of.
    pub(crate) fn is_unheard_within(&self, index: ScopeIndex) -> bool {
        let Some(number) = self.pending(index) else {
            return false;
        };
        // An account in there may know of it, and not have settled yet.
        !self.from(index).any(|at| {
            self.cold_of(at)
                .is_some_and(|cold| cold.border.has_account() && cold.requests.heard >= number)
        })
    }

    // ---- they are heard of ----

    /// Uses up what is pending for an await under `index`, if anything is (C7).
    pub(crate) fn take_pending(&mut self, index: ScopeIndex) -> Option<u64> {
        let latest = self.pending(index)?;
        self.delivered(index, latest);
        Some(latest)
    }

    /// An await under `index` returned `number`: it, and what it merged with, is used up (C2).
    pub(crate) fn delivered(&mut self, index: ScopeIndex, number: u64) {
        self.last_reason = self.reason(index, number).map(|reason| (number, reason));
        let all = self.all_pending(index).map(|(at, _)| at);
        let is_heard = |at: &ScopeIndex| {
            self.cold_of(*at)
                .is_some_and(|cold| cold.requests.first <= number)
        };
        let outermost = all.filter(is_heard).last();
        let mut is_outer = outermost.is_some();
        let mut at = index;
        while at.is_made() {
            let outer = self.outer(at);
            is_outer &= outermost != Some(at);
            if let Some(Cold {
                requests, border, ..
            }) = self.cold.get_mut(self.scopes[at.0 as usize].cold as usize)
            {
                requests.heard = requests.heard.max(number);
                requests.heard_outer |= is_outer;
                if border.has_account() {
                    return;
                }
            }
            at = outer;
        }
    }

    /// What was heard in a scope with an account is heard around it.
    pub(crate) fn settle_account(&mut self, index: ScopeIndex) {
        let Some(cold) = self.cold_of(index) else {
            return;
        };
        if cold.border.has_account() && cold.requests.heard > 0 {
            let heard = cold.requests.heard;
            self.delivered(self.outer(index), heard);
        }
    }

    // ---- what became of them ----

    /// Whether a request that was made at `index` itself is pending there.
    pub(crate) fn is_asked(&self, index: ScopeIndex) -> bool {
        self.cold_of(index)
            .is_some_and(|Cold { requests, .. }| requests.made > requests.heard)
    }

    /// The last request made at `index`; 0 is none.
    pub(crate) fn last_request(&self, index: ScopeIndex) -> u64 {
        self.cold_of(index).map_or(0, |cold| cold.requests.made)
    }

    /// Whether a request from further out arrived after this scope began: then whoever made that
    /// one decides what the caller sees (C8). Not if the scope's own was heard of before, and that one
    /// was not: then it has ended nothing in there.
    pub(crate) fn asked_from_outside(&self, index: ScopeIndex) -> bool {
        let Some(Cold { requests, .. }) = self.cold_of(index) else {
            return false;
        };
        let latest = if self.is_asked(index) {
            u64::MAX
        } else {
            requests.heard
        };
        let mut outer = self.outwards(self.outer(index));
        requests.heard_outer
            || outer.any(|outer| {
                let number = self.last_request(outer);
                requests.began < number && number <= latest
            })
    }

    /// Whether the request `number` was made at `index` or further out, and is the last one there.
    pub(crate) fn is_from_above(&self, index: ScopeIndex, number: u64) -> bool {
        self.outwards(index)
            .any(|at| self.last_request(at) == number)
    }

    /// The same, if there may have been others since. (Of a request that was made elsewhere this may
    /// be true where a later one was made here, which covers what that one does.)
    pub(crate) fn may_be_from_above(&self, index: ScopeIndex, number: u64) -> bool {
        let mut colds = self.outwards(index).filter_map(|at| self.cold_of(at));
        colds.any(|Cold { requests, .. }| (requests.first..=requests.made).contains(&number))
    }

    // ---- of tasks ----

    pub(crate) fn count_cancel(&mut self, root: ScopeIndex) {
        let requests = &mut self.cold(root).requests;
        requests.cancelling = requests.cancelling.saturating_add(1);
    }

    pub(crate) fn cancelling(&self, root: ScopeIndex) -> u32 {
        self.cold_of(root)
            .map_or(0, |cold| cold.requests.cancelling)
    }

    /// The last request to a task came from who awaits it.
    pub(crate) fn note_forwarded(&mut self, root: ScopeIndex) {
        let requests = &mut self.cold(root).requests;
        requests.forwarded = requests.made;
    }

    /// Whether the last request that came from there is used up.
    pub(crate) fn has_heard_forwarded(&self, root: ScopeIndex) -> bool {
        self.cold_of(root).is_some_and(|Cold { requests, .. }| {
            requests.forwarded != 0 && requests.heard >= requests.forwarded
        })
    }

    /// Whether a task was asked to stop, and an await has returned that.
    pub(crate) fn has_heard_last(&self, root: ScopeIndex) -> bool {
        self.cold_of(root).is_some_and(|Cold { requests, .. }| {
            requests.cancelling > 0 && requests.heard >= requests.made
        })
    }
}
