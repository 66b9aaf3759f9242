//! Context variables: values that code further in sees, and tasks that it makes.
//!
//! A value lives in the scope that it was set in. A look goes outwards, through shields as well; a
//! new task begins with a copy of what there was where it was made. Where no variable is set
//! nothing is looked for, and nothing copied.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::cancel_scope::{CancelScope, Polled};
use crate::current;
use crate::debris::quietly;
use crate::runtime::Runtime;
use crate::scope::ScopeIndex;
use crate::task::outside;

/// The values that were set in a scope, by variable.
type Values = BTreeMap<usize, Rc<dyn Any>>;

/// Those of all scopes that have any.
#[derive(Default)]
pub(crate) struct Contexts {
    by_scope: RefCell<BTreeMap<u32, Values>>,
    /// Whether some scope has: asked whenever a task or a scope begins or ends.
    any: Cell<bool>,
}

impl Contexts {
    /// Whether no variable is set anywhere.
    pub(crate) const fn is_empty(&self) -> bool {
        !self.any.get()
    }

    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<u32, Values>) -> R) -> R {
        let mut by_scope = self.by_scope.borrow_mut();
        let result = change(&mut by_scope);
        self.any.set(!by_scope.is_empty());
        result
    }
}

/// A variable whose value code further in sees, and the tasks that it makes (Python's
/// `ContextVar`).
///
/// # Examples
///
/// ```
/// use coring::{ContextVar, create_task, ok};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// coring::run(async {
///     USER.set("ada");
///     let task = create_task(async {
///         let inherited = USER.get();
///         USER.set("grace"); // Seen in this task alone.
///         inherited
///     });
///     assert_eq!(task.await, Some("ada"));
///     assert_eq!(USER.get(), Some("ada"));
///     let inside = USER.scope("eve", async { USER.get() }).await;
///     assert_eq!((inside, USER.get()), (Some("eve"), Some("ada")));
///     ok(())
/// }).unwrap();
/// ```
pub struct ContextVar<T> {
    name: &'static str,
    _value: PhantomData<fn() -> T>,
}

impl<T: Clone + 'static> ContextVar<T> {
    /// A variable with a name, for people. It has no value before it is set.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            _value: PhantomData,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The value here. `None`: it was not set, or there is no runtime.
    pub fn get(&'static self) -> Option<T> {
        let value = current::with(|current| {
            let (runtime, current) = current?;
            if runtime.contexts().is_empty() {
                return None;
            }
            let scope = runtime.scope_here(current);
            runtime.find_value(scope, self.key())
        })?;
        // User code, with nothing borrowed.
        value.downcast_ref::<T>().cloned()
    }

    /// Sets it from here on, in the innermost scope: the task, or the body of a limit, shield,
    /// group or branch.
    ///
    /// # Panics
    /// Outside of a task.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        let value: Rc<dyn Any> = Rc::new(value);
        let old = current::with(|current| {
            let (runtime, current) = current?;
            let scope = runtime.scope_here(current);
            (scope != ScopeIndex::NONE).then(|| runtime.set_value(scope, self.key(), value))
        });
        if old.is_none() {
            outside("ContextVar::set");
        }
    }

    /// Runs `future` with another value.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that of dropping `future`.
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> WithValue<T, F> {
        WithValue {
            var: self,
            value: Some(value),
            scope: None,
            future: Some(future),
        }
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ContextVar").field(&self.name).finish()
    }
}

pin_project! {
    /// A future that runs with a variable set: see [`ContextVar::scope`].
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct WithValue<T: 'static, F> {
        var: &'static ContextVar<T>,
        value: Option<T>,
        scope: Option<CancelScope>,
        #[pin]
        future: Option<F>,
    }
}

impl<T: Clone + 'static, F: Future> Future for WithValue<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            panic!("a `ContextVar::scope` was polled after it gave its output");
        };
        let scope = this.scope.get_or_insert_with(CancelScope::plain);
        scope.begin();
        let (var, value) = (*this.var, this.value.take());
        let body = std::pin::pin!(First {
            first: value.map(|value| move || var.set(value)),
            then: future,
        });
        match scope.poll(body, cx) {
            Polled::Ready(output) => {
                this.future.set(None);
                *this.scope = None;
                Poll::Ready(output)
            }
            // It has no deadline that could make it so.
            Polled::Pending | Polled::Abandoned | Polled::Deaf => Poll::Pending,
        }
    }
}

impl<T, F> fmt::Debug for WithValue<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithValue").field(&self.var.name).finish()
    }
}

/// One poll of a future, with something to be done before.
struct First<'a, B, F> {
    first: Option<B>,
    then: Pin<&'a mut F>,
}

impl<B, F> Unpin for First<'_, B, F> {}

impl<B: FnOnce(), F: Future> Future for First<'_, B, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(first) = self.first.take() {
            first();
        }
        self.then.as_mut().poll(cx)
    }
}

/// Values whose drop is user code, and whose panic is nobody's.
struct Dropped(Vec<Rc<dyn Any>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        for value in self.0.drain(..) {
            quietly(|| drop(value));
        }
    }
}

impl Runtime {
    fn find_value(&self, scope: ScopeIndex, key: usize) -> Option<Rc<dyn Any>> {
        let (by_scope, core) = (self.contexts().by_scope.borrow(), self.core());
        let mut scopes = core.scopes.with_parents(scope);
        scopes.find_map(|at| by_scope.get(&at.get())?.get(&key).cloned())
    }

    /// Gives the old value, to be dropped where nothing is borrowed.
    fn set_value(&self, scope: ScopeIndex, key: usize, value: Rc<dyn Any>) -> Option<Rc<dyn Any>> {
        self.contexts()
            .change(|by_scope| by_scope.entry(scope.get()).or_default().insert(key, value))
    }

    /// What a task begins with that is made under `scope`.
    pub(crate) fn inherit_context(&self, scope: ScopeIndex, root: impl FnOnce() -> ScopeIndex) {
        let mut inherited = Values::new();
        let (by_scope, core) = (self.contexts().by_scope.borrow(), self.core());
        for at in core.scopes.with_parents(scope) {
            for (key, value) in by_scope.get(&at.get()).into_iter().flatten() {
                inherited.entry(*key).or_insert_with(|| value.clone());
            }
        }
        drop((by_scope, core));
        if !inherited.is_empty() {
            let root = root().get();
            self.contexts()
                .change(|by_scope| by_scope.insert(root, inherited));
        }
    }

    /// A scope ends: its values are to be dropped once it has.
    pub(crate) fn take_context(&self, scope: ScopeIndex) -> impl Drop + use<> {
        let values = self
            .contexts()
            .change(|by_scope| by_scope.remove(&scope.get()));
        Dropped(values.unwrap_or_default().into_values().collect())
    }
}
