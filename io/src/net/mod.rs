//! TCP, with owned buffers.

mod addr;
mod listener;
mod stream;

pub use addr::ToAddr;
pub use listener::TcpListener;
pub use stream::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
