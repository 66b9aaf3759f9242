//! A receive, with and without a timeout that does not fire.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Timespec};

use super::Turns;

/// Two ends of a socket, of which one receives what the other sends.
#[derive(Debug)]
pub struct Pair {
    receiver: UnixStream,
    sender: UnixStream,
    // Leaked if a run fails, for its receive may then still be armed.
    buffer: ManuallyDrop<Box<[u8; 64]>>,
    limit: Timespec,
    failed: bool,
}

const RECEIVE: u64 = 1;

impl Pair {
    /// A new pair, whose receives have a second to complete.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<Pair> {
        let (receiver, sender) = UnixStream::pair()?;
        let buffer = ManuallyDrop::new(Box::new([0; 64]));
        let limit = Timespec::from(Duration::from_secs(1));
        Ok(Pair {
            receiver,
            sender,
            buffer,
            limit,
            failed: false,
        })
    }

    /// Receives `operations` times.
    ///
    /// Each receive waits until its byte is sent in the same enter; with `ready` the byte was
    /// written before, by a call of its own. With `bounded` it has a LINK_TIMEOUT behind it, whose
    /// own completion is not posted.
    ///
    /// # Errors
    ///
    /// What the ring answers, or `ETIME` if a receive did not complete at once.
    pub fn run(
        &mut self,
        turns: &mut Turns<'_>,
        ready: bool,
        bounded: bool,
        operations: u64,
    ) -> io::Result<()> {
        let outcome = (0..operations).try_for_each(|_| self.once(turns, ready, bounded));
        self.failed = outcome.is_err();
        outcome
    }

    fn once(&mut self, turns: &mut Turns<'_>, ready: bool, bounded: bool) -> io::Result<()> {
        static BYTE: [u8; 1] = [7];
        let receive =
            opcode::Recv::new(Fd(self.receiver.as_raw_fd()), self.buffer.as_mut_ptr(), 64)
                .build()
                .user_data(RECEIVE);
        let send: Entry = opcode::Send::new(Fd(self.sender.as_raw_fd()), BYTE.as_ptr(), 1)
            .build()
            .flags(Flags::SKIP_SUCCESS);
        let limit = opcode::LinkTimeout::new(&raw const self.limit)
            .build()
            .flags(Flags::SKIP_SUCCESS);
        let linked = receive.clone().flags(Flags::IO_LINK);
        let chain: &[Entry] = match (ready, bounded) {
            (false, false) => &[receive, send],
            (false, true) => &[linked, limit, send],
            (true, false) => &[receive],
            (true, true) => &[linked, limit],
        };
        if ready {
            self.sender.write_all(&BYTE)?;
        }
        // SAFETY: the buffer is dropped only after each receive has completed, the timespec is
        // read in this enter, and the byte is static.
        unsafe { turns.push_chain(chain) }?;
        turns.turn(1)?;
        match turns.reap() {
            Some(done) if done.user_data() == RECEIVE && done.result() == 1 => Ok(()),
            Some(done) => Err(io::Error::from_raw_os_error(-done.result())),
            None => Err(io::Error::from_raw_os_error(libc::ETIME)),
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.failed {
            // SAFETY: dropped here only, and no receive is armed.
            unsafe { ManuallyDrop::drop(&mut self.buffer) };
        }
    }
}
