//! Provided buffers, as the kernel sees them.

use super::{OnCancel, SCRIBBLE, State, counts_bytes, is_read};
use crate::driver::{Completion, Request, flags};
use crate::pool::{BUFFER_SHIFT, BufRing, Entry, F_BUF_MORE, F_BUFFER};

/// `IORING_RECV_MULTISHOT`, in `ioprio`.
const RECV_MULTISHOT: u16 = 1 << 1;

/// A ring of provided buffers, from the kernel's side.
pub(super) struct Buffers {
    first: *mut Entry,
    mask: u16,
    head: u16,
    /// Whether a buffer is used up piece by piece.
    piecewise: bool,
}

impl Buffers {
    pub(super) fn of(ring: &BufRing, piecewise: bool) -> Self {
        Self {
            first: ring.entries(),
            mask: ring.places() - 1,
            head: 0,
            piecewise,
        }
    }

    /// The entries between the kernel's head and the program's tail.
    pub(super) fn all(&self) -> impl Iterator<Item = *mut Entry> {
        // SAFETY: the ring lives as long as the driver that it is registered with.
        let tail = unsafe { Entry::tail(self.first) };
        let queued = tail.wrapping_sub(self.head);
        (0..queued).map(|i| {
            let place = self.head.wrapping_add(i) & self.mask;
            // SAFETY: below the number of places.
            unsafe { self.first.add(place.into()) }
        })
    }

    fn front(&self) -> Option<*mut Entry> {
        self.all().next()
    }
}

pub(super) const fn selects_buffer(request: &Request) -> bool {
    request.flags & flags::BUFFER_SELECT != 0
}

impl State {
    /// Moves bytes from a pipe to provided buffers, as long as there are any of both.
    pub(super) fn receive(&mut self, request: &Request) {
        let id = request.user_data;
        let multishot = request.ioprio & RECV_MULTISHOT != 0;
        loop {
            let Some((addr, len)) = self.buffer(request.buf_group) else {
                return self.complete(id, -libc::ENOBUFS, 0);
            };
            let mut part = *request;
            (part.addr, part.len) = (addr, len);
            let Some(res) = self.transfer(&part, usize::MAX) else {
                return self.wait(request, OnCancel::Cancelled);
            };
            let flags = self.use_buffer(request.buf_group, res);
            if res <= 0 || !multishot {
                return self.complete(id, res, flags);
            }
            self.post(id, res, flags | Completion::MORE);
        }
    }

    /// The buffer that the kernel would fill next.
    fn buffer(&self, group: u16) -> Option<(*mut u8, u32)> {
        let entry = self.buf_rings.get(&group)?.front()?;
        // SAFETY: an entry between head and tail is the kernel's (`BufRing`).
        let entry = unsafe { entry.read() };
        Some((entry.addr, entry.len))
    }

    /// Takes `res` bytes of it. Gives the flags of the completion.
    fn use_buffer(&mut self, group: u16, res: i32) -> u32 {
        let Some(ring) = self.buf_rings.get_mut(&group) else {
            return 0;
        };
        let (Some(entry), 1..) = (ring.front(), res) else {
            return 0;
        };
        // SAFETY: as above, and nobody else writes to it.
        let entry = unsafe { &mut *entry };
        let flags = u32::from(entry.bid) << BUFFER_SHIFT | F_BUFFER;
        // SAFETY: not more was written than the buffer has.
        entry.addr = unsafe { entry.addr.add(res as usize) };
        entry.len -= res as u32;
        if entry.len > 0 && ring.piecewise {
            return flags | F_BUF_MORE;
        }
        ring.head = ring.head.wrapping_add(1);
        flags
    }

    /// A scripted result. That of a transfer is made true, as far as memory goes: whoever decodes
    /// that of a read believes that so many bytes were written.
    pub(super) fn invent(&mut self, request: &Request, res: i32) -> (i32, u32) {
        if !counts_bytes(request.opcode) || res <= 0 {
            return (res, 0);
        }
        let (addr, len) = if selects_buffer(request) {
            match self.buffer(request.buf_group) {
                Some(buffer) => buffer,
                None => return (-libc::ENOBUFS, 0),
            }
        } else {
            (request.addr, request.len)
        };
        let n = len.min(res as u32);
        if is_read(request.opcode) {
            // SAFETY: `addr..addr + len` is writable, and the operation has not completed (R1): a
            // request without memory of its own does not get here.
            unsafe { addr.write_bytes(SCRIBBLE, n as usize) };
        }
        let flags = if selects_buffer(request) {
            self.use_buffer(request.buf_group, n as i32)
        } else {
            0
        };
        (n as i32, flags)
    }
}
