//! The seam: a driver takes requests and gives completions.
//!
//! Down goes a chain of [`Request`]s, placed whole; up comes a [`Completion`] for each of them.
//! Wakers, futures, buffers, `io::Error`s of operations and tasks never cross. Time comes from the
//! driver, so that a driver can own time. Two drivers so far, both compiled, chosen at run time:
//!
//! * `uring` translates a request to an SQE: the product;
//! * `sim` is a scripted kernel in memory, for what a real one cannot be made to do on demand.

mod queue;
mod request;
pub mod sim;
mod sys;
mod unavailable;
mod uring;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use queue::Queue;
pub(crate) use request::flags;
pub use request::{Request, Scratch};
pub use unavailable::{Reason, Unavailable};
pub(crate) use uring::Config;
use uring::Uring;
pub use uring::{Features, SetupFlags};

use crate::Instant;
use crate::inbox::Inbox;
use crate::op::Token;
use crate::pool::BufRing;

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

pub(crate) struct Driver {
    queue: Queue,
    which: Which,
}

// One for the life of a runtime, never moved on the hot road: its size does not matter.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it stays where it is"
)]
enum Which {
    Uring(Uring),
    Sim(sim::Driver),
    Retired(Retired),
}

macro_rules! each {
    ($which:expr, $driver:ident => $body:expr) => {
        match $which {
            Which::Uring($driver) => $body,
            Which::Sim($driver) => $body,
            Which::Retired($driver) => $body,
        }
    };
}

impl Driver {
    pub(crate) fn uring(config: Config) -> Result<Self, Unavailable> {
        let uring = Uring::new(config)?;
        Ok(Self {
            queue: Queue::new(uring.features().sq_entries as usize),
            which: Which::Uring(uring),
        })
    }

    pub(crate) fn sim(kernel: &sim::Kernel) -> Self {
        let sim = sim::Driver::new(kernel);
        Self {
            queue: Queue::new(sim.sq_entries()),
            which: Which::Sim(sim),
        }
    }

    /// Makes room for a chain of `n` requests, by handing over what is queued if need be. `false`
    /// means: not now, complete something first.
    pub(crate) fn reserve(&mut self, n: usize) -> bool {
        self.queue.has_room(n) || self.make_room(n)
    }

    #[cold]
    fn make_room(&mut self, n: usize) -> bool {
        each!(&mut self.which, driver => driver.hand_over(&mut self.queue));
        self.queue.has_room(n)
    }

    /// Has a request described in the queue, in a place that is reserved, with its scratch. From
    /// here it is the kernel's (R3). It may still be completed with a token and a link.
    pub(crate) fn place(
        &mut self,
        describe: &mut dyn FnMut(&mut Scratch, &mut Request),
    ) -> &mut Request {
        self.queue.place(describe)
    }

    /// Queues a request that needs no scratch, in a place that is reserved.
    pub(crate) fn submit(&mut self, request: Request) {
        self.place(&mut |_, place| *place = request);
    }

    /// One enter: hands over what is queued, lets due work run, sleeps if `wait` says so.
    ///
    /// # Errors
    /// Only what ends the runtime; what passes (EINTR, EAGAIN, EBUSY) is tried again next turn.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        each!(&mut self.which, driver => driver.enter(&mut self.queue, wait))
    }

    /// Whether requests are queued that the kernel has not taken.
    pub(crate) const fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether an enter would do something: requests queued, or completions held back.
    pub(crate) fn wants_enter(&mut self) -> bool {
        self.has_queued() || self.has_more()
    }

    /// Whether the kernel holds completions back that another enter would give.
    pub(crate) fn has_more(&mut self) -> bool {
        each!(&mut self.which, driver => driver.has_more())
    }

    /// Whether the kernel keeps completions for want of room in the queue.
    pub(crate) fn has_overflowed(&mut self) -> bool {
        match &mut self.which {
            Which::Uring(uring) => uring.has_overflowed(),
            Which::Sim(_) | Which::Retired(_) => false,
        }
    }

    /// Whether the kernel has lost completions since this was asked.
    pub(crate) fn take_lost(&mut self) -> bool {
        each!(&mut self.which, driver => driver.take_lost())
    }

    /// Moves the completions that are here to `batch`.
    pub(crate) fn reap(&mut self, batch: &mut Vec<Completion>) {
        each!(&mut self.which, driver => driver.reap(batch))
    }

    pub(crate) fn now(&self) -> Instant {
        each!(&self.which, driver => driver.now())
    }

    /// Prepares `inbox` to wake this driver from its sleep, whatever the thread. `false`: not
    /// now, for want of a descriptor or of room.
    pub(crate) fn arm_unparker(&mut self, inbox: &'static Inbox) -> bool {
        if !self.reserve(1) {
            return false;
        }
        match &mut self.which {
            Which::Uring(_) => match Uring::unparker(inbox) {
                Some(poll) => self.submit(poll),
                None => return false,
            },
            Which::Sim(sim) => sim.park_in(inbox),
            Which::Retired(_) => {}
        }
        true
    }

    /// A descriptor that becomes readable when an enter would do something.
    pub(crate) fn event_fd(&mut self) -> io::Result<Arc<OwnedFd>> {
        each!(&mut self.which, driver => driver.event_fd())
    }

    /// Takes back the readability of the event descriptor, or makes it readable.
    pub(crate) fn signal_event_fd(&mut self, readable: bool) {
        each!(&mut self.which, driver => driver.signal_event_fd(readable))
    }

    /// Has buffers for `group` chosen from `ring`, which lives until the driver is retired, and used up
    /// piece by piece if that is wanted. Gives whether they are.
    ///
    /// # Errors
    /// If there are no provided buffers here.
    pub(crate) fn register_buf_ring(
        &mut self,
        group: u16,
        ring: &BufRing,
        piecewise: bool,
    ) -> io::Result<bool> {
        each!(&mut self.which, driver => driver.register_buf_ring(group, ring, piecewise))
    }

    pub(crate) fn supports(&self, opcode: u8) -> bool {
        each!(&self.which, driver => driver.supports(opcode))
    }

    /// The ring's descriptor, held for others who send messages to it (R14).
    pub(crate) fn ring_fd(&self) -> Option<Arc<OwnedFd>> {
        match &self.which {
            Which::Uring(uring) => uring.ring_fd(),
            Which::Sim(_) | Which::Retired(_) => None,
        }
    }

    pub(crate) const fn kind(&self) -> DriverKind {
        match &self.which {
            Which::Uring(_) => DriverKind::Uring,
            Which::Sim(_) => DriverKind::Sim,
            Which::Retired(retired) => retired.kind,
        }
    }

    /// What the ring was set up with.
    pub(crate) const fn features(&self) -> Option<Features> {
        match &self.which {
            Which::Uring(uring) => Some(uring.features()),
            Which::Sim(_) | Which::Retired(_) => None,
        }
    }

    /// Closes the ring. What remains tells the time at which that was.
    pub(crate) fn retire(&mut self) {
        let retired = Retired {
            kind: self.kind(),
            now: self.now(),
            stats: self.stats(),
        };
        // The ring goes first: what is queued may point into the queue's scratch.
        self.which = Which::Retired(retired);
        self.queue = Queue::closed();
    }

    pub(crate) fn stats(&self) -> DriverStats {
        each!(&self.which, driver => driver.stats())
    }
}

/// What is left of a driver whose runtime has ended: takes nothing, brings nothing.
pub(crate) struct Retired {
    kind: DriverKind,
    now: Instant,
    stats: DriverStats,
}

impl Retired {
    const fn hand_over(&self, _: &mut Queue) {}

    const fn enter(&self, _: &mut Queue, _: Wait) -> io::Result<()> {
        Ok(())
    }

    const fn has_more(&self) -> bool {
        false
    }

    const fn reap(&self, _: &mut Vec<Completion>) {}

    const fn now(&self) -> Instant {
        self.now
    }

    fn event_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "the runtime has ended",
        ))
    }

    const fn signal_event_fd(&self, _: bool) {}

    const fn take_lost(&self) -> bool {
        false
    }

    fn register_buf_ring(&self, _: u16, _: &BufRing, _: bool) -> io::Result<bool> {
        self.event_fd().map(|_| false)
    }

    const fn supports(&self, _: u8) -> bool {
        false
    }

    const fn stats(&self) -> DriverStats {
        self.stats
    }
}
