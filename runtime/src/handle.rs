//! A runtime, as other threads see it.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_channel::oneshot;

use crate::inbox::{Inbox, RuntimeId};
use crate::task::{PanicPayload, Place, Task, cancel_by_place, catch, outside};

/// Gives work to a runtime from any thread.
///
/// It may outlive the runtime: then it says so.
///
/// A wake-up that a task sends to another runtime of coring's goes out when its own loop turns. So
/// do not block the thread in a task until the other one has answered: await that.
///
/// # Examples
///
/// ```
/// use coring::{Handle, run};
///
/// run(async {
///     let handle = Handle::current();
///     let (sender, receiver) = futures_channel::oneshot::channel();
///     std::thread::spawn(move || {
///         // Made here, run there: the future itself need not be `Send`.
///         let remote = handle.spawn(|| async { 6 * 7 });
///         sender.send(run(remote)).unwrap();
///     });
///     // Awaited: a blocking wait here would stop the loop that the thread waits for.
///     assert_eq!(receiver.await.unwrap().unwrap(), 42);
/// });
/// ```
#[derive(Clone)]
pub struct Handle {
    inbox: &'static Inbox,
    runtime: RuntimeId,
}

impl Handle {
    pub(crate) const fn new(inbox: &'static Inbox, runtime: RuntimeId) -> Self {
        Self { inbox, runtime }
    }

    /// The handle of the runtime that is turning on this thread.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn current() -> Self {
        let here = crate::current::with(|current| {
            let (runtime, _) = current?;
            Some(Self::new(runtime.inbox(), runtime.id()))
        });
        let Some(here) = here else {
            outside("Handle::current")
        };
        here
    }

    /// Has the runtime call `f` and run the future that it gives as a task. What that comes to
    /// can be awaited here, on any runtime.
    #[track_caller]
    pub fn spawn<F, Fut>(&self, f: F) -> RemoteTask<Fut::Output>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let spawned_at = Location::caller();
        let (sender, receiver) = oneshot::channel();
        let place = Arc::new(OnceLock::new());
        let made = place.clone();
        self.inbox.call(
            self.runtime,
            Box::new(move || {
                let task = Task::builder().spawn_from(spawned_at, async move {
                    // Called in there, so that a panic of `f` is the task's as well, and given to
                    // whoever awaits there (C10).
                    let output = catch(async move { f().await }).await;
                    // Nobody waits there any more: the output goes.
                    let _ = sender.send(output);
                });
                let _ = made.set(task.place());
            }),
        );
        RemoteTask {
            receiver,
            handle: self.clone(),
            place,
        }
    }

    /// Has the runtime's loop call `f` soon. What that gives can be awaited here, on any runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::Handle;
    /// coring::run(async {
    ///     let handle = Handle::current();
    ///     assert_eq!(handle.call_soon(|| 6 * 7).await?, 42);
    ///     coring::ok(())
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn call_soon<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> RemoteTask<T> {
        self.spawn(|| std::future::ready(f()))
    }

    /// Makes the runtime's loop turn, if it sleeps.
    pub fn wake(&self) {
        if self.is_alive() {
            self.inbox.notify();
        }
    }

    /// Whether the runtime has not ended.
    pub fn is_alive(&self) -> bool {
        self.inbox.is_open(self.runtime)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

/// What a task of another runtime comes to: see [`Handle::spawn`]. Dropping it detaches the task.
///
/// # Errors
/// If that runtime ended before the task did.
///
/// # Panics
/// If the task panicked: with its payload.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect on the task.
///
/// It may be awaited anywhere, so it knows nothing of scopes: on a runtime of coring's,
/// [`cancellable`](crate::cancellable) makes it hear of requests to stop.
pub struct RemoteTask<T> {
    receiver: oneshot::Receiver<Result<T, PanicPayload>>,
    handle: Handle,
    /// The task's, once that is made.
    place: Arc<OnceLock<Place>>,
}

impl<T> RemoteTask<T> {
    /// Asks the task to stop, as [`TaskRef::cancel`](crate::TaskRef::cancel) does there. Nothing
    /// happens if it has ended.
    pub fn cancel(&self) {
        let place = self.place.clone();
        // After the call that makes the task.
        let cancels = move || {
            if let Some(place) = place.get() {
                cancel_by_place(*place);
            }
        };
        self.handle
            .inbox
            .call(self.handle.runtime, Box::new(cancels));
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        Poll::Ready(match ready!(Pin::new(&mut self.receiver).poll(cx)) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(oneshot::Canceled) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the runtime ended before the task that was given to it did",
            )),
        })
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask").finish_non_exhaustive()
    }
}
