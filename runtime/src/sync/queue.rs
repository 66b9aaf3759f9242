use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::error::Error;
use std::fmt;
use std::io;

use super::event::Event;
use super::waiters::Waiters;
use crate::checkpoint;
use crate::current::BelongsToItsThread;
use crate::error::{Outcome, TimedOut, is_cancelled};

/// A queue between tasks (asyncio's `Queue`): what is put first is got first.
///
/// # Examples
///
/// ```
/// use coring::{create_task, sync::Queue};
/// use std::rc::Rc;
///
/// coring::run(async {
///     let queue = Rc::new(Queue::new(2));
///     let puts = queue.clone();
///     let producer = create_task(async move {
///         for n in 0..5 {
///             puts.put(n).await?; // Waits while there are two.
///         }
///         puts.shutdown(false);
///         coring::ok(())
///     });
///     let mut sum = 0;
///     while let Some(n) = queue.next().await? {
///         sum += n;
///     }
///     producer.await?;
///     assert_eq!(sum, 10);
///     coring::ok(())
/// }).unwrap();
/// ```
pub type Queue<T> = QueueOf<VecDeque<T>>;

/// A [`Queue`] from which the least is got first (asyncio's `PriorityQueue`).
pub type PriorityQueue<T> = QueueOf<BinaryHeap<Reverse<T>>>;

/// A [`Queue`] from which the latest is got first (asyncio's `LifoQueue`).
pub type LifoQueue<T> = QueueOf<Vec<T>>;

/// What is in a queue, and in which order it comes out.
pub trait Store: Default {
    /// What is put and got.
    type Item;
    /// Puts an item in.
    fn push(&mut self, item: Self::Item);
    /// Takes the next item out.
    fn pop(&mut self) -> Option<Self::Item>;
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Store for VecDeque<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl<T> Store for Vec<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.push(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.pop()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl<T: Ord> Store for BinaryHeap<Reverse<T>> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.push(Reverse(item));
    }

    fn pop(&mut self) -> Option<T> {
        self.pop().map(|Reverse(item)| item)
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// A queue of whatever order: see [`Queue`], [`PriorityQueue`], [`LifoQueue`].
pub struct QueueOf<S> {
    store: RefCell<S>,
    /// Items that it takes; 0 is any number.
    items_max: usize,
    shut_down: Cell<bool>,
    /// Items that nobody has said to be done with.
    unfinished: Cell<usize>,
    finished: Event,
    getters: Waiters,
    putters: Waiters,
    _thread: BelongsToItsThread,
}

impl<S: Store> QueueOf<S> {
    /// One that takes so many items, and then has those who put wait; 0 is any number.
    pub fn new(items_max: usize) -> Self {
        let finished = Event::new();
        finished.set();
        Self {
            store: RefCell::default(),
            items_max,
            shut_down: Cell::new(false),
            unfinished: Cell::new(0),
            finished,
            getters: Waiters::default(),
            putters: Waiters::default(),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Puts an item in; waits while there is no room.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping this drops `item`, unless it is in. When it is cancelled, or times
    /// out, the error has the item.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too; [`QueueShutDown`]
    /// once nothing is taken any more. Each with the item: see [`PutError`].
    pub async fn put(&self, item: S::Item) -> Result<(), PutError<S::Item>> {
        if let Err(error) = checkpoint() {
            return Err(PutError { error, item });
        }
        let may_put = || !self.full() || self.shut_down.get();
        while !may_put() {
            // What is granted is a look: if it is not taken, the next one may.
            if let Err(error) = self.putters.wait(may_put, || self.let_put()).await {
                return Err(PutError { error, item });
            }
        }
        self.try_put(item)
    }

    /// Puts an item in, if there is room now.
    ///
    /// # Errors
    /// [`QueueShutDown`]; [`WouldBlock`](io::ErrorKind::WouldBlock) where there is no room. Each
    /// with the item.
    pub fn try_put(&self, item: S::Item) -> Result<(), PutError<S::Item>> {
        if self.shut_down.get() {
            let error = QueueShutDown.into();
            return Err(PutError { error, item });
        }
        if self.full() {
            let error = io::Error::new(io::ErrorKind::WouldBlock, "the queue is full");
            return Err(PutError { error, item });
        }
        // First, since what orders the items is user code, which may panic with the item in.
        self.unfinished.set(self.unfinished.get() + 1);
        self.store.borrow_mut().push(item);
        self.finished.clear();
        self.let_get();
        Ok(())
    }

    /// Takes the next item out; waits for one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. The item stays.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too; [`QueueShutDown`]
    /// once nothing is left, and nothing comes.
    pub async fn get(&self) -> io::Result<S::Item> {
        checkpoint()?;
        loop {
            if let Some(item) = self.try_get() {
                return Ok(item);
            }
            if self.shut_down.get() {
                return Err(QueueShutDown.into());
            }
            let may_get = || !self.is_empty() || self.shut_down.get();
            self.getters.wait(may_get, || self.let_get()).await?;
        }
    }

    /// The next item, as [`get`](Self::get) gives it; `None` once the queue is shut down and nothing
    /// is left: for a loop that ends then, and not when it is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. The item stays.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn next(&self) -> io::Result<Option<S::Item>> {
        match self.get().await {
            Ok(item) => Ok(Some(item)),
            Err(error)
                if error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<QueueShutDown>()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next item, if there is one.
    pub fn try_get(&self) -> Option<S::Item> {
        let item = self.store.borrow_mut().pop()?;
        self.let_put();
        Some(item)
    }

    /// Has the next who waits for an item look.
    fn let_get(&self) {
        self.getters.grant();
    }

    /// Has the next who waits for room look.
    fn let_put(&self) {
        self.putters.grant();
    }

    /// Says that one is done with an item that was got: [`join`](Self::join) waits for that.
    ///
    /// # Panics
    /// If it is said more often than items were put.
    pub fn task_done(&self) {
        let Some(left) = self.unfinished.get().checked_sub(1) else {
            panic!("`task_done` was called more often than items were put into the queue")
        };
        self.unfinished.set(left);
        if left == 0 {
            self.finished.set();
        }
    }

    /// Waits until everything that was put is done with: see [`task_done`](Self::task_done).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn join(&self) -> io::Result<()> {
        self.finished.wait().await
    }

    /// Takes nothing any more. What is in can be got still, unless it is to be dropped `at_once`;
    /// then those who wait are told.
    pub fn shutdown(&self, at_once: bool) {
        self.shut_down.set(true);
        let dropped = at_once.then(|| self.store.take());
        if let Some(dropped) = &dropped {
            let left = self.unfinished.get().saturating_sub(dropped.len());
            self.unfinished.set(left);
            if left == 0 {
                self.finished.set();
            }
        }
        self.getters.grant_all();
        self.putters.grant_all();
        // User code, with nothing borrowed, and nobody left to be told.
        drop(dropped);
    }

    /// How many items are in.
    pub fn len(&self) -> usize {
        self.store.borrow().len()
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.store.borrow().is_empty()
    }

    /// Whether there is no room.
    pub fn full(&self) -> bool {
        self.items_max > 0 && self.len() >= self.items_max
    }
}

impl<S: Store> fmt::Debug for QueueOf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("items_max", &self.items_max)
            .field("shut_down", &self.shut_down.get())
            .field("unfinished", &self.unfinished.get())
            .finish()
    }
}

/// The queue takes nothing any more, and has nothing left (asyncio's `QueueShutDown`): inside an
/// [`io::Error`] of kind [`BrokenPipe`](io::ErrorKind::BrokenPipe).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueShutDown;

impl fmt::Display for QueueShutDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue was shut down")
    }
}

impl Error for QueueShutDown {}

impl From<QueueShutDown> for io::Error {
    fn from(shut_down: QueueShutDown) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, shut_down)
    }
}

/// An item that could not be put, and why. `?` makes the error of it, and drops the item.
pub struct PutError<T> {
    /// Why.
    pub error: io::Error,
    /// What was to be put.
    pub item: T,
}

impl<T> From<PutError<T>> for io::Error {
    fn from(put: PutError<T>) -> Self {
        put.error
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> Error for PutError<T> {}

impl<T> Outcome for Result<(), PutError<T>> {
    fn is_cancelled(&self) -> bool {
        self.as_ref().is_err_and(|put| is_cancelled(&put.error))
    }

    fn timed_out(self) -> Self {
        self.map_err(|PutError { item, .. }| PutError {
            error: TimedOut.into(),
            item,
        })
    }

    fn abandoned(_: io::Error) -> Option<Self> {
        None
    }
}
