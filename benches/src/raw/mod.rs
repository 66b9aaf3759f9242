//! Hand-written loops over the `io-uring` crate: the limit that a runtime is held against.
//!
//! Each does the work of one row and nothing else: no tasks, no wakers, no cancellation. They
//! share the ring of [`Turns`], set up with every flag that helped when measured.

pub mod accept;
mod buffers;
pub mod bulk;
pub mod echo;
pub mod echo_multishot;
pub mod files;
pub mod kv;
pub mod msg_ring;
pub mod nops;
pub mod recv_timeout;
mod ring;
pub mod sleeps;
pub mod splices;
pub mod udp;

pub use ring::{Turns, ring};
