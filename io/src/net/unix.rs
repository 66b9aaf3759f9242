//! What connections within the machine have of their own.

use std::io;

use socket2::{Domain, Socket, Type};

use super::addr::unix_sock_addr;
use super::control::peer_credentials;
use super::stream::UnixStream;
use super::{Credentials, Released, Stream, ToUnixAddr, Unix};

impl Stream<Unix> {
    /// Connects to the socket at `addr`, a path or a name.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the peer may see a
    /// connection that is closed at once.
    ///
    /// # Errors
    /// `InvalidInput` for a bad address; what socket(2) and connect(2) give, such as `NotFound`, and
    /// `WouldBlock` if the listener has as many that wait as it takes;
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub async fn connect(addr: impl ToUnixAddr) -> io::Result<Self> {
        let addr = unix_sock_addr(&addr.to_unix_addr()?)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        Self::connect_from(socket.into(), addr).await
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// What socketpair(2) gives.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{Credentials, UnixStream};
    ///
    /// # coring::run(async {
    /// let (mut one, mut other) = UnixStream::pair()?;
    /// one.write_all("hello").await.0?;
    /// assert_eq!(&other.receive().await?[..], b"hello");
    /// assert_eq!(other.peer_cred()?, Credentials::own());
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        Ok((Self::of(one.into()), Self::of(other.into())))
    }

    /// Who is at the other end, as it was when it connected (SO_PEERCRED).
    ///
    /// # Errors
    /// What getsockopt(2) gives.
    pub fn peer_cred(&self) -> io::Result<Credentials> {
        peer_credentials(self.shared_fd())
    }

    /// [`into_fd`](Self::into_fd), for the standard library.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the connection is closed, with what had arrived.
    ///
    /// # Errors
    /// As there.
    pub async fn into_std(self) -> io::Result<Released<std::os::unix::net::UnixStream>> {
        let released = self.into_fd().await?;
        Ok(released.map(Into::into))
    }
}

impl From<std::os::unix::net::UnixStream> for UnixStream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::of(stream.into())
    }
}
