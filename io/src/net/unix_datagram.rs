//! Datagrams between processes of one machine.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::rc::Rc;

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use socket2::{Domain, SockRef, Socket, Type};

use super::addr::{unix_addr, unix_sock_addr};
use super::released::unshared;
use super::{Ancillary, IoBufs, ToUnixAddr, datagram};
use crate::ops::{SendMsg, SharedFd};

/// A socket for datagrams between processes of one machine, which may carry descriptors.
///
/// Nothing is lost on the way: a sender waits while the receiver's queue is full. Datagrams are
/// independent of each other, so several tasks may send and receive at once (share it by an `Rc`);
/// each is received by one of them, and those that wait for room have no order. Dropping it closes it, once no operation is in flight on it.
/// The name of one that was bound to a path stays in the file system, for its user to remove.
///
/// # Examples
///
/// ```
/// use coring::net::UnixDatagram;
/// use coring::BufResult;
///
/// # coring::run(async {
/// let (ours, theirs) = UnixDatagram::pair()?;
/// ours.send("hello").await.0?;
/// let BufResult(n, buf) = theirs.recv(Vec::with_capacity(16)).await;
/// assert_eq!((n?, &buf[..]), (5, &b"hello"[..]));
/// # coring::ok(()) }).unwrap();
/// ```
pub struct UnixDatagram {
    fd: SharedFd,
}

/// What [`UnixDatagram::recv_msg`] received.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnixReceived {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of the datagram that the buffer had no room for: lost.
    pub truncated: usize,
    /// The sender's address: unnamed if it is not bound.
    pub from: SocketAddr,
    /// Descriptors and credentials.
    pub ancillary: Ancillary,
    /// Something of that is missing: more descriptors came than were asked for, or than this
    /// process may open. Those that are not in `ancillary` are closed.
    pub ancillary_truncated: bool,
}

impl UnixDatagram {
    /// Of a socket that is known to be one for datagrams.
    fn of(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd) }
    }

    /// Makes a socket that is bound to a path, which must not exist yet, or to a name.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2) and bind(2) give, such as `AddrInUse`.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UnixDatagram;
    ///
    /// # coring::run(async {
    /// # let path = std::env::temp_dir().join(format!("coring-doc-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.send_to("hello", &path).await.0?;
    /// assert_eq!(server.recv(Vec::with_capacity(16)).await.1, b"hello");
    /// std::fs::remove_file(&path)?;
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn bind(addr: impl ToUnixAddr) -> io::Result<Self> {
        let addr = unix_sock_addr(&addr.to_unix_addr()?)?;
        let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
        socket.bind(&addr)?;
        Ok(Self::of(socket.into()))
    }

    /// Makes a socket without a name: it can send, and nobody can answer.
    ///
    /// # Errors
    /// What socket(2) gives.
    pub fn unbound() -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
        Ok(Self::of(socket.into()))
    }

    /// Makes two sockets that are connected to each other, without names.
    ///
    /// # Errors
    /// What socketpair(2) gives.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = Socket::pair(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
        Ok((Self::of(a.into()), Self::of(b.into())))
    }

    /// Says where [`send`](Self::send) sends to, and whose datagrams are received: nobody else's.
    /// That is at once.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what connect(2) gives, such as `NotFound`, and
    /// `ConnectionRefused` if nobody has it open.
    pub fn connect(&self, addr: impl ToUnixAddr) -> io::Result<()> {
        let addr = unix_sock_addr(&addr.to_unix_addr()?)?;
        SockRef::from(&*self.fd).connect(&addr)
    }

    /// Sends `buf` to the peer as one datagram, and gives its length.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. The datagram is sent as a whole, or not at all.
    ///
    /// # Errors
    /// What send(2) gives, such as `NotConnected`, `ConnectionRefused`, and EMSGSIZE where the
    /// datagram is larger than the socket's buffer; [`Cancelled`](coring_runtime::Cancelled) if it
    /// is asked to stop, by a limit too.
    pub async fn send<B: IoBuf>(&self, buf: B) -> BufResult<usize, B> {
        datagram::send(&self.fd, buf, None).await
    }

    /// Sends `buf` to `addr` as one datagram, and gives its length.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. The datagram is sent as a whole, or not at all.
    ///
    /// # Errors
    /// As [`send`](Self::send); `InvalidInput` for a bad address.
    pub async fn send_to<B: IoBuf>(&self, buf: B, addr: impl ToUnixAddr) -> BufResult<usize, B> {
        match addr.to_unix_addr().and_then(|addr| unix_sock_addr(&addr)) {
            Ok(addr) => datagram::send(&self.fd, buf, Some(addr)).await,
            Err(error) => BufResult(Err(error), buf),
        }
    }

    /// Sends all of `bufs` to the peer as one datagram, and gives its length.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffers are freed when the
    /// kernel is done with them. The datagram is sent as a whole, or not at all.
    ///
    /// # Errors
    /// As [`send`](Self::send); EMSGSIZE for more than 1,024 buffers.
    pub async fn send_vectored<V: IoBufs>(&self, bufs: V) -> BufResult<usize, V> {
        datagram::send_vectored(&self.fd, bufs, None).await
    }

    /// Sends `buf` with descriptors, or credentials, as one datagram: to the peer, or to `to`.
    /// Gives its length; what was lent comes back. See [`Ancillary`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; buffer and descriptors are freed
    /// when the kernel is done with them. The datagram is sent as a whole, or not at all.
    ///
    /// # Errors
    /// As [`send`](Self::send); `InvalidInput` for more than 253 descriptors; EPERM for
    /// credentials of somebody else's, and ETOOMANYREFS if too many descriptors are on their way
    /// (unix(7)).
    pub async fn send_msg<B: IoBuf>(
        &self,
        buf: B,
        to: Option<&SocketAddr>,
        ancillary: Ancillary,
    ) -> BufResult<usize, (B, Ancillary)> {
        let described = ancillary
            .encode()
            .and_then(|control| Ok((to.map(unix_sock_addr).transpose()?, control)));
        let (to, control) = match described {
            Ok(described) => described,
            Err(error) => return BufResult(Err(error), (buf, ancillary)),
        };
        let send = SendMsg::new(self.fd.clone(), [buf], to, control, ancillary);
        submit(send)
            .await
            .map_buf(|([buf], ancillary)| (buf, ancillary))
    }

    /// Waits for a datagram: reads it into the start of `buf`, and gives its length.
    ///
    /// Descriptors that come with it are closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. A datagram that the kernel had taken for it by then is lost; a
    /// cancel or a time-out loses none.
    ///
    /// # Errors
    /// [`Truncated`](super::Truncated) if `buf` has no room for all of it: the rest is lost. What
    /// recv(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit
    /// too.
    pub async fn recv<B: IoBufMut>(&self, buf: B) -> BufResult<usize, B> {
        datagram::recv(&self.fd, buf).await
    }

    /// As [`recv`](Self::recv), with the sender's address. That is unnamed if it is not bound.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. A datagram that the kernel had taken for it by then is lost; a
    /// cancel or a time-out loses none.
    ///
    /// # Errors
    /// As there.
    pub async fn recv_from<B: IoBufMut>(&self, buf: B) -> BufResult<(usize, SocketAddr), B> {
        let received = datagram::recv_from(&self.fd, buf, 0).await;
        received.map(|(n, from)| (n, unix_addr(&from)))
    }

    /// Waits for a datagram, and takes up to `fds_max` descriptors that come with it; the others
    /// are closed. 253 is the most that may come.
    ///
    /// Credentials come if [`set_passcred`](Self::set_passcred) was called.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. A datagram that the kernel had taken for it by then is lost, and
    /// its descriptors are closed; a cancel or a time-out loses none.
    ///
    /// # Errors
    /// What recvmsg(2) gives. A datagram that does not fit is no error here, nor is a descriptor
    /// too many: see [`UnixReceived`]. [`Cancelled`](coring_runtime::Cancelled) if it is asked to
    /// stop, by a limit too.
    pub async fn recv_msg<B: IoBufMut>(
        &self,
        buf: B,
        fds_max: usize,
    ) -> BufResult<UnixReceived, B> {
        let room = Ancillary::room(fds_max);
        let received = datagram::recv_msg(&self.fd, buf, 0, room).await;
        received.map(|received| {
            let (ancillary, ancillary_truncated) = received.control.into_ancillary(fds_max);
            UnixReceived {
                len: received.len,
                truncated: received.truncated,
                from: unix_addr(&received.from),
                ancillary,
                ancillary_truncated,
            }
        })
    }

    /// Whether received messages say who sent them (SO_PASSCRED). It binds a socket without a name
    /// to one of the kernel's choice, when it sends.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{Credentials, UnixDatagram};
    ///
    /// # coring::run(async {
    /// let (ours, theirs) = UnixDatagram::pair()?;
    /// theirs.set_passcred(true)?;
    /// ours.send("hello").await.0?;
    /// let received = theirs.recv_msg(Vec::with_capacity(16), 0).await.0?;
    /// assert_eq!(received.ancillary.credentials, Some(Credentials::own()));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn set_passcred(&self, passcred: bool) -> io::Result<()> {
        SockRef::from(&*self.fd).set_passcred(passcred)
    }

    /// Takes the socket out of the runtime: waits until the kernel is done with all operations on it,
    /// those included whose future was dropped. A datagram that was taken for one of these is lost.
    /// A request to stop does not reach this.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the socket is closed.
    ///
    /// # Errors
    /// `NotConnected` outside of a runtime, if an operation is in flight.
    pub async fn into_fd(self) -> io::Result<OwnedFd> {
        unshared(self.fd).await
    }

    /// [`into_fd`](Self::into_fd), for the standard library. It is blocking, if nobody has made it
    /// something else.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the socket is closed.
    ///
    /// # Errors
    /// As there.
    pub async fn into_std(self) -> io::Result<std::os::unix::net::UnixDatagram> {
        Ok(self.into_fd().await?.into())
    }

    /// The name of this end: unnamed if it is not bound.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(unix_addr(&SockRef::from(&*self.fd).local_addr()?))
    }

    /// The name of the other end, if it is connected.
    ///
    /// # Errors
    /// What getpeername(2) gives, such as `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(unix_addr(&SockRef::from(&*self.fd).peer_addr()?))
    }
}

/// Takes a socket of std's over, and turns its non-blocking mode off, in which the kernel would not
/// wait.
///
/// # Panics
/// If it is no such socket: std's type can be made of any descriptor.
impl From<std::os::unix::net::UnixDatagram> for UnixDatagram {
    fn from(socket: std::os::unix::net::UnixDatagram) -> Self {
        Self::try_from(OwnedFd::from(socket)).expect("it is a socket of its type")
    }
}

/// Takes a socket over, and turns its non-blocking mode off, in which the kernel would not wait. An
/// error if it is no such socket.
impl TryFrom<OwnedFd> for UnixDatagram {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::of(datagram::take_over(fd, &[Domain::UNIX])?))
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram")
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}
