//! What lies between user code and the driver: the table, the scopes and the timers, and the
//! moves between their states. No user code runs in here (R10): what must run is collected in
//! `debris` and seen to when nothing is borrowed.

mod complete;
mod fetch;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub(crate) use fetch::NextShot;
pub(crate) use stop::{Closed, Waits};

use io_uring::opcode as op;

use crate::Instant;
use crate::debris::Debris;
use crate::driver::{Completion, Driver, DriverKind, Request, Scratch, flags, opcode};
use crate::error::Cause;
use crate::inbox::{Inbox, RuntimeId};
use crate::op::table::{Key, Kind, State, Success, Table};
use crate::op::{Control, Tag, Token};
use crate::pool::{self, BufPool, BufferCounts, Pools};
use crate::scope::{ScopeIndex, ScopeKey, Scopes};
use crate::task::Tasks;
use crate::timers::{Heap, Timers, Waiter};

/// Completions for which there is room from the beginning. One enter brings about 20 deferred ones,
/// and those of what is done at once.
const BATCH: usize = 256;

/// For how many turns what is due waits for completions that the kernel holds back, about 20 a turn.
const PUT_OFF_MAX: u32 = 16;

/// How often in a row the kernel is believed that it holds completions back, though an enter brought
/// none.
const FRUITLESS_MAX: u32 = 16;

/// For how many turns a loop that never sleeps puts off to arm the timers of scopes.
const BUSY_TURNS_MAX: u32 = 16;

/// How many deadlines that have passed are looked at in one turn: as many as it polls tasks, so
/// that what they wake is still in the cache. Those that tie stay together (C1).
const EXPIRIES_MAX: u32 = 256;

/// How long a loop sleeps at a time that no other thread can wake.
const DEAF_MAX: Duration = Duration::from_millis(50);

const TIMEOUT_ABS: u32 = 1 << 0;
const TIMEOUT_UPDATE: u32 = 1 << 1;

pub(crate) struct Core {
    pub(crate) driver: Driver,
    pub(crate) table: Table,
    pub(crate) scopes: Scopes,
    pub(crate) timers: Timers,
    heap: Heap,
    /// Kernel timeouts that sleeps have armed.
    kernel_sleeps: u32,
    /// Scopes whose timer is armed when the loop is about to sleep, and not before.
    arming: Vec<ScopeKey>,
    /// Scopes whose time has come, while the heap is looked through.
    due: Vec<ScopeIndex>,
    /// Turns in which the kernel said that it had more, and then had not.
    fruitless: u32,
    /// Turns that have put off what is due, in a row.
    put_off: u32,
    /// Turns without a sleep since that was empty.
    busy_turns: u32,
    /// What the driver's clock said when it was last read in this turn.
    clock: Option<Instant>,
    /// Why nothing was started, the last time.
    refusal: Cause,
    /// Cancels to be sent before anything else (R8).
    cancels: VecDeque<Token>,
    /// Buffers that the kernel chooses from.
    pools: Pools,
    /// Operations that wait for a place in the submission queue.
    backlog: VecDeque<Backlogged>,
    /// Operations in the queue of which the kernel says nothing if they succeed.
    silent: Vec<Key>,
    /// What requests in the queue lead to, until the kernel has taken them.
    lent: Vec<Lent>,
    pub(crate) debris: Debris,
    batch: Vec<Completion>,
    /// The deadline of the kernel timeout that wakes an embedded loop.
    alarm: Option<Instant>,
    pub(crate) counts: Counts,
    /// The unparker could not be armed: tried again each turn, since wakes from elsewhere do not
    /// end a sleep until then (R11).
    deaf: bool,
    /// Nothing is started any more.
    ending: bool,
    inbox: &'static Inbox,
}

#[derive(Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
    pub(crate) stale: u64,
    pub(crate) orphans: u64,
}

#[expect(dead_code, reason = "held, not looked at")]
enum Lent {
    /// Of a chain that was in the backlog.
    Scratch(OwnScratch),
    /// That a message goes to (R14).
    Ring(Arc<OwnedFd>),
}

struct Backlogged {
    key: Key,
    chain: Vec<Request>,
    scratch: OwnScratch,
}

/// Scratch of a chain's own, at an address of its own. By a raw pointer: moving a `Box` claims
/// what it owns anew, which the kernel has been given the address of (R1).
struct OwnScratch(NonNull<[Scratch; 2]>);

impl OwnScratch {
    fn new() -> Self {
        Self(NonNull::from(Box::leak(Box::new([
            Scratch::new(),
            Scratch::new(),
        ]))))
    }

    fn get(&mut self, i: usize) -> &mut Scratch {
        // SAFETY: `new` allocated it, and `&mut self` is the only way to it in here.
        unsafe { &mut (*self.0.as_ptr())[i] }
    }
}

impl Drop for OwnScratch {
    fn drop(&mut self) {
        // SAFETY: from a Box in `new`; the kernel has taken what points here, or never will.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Describes an operation in its place in the queue.
pub(crate) type Describe<'a> = dyn FnMut(&mut Scratch, &mut Request) + 'a;

impl Core {
    pub(crate) fn new(
        mut driver: Driver,
        timers: Timers,
        pool_config: pool::Config,
        inbox: &'static Inbox,
    ) -> Self {
        let deaf = !driver.arm_unparker(inbox);
        Self {
            deaf,
            driver,
            table: Table::new(),
            scopes: Scopes::new(),
            timers,
            heap: Heap::default(),
            kernel_sleeps: 0,
            arming: Vec::new(),
            due: Vec::new(),
            fruitless: 0,
            put_off: 0,
            busy_turns: 0,
            clock: None,
            refusal: Cause::FOREIGN,
            cancels: VecDeque::new(),
            pools: Pools::new(pool_config),
            backlog: VecDeque::new(),
            silent: Vec::new(),
            lent: Vec::new(),
            debris: Debris::default(),
            batch: Vec::with_capacity(BATCH),
            alarm: None,
            counts: Counts::default(),
            ending: false,
            inbox,
        }
    }

    // ---- downwards: from futures to the driver ----

    /// Starts an operation under `scope`: takes a slot, registers, submits. `None`: a request to
    /// stop was pending, see [`refusal`](Self::refusal), and nothing was submitted. The waker stays
    /// with the caller until then: if the description panics, its drop is not to happen in here.
    pub(crate) fn start(
        &mut self,
        describe: &mut Describe<'_>,
        scope: ScopeIndex,
        waker: &mut Option<Waker>,
        kind: Kind,
    ) -> Option<Key> {
        let mut deadline = None;
        if !self.scopes.is_quiet() {
            match self.refuse_or_deadline(scope) {
                // Multishots outlive their waiters, and a sleep is a timeout itself.
                Ok(nearest) => {
                    let carries = kind == Kind::OneShot && self.timers != Timers::Heap;
                    deadline =
                        nearest.filter(|&(_, timed)| carries && !self.scopes.cold(timed).movable);
                }
                Err(number) => return self.refuse(number, waker.take()),
            }
        }
        Some(self.launch(describe, scope, waker, kind, deadline))
    }

    /// [`start`](Self::start) for nobody who waits: no request to stop is looked for, and where the
    /// kernel is silent in success, `success` says who hears of it.
    pub(crate) fn start_unawaited(
        &mut self,
        describe: &mut Describe<'_>,
        waker: &mut Option<Waker>,
        success: Success,
    ) -> Option<Key> {
        if self.ending {
            return self.refuse(Cause::ENDED.number(), waker.take());
        }
        let key = self.launch(describe, ScopeIndex::NONE, waker, Kind::OneShot, None);
        self.table.slot(key).success = success;
        Some(key)
    }

    fn launch(
        &mut self,
        describe: &mut Describe<'_>,
        scope: ScopeIndex,
        waker: &mut Option<Waker>,
        kind: Kind,
        mut deadline: Option<(Instant, ScopeIndex)>,
    ) -> Key {
        let places = if deadline.is_some() { 2 } else { 1 };
        // Nobody overtakes what waits already.
        let key = if self.backlog.is_empty() && self.driver.reserve(places) {
            self.place(describe, kind, &mut deadline)
        } else {
            self.put_back(describe, kind, &mut deadline)
        };
        self.kernel_sleeps += u32::from(kind == Kind::Sleep);
        self.enlist(key, scope, waker.take());
        if let Some((_, timed)) = deadline {
            self.carry(key, timed);
        }
        key
    }

    #[cold]
    fn refuse(&mut self, number: u64, waker: Option<Waker>) -> Option<Key> {
        self.debris.drop_waker(waker);
        self.refusal = Cause::of(number);
        None
    }

    /// Why nothing was started, the last time.
    pub(crate) const fn refusal(&self) -> Cause {
        self.refusal
    }

    /// Puts an operation into the queue, with its deadline behind it.
    fn place(
        &mut self,
        describe: &mut Describe<'_>,
        kind: Kind,
        deadline: &mut Option<(Instant, ScopeIndex)>,
    ) -> Key {
        // What may panic comes before there is anything to undo: too many slots, a description.
        let key = self.table.next();
        let request = self.driver.place(describe);
        request.set_token(key.token());
        let silent = request.take_silent();
        // What never waits needs no limit.
        if silent.is_some() || !hears_linked_timeout(request.opcode) {
            *deadline = None;
        }
        if let Some((at, _)) = *deadline {
            request.link();
            self.driver
                .place(&mut |scratch, place| *place = link_timeout(key, at, scratch));
        }
        self.submitted();
        let key = self.table.insert(State::InFlight, kind);
        if let Some(res) = silent {
            if self.silent.is_empty() {
                self.driver.take_lost(); // What was lost before was none of theirs.
            }
            self.table.at(key.index()).res = res;
            self.silent.push(key);
        }
        key
    }

    fn submitted(&mut self) {
        self.counts.submissions += 1;
        self.table.in_flight += 1;
    }

    /// There is no place in the queue, and an enter made none.
    #[cold]
    fn put_back(
        &mut self,
        describe: &mut Describe<'_>,
        kind: Kind,
        deadline: &mut Option<(Instant, ScopeIndex)>,
    ) -> Key {
        let mut scratch = OwnScratch::new();
        let mut request = Request::new(opcode::NOP, -1);
        describe(scratch.get(0), &mut request);
        request.speak(); // It is not known when it goes.
        if !hears_linked_timeout(request.opcode) {
            *deadline = None;
        }
        let key = self.table.insert(State::Queued, kind);
        request.set_token(key.token());
        let mut chain = vec![request];
        if let Some((at, _)) = *deadline {
            chain[0].link();
            chain.push(link_timeout(key, at, scratch.get(1)));
        }
        self.backlog.push_back(Backlogged {
            key,
            chain,
            scratch,
        });
        key
    }

    /// Registers a new slot: it is a leaf of `scope` and wakes `waker`.
    fn enlist(&mut self, key: Key, scope: ScopeIndex, waker: Option<Waker>) {
        self.table.at(key.index()).waker = waker;
        self.link(key.index(), scope);
    }

    /// A sleep in the heap; one until FAR_FUTURE waits to be [granted](Self::grant) something, or
    /// to be stopped. `None` as in [`start`](Self::start).
    pub(crate) fn start_timer(
        &mut self,
        deadline: Instant,
        scope: ScopeIndex,
        waker: Waker,
    ) -> Option<Key> {
        if let Err(number) = self.refuse_or_deadline(scope) {
            return self.refuse(number, Some(waker));
        }
        let key = self.table.insert(State::Waiting, Kind::OneShot);
        self.enlist(key, scope, Some(waker));
        let in_heap = deadline != Instant::FAR_FUTURE;
        self.table.at(key.index()).word = u32::from(in_heap);
        if in_heap {
            self.heap.push(deadline, Waiter::Slot(key));
        }
        Some(key)
    }

    /// Whether what is in `key` waits to be granted something.
    pub(crate) fn still_waits(&mut self, key: Key) -> bool {
        let slot = self.table.of_token(key.token());
        slot.is_some_and(|slot| slot.state == State::Waiting)
    }

    /// Whether it was, and does not know yet.
    pub(crate) fn is_granted(&mut self, key: Key) -> bool {
        let slot = self.table.slot(key);
        slot.state == State::Done && slot.res == 0
    }

    /// Ends its wait. `false`: it waits no more.
    pub(crate) fn grant(&mut self, key: Key, tasks: &mut Tasks) -> bool {
        if !self.still_waits(key) {
            return false;
        }
        let slot = self.table.slot(key);
        slot.state = State::Done;
        (slot.res, slot.word) = (0, 0);
        let waker = slot.waker.take();
        self.wake(waker, tasks);
        true
    }

    /// The request that is pending for an await under `scope` which does not use it up.
    pub(crate) fn pending(&mut self, scope: ScopeIndex) -> Option<u64> {
        if self.scopes.is_quiet() {
            return None;
        }
        self.nearest_deadline(scope);
        self.scopes.pending(scope)
    }

    /// The same, for a task that is awaited under `scope`.
    #[inline]
    pub(crate) fn pending_for_tasks(&mut self, scope: ScopeIndex) -> Option<u64> {
        if self.scopes.is_quiet() {
            return None;
        }
        self.look_for_tasks(scope)
    }

    #[cold]
    fn look_for_tasks(&mut self, scope: ScopeIndex) -> Option<u64> {
        self.nearest_deadline(scope);
        self.scopes.pending_for_tasks(scope)
    }

    /// Whether a new sleep is to be a kernel timeout.
    pub(crate) const fn sleeps_in_kernel(&self) -> bool {
        match self.timers {
            Timers::Auto => self.kernel_sleeps < Timers::KERNEL_MAX,
            Timers::Kernel => true,
            Timers::Heap => false,
        }
    }

    /// Before an await begins: the request that stops it, else the deadline it is under.
    fn refuse_or_deadline(
        &mut self,
        scope: ScopeIndex,
    ) -> Result<Option<(Instant, ScopeIndex)>, u64> {
        if self.scopes.is_quiet() {
            return Ok(None);
        }
        if self.ending {
            return Err(Cause::ENDED.number());
        }
        let deadline = self.nearest_deadline(scope);
        match self.scopes.take_pending(scope) {
            Some(number) => Err(number),
            None => Ok(deadline),
        }
    }

    /// Whether an await under `scope` would be stopped before it begins.
    pub(crate) fn refuses(&mut self, scope: ScopeIndex) -> bool {
        self.ending || self.pending(scope).is_some()
    }

    /// The deadline of an await under `scope`. One that has passed fires.
    fn nearest_deadline(&mut self, scope: ScopeIndex) -> Option<(Instant, ScopeIndex)> {
        let mut deadline = None;
        while self.scopes.any_timed() {
            let Self {
                scopes,
                driver,
                clock,
                ..
            } = self;
            deadline = scopes.deadline(scope, || *clock.insert(driver.now()));
            match deadline {
                // Has passed: seen here, not sent to the kernel, where it costs 30 µs (M). One
                // further out may have as well, and decides what is seen then (C8).
                Some((at, timed)) if at <= *self.clock.get_or_insert_with(|| self.driver.now()) => {
                    self.fire(timed);
                }
                _ => break,
            }
        }
        deadline
    }

    /// The next await that has a deadline reads the clock.
    pub(crate) const fn forget_clock(&mut self) {
        self.clock = None;
    }

    /// For awaits that finish at once: whether a request stops them (C7).
    pub(crate) fn checkpoint(&mut self, scope: ScopeIndex) -> Option<Cause> {
        self.refuse_or_deadline(scope).err().map(Cause::of)
    }

    /// The operation in `key` has the deadline of `timed` behind it.
    fn carry(&mut self, key: Key, timed: ScopeIndex) {
        let generation = self.scopes.key_of(timed).generation;
        self.scopes.cold(timed).carrier = key.index();
        let slot = self.table.slot(key);
        slot.carrier = true;
        slot.word = timed.get();
        slot.res = generation as i32;
    }

    /// Whether something waits to be handed over.
    fn has_waiting(&self) -> bool {
        !self.cancels.is_empty() || !self.backlog.is_empty() || self.deaf
    }

    /// Hands over what waits: cancels first, then operations in their order.
    #[cold]
    fn flush(&mut self) {
        if self.deaf {
            self.deaf = !self.driver.arm_unparker(self.inbox);
        }
        while let Some(&token) = self.cancels.front() {
            if !self.driver.reserve(1) {
                return;
            }
            self.cancels.pop_front();
            // Only what is still there: a cancel that misses walks the list of timeouts (M).
            if self
                .table
                .of_token(token)
                .is_some_and(|slot| slot.is_in_flight())
            {
                self.driver.submit(cancel_request(token));
            }
        }
        while let Some(first) = self.backlog.front() {
            if !self.driver.reserve(first.chain.len()) {
                return;
            }
            let Some(first) = self.backlog.pop_front() else {
                return;
            };
            for request in first.chain {
                self.driver.submit(request);
            }
            self.table.slot(first.key).state = State::InFlight;
            self.submitted();
            self.lent.push(Lent::Scratch(first.scratch));
        }
    }

    // ---- provided buffers ----

    /// The runtime's buffers to be received into.
    pub(crate) fn pool(&mut self, what_for: pool::Use) -> io::Result<BufPool> {
        self.pools.get(what_for, &mut self.driver)
    }

    pub(crate) fn buffer_counts(&self) -> BufferCounts {
        self.pools.counts()
    }

    /// What is in flight may still be written to after the ring is closed: leaked.
    #[cold]
    pub(crate) fn leak_pools(&mut self) {
        self.pools.leak();
    }

    /// The multishot in `key` is paused when it holds more than so much that nobody has fetched.
    pub(crate) fn bound_shots(&mut self, key: Key, held_max: u64) {
        self.table.slot(key).cold().held_max = held_max;
    }

    // ---- before a sleep ----

    fn arm_scopes(&mut self) {
        self.busy_turns = 0;
        while let Some(key) = self.arming.pop() {
            self.arm_scope(key);
        }
    }

    /// The loop has more to run. If that goes on, deadlines must not wait for its end.
    pub(crate) fn stay_awake(&mut self) {
        if !self.arming.is_empty() {
            self.busy_turns += 1;
            if self.busy_turns == BUSY_TURNS_MAX {
                self.arm_scopes();
            }
        }
    }

    /// Arms what has waited for the loop to have nothing else to do. Gives the moment until which
    /// it may sleep; `None`: something is to be handed over first.
    pub(crate) fn prepare_sleep(&mut self) -> Option<Instant> {
        self.busy_turns = 0;
        if !self.arming.is_empty() {
            self.arm_scopes();
        }
        if self.has_waiting() {
            self.flush();
        }
        if !self.cancels.is_empty() || !self.backlog.is_empty() || !self.debris.is_empty() {
            return None;
        }
        let until = self.next_wake().unwrap_or(Instant::FAR_FUTURE);
        if self.deaf {
            return Some(until.min(self.driver.now() + DEAF_MAX));
        }
        Some(until)
    }

    /// When the loop must be awake: at the heap's front, or a little later for several at once.
    fn next_wake(&mut self) -> Option<Instant> {
        loop {
            let (deadline, waiter) = self.heap.first()?;
            if waits(&mut self.table, &mut self.scopes, deadline, waiter) {
                return self.heap.first_cluster();
            }
            self.heap.pop(true);
        }
    }

    /// Sees to it that a kernel timeout fires at the heap's front: for a loop that is embedded in
    /// another one and does not sleep here.
    pub(crate) fn set_alarm(&mut self) {
        let Some(first) = self.next_wake() else {
            return;
        };
        if self.alarm.is_some_and(|alarm| alarm <= first) || !self.driver.reserve(1) {
            return;
        }
        let alarm = Token::control(Control::Timer, 0);
        let armed = self.alarm.replace(first);
        let set = |ts| match armed {
            None => Request::new(opcode::TIMEOUT, -1)
                .addr(ts)
                .len(1)
                .op_flags(TIMEOUT_ABS)
                .with_token(alarm),
            // If it has fired meanwhile this finds nothing, and the next turn arms another.
            Some(_) => Request::new(opcode::TIMEOUT_REMOVE, -1)
                .addr(as_pointer(alarm))
                .addr2(ts)
                .op_flags(TIMEOUT_ABS | TIMEOUT_UPDATE)
                .flags(flags::CQE_SKIP_SUCCESS)
                .with_token(Token::control(Control::Ignored, 0)),
        };
        self.driver
            .place(&mut |scratch, place| *place = set(scratch.put(first.timespec())));
    }

    /// Whether another turn has something to hand over, to take, or to see to.
    pub(crate) fn is_busy(&mut self) -> bool {
        self.driver.has_queued()
            || (self.driver.has_more() && self.fruitless < FRUITLESS_MAX)
            || !self.cancels.is_empty()
            || !self.backlog.is_empty()
            || !self.debris.is_empty()
            // Deadlines that no timeout of the kernel's stands for: one that fired has gone, or
            // a scope was polled from outside of a turn.
            || !self.arming.is_empty()
            || self.next_wake().is_some_and(|first| self.alarm.is_none_or(|alarm| first < alarm))
    }

    // ---- to other rings ----

    /// Sends a message to the ring of `target`, which sleeps. `false`: that ring can't be held.
    pub(crate) fn message(&mut self, inbox: &Inbox, target: RuntimeId) -> bool {
        // From a ring only.
        if self.driver.kind() != DriverKind::Uring || !self.driver.reserve(1) {
            return false;
        }
        let Some(ring) = inbox.ring(target) else {
            return false;
        };
        // Held until the kernel has taken the request, so the number means that ring (R14). If its
        // thread is gone the message is lost, and nobody needs it.
        let request = Request::new(opcode::MSG_RING, ring.as_raw_fd())
            .off(Token::control(Control::Message, 0).user_data())
            .flags(flags::CQE_SKIP_SUCCESS)
            .with_token(Token::control(Control::MessageFailed, inbox.number()));
        self.driver.submit(request);
        self.lent.push(Lent::Ring(ring));
        true
    }
}

/// In `word` of a slot that is a timer.
const IN_HEAP: u32 = 1;

/// Whether an entry of the heap stands for somebody who still waits.
fn waits(table: &mut Table, scopes: &mut Scopes, deadline: Instant, waiter: Waiter) -> bool {
    match waiter {
        Waiter::Slot(key) => {
            let slot = table.of_token(key.token());
            slot.is_some_and(|slot| slot.state == State::Waiting)
        }
        // A deadline that was moved has left its entry behind.
        Waiter::Scope(key) => scopes
            .find(key)
            .is_some_and(|scope| scope.armed && scope.deadline.moment() == Some(deadline)),
    }
}

/// Whether a linked timeout ends an operation wherever that waits. One that the kernel gives to a
/// worker thread outright (open, statx, fsync, splice …) may wait there for ever, and its linked
/// timeout is not heard (M: Linux 6.18): the scope's own timer leads to a cancel that is, and that
/// is asked again (R8). So this names those that are known to hear it, and that can be started
/// again when nobody had asked for their end: not connect, which goes on in its socket.
const fn hears_linked_timeout(opcode: u8) -> bool {
    matches!(
        opcode,
        op::Nop::CODE
            | op::PollAdd::CODE
            | op::Recv::CODE
            | op::RecvMsg::CODE
            | op::Send::CODE
            | op::SendMsg::CODE
            | op::SendZc::CODE
            | op::SendMsgZc::CODE
            | op::Accept::CODE
            | op::Read::CODE
            | op::Readv::CODE
            | op::ReadFixed::CODE
            | op::Write::CODE
            | op::Writev::CODE
            | op::WriteFixed::CODE
    )
}

/// The timeout behind an operation: absolute, and silent but in its effect.
fn link_timeout(key: Key, deadline: Instant, scratch: &mut Scratch) -> Request {
    Request::new(opcode::LINK_TIMEOUT, -1)
        .addr(scratch.put(deadline.timespec()))
        .len(1)
        .op_flags(TIMEOUT_ABS)
        .flags(flags::CQE_SKIP_SUCCESS)
        .with_token(key.token().with_tag(Tag::Timeout))
}

/// Cancels by token, and is heard of only if it does not succeed.
fn cancel_request(victim: Token) -> Request {
    Request::new(opcode::ASYNC_CANCEL, -1)
        .addr(as_pointer(victim))
        .flags(flags::CQE_SKIP_SUCCESS)
        .with_token(victim.with_tag(Tag::Cancel))
}

/// A token in a field that usually holds an address.
const fn as_pointer(token: Token) -> *const u8 {
    std::ptr::without_provenance(token.user_data() as usize)
}
