//! Servers over runtimes: coring, and the references over epoll that it is compared with. They echo,
//! or accept and close.
//!
//! All that write set TCP_NODELAY. They serve one thread and give a connection the same buffer.

pub mod blocking;
pub mod canned;
pub mod coring;
pub mod mio;
pub mod tokio;

/// Bytes of a connection's receive buffer, in every server.
pub const BUFFER_BYTES: usize = 16 * 1024;
