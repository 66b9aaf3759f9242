//! Limits on how long something may take.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use coring_runtime::{CancelScope, Cancelled, Instant, Outcome, Polled, ScopeHandle, TimedOut};
use pin_project_lite::pin_project;

/// Awaits `future` for `limit` at the most (asyncio's `wait_for`).
///
/// At the limit the future is asked to stop, and waited for until it has: an operation in flight
/// is cancelled in the kernel, and its buffer comes back with the error, which is
/// [`TimedOut`]. The limit is a kernel timeout, linked behind the first operation that the future
/// starts. A value that the future returns in spite of it is the value, and an error that its
/// clean-up raises wins over the time-out. The limit counts from the first time that the future
/// has to wait.
///
/// With a limit of zero the future is polled once, and stopped at its first await. A limit of
/// [`Duration::MAX`] is none.
///
/// Each await that is under way when the limit passes is told. One whose result came at the same
/// moment gives that, and the await after it is told, unless another one was: the branches of
/// another crate's `join!` are one to coring. Those of [`gather!`](coring_runtime::gather!) are
/// each told, whatever the others have heard.
///
/// A future that knows nothing of cancellation (another crate's channel) is dropped at the limit,
/// if its output can say so: a `Result` can, a [`BufResult`](coring_runtime::BufResult) can't.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
///
/// # Errors
/// In the future's own error: [`TimedOut`]; [`Cancelled`] if a request from further out came
/// first; the future's own.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{sleep, wait_for};
///
/// # coring::run(async {
/// wait_for(sleep(Duration::ZERO), Duration::from_secs(3)).await?;
/// let error = wait_for(sleep(Duration::from_secs(5)), Duration::from_millis(1)).await;
/// assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn wait_for<F>(future: F, limit: Duration) -> WaitFor<F>
where
    F: Future,
    F::Output: Outcome,
{
    WaitFor {
        future: Some(future),
        scope: CancelScope::after(limit),
    }
}

/// [`wait_for`], behind a shield: requests to stop, and limits from further out, reach the first
/// await behind it. For clean-up, which is to be whole, and not to last for ever.
///
/// The span comes first, as in [`timeout`].
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
///
/// # Errors
/// In the future's own error: [`TimedOut`]; the future's own.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{create_task, shielded_for, sleep};
///
/// # coring::run(async {
/// let task = create_task(async {
///     let slept = sleep(Duration::from_secs(60)).await;
///     // Told to stop: says good-bye, if the other side takes it in time.
///     shielded_for(Duration::from_secs(1), sleep(Duration::from_millis(1))).await?;
///     slept
/// });
/// coring::yield_now().await?;
/// task.cancel();
/// assert!(coring::is_cancelled(&task.await.unwrap_err()));
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn shielded_for<F>(limit: Duration, future: F) -> WaitFor<F>
where
    F: Future,
    F::Output: Outcome,
{
    WaitFor {
        future: Some(future),
        scope: CancelScope::after(limit).shielded(),
    }
}

pin_project! {
    /// A future with a limit: see [`wait_for`].
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct WaitFor<F> {
        #[pin]
        future: Option<F>,
        scope: CancelScope,
    }
}

impl<F> Future for WaitFor<F>
where
    F: Future,
    F::Output: Outcome,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("`wait_for` was polled after it gave its output");
        };
        let output = match this.scope.poll(future, cx) {
            Polled::Pending => return Poll::Pending,
            Polled::Ready(output) => {
                this.future.set(None);
                let timed_out = this.scope.close().timed_out;
                if timed_out && output.is_cancelled() {
                    output.timed_out()
                } else {
                    output
                }
            }
            Polled::Abandoned | Polled::Deaf => {
                let timed_out = this.scope.is_timed_out();
                let error: io::Error = if timed_out {
                    TimedOut::default().into()
                } else {
                    Cancelled::default().into()
                };
                let Some(output) = F::Output::abandoned(error) else {
                    return Poll::Pending;
                };
                this.future.set(None);
                if timed_out {
                    this.scope.close();
                } else {
                    this.scope.close_cancelled();
                }
                output
            }
        };
        Poll::Ready(output)
    }
}

/// Awaits any `future` for `limit` at the most; what it made of its cancellation is not lost.
///
/// As [`wait_for`], for futures whose output says nothing of cancellation. The span comes first,
/// as in tokio's `timeout`; `wait_for` has asyncio's order, the future first. What the future still
/// returned when it was stopped is in [`Expired::late`].
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
///
/// # Errors
/// [`Expired`] if the limit passed and the future was told so before it was done.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{sleep, timeout};
///
/// # coring::run(async {
/// assert_eq!(timeout(Duration::from_secs(3), async { 7 }).await?, 7);
/// let expired = timeout(Duration::from_millis(1), async {
///     sleep(Duration::from_secs(5)).await.is_err()
/// });
/// assert_eq!(expired.await.unwrap_err().late, Some(true));
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        scope: CancelScope::after(limit),
    }
}

/// [`timeout`], until a moment.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
///
/// # Errors
/// [`Expired`] if the moment passed and the future was told so before it was done.
pub const fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future: Some(future),
        scope: CancelScope::at(deadline),
    }
}

/// [`timeout`], whose limit can be moved by what it limits (asyncio's `timeout` with `reschedule`).
///
/// The limit counts from the first poll. It does not travel into the kernel with operations, so
/// where it stays as it is [`timeout`] is cheaper.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `body`.
///
/// # Errors
/// [`Expired`] if the limit passed and the body was told so before it was done.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{now, sleep, timeout_scope};
///
/// # coring::run(async {
/// let done = timeout_scope(Duration::from_millis(1), async |limit| {
///     limit.reschedule(Some(now() + Duration::from_secs(60)))?;
///     sleep(Duration::from_millis(2)).await
/// });
/// done.await??;
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn timeout_scope<T, F>(limit: Duration, body: F) -> Result<T, Expired<T>>
where
    F: AsyncFnOnce(TimeoutScope) -> T,
{
    let mut scope = CancelScope::after(limit);
    let movable = TimeoutScope(scope.handle());
    let timeout = Timeout {
        future: Some(body(movable)),
        scope,
    };
    timeout.await
}

/// The limit that the body of a [`timeout_scope`] has.
#[derive(Clone, Debug)]
pub struct TimeoutScope(ScopeHandle);

impl TimeoutScope {
    /// When the time is up. `None`: never, or the body has ended.
    pub fn when(&self) -> Option<Instant> {
        self.0.deadline()
    }

    /// Moves the limit; `None` is none. A moment that has passed is seen by the next await.
    ///
    /// # Errors
    /// If the time was up, or the body has ended.
    pub fn reschedule(&self, when: Option<Instant>) -> io::Result<()> {
        if self.0.reschedule(when) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a limit was moved that had passed already, or whose body has ended",
        ))
    }

    /// Whether the time is up.
    pub fn expired(&self) -> bool {
        self.0.is_cancelled()
    }
}

pin_project! {
    /// A future with a limit: see [`timeout`].
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        scope: CancelScope,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Expired<F::Output>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("`timeout` was polled after it gave its output");
        };
        match this.scope.poll(future, cx) {
            // `Expired` is no word for a request from further out: that stays pending.
            Polled::Pending | Polled::Deaf => Poll::Pending,
            Polled::Ready(output) => {
                this.future.set(None);
                let expiry = this.scope.close();
                // If the body did not hear of it, its output won the race (C1).
                Poll::Ready(if expiry.timed_out && expiry.heard {
                    Err(Expired { late: Some(output) })
                } else {
                    Ok(output)
                })
            }
            Polled::Abandoned => {
                this.future.set(None);
                this.scope.close();
                Poll::Ready(Err(Expired { late: None }))
            }
        }
    }
}

/// The deadline passed; what the body made of it is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired<T> {
    /// What the body returned when it had been told to stop. `None`: it did not know of
    /// cancellation, and was dropped.
    pub late: Option<T>,
}

impl<T> fmt::Display for Expired<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&TimedOut::default(), f)
    }
}

impl<T: fmt::Debug> Error for Expired<T> {}

impl<T> From<Expired<T>> for io::Error {
    /// The time-out; what was late is dropped.
    fn from(_: Expired<T>) -> Self {
        TimedOut::default().into()
    }
}
