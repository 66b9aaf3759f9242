//! Scopes: what a deadline or a cancel request covers.
//!
//! A task has a root scope, made when something registers under it; `wait_for` and `timeout` open
//! children. The scope that is being polled is a number in the thread-local structure, set around
//! each poll, so it reaches every leaf below, through any combinator. Scopes and leaves name each
//! other by number: nothing points into a future (R13).

mod deadline;
mod requests;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

pub(crate) use deadline::Deadline;
use requests::Requests;

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

/// What requests from further out meet where a scope begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Border {
    /// They are for what is in there as for what is around it.
    Open,
    /// They stop, as deadlines do: the first await behind the scope hears of them.
    Shield,
    /// They pass, and it is told to nobody outside that somebody in there has heard of them, until
    /// the scope closes.
    Account,
    /// The same. It is one of several branches that are awaited at once, so each hears of a request.
    /// One that is made at a branch itself is its siblings': it leaves tasks running that are
    /// awaited in there.
    Branch,
}

impl Border {
    const fn has_account(self) -> bool {
        matches!(self, Self::Account | Self::Branch)
    }
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

/// What a scope has that has a deadline or a border, or was asked to stop.
pub(crate) struct Cold {
    pub(crate) deadline: Deadline,
    requests: Requests,
    /// Who polls it, for when it fires with no leaf to wake.
    pub(crate) waker: Option<Waker>,
    /// The operation whose linked timeout has this deadline. Of a place that is vacant: the next
    /// vacant one.
    pub(crate) carrier: u32,
    border: Border,
    /// The deadline may be moved: no operation carries it into the kernel.
    pub(crate) movable: bool,
    /// The deadline has passed and the request is made.
    pub(crate) fired: bool,
    /// Its body was polled once more, for what was done and not fetched.
    pub(crate) nudged: bool,
    /// Waits for the loop to be about to sleep, to arm its timer.
    pub(crate) arming: bool,
    /// The heap has an entry for its deadline.
    pub(crate) armed: bool,
}

impl Cold {
    pub(crate) fn is_shield(&self) -> bool {
        self.border == Border::Shield
    }
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
    /// Scopes that have a deadline, and scopes that were asked to stop: while there are none nobody
    /// looks for one.
    timed: usize,
    asked: usize,
    /// Of the requests that have one.
    reasons: BTreeMap<u64, Rc<str>>,
    /// That of the request which was heard of last, if one of them has one.
    last_reason: Option<(u64, Rc<str>)>,
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
            last_reason: None,
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
            let cold = self.cold(index);
            cold.deadline = deadline;
            cold.border = border;
            if self.asked > 0 {
                let began = self.began(parent);
                self.begin_since(index, began);
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
        let requests = Requests::since(self.requests);
        let at = self.vacant_cold;
        if let Some(cold) = self.cold.get_mut(at as usize) {
            self.vacant_cold = cold.carrier;
            // What is not written here was left so when the place became vacant.
            cold.requests = requests;
            cold.carrier = NO_SLOT;
            cold.border = Border::Open;
            cold.movable = false;
            cold.fired = false;
            cold.nudged = false;
            cold.arming = false;
            return at;
        }
        if self.cold.len() == self.cold.capacity() {
            self.cold.reserve_exact(room_to_add(self.cold.len()));
        }
        self.cold.push(Cold {
            deadline: Deadline::NEVER,
            requests,
            waker: None,
            carrier: NO_SLOT,
            border: Border::Open,
            movable: false,
            fired: false,
            nudged: false,
            arming: false,
            armed: false,
        });
        self.cold.len() as u32 - 1
    }

    /// Ends what it has as one that is timed or asked. Gives its waker.
    fn close_cold(&mut self, index: ScopeIndex) -> Option<Waker> {
        let at = self.at(index).cold;
        if at == NO_COLD {
            return None;
        }
        if self.asked > 0 {
            self.forget_request(index);
        }
        self.at(index).cold = NO_COLD;
        let cold = &mut self.cold[at as usize];
        debug_assert!(!cold.armed, "a scope ends with its timer");
        self.timed -= usize::from(cold.deadline != Deadline::NEVER);
        cold.deadline = Deadline::NEVER;
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
        let is_in_its_task = self.root(index) == self.root(parent);
        self.unlink(index);
        self.link(index, parent);
        let began = self.began(parent);
        if is_in_its_task {
            self.begin_since(index, began);
        } else {
            self.begin_anew(index, began);
        }
    }

    fn root(&self, index: ScopeIndex) -> Option<ScopeIndex> {
        self.with_parents(index).last()
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

    /// Whether no scope was asked to stop.
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
}
