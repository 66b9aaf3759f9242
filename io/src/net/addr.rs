//! What can be given as an address.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

/// An address to bind or connect to: a [`SocketAddr`], an address with a port, or a text like
/// `"127.0.0.1:8080"` or `"[::1]:8080"`.
///
/// Names are not looked up here, since that blocks the thread:
/// [`lookup_host`](super::lookup_host) does it on another, and
/// [`open_connection`](crate::streams::open_connection) connects to what it gives. A text that is a
/// name compiles, and is an error when it is used.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no address",
    note = "give a `SocketAddr`, `(IpAddr, port)`, or a text like \"127.0.0.1:8080\"; names of hosts \
            are looked up by `lookup_host`, and by `open_connection` and `start_server`"
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

/// Each by itself: of `(I, u16)` with any `I: Into<IpAddr>` the compiler would say, where `I` is the
/// name of a host, that it is no `IpAddr`, and not what to do.
macro_rules! with_port {
    ($($addr:ty),*) => { $(
        impl ToAddr for ($addr, u16) {
            fn to_addr(&self) -> io::Result<SocketAddr> {
                Ok((IpAddr::from(self.0), self.1).into())
            }
        }
    )* };
}

with_port!(IpAddr, Ipv4Addr, Ipv6Addr, [u8; 4], [u8; 16], [u16; 8]);

impl ToAddr for str {
    fn to_addr(&self) -> io::Result<SocketAddr> {
        self.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "`{self}` is no address: expected IP:PORT, like 127.0.0.1:8080 (names of hosts \
                     are looked up by `lookup_host`, and by `open_connection` and `start_server`)"
                ),
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

/// An address of a Unix socket: a path, or std's [`SocketAddr`](unix::SocketAddr), which may have
/// an abstract name as well ([`SocketAddrExt`](std::os::linux::net::SocketAddrExt)).
///
/// # Examples
///
/// ```
/// use std::os::linux::net::SocketAddrExt;
/// use std::os::unix::net::SocketAddr;
///
/// # fn main() -> std::io::Result<()> {
/// let name = SocketAddr::from_abstract_name(format!("example-{}", std::process::id()))?;
/// let socket = coring::net::UnixDatagram::bind(&name)?;
/// assert_eq!(socket.local_addr()?.as_abstract_name(), name.as_abstract_name());
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no address of a Unix socket",
    note = "give a path or a `std::os::unix::net::SocketAddr`"
)]
pub trait ToUnixAddr {
    /// The address.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is longer than 107 bytes, or has a NUL inside.
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr>;
}

impl ToUnixAddr for unix::SocketAddr {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        Ok(self.clone())
    }
}

impl ToUnixAddr for Path {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        unix::SocketAddr::from_pathname(self).map_err(|error| {
            let text = format!(
                "`{}` is no address of a Unix socket: {error}",
                self.display()
            );
            io::Error::new(error.kind(), text)
        })
    }
}

impl ToUnixAddr for PathBuf {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        self.as_path().to_unix_addr()
    }
}

impl ToUnixAddr for str {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        Path::new(self).to_unix_addr()
    }
}

impl ToUnixAddr for String {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        Path::new(self).to_unix_addr()
    }
}

impl<A: ToUnixAddr + ?Sized> ToUnixAddr for &A {
    fn to_unix_addr(&self) -> io::Result<unix::SocketAddr> {
        (**self).to_unix_addr()
    }
}

/// As the kernel takes it.
pub(super) fn unix_sock_addr(addr: &unix::SocketAddr) -> io::Result<SockAddr> {
    if let Some(name) = addr.as_abstract_name() {
        let name = [b"\0", name].concat();
        return SockAddr::unix(OsStr::from_bytes(&name));
    }
    SockAddr::unix(addr.as_pathname().unwrap_or(Path::new("")))
}

/// As std has it. What std has no way to make (a path of 108 bytes, the end of which no NUL marks)
/// shows as unnamed.
pub(super) fn unix_addr(addr: &SockAddr) -> unix::SocketAddr {
    let named = match (addr.as_abstract_namespace(), addr.as_pathname()) {
        (Some(name), _) => unix::SocketAddr::from_abstract_name(name).ok(),
        (None, path) => path.and_then(|path| unix::SocketAddr::from_pathname(path).ok()),
    };
    named.unwrap_or_else(|| unix::SocketAddr::from_pathname("").expect("an empty path is no name"))
}
