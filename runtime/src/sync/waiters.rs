//! A queue of those who wait for something, oldest first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::current;
use crate::error::Cause;
use crate::inbox::RuntimeId;
use crate::op::{Key, poll_slot};
use crate::runtime::Runtime;
use crate::task::TaskNumber;

/// So many who have left may be in a queue, whatever else is there.
const LEFT_MIN: usize = 32;

#[derive(Default)]
pub(crate) struct Waiters {
    inner: RefCell<Inner>,
    /// How many are in the queue: mostly none, and then nothing is borrowed.
    queued: Cell<usize>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<(RuntimeId, Key)>,
    /// Waiters that have left and are in there, at the most.
    left: usize,
}

impl Waiters {
    /// Whether somebody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.get() == 0 || self.have_all_left()
    }

    #[cold]
    fn have_all_left(&self) -> bool {
        self.change(|inner| {
            while let Some(&(runtime, key)) = inner.queue.front() {
                if still_waits(runtime, key) {
                    return false;
                }
                inner.pop();
            }
            true
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.borrow_mut();
        let result = change(&mut inner);
        self.queued.set(inner.queue.len());
        result
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        let inner = self.inner.borrow();
        let waiting = inner
            .queue
            .iter()
            .filter(|&&(runtime, key)| still_waits(runtime, key));
        waiting.count()
    }

    /// Ends the wait of the one who has waited for the longest. `false`: nobody waits.
    pub(crate) fn grant(&self) -> bool {
        while self.queued.get() > 0 {
            let Some((runtime, key)) = self.change(Inner::pop) else {
                break;
            };
            // Nothing is borrowed: a waker that is not ours is user code (R10).
            if with(runtime, |runtime| runtime.grant(key)) {
                return true;
            }
        }
        false
    }

    /// Ends the waits of all who wait now.
    pub(crate) fn grant_all(&self) {
        // Taken out first: who is woken may come back, and waits for the next time.
        let all = self.change(std::mem::take);
        for (runtime, key) in all.queue {
            with(runtime, |runtime| runtime.grant(key));
        }
    }

    /// Waits for a [`grant`](Self::grant), unless `ready`, which is asked once. Somebody who is
    /// dropped with one that came calls `pass_on`.
    pub(crate) const fn wait<R, P>(&self, ready: R, pass_on: P) -> Wait<'_, R, P>
    where
        R: FnMut() -> bool,
        P: FnMut(),
    {
        Wait {
            waiters: self,
            stage: Stage::New,
            ready,
            pass_on,
        }
    }

    /// A waiter has left, with its slot.
    fn leave(&self) {
        self.change(|inner| {
            inner.left += 1;
            if inner.left > inner.queue.len() / 2 + LEFT_MIN {
                inner
                    .queue
                    .retain(|&(runtime, key)| still_waits(runtime, key));
                inner.left = 0;
            }
        });
    }
}

impl Inner {
    fn pop(&mut self) -> Option<(RuntimeId, Key)> {
        let first = self.queue.pop_front()?;
        self.left = self.left.min(self.queue.len());
        Some(first)
    }
}

fn with(runtime: RuntimeId, f: impl FnOnce(&Runtime) -> bool) -> bool {
    current::with_id(runtime, |runtime: Option<&Runtime>| runtime.is_some_and(f))
}

fn still_waits(runtime: RuntimeId, key: Key) -> bool {
    with(runtime, |runtime| runtime.core().still_waits(key))
}

/// A wait in a queue.
pub(crate) struct Wait<'a, R, P: FnMut()> {
    waiters: &'a Waiters,
    stage: Stage,
    ready: R,
    pass_on: P,
}

#[derive(Clone, Copy)]
enum Stage {
    New,
    Waiting(RuntimeId, Key),
    Over,
}

impl<R, P: FnMut()> Unpin for Wait<'_, R, P> {}

impl<R: FnMut() -> bool, P: FnMut()> Wait<'_, R, P> {
    /// Begins to wait. `true`: there was nothing to wait for.
    fn start(&mut self, waker: &Waker) -> Result<bool, Cause> {
        // User code, which may change what `ready` looks at. From there on there is none until this
        // is in the queue.
        let waker = TaskNumber::clone_of(waker);
        let waiting = current::with(|current| {
            let refused = current.and_then(|(runtime, current)| runtime.checkpoint(current));
            if let Some(cause) = refused {
                return Err(cause);
            }
            if (self.ready)() {
                return Ok(None);
            }
            let (runtime, current) = current.ok_or(Cause::NO_RUNTIME)?;
            Ok(Some((runtime.id(), runtime.start_wait(current, waker)?)))
        })?;
        let Some((runtime, key)) = waiting else {
            return Ok(true);
        };
        self.waiters
            .change(|inner| inner.queue.push_back((runtime, key)));
        self.stage = Stage::Waiting(runtime, key);
        Ok(false)
    }
}

impl<R: FnMut() -> bool, P: FnMut()> Future for Wait<'_, R, P> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = match self.stage {
            Stage::New => match self.start(cx.waker()) {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(cause) => Some(Err(cause.error())),
            },
            Stage::Waiting(runtime, key) => poll_slot(runtime, key, cx.waker()).map(|cqe| {
                let over = cqe.result().map(drop);
                if over.is_err() {
                    self.waiters.leave();
                }
                over
            }),
            Stage::Over => panic!("a wait was polled after it was over"),
        };
        match over {
            Some(result) => {
                self.stage = Stage::Over;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

impl<R, P: FnMut()> Drop for Wait<'_, R, P> {
    fn drop(&mut self) {
        let Stage::Waiting(runtime, key) = self.stage else {
            return;
        };
        let granted = with(runtime, |runtime| {
            let granted = runtime.core().is_granted(key);
            runtime.release(key);
            granted
        });
        if granted {
            (self.pass_on)();
        } else {
            self.waiters.leave();
        }
    }
}
