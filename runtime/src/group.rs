//! Task groups: tasks that end before the block does that made them.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use slab::Slab;

use crate::cancel_scope::{CancelScope, Polled, ScopeHandle};
use crate::current;
use crate::debris::discard_panic;
use crate::debug;
use crate::error::{Cancelled, Failure, cancellation_in, caused_by, is_cancelled};
use crate::sync::waiters::Waiters;
use crate::task::{PanicPayload, Task, TaskBuilder, TaskRef, catch};

/// Runs `body`, then waits for all the tasks that were made in the group (asyncio's `TaskGroup`).
///
/// If the body or a task fails, the others are asked to stop and waited for until they have; all
/// errors are in the [`GroupError`]. A task that was cancelled by hand disturbs nobody. If the body
/// or a task panics, the others are stopped likewise, and then the panic goes on from here.
///
/// A request to stop that comes from further out reaches the body, and, when that ends with it or
/// has ended, all tasks. If errors came out of that as well, they are the group's, and the request
/// is heard of by the next await.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping the body; the
/// tasks are asked to stop, and clean up on their own.
///
/// # Errors
/// [`GroupError`]: what the body and the tasks failed with. A lone [`Cancelled`] in it is found by
/// [`is_cancelled`].
///
/// # Panics
/// If the body or a task did.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{sleep, task_group};
///
/// # coring::run(async {
/// let sum = task_group(async |g| {
///     let one = g.create_task(async {
///         sleep(Duration::from_millis(1)).await?;
///         coring::ok(1)
///     });
///     let two = g.create_task(async { coring::ok(2) });
///     Ok(one.await? + two.await?)
/// })
/// .await?;
/// assert_eq!(sum, 3);
///
/// let failed = task_group(async |g| {
///     g.create_task(async { Err::<(), _>(std::io::Error::other("no luck")) });
///     sleep(Duration::from_secs(60)).await // Stopped.
/// })
/// .await
/// .unwrap_err();
/// assert_eq!(failed.errors[0].to_string(), "no luck");
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn task_group<T, E, F>(body: F) -> Result<T, GroupError<E>>
where
    E: Failure,
    F: AsyncFnOnce(TaskGroup<E>) -> Result<T, E>,
{
    let mut scope = CancelScope::account();
    scope.begin();
    let group = TaskGroup::new(scope.name());
    let members = &group.0;
    // If this is dropped the tasks are on their own.
    let _asks = AskOnDrop(members);

    let result = {
        let mut body = pin!(catch(body(group.clone())));
        std::future::poll_fn(|cx| match scope.poll(body.as_mut(), cx) {
            Polled::Pending => Poll::Pending,
            Polled::Ready(result) => Poll::Ready(result),
            // It waits for what knows nothing of coring.
            Polled::Abandoned | Polled::Deaf => {
                scope.use_up();
                Poll::Ready(Ok(Err(io::Error::from(Cancelled::default()).into())))
            }
        })
        .await
    };
    let result = match result {
        Ok(result) => result.map_err(|error| members.failed(error)),
        Err(panic) => Err(members.panicked(panic)),
    };

    // Each has been asked once, and this is what else can stop the wait: a request from further
    // out.
    let mut interrupted = None;
    while !members.tasks.borrow().is_empty() {
        let mut ended = pin!(
            members
                .ended
                .wait(|| members.tasks.borrow().is_empty(), || ())
        );
        let ended = std::future::poll_fn(|cx| match scope.poll(ended.as_mut(), cx) {
            Polled::Ready(ended) => Poll::Ready(ended),
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        });
        if let Err(error) = ended.await {
            if !current::is_turning() {
                std::future::pending::<()>().await; // Nothing can be waited for here.
            }
            if !scope.is_timed_out() {
                interrupted.get_or_insert(error);
            }
            members.cancel();
        }
    }
    members.close(result, interrupted, scope)
}

/// The tasks of a [`task_group`]: makes more of them. Clone it into a task that is to.
pub struct TaskGroup<E>(Rc<Members<E>>);

struct Members<E> {
    /// Those that have not ended; `None` while one is being made.
    tasks: RefCell<Slab<Option<TaskRef>>>,
    errors: RefCell<Vec<E>>,
    /// An error that says that an awaited task of some group gave no value.
    passed_on: RefCell<Option<E>>,
    panic: RefCell<Option<PanicPayload>>,
    /// The body's scope.
    scope: ScopeHandle,
    stage: Cell<Stage>,
    /// The group, when it waits for its tasks.
    ended: Waiters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// All have been asked to stop; who comes later is, at once.
    Stopping,
    Closed,
}

impl<E: Failure> TaskGroup<E> {
    fn new(scope: ScopeHandle) -> Self {
        Self(Rc::new(Members {
            tasks: RefCell::default(),
            errors: RefCell::default(),
            passed_on: RefCell::default(),
            panic: RefCell::default(),
            scope,
            stage: Cell::new(Stage::Open),
            ended: Waiters::default(),
        }))
    }

    /// Makes a task in the group. Its error is the group's: the handle gives the value, or an error
    /// that says that there is none, which is no further error of whoever passes it on; or
    /// [`Cancelled`] if the task was stopped with its group, or with who awaits it. Once the group is
    /// being stopped, so is the task: it runs to its first await.
    ///
    /// A task that never returns a value needs its type: `group.create_task::<(), _>(…)`.
    ///
    /// For one with a name, see [`TaskBuilder::spawn_in`].
    ///
    /// # Panics
    /// If the group has ended.
    #[track_caller]
    pub fn create_task<T, F>(&self, future: F) -> Task<io::Result<T>>
    where
        T: 'static,
        F: Future<Output = Result<T, E>> + 'static,
    {
        Task::builder().spawn_in(self, future)
    }

    /// Makes a task in the group, and waits until it says that it is ready, by
    /// [`Started::set`]. Gives what it says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect on the task. If it is asked to
    /// stop, so is the task, and it has ended when this does.
    ///
    /// # Errors
    /// If the task ends without having said that: then its own error is the group's.
    /// [`Cancelled`] if it is asked to stop, by a limit too.
    ///
    /// # Panics
    /// If the group has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::TcpListener;
    /// use coring::{TaskGroup, task_group};
    ///
    /// # coring::run(async {
    /// task_group(async |g: TaskGroup<std::io::Error>| {
    ///     let port = g
    ///         .start(async |ready| {
    ///             let mut listener = TcpListener::bind("127.0.0.1:0")?;
    ///             ready.set(listener.local_addr()?.port());
    ///             loop {
    ///                 let _client = listener.accept().await?;
    ///             }
    ///             #[expect(unreachable_code)]
    ///             Ok(())
    ///         })
    ///         .await?;
    ///     assert_ne!(port, 0);
    ///     g.cancel();
    ///     Ok(())
    /// })
    /// .await?;
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn start<R, T, F>(&self, f: F) -> io::Result<R>
    where
        R: 'static,
        T: 'static,
        F: AsyncFnOnce(Started<R>) -> Result<T, E> + 'static,
    {
        let said = Rc::new(Said {
            value: RefCell::new(None),
            over: Cell::new(false),
            told: Waiters::default(),
        });
        let started = Started(said.clone());
        let ends = Over(said.clone());
        let task = self.create_task(async move {
            let _ends = ends;
            f(started).await
        });
        let told = said.told.wait(|| said.over.get(), || ()).await;
        if let Err(stopped) = told {
            task.cancel();
            let _ = crate::shielded(task).await; // Its error is the group's.
            return Err(stopped);
        }
        if let Some(value) = said.value.take() {
            return Ok(value);
        }
        let failed = if task.done() {
            task.await.err() // At once.
        } else {
            None // It goes on, and never will say so.
        };
        Err(match failed {
            Some(error) if caused_by::<NoValue>(&error) => NoValue::NOT_READY.into(),
            Some(stopped) => stopped,
            None => io::Error::other(
                "the task that was started ended before it said that it is ready, or dropped what \
                 it would have said so with",
            ),
        })
    }

    /// Asks the body and all tasks to stop. What the body returns in spite of that is the group's
    /// value; if it returns the cancellation, the group's error has no errors in it.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl TaskBuilder<'_> {
    /// Makes a task in a group: see [`TaskGroup::create_task`].
    ///
    /// # Panics
    /// If the group has ended.
    #[track_caller]
    pub fn spawn_in<T, E, F>(self, group: &TaskGroup<E>, future: F) -> Task<io::Result<T>>
    where
        T: 'static,
        E: Failure,
        F: Future<Output = Result<T, E>> + 'static,
    {
        let members = &group.0;
        assert!(
            members.stage.get() != Stage::Closed,
            "a task was made in a task group that has ended: make it before the body and the last \
             task return"
        );
        let key = members.tasks.borrow_mut().insert(None);
        let mut member = Member {
            members: members.clone(),
            key: Some(key),
        };
        let task = self.spawn(async move {
            let result = catch(future).await;
            member.end(result)
        });
        // One that a runtime which ends has not taken has left already.
        if !task.done() {
            members.tasks.borrow_mut()[key] = Some(task.as_ref());
            if members.stage.get() == Stage::Stopping {
                task.cancel();
            }
        }
        task
    }
}

/// A task's place in its group, which it leaves when it ends, also by being dropped.
struct Member<E: Failure> {
    members: Rc<Members<E>>,
    key: Option<usize>,
}

impl<E: Failure> Member<E> {
    fn end<T>(&mut self, result: Result<Result<T, E>, PanicPayload>) -> io::Result<T> {
        self.leave();
        match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let Some(stopped) = cancellation_in(error.as_error()) else {
                    drop(self.members.failed(error));
                    return Err(NoValue::FAILED.into());
                };
                // One that was cancelled by hand does not make its awaiter look cancelled.
                let stops = self.members.stage.get() == Stage::Stopping;
                if stops || current::has_heard_awaiter() {
                    return Err(stopped.into());
                }
            }
            Err(panic) => drop(self.members.panicked(panic)),
        }
        Err(NoValue::FAILED.into())
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            drop(self.members.tasks.borrow_mut().remove(key));
        }
    }
}

impl<E: Failure> Drop for Member<E> {
    fn drop(&mut self) {
        self.leave();
        if self.members.tasks.borrow().is_empty() {
            self.members.ended.grant_all();
        }
    }
}

/// A task of a group failed: what its handle gives in the place of a value.
#[derive(Debug)]
pub(crate) struct NoValue(&'static str);

impl NoValue {
    const FAILED: Self = Self(
        "the task of a group gave no value: it was cancelled, or it failed, and with what is in the \
         group's error",
    );
    const NOT_READY: Self = Self(
        "the task that was started ended before it said that it is ready; what it failed with is in \
         the group's error",
    );
}

impl From<NoValue> for io::Error {
    fn from(no_value: NoValue) -> Self {
        Self::other(no_value)
    }
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for NoValue {}

/// Somebody failed with an error that has been noted, or was stopped with this one.
type Noted<E> = Option<E>;

impl<E: Failure> Members<E> {
    /// The body or a task failed. Gives a cancellation back: that is no error of its own.
    fn failed(&self, error: E) -> Noted<E> {
        if is_cancelled(error.as_error()) {
            self.cancel_tasks();
            return Some(error);
        }
        if caused_by::<NoValue>(error.as_error()) {
            // Of a task that was awaited: its own error is here, or in its group.
            self.passed_on.borrow_mut().get_or_insert(error);
        } else {
            self.errors.borrow_mut().push(error);
        }
        self.cancel();
        None
    }

    fn panicked(&self, panic: PanicPayload) -> Noted<E> {
        let mut kept = self.panic.borrow_mut();
        let other = if kept.is_none() {
            kept.replace(panic)
        } else {
            Some(panic)
        };
        drop(kept);
        self.cancel();
        if let Some(other) = other {
            discard_panic(other);
        }
        None
    }

    fn cancel(&self) {
        self.cancel_tasks();
        self.scope.cancel();
    }

    fn cancel_tasks(&self) {
        if self.stage.replace(Stage::Stopping) != Stage::Open {
            return;
        }
        // Wakers are user code, which may make tasks here.
        let all = self.tasks.borrow();
        let made: Vec<TaskRef> = all.iter().filter_map(|(_, task)| task.clone()).collect();
        drop(all);
        for task in made {
            task.cancel();
        }
    }

    /// All tasks have ended, and the body.
    fn close<T>(
        &self,
        result: Result<T, Noted<E>>,
        interrupted: Option<io::Error>,
        mut scope: CancelScope,
    ) -> Result<T, GroupError<E>> {
        self.stage.set(Stage::Closed);
        let own = scope.is_timed_out() && interrupted.is_none();
        let mut errors = self.errors.take();
        if errors.is_empty() {
            errors.extend(self.passed_on.take());
        }
        let panic = self.panic.take();
        if errors.is_empty() && panic.is_none() {
            scope.close();
        } else {
            // If somebody in there has heard of a request from further out, it does not show.
            scope.discard();
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        if errors.is_empty() {
            errors.extend(match result {
                Ok(value) => match interrupted {
                    None => return Ok(value),
                    Some(error) => Some(error.into()),
                },
                Err(stopped) => stopped.filter(|_| !own),
            });
        }
        Err(GroupError { errors })
    }
}

struct AskOnDrop<'a, E: Failure>(&'a Members<E>);

impl<E: Failure> Drop for AskOnDrop<'_, E> {
    fn drop(&mut self) {
        if self.0.stage.get() != Stage::Closed {
            let left = self.0.tasks.borrow().len();
            if left > 0 {
                debug::undrained_group(left);
            }
            self.0.cancel_tasks();
        }
    }
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("tasks", &self.0.tasks.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Says that a task is ready: see [`TaskGroup::start`].
#[must_use = "`start` waits until this is set"]
pub struct Started<R>(Rc<Said<R>>);

struct Said<R> {
    value: RefCell<Option<R>>,
    /// It was said, or never will be.
    over: Cell<bool>,
    told: Waiters,
}

impl<R> Started<R> {
    /// The task is ready: `start` gives `value`.
    pub fn set(self, value: R) {
        let old = self.0.value.replace(Some(value));
        drop(old);
    }
}

impl<R> Said<R> {
    fn end(&self) {
        self.over.set(true);
        self.told.grant_all();
    }
}

impl<R> Drop for Started<R> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The task has ended, whatever became of its `Started`.
struct Over<R>(Rc<Said<R>>);

impl<R> Drop for Over<R> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<R> fmt::Debug for Started<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

/// What the body and the tasks of a [`task_group`] failed with, in that order in which they did
/// (asyncio's `ExceptionGroup`).
///
/// It becomes an [`io::Error`] by `?` where the errors are that: a lone one becomes itself.
#[non_exhaustive]
pub struct GroupError<E> {
    /// One at least, but for a group that was [cancelled](TaskGroup::cancel) by itself and whose
    /// body gave no value.
    pub errors: Vec<E>,
}

impl<E: Failure> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.as_slice() {
            [] => f.write_str("the task group was cancelled"),
            [one] => fmt::Display::fmt(one.as_error(), f),
            many => {
                write!(f, "{} errors in a task group", many.len())?;
                for (at, error) in many.iter().enumerate() {
                    let between = if at == 0 { ": " } else { "; " };
                    write!(f, "{between}{}", error.as_error())?;
                }
                Ok(())
            }
        }
    }
}

impl<E: Failure> fmt::Debug for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.iter().map(Failure::as_error);
        f.write_str("GroupError")?;
        f.debug_list().entries(errors).finish()
    }
}

impl<E: Failure> Error for GroupError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(Failure::as_error)
    }
}

impl<E: Failure> Failure for GroupError<E> {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl<E: Failure> From<io::Error> for GroupError<E> {
    fn from(error: io::Error) -> Self {
        Self {
            errors: vec![error.into()],
        }
    }
}

// For this error alone: a generic one breaks the inference of `?`.
impl From<GroupError<Self>> for io::Error {
    fn from(mut group: GroupError<Self>) -> Self {
        match group.errors.len() {
            1 => group.errors.remove(0),
            0 => Self::other(group),
            _ => Self::new(group.errors[0].kind(), group),
        }
    }
}
