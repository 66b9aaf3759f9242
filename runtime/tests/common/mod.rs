//! A world for a test: a driver, pipes on it, and a guard that looks at what is left at the end.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses what it needs of this"
)]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coring_runtime::{
    BufResult, BufferCounts, Builder, CancelScope, Cqe, Expiry, Instant, IoBuf, IoBufMut, Op,
    Operation, Polled, Request, Runner, Scratch, Stats, TimedOut, Timer, is_cancelled, now, sim,
    submit, transfer_len,
};

/// Descriptors and leaks are counted over the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

pub struct World {
    pub kernel: Option<sim::Kernel>,
    /// Descriptors of real pipes that are still open.
    fds: RefCell<Vec<OwnedFd>>,
    fds_at_the_end: Cell<usize>,
    leaks_at_the_end: Cell<u64>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    pub fn uring() -> Self {
        Self::new(None)
    }

    pub fn sim() -> Self {
        Self::new(Some(sim::Kernel::new()))
    }

    fn new(kernel: Option<sim::Kernel>) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // The pool of inboxes keeps its descriptors for ever (R14): filled before the count.
        // Miri has no io_uring, so there no descriptors are counted either.
        let runners: Vec<_> = (0..if cfg!(miri) { 0 } else { 4 })
            .map(|_| real_builder().build().expect("this machine has io_uring"))
            .collect();
        drop(runners);
        Self {
            kernel,
            fds: RefCell::default(),
            fds_at_the_end: Cell::new(open_fds()),
            leaks_at_the_end: Cell::new(leaks()),
            _alone: alone,
        }
    }

    pub fn is_sim(&self) -> bool {
        self.kernel.is_some()
    }

    pub fn builder(&self) -> Builder {
        match &self.kernel {
            Some(kernel) => Runner::builder().sim(kernel),
            None => real_builder(),
        }
    }

    pub fn runner(&self) -> Runner {
        self.builder().build().expect("this machine has io_uring")
    }

    /// Runs `main` on a runner of its own and sees to it that nothing is left.
    pub fn run<F: Future>(&self, main: F) -> F::Output {
        let mut runner = self.runner();
        let output = runner.run(main);
        self.finish(runner);
        output
    }

    /// Lets what was cancelled end, and sees to it that nothing is left.
    pub fn finish(&self, mut runner: Runner) {
        quiesce(&mut runner);
        assert_clean(&runner.stats());
    }

    /// A pipe: the descriptors to read from and to write to.
    pub fn pipe(&self) -> (RawFd, RawFd) {
        if let Some(kernel) = &self.kernel {
            return kernel.pipe();
        }
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: two new descriptors that nobody else has.
        self.fds
            .borrow_mut()
            .extend(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        (fds[0], fds[1])
    }

    /// Time passes while nothing is awaited: the task computes.
    pub fn pass(&self, span: Duration) {
        self.clock().pass(span);
    }

    /// Two ends of which what is written to the second is received from the first.
    pub fn stream(&self) -> (RawFd, RawFd) {
        if let Some(kernel) = &self.kernel {
            return kernel.pipe();
        }
        let (receiver, sender) = UnixStream::pair().expect("there are descriptors");
        let ends = (receiver.as_raw_fd(), sender.as_raw_fd());
        let both = [receiver.into(), sender.into()];
        self.fds.borrow_mut().extend(both);
        ends
    }

    /// For tasks, which may not borrow the world.
    pub fn clock(&self) -> Clock {
        Clock(self.kernel.clone())
    }

    /// The test leaves so many descriptors open on purpose.
    pub fn expect_open_fds(&self, more: usize) {
        self.fds_at_the_end.set(self.fds_at_the_end.get() + more);
    }

    /// The test has so many payloads leaked on purpose.
    pub fn expect_leaks(&self, more: u64) {
        self.leaks_at_the_end
            .set(self.leaks_at_the_end.get() + more);
        if let Some(kernel) = &self.kernel {
            kernel.advance(Duration::from_secs(1 << 30)); // Until the kernel is done after all.
        }
    }

    /// The test has closed a descriptor itself.
    pub fn forget(&self, fd: RawFd) {
        let mut fds = self.fds.borrow_mut();
        if let Some(at) = fds.iter().position(|open| open.as_raw_fd() == fd) {
            let _ = fds.swap_remove(at).into_raw_fd();
        }
    }

    /// Closes an end of a pipe, as `close(2)` does.
    pub fn close(&self, fd: RawFd) {
        self.fds.borrow_mut().retain(|open| open.as_raw_fd() != fd);
    }
}

pub struct Clock(Option<sim::Kernel>);

impl Clock {
    pub fn pass(&self, span: Duration) {
        if let Some(kernel) = &self.0 {
            return kernel.advance(span);
        }
        let begin = now();
        while now() - begin < span {
            std::hint::spin_loop();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.fds.borrow_mut().clear();
        if std::thread::panicking() {
            return;
        }
        assert_eq!(open_fds(), self.fds_at_the_end.get(), "descriptors leaked");
        assert_eq!(leaks(), self.leaks_at_the_end.get(), "payloads leaked");
        if let Some(kernel) = &self.kernel {
            assert_eq!(
                kernel.pending(),
                0,
                "operations are left in the simulated kernel"
            );
        }
    }
}

/// Payloads leaked in this process.
pub fn leaks() -> u64 {
    let kernel = sim::Kernel::new();
    let runner = Runner::builder().sim(&kernel).build().expect("a simulator");
    runner.stats().leaks
}

/// Runs `runner` until nothing is in flight; what does not end in time shows in the stats.
pub fn quiesce(runner: &mut Runner) {
    for _ in 0..2_000 {
        if runner.stats().in_flight == 0 && runner.stats().tasks == 0 {
            return;
        }
        runner.run(async {
            Timer::after(Duration::from_millis(1))
                .await
                .expect("nobody cancels");
        });
    }
}

fn real_builder() -> Builder {
    Runner::builder().sq_entries(64).cq_entries(1024)
}

pub fn assert_clean(stats: &Stats) {
    assert_eq!(
        stats.in_flight, 0,
        "operations are in flight at the end: {stats:?}"
    );
    assert_eq!(stats.slots, 0, "slots leaked: {stats:?}");
    assert_eq!(stats.scopes, 0, "scopes leaked: {stats:?}");
    assert_eq!(stats.tasks, 0, "tasks are left: {stats:?}");
    let BufferCounts {
        total,
        free,
        leases,
        ..
    } = stats.buffers;
    assert_eq!((free, leases), (total, 0), "buffers leaked: {stats:?}");
}

pub fn open_fds() -> usize {
    if cfg!(miri) {
        return 0;
    }
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc is mounted")
        .count()
}

/// Declares tests that run once on each driver, as `uring::name` and `sim::name`.
#[macro_export]
macro_rules! each_driver {
    ($($(#[$attr:meta])* fn $name:ident($world:ident) $body:block)*) => {
        mod bodies {
            use super::*;
            $($(#[$attr])* pub(super) fn $name($world: &World) $body)*
        }
        #[cfg(not(miri))] // Miri has no io_uring.
        mod uring {
            $(#[test] fn $name() { super::bodies::$name(&super::World::uring()) })*
        }
        mod sim {
            $(#[test] fn $name() { super::bodies::$name(&super::World::sim()) })*
        }
    };
}

pub const NOP: u8 = 0;
pub const POLL_ADD: u8 = 6;
pub const TIMEOUT: u8 = 11;
pub const ACCEPT: u8 = 13;
pub const ASYNC_CANCEL: u8 = 14;
pub const CLOSE: u8 = 19;
pub const READ: u8 = 22;
pub const WRITE: u8 = 23;
pub const SEND: u8 = 26;
pub const RECV: u8 = 27;
pub const SOCKET: u8 = 45;
pub const SEND_ZC: u8 = 47;

/// Does nothing, through the kernel.
#[derive(Clone, Debug)]
pub struct Nop;

// SAFETY: the request points at nothing.
unsafe impl Operation for Nop {
    type Output = io::Result<u32>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(NOP, -1)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result()
    }

    fn orphaned(self, _: Cqe) {}
}

/// Reads from a pipe into a buffer.
pub struct Read<B>(pub RawFd, pub B);

// SAFETY: the buffer's memory is stable (`IoBufMut`) and owned by the operation.
unsafe impl<B: IoBufMut> Operation for Read<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = transfer_len(self.1.bytes_total());
        Request::new(READ, self.0)
            .addr(self.1.stable_mut_ptr())
            .len(len)
            .off(u64::MAX)
    }

    fn complete(mut self, cqe: Cqe) -> Self::Output {
        let result = cqe.result().map(|n| n as usize);
        if let Ok(n) = result {
            // SAFETY: the kernel wrote `n` bytes, within `bytes_total`.
            unsafe { self.1.set_init(n) };
        }
        BufResult(result, self.1)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Writes a buffer to a pipe.
pub struct Write<B>(pub RawFd, pub B);

// SAFETY: the buffer's memory is stable (`IoBuf`) and owned by the operation.
unsafe impl<B: IoBuf> Operation for Write<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = transfer_len(self.1.bytes_init());
        Request::new(WRITE, self.0)
            .addr(self.1.stable_ptr())
            .len(len)
            .off(u64::MAX)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(cqe.result().map(|n| n as usize), self.1)
    }

    fn orphaned(self, _: Cqe) {}
}

pub fn nop() -> Op<Nop> {
    submit(Nop)
}

pub fn read(fd: RawFd, capacity: usize) -> Op<Read<Box<[u8]>>> {
    submit(Read(fd, vec![0; capacity].into_boxed_slice()))
}

pub fn write(fd: RawFd, bytes: &[u8]) -> Op<Write<Box<[u8]>>> {
    submit(Write(fd, bytes.into()))
}

// ---- futures by hand ----

/// One poll with a waker that does nothing, wherever this is called.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// One poll by the task that awaits this.
pub async fn poll_here<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Starts a future: it must be pending after one poll.
pub async fn start<F: Future + Unpin>(future: &mut F) {
    assert!(poll_here(future).await.is_pending(), "over already");
}

/// Both outputs, when both are there: polls in order.
pub async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut out_a, mut out_b) = (None, None);
    poll_fn(|cx| {
        if out_a.is_none()
            && let Poll::Ready(out) = a.as_mut().poll(cx)
        {
            out_a = Some(out);
        }
        if out_b.is_none()
            && let Poll::Ready(out) = b.as_mut().poll(cx)
        {
            out_b = Some(out);
        }
        if out_a.is_some() && out_b.is_some() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    (out_a.expect("it is there"), out_b.expect("it is there"))
}

/// What a future came to that was polled in a [`CancelScope`].
#[derive(Debug)]
pub enum Limited<T> {
    Output(T, Expiry),
    /// Dropped at the deadline, since it waited for nothing of coring's.
    Abandoned,
}

/// A future in a scope of its own: what `wait_for` and `timeout` are made of.
pub struct Within<F> {
    body: Option<Pin<Box<F>>>,
    scope: CancelScope,
}

pub fn within<F: Future>(limit: Duration, body: F) -> Within<F> {
    Within {
        body: Some(Box::pin(body)),
        scope: CancelScope::after(limit),
    }
}

pub fn within_until<F: Future>(deadline: Instant, body: F) -> Within<F> {
    Within {
        body: Some(Box::pin(body)),
        scope: CancelScope::at(deadline),
    }
}

impl<F> Unpin for Within<F> {}

impl<F: Future> Future for Within<F> {
    type Output = Limited<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let body = this.body.as_mut().expect("not polled after its end");
        let polled = this.scope.poll(body.as_mut(), cx);
        Poll::Ready(match polled {
            Polled::Pending | Polled::Deaf => return Poll::Pending,
            Polled::Ready(output) => {
                this.body = None;
                Limited::Output(output, this.scope.close())
            }
            Polled::Abandoned => {
                this.body = None;
                this.scope.close();
                Limited::Abandoned
            }
        })
    }
}

/// `wait_for`, for futures that give an `io::Result`.
pub async fn wait_for<T>(
    limit: Duration,
    body: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match within(limit, body).await {
        Limited::Output(Err(error), expiry) if expiry.timed_out && is_cancelled(&error) => {
            Err(TimedOut::default().into())
        }
        Limited::Output(output, _) => output,
        Limited::Abandoned => Err(TimedOut::default().into()),
    }
}

// ---- payloads that tell what becomes of them ----

/// How many have been dropped, also by other threads.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    pub fn count(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A buffer that counts its drops.
pub struct Tracked {
    bytes: Box<[u8]>,
    drops: Drops,
}

impl Tracked {
    pub fn new(len: usize, drops: &Drops) -> Self {
        Self {
            bytes: vec![0; len].into_boxed_slice(),
            drops: drops.clone(),
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.drops.count();
    }
}

// SAFETY: the bytes are a Box's: they stay where they are, and are all initialised.
unsafe impl IoBuf for Tracked {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above, and writable.
unsafe impl IoBufMut for Tracked {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

/// What became of an operation that yields something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its future had it.
    Completed(i32),
    /// Nobody waited any more.
    Orphaned(i32),
}

pub type Fates = Rc<RefCell<Vec<Fate>>>;

/// An operation that yields a descriptor, or a number in its place in the simulator.
#[derive(Clone)]
pub struct Yields {
    pub request: Request,
    pub fates: Fates,
}

impl Yields {
    /// Accepts from `listener`.
    pub fn accept(listener: RawFd) -> Self {
        Self::new(Request::new(ACCEPT, listener).op_flags(libc::SOCK_CLOEXEC as u32))
    }

    /// Accepts again and again.
    pub fn accept_multi(listener: RawFd) -> Self {
        const IORING_ACCEPT_MULTISHOT: u16 = 1;
        let mut accept = Self::accept(listener);
        accept.request = accept.request.ioprio(IORING_ACCEPT_MULTISHOT);
        accept
    }

    /// Makes a socket, at once.
    pub fn socket() -> Self {
        let kind = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64;
        Self::new(Request::new(SOCKET, libc::AF_UNIX).off(kind))
    }

    pub fn new(request: Request) -> Self {
        Self {
            request,
            fates: Fates::default(),
        }
    }

    fn take(&self, cqe: Cqe) -> io::Result<Descriptor> {
        cqe.result().map(|fd| Descriptor::new(fd as RawFd))
    }
}

/// A descriptor that was yielded; in the simulator a number that nobody closes.
#[derive(Debug)]
pub struct Descriptor(Option<OwnedFd>, RawFd);

impl Descriptor {
    fn new(fd: RawFd) -> Self {
        // The scripts' numbers are those above.
        let real = fd < SCRIPTED_FD;
        // SAFETY: the kernel has given it to this operation, and nobody else has it.
        Self(real.then(|| unsafe { OwnedFd::from_raw_fd(fd) }), fd)
    }

    pub fn number(&self) -> RawFd {
        self.1
    }
}

/// Descriptors that scripts yield.
pub const SCRIPTED_FD: RawFd = 1 << 24;

// SAFETY: the request points at nothing.
unsafe impl Operation for Yields {
    type Output = io::Result<Descriptor>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        self.request
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        self.fates.borrow_mut().push(Fate::Completed(cqe.res()));
        self.take(cqe)
    }

    fn orphaned(self, cqe: Cqe) {
        self.fates.borrow_mut().push(Fate::Orphaned(cqe.res()));
        drop(self.take(cqe)); // Closes it.
    }
}

/// An operation that is only its request, and gives what came.
pub struct Raw(pub Request);

// SAFETY: tests make it of requests that point at nothing.
unsafe impl Operation for Raw {
    type Output = (i32, u32);

    fn request(&mut self, _: &mut Scratch) -> Request {
        self.0
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        (cqe.res(), cqe.flags())
    }

    fn orphaned(self, _: Cqe) {}
}

/// Locks what a test shares with its threads.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the test `name` once more, alone in a process. `true`: this is that process.
pub fn alone_in_a_process(name: &str) -> bool {
    alone_in_a_process_with(name, |_| {})
}

/// As [`alone_in_a_process`], and says how that process is started.
pub fn alone_in_a_process_with(name: &str, prepare: impl FnOnce(&mut Command)) -> bool {
    const CHILD: &str = "CORING_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let _alone = World::uring();
    let test = std::env::current_exe().expect("this program");
    let mut child = Command::new(test);
    child
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1");
    prepare(&mut child);
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {text}", output.status);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed"), "it ran: {stdout}");
    for skipped in text.lines().filter_map(|line| line.strip_prefix("SKIP ")) {
        say_skipped(skipped);
    }
    false
}

/// Says that a test, or a part of it, was not run.
pub fn skip(subject: &str, reason: &str) {
    say_skipped(&format!("{subject}: {reason}"));
}

/// Not by a macro that prints: the harness keeps what a test that passes prints to itself. On a
/// line of its own: with one thread the harness has begun one already.
fn say_skipped(what: &str) {
    let _ = io::stderr().write_all(format!("\nSKIP {what}\n").as_bytes());
}
