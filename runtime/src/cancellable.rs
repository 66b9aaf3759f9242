//! Futures that requests to stop reach, or do not: [`cancellable`], [`shielded`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::cancel_scope::{CancelScope, Polled};
use crate::{Instant, Timer};

/// Makes a cancellation point of a future that knows nothing of coring: a request to stop drops it.
///
/// For other crates' channels and the like, whose own way of being cancelled is being dropped.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
///
/// # Errors
/// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too, if it was asked to stop
/// before
/// `future` was ready.
///
/// # Examples
///
/// ```
/// use coring::{cancellable, create_task, is_cancelled};
///
/// coring::run(async {
///     let (_sender, receiver) = futures_channel::oneshot::channel::<()>();
///     let task = create_task(cancellable(receiver));
///     task.cancel();
///     assert!(is_cancelled(&task.await.unwrap_err()));
/// });
/// ```
pub const fn cancellable<F: Future>(future: F) -> Cancellable<F> {
    Cancellable {
        future: Some(future),
        leaf: Timer::at(Instant::FAR_FUTURE),
        begun: false,
    }
}

pin_project! {
    /// A future that is dropped when it is asked to stop: see [`cancellable`].
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Cancellable<F> {
        #[pin]
        future: Option<F>,
        // Never due: a leaf that requests reach.
        leaf: Timer,
        begun: bool,
    }
}

impl<F: Future> Future for Cancellable<F> {
    type Output = io::Result<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<F::Output>> {
        let mut this = self.project();
        let Some(mut future) = this.future.as_mut().as_pin_mut() else {
            panic!("a `cancellable` future was polled after it gave its output");
        };
        let mut leaf = Pin::new(&mut *this.leaf);
        // Before an effect a request is looked at (C7); after that, what is ready wins (C1).
        let polled = if std::mem::replace(this.begun, true) {
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => leaf.as_mut().poll(cx).map(stopped),
            }
        } else {
            match leaf.as_mut().poll(cx) {
                Poll::Ready(over) => Poll::Ready(stopped(over)),
                Poll::Pending => future.as_mut().poll(cx).map(Ok),
            }
        };
        if polled.is_ready() {
            this.future.set(None);
        }
        polled
    }
}

/// What ends a wait for a moment that never comes.
fn stopped<T>(over: io::Result<()>) -> io::Result<T> {
    over.map(|()| unreachable!("FAR_FUTURE never comes"))
}

/// Keeps requests to stop, and limits from further out, away from `future`: they reach the first
/// await behind it.
///
/// For what must not be left half done. To give it a limit of its own, see `shielded_for`.
///
/// # Cancel safety
///
/// Not cancellable: waits for the kernel even when the scope is cancelled. Dropping it drops
/// `future`.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{create_task, is_cancelled, shielded, sleep};
///
/// # coring::run(async {
/// let task = create_task(async {
///     let whole = shielded(sleep(Duration::from_millis(1))).await.is_ok();
///     (whole, sleep(Duration::from_secs(60)).await)
/// });
/// coring::yield_now().await?;
/// task.cancel();
/// let (whole, behind) = task.await;
/// assert!(whole && is_cancelled(&behind.unwrap_err()));
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn shielded<F: Future>(future: F) -> Shielded<F> {
    Shielded {
        future: Some(future),
        scope: CancelScope::shield(),
    }
}

pin_project! {
    /// A future behind a shield: see [`shielded`].
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Shielded<F> {
        #[pin]
        future: Option<F>,
        scope: CancelScope,
    }
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("a `shielded` future was polled after it gave its output");
        };
        match this.scope.poll(future, cx) {
            Polled::Ready(output) => {
                this.future.set(None);
                this.scope.close();
                Poll::Ready(output)
            }
            // It has no deadline that could make it so.
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        }
    }
}
