use std::cell::Cell;
use std::fmt;
use std::io;

use super::waiters::Waiters;
use crate::current::BelongsToItsThread;

/// A flag that tasks wait for (asyncio's `Event`).
///
/// # Examples
///
/// ```
/// use coring::{create_task, sync::Event};
/// use std::rc::Rc;
///
/// coring::run(async {
///     let opened = Rc::new(Event::new());
///     let waits = opened.clone();
///     let task = create_task(async move { waits.wait().await });
///     opened.set();
///     task.await?;
///     assert!(opened.is_set());
///     coring::ok(())
/// }).unwrap();
/// ```
pub struct Event {
    set: Cell<bool>,
    waiters: Waiters,
    _thread: BelongsToItsThread,
}

impl Event {
    /// One that is not set.
    pub fn new() -> Self {
        Self {
            set: Cell::new(false),
            waiters: Waiters::default(),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Sets it, and wakes all who wait.
    pub fn set(&self) {
        self.set.set(true);
        self.waiters.grant_all();
    }

    /// Takes it back: who waits from here on waits for the next [`set`](Self::set).
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Whether it is set.
    pub const fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it is set: at once if it is. Who is woken has seen it set, though it may have
    /// been cleared since.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn wait(&self) -> io::Result<()> {
        self.waiters.wait(|| self.is_set(), || ()).await
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("waiters", &self.waiters.len())
            .finish()
    }
}
