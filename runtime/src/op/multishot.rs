//! One request, many completions.

use std::fmt;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker};

use super::table::Kind;
use super::{Cqe, Key, Operation, Orphan, abandon, begin};
use crate::core::Shot;
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
        _thread: BelongsToItsThread::new(),
    }
}

/// An operation that completes many times: each completion is decoded by a clone of it.
///
/// It stays armed while nobody waits: what completes meanwhile is queued here and given to the
/// next one who asks. When the kernel ends it (an error, or a completion queue that overflowed)
/// the next wait arms it again. Dropping it ends it; what completes after that is given to
/// [`Operation::orphaned`].
#[must_use = "a multishot operation starts when it is awaited"]
pub struct Multishot<O: Operation + Clone> {
    /// Always initialised until it is dropped; `MaybeUninit` as in `Op`.
    payload: MaybeUninit<O>,
    runtime: RuntimeId,
    armed: Option<Key>,
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

    /// Nobody waits any more: a request to stop that reached the wait is not the next one's.
    #[cold]
    fn leave(&self) {
        if let Some(key) = self.armed {
            current::with_id(self.runtime, |owner: Option<&Runtime>| {
                if let Some(owner) = owner {
                    owner.with_core(|core| core.leave_shot(key));
                }
            });
        }
    }

    /// [`next`](Self::next), for hand-written futures.
    ///
    /// A wait that is given up after it was pending still counts as one that waits: a request to
    /// stop that comes then is returned by the next call, unless whoever made it (a limit) is over.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<O::Output> {
        let cqe = match self.armed {
            None => match self.start(cx.waker()) {
                Some(cqe) => cqe,
                None => return Poll::Pending,
            },
            Some(key) => match self.shot(key, cx.waker()) {
                Shot::Cqe(cqe) => cqe,
                Shot::Last(cqe) => {
                    self.armed = None;
                    cqe
                }
                Shot::Pending => return Poll::Pending,
            },
        };
        // SAFETY: initialised until it is dropped. A shared reference: the kernel may be writing
        // to what the payload owns, but never to the payload.
        let operation = unsafe { self.payload.assume_init_ref() }.clone();
        Poll::Ready(operation.complete(cqe))
    }

    fn start(&mut self, waker: &Waker) -> Option<Cqe> {
        // SAFETY: initialised until it is dropped, and not armed: it is ours alone.
        let operation = unsafe { self.payload.assume_init_mut() };
        match begin(operation, &mut self.runtime, waker, Kind::Multishot) {
            Ok(key) => {
                self.armed = Some(key);
                None
            }
            Err(cause) => Some(Cqe::cancelled(cause)),
        }
    }

    fn shot(&self, key: Key, waker: &Waker) -> Shot {
        current::with(|current| match current {
            Some((owner, current)) if owner.id() == self.runtime => {
                owner.poll_shot(key, current, waker)
            }
            _ => match current::absent(self.runtime) {
                Some(owner) => owner.poll_shot_from_outside(key),
                None => Shot::Pending,
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
