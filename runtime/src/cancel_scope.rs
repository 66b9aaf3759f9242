//! The scope of a deadline, as a future that has one uses it: `wait_for` and `timeout` are made of
//! this.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Instant;
use crate::core::Waits;
use crate::current::{self, BelongsToItsThread};
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;
use crate::scope::{Border, Deadline, ScopeIndex, ScopeKey};
use crate::task::TaskNumber;

/// A scope with a deadline: what is polled in it is asked to stop when that passes.
///
/// Each one-shot operation that starts in it carries the deadline into the kernel, as the timeout
/// linked behind it; for anything else a timer is armed, once, and not before the loop is
/// about to sleep. So a scope around something that is ready costs next to nothing.
///
/// It belongs to the runtime in which its body has first waited. Where it is polled in another one, what
/// begins in it there is under no deadline and no request of it.
pub struct CancelScope {
    deadline: Deadline,
    border: Border,
    stage: Stage,
    /// When it is open: where, and which scope.
    runtime: RuntimeId,
    key: ScopeKey,
    _thread: BelongsToItsThread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Open,
    Closed,
}

/// What a poll in a [`CancelScope`] gave.
#[derive(Debug)]
pub enum Polled<T> {
    /// The body's output.
    Ready(T),
    /// The body waits.
    Pending,
    /// The deadline has passed, or the scope was [cancelled](CancelScope::cancel), and the body
    /// waits for nothing of coring's: it does not know that it is asked to stop. Dropping it is its
    /// way of being cancelled.
    Abandoned,
    /// The same, but somebody further out asks: whoever can say so by an error drops the body and
    /// [closes the scope as cancelled](CancelScope::close_cancelled). Else it is as if it waited:
    /// the request stays pending.
    Deaf,
}

/// When and where several branches began: each is to hear of what came since, though another may
/// have heard of it before this one has a scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    runtime: RuntimeId,
    scope: ScopeKey,
    /// The last request that is nothing to them there.
    requests: u64,
}

impl Since {
    /// Now and here.
    pub(crate) fn now() -> Self {
        let now = current::with(|current| {
            let (runtime, current) = current?;
            let scope = runtime.scope_here(current);
            let scopes = &runtime.core().scopes;
            scope.is_made().then(|| Self {
                runtime: runtime.id(),
                scope: scopes.key_of(scope),
                requests: scopes.began(scope),
            })
        });
        now.unwrap_or(Self {
            runtime: RuntimeId::NONE,
            scope: ScopeKey::NONE,
            requests: 0,
        })
    }

    /// A branch has been opened below `outer`: as of then, if that is where they began.
    fn look_back(self, runtime: &Runtime, branch: ScopeIndex, outer: ScopeIndex) {
        let scopes = &mut runtime.core().scopes;
        let is_there = outer.is_made() && scopes.key_of(outer) == self.scope;
        if runtime.id() == self.runtime && is_there {
            scopes.begin_since(branch, self.requests);
        }
    }
}

/// How a [`CancelScope`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expiry {
    /// The deadline passed, and nobody further out had asked the body to stop: what comes out of
    /// it as cancelled is this scope's time-out.
    pub timed_out: bool,
    /// The body was told. If it was not, what it came to won the race.
    pub heard: bool,
}

impl CancelScope {
    /// A scope whose time is up a span after its body first has to wait.
    pub const fn after(span: Duration) -> Self {
        Self::new(Deadline::after(span))
    }

    /// A scope whose time is up at `deadline`.
    pub const fn at(deadline: Instant) -> Self {
        Self::new(Deadline::at(deadline))
    }

    /// A scope without a deadline, at whose border requests from further out stop.
    pub const fn shield() -> Self {
        Self::new(Deadline::NEVER).shielded()
    }

    /// Has requests and deadlines from further out stop at its border: they reach the first await
    /// behind it.
    #[must_use]
    pub const fn shielded(mut self) -> Self {
        self.border = Border::Shield;
        self
    }

    /// A scope without a deadline for one of several futures that are awaited at once. A request
    /// from further out is each one's own to hear; one that [`cancel`](Self::cancel) makes here
    /// leaves tasks running that are awaited in there, as asyncio's `gather` does.
    pub const fn branch() -> Self {
        let mut scope = Self::new(Deadline::NEVER);
        scope.border = Border::Branch;
        scope
    }

    /// A scope without a deadline, through which requests pass.
    pub(crate) const fn plain() -> Self {
        Self::new(Deadline::NEVER)
    }

    /// The same. That one was heard of in there is to show outside when this is
    /// [closed](Self::close), and not if it is dropped.
    pub(crate) const fn account() -> Self {
        let mut scope = Self::new(Deadline::NEVER);
        scope.border = Border::Account;
        scope
    }

    /// Opens it here, if it is not open yet.
    pub(crate) fn begin(&mut self) {
        if self.stage == Stage::New {
            current::with(|current| {
                if let Some((runtime, current)) = current {
                    let outer = runtime.scope_here(current);
                    self.open_below(runtime, outer);
                }
            });
        }
    }

    /// Opens it here, and names it for who is in it, or elsewhere on this thread: to ask it to
    /// stop, and to move its deadline, which counts from now on. It does not travel into the kernel
    /// with operations then, so that is slower than a deadline that stays.
    pub fn handle(&mut self) -> ScopeHandle {
        self.begin();
        let handle = self.name();
        handle.deadline();
        handle
    }

    pub(crate) const fn name(&self) -> ScopeHandle {
        ScopeHandle {
            runtime: self.runtime,
            key: self.key,
            _thread: BelongsToItsThread::new(),
        }
    }

    const fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            border: Border::Open,
            stage: Stage::New,
            runtime: RuntimeId::NONE,
            key: ScopeKey::NONE,
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Polls `body` in the scope.
    pub fn poll<F: Future>(
        &mut self,
        body: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Polled<F::Output> {
        self.poll_since(body, cx, None)
    }

    /// The same, for one of several branches that began at `since`.
    pub(crate) fn poll_since<F: Future>(
        &mut self,
        body: Pin<&mut F>,
        cx: &mut Context<'_>,
        since: Option<Since>,
    ) -> Polled<F::Output> {
        let Some(outer) = self.enter(since) else {
            // Outside of a runtime: the body's own leaves will say so.
            return match body.poll(cx) {
                Poll::Ready(output) => Polled::Ready(output),
                Poll::Pending => Polled::Pending,
            };
        };
        let inside = Inside { scope: self, outer };
        let yields = current::yields();
        let polled = body.poll(cx);
        drop(inside);
        match polled {
            Poll::Ready(output) => Polled::Ready(output),
            // One that yields has nothing registered, and goes on; who asks meanwhile is not missed, and
            // no span begins to count.
            Poll::Pending
                if since.is_some()
                    && self.stage == Stage::New
                    && current::has_yielded_by(yields, cx.waker()) =>
            {
                Polled::Pending
            }
            Poll::Pending => match self.pending(cx.waker()) {
                Waits::Heard | Waits::Nudged => Polled::Pending,
                Waits::Deaf if current::has_yielded(yields) => {
                    // Whatever that one has woken: this is asked again.
                    cx.waker().wake_by_ref();
                    Polled::Pending
                }
                Waits::Deaf if self.is_cancelled() => Polled::Abandoned,
                Waits::Deaf => Polled::Deaf,
            },
        }
    }

    /// Makes this the scope that is polled. Gives the one around it.
    fn enter(&mut self, since: Option<Since>) -> Option<ScopeIndex> {
        current::with(|current| {
            let (runtime, current) = current?;
            let lazy = self.stage == Stage::New
                && matches!(self.border, Border::Open | Border::Branch)
                && self.deadline.can_wait();
            // Where somebody is asked, it must be known when the scope began.
            if lazy && runtime.core().scopes.is_nobody_asked() {
                // Nothing is made for a body that does not wait.
                if current.scope.get() == ScopeIndex::LAZY {
                    runtime.scope_here(current); // There is one at a time.
                }
                let outer = current.scope.replace(ScopeIndex::LAZY);
                current.lazy_outer.set(outer);
                current.lazy_deadline.set(self.deadline);
                current.lazy_border.set(self.border);
                return Some(outer);
            }
            let outer = runtime.scope_here(current);
            match self.stage {
                Stage::New => {
                    self.open_below(runtime, outer);
                    if let Some(since) = since {
                        since.look_back(runtime, self.key.index, outer);
                    }
                }
                Stage::Open if self.runtime == runtime.id() => {
                    runtime.with_core(|core| core.reattach_scope(self.key.index, outer));
                }
                // Of another runtime, where its timer is; or over.
                Stage::Open | Stage::Closed => return None,
            }
            current.scope.set(self.key.index);
            Some(outer)
        })
    }

    fn open_below(&mut self, runtime: &Runtime, outer: ScopeIndex) {
        let (deadline, border) = (self.deadline, self.border);
        self.key = runtime.with_core(|core| core.open_scope(outer, deadline, border));
        self.runtime = runtime.id();
        self.stage = Stage::Open;
    }

    /// Whether it was asked to stop, by its deadline or by [`cancel`](Self::cancel).
    pub(crate) fn is_cancelled(&self) -> bool {
        self.name().is_cancelled()
    }

    /// The body waits: now there must be a scope.
    fn pending(&mut self, waker: &Waker) -> Waits {
        let waker = TaskNumber::clone_of(waker); // User code, so not while something is borrowed.
        current::with(|current| {
            let Some((runtime, current)) = current else {
                return Waits::Heard;
            };
            if self.stage == Stage::New {
                let outer = runtime.scope_here(current);
                self.open_below(runtime, outer);
            }
            if self.stage == Stage::Open && self.runtime == runtime.id() {
                runtime.with_core(|core| core.scope_pending(self.key, waker))
            } else {
                Waits::Heard
            }
        })
    }

    /// Asks the body to stop now, as if the deadline had passed. A body that has not begun is
    /// polled with the request pending: it runs to its first await (contract C3).
    pub fn cancel(&mut self) {
        match self.stage {
            Stage::New => self.deadline = Deadline::after(Duration::ZERO),
            Stage::Open => self.name().cancel(),
            Stage::Closed => {}
        }
    }

    /// Whether the deadline has passed, and nobody further out asked the body to stop since.
    pub fn is_timed_out(&self) -> bool {
        self.stage == Stage::Open
            && current::with_id(self.runtime, |runtime: Option<&Runtime>| {
                runtime.is_some_and(|runtime| runtime.core().is_timed_out(self.key))
            })
    }

    /// [`close`](Self::close), where a cancellation stands for what a dropped body would have
    /// returned: that uses up the request from further out.
    pub fn close_cancelled(&mut self) -> Expiry {
        self.use_up();
        self.close()
    }

    /// A cancellation stands for what a dropped body would have returned.
    pub(crate) fn use_up(&self) {
        if self.stage == Stage::Open {
            current::with_id(self.runtime, |runtime: Option<&Runtime>| {
                if let Some(runtime) = runtime {
                    runtime.core().scopes.take_pending(self.key.index);
                }
            });
        }
    }

    /// Ends the scope. What still waits in it (an operation that was polled by reference) belongs
    /// to the scope around it from here on.
    pub fn close(&mut self) -> Expiry {
        self.end(true)
    }

    /// As dropping it: what comes out of it does not say what was heard in there.
    pub(crate) fn discard(&mut self) {
        self.end(false);
    }

    /// `settle`: what comes out of it says what was heard in there.
    fn end(&mut self, settle: bool) -> Expiry {
        let mut expiry = Expiry {
            timed_out: false,
            heard: false,
        };
        if std::mem::replace(&mut self.stage, Stage::Closed) == Stage::Open {
            current::with_id(self.runtime, |runtime: Option<&Runtime>| {
                let Some(runtime) = runtime else { return };
                let closed = runtime.close_scope(self.key, settle);
                expiry.timed_out = closed.timed_out;
                expiry.heard = !closed.unheard;
            });
        }
        expiry
    }
}

impl Drop for CancelScope {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New => "new",
            Stage::Open => "open",
            Stage::Closed => "closed",
        };
        f.debug_struct("CancelScope")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

/// A scope, for who is in it, or elsewhere on its thread: see [`CancelScope::handle`].
pub struct ScopeHandle {
    runtime: RuntimeId,
    key: ScopeKey,
    _thread: BelongsToItsThread,
}

impl ScopeHandle {
    /// As [`CancelScope::cancel`]. Nothing happens when the scope has ended.
    pub fn cancel(&self) {
        self.with_runtime(|runtime| runtime.cancel_scope(self.key));
    }

    /// When its time is up. `None`: never, or it has ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.with_runtime(|runtime| runtime.core().movable_deadline(self.key))
            .flatten()
    }

    /// Moves the deadline; `None` is never. `false`: the time was up, or the scope has ended.
    pub fn reschedule(&self, deadline: Option<Instant>) -> bool {
        self.with_runtime(|runtime| {
            let moved = runtime.with_core(|core| core.reschedule(self.key, deadline));
            runtime.tell_host();
            moved
        })
        .unwrap_or(false)
    }

    /// Whether it was asked to stop, by its deadline or by [`cancel`](Self::cancel), and has not
    /// ended.
    pub fn is_cancelled(&self) -> bool {
        self.with_runtime(|runtime| runtime.core().scopes.has_fired(self.key))
            .unwrap_or(false)
    }

    fn with_runtime<R>(&self, f: impl FnOnce(&Runtime) -> R) -> Option<R> {
        current::with_id(self.runtime, |runtime: Option<&Runtime>| runtime.map(f))
    }
}

impl Clone for ScopeHandle {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime,
            key: self.key,
            _thread: BelongsToItsThread::new(),
        }
    }
}

impl fmt::Debug for ScopeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeHandle")
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

/// When the running code is asked to stop: the earliest deadline of the limits around it, as far as
/// the next shield. `None`: by no limit. A moment that has passed: it has been.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{deadline, now, ok, wait_for};
///
/// # coring::run(async {
/// assert!(deadline().is_none());
/// let inside = wait_for(async { ok(deadline()) }, Duration::from_secs(3)).await?;
/// assert!(inside.unwrap() > now() + Duration::from_secs(2));
/// # ok(()) }).unwrap();
/// ```
pub fn deadline() -> Option<Instant> {
    current::with(|current| {
        let (runtime, current) = current?;
        let scope = runtime.scope_here(current);
        if scope == ScopeIndex::NONE {
            return None;
        }
        let now = runtime.now();
        runtime.core().scopes.effective_deadline(scope, now)
    })
}

/// The scope is polled; dropping this restores the one around it, also when the body panics.
struct Inside<'a> {
    scope: &'a mut CancelScope,
    outer: ScopeIndex,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        current::with(|current| {
            let Some((runtime, current)) = current else {
                return;
            };
            let inner = current.scope.replace(self.outer);
            if self.scope.stage == Stage::New && inner.is_made() {
                // Something registered under it.
                self.scope.key = runtime.core().scopes.key_of(inner);
                self.scope.runtime = runtime.id();
                self.scope.stage = Stage::Open;
            }
        });
    }
}
