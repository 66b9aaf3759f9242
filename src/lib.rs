//! An async runtime for Linux with asyncio's vocabulary and io_uring as its only way to wait.
//!
//! A program hands the kernel descriptions of work, and the kernel hands back results; a task runs
//! when a result of its own has arrived. There is no readiness polling. A time-out is a kernel
//! time-out: [`wait_for`] of one operation is that with a timeout linked behind it, and [`sleep`] is
//! a timeout of its own.
//!
//! ```
//! use std::time::Duration;
//! use coring::net::{TcpListener, TcpStream};
//! use coring::{BufResult, create_task, run, wait_for};
//!
//! # fn main() -> std::io::Result<()> {
//! run(async {
//!     let mut listener = TcpListener::bind("127.0.0.1:0")?;
//!     let addr = listener.local_addr()?;
//!     let server = create_task(async move {
//!         let (mut stream, _peer) = listener.accept().await?;
//!         stream.write_all("hello").await.0
//!     });
//!     let mut stream = TcpStream::connect(addr).await?;
//!     let read = stream.read(Vec::with_capacity(16));
//!     let BufResult(n, buf) = wait_for(read, Duration::from_secs(3)).await;
//!     assert_eq!(&buf[..n?], b"hello");
//!     server.await
//! })
//! # }
//! ```
//!
//! # It is not
//!
//! * portable: Linux 6.1 or newer, 64 bits, where io_uring is allowed (see [`Unavailable`]);
//! * a work-stealing runtime: a loop and its tasks stay on their thread, and more threads are more
//!   loops;
//! * readiness with another name: buffers are lent to the kernel and come back with the result,
//!   so they are owned, never borrowed.
//!
//! `ARCHITECTURE.md` in the repository shows how it works, and names the few files with unsafe
//! code.

#![doc(test(attr(deny(warnings))))]

pub use coring_io::streams::{
    IncompleteRead, LimitOverrun, Server, StreamReader, StreamWriter, open_connection,
    open_unix_connection, start_server, start_unix_server,
};
#[cfg(feature = "hyper")]
pub use coring_io::{HyperExecutor, HyperTimer};
pub use coring_io::{PollStream, fs, net, streams};
pub use coring_macros::{main, test};
pub use coring_runtime::{
    AsCompleted, BufPool, BufResult, BufferCounts, Builder, Call, CancelScope, CancelToken,
    Cancellable, Cancelled, ContextVar, Cqe, DriverKind, Expiry, Failure, Features, Gather,
    GatherAll, GroupError, Handle, Instant, IoBuf, IoBufMut, Lease, Multishot, Op, Operation,
    Outcome, Partial, Polled, Race, RaceAll, Raced, RacedAll, Reason, RemoteTask, Request,
    ReturnWhen, Runner, ScopeHandle, Scratch, SettleAll, Settled, SetupFlags, Shielded, Slice,
    Started, Stats, TRANSFER_MAX, Task, TaskBuilder, TaskGroup, TaskRef, TimedOut, Timer, Timers,
    ToThread, Token, Unavailable, WithValue, all_tasks, as_completed, call_at, call_later,
    call_soon, cancellable, checkpoint, create_task, current_task, deadline, gather, gather_all,
    is_cancelled, is_timed_out, now, ok, pump_others, race, race_all, run, shield, shielded,
    signal, sim, submit, submit_multishot, sync, task_group, to_thread, transfer_len, wait, winner,
    yield_now,
};
pub use coring_timer::{
    Expired, Interval, MissedTickBehavior, Timeout, TimeoutScope, WaitFor, interval, interval_at,
    shielded_for, sleep, sleep_until, timeout, timeout_at, timeout_scope, wait_for,
};

/// What most programs use: `use coring::prelude::*;`
pub mod prelude {
    pub use crate::{
        BufResult, ContextVar, IoBuf, IoBufMut, Task, TaskGroup, cancellable, create_task, gather,
        gather_all, interval, is_cancelled, is_timed_out, now, ok, race, run, shielded,
        shielded_for, sleep, task_group, timeout, timeout_scope, to_thread, wait_for, winner,
        yield_now,
    };
}

/// The programs of the README and the chapters, as tests.
#[cfg(doctest)]
mod chapters {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/from-asyncio.md")]
    struct FromAsyncio;

    #[doc = include_str!("../docs/from-tokio.md")]
    struct FromTokio;

    #[doc = include_str!("../docs/cancellation.md")]
    struct Cancellation;

    #[doc = include_str!("../docs/network.md")]
    struct Network;
}
