//! Sockets, with owned buffers.

mod addr;
mod kind;
mod listener;
pub(crate) mod receive;
pub(crate) mod send;
mod stream;
mod tcp;
mod unix;

pub use addr::ToAddr;
pub use kind::{Kind, Tcp, Unix};
pub use listener::TcpListener;
pub use stream::{OwnedReadHalf, OwnedWriteHalf, Released, Stream, TcpStream, UnixStream};
