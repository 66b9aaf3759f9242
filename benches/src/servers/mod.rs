//! Servers over runtimes: coring, and the references over epoll that it is compared with. They echo,
//! or accept and close.
//!
//! All that write set TCP_NODELAY. They serve one thread and give a connection the same buffer.

use std::sync::OnceLock;

pub mod blocking;
pub mod canned;
pub mod coring;
pub mod mio;
pub mod tokio;

/// Bytes of a connection's receive buffer, or of each that connections share, in every server but
/// coring's, which has its own.
pub fn buffer_bytes() -> usize {
    *BUFFER_BYTES.get_or_init(|| 16 * 1024)
}

/// Sets that, before the first server starts.
pub(crate) fn set_buffer_bytes(bytes: usize) {
    BUFFER_BYTES.get_or_init(|| bytes);
}

static BUFFER_BYTES: OnceLock<usize> = OnceLock::new();
