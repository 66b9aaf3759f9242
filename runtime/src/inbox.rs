//! What other threads leave for a runtime: wake-ups and closures, and how its sleep is broken.
//!
//! # Immortal (R14)
//!
//! A waker is a number and may be kept for ever, so what it leads to is never freed: an inbox is
//! leaked when it is made, with its eventfd, and goes back to a pool when its runtime ends. A wake
//! that comes after the end is a no-op, or, when the inbox serves another runtime by then, one
//! spurious poll there.
//!
//! # The sleeping flag
//!
//! ```text
//!            open                 sleep()              notify() of any thread
//! CLOSED ───────────▶ RUNNING ───────────▶ SLEEPING ───────────▶ NOTIFIED
//!    ▲                   │  ▲                  │ awake()             │ awake()
//!    └───────────────────┘  └──────────────────┴─────────────────────┘
//!            close
//! ```
//!
//! Both sides write first and look second, with sequentially consistent accesses: the waker
//! pushes, then reads the phase; the owner sets SLEEPING, then looks at the queues. So at least
//! one of them sees the other, and only the thread that moved SLEEPING to NOTIFIED signals. The
//! phase is in one word with the runtime's id, so that nobody signals a successor by mistake.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{io, ptr};

use crate::debris::quietly;
use crate::op::INDEX_BITS;

/// Runtimes that can live at once in a process: a waker has 12 bits for its inbox.
pub(crate) const INBOXES_MAX: usize = 1 << 12;

static INBOXES: [AtomicPtr<Inbox>; INBOXES_MAX] =
    [const { AtomicPtr::new(ptr::null_mut()) }; INBOXES_MAX];
static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    made: 0,
});
static NEXT_RUNTIME: AtomicU64 = AtomicU64::new(1);

struct Pool {
    free: Vec<&'static Inbox>,
    made: usize,
}

/// Identifies a runtime: counted up over the life of the process, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct RuntimeId(u64);

impl RuntimeId {
    /// No runtime has it.
    pub(crate) const NONE: Self = Self(0);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
enum Phase {
    Closed = 0,
    Running = 1,
    Sleeping = 2,
    Notified = 3,
}

/// Phase and runtime in one word.
#[derive(Clone, Copy)]
struct State(u64);

impl State {
    const fn new(runtime: RuntimeId, phase: Phase) -> Self {
        Self(runtime.0 << 2 | phase as u64)
    }

    const fn runtime(self) -> RuntimeId {
        RuntimeId(self.0 >> 2)
    }

    const fn is(self, phase: Phase) -> bool {
        self.0 & 3 == phase as u64
    }
}

/// A closure on its way to a runtime.
struct Call {
    next: *mut Call,
    runtime: RuntimeId,
    run: Box<dyn FnOnce() + Send>,
}

pub(crate) struct Inbox {
    number: u32,
    state: AtomicU64,
    wakes: WakeStack,
    calls: AtomicPtr<Call>,
    event_fd: OnceLock<OwnedFd>,
    /// Whether the driver that is here now sleeps in `parker`, having no descriptor to wait on.
    parks: AtomicBool,
    parker: Parker,
    /// The ring of the runtime that is here now, if it takes messages.
    ring: Mutex<Option<Arc<OwnedFd>>>,
    /// Whether there is something in `host`.
    embedded: AtomicBool,
    /// What the loop waits on that drives this one.
    host: Mutex<Option<Arc<OwnedFd>>>,
}

impl Inbox {
    /// Takes an inbox from the pool for a new runtime. `None`: too many runtimes live.
    pub(crate) fn open() -> Option<(&'static Self, RuntimeId)> {
        let runtime = RuntimeId(NEXT_RUNTIME.fetch_add(1, Relaxed));
        let mut pool = lock(&POOL);
        let inbox = match pool.free.pop() {
            Some(inbox) => inbox,
            None if pool.made == INBOXES_MAX => return None,
            None => {
                let inbox: &'static Self = Box::leak(Box::new(Self::new(pool.made as u32)));
                INBOXES[pool.made].store(ptr::from_ref(inbox).cast_mut(), Release);
                pool.made += 1;
                inbox
            }
        };
        inbox
            .state
            .store(State::new(runtime, Phase::Running).0, SeqCst);
        Some((inbox, runtime))
    }

    fn new(number: u32) -> Self {
        Self {
            number,
            state: AtomicU64::new(State::new(RuntimeId::NONE, Phase::Closed).0),
            wakes: WakeStack::new(),
            calls: AtomicPtr::new(ptr::null_mut()),
            event_fd: OnceLock::new(),
            parks: AtomicBool::new(false),
            parker: Parker {
                signalled: Mutex::new(false),
                changed: Condvar::new(),
            },
            ring: Mutex::new(None),
            embedded: AtomicBool::new(false),
            host: Mutex::new(None),
        }
    }

    /// The inbox that a waker's number names.
    pub(crate) fn by_number(number: u32) -> Option<&'static Self> {
        let inbox = INBOXES.get(number as usize)?.load(Acquire);
        // SAFETY: null, or an inbox that `open` leaked: it lives for ever (R14).
        unsafe { inbox.as_ref() }
    }

    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// The eventfd of this inbox, made when the first driver that polls it asks.
    pub(crate) fn event_fd(&self) -> io::Result<&OwnedFd> {
        if let Some(fd) = self.event_fd.get() {
            return Ok(fd);
        }
        let fd = new_event_fd()?;
        Ok(self.event_fd.get_or_init(|| fd))
    }

    /// Where a driver without a descriptor sleeps; [`signal`](Self::signal) goes there from now.
    pub(crate) fn parker(&self) -> &Parker {
        self.parks.store(true, Relaxed);
        &self.parker
    }

    // ---- for other threads ----

    /// Queues a task of whatever runtime is here and sees to it that it looks.
    pub(crate) fn wake(&self, task: u32) {
        if self.load().is(Phase::Closed) {
            return;
        }
        self.wakes.push(task);
        self.notify();
    }

    /// As [`wake`](Self::wake), from a signal handler: only atomics and a write. A loop that sleeps
    /// without a descriptor is not woken.
    pub(crate) fn wake_from_signal(&self, task: u32) {
        self.wakes.push(task);
        let state = self.load();
        if !state.is(Phase::Sleeping) {
            return; // It looks before it sleeps.
        }
        let notified = State::new(state.runtime(), Phase::Notified);
        let moved = self
            .state
            .compare_exchange(state.0, notified.0, SeqCst, Relaxed);
        if let (Ok(_), Some(fd)) = (moved, self.event_fd.get()) {
            write_event_fd(fd);
        }
    }

    /// Queues a closure for `runtime`. Dropped without a call where that has ended, or ends
    /// before it is run: whoever must know puts a guard into it.
    pub(crate) fn call(&self, runtime: RuntimeId, run: Box<dyn FnOnce() + Send>) {
        if !self.is_open(runtime) {
            return;
        }
        self.push_call(runtime, run);
        // It may have ended in between, and nobody look here before the next one comes.
        if self.is_open(runtime) {
            self.notify();
        } else {
            self.sweep();
        }
    }

    /// Drops the closures whose runtime has ended.
    #[cold]
    fn sweep(&self) {
        let serves = self.load().runtime();
        for call in self.take_calls(serves) {
            self.call(serves, call); // That one may end in between as well.
        }
    }

    fn push_call(&self, runtime: RuntimeId, run: Box<dyn FnOnce() + Send>) {
        let call = Box::into_raw(Box::new(Call {
            next: ptr::null_mut(),
            runtime,
            run,
        }));
        let mut head = self.calls.load(Relaxed);
        loop {
            // SAFETY: `call` came from a Box just now and is not shared before the exchange.
            unsafe { (*call).next = head };
            match self
                .calls
                .compare_exchange_weak(head, call, SeqCst, Relaxed)
            {
                Ok(_) => break,
                Err(changed) => head = changed,
            }
        }
    }

    pub(crate) fn is_open(&self, runtime: RuntimeId) -> bool {
        let state = self.load();
        state.runtime() == runtime && !state.is(Phase::Closed)
    }

    /// Breaks the sleep of the runtime that is here.
    pub(crate) fn notify(&self) {
        let state = self.load();
        if !state.is(Phase::Sleeping) {
            return;
        }
        let notified = State::new(state.runtime(), Phase::Notified);
        if self
            .state
            .compare_exchange(state.0, notified.0, SeqCst, Relaxed)
            .is_err()
        {
            return; // Awake, or somebody else signals.
        }
        if !crate::current::message_ring(self, state.runtime()) {
            self.signal();
        }
    }

    /// Makes the sleeper's descriptor readable, or unparks it.
    pub(crate) fn signal(&self) {
        // The host's as well: the kernel does not signal one eventfd from within a write to
        // another, but later, and on Linux 6.18 the second time never (M).
        if self.embedded.load(Relaxed)
            && let Some(host) = &*lock(&self.host)
        {
            write_event_fd(host);
        }
        match self.event_fd.get() {
            Some(fd) if !self.parks.load(Relaxed) => write_event_fd(fd),
            _ => self.parker.unpark(),
        }
    }

    /// The ring of `runtime`, held so that its number is not reused while a message is on its
    /// way; `None` if that runtime is no longer here.
    pub(crate) fn ring(&self, runtime: RuntimeId) -> Option<Arc<OwnedFd>> {
        let ring = lock(&self.ring);
        // Under the lock: `close` takes the ring out before the inbox goes back to the pool.
        if self.load().runtime() == runtime {
            ring.clone()
        } else {
            None
        }
    }

    // ---- for the owner ----

    pub(crate) fn set_ring(&self, ring: Option<Arc<OwnedFd>>) {
        *lock(&self.ring) = ring;
    }

    /// Another loop drives this one, and waits on `host`. Until [`close`](Self::close).
    pub(crate) fn set_host(&self, host: Arc<OwnedFd>) {
        *lock(&self.host) = Some(host);
        self.embedded.store(true, Relaxed);
    }

    /// Has room for wake-ups of the tasks below `tasks`. Before the first waker of one is made.
    pub(crate) fn grow(&self, tasks: u32) {
        self.wakes.grow(tasks);
    }

    /// Announces that the owner is about to sleep. `false`: something is here, look first.
    pub(crate) fn sleep(&self) -> bool {
        let runtime = self.load().runtime();
        self.state
            .store(State::new(runtime, Phase::Sleeping).0, SeqCst);
        if self.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    pub(crate) fn awake(&self) {
        let runtime = self.load().runtime();
        self.state
            .store(State::new(runtime, Phase::Running).0, SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakes.is_empty() && self.calls.load(SeqCst).is_null()
    }

    /// Hands each queued wake-up to `woken`, oldest first.
    pub(crate) fn take_wakes(&self, order: &mut Vec<u32>) {
        self.wakes.take(order);
    }

    /// Takes the queued closures, oldest first. Those for a predecessor are dropped.
    pub(crate) fn take_calls(&self, runtime: RuntimeId) -> Vec<Box<dyn FnOnce() + Send>> {
        let mut calls = Vec::new();
        // In one order with `close`'s store to the state, as `call`'s two accesses are: one of them
        // sees the other.
        if self.calls.load(SeqCst).is_null() {
            return calls;
        }
        let mut call = self.calls.swap(ptr::null_mut(), AcqRel);
        while !call.is_null() {
            // SAFETY: pushed from a Box by `call`, and taken out of the stack by the swap, once.
            let taken = unsafe { Box::from_raw(call) };
            call = taken.next;
            if taken.runtime == runtime {
                calls.push(taken.run);
            } else {
                quietly(|| drop(taken)); // Its drop is user code (R10).
            }
        }
        calls.reverse();
        calls
    }

    /// No more wakes and calls for `runtime`; the inbox goes back to the pool.
    pub(crate) fn close(&'static self, runtime: RuntimeId) {
        self.set_ring(None);
        self.embedded.store(false, Relaxed);
        *lock(&self.host) = None;
        self.parks.store(false, Relaxed);
        self.state
            .store(State::new(runtime, Phase::Closed).0, SeqCst);
        for call in self.take_calls(runtime) {
            quietly(|| drop(call));
        }
        self.wakes.take(&mut Vec::new());
        lock(&POOL).free.push(self);
    }

    fn load(&self) -> State {
        State(self.state.load(SeqCst))
    }
}

/// Wake-ups by task index: a stack through an array, so that a task is in it at most once and
/// nothing is allocated to wake. Pushing never waits for another thread.
struct WakeStack {
    /// The top's index plus one; 0 is empty.
    head: AtomicU32,
    /// Chunk `k` has `FIRST_CHUNK << k` nodes. Made by the owner, never freed.
    chunks: [AtomicPtr<Node>; CHUNKS],
}

#[derive(Default)]
struct Node {
    queued: AtomicBool,
    next: AtomicU32,
}

const FIRST_CHUNK: usize = 1 << 10;
const CHUNKS: usize = (INDEX_BITS - FIRST_CHUNK.trailing_zeros() + 1) as usize;

impl WakeStack {
    const fn new() -> Self {
        Self {
            head: AtomicU32::new(0),
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
        }
    }

    /// Which chunk, and where in it: chunk 0 starts at 0, chunk k at `FIRST_CHUNK * (2^k - 1)`.
    const fn locate(index: u32) -> (usize, usize) {
        let shifted = index as usize + FIRST_CHUNK;
        let chunk = (shifted.ilog2() - FIRST_CHUNK.ilog2()) as usize;
        (chunk, shifted - (FIRST_CHUNK << chunk))
    }

    fn node(&self, index: u32) -> Option<&Node> {
        let (chunk, at) = Self::locate(index);
        let nodes = self.chunks.get(chunk)?.load(Acquire);
        if nodes.is_null() {
            return None;
        }
        // SAFETY: `grow` leaked `FIRST_CHUNK << chunk` nodes here, and `locate` gives `at` below.
        Some(unsafe { &*nodes.add(at) })
    }

    fn grow(&self, tasks: u32) {
        if tasks == 0 {
            return;
        }
        let (last, _) = Self::locate(tasks - 1);
        for (k, chunk) in self.chunks.iter().enumerate().take(last + 1) {
            if chunk.load(Relaxed).is_null() {
                chunk.store(new_chunk(FIRST_CHUNK << k), Release);
            }
        }
    }

    fn push(&self, index: u32) {
        // A number that no task of this inbox ever had: not a waker of ours.
        let Some(node) = self.node(index) else { return };
        if node.queued.swap(true, SeqCst) {
            return; // Already in; the exchange made our writes visible to whoever takes it.
        }
        let mut head = self.head.load(Relaxed);
        loop {
            node.next.store(head, Relaxed);
            match self
                .head
                .compare_exchange_weak(head, index + 1, SeqCst, Relaxed)
            {
                Ok(_) => return,
                Err(changed) => head = changed,
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.head.load(SeqCst) == 0
    }

    fn take(&self, order: &mut Vec<u32>) {
        if self.head.load(Relaxed) == 0 {
            return;
        }
        let begin = order.len();
        let mut head = self.head.swap(0, AcqRel);
        while let Some(index) = head.checked_sub(1) {
            let Some(node) = self.node(index) else { break };
            // Read before `queued` is cleared: from then on another thread may push it again.
            head = node.next.load(Relaxed);
            node.queued.swap(false, SeqCst);
            order.push(index);
        }
        order[begin..].reverse();
    }
}

/// Zeroed nodes: pages that no wake touches are never resident.
fn new_chunk(len: usize) -> *mut Node {
    let layout = std::alloc::Layout::array::<Node>(len).expect("a chunk is far below isize::MAX");
    // SAFETY: the layout is not empty.
    let nodes = unsafe { std::alloc::alloc_zeroed(layout) };
    if nodes.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    // All zero is a Node: not queued, next 0.
    nodes.cast()
}

/// Park and unpark for a driver that waits on nothing of the kernel's.
pub(crate) struct Parker {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    fn unpark(&self) {
        *lock(&self.signalled) = true;
        self.changed.notify_one();
    }

    /// Waits for an unpark since the last call. `false`: none came within `limit`.
    pub(crate) fn park(&self, limit: Duration) -> bool {
        let signalled = lock(&self.signalled);
        let (mut signalled, _) = self
            .changed
            .wait_timeout_while(signalled, limit, |signalled| !*signalled)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *signalled)
    }
}

/// Nothing under these locks can panic half way, so poison says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn new_event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn write_event_fd(fd: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes. It cannot block (EFD_NONBLOCK), and it fails only when the
    // counter is full: then the descriptor is readable anyway.
    unsafe { libc::write(fd.as_raw_fd(), ptr::from_ref(&one).cast(), 8) };
}

pub(crate) fn read_event_fd(fd: &OwnedFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes. It cannot block; EAGAIN says that nothing was signalled.
    unsafe { libc::read(fd.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_stack_locates_every_index_in_its_chunk() {
        let mut expected = (0, 0);
        for index in 0..10_000u32 {
            assert_eq!(WakeStack::locate(index), expected);
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(WakeStack::locate(crate::op::INDEX_MAX).0 < CHUNKS);
    }

    #[test]
    fn wake_stack_has_each_task_once_in_the_order_of_first_wakes() {
        static STACK: WakeStack = WakeStack::new(); // Immortal, as what it makes is.
        let stack = &STACK;
        stack.push(3); // No room made: not a waker of ours.
        assert!(stack.is_empty());
        stack.grow(5_000);
        for index in [3, 4_999, 3, 0, 4_999] {
            stack.push(index);
        }
        let mut order = Vec::new();
        stack.take(&mut order);
        assert_eq!(order, [3, 4_999, 0]);
        assert!(stack.is_empty());
        stack.push(3);
        stack.take(&mut order);
        assert_eq!(order, [3, 4_999, 0, 3]);
    }

    #[test]
    fn a_call_for_a_runtime_that_has_ended_is_dropped_and_never_run() {
        let (inbox, first) = Inbox::open().expect("fewer than 4096 runtimes");
        inbox.call(first, Box::new(|| ()));
        inbox.close(first);
        let dropped = Arc::new(());
        let guard = dropped.clone();
        inbox.call(first, Box::new(move || drop(guard)));
        assert_eq!(Arc::strong_count(&dropped), 1);
        assert!(!inbox.is_open(first));
    }

    /// `call` looks, the runtime ends, `call` pushes: for a successor or for nobody.
    #[test]
    fn a_call_that_loses_the_race_with_the_end_is_dropped_and_others_are_kept_in_order() {
        let (inbox, first) = Inbox::open().expect("fewer than 4096 runtimes");
        inbox.close(first);
        let dropped = Arc::new(());
        let guard = dropped.clone();
        inbox.push_call(first, Box::new(move || drop(guard)));
        inbox.sweep();
        assert_eq!(
            Arc::strong_count(&dropped),
            1,
            "nobody was there to drop it"
        );

        let second = RuntimeId(NEXT_RUNTIME.fetch_add(1, Relaxed));
        let opened = State::new(second, Phase::Running).0;
        inbox.state.store(opened, SeqCst);
        let order = Arc::new(Mutex::new(Vec::new()));
        for (runtime, k) in [(second, 1), (first, 2), (second, 3)] {
            let order = order.clone();
            inbox.push_call(runtime, Box::new(move || lock(&order).push(k)));
        }
        inbox.sweep();
        for call in inbox.take_calls(second) {
            call();
        }
        assert_eq!(*lock(&order), [1, 3]);
        inbox
            .state
            .store(State::new(second, Phase::Closed).0, SeqCst);
    }
}
