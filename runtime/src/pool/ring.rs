//! The ring by which buffers go to the kernel: `struct io_uring_buf_ring`, whose tail is ours and
//! whose head is the kernel's own business.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// What the kernel wants the ring to be aligned to.
const PAGE_BYTES: usize = 4_096;

/// `struct io_uring_buf`. The last field of the first entry is the ring's tail.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry {
    // A pointer, not a number, so that drivers in user space may write through it.
    pub(crate) addr: *mut u8,
    pub(crate) len: u32,
    pub(crate) bid: u16,
    tail: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Memory that is shared with the kernel, which reads the entries up to the tail; where it uses
/// buffers up piece by piece it also writes to them.
pub(crate) struct BufRing {
    entries: NonNull<Entry>,
    places: u16,
    tail: u16,
}

impl BufRing {
    /// A ring of `places`, a power of two, 32,768 at the most.
    pub(super) fn new(places: u16) -> Self {
        assert!(places.is_power_of_two() && places <= 1 << 15);
        let layout = layout(places);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let entries = NonNull::new(memory.cast());
        Self {
            entries: entries.unwrap_or_else(|| handle_alloc_error(layout)),
            places,
            tail: 0,
        }
    }

    pub(crate) const fn entries(&self) -> *mut Entry {
        self.entries.as_ptr()
    }

    pub(crate) const fn places(&self) -> u16 {
        self.places
    }

    /// Gives the kernel a buffer, at once. There are never more buffers than places.
    #[inline]
    pub(super) fn push(&mut self, addr: *mut u8, len: u32, bid: u16) {
        let place = usize::from(self.tail & (self.places - 1));
        // SAFETY: below `places`.
        let entry = unsafe { self.entries.add(place) }.as_ptr();
        // SAFETY: the kernel is done with this entry, or there would be more buffers in the ring
        // than places; nor does it read it before the tail has moved. The tail, which may lie in
        // it, is left alone.
        unsafe {
            (*entry).addr = addr;
            (*entry).len = len;
            (*entry).bid = bid;
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the ring has a first entry.
        let tail = unsafe { &raw mut (*self.entries.as_ptr()).tail };
        // SAFETY: aligned, and written here only; the kernel reads it.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }
}

impl Entry {
    /// The tail of the ring that begins here, as a kernel reads it.
    ///
    /// # Safety
    /// `first` is the first entry of a ring that lives.
    pub(crate) unsafe fn tail(first: *mut Self) -> u16 {
        // SAFETY: the caller's promise.
        let tail = unsafe { &raw mut (*first).tail };
        // SAFETY: aligned; others only store to it atomically.
        unsafe { AtomicU16::from_ptr(tail) }.load(Ordering::Acquire)
    }
}

impl Drop for BufRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. The kernel's ring is closed, with nothing in
        // flight, or the pool would have been leaked (R9).
        unsafe { dealloc(self.entries.as_ptr().cast(), layout(self.places)) };
    }
}

fn layout(places: u16) -> Layout {
    let bytes = usize::from(places) * size_of::<Entry>();
    Layout::from_size_align(bytes, PAGE_BYTES).expect("half a megabyte at the most")
}
