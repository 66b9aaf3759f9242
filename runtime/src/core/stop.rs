//! How a request to stop travels: deadlines that fire, leaves that are hit, futures that go.

use super::{Core, IN_HEAP, waits};
use crate::Instant;
use crate::current::NO_TASK;
use crate::debris::{Item, Remains};
use crate::error::Cause;
use crate::op::table::{Cancel, Key, Kind, Links, NO_SLOT, Shot, State, Success};
use crate::op::{Orphan, Token, is_stopped};
use crate::scope::{Border, Cold, Deadline, ScopeIndex, ScopeKey};
use crate::timers::Waiter;
use std::rc::Rc;
use std::task::Waker;

/// How often a cancel is sent for one operation: the kernel answers ENOENT or EALREADY also when
/// it looked at the wrong moment (R8).
const CANCEL_ASKS_MAX: u8 = 4;

/// How a scope ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closed {
    /// Its deadline passed, and nobody further out asked: a cancellation that comes out is its
    /// own time-out (C8).
    pub(crate) timed_out: bool,
    /// No await has returned the request: the body ended without knowing of it.
    pub(crate) unheard: bool,
}

/// How the body of a scope waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// It has not been asked to stop, or will hear of it.
    Heard,
    /// It was asked, and is to be polled once more.
    Nudged,
    /// It was asked, and waits for nothing that could tell it so.
    Deaf,
}

/// What is left in a scope whose body waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    None,
    /// Outcomes that nobody has fetched.
    Done,
    Waiting,
}

impl Core {
    // ---- requests ----

    /// The deadline of `scope` has passed: asks everything below it to stop.
    pub(super) fn fire(&mut self, scope: ScopeIndex) -> u64 {
        self.scopes.cold(scope).fired = true;
        self.disarm_scope(scope);
        // With no leaf below, nobody else would be woken.
        let waker = self.scopes.take_waker(scope);
        self.debris.wake(waker);
        self.request(scope, None)
    }

    /// Whoever has opened `scope` asks it to stop. Once: that stands.
    pub(crate) fn cancel_scope(&mut self, key: ScopeKey) {
        if self.scopes.find(key).is_some_and(|scope| !scope.fired) {
            self.fire(key.index);
        }
    }

    /// Asks everything below `scope` to stop. Gives the number of the request.
    pub(crate) fn request(&mut self, scope: ScopeIndex, reason: Option<Rc<str>>) -> u64 {
        let number = self.scopes.request(scope, reason);
        for at in self.scopes.from(scope) {
            self.tell(at, scope, number);
        }
        number
    }

    /// A scope is polled under `outer` now. A request that is pending there is for it as well.
    pub(crate) fn reattach_scope(&mut self, scope: ScopeIndex, outer: ScopeIndex) {
        if self.scopes.at(scope).parent != outer {
            self.scopes.reattach(scope, outer);
            if !self.scopes.is_shield(scope) && self.pending(outer).is_some() {
                self.tell_again(scope);
            }
        }
    }

    /// What is pending for anything below `scope` is told there, where it was not so far.
    fn tell_again(&mut self, scope: ScopeIndex) {
        for at in self.scopes.from(scope) {
            let pending: Vec<_> = self.scopes.all_pending(at).collect();
            for (made_at, number) in pending {
                self.tell(at, made_at, number);
            }
        }
    }

    /// Tells what is in a scope of a request that was made at `made_at`.
    fn tell(&mut self, at: ScopeIndex, made_at: ScopeIndex, number: u64) {
        // With no leaf there nobody else would be woken who could drop what is foreign.
        if self.scopes.at(at).first_leaf == NO_SLOT {
            let waker = self.scopes.take_waker(at);
            self.debris.wake(waker);
        }
        // What its siblings ask of a branch leaves tasks running that it awaits.
        if self.scopes.at(at).first_join != NO_TASK && !self.scopes.is_branch(made_at) {
            let key = self.scopes.key_of(at);
            self.debris.push(Item::Forward(key, number));
        }
        // Newest first: the kernel's table gives those up the fastest (M).
        let mut leaf = self.scopes.at(at).first_leaf;
        while leaf != NO_SLOT {
            let next = self.table.at(leaf).next;
            self.hit(leaf, number);
            leaf = next;
        }
    }

    /// A request reaches a leaf. What has completed is left alone (C1).
    pub(super) fn hit(&mut self, index: u32, number: u64) {
        let key = self.table.key_of(index);
        let slot = self.table.slot(key);
        let latest = slot.cause.max(number);
        match (slot.state, slot.kind) {
            (State::InFlight | State::Done, Kind::OneShot) if slot.success != Success::Told => {
                // It is over, or will be with the next enter, and its future looks (C1).
                slot.success = Success::Told;
                let waker = slot.waker.take();
                self.debris.wake(waker);
                return;
            }
            (State::Done, Kind::OneShot | Kind::Sleep) => {
                // One that was stopped and not fetched yet returns this request as well (C2). To
                // one that has a result the request comes with the await after it.
                if is_stopped(slot.res) && slot.cause != 0 {
                    slot.cause = latest;
                }
                return;
            }
            (State::Orphaned | State::Vacant, _) => return,
            (State::InFlight, Kind::OneShot | Kind::Sleep) => {
                // Woken by its own completion, when the kernel is done with it (C4).
                slot.cause = latest;
                // A sleep that is due has its result: the kernel is about to say so (C1).
                let due = slot.kind == Kind::Sleep
                    && slot.deadline() <= *self.clock.get_or_insert_with(|| self.driver.now());
                if !due {
                    self.ask_cancel(key);
                }
                return;
            }
            // Its waiter leaves; it stays armed.
            (State::InFlight | State::Done, Kind::Multishot) => {}
            (State::Queued, _) => self.cancel_queued(key),
            (State::Waiting, _) => {
                let in_heap = slot.word == IN_HEAP;
                slot.state = State::Done;
                (slot.res, slot.word) = (-libc::ECANCELED, 0);
                if in_heap {
                    self.left_heap();
                }
            }
        }
        let slot = self.table.slot(key);
        slot.cause = latest;
        let waker = slot.waker.take();
        self.debris.wake(waker);
    }

    /// An operation that waits for its place ends here: the kernel never saw it (R8).
    fn cancel_queued(&mut self, key: Key) {
        self.backlog.retain(|waiting| waiting.key != key);
        if self.table.slot(key).carrier {
            self.carried(key.index(), 0);
        }
        let slot = self.table.slot(key);
        slot.state = State::Done;
        (slot.res, slot.word) = (-libc::ECANCELED, 0);
        self.kernel_sleeps -= u32::from(slot.kind == Kind::Sleep);
        if slot.kind == Kind::Multishot {
            let cancelled = Shot::new(-libc::ECANCELED, 0);
            slot.cold().push(cancelled);
        }
    }

    /// Asks the kernel to cancel an operation in flight.
    pub(super) fn ask_cancel(&mut self, key: Key) {
        let slot = self.table.slot(key);
        if let Cancel::No = slot.cancel {
            slot.cancel = Cancel::Asked(1);
            self.cancels.push_back(key.token());
        }
    }

    /// Ends the multishot in `key`: it has no waiter, and what it still brings is fetched.
    pub(crate) fn stop_shots(&mut self, key: Key) {
        match self.table.slot(key).state {
            State::InFlight => self.ask_cancel(key),
            State::Queued => {
                self.cancel_queued(key);
                self.table.slot(key).cancel = Cancel::Asked(1);
            }
            State::Done | State::Waiting | State::Orphaned | State::Vacant => {}
        }
    }

    /// A cancel was not silent, so it did not succeed: not found, or running. The completion is on
    /// its way, unless the kernel looked at the wrong moment: asked again, boundedly (R8).
    pub(super) fn cancel_answered(&mut self, token: Token) {
        let Some(slot) = self.table.of_token(token) else {
            return;
        };
        if slot.is_in_flight()
            && let Cancel::Asked(asked) = &mut slot.cancel
            && *asked < CANCEL_ASKS_MAX
        {
            *asked += 1;
            self.cancels
                .push_back(self.table.key_of(token.index()).token());
        }
    }

    /// An operation that had a scope's deadline behind it has ended: the scope needs another
    /// carrier, unless it was the deadline that ended it.
    pub(super) fn carried(&mut self, index: u32, res: i32) {
        let slot = self.table.at(index);
        let (timed, generation) = (ScopeIndex::new(slot.word), slot.res as u32);
        let asked = slot.cause != 0 || slot.state == State::Orphaned;
        let scope = slot.scope;
        slot.carrier = false;
        // Who is woken by this need not poll the scope: it hears of its deadline by a timer now.
        self.lose_carrier(ScopeKey {
            index: timed,
            generation,
        });
        if !is_stopped(res) || asked {
            return;
        }
        let alive = self.scopes.has(ScopeKey {
            index: timed,
            generation,
        });
        let covered = alive && self.scopes.is_within(scope, timed);
        if alive && !self.has_passed(timed) {
            // Something else ended it, and early; or the deadline was moved behind its back.
            if self.scopes.cold(timed).movable {
                self.table.at(index).cancel = Cancel::Stray;
            }
            return;
        }
        if alive && !self.scopes.cold(timed).fired {
            // This one has ended, so that the request must not be sent after it.
            self.table.at(index).state = State::Done;
            let number = self.fire(timed);
            let slot = self.table.at(index);
            slot.state = State::InFlight;
            slot.cause = if covered { number } else { 0 };
        }
        if self.table.at(index).cause == 0 {
            self.table.at(index).cancel = Cancel::Stray;
        }
    }

    /// Whether the deadline of a scope whose deadline was sent to the kernel has passed.
    fn has_passed(&mut self, timed: ScopeIndex) -> bool {
        let deadline = self.scopes.cold(timed).deadline.moment();
        deadline.is_some_and(|deadline| deadline <= self.driver.now())
    }

    /// An await under `scope` returned the request `number`: it is used up (C2).
    pub(crate) fn delivered(&mut self, scope: ScopeIndex, number: u64) {
        if Cause::of(number).is_request() {
            self.scopes.delivered(scope, number);
        }
    }

    /// The future of `key` is polled where this loop does not turn.
    pub(crate) fn give_up(&mut self, key: Key) {
        if self.table.slot(key).cause == 0 {
            self.hit(key.index(), Cause::NOT_RUNNING.number());
        }
    }

    // ---- futures that go ----

    /// The future of an operation is gone: its outcome is the payload's own business (R6).
    pub(crate) fn abandon(&mut self, key: Key, orphan: Box<dyn Orphan>) {
        if self.table.slot(key).state == State::Queued {
            self.cancel_queued(key);
        }
        let slot = self.table.slot(key);
        let waker = slot.waker.take();
        slot.cold().orphan = Some(orphan);
        self.debris.drop_waker(waker);
        if self.table.slot(key).state == State::Done {
            let remains = Remains::of(self.table.slot(key));
            self.vacate(key);
            self.counts.orphans += 1;
            self.leave_remains(remains);
            return;
        }
        self.orphan(key);
    }

    /// The future of a leaf is gone that lent nothing: a sleep.
    pub(crate) fn release(&mut self, key: Key) {
        match self.table.slot(key).state {
            State::InFlight => {
                let waker = self.table.slot(key).waker.take();
                self.debris.drop_waker(waker);
                return self.orphan(key);
            }
            State::Queued => self.cancel_queued(key),
            State::Waiting => {
                let in_heap = self.table.slot(key).word == IN_HEAP;
                self.vacate(key);
                if in_heap {
                    self.left_heap();
                }
                return;
            }
            State::Done | State::Orphaned | State::Vacant => {}
        }
        self.vacate(key);
    }

    /// Leaves an operation in flight to itself, and sees to it that it ends.
    fn orphan(&mut self, key: Key) {
        self.let_go_of_carrier(key);
        self.unlink(key.index());
        self.table.slot(key).state = State::Orphaned;
        self.ask_cancel(key);
    }

    /// The deadline is not behind an operation any more: its scope needs something else to hear
    /// of it.
    pub(super) fn let_go_of_carrier(&mut self, key: Key) {
        let slot = self.table.slot(key);
        if slot.carrier {
            slot.carrier = false;
            let timed = ScopeKey {
                index: ScopeIndex::new(slot.word),
                generation: slot.res as u32,
            };
            self.lose_carrier(timed);
        }
    }

    /// Arms the scope's own timer when the loop is about to sleep, unless another operation
    /// carries the deadline by then.
    fn lose_carrier(&mut self, key: ScopeKey) {
        if let Some(scope) = self.scopes.find(key) {
            scope.carrier = NO_SLOT;
            await_timer(scope, &mut self.arming, key);
        }
    }

    /// A waiter of the heap waits no more.
    fn left_heap(&mut self) {
        if self.heap.leave() {
            self.heap.sweep(|deadline, waiter| {
                waits(&mut self.table, &mut self.scopes, deadline, waiter)
            });
        }
    }

    // ---- leaves and their scopes ----

    /// Registers a slot as a leaf of `scope`: four writes.
    pub(super) fn link(&mut self, index: u32, scope: ScopeIndex) {
        if scope == ScopeIndex::NONE {
            return;
        }
        let next = std::mem::replace(&mut self.scopes.at(scope).first_leaf, index);
        if next != NO_SLOT {
            self.table.at(next).previous = index;
        }
        let slot = self.table.at(index);
        slot.scope = scope;
        slot.previous = NO_SLOT;
        slot.next = next;
    }

    pub(super) fn unlink(&mut self, index: u32) {
        let links = self.table.at(index).unlink();
        self.close_gap(links);
    }

    /// Joins the neighbours of a slot that has left their list.
    pub(super) fn close_gap(&mut self, links: Links) {
        let Links {
            scope,
            previous,
            next,
        } = links;
        if scope == ScopeIndex::NONE {
            return;
        }
        match previous {
            NO_SLOT => self.scopes.at(scope).first_leaf = next,
            previous => self.table.at(previous).next = next,
        }
        if next != NO_SLOT {
            self.table.at(next).previous = previous;
        }
    }

    /// A leaf is polled under `scope` now, wherever it was before (R13).
    pub(crate) fn reattach(&mut self, index: u32, scope: ScopeIndex) {
        if self.table.at(index).scope != scope {
            self.unlink(index);
            self.link(index, scope);
        }
    }

    // ---- scopes with deadlines ----

    /// Opens a scope below `parent`. A span of zero has passed at once: whatever awaits under it
    /// is stopped at its first await.
    pub(crate) fn open_scope(
        &mut self,
        parent: ScopeIndex,
        deadline: Deadline,
        border: Border,
    ) -> ScopeKey {
        let key = self.scopes.open(parent, deadline, border);
        if deadline.moment().is_some() {
            // Made from a clock that may have been read after the loop's: its first await looks.
            self.clock = None;
        }
        if deadline.is_zero() {
            self.fire(key.index);
        }
        key
    }

    /// Whether a cancellation that comes out of the scope is its own time-out (C8).
    pub(crate) fn is_timed_out(&mut self, key: ScopeKey) -> bool {
        self.scopes
            .cold_of(key.index)
            .is_some_and(|cold| cold.fired)
            && !self.scopes.asked_from_outside(key.index)
    }

    /// Closes a scope: leaves that live on belong to its parent now. `settle`: what was heard in there
    /// shows outside. Gives its waker, to be dropped where nothing is borrowed.
    pub(crate) fn close_scope(&mut self, key: ScopeKey, settle: bool) -> (Closed, Option<Waker>) {
        let index = key.index;
        let parent = self.scopes.at(index).parent;
        let mut closed = Closed {
            timed_out: false,
            unheard: false,
        };
        if !self.scopes.is_nobody_asked() {
            closed.timed_out = self.is_timed_out(key);
            closed.unheard = self.scopes.is_asked(index);
            if settle {
                self.scopes.settle_account(index);
            }
        }
        if self.scopes.at(index).first_leaf != NO_SLOT {
            self.hand_leaves_on(index, parent);
        }
        let cold = self.scopes.cold_of(index);
        let (armed, shield) = cold.map_or((false, false), |cold| (cold.armed, cold.is_shield()));
        if armed {
            self.disarm_scope(index);
        }
        let waker = self.scopes.close(index);
        // What had begun behind the shield is in front of it now.
        if shield && parent.is_made() && self.pending(parent).is_some() {
            self.tell_again(parent);
        }
        // What was last to wait for its timer is usually first to end: nothing piles up here.
        while let Some(last) = self.arming.last() {
            if self.scopes.has(*last) {
                break;
            }
            self.arming.pop();
        }
        (closed, waker)
    }

    #[cold]
    fn hand_leaves_on(&mut self, index: ScopeIndex, parent: ScopeIndex) {
        let own_request = self.scopes.last_request(index);
        let mut leaf = self.scopes.at(index).first_leaf;
        while leaf != NO_SLOT {
            let next = self.table.at(leaf).next;
            self.unlink(leaf);
            self.link(leaf, parent);
            // A multishot that is not waited for any more, by hand: the next wait was not asked.
            let slot = self.table.at(leaf);
            if slot.kind == Kind::Multishot && slot.is_in_flight() && slot.cause == own_request {
                slot.cause = 0;
            }
            leaf = next;
        }
    }

    /// A scope's body is pending: `waker` is woken when it fires, or somebody further out asks, and
    /// no leaf is.
    pub(crate) fn scope_pending(&mut self, key: ScopeKey, waker: Waker) -> Waits {
        let waits = if self.scopes.is_nobody_asked() {
            Waits::Heard
        } else {
            self.waits_when_asked(key.index)
        };
        let scope = self.scopes.cold(key.index);
        let old = scope.waker.replace(waker);
        let carrier = scope.carrier;
        if carrier == NO_SLOT {
            await_timer(scope, &mut self.arming, key);
        } else if !self.waits_alone(carrier, key.index) {
            // One that can't be stopped completes late, and others must not wait for that.
            self.lose_carrier(key);
        }
        self.debris.drop_waker(old);
        if waits == Waits::Nudged {
            let waker = self.scopes.take_waker(key.index);
            self.debris.wake(waker);
        }
        waits
    }

    /// How a body waits if somebody was asked.
    #[cold]
    fn waits_when_asked(&mut self, index: ScopeIndex) -> Waits {
        let fired = self.scopes.cold(index).fired;
        if !fired && !self.scopes.is_unheard_within(index) {
            return Waits::Heard;
        }
        let left = self.leaves(index);
        // What is done and not fetched is fetched by the next poll, or never.
        let nudges = left == Leaves::Done;
        let nudged = std::mem::replace(&mut self.scopes.cold(index).nudged, nudges);
        match left {
            Leaves::Waiting => Waits::Heard,
            Leaves::Done if !nudged => Waits::Nudged,
            Leaves::Done | Leaves::None => Waits::Deaf,
        }
    }

    /// Whether a request is pending in `scope` that nobody in there has heard of, and nothing that is
    /// registered below could return it.
    pub(crate) fn is_asked_in_vain(&mut self, scope: ScopeIndex) -> bool {
        self.scopes.is_unheard_within(scope) && self.leaves(scope) == Leaves::None
    }

    /// Whether a leaf is all that is registered in `scope`.
    fn waits_alone(&mut self, leaf: u32, scope: ScopeIndex) -> bool {
        self.scopes.has_only(scope, leaf) && self.table.at(leaf).next == NO_SLOT
    }

    /// What is registered from `scope` downwards: operations, sleeps, and, but for a branch, which
    /// leaves them running, tasks that are awaited.
    fn leaves(&mut self, scope: ScopeIndex) -> Leaves {
        let mut left = Leaves::None;
        let awaits = !self.scopes.is_branch(scope);
        for at in self.scopes.from(scope) {
            let joined = awaits && self.scopes.at(at).first_join != NO_TASK;
            if joined || self.scopes.has_shield(at) {
                return Leaves::Waiting;
            }
            let mut leaf = self.scopes.at(at).first_leaf;
            while leaf != NO_SLOT {
                let slot = self.table.at(leaf);
                if slot.state != State::Done {
                    return Leaves::Waiting;
                }
                left = Leaves::Done;
                leaf = slot.next;
            }
        }
        left
    }

    pub(super) fn arm_scope(&mut self, key: ScopeKey) {
        let Some(scope) = self.scopes.find(key) else {
            return;
        };
        scope.arming = false;
        if scope.fired || scope.carrier != NO_SLOT || scope.armed {
            return;
        }
        let now = || self.driver.now();
        if let Some(deadline) = scope.deadline.count(now) {
            scope.armed = true;
            self.heap.push(deadline, Waiter::Scope(key));
        }
    }

    /// The deadline of a scope that is open, as one that may be moved from here on.
    pub(crate) fn movable_deadline(&mut self, key: ScopeKey) -> Option<Instant> {
        let now = self.driver.now();
        let scope = self.scopes.find(key)?;
        scope.movable = true;
        scope.deadline.count(|| now)
    }

    /// Moves a deadline. `false`: it has passed, or its scope has ended.
    pub(crate) fn reschedule(&mut self, key: ScopeKey, when: Option<Instant>) -> bool {
        if self.scopes.find(key).is_none_or(|scope| scope.fired) {
            return false;
        }
        let deadline = when.map_or(Deadline::NEVER, Deadline::at);
        self.scopes.set_deadline(key.index, deadline);
        self.scopes.cold(key.index).carrier = NO_SLOT;
        self.clock = None;
        // What the heap has is not its deadline any more.
        self.disarm_scope(key.index);
        await_timer(self.scopes.cold(key.index), &mut self.arming, key);
        true
    }

    fn disarm_scope(&mut self, scope: ScopeIndex) {
        if self.scopes.cold_of(scope).is_some_and(|cold| cold.armed) {
            self.scopes.cold(scope).armed = false;
            self.left_heap();
        }
    }

    // ---- the end ----

    /// Asks everything to stop that the kernel still has, the newest first. What user code starts
    /// from here on, in a waker or a drop, is refused.
    pub(crate) fn cancel_all(&mut self) {
        self.ending = true;
        self.scopes.stay_loud();
        for key in self.table.keys().into_iter().rev() {
            match self.table.slot(key).state {
                State::Queued | State::InFlight => {
                    // Held by a future outside of the tasks: it will be told.
                    self.hit(key.index(), Cause::ENDED.number());
                    if self.table.slot(key).kind == Kind::Multishot
                        && self.table.slot(key).is_in_flight()
                    {
                        self.ask_cancel(key);
                    }
                }
                State::Waiting => self.hit(key.index(), Cause::ENDED.number()),
                State::Orphaned | State::Done | State::Vacant => {}
            }
        }
    }

    /// Asks again for what has not come, at the end of the runtime.
    pub(crate) fn cancel_again(&mut self) {
        for key in self.table.keys() {
            let slot = self.table.slot(key);
            // A zero-copy send has its result: nothing can hurry the rest (R5).
            if slot.is_in_flight() && !matches!(slot.cancel, Cancel::AwaitsNotif { .. }) {
                slot.cancel = Cancel::Asked(CANCEL_ASKS_MAX);
                self.cancels.push_back(key.token());
            }
        }
    }
}

/// If no operation carries the deadline of `scope`, its own timer will be armed once the loop is
/// about to sleep.
fn await_timer(scope: &mut Cold, arming: &mut Vec<ScopeKey>, key: ScopeKey) {
    let timed = scope.deadline != Deadline::NEVER;
    if timed && !scope.fired && scope.carrier == NO_SLOT && !scope.arming && !scope.armed {
        scope.arming = true;
        arming.push(key);
    }
}
