//! Opcodes that coring does not have, written from outside with [`Operation`]: `IORING_OP_SPLICE`,
//! `IORING_OP_SOCKET`, and `IORING_OP_FGETXATTR` with memory of its own.
//!
//! Each shows one duty of an operation: splice transfers and lends nothing, a socket yields a
//! descriptor that must not leak (R6), an attribute is read into memory that the kernel may write
//! until the final completion (R1), with its name in the scratch, which it reads at submission.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use coring_runtime::{Cqe, Op, Operation, Request, Scratch, submit};
use io_uring::opcode;

/// Moves bytes between two descriptors, one of which is a pipe.
#[derive(Debug)]
pub struct Splice {
    from: RawFd,
    to: RawFd,
    len: u32,
}

/// Moves at most `len` bytes from `from` to `to`, at their own positions. Both stay open until it
/// has ended: keep them as long as the future.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: u32) -> Op<Splice> {
    submit(Splice {
        from: from.as_raw_fd(),
        to: to.as_raw_fd(),
        len,
    })
}

/// `splice_off_in` and `off` of a descriptor's own position.
const OWN_POSITION: u64 = u64::MAX;

// SAFETY: the request points at nothing.
unsafe impl Operation for Splice {
    type Output = io::Result<u32>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(opcode::Splice::CODE, self.to)
            .off(OWN_POSITION)
            .addr(std::ptr::without_provenance::<u8>(OWN_POSITION as usize))
            .len(self.len)
            .file_index(self.from as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result()
    }

    fn orphaned(self, _: Cqe) {}
}

/// Makes a socket.
#[derive(Debug)]
pub struct Socket {
    domain: i32,
    kind: i32,
}

/// A new socket of `domain` and `kind`, closed on exec.
pub const fn socket(domain: i32, kind: i32) -> Op<Socket> {
    submit(Socket {
        domain,
        kind: kind | libc::SOCK_CLOEXEC,
    })
}

fn descriptor(cqe: Cqe) -> io::Result<OwnedFd> {
    let fd = cqe.result()? as RawFd;
    // SAFETY: the kernel has made it for this operation, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// SAFETY: the request points at nothing.
unsafe impl Operation for Socket {
    type Output = io::Result<OwnedFd>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(opcode::Socket::CODE, self.domain).off(self.kind as u64)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        descriptor(cqe)
    }

    fn orphaned(self, cqe: Cqe) {
        drop(descriptor(cqe)); // R6: closed, or nothing where it failed.
    }
}

/// Reads an extended attribute.
#[derive(Debug)]
pub struct GetAttribute {
    fd: RawFd,
    name: [u8; NAME_BYTES],
    value: Box<[u8]>,
}

const NAME_BYTES: usize = 64;

/// The attribute `name` of an open file, of at most `most` bytes.
///
/// # Panics
/// If the name is 64 bytes long or longer.
pub fn get_attribute(file: BorrowedFd<'_>, name: &CStr, most: usize) -> Op<GetAttribute> {
    let bytes = name.to_bytes_with_nul();
    let mut padded = [0; NAME_BYTES];
    padded[..bytes.len()].copy_from_slice(bytes);
    submit(GetAttribute {
        fd: file.as_raw_fd(),
        name: padded,
        value: vec![0; most].into_boxed_slice(),
    })
}

// SAFETY: the value's memory is a Box's, which stays where it is when the operation moves; the
// name is in the scratch, and is read when the request is taken.
unsafe impl Operation for GetAttribute {
    type Output = io::Result<Vec<u8>>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let name = scratch.put(self.name);
        Request::new(opcode::FGetXattr::CODE, self.fd)
            .addr(name)
            .addr2(self.value.as_mut_ptr())
            .len(self.value.len() as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        let len = cqe.result()? as usize;
        let mut value = self.value.into_vec();
        value.truncate(len);
        Ok(value)
    }

    fn orphaned(self, _: Cqe) {}
}
