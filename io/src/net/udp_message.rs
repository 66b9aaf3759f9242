//! What goes along with datagrams of UDP, on the way out and on the way in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use coring_runtime::Lease;
use socket2::SockAddr;

use super::control::{self, Writer, int, space};
use crate::ops::{Message, Received};

/// An address of a socket that is known to be of the internet.
pub(super) fn inet(addr: &SockAddr) -> io::Result<SocketAddr> {
    addr.as_socket().ok_or_else(no_inet)
}

fn no_inet() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not an internet socket")
}

/// `struct sockaddr_in` or `struct sockaddr_in6`: the family, the port, and for IPv6 flow, address and
/// scope.
fn decode_inet(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let ip = *name.get(4..)?.first_chunk::<4>()?;
            Some((ip, port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(*name.get(4..)?.first_chunk()?);
            let ip = *name.get(8..)?.first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(ip.into(), port, flow, scope).into())
        }
        _ => None,
    }
}

/// How routers say that they are about to be overloaded, without losing a datagram (RFC 3168): the
/// lower two bits of the byte that was once the type of service.
///
/// # Examples
///
/// ```
/// use coring::net::{Ecn, UdpSocket, UdpTransmit};
///
/// # coring::run(async {
/// # let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// theirs.set_recv_ecn(true)?;
/// let how = UdpTransmit::to(theirs.local_addr()?).ecn(Ecn::Ect0);
/// ours.send_msg("hello", &how).await.0?;
/// let received = theirs.recv_msg(Vec::with_capacity(1_500)).await.0?;
/// assert_eq!(received.ecn, Some(Ecn::Ect0));
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// The sender does not listen to it.
    NotCapable = 0b00,
    /// It does (RFC 9331 gives this one another meaning).
    Ect1 = 0b01,
    /// It does.
    Ect0 = 0b10,
    /// A router was overloaded.
    CongestionExperienced = 0b11,
}

impl Ecn {
    fn of(traffic_class: libc::c_int) -> Self {
        match traffic_class & 0b11 {
            0b00 => Self::NotCapable,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::CongestionExperienced,
        }
    }
}

/// How a datagram is to be sent by [`UdpSocket::send_msg`](super::UdpSocket::send_msg).
///
/// # Examples
///
/// Ten datagrams of 100 bytes by one call:
///
/// ```
/// use coring::net::{UdpSocket, UdpTransmit};
/// use coring::BufResult;
///
/// # coring::run(async {
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let how = UdpTransmit::to(theirs.local_addr()?).segment_size(100);
/// ours.send_msg(vec![7; 1_000], &how).await.0?;
/// let mut buf = Vec::with_capacity(1_000);
/// for _ in 0..10 {
///     let BufResult(n, back) = theirs.recv(buf).await;
///     assert_eq!(n?, 100);
///     buf = back;
/// }
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is given to `send_msg`"]
pub struct UdpTransmit {
    pub(super) to: Option<SocketAddr>,
    segment_size: Option<u16>,
    ecn: Option<Ecn>,
    source: Option<IpAddr>,
    interface: Option<u32>,
}

impl UdpTransmit {
    /// To the peer of a connected socket, with nothing particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// To `addr`.
    pub fn to(addr: SocketAddr) -> Self {
        Self {
            to: Some(addr),
            ..Self::default()
        }
    }

    /// As datagrams of so many bytes each, of which the last may be shorter: the kernel, or the
    /// network card, cuts them apart (UDP_SEGMENT). There may be 64 of them, with more on newer
    /// kernels, and 65,507 bytes in all over IPv4.
    pub const fn segment_size(mut self, bytes: u16) -> Self {
        self.segment_size = Some(bytes);
        self
    }

    /// Marked so. The other bits of that byte are zero then, whatever the socket has.
    pub const fn ecn(mut self, ecn: Ecn) -> Self {
        self.ecn = Some(ecn);
        self
    }

    /// From this address of the machine's, such as the one that a request was sent to
    /// ([`UdpReceived::to`]). The port is the socket's.
    pub const fn source(mut self, addr: IpAddr) -> Self {
        self.source = Some(addr);
        self
    }

    /// Out of the interface of this number ([`UdpReceived::interface`]).
    pub const fn interface(mut self, index: u32) -> Self {
        self.interface = Some(index);
        self
    }

    /// Whether anything is said for which the kernel must know of which family the peer is.
    pub(super) const fn needs_family(&self) -> bool {
        self.ecn.is_some() || self.source.is_some() || self.interface.is_some()
    }

    /// As control messages, for a peer with an address of IPv4 or of IPv6.
    ///
    /// # Errors
    /// `InvalidInput` if the source is of the other family.
    pub(super) fn encode(&self, peer: IpAddr) -> io::Result<Vec<u8>> {
        let mut writer = Writer::default();
        if let Some(bytes) = self.segment_size {
            writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
        }
        let is_v4 = peer.to_canonical().is_ipv4();
        if let Some(ecn) = self.ecn {
            let (level, kind) = if is_v4 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            writer.push(level, kind, &libc::c_int::from(ecn as u8).to_ne_bytes());
        }
        if self.source.is_none() && self.interface.is_none() {
            return Ok(writer.0);
        }
        let interface = self.interface.unwrap_or(0).to_ne_bytes();
        match (self.source.map(|addr| addr.to_canonical()), is_v4) {
            (None | Some(IpAddr::V4(_)), true) => {
                let source = match self.source.map(|addr| addr.to_canonical()) {
                    Some(IpAddr::V4(addr)) => addr,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                // `struct in_pktinfo`: the interface, the source, nothing.
                let data = [interface, source.octets(), [0; 4]];
                writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, data.as_flattened());
            }
            (None | Some(IpAddr::V6(_)), false) => {
                let source = match self.source {
                    Some(IpAddr::V6(addr)) => addr,
                    _ => Ipv6Addr::UNSPECIFIED,
                };
                // `struct in6_pktinfo`: the source, the interface.
                let data = [&source.octets()[..], &interface].concat();
                writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
            (Some(source), _) => {
                let text = format!("{source} cannot be the source of a datagram to {peer}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(writer.0)
    }
}

/// What [`UdpSocket::recv_msg`](super::UdpSocket::recv_msg) or a [`UdpReceiver`](super::UdpReceiver)
/// received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpReceived {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes that the buffer had no room for: lost.
    pub truncated: usize,
    /// The sender's address.
    pub from: SocketAddr,
    /// The bytes are those of several datagrams of this length, of which the last may be shorter:
    /// see [`datagrams`](Self::datagrams). With [`set_gro`](super::UdpSocket::set_gro).
    pub segment_size: Option<u16>,
    /// How it was marked. With [`set_recv_ecn`](super::UdpSocket::set_recv_ecn).
    pub ecn: Option<Ecn>,
    /// The address that it was sent to, which may be one of a group. With
    /// [`set_recv_pktinfo`](super::UdpSocket::set_recv_pktinfo).
    pub to: Option<IpAddr>,
    /// The number of the interface that it came by. With
    /// [`set_recv_pktinfo`](super::UdpSocket::set_recv_pktinfo).
    pub interface: Option<u32>,
}

impl UdpReceived {
    /// Room for all messages that are decoded below, on a socket for both families.
    pub(super) const ROOM: usize = 3 * space(4) + space(12) + space(20);

    pub(super) fn of(received: &Received) -> io::Result<Self> {
        let from = inet(&received.from)?;
        let mut this = Self::from(from, received.len, received.truncated);
        this.decode(received.control.iter());
        Ok(this)
    }

    /// What is known of a message, and its payload.
    pub(super) fn of_message(message: Message) -> io::Result<(Self, Lease)> {
        let from = decode_inet(message.name()).ok_or_else(no_inet)?;
        let mut this = Self::from(from, 0, message.truncated());
        this.decode(control::decode(message.control()));
        let payload = message.into_payload();
        this.len = payload.len();
        Ok((this, payload))
    }

    const fn from(from: SocketAddr, len: usize, truncated: usize) -> Self {
        Self {
            len,
            truncated,
            from,
            segment_size: None,
            ecn: None,
            to: None,
            interface: None,
        }
    }

    fn decode<'a>(&mut self, messages: impl Iterator<Item = (libc::c_int, libc::c_int, &'a [u8])>) {
        for (level, kind, data) in messages {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    self.segment_size = int(data, 0).and_then(|size| u16::try_from(size).ok());
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    self.ecn = data.first().map(|&byte| Ecn::of(byte.into()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => self.ecn = int(data, 0).map(Ecn::of),
                // `struct in_pktinfo`: the interface, our address, the one in the header.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    self.interface = int(data, 0).map(|index| index as u32);
                    let addr = data.get(8..).and_then(|data| data.first_chunk::<4>());
                    self.to = addr.map(|&addr| Ipv4Addr::from(addr).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    self.interface = int(data, 16).map(|index| index as u32);
                    let addr = data.first_chunk::<16>();
                    self.to = addr.map(|&addr| Ipv6Addr::from(addr).into());
                }
                _ => {}
            }
        }
    }

    /// Each datagram in `buf`, which is what this was received into: one, or several with
    /// [`segment_size`](Self::segment_size).
    ///
    /// # Panics
    /// If `buf` is shorter than what was received.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UdpSocket;
    /// use coring::BufResult;
    ///
    /// # coring::run(async {
    /// # let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// theirs.set_gro(true)?;
    /// ours.send_to("hello", theirs.local_addr()?).await.0?;
    /// let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(65_536)).await;
    /// for datagram in received?.datagrams(&buf) {
    ///     assert_eq!(datagram, b"hello");
    /// }
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn datagrams<'a>(&self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = &buf[..self.len];
        let size = self.segment_size.map_or(self.len, usize::from).max(1);
        // One without bytes is one.
        let empty = whole.is_empty().then_some(whole);
        empty.into_iter().chain(whole.chunks(size))
    }
}
