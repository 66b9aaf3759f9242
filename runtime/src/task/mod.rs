//! Tasks: units of concurrency, owned by the runtime (C6).

mod cell;
mod join;
mod list;
mod waker;

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use cell::{PanicPayload, TaskCell};
pub(crate) use list::Tasks;
pub(crate) use waker::TaskNumber;

use crate::current::{self, BelongsToItsThread};
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;

/// Starts `future` as a task of its own, which runs concurrently with the caller (asyncio's
/// `create_task`; others say *spawn*).
///
/// It runs from the loop's next turn on, whether the handle is awaited or not. Dropping the handle
/// detaches the task: the runtime owns it.
///
/// # Panics
/// Outside of a runtime: from code that no `run` or `turn` has called. (When the runtime is ending
/// the future is dropped at once.)
///
/// # Examples
///
/// ```
/// coring::run(async {
///     let task = coring::create_task(async { 6 * 7 });
///     assert_eq!(task.await, 42);
/// });
/// ```
#[track_caller]
pub fn create_task<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Task::builder().spawn(future)
}

/// What a task is made with; see [`Task::builder`].
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a builder makes a task when `spawn` is called"]
pub struct TaskBuilder<'a> {
    name: Option<&'a str>,
}

impl<'a> TaskBuilder<'a> {
    /// The task's name, for people.
    pub const fn name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    /// Starts the task: see [`create_task`].
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawn_from(Location::caller(), future)
    }

    /// [`spawn`](Self::spawn), for somebody further out.
    #[track_caller]
    pub(crate) fn spawn_from<F>(
        self,
        spawned_at: &'static Location<'static>,
        future: F,
    ) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        // SAFETY: `F` is 'static: there is nothing that the cell could outlive.
        let cell = unsafe { TaskCell::new(future, spawned_at) };
        if let Some(name) = self.name {
            cell.set_name(name);
        }
        let runtime = current::with(|current| {
            let (runtime, _) = current?;
            runtime.spawn(cell.clone());
            Some(runtime.id())
        });
        let Some(runtime) = runtime else {
            outside("create_task")
        };
        Task {
            cell,
            runtime,
            _output: PhantomData,
        }
    }
}

#[cold]
#[track_caller]
pub(crate) fn outside(what: &str) -> ! {
    panic!("`{what}` was called outside of a runtime: call it from within `coring::run`")
}

/// A handle on a task, which awaits to the task's output.
///
/// Dropping it detaches the task. If the task panicked, awaiting it panics with the same payload.
/// A task stays on the thread that it was made on, and so does this; other threads make tasks
/// here by [`Handle::spawn`](crate::Handle::spawn).
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect on the task. A request to cancel
/// that reaches an await of it is forwarded to the task, and the await goes on until that ends.
///
/// # Panics
/// Awaiting it panics if the task panicked, and if its runtime ended before the task did.
pub struct Task<T> {
    cell: TaskCell,
    runtime: RuntimeId,
    // Owns an output of type T, and stays on its thread (R12).
    _output: PhantomData<(T, BelongsToItsThread)>,
}

impl Task<()> {
    /// A task with a name.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::Task;
    ///
    /// coring::run(async {
    ///     let task = Task::builder().name("answer").spawn(async { 42 });
    ///     assert_eq!(task.as_ref().name(), "answer");
    ///     assert_eq!(task.await, 42);
    /// });
    /// ```
    pub const fn builder<'a>() -> TaskBuilder<'a> {
        TaskBuilder { name: None }
    }
}

impl<T> Task<T> {
    /// Whether the task has ended.
    pub fn done(&self) -> bool {
        self.cell.is_done()
    }

    /// A reference to the task, without its output.
    pub fn as_ref(&self) -> TaskRef {
        TaskRef {
            cell: self.cell.clone(),
            runtime: self.runtime,
            _thread: BelongsToItsThread::new(),
        }
    }

    fn unjoin(&self) {
        current::with_id(self.runtime, |runtime: Option<&Runtime>| {
            if let Some(runtime) = runtime {
                runtime.unjoin(&self.cell);
            }
        });
    }

    fn output(&self) -> T {
        // SAFETY: made by `spawn` of a future with output `T`, and done.
        match unsafe { self.cell.take::<T>() } {
            Some(Ok(output)) => output,
            Some(Err(panic)) => resume_unwind(panic),
            None => panic!(
                "a task was awaited that has no output: it was awaited before, or its runtime \
                 ended before it did"
            ),
        }
    }
}

impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.cell.is_done() {
            return Poll::Ready(self.output());
        }
        let old = self.cell.set_joiner(cx.waker());
        drop(old);
        // The waker's clone and drop are user code, in which the task may have ended.
        if self.cell.is_done() {
            return Poll::Ready(self.output());
        }
        let here = current::with(|current| {
            let (runtime, current) = current.filter(|(runtime, _)| runtime.id() == self.runtime)?;
            let scope = runtime.scope_here(current);
            runtime.join(&self.cell, scope);
            Some(())
        });
        if here.is_none() {
            self.unjoin(); // Awaited elsewhere, where no scope of its runtime is polled.
        }
        Poll::Pending
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.cell.is_done() {
            self.unjoin();
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let this = self.as_ref();
        f.debug_struct("Task")
            .field("name", &this.name())
            .field("done", &self.done())
            .finish()
    }
}

/// A reference to a task of any output: who it is, not what it comes to.
pub struct TaskRef {
    cell: TaskCell,
    runtime: RuntimeId,
    _thread: BelongsToItsThread,
}

impl TaskRef {
    /// The task's name: what it was given, else `Task-N`.
    pub fn name(&self) -> String {
        self.cell.with_name(|name| match name {
            Some(name) => name.to_owned(),
            None => format!("Task-{}", self.id()),
        })
    }

    /// Counts the tasks of a runtime from 1; starts again after 2^32.
    pub fn id(&self) -> u64 {
        u64::from(self.cell.header().generation.get())
    }

    /// Whether the task has ended.
    pub fn done(&self) -> bool {
        self.cell.is_done()
    }

    /// Where in the program it was made.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.cell.header().spawned_at
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            runtime: self.runtime,
            _thread: BelongsToItsThread::new(),
        }
    }
}

impl PartialEq for TaskRef {
    /// Whether both are the same task.
    fn eq(&self, other: &Self) -> bool {
        self.cell.is_same(&other.cell)
    }
}

impl Eq for TaskRef {}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRef")
            .field("name", &self.name())
            .field("done", &self.done())
            .finish()
    }
}

/// The task that is running.
///
/// # Panics
/// Outside of a task.
#[track_caller]
pub fn current_task() -> TaskRef {
    let task = current::with(|current| {
        let (runtime, current) = current?;
        let cell = runtime.tasks().get(current.task.get())?.clone();
        Some(TaskRef {
            cell,
            runtime: runtime.id(),
            _thread: BelongsToItsThread::new(),
        })
    });
    let Some(task) = task else {
        outside("current_task")
    };
    task
}

/// The tasks of this runtime that have not ended, in no particular order.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn all_tasks() -> Vec<TaskRef> {
    let all = current::with(|current| {
        let (runtime, _) = current?;
        let tasks = runtime.tasks();
        let all = tasks.iter().map(|cell| TaskRef {
            cell: cell.clone(),
            runtime: runtime.id(),
            _thread: BelongsToItsThread::new(),
        });
        Some(all.collect())
    });
    let Some(all) = all else { outside("all_tasks") };
    all
}

/// Lets the other tasks that are ready run first.
///
/// # Errors
/// [`Cancelled`](crate::Cancelled) if a request to stop is pending, as at every await.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
///
/// # Examples
///
/// ```
/// coring::run(async {
///     coring::yield_now().await?;
///     coring::ok(())
/// }).unwrap();
/// ```
pub fn yield_now() -> impl Future<Output = io::Result<()>> {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(Ok(()));
        }
        let refused = current::with(|current| {
            let (runtime, current) = current?;
            let refused = runtime.checkpoint(current);
            if refused.is_none() {
                current.count_yield();
            }
            refused
        });
        if let Some(cause) = refused {
            return Poll::Ready(Err(cause.error()));
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Looks whether the running code has been asked to stop, or its time is up: for computations that
/// are long, and have nothing to await. It looks at the clock, and lets nobody else run: that is
/// [`yield_now`].
///
/// # Errors
/// [`Cancelled`](crate::Cancelled), as from an await.
///
/// # Examples
///
/// ```
/// use coring::{checkpoint, wait_for};
/// use std::time::Duration;
///
/// coring::run(async {
///     let endless = async {
///         loop {
///             checkpoint()?; // And some work.
///         }
///     };
///     let stopped: std::io::Result<()> = wait_for(endless, Duration::from_millis(1)).await;
///     assert!(coring::is_timed_out(&stopped.unwrap_err()));
/// });
/// ```
pub fn checkpoint() -> io::Result<()> {
    let refused = current::with(|current| {
        let (runtime, current) = current?;
        let scope = runtime.scope_here(current); // Of a limit that counts from here.
        runtime.with_core(|core| {
            core.forget_clock(); // A turn's time is too old for who stays in one poll.
            core.checkpoint(scope)
        })
    });
    refused.map_or(Ok(()), |cause| Err(cause.error()))
}

/// Runs a future that may borrow until it is done, as a task of its own.
pub(crate) struct MainTask<'a, T> {
    runtime: &'a Runtime,
    task: ManuallyDrop<TaskCell>,
    _output: PhantomData<T>,
}

impl<'a, T> MainTask<'a, T> {
    #[track_caller]
    pub(crate) fn spawn<F: Future<Output = T>>(runtime: &'a Runtime, future: F) -> Self {
        // SAFETY: `drop` sees to it that the future and its output are gone before the borrows
        // that they hold end; this type is private, and its one user does not leak it. `spawn`
        // does not panic once the task is in the table.
        let cell = unsafe { TaskCell::new(future, Location::caller()) };
        runtime.spawn(cell.clone());
        Self {
            runtime,
            task: ManuallyDrop::new(cell),
            _output: PhantomData,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.task.is_done()
    }

    pub(crate) fn cell(&self) -> &TaskCell {
        &self.task
    }

    /// What it came to.
    pub(crate) fn output(&self) -> Option<Result<T, PanicPayload>> {
        // SAFETY: `T` is the output of the future that `spawn` was given, and it is done.
        self.is_done()
            .then(|| unsafe { self.task.take::<T>() })
            .flatten()
    }
}

impl<T> Drop for MainTask<'_, T> {
    fn drop(&mut self) {
        if !self.is_done() {
            self.runtime.discard(&self.task);
        }
        self.task.discard(); // An output that nobody took.
        // SAFETY: not used after this.
        unsafe { ManuallyDrop::drop(&mut self.task) };
    }
}
