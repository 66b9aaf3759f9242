//! Work without a peer, the same on coring and on tokio: what a runtime itself costs.
//!
//! Each function performs `n` operations on a runtime that is there already.

pub mod coring;
pub mod pingpong;
pub mod recv;
pub mod sleepers;
pub mod threads;
pub mod together;
pub mod tokio;

/// Tasks that yield to each other.
pub const YIELDERS: u64 = 1_000;
/// Tasks that are made before the first of them is awaited.
pub const BATCH: u64 = 1_000;
