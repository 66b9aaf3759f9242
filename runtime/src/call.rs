//! Callbacks: functions that the loop calls (asyncio's `call_soon`, `call_later`, `call_at`).

use std::fmt;
use std::time::Duration;

use crate::task::{Task, create_task};
use crate::{Instant, Timer, now};

/// Has the loop call `f` soon, after what is ready already.
///
/// # Panics
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// # use std::{cell::Cell, rc::Rc};
/// use coring::{call_soon, yield_now};
///
/// # coring::run(async {
/// let called = Rc::new(Cell::new(0));
/// let (one, other) = (called.clone(), called.clone());
/// call_soon(move || one.set(1));
/// call_soon(move || other.set(2)).cancel();
/// yield_now().await?;
/// assert_eq!(called.get(), 1);
/// # coring::ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn call_soon(f: impl FnOnce() + 'static) -> Call {
    Call {
        when: None,
        task: create_task(async move { f() }),
    }
}

/// Has the loop call `f` a span from now.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn call_later(span: Duration, f: impl FnOnce() + 'static) -> Call {
    call_at(now() + span, f)
}

/// Has the loop call `f` at a moment; soon, if that has passed.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn call_at(when: Instant, f: impl FnOnce() + 'static) -> Call {
    Call {
        when: Some(when),
        task: create_task(async move {
            // Whoever cancels the tasks of a loop that ends takes the call back.
            if Timer::at(when).await.is_ok() {
                f();
            }
        }),
    }
}

/// A call that was asked for. Dropping this takes nothing back.
pub struct Call {
    when: Option<Instant>,
    task: Task<()>,
}

impl Call {
    /// Takes it back: if it was not made, it is not, and the function is dropped.
    pub fn cancel(self) {
        self.task.abort();
    }

    /// When it is to be made, if it was not to be soon.
    pub const fn when(&self) -> Option<Instant> {
        self.when
    }

    /// Whether it was made, also if the function panicked.
    pub fn done(&self) -> bool {
        self.task.done()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("when", &self.when)
            .field("done", &self.done())
            .finish()
    }
}
