//! The seam: a driver takes requests and gives completions.
//!
//! Down goes a chain of [`Request`]s, placed whole; up comes a [`Completion`] for each of them.
//! Wakers, futures, buffers, `io::Error`s of operations and tasks never cross. Time comes from the
//! driver, so that a driver can own time. Two drivers so far, both compiled, chosen at run time:
//!
//! * `uring` translates a request to an SQE: the product;
//! * `sim` is a scripted kernel in memory, for what a real one cannot be made to do on demand.

mod request;
pub mod sim;
mod sys;
mod unavailable;
mod uring;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use request::flags;
pub use request::{Request, Scratch};
pub use unavailable::{Reason, Unavailable};
pub(crate) use uring::{Config, Uring};
pub use uring::{Features, SetupFlags};

use crate::Instant;
use crate::inbox::Inbox;
use crate::op::Token;

/// Opcodes that the runtime itself submits.
pub(crate) mod opcode {
    use io_uring::opcode as op;

    pub(crate) const NOP: u8 = op::Nop::CODE;
    pub(crate) const POLL_ADD: u8 = op::PollAdd::CODE;
    pub(crate) const TIMEOUT: u8 = op::Timeout::CODE;
    pub(crate) const TIMEOUT_REMOVE: u8 = op::TimeoutRemove::CODE;
    pub(crate) const LINK_TIMEOUT: u8 = op::LinkTimeout::CODE;
    pub(crate) const ASYNC_CANCEL: u8 = op::AsyncCancel::CODE;
    pub(crate) const MSG_RING: u8 = op::MsgRingData::CODE;
    /// Those that wait in worker threads.
    pub(crate) const SPLICE: u8 = op::Splice::CODE;
    pub(crate) const TEE: u8 = op::Tee::CODE;
}

/// What a driver brings back for a request: the kernel's `struct io_uring_cqe`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) res: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// `IORING_CQE_F_MORE`: this request will complete again.
    pub(crate) const MORE: u32 = 1 << 1;

    pub(crate) const fn is_final(&self) -> bool {
        self.flags & Self::MORE == 0
    }
}

/// Whether, and how long, an enter may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit and run what is due.
    No,
    /// Sleep until something completes or this moment.
    Until(Instant),
}

/// Which driver a runtime uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// The simulated kernel of [`sim`].
    Sim,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Sim => "sim",
        })
    }
}

/// Counters that a driver keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DriverStats {
    pub(crate) enters: u64,
    pub(crate) overflows: u64,
}

// One driver for the life of a runtime, never moved on the hot road: its size does not matter.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it stays where it is"
)]
pub(crate) enum Driver {
    Uring(Uring),
    Sim(sim::Driver),
    Retired(Retired),
}

macro_rules! each {
    ($self:ident, $driver:ident => $body:expr) => {
        match $self {
            Self::Uring($driver) => $body,
            Self::Sim($driver) => $body,
            Self::Retired($driver) => $body,
        }
    };
}

impl Driver {
    /// Makes room for a chain of `n` requests, by submitting what is queued if need be. `false`
    /// means: not now, complete something first.
    pub(crate) fn reserve(&mut self, n: usize) -> bool {
        each!(self, driver => driver.reserve(n))
    }

    /// The place for small inputs of the `i`th request of the chain that is reserved.
    pub(crate) fn scratch(&mut self, i: usize) -> &mut Scratch {
        each!(self, driver => driver.scratch(i))
    }

    /// Queues a chain for which room is reserved. From here it is the kernel's (R3).
    pub(crate) fn submit(&mut self, chain: &[Request]) {
        each!(self, driver => driver.submit(chain))
    }

    /// One enter: hands over what is queued, lets due work run, sleeps if `wait` says so.
    ///
    /// # Errors
    /// Only what ends the runtime; what passes (EINTR, EAGAIN, EBUSY) is tried again next turn.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        each!(self, driver => driver.enter(wait))
    }

    /// Whether an enter would do something: requests queued, or completions held back.
    pub(crate) fn wants_enter(&mut self) -> bool {
        each!(self, driver => driver.wants_enter())
    }

    /// Whether the kernel holds completions back that another enter would give.
    pub(crate) fn has_more(&mut self) -> bool {
        each!(self, driver => driver.has_more())
    }

    /// Moves the completions that are here to `batch`.
    pub(crate) fn reap(&mut self, batch: &mut Vec<Completion>) {
        each!(self, driver => driver.reap(batch))
    }

    pub(crate) fn now(&self) -> Instant {
        each!(self, driver => driver.now())
    }

    /// Prepares `inbox` to wake this driver from its sleep, whatever the thread. `false`: not
    /// now, for want of a descriptor or of room.
    pub(crate) fn arm_unparker(&mut self, inbox: &'static Inbox) -> bool {
        each!(self, driver => driver.arm_unparker(inbox))
    }

    /// A descriptor that becomes readable when an enter would do something.
    pub(crate) fn event_fd(&mut self) -> io::Result<Arc<OwnedFd>> {
        each!(self, driver => driver.event_fd())
    }

    /// Takes back the readability of the event descriptor, or makes it readable.
    pub(crate) fn signal_event_fd(&mut self, readable: bool) {
        each!(self, driver => driver.signal_event_fd(readable))
    }

    pub(crate) fn supports(&self, opcode: u8) -> bool {
        each!(self, driver => driver.supports(opcode))
    }

    /// The ring's descriptor, held for others who send messages to it (R14).
    pub(crate) fn ring_fd(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::Uring(uring) => uring.ring_fd(),
            Self::Sim(_) | Self::Retired(_) => None,
        }
    }

    pub(crate) const fn kind(&self) -> DriverKind {
        match self {
            Self::Uring(_) => DriverKind::Uring,
            Self::Sim(_) => DriverKind::Sim,
            Self::Retired(retired) => retired.kind,
        }
    }

    /// Closes the ring. What remains tells the time at which that was.
    pub(crate) fn retire(&mut self) {
        let retired = Retired {
            kind: self.kind(),
            now: self.now(),
            stats: self.stats(),
        };
        *self = Self::Retired(retired);
    }

    pub(crate) fn stats(&self) -> DriverStats {
        each!(self, driver => driver.stats())
    }
}

/// What is left of a driver whose runtime has ended: takes nothing, brings nothing.
pub(crate) struct Retired {
    kind: DriverKind,
    now: Instant,
    stats: DriverStats,
}

impl Retired {
    const fn reserve(&self, _: usize) -> bool {
        false
    }

    fn scratch(&self, _: usize) -> &mut Scratch {
        unreachable!("nothing is reserved on a driver that has ended")
    }

    fn submit(&self, _: &[Request]) {
        unreachable!("nothing is reserved on a driver that has ended")
    }

    const fn enter(&self, _: Wait) -> io::Result<()> {
        Ok(())
    }

    const fn wants_enter(&self) -> bool {
        false
    }

    const fn has_more(&self) -> bool {
        false
    }

    const fn reap(&self, _: &mut Vec<Completion>) {}

    const fn now(&self) -> Instant {
        self.now
    }

    const fn arm_unparker(&self, _: &'static Inbox) -> bool {
        true
    }

    fn event_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "the runtime has ended",
        ))
    }

    const fn signal_event_fd(&self, _: bool) {}

    const fn supports(&self, _: u8) -> bool {
        false
    }

    const fn stats(&self) -> DriverStats {
        self.stats
    }
}
