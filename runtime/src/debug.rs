//! Debug mode: says what a program would rather not do. Off it costs a look at a flag.
//!
//! On by `CORING_DEBUG=1` or [`Builder::debug`](crate::Builder::debug). What it has to say goes to
//! the `tracing` crate where that feature is on, as warnings of the target `coring`; else to
//! stderr, a line each.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::Instant;
use crate::current::{self, NO_TASK};
use crate::debris::quietly;
use crate::error::is_cancelled;
use crate::group::NoValue;
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;
use crate::task::TaskCell;

/// A poll that is longer is reported, as in asyncio.
const SLOW_POLL: Duration = Duration::from_millis(100);

/// How long a task may go on after it has heard of a request to stop.
const CLEAN_UP_MAX: Duration = Duration::from_secs(1);

/// What a runtime in debug mode remembers.
#[derive(Default)]
pub(crate) struct Debug {
    /// Tasks that have heard of a request to stop, and since when; `None`: that was reported.
    stopping: RefCell<HashMap<u32, Option<Instant>>>,
}

/// Some runtime in the process has been in debug mode: whoever has no runtime at hand looks at this
/// first.
static EVER: AtomicBool = AtomicBool::new(false);

/// Whether the environment asks for it.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("CORING_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

fn report(text: fmt::Arguments<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "coring", "{text}");
    #[cfg(not(feature = "tracing"))]
    {
        use io::Write as _;
        // It goes on where nobody reads it.
        let _ = writeln!(io::stderr(), "coring: {text}");
    }
}

/// Who a task is, for people.
struct Who<'a>(&'a TaskCell);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.0.header();
        self.0.with_name(|name| match name {
            Some(name) => f.write_str(name),
            None => write!(f, "Task-{}", header.generation.get()),
        })?;
        write!(f, " ({})", header.spawned_at)
    }
}

impl Debug {
    /// `None`: it is off.
    pub(crate) fn new(on: bool) -> Option<Self> {
        if on {
            EVER.store(true, Relaxed);
        }
        on.then(Self::default)
    }

    /// Polls a task, and looks at what that did.
    pub(crate) fn watch(
        &self,
        runtime: &Runtime,
        cell: &TaskCell,
        poll: impl FnOnce() -> bool,
    ) -> bool {
        let begin = wall_clock();
        let done = poll();
        let took = wall_clock().saturating_sub(begin);
        if took >= SLOW_POLL {
            report(format_args!(
                "task {} ran for {took:.0?} without a break, and held up all others: give what \
                 blocks to `to_thread`, or `yield_now().await` in between",
                Who(cell)
            ));
        }
        if !done {
            self.look_for_swallowed(runtime, cell);
        }
        done
    }

    /// A task ends.
    pub(crate) fn ended(&self, cell: &TaskCell) {
        let id = cell.header().generation.get();
        self.stopping.borrow_mut().remove(&id);
    }

    fn look_for_swallowed(&self, runtime: &Runtime, cell: &TaskCell) {
        let id = cell.header().generation.get();
        let root = cell.header().scope.get();
        let mut stopping = self.stopping.borrow_mut();
        if !root.is_made() || !runtime.core().scopes.has_heard_last(root) {
            stopping.remove(&id);
            return;
        }
        let now = runtime.now();
        let since = stopping.entry(id).or_insert(Some(now));
        if since.is_some_and(|since| now - since > CLEAN_UP_MAX) {
            *since = None;
            report(format_args!(
                "task {} was asked to stop, has heard of it, and goes on: pass the error on by `?`, \
                 or call `uncancel` if it is to go on",
                Who(cell)
            ));
        }
    }

    /// Nobody has a handle to the task any more.
    pub(crate) fn look_at_output(cell: &TaskCell) {
        // What an error says is user code.
        quietly(|| {
            if let Some(error) = cell.error() {
                report(format_args!(
                    "task {} failed, and nobody looked: {error}",
                    Who(cell)
                ));
            }
        });
    }
}

/// The handle of a task that has ended is dropped.
#[inline]
pub(crate) fn dropped_handle(runtime: RuntimeId, cell: &TaskCell) {
    if EVER.load(Relaxed) {
        current::with_id(runtime, |runtime: Option<&Runtime>| {
            if runtime.is_some_and(|runtime| runtime.debug().is_some()) {
                Debug::look_at_output(cell);
            }
        });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a thread is held up is no driver's time"
)]
fn wall_clock() -> Duration {
    let begin = std::time::UNIX_EPOCH;
    std::time::SystemTime::now()
        .duration_since(begin)
        .unwrap_or_default()
}

/// The error in a task's output, if it is of a type that is known, and no cancellation.
pub(crate) fn error_in(output: &dyn Any) -> Option<String> {
    fn text(error: &(dyn Error + 'static)) -> Option<String> {
        (!is_cancelled(error)).then(|| error.to_string())
    }
    if let Some(Err(error)) = output.downcast_ref::<io::Result<()>>() {
        // What a task of a group failed with is in the group's error.
        let elsewhere = error.get_ref().is_some_and(|inner| inner.is::<NoValue>());
        return text(error).filter(|_| !elsewhere);
    }
    if let Some(Err(error)) = output.downcast_ref::<Result<(), Box<dyn Error>>>() {
        return text(&**error);
    }
    if let Some(Err(error)) = output.downcast_ref::<Result<(), Box<dyn Error + Send + Sync>>>() {
        return text(&**error);
    }
    None
}

/// The future of an operation was dropped that the kernel has.
pub(crate) fn dropped_in_flight() {
    with_task(|who| {
        report(format_args!(
            "an operation in flight was dropped{who}: it is cancelled in the background, and \
             what it comes to is lost"
        ));
    });
}

/// A task group was dropped whose tasks had not ended.
pub(crate) fn undrained_group(tasks: usize) {
    with_task(|who| {
        report(format_args!(
            "a task group was dropped{who} while {tasks} of its tasks had not ended: they were asked \
             to stop, and nobody waits for them"
        ));
    });
}

/// In debug mode, calls `f` with ` by task NAME`, or nothing.
fn with_task(f: impl FnOnce(&str)) {
    let who = current::with(|current| {
        let (runtime, current) = current?;
        runtime.debug()?;
        let index = current.task.get();
        if index == NO_TASK {
            return Some(String::new());
        }
        let tasks = runtime.tasks();
        tasks
            .get(index)
            .map(|cell| format!(" by task {}", Who(cell)))
    });
    if let Some(who) = who {
        f(&who);
    }
}
