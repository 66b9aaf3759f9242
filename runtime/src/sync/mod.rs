//! Locks and the like, for the tasks of one thread (asyncio's names).
//!
//! A request to stop reaches who waits as it reaches a read. What is handed over belongs to the
//! waiter from then on, so that nobody overtakes it; a waiter that is dropped with it passes it on.

mod barrier;
mod condition;
mod event;
mod lock;
mod queue;
mod semaphore;
pub(crate) mod waiters;

pub use barrier::{Barrier, BrokenBarrier};
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use queue::{LifoQueue, PriorityQueue, PutError, Queue, QueueOf, QueueShutDown, Store};
pub use semaphore::{BoundedSemaphore, OwnedPermit, Permit, Semaphore};
