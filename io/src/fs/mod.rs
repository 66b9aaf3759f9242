//! Files, with owned buffers.

mod copy;
mod file;
mod metadata;

pub use copy::copy;
pub use file::{File, OpenOptions};
pub use metadata::Metadata;
