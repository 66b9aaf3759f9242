//! `run`, and the runner behind it.

use std::env;
use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::current;
use crate::debug::is_asked_for;
use crate::driver::sim;
use crate::driver::{Config, Driver, DriverKind, Features, Reason, Unavailable};
use crate::handle::Handle;
use crate::inbox::Inbox;
use crate::pool::{self, BufferCounts};
use crate::runtime::{Runtime, leaks};
use crate::signal::CtrlC;
use crate::task::{MainTask, outside};
use crate::timers::Timers;
use crate::wind_down::{report, wind_down};

/// Runs `main` to its end, and every task that it makes meanwhile (asyncio's `run`).
///
/// When `main` is done the other tasks are asked to stop, and given 5 seconds for that; then once
/// more; what is left is dropped, and reported on stderr. A task that waits for what knows nothing
/// of coring is dropped at once. Then `main`'s output is returned: see [`Runner::close`].
///
/// On the process's main thread Ctrl-C asks `main` to stop; a second one ends the process. See
/// [`signal`](crate::signal).
///
/// # Panics
/// If `main` panicked; if a `run` is on the stack already; if the machine offers no driver: the
/// text names the cause and the remedy ([`Runner::builder`] gives it as an error).
///
/// # Examples
///
/// ```
/// let sum = coring::run(async {
///     let task = coring::create_task(async { 1 });
///     task.await + 1
/// });
/// assert_eq!(sum, 2);
/// ```
#[track_caller]
pub fn run<F: Future>(main: F) -> F::Output {
    Runner::builder().ctrl_c(true).run(main)
}

/// What a runner is made with.
///
/// # Examples
///
/// ```
/// use coring::{Runner, Timers};
///
/// let mut runner = Runner::builder().sq_entries(64).timers(Timers::Heap).build()?;
/// assert_eq!(runner.run(async { 42 }), 42);
/// # Ok::<(), coring::Unavailable>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes a runner when `build` or `run` is called"]
pub struct Builder {
    config: Config,
    timers: Timers,
    buffers: pool::Config,
    sim: Option<sim::Kernel>,
    ctrl_c: bool,
    grace: Duration,
    debug: bool,
}

impl Builder {
    const fn new() -> Self {
        Self {
            config: Config {
                sq_entries: 256,
                cq_entries: 8_192,
                no_iowait: true,
                min_wait: None,
            },
            timers: Timers::Auto,
            buffers: pool::Config::DEFAULT,
            sim: None,
            ctrl_c: false,
            grace: Duration::from_secs(5),
            debug: false,
        }
    }

    /// Entries of the submission queue: how many requests one system call hands over at the most.
    /// Rounded up to a power of two, 8 to 32,768. By default 256.
    pub fn sq_entries(mut self, entries: u32) -> Self {
        self.config.sq_entries = entries.clamp(8, 32_768);
        self
    }

    /// Entries of the completion queue, at least as many as of the submission queue, up to
    /// 65,536. By default 8,192. When they do not suffice the kernel keeps the rest elsewhere:
    /// nothing is lost, but it costs.
    pub fn cq_entries(mut self, entries: u32) -> Self {
        self.config.cq_entries = entries.clamp(8, 65_536);
        self
    }

    /// How deadlines wait. By default [`Timers::Auto`].
    pub const fn timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// Bytes of a provided buffer, into which what arrives at sockets is received: 1 KiB to 16 MiB,
    /// by default 64 KiB. The kernel fills one piece by piece (since Linux 6.12), with what comes for
    /// any number of connections; a message that does not fit into the rest of one is received in two
    /// pieces. Before that each message has one of its own, of 16 KiB at the
    /// most, and there are as many more.
    pub fn buffer_bytes(mut self, bytes: u32) -> Self {
        self.buffers.bytes = bytes.clamp(1 << 10, 1 << 24);
        self
    }

    /// Provided buffers at first, by default 8, and at the most, by default 1,024 (64 MiB): 1 to
    /// 32,768. More are made when they are in use, and freed again. When there are no more to be had,
    /// a receive that somebody waits for has memory of its own.
    ///
    /// A program that receives datagrams in the same way
    /// ([`BufPool::whole`](crate::BufPool::whole)) has as many more at the most, of 68 KiB, and 16
    /// times as many at first. They take up memory as far as datagrams have filled them.
    pub fn buffer_count(mut self, count: u16, count_max: u16) -> Self {
        self.buffers.count_max = count_max.clamp(1, 1 << 15);
        self.buffers.count = count.clamp(1, self.buffers.count_max);
        self
    }

    /// Whether a loop that sleeps counts as waiting for I/O in the machine's statistics, which
    /// also keeps the processor's clock up. By default it does not. Since Linux 6.15; before that
    /// it always does.
    pub const fn iowait(mut self, iowait: bool) -> Self {
        self.config.no_iowait = !iowait;
        self
    }

    /// Has a loop that sleeps wait until so many completions are there, or one and `time` has passed.
    /// By default it gets up for one.
    ///
    /// A busy server gets up less often by this, and needs less CPU time for a request, at the price of
    /// latency: whatever the loop waits for may come later by `time`, but for deadlines that the loop
    /// keeps itself ([`Timers::Heap`]). Since Linux 6.12 (`min_wait_usec`); before that it does nothing:
    /// see [`Features::min_wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::Runner;
    /// use std::time::Duration;
    ///
    /// let builder = Runner::builder().min_wait(32, Duration::from_micros(200));
    /// builder.run(coring::sleep(Duration::from_millis(1)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn min_wait(mut self, completions: u32, time: Duration) -> Self {
        self.config.min_wait = (completions > 1).then_some((completions, time));
        self
    }

    /// Whether Ctrl-C asks the main task of a [`Runner::run`] to stop, and ends the process the
    /// second time. By default it does not; [`run`] and `#[coring::main]` ask for it. It holds on
    /// the process's main thread, for one run at a time, and while nobody else catches SIGINT.
    pub const fn ctrl_c(mut self, ctrl_c: bool) -> Self {
        self.ctrl_c = ctrl_c;
        self
    }

    /// Debug mode, which the environment variable `CORING_DEBUG=1` turns on as well. It reports
    ///
    /// * a task that runs for 100 ms without a break, with its name and where it was made;
    /// * a task that was asked to stop, has heard of it, and goes on for more than a second;
    /// * an operation in flight whose future is dropped;
    /// * a task that failed and whose handle nobody has, or drops without looking (for outputs of
    ///   `Result<(), E>`, where `E` is an [`io::Error`] or a box);
    /// * a task group that is dropped before its tasks have ended;
    ///
    /// to the `tracing` crate where that feature is on, else to stderr.
    pub const fn debug(mut self, debug: bool) -> Self {
        self.debug = debug;
        self
    }

    /// How long tasks have, each of the two times that [`Runner::close`] asks them to stop. By
    /// default 5 seconds.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs on a simulated kernel, whatever `CORING_DRIVER` says. One that serves another runner
    /// makes [`build`](Self::build) panic.
    pub fn sim(mut self, kernel: &sim::Kernel) -> Self {
        self.sim = Some(kernel.clone());
        self
    }

    /// Makes the runner, on this thread and for it.
    ///
    /// The environment variable `CORING_DRIVER` chooses the driver: `auto` or `uring`.
    ///
    /// # Errors
    /// Why there is no driver, and what to do about it.
    pub fn build(self) -> Result<Runner, Unavailable> {
        let driver = self.driver()?;
        let opened = Inbox::open();
        let (inbox, id) = opened.ok_or(Unavailable::new(0, Reason::TooManyRuntimes))?;
        Ok(Runner {
            runtime: Runtime::new(
                id,
                inbox,
                driver,
                self.timers,
                self.buffers,
                self.debug || is_asked_for(),
            ),
            ctrl_c: self.ctrl_c,
            grace: self.grace,
        })
    }

    /// Runs `main` to its end on a runner of its own, and closes that: the free [`run`], with
    /// options. Ctrl-C is as [`ctrl_c`](Self::ctrl_c) says.
    ///
    /// # Panics
    /// If `main` panicked; if a `run` is on the stack already; if the machine offers no driver:
    /// the text names the cause and the remedy ([`build`](Self::build) gives it as an error).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use coring::Runner;
    ///
    /// let builder = Runner::builder().grace(Duration::from_millis(100));
    /// assert_eq!(builder.run(async { 42 }), 42);
    /// ```
    #[track_caller]
    pub fn run<F: Future>(self, main: F) -> F::Output {
        let mut runner = match self.build() {
            Ok(runner) => runner,
            Err(unavailable) => panic!("{unavailable}"),
        };
        // A panic of `main` waits for the others as well.
        let caller = Location::caller();
        let output = catch_unwind(AssertUnwindSafe(|| runner.run_from(caller, main)));
        runner.close();
        output.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn driver(&self) -> Result<Driver, Unavailable> {
        if let Some(kernel) = &self.sim {
            return Ok(Driver::sim(kernel));
        }
        match env::var("CORING_DRIVER").as_deref() {
            Err(_) | Ok("" | "auto" | "uring") => Driver::uring(self.config),
            Ok(name) => {
                let reason = Reason::UnknownDriver {
                    name: name.to_owned(),
                };
                Err(Unavailable::new(0, reason))
            }
        }
    }
}

/// A runtime on this thread: a driver, its tasks, and the loop.
///
/// [`run`](Self::run) is [`turn`](Self::turn) in a loop. A program that has a loop already calls
/// `turn` itself, whenever the descriptor of [`as_fd`](Self::as_fd) is readable.
///
/// Dropping it drops its tasks, cancels what is in flight and waits for that, 5 seconds at the
/// most; what the kernel still has then is leaked, and reported on stderr.
pub struct Runner {
    runtime: Rc<Runtime>,
    ctrl_c: bool,
    grace: Duration,
}

impl Runner {
    /// Says what the runner is to be like.
    pub const fn builder() -> Builder {
        Builder::new()
    }

    /// Runs `main` to its end. The runner can be used again: other tasks stay, and go on in the
    /// next run or turn.
    ///
    /// # Panics
    /// If `main` panicked; if a runtime is turning on this thread already.
    #[track_caller]
    pub fn run<F: Future>(&mut self, main: F) -> F::Output {
        self.run_from(Location::caller(), main)
    }

    #[track_caller]
    fn run_from<F: Future>(&mut self, caller: &'static Location<'static>, main: F) -> F::Output {
        assert!(
            !current::is_turning(),
            "`run` was called from within a runtime: await the future, or give it to \
             `create_task`, or run it on another thread"
        );
        self.runtime.enter_from_host();
        let main = MainTask::spawn(&self.runtime, caller, main);
        let index = main.cell().header().index.get();
        let catches = self
            .ctrl_c
            .then(|| CtrlC::catch(self.runtime.inbox(), index));
        let ctrl_c = catches.flatten();
        while !main.is_done() {
            if let Err(error) = self.runtime.turn(Some(main.cell())) {
                panic!("the loop cannot go on: {error}");
            }
            if ctrl_c.as_ref().is_some_and(CtrlC::has_come) {
                self.runtime.cancel(main.cell(), Some("Ctrl-C".into()));
            }
        }
        drop(ctrl_c);
        let output = main.output();
        drop(main);
        if self.runtime.is_embedded() {
            self.runtime.leave();
        }
        match output {
            Some(Ok(output)) => output,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("main is done, and nobody else can take its output"),
        }
    }

    /// Ends the runner, gently: asks its tasks to stop, and waits until they have, for the
    /// [grace](Builder::grace); asks those that are left once more, and waits as long; drops what
    /// is left then, and says so on stderr. A task that waits for what knows nothing of coring is
    /// dropped at once. (Dropping the runner drops all tasks at once.)
    pub fn close(mut self) {
        if self.stats().tasks == 0 {
            return;
        }
        let grace = self.grace;
        self.ctrl_c = false;
        let left = self.run(wind_down(grace));
        report(&left, grace);
    }

    /// One turn of the loop: runs what is ready, submits, takes what has completed. Never waits.
    ///
    /// # Errors
    /// If the loop cannot go on, or is turning already further down the stack.
    pub fn turn(&mut self) -> io::Result<()> {
        if current::is_turning() {
            return Err(io::Error::new(
                io::ErrorKind::Deadlock,
                "`turn` was called from within a runtime",
            ));
        }
        self.runtime.enter_from_host();
        let turned = self.runtime.turn(None);
        self.runtime.leave();
        turned
    }

    /// A descriptor that is readable when [`turn`](Self::turn) has something to do. Do not read
    /// it: `turn` does.
    ///
    /// # Errors
    /// If no descriptor is left, or the driver has none (the simulator).
    pub fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        let fd = self.runtime.event_fd()?;
        // SAFETY: the driver keeps it open as long as the runtime lives, which `self` does.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Makes the descriptor readable, and a loop that sleeps turn. From other threads:
    /// [`Handle::wake`].
    pub fn wake(&self) {
        self.runtime.inbox().notify();
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.runtime.inbox(), self.runtime.id())
    }

    /// Runs `f` with this runtime as the current one, so that it may call
    /// [`create_task`](crate::create_task): for programs that drive it by [`turn`](Self::turn).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::{Runner, create_task};
    /// let mut runner = Runner::builder().build()?;
    /// let task = runner.enter(|| create_task(async { 42 }));
    /// while !task.done() {
    ///     runner.turn()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        // Also when `f` panics.
        struct Leave<'a>(&'a Runtime);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                if self.0.is_embedded() {
                    self.0.leave();
                }
            }
        }
        let _leave = Leave(&self.runtime);
        let _entered = current::Entered::new(&self.runtime);
        f()
    }

    /// The driver that it runs on.
    pub fn driver(&self) -> DriverKind {
        self.runtime.core().driver.kind()
    }

    /// What the ring was set up with; `None` on other drivers.
    pub fn features(&self) -> Option<Features> {
        self.runtime.core().driver.features()
    }

    /// Whether the driver knows an opcode.
    pub fn supports(&self, opcode: u8) -> bool {
        self.runtime.core().driver.supports(opcode)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.runtime.stats()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.runtime.shut_down();
    }
}

impl AsRawFd for Runner {
    /// The descriptor of [`as_fd`](Self::as_fd), or -1 where there is none.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().map_or(-1, |fd| fd.as_raw_fd())
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("driver", &self.driver())
            .finish_non_exhaustive()
    }
}

/// What a runtime has done, and has, counted since it was made: [`Stats::current`] in a task,
/// [`Runner::stats`] outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// System calls that enter the ring.
    pub enters: u64,
    /// Operations submitted.
    pub submissions: u64,
    /// Completions taken, those of the runtime's own requests included.
    pub completions: u64,
    /// Completions of no operation that is there: counted and dropped.
    pub stale: u64,
    /// Times that the completion queue had overflowed.
    pub overflows: u64,
    /// Operations that ended when their future was gone.
    pub orphans: u64,
    /// Payloads leaked in this process, since the kernel could not be waited for.
    pub leaks: u64,
    /// Operations that the kernel has now.
    pub in_flight: usize,
    /// Slots in use: what futures wait for, or have not fetched.
    pub slots: usize,
    /// Scopes that are open.
    pub scopes: usize,
    /// Provided buffers.
    pub buffers: BufferCounts,
    /// Tasks that have not ended.
    pub tasks: usize,
}

impl Stats {
    /// The counters of the runtime that is turning, for tasks in it; [`Runner::stats`] has them
    /// from outside.
    ///
    /// # Panics
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// coring::run(async {
    ///     let before = coring::Stats::current().enters;
    ///     coring::sleep(std::time::Duration::from_millis(1)).await?;
    ///     assert!(coring::Stats::current().enters > before);
    ///     coring::ok(())
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn current() -> Self {
        let Some(stats) = current::with(|current| Some(current?.0.stats())) else {
            outside("Stats::current")
        };
        stats
    }

    /// Worker threads that the kernel keeps for this process's rings now (`iou-wrk-*`): operations
    /// that it cannot do in passing go there. Read from `/proc`.
    pub fn io_wq_workers() -> usize {
        let Ok(threads) = fs::read_dir("/proc/self/task") else {
            return 0;
        };
        let names = threads
            .flatten()
            .filter_map(|thread| fs::read(thread.path().join("comm")).ok());
        names.filter(|name| name.starts_with(b"iou-wrk")).count()
    }
}

impl Runtime {
    fn stats(&self) -> Stats {
        let core = self.core();
        let driver = core.driver.stats();
        Stats {
            enters: driver.enters,
            submissions: core.counts.submissions,
            completions: core.counts.completions,
            stale: core.counts.stale,
            overflows: driver.overflows,
            orphans: core.counts.orphans,
            leaks: leaks(),
            in_flight: core.table.in_flight,
            slots: core.table.len(),
            scopes: core.scopes.len(),
            tasks: self.tasks().len(),
            buffers: core.buffer_counts(),
        }
    }
}
