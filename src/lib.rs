//! An async runtime for Linux with asyncio's vocabulary and io_uring as its only way to wait.

pub use coring_runtime::*;
