//! Much at once, over one connection.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;

use io_uring::{cqueue, opcode, types};

use super::Turns;
use super::buffers::Buffers;

/// A loop for bulk; one at a time for a ring, since it registers its buffers.
pub struct Bulk<'turns, 'ring> {
    turns: &'turns mut Turns<'ring>,
    buffers: ManuallyDrop<Buffers>,
    armed: bool,
}

impl<'turns, 'ring> Bulk<'turns, 'ring> {
    /// With the buffers that [`receive_multishot`](Self::receive_multishot) has the kernel use.
    ///
    /// # Errors
    ///
    /// What the ring answers.
    pub fn new(turns: &'turns mut Turns<'ring>) -> io::Result<Self> {
        let buffers = ManuallyDrop::new(Buffers::register(turns)?);
        Ok(Bulk {
            turns,
            buffers,
            armed: false,
        })
    }

    /// Receives into `buf` until the end, one receive after the other. Gives how much.
    ///
    /// # Errors
    ///
    /// What the ring or the socket answers.
    pub fn receive(&mut self, fd: RawFd, buf: &mut [u8]) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let length = u32::try_from(buf.len()).map_err(io::Error::other)?;
            let receive = opcode::Recv::new(types::Fd(fd), buf.as_mut_ptr(), length).build();
            // SAFETY: nothing else touches the buffer, and `one` waits for the receive.
            let received = unsafe { self.one(&receive) }?;
            if received == 0 {
                return Ok(total);
            }
            total += received;
        }
    }

    /// Receives into buffers of 16 KiB until the end, by a receive that stays armed. It ends, and is
    /// armed again, when 256 KiB have come at once: more buffers would push each other out of the
    /// cache.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_multishot(&mut self, fd: RawFd) -> io::Result<u64> {
        let mut total = 0;
        loop {
            if !self.armed {
                let receive = opcode::RecvMulti::new(types::Fd(fd), Buffers::GROUP).build();
                // SAFETY: it names a group of buffers, which `Drop` leaks while it is armed.
                unsafe { self.turns.push(&receive) }?;
                self.armed = true;
            }
            self.turns.turn(1)?;
            while let Some(completion) = self.turns.reap() {
                let result = completion.result();
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    self.buffers.give_back(buffer);
                }
                self.armed = cqueue::more(completion.flags());
                match result {
                    0 => return Ok(total),
                    _ if result > 0 => total += result as u64,
                    _ if result == -libc::ENOBUFS => {}
                    _ => return Err(io::Error::from_raw_os_error(-result)),
                }
            }
        }
    }

    /// Sends `buf`, `times` times, one send after the other.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn send(&mut self, fd: RawFd, buf: &[u8], times: u64) -> io::Result<()> {
        let length = u32::try_from(buf.len()).map_err(io::Error::other)?;
        for _ in 0..times {
            let send = opcode::Send::new(types::Fd(fd), buf.as_ptr(), length)
                .flags(libc::MSG_WAITALL)
                .build();
            // SAFETY: the buffer outlives this call, and `one` waits for the send.
            if unsafe { self.one(&send) }? < u64::from(length) {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// The result of one request, once it is there.
    ///
    /// # Safety
    ///
    /// What the request points to lives until then.
    unsafe fn one(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<u64> {
        // SAFETY: this function's own contract: it returns with the completion, or not at all.
        unsafe { self.turns.push(entry) }?;
        loop {
            self.turns
                .turn(1)
                .expect("a ring that has worked goes on: its request is in flight");
            if let Some(completion) = self.turns.reap() {
                let result = completion.result();
                return u64::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            }
        }
    }
}

impl fmt::Debug for Bulk<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

impl Drop for Bulk<'_, '_> {
    fn drop(&mut self) {
        let unregistered = self.turns.submitter().unregister_buf_ring(Buffers::GROUP);
        if unregistered.is_ok() && !self.armed {
            // SAFETY: dropped here only; the kernel knows them no more.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::thread;

    use super::Bulk;
    use crate::raw::{Turns, ring};

    const BYTES: usize = 1 << 20;

    #[test]
    fn all_that_was_sent_is_received() {
        let mut ring = ring().expect("io_uring");
        let mut turns = Turns::new(&mut ring).expect("a registered ring");
        let mut bulk = Bulk::new(&mut turns).expect("buffers");
        for multishot in [false, true, true] {
            let (from, mut writer) = crate::pair().expect("a connection");
            let writer = thread::spawn(move || writer.write_all(&vec![7; BYTES]));
            let received = if multishot {
                bulk.receive_multishot(from.as_raw_fd())
            } else {
                bulk.receive(from.as_raw_fd(), &mut [0; 5_000])
            };
            assert_eq!(received.expect("all of it"), BYTES as u64);
            writer.join().expect("no panic").expect("a write");
        }
        let (to, mut reader) = crate::pair().expect("a connection");
        let reader = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        bulk.send(to.as_raw_fd(), &[7; 5_000], 1_000)
            .expect("a send");
        drop(to);
        assert_eq!(reader.join().expect("no panic").expect("a read"), 5_000_000);
    }
}
