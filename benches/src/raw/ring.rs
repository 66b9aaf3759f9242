//! A ring for one thread, and one `enter` per turn of its loop.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::types::{self, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, squeue};

/// Entries of the submission queue; more only push each other out of the cache.
const SUBMISSIONS: u32 = 1024;

/// Entries of the completion queue. It also sizes the kernel's table of cancellable requests.
const COMPLETIONS: u32 = 8192;

/// Places of a table of direct descriptors, where the process may have more open.
const FILES_MAX: u64 = 1 << 16;

/// Looks at the ring between two looks at the clock.
const SPINS: u32 = 256;

/// Sets up a ring for the calling thread.
///
/// # Errors
///
/// What `io_uring_setup` answers; the loops need Linux 6.1.
pub fn ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .setup_clamp()
        .dontfork();
    let plain = builder.clone();
    match builder.setup_no_sqarray().build(SUBMISSIONS) {
        // Kernels before 6.6 do not know a queue without an index array.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => plain.build(SUBMISSIONS),
        answer => answer,
    }
}

/// The parts of a ring, kept borrowed for as long as its loop runs.
///
/// The crate's registered descriptor lives in the `Submitter` value, so that value is kept too:
/// `IoUring::submit` would make a new one and pay for the descriptor's look-up in every enter.
pub struct Turns<'ring> {
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    completions: CompletionQueue<'ring>,
    flags: u32,
}

impl<'ring> Turns<'ring> {
    /// Takes `ring` apart and registers its descriptor with the calling thread.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the thread has 16 registered rings already.
    pub fn new(ring: &'ring mut IoUring) -> io::Result<Turns<'ring>> {
        let mut flags = EnterFlags::GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let (mut submitter, submissions, completions) = ring.split();
        submitter.register_ring_fd()?;
        Ok(Turns {
            submitter,
            submissions,
            completions,
            flags: flags.bits(),
        })
    }

    /// The ring's register calls.
    pub fn submitter(&self) -> &Submitter<'ring> {
        &self.submitter
    }

    /// Makes a table of direct descriptors, with a place for every descriptor there can be.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one already.
    pub fn table_files(&self) -> io::Result<()> {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` is a valid rlimit for the kernel to fill.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let places = limit.rlim_cur.min(FILES_MAX);
        self.submitter
            .register_files_sparse(u32::try_from(places).map_err(io::Error::other)?)
    }

    /// Puts a descriptor in the table's place of the same number, so that a request for it does
    /// not take and drop a reference, which is an atomic operation each in a process with threads.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the table.
    pub fn fix(&self, fd: RawFd) -> io::Result<types::Fixed> {
        let place = u32::try_from(fd).map_err(io::Error::other)?;
        self.submitter.register_files_update(place, &[fd])?;
        Ok(types::Fixed(place))
    }

    /// Empties the place of a descriptor that is about to be closed; it stays open until then.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the table.
    pub fn unfix(&self, fd: RawFd) -> io::Result<()> {
        let place = u32::try_from(fd).map_err(io::Error::other)?;
        self.submitter.register_files_update(place, &[-1]).map(drop)
    }

    /// Queues one entry for the next turn; makes room first if the queue is full.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter` answers when room has to be made.
    ///
    /// # Safety
    ///
    /// What the entry points to lives until its last completion has been reaped.
    #[inline]
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: this function's own contract.
        unsafe { self.push_chain(std::slice::from_ref(entry)) }
    }

    /// Queues entries that are linked, which must reach the kernel in the same enter.
    ///
    /// # Errors
    ///
    /// As [`Turns::push`].
    ///
    /// # Safety
    ///
    /// As [`Turns::push`], for each entry.
    #[inline]
    pub unsafe fn push_chain(&mut self, entries: &[squeue::Entry]) -> io::Result<()> {
        if self.submissions.capacity() - self.submissions.len() < entries.len() {
            self.flush()?;
        }
        // SAFETY: the caller vouches for what the entries point to.
        unsafe { self.submissions.push_multiple(entries) }.map_err(io::Error::other)
    }

    /// Submits what is queued and waits until `want` completions can be reaped, in one enter.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter` answers; an interruption counts as no completions.
    #[inline]
    pub fn turn(&mut self, want: u32) -> io::Result<()> {
        self.enter(want, self.flags, None)
    }

    /// As [`Turns::turn`], but false if none has completed after `limit`.
    ///
    /// # Errors
    ///
    /// As [`Turns::turn`].
    #[inline]
    pub fn turn_within(&mut self, want: u32, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::from(limit);
        let arguments = SubmitArgs::new().timespec(&limit);
        let flags = self.flags | EnterFlags::EXT_ARG.bits();
        match self.enter(want, flags, Some(&arguments)) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(false),
            answer => answer.map(|()| true),
        }
    }

    /// As [`Turns::turn`], but content with one completion after `limit`, in one enter (Linux 6.12).
    ///
    /// # Errors
    ///
    /// As [`Turns::turn`].
    #[inline]
    pub fn turn_patiently(&mut self, want: u32, limit: Duration) -> io::Result<()> {
        let micros = u32::try_from(limit.as_micros()).map_err(io::Error::other)?;
        let arguments = SubmitArgs::new().min_wait_usec(micros);
        let flags = self.flags | EnterFlags::EXT_ARG.bits();
        match self.enter(want, flags, Some(&arguments)) {
            // Nothing came meanwhile: now it sleeps for as long as that takes.
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => self.turn(1),
            answer => answer,
        }
    }

    /// As [`Turns::turn`] for one completion, but spins instead of sleeping; false after `limit`.
    ///
    /// A peer that wakes a sleeping thread on another core pays for the interrupt, which is most
    /// of a message's cost in a virtual machine. A spinning client leaves the server its own cost.
    ///
    /// # Errors
    ///
    /// As [`Turns::turn`].
    #[inline]
    pub fn turn_spinning(&mut self, limit: Duration) -> io::Result<bool> {
        self.turn(0)?;
        if !self.completions.is_empty() {
            return Ok(true);
        }
        let began = Instant::now();
        loop {
            for _ in 0..SPINS {
                // The kernel raises the flag when it has completions to post to this thread.
                if self.submissions.taskrun() {
                    self.turn(0)?;
                    if !self.completions.is_empty() {
                        return Ok(true);
                    }
                }
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
        }
    }

    /// The next completion that is there already.
    #[inline]
    pub fn reap(&mut self) -> Option<cqueue::Entry> {
        self.completions.next()
    }

    #[cold]
    fn flush(&mut self) -> io::Result<()> {
        self.enter(0, 0, None)
    }

    #[inline]
    fn enter(
        &mut self,
        want: u32,
        flags: u32,
        arguments: Option<&SubmitArgs<'_, '_>>,
    ) -> io::Result<()> {
        self.submissions.sync();
        self.completions.sync();
        let queued = u32::try_from(self.submissions.len()).map_err(io::Error::other)?;
        // SAFETY: the entries were vouched for when they were pushed, and `arguments` with the
        // timespec behind it outlives the call.
        let answer = unsafe { self.submitter.enter(queued, want, flags, arguments) };
        self.submissions.sync();
        self.completions.sync();
        match answer {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Turns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("queued", &self.submissions.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use io_uring::opcode;

    use super::{SUBMISSIONS, Turns, ring};

    #[test]
    fn more_entries_than_the_queue_holds_are_all_completed() {
        let mut ring = ring().expect("io_uring");
        let mut turns = Turns::new(&mut ring).expect("a registered ring");
        let count = SUBMISSIONS * 2 + 1;
        for _ in 0..count {
            // SAFETY: a nop points to nothing.
            unsafe { turns.push(&opcode::Nop::new().build()) }.expect("room");
        }
        turns.turn(count).expect("enter");
        assert_eq!(std::iter::from_fn(|| turns.reap()).count(), count as usize);
    }
}
