//! Options of sockets: how the kernel treats what they send and receive.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, SockRef, TcpKeepalive};

use super::control::set_option;
use super::{TcpStream, UdpSocket, UnixDatagram};

/// What all sockets have.
macro_rules! every_socket {
    ($socket:ty) => {
        impl $socket {
            /// How many bytes the kernel keeps until they are received (SO_RCVBUF): it takes twice
            /// as many as are asked for, for its own needs, and no more than
            /// `net.core.rmem_max` allows.
            ///
            /// # Errors
            /// What setsockopt(2) gives.
            pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
                SockRef::from(self).set_recv_buffer_size(bytes)
            }

            /// How many bytes the kernel took: see
            /// [`set_recv_buffer_size`](Self::set_recv_buffer_size).
            ///
            /// # Errors
            /// What getsockopt(2) gives.
            pub fn recv_buffer_size(&self) -> io::Result<usize> {
                SockRef::from(self).recv_buffer_size()
            }

            /// How many bytes the kernel keeps until they are sent (SO_SNDBUF): it takes twice as
            /// many as are asked for, for its own needs, and no more than `net.core.wmem_max`
            /// allows.
            ///
            /// # Errors
            /// What setsockopt(2) gives.
            pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
                SockRef::from(self).set_send_buffer_size(bytes)
            }

            /// How many bytes the kernel took: see
            /// [`set_send_buffer_size`](Self::set_send_buffer_size).
            ///
            /// # Errors
            /// What getsockopt(2) gives.
            pub fn send_buffer_size(&self) -> io::Result<usize> {
                SockRef::from(self).send_buffer_size()
            }

            /// Takes the error that the next operation would give (SO_ERROR).
            ///
            /// # Errors
            /// What getsockopt(2) gives.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                SockRef::from(self).take_error()
            }
        }
    };
}

every_socket!(TcpStream);
every_socket!(UdpSocket);
every_socket!(UnixDatagram);

/// What sockets of the internet have.
macro_rules! inet_socket {
    ($socket:ty) => {
        impl $socket {
            /// How many routers a packet may pass, 1 to 255 (IP_TTL, IPV6_UNICAST_HOPS).
            ///
            /// # Errors
            /// What setsockopt(2) gives, such as EINVAL.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                let socket = SockRef::from(self);
                each_family(&socket, |socket, family| match family {
                    Family::V4 => socket.set_ttl_v4(ttl),
                    Family::V6 => socket.set_unicast_hops_v6(ttl),
                })
            }

            /// See [`set_ttl`](Self::set_ttl).
            ///
            /// # Errors
            /// What getsockopt(2) gives.
            pub fn ttl(&self) -> io::Result<u32> {
                let socket = SockRef::from(self);
                if socket.domain()? == Domain::IPV6 {
                    return socket.unicast_hops_v6();
                }
                socket.ttl_v4()
            }
        }
    };
}

inet_socket!(TcpStream);
inet_socket!(UdpSocket);

enum Family {
    V4,
    V6,
}

/// Sets an option for what a socket does over IPv6, and for what it does over IPv4.
fn each_family(
    socket: &SockRef<'_>,
    set: impl Fn(&SockRef<'_>, Family) -> io::Result<()>,
) -> io::Result<()> {
    if socket.domain()? == Domain::IPV6 {
        set(socket, Family::V6)?;
        if socket.only_v6()? {
            return Ok(());
        }
    }
    set(socket, Family::V4)
}

/// When a peer that says nothing is asked whether it is still there: see
/// [`TcpStream::set_keepalive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// How long it may be silent before it is asked. From 1 s to 32,767 s, in whole seconds.
    pub time: Duration,
    /// How long it has to answer, before it is asked again. The same.
    pub interval: Duration,
    /// How often it is asked before it is given up: from 1 to 127.
    pub retries: u32,
}

impl Keepalive {
    /// After `time`, and 9 times every 75 s, as is usual.
    pub const fn new(time: Duration) -> Self {
        Self {
            time,
            interval: Duration::from_secs(75),
            retries: 9,
        }
    }

    /// With another interval.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// With another number of questions.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }
}

/// Options of connections.
impl TcpStream {
    /// Whether a peer that says nothing is asked if it is still there (SO_KEEPALIVE): one that does
    /// not answer ends the connection, and operations on it fail with `TimedOut`.
    ///
    /// # Errors
    /// What setsockopt(2) gives, such as EINVAL.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use coring::net::{Keepalive, TcpListener, TcpStream};
    ///
    /// # coring::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// let stream = TcpStream::connect(addr).await?;
    /// let minute = Duration::from_secs(60);
    /// let keepalive = Keepalive::new(minute).interval(minute / 6).retries(3);
    /// stream.set_keepalive(Some(keepalive))?;
    /// assert_eq!(stream.keepalive()?, Some(keepalive));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        let socket = SockRef::from(self);
        let Some(keepalive) = keepalive else {
            return socket.set_keepalive(false);
        };
        let params = TcpKeepalive::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries);
        socket.set_tcp_keepalive(&params)
    }

    /// See [`set_keepalive`](Self::set_keepalive).
    ///
    /// # Errors
    /// What getsockopt(2) gives.
    pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
        let socket = SockRef::from(self);
        if !socket.keepalive()? {
            return Ok(None);
        }
        Ok(Some(Keepalive {
            time: socket.tcp_keepalive_time()?,
            interval: socket.tcp_keepalive_interval()?,
            retries: socket.tcp_keepalive_retries()?,
        }))
    }

    /// Has closing it reset the connection: what was not sent yet is thrown away, and the peer
    /// sees an error instead of the end (SO_LINGER with a time of zero).
    ///
    /// There is no other time: with one, dropping the connection would block the thread.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        SockRef::from(self).set_linger(Some(Duration::ZERO))
    }
}

/// Options of datagrams.
impl UdpSocket {
    /// Whether [`recv_msg`](Self::recv_msg) may give several datagrams of one sender's at once, all
    /// of one length but the last (UDP_GRO, since Linux 5.0). Other ways to receive do not say
    /// where one ends.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_gro(&self, gro: bool) -> io::Result<()> {
        set_option(self, libc::SOL_UDP, libc::UDP_GRO, &[gro.into()])
    }

    /// Whether [`recv_msg`](Self::recv_msg) says how a datagram was marked (IP_RECVTOS,
    /// IPV6_RECVTCLASS).
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_recv_ecn(&self, recv_ecn: bool) -> io::Result<()> {
        each_family(&SockRef::from(self), |socket, family| match family {
            Family::V4 => socket.set_recv_tos_v4(recv_ecn),
            Family::V6 => socket.set_recv_tclass_v6(recv_ecn),
        })
    }

    /// Whether [`recv_msg`](Self::recv_msg) says to which address a datagram was sent, and by which
    /// interface it came (IP_PKTINFO, IPV6_RECVPKTINFO).
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_recv_pktinfo(&self, recv_pktinfo: bool) -> io::Result<()> {
        // An address of IPv4 comes to a socket of IPv6 as one of IPv6.
        let (level, name) = if SockRef::from(self).domain()? == Domain::IPV6 {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        } else {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        };
        set_option(self, level, name, &[recv_pktinfo.into()])
    }

    /// Whether it may send to broadcast addresses (SO_BROADCAST).
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        SockRef::from(self).set_broadcast(broadcast)
    }

    /// See [`set_broadcast`](Self::set_broadcast).
    ///
    /// # Errors
    /// What getsockopt(2) gives.
    pub fn broadcast(&self) -> io::Result<bool> {
        SockRef::from(self).broadcast()
    }

    /// Receives what is sent to a group, by the interface of this number; with 0 the kernel
    /// chooses one.
    ///
    /// # Errors
    /// What setsockopt(2) gives, such as ENODEV.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    /// use coring::net::UdpSocket;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let socket = UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(224, 0, 0, 251).into();
    /// let loopback = 1;
    /// socket.join_multicast(group, loopback)?;
    /// socket.leave_multicast(group, loopback)?;
    /// # Ok(()) }
    /// ```
    pub fn join_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        let socket = SockRef::from(self);
        match group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
        }
    }

    /// Undoes [`join_multicast`](Self::join_multicast).
    ///
    /// # Errors
    /// What setsockopt(2) gives, such as `AddrNotAvailable` if it is not in that group.
    pub fn leave_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        let socket = SockRef::from(self);
        match group {
            IpAddr::V4(group) => {
                socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
            }
            IpAddr::V6(group) => socket.leave_multicast_v6(&group, interface),
        }
    }

    /// Whether what it sends to a group comes to members on this machine as well. It does by
    /// default.
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    pub fn set_multicast_loop(&self, multicast_loop: bool) -> io::Result<()> {
        each_family(&SockRef::from(self), |socket, family| match family {
            Family::V4 => socket.set_multicast_loop_v4(multicast_loop),
            Family::V6 => socket.set_multicast_loop_v6(multicast_loop),
        })
    }

    /// How many routers what it sends to a group may pass, 0 to 255: by default 1, which is to stay
    /// in this network.
    ///
    /// # Errors
    /// What setsockopt(2) gives, such as EINVAL.
    pub fn set_multicast_ttl(&self, ttl: u32) -> io::Result<()> {
        each_family(&SockRef::from(self), |socket, family| match family {
            Family::V4 => socket.set_multicast_ttl_v4(ttl),
            Family::V6 => socket.set_multicast_hops_v6(ttl),
        })
    }

    /// The number of the interface by which it sends to groups; with 0 the kernel chooses one.
    ///
    /// # Errors
    /// What setsockopt(2) gives, such as ENODEV.
    pub fn set_multicast_interface(&self, interface: u32) -> io::Result<()> {
        each_family(&SockRef::from(self), |socket, family| match family {
            // `struct ip_mreqn`: a group, an address, a number.
            Family::V4 => {
                let request = [0, 0, interface as libc::c_int];
                set_option(&**socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
            }
            Family::V6 => socket.set_multicast_if_v6(interface),
        })
    }
}
