use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::waiters::Waiters;
use crate::current::BelongsToItsThread;

/// Lets so many tasks through at a time (asyncio's `Semaphore`), in the order in which they came.
///
/// # Examples
///
/// ```
/// use coring::sync::Semaphore;
///
/// coring::run(async {
///     let two = Semaphore::new(2);
///     let one = two.acquire().await?;
///     let other = two.acquire().await?;
///     assert!(two.locked());
///     drop(one);
///     assert_eq!(two.available(), 1);
///     drop(other);
///     coring::ok(())
/// }).unwrap();
/// ```
pub struct Semaphore {
    permits: Cell<usize>,
    /// Permits that were kept from going back.
    forgotten: Cell<usize>,
    waiters: Waiters,
    _thread: BelongsToItsThread,
}

impl Semaphore {
    /// One with so many permits.
    pub fn new(permits: usize) -> Self {
        Self {
            permits: Cell::new(permits),
            forgotten: Cell::new(0),
            waiters: Waiters::default(),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Waits for a permit, which is given back when it is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. A permit that had come goes to
    /// the next who waits.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn acquire(&self) -> io::Result<Permit<'_>> {
        // What is granted is a permit.
        self.waiters
            .wait(|| self.take(), || self.release(1))
            .await?;
        Ok(Permit(self))
    }

    fn take(&self) -> bool {
        let free = !self.locked();
        if free {
            self.permits.set(self.permits.get() - 1);
        }
        free
    }

    /// [`acquire`](Self::acquire), for a permit that can be moved into a task.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. A permit that had come goes to
    /// the next who waits.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::{create_task, sync::Semaphore, yield_now};
    /// use std::rc::Rc;
    ///
    /// # coring::run(async {
    /// let ten = Rc::new(Semaphore::new(10));
    /// for _ in 0..100 {
    ///     let permit = ten.clone().acquire_owned().await?; // No more than ten tasks at a time.
    ///     create_task(async move {
    ///         yield_now().await?;
    ///         drop(permit);
    ///         coring::ok(())
    ///     });
    /// }
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn acquire_owned(self: Rc<Self>) -> io::Result<OwnedPermit> {
        self.acquire().await?.detach();
        Ok(OwnedPermit(self))
    }

    /// [`try_acquire`](Self::try_acquire), for a permit that can be moved into a task.
    pub fn try_acquire_owned(self: Rc<Self>) -> Option<OwnedPermit> {
        self.try_acquire()?.detach();
        Some(OwnedPermit(self))
    }

    /// A permit, if there is one and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.take().then(|| Permit(self))
    }

    /// Adds permits: those who wait get them first. There are [`usize::MAX`] at the most.
    pub fn release(&self, permits: usize) {
        let mut left = permits;
        while left > 0 && self.waiters.grant() {
            left -= 1;
        }
        self.permits.set(self.permits.get().saturating_add(left));
    }

    /// Whether [`acquire`](Self::acquire) would wait.
    pub fn locked(&self) -> bool {
        self.permits.get() == 0 || !self.waiters.is_empty()
    }

    /// Permits that nobody has.
    pub const fn available(&self) -> usize {
        self.permits.get()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("waiters", &self.waiters.len())
            .finish()
    }
}

/// A permit of a [`Semaphore`]. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit<'a>(&'a Semaphore);

impl Permit<'_> {
    /// Keeps the permit from going back: the semaphore has one less from here on, until somebody
    /// [adds](Semaphore::release) one.
    pub fn forget(self) {
        let forgotten = &self.0.forgotten;
        forgotten.set(forgotten.get().saturating_add(1));
        self.detach();
    }

    /// Somebody else gives the permit back.
    #[expect(clippy::mem_forget, reason = "a reference is all that it has")]
    fn detach(self) {
        std::mem::forget(self);
    }
}

/// A permit of a [`Semaphore`] that owns a reference to it. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct OwnedPermit(Rc<Semaphore>);

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

/// A [`Semaphore`] that never has more permits than it began with (asyncio's `BoundedSemaphore`).
///
/// # Examples
///
/// ```
/// use coring::sync::BoundedSemaphore;
///
/// coring::run(async {
///     let one = BoundedSemaphore::new(1);
///     one.acquire().await?.forget();
///     one.release(1)?;
///     assert!(one.release(1).is_err());
///     coring::ok(())
/// }).unwrap();
/// ```
#[derive(Debug)]
pub struct BoundedSemaphore {
    semaphore: Semaphore,
}

impl BoundedSemaphore {
    /// One with so many permits.
    pub fn new(permits: usize) -> Self {
        Self {
            semaphore: Semaphore::new(permits),
        }
    }

    /// Waits for a permit: see [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. A permit that had come goes to
    /// the next who waits.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn acquire(&self) -> io::Result<Permit<'_>> {
        self.semaphore.acquire().await
    }

    /// A permit, if there is one and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.semaphore.try_acquire()
    }

    /// Adds permits that were kept from going back by [`Permit::forget`].
    ///
    /// # Errors
    /// If there would be more than it began with: then none is added.
    pub fn release(&self, permits: usize) -> io::Result<()> {
        let Some(left) = self.semaphore.forgotten.get().checked_sub(permits) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a bounded semaphore was released more often than it was acquired: a permit goes \
                 back by itself when it is dropped",
            ));
        };
        self.semaphore.forgotten.set(left);
        self.semaphore.release(permits);
        Ok(())
    }

    /// Whether [`acquire`](Self::acquire) would wait.
    pub fn locked(&self) -> bool {
        self.semaphore.locked()
    }

    /// Permits that nobody has.
    pub const fn available(&self) -> usize {
        self.semaphore.available()
    }
}
