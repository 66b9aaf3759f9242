//! TCP echo with one multishot receive per connection and one ring of buffers for all.
//!
//! A message costs one completion and, when alone, one enter. A send with `MSG_DONTWAIT` always
//! ends within the enter that submits it, and with `CQE_SKIP_SUCCESS` only a failure is posted. So
//! after a turn whose completions have all been reaped, a send of which nothing was heard is done.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::squeue::Flags;
use io_uring::{cqueue, opcode, types};

use super::buffers::Buffers;
use super::echo::{accept, accepted};
use super::{Turns, ring};

const ACCEPT: u64 = u64::MAX;
const SEND: u64 = 1 << 32;

/// Serves until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn serve(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    let mut ring = ring()?;
    let mut turns = Turns::new(&mut ring)?;
    let buffers = ManuallyDrop::new(Buffers::register(&turns)?);
    turns.table_files()?;
    accept(&mut turns, &listener)?;
    let mut echo = Echo {
        turns: &mut turns,
        buffers,
        connections: Vec::new(),
        open: 0,
        silent: Vec::new(),
        spare: Vec::new(),
        reaped: Vec::new(),
        behind: false,
    };
    let mut outcome = Ok(true);
    while let Ok(true) = outcome {
        outcome = echo.turn(stop);
    }
    for connection in echo.connections.iter().flatten() {
        connection.stream.shutdown(Shutdown::Both).ok();
    }
    while echo.open > 0 {
        echo.turn(stop)?;
    }
    outcome.map(drop)
}

struct Echo<'turns, 'ring> {
    turns: &'turns mut Turns<'ring>,
    buffers: ManuallyDrop<Buffers>,
    /// By descriptor, which the kernel keeps small.
    connections: Vec<Option<Connection>>,
    open: usize,
    /// Connections with a send in the next enter that will be heard of only if it fails.
    silent: Vec<RawFd>,
    /// These two are empty between turns and kept for their memory.
    spare: Vec<RawFd>,
    reaped: Vec<cqueue::Entry>,
    /// Something waits for a silent send, so that the next turn must not sleep.
    behind: bool,
}

struct Connection {
    stream: TcpStream,
    /// Received and not known to be sent. The first is being sent and the others wait for it, for
    /// two sends on a socket may overtake each other.
    pending: VecDeque<Piece>,
    /// The send in flight waits for the peer to read and will post its completion.
    blocked: bool,
    receiving: bool,
}

#[derive(Clone, Copy)]
struct Piece {
    buffer: u16,
    offset: usize,
    length: usize,
}

impl Echo<'_, '_> {
    /// One turn of the loop; false once it is told to stop.
    fn turn(&mut self, stop: &AtomicBool) -> io::Result<bool> {
        let spare = std::mem::take(&mut self.spare);
        let mut submitted = std::mem::replace(&mut self.silent, spare);
        let sleep = !std::mem::take(&mut self.behind);
        self.turns.turn(u32::from(sleep))?;
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(std::iter::from_fn(|| self.turns.reap()));
        // What failed is known before silence is taken for success, and what succeeded before a
        // receive is found to wait for it.
        for completion in &reaped {
            let token = completion.user_data();
            if token & SEND != 0 && token != ACCEPT {
                self.heard(token as u32 as RawFd, completion.result())?;
            }
        }
        for fd in submitted.drain(..) {
            self.settle(fd)?;
        }
        let mut proceed = true;
        for completion in reaped.drain(..) {
            let token = completion.user_data();
            if token == ACCEPT {
                let stream = accepted(&completion)?;
                if stop.load(Ordering::Acquire) {
                    proceed = false;
                } else {
                    self.opened(stream)?;
                }
            } else if token & SEND == 0 {
                self.received(token as RawFd, &completion)?;
            }
        }
        self.reaped = reaped;
        self.spare = submitted;
        Ok(proceed)
    }

    fn opened(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let fd = stream.as_raw_fd();
        let pending = VecDeque::with_capacity(4);
        let connection = Connection {
            stream,
            pending,
            blocked: false,
            receiving: true,
        };
        if self.connections.len() <= fd as usize {
            self.connections.resize_with(fd as usize + 1, || None);
        }
        self.connections[fd as usize] = Some(connection);
        self.open += 1;
        self.turns.fix(fd)?;
        self.receive(fd)
    }

    #[inline]
    fn received(&mut self, fd: RawFd, completion: &cqueue::Entry) -> io::Result<()> {
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        let Some(connection) = &mut self.connections[fd as usize] else {
            return Ok(());
        };
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            if result > 0 {
                let piece = Piece {
                    buffer,
                    offset: 0,
                    length: result as usize,
                };
                connection.pending.push_back(piece);
                if connection.pending.len() == 1 {
                    self.send_silently(fd, piece)?;
                } else {
                    self.behind = true;
                }
            } else {
                self.buffers.give_back(buffer);
            }
        }
        if more {
            return Ok(());
        }
        if result == -libc::ENOBUFS {
            self.buffers.publish_more();
        } else if result <= 0 {
            if let Some(connection) = &mut self.connections[fd as usize] {
                connection.receiving = false;
            }
            return self.close_if_idle(fd);
        }
        self.receive(fd)
    }

    /// A send was posted: a silent one has failed, or one that waits has ended.
    #[cold]
    fn heard(&mut self, fd: RawFd, result: i32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[fd as usize] else {
            return Ok(());
        };
        let Some(first) = connection.pending.front_mut() else {
            return Ok(());
        };
        let moved = if result == -libc::EAGAIN { 0 } else { result };
        if moved < 0 {
            connection.stream.shutdown(Shutdown::Both).ok();
            // The piece counts as sent; those behind it fail in turn.
            first.length = 0;
        } else {
            first.offset += moved as usize;
            first.length -= moved as usize;
        }
        let piece = *first;
        if piece.length == 0 {
            connection.blocked = false;
            return self.settle(fd);
        }
        connection.blocked = true;
        self.send(fd, piece, libc::MSG_WAITALL, Flags::empty())
    }

    /// The first piece is sent, unless it was heard to be blocked.
    #[inline]
    fn settle(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(connection) = &mut self.connections[fd as usize] else {
            return Ok(());
        };
        if connection.blocked {
            return Ok(());
        }
        let Some(sent) = connection.pending.pop_front() else {
            return Ok(());
        };
        self.buffers.give_back(sent.buffer);
        let next = connection.pending.front().copied();
        match next {
            Some(piece) => {
                self.behind |= connection.pending.len() > 1;
                self.send_silently(fd, piece)
            }
            None => self.close_if_idle(fd),
        }
    }

    /// Forgets a connection that has ended once no request of it is left.
    #[inline]
    fn close_if_idle(&mut self, fd: RawFd) -> io::Result<()> {
        let slot = &mut self.connections[fd as usize];
        if let Some(connection) = slot
            && !connection.receiving
            && connection.pending.is_empty()
        {
            self.turns.unfix(fd)?;
            *slot = None;
            self.open -= 1;
        }
        Ok(())
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(types::Fixed(fd as u32), Buffers::GROUP).build();
        // SAFETY: the request names a group of buffers, which `Drop` leaks while a connection is
        // left.
        unsafe { self.turns.push(&receive.user_data(fd as u64)) }
    }

    #[inline]
    fn send_silently(&mut self, fd: RawFd, piece: Piece) -> io::Result<()> {
        self.silent.push(fd);
        self.send(
            fd,
            piece,
            libc::MSG_WAITALL | libc::MSG_DONTWAIT,
            Flags::SKIP_SUCCESS,
        )
    }

    #[inline]
    fn send(&mut self, fd: RawFd, piece: Piece, how: i32, flags: Flags) -> io::Result<()> {
        let start = self.buffers.start(piece.buffer).wrapping_add(piece.offset);
        let send = opcode::Send::new(types::Fixed(fd as u32), start, piece.length as u32)
            .flags(how)
            .build()
            .flags(flags)
            .user_data(fd as u64 | SEND);
        // SAFETY: the buffer is given back only after the send has ended, and `Drop` leaks all of
        // them while a connection is left.
        unsafe { self.turns.push(&send) }
    }
}

impl Drop for Echo<'_, '_> {
    fn drop(&mut self) {
        // A connection is forgotten with its last completion; before that the kernel may write.
        if self.open == 0 {
            // SAFETY: dropped here only.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}
