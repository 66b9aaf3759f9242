//! The memory of one buffer.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// What buffers are aligned to: a page, so that no two share one.
const ALIGN_BYTES: usize = 4_096;

/// Bytes on the heap that the kernel and leases share, each its own range: so nobody makes a
/// reference to the whole.
pub(super) struct Block {
    start: NonNull<u8>,
    bytes: u32,
}

// SAFETY: it is an address and a length. Who may read and write which bytes is up to those who
// have the ranges; those that leave the thread are only read (R12).
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// Uninitialised memory of `bytes` bytes, which are more than none, but for zeros in the first
    /// `head` of them.
    pub(super) fn new(bytes: u32, head: u32) -> Self {
        assert!(head <= bytes);
        let layout = layout(bytes);
        assert!(layout.size() > 0);
        // SAFETY: not empty.
        let start = NonNull::new(unsafe { alloc(layout) });
        let start = start.unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: the block has so many bytes, and no request can reach it yet (R1).
        unsafe { start.write_bytes(0, head as usize) };
        Self { start, bytes }
    }

    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the last of those who had a range is gone, and
        // the kernel with them, or the pool would have been leaked (R2, R9).
        unsafe { dealloc(self.start.as_ptr(), layout(self.bytes)) };
    }
}

fn layout(bytes: u32) -> Layout {
    Layout::from_size_align(bytes as usize, ALIGN_BYTES).expect("less than 4 GiB")
}
