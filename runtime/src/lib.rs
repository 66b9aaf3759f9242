//! The runtime under [coring](https://docs.rs/coring): driver, operations, tasks, scopes.
//!
//! A program hands the kernel descriptions of work, [`Operation`]s; the kernel hands back
//! results; a [task](create_task) runs when a result of its own has arrived. This crate is that
//! small kernel: sockets, files and `sleep` are its userland, in crates of their own, and use only
//! what is public here.
//!
//! In the order of a reader: [`Operation`] is the one door to the kernel, [`Op`] the future of
//! one, [`run`] the loop, and [`CancelScope`] how a deadline reaches what is polled in it. The
//! invariants that the unsafe code cites as R1 to R14 are in `ARCHITECTURE.md`.

#![doc(test(attr(deny(warnings))))]
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("coring runs on Linux on 64 bits only");

mod buf;
mod call;
mod cancel_scope;
mod cancellable;
mod combine;
mod context;
mod core;
mod current;
mod debris;
mod debug;
mod driver;
mod error;
mod group;
mod handle;
mod inbox;
mod instant;
mod op;
mod pool;
mod runner;
mod runtime;
mod scope;
pub mod signal;
pub mod sync;
mod task;
mod threads;
mod timer;
mod timers;
mod wind_down;

use std::io;

pub use buf::{BufResult, IoBuf, IoBufMut, Slice, TRANSFER_MAX, transfer_len};
pub use call::{Call, call_at, call_later, call_soon};
pub use cancel_scope::{CancelScope, Expiry, Polled, ScopeHandle, deadline};
pub use cancellable::{Cancellable, Shielded, cancellable, shielded};
pub use combine::{
    AsCompleted, Gather, GatherAll, Race, RaceAll, Raced, RacedAll, ReturnWhen, SettleAll, Settled,
    as_completed, gather_all, race_all, wait, winner,
};
#[doc(hidden)]
pub use combine::{gather as gather_tuple, race as race_tuple};
pub use context::{ContextVar, WithValue};
pub use driver::{DriverKind, Features, Reason, Request, Scratch, SetupFlags, Unavailable, sim};
pub use error::{Cancelled, Failure, Outcome, Partial, TimedOut, is_cancelled, is_timed_out};
pub use group::{GroupError, Started, TaskGroup, task_group};
pub use handle::{Handle, RemoteTask};
pub use instant::Instant;
pub use op::{Cqe, Multishot, Op, Operation, Token, submit, submit_multishot};
pub use pool::{BufPool, BufferCounts, Lease};
pub use runner::{Builder, Runner, Stats, run};
pub use runtime::pump_others;
pub use task::{
    Task, TaskBuilder, TaskRef, all_tasks, checkpoint, create_task, current_task, shield, yield_now,
};
pub use threads::{CancelToken, ToThread, to_thread};
pub use timer::{Timer, now};
pub use timers::Timers;

/// `Ok`, with the error fixed to [`io::Error`]: for the last line of an async block whose error
/// type nothing else says.
///
/// # Errors
/// None.
///
/// # Examples
///
/// ```
/// # coring::run(async {
/// let task = coring::create_task(async {
///     coring::yield_now().await?;
///     coring::ok(5)
/// });
/// assert_eq!(task.await?, 5);
/// # coring::ok(()) }).unwrap();
/// ```
pub fn ok<T>(value: T) -> io::Result<T> {
    Ok(value)
}
