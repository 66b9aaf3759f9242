//! UDP.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use socket2::{Domain, SockRef, Socket, Type};

use super::released::unshared;
use super::udp_message::inet;
use super::{IoBufs, ToAddr, UdpReceived, UdpReceiver, UdpTransmit, datagram};
use crate::ops::{SendMsg, SharedFd};

/// A UDP socket.
///
/// Datagrams are independent of each other, so several tasks may send and receive at once (share
/// it by an `Rc`); each is received by one of them, and those that wait have no order. Dropping it
/// closes it, once no operation is in flight on it.
///
/// What the kernel has no room for it drops: see
/// [`set_recv_buffer_size`](Self::set_recv_buffer_size).
///
/// # Examples
///
/// ```
/// use coring::net::UdpSocket;
/// use coring::BufResult;
///
/// # coring::run(async {
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(server.local_addr()?)?;
/// client.send("hello").await.0?;
///
/// let BufResult(received, buf) = server.recv_from(Vec::with_capacity(1_500)).await;
/// let (n, peer) = received?;
/// assert_eq!((peer, &buf[..n]), (client.local_addr()?, &b"hello"[..]));
/// server.send_to(buf, peer).await.0?;
///
/// let BufResult(n, buf) = client.recv(Vec::with_capacity(1_500)).await;
/// assert_eq!((n?, &buf[..]), (5, &b"hello"[..]));
/// # coring::ok(()) }).unwrap();
/// ```
pub struct UdpSocket {
    fd: SharedFd,
}

impl UdpSocket {
    /// Of a socket that is known to be one for datagrams.
    fn of(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd) }
    }

    /// Makes a socket that is bound to `addr`. Port 0 is any that is free. One for `[::]` receives
    /// over IPv4 as well, unless the machine is set up otherwise.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2) and bind(2) give, such as `AddrInUse`.
    pub fn bind(addr: impl ToAddr) -> io::Result<Self> {
        let addr = addr.to_addr()?;
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.cloexec(), None)?;
        socket.bind(&addr.into())?;
        Ok(Self::of(socket.into()))
    }

    /// Says where [`send`](Self::send) sends to, and whose datagrams are received: nobody else's.
    /// Nothing is sent, so this is done at once. May be called again, for another peer.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what connect(2) gives, such as ENETUNREACH.
    pub fn connect(&self, addr: impl ToAddr) -> io::Result<()> {
        SockRef::from(&*self.fd).connect(&addr.to_addr()?.into())
    }

    /// Sends `buf` to the peer as one datagram, and gives its length.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. The datagram is sent as a whole, or not at all.
    ///
    /// # Errors
    /// What send(2) gives: EDESTADDRREQ if it is not connected, EMSGSIZE for more than 65,507
    /// bytes (over IPv6 65,527), `ConnectionRefused` if nobody had listened for an earlier
    /// datagram. [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
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
    pub async fn send_to<B: IoBuf>(&self, buf: B, addr: impl ToAddr) -> BufResult<usize, B> {
        match addr.to_addr() {
            Ok(addr) => datagram::send(&self.fd, buf, Some(addr.into())).await,
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::net::UdpSocket;
    /// # coring::run(async {
    /// # let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// ours.connect(theirs.local_addr()?)?;
    /// ours.send_vectored(("header", vec![0; 4])).await.0?;
    /// assert_eq!(theirs.recv(Vec::with_capacity(16)).await.1, b"header\0\0\0\0");
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn send_vectored<V: IoBufs>(&self, bufs: V) -> BufResult<usize, V> {
        datagram::send_vectored(&self.fd, bufs, None).await
    }

    /// Sends `buf` as `how` says, and gives how many bytes that was: one datagram, or several, from
    /// an address, marked. See [`UdpTransmit`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. All is sent, or nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send). `InvalidInput` for a source of another family than the peer's;
    /// EINVAL or ENETUNREACH for one that is not this machine's; EINVAL for more segments than may
    /// be.
    pub async fn send_msg<B: IoBuf>(&self, buf: B, how: &UdpTransmit) -> BufResult<usize, B> {
        let control = match self.control_of(how) {
            Ok(control) => control,
            Err(error) => return BufResult(Err(error), buf),
        };
        let to = how.to.map(Into::into);
        let send = SendMsg::new(self.fd.clone(), [buf], to, control, ());
        submit(send).await.map_buf(|([buf], ())| buf)
    }

    fn control_of(&self, how: &UdpTransmit) -> io::Result<Vec<u8>> {
        let peer = match how.to {
            Some(to) => to.ip(),
            None if how.needs_family() => self.peer_addr()?.ip(),
            None => std::net::Ipv4Addr::UNSPECIFIED.into(), // Not looked at.
        };
        how.encode(peer)
    }

    /// Waits for a datagram: reads it into the start of `buf`, and gives its length.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. A datagram that the kernel had taken for it by then is lost; a
    /// cancel or a time-out loses none.
    ///
    /// # Errors
    /// [`Truncated`](super::Truncated) if `buf` has no room for all of it: the rest is lost. What
    /// recv(2) gives: on a connected socket `ConnectionRefused`, if nobody had listened for an
    /// earlier datagram. [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit
    /// too.
    pub async fn recv<B: IoBufMut>(&self, buf: B) -> BufResult<usize, B> {
        datagram::recv(&self.fd, buf).await
    }

    /// As [`recv`](Self::recv), with the sender's address.
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
        self.recv_from_with(buf, 0).await
    }

    /// As [`recv_from`](Self::recv_from), but leaves the datagram to the next who receives.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it.
    ///
    /// # Errors
    /// As there, [`Truncated`](super::Truncated) too: that says how long the datagram is, of which
    /// nothing is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::net::UdpSocket;
    /// # use coring::BufResult;
    /// # coring::run(async {
    /// # let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// ours.send_to("hello", theirs.local_addr()?).await.0?;
    /// let BufResult(peeked, buf) = theirs.peek_from(Vec::with_capacity(1_500)).await;
    /// assert_eq!(peeked?, (5, ours.local_addr()?));
    /// let BufResult(n, buf) = theirs.recv(buf).await;
    /// assert_eq!((n?, &buf[..]), (5, &b"hello"[..]));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn peek_from<B: IoBufMut>(&self, buf: B) -> BufResult<(usize, SocketAddr), B> {
        self.recv_from_with(buf, libc::MSG_PEEK).await
    }

    async fn recv_from_with<B: IoBufMut>(
        &self,
        buf: B,
        flags: libc::c_int,
    ) -> BufResult<(usize, SocketAddr), B> {
        let BufResult(received, buf) = datagram::recv_from(&self.fd, buf, flags).await;
        BufResult(received.and_then(|(n, from)| Ok((n, inet(&from)?))), buf)
    }

    /// Waits for a datagram, and says all that is known of it. What that is depends on options:
    /// see [`UdpReceived`].
    ///
    /// With [`set_gro`](Self::set_gro) it may give several of one sender's at once, of 65,535 bytes
    /// in all: give it a buffer of that size.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. A datagram that the kernel had taken for it by then is lost; a
    /// cancel or a time-out loses none.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), but that a datagram which does not fit is no error here.
    ///
    /// # Examples
    ///
    /// A server with many addresses answers from the one that it was asked at:
    ///
    /// ```
    /// use coring::net::{UdpSocket, UdpTransmit};
    /// use coring::BufResult;
    ///
    /// # coring::run(async {
    /// let server = UdpSocket::bind("0.0.0.0:0")?;
    /// server.set_recv_pktinfo(true)?;
    /// # let client = UdpSocket::bind("127.0.0.1:0")?;
    /// # let asked = std::net::SocketAddr::from(([127, 0, 0, 2], server.local_addr()?.port()));
    /// # client.send_to("hello", asked).await.0?;
    /// let BufResult(received, buf) = server.recv_msg(Vec::with_capacity(1_500)).await;
    /// let received = received?;
    /// let mut how = UdpTransmit::to(received.from);
    /// if let Some(addr) = received.to {
    ///     how = how.source(addr);
    /// }
    /// server.send_msg(buf, &how).await.0?;
    /// # let BufResult(answer, _) = client.recv_from(Vec::with_capacity(9)).await;
    /// # assert_eq!(answer?, (5, asked));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn recv_msg<B: IoBufMut>(&self, buf: B) -> BufResult<UdpReceived, B> {
        let BufResult(received, buf) =
            datagram::recv_msg(&self.fd, buf, 0, UdpReceived::ROOM).await;
        BufResult(
            received.and_then(|received| UdpReceived::of(&received)),
            buf,
        )
    }

    /// Receives many datagrams with few system calls, into buffers of the runtime's. See
    /// [`UdpReceiver`].
    pub fn recv_many(&self) -> UdpReceiver {
        UdpReceiver::new(&self.fd)
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
    /// `ResourceBusy` while there is a [`UdpReceiver`] of it, which goes on: its
    /// [`finish`](UdpReceiver::finish) gives what that has. `NotConnected` outside of a runtime, if an
    /// operation is in flight.
    pub async fn into_fd(self) -> io::Result<OwnedFd> {
        if Rc::weak_count(&self.fd) > 0 {
            let text = "a `UdpReceiver` of this socket is left: `finish` it first";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
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
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UdpSocket;
    ///
    /// # coring::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let mut receiver = socket.recv_many();
    /// # socket.send_to("one", socket.local_addr()?).await.0?;
    /// receiver.next().await?;
    /// let arrived = receiver.finish().await;
    /// let socket: std::net::UdpSocket = socket.into_std().await?;
    /// # assert!(arrived.is_empty() && socket.local_addr().is_ok());
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn into_std(self) -> io::Result<std::net::UdpSocket> {
        Ok(self.into_fd().await?.into())
    }

    /// The address of this end.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&*self.fd).local_addr()?)
    }

    /// The address of the other end, if it is connected.
    ///
    /// # Errors
    /// What getpeername(2) gives, such as `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&*self.fd).peer_addr()?)
    }
}

/// Takes a socket of std's over, and turns its non-blocking mode off, in which the kernel would not
/// wait.
///
/// # Panics
/// If it is no such socket: std's type can be made of any descriptor.
impl From<std::net::UdpSocket> for UdpSocket {
    fn from(socket: std::net::UdpSocket) -> Self {
        Self::try_from(OwnedFd::from(socket)).expect("it is a socket of its type")
    }
}

/// Takes a socket over, and turns its non-blocking mode off, in which the kernel would not wait. An
/// error if it is no such socket.
impl TryFrom<OwnedFd> for UdpSocket {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::of(datagram::take_over(
            fd,
            &[Domain::IPV4, Domain::IPV6],
        )?))
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("local", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .finish()
    }
}
