use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;

use super::lock::LockGuard;
use super::waiters::Waiters;
use crate::current::{self, BelongsToItsThread};
use crate::{BufResult, checkpoint, shielded};

/// Waits for others to change what a [`Lock`](super::Lock) guards (asyncio's `Condition`).
///
/// # Examples
///
/// ```
/// use coring::sync::{Condition, Lock};
/// use coring::{BufResult, create_task};
/// use std::rc::Rc;
///
/// coring::run(async {
///     let shared = Rc::new((Lock::new(0), Condition::new()));
///     let theirs = shared.clone();
///     let task = create_task(async move {
///         let (count, changed) = &*theirs;
///         let count = count.acquire().await?;
///         let BufResult(waited, count) = changed.wait_for(count, |count| *count > 2).await;
///         waited.map(|()| *count)
///     });
///     let (count, changed) = &*shared;
///     for _ in 0..3 {
///         *count.acquire().await? += 1;
///         changed.notify_all();
///         coring::yield_now().await?;
///     }
///     assert_eq!(task.await?, 3);
///     coring::ok(())
/// }).unwrap();
/// ```
pub struct Condition {
    waiters: Waiters,
    _thread: BelongsToItsThread,
}

impl Condition {
    /// One that nobody waits for.
    pub fn new() -> Self {
        Self {
            waiters: Waiters::default(),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Frees the lock, waits to be notified, and takes the lock again, whatever came of the wait:
    /// the guard comes back in every case. Taking it again is shielded.
    ///
    /// Somebody else may have taken the lock before, and changed what was waited for: look again,
    /// or use [`wait_for`](Self::wait_for).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that the guard is gone. A
    /// notification that had come goes to the next who waits.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn wait<'a, T>(&self, guard: LockGuard<'a, T>) -> BufResult<(), LockGuard<'a, T>> {
        let lock = guard.lock();
        let mut guard = Some(guard);
        let mut wait = self.waiters.wait(|| false, || self.notify(1));
        let waited = poll_fn(|cx| {
            let waited = Pin::new(&mut wait).poll(cx);
            // Who waits for the lock may run at once, and notify: this is in the queue by now.
            if waited.is_pending() {
                guard = None;
            }
            waited
        })
        .await;
        if let Some(guard) = guard {
            return BufResult(waited, guard); // It was not to begin.
        }
        // Until it has the lock, the notification is not used.
        let unused = waited.is_ok().then(|| Unused(self));
        let guard = loop {
            match shielded(lock.acquire()).await {
                Ok(guard) => break guard,
                // It was moved to another runner while it waited: it waits there anew.
                Err(_) if current::is_turning() => {}
                // Nothing can be waited for here.
                Err(_) => pending().await,
            }
        };
        if let Some(unused) = unused {
            unused.use_up();
        }
        BufResult(waited, guard)
    }

    /// [`wait`](Self::wait)s until `holds` of what the lock guards.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_for<'a, T>(
        &self,
        mut guard: LockGuard<'a, T>,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> BufResult<(), LockGuard<'a, T>> {
        if let Err(stopped) = checkpoint() {
            return BufResult(Err(stopped), guard);
        }
        while !holds(&mut guard) {
            let BufResult(waited, back) = self.wait(guard).await;
            guard = back;
            if waited.is_err() {
                return BufResult(waited, guard);
            }
        }
        BufResult(Ok(()), guard)
    }

    /// Wakes so many of those who wait, in the order in which they came.
    pub fn notify(&self, waiters: usize) {
        for _ in 0..waiters {
            if !self.waiters.grant() {
                return;
            }
        }
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.waiters.grant_all();
    }
}

/// A notification on its way to somebody who has to take the lock first.
struct Unused<'a>(&'a Condition);

impl Unused<'_> {
    #[expect(clippy::mem_forget, reason = "a reference is all that it has")]
    fn use_up(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        self.0.notify(1);
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("waiters", &self.waiters.len())
            .finish()
    }
}
