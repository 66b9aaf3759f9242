//! Operations: the one door to the kernel, and the future of one.

mod multishot;
pub(crate) mod table;
mod token;

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub use multishot::{Multishot, submit_multishot};
pub(crate) use table::Key;
use table::{Kind, Success};
pub use token::Token;
pub(crate) use token::{Control, INDEX_BITS, INDEX_MAX, Tag};

use crate::current::{self, BelongsToItsThread};
use crate::driver::{Request, Scratch};
use crate::error::Cause;
use crate::inbox::RuntimeId;
use crate::runtime::Runtime;
use crate::task::TaskNumber;

/// Something the kernel does for a program: described once, decoded once.
///
/// This is the only door: coring's own sockets and files are operations like any other, and an
/// opcode that is not there is written in a crate of your own in the same way. Give one to
/// [`submit`] and await the [`Op`]. In a [`Multishot`] each completion is decoded by a clone.
///
/// # Safety
///
/// * What [`request`](Self::request) points the kernel at stays valid and unmoved until the final
///   completion (invariant R1 of ARCHITECTURE.md), **even when `self` is moved**: heap memory that
///   it owns, memory that is `'static`, or the scratch for what the kernel reads at submission.
///   Never a field of `self`.
/// * Nothing but the kernel touches that memory until then, and the descriptor is one that the
///   program may use.
/// * `request` only describes: it does not call into the runtime.
/// * A request that is [silent](Request::silent) never waits: the kernel is done with it, and with
///   what it points at, when the enter that takes it returns.
/// * Anybody who has a value of the type may call `complete` and `orphaned`, with any [`Cqe`]. A
///   type that believes what it is told (so many bytes are initialised, this descriptor is nobody
///   else's) is therefore private to those who only give it to [`submit`].
/// * If the type is `Clone`, `complete` and `orphaned` of a clone are sound as well, though the
///   kernel has never heard of the clone's own memory: a [`Multishot`] decodes by clones. So an
///   operation that owns a buffer is not `Clone`.
///
/// # Examples
///
/// ```
/// use coring::{Cqe, Operation, Request, Scratch, submit};
///
/// /// Does nothing, through the kernel.
/// struct Nop;
///
/// // SAFETY: the request points at nothing.
/// unsafe impl Operation for Nop {
///     type Output = std::io::Result<u32>;
///
///     fn request(&mut self, _: &mut Scratch) -> Request {
///         Request::new(0 /* IORING_OP_NOP */, -1)
///     }
///
///     fn complete(self, cqe: Cqe) -> Self::Output {
///         cqe.result()
///     }
///
///     fn orphaned(self, _: Cqe) {}
/// }
///
/// coring::run(async {
///     assert_eq!(submit(Nop).await.unwrap(), 0);
/// });
/// ```
pub unsafe trait Operation: Sized + 'static {
    /// What the program gets.
    type Output;

    /// Describes the operation when it starts. That is once, but for an operation that was ended by
    /// a limit it is not under any more: it is started again.
    fn request(&mut self, scratch: &mut Scratch) -> Request;

    /// Decodes what came of it, and gives back what was lent.
    fn complete(self, cqe: Cqe) -> Self::Output;

    /// It ended, but nobody waits for it any more: closes a descriptor that came, gives a
    /// provided buffer back.
    fn orphaned(self, cqe: Cqe);
}

/// What came of an operation: the kernel's completion, and who cancelled it if somebody did.
#[derive(Debug)]
pub struct Cqe {
    /// `res` in the lower half, `flags` in the upper.
    word: u64,
    cause: Cause,
}

// What a poll finds is given in registers: through memory it costs 15 ns for each operation.
const _: () = assert!(size_of::<Option<Cqe>>() == 16);

impl Cqe {
    pub(crate) const fn new(res: i32, flags: u32) -> Self {
        Self {
            word: (flags as u64) << 32 | res as u32 as u64,
            cause: Cause::FOREIGN,
        }
    }

    pub(crate) const fn cancelled(cause: Cause) -> Self {
        Self::new(-libc::ECANCELED, 0).with_cause(cause)
    }

    /// Of a provided buffer, whose bytes begin at `place`. Such a completion was not cancelled, so
    /// that is where its cause would be.
    pub(crate) const fn with_place(self, place: u32) -> Self {
        self.with_cause(Cause::of(place as u64 + 1))
    }

    pub(crate) const fn place(&self) -> u32 {
        (self.cause.number() - 1) as u32
    }

    pub(crate) const fn with_cause(mut self, cause: Cause) -> Self {
        self.cause = cause;
        self
    }

    /// Whether the operation is to be started again.
    pub(crate) fn is_stray(&self) -> bool {
        self.cause == Cause::STRAY
    }

    /// The kernel's result as it is: a count or descriptor, or a negated errno.
    pub const fn res(&self) -> i32 {
        self.word as i32
    }

    /// `IORING_CQE_F_*`.
    pub const fn flags(&self) -> u32 {
        (self.word >> 32) as u32
    }

    /// Of a zero-copy send that asked for it (`IORING_SEND_ZC_REPORT_USAGE`): whether the kernel has
    /// copied the bytes all the same.
    pub const fn is_copied(&self) -> bool {
        self.flags() & NOTIF_COPIED != 0
    }

    /// The result, as what the program sees.
    ///
    /// # Errors
    /// The kernel's error unchanged; but a [`Cancelled`](crate::Cancelled) where the operation was
    /// cancelled here, and an error that says "closed" where the descriptor was closed under it.
    pub fn result(self) -> io::Result<u32> {
        match self.res() {
            res @ 0.. => Ok(res as u32),
            res if is_stopped(res) => Err(self.cause.error()),
            res => Err(io::Error::from_raw_os_error(-res)),
        }
    }
}

/// `IORING_NOTIF_USAGE_ZC_COPIED`: in the result of a notification; kept in the flags of what came
/// before it, where a zero-copy send has nothing else.
pub(crate) const NOTIF_COPIED: u32 = 1 << 31;

/// Whether a result is that of a cancelled operation. What a worker thread was doing ends with
/// EINTR, or with what the kernel means by "start the system call again" (ERESTARTSYS, 512, and
/// its like), which programs never see otherwise (M: splice).
pub(crate) const fn is_stopped(res: i32) -> bool {
    matches!(-res, libc::ECANCELED | libc::EINTR | 512..=516)
}

/// A payload whose type is forgotten, waiting for the kernel to be done with it.
pub(crate) trait Orphan {
    fn orphaned(self: Box<Self>, cqe: Cqe);
    /// A completion that is not the last.
    fn shot(&self, cqe: Cqe);
}

/// The payload of a one-shot: initialised, and wrapped as in `Op` for the same reason.
struct OneShot<O>(MaybeUninit<O>);

impl<O: Operation> Orphan for OneShot<O> {
    fn orphaned(self: Box<Self>, cqe: Cqe) {
        // SAFETY: initialised, see above. The runtime calls this after the final completion.
        unsafe { self.0.assume_init() }.orphaned(cqe);
    }

    fn shot(&self, _: Cqe) {}
}

/// Makes a future of `operation`. It starts at the first poll.
///
/// Its request completes once: one with a multishot bit goes to [`submit_multishot`], since here
/// all results but the first would be lost; and so does one that selects a provided buffer, which
/// would go back here with what is in it.
pub const fn submit<O: Operation>(operation: O) -> Op<O> {
    Op {
        payload: MaybeUninit::new(operation),
        runtime: RuntimeId::NONE,
        stage: Stage::New,
        _thread: BelongsToItsThread::new(),
    }
}

/// An operation, to be awaited.
///
/// # Cancel safety
///
/// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the kernel
/// is done with it. A descriptor that it yields after all is closed.
///
/// # Panics
/// If it is polled after it gave its output.
#[must_use = "an operation starts when it is awaited"]
pub struct Op<O: Operation> {
    /// Initialised but in `Finished`. The kernel never points into it; but moving it while the
    /// kernel writes through a pointer taken from it must not claim what it owns anew (R1): hence
    /// the `MaybeUninit`.
    payload: MaybeUninit<O>,
    runtime: RuntimeId,
    stage: Stage,
    _thread: BelongsToItsThread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Started(Key),
    Finished,
}

impl<O: Operation> Unpin for Op<O> {}

impl<O: Operation> Future for Op<O> {
    type Output = O::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O::Output> {
        let this = self.get_mut();
        let cqe = match this.stage {
            Stage::New => this.begin(cx.waker()),
            Stage::Started(key) => this.fetch(key, cx.waker()),
            Stage::Finished => panic!("an operation was polled after it gave its output"),
        };
        match cqe {
            Some(cqe) => {
                this.stage = Stage::Finished;
                // SAFETY: initialised until now, and `Finished` keeps it from being used again.
                // The kernel is done with it (C4): it was never started, or its slot gave a final
                // completion.
                Poll::Ready(unsafe { this.payload.assume_init_read() }.complete(cqe))
            }
            None => Poll::Pending,
        }
    }
}

impl<O: Operation> Op<O> {
    /// Starts it, if it has not begun, without waiting for it: so it is no cancellation point, and
    /// no request to stop and no limit reaches it, until it is polled. The waker is woken when it is
    /// over. For the success of a [silent](Request::silent) request the loop does not get
    /// up: that is told when it is awake for something else.
    ///
    /// Where it cannot start, since there is no runtime, that is told when it is polled.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        self.start_as(cx, Success::ToldLater);
    }

    /// [`start`](Self::start), where what it holds may stay until somebody polls: the success of a
    /// silent request wakes nobody.
    pub fn start_quietly(&mut self, cx: &mut Context<'_>) {
        self.start_as(cx, Success::Untold);
    }

    fn start_as(&mut self, cx: &Context<'_>, success: Success) {
        if self.stage == Stage::New {
            self.begin_as(cx.waker(), Start::Unawaited(success));
        }
    }

    /// `Some`: it is over without having begun.
    fn begin(&mut self, waker: &Waker) -> Option<Cqe> {
        self.begin_as(waker, Start::Awaited(Kind::OneShot))
    }

    fn begin_as(&mut self, waker: &Waker, start: Start) -> Option<Cqe> {
        // SAFETY: initialised in `New`.
        let operation = unsafe { self.payload.assume_init_mut() };
        match begin(operation, &mut self.runtime, waker, start) {
            Ok(key) => {
                self.stage = Stage::Started(key);
                None
            }
            Err(cause) => Some(Cqe::cancelled(cause)),
        }
    }

    fn fetch(&mut self, key: Key, waker: &Waker) -> Option<Cqe> {
        let cqe = poll_slot(self.runtime, key, waker)?;
        if cqe.is_stray() {
            self.stage = Stage::New;
            return self.begin(waker);
        }
        Some(cqe)
    }
}

/// How an operation starts: for nobody who waits, and under no scope, or under the one that is being
/// polled.
#[derive(Clone, Copy)]
enum Start {
    Unawaited(Success),
    Awaited(Kind),
}

/// Starts an operation, and says in which runtime that is. An error: it is over without having begun.
fn begin<O: Operation>(
    operation: &mut O,
    started_in: &mut RuntimeId,
    waker: &Waker,
    start: Start,
) -> Result<Key, Cause> {
    // Cloned here, since a waker's clone is user code (R10).
    let mut waker = Some(TaskNumber::clone_of(waker));
    current::with(|current| {
        let Some((runtime, current)) = current else {
            return Err(Cause::NO_RUNTIME);
        };
        *started_in = runtime.id();
        let mut describe = |scratch: &mut Scratch, place: &mut Request| {
            *place = operation.request(scratch);
        };
        let started = match start {
            Start::Unawaited(success) => {
                runtime.with_core(|core| core.start_unawaited(&mut describe, &mut waker, success))
            }
            Start::Awaited(kind) => {
                let scope = runtime.scope_here(current);
                runtime.with_core(|core| core.start(&mut describe, scope, &mut waker, kind))
            }
        };
        started.ok_or_else(|| runtime.core().refusal())
    })
}

/// Looks at the slot of a future that is polled, in whichever runtime.
pub(crate) fn poll_slot(runtime: RuntimeId, key: Key, waker: &Waker) -> Option<Cqe> {
    current::with(|current| match current {
        Some((owner, current)) if owner.id() == runtime => owner.poll_slot(key, current, waker),
        _ => current::absent(runtime)?.poll_slot_from_outside(key, waker),
    })
}

impl<O: Operation> Drop for Op<O> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Finished => {}
            // SAFETY: initialised in `New`, and not used after this.
            Stage::New => unsafe { self.payload.assume_init_drop() },
            Stage::Started(key) => {
                // The bytes move, what the kernel points at does not (`Operation`'s contract).
                let payload = std::mem::replace(&mut self.payload, MaybeUninit::uninit());
                abandon(self.runtime, key, || Box::new(OneShot(payload)));
            }
        }
    }
}

/// Leaves the payload of a dropped future with its runtime, until the kernel is done with it.
fn abandon(runtime: RuntimeId, key: Key, orphan: impl FnOnce() -> Box<dyn Orphan>) {
    current::with_id(runtime, |runtime: Option<&Runtime>| match runtime {
        Some(runtime) => runtime.abandon(key, orphan()),
        // Too late in the life of the thread to know: leaked, never freed (R2).
        None => crate::runtime::count_leak(),
    });
}

impl<O: Operation> fmt::Debug for Op<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New => "new",
            Stage::Started(_) => "started",
            Stage::Finished => "finished",
        };
        f.debug_struct("Op")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}
