//! Messages by many completions of one request, each in a provided buffer of its own.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use coring_runtime::{BufPool, BufResult, Cqe, Lease, Operation, Request, Scratch};
use io_uring::opcode as op;

use super::{BUFFER_SELECT, RECV_MULTISHOT, Received, RecvMsg, SharedFd, empty_header};

/// Receives messages, with their senders' addresses and with control messages. Since Linux 6.0.
///
/// For sockets of datagrams that pass no descriptors: nobody would close those.
#[derive(Clone)]
pub(crate) struct RecvMessages {
    pub(crate) fd: SharedFd,
    /// One whose buffers are used whole.
    pub(crate) pool: BufPool,
    /// Room for control messages. A multiple of 8, and no more than the pool's buffers have initialised
    /// (4 KiB) beside what is in front of it.
    pub(crate) control_max: usize,
}

/// A message, as the kernel lays it into a buffer: `struct io_uring_recvmsg_out`, room for an address,
/// room for control messages, and the payload.
pub(crate) struct Message {
    bytes: Lease,
    control_max: usize,
}

/// The first part: four integers.
const OUT_BYTES: usize = 16;

/// Room for an address of the internet (28 bytes). Behind it everything is aligned.
const NAME_ROOM: usize = 32;

// SAFETY: the header is in the scratch, which stays until the kernel has read it at submission (R1, M).
// The kernel fills what the pool gave it; the parts that it leaves out are those of the head, which
// the pool has initialised.
unsafe impl Operation for RecvMessages {
    type Output = io::Result<Message>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let mut header = empty_header();
        header.msg_namelen = NAME_ROOM as libc::socklen_t;
        header.msg_controllen = self.control_max as _;
        // MSG_TRUNC: the length of a datagram is said, also where the buffer has less room.
        Request::new(op::RecvMsgMulti::CODE, self.fd.as_raw_fd())
            .addr(scratch.put(header))
            .len(1)
            .flags(BUFFER_SELECT)
            .buf_group(self.pool.group())
            .ioprio(RECV_MULTISHOT)
            .op_flags((libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC) as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        // SAFETY: of this operation, whose request names this pool: each completion comes here once (R6).
        let bytes = unsafe { self.pool.lease(cqe) }?;
        Ok(Message {
            bytes,
            control_max: self.control_max,
        })
    }

    fn orphaned(self, cqe: Cqe) {
        drop(self.complete(cqe)); // The buffer goes back.
    }
}

impl Message {
    /// Where the payload begins.
    const fn head(&self) -> usize {
        OUT_BYTES + NAME_ROOM + self.control_max
    }

    /// The part at `from`, of which the kernel used so much.
    fn part(&self, from: usize, room: usize, len: usize) -> &[u8] {
        &self.bytes[from..from + len.min(room)]
    }

    /// The integers in front: lengths of address, control messages and payload.
    fn out(&self, index: usize) -> usize {
        let bytes = self.bytes[4 * index..].first_chunk();
        u32::from_ne_bytes(*bytes.expect("the kernel writes a head")) as usize
    }

    /// The sender's address, as the kernel writes it.
    pub(crate) fn name(&self) -> &[u8] {
        self.part(OUT_BYTES, NAME_ROOM, self.out(0))
    }

    pub(crate) fn control(&self) -> &[u8] {
        self.part(OUT_BYTES + NAME_ROOM, self.control_max, self.out(1))
    }

    /// Bytes of payload that the buffer had no room for.
    pub(crate) fn truncated(&self) -> usize {
        self.out(2).saturating_sub(self.bytes.len() - self.head())
    }

    pub(crate) fn into_payload(self) -> Lease {
        let head = self.head();
        let mut payload = self.bytes;
        payload.advance(head);
        payload
    }
}

/// Receives one message into memory of its own that every clone leads to.
#[derive(Clone)]
pub(crate) struct RecvMessageOwn(Rc<RefCell<Option<RecvMsg<Vec<u8>>>>>);

impl RecvMessageOwn {
    pub(crate) fn new(receive: RecvMsg<Vec<u8>>) -> Self {
        Self(Rc::new(RefCell::new(Some(receive))))
    }
}

// SAFETY: what the request points at is the inner operation's, on the heap, which every clone keeps
// (R1); nobody looks at that before the message has come.
unsafe impl Operation for RecvMessageOwn {
    type Output = io::Result<(Received, Vec<u8>)>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let mut receive = self.0.borrow_mut();
        let receive = receive.as_mut().expect("it is started before it is over");
        receive.request(scratch)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        // An error may be one of waiting: then the kernel still has the memory.
        if cqe.res() < 0 {
            return Err(cqe.result().expect_err("it is an error"));
        }
        let receive = self.0.take().expect("it is over once");
        let BufResult(received, buf) = receive.complete(cqe);
        Ok((received?, buf))
    }

    fn orphaned(self, cqe: Cqe) {
        drop(self.complete(cqe));
    }
}
