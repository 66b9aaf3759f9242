//! Work that blocks its thread, on threads of its own: `to_thread`.
//!
//! The pool is the process's. It has so many threads at the most, and each ends when it has had
//! nothing to do for a while.
//!
//! ```text
//!            a thread takes it          it returns
//! QUEUED ───────────────────▶ RUNNING ─────────────▶ (gone)
//!    │ asked to stop             │ asked to stop
//!    ▼                           ▼
//! TAKEN_BACK                  ASKED
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_channel::oneshot;

use crate::cancel_scope::{CancelScope, Polled};
use crate::debris::quietly;
use crate::error::Cancelled;
use crate::task::PanicPayload;
use crate::{Instant, Timer};

/// Threads at the most, as asyncio's pool has, with four more than there are processors.
const THREADS_MAX: usize = 32;

/// How long a thread waits for work before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Runs `f` on another thread, for what blocks: a computation, a library that knows nothing of
/// rings (asyncio's `to_thread`).
///
/// It starts with the first poll, once a thread of the pool is free: that has four more than there
/// are processors, 32 at the most. `f` is asked to stop by its [`CancelToken`], and should look at
/// it from time to time. Context variables are not carried over.
///
/// Under a limit, await it inside of what is limited and pass its errors on, as in
/// `wait_for(async { to_thread(f).await? }, limit)`: of `to_thread` alone the outcome is `Ok` as soon
/// as `f` has returned something.
///
/// # Cancel safety
///
/// Not cancel safe: dropping this before it completes drops `f`, or what it returns; one that has
/// begun is asked to stop. Asked to stop while `f` waits for a thread, this ends at once and `f` is
/// not run; after that it ends when `f` does, with what it returned, and the request is heard of by
/// the next await.
///
/// # Errors
/// [`Cancelled`] if it is asked to stop, by a limit too, if `f` was not begun; if no thread can be
/// made.
///
/// # Panics
/// If `f` does: with its payload.
///
/// # Examples
///
/// ```
/// coring::run(async {
///     let sum = coring::to_thread(|token| {
///         let mut sum = 0_u64;
///         for n in 0..1_000 {
///             token.check()?;
///             sum += n;
///         }
///         coring::ok(sum)
///     });
///     assert_eq!(sum.await??, 499_500);
///     coring::ok(())
/// }).unwrap();
/// ```
pub fn to_thread<T, F>(f: F) -> ToThread<T>
where
    T: Send + 'static,
    F: FnOnce(&CancelToken) -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let token = CancelToken::new();
    let asked = token.clone();
    let run = move || {
        let output = catch_unwind(AssertUnwindSafe(|| f(&asked)));
        // Nobody waits for it any more: it goes, and that is this thread's to do.
        let _ = sender.send(output);
    };
    ToThread {
        job: Some(Job {
            run: Box::new(run),
            token: token.clone(),
        }),
        token,
        receiver,
        scope: CancelScope::account(),
        leaf: Timer::at(Instant::FAR_FUTURE),
        shield: None,
    }
}

/// Says whether a function on another thread was asked to stop: see [`to_thread`].
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const ASKED: u8 = 2;
const TAKEN_BACK: u8 = 3;

impl CancelToken {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    /// Whether it was.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(SeqCst) == ASKED
    }

    /// The same, as an error, for `?`.
    ///
    /// # Errors
    /// [`Cancelled`] if it was.
    pub fn check(&self) -> io::Result<()> {
        if self.is_cancelled() {
            return Err(Cancelled::default().into());
        }
        Ok(())
    }

    /// A thread takes it. `false`: it was taken back.
    fn begin(&self) -> bool {
        self.0
            .compare_exchange(QUEUED, RUNNING, SeqCst, SeqCst)
            .is_ok()
    }

    /// `true`: it has not begun, and will not.
    fn cancel(&self) -> bool {
        let taken_back = self
            .0
            .compare_exchange(QUEUED, TAKEN_BACK, SeqCst, SeqCst)
            .is_ok();
        let _ = self.0.compare_exchange(RUNNING, ASKED, SeqCst, SeqCst);
        taken_back
    }
}

/// What a function on another thread returns: see [`to_thread`].
#[must_use = "the function runs when this is awaited"]
pub struct ToThread<T> {
    job: Option<Job>,
    token: CancelToken,
    receiver: oneshot::Receiver<Result<T, PanicPayload>>,
    /// What is heard of in there need not show.
    scope: CancelScope,
    /// Never due: a leaf that requests reach.
    leaf: Timer,
    /// Once `f` was asked to stop: it is waited for behind this.
    shield: Option<CancelScope>,
}

impl<T> Future for ToThread<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let this = &mut *self;
        let begins = this.job.is_some();
        if let Some(job) = this.job.take() {
            this.scope.begin();
            // Before the effect (C7).
            if let Poll::Ready(Err(error)) = this.poll_leaf(cx) {
                this.token.cancel();
                this.scope.close();
                return Poll::Ready(Err(error));
            }
            POOL.submit(job)?;
        }
        if this.shield.is_none()
            && let Poll::Ready(output) = Pin::new(&mut this.receiver).poll(cx)
        {
            return this.end(output);
        }
        if this.shield.is_none()
            && !begins
            && let Poll::Ready(Err(error)) = this.poll_leaf(cx)
        {
            if this.token.cancel() {
                this.scope.close();
                return Poll::Ready(Err(error));
            }
            this.shield = Some(CancelScope::shield());
        }
        match this.poll_shielded(cx) {
            Poll::Ready(output) => this.end(output),
            Poll::Pending => Poll::Pending,
        }
    }
}

type Sent<T> = Result<Result<T, PanicPayload>, oneshot::Canceled>;

impl<T> ToThread<T> {
    fn end(&mut self, output: Sent<T>) -> Poll<io::Result<T>> {
        if self.shield.take().is_none() {
            self.scope.close();
        } else {
            // It has heard of a request that does not show in what `f` returned.
            self.scope.discard();
        }
        match output {
            Ok(Ok(output)) => Poll::Ready(Ok(output)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(oneshot::Canceled) => unreachable!("a job that is queued is run"),
        }
    }

    /// Waits for `f` where requests do not reach, so that nobody takes this for deaf.
    fn poll_shielded(&mut self, cx: &mut Context<'_>) -> Poll<Sent<T>> {
        let Some(shield) = &mut self.shield else {
            return Poll::Pending;
        };
        let receiver = &mut self.receiver;
        let body = std::future::poll_fn(|cx| match shield.poll(Pin::new(&mut *receiver), cx) {
            Polled::Ready(output) => Poll::Ready(output),
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        });
        match self.scope.poll(std::pin::pin!(body), cx) {
            Polled::Ready(output) => Poll::Ready(output),
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        }
    }

    fn poll_leaf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.scope.poll(Pin::new(&mut self.leaf), cx) {
            Polled::Ready(over) => Poll::Ready(over),
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        }
    }
}

impl<T> Drop for ToThread<T> {
    fn drop(&mut self) {
        self.token.cancel();
        self.shield = None; // Before the scope around it.
    }
}

impl<T> fmt::Debug for ToThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToThread")
            .field("begun", &self.job.is_none())
            .finish_non_exhaustive()
    }
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    token: CancelToken,
}

struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
}

static POOL: Pool = Pool {
    state: Mutex::new(State {
        jobs: VecDeque::new(),
        threads: 0,
        idle: 0,
    }),
    work: Condvar::new(),
};

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job, and makes a thread for it if none waits.
    fn submit(&'static self, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.work.notify_one();
            return Ok(());
        }
        if state.threads < threads_max() {
            let name = format!("coring-{}", state.threads);
            let made = thread::Builder::new().name(name).spawn(|| self.serve());
            match made {
                Ok(_) => state.threads += 1,
                // Another one takes it later.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    let job = state.jobs.pop_back();
                    drop(state);
                    drop(job); // User code, with nothing locked.
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn serve(&self) {
        loop {
            let Some(job) = self.next() else { return };
            // What it returns, or one that was taken back, may be dropped here: user code, which may
            // panic, and the thread serves on.
            quietly(|| {
                if job.token.begin() {
                    (job.run)();
                }
            });
        }
    }

    /// Waits for a job. `None`: there was none for so long that the thread may end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, IDLE_MAX);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

fn threads_max() -> usize {
    // Asking takes longer than most of what is here.
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        (processors + 4).min(THREADS_MAX)
    })
}
