//! A moment to wait for.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Instant;
use crate::current::{self, BelongsToItsThread};
use crate::driver::{Request, Scratch, opcode};
use crate::error::Cause;
use crate::inbox::RuntimeId;
use crate::op::table::{Key, Kind};
use crate::op::{Cqe, poll_slot};
use crate::task::{TaskNumber, outside};

const TIMEOUT_ABS: u32 = 1 << 0;

/// The time on the driver's clock.
///
/// # Panics
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// coring::run(async {
///     let begin = coring::now();
///     assert!(coring::now() >= begin);
/// });
/// ```
#[track_caller]
pub fn now() -> Instant {
    let Some(now) = current::with(|current| Some(current?.0.now())) else {
        outside("now")
    };
    now
}

/// A future that waits for a moment: what `sleep` is made of.
///
/// It is a kernel timeout, or a place in the heap whose front is one: see
/// [`Timers`](crate::Timers). It is never early.
///
/// # Errors
/// [`Cancelled`](crate::Cancelled) if it was asked to stop.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
#[must_use = "a timer waits when it is awaited"]
pub struct Timer {
    stage: Stage,
    _thread: BelongsToItsThread,
}

#[derive(Clone, Copy)]
enum Stage {
    After(Duration),
    At(Instant),
    /// There was nothing to wait for: other tasks ran once.
    Yielded,
    Waiting(RuntimeId, Key),
    Over,
}

impl Timer {
    /// Waits for a span, counted from the first poll. A span of zero lets the other tasks run
    /// once; [`Duration::MAX`] never ends.
    pub const fn after(span: Duration) -> Self {
        Self {
            stage: Stage::After(span),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Waits for `deadline`. One that has passed lets the other tasks run once.
    pub const fn at(deadline: Instant) -> Self {
        Self {
            stage: Stage::At(deadline),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Begins to wait. An error: it is over.
    fn start(&mut self, waker: &Waker) -> Result<(), Cause> {
        let waker = TaskNumber::clone_of(waker);
        current::with(|current| {
            let (runtime, current) = current.ok_or(Cause::NO_RUNTIME)?;
            let now = runtime.now();
            let deadline = match self.stage {
                Stage::After(span) => now + span,
                Stage::At(deadline) => deadline,
                Stage::Yielded | Stage::Waiting(..) | Stage::Over => {
                    unreachable!("a timer starts once")
                }
            };
            if deadline <= now {
                if let Some(cause) = runtime.checkpoint(current) {
                    return Err(cause);
                }
                current.count_yield(&waker);
                waker.wake();
                self.stage = Stage::Yielded;
                return Ok(());
            }
            let scope = runtime.scope_here(current);
            let started = runtime.with_core(|core| {
                if core.sleeps_in_kernel() && deadline != Instant::FAR_FUTURE {
                    let mut describe = |scratch: &mut Scratch, place: &mut Request| {
                        *place = describe(deadline, scratch);
                    };
                    let key = core.start(&mut describe, scope, &mut Some(waker), Kind::Sleep)?;
                    core.table.slot(key).set_deadline(deadline);
                    Some(key)
                } else {
                    core.start_timer(deadline, scope, waker)
                }
            });
            let key = started.ok_or_else(|| runtime.core().refusal())?;
            self.stage = Stage::Waiting(runtime.id(), key);
            Ok(())
        })
    }
}

fn describe(deadline: Instant, scratch: &mut Scratch) -> Request {
    let ts = scratch.put(deadline.timespec());
    Request::new(opcode::TIMEOUT, -1)
        .addr(ts)
        .len(1)
        .op_flags(TIMEOUT_ABS)
}

/// A timeout that ends by itself ends with ETIME.
fn decode(cqe: Cqe) -> io::Result<()> {
    match cqe.res() {
        res if -res == libc::ETIME => Ok(()),
        _ => cqe.result().map(drop),
    }
}

impl Future for Timer {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = match self.stage {
            Stage::After(_) | Stage::At(_) => {
                let started = self.start(cx.waker());
                started.err().map(|cause| Err(cause.error()))
            }
            Stage::Yielded => Some(Ok(())),
            // No timeout is linked behind a sleep, so it is never to be started again.
            Stage::Waiting(runtime, key) => poll_slot(runtime, key, cx.waker()).map(decode),
            Stage::Over => panic!("a timer was polled after it was over"),
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

impl Drop for Timer {
    fn drop(&mut self) {
        if let Stage::Waiting(runtime, key) = self.stage {
            current::with_id(runtime, |runtime| {
                if let Some(runtime) = runtime {
                    runtime.release(key);
                }
            });
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::After(_) | Stage::At(_) => "new",
            Stage::Yielded | Stage::Waiting(..) => "waiting",
            Stage::Over => "over",
        };
        f.debug_struct("Timer")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}
