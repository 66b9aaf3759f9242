//! One request, many completions.

use std::fmt;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker};

use super::table::Kind;
use super::{Cqe, Key, Operation, Orphan, Start, abandon, begin};
use crate::core::{Core, NextShot};
use crate::current::{self, BelongsToItsThread};
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;

/// Makes a stream of completions of `operation`, whose request has the kernel's multishot bit.
/// It starts at the first poll.
pub const fn submit_multishot<O: Operation + Clone>(operation: O) -> Multishot<O> {
    Multishot {
        payload: MaybeUninit::new(operation),
        runtime: RuntimeId::NONE,
        armed: None,
        held_max: 0,
        _thread: BelongsToItsThread::new(),
    }
}

/// An operation that completes many times: each completion is decoded by a clone of it.
///
/// It stays armed while nobody waits: what completes meanwhile is queued here and given to the
/// next one who asks. When the kernel ends it (an error, or a completion queue that overflowed)
/// the next wait arms it again. Dropping it ends it; what completes after that is given to
/// [`Operation::orphaned`]. How much is queued is [bounded](Self::bounded) where that is asked for.
///
/// It belongs to the runtime that it was armed in. A wait in another one gives what is queued; then it
/// ends it there, with an error once, and the next wait arms it here.
#[must_use = "a multishot operation starts when it is awaited"]
pub struct Multishot<O: Operation + Clone> {
    /// Always initialised until it is dropped; `MaybeUninit` as in `Op`.
    payload: MaybeUninit<O>,
    runtime: RuntimeId,
    armed: Option<Key>,
    held_max: u64,
    _thread: BelongsToItsThread,
}

impl<O: Operation + Clone> Unpin for Multishot<O> {}

/// A wait for the next completion.
struct Wait<'a, O: Operation + Clone> {
    multishot: &'a mut Multishot<O>,
    over: bool,
}

impl<O: Operation + Clone> Drop for Wait<'_, O> {
    fn drop(&mut self) {
        if !self.over {
            self.multishot.leave();
        }
    }
}

/// The payload of a multishot, initialised.
struct ManyShots<O>(MaybeUninit<O>);

impl<O: Operation + Clone> Orphan for ManyShots<O> {
    fn orphaned(self: Box<Self>, cqe: Cqe) {
        // SAFETY: initialised, see above. The runtime calls this after the final completion.
        unsafe { self.0.assume_init() }.orphaned(cqe);
    }

    fn shot(&self, cqe: Cqe) {
        // SAFETY: initialised, see above. A shared reference, as in `Multishot::poll_next`.
        unsafe { self.0.assume_init_ref() }.clone().orphaned(cqe);
    }
}

impl<O: Operation + Clone> Multishot<O> {
    /// Pauses the operation when more than `held_max` is queued here, until that is fetched: a
    /// completion counts as one, or as the bytes that it has in a provided buffer, if that is not its
    /// own ([`BufPool::whole`](crate::BufPool::whole)). What the kernel had done by then still comes;
    /// the rest stays with it. 0 is no bound.
    pub const fn bounded(mut self, held_max: u64) -> Self {
        self.held_max = held_max;
        self
    }

    /// Whether the kernel has it, or completions of it are queued here.
    pub const fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Ends it, and gives what was queued and what the kernel had done by then. Does not wait for
    /// anything but the kernel's word that it is done, so a request to stop does not reach it, and it
    /// may be called in any runtime of the thread.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what was queued goes to [`Operation::orphaned`].
    pub async fn finish(mut self) -> Vec<O::Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.last().await {
            outputs.push(output);
        }
        outputs
    }

    /// Ends it, and gives what was queued and what the kernel had done by then, one after the other;
    /// `None` when there is no more. Waits for the kernel's word alone, as [`finish`](Self::finish).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that the operation ends. What
    /// it still brings goes to the next call.
    pub async fn last(&mut self) -> Option<O::Output> {
        self.stop();
        poll_fn(|cx| {
            let Some(key) = self.armed else {
                return Poll::Ready(None);
            };
            match self.shot_unasked(key, cx.waker()) {
                NextShot::Cqe(cqe) => Poll::Ready(Some(self.decode(cqe))),
                NextShot::Last(cqe) => {
                    self.armed = None;
                    Poll::Ready(Some(self.decode(cqe)))
                }
                NextShot::Stopped => {
                    self.armed = None;
                    Poll::Ready(None)
                }
                NextShot::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn stop(&self) {
        self.if_armed(|core, key| {
            core.leave_shot(key);
            core.stop_shots(key);
        });
    }

    /// Does something to the slot, if there is one.
    fn if_armed(&self, f: impl FnOnce(&mut Core, Key)) {
        if let Some(key) = self.armed {
            current::with_id(self.runtime, |owner: Option<&Runtime>| {
                if let Some(owner) = owner {
                    owner.with_core(|core| f(core, key));
                }
            });
        }
    }

    /// The next completion.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. The operation stays armed,
    /// also when the wait is cancelled or times out, and what completes goes to the next call.
    pub async fn next(&mut self) -> O::Output {
        let mut wait = Wait {
            multishot: self,
            over: false,
        };
        poll_fn(|cx| {
            let polled = wait.multishot.poll_next(cx);
            wait.over = polled.is_ready();
            polled
        })
        .await
    }

    /// Nobody waits any more, of those who have polled: a request to stop that reached the wait is not
    /// the next one's. [`next`](Self::next) does this by itself.
    #[cold]
    pub fn leave(&self) {
        self.if_armed(Core::leave_shot);
    }

    /// [`next`](Self::next), for hand-written futures.
    ///
    /// A wait that is given up after it was pending still counts as one that waits, unless
    /// [`leave`](Self::leave) is called: a request to stop that comes then is returned by the next
    /// call, unless whoever made it (a limit) is over.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<O::Output> {
        let shot = match self.armed {
            None => NextShot::Stopped,
            Some(key) => self.shot(key, cx.waker()),
        };
        let cqe = match shot {
            NextShot::Cqe(cqe) => cqe,
            NextShot::Last(cqe) => {
                self.armed = None;
                cqe
            }
            NextShot::Stopped => match self.start(cx.waker()) {
                Some(cqe) => cqe,
                None => return Poll::Pending,
            },
            NextShot::Pending => return Poll::Pending,
        };
        Poll::Ready(self.decode(cqe))
    }

    fn decode(&self, cqe: Cqe) -> O::Output {
        // SAFETY: initialised until it is dropped. A shared reference: the kernel may be writing
        // to what the payload owns, but never to the payload.
        let operation = unsafe { self.payload.assume_init_ref() }.clone();
        operation.complete(cqe)
    }

    /// `Some`: it is over without having begun.
    fn start(&mut self, waker: &Waker) -> Option<Cqe> {
        self.armed = None;
        // SAFETY: initialised until it is dropped, and not armed: it is ours alone.
        let operation = unsafe { self.payload.assume_init_mut() };
        match begin(
            operation,
            &mut self.runtime,
            waker,
            Start::Awaited(Kind::Multishot),
        ) {
            Ok(key) => {
                self.armed = Some(key);
                if self.held_max != 0 {
                    self.if_armed(|core, key| core.bound_shots(key, self.held_max));
                }
                None
            }
            Err(cause) => Some(Cqe::cancelled(cause)),
        }
    }

    /// The next completion, for who waits for the end of it.
    fn shot_unasked(&self, key: Key, waker: &Waker) -> NextShot {
        current::with(|current| match current {
            Some((owner, _)) if owner.id() == self.runtime => owner.poll_shot_unasked(key, waker),
            _ => match current::absent(self.runtime) {
                Some(owner) => owner.poll_shot_unasked_from_outside(key, waker),
                None => NextShot::Pending, // It is not known what the kernel has (R2).
            },
        })
    }

    fn shot(&self, key: Key, waker: &Waker) -> NextShot {
        current::with(|current| match current {
            Some((owner, current)) if owner.id() == self.runtime => {
                owner.poll_shot(key, current, waker)
            }
            _ => match current::absent(self.runtime) {
                Some(owner) => owner.poll_shot_from_outside(key),
                None => NextShot::Pending,
            },
        })
    }
}

impl<O: Operation + Clone> Drop for Multishot<O> {
    fn drop(&mut self) {
        match self.armed {
            // SAFETY: initialised, and not used after this.
            None => unsafe { self.payload.assume_init_drop() },
            Some(key) => {
                let payload = std::mem::replace(&mut self.payload, MaybeUninit::uninit());
                abandon(self.runtime, key, || Box::new(ManyShots(payload)));
            }
        }
    }
}

impl<O: Operation + Clone> fmt::Debug for Multishot<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multishot")
            .field("armed", &self.armed.is_some())
            .finish_non_exhaustive()
    }
}
