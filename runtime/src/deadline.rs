//! The scope of a deadline, as a future that has one uses it: `wait_for` and `timeout` are made of
//! this.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Instant;
use crate::current;
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;
use crate::scope::{Deadline, LazyScope, ScopeIndex, ScopeKey};
use crate::task::TaskNumber;

/// A scope with a deadline: what is polled in it is asked to stop when that passes.
///
/// Each one-shot operation that starts in it carries the deadline into the kernel, as the timeout
/// linked behind it; for anything else a timer is armed, once, and not before the loop is
/// about to sleep. So a scope around something that is ready costs next to nothing.
pub struct DeadlineScope {
    state: State,
    _not_send: PhantomData<*const ()>,
}

#[derive(Clone, Copy)]
enum State {
    New(Deadline),
    Open(RuntimeId, ScopeKey),
    Closed,
}

/// What a poll in a [`DeadlineScope`] gave.
#[derive(Debug)]
pub enum Polled<T> {
    /// The body's output.
    Ready(T),
    /// The body waits.
    Pending,
    /// The deadline has passed, and the body waits for nothing of coring's: it does not know that
    /// it is asked to stop. Dropping it is its way of being cancelled (C5).
    Abandoned,
}

/// How a [`DeadlineScope`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expiry {
    /// The deadline passed, and nobody further out had asked the body to stop: what comes out of
    /// it as cancelled is this scope's time-out (C8).
    pub timed_out: bool,
    /// The body was told. If it was not, what it came to won the race (C1).
    pub heard: bool,
}

impl DeadlineScope {
    /// A scope whose time is up a span after its body first has to wait.
    pub const fn after(span: Duration) -> Self {
        Self::new(Deadline::After(span))
    }

    /// A scope whose time is up at `deadline`.
    pub const fn at(deadline: Instant) -> Self {
        Self::new(Deadline::At(deadline))
    }

    const fn new(deadline: Deadline) -> Self {
        Self {
            state: State::New(deadline),
            _not_send: PhantomData,
        }
    }

    /// Polls `body` in the scope.
    pub fn poll<F: Future>(
        &mut self,
        body: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Polled<F::Output> {
        let Some(inside) = self.enter() else {
            // Outside of a runtime: the body's own leaves will say so.
            return match body.poll(cx) {
                Poll::Ready(output) => Polled::Ready(output),
                Poll::Pending => Polled::Pending,
            };
        };
        let polled = body.poll(cx);
        let yielded = inside.leave();
        match polled {
            Poll::Ready(output) => Polled::Ready(output),
            Poll::Pending => self.pending(cx.waker(), yielded),
        }
    }

    /// Makes this the scope that is polled, until the guard is dropped.
    fn enter(&mut self) -> Option<Inside<'_>> {
        current::with(|current| {
            let (runtime, current) = current?;
            let (outer, inner) = match self.state {
                // A span that is not over before it begins: nothing is made for a body that does
                // not wait.
                State::New(deadline @ Deadline::After(span)) if !span.is_zero() => {
                    if current.scope.get() == ScopeIndex::LAZY {
                        runtime.scope_here(current); // There is one at a time.
                    }
                    let outer = current.scope.get();
                    current.lazy.set(LazyScope { outer, deadline });
                    (outer, ScopeIndex::LAZY)
                }
                State::New(deadline) => {
                    let outer = runtime.scope_here(current);
                    let key = runtime.with_core(|core| core.open_scope(outer, deadline));
                    self.state = State::Open(runtime.id(), key);
                    (outer, key.index)
                }
                State::Open(id, key) if id == runtime.id() => {
                    let outer = runtime.scope_here(current);
                    runtime.core().scopes.reattach(key.index, outer);
                    (outer, key.index)
                }
                // Of another runtime, where its timer is; or over.
                State::Open(..) | State::Closed => return None,
            };
            current.scope.set(inner);
            Some(Inside {
                state: &mut self.state,
                outer,
                yielded: current.yielded.replace(false),
            })
        })
    }

    fn pending<T>(&mut self, waker: &Waker, yielded: bool) -> Polled<T> {
        let waker = TaskNumber::clone_of(waker); // User code, so not while something is borrowed.
        let abandoned = current::with(|current| {
            let (runtime, current) = current?;
            let key = match self.state {
                // The body waits: now there must be a scope.
                State::New(deadline) => {
                    let outer = runtime.scope_here(current);
                    let key = runtime.core().open_scope(outer, deadline);
                    self.state = State::Open(runtime.id(), key);
                    key
                }
                State::Open(id, key) if id == runtime.id() => key,
                State::Open(..) | State::Closed => return None,
            };
            Some(runtime.with_core(|core| core.scope_pending(key, waker) && !yielded))
        });
        match abandoned {
            Some(true) => Polled::Abandoned,
            _ => Polled::Pending,
        }
    }

    /// Whether the deadline has passed, and nobody further out asked the body to stop since.
    pub fn is_timed_out(&self) -> bool {
        let State::Open(id, key) = self.state else {
            return false;
        };
        current::with_id(id, |runtime: Option<&Runtime>| {
            runtime.is_some_and(|runtime| runtime.core().is_timed_out(key))
        })
    }

    /// Ends the scope. What still waits in it (an operation that was polled by reference) belongs
    /// to the scope around it from here on.
    pub fn close(&mut self) -> Expiry {
        let mut expiry = Expiry {
            timed_out: false,
            heard: false,
        };
        if let State::Open(id, key) = self.state {
            current::with_id(id, |runtime: Option<&Runtime>| {
                let Some(runtime) = runtime else { return };
                let closed = runtime.close_scope(key);
                expiry.timed_out = closed.timed_out;
                expiry.heard = !closed.unheard;
            });
        }
        self.state = State::Closed;
        expiry
    }
}

impl Drop for DeadlineScope {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for DeadlineScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(_) => "new",
            State::Open(..) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("DeadlineScope")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// The scope is polled; dropping this restores the one around it, also when the body panics.
struct Inside<'a> {
    state: &'a mut State,
    outer: ScopeIndex,
    /// What was yielded in the scope around it before.
    yielded: bool,
}

impl Inside<'_> {
    /// Gives whether the body has yielded.
    fn leave(self) -> bool {
        current::with(|current| current.is_some_and(|(_, current)| current.yielded.get()))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        current::with(|current| {
            let Some((runtime, current)) = current else {
                return;
            };
            let scope = current.scope.replace(self.outer);
            if let State::New(_) = self.state
                && scope.is_made()
            {
                let key = runtime.core().scopes.key_of(scope);
                *self.state = State::Open(runtime.id(), key);
            }
            current.yielded.set(self.yielded || current.yielded.get());
        });
    }
}
