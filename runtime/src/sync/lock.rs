use std::cell::{RefCell, RefMut};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use super::semaphore::{Permit, Semaphore};

/// Lets one task through at a time (asyncio's `Lock`), in the order in which they came. It may hold
/// what it guards.
///
/// Tasks of one thread need it only where something stays as it is across awaits.
///
/// # Examples
///
/// ```
/// use coring::sync::Lock;
///
/// coring::run(async {
///     let count = Lock::new(7);
///     *count.acquire().await? += 1;
///     assert_eq!(*count.acquire().await?, 8);
///     coring::ok(())
/// }).unwrap();
/// ```
pub struct Lock<T = ()> {
    semaphore: Semaphore,
    // Borrowed by the one who has the permit.
    value: RefCell<T>,
}

impl<T> Lock<T> {
    /// One that nobody has.
    pub fn new(value: T) -> Self {
        Self {
            semaphore: Semaphore::new(1),
            value: RefCell::new(value),
        }
    }

    /// Waits until it is free, and takes it, until the guard is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn acquire(&self) -> io::Result<LockGuard<'_, T>> {
        Ok(self.guard(self.semaphore.acquire().await?))
    }

    /// Takes it if it is free and nobody waits for it.
    pub fn try_acquire(&self) -> Option<LockGuard<'_, T>> {
        Some(self.guard(self.semaphore.try_acquire()?))
    }

    fn guard<'a>(&'a self, permit: Permit<'a>) -> LockGuard<'a, T> {
        LockGuard {
            lock: self,
            value: self.value.borrow_mut(),
            _permit: permit,
        }
    }

    /// Whether [`acquire`](Self::acquire) would wait.
    pub fn locked(&self) -> bool {
        self.semaphore.locked()
    }

    /// What it guards.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// What it guards: nobody else has it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("locked", &self.locked())
            .finish_non_exhaustive()
    }
}

/// Who has a [`Lock`]. Dropping it gives it to the next who waits.
#[must_use = "a lock is free again when its guard is dropped"]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    // Given back first: with the permit the next one may begin.
    value: RefMut<'a, T>,
    _permit: Permit<'a>,
}

impl<'a, T> LockGuard<'a, T> {
    pub(super) const fn lock(&self) -> &'a Lock<T> {
        self.lock
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&*self.value).finish()
    }
}
