//! Sockets and files for [coring](https://docs.rs/coring).
//!
//! What is read into or written from is lent: a buffer moves in, and comes back with the result
//! in every case, since the kernel has it meanwhile. See [`BufResult`](coring_runtime::BufResult).
//!
//! Everything here is an [`Operation`](coring_runtime::Operation) of the runtime's, described once
//! and decoded once; a crate of your own adds one in the same way.

#![doc(test(attr(deny(warnings))))]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod fs;
pub mod net;
pub mod streams;

pub use poll_stream::PollStream;
#[cfg(feature = "hyper")]
pub use poll_stream::{HyperExecutor, HyperTimer};

mod bufs;
mod ops;
mod poll_stream;
mod transfer;
