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
        let yielded = inside.leave(&mut self.state);
        match polled {
            Poll::Ready(output) => Polled::Ready(output),
            Poll::Pending => self.pending(cx.waker(), yielded),
        }
    }

    /// Makes this the scope that is polled, until the guard is dropped.
    fn enter(&self) -> Option<Inside> {
        current::with(|current| {
            let (runtime, current) = current?;
            let yielded = current.yielded.replace(false);
            let key = match self.state {
                // A span that is not over before it begins: nothing is made for a body that does
                // not wait.
                State::New(deadline @ Deadline::After(span)) if !span.is_zero() => {
                    let mut lazies = runtime.lazies.borrow_mut();
                    let lazy = ScopeIndex::lazy(lazies.len());
                    let outer = current.scope.replace(lazy);
                    lazies.push(LazyScope {
                        outer,
                        deadline,
                        made: None,
                    });
                    return Some(Inside::Lazy { yielded });
                }
                State::New(deadline) => {
                    let parent = runtime.scope_here(current);
                    (parent, runtime.core().open_scope(parent, deadline))
                }
                State::Open(id, key) if id == runtime.id() => {
                    let parent = runtime.scope_here(current);
                    runtime.core().scopes.reattach(key.index, parent);
                    (parent, key)
                }
                // Of another runtime, where its timer is; or over.
                State::Open(..) | State::Closed => {
                    current.yielded.set(yielded);
                    return None;
                }
            };
            let (outer, key) = key;
            current.scope.set(key.index);
            Some(Inside::Made {
                outer,
                key,
                yielded,
            })
        })
    }

    /// The body waits: now there must be a scope.
    fn make(&mut self) {
        let State::New(deadline) = self.state else {
            return;
        };
        current::with(|current| {
            if let Some((runtime, current)) = current {
                let parent = runtime.scope_here(current);
                let key = runtime.core().open_scope(parent, deadline);
                self.state = State::Open(runtime.id(), key);
            }
        });
    }

    fn pending<T>(&mut self, waker: &Waker, yielded: bool) -> Polled<T> {
        self.make();
        let State::Open(id, key) = self.state else {
            return Polled::Pending;
        };
        let waker = waker.clone(); // User code, so not while something is borrowed (R10).
        current::with(|current| {
            let Some((runtime, _)) = current.filter(|(runtime, _)| runtime.id() == id) else {
                return Polled::Pending;
            };
            let abandoned = {
                let mut core = runtime.core();
                let needs_waker = core.scope_pending(key);
                let scope = core.scopes.at(key.index);
                let fired = scope.fired;
                let unused = match &scope.waker {
                    Some(same) if same.will_wake(&waker) => Some(waker),
                    _ if needs_waker => scope.waker.replace(waker),
                    _ => Some(waker),
                };
                core.debris.drops.extend(unused);
                fired && !yielded && !core.scopes.has_leaves(key.index)
            };
            runtime.settle();
            if abandoned {
                Polled::Abandoned
            } else {
                Polled::Pending
            }
        })
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
        let State::Open(id, key) = std::mem::replace(&mut self.state, State::Closed) else {
            return Expiry {
                timed_out: false,
                heard: false,
            };
        };
        current::with_id(id, |runtime: Option<&Runtime>| match runtime {
            Some(runtime) => {
                let closed = runtime.core().close_scope(key);
                runtime.settle();
                Expiry {
                    timed_out: closed.timed_out,
                    heard: !closed.unheard,
                }
            }
            None => Expiry {
                timed_out: false,
                heard: false,
            },
        })
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
/// `yielded` is what was yielded in that one before.
enum Inside {
    Made {
        outer: ScopeIndex,
        key: ScopeKey,
        yielded: bool,
    },
    Lazy {
        yielded: bool,
    },
}

impl Inside {
    /// Says which scope has been made, if one has. Gives whether the body has yielded.
    #[expect(
        clippy::mem_forget,
        reason = "its drop is for panics, and owns nothing"
    )]
    fn leave(self, state: &mut State) -> bool {
        let (yielded, made) = self.restore();
        std::mem::forget(self);
        if let Some((id, key)) = made {
            *state = State::Open(id, key);
        }
        yielded
    }

    fn restore(&self) -> (bool, Option<(RuntimeId, ScopeKey)>) {
        current::with(|current| {
            let Some((runtime, current)) = current else {
                return (false, None);
            };
            let (Self::Made { yielded: outer, .. } | Self::Lazy { yielded: outer }) = *self;
            let yielded = current.yielded.get();
            current.yielded.set(outer || yielded);
            let made = match *self {
                Self::Made { outer, key, .. } => {
                    current.scope.set(outer);
                    Some(key)
                }
                Self::Lazy { .. } => {
                    let lazy = runtime.lazies.borrow_mut().pop();
                    let lazy = lazy.expect("scopes are left in the order they were entered in");
                    current.scope.set(lazy.outer);
                    lazy.made
                }
            };
            (yielded, made.map(|key| (runtime.id(), key)))
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The body panicked: its scope goes with it.
        if let (_, Some((id, key))) = self.restore() {
            current::with_id(id, |runtime: Option<&Runtime>| {
                if let (Some(runtime), Self::Lazy { .. }) = (runtime, &*self) {
                    runtime.core().close_scope(key);
                    runtime.settle();
                }
            });
        }
    }
}
