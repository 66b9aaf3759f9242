//! Sockets with options that must be set before they are bound or connected.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::listener::BACKLOG;
use super::{TcpListener, TcpStream, ToAddr, UdpSocket};

/// How to make a socket; as [`OpenOptions`](crate::fs::OpenOptions) say how to open a file.
///
/// They are plain data, so that each thread can make a socket of its own by the same ones.
///
/// # Examples
///
/// Two listeners on one port, between which the kernel distributes connections:
///
/// ```
/// use coring::net::SocketOptions;
///
/// # coring::run(async {
/// let mut options = SocketOptions::new();
/// options.reuse_port(true).backlog(1_024);
/// let first = options.listen("127.0.0.1:0")?;
/// let second = options.listen(first.local_addr()?)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SocketOptions {
    reuse_address: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
    recv_buffer_size: Option<usize>,
    send_buffer_size: Option<usize>,
    interface: Option<String>,
    local: Option<SocketAddr>,
    backlog: u32,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SocketOptions {
    /// What [`TcpListener::bind`], [`TcpStream::connect`] and [`UdpSocket::bind`] have.
    pub const fn new() -> Self {
        Self {
            reuse_address: false,
            reuse_port: false,
            only_v6: None,
            recv_buffer_size: None,
            send_buffer_size: None,
            interface: None,
            local: None,
            backlog: BACKLOG,
        }
    }

    /// The address may be one that another socket has, if that allows it too, or that connections
    /// of an earlier one have (SO_REUSEADDR). A listener always has this. UDP sockets that have it
    /// all receive what is sent to a group.
    pub const fn reuse_address(&mut self, reuse_address: bool) -> &mut Self {
        self.reuse_address = reuse_address;
        self
    }

    /// Several sockets of one user's may have the same address, if all allow it: the kernel
    /// distributes connections, or datagrams, between them (SO_REUSEPORT).
    pub const fn reuse_port(&mut self, reuse_port: bool) -> &mut Self {
        self.reuse_port = reuse_port;
        self
    }

    /// A socket of IPv6 does not take what comes over IPv4 (IPV6_V6ONLY). By default that is as
    /// `net.ipv6.bindv6only` says.
    pub const fn only_v6(&mut self, only_v6: bool) -> &mut Self {
        self.only_v6 = Some(only_v6);
        self
    }

    /// Bytes that the kernel keeps until they are received: see
    /// [`TcpStream::set_recv_buffer_size`]. What a listener accepts has what the listener has, and
    /// TCP agrees with its peer by it, so this is the time to set it.
    pub const fn recv_buffer_size(&mut self, bytes: usize) -> &mut Self {
        self.recv_buffer_size = Some(bytes);
        self
    }

    /// Bytes that the kernel keeps until they are sent: see [`TcpStream::set_send_buffer_size`].
    pub const fn send_buffer_size(&mut self, bytes: usize) -> &mut Self {
        self.send_buffer_size = Some(bytes);
        self
    }

    /// Sends and receives by the interface of this name alone (SO_BINDTODEVICE).
    pub fn interface(&mut self, name: impl Into<String>) -> &mut Self {
        self.interface = Some(name.into());
        self
    }

    /// Where a connection comes from; with port 0 the kernel chooses one.
    pub const fn local(&mut self, addr: SocketAddr) -> &mut Self {
        self.local = Some(addr);
        self
    }

    /// Connections that wait to be accepted, at the most; `net.core.somaxconn` if that is less. By
    /// default 4,096.
    pub const fn backlog(&mut self, connections: u32) -> &mut Self {
        self.backlog = connections;
        self
    }

    /// Binds to `addr` and listens: see [`TcpListener::bind`].
    ///
    /// # Errors
    /// As there; what setsockopt(2) gives, such as ENODEV.
    pub fn listen(&self, addr: impl ToAddr) -> io::Result<TcpListener> {
        let addr = addr.to_addr()?;
        let socket = self.socket(addr, Type::STREAM)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        Ok(std::net::TcpListener::from(socket).into())
    }

    /// Connects to `addr`: see [`TcpStream::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the peer may see a
    /// connection that is closed at once.
    ///
    /// # Errors
    /// As there; what setsockopt(2) and bind(2) give, such as ENODEV and `AddrNotAvailable`.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{SocketOptions, TcpListener};
    ///
    /// # coring::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// let mut options = SocketOptions::new();
    /// options.local(([127, 0, 0, 2], 0).into()).recv_buffer_size(1 << 20);
    /// let stream = options.connect(addr).await?;
    /// assert_eq!(stream.local_addr()?.ip(), std::net::Ipv4Addr::new(127, 0, 0, 2));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn connect(&self, addr: impl ToAddr) -> io::Result<TcpStream> {
        let addr = addr.to_addr()?;
        let socket = self.socket(addr, Type::STREAM)?;
        if let Some(local) = self.local {
            socket.bind(&local.into())?;
        }
        TcpStream::connect_from(socket.into(), addr.into()).await
    }

    /// Makes a UDP socket that is bound to `addr`: see [`UdpSocket::bind`].
    ///
    /// # Errors
    /// As there; what setsockopt(2) gives, such as ENODEV.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let socket = coring::net::SocketOptions::new().reuse_port(true).bind_udp("127.0.0.1:0")?;
    /// # drop(socket);
    /// # Ok(()) }
    /// ```
    pub fn bind_udp(&self, addr: impl ToAddr) -> io::Result<UdpSocket> {
        let addr = addr.to_addr()?;
        let socket = self.socket(addr, Type::DGRAM)?;
        socket.bind(&addr.into())?;
        Ok(std::net::UdpSocket::from(socket).into())
    }

    fn socket(&self, addr: SocketAddr, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), kind.cloexec(), None)?;
        if self.reuse_address {
            socket.set_reuse_address(true)?;
        }
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if let Some(only_v6) = self.only_v6
            && addr.is_ipv6()
        {
            socket.set_only_v6(only_v6)?;
        }
        if let Some(bytes) = self.recv_buffer_size {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer_size {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(name) = &self.interface {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        Ok(socket)
    }
}
