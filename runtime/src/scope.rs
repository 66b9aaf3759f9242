//! Scopes: what a deadline or a cancel request covers.
//!
//! A task has a root scope, made when something registers under it; `wait_for` and `timeout` open
//! children. The scope that is being polled is a number in the thread-local structure, set around
//! each poll, so it reaches every leaf below, through any combinator. Scopes and leaves name each
//! other by number: nothing points into a future (R13).
//!
//! # Requests
//!
//! A request to stop has a number, counted over the runtime. It hits the leaves that are there
//! (`Core::hit`) and stays `pending` in its scope until an await returns it; an await that starts
//! while one is pending returns it at once (C2, C7). A leaf that had completed keeps its result
//! (C1).

use std::collections::BTreeMap;
use std::mem::take;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::Instant;
use crate::current::NO_TASK;
use crate::op::INDEX_MAX;
use crate::op::table::{NO_SLOT, room_to_add};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScopeIndex(u32);

impl ScopeIndex {
    pub(crate) const NONE: Self = Self(u32::MAX);
    /// The scope that is being polled is not made before something registers under it. There is
    /// one at a time: another one inside of it makes it.
    pub(crate) const LAZY: Self = Self(u32::MAX - 1);

    /// Whether it names a scope that there is.
    pub(crate) const fn is_made(self) -> bool {
        self.0 < Self::LAZY.0
    }

    /// The scope, if it is one.
    const fn made(self) -> Option<Self> {
        if self.is_made() { Some(self) } else { None }
    }

    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// Names a scope for whoever opened it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScopeKey {
    pub(crate) index: ScopeIndex,
    pub(crate) generation: u32,
}

impl ScopeKey {
    pub(crate) const NONE: Self = Self {
        index: ScopeIndex::NONE,
        generation: 0,
    };
}

/// When a scope's time is up, in one word: a moment, or with the top bit a span that is not yet
/// counted from, since nobody has had to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Self = Self(u64::MAX);
    /// 292 years.
    const SPAN: u64 = 1 << 63;

    pub(crate) const fn after(span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos < Self::SPAN as u128 {
            Self(Self::SPAN | nanos as u64)
        } else {
            Self::NEVER
        }
    }

    pub(crate) const fn at(moment: Instant) -> Self {
        if moment.as_nanos() < Self::SPAN {
            Self(moment.as_nanos())
        } else {
            Self::NEVER
        }
    }

    /// Whether it need not be looked at before somebody has to wait.
    pub(crate) const fn can_wait(self) -> bool {
        self.0 > Self::SPAN
    }

    /// A span of zero: it has passed at once.
    pub(crate) const fn is_zero(self) -> bool {
        self.0 == Self::SPAN
    }

    pub(crate) const fn moment(self) -> Option<Instant> {
        if self.0 < Self::SPAN {
            Some(Instant::from_nanos(self.0))
        } else {
            None
        }
    }

    /// The moment; a span counts from `now` on.
    pub(crate) fn count(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.0 >= Self::SPAN && *self != Self::NEVER {
            *self = Self::at(now() + Duration::from_nanos(self.0 & !Self::SPAN));
        }
        self.moment()
    }
}

/// What requests from further out meet where a scope begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Border {
    /// They are for what is in there as for what is around it.
    Open,
    /// They stop, as deadlines do: the first await behind the scope hears of them.
    Shield,
    /// One of several branches that are awaited at once: each has its copy of a request, which it
    /// uses up alone. A request that is made at a branch itself is its siblings': it leaves tasks
    /// running that are awaited in there.
    Branch,
}

pub(crate) struct Scope {
    /// Counts the scopes that this place has had.
    generation: u32,
    /// Of a place that is vacant: the next vacant one.
    pub(crate) parent: ScopeIndex,
    first_child: ScopeIndex,
    previous_sibling: ScopeIndex,
    next_sibling: ScopeIndex,
    /// The list of leaves, through the slots.
    pub(crate) first_leaf: u32,
    /// The list of tasks that are awaited here, through their headers.
    pub(crate) first_join: u32,
    /// What it has as one that is timed or was asked, by index in `Scopes::cold`.
    cold: u32,
}

// A task that waits for anything has a scope.
const _: () = assert!(size_of::<Scope>() == 32);

/// What a scope has that has a deadline, or was asked to stop.
pub(crate) struct Cold {
    pub(crate) deadline: Deadline,
    border: Border,
    /// The deadline may be moved: no operation carries it into the kernel.
    pub(crate) movable: bool,
    /// A branch that its siblings asked when a request from further out was pending in it: what is
    /// pending is for tasks as well.
    merged: bool,
    /// The deadline has passed and the request is made.
    pub(crate) fired: bool,
    /// How many requests there had been when its body was last polled once more, for what was done
    /// and not fetched.
    pub(crate) nudged: u64,
    /// Waits for the loop to be about to sleep, to arm its timer.
    pub(crate) arming: bool,
    /// The heap has an entry for its deadline.
    pub(crate) armed: bool,
    /// The operation whose linked timeout has this deadline. Of a place that is vacant: the next
    /// vacant one.
    pub(crate) carrier: u32,
    /// The last request that no await has returned; 0 is none.
    pending: u64,
    /// The last request made here, and the one before it.
    last_request: u64,
    before_last: u64,
    /// The last one that an await returned under it, made here or further out.
    heard: u64,
    /// A task's root: the last that was forwarded to the task by who awaits it.
    forwarded: u64,
    /// The awaiter's last request that the task had used up when there came another one.
    heard_cause: u64,
    /// The last request made anywhere when this scope began.
    began: u64,
    /// A task's root: how often that was asked to stop, less what was taken back.
    cancelling: u32,
    /// Who polls it, for when it fires with no leaf to wake.
    pub(crate) waker: Option<Waker>,
}

const NO_COLD: u32 = u32::MAX;

/// The scopes, in one block that grows, as the slots are.
pub(crate) struct Scopes {
    scopes: Vec<Scope>,
    vacant: ScopeIndex,
    used: usize,
    cold: Vec<Cold>,
    vacant_cold: u32,
    requests: u64,
    /// Scopes that have a deadline, and scopes in which a request is pending: while there are
    /// none nobody looks for one.
    timed: usize,
    asked: usize,
    /// Of the requests that have one.
    reasons: BTreeMap<u64, Rc<str>>,
}

impl Scopes {
    pub(crate) const fn new() -> Self {
        Self {
            scopes: Vec::new(),
            vacant: ScopeIndex::NONE,
            used: 0,
            cold: Vec::new(),
            vacant_cold: NO_COLD,
            requests: 0,
            timed: 0,
            asked: 0,
            reasons: BTreeMap::new(),
        }
    }

    /// Opens a scope below `parent`. Its deadline may have passed already: then the request is
    /// pending from the start.
    pub(crate) fn open(
        &mut self,
        parent: ScopeIndex,
        deadline: Deadline,
        border: Border,
    ) -> ScopeKey {
        self.used += 1;
        if self.vacant == ScopeIndex::NONE {
            self.grow();
        }
        let index = self.vacant;
        // What is not written here was left so when the place became vacant.
        let scope = self.at(index);
        let vacant = scope.parent;
        let generation = scope.generation;
        self.vacant = vacant;
        self.link(index, parent);
        if deadline != Deadline::NEVER || border != Border::Open || self.asked > 0 {
            self.timed += usize::from(deadline != Deadline::NEVER);
            let asked = self.first_pending(parent);
            let cold = self.cold(index);
            cold.deadline = deadline;
            cold.border = border;
            if let Some(number) = asked {
                // Not before this scope: nobody has heard of it, and what is below here may.
                cold.began = number - 1;
            }
            if border == Border::Branch
                && let Some(number) = self.last_pending(parent)
            {
                self.ask(index, number);
            }
        }
        ScopeKey { index, generation }
    }

    #[cold]
    fn grow(&mut self) {
        let index = self.scopes.len();
        assert!(index <= INDEX_MAX as usize, "more than 2^28 scopes");
        if index == self.scopes.capacity() {
            self.scopes.reserve_exact(room_to_add(index));
        }
        self.scopes.push(Scope {
            generation: 0,
            parent: ScopeIndex::NONE,
            first_child: ScopeIndex::NONE,
            previous_sibling: ScopeIndex::NONE,
            next_sibling: ScopeIndex::NONE,
            first_leaf: NO_SLOT,
            first_join: NO_TASK,
            cold: NO_COLD,
        });
        self.vacant = ScopeIndex(index as u32);
    }

    /// What a scope has as one that is timed or asked. It has that from here on.
    #[inline]
    pub(crate) fn cold(&mut self, index: ScopeIndex) -> &mut Cold {
        let mut at = self.at(index).cold;
        if at == NO_COLD {
            at = self.open_cold();
            self.at(index).cold = at;
        }
        &mut self.cold[at as usize]
    }

    /// The same, if it has any.
    pub(crate) fn cold_of(&self, index: ScopeIndex) -> Option<&Cold> {
        self.cold.get(self.scopes[index.0 as usize].cold as usize)
    }

    #[inline(never)]
    fn open_cold(&mut self) -> u32 {
        let began = self.requests;
        let at = self.vacant_cold;
        if let Some(cold) = self.cold.get_mut(at as usize) {
            self.vacant_cold = cold.carrier;
            // What is not written here was left so when the place became vacant.
            cold.border = Border::Open;
            cold.movable = false;
            cold.merged = false;
            cold.fired = false;
            cold.nudged = 0;
            cold.arming = false;
            cold.carrier = NO_SLOT;
            cold.last_request = 0;
            cold.before_last = 0;
            cold.heard = 0;
            cold.forwarded = 0;
            cold.heard_cause = 0;
            cold.cancelling = 0;
            cold.began = began;
            return at;
        }
        if self.cold.len() == self.cold.capacity() {
            self.cold.reserve_exact(room_to_add(self.cold.len()));
        }
        self.cold.push(Cold {
            deadline: Deadline::NEVER,
            border: Border::Open,
            movable: false,
            merged: false,
            fired: false,
            nudged: 0,
            arming: false,
            armed: false,
            carrier: NO_SLOT,
            pending: 0,
            last_request: 0,
            before_last: 0,
            heard: 0,
            forwarded: 0,
            heard_cause: 0,
            cancelling: 0,
            began,
            waker: None,
        });
        self.cold.len() as u32 - 1
    }

    /// Ends what it has as one that is timed or asked. Gives its waker.
    fn close_cold(&mut self, index: ScopeIndex) -> Option<Waker> {
        let at = std::mem::replace(&mut self.at(index).cold, NO_COLD);
        let cold = self.cold.get_mut(at as usize)?;
        debug_assert!(!cold.armed, "a scope ends with its timer");
        if !self.reasons.is_empty() {
            self.reasons.remove(&cold.last_request);
        }
        self.timed -= usize::from(cold.deadline != Deadline::NEVER);
        self.asked -= usize::from(cold.pending != 0);
        cold.deadline = Deadline::NEVER;
        cold.pending = 0;
        cold.carrier = self.vacant_cold;
        self.vacant_cold = at;
        cold.waker.take()
    }

    /// Closes a scope whose leaves have been handed on, and which has no timer; its children go
    /// to its parent. Gives its waker.
    pub(crate) fn close(&mut self, index: ScopeIndex) -> Option<Waker> {
        let waker = self.close_cold(index);
        self.unlink(index);
        let vacant = self.vacant;
        let scope = self.at(index);
        debug_assert_eq!(scope.first_leaf, NO_SLOT, "a scope ends with leaves");
        debug_assert_eq!(scope.first_join, NO_TASK, "a scope ends with awaited tasks");
        scope.generation = scope.generation.wrapping_add(1);
        let parent = std::mem::replace(&mut scope.parent, vacant);
        let mut child = std::mem::replace(&mut scope.first_child, ScopeIndex::NONE);
        self.used -= 1;
        self.vacant = index;
        while child != ScopeIndex::NONE {
            let next = self.at(child).next_sibling;
            self.link(child, parent);
            child = next;
        }
        waker
    }

    /// Moves a scope below another one: it is polled there now, and begins there anew as far as
    /// requests from further out go (C8).
    pub(crate) fn reattach(&mut self, index: ScopeIndex, parent: ScopeIndex) {
        self.unlink(index);
        self.link(index, parent);
        let began = self
            .first_pending(parent)
            .map_or(self.requests, |number| number - 1);
        let at = self.at(index).cold as usize;
        if let Some(cold) = self.cold.get_mut(at) {
            cold.began = began;
        }
    }

    fn unlink(&mut self, index: ScopeIndex) {
        let scope = self.at(index);
        let (parent, previous, next) = (scope.parent, scope.previous_sibling, scope.next_sibling);
        if previous != ScopeIndex::NONE {
            self.at(previous).next_sibling = next;
        } else if parent != ScopeIndex::NONE {
            debug_assert_eq!(self.at(parent).first_child, index);
            self.at(parent).first_child = next;
        }
        if next != ScopeIndex::NONE {
            self.at(next).previous_sibling = previous;
        }
    }

    fn link(&mut self, index: ScopeIndex, parent: ScopeIndex) {
        let next = match parent {
            ScopeIndex::NONE => ScopeIndex::NONE,
            parent => std::mem::replace(&mut self.at(parent).first_child, index),
        };
        if next != ScopeIndex::NONE {
            self.at(next).previous_sibling = index;
        }
        let scope = self.at(index);
        scope.parent = parent;
        scope.previous_sibling = ScopeIndex::NONE;
        scope.next_sibling = next;
    }

    pub(crate) fn at(&mut self, index: ScopeIndex) -> &mut Scope {
        &mut self.scopes[index.0 as usize]
    }

    /// Whether there still is a scope. (A vacant place has the generation of the next.)
    pub(crate) fn has(&self, key: ScopeKey) -> bool {
        let scope = self.scopes.get(key.index.0 as usize);
        scope.is_some_and(|scope| scope.generation == key.generation)
    }

    /// What the scope of a carrier or a timer has as a timed one, if there still is that scope.
    pub(crate) fn find(&mut self, key: ScopeKey) -> Option<&mut Cold> {
        self.has(key).then(|| self.cold(key.index))
    }

    pub(crate) fn has_fired(&self, key: ScopeKey) -> bool {
        self.has(key) && self.cold_of(key.index).is_some_and(|cold| cold.fired)
    }

    pub(crate) fn key_of(&self, index: ScopeIndex) -> ScopeKey {
        ScopeKey {
            index,
            generation: self.scopes[index.0 as usize].generation,
        }
    }

    /// Whether no request is pending anywhere.
    pub(crate) const fn is_nobody_asked(&self) -> bool {
        self.asked == 0
    }

    /// How many requests have been made.
    pub(crate) const fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) const fn any_timed(&self) -> bool {
        self.timed > 0
    }

    /// Whether no await has anything to look for in a scope.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.timed == 0 && self.asked == 0
    }

    /// Each await looks, from here on.
    pub(crate) const fn stay_loud(&mut self) {
        self.asked += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    /// From `index` outwards, as far as what happens there reaches it: to the next shield.
    fn outwards(&self, index: ScopeIndex) -> impl Iterator<Item = ScopeIndex> {
        std::iter::successors(index.made(), move |&at| self.outer(at).made())
    }

    /// From `index` outwards, through shields as well.
    pub(crate) fn with_parents(&self, index: ScopeIndex) -> impl Iterator<Item = ScopeIndex> {
        std::iter::successors(index.made(), |at| self.scopes[at.0 as usize].parent.made())
    }

    /// Whose requests and deadlines hold for `index` as well.
    fn outer(&self, index: ScopeIndex) -> ScopeIndex {
        if self.is_shield(index) {
            return ScopeIndex::NONE;
        }
        self.scopes[index.0 as usize].parent
    }

    fn border(&self, index: ScopeIndex) -> Border {
        self.cold_of(index).map_or(Border::Open, |cold| cold.border)
    }

    pub(crate) fn is_shield(&self, index: ScopeIndex) -> bool {
        self.border(index) == Border::Shield
    }

    /// Whether it is a branch that its siblings asked to stop.
    pub(crate) fn is_stopped_branch(&self, index: ScopeIndex) -> bool {
        self.is_branch(index) && self.cold_of(index).is_some_and(|cold| cold.fired)
    }

    pub(crate) fn is_branch(&self, index: ScopeIndex) -> bool {
        self.border(index) == Border::Branch
    }

    fn children(&self, index: ScopeIndex) -> impl Iterator<Item = ScopeIndex> {
        let first = self.scopes[index.0 as usize].first_child;
        std::iter::successors(first.made(), move |at| {
            self.scopes[at.0 as usize].next_sibling.made()
        })
    }

    /// Whether a shield is right below `index`.
    pub(crate) fn has_shield(&self, index: ScopeIndex) -> bool {
        self.children(index).any(|child| self.is_shield(child))
    }

    pub(crate) fn is_within(&self, inner: ScopeIndex, outer: ScopeIndex) -> bool {
        self.outwards(inner).any(|index| index == outer)
    }

    /// The nearest deadline that has not fired, from `index` outwards, and whose it is. Spans
    /// begin to count with the first look: `now` is asked for once if there is one.
    pub(crate) fn deadline(
        &mut self,
        index: ScopeIndex,
        mut now: impl FnMut() -> Instant,
    ) -> Option<(Instant, ScopeIndex)> {
        let mut nearest: Option<(Instant, ScopeIndex)> = None;
        let (mut at, mut read) = (index, None);
        while at != ScopeIndex::NONE {
            let Scope { cold, parent, .. } = *self.at(at);
            let mut outer = parent;
            if let Some(cold) = self.cold.get_mut(cold as usize) {
                let counted = cold.deadline.count(|| *read.get_or_insert_with(&mut now));
                if let Some(deadline) = counted
                    && !cold.fired
                    && nearest.is_none_or(|(nearest, _)| deadline <= nearest)
                {
                    nearest = Some((deadline, at));
                }
                if cold.border == Border::Shield {
                    outer = ScopeIndex::NONE;
                }
            }
            at = outer;
        }
        nearest
    }

    /// The earliest deadline from `index` outwards, also one that has passed.
    pub(crate) fn effective_deadline(
        &mut self,
        index: ScopeIndex,
        now: Instant,
    ) -> Option<Instant> {
        let mut earliest = None;
        self.each_cold(index, |cold, _| {
            if let Some(deadline) = cold.deadline.count(|| now) {
                earliest = Some(earliest.map_or(deadline, |other| deadline.min(other)));
            }
        });
        earliest
    }

    /// Moves the deadline of a scope.
    pub(crate) fn set_deadline(&mut self, index: ScopeIndex, deadline: Deadline) {
        let old = std::mem::replace(&mut self.cold(index).deadline, deadline);
        self.timed += usize::from(deadline != Deadline::NEVER);
        self.timed -= usize::from(old != Deadline::NEVER);
    }

    /// Records a new request at `index` and gives its number.
    pub(crate) fn request(&mut self, index: ScopeIndex, reason: Option<Rc<str>>) -> u64 {
        self.requests += 1;
        let number = self.requests;
        let cold = self.cold(index);
        cold.merged = cold.border == Border::Branch && cold.pending != 0;
        self.ask(index, number);
        let cold = self.cold(index);
        let last = std::mem::replace(&mut cold.last_request, number);
        cold.before_last = last;
        self.reasons.remove(&last);
        if let Some(reason) = reason {
            self.reasons.insert(number, reason);
        }
        number
    }

    pub(crate) fn count_cancel(&mut self, root: ScopeIndex) {
        let cold = self.cold(root);
        cold.cancelling = cold.cancelling.saturating_add(1);
    }

    pub(crate) fn cancelling(&self, root: ScopeIndex) -> u32 {
        self.cold_of(root).map_or(0, |cold| cold.cancelling)
    }

    /// Takes a request to a task back. With none left, what is pending is dropped.
    pub(crate) fn uncancel(&mut self, root: ScopeIndex) -> u32 {
        let cold = self.cold(root);
        cold.cancelling = cold.cancelling.saturating_sub(1);
        let left = cold.cancelling;
        if left == 0 {
            let number = take(&mut cold.pending);
            let last = take(&mut cold.last_request);
            self.asked -= usize::from(number != 0);
            self.reasons.remove(&last);
            // And the copies of it.
            for at in self.from(root) {
                if number != 0 && self.is_branch(at) && self.cold(at).pending == number {
                    self.cold(at).pending = 0;
                    self.asked -= 1;
                }
            }
        }
        left
    }

    /// The last request to a task came from who awaits it, whose `cause` before that was this.
    pub(crate) fn note_forwarded(&mut self, root: ScopeIndex, cause: u64) {
        let cold = self.cold(root);
        let before = std::mem::replace(&mut cold.forwarded, cold.last_request);
        if before != 0 && cold.heard >= before {
            cold.heard_cause = cause;
        }
    }

    /// The awaiter's last request that a task has used up, of which `cause` is the last one.
    pub(crate) fn heard_cause(&self, root: ScopeIndex, cause: u64) -> u64 {
        match self.cold_of(root) {
            None => 0,
            Some(cold) if cold.forwarded != 0 && cold.heard >= cold.forwarded => cause,
            Some(cold) => cold.heard_cause,
        }
    }

    /// Whether a task was asked to stop, and an await has returned that.
    pub(crate) fn has_heard_last(&self, root: ScopeIndex) -> bool {
        let cold = self.cold_of(root);
        cold.is_some_and(|cold| cold.cancelling > 0 && cold.heard >= cold.last_request)
    }

    /// That of the outermost request that is pending from `index` outwards and has one.
    pub(crate) fn pending_reason(&self, index: ScopeIndex) -> Option<Rc<str>> {
        if self.reasons.is_empty() {
            return None;
        }
        self.all_pending(index)
            .filter_map(|number| self.reason(number))
            .last()
    }

    pub(crate) fn reason(&self, number: u64) -> Option<Rc<str>> {
        self.reasons.get(&number).cloned()
    }

    /// A request is pending at `index` from here on.
    pub(crate) fn ask(&mut self, index: ScopeIndex, number: u64) {
        let cold = self.cold(index);
        let first = cold.pending == 0;
        cold.pending = number;
        self.asked += usize::from(first);
    }

    /// Who polls a scope, if that is to be woken.
    pub(crate) fn take_waker(&mut self, index: ScopeIndex) -> Option<Waker> {
        let at = self.scopes[index.0 as usize].cold as usize;
        self.cold.get_mut(at)?.waker.take()
    }

    /// All scopes from `index` downwards, but for shields and what is below them. Most have none
    /// below, and then nothing is allocated.
    pub(crate) fn from(&self, index: ScopeIndex) -> impl Iterator<Item = ScopeIndex> + use<> {
        let below = if self.scopes[index.0 as usize].first_child == ScopeIndex::NONE {
            Vec::new()
        } else {
            self.subtree(index)
        };
        std::iter::once(index).chain(below.into_iter().skip(1))
    }

    fn subtree(&self, index: ScopeIndex) -> Vec<ScopeIndex> {
        let mut all = vec![index];
        let mut seen = 0;
        while let Some(&parent) = all.get(seen) {
            all.extend(
                self.children(parent)
                    .filter(|&child| !self.is_shield(child)),
            );
            seen += 1;
        }
        all
    }

    /// The first task that is awaited in a scope, if that is still there.
    pub(crate) fn first_join(&mut self, key: ScopeKey) -> Option<u32> {
        self.has(key).then(|| self.at(key.index).first_join)
    }

    /// Whether nothing is below `index` but a list of leaves that begins with `leaf`.
    pub(crate) fn has_only(&self, index: ScopeIndex, leaf: u32) -> bool {
        let scope = &self.scopes[index.0 as usize];
        scope.first_leaf == leaf
            && scope.first_child == ScopeIndex::NONE
            && scope.first_join == NO_TASK
    }

    /// The last request made at `index`; 0 is none.
    pub(crate) fn last_request(&self, index: ScopeIndex) -> u64 {
        self.cold_of(index).map_or(0, |cold| cold.last_request)
    }

    /// Whether the request `number` was made at `index` or further out, and is one of the last two
    /// there.
    pub(crate) fn is_late_from_above(&self, index: ScopeIndex, number: u64) -> bool {
        let mut colds = self.outwards(index).filter_map(|at| self.cold_of(at));
        colds.any(|cold| [cold.last_request, cold.before_last].contains(&number))
    }

    /// Whether the request `number` was made at `index` or further out, and is the last one there.
    pub(crate) fn is_from_above(&self, index: ScopeIndex, number: u64) -> bool {
        self.outwards(index)
            .any(|at| self.last_request(at) == number)
    }

    /// Whether a request is pending in `index` itself.
    pub(crate) fn is_asked(&self, index: ScopeIndex) -> bool {
        self.cold_of(index).is_some_and(|cold| cold.pending != 0)
    }

    /// The request that is pending from `index` outwards, if there is one.
    pub(crate) fn pending(&self, index: ScopeIndex) -> Option<u64> {
        let colds = self.outwards(index).filter_map(|at| self.cold_of(at));
        let mut pending = colds.map(|cold| cold.pending);
        pending.find(|&number| number != 0)
    }

    /// The earliest request that is pending from `index` outwards.
    fn first_pending(&self, index: ScopeIndex) -> Option<u64> {
        self.all_pending(index).min()
    }

    /// The latest one.
    fn last_pending(&self, index: ScopeIndex) -> Option<u64> {
        self.all_pending(index).max()
    }

    /// The latest one that is for tasks too which are awaited there.
    pub(crate) fn pending_for_tasks(&self, index: ScopeIndex) -> Option<u64> {
        self.all_pending(index)
            .filter(|&number| {
                !self.is_for_branch_alone(index, number) || self.is_merged(index, number)
            })
            .max()
    }

    fn is_merged(&self, index: ScopeIndex, number: u64) -> bool {
        let mut colds = self.outwards(index).filter_map(|at| self.cold_of(at));
        colds.any(|cold| cold.last_request == number && cold.merged)
    }

    /// Whether a branch from `index` outwards was asked so by its siblings.
    pub(crate) fn is_for_branch_alone(&self, index: ScopeIndex, number: u64) -> bool {
        self.outwards(index)
            .any(|at| self.is_branch(at) && self.last_request(at) == number)
    }

    /// The requests that are pending from `index` outwards.
    fn all_pending(&self, index: ScopeIndex) -> impl Iterator<Item = u64> {
        let index = if self.asked == 0 {
            ScopeIndex::NONE
        } else {
            index
        };
        let colds = self.outwards(index).filter_map(|at| self.cold_of(at));
        colds.map(|cold| cold.pending).filter(|&number| number != 0)
    }

    /// Uses up the request that is pending from `index` outwards, if there is one (C7).
    pub(crate) fn take_pending(&mut self, index: ScopeIndex) -> Option<u64> {
        if self.asked == 0 {
            return None;
        }
        let mut latest = 0;
        self.each_cold(index, |cold, asked| {
            let pending = take(&mut cold.pending);
            *asked -= usize::from(pending != 0);
            latest = latest.max(pending);
        });
        if latest == 0 {
            return None;
        }
        self.note_heard(index, latest);
        Some(latest)
    }

    /// An await returned `number`: it, and what it merged with, is used up (C2).
    pub(crate) fn delivered(&mut self, index: ScopeIndex, number: u64) {
        self.each_cold(index, |cold, asked| {
            cold.heard = cold.heard.max(number);
            if (1..=number).contains(&cold.pending) {
                cold.pending = 0;
                *asked -= 1;
            }
        });
    }

    fn note_heard(&mut self, index: ScopeIndex, number: u64) {
        self.each_cold(index, |cold, _| cold.heard = cold.heard.max(number));
    }

    /// Calls `f` from `index` outwards, with the count of those that are asked.
    fn each_cold(&mut self, index: ScopeIndex, mut f: impl FnMut(&mut Cold, &mut usize)) {
        let mut at = index;
        while at != ScopeIndex::NONE {
            let outer = self.outer(at);
            if let Some(cold) = self.cold.get_mut(self.scopes[at.0 as usize].cold as usize) {
                f(cold, &mut self.asked);
            }
            at = outer;
        }
    }

    /// What was asked further out since this scope began is pending there anew.
    pub(crate) fn ask_outer_again(&mut self, index: ScopeIndex) {
        let began = self.cold_of(index).map_or(0, |cold| cold.began);
        let outer: Vec<ScopeIndex> = self.outwards(self.outer(index)).collect();
        for at in outer {
            let number = self.last_request(at);
            if number > began {
                self.ask(at, number);
                let cold = self.cold(at);
                cold.heard = cold.heard.min(number - 1);
            }
        }
    }

    /// Whether a request from further out arrived after this scope began: then whoever made that
    /// one decides what the caller sees (C8).
    pub(crate) fn asked_from_outside(&self, index: ScopeIndex) -> bool {
        let began = self.cold_of(index).map_or(0, |cold| cold.began);
        self.outwards(self.outer(index))
            .filter_map(|outer| self.cold_of(outer))
            .any(|outer| outer.last_request > began)
    }
}
