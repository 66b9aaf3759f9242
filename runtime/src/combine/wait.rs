//! Waiting for tasks without lending them the one who waits: they run on whatever becomes of it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::cancellable::cancellable;
use crate::task::Task;
use crate::{Instant, Timer};

/// What [`wait`] waits for.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReturnWhen<T> {
    /// All of the tasks have ended.
    AllCompleted,
    /// One has.
    FirstCompleted,
    /// One has ended of whose output this is true, or has panicked; else all.
    FirstMatch(fn(&T) -> bool),
}

impl<T, E> ReturnWhen<Result<T, E>> {
    /// One has ended with an error, or panicked; else all.
    pub const FIRST_EXCEPTION: Self = Self::FirstMatch(Result::is_err);
}

impl<T> Clone for ReturnWhen<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ReturnWhen<T> {}

/// Waits for tasks, for `limit` at the most, and takes those out of `tasks` that have ended, in
/// their order (asyncio's `wait`).
///
/// Those that are left run on, whatever ends the wait, and can be waited for again. Tasks that have
/// ended in the same turn are all taken. The limit passing is no error: then fewer have ended.
/// With no tasks there is nothing to wait for.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect on the tasks.
///
/// # Errors
/// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too: the tasks are all still
/// there.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{ReturnWhen, create_task, sleep, wait};
///
/// # coring::run(async {
/// let mut tasks: Vec<_> = [0, 60]
///     .map(|s| create_task(sleep(Duration::from_secs(s))))
///     .into();
/// let done = wait(&mut tasks, ReturnWhen::FirstCompleted, None).await?;
/// assert_eq!((done.len(), tasks.len()), (1, 1));
/// tasks[0].cancel();
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn wait<T>(
    tasks: &mut Vec<Task<T>>,
    when: ReturnWhen<T>,
    limit: Option<Duration>,
) -> io::Result<Vec<Task<T>>> {
    let mut timer = match limit {
        Some(limit) => Timer::after(limit),
        None => Timer::at(Instant::FAR_FUTURE),
    };
    let mut ended: FuturesUnordered<_> = tasks.iter().map(End).collect();
    let mut left = tasks.len();
    let mut begun = false;
    std::future::poll_fn(|cx| {
        // A cancellation point also if nothing has to be waited for (C7), but no more than that:
        // what has ended when the limit passes has ended (C1).
        let over = if left > 0 || !std::mem::replace(&mut begun, true) {
            Pin::new(&mut timer).poll(cx)?.is_ready()
        } else {
            false
        };
        let mut enough = false;
        while let Poll::Ready(Some(task)) = ended.poll_next_unpin(cx) {
            left -= 1;
            enough |= match when {
                ReturnWhen::AllCompleted => false,
                ReturnWhen::FirstCompleted => true,
                ReturnWhen::FirstMatch(matches) => task.with_output(matches).unwrap_or(true),
            };
        }
        if enough || left == 0 || over {
            Poll::Ready(io::Result::Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await?;
    drop(ended);
    Ok(tasks.extract_if(.., |task| task.done()).collect())
}

/// The end of a task, whose output stays with it.
struct End<'a, T>(&'a Task<T>);

impl<'a, T> Future for End<'a, T> {
    type Output = &'a Task<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'a Task<T>> {
        self.0.poll_end(cx, false).map(|()| self.0)
    }
}

/// The outputs of tasks in the order in which they end (asyncio's `as_completed`).
///
/// The tasks stay where they are and run on, whatever becomes of this; each gives its output once,
/// here or where it is awaited.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{as_completed, create_task, sleep};
///
/// # coring::run(async {
/// let mut tasks = [3, 1].map(|ms| {
///     create_task(async move { sleep(Duration::from_millis(ms)).await.map(|()| ms) })
/// });
/// let mut completed = as_completed(&mut tasks);
/// while let Some(ms) = completed.next().await? {
///     println!("{} ms", ms?);
/// }
/// # coring::ok(()) }).unwrap();
/// ```
pub fn as_completed<T>(tasks: &mut [Task<T>]) -> AsCompleted<'_, T> {
    AsCompleted {
        ended: tasks.iter().map(End).collect(),
    }
}

/// Tasks of which the next to end is asked for: see [`as_completed`].
pub struct AsCompleted<'a, T> {
    ended: FuturesUnordered<End<'a, T>>,
}

impl<T> AsCompleted<'_, T> {
    /// The output of the next task to end. `None`: there are no more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too: the next call goes
    /// on.
    ///
    /// # Panics
    /// If that task panicked.
    pub async fn next(&mut self) -> io::Result<Option<T>> {
        let next = cancellable(self.ended.next()).await?;
        Ok(next.map(Task::output))
    }
}

impl<T> fmt::Debug for AsCompleted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("left", &self.ended.len())
            .finish()
    }
}
