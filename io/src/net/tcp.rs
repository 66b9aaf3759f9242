//! What TCP connections have of their own.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, SockRef, Socket, Type};

use super::stream::TcpStream;
use super::{Released, Tcp, ToAddr};
use crate::net::Stream;

impl Stream<Tcp> {
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
        let addr: SocketAddr = addr.to_addr()?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), None)?;
        Self::connect_from(socket.into(), addr.into()).await
    }

    /// [`into_fd`](Self::into_fd), for the standard library.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the connection is closed, with what had arrived.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::net::{TcpListener, TcpStream};
    /// # coring::run(async {
    /// # let mut listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut server, _) = listener.accept().await?;
    /// client.write_all("hello").await.0?;
    /// server.peek(vec![0; 1]).await.0?;
    /// let released = server.into_std().await?;
    /// assert_eq!(released.received, b"hello");
    /// let _: std::net::TcpStream = released.socket;
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn into_std(self) -> io::Result<Released<std::net::TcpStream>> {
        let released = self.into_fd().await?;
        Ok(released.map(Into::into))
    }

    /// Whether small writes go out at once (TCP_NODELAY) instead of waiting for more.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        SockRef::from(&**self.shared_fd()).set_tcp_nodelay(nodelay)
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    ///
    /// # Errors
    /// What getsockopt(2) gives.
    pub fn nodelay(&self) -> io::Result<bool> {
        SockRef::from(&**self.shared_fd()).tcp_nodelay()
    }
}

impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::of(stream.into())
    }
}
