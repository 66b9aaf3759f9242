//! Several futures awaited at once, in one task: `gather!`, `race!`, and waiting for tasks.
//!
//! Each future is a branch with a scope of its own, so that a request to stop reaches every one of
//! them, and so that one can be asked to stop because of what became of another. A branch is not
//! dropped while anything of coring's is below it: it is asked, and drained (C5).

#[expect(non_snake_case, reason = "a field is called as its type")]
mod branches;
mod gather;
mod race;
mod wait;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use pin_project_lite::pin_project;

use branches::{Branches, Futures};
pub use gather::{Gather, GatherAll, SettleAll, Settled, gather, gather_all};
pub use race::{Race, RaceAll, Raced, RacedAll, race, race_all, winner};
pub use wait::{AsCompleted, ReturnWhen, as_completed, wait};

use crate::cancel_scope::{CancelScope, Polled, Since};

pin_project! {
    /// One of the futures that are awaited at once.
    pub struct Branch<F: Future> {
        #[pin]
        future: Option<F>,
        scope: CancelScope,
        output: Option<F::Output>,
    }
}

impl<F: Future> Branch<F> {
    pub(crate) const fn new(future: F) -> Self {
        Self {
            future: Some(future),
            scope: CancelScope::branch(),
            output: None,
        }
    }

    pub(crate) fn cancel(self: Pin<&mut Self>) {
        self.project().scope.cancel();
    }

    /// What it came to. `None`: it knew nothing of coring, and was dropped when it was asked to
    /// stop.
    pub(crate) fn take(self: Pin<&mut Self>) -> Option<F::Output> {
        self.project().output.take()
    }

    /// One poll of a branch that is not over, of several that were begun at `since`.
    ///
    /// `true`: it is over now, and what it came to stops the others.
    pub(crate) fn poll_once<R: Rule<F::Output>>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        since: Since,
    ) -> bool {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return false;
        };
        let output = match this.scope.poll_since(future, cx, Some(since)) {
            // What is foreign has no word for a request from further out: that stays pending.
            Polled::Pending | Polled::Deaf => return false,
            Polled::Ready(output) => Some(output),
            Polled::Abandoned => None,
        };
        this.future.set(None);
        if this.scope.is_cancelled() {
            // What it has heard of from further out it says to nobody: its output is not what counts.
            this.scope.discard();
        } else {
            this.scope.close();
        }
        *this.output = output;
        this.output.as_ref().is_some_and(R::stops)
    }

    /// By a pin: a shared reference to a future that has begun would claim what it borrows of itself.
    pub(crate) fn is_over(self: Pin<&mut Self>) -> bool {
        self.project().future.as_pin_mut().is_none()
    }
}

impl<F: Future> fmt::Debug for Branch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

/// Which output has the other branches stop.
#[diagnostic::on_unimplemented(
    message = "`gather!` takes futures that end in a `Result`, not in `{O}`",
    note = "for any others there is `gather!(..).return_exceptions()`"
)]
pub trait Rule<O> {
    #[doc(hidden)]
    fn stops(output: &O) -> bool;
}

/// The first error: [`gather`].
#[derive(Debug)]
pub struct OnError;
/// The first output of all: [`race`].
#[derive(Debug)]
pub struct OnFirst;
/// None.
#[derive(Debug)]
pub struct Never;

impl<T, E> Rule<Result<T, E>> for OnError {
    fn stops(output: &Result<T, E>) -> bool {
        output.is_err()
    }
}

impl<O> Rule<O> for OnFirst {
    fn stops(_: &O) -> bool {
        true
    }
}

impl<O> Rule<O> for Never {
    fn stops(_: &O) -> bool {
        false
    }
}

pin_project! {
    /// A branch among many: it says which one it is when it is over.
    struct Numbered<F: Future> {
        place: usize,
        begun: Rc<Cell<Option<Since>>>,
        #[pin]
        branch: Branch<F>,
    }
}

impl<F: Future> Future for Numbered<F> {
    type Output = (usize, Option<F::Output>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let since = this.begun.get().unwrap_or_else(Since::now);
        this.branch.as_mut().poll_once::<Never>(cx, since);
        if this.branch.as_mut().is_over() {
            Poll::Ready((*this.place, this.branch.take()))
        } else {
            Poll::Pending
        }
    }
}

/// Any number of branches of one type. Only those are polled that were woken.
struct Many<F: Future> {
    branches: FuturesUnordered<Numbered<F>>,
    outputs: Vec<Option<F::Output>>,
    /// When they were begun.
    begun: Rc<Cell<Option<Since>>>,
    /// The first whose output has stopped the others.
    first: Option<usize>,
}

impl<F: Future> Many<F> {
    fn new(futures: impl IntoIterator<Item = F>) -> Self {
        let begun = Rc::default();
        let numbered = futures.into_iter().enumerate();
        let branches: FuturesUnordered<_> = numbered
            .map(|(place, future)| Numbered {
                place,
                begun: Rc::clone(&begun),
                branch: Branch::new(future),
            })
            .collect();
        let outputs = std::iter::repeat_with(|| None)
            .take(branches.len())
            .collect();
        Self {
            branches,
            outputs,
            begun,
            first: None,
        }
    }

    /// Ready when all are over.
    fn poll_all<R: Rule<F::Output>>(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.begun.get().is_none() {
            self.begun.set(Some(Since::now()));
        }
        while let Some((place, output)) = std::task::ready!(self.branches.poll_next_unpin(cx)) {
            let stops = output.as_ref().is_some_and(R::stops);
            self.outputs[place] = output;
            if stops && self.first.is_none() {
                self.first = Some(place);
                // Each is woken by that, and polled again.
                for branch in Pin::new(&mut self.branches).iter_pin_mut() {
                    branch.project().branch.cancel();
                }
            }
        }
        Poll::Ready(())
    }
}

impl<F: Future> fmt::Debug for Many<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Many")
            .field("left", &self.branches.len())
            .finish_non_exhaustive()
    }
}
