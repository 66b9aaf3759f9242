//! A world for a test: a driver, pipes on it, and a guard that looks at what is left at the end.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses what it needs of this"
)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coring_runtime::BufResult;
use coring_runtime::{
    Builder, Cqe, IoBuf, IoBufMut, Op, Operation, Request, Runner, Scratch, Stats, sim, submit,
    transfer_len,
};

/// Descriptors and leaks are counted over the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

pub struct World {
    pub kernel: Option<sim::Kernel>,
    /// Descriptors of real pipes that are still open.
    fds: RefCell<Vec<OwnedFd>>,
    fds_before: usize,
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
        let runners: Vec<_> = (0..4).filter_map(|_| real_builder().build().ok()).collect();
        let leaks_before = runners.first().map_or(0, |runner| runner.stats().leaks);
        drop(runners);
        Self {
            kernel,
            fds: RefCell::default(),
            fds_before: open_fds(),
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
        self.finish(runner);
        output
    }

    /// Nothing is in flight, and nothing but the tasks that are left has a slot.
    pub fn finish(&self, runner: Runner) {
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

    /// Closes an end of a pipe, as `close(2)` does.
    pub fn close(&self, fd: RawFd) {
        self.fds.borrow_mut().retain(|open| open.as_raw_fd() != fd);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.fds.borrow_mut().clear();
        if std::thread::panicking() {
            return;
        }
        // A ring that closes gives its descriptor up at once, its workers a little later.
        assert_eq!(open_fds(), self.fds_before, "descriptors leaked");
        if let Ok(runner) = real_builder().build() {
            assert_eq!(runner.stats().leaks, self.leaks_before, "payloads leaked");
        }
        if let Some(kernel) = &self.kernel {
            assert_eq!(
                kernel.pending(),
                0,
                "operations are left in the simulated kernel"
            );
        }
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
pub const CLOSE: u8 = 19;
pub const READ: u8 = 22;
pub const WRITE: u8 = 23;

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
