//! Sockets, with owned buffers.

mod addr;
pub(crate) mod control;
mod datagram;
mod kind;
mod listener;
mod receive;
mod stream;
mod tcp;
mod unix_datagram;

pub use addr::{ToAddr, ToUnixAddr};
pub use control::{Ancillary, Credentials, Truncated};
pub use kind::{Kind, Tcp};
pub use listener::TcpListener;
pub use stream::{OwnedReadHalf, OwnedWriteHalf, Released, Stream, TcpStream};
pub use unix_datagram::{UnixDatagram, UnixReceived};

pub use crate::bufs::IoBufs;
