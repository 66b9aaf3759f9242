//! Connections.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coring_runtime::{BufResult, IoBuf, IoBufMut, Lease, shielded, submit};
use io_uring::opcode::Send;
use socket2::{SockAddr, SockRef};

use super::control::{int, space};
use super::kind::{Kind, Tcp, Unix, of_kind};
use super::receive::Receiver;
use super::released::{Released, unshared};
use crate::ops::{self, Connect, RecvMsg, SharedFd};
use crate::transfer::{Place, drain, drain_all, fill_all};

/// No SIGPIPE, in whatever program this is.
pub(super) const SEND_FLAGS: u32 = libc::MSG_NOSIGNAL as u32;
/// Has the kernel go on by itself where a send would be short.
pub(super) const SEND_ALL_FLAGS: u32 = SEND_FLAGS | libc::MSG_WAITALL as u32;

/// Room for a `struct sock_extended_err`, of which the errno is the first, and an address.
const REFUSAL_BYTES: usize =
    space(size_of::<libc::sock_extended_err>() + size_of::<libc::sockaddr_in6>());

/// A connection: a [`TcpStream`] or [`UnixStream`].
///
/// One read and one write at a time, by the compiler; [`into_split`](Self::into_split) gives a
/// half to each of two tasks. Dropping it closes it, once no operation is in flight on it: when the
/// loop has turned.
///
/// # Receiving
///
/// The first read arms a receive that stays armed (a multishot, since Linux 6.0), into buffers that
/// all connections of a runtime share. What has arrived belongs to the connection: a read that is
/// dropped, cancelled or timed out loses nothing of it. When more than 128 KiB wait for somebody to
/// read them the receive is paused, and the peer finds the window closed.
///
/// It is armed in a runtime. A read in another one of the thread gives what it has; then it is ended
/// there, with an error once, `NotConnected`, and the next read goes on here.
///
/// What is to be read to its end, or by lines, is read as streams:
/// [`into_streams`](Self::into_streams) gives a [`StreamReader`](crate::streams::StreamReader), which
/// has `read_to_end`, `readline` and others, and keeps what has come when a read is given up.
pub struct Stream<K: Kind> {
    fd: SharedFd,
    receiver: Receiver,
    kind: PhantomData<K>,
}

/// A TCP connection.
pub type TcpStream = Stream<Tcp>;

/// A connection within the machine. Descriptors that a peer sends come by
/// [`recv_msg`](Stream::recv_msg) alone: the kernel closes those that come under another read.
pub type UnixStream = Stream<Unix>;

impl<K: Kind> Stream<K> {
    pub(super) fn of(fd: OwnedFd) -> Self {
        let fd = Rc::new(fd);
        Self {
            receiver: Receiver::new(fd.clone()),
            fd,
            kind: PhantomData,
        }
    }

    /// Connects a socket that has been made.
    pub(super) async fn connect_from(socket: OwnedFd, addr: SockAddr) -> io::Result<Self> {
        let stream = Self::of(socket);
        let fd = stream.fd.clone();
        let over_ip = !addr.is_unix();
        submit(Connect { fd, addr }).await?;
        if over_ip
            && SockRef::from(&*stream.fd).peer_addr().is_err()
            && let Some(refusal) = refusal(&stream.fd).await
        {
            return Err(refusal);
        }
        Ok(stream)
    }

    /// Takes what has arrived, in the buffer into which the kernel received it: without a copy. An
    /// empty one is the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// What recv(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a
    /// limit too.
    pub async fn receive(&mut self) -> io::Result<Lease> {
        self.receiver.receive().await
    }

    /// Reads what has arrived, up to what `buf` has room for, into the start of `buf`. 0 is the
    /// end of the stream (or a buffer without room).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping this loses no bytes, they are for the next read.
    ///
    /// # Errors
    /// What recv(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a
    /// limit too.
    pub async fn read<B: IoBufMut>(&mut self, buf: B) -> BufResult<usize, B> {
        self.receiver.read(buf).await
    }

    /// Copies what has arrived, up to what `buf` has room for, and leaves it for the next read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping this loses no bytes, they are for the next read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn peek<B: IoBufMut>(&mut self, buf: B) -> BufResult<usize, B> {
        self.receiver.peek(buf).await
    }

    /// Reads until `buf` is full: up to its capacity, if it is a `Vec`.
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
        write(&self.fd, buf).await
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
        write_all(&self.fd, buf).await
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
    pub fn into_split(self) -> (OwnedReadHalf<K>, OwnedWriteHalf<K>) {
        let writer = OwnedWriteHalf {
            fd: self.fd.clone(),
            kind: PhantomData,
        };
        (OwnedReadHalf(self), writer)
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<K::Addr> {
        of_kind::<K>(&SockRef::from(&*self.fd).local_addr()?)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// What getpeername(2) gives, such as `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<K::Addr> {
        of_kind::<K>(&SockRef::from(&*self.fd).peer_addr()?)
    }

    /// Takes the connection out of the runtime: ends the receive that is armed, waits until the
    /// kernel is done with all operations on the socket, in whichever runtime of the thread they are, and
    /// gives what had arrived. That takes a turn of the loop; a request to stop does not reach it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the connection is closed, with what had arrived.
    ///
    /// # Errors
    /// `NotConnected` outside of a runtime, if an operation is in flight.
    pub async fn into_fd(mut self) -> io::Result<Released<OwnedFd>> {
        let (received, error) = self.receiver.finish().await;
        drop(self.receiver);
        Ok(Released {
            socket: unshared(self.fd).await?,
            received,
            error,
        })
    }

    pub(crate) fn into_parts(self) -> (SharedFd, Receiver) {
        (self.fd, self.receiver)
    }

    /// What is sent on, and what receives.
    pub(super) const fn parts_mut(&mut self) -> (&SharedFd, &mut Receiver) {
        (&self.fd, &mut self.receiver)
    }

    pub(super) const fn shared_fd(&self) -> &SharedFd {
        &self.fd
    }
}

impl<K: Kind> From<OwnedFd> for Stream<K> {
    /// Takes over the descriptor of a connected stream socket.
    fn from(fd: OwnedFd) -> Self {
        Self::of(fd)
    }
}

impl<K: Kind> AsFd for Stream<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K: Kind> fmt::Debug for Stream<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(&format!("{}Stream", K::NAME))
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}

/// The half of a [`Stream`] that reads.
#[derive(Debug)]
pub struct OwnedReadHalf<K: Kind>(Stream<K>);

impl<K: Kind> OwnedReadHalf<K> {
    pub(super) const fn stream_mut(&mut self) -> &mut Stream<K> {
        &mut self.0
    }

    /// As [`Stream::receive`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As there.
    pub async fn receive(&mut self) -> io::Result<Lease> {
        self.0.receive().await
    }

    /// As [`Stream::read`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping this loses no bytes, they are for the next read.
    ///
    /// # Errors
    /// As there.
    pub async fn read<B: IoBufMut>(&mut self, buf: B) -> BufResult<usize, B> {
        self.0.read(buf).await
    }

    /// As [`Stream::read_exact`].
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
    pub fn reunite(self, other: OwnedWriteHalf<K>) -> Result<Stream<K>, (Self, OwnedWriteHalf<K>)> {
        if Rc::ptr_eq(&self.0.fd, &other.fd) {
            Ok(self.0)
        } else {
            Err((self, other))
        }
    }
}

/// The half of a [`Stream`] that writes. Dropping it does not end the stream for the peer while
/// the other half lives; [`shutdown`](Self::shutdown) does.
pub struct OwnedWriteHalf<K: Kind> {
    fd: SharedFd,
    kind: PhantomData<K>,
}

impl<K: Kind> fmt::Debug for OwnedWriteHalf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedWriteHalf").finish_non_exhaustive()
    }
}

impl<K: Kind> OwnedWriteHalf<K> {
    pub(super) const fn shared_fd(&self) -> &SharedFd {
        &self.fd
    }

    /// As [`Stream::write`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write<B: IoBuf>(&mut self, buf: B) -> BufResult<usize, B> {
        write(&self.fd, buf).await
    }

    /// As [`Stream::write_all`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write_all<B: IoBuf>(&mut self, buf: B) -> BufResult<(), B> {
        write_all(&self.fd, buf).await
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
        shut_down(&self.fd, Shutdown::Write).await
    }
}

/// Why a connection that was said to be made was not. An ICMP message of a host or a firewall puts an
/// error into the socket's queue of errors, and only then, or never if the socket was in use that
/// moment, into the socket; between the two the kernel looks, finds that there is an error, asks the
/// socket for it, and says 0 (M: 6.18, `io_connect`). None: it was made, and reset since.
async fn refusal(fd: &SharedFd) -> Option<io::Error> {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let receive = RecvMsg::new(fd.clone(), Vec::new(), flags, REFUSAL_BYTES);
    // It never waits.
    let received = shielded(submit(receive)).await.0.ok()?;
    let mut messages = received.control.iter();
    messages.find_map(|(level, kind, data)| match (level, kind) {
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
            Some(io::Error::from_raw_os_error(int(data, 0)?))
        }
        _ => None,
    })
}

async fn write<B: IoBuf>(fd: &SharedFd, buf: B) -> BufResult<usize, B> {
    drain(fd, Send::CODE, 0, SEND_FLAGS, buf).await
}

async fn write_all<B: IoBuf>(fd: &SharedFd, buf: B) -> BufResult<(), B> {
    drain_all(fd, Send::CODE, SEND_ALL_FLAGS, Place::Stream, buf).await
}

pub(super) async fn shut_down(fd: &SharedFd, how: Shutdown) -> io::Result<()> {
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
