//! A world for a test: a driver, pipes on it, and a guard that looks at what is left at the end.
//!
//! Like the one of the runtime's own tests, for programs that use the facade.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses what it needs of this"
)]

mod sockets;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

pub use sockets::*;

use coring::{
    BufResult, Builder, Cqe, IoBuf, IoBufMut, Op, Operation, Request, Runner, Scratch, Task,
    create_task, now, sim, sleep, submit, transfer_len, yield_now,
};

/// Longer than anything here takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MS: Duration = Duration::from_millis(1);

/// Descriptors and leaks are counted over the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

pub struct World {
    pub kernel: Option<sim::Kernel>,
    /// Descriptors of real pipes that are still open.
    fds: RefCell<Vec<OwnedFd>>,
    fds_before: Cell<usize>,
    leaks_before: u64,
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
        // (Miri knows no io_uring.)
        let runners = if cfg!(miri) { 0 } else { 4 };
        let runners: Vec<_> = (0..runners)
            .filter_map(|_| real_builder().build().ok())
            .collect();
        let leaks_before = runners.first().map_or(0, |runner| runner.stats().leaks);
        drop(runners);
        Self {
            kernel,
            fds: RefCell::default(),
            fds_before: Cell::new(open_fds()),
            leaks_before,
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
        finish(runner);
        output
    }

    /// A time that is nothing to the simulator, and short on a real kernel.
    pub fn short(&self, steps: u32) -> Duration {
        if self.is_sim() {
            Duration::from_secs(10) * steps
        } else {
            5 * MS * steps
        }
    }

    /// Futures that were forgotten keep this many descriptors.
    pub fn expect_lost_fds(&self, lost: usize) {
        self.fds_before.set(self.fds_before.get() + lost);
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
}

/// Lets what was cancelled come to its end; then nothing is in flight, and nothing has a slot.
pub fn finish(runner: Runner) {
    finish_with_slots(runner, 0);
}

/// As [`finish`], but futures that were forgotten keep their slots.
pub fn finish_with_slots(mut runner: Runner, slots: usize) {
    let clock = std::time::SystemTime::UNIX_EPOCH;
    let begin = elapsed_since(clock);
    while runner.stats().in_flight > 0 {
        runner.turn().expect("the loop goes on");
        assert!(
            elapsed_since(clock) - begin < PATIENCE,
            "in flight at the end: {:?}",
            runner.stats()
        );
    }
    runner.turn().expect("the loop goes on"); // Runs what that has woken.
    let stats = runner.stats();
    assert_eq!(stats.tasks, 0, "tasks are left: {stats:?}");
    let buffers = stats.buffers;
    assert_eq!(buffers.free, buffers.total, "buffers leaked: {stats:?}");
    assert_eq!(buffers.leases, 0, "leases leaked: {stats:?}");
    assert_eq!(stats.slots, slots, "slots: {stats:?}");
    if slots == 0 {
        assert_eq!(stats.scopes, 0, "scopes leaked: {stats:?}");
    }
}

/// Time outside of any runtime, for a limit on patience only.
#[expect(
    clippy::disallowed_methods,
    reason = "no driver is turning, and this only bounds a wait"
)]
fn elapsed_since(clock: std::time::SystemTime) -> Duration {
    std::time::SystemTime::now()
        .duration_since(clock)
        .unwrap_or_default()
}

impl Drop for World {
    fn drop(&mut self) {
        self.fds.borrow_mut().clear();
        if std::thread::panicking() {
            return;
        }
        assert_eq!(open_fds(), self.fds_before.get(), "descriptors leaked");
        if !cfg!(miri)
            && let Ok(runner) = real_builder().build()
        {
            assert_eq!(runner.stats().leaks, self.leaks_before, "payloads leaked");
        }
        if let Some(kernel) = &self.kernel {
            assert_eq!(kernel.pending(), 0, "left in the simulated kernel");
        }
    }
}

fn real_builder() -> Builder {
    Runner::builder().sq_entries(64).cq_entries(1024)
}

pub fn open_fds() -> usize {
    if cfg!(miri) {
        return 0;
    }
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc is mounted")
        .count()
}

/// Says on stderr that a test could not do its work here.
pub fn skip(test: &str, reason: &str) {
    // Not by a macro that prints: the harness keeps what a test that passes prints to itself.
    let skipped = format!("\nSKIP {test}: {reason}\n");
    io::Write::write_all(&mut io::stderr(), skipped.as_bytes()).expect("stderr");
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

/// What happened, in its order.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<&'static str>>>);

impl Log {
    pub fn push(&self, event: &'static str) {
        self.0.borrow_mut().push(event);
    }

    pub fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

/// Counts drops.
#[derive(Clone, Default, Debug)]
pub struct Drops(Rc<Cell<usize>>);

impl Drops {
    pub fn count(&self) -> usize {
        self.0.get()
    }

    pub fn guard(&self) -> DropGuard {
        DropGuard(self.clone())
    }
}

#[derive(Debug)]
pub struct DropGuard(Drops);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}

/// Calls a function when it is dropped.
#[derive(Debug)]
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls a future once, in the task that runs.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Longer than any test.
pub const LONG: Duration = Duration::from_secs(1 << 20);

/// A task that has begun to wait.
pub async fn begun<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
    let task = create_task(task);
    yield_now().await.expect("nobody cancels");
    task
}

/// Lets others run, and hears of nothing.
pub async fn foreign_yield() {
    let mut yielded = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Lets other tasks run, and time pass, until `condition` holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let begin = now();
    while !condition() {
        let waited = now() - begin;
        assert!(waited < PATIENCE * 5, "it did not come");
        // Time stands still in the simulator while somebody is ready to run. Longer steps after a
        // long wait: `World::short` is not short there, and each step is dear under Miri.
        let step = (waited / 2).max(MS / 4);
        sleep(step).await.expect("nobody cancels");
    }
}

/// A file or directory that is removed at the end.
pub struct Temp(PathBuf);

impl Temp {
    /// A name that nothing has yet.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("coring-test-{}-{next}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub fn file(content: &[u8]) -> Self {
        let temp = Self::new();
        std::fs::write(&temp.0, content).expect("the temporary directory can be written");
        temp
    }

    pub fn directory() -> Self {
        let temp = Self::new();
        std::fs::create_dir(&temp.0).expect("the temporary directory can be written");
        temp
    }

    pub fn content(&self) -> Vec<u8> {
        std::fs::read(&self.0).expect("the file is there")
    }
}

impl AsRef<Path> for Temp {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl std::ops::Deref for Temp {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0));
    }
}

pub const READ: u8 = 22;
const WRITE: u8 = 23;

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

pub fn read(fd: RawFd, capacity: usize) -> Op<Read<Vec<u8>>> {
    submit(Read(fd, Vec::with_capacity(capacity)))
}

pub async fn write(fd: RawFd, bytes: &'static [u8]) -> io::Result<usize> {
    submit(Write(fd, bytes)).await.0
}

/// The error of something that must fail.
pub fn error_of<T>(result: io::Result<T>) -> io::Error {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error,
    }
}

pub fn is_time_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && coring::is_timed_out(error)
}

/// A raw descriptor's number, to look at after its owner has gone.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}
