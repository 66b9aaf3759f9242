//! What connections within the machine have of their own.

use std::io;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::Unix;
use super::stream::{Released, UnixStream};
use crate::net::Stream;

impl Stream<Unix> {
    /// Connects to the socket at `path`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the peer may see a
    /// connection that is closed at once.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is too long (108 bytes); what socket(2) and connect(2) give,
    /// such as `NotFound`; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit
    /// too.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let addr = SockAddr::unix(path)?;
        Self::connected(Domain::UNIX, addr).await
    }

    /// Two streams that are connected to each other.
    ///
    /// # Errors
    /// What socketpair(2) gives.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UnixStream;
    ///
    /// # coring::run(async {
    /// let (mut one, mut other) = UnixStream::pair()?;
    /// one.write_all("hello").await.0?;
    /// assert_eq!(&other.receive().await?[..], b"hello");
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        Ok((Self::of(one.into()), Self::of(other.into())))
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
