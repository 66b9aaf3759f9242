//! Listening for connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use coring_runtime::{Multishot, submit_multishot};
use socket2::SockRef;

use super::kind::{Tcp, of_kind};
use super::{SocketOptions, TcpStream, ToAddr};
use crate::ops::{Accept, SharedFd};

/// Connections that may wait here for somebody to take them; others stay with the kernel. So many
/// more may come before it has heard of that.
const UNCLAIMED_MAX: u64 = 64;

/// A socket that takes TCP connections.
///
/// They are accepted by one multishot operation (since Linux 5.19), which stays armed between
/// calls: what arrives meanwhile waits here, 64 at first, and is closed with the listener. The port is free a
/// moment after the listener is dropped: when the loop has turned, and the kernel has let go.
///
/// # Examples
///
/// ```
/// use coring::net::{TcpListener, TcpStream};
/// use coring::BufResult;
///
/// # coring::run(async {
/// let mut listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// let BufResult(sent, _) = server.write_all("hello").await;
/// sent?;
/// let BufResult(n, buf) = client.read(Vec::with_capacity(16)).await;
/// assert_eq!((n?, &buf[..]), (5, &b"hello"[..]));
/// # coring::ok(()) }).unwrap();
/// ```
pub struct TcpListener {
    fd: SharedFd,
    accept: Multishot<Accept>,
}

impl TcpListener {
    /// Binds to `addr` and listens. Port 0 is any that is free. The address may be taken over
    /// from connections of a server that ran before (SO_REUSEADDR). [`SocketOptions`] has more.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2), bind(2) and listen(2) give, such as
    /// `AddrInUse`.
    pub fn bind(addr: impl ToAddr) -> io::Result<Self> {
        SocketOptions::new().listen(addr)
    }

    fn of(fd: OwnedFd) -> Self {
        let fd = Rc::new(fd);
        Self {
            accept: submit_multishot(Accept(fd.clone())).bounded(UNCLAIMED_MAX),
            fd,
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
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let stream = TcpStream::of(self.accept.next().await?);
            match stream.peer_addr() {
                Ok(peer) => return Ok((stream, peer)),
                // Reset before it was accepted: nothing that a server could do with it.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What getsockname(2) gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        of_kind::<Tcp>(&SockRef::from(&*self.fd).local_addr()?)
    }
}

impl From<std::net::TcpListener> for TcpListener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::of(listener.into())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.local_addr().ok())
            .finish()
    }
}
