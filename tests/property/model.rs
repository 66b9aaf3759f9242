//! The model: which scopes there are, what was asked of them, and what each await may return.
//!
//! A request is made at a task. It is pending for an await if it was made after what was heard: of
//! the innermost account on the way out, which is a group or a branch, else of the task. An account
//! settles when it closes, and not if it is dropped, or if somebody failed in a group.
//!
//! What a limit or a sibling asks is not numbered here: the model knows that they may have asked, and
//! then a cancellation without a reason is no fault.
//!
//! Where the runtime does something else than it should, a comment begins with "Known", and what may
//! come of that is no fault. Most of it is one thing: what asks and has no reason of its own takes
//! one when it asks, not when it is heard. Until then the request that had it may have been used up.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use coring::{Instant, is_cancelled, is_timed_out, now};

use crate::program::KINDS;

/// A request to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) reason: Option<u32>,
    /// `false`: it may have been used up where the program cannot see it.
    pub(super) sure: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Done,
    /// With the reason, if there is one.
    Stopped(Option<u32>),
    TimedOut,
    Failed,
}

pub(super) fn outcome<T>(result: &io::Result<T>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(error) if is_cancelled(error) => {
            let text = error.to_string();
            Outcome::Stopped(
                text.strip_prefix("cancelled: ")
                    .map(|reason| reason.parse().expect("reasons are numbers here")),
            )
        }
        Err(error) if is_timed_out(error) => Outcome::TimedOut,
        Err(_) => Outcome::Failed,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Border {
    Root,
    Open,
    Shield,
    /// What is heard in there is kept to it, until it settles with the scopes around it.
    Account,
}

/// A scope, as far as the program knows of it.
pub(super) struct Scope {
    pub(super) parent: Option<usize>,
    pub(super) border: Border,
    pub(super) limit: Option<Duration>,
    pub(super) began_at: Instant,
    /// The loop was late by so much since: the limit may count from then on.
    pub(super) late: Duration,
    /// The last request that was made before it began, but for one that was pending around it.
    pub(super) began: u64,
    /// The last one made here.
    pub(super) last: Option<Ask>,
    /// The last one that an await in here has returned.
    pub(super) heard: u64,
    /// The same, for a scope that has no account as well.
    pub(super) heard_here: u64,
    /// The last one that may have been, where the program cannot see it.
    pub(super) maybe: u64,
    /// Of a task: the last one that was taken back.
    pub(super) retracted: u64,
    /// Limits of zero of which an await in here has heard, and itself if one has been stopped.
    pub(super) told: BTreeSet<usize>,
    /// Known: reasons that a limit or a sibling, which has none of its own, may have taken from
    /// requests that were used up since.
    pub(super) copied: Vec<u32>,
    /// Reasons that a limit in there may have passed on to a task that is awaited there, of requests
    /// that were used up since.
    pub(super) passed_on: Vec<u32>,
    /// Who shares this is being stopped, without a reason.
    pub(super) stops: Rc<Cell<bool>>,
    /// Of a task: the wait for it.
    pub(super) awaited: Option<usize>,
    /// Of a group's task: the group.
    pub(super) group: Option<usize>,
    /// Of a group: its body is over, and it waits for its tasks.
    pub(super) waits: bool,
    /// Of a group: the last request that has stopped its wait.
    pub(super) interrupted: u64,
    pub(super) open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    Sleep(Instant),
    Read(usize),
    Lock(usize),
    Event(usize),
    /// Nothing is registered meanwhile.
    Yield,
    Task(usize),
}

pub(super) struct Leaf {
    pub(super) scope: usize,
    pub(super) wait: Wait,
    pub(super) began_at: Instant,
    pub(super) over: bool,
    /// Pending when it began.
    pub(super) pending: Option<Ask>,
    /// Made since.
    pub(super) hits: Vec<Ask>,
    pub(super) hit_in: Option<u32>,
    /// It had no result when it was asked, so it has to say so.
    pub(super) must_stop: bool,
    pub(super) event_set: bool,
    /// What it was asked, and as which request that went on to the task.
    pub(super) forwarded: Vec<(Ask, u64)>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) scopes: Vec<Scope>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) requests: u64,
    /// Where each reason was given, and in which request.
    pub(super) made: Vec<(u32, usize, u64)>,
    /// A cancellation without a reason may be anybody's from here on.
    pub(super) any_unnamed: bool,
    pub(super) held: [bool; KINDS],
    /// Bytes that were given to a pipe, and that have come out.
    pub(super) given: [usize; KINDS],
    pub(super) taken: [usize; KINDS],
    pub(super) sim: bool,
    pub(super) stubborn: bool,
    pub(super) tick: Duration,
    /// Times that the loop has slept.
    pub(super) round: u32,
    pub(super) trace: String,
    pub(super) fault: Option<String>,
}

impl Model {
    pub(super) fn fault(&mut self, text: fmt::Arguments<'_>) {
        self.note(format_args!("FAULT {text}"));
        self.fault.get_or_insert_with(|| text.to_string());
    }

    pub(super) fn note(&mut self, text: fmt::Arguments<'_>) {
        writeln!(self.trace, "    {text}").expect("a string");
    }

    // ---- scopes ----

    pub(super) fn open(
        &mut self,
        parent: Option<usize>,
        border: Border,
        limit: Option<Duration>,
        began_at: Instant,
    ) -> usize {
        let pending = parent.and_then(|parent| self.pending(parent));
        let began = pending.map_or(self.requests, |ask| ask.number - 1);
        let unsure = pending.filter(|ask| !ask.sure);
        let is_account = border == Border::Account;
        let told = match parent {
            Some(parent) if is_account => self.scopes[self.account(parent)].told.clone(),
            _ => BTreeSet::new(),
        };
        let scope = self.scopes.len();
        self.note(format_args!(
            "scope {scope} {border:?} {limit:?} in {parent:?}"
        ));
        self.scopes.push(Scope {
            parent,
            border,
            limit,
            began_at,
            late: Duration::ZERO,
            began,
            last: None,
            heard: 0,
            heard_here: 0,
            maybe: unsure.map_or(0, |ask| ask.number),
            retracted: 0,
            told,
            copied: Vec::new(),
            passed_on: Vec::new(),
            stops: Rc::default(),
            awaited: None,
            group: None,
            waits: false,
            interrupted: 0,
            open: true,
        });
        scope
    }

    /// From `scope` outwards, as far as requests reach it.
    fn path(&self, scope: usize) -> std::vec::IntoIter<usize> {
        let path = std::iter::successors(Some(scope), |&at| self.outer(at));
        path.collect::<Vec<_>>().into_iter()
    }

    fn outer(&self, scope: usize) -> Option<usize> {
        let scope = &self.scopes[scope];
        scope.parent.filter(|_| scope.border != Border::Shield)
    }

    /// The same, and on from a task to who awaits it.
    fn outer_wide(&self, scope: usize) -> Option<usize> {
        let awaited = self.scopes[scope].awaited;
        self.outer(scope)
            .or_else(|| awaited.map(|leaf| self.leaves[leaf].scope))
    }

    fn is_within(&self, inner: usize, outer: usize) -> bool {
        self.path(inner).any(|at| at == outer)
    }

    /// The innermost account, which holds for all that is further out, or where the path ends.
    fn account(&self, scope: usize) -> usize {
        let mut path = self.path(scope);
        path.find(|&at| self.scopes[at].border == Border::Account || self.outer(at).is_none())
            .expect("a path has an end")
    }

    /// What an await in `scope` would return.
    fn pending(&self, scope: usize) -> Option<Ask> {
        let Scope {
            heard,
            maybe,
            began,
            border,
            ..
        } = self.scopes[self.account(scope)];
        let heard = if border == Border::Account {
            heard.max(began)
        } else {
            heard
        };
        // Requests are made to tasks.
        let ask = self.path(scope).find_map(|at| self.scopes[at].last)?;
        (ask.number > heard).then_some(Ask {
            sure: ask.sure && ask.number > maybe,
            ..ask
        })
    }

    /// Whether something that gives no reason may have stopped what is in a scope.
    fn may_be_unnamed(&self, scope: Option<usize>, now: Instant) -> bool {
        let Some(scope) = scope else { return false };
        self.asks_unnamed(scope, now)
            || self.may_be_stopped_by_group(scope, now)
            || self.may_be_unnamed(self.outer_wide(scope), now)
    }

    fn may_be_stopped_by_group(&self, task: usize, now: Instant) -> bool {
        let Some(group) = self.scopes[task].group else {
            return false;
        };
        let at = &self.scopes[group];
        let asked = at.waits
            && (self.is_asked(group).is_some() || self.may_be_unnamed(self.outer(group), now));
        at.stops.get() || !at.open || asked
    }

    /// Whether that may have been a request to the task itself: of those to one task the last one
    /// is returned, also if it has no reason.
    fn may_be_unnamed_task(&self, scope: usize, now: Instant) -> bool {
        let root = self.path(scope).last().expect("a path has a beginning");
        let task = &self.scopes[root];
        let from = task.awaited.map(|leaf| self.leaves[leaf].scope);
        task.border == Border::Root
            && (task.stops.get()
                || self.may_be_stopped_by_group(root, now)
                || self.may_be_unnamed(from, now))
    }

    /// Whether what gives no reason may have taken that of a request which a task was using up.
    fn may_be_copied(&self, scope: usize, reason: u32, now: Instant) -> bool {
        let mut path = self.path(scope);
        if path.any(|at| self.scopes[at].copied.contains(&reason))
            && self.may_be_unnamed(Some(scope), now)
        {
            return true;
        }
        let root = self.path(scope).last().expect("a path has a beginning");
        let Some(leaf) = self.scopes[root].awaited else {
            return false;
        };
        let from = self.leaves[leaf].scope;
        let mut path = self.path(from);
        if path.any(|at| self.scopes[at].passed_on.contains(&reason)) {
            return true;
        }
        let is_pending = |ask: Ask| ask.reason == Some(reason);
        self.may_be_unnamed(Some(from), now) && self.pending(from).is_some_and(is_pending)
            || self.may_be_copied(from, reason, now)
    }

    /// Those that what asks at a scope, and has none of its own, may have taken.
    fn reasons(&self, scope: usize) -> Vec<u32> {
        let mut reasons = Vec::new();
        let mut outer = Some(scope);
        while let Some(at) = outer {
            reasons.extend(&self.scopes[at].copied);
            reasons.extend(self.pending(at).and_then(|ask| ask.reason));
            outer = self.outer_wide(at);
        }
        reasons
    }

    /// Whether a request from further out came after a scope began.
    fn is_asked(&self, scope: usize) -> Option<Ask> {
        let Scope { began, maybe, .. } = self.scopes[scope];
        let mut outer = self.path(self.outer(scope)?);
        let ask = outer.find_map(|at| self.scopes[at].last)?;
        (ask.number > began).then_some(Ask {
            sure: ask.sure && ask.number > maybe,
            ..ask
        })
    }

    // ---- requests ----

    pub(super) fn request(
        &mut self,
        scope: usize,
        reason: Option<u32>,
        sure: bool,
        now: Instant,
    ) -> u64 {
        self.requests += 1;
        let ask = Ask {
            number: self.requests,
            reason,
            sure,
        };
        self.note(format_args!("request {ask:?} at {scope}"));
        self.made
            .extend(reason.map(|reason| (reason, scope, ask.number)));
        self.any_unnamed |= reason.is_none();
        let inside: Vec<usize> = (0..self.scopes.len())
            .filter(|&at| self.scopes[at].open && self.is_within(at, scope))
            .collect();
        self.scopes[scope].last = Some(ask);
        for at in inside {
            if self.scopes[at].waits {
                self.hears_as_group(at);
            }
        }
        for at in 0..self.leaves.len() {
            if !self.leaves[at].over && self.is_within(self.leaves[at].scope, scope) {
                self.hit(at, ask, now);
            }
        }
        ask.number
    }

    fn hit(&mut self, leaf: usize, ask: Ask, now: Instant) {
        let &Leaf {
            wait, event_set, ..
        } = &self.leaves[leaf];
        let has_no_result = match wait {
            Wait::Yield => return,
            Wait::Task(task) => {
                self.tells_of_task(task, self.leaves[leaf].scope);
                let number = self.request(task, ask.reason, ask.sure, now);
                self.leaves[leaf].forwarded.push((ask, number));
                return;
            }
            Wait::Sleep(due) => self.sim && due > now,
            Wait::Read(pipe) => self.sim && !self.stubborn && self.given[pipe] == self.taken[pipe],
            Wait::Lock(lock) => self.held[lock],
            Wait::Event(_) => !event_set,
        };
        let round = self.round;
        let leaf = &mut self.leaves[leaf];
        leaf.hits.push(ask);
        if ask.sure {
            leaf.hit_in.get_or_insert(round);
            leaf.must_stop |= has_no_result;
        }
    }

    pub(super) fn uncancel(&mut self, scope: usize) {
        self.note(format_args!("uncancel {scope}"));
        // An await that was under way returns it, without its reason.
        self.scopes[scope].stops.set(true);
        self.any_unnamed = true;
        self.made.retain(|&(_, at, _)| at != scope);
        let last = self.scopes[scope].last.take();
        // Known: who awaits the task, and passed this request on, does not get to know if one that the
        // task awaits has used it up.
        if let Some(ask) = last {
            self.scopes[scope].retracted = ask.number;
        }
        self.scopes[scope]
            .copied
            .extend(last.and_then(|ask| ask.reason));
    }

    /// Requests up to `number` are used up.
    fn delivered(&mut self, scope: usize, number: u64) {
        let account = self.account(scope);
        let now = now();
        for at in 0..self.scopes.len() {
            let used_up = self.pending(at).filter(|ask| ask.number <= number);
            if let Some(ask) = used_up
                && self.account(at) == account
                && self.may_be_unnamed(Some(at), now)
            {
                self.scopes[at].passed_on.extend(ask.reason);
            }
        }
        for at in self.path(scope) {
            let heard = &mut self.scopes[at].heard_here;
            *heard = number.max(*heard);
            if at == account {
                break;
            }
        }
        let heard = &mut self.scopes[account].heard;
        *heard = number.max(*heard);
    }

    /// What is pending is used up.
    fn takes_pending(&mut self, scope: usize) {
        if let Some(ask) = self.pending(scope) {
            self.delivered(scope, ask.number);
        }
    }

    /// They may be, where the program cannot see it.
    fn may_be_delivered(&mut self, scope: usize, number: u64) {
        let account = self.account(scope);
        let maybe = &mut self.scopes[account].maybe;
        *maybe = number.max(*maybe);
    }

    /// An await has been stopped.
    fn tells(&mut self, scope: usize) {
        let account = self.account(scope);
        let limits: Vec<usize> = self
            .path(scope)
            .filter(|&at| self.scopes[at].limit == Some(Duration::ZERO))
            .collect();
        let told = &mut self.scopes[account].told;
        told.extend(limits);
        told.insert(account);
    }

    /// One that has heard in a task has heard of what came from who awaits it.
    fn tells_of_task(&mut self, task: usize, scope: usize) {
        if self.scopes[task].told.contains(&task) {
            self.tells(scope);
        }
    }

    /// What was told in an account is told outside.
    fn settle_told(&mut self, account: usize, outer: usize) {
        let told = self.scopes[account].told.clone();
        if told.contains(&account) {
            self.tells(outer);
        }
        let outer = self.account(outer);
        self.scopes[outer].told.extend(told);
    }

    /// What is pending may be used up.
    fn may_be_heard(&mut self, scope: usize) {
        self.tells(scope);
        if let Some(ask) = self.pending(scope) {
            self.may_be_delivered(scope, ask.number);
        }
    }

    /// An account closes: what was heard in there shows outside.
    pub(super) fn settle(&mut self, account: usize) {
        let Scope { heard, maybe, .. } = self.scopes[account];
        let outer = self.outer(account).expect("it is in a task");
        self.delivered(outer, heard);
        self.may_be_delivered(outer, maybe);
        self.settle_told(account, outer);
    }

    /// The future in a scope is over, or gone.
    pub(super) fn close(&mut self, scope: usize) {
        self.note(format_args!("scope {scope} ends"));
        self.scopes[scope].open = false;
    }

    /// Whether a limit, or a sibling, may have asked at a scope itself.
    fn asks_unnamed(&self, scope: usize, now: Instant) -> bool {
        let at = &self.scopes[scope];
        at.stops.get() || self.has_passed(scope, now)
    }

    fn has_passed(&self, scope: usize, now: Instant) -> bool {
        let Scope {
            limit, began_at, ..
        } = self.scopes[scope];
        limit.is_some_and(|limit| now >= began_at + limit)
    }

    // ---- awaits ----

    pub(super) fn start(&mut self, scope: usize, wait: Wait, now: Instant) -> usize {
        let leaf = self.leaves.len();
        let pending = self.pending(scope);
        self.leaves.push(Leaf {
            scope,
            wait,
            began_at: now,
            over: false,
            pending,
            hits: Vec::new(),
            hit_in: None,
            must_stop: false,
            event_set: false,
            forwarded: Vec::new(),
        });
        self.note(format_args!(
            "await {leaf} {wait:?} in {scope}, pending {pending:?}"
        ));
        if let Wait::Task(task) = wait {
            self.scopes[task].awaited = Some(leaf);
            if let Some(ask) = pending {
                self.hit(leaf, ask, now);
            }
        }
        leaf
    }

    /// Its first poll did not end it.
    pub(super) fn waits(&mut self, leaf: usize) {
        if matches!(self.leaves[leaf].wait, Wait::Task(_)) {
            return;
        }
        self.looks(leaf);
    }

    /// It began, and was not stopped: nothing can have been pending (C2, C7).
    fn looks(&mut self, leaf: usize) {
        let scope = self.leaves[leaf].scope;
        if let Some(ask) = self.leaves[leaf].pending.filter(|ask| ask.sure) {
            self.fault(format_args!(
                "C2 lost: await {leaf} began with {ask:?} pending"
            ));
        }
        let told = &self.scopes[self.account(scope)].told;
        let is_zero = |at: usize| self.scopes[at].limit == Some(Duration::ZERO);
        let passed = self
            .path(scope)
            .any(|at| is_zero(at) && !told.contains(&at));
        if passed {
            self.fault(format_args!("C7: await {leaf} began in a limit of zero"));
        }
        self.takes_pending(scope);
    }

    pub(super) fn end(&mut self, leaf: usize, at_once: bool, outcome: Outcome, now: Instant) {
        let &Leaf { scope, wait, .. } = &self.leaves[leaf];
        self.leaves[leaf].over = true;
        self.note(format_args!("await {leaf}: {outcome:?}, at once {at_once}"));
        if let Wait::Task(task) = wait {
            return self.end_of_task(leaf, task, now);
        }
        match outcome {
            Outcome::Done => {
                if at_once {
                    self.looks(leaf);
                }
                if self.leaves[leaf].must_stop {
                    self.fault(format_args!(
                        "C2 lost: await {leaf} was asked before it had its result, and gave that"
                    ));
                }
            }
            Outcome::Stopped(reason) => {
                self.tells(scope);
                self.stopped(leaf, at_once, reason, now);
            }
            Outcome::TimedOut | Outcome::Failed => {
                self.fault(format_args!("await {leaf} ended with {outcome:?}"));
            }
        }
    }

    /// An await returned a request: which one?
    fn stopped(&mut self, leaf: usize, at_once: bool, reason: Option<u32>, now: Instant) {
        let scope = self.leaves[leaf].scope;
        let Leaf { pending, hits, .. } = &self.leaves[leaf];
        // What was made last wins; it may be one that was used up elsewhere meanwhile.
        let ask = if at_once {
            *pending
        } else {
            hits.last().copied()
        };
        let is_found = ask.is_some_and(|ask| ask.reason == reason);
        match reason {
            _ if is_found => {}
            Some(reason) if self.may_be_copied(scope, reason, now) => {}
            Some(reason) => self.fault(format_args!(
                "C2 twice: await {leaf} returned {reason}, and was asked {ask:?}"
            )),
            None if !self.may_be_unnamed(Some(scope), now) => self.fault(format_args!(
                "C2 twice: await {leaf} was stopped by nobody, and was asked {ask:?}"
            )),
            // What stopped it came later than what it was asked, and is returned for both.
            None => {
                let is_lost = self.pending(scope).is_some_and(|ask| {
                    ask.sure
                        && !self.may_be_unnamed_task(scope, now)
                        && !self.is_used_up_by_task(scope, ask)
                });
                if is_lost && ask.is_some() {
                    self.fault(format_args!(
                        "C8: await {leaf} was stopped, and gives no reason: it was asked {ask:?}"
                    ));
                }
            }
        }
        if let Some(ask) = ask {
            self.delivered(scope, ask.number);
        }
        if at_once {
            self.takes_pending(scope);
        }
    }

    /// Whether a task has used up a request that is awaited in the account of `scope`, and has not
    /// given what it came to.
    fn is_used_up_by_task(&self, scope: usize, ask: Ask) -> bool {
        let account = self.account(scope);
        self.leaves.iter().any(|leaf| {
            let Wait::Task(task) = leaf.wait else {
                return false;
            };
            let heard = self.scopes[task].heard;
            let mut forwarded = leaf.forwarded.iter();
            !leaf.over
                && self.account(leaf.scope) == account
                && forwarded.any(|&(of, made)| of.number >= ask.number && made <= heard)
        })
    }

    /// What the task has used up is used up here too (C7).
    fn end_of_task(&mut self, leaf: usize, task: usize, now: Instant) {
        let Leaf {
            scope, forwarded, ..
        } = &self.leaves[leaf];
        let scope = *scope;
        let Scope {
            heard,
            maybe,
            retracted,
            ..
        } = self.scopes[task];
        let latest = |numbers: RangeInclusive<u64>| {
            let used = forwarded.iter().filter(|(_, made)| numbers.contains(made));
            used.map(|&(ask, _)| ask).max_by_key(|ask| ask.number)
        };
        let last = latest(retracted + 1..=heard);
        let may_be_last = latest(0..=maybe.max(retracted));
        self.scopes[task].awaited = None;
        self.tells_of_task(task, scope);
        if let Some(ask) = may_be_last {
            self.may_be_delivered(scope, ask.number);
        }
        let Some(ask) = last else { return };
        self.delivered(scope, ask.number);
        if self.may_be_unnamed(Some(scope), now) {
            for at in self.path(scope) {
                self.scopes[at].copied.extend(ask.reason);
            }
        }
    }

    /// The future of an await is gone.
    pub(super) fn dropped(&mut self, leaf: usize) {
        self.leaves[leaf].over = true;
        self.note(format_args!("await {leaf} dropped"));
        if let Wait::Task(task) = self.leaves[leaf].wait {
            // What has reached it without a reason is there. (No clock: the runtime may be gone.)
            let reasons = self.reasons(self.leaves[leaf].scope);
            self.scopes[task].copied.extend(reasons);
            self.scopes[task].awaited = None;
            self.scopes[task].stops.set(true);
        }
    }

    // ---- limits and groups ----

    pub(super) fn end_of_limit(
        &mut self,
        scope: usize,
        body: Option<Outcome>,
        outcome: Outcome,
        late: bool,
    ) {
        self.note(format_args!(
            "limit {scope}: {body:?} as {outcome:?}, late {late}"
        ));
        let now = now();
        let limit = self.scopes[scope].limit.expect("it is one");
        let end = self.scopes[scope].began_at + limit;
        let asked = self.is_asked(scope);
        // One that nobody in there has heard of has stopped nothing in there.
        let heard = self.scopes[scope].heard_here;
        let is_heard = |ask: Ask| ask.sure && ask.number <= heard;
        let Some(body) = body else {
            return self.fault(format_args!("C5: the body of limit {scope} was dropped"));
        };
        if late || outcome == Outcome::TimedOut && body != outcome {
            if now < end {
                self.fault(format_args!("C8: limit {scope} timed out early"));
            }
            if asked.is_some_and(is_heard) {
                self.fault(format_args!("C8: limit {scope} timed out, and was asked"));
            }
            if let Outcome::Stopped(Some(reason)) = body {
                let outer = self.outer(scope).into_iter();
                let outer: Vec<_> = outer.flat_map(|at| self.path(at)).collect();
                let Scope { began, maybe, .. } = self.scopes[scope];
                let began = began.max(maybe);
                // Known: one that was heard of elsewhere too, and after which there came another before
                // a task that is awaited here gave what it heard of it.
                let is_last = |at: usize| self.scopes[at].last.and_then(|ask| ask.reason);
                let from_outside = self.made.iter().any(|&(made, at, number)| {
                    made == reason
                        && number > began
                        && outer.contains(&at)
                        && is_last(at) == Some(reason)
                });
                if from_outside {
                    self.fault(format_args!("C8: limit {scope} hides the request {reason}"));
                }
            }
        } else if outcome != body {
            self.fault(format_args!("limit {scope} made {outcome:?} of {body:?}"));
        }
        // Somebody further out has asked too, so that it is no time-out: and it has no reason.
        self.any_unnamed |= outcome == Outcome::Stopped(None) && asked.is_some();
        if outcome == Outcome::Stopped(None)
            && asked.is_none()
            && !self.any_unnamed
            && !self.may_be_unnamed(self.outer(scope), now)
        {
            self.fault(format_args!(
                "C8: limit {scope} passed, and was not said to"
            ));
        }
    }

    /// The body of a group is over.
    pub(super) fn group_waits(&mut self, group: usize) {
        if self.has_members(group) {
            self.scopes[group].waits = true;
            self.hears_as_group(group);
        }
    }

    fn has_members(&self, group: usize) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| scope.open && scope.group == Some(group))
    }

    /// A group waits for its tasks, as long as there are any: it hears of what is pending.
    fn hears_as_group(&mut self, group: usize) {
        if self.has_members(group) {
            self.tells(group);
            if let Some(ask) = self.pending(group).filter(|ask| ask.sure) {
                self.scopes[group].interrupted = ask.number;
            }
            self.takes_pending(group);
        } else {
            // The wait may have been stopped before by what has no reason, and says so later.
            self.may_be_heard(group);
        }
    }

    /// Somebody failed in a group, or not.
    pub(super) fn end_of_group(&mut self, group: usize, failed: bool, outcome: Outcome) {
        self.note(format_args!("group {group}: {outcome:?}, failed {failed}"));
        if failed {
            return;
        }
        let is_asked = self.scopes[group].interrupted > 0;
        if is_asked && !matches!(outcome, Outcome::Stopped(_)) {
            self.fault(format_args!(
                "C2 lost: group {group} was asked, and does not say so"
            ));
        }
        self.settle(group);
    }

    // ---- what must not last ----

    /// The loop has slept: what was asked before that is over.
    pub(super) fn slept(&mut self, now: Instant) {
        self.round += 1;
        if !self.sim {
            return;
        }
        let mut overdue = None;
        for (at, leaf) in self.leaves.iter().enumerate() {
            let is_ours = !matches!(leaf.wait, Wait::Yield | Wait::Task(_));
            let is_stubborn = matches!(leaf.wait, Wait::Read(_)) && self.stubborn;
            if leaf.over || !is_ours || is_stubborn {
                continue;
            }
            if leaf.hit_in.is_some_and(|round| round + 1 < self.round) {
                overdue = Some((at, "was asked, and waits"));
            }
            let mut scopes = std::iter::successors(Some(leaf.scope), |&at| self.outer_wide(at));
            let passed = scopes.any(|at| {
                let scope = &self.scopes[at];
                scope.limit.is_some_and(|limit| {
                    let due = scope.began_at + limit;
                    leaf.began_at < due && now > due + scope.late + self.tick
                })
            });
            if passed {
                overdue = Some((at, "is in a limit that has passed, and waits"));
            }
        }
        if let Some((at, text)) = overdue {
            self.fault(format_args!("hang: await {at} {text}"));
        }
    }

    pub(super) fn set(&mut self, event: usize) {
        for leaf in &mut self.leaves {
            leaf.event_set |= leaf.wait == Wait::Event(event);
        }
    }

    pub(super) fn give(&mut self, pipe: usize, bytes: usize) {
        self.given[pipe] += bytes;
        for leaf in &mut self.leaves {
            leaf.must_stop &= leaf.wait != Wait::Read(pipe);
        }
    }

    /// Whether bytes are in a pipe.
    pub(super) fn is_left(&self, pipe: usize) -> bool {
        self.given[pipe] > self.taken[pipe]
    }

    /// The loop is late.
    pub(super) fn advanced(&mut self, span: Duration) {
        for scope in &mut self.scopes {
            scope.late += span;
        }
        for leaf in &mut self.leaves {
            leaf.must_stop &= !matches!(leaf.wait, Wait::Sleep(_));
        }
    }
}
