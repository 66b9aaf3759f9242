//! One runtime: what a turn of the loop is, and how it ends.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, Write as _};
use std::mem::{ManuallyDrop, take};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::Instant;
use crate::context::Contexts;
use crate::core::{Closed, Core, NextShot};
use crate::current::{self, Current, Entered, NO_TASK};
use crate::debris::quietly;
use crate::debug::{self, Debug};
use crate::driver::{Driver, Wait};
use crate::error::Cause;
use crate::inbox::{Inbox, RuntimeId};
use crate::op::table::{Key, Kind, Slot};
use crate::op::{Cqe, Orphan};
use crate::pool;
use crate::scope::{Border, Deadline, ScopeIndex, ScopeKey};
use crate::task::{TaskCell, TaskNumber, Tasks};
use crate::timers::Timers;

/// Polls in one turn before completions are looked at: what keeps busy tasks from starving I/O
/// and timers. A look costs nothing when there is nothing.
const POLLS_PER_TURN_MAX: usize = 256;

/// How long a runtime that ends waits for what it has cancelled. The disk answers in
/// milliseconds; what takes longer hangs (a dead server behind a network file system).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Payloads that were leaked, since nobody could say that the kernel was done with them (R2).
static LEAKS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn count_leak() {
    LEAKS.fetch_add(1, Relaxed);
}

pub(crate) fn leaks() -> u64 {
    LEAKS.load(Relaxed)
}

/// Has the other runtimes of this thread, which are not turning, hand over to the kernel what they were
/// asked to stop, and take what has completed: for who waits until the kernel is done with an
/// operation of any of them, such as one that was dropped, and whose runtime may never turn again. Runs
/// no task of theirs, and waits for nothing.
///
/// # Errors
/// If one of them cannot go on.
pub fn pump_others() -> io::Result<()> {
    for other in current::others() {
        if !other.ended.get() && other.core().table.in_flight > 0 {
            other.pump_from_outside()?;
        }
    }
    Ok(())
}

pub(crate) struct Runtime {
    id: RuntimeId,
    inbox: &'static Inbox,
    core: RefCell<Core>,
    tasks: RefCell<Tasks>,
    /// No tasks are taken in any more.
    ending: Cell<bool>,
    /// The loop has ended; what is left of it answers for futures that live on.
    ended: Cell<bool>,
    /// The event descriptor has been asked for: another loop drives this one.
    embedded: Cell<bool>,
    woken: RefCell<Vec<u32>>,
    contexts: Contexts,
    debug: Option<Debug>,
    /// The task that is woken when another one ends; `NO_TASK` is none.
    watcher: Cell<u32>,
}

impl Runtime {
    pub(crate) fn new(
        id: RuntimeId,
        inbox: &'static Inbox,
        driver: Driver,
        timers: Timers,
        buffers: pool::Config,
        debug: bool,
    ) -> Rc<Self> {
        inbox.set_ring(driver.ring_fd());
        let runtime = Rc::new(Self {
            id,
            inbox,
            core: RefCell::new(Core::new(driver, timers, buffers, inbox)),
            tasks: RefCell::new(Tasks::new()),
            ending: Cell::new(false),
            ended: Cell::new(false),
            embedded: Cell::new(false),
            woken: RefCell::new(Vec::new()),
            contexts: Contexts::default(),
            debug: Debug::new(debug),
            watcher: Cell::new(NO_TASK),
        });
        current::register(runtime.clone());
        runtime
    }

    pub(crate) const fn id(&self) -> RuntimeId {
        self.id
    }

    pub(crate) const fn inbox(&self) -> &'static Inbox {
        self.inbox
    }

    pub(crate) fn core(&self) -> RefMut<'_, Core> {
        self.core.borrow_mut()
    }

    pub(crate) fn tasks(&self) -> RefMut<'_, Tasks> {
        self.tasks.borrow_mut()
    }

    pub(crate) const fn debug(&self) -> Option<&Debug> {
        self.debug.as_ref()
    }

    pub(crate) const fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    pub(crate) fn now(&self) -> Instant {
        self.core().driver.now()
    }

    // ---- the loop ----

    /// One turn: takes what other threads left, runs what is ready, hands over what was asked for
    /// and takes what has completed. For a `main` that is not done, and with nothing left to do,
    /// the same enter waits for something.
    pub(crate) fn turn(&self, main: Option<&TaskCell>) -> io::Result<()> {
        let _entered = Entered::new(self);
        self.receive();
        self.run_ready();
        let idle = self.tasks().ready() == 0;
        let may_sleep = idle && main.is_some_and(|main| !main.is_done());
        let wait = if may_sleep {
            self.fall_asleep()
        } else {
            Wait::No
        };
        if !idle {
            self.core().stay_awake();
        } else if self.embedded.get() {
            let mut core = self.core();
            core.prepare_sleep();
            core.set_alarm();
        } else if !may_sleep {
            // Turned by hand, the loop arms what it would before a sleep.
            self.core().prepare_sleep();
        }
        let pumped = self.core().pump(wait, &mut self.tasks());
        if wait != Wait::No {
            self.inbox.awake();
        }
        self.settle();
        pumped
    }

    /// How long the enter at the end of this turn may take.
    fn fall_asleep(&self) -> Wait {
        let Some(until) = self.core().prepare_sleep() else {
            return Wait::No;
        };
        // A deadline that has passed is seen here: the kernel takes 30 µs to find out (M).
        if until != Instant::FAR_FUTURE && until <= self.now() {
            return Wait::No;
        }
        if self.inbox.sleep() {
            Wait::Until(until)
        } else {
            Wait::No
        }
    }

    /// Takes what other threads left.
    fn receive(&self) {
        if self.inbox.is_empty() {
            return;
        }
        for call in self.inbox.take_calls(self.id) {
            quietly(call);
        }
        let mut woken = self.woken.borrow_mut();
        self.inbox.take_wakes(&mut woken);
        let mut tasks = self.tasks();
        for index in woken.drain(..) {
            tasks.wake_index(index);
        }
    }

    /// Runs the tasks that are ready, and those that they make ready, within the turn's budget.
    fn run_ready(&self) {
        for _ in 0..POLLS_PER_TURN_MAX {
            let Some((cell, generation)) = self.tasks().pop() else {
                return;
            };
            self.poll_task(&cell, generation);
        }
    }

    fn poll_task(&self, cell: &TaskCell, generation: u32) {
        let index = cell.header().index.get();
        current::set(index, cell.header().scope.get());
        let waker: ManuallyDrop<Waker> =
            TaskNumber::new(self.inbox.number(), index, generation).waker();
        let mut cx = Context::from_waker(&waker);
        let done = match &self.debug {
            None => cell.poll(&mut cx),
            Some(debug) => debug.watch(self, cell, || cell.poll(&mut cx)),
        };
        current::set(NO_TASK, ScopeIndex::NONE);
        if done {
            self.end_task(cell);
        } else if self.is_aborted(cell) {
            self.discard(cell);
        }
    }

    /// The task's future is done, or gone. So may the task be, afterwards.
    fn end_task(&self, cell: &TaskCell) {
        // Done, and in no list, before anything that user code may look at in between.
        self.unlink_join(cell);
        let scope = cell.header().scope.replace(ScopeIndex::NONE);
        if scope == ScopeIndex::NONE || !self.core().scopes.has_heard_forwarded(scope) {
            cell.join().cause.set(0);
        }
        let joiner = cell.finish();
        let ours = self.tasks().remove(cell.header().index.get());
        if scope != ScopeIndex::NONE {
            let key = self.core().scopes.key_of(scope);
            self.close_scope(key, true);
        }
        if let Some(joiner) = joiner {
            self.wake_joiner(joiner);
        }
        if let Some(debug) = &self.debug {
            debug.ended(cell);
        }
        if self.watcher.get() != NO_TASK {
            let watcher = self.watcher.replace(NO_TASK);
            self.tasks().wake_index(watcher);
        }
        if let Some(ours) = ours.filter(TaskCell::is_last) {
            if self.debug.is_some() {
                Debug::look_at_output(&ours);
            }
            // Nobody has a handle: the output goes, by user code.
            quietly(|| drop(ours));
        }
        self.settle();
    }

    fn wake_joiner(&self, joiner: Waker) {
        match TaskNumber::of(&joiner) {
            Some(number) if self.wake_own(number) => {}
            _ => quietly(|| joiner.wake()),
        }
    }

    /// Calls `f` with the core, then runs the user code that it has left (R10).
    pub(crate) fn with_core<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.borrow_mut();
        let result = f(&mut core);
        let littered = !core.debris.is_empty();
        drop(core);
        if littered {
            self.clear_debris();
        }
        result
    }

    /// Runs the user code that has been collected, with nothing borrowed (R10).
    pub(crate) fn settle(&self) {
        if self.core().debris.is_empty() {
            return;
        }
        self.clear_debris();
    }

    #[cold]
    fn clear_debris(&self) {
        // A request that is forwarded is made anew at the task. So that it ends where tasks await
        // each other, it is forwarded to each once.
        let since = self.core().scopes.requests();
        loop {
            let mut debris = take(&mut self.core().debris);
            if debris.is_empty() {
                return;
            }
            debris.clear_away(|scope, number| self.forward_all(scope, number, since));
            // Keeps the room that was allocated, unless more came meanwhile.
            let mut core = self.core();
            if core.debris.is_empty() {
                core.debris = debris;
                return;
            }
        }
    }

    // ---- tasks ----

    /// Has `task` woken when the next one ends.
    pub(crate) fn watch_ends(&self, task: u32) {
        self.watcher.set(task);
    }

    /// Whether a task was asked to stop, and waits for nothing that could tell it so.
    pub(crate) fn is_deaf(&self, cell: &TaskCell) -> bool {
        let (root, index) = (cell.header().scope.get(), cell.header().index.get());
        // Whoever awaits it would get no output.
        root != ScopeIndex::NONE
            && !Self::is_awaited(cell)
            && !self.tasks().is_queued(index)
            && self.core().is_asked_in_vain(root)
    }

    /// Takes a task in, or discards it if the runtime is ending.
    pub(crate) fn spawn(&self, cell: TaskCell) {
        if self.ending.get() {
            cell.discard();
            if let Some(joiner) = cell.finish() {
                self.wake_joiner(joiner);
            }
            return;
        }
        let mut tasks = self.tasks();
        let before = tasks.capacity();
        tasks.insert(cell);
        let after = tasks.capacity();
        if after != before {
            self.inbox.grow(after as u32);
        }
    }

    /// Drops the future of a task that has not ended, and ends the task.
    pub(crate) fn discard(&self, cell: &TaskCell) {
        let _entered = Entered::new(self);
        cell.discard();
        self.end_task(cell);
    }

    /// For awaits that finish at once: whether a request to stop is pending (C7).
    pub(crate) fn checkpoint(&self, current: &Current) -> Option<Cause> {
        let has_no_scope = current.scope.get() == ScopeIndex::NONE && !current.has_new_root.get();
        if has_no_scope || self.core().scopes.is_quiet() {
            return None;
        }
        self.look_for_request(current)
    }

    #[cold]
    fn look_for_request(&self, current: &Current) -> Option<Cause> {
        let here = current.scope.get();
        let around = match here {
            ScopeIndex::LAZY => current.lazy_outer.get(),
            here => here,
        };
        let around = match around {
            // It may have got one where it was not polled.
            ScopeIndex::NONE => self.tasks().get(current.task.get())?.header().scope.get(),
            made => made,
        };
        if !around.is_made() || !self.with_core(|core| core.refuses(around)) {
            return None; // What is not made has been asked nothing.
        }
        // Made for that: it is to be known who has heard.
        let scope = self.scope_here(current);
        self.with_core(|core| core.checkpoint(scope))
    }

    /// Queues the task of a waker of ours. `false`: it belongs to another runtime.
    pub(crate) fn wake_own(&self, number: TaskNumber) -> bool {
        if number.inbox() != self.inbox.number() {
            return false;
        }
        self.tasks().wake(number);
        true
    }

    pub(crate) fn message_ring(&self, inbox: &Inbox, target: RuntimeId) -> bool {
        match self.core.try_borrow_mut() {
            Ok(mut core) => core.message(inbox, target),
            Err(_) => false,
        }
    }

    /// Makes a request to stop at the root of a task.
    pub(crate) fn request_task(&self, cell: &TaskCell, reason: Option<Rc<str>>) {
        cell.ask_to_stop();
        let root = self.root_scope(cell);
        current::set_root(self.id, cell.header().index.get(), root);
        let mut core = self.core();
        core.request(root, reason);
        core.scopes.count_cancel(root);
        drop(core);
        // Nothing may be registered under it: then the task must get a chance to look.
        self.tasks().wake_index(cell.header().index.get());
    }

    pub(crate) fn root_scope(&self, cell: &TaskCell) -> ScopeIndex {
        let scope = &cell.header().scope;
        if scope.get() == ScopeIndex::NONE {
            current::note_root();
            scope.set(
                self.core()
                    .scopes
                    .open(ScopeIndex::NONE, Deadline::NEVER, Border::Open)
                    .index,
            );
        }
        scope.get()
    }

    /// The scope that is being polled. The task's root, and one that is lazy, are made when
    /// they are first asked for.
    pub(crate) fn scope_here(&self, current: &Current) -> ScopeIndex {
        let scope = current.scope.get();
        if scope.is_made() {
            return scope;
        }
        let scope = self.make_scope(current, scope);
        current.scope.set(scope);
        scope
    }

    #[inline(never)]
    fn make_scope(&self, current: &Current, scope: ScopeIndex) -> ScopeIndex {
        match scope {
            ScopeIndex::LAZY => {
                let (deadline, border) = (current.lazy_deadline.get(), current.lazy_border.get());
                let outer = self.make_scope(current, current.lazy_outer.get());
                self.core().open_scope(outer, deadline, border).index
            }
            ScopeIndex::NONE => match self.tasks().get(current.task.get()) {
                Some(cell) => self.root_scope(cell),
                None => ScopeIndex::NONE,
            },
            made => made,
        }
    }

    /// Asks a scope to stop, if it has not been closed.
    pub(crate) fn cancel_scope(&self, key: ScopeKey) {
        self.with_core(|core| core.cancel_scope(key));
        self.tell_host();
    }

    /// Closes a scope. What still waits in it belongs to the scope around it; `settle`: and what was
    /// heard there.
    pub(crate) fn close_scope(&self, key: ScopeKey, settle: bool) -> Closed {
        if self.core().scopes.at(key.index).first_join != NO_TASK {
            self.end_joins(key);
        }
        // Taken out before another scope has the place, and dropped last.
        let _values = (!self.contexts.is_empty()).then(|| self.take_context(key.index));
        let (closed, waker) = self.with_core(|core| core.close_scope(key, settle));
        if let Some(waker) = waker
            && TaskNumber::of(&waker).is_none()
        {
            quietly(|| drop(waker));
        }
        closed
    }

    #[cold]
    fn end_joins(&self, key: ScopeKey) {
        if self.core().scopes.is_stopped_branch(key.index) {
            self.leave_joins(key); // They are left running.
        } else {
            self.hand_joins_on(key);
        }
    }

    // ---- leaves ----

    /// What is in a slot, for a task that is polled in this runtime.
    pub(crate) fn poll_slot(&self, key: Key, current: &Current, waker: &Waker) -> Option<Cqe> {
        let scope = self.scope_here(current);
        let mut waker = Lent::new(waker);
        self.with_core(|core| {
            let fetched = core.fetch(key, Some(scope));
            if fetched.is_none() {
                core.set_waker(key, waker.take());
            }
            fetched
        })
    }

    /// The next completion of a multishot, for a task that is polled in this runtime.
    pub(crate) fn poll_shot(&self, key: Key, current: &Current, waker: &Waker) -> NextShot {
        let scope = self.scope_here(current);
        let mut waker = Lent::new(waker);
        self.with_core(|core| {
            let shot = core.fetch_shot(key, Some(scope));
            if let NextShot::Pending = shot {
                core.set_waker(key, waker.take());
            }
            shot
        })
    }

    /// The next completion of a multishot that was stopped: nothing else ends the wait.
    pub(crate) fn poll_shot_unasked(&self, key: Key, waker: &Waker) -> NextShot {
        let mut waker = Lent::new(waker);
        let shot = self.with_core(|core| {
            let shot = core.fetch_shot(key, None);
            if let NextShot::Pending = shot {
                core.set_waker(key, waker.take());
            }
            shot
        });
        self.left_alone(); // It may have been the last.
        shot
    }

    // ---- leaves that are polled where this loop is not turning ----
    //
    // Waiting could take for ever. So what is polled is ended, the kernel's word is fetched here, and
    // the outcome is an error, unless something had come.

    /// As `poll_slot`: the error comes with the buffer.
    #[cold]
    pub(crate) fn poll_slot_from_outside(&self, key: Key, waker: &Waker) -> Option<Cqe> {
        let fetch = |core: &mut Core| match core.fetch(key, None) {
            // Not to be started again here (R4).
            Some(cqe) if cqe.is_stray() => Some(Cqe::cancelled(Cause::NOT_RUNNING)),
            fetched => fetched,
        };
        self.fetch_from_outside(waker, fetch, |core| core.give_up(key))
    }

    /// As `poll_shot`. What it has still to give comes to the next who poll, behind the error.
    #[cold]
    pub(crate) fn poll_shot_from_outside(&self, key: Key) -> NextShot {
        let refused = || Cqe::cancelled(Cause::NOT_RUNNING);
        let fetch = |core: &mut Core| core.fetch_shot(key, None).fetched();
        let mut shot = self.with_core(fetch);
        if shot.is_none() {
            self.with_core(|core| core.stop_shots(key));
            shot = match self.pump_from_outside() {
                Ok(()) => self.with_core(fetch),
                Err(_) => None, // It is told by who runs that loop.
            };
            if let Some(NextShot::Stopped) = shot {
                shot = Some(NextShot::Last(refused()));
            }
        }
        self.left_alone(); // It may have been the last.
        shot.unwrap_or_else(|| NextShot::Cqe(refused()))
    }

    /// As `poll_shot_unasked`.
    #[cold]
    pub(crate) fn poll_shot_unasked_from_outside(&self, key: Key, waker: &Waker) -> NextShot {
        let fetch = |core: &mut Core| core.fetch_shot(key, None).fetched();
        let shot = self.fetch_from_outside(waker, fetch, |_| {}); // It was stopped before.
        shot.unwrap_or(NextShot::Pending)
    }

    fn fetch_from_outside<T>(
        &self,
        waker: &Waker,
        fetch: impl Fn(&mut Core) -> Option<T>,
        end: impl FnOnce(&mut Core),
    ) -> Option<T> {
        let mut fetched = self.with_core(&fetch);
        if fetched.is_none() {
            self.with_core(end);
            let pumped = self.pump_from_outside();
            fetched = self.with_core(&fetch);
            if fetched.is_none() {
                // The disk is not done with it yet; bounded by that. What was leaked at the end of the
                // loop never comes.
                if pumped.is_ok() && !self.ended.get() {
                    waker.wake_by_ref();
                }
                return None;
            }
        }
        self.left_alone(); // It may have been the last.
        fetched
    }

    /// Hands over what was asked for, and takes what has completed, while somebody else turns.
    fn pump_from_outside(&self) -> io::Result<()> {
        let pumped = self.with_core(|core| core.pump(Wait::No, &mut self.tasks()));
        self.tell_host();
        pumped
    }

    /// Begins to wait for somebody to [`grant`](Self::grant) something.
    pub(crate) fn start_wait(&self, current: &Current, waker: Waker) -> Result<Key, Cause> {
        let scope = self.scope_here(current);
        self.with_core(|core| {
            let key = core.start_timer(Instant::FAR_FUTURE, scope, waker);
            key.ok_or_else(|| core.refusal())
        })
    }

    /// Ends such a wait. `false`: it is over.
    pub(crate) fn grant(&self, key: Key) -> bool {
        let granted = self.core().grant(key, &mut self.tasks());
        self.settle();
        self.tell_host();
        granted
    }

    pub(crate) fn abandon(&self, key: Key, orphan: Box<dyn Orphan>) {
        // A multishot that is left is how one stops to accept.
        let is_lost = |slot: &Slot| slot.is_in_flight() && slot.kind != Kind::Multishot;
        if self.debug.is_some() && is_lost(self.core().table.slot(key)) {
            debug::dropped_in_flight();
        }
        self.with_core(|core| core.abandon(key, orphan));
        self.left_alone();
    }

    pub(crate) fn release(&self, key: Key) {
        self.with_core(|core| core.release(key));
        self.left_alone();
    }

    /// A future has let go of its slot.
    fn left_alone(&self) {
        if self.ended.get() {
            self.forget_if_empty();
        } else {
            self.tell_host();
        }
    }

    /// Outside of a turn nobody would hand the cancel over before something else happens.
    pub(crate) fn tell_host(&self) {
        if !self.embedded.get() {
            return;
        }
        if !current::is_here(self.id) && (self.tasks().ready() > 0 || self.core().is_busy()) {
            self.core().driver.signal_event_fd(true);
        }
    }

    // ---- embedding ----

    pub(crate) fn event_fd(&self) -> io::Result<RawFd> {
        let fd = self.core().driver.event_fd()?;
        let number = fd.as_raw_fd();
        if !self.embedded.replace(true) {
            self.inbox.set_host(fd);
            self.leave();
        }
        Ok(number)
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.get()
    }

    /// Back from the other loop.
    pub(crate) fn enter_from_host(&self) {
        self.inbox.awake();
        self.core().driver.signal_event_fd(false);
    }

    /// Back to the other loop: from here this one counts as asleep, and its descriptor says when
    /// there is something to do.
    pub(crate) fn leave(&self) {
        let busy = self.tasks().ready() > 0 || self.core().is_busy();
        if busy || !self.inbox.sleep() {
            self.core().driver.signal_event_fd(true);
        }
    }

    // ---- the end (R9) ----

    /// Ends the runtime: nothing of it is in flight afterwards, or it is leaked and reported.
    pub(crate) fn shut_down(&self) {
        self.ending.set(true);
        {
            let _entered = Entered::new(self);
            self.drop_tasks();
            self.drain();
        }
        self.inbox.close(self.id);
        self.ended.set(true);
        self.core().driver.retire();
        self.forget_if_empty();
    }

    fn drop_tasks(&self) {
        // From the back: what is cancelled newest first is given up the fastest (M).
        let places = self.tasks().capacity() as u32;
        for index in (0..places).rev() {
            let Some(cell) = self.tasks().get(index).cloned() else {
                continue;
            };
            current::set(NO_TASK, ScopeIndex::NONE);
            cell.discard();
            self.end_task(&cell);
        }
        for call in self.inbox.take_calls(self.id) {
            quietly(|| drop(call));
        }
    }

    fn drain(&self) {
        let deadline = self.now() + SHUTDOWN_GRACE;
        self.core().cancel_all();
        self.settle();
        while self.core().table.in_flight > 0 {
            let now = self.now();
            if now >= deadline {
                return self.report_leaks(&format!("within {SHUTDOWN_GRACE:?} of their cancel"));
            }
            // Short, so that what the kernel could not cancel is asked for again.
            let until = (now + Duration::from_millis(100)).min(deadline);
            let before = self.core().table.in_flight;
            let pumped = self.core().pump(Wait::Until(until), &mut self.tasks());
            self.settle();
            if let Err(error) = pumped {
                return self.report_leaks(&format!("since the loop cannot go on ({error})"));
            }
            // Not while they come: asking for thousands takes longer than this.
            if self.now() >= until && self.core().table.in_flight == before {
                self.core().cancel_again();
            }
        }
        // What was queued behind the last of them: messages, cancels.
        let _ = self.core().pump(Wait::No, &mut self.tasks());
        self.settle();
    }

    #[cold]
    fn report_leaks(&self, when: &str) {
        let left = self.core().table.in_flight;
        self.core().leak_pools();
        LEAKS.fetch_add(left as u64, Relaxed);
        // The end of a runtime has nobody to give an error to, and goes on where nobody reads it.
        let _ = writeln!(
            io::stderr(),
            "coring: {left} operations did not end {when}; what they may still write to is leaked \
             (a hanging device or file system?)"
        );
    }

    /// Once nothing names a slot of it, an ended runtime is freed.
    fn forget_if_empty(&self) {
        if self.core().table.len() == 0 {
            current::deregister(self.id);
        }
    }
}

/// A waker to be cloned while something is borrowed, if it comes to that: the clone of a foreign
/// one, which is user code, is made before (R10).
struct Lent<'a> {
    waker: &'a Waker,
    foreign: Option<Waker>,
}

impl<'a> Lent<'a> {
    fn new(waker: &'a Waker) -> Self {
        let foreign = TaskNumber::of(waker).is_none().then(|| waker.clone());
        Self { waker, foreign }
    }

    fn take(&mut self) -> Waker {
        let foreign = self.foreign.take();
        foreign.unwrap_or_else(|| TaskNumber::clone_of(self.waker))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(foreign) = self.foreign.take() {
            // What was fetched is on its way to the future: a panic here would lose it.
            quietly(|| drop(foreign));
        }
    }
}
