//! The load: connections that each send a message, await its echo, check it and send the next.
//!
//! It runs over a ring because that costs the client least: one enter and two entries per message,
//! and a receive that completes once with the whole message whatever the pieces it came in. It
//! spins where it has to wait, so that no server pays for waking it.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::cpu::Account;
use super::syscalls::Counters;
use crate::raw::Turns;

/// A server that is silent for so long has failed.
const STALL: Duration = Duration::from_secs(5);

/// Echoes handled before the next enter. Small, so that a latency contains little of the client's
/// own queue, and large enough that the enter's own cost is spread.
const BATCH: usize = 32;

const SEND: u64 = 1 << 32;

/// The open connections to one server.
pub(crate) struct Load {
    connections: Vec<Connection>,
    message_bytes: usize,
    in_flight: usize,
    // Freed only when nothing is in flight: the kernel writes into them until then.
    sent: ManuallyDrop<Vec<u8>>,
    received: ManuallyDrop<Vec<u8>>,
}

struct Connection {
    stream: TcpStream,
    sequence: u64,
    sent_ns: u64,
}

/// What one server did in one window.
pub(crate) struct Window {
    pub(crate) requests: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) syscalls: Option<u64>,
    pub(crate) latency_ns: Histogram<u32>,
}

/// The server's meters; the counters slow every system call, so most windows have none.
pub(crate) struct Meters<'a> {
    pub(crate) account: &'a Account,
    pub(crate) counters: Option<Counters>,
}

impl Meters<'_> {
    fn read(&mut self) -> io::Result<(u64, Option<u64>)> {
        let syscalls = self.counters.as_mut().map(Counters::total).transpose()?;
        Ok((self.account.cpu_ns()?, syscalls))
    }
}

impl Load {
    pub(crate) fn connect(
        address: SocketAddr,
        connections: usize,
        message_bytes: usize,
    ) -> io::Result<Load> {
        let connections = (0..connections)
            .map(|_| {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Ok(Connection {
                    stream,
                    sequence: 0,
                    sent_ns: 0,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let total = connections.len() * message_bytes;
        let sent = ManuallyDrop::new((0..total).map(|at| (at % 251) as u8).collect());
        let received = ManuallyDrop::new(vec![0; total]);
        Ok(Load {
            connections,
            message_bytes,
            in_flight: 0,
            sent,
            received,
        })
    }

    /// Keeps every connection busy for `window`, and measures all of it but the first `discard`.
    pub(crate) fn drive(
        &mut self,
        turns: &mut Turns<'_>,
        window: Duration,
        discard: Duration,
        meters: &mut Meters<'_>,
    ) -> io::Result<Window> {
        let began = Instant::now();
        let mut latency_ns =
            Histogram::new_with_max(10_000_000_000, 3).map_err(io::Error::other)?;
        latency_ns.auto(true);
        let mut start = None;
        let mut end = None;
        for connection in 0..self.connections.len() {
            self.send(turns, connection, 0)?;
        }
        while self.in_flight > 0 {
            if !turns.turn_spinning(STALL)? {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the server is silent",
                ));
            }
            let now = began.elapsed();
            let now_ns = now.as_nanos() as u64;
            if start.is_none() && now >= discard {
                start = Some((now_ns, meters.read()?));
            }
            if start.is_some() && end.is_none() && now >= window {
                end = Some((now_ns, meters.read()?));
            }
            let measured = start.is_some() && end.is_none();
            for _ in 0..BATCH {
                let Some(completion) = turns.reap() else {
                    break;
                };
                let connection = self.echoed(&completion)?;
                if measured {
                    let sent_ns = self.connections[connection].sent_ns;
                    latency_ns
                        .record(now_ns - sent_ns)
                        .map_err(io::Error::other)?;
                }
                if now < window {
                    self.send(turns, connection, now_ns)?;
                }
            }
        }
        let (Some((start_ns, before)), Some((end_ns, after))) = (start, end) else {
            return Err(io::Error::other("the window is shorter than a round trip"));
        };
        Ok(Window {
            requests: latency_ns.len(),
            elapsed_ns: end_ns - start_ns,
            cpu_ns: after.0 - before.0,
            syscalls: after.1.zip(before.1).map(|(after, before)| after - before),
            latency_ns,
        })
    }

    fn send(&mut self, turns: &mut Turns<'_>, index: usize, now_ns: u64) -> io::Result<()> {
        let bytes = self.message_bytes;
        let at = index * bytes;
        let connection = &mut self.connections[index];
        connection.sequence += 1;
        connection.sent_ns = now_ns;
        let sequence = connection.sequence.to_le_bytes();
        let header = bytes.min(sequence.len());
        self.sent[at..at + header].copy_from_slice(&sequence[..header]);

        let fd = types::Fd(connection.stream.as_raw_fd());
        let length = u32::try_from(bytes).map_err(io::Error::other)?;
        let token = index as u64;
        let chain: [Entry; 2] = [
            opcode::Send::new(fd, self.sent[at..].as_ptr(), length)
                .flags(libc::MSG_WAITALL)
                .build()
                .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS)
                .user_data(token | SEND),
            opcode::Recv::new(fd, self.received[at..].as_mut_ptr(), length)
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
    fn echoed(&mut self, completion: &cqueue::Entry) -> io::Result<usize> {
        let result = completion.result();
        let token = completion.user_data();
        if token & SEND != 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        self.in_flight -= 1;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        if result as usize != self.message_bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server hung up",
            ));
        }
        let connection = token as usize;
        let range = connection * self.message_bytes..(connection + 1) * self.message_bytes;
        if self.sent[range.clone()] != self.received[range] {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the echo differs",
            ));
        }
        Ok(connection)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: both are dropped here only, and no request points into them any more.
            unsafe { ManuallyDrop::drop(&mut self.sent) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.received) };
        }
    }
}
