//! An operation as plain data, in the kernel's vocabulary: what goes down through the seam.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use crate::op::Token;

/// Bits of a request's `flags` (`IOSQE_*`) that the runtime itself sets or reads.
pub(crate) mod flags {
    pub(crate) const DRAIN: u8 = 1 << 1;
    pub(crate) const LINK: u8 = 1 << 2;
    pub(crate) const HARDLINK: u8 = 1 << 3;
    pub(crate) const BUFFER_SELECT: u8 = 1 << 5;
    pub(crate) const CQE_SKIP_SUCCESS: u8 = 1 << 6;
}

/// A submission queue entry, field for field (`struct io_uring_sqe`, io_uring_enter(2)).
///
/// Opcodes are the kernel's numbers: the `io-uring` crate has them as `opcode::Read::CODE` and so
/// on. Fields that are not set are zero. The runtime fills in the token and its own link bits.
///
/// # Examples
///
/// ```
/// use coring::Request;
///
/// # let (fd, buf) = (0, [0u8; 4].as_mut_ptr());
/// const READ: u8 = 22; // io_uring::opcode::Read::CODE
/// let request = Request::new(READ, fd).addr(buf).len(4).off(u64::MAX);
/// assert_eq!(request.opcode(), READ);
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) ioprio: u16,
    pub(crate) fd: RawFd,
    pub(crate) off: u64,
    // A pointer, not a number, so that drivers in user space may write through it.
    pub(crate) addr: *mut u8,
    pub(crate) len: u32,
    pub(crate) op_flags: u32,
    pub(crate) user_data: u64,
    pub(crate) buf_group: u16,
    personality: u16,
    file_index: u32,
    addr3: u64,
    /// None of the kernel's business: what a silent request comes to.
    silent_res: i32,
    pad: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

impl Request {
    /// A request for `opcode` on `fd` (-1 where the opcode takes none).
    pub const fn new(opcode: u8, fd: RawFd) -> Self {
        Self {
            opcode,
            flags: 0,
            ioprio: 0,
            fd,
            off: 0,
            addr: ptr::null_mut(),
            len: 0,
            op_flags: 0,
            user_data: 0,
            buf_group: 0,
            personality: 0,
            file_index: 0,
            addr3: 0,
            silent_res: 0,
            pad: 0,
        }
    }

    /// The opcode.
    pub const fn opcode(&self) -> u8 {
        self.opcode
    }

    /// `IOSQE_*` bits.
    ///
    /// # Panics
    /// For links and drains: the runtime makes chains, and a request of somebody else's that waits
    /// behind this one would not be over when it is believed to be ([`silent`](Self::silent)).
    #[must_use]
    pub const fn flags(mut self, flags: u8) -> Self {
        assert!(
            flags & (flags::DRAIN | flags::LINK | flags::HARDLINK) == 0,
            "a request that others would wait for: chains are the runtime's"
        );
        self.flags = flags;
        self
    }

    /// `ioprio`: for sockets, the opcode's own flags (`IORING_ACCEPT_MULTISHOT` …).
    #[must_use]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.ioprio = ioprio;
        self
    }

    /// `off`: a position in a file.
    #[must_use]
    pub const fn off(mut self, off: u64) -> Self {
        self.off = off;
        self
    }

    /// `addr2`: the second pointer of opcodes that take two; shares its place with
    /// [`off`](Self::off).
    #[must_use]
    pub fn addr2<T>(mut self, addr2: *const T) -> Self {
        self.off = addr2.expose_provenance() as u64;
        self
    }

    /// `addr`: what the operation reads or writes.
    #[must_use]
    pub const fn addr<T>(mut self, addr: *const T) -> Self {
        self.addr = addr.cast_mut().cast();
        self
    }

    /// `len`: bytes, entries or a mode, as the opcode says.
    #[must_use]
    pub const fn len(mut self, len: u32) -> Self {
        self.len = len;
        self
    }

    /// The opcode's flags (`rw_flags`, `msg_flags`, `open_flags` …).
    #[must_use]
    pub const fn op_flags(mut self, op_flags: u32) -> Self {
        self.op_flags = op_flags;
        self
    }

    /// `buf_group` or `buf_index`.
    #[must_use]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.buf_group = buf_group;
        self
    }

    /// `file_index` or `splice_fd_in`.
    #[must_use]
    pub const fn file_index(mut self, file_index: u32) -> Self {
        self.file_index = file_index;
        self
    }

    /// `addr3`.
    #[must_use]
    pub const fn addr3(mut self, addr3: u64) -> Self {
        self.addr3 = addr3;
        self
    }

    /// The kernel says nothing if it succeeds, which it does, or fails, within the enter that takes it:
    /// then the result is `res`. It saves a completion, and a loop that waits for others too does not
    /// come back for it (see [`Op::start`](crate::Op::start)).
    ///
    /// For what never waits and does all or fails: a send with `MSG_DONTWAIT` and `MSG_WAITALL`, say.
    /// Whoever says so of something else has memory freed that the kernel still uses: it is a part of
    /// the contract of [`Operation`](crate::Operation).
    #[must_use]
    pub const fn silent(mut self, res: i32) -> Self {
        self.flags |= flags::CQE_SKIP_SUCCESS;
        self.silent_res = res;
        self
    }

    /// What it comes to if the kernel says nothing.
    pub(crate) const fn take_silent(&mut self) -> Option<i32> {
        if self.flags & flags::CQE_SKIP_SUCCESS == 0 {
            return None;
        }
        Some(std::mem::replace(&mut self.silent_res, 0))
    }

    /// Has the kernel say what comes of it in any case.
    pub(crate) const fn speak(&mut self) {
        self.flags &= !flags::CQE_SKIP_SUCCESS;
        self.silent_res = 0;
    }

    pub(crate) const fn token(&self) -> Token {
        Token::from_user_data(self.user_data)
    }

    pub(crate) const fn with_token(mut self, token: Token) -> Self {
        self.set_token(token);
        self
    }

    /// The next request is a part of the same chain.
    pub(crate) const fn link(&mut self) {
        self.flags |= flags::LINK;
    }

    pub(crate) const fn set_token(&mut self, token: Token) {
        self.user_data = token.user_data();
    }
}

/// Room for the small structures that the kernel reads when it takes a request from the queue: a
/// time, a socket address, an `open_how`.
///
/// It is filled in [`Operation::request`](crate::Operation::request) and stays where it is until
/// the kernel has taken the request; not longer. What the kernel reads or writes later
/// (`recvmsg`'s header, `accept`'s length) must be memory of the operation's own.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Scratch {
    // In a cell, so that a second structure does not claim anew what the first address leads to.
    bytes: UnsafeCell<[MaybeUninit<u8>; Self::BYTES]>,
    used: Cell<usize>,
}

impl Scratch {
    /// A `sockaddr_storage` fits, or a `sockaddr_in6` with headers beside it.
    const BYTES: usize = 128;

    pub(crate) const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([MaybeUninit::uninit(); Self::BYTES]),
            used: Cell::new(0),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.used.set(0);
    }

    /// Copies `value` here and gives its address.
    ///
    /// # Panics
    /// If what was put here since the request began is more than 128 bytes.
    pub fn put<T: Copy>(&self, value: T) -> *const T {
        const { assert!(align_of::<T>() <= 16) };
        let start = self.used.get().next_multiple_of(align_of::<T>());
        let end = start + size_of::<T>();
        assert!(
            end <= Self::BYTES,
            "a request's small inputs take {end} bytes, more than 128"
        );
        self.used.set(end);
        // SAFETY: `start..end` is within the bytes (asserted).
        let place: *mut T = unsafe { self.bytes.get().cast::<u8>().add(start) }.cast();
        // SAFETY: there is room for a `T` that no earlier call has given away, and its alignment:
        // `bytes` is first in a struct aligned to 16, `start` is a multiple of `T`'s.
        unsafe { place.write(value) };
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_gives_aligned_addresses_that_hold_what_was_put() {
        let mut scratch = Scratch::new();
        let byte = scratch.put(7u8);
        let word = scratch.put(9u64);
        // SAFETY: both point into `scratch`, which has not moved.
        assert_eq!(unsafe { (*byte, *word) }, (7, 9));
        assert!(word.is_aligned());
        scratch.clear();
        assert_eq!(scratch.put(1u8), byte);
    }
}
