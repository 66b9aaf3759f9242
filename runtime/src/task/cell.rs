//! A task's one allocation: its header, and its future until that is done, its output after.
//!
//! # States
//!
//! ```text
//!            (1) poll: ready          (3) take
//! Running ───────────────────▶ Output ─────────▶ Gone
//!    │  └────(2) poll: panic─▶ Panicked ───(3)───▶ ▲
//!    └──────────────(4) discard ──────────────────┘
//! ```
//!
//! 1, 2 and 4 are the runtime's, through [`TaskCell::poll`] and [`TaskCell::discard`]; 3 is the
//! handle's. Everything happens on one thread. The cell is freed with its last reference; the
//! runtime has one while the task is in its table, each `Task` and `TaskRef` has one.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use crate::debris::{discard_panic, quietly};
use crate::debug::error_in;
use crate::scope::ScopeIndex;
use crate::task::TaskNumber;
use crate::task::join::{Asked, Join};

/// What a panic left.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

pub(crate) struct Header {
    vtable: &'static VTable,
    refs: Cell<u32>,
    /// The task's place in the runtime's table.
    pub(crate) index: Cell<u32>,
    /// Counts the tasks of a runtime; with `index` it names this one.
    pub(crate) generation: Cell<u32>,
    /// The root of the task's scopes, made when something registers under it.
    pub(crate) scope: Cell<ScopeIndex>,
    pub(crate) spawned_at: &'static Location<'static>,
    /// Who awaits the task.
    joiner: Cell<Option<Waker>>,
    /// And where.
    join: Join,
    name: Cell<Option<Box<Box<str>>>>,
}

// A million of these are a million times this.
const _: () = assert!(size_of::<Header>() == 80);

struct VTable {
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    discard: unsafe fn(NonNull<Header>),
    /// Writes an `Option<Result<T, PanicPayload>>` to the pointer.
    take: unsafe fn(NonNull<Header>, *mut ()),
    /// Where the output is, if it is there.
    output: unsafe fn(NonNull<Header>) -> Option<NonNull<()>>,
    /// The error in the output, for debug mode.
    error: unsafe fn(NonNull<Header>) -> Option<String>,
    free: unsafe fn(NonNull<Header>),
}

enum Stage<F: Future> {
    Running(F),
    Output(F::Output),
    Panicked(PanicPayload),
    Gone,
}

#[repr(C)]
struct Whole<F: Future> {
    // First, so that a pointer to the whole is a pointer to it.
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

impl<F: Future> Whole<F> {
    const VTABLE: VTable = VTable {
        poll: Self::poll,
        discard: Self::discard,
        take: Self::take,
        output: Self::output,
        error: |_| None,
        free: Self::free,
    };

    /// The stage, for one access at a time.
    ///
    /// # Safety
    /// `header` is the header of a live `Whole<F>`, and nobody else has its stage now.
    unsafe fn stage<'a>(header: NonNull<Header>) -> &'a mut Stage<F> {
        // SAFETY: `header` points at the first field of a `Whole<F>` (repr(C)) and may be used
        // for all of it: it comes from the Box of the whole.
        let stage = unsafe { (*header.cast::<Self>().as_ptr()).stage.get() };
        // SAFETY: the caller has it alone.
        unsafe { &mut *stage }
    }

    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> bool {
        // SAFETY: the runtime polls a task that is in its table, and not while it polls it: the
        // stage is reached from `poll`, which the runtime does not nest (to turn it takes the
        // runner's `&mut`, and refuses inside of a turn), from `discard`, which does nothing while
        // the task is busy, and from `take` and `output`, which do nothing before `done`.
        let stage = unsafe { Self::stage(header) };
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Stage::Running(future) = stage else {
                return true;
            };
            // SAFETY: the future stays in the cell, which does not move, until it is dropped there.
            let future = unsafe { Pin::new_unchecked(future) };
            let Poll::Ready(output) = future.poll(cx) else {
                return false;
            };
            *stage = Stage::Output(output);
            true
        }));
        polled.unwrap_or_else(|panic| {
            match stage {
                Stage::Running(_) => Self::replace(stage, Stage::Panicked(panic)),
                // The drop of the future panicked: the output is in its place all the same.
                _ => discard_panic(panic),
            }
            true
        })
    }

    unsafe fn discard(header: NonNull<Header>) {
        // SAFETY: as in `poll`.
        let stage = unsafe { Self::stage(header) };
        Self::replace(stage, Stage::Gone);
    }

    /// Drops the old stage in its place. A panic of that drop is the task's own (C10): the hook
    /// has reported it, and the new stage is in place all the same (drop and replace).
    fn replace(stage: &mut Stage<F>, new: Stage<F>) {
        quietly(|| *stage = new);
    }

    unsafe fn take(header: NonNull<Header>, out: *mut ()) {
        // SAFETY: called when `done` is set: the runtime has let go of the stage.
        let stage = unsafe { Self::stage(header) };
        let out: *mut Option<Result<F::Output, PanicPayload>> = out.cast();
        let result = match std::mem::replace(stage, Stage::Gone) {
            Stage::Output(output) => Some(Ok(output)),
            Stage::Panicked(panic) => Some(Err(panic)),
            Stage::Running(_) | Stage::Gone => None,
        };
        // SAFETY: `TaskCell::take` passes a place for this very type.
        unsafe { out.write(result) };
    }

    unsafe fn output(header: NonNull<Header>) -> Option<NonNull<()>> {
        // SAFETY: as in `stage`.
        let stage = unsafe { (*header.cast::<Self>().as_ptr()).stage.get() };
        // SAFETY: as in `take`; shared, since who looks at an output may be asked to do so by one
        // who looks at it.
        match unsafe { &*stage } {
            Stage::Output(output) => Some(NonNull::from(output).cast()),
            Stage::Running(_) | Stage::Panicked(_) | Stage::Gone => None,
        }
    }

    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: made by `Box::into_raw` in `TaskCell::new`; the last reference is gone.
        drop(unsafe { Box::from_raw(header.cast::<Self>().as_ptr()) });
    }
}

impl<F: Future> Whole<F>
where
    F::Output: 'static,
{
    /// Of a task whose output borrows nothing, and can be asked what type it is.
    const OWNED: VTable = VTable {
        error: Self::error,
        ..Self::VTABLE
    };

    unsafe fn error(header: NonNull<Header>) -> Option<String> {
        // SAFETY: as the caller of `output`.
        let output = unsafe { Self::output(header) }?;
        // SAFETY: the output, of this type, while the header is borrowed.
        let output: &F::Output = unsafe { output.cast().as_ref() };
        error_in(output)
    }
}

/// A counted reference to a task's allocation, whatever its future.
pub(crate) struct TaskCell(NonNull<Header>);

impl TaskCell {
    /// A task that borrows nothing.
    pub(crate) fn owned<F>(future: F, spawned_at: &'static Location<'static>) -> Self
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        Self::with_vtable(future, spawned_at, const { &Whole::<F>::OWNED })
    }

    /// # Safety
    ///
    /// The type of `future` is forgotten, and so are its borrows: the caller sees to it that the
    /// future and its output are gone (done and taken, or discarded) before these end.
    pub(crate) unsafe fn new<F: Future>(future: F, spawned_at: &'static Location<'static>) -> Self {
        Self::with_vtable(future, spawned_at, const { &Whole::<F>::VTABLE })
    }

    fn with_vtable<F: Future>(
        future: F,
        spawned_at: &'static Location<'static>,
        vtable: &'static VTable,
    ) -> Self {
        let whole = Box::new(Whole {
            header: Header {
                vtable,
                refs: Cell::new(1),
                index: Cell::new(0),
                generation: Cell::new(0),
                scope: Cell::new(ScopeIndex::NONE),
                spawned_at,
                joiner: Cell::new(None),
                join: Join::new(),
                name: Cell::new(None),
            },
            stage: UnsafeCell::new(Stage::Running(future)),
        });
        // A raw pointer from here on: references to the header alone must not narrow it.
        let whole = NonNull::from(Box::leak(whole));
        Self(whole.cast())
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: alive while a reference is counted; only its Cells change.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn join(&self) -> &Join {
        &self.header().join
    }

    /// One step of the task. `true`: it is done, see [`finish`](Self::finish).
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> bool {
        self.join().busy.set(true);
        // SAFETY: the vtable belongs to this cell's future type; the runtime does not nest polls
        // of a task, and drops none that is busy.
        let done = unsafe { (self.header().vtable.poll)(self.0, cx) };
        self.join().busy.set(false);
        done
    }

    /// Drops the future, or an output that nobody took. Not while it is polled, and once: its drop
    /// is user code, which may ask for that again.
    pub(crate) fn discard(&self) {
        if self.join().busy.replace(true) {
            return;
        }
        // SAFETY: as in `poll`; `busy` says that neither that nor this is below us on the stack.
        unsafe { (self.header().vtable.discard)(self.0) }
        self.join().busy.set(false);
    }

    /// The task will not be polled again. Gives whoever is to know.
    pub(crate) fn finish(&self) -> Option<Waker> {
        self.join().done.set(true);
        self.header().joiner.take()
    }

    /// Notes that it was asked to stop.
    pub(crate) fn ask_to_stop(&self) {
        let asked = &self.join().asked;
        if asked.get() == Asked::Nothing {
            asked.set(Asked::ToStop);
        }
    }

    /// The cell, as long as another reference is there, without counting that.
    ///
    /// # Safety
    /// Not used any more once the last reference that is counted has gone.
    pub(crate) unsafe fn uncounted(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(self.0))
    }

    /// Whether this is the only reference.
    pub(crate) fn is_last(&self) -> bool {
        self.header().refs.get() == 1
    }

    pub(crate) fn is_done(&self) -> bool {
        self.join().done.get()
    }

    /// What the task came to, once. `None`: nothing, it was dropped before its end, or taken.
    ///
    /// # Safety
    /// `T` is the output of the future that the cell was made with, and the task is done.
    pub(crate) unsafe fn take<T>(&self) -> Option<Result<T, PanicPayload>> {
        debug_assert!(self.is_done());
        let mut result: Option<Result<T, PanicPayload>> = None;
        // SAFETY: `T` is the output type by the caller's promise, so this is the place that
        // `Whole::take` expects.
        unsafe { (self.header().vtable.take)(self.0, (&raw mut result).cast()) };
        result
    }

    /// The error that the task came to, if that is here, and known.
    pub(crate) fn error(&self) -> Option<String> {
        if !self.is_done() {
            return None;
        }
        // SAFETY: the vtable belongs to this cell, which is done.
        unsafe { (self.header().vtable.error)(self.0) }
    }

    /// Calls `f` with what the task came to, if that is here.
    ///
    /// # Safety
    /// `T` is the output of the future that the cell was made with.
    pub(crate) unsafe fn with_output<T, R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.is_done() {
            return None;
        }
        // SAFETY: the vtable belongs to this cell, which is done.
        let output = unsafe { (self.header().vtable.output)(self.0) }?;
        // SAFETY: of type `T` by the caller's promise. It stays while `self` is borrowed: only the
        // handle takes it, which is who asks.
        Some(f(unsafe { output.cast().as_ref() }))
    }

    /// Has `waker` woken when the task is done. Gives back one that it replaces, to be dropped
    /// where no borrow is held.
    pub(crate) fn set_joiner(&self, waker: &Waker) -> Option<Waker> {
        let old = self.header().joiner.take();
        match &old {
            Some(same) if same.will_wake(waker) => {
                self.header().joiner.set(old);
                None
            }
            _ => {
                self.header().joiner.set(Some(TaskNumber::clone_of(waker)));
                old
            }
        }
    }

    pub(crate) fn set_name(&self, name: &str) {
        self.header().name.set(Some(Box::new(name.into())));
    }

    pub(crate) fn with_name<R>(&self, f: impl FnOnce(Option<&str>) -> R) -> R {
        let name = self.header().name.take();
        let result = f(name.as_deref().map(|name| &**name));
        self.header().name.set(name);
        result
    }
}

impl Clone for TaskCell {
    fn clone(&self) -> Self {
        let refs = &self.header().refs;
        // A count that wraps would free a live cell.
        refs.set(
            refs.get()
                .checked_add(1)
                .expect("fewer than 2^32 references to a task"),
        );
        Self(self.0)
    }
}

impl Drop for TaskCell {
    fn drop(&mut self) {
        let refs = self.header().refs.get() - 1;
        self.header().refs.set(refs);
        if refs == 0 {
            // SAFETY: the last reference; the vtable belongs to this cell.
            unsafe { (self.header().vtable.free)(self.0) };
        }
    }
}
