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
//! # What there is
//!
//! **To run**: [`run`], or the attributes [`main`](macro@main) and [`test`](macro@test). A runtime
//! with settings of its own, or in another loop, is a [`Runner`], by its [`Builder`]; [`Handle`]
//! brings it work from other threads. What most programs name is in the [`prelude`].
//!
//! **Tasks**: [`create_task`] gives a [`Task`]; a [`TaskRef`] is one of [`current_task`] and
//! [`all_tasks`]. Several at once are a [`gather!`], a [`race!`] or a [`task_group`]; [`wait`] and
//! [`as_completed`] wait for tasks that run on. [`to_thread`] takes what blocks, [`call_soon`] and
//! [`call_later`] plain functions; a [`ContextVar`] is a value for a task and those that it makes.
//!
//! **Limits and cancellation**: [`wait_for`], [`timeout`], [`timeout_scope`], and [`deadline`], which
//! says when the running code is to stop; [`cancel`](TaskRef::cancel), [`is_cancelled`],
//! [`is_timed_out`]; [`shield`], [`shielded`] and [`shielded_for`] against it; [`cancellable`] for
//! futures of other crates, [`checkpoint`] for computations. An error type of your own is a
//! [`Failure`].
//!
//! **Time**: [`sleep`], [`sleep_until`], [`interval`], [`now`].
//!
//! **Between tasks**: locks, events, semaphores and queues, in [`sync`].
//!
//! **Streams**, which are asyncio's, in [`streams`]: [`open_connection`], [`start_server`] and
//! [`Server`], with a [`StreamReader`] and a [`StreamWriter`] for each connection.
//!
//! **Sockets**, which are the kernel's, in [`net`]: [`TcpStream`](net::TcpStream),
//! [`TcpListener`](net::TcpListener), [`UdpSocket`](net::UdpSocket),
//! [`UnixStream`](net::UnixStream) and the like, [`SocketOptions`](net::SocketOptions),
//! [`lookup_host`](net::lookup_host), [`copy_bidirectional`](net::copy_bidirectional).
//!
//! **Files**, in [`fs`]: [`File`](fs::File), [`OpenOptions`](fs::OpenOptions), [`copy`](fs::copy).
//!
//! **Signals**, in [`signal`]: [`ctrl_c`](signal::ctrl_c), [`signal`](signal::signal).
//!
//! **Buffers** are lent, and come back: [`BufResult`], [`IoBuf`], [`IoBufMut`], [`Slice`]. What the
//! kernel has put into its own is a [`Lease`].
//!
//! **Other crates**: [`PollStream`] is what hyper, tokio's and futures' traits read from and write
//! to, by the features `hyper`, `tokio` and `futures-io`.
//!
//! **Tests**: [`sim`] is a kernel that is simulated, with a clock of its own. [`Stats`] counts what a
//! runtime did and has.
//!
//! **Operations of your own**: [`Operation`], [`Request`], [`submit`], [`submit_multishot`], and
//! [`CancelScope`], of which limits and shields are made.
//!
//! # It is not
//!
//! * portable: Linux 6.1 or newer, 64 bits, where io_uring is allowed (see [`Unavailable`]);
//! * a work-stealing runtime: a loop and its tasks stay on their thread, and more threads are more
//!   loops;
//! * readiness with another name: buffers are lent to the kernel and come back with the result,
//!   so they are owned, never borrowed.
//!
//! In the repository, `docs/` has chapters: from asyncio, from tokio, cancellation, the network.
//! `ARCHITECTURE.md` shows how it works, and names the few files with unsafe code.

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
        BufResult, ContextVar, IoBuf, IoBufMut, Server, StreamReader, StreamWriter, Task,
        TaskGroup, cancellable, create_task, gather, gather_all, interval, is_cancelled,
        is_timed_out, now, ok, open_connection, race, run, shielded, shielded_for, sleep,
        start_server, task_group, timeout, timeout_scope, to_thread, wait_for, winner, yield_now,
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
