//! What can be given as an address.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address to bind or connect to: a [`SocketAddr`], an address with a port, or a text like
/// `"127.0.0.1:8080"` or `"[::1]:8080"`.
///
/// Names are not looked up here, since that blocks the thread.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no address",
    note = "give a `SocketAddr`, `(IpAddr, port)`, or a text like \"127.0.0.1:8080\"; names are not \
            looked up here"
)]
pub trait ToAddr {
    /// The address.
    ///
    /// # Errors
    /// `InvalidInput` if a text is no address.
    fn to_addr(&self) -> io::Result<SocketAddr>;
}

impl ToAddr for SocketAddr {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        Ok(*self)
    }
}

impl ToAddr for SocketAddrV4 {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        Ok((*self).into())
    }
}

impl ToAddr for SocketAddrV6 {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        Ok((*self).into())
    }
}

impl<I: Into<IpAddr> + Copy> ToAddr for (I, u16) {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        Ok((self.0.into(), self.1).into())
    }
}

impl ToAddr for str {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        self.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{self}` is no address: expected IP:PORT, like 127.0.0.1:8080"),
            )
        })
    }
}

impl ToAddr for String {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        self.as_str().to_addr()
    }
}

impl<A: ToAddr + ?Sized> ToAddr for &A {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        (**self).to_addr()
    }
}
