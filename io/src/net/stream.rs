//! A TCP connection.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use io_uring::opcode::{Nop, Recv, Send};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::ToAddr;
use crate::ops::{self, Connect, Fill, SharedFd};
use crate::transfer::{Place, drain, drain_all, fill_all};

/// No SIGPIPE, in whatever program this is.
const SEND_FLAGS: u32 = libc::MSG_NOSIGNAL as u32;
/// Has the kernel go on by itself where a send would be short.
const SEND_ALL_FLAGS: u32 = SEND_FLAGS | libc::MSG_WAITALL as u32;

/// A TCP connection.
///
/// One read and one write at a time, by the compiler; [`into_split`](Self::into_split) gives a
/// half to each of two tasks. Dropping it closes it, once no operation is in flight on it.
pub struct TcpStream {
    fd: SharedFd,
}

impl TcpStream {
    pub(super) fn of(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd) }
    }

    /// Connects to `addr`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the peer may see a
    /// connection that is closed at once.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2) and connect(2) give, such as
    /// `ConnectionRefused`; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a
    /// limit too.
    pub async fn connect(addr: impl ToAddr) -> io::Result<Self> {
        let addr = addr.to_addr()?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), None)?;
        let stream = Self::of(socket.into());
        let connect = Connect {
            fd: stream.fd.clone(),
            addr: SockAddr::from(addr),
        };
        submit(connect).await?;
        Ok(stream)
    }

    /// Reads what has arrived, up to what `buf` has room for, into the start of `buf`. 0 is the
    /// end of the stream (or a buffer without room).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. Bytes that the kernel had taken for it by then are lost; a cancel
    /// or a time-out loses none.
    ///
    /// # Errors
    /// What recv(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a
    /// limit too.
    pub async fn read<B: IoBufMut>(&mut self, buf: B) -> BufResult<usize, B> {
        let fd = self.fd.clone();
        // A receive into a buffer without room would wait for bytes, and then take none.
        let has_room = buf.bytes_total() > 0;
        let recv = Fill {
            opcode: if has_room { Recv::CODE } else { Nop::CODE },
            fd,
            buf,
            off: 0,
        };
        submit(recv).await
    }

    /// Reads until `buf` is full.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, or times out,
    /// [`Partial`](coring_runtime::Partial) says how much was read, and the buffer has it.
    ///
    /// # Errors
    /// `UnexpectedEof` if the stream ends first; else as [`read`](Self::read).
    pub async fn read_exact<B: IoBufMut>(&mut self, buf: B) -> BufResult<(), B> {
        fill_all(buf, async |_, rest| self.read(rest).await).await
    }

    /// Writes what the kernel has room for: gives how many bytes of `buf` that was.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. A cancel or a time-out gives the
    /// count instead, if there is one.
    ///
    /// # Errors
    /// What send(2) gives, without a SIGPIPE; [`Cancelled`](coring_runtime::Cancelled), or the
    /// time-out of a scope.
    pub async fn write<B: IoBuf>(&mut self, buf: B) -> BufResult<usize, B> {
        drain(&self.fd, Send::CODE, 0, SEND_FLAGS, buf).await
    }

    /// Writes all of `buf`.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, or times out,
    /// [`Partial`](coring_runtime::Partial) says how much was written.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_all<B: IoBuf>(&mut self, buf: B) -> BufResult<(), B> {
        drain_all(&self.fd, Send::CODE, SEND_ALL_FLAGS, Place::Stream, buf).await
    }

    /// Ends the stream in one direction, or both. The peer reads to the end of what was written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that the stream may have
    /// ended. So it may after a cancellation, or a time-out: calling this again does no harm.
    ///
    /// # Errors
    /// What shutdown(2) gives. [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by
    /// a limit too.
    pub async fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        shut_down(&self.fd, how).await
    }

    /// Splits the connection into a half to read and a half to write, each owned, so that two
    /// tasks can have one each. It is closed when both are dropped.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let other = Self {
            fd: self.fd.clone(),
        };
        (OwnedReadHalf(self), OwnedWriteHalf(other))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(SockRef::from(&*self.fd).local_addr()?)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// What getpeername(2) gives, such as `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(SockRef::from(&*self.fd).peer_addr()?)
    }

    /// Whether small writes go out at once (TCP_NODELAY) instead of waiting for more.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        SockRef::from(&*self.fd).set_tcp_nodelay(nodelay)
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    ///
    /// # Errors
    /// What getsockopt(2) gives.
    pub fn nodelay(&self) -> io::Result<bool> {
        SockRef::from(&*self.fd).tcp_nodelay()
    }
}

impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::of(stream.into())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// The half of a [`TcpStream`] that reads.
#[derive(Debug)]
pub struct OwnedReadHalf(TcpStream);

impl OwnedReadHalf {
    /// As [`TcpStream::read`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it.
    ///
    /// # Errors
    /// As there.
    pub async fn read<B: IoBufMut>(&mut self, buf: B) -> BufResult<usize, B> {
        self.0.read(buf).await
    }

    /// As [`TcpStream::read_exact`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn read_exact<B: IoBufMut>(&mut self, buf: B) -> BufResult<(), B> {
        self.0.read_exact(buf).await
    }

    /// The whole connection again, if `other` is its other half.
    ///
    /// # Errors
    /// Both halves as they were, if they are not of one connection.
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<TcpStream, (Self, OwnedWriteHalf)> {
        if Rc::ptr_eq(&self.0.fd, &other.0.fd) {
            Ok(self.0)
        } else {
            Err((self, other))
        }
    }
}

/// The half of a [`TcpStream`] that writes. Dropping it does not end the stream for the peer while
/// the other half lives; [`shutdown`](Self::shutdown) does.
#[derive(Debug)]
pub struct OwnedWriteHalf(TcpStream);

impl OwnedWriteHalf {
    /// As [`TcpStream::write`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write<B: IoBuf>(&mut self, buf: B) -> BufResult<usize, B> {
        self.0.write(buf).await
    }

    /// As [`TcpStream::write_all`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write_all<B: IoBuf>(&mut self, buf: B) -> BufResult<(), B> {
        self.0.write_all(buf).await
    }

    /// Ends what the peer reads.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that the stream may have
    /// ended. So it may after a cancellation, or a time-out: calling this again does no harm.
    ///
    /// # Errors
    /// What shutdown(2) gives. [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by
    /// a limit too.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        shut_down(&self.0.fd, Shutdown::Write).await
    }
}

async fn shut_down(fd: &SharedFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    submit(ops::Shutdown {
        fd: fd.clone(),
        how,
    })
    .await
}

/// An address of a socket that is known to be of the internet.
pub(super) fn inet(addr: SockAddr) -> io::Result<SocketAddr> {
    addr.as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not an internet socket"))
}
