//! A small kernel in memory: what a real one cannot be made to do on demand.
//!
//! It has a clock that jumps to the next event, NOPs, timeouts and links, pipes, cancels, and
//! [scripts](Script) that say what becomes of an operation: late, short, failing, twice. Reads in
//! flight are scribbled on at each enter, as a real kernel may: a buffer that was freed too early
//! shows under Miri or AddressSanitizer.
//!
//! # Divergence from io_uring
//!
//! * No files, sockets or descriptors of the process: what it does not know is EINVAL, or EBADF.
//! * Time passes only while the loop sleeps, and then it jumps: a limit around
//!   [`to_thread`](crate::to_thread) passes at once, whatever the thread does.
//! * A loop that sleeps with no event ahead is an error, not a hang, once no other thread has woken it
//!   for ten seconds of real time.
//!
//! # Examples
//!
//! ```
//! use coring::{Runner, Timer, now, sim};
//! use std::time::Duration;
//!
//! let kernel = sim::Kernel::new();
//! let mut runner = Runner::builder().sim(&kernel).build().unwrap();
//! runner.run(async {
//!     let begin = now();
//!     Timer::after(Duration::from_secs(86_400)).await.unwrap(); // Takes no time here.
//!     assert_eq!(now() - begin, Duration::from_secs(86_400));
//! });
//! ```

mod buffers;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode as op;

use buffers::{Buffers, selects_buffer};

use super::queue::Queue;
use super::{Completion, DriverStats, Request, Wait, flags, opcode};
use crate::Instant;
use crate::inbox::Inbox;
use crate::op::Token;
use crate::pool::BufRing;

/// How long a sleeping loop with no event ahead waits for another thread, in real time.
const DEADLOCK_AFTER: Duration = Duration::from_secs(10);

/// What a pipe holds at the most, as Linux's do by default (pipe(7)).
const PIPE_BYTES_MAX: usize = 65_536;

/// What is written where nothing else says what.
const SCRIBBLE: u8 = 0xA5;

/// What becomes of the next operation with some opcode.
///
/// Transfers are made true: reads are filled with as many bytes as the result says, and nothing
/// moves more than its length.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Script {
    /// It completes at once.
    Result(i32),
    /// It completes after this span, unless it is cancelled first.
    After(Duration, i32),
    /// It completes after this span, and cancels come too late: they get EALREADY.
    Uncancellable(Duration, i32),
    /// It completes when it is cancelled, with this result: a cancel that lost a race.
    WhenCancelled(i32),
    /// It completes twice.
    Duplicate(i32),
    /// A completion of another generation of its slot comes first.
    Stale(i32),
    /// A transfer of at most so many bytes.
    Short(usize),
    /// A multishot: these with more to come, then this one as the last, or none.
    Shots(Vec<i32>, Option<i32>),
    /// A zero-copy send: this result, and the notification after the span.
    Notified(i32, Duration),
}

/// The handle by which a test steers the simulated kernel of one runtime.
#[derive(Clone)]
pub struct Kernel(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    clock_ns: u64,
    scripts: BTreeMap<u8, VecDeque<Script>>,
    pending: BTreeMap<u64, Pending>,
    /// By moment and order of making.
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    cq: VecDeque<Completion>,
    pipes: HashMap<RawFd, Rc<RefCell<Pipe>>, BuildHasherDefault<DefaultHasher>>,
    next_fd: RawFd,
    refused_enters: u32,
    failing_enter: Option<(i32, usize)>,
    /// A runtime is on it.
    serves: bool,
    sq_entries: Option<usize>,
    buf_rings: BTreeMap<u16, Buffers>,
    whole_buffers: bool,
    claims_more: bool,
    lost: bool,
}

/// An operation that has not completed.
struct Pending {
    request: Request,
    when_cancelled: OnCancel,
}

#[derive(Clone, Copy)]
enum OnCancel {
    Cancelled,
    Result(i32),
    TooLate,
}

enum Event {
    /// The operation completes.
    Complete(u64, i32, u32),
    /// The timeout behind the operation fires.
    LinkTimeout(u64),
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    writer_closed: bool,
    reader_closed: bool,
}

impl Script {
    fn results(&self) -> Vec<i32> {
        match self {
            Self::Result(res)
            | Self::After(_, res)
            | Self::Uncancellable(_, res)
            | Self::WhenCancelled(res)
            | Self::Duplicate(res)
            | Self::Stale(res)
            | Self::Notified(res, _) => vec![*res],
            Self::Short(_) => Vec::new(),
            Self::Shots(shots, last) => shots.iter().chain(last).copied().collect(),
        }
    }
}

impl Kernel {
    /// The first descriptor number of simulated pipes, and of scripted results: above all that
    /// Linux gives to a process (fs.nr_open, proc_sys_fs(5)).
    pub const FIRST_FD: RawFd = 1 << 20;

    /// A kernel with nothing in it, at the start of its clock.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            next_fd: Self::FIRST_FD,
            ..State::default()
        })))
    }

    /// Has the next operation with `opcode` that is not scripted yet do this.
    ///
    /// # Panics
    /// If a result is none that this kernel could vouch for: it may be any negated errno; for the
    /// opcodes that it knows any number; for those that yield a descriptor one of
    /// [`FIRST_FD`](Self::FIRST_FD) or above, which no process has.
    pub fn script(&self, opcode: u8, script: Script) {
        for res in script.results() {
            assert!(
                vouches_for(opcode, res),
                "the simulated kernel cannot make the result {res} of opcode {opcode} true: see \
                 `Kernel::script_unchecked`"
            );
        }
        // SAFETY: the results are such that whoever decodes them may believe them.
        unsafe { self.script_unchecked(opcode, script) }
    }

    /// [`script`](Self::script), with any result.
    ///
    /// # Safety
    /// Whoever decodes the results believes that they are true: of bytes that were written, of a
    /// descriptor that is the operation's own.
    pub unsafe fn script_unchecked(&self, opcode: u8, script: Script) {
        self.0
            .borrow_mut()
            .scripts
            .entry(opcode)
            .or_default()
            .push_back(script);
    }

    /// The next `n` enters take nothing from the queue (EAGAIN).
    pub fn refuse_enters(&self, n: u32) {
        self.0.borrow_mut().refused_enters = n;
    }

    /// The next enter fails with `errno` after it took `taken` entries. EBADR: and the kernel has lost
    /// a completion.
    pub fn fail_enter(&self, errno: i32, taken: usize) {
        self.0.borrow_mut().failing_enter = Some((errno, taken));
    }

    /// The submission queue has room for so many (before a runner is built on it). Rounded up to a
    /// power of two, two at the least: for an operation and the timeout behind it.
    pub fn sq_entries(&self, entries: usize) {
        self.0.borrow_mut().sq_entries = Some(entries.clamp(2, 1 << 15).next_power_of_two());
    }

    /// Provided buffers are used whole, as before Linux 6.12 (before any are registered).
    pub fn whole_buffers(&self) {
        self.0.borrow_mut().whole_buffers = true;
    }

    /// Says, from now on, that another enter would bring more completions, though there are none: as
    /// io_uring does when TASKRUN is up with nothing behind it.
    pub fn claim_more(&self) {
        self.0.borrow_mut().claims_more = true;
    }

    /// A pipe: the descriptors to read from and to write to.
    pub fn pipe(&self) -> (RawFd, RawFd) {
        let mut state = self.0.borrow_mut();
        let (reader, writer) = (state.next_fd, state.next_fd + 1);
        state.next_fd += 2;
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        state.pipes.insert(reader, pipe.clone());
        state.pipes.insert(writer, pipe);
        (reader, writer)
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        let mut state = self.0.borrow_mut();
        state.clock_ns += span.as_nanos() as u64;
        state.mature();
    }

    /// Operations that have not completed.
    pub fn pending(&self) -> usize {
        self.0.borrow().pending.len()
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl State {
    fn submit_all(&mut self, queue: &[Request]) {
        let mut linked: Option<u64> = None;
        for request in queue {
            if request.opcode == opcode::LINK_TIMEOUT {
                self.link_timeout(request, linked.take());
                continue;
            }
            self.start(request);
            linked = (request.flags & flags::LINK != 0).then_some(request.user_data);
        }
    }

    fn link_timeout(&mut self, request: &Request, victim: Option<u64>) {
        // As the kernel: alone, or split from its operation, it is an error.
        let Some(victim) = victim else {
            return self.complete(request.user_data, -libc::EINVAL, 0);
        };
        if self.pending.contains_key(&victim) {
            let at = self.deadline(request);
            self.at(at, Event::LinkTimeout(victim));
        }
    }

    fn start(&mut self, request: &Request) {
        let selects = selects_buffer(request);
        let nowhere = counts_bytes(request.opcode) && request.addr.is_null() && request.len > 0;
        if nowhere && !selects || selects && !is_read(request.opcode) {
            return self.complete(request.user_data, -libc::EINVAL, 0);
        }
        let script = self
            .scripts
            .get_mut(&request.opcode)
            .and_then(VecDeque::pop_front);
        match script {
            Some(script) => self.follow(request, script),
            None => self.perform(request, usize::MAX),
        }
    }

    fn follow(&mut self, request: &Request, script: Script) {
        let id = request.user_data;
        match script {
            Script::Result(res) => {
                let (res, flags) = self.invent(request, res);
                self.complete(id, res, flags);
            }
            Script::Short(most) => self.perform(request, most),
            Script::Duplicate(res) => {
                for _ in 0..2 {
                    let (res, flags) = self.invent(request, res);
                    self.complete(id, res, flags);
                }
            }
            Script::Stale(res) => {
                let token = request.token();
                let stale = Token::operation(token.index(), token.generation().wrapping_sub(1));
                let (res, flags) = self.invent(request, res);
                self.complete(stale.user_data(), res, flags);
                self.perform(request, usize::MAX);
            }
            Script::After(span, res) => {
                self.wait(request, OnCancel::Cancelled);
                self.after(span, Event::Complete(id, res, 0));
            }
            Script::Uncancellable(span, res) => {
                self.wait(request, OnCancel::TooLate);
                self.after(span, Event::Complete(id, res, 0));
            }
            Script::WhenCancelled(res) => self.wait(request, OnCancel::Result(res)),
            Script::Shots(shots, last) => {
                self.wait(request, OnCancel::Cancelled);
                for res in shots {
                    let (res, flags) = self.invent(request, res);
                    self.post(id, res, flags | Completion::MORE);
                }
                if let Some(last) = last {
                    let (res, flags) = self.invent(request, last);
                    self.complete(id, res, flags);
                }
            }
            Script::Notified(res, span) => {
                self.wait(request, OnCancel::TooLate);
                let (res, _) = self.invent(request, res);
                self.post(id, res, Completion::MORE);
                self.after(span, Event::Complete(id, 0, 0));
            }
        }
    }

    fn perform(&mut self, request: &Request, most: usize) {
        let id = request.user_data;
        match request.opcode {
            opcode::NOP => self.complete(id, 0, 0),
            opcode::TIMEOUT => {
                self.wait(request, OnCancel::Cancelled);
                let at = self.deadline(request);
                self.at(at, Event::Complete(id, -libc::ETIME, 0));
            }
            opcode::ASYNC_CANCEL => {
                let res = self.cancel(request.addr.addr() as u64);
                self.answer(request, res);
            }
            op::Read::CODE | op::Recv::CODE if selects_buffer(request) => self.receive(request),
            op::Read::CODE | op::Recv::CODE | op::Write::CODE | op::Send::CODE => {
                match self.transfer(request, most) {
                    Some(res) => {
                        // As in the kernel, less than all is no success where all was asked for.
                        let short = res < request.len as i32 && waits_for_all(request);
                        if short {
                            self.complete(id, res, 0);
                        } else {
                            self.answer(request, res);
                        }
                        self.serve_pipes();
                    }
                    None if never_waits(request) => self.complete(id, -libc::EAGAIN, 0),
                    None => self.wait(request, OnCancel::Cancelled),
                }
            }
            op::Close::CODE => {
                let res = self.close(request.fd);
                self.complete(id, res, 0);
                self.serve_pipes();
            }
            _ => self.complete(id, -libc::EINVAL, 0),
        }
    }

    /// Moves bytes between memory and a pipe. `None`: it has to wait.
    fn transfer(&mut self, request: &Request, most: usize) -> Option<i32> {
        let Some(pipe) = self.pipes.get(&request.fd) else {
            return Some(-libc::EBADF);
        };
        let mut pipe = pipe.borrow_mut();
        let len = (request.len as usize).min(most);
        let reads = is_read(request.opcode);
        // An operation in flight keeps the other end open, as it does in the kernel.
        let other_end = request.fd ^ 1;
        let held = || {
            let mut in_flight = self.pending.values().map(|pending| &pending.request);
            in_flight.any(|other| other.fd == other_end && is_read(other.opcode) != reads)
        };
        let n = if reads {
            if pipe.bytes.is_empty() && (!pipe.writer_closed || held()) && len > 0 {
                return None;
            }
            len.min(pipe.bytes.len())
        } else {
            if pipe.reader_closed && !held() {
                return Some(-libc::EPIPE);
            }
            let room = PIPE_BYTES_MAX - pipe.bytes.len();
            if room == 0 && len > 0 {
                return None;
            }
            len.min(room)
        };
        for i in 0..n {
            // SAFETY: `addr..addr + len` is the operation's until it completes (R1).
            let byte = unsafe { request.addr.add(i) };
            if reads {
                let value = pipe.bytes.pop_front().unwrap_or_default();
                // SAFETY: as above; a read's memory is writable.
                unsafe { byte.write(value) };
            } else {
                // SAFETY: as above; a write's memory is initialised.
                pipe.bytes.push_back(unsafe { byte.read() });
            }
        }
        Some(n as i32)
    }

    /// Completes transfers that had to wait and need not any more.
    fn serve_pipes(&mut self) {
        let waiting: Vec<u64> = self.pending.keys().copied().collect();
        for id in waiting {
            let Some(pending) = self.pending.get(&id) else {
                continue;
            };
            let OnCancel::Cancelled = pending.when_cancelled else {
                continue;
            };
            let request = pending.request;
            if selects_buffer(&request) && self.pipes.contains_key(&request.fd) {
                self.pending.remove(&id);
                self.receive(&request);
            } else if is_transfer(request.opcode)
                && self.pipes.contains_key(&request.fd)
                && let Some(res) = self.transfer(&request, usize::MAX)
            {
                self.complete(id, res, 0);
            }
        }
    }

    fn close(&mut self, fd: RawFd) -> i32 {
        // As the kernel's: operations in flight on it go on.
        let Some(pipe) = self.pipes.get(&fd) else {
            return -libc::EBADF;
        };
        let mut pipe = pipe.borrow_mut();
        if (fd - Kernel::FIRST_FD) % 2 == 0 {
            pipe.reader_closed = true;
        } else {
            pipe.writer_closed = true;
        }
        0
    }

    fn cancel(&mut self, victim: u64) -> i32 {
        let Some(pending) = self.pending.get(&victim) else {
            return -libc::ENOENT;
        };
        match pending.when_cancelled {
            OnCancel::TooLate => return -libc::EALREADY,
            OnCancel::Result(res) => {
                let request = pending.request;
                let (res, flags) = self.invent(&request, res);
                self.complete(victim, res, flags);
            }
            OnCancel::Cancelled => self.complete(victim, -libc::ECANCELED, 0),
        }
        0
    }

    fn wait(&mut self, request: &Request, when_cancelled: OnCancel) {
        self.pending.insert(
            request.user_data,
            Pending {
                request: *request,
                when_cancelled,
            },
        );
    }

    /// The last completion of an operation.
    fn complete(&mut self, id: u64, res: i32, flags: u32) {
        self.pending.remove(&id);
        self.post(id, res, flags);
    }

    fn post(&mut self, id: u64, res: i32, flags: u32) {
        self.cq.push_back(Completion {
            token: Token::from_user_data(id),
            res,
            flags,
        });
    }

    /// Completes a request that is silent in its success.
    fn answer(&mut self, request: &Request, res: i32) {
        if res < 0 || request.flags & flags::CQE_SKIP_SUCCESS == 0 {
            self.complete(request.user_data, res, 0);
        }
    }

    fn deadline(&self, request: &Request) -> u64 {
        // SAFETY: a timeout's `addr` is a timespec that is valid while it is submitted (R1).
        let ts = unsafe { request.addr.cast::<libc::timespec>().read() };
        let nanos = ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64;
        let absolute = request.op_flags & 1 != 0;
        if absolute {
            nanos
        } else {
            self.clock_ns + nanos
        }
    }

    fn after(&mut self, span: Duration, event: Event) {
        self.at(self.clock_ns + span.as_nanos() as u64, event);
    }

    fn at(&mut self, moment_ns: u64, event: Event) {
        self.made += 1;
        self.events.insert((moment_ns, self.made), event);
        self.mature();
    }

    /// Lets everything happen whose time has come.
    fn mature(&mut self) {
        while let Some(first) = self.events.first_entry() {
            if first.key().0 > self.clock_ns {
                return;
            }
            match first.remove() {
                Event::Complete(id, res, flags) => {
                    if let Some(pending) = self.pending.get(&id) {
                        let request = pending.request;
                        let (res, more) = self.invent(&request, res);
                        self.complete(id, res, flags | more);
                    }
                }
                Event::LinkTimeout(victim) => {
                    self.cancel(victim);
                }
            }
        }
    }

    /// Writes into what is the kernel's for as long as it is: into reads in flight, and buffers that
    /// it was given.
    fn scribble(&self) {
        for ring in self.buf_rings.values() {
            for entry in ring.all() {
                // SAFETY: as in `buffer`; the memory is the kernel's to write to.
                unsafe { (*entry).addr.write(SCRIBBLE) };
            }
        }
        for pending in self.pending.values() {
            let Request {
                opcode, addr, len, ..
            } = pending.request;
            if is_read(opcode) && len > 0 && !addr.is_null() {
                // SAFETY: `addr..addr + len` is writable until the operation completes (R1).
                unsafe { addr.write(SCRIBBLE) };
            }
        }
    }
}

/// Whether what a program makes of a result can be true here.
const fn vouches_for(opcode: u8, res: i32) -> bool {
    const POLL: u8 = opcode::POLL_ADD;
    match opcode {
        opcode::NOP | opcode::TIMEOUT | opcode::ASYNC_CANCEL | POLL | op::Close::CODE => true,
        op::Accept::CODE | op::OpenAt::CODE | op::OpenAt2::CODE | op::Socket::CODE => {
            res < 0 || res >= Kernel::FIRST_FD
        }
        _ => res < 0 || counts_bytes(opcode),
    }
}

const fn is_read(opcode: u8) -> bool {
    matches!(opcode, op::Read::CODE | op::Recv::CODE)
}

const fn is_transfer(opcode: u8) -> bool {
    is_read(opcode) || matches!(opcode, op::Write::CODE | op::Send::CODE)
}

const fn waits_for_all(request: &Request) -> bool {
    request.opcode == op::Send::CODE && request.op_flags & libc::MSG_WAITALL as u32 != 0
}

const fn never_waits(request: &Request) -> bool {
    request.opcode == op::Send::CODE && request.op_flags & libc::MSG_DONTWAIT as u32 != 0
}

/// Whether a result is a number of bytes, and `addr` where they are.
const fn counts_bytes(opcode: u8) -> bool {
    is_transfer(opcode) || opcode == op::SendZc::CODE
}

/// The driver over a [`Kernel`].
pub(crate) struct Driver {
    kernel: Kernel,
    inbox: Option<&'static Inbox>,
    sq_entries: usize,
    stats: DriverStats,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut state = self.kernel.0.borrow_mut();
        state.serves = false;
        state.buf_rings.clear();
    }
}

const SQ_ENTRIES: usize = 256;

impl Driver {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        let mut state = kernel.0.borrow_mut();
        assert!(
            !state.serves,
            "a simulated kernel serves one runner at a time: give each a `Kernel` of its own"
        );
        state.serves = true;
        // The tokens of a runtime that has ended may be those of the next one (R4). What it
        // leaked is let go of.
        state.cq.clear();
        state.pending.clear();
        state.events.clear();
        state.buf_rings.clear();
        let sq_entries = state.sq_entries.unwrap_or(SQ_ENTRIES);
        drop(state);
        Self {
            kernel: kernel.clone(),
            inbox: None,
            sq_entries,
            stats: DriverStats::default(),
        }
    }

    pub(super) const fn sq_entries(&self) -> usize {
        self.sq_entries
    }

    pub(super) fn enter(&mut self, queue: &mut Queue, wait: Wait) -> io::Result<()> {
        if !self.take(queue) {
            return Ok(()); // As EAGAIN from io_uring: the next turn tries again.
        }
        let mut state = self.kernel.0.borrow_mut();
        state.scribble();
        let Wait::Until(until) = wait else {
            return Ok(());
        };
        if !state.cq.is_empty() {
            return Ok(());
        }
        let next = state
            .events
            .keys()
            .next()
            .map_or(u64::MAX, |&(moment, _)| moment);
        let until = next.min(until.as_nanos());
        if until != u64::MAX {
            state.clock_ns = state.clock_ns.max(until);
            state.mature();
            state.serve_pipes();
            return Ok(());
        }
        drop(state);
        let parked = self
            .inbox
            .is_some_and(|inbox| inbox.parker().park(DEADLOCK_AFTER));
        if parked {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::Deadlock,
            "the simulated kernel has no event ahead, and no other thread woke the loop: every \
             task waits for something that nothing leads to",
        ))
    }

    pub(super) fn hand_over(&mut self, queue: &mut Queue) {
        self.take(queue);
    }

    /// Takes the queue, or what a test lets it take. `false`: the enter failed.
    fn take(&mut self, queue: &mut Queue) -> bool {
        self.stats.enters += 1;
        let mut state = self.kernel.0.borrow_mut();
        if state.refused_enters > 0 {
            state.refused_enters -= 1;
            return false;
        }
        let queued = queue.requests().len();
        let (failed, taken) = match state.failing_enter.take() {
            Some((errno, taken)) => {
                state.lost |= errno == libc::EBADR;
                (true, taken.min(queued))
            }
            None => (false, queued),
        };
        state.submit_all(&queue.requests()[..taken]);
        queue.take(taken);
        !failed
    }

    pub(super) fn has_more(&self) -> bool {
        self.kernel.0.borrow().claims_more
    }

    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.kernel.0.borrow_mut().lost)
    }

    pub(super) fn reap(&mut self, batch: &mut Vec<Completion>) {
        batch.extend(self.kernel.0.borrow_mut().cq.drain(..));
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_nanos(self.kernel.0.borrow().clock_ns)
    }

    pub(super) fn park_in(&mut self, inbox: &'static Inbox) {
        inbox.parker(); // Says that signals are to go there.
        self.inbox = Some(inbox);
    }

    #[expect(clippy::unused_self, reason = "the seam's form")]
    pub(super) fn event_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the simulated kernel has no descriptors to wait on: call `turn` in a loop",
        ))
    }

    #[expect(clippy::unused_self, reason = "the seam's form")]
    pub(super) const fn signal_event_fd(&self, _: bool) {}

    pub(super) fn register_buf_ring(
        &mut self,
        group: u16,
        ring: &BufRing,
        piecewise: bool,
    ) -> io::Result<bool> {
        let mut state = self.kernel.0.borrow_mut();
        let piecewise = piecewise && !state.whole_buffers;
        let buffers = Buffers::of(ring, piecewise);
        state.buf_rings.insert(group, buffers);
        Ok(piecewise)
    }

    #[expect(clippy::unused_self, reason = "the seam's form")]
    pub(super) const fn supports(&self, opcode: u8) -> bool {
        is_transfer(opcode)
            || matches!(
                opcode,
                opcode::NOP
                    | opcode::TIMEOUT
                    | opcode::LINK_TIMEOUT
                    | opcode::ASYNC_CANCEL
                    | op::Close::CODE
            )
    }

    pub(super) const fn stats(&self) -> DriverStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_cannot_be_true_are_refused() {
        let believed = [
            (op::Read::CODE, 5),
            (op::SendZc::CODE, 5),
            (opcode::NOP, 1),
            (op::Accept::CODE, Kernel::FIRST_FD),
            (op::Accept::CODE, -libc::EMFILE),
            (op::RecvMsg::CODE, -libc::EAGAIN),
        ];
        for (opcode, res) in believed {
            Kernel::new().script(opcode, Script::Result(res));
        }
        for (opcode, res) in [
            (op::OpenAt::CODE, 0),
            (op::Accept::CODE, Kernel::FIRST_FD - 1),
            (op::RecvMsg::CODE, 1),
            (op::Readv::CODE, 1),
        ] {
            let refused = std::panic::catch_unwind(|| {
                Kernel::new().script(opcode, Script::Shots(vec![-1, res], None));
            });
            assert!(refused.is_err(), "{opcode} {res}");
        }
    }
}
