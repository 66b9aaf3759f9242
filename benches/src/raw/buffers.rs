//! A ring of receive buffers from which the kernel takes one per message.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::Turns;
use crate::servers::buffer_bytes;

/// Places in the ring, a power of two.
const PLACES: u16 = 1024;

/// Buffers that are there at first. The kernel uses them in turn, so that few stay in the cache;
/// they double each time it finds none.
const PUBLISHED_AT_FIRST: u16 = 16;

const PAGE_BYTES: usize = 4096;

pub(super) struct Buffers {
    places: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// Of each.
    bytes: usize,
    tail: u16,
    published: u16,
}

impl Buffers {
    /// The only group of a loop's ring.
    pub(super) const GROUP: u16 = 0;

    /// Their numbers are below this.
    pub(super) const COUNT_MAX: usize = PLACES as usize;

    /// Registers the buffers with a ring, which must be gone before they are.
    pub(super) fn register(turns: &Turns<'_>) -> io::Result<Buffers> {
        let mut buffers = Buffers {
            places: allocate(places()),
            memory: allocate(memory(buffer_bytes())),
            bytes: buffer_bytes(),
            tail: 0,
            published: 0,
        };
        let address = buffers.places.as_ptr() as u64;
        // SAFETY: the places are page-aligned, as many as is said, and `Drop` runs after the
        // loop has reaped the last completion of every receive.
        unsafe {
            turns
                .submitter()
                .register_buf_ring_with_flags(address, PLACES, Self::GROUP, 0)
        }?;
        for buffer in 0..PUBLISHED_AT_FIRST {
            buffers.give_back(buffer);
        }
        buffers.published = PUBLISHED_AT_FIRST;
        Ok(buffers)
    }

    pub(super) fn start(&self, buffer: u16) -> *mut u8 {
        self.memory
            .as_ptr()
            .wrapping_add(usize::from(buffer) * self.bytes)
    }

    /// Hands a buffer to the kernel, at once.
    #[inline]
    pub(super) fn give_back(&mut self, buffer: u16) {
        let address = self.start(buffer) as u64;
        let place = usize::from(self.tail % PLACES);
        // SAFETY: `place` is below PLACES; the kernel does not read it before the tail has moved.
        let entry = unsafe { &mut *self.places.as_ptr().add(place) };
        entry.set_addr(address);
        entry.set_len(self.bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry of the ring is valid and holds the tail.
        let tail = unsafe { BufRingEntry::tail(self.places.as_ptr()) };
        // SAFETY: the tail is an aligned u16 that only this thread writes.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }

    /// Doubles the buffers that the kernel can choose from, up to what the ring holds.
    #[cold]
    pub(super) fn publish_more(&mut self) {
        let until = PLACES.min(self.published * 2);
        for buffer in self.published..until {
            self.give_back(buffer);
        }
        self.published = until;
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `register`; the loop is over.
        unsafe { dealloc(self.places.as_ptr().cast(), places()) };
        // SAFETY: as above.
        unsafe { dealloc(self.memory.as_ptr(), memory(self.bytes)) };
    }
}

fn places() -> Layout {
    let bytes = usize::from(PLACES) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a few pages")
}

fn memory(bytes: usize) -> Layout {
    let bytes = usize::from(PLACES) * bytes;
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a few megabytes")
}

fn allocate<T>(layout: Layout) -> NonNull<T> {
    // SAFETY: neither layout is empty.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}
