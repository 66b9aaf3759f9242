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
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

pub(crate) use cell::{PanicPayload, TaskCell};
pub(crate) use list::Tasks;
pub(crate) use waker::TaskNumber;

use crate::Outcome;
use crate::cancellable::cancellable;
use crate::current::{self, BelongsToItsThread};
use crate::debug;
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;
use crate::task::join::Asked;

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
        let cell = TaskCell::owned(future, spawned_at);
        if let Some(name) = self.name {
            cell.set_name(name);
        }
        let runtime = current::with(|current| {
            let (runtime, current) = current?;
            runtime.spawn(cell.clone());
            if !runtime.contexts().is_empty() && !cell.is_done() {
                let scope = runtime.scope_here(current);
                runtime.inherit_context(scope, || runtime.root_scope(&cell));
            }
            Some(runtime.id())
        });
        let Some(runtime) = runtime else {
            outside("create_task")
        };
        Task {
            task: TaskRef::new(cell, runtime),
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
/// Who the task is, and how it is cancelled, is said by [`TaskRef`], which this dereferences to.
/// A task stays on the thread that it was made on, and so does this; other threads make tasks
/// here by [`Handle::spawn`](crate::Handle::spawn). Awaited in another runtime of the thread, it is
/// waited for until its own has turned: see [`is_here`](TaskRef::is_here).
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect on the task. A request to cancel
/// that reaches an await of it is forwarded to the task, and the await goes on until that ends.
///
/// # Panics
/// Awaiting it panics if the task panicked, if its runtime ended before the task did, and in the
/// task itself.
pub struct Task<T> {
    task: TaskRef,
    // Owns an output of type T.
    _output: PhantomData<T>,
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
    ///     assert_eq!(task.name(), "answer");
    ///     assert_eq!(task.await, 42);
    /// });
    /// ```
    pub const fn builder<'a>() -> TaskBuilder<'a> {
        TaskBuilder { name: None }
    }
}

impl<T> Task<T> {
    pub(crate) fn place(&self) -> Place {
        let header = self.task.cell.header();
        Place {
            index: header.index.get(),
            generation: header.generation.get(),
        }
    }

    /// A reference to the task, without its output.
    pub fn as_ref(&self) -> TaskRef {
        self.task.clone()
    }

    /// Ends the task by dropping its future: a last resort, for one that does not hear of a request
    /// to [cancel](TaskRef::cancel). It cleans up by its drops only. A task that aborts itself is
    /// dropped when it waits the next time.
    ///
    /// Nobody awaits an aborted task: this takes the handle.
    pub fn abort(self) {
        self.task
            .with_runtime(|runtime| runtime.abort(&self.task.cell));
    }

    /// The request that was forwarded to the task has been used up by it.
    #[cold]
    fn deliver(&self) {
        let TaskRef { cell, runtime, .. } = &self.task;
        current::with(|current| {
            if let Some((owner, current)) = current.filter(|(owner, _)| owner.id() == *runtime) {
                let scope = owner.scope_here(current);
                owner.deliver_joined(cell, scope);
            }
        });
    }

    fn unjoin(&self) {
        self.task
            .with_runtime(|runtime| runtime.unjoin(&self.task.cell));
    }

    /// One poll. `joins`: a request that reaches the one who polls is forwarded.
    fn poll_output(&self, cx: &mut Context<'_>, joins: bool) -> Poll<T> {
        self.poll_end(cx, joins).map(|()| self.output())
    }

    /// The same, for who leaves the output where it is.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>, joins: bool) -> Poll<()> {
        let TaskRef { cell, runtime, .. } = &self.task;
        if cell.is_done() {
            if joins && cell.join().cause.get() != 0 {
                self.deliver();
            }
            return Poll::Ready(());
        }
        let old = cell.set_joiner(cx.waker());
        drop(old);
        // The waker's clone and drop are user code, in which the task may have ended.
        if cell.is_done() {
            return Poll::Ready(());
        }
        let joined = current::with(|current| {
            let (owner, current) = current.filter(|(owner, _)| joins && owner.id() == *runtime)?;
            assert!(
                current.task.get() != cell.header().index.get(),
                "a task awaits itself, and would do so for ever: give its handle to another one"
            );
            let scope = owner.scope_here(current);
            owner.join(cell, scope);
            Some(())
        });
        if joined.is_none() {
            self.unjoin(); // Awaited elsewhere, where no scope of its runtime is polled.
        }
        Poll::Pending
    }

    /// Calls `f` with the output. `None`: it has not ended, or panicked.
    pub(crate) fn with_output<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        // SAFETY: made by `spawn` of a future with output `T`.
        unsafe { self.task.cell.with_output(f) }
    }

    pub(crate) fn output(&self) -> T {
        // SAFETY: made by `spawn` of a future with output `T`, and done.
        match unsafe { self.task.cell.take::<T>() } {
            Some(Ok(output)) => output,
            Some(Err(panic)) => resume_unwind(panic),
            None => panic!(
                "task {} was awaited, which has no output: it was awaited before, or its runtime \
                 ended before it did",
                self.task.name()
            ),
        }
    }
}

impl<T: Outcome> Task<T> {
    /// Whether the task was asked to stop, has ended, and came to the error of a cancellation. (One
    /// that passes on the error of another task that it awaited was not cancelled itself.) Once the
    /// output was taken, by `(&mut task).await` say, nobody knows any more: then it is `false`.
    pub fn cancelled(&self) -> bool {
        let asked = self.task.cell.join().asked.get();
        asked != Asked::Nothing && self.with_output(Outcome::is_cancelled).unwrap_or(false)
    }
}

impl<T> Deref for Task<T> {
    type Target = TaskRef;

    fn deref(&self) -> &TaskRef {
        &self.task
    }
}

impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.poll_output(cx, true)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.done() {
            return self.unjoin();
        }
        debug::dropped_handle(self.task.runtime, &self.task.cell);
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name())
            .field("done", &self.done())
            .finish()
    }
}

/// Waits for a task without lending it the one who waits: a request to stop ends the wait, and the
/// task goes on (asyncio's `shield`).
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect on the task.
///
/// # Errors
/// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too: then the task can be
/// awaited again.
///
/// # Panics
/// As awaiting the task.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{create_task, shield, sleep, wait_for};
///
/// # coring::run(async {
/// let mut task = create_task(async {
///     sleep(Duration::from_millis(50)).await?;
///     coring::ok(7)
/// });
/// let waited = wait_for(shield(&mut task), Duration::from_millis(1)).await;
/// assert!(coring::is_timed_out(&waited.unwrap_err()));
/// assert_eq!(task.await?, 7); // It was not told.
/// # coring::ok(()) }).unwrap();
/// ```
pub fn shield<T>(task: &mut Task<T>) -> impl Future<Output = io::Result<T>> + use<'_, T> {
    cancellable(std::future::poll_fn(move |cx| task.poll_output(cx, false)))
}

/// A reference to a task of any output: who it is, not what it comes to.
pub struct TaskRef {
    cell: TaskCell,
    runtime: RuntimeId,
    _thread: BelongsToItsThread,
}

impl TaskRef {
    const fn new(cell: TaskCell, runtime: RuntimeId) -> Self {
        Self {
            cell,
            runtime,
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Asks the task to stop. `false`: it has ended already.
    ///
    /// Each await that is under way in it ends with [`Cancelled`](crate::Cancelled), once the
    /// kernel is done with what it had; if none is, or all have their results, the next await does.
    /// The task may clean up with awaits of its own, and passes the error on with `?`. A request is
    /// counted: see [`cancelling`](Self::cancelling).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// use coring::{create_task, is_cancelled, sleep};
    ///
    /// # coring::run(async {
    /// let task = create_task(sleep(Duration::from_secs(60)));
    /// assert!(task.cancel_with("nobody needs it"));
    /// let error = task.await.unwrap_err();
    /// assert!(is_cancelled(&error));
    /// assert_eq!(error.to_string(), "cancelled: nobody needs it");
    /// # });
    /// ```
    pub fn cancel(&self) -> bool {
        self.request(None)
    }

    /// [`cancel`](Self::cancel), with a reason that the [`Cancelled`](crate::Cancelled) carries.
    pub fn cancel_with(&self, reason: &str) -> bool {
        self.request(Some(reason.into()))
    }

    fn request(&self, reason: Option<Rc<str>>) -> bool {
        if self.done() {
            return false;
        }
        self.with_runtime(|runtime| runtime.cancel(&self.cell, reason));
        true
    }

    /// How many requests to stop it has been sent, less those taken back by
    /// [`uncancel`](Self::uncancel). 0 once it has ended.
    pub fn cancelling(&self) -> usize {
        self.with_runtime(|runtime| runtime.cancelling(&self.cell))
            .unwrap_or(0)
    }

    /// Takes a request back: for who has sent one, has heard of it, and goes on. Gives how many are
    /// left. With none left, one that no await has returned yet is dropped.
    pub fn uncancel(&self) -> usize {
        self.with_runtime(|runtime| runtime.uncancel(&self.cell))
            .unwrap_or(0)
    }

    /// Drops the task's future, if it was asked to stop and waits for nothing that could tell it
    /// so.
    pub(crate) fn abort_if_deaf(&self) {
        self.with_runtime(|runtime| {
            if runtime.is_deaf(&self.cell) {
                runtime.abort(&self.cell);
            }
        });
    }

    /// Calls `f` with the task's runtime, as long as the task has not ended.
    fn with_runtime<R>(&self, f: impl FnOnce(&Runtime) -> R) -> Option<R> {
        if self.done() {
            return None;
        }
        current::with_id(self.runtime, |runtime: Option<&Runtime>| runtime.map(f))
    }

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

    /// Whether it is a task of the runtime that is turning. One of another runtime goes on only when
    /// that turns, which it does not during a [`run`](crate::Runner::run) of this one.
    pub fn is_here(&self) -> bool {
        current::is_here(self.runtime)
    }

    /// Where in the program it was made.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.cell.header().spawned_at
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        Self::new(self.cell.clone(), self.runtime)
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
        Some(TaskRef::new(cell, runtime.id()))
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
        let all = tasks
            .iter()
            .map(|cell| TaskRef::new(cell.clone(), runtime.id()));
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
                current.count_yield(cx.waker());
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

/// Ends with the panic of `future` instead of panicking.
pub(crate) async fn catch<F: Future>(future: F) -> Result<F::Output, PanicPayload> {
    let mut future = pin!(future);
    // Nobody polls it after a panic.
    std::future::poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

/// Asks a task of the runtime that is turning to stop, if it is still there.
pub(crate) fn cancel_by_place(place: Place) {
    current::with(|current| {
        let Some((runtime, _)) = current else { return };
        let cell = runtime.tasks().get(place.index).cloned();
        if let Some(cell) = cell.filter(|cell| cell.header().generation.get() == place.generation) {
            runtime.cancel(&cell, None);
        }
    });
}

/// Which of a runtime's tasks.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    index: u32,
    generation: u32,
}

/// Runs a future that may borrow until it is done, as a task of its own.
pub(crate) struct MainTask<'a, T> {
    runtime: &'a Runtime,
    task: ManuallyDrop<TaskCell>,
    _output: PhantomData<T>,
}

impl<'a, T> MainTask<'a, T> {
    pub(crate) fn spawn<F: Future<Output = T>>(
        runtime: &'a Runtime,
        spawned_at: &'static Location<'static>,
        future: F,
    ) -> Self {
        // SAFETY: `drop` sees to it that the future and its output are gone before the borrows
        // that they hold end; this type is private, and its one user does not leak it. `spawn`
        // does not panic once the task is in the table.
        let cell = unsafe { TaskCell::new(future, spawned_at) };
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
