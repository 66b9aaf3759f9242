//! Sockets, with owned buffers.

mod addr;
mod kind;
mod listener;
mod receive;
mod stream;
mod tcp;

pub use addr::ToAddr;
pub use kind::{Kind, Tcp};
pub use listener::TcpListener;
pub use stream::{OwnedReadHalf, OwnedWriteHalf, Released, Stream, TcpStream};
