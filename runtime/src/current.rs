//! The one thread-local structure: which runtime, task and scope is being polled here.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;
use std::task::{RawWakerVTable, Waker};

use crate::inbox::{Inbox, RuntimeId};
use crate::runtime::Runtime;
use crate::scope::{Border, Deadline, ScopeIndex};

pub(crate) struct Current {
    /// Null outside of `turn`.
    runtime: Cell<*const Runtime>,
    /// The task that is being polled.
    pub(crate) task: Cell<u32>,
    /// The scope that is being polled; `NONE` while the task has no scope yet.
    pub(crate) scope: Cell<ScopeIndex>,
    /// What `scope` is while that is `LAZY`: the one around it, its deadline and its border.
    pub(crate) lazy_outer: Cell<ScopeIndex>,
    pub(crate) lazy_deadline: Cell<Deadline>,
    pub(crate) lazy_border: Cell<Border>,
    /// A task has been given a root scope in this poll: what is restored as `scope` may be older.
    pub(crate) has_new_root: Cell<bool>,
    /// How often something of ours has let other tasks run: what it waits for is no leaf.
    yields: Cell<u32>,
    /// What the last one has woken.
    yielded_by: Cell<(*const (), *const RawWakerVTable)>,
}

impl Current {
    pub(crate) fn count_yield(&self, waker: &Waker) {
        self.yields.set(self.yields.get().wrapping_add(1));
        self.yielded_by.set((waker.data(), waker.vtable()));
    }
}

/// In what belongs to the runtime of the thread that made it, and so is not `Send` (R12): the
/// compiler names this when somebody tries.
pub(crate) struct BelongsToItsThread(PhantomData<*const ()>);

impl BelongsToItsThread {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

/// No task is being polled.
pub(crate) const NO_TASK: u32 = u32::MAX;

thread_local! {
    static CURRENT: Current = const {
        Current {
            runtime: Cell::new(ptr::null()),
            task: Cell::new(NO_TASK),
            scope: Cell::new(ScopeIndex::NONE),
            lazy_outer: Cell::new(ScopeIndex::NONE),
            lazy_deadline: Cell::new(Deadline::NEVER),
            lazy_border: Cell::new(Border::Open),
            has_new_root: Cell::new(false),
            yields: Cell::new(0),
            yielded_by: Cell::new((ptr::null(), ptr::null())),
        }
    };

    // Every runtime made on this thread that is alive, or has ended with operations whose
    // futures are still there: so that a future dropped outside of `turn` finds its own.
    static RUNTIMES: RefCell<Vec<Rc<Runtime>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with the runtime that is turning on this thread.
pub(crate) fn with<R>(f: impl FnOnce(Option<(&Runtime, &Current)>) -> R) -> R {
    CURRENT.with(|current| {
        // SAFETY: null, or set by an `Entered` that borrows the runtime and is still alive.
        let runtime = unsafe { current.runtime.get().as_ref() };
        f(runtime.map(|runtime| (runtime, current)))
    })
}

/// Calls `f` with the runtime `id`, turning or not, if it is on this thread and has something
/// left to answer for.
pub(crate) fn with_id<R>(id: RuntimeId, f: impl FnOnce(Option<&Runtime>) -> R) -> R {
    let turning = with(|current| match current {
        Some((runtime, _)) if runtime.id() == id => Some(ptr::from_ref(runtime)),
        _ => None,
    });
    if let Some(runtime) = turning {
        // SAFETY: as in `with`; the `Entered` that set it is below us on the stack.
        return f(Some(unsafe { &*runtime }));
    }
    let registered = find(id);
    f(registered.as_deref())
}

#[cold]
fn find(id: RuntimeId) -> Option<Rc<Runtime>> {
    // Gone at the end of the thread: then nobody can know, and the caller leaks (R2).
    RUNTIMES
        .try_with(|all| {
            all.borrow()
                .iter()
                .find(|runtime| runtime.id() == id)
                .cloned()
        })
        .ok()
        .flatten()
}

/// The runtime `id`, which is not turning, of a future that has a slot in it. `None` when the
/// thread ends: then nobody can know what became of the slot, and its future waits.
#[cold]
pub(crate) fn absent(id: RuntimeId) -> Option<Rc<Runtime>> {
    let runtime = find(id);
    let lives = RUNTIMES.try_with(|_| ()).is_ok();
    assert!(
        runtime.is_some() || !lives,
        "R9: a runtime stays registered while a future has a slot in it"
    );
    runtime
}

/// The runtimes of this thread but for the one that is turning.
#[cold]
pub(crate) fn others() -> Vec<Rc<Runtime>> {
    let others = RUNTIMES.try_with(|all| {
        let all = all.borrow();
        let others = all.iter().filter(|runtime| !is_here(runtime.id()));
        others.cloned().collect()
    });
    others.unwrap_or_default()
}

pub(crate) fn register(runtime: Rc<Runtime>) {
    RUNTIMES.with(|all| all.borrow_mut().push(runtime));
}

pub(crate) fn deregister(id: RuntimeId) {
    let removed = RUNTIMES.try_with(|all| {
        let mut all = all.borrow_mut();
        let at = all.iter().position(|runtime| runtime.id() == id)?;
        Some(all.swap_remove(at))
    });
    drop(removed); // Its memory goes outside of the borrow.
}

/// Makes a runtime the thread's current one until it is dropped.
pub(crate) struct Entered<'a> {
    outer: *const Runtime,
    outer_task: u32,
    outer_scope: ScopeIndex,
    outer_lazy: (ScopeIndex, Deadline, Border),
    _runtime: PhantomData<&'a Runtime>,
}

impl<'a> Entered<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Self {
        CURRENT.with(|current| Self {
            outer: current.runtime.replace(runtime),
            outer_task: current.task.replace(NO_TASK),
            outer_scope: current.scope.replace(ScopeIndex::NONE),
            outer_lazy: (
                current.lazy_outer.get(),
                current.lazy_deadline.get(),
                current.lazy_border.get(),
            ),
            _runtime: PhantomData,
        })
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.runtime.set(self.outer);
            current.task.set(self.outer_task);
            current.scope.set(self.outer_scope);
            current.lazy_outer.set(self.outer_lazy.0);
            current.lazy_deadline.set(self.outer_lazy.1);
            current.lazy_border.set(self.outer_lazy.2);
        });
    }
}

/// Says which task and scope is polled from here on.
pub(crate) fn set(task: u32, scope: ScopeIndex) {
    CURRENT.with(|current| {
        current.task.set(task);
        current.scope.set(scope);
        current.has_new_root.set(false);
    });
}

/// The root of a task has been made. If it is the one that is polled, and had none, it is polled in
/// that.
pub(crate) fn set_root(id: RuntimeId, task: u32, root: ScopeIndex) {
    with(|current| {
        let Some((_, current)) = current.filter(|(runtime, _)| runtime.id() == id) else {
            return;
        };
        if current.task.get() != task {
            return;
        }
        match current.scope.get() {
            ScopeIndex::NONE => current.scope.set(root),
            ScopeIndex::LAZY if current.lazy_outer.get() == ScopeIndex::NONE => {
                current.lazy_outer.set(root);
            }
            _ => {}
        }
    });
}

/// What the one who made a request gave as a reason, which an await has just returned.
pub(crate) fn reason(request: u64) -> Option<Rc<str>> {
    with(|current| current?.0.core().scopes.last_reason(request))
}

/// A task has been given a root scope.
pub(crate) fn note_root() {
    CURRENT.with(|current| current.has_new_root.set(true));
}

/// Whether the task that is being polled has heard of a request that came from who awaits it now.
pub(crate) fn has_heard_awaiter() -> bool {
    with(|current| {
        let Some((runtime, current)) = current else {
            return false;
        };
        let root = match runtime.tasks().get(current.task.get()) {
            Some(cell) if cell.join().cause.get() != 0 => cell.header().scope.get(),
            _ => ScopeIndex::NONE,
        };
        root.is_made() && runtime.core().scopes.has_heard_forwarded(root)
    })
}

/// How often something has yielded on this thread.
pub(crate) fn yields() -> u32 {
    CURRENT.with(|current| current.yields.get())
}

/// Whether something has yielded since, and the task that is being polled runs again for that.
pub(crate) fn has_yielded(since: u32) -> bool {
    with(|current| {
        current.is_some_and(|(runtime, current)| {
            current.yields.get() != since && runtime.tasks().is_queued(current.task.get())
        })
    })
}

/// Whether something has yielded since, and the last one that did has woken `waker`.
pub(crate) fn has_yielded_by(since: u32, waker: &Waker) -> bool {
    CURRENT.with(|current| {
        let by = (waker.data(), ptr::from_ref(waker.vtable()));
        current.yields.get() != since && current.yielded_by.get() == by
    })
}

/// Whether that is the runtime that is turning on this thread.
pub(crate) fn is_here(id: RuntimeId) -> bool {
    with(|current| current.is_some_and(|(runtime, _)| runtime.id() == id))
}

/// Whether a runtime is turning on this thread.
pub(crate) fn is_turning() -> bool {
    with(|current| current.is_some())
}

/// Sends the wake-up of a sleeping runtime as a message from the ring of this thread, which
/// costs half of what an eventfd does. `false`: no ring here, its target can't be held, or no
/// task is being polled: then nothing says that what is queued is handed over soon.
pub(crate) fn message_ring(inbox: &Inbox, target: RuntimeId) -> bool {
    with(|current| match current {
        Some((runtime, current)) if current.task.get() != NO_TASK => {
            runtime.message_ring(inbox, target)
        }
        _ => false,
    })
}
