//! Sockets, with owned buffers.

mod addr;
mod both_ways;
pub(crate) mod control;
mod datagram;
mod kind;
mod listener;
mod lookup;
mod options;
mod readable;
pub(crate) mod receive;
mod released;
pub(crate) mod send;
pub(crate) mod sendfile;
mod socket_options;
mod stream;
mod tcp;
mod udp;
mod udp_message;
mod udp_receiver;
mod unix;
mod unix_datagram;
mod unix_message;
mod vectored;
mod zero_copy;

pub use addr::{ToAddr, ToUnixAddr};
pub use both_ways::copy_bidirectional;
pub use control::{Ancillary, Credentials, Truncated};
pub use kind::{Kind, Tcp, Unix};
pub use listener::{Listener, TcpListener, UnixListener};
pub use lookup::{ToHost, lookup_host};
pub use options::Keepalive;
pub use released::Released;
pub use socket_options::SocketOptions;
pub use stream::{OwnedReadHalf, OwnedWriteHalf, Stream, TcpStream, UnixStream};
pub use udp::UdpSocket;
pub use udp_message::{Ecn, UdpReceived, UdpTransmit};
pub use udp_receiver::UdpReceiver;
pub use unix_datagram::{UnixDatagram, UnixReceived};
pub use unix_message::UnixStreamReceived;

pub use crate::bufs::IoBufs;
