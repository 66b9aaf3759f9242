//! The load of `echo`: connections that each send a message, await its echo, check it and send the
//! next.
//!
//! Two entries a message in one chain, and a receive that completes once with the whole message
//! whatever the pieces it came in.

use std::cell::RefCell;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::client::{Load, ended};
use crate::raw::Turns;

const SEND: u64 = 1 << 32;

/// The open connections to one server.
pub(crate) struct Messages {
    connections: Vec<Connection>,
    message_bytes: usize,
    in_flight: usize,
    // Let go only when nothing is in flight: the kernel writes into it until then.
    memory: ManuallyDrop<Rc<Memory>>,
}

struct Connection {
    stream: TcpStream,
    sequence: u64,
}

/// What is sent and received, a place for each connection. All servers share it, since one is driven
/// at a time: of a thousand large messages there is half a gigabyte.
pub(crate) struct Memory {
    sent: RefCell<Vec<u8>>,
    received: RefCell<Vec<u8>>,
}

impl Memory {
    pub(crate) fn new(connections: usize, message_bytes: usize) -> Rc<Memory> {
        let total = connections * message_bytes;
        Rc::new(Memory {
            sent: RefCell::new((0..total).map(|at| (at % 251) as u8).collect()),
            received: RefCell::new(vec![0; total]),
        })
    }
}

impl Messages {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        message_bytes: usize,
        memory: Rc<Memory>,
    ) -> io::Result<Messages> {
        let connections = (0..connections)
            .map(|_| {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Connection {
                    stream,
                    sequence: 0,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Messages {
            connections,
            message_bytes,
            in_flight: 0,
            memory: ManuallyDrop::new(memory),
        })
    }
}

impl Load for Messages {
    fn places(&self) -> usize {
        self.connections.len()
    }

    fn ask(&mut self, turns: &mut Turns<'_>, place: usize) -> io::Result<()> {
        let bytes = self.message_bytes;
        let at = place * bytes;
        let connection = &mut self.connections[place];
        connection.sequence += 1;
        let sequence = connection.sequence.to_le_bytes();
        let header = bytes.min(sequence.len());
        let mut sent = self.memory.sent.borrow_mut();
        let mut received = self.memory.received.borrow_mut();
        sent[at..at + header].copy_from_slice(&sequence[..header]);

        let fd = types::Fd(connection.stream.as_raw_fd());
        let length = u32::try_from(bytes).map_err(io::Error::other)?;
        let token = place as u64;
        let chain: [Entry; 2] = [
            opcode::Send::new(fd, sent[at..].as_ptr(), length)
                .flags(libc::MSG_WAITALL)
                .build()
                .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS)
                .user_data(token | SEND),
            opcode::Recv::new(fd, received[at..].as_mut_ptr(), length)
                .flags(libc::MSG_WAITALL)
                .build()
                .user_data(token),
        ];
        // SAFETY: both pointers are good for `length` bytes of vectors that never grow and that
        // `Drop` leaks while a receive is in flight; a receive ends after the send before it.
        unsafe { turns.push_chain(&chain) }?;
        self.in_flight += 1;
        Ok(())
    }

    /// The connection whose whole message came back.
    fn answered(&mut self, completion: &cqueue::Entry) -> io::Result<usize> {
        let (place, result) = ended(completion, SEND, &mut self.in_flight)?;
        if result != self.message_bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server hung up",
            ));
        }
        let range = place * self.message_bytes..(place + 1) * self.message_bytes;
        if self.memory.sent.borrow()[range.clone()] != self.memory.received.borrow()[range] {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the echo differs",
            ));
        }
        Ok(place)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: dropped here only, and no request of these connections points into it.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}
