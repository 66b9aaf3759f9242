//! The io_uring driver: a request is an SQE, a CQE is a completion.
//!
//! It owns the ring, its scratch and its event descriptor; it knows nothing of slots or tasks.
//! The ring is made on the thread that uses it (SINGLE_ISSUER) and runs completions when that
//! thread enters it (DEFER_TASKRUN): so nothing happens behind its back, and one enter a turn
//! submits, waits and fetches.
//!
//! # Divergence from io_uring
//!
//! None.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, Probe, squeue};

use super::queue::Queue;
use super::unavailable::{Reason, Unavailable};
use super::{Completion, DriverStats, Request, Wait, opcode, sys};
use crate::Instant;
use crate::inbox::{Inbox, new_event_fd, read_event_fd, write_event_fd};
use crate::op::{Control, Token};
use crate::pool::BufRing;

/// `IORING_POLL_ADD_MULTI`, in `len` of a POLL_ADD.
const POLL_ADD_MULTI: u32 = 1 << 0;

/// Below this a ring is not worth having: then the error is given (R: halved on ENOMEM).
const SQ_ENTRIES_MIN: u32 = 8;

/// In a hundred years and more: the kernel takes what is beyond its own clock for no time at all.
const LATEST: Instant = Instant::from_nanos(1 << 62);

/// Opcodes without which coring does not work.
const NEEDED: [u8; 7] = [
    opcode::NOP,
    opcode::POLL_ADD,
    opcode::TIMEOUT,
    opcode::TIMEOUT_REMOVE,
    opcode::LINK_TIMEOUT,
    opcode::ASYNC_CANCEL,
    opcode::MSG_RING,
];

/// Flags that a ring was set up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetupFlags {
    /// IORING_SETUP_NO_SQARRAY. Since Linux 6.6.
    pub no_sqarray: bool,
}

/// What a ring offers beyond what coring cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Flags at set-up.
    pub setup: SetupFlags,
    /// The ring's descriptor is registered with its thread. Since Linux 5.18.
    pub registered_ring: bool,
    /// Waits take absolute times. Since Linux 6.12.
    pub abs_timer: bool,
    /// A sleeping ring does not count as waiting for I/O. Since Linux 6.15.
    pub no_iowait: bool,
    /// A sleeping ring waits for company, as [`Builder::min_wait`](crate::Builder::min_wait) says. Since
    /// Linux 6.12.
    pub min_wait: bool,
    /// Entries of the submission queue.
    pub sq_entries: u32,
    /// Entries of the completion queue.
    pub cq_entries: u32,
}

/// What a ring is made to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) no_iowait: bool,
    /// Completions that a sleep waits for, and for how long at the most.
    pub(crate) min_wait: Option<(u32, Duration)>,
}

pub(crate) struct Uring {
    ring: IoUring,
    probe: Probe,
    features: Features,
    /// What enters name the ring by: its registered index, or its descriptor.
    enter_fd: RawFd,
    enter_flags: u32,
    min_wait: Option<(u32, Duration)>,
    /// Signalled by the kernel on each completion; there once it is asked for.
    event_fd: Option<Arc<OwnedFd>>,
    /// A second descriptor of the ring, for those who send messages to it.
    shared_fd: Option<Arc<OwnedFd>>,
    /// Completions that the kernel had no memory to keep, as of the last look.
    dropped: u32,
    stats: DriverStats,
}

impl Uring {
    pub(crate) fn new(config: Config) -> Result<Self, Unavailable> {
        let (ring, setup) = set_up(config)?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(Unavailable::of_setup)?;
        if let Some(missing) = NEEDED.into_iter().find(|&op| !probe.is_supported(op)) {
            return Err(Unavailable::new(
                libc::EINVAL,
                Reason::MissingOpcode(missing),
            ));
        }
        let fd = ring.as_raw_fd();
        let params = ring.params();
        let mut enter_flags = 0;
        let registered = sys::register_ring_fd(fd).ok();
        if registered.is_some() {
            enter_flags |= sys::ENTER_REGISTERED_RING;
        }
        let abs_timer = sys::register_clock_monotonic(fd).is_ok();
        let no_iowait = config.no_iowait && params.is_feature_no_iowait();
        if no_iowait {
            enter_flags |= sys::ENTER_NO_IOWAIT;
        }
        let min_wait = config
            .min_wait
            .filter(|_| abs_timer && params.is_feature_min_timeout());
        let features = Features {
            setup,
            registered_ring: registered.is_some(),
            abs_timer,
            no_iowait,
            min_wait: min_wait.is_some(),
            sq_entries: params.sq_entries(),
            cq_entries: params.cq_entries(),
        };
        // SAFETY: the ring's descriptor is open while `ring` lives, which is longer.
        let shared_fd = unsafe { BorrowedFd::borrow_raw(fd) }
            .try_clone_to_owned()
            .ok();
        let uring = Self {
            enter_fd: registered.map_or(fd, |index| index as RawFd),
            enter_flags,
            min_wait,
            event_fd: None,
            shared_fd: shared_fd.map(Arc::new),
            dropped: 0,
            stats: DriverStats::default(),
            ring,
            probe,
            features,
        };
        // What may set up a ring may yet be forbidden to enter it.
        sys::enter(uring.enter_fd, 0, 0, uring.enter_flags, None, 0)
            .map_err(Unavailable::of_setup)?;
        Ok(uring)
    }

    pub(crate) const fn features(&self) -> Features {
        self.features
    }

    /// Submits what is queued, and no more: what completes stays where it is until the turn
    /// fetches it.
    pub(super) fn hand_over(&mut self, queue: &mut Queue) {
        let to_submit = self.push(queue);
        self.stats.enters += 1;
        let _ = sys::enter(self.enter_fd, to_submit, 0, self.enter_flags, None, 0);
        queue.set_lent(self.unsubmitted());
    }

    /// Copies what is queued to the ring's own queue, unless the kernel has left something there:
    /// so it has room, and no chain is split between two enters. Gives what there is to submit.
    fn push(&mut self, queue: &mut Queue) -> u32 {
        if queue.lent() == 0 {
            let mut sq = self.ring.submission();
            for request in queue.requests() {
                let entry = ptr::from_ref(request).cast::<squeue::Entry>();
                // SAFETY: both are 64 plain bytes in the layout of `struct io_uring_sqe`, equally
                // aligned (asserted).
                let entry = unsafe { &*entry };
                // SAFETY: what the entry points at stays valid until its completion: memory of a
                // payload that its slot or its future keeps (R1), or scratch until it is taken.
                let pushed = unsafe { sq.push(entry) };
                assert!(pushed.is_ok(), "R3: a queue with more places than the ring");
            }
            queue.lend_all();
        }
        queue.lent() as u32
    }

    pub(super) fn enter(&mut self, queue: &mut Queue, wait: Wait) -> io::Result<()> {
        if queue.lent() > 0 {
            self.hand_over(queue); // What the kernel did not take goes first.
        }
        let to_submit = self.push(queue);
        // Not asleep on what could not be handed over.
        let wait = if queue.requests().is_empty() {
            wait
        } else {
            Wait::No
        };
        let flags = self.enter_flags | sys::ENTER_GETEVENTS;
        self.stats.enters += 1;
        let entered = match wait {
            Wait::No => sys::enter(self.enter_fd, to_submit, 0, flags, None, 0),
            Wait::Until(until) => self.sleep(to_submit, flags, until),
        };
        queue.set_lent(self.unsubmitted());
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error().unwrap_or(0) {
                // Time is up; a signal; no memory for requests, or completions to be taken first.
                // Entries that were not taken are still queued (R3): the next turn submits them.
                libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY => Ok(()),
                // The kernel had no memory to keep a completion: counted as an overflow is.
                libc::EBADR => {
                    self.stats.overflows += 1;
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// An enter that waits: for one completion, or for several if they come soon.
    fn sleep(&self, to_submit: u32, flags: u32, until: Instant) -> io::Result<u32> {
        let enter = |want, flags, until: Option<Instant>, micros| {
            let until = until.map(Instant::timespec);
            sys::enter(
                self.enter_fd,
                to_submit,
                want,
                flags,
                until.as_ref(),
                micros,
            )
        };
        let by_clock = flags | sys::ENTER_ABS_TIMER;
        if let Some((completions, time)) = self.min_wait {
            let time = if until == Instant::FAR_FUTURE {
                time
            } else {
                time.min(until - self.now()) // A deadline is not late by this.
            };
            let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            let want = if micros == 0 { 1 } else { completions };
            // Without a time to wait until the kernel returns after `micros`, with nothing (M).
            return enter(want, by_clock, Some(until.min(LATEST)), micros);
        }
        if until == Instant::FAR_FUTURE {
            enter(1, flags, None, 0)
        } else if self.features.abs_timer {
            enter(1, by_clock, Some(until), 0)
        } else {
            let span = Instant::ZERO + (until - self.now());
            enter(1, flags, Some(span), 0)
        }
    }

    pub(super) fn take_lost(&mut self) -> bool {
        // An enter says so with EBADR as well, but later, if it has something else to say.
        let dropped = self.ring.completion().overflow();
        std::mem::replace(&mut self.dropped, dropped) != dropped
    }

    pub(super) fn has_overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    pub(super) fn has_more(&mut self) -> bool {
        let sq = self.ring.submission();
        sq.taskrun() || sq.cq_overflow()
    }

    pub(super) fn reap(&mut self, batch: &mut Vec<Completion>) {
        if self.ring.submission().cq_overflow() {
            self.stats.overflows += 1;
        }
        batch.extend(self.ring.completion().map(|cqe| Completion {
            token: Token::from_user_data(cqe.user_data()),
            res: cqe.result(),
            flags: cqe.flags(),
        }));
    }

    #[expect(
        clippy::unused_self,
        reason = "the seam's form: other drivers have clocks of their own"
    )]
    pub(super) fn now(&self) -> Instant {
        let mut ts = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `ts` is writable. This clock exists, so the call does not fail.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
        Instant::from_nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
    }

    /// The poll by which `inbox` wakes the ring from its sleep. `None`: for want of a descriptor.
    pub(super) fn unparker(inbox: &'static Inbox) -> Option<Request> {
        let fd = inbox.event_fd().ok()?;
        // Multishot, and never read: each write is an edge (M).
        let poll = Request::new(opcode::POLL_ADD, fd.as_raw_fd())
            .op_flags(libc::POLLIN as u32)
            .len(POLL_ADD_MULTI)
            .with_token(Token::control(Control::Unparker, 0));
        Some(poll)
    }

    pub(super) fn event_fd(&mut self) -> io::Result<Arc<OwnedFd>> {
        if let Some(fd) = &self.event_fd {
            return Ok(fd.clone());
        }
        // Not the inbox's: the ring polls that one, and would hear its own completions. Not the
        // ring's: epoll on a DEFER_TASKRUN ring loses wake-ups (M). Not EVENTFD_ASYNC: it never
        // signals here (M).
        let fd = new_event_fd()?;
        sys::register_eventfd(self.ring.as_raw_fd(), fd.as_raw_fd())?;
        Ok(self.event_fd.insert(Arc::new(fd)).clone())
    }

    pub(super) fn signal_event_fd(&mut self, readable: bool) {
        match &self.event_fd {
            Some(fd) if readable => write_event_fd(fd),
            Some(fd) => read_event_fd(fd),
            None => {}
        }
    }

    pub(super) fn supports(&self, opcode: u8) -> bool {
        self.probe.is_supported(opcode)
    }

    pub(super) fn register_buf_ring(
        &mut self,
        group: u16,
        ring: &BufRing,
        piecewise: bool,
    ) -> io::Result<bool> {
        let fd = self.ring.as_raw_fd();
        let register = |incremental| {
            sys::register_buf_ring(fd, ring.entries(), ring.places(), group, incremental)
        };
        match register(piecewise) {
            Err(error) if piecewise && error.raw_os_error() == Some(libc::EINVAL) => {
                register(false).map(|_| false)
            }
            registered => registered.map(|_| piecewise),
        }
    }

    pub(super) fn ring_fd(&self) -> Option<Arc<OwnedFd>> {
        self.shared_fd.clone()
    }

    pub(super) const fn stats(&self) -> DriverStats {
        self.stats
    }

    fn unsubmitted(&mut self) -> usize {
        self.ring.submission().len()
    }
}

const _: () = assert!(size_of::<Request>() == size_of::<squeue::Entry>());
const _: () = assert!(align_of::<Request>() == align_of::<squeue::Entry>());

impl Drop for Uring {
    fn drop(&mut self) {
        if self.features.registered_ring {
            // There are 16 places per thread: one that is not given back is gone.
            let fd = self.ring.as_raw_fd();
            let _ = sys::unregister_ring_fd(fd, self.enter_fd as u32);
        }
    }
}

/// Tries flags, then sizes: what is refused is dropped, one at a time.
fn set_up(config: Config) -> Result<(IoUring, SetupFlags), Unavailable> {
    // The kernel wants no fewer completions than submissions.
    let sq_entries = config.sq_entries;
    let (mut sq_entries, mut cq_entries) = (sq_entries, config.cq_entries.max(sq_entries));
    let mut flags = SetupFlags { no_sqarray: true };
    loop {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(cq_entries)
            .dontfork();
        if flags.no_sqarray {
            builder.setup_no_sqarray();
        }
        let error = match builder.build(sq_entries) {
            Ok(ring) => return Ok((ring, flags)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) if flags.no_sqarray => flags.no_sqarray = false,
            Some(libc::ENOMEM) if sq_entries > SQ_ENTRIES_MIN => {
                sq_entries /= 2;
                cq_entries = (cq_entries / 2).max(sq_entries * 2);
            }
            _ => return Err(Unavailable::of_setup(error)),
        }
    }
}
