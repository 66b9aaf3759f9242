//! Listening for connections.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coring_runtime::{Multishot, submit_multishot};
use socket2::{Domain, SockRef, Socket, Type};

use super::addr::unix_sock_addr;
use super::kind::{Kind, Tcp, Unix, of_kind};
use super::released::{Released, unshared};
use super::{SocketOptions, Stream, TcpStream, ToAddr, ToUnixAddr, UnixStream};
use crate::ops::{Accept, SharedFd};

/// Connections that may wait here for somebody to take them; others stay with the kernel. So many
/// more may come before it has heard of that.
const UNCLAIMED_MAX: u64 = 64;

/// Connections that the kernel keeps until they are accepted; it takes `net.core.somaxconn` if that
/// is less.
pub(super) const BACKLOG: u32 = 4_096;

/// A socket that takes connections: [`TcpListener`] or [`UnixListener`].
///
/// They are accepted by one multishot operation (since Linux 5.19), which stays armed between
/// calls: what arrives meanwhile waits here, up to 64 and those that come before the kernel has heard
/// of that, and is closed with the listener. The address is free a moment after the listener is
/// dropped: when the loop has turned, and the kernel has let go.
///
/// # Examples
///
/// ```
/// use coring::net::{TcpListener, TcpStream};
///
/// # coring::run(async {
/// let mut listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// server.write_all("hello").await.0?;
/// assert_eq!(&client.receive().await?[..], b"hello");
/// # coring::ok(()) }).unwrap();
/// ```
pub struct Listener<K: Kind> {
    fd: SharedFd,
    accept: Multishot<Accept>,
    kind: PhantomData<K>,
}

/// A socket that takes TCP connections.
pub type TcpListener = Listener<Tcp>;

/// A socket that takes connections within the machine.
pub type UnixListener = Listener<Unix>;

impl Listener<Tcp> {
    /// Binds to `addr` and listens. Port 0 is any that is free. The address may be taken over
    /// from connections of a server that ran before (SO_REUSEADDR). [`SocketOptions`] has more.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2), bind(2) and listen(2) give, such as
    /// `AddrInUse`.
    pub fn bind(addr: impl ToAddr) -> io::Result<Self> {
        SocketOptions::new().listen(addr)
    }

    /// [`into_fd`](Self::into_fd), for the standard library.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the listener is closed, with the connections that nobody had claimed.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{TcpListener, TcpStream};
    ///
    /// # coring::run(async {
    /// let mut listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// # let _clients = (TcpStream::connect(addr).await?, TcpStream::connect(addr).await?);
    /// let (first, _) = listener.accept().await?;
    /// // A second one has connected.
    /// let released = listener.into_std().await?;
    /// let listener: std::net::TcpListener = released.socket;
    /// listener.set_nonblocking(true)?;
    /// let second = match released.received.into_iter().next() {
    ///     Some(claimed) => claimed,
    ///     None => listener.accept()?.0.into(),
    /// };
    /// # assert_eq!(first.local_addr()?, second.local_addr()?);
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn into_std(self) -> io::Result<Released<std::net::TcpListener, Vec<TcpStream>>> {
        Ok(self.into_fd().await?.map(Into::into))
    }
}

impl Listener<Unix> {
    /// Binds to `addr`, a path or a name, and listens. A path becomes a file, which stays when the
    /// listener is dropped, and which must not be there yet.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2), bind(2) and listen(2) give, such as
    /// `AddrInUse`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    /// use coring::net::{UnixListener, UnixStream};
    ///
    /// # coring::run(async {
    /// let name = SocketAddr::from_abstract_name(format!("example-{}", std::process::id()))?;
    /// let mut listener = UnixListener::bind(&name)?;
    /// let mut client = UnixStream::connect(&name).await?;
    /// let (mut server, _) = listener.accept().await?;
    /// server.write_all("hello").await.0?;
    /// assert_eq!(&client.receive().await?[..], b"hello");
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn bind(addr: impl ToUnixAddr) -> io::Result<Self> {
        let addr = unix_sock_addr(&addr.to_unix_addr()?)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        socket.bind(&addr)?;
        socket.listen(BACKLOG as i32)?;
        Ok(Self::of(socket.into()))
    }

    /// [`into_fd`](Self::into_fd), for the standard library.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the listener is closed, with the connections that nobody had claimed.
    ///
    /// # Errors
    /// As there.
    pub async fn into_std(
        self,
    ) -> io::Result<Released<std::os::unix::net::UnixListener, Vec<UnixStream>>> {
        Ok(self.into_fd().await?.map(Into::into))
    }
}

impl<K: Kind> Listener<K> {
    fn of(fd: OwnedFd) -> Self {
        let fd = Rc::new(fd);
        Self {
            accept: submit_multishot(Accept(fd.clone())).bounded(UNCLAIMED_MAX),
            fd,
            kind: PhantomData,
        }
    }

    /// Waits for a connection: gives it, and its peer's address.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. A connection that arrives is
    /// given to the next call.
    ///
    /// # Errors
    /// What accept(2) gives, such as EMFILE: the listener goes on, and the next call tries again.
    /// Until somebody closes a descriptor that fails at once, too, and a loop that retries at once
    /// spins: sleep a while first, 100 ms say.
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub async fn accept(&mut self) -> io::Result<(Stream<K>, K::Addr)> {
        loop {
            let stream = Stream::of(self.accept.next().await?);
            match stream.peer_addr() {
                Ok(peer) => return Ok((stream, peer)),
                // Reset before it was accepted: nothing that a server could do with it.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the listener out of the runtime: ends the accept that is armed, waits until the kernel is
    /// done with it, and gives the connections that nobody had claimed. Others may wait in the
    /// socket. That takes a turn of the loop; a request to stop does not reach it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the listener is closed, with the connections that nobody had claimed.
    ///
    /// # Errors
    /// `NotConnected` outside of a runtime, if an operation is in flight.
    pub async fn into_fd(self) -> io::Result<Released<OwnedFd, Vec<Stream<K>>>> {
        let Self { fd, accept, .. } = self;
        let (mut received, mut error) = (Vec::new(), None);
        for accepted in accept.finish().await {
            match accepted {
                Ok(fd) => received.push(Stream::of(fd)),
                Err(failed) => error = Some(failed),
            }
        }
        Ok(Released {
            socket: unshared(fd).await?,
            received,
            error,
        })
    }

    /// Closes it, and what nobody has claimed. When this is done the address is free: a drop leaves
    /// the descriptor with the operation until the kernel has let go.
    pub(crate) async fn close(self) {
        let Self { fd, accept, .. } = self;
        drop(fd);
        drop(accept.finish().await);
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<K::Addr> {
        of_kind::<K>(&SockRef::from(&*self.fd).local_addr()?)
    }
}

impl<K: Kind> From<OwnedFd> for Listener<K> {
    /// Takes over the descriptor of a stream socket that listens.
    fn from(fd: OwnedFd) -> Self {
        Self::of(fd)
    }
}

impl From<std::os::unix::net::UnixListener> for UnixListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self::of(listener.into())
    }
}

impl From<std::net::TcpListener> for TcpListener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::of(listener.into())
    }
}

impl<K: Kind> AsFd for Listener<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K: Kind> fmt::Debug for Listener<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(&format!("{}Listener", K::NAME))
            .field("addr", &self.local_addr().ok())
            .finish()
    }
}
