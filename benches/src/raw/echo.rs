//! TCP echo with one-shot receives, one buffer per connection.
//!
//! The road of a message: receive completes → the same bytes are sent → the next receive is armed.
//! Three loops: what a runtime can be compared with, which sends the same requests; the same with
//! what a program can do besides that knows its sockets; and one that knows what comes after a
//! write as well.

use std::collections::HashMap;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::{Turns, ring};
use crate::servers::buffer_bytes;

/// Arms the next receive once the send has completed, as a runtime does whose reads and writes
/// are separate awaits.
///
/// With one connection that is two enters per message: a send completes within the enter that
/// submits it and satisfies its wait.
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn one_shot(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    Echo::<false, false>::serve(&listener, stop)
}

/// The same over direct descriptors, and after a receive that emptied the socket the next one
/// waits first (POLL_FIRST).
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn direct(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    Echo::<true, false>::serve(&listener, stop)
}

/// [`direct`], and links the next receive behind the send, whose completion is then not posted: one enter and one
/// completion per message, for a program that knows what it does after its write.
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn linked(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    Echo::<true, true>::serve(&listener, stop)
}

pub(super) const ACCEPT: u64 = u64::MAX;
const SEND: u64 = 1 << 32;
/// The receive before this send left nothing in the socket.
const EMPTIED: u64 = 1 << 33;

/// IORING_RECVSEND_POLL_FIRST: wait for the socket before looking at it.
const POLL_FIRST: u16 = 1;

struct Echo<'turns, 'ring, const DIRECT: bool, const LINKED: bool> {
    turns: &'turns mut Turns<'ring>,
    connections: HashMap<RawFd, TcpStream>,
    /// By descriptor, which the kernel keeps small. Buffers stay for the next connection.
    buffers: ManuallyDrop<Vec<Box<[u8]>>>,
    buffer_bytes: usize,
}

impl<const DIRECT: bool, const LINKED: bool> Echo<'_, '_, DIRECT, LINKED> {
    fn serve(listener: &TcpListener, stop: &AtomicBool) -> io::Result<()> {
        let mut ring = ring()?;
        let mut turns = Turns::new(&mut ring)?;
        if DIRECT {
            turns.table_files()?;
        }
        accept(&mut turns, listener)?;
        let mut echo: Echo<'_, '_, DIRECT, LINKED> = Echo {
            turns: &mut turns,
            connections: HashMap::new(),
            buffers: ManuallyDrop::default(),
            buffer_bytes: buffer_bytes(),
        };
        let outcome = echo.run(stop);
        // Every receive ends when its connection is shut down, so that the buffers can go.
        for connection in echo.connections.values() {
            connection.shutdown(Shutdown::Both).ok();
        }
        while !echo.connections.is_empty() {
            echo.turns.turn(1)?;
            while let Some(completion) = echo.turns.reap() {
                if completion.user_data() != ACCEPT {
                    echo.moved(&completion)?;
                }
            }
        }
        outcome
    }

    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        loop {
            self.turns.turn(1)?;
            while let Some(completion) = self.turns.reap() {
                if completion.user_data() != ACCEPT {
                    self.moved(&completion)?;
                    continue;
                }
                let stream = accepted(&completion)?;
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.opened(stream)?;
            }
        }
    }

    fn opened(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let fd = stream.as_raw_fd();
        while self.buffers.len() <= fd as usize {
            self.buffers.push(vec![0; self.buffer_bytes].into());
        }
        self.connections.insert(fd, stream);
        if DIRECT {
            self.turns.fix(fd)?;
        }
        let receive = self.receive(fd, 0);
        // SAFETY: the buffer of `fd` is on the heap, and `Drop` leaks it while a connection is
        // left.
        unsafe { self.turns.push(&receive) }
    }

    /// A receive or a send has completed.
    #[inline]
    fn moved(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let token = completion.user_data();
        let fd = token as u32 as RawFd;
        let result = completion.result();
        if token & SEND != 0 {
            if LINKED {
                // Posted for a failure only, and the receive behind it is cancelled with it.
                return Ok(());
            }
            if result > 0 {
                let receive = self.receive(fd, token & EMPTIED);
                // SAFETY: as in `opened`.
                return unsafe { self.turns.push(&receive) };
            }
        } else if result > 0 {
            let emptied = if cqueue::sock_nonempty(completion.flags()) {
                0
            } else {
                EMPTIED
            };
            let send = self.send(fd, result as u32, emptied);
            if LINKED {
                let send = send.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
                let chain = [send, self.receive(fd, emptied)];
                // SAFETY: as in `opened`; the receive waits for the send to be done with the
                // buffer that they share.
                return unsafe { self.turns.push_chain(&chain) };
            }
            // SAFETY: as in `opened`.
            return unsafe { self.turns.push(&send) };
        }
        if DIRECT {
            self.turns.unfix(fd)?;
        }
        self.connections.remove(&fd);
        Ok(())
    }

    /// With `EMPTIED`, a first look at the socket would be futile and is left out.
    #[inline]
    fn receive(&mut self, fd: RawFd, emptied: u64) -> Entry {
        let buffer = self.buffers[fd as usize].as_mut_ptr();
        let length = self.buffer_bytes as u32;
        let receive = if DIRECT {
            let how = if emptied == 0 { 0 } else { POLL_FIRST };
            opcode::Recv::new(types::Fixed(fd as u32), buffer, length).ioprio(how)
        } else {
            opcode::Recv::new(types::Fd(fd), buffer, length)
        };
        receive.build().user_data(fd as u64)
    }

    #[inline]
    fn send(&self, fd: RawFd, length: u32, emptied: u64) -> Entry {
        let buffer = self.buffers[fd as usize].as_ptr();
        let send = if DIRECT {
            opcode::Send::new(types::Fixed(fd as u32), buffer, length)
        } else {
            opcode::Send::new(types::Fd(fd), buffer, length)
        };
        send.flags(libc::MSG_WAITALL)
            .build()
            .user_data(fd as u64 | SEND | emptied)
    }
}

impl<const DIRECT: bool, const LINKED: bool> Drop for Echo<'_, '_, DIRECT, LINKED> {
    fn drop(&mut self) {
        // A connection is forgotten with its last completion; before that the kernel may write.
        if self.connections.is_empty() {
            // SAFETY: dropped here only.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}

/// Arms one accept for all connections.
pub(super) fn accept(turns: &mut Turns<'_>, listener: &TcpListener) -> io::Result<()> {
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
        .flags(libc::SOCK_CLOEXEC)
        .build()
        .user_data(ACCEPT);
    // SAFETY: a multishot accept takes no address, so it points to nothing.
    unsafe { turns.push(&accept) }
}

/// The connection that an accept has produced.
pub(super) fn accepted(completion: &cqueue::Entry) -> io::Result<TcpStream> {
    let result = completion.result();
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the accept has just made this descriptor, and nothing else owns it.
    let stream = unsafe { TcpStream::from_raw_fd(result) };
    if !cqueue::more(completion.flags()) {
        return Err(io::Error::other("the accept has ended"));
    }
    Ok(stream)
}
