//! What differs between kinds of streams: their addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixAddr;

use socket2::SockAddr;

use super::Stream;
use super::addr::unix_addr;

/// The kinds of streams that there are: [`Tcp`] and [`Unix`].
pub trait Kind: sealed::Sealed + 'static {
    /// What an end of a stream is called by.
    type Addr: fmt::Debug;

    #[doc(hidden)]
    const NAME: &'static str;

    #[doc(hidden)]
    fn addr(addr: &SockAddr) -> Option<Self::Addr>;

    /// As one of the internet.
    #[doc(hidden)]
    fn inet(addr: &Self::Addr) -> Option<SocketAddr>;

    /// Has small writes go out at once.
    #[doc(hidden)]
    fn set_nodelay(stream: &Stream<Self>) -> io::Result<()>
    where
        Self: Sized;
}

/// Streams of the internet.
#[derive(Debug)]
pub enum Tcp {}

/// Streams within the machine (unix(7)).
#[derive(Debug)]
pub enum Unix {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Tcp {}
    impl Sealed for super::Unix {}
}

impl Kind for Tcp {
    type Addr = SocketAddr;

    const NAME: &'static str = "Tcp";

    fn addr(addr: &SockAddr) -> Option<SocketAddr> {
        addr.as_socket()
    }

    fn inet(addr: &SocketAddr) -> Option<SocketAddr> {
        Some(*addr)
    }

    fn set_nodelay(stream: &Stream<Self>) -> io::Result<()> {
        stream.set_nodelay(true)
    }
}

impl Kind for Unix {
    type Addr = UnixAddr;

    const NAME: &'static str = "Unix";

    fn addr(addr: &SockAddr) -> Option<UnixAddr> {
        addr.is_unix().then(|| unix_addr(addr))
    }

    fn inet(_: &UnixAddr) -> Option<SocketAddr> {
        None
    }

    fn set_nodelay(_: &Stream<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// An address of a socket that is of this kind.
pub(super) fn of_kind<K: Kind>(addr: &SockAddr) -> io::Result<K::Addr> {
    K::addr(addr).ok_or_else(|| {
        let text = format!("not the address of a {} socket", K::NAME);
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}
