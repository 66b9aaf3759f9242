//! The operations behind sockets and files: each is described once and decoded once.
//!
//! They hold a reference to the descriptor that they are on, so that it is closed after the last
//! of them (R7), and own what the kernel reads and writes until it is done (R1).

mod messages;

use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use coring_runtime::{
    BufPool, BufResult, Cqe, IoBuf, IoBufMut, Lease, Operation, Request, Scratch, transfer_len,
};
use io_uring::opcode as op;
use socket2::{SockAddr, SockAddrStorage};

use crate::bufs::IoBufs;
use crate::net::control::Messages;
use crate::net::send::Chunk;

pub(crate) use messages::{Message, RecvMessageOwn, RecvMessages};

/// A descriptor that operations in flight keep open.
pub(crate) type SharedFd = Rc<OwnedFd>;

/// `IORING_ACCEPT_MULTISHOT`.
const ACCEPT_MULTISHOT: u16 = 1 << 0;

/// `IORING_RECV_MULTISHOT`.
const RECV_MULTISHOT: u16 = 1 << 1;

/// `IOSQE_BUFFER_SELECT`.
const BUFFER_SELECT: u8 = 1 << 5;

/// `IORING_FSYNC_DATASYNC`.
const FSYNC_DATASYNC: u32 = 1 << 0;

/// A descriptor that an operation yields.
fn owned_fd(cqe: Cqe) -> io::Result<OwnedFd> {
    let fd = cqe.result()?;
    // SAFETY: the kernel made this descriptor for this operation; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Bytes that a transfer moved.
fn count(cqe: Cqe) -> io::Result<usize> {
    cqe.result().map(|n| n as usize)
}

/// Fills a buffer: RECV on a socket, READ on anything else.
pub(crate) struct Fill<B> {
    pub(crate) opcode: u8,
    pub(crate) fd: SharedFd,
    pub(crate) buf: B,
    /// A position for READ, zero for RECV.
    pub(crate) off: u64,
}

// SAFETY: the memory is the buffer's, stable by `IoBufMut` and owned by the operation.
unsafe impl<B: IoBufMut> Operation for Fill<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = transfer_len(self.buf.bytes_total());
        Request::new(self.opcode, self.fd.as_raw_fd())
            .addr(self.buf.stable_mut_ptr())
            .len(len)
            .off(self.off)
    }

    fn complete(mut self, cqe: Cqe) -> Self::Output {
        let result = count(cqe);
        if let Ok(n) = result {
            // SAFETY: the kernel wrote `n` bytes, and was told of `bytes_total` at the most.
            unsafe { self.buf.set_init(n) };
        }
        BufResult(result, self.buf)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Writes from a buffer: SEND on a socket, WRITE on anything else.
pub(crate) struct Drain<B> {
    pub(crate) opcode: u8,
    pub(crate) fd: SharedFd,
    pub(crate) buf: B,
    /// The first byte of the buffer that is not written yet.
    pub(crate) from: usize,
    /// A position for WRITE, zero for SEND.
    pub(crate) off: u64,
    /// `MSG_*` for SEND.
    pub(crate) flags: u32,
}

// SAFETY: the memory is the buffer's, stable by `IoBuf` and owned by the operation; `from` is
// kept within it below.
unsafe impl<B: IoBuf> Operation for Drain<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let bytes = &self.buf.as_init()[self.from..];
        Request::new(self.opcode, self.fd.as_raw_fd())
            .addr(bytes.as_ptr())
            .len(transfer_len(bytes.len()))
            .off(self.off)
            .op_flags(self.flags)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(count(cqe), self.buf)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Writes several buffers to a stream, from byte `from` of all of them on.
pub(crate) struct DrainMany<V> {
    fd: SharedFd,
    bufs: V,
    /// The first byte that is not written yet.
    from: usize,
    /// `MSG_*`.
    flags: u32,
    /// The list of buffers where it does not fit into scratch.
    iovecs: Vec<libc::iovec>,
}

impl<V> DrainMany<V> {
    pub(crate) fn new(fd: &SharedFd, bufs: V, from: usize, flags: u32) -> Self {
        Self {
            fd: fd.clone(),
            bufs,
            from,
            flags,
            iovecs: Vec::new(),
        }
    }
}

/// What the kernel takes in one list (`UIO_MAXIOV`).
const IOVECS_MAX: usize = 1_024;

// SAFETY: the buffers' memory is stable by `IoBuf` (`IoBufs` is sealed) and owned by the operation,
// as is a long list of them, on the heap. The header and a short list are in the scratch: the kernel
// reads them at submission.
unsafe impl<V: IoBufs> Operation for DrainMany<V> {
    type Output = BufResult<usize, V>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let (bufs, mut skip) = (&self.bufs, self.from);
        let parts = (0..bufs.parts()).filter_map(|i| {
            let bytes = bufs.part(i);
            let gone = skip.min(bytes.len());
            skip -= gone;
            let left = &bytes[gone..];
            (!left.is_empty()).then(|| iovec(left))
        });
        let header = header_of(parts.take(IOVECS_MAX), scratch, &mut self.iovecs);
        Request::new(op::SendMsg::CODE, self.fd.as_raw_fd())
            .addr(scratch.put(header))
            .len(1)
            .op_flags(self.flags)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(count(cqe), self.bufs)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Sends from where the bytes are, if the kernel and the card can. Since Linux 6.0.
pub(crate) struct SendZc<B> {
    pub(crate) fd: SharedFd,
    pub(crate) buf: B,
    /// The first byte of the buffer that is not sent yet.
    pub(crate) from: usize,
    /// `MSG_*`.
    pub(crate) flags: u32,
}

/// `IORING_SEND_ZC_REPORT_USAGE`.
const ZC_REPORT_USAGE: u16 = 1 << 3;

// SAFETY: the memory is the buffer's, stable by `IoBuf` and owned by the operation, which the runtime
// keeps until the kernel has said that it is done with that memory (R5); `from` is kept within it
// below.
unsafe impl<B: IoBuf> Operation for SendZc<B> {
    /// How many bytes, and whether they were copied.
    type Output = BufResult<(usize, bool), B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let bytes = &self.buf.as_init()[self.from..];
        Request::new(op::SendZc::CODE, self.fd.as_raw_fd())
            .addr(bytes.as_ptr())
            .len(transfer_len(bytes.len()))
            .ioprio(ZC_REPORT_USAGE)
            .op_flags(self.flags)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        let copied = cqe.is_copied();
        BufResult(count(cqe).map(|n| (n, copied)), self.buf)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Waits until there is something to read, or the end, or an error.
pub(crate) struct Readable(pub(crate) SharedFd);

// SAFETY: the request points at nothing.
unsafe impl Operation for Readable {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        // The halves are in the order of a machine whose lower one comes first.
        let events = if cfg!(target_endian = "big") {
            events.rotate_left(16)
        } else {
            events
        };
        Request::new(op::PollAdd::CODE, self.0.as_raw_fd()).op_flags(events)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Receives whatever comes into provided buffers, one completion after the other. Since Linux 6.0.
#[derive(Clone)]
pub(crate) struct Receive {
    pub(crate) fd: SharedFd,
    pub(crate) pool: BufPool,
}

// SAFETY: the request points at nothing; the kernel fills what the pool gave it.
unsafe impl Operation for Receive {
    type Output = io::Result<Lease>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Recv::CODE, self.fd.as_raw_fd())
            .flags(BUFFER_SELECT)
            .buf_group(self.pool.group())
            .ioprio(RECV_MULTISHOT)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        // SAFETY: of this operation, whose request names this pool.
        unsafe { self.pool.lease(cqe) }
    }

    fn orphaned(self, cqe: Cqe) {
        drop(self.complete(cqe)); // The buffer goes back.
    }
}

/// Receives once, into memory of its own that every clone leads to.
#[derive(Clone)]
pub(crate) struct ReceiveOwn {
    pub(crate) fd: SharedFd,
    pub(crate) buf: Rc<RefCell<Vec<u8>>>,
}

// SAFETY: the memory is the vector's, on the heap, and nobody looks at it before it has come.
unsafe impl Operation for ReceiveOwn {
    type Output = io::Result<Lease>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let mut buf = self.buf.borrow_mut();
        Request::new(op::Recv::CODE, self.fd.as_raw_fd())
            .addr(buf.as_mut_ptr())
            .len(transfer_len(buf.capacity()))
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        // An error may be one of waiting: then the kernel still has the memory.
        let n = count(cqe)?;
        let mut buf = self.buf.take();
        // SAFETY: the kernel wrote `n` bytes, and is done.
        unsafe { buf.set_init(n) };
        Ok(buf.into())
    }

    fn orphaned(self, _: Cqe) {}
}

/// Sends chunks one behind the other, on a socket.
pub(crate) struct SendBatch {
    fd: SharedFd,
    /// One to [`CHUNKS_MAX`](Self::CHUNKS_MAX).
    chunks: Vec<Chunk>,
    /// Whether to wait for room. If not it is silent if it sends all.
    waits: bool,
    /// The list of chunks where it does not fit into scratch, which it does.
    iovecs: Vec<libc::iovec>,
}

impl SendBatch {
    pub(crate) fn new(fd: &SharedFd, chunks: Vec<Chunk>, waits: bool) -> Self {
        Self {
            fd: fd.clone(),
            chunks,
            waits,
            iovecs: Vec::new(),
        }
    }

    /// Their list, and a header, fit into the scratch.
    pub(crate) const CHUNKS_MAX: usize = IOVECS_IN_SCRATCH;
}

// SAFETY: the chunks' memory is on the heap, and they are the operation's own; header and vector are
// in the scratch, where the kernel reads them at submission.
unsafe impl Operation for SendBatch {
    type Output = BufResult<usize, Vec<Chunk>>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let parts = self.chunks.iter().map(Chunk::bytes);
        let total = transfer_len(parts.clone().map(<[u8]>::len).sum());
        let request = match &self.chunks[..] {
            [chunk] => Request::new(op::Send::CODE, self.fd.as_raw_fd())
                .addr(chunk.bytes().as_ptr())
                .len(total),
            _ => {
                let header = header_of(parts.map(iovec), scratch, &mut self.iovecs);
                Request::new(op::SendMsg::CODE, self.fd.as_raw_fd())
                    .addr(scratch.put(header))
                    .len(1)
            }
        };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if self.waits {
            return request.op_flags(flags as u32);
        }
        request
            .op_flags((flags | libc::MSG_DONTWAIT) as u32)
            .silent(total as i32) // At most TRANSFER_MAX.
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(count(cqe), self.chunks)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Connections of a listener, one completion each.
#[derive(Clone)]
pub(crate) struct Accept(pub(crate) SharedFd);

// SAFETY: the request points at nothing: an address would be shared by all completions.
unsafe impl Operation for Accept {
    type Output = io::Result<OwnedFd>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Accept::CODE, self.0.as_raw_fd())
            .ioprio(ACCEPT_MULTISHOT)
            .op_flags(libc::SOCK_CLOEXEC as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        owned_fd(cqe)
    }

    fn orphaned(self, cqe: Cqe) {
        drop(owned_fd(cqe)); // Nobody will serve it: the peer sees FIN.
    }
}

/// Connects a socket.
pub(crate) struct Connect {
    pub(crate) fd: SharedFd,
    pub(crate) addr: SockAddr,
}

// SAFETY: the address is copied to the scratch; the kernel reads it at submission.
unsafe impl Operation for Connect {
    type Output = io::Result<()>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        // SAFETY: a `SockAddr` holds a whole sockaddr_storage, initialised.
        let storage = unsafe { *self.addr.as_ptr().cast::<libc::sockaddr_storage>() };
        Request::new(op::Connect::CODE, self.fd.as_raw_fd())
            .addr(scratch.put(storage))
            .off(u64::from(self.addr.len()))
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Nothing: over when the loop has turned.
pub(crate) struct Turn;

// SAFETY: the request points at nothing.
unsafe impl Operation for Turn {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Nop::CODE, -1)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Shuts a socket down in one direction or both.
pub(crate) struct Shutdown {
    pub(crate) fd: SharedFd,
    pub(crate) how: libc::c_int,
}

// SAFETY: the request points at nothing.
unsafe impl Operation for Shutdown {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Shutdown::CODE, self.fd.as_raw_fd()).len(self.how as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Opens a file.
pub(crate) struct OpenAt {
    pub(crate) path: CString,
    pub(crate) flags: libc::c_int,
    pub(crate) mode: libc::mode_t,
}

// SAFETY: the path is heap memory that the operation owns.
unsafe impl Operation for OpenAt {
    type Output = io::Result<OwnedFd>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::OpenAt::CODE, libc::AT_FDCWD)
            .addr(self.path.as_ptr())
            .len(self.mode)
            .op_flags(self.flags as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        owned_fd(cqe)
    }

    fn orphaned(self, cqe: Cqe) {
        drop(owned_fd(cqe));
    }
}

/// Has what was written reach the disk.
pub(crate) struct Fsync {
    pub(crate) fd: SharedFd,
    pub(crate) data_only: bool,
}

// SAFETY: the request points at nothing.
unsafe impl Operation for Fsync {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Fsync::CODE, self.fd.as_raw_fd()).op_flags(if self.data_only {
            FSYNC_DATASYNC
        } else {
            0
        })
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Asks what a file is.
pub(crate) struct Statx {
    pub(crate) fd: SharedFd,
    /// Written until the completion: memory of the operation's own. Zeroed when it is made, so
    /// that it is a `statx` whatever a driver says that it has written.
    pub(crate) out: Box<MaybeUninit<libc::statx>>,
}

// SAFETY: the result is heap memory that the operation owns, the path is static.
unsafe impl Operation for Statx {
    type Output = io::Result<Box<libc::statx>>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(op::Statx::CODE, self.fd.as_raw_fd())
            .addr(c"".as_ptr())
            .addr2(self.out.as_mut_ptr())
            .len(libc::STATX_BASIC_STATS | libc::STATX_BTIME)
            .op_flags(libc::AT_EMPTY_PATH as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result()?;
        // SAFETY: integers, zeroed at first.
        Ok(unsafe { self.out.assume_init() })
    }

    fn orphaned(self, _: Cqe) {}
}

/// Receives a datagram. The count is that of the datagram, also where the buffer has less room.
///
/// For sockets of datagrams alone: TCP counts bytes that are received with MSG_TRUNC, and throws
/// them away.
pub(crate) struct RecvDatagram<B> {
    pub(crate) fd: SharedFd,
    pub(crate) buf: B,
}

// SAFETY: the memory is the buffer's, stable by `IoBufMut` and owned by the operation.
unsafe impl<B: IoBufMut> Operation for RecvDatagram<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = transfer_len(self.buf.bytes_total());
        Request::new(op::Recv::CODE, self.fd.as_raw_fd())
            .addr(self.buf.stable_mut_ptr())
            .len(len)
            .op_flags(libc::MSG_TRUNC as u32)
    }

    fn complete(mut self, cqe: Cqe) -> Self::Output {
        let result = count(cqe);
        if let Ok(n) = result {
            fill(&mut self.buf, n);
        }
        BufResult(result, self.buf)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Says that a datagram of `n` bytes was received into `buf`: gives how many of them are in there.
fn fill<B: IoBufMut>(buf: &mut B, n: usize) -> usize {
    let len = n.min(transfer_len(buf.bytes_total()) as usize);
    // SAFETY: the kernel wrote all of it, or as much as it was told that there is room for. (It is
    // no TCP socket: see `RecvDatagram`, and `flags` of `RecvMsg`.)
    unsafe { buf.set_init(len) };
    len
}

/// Sends a datagram to an address (SEND takes one since Linux 6.1).
pub(crate) struct SendTo<B> {
    pub(crate) fd: SharedFd,
    pub(crate) buf: B,
    pub(crate) to: SockAddr,
}

// SAFETY: the memory is the buffer's, stable by `IoBuf` and owned by the operation. The address is
// copied to the scratch; the kernel reads it at submission.
unsafe impl<B: IoBuf> Operation for SendTo<B> {
    type Output = BufResult<usize, B>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        // SAFETY: a `SockAddr` holds a whole sockaddr_storage, initialised.
        let storage = unsafe { *self.to.as_ptr().cast::<libc::sockaddr_storage>() };
        // The first two bytes of `file_index` are the address's length.
        let [a, b] = (self.to.len() as u16).to_ne_bytes();
        Request::new(op::Send::CODE, self.fd.as_raw_fd())
            .addr(self.buf.stable_ptr())
            .len(transfer_len(self.buf.bytes_init()))
            .op_flags(libc::MSG_NOSIGNAL as u32)
            .addr2(scratch.put(storage))
            .file_index(u32::from_ne_bytes([a, b, 0, 0]))
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(count(cqe), self.buf)
    }

    fn orphaned(self, _: Cqe) {}
}

/// Buffers whose list fits into scratch, beside the header.
const IOVECS_IN_SCRATCH: usize = 4;

/// Sends several buffers as one message, with control messages.
///
/// On a stream a part of the bytes may be sent: then all of the control messages are, and the rest
/// goes without.
pub(crate) struct SendMsg<V, K> {
    fd: SharedFd,
    bufs: V,
    to: Option<Box<SockAddr>>,
    /// Encoded control messages. The kernel reads them until the completion (M).
    control: Box<[u8]>,
    /// What they name, such as descriptors: kept until the end, then given back.
    held: K,
    /// The list of buffers where it does not fit into scratch.
    iovecs: Vec<libc::iovec>,
}

impl<V: IoBufs, K> SendMsg<V, K> {
    pub(crate) fn new(
        fd: SharedFd,
        bufs: V,
        to: Option<SockAddr>,
        control: Vec<u8>,
        held: K,
    ) -> Self {
        Self {
            fd,
            bufs,
            to: to.map(Box::new),
            control: control.into_boxed_slice(),
            held,
            iovecs: Vec::new(),
        }
    }
}

const NO_BYTES: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// A header with a list of buffers, which is in the scratch, or in `long` where it does not fit: that
/// is the operation's own, and on the heap.
fn header_of(
    mut parts: impl Iterator<Item = libc::iovec>,
    scratch: &Scratch,
    long: &mut Vec<libc::iovec>,
) -> libc::msghdr {
    let short: [_; IOVECS_IN_SCRATCH] = std::array::from_fn(|_| parts.next());
    let mut header = empty_header();
    if let Some(next) = parts.next() {
        *long = short
            .into_iter()
            .flatten()
            .chain([next])
            .chain(parts)
            .collect();
        header.msg_iovlen = long.len() as _;
        header.msg_iov = long.as_mut_ptr();
    } else {
        header.msg_iovlen = short.iter().flatten().count() as _;
        let list = short.map(|part| part.unwrap_or(NO_BYTES));
        header.msg_iov = scratch.put(list).cast_mut().cast();
    }
    header
}

/// A header that says nothing.
fn empty_header() -> libc::msghdr {
    // SAFETY: pointers, which may be null, and integers.
    unsafe { std::mem::zeroed() }
}

// SAFETY: the buffers' memory is stable by `IoBuf` (`IoBufs` is sealed) and owned by the
// operation, as are address, control messages and a long list of buffers, on the heap. The header
// and a short list are in the scratch: the kernel reads them at submission.
unsafe impl<V: IoBufs, K: 'static> Operation for SendMsg<V, K> {
    type Output = BufResult<usize, (V, K)>;

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        let parts = (0..self.bufs.parts()).map(|i| iovec(self.bufs.part(i)));
        let mut header = header_of(parts, scratch, &mut self.iovecs);
        if let Some(to) = &self.to {
            header.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_namelen = to.len();
        }
        if !self.control.is_empty() {
            header.msg_controllen = self.control.len() as _;
            header.msg_control = self.control.as_mut_ptr().cast();
        }
        Request::new(op::SendMsg::CODE, self.fd.as_raw_fd())
            .addr(scratch.put(header))
            .len(1)
            .op_flags(libc::MSG_NOSIGNAL as u32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(count(cqe), (self.bufs, self.held))
    }

    fn orphaned(self, _: Cqe) {}
}

/// Receives a message with its sender's address and with control messages.
pub(crate) struct RecvMsg<B> {
    fd: SharedFd,
    buf: B,
    /// `MSG_*`. With `MSG_TRUNC` the whole length of a datagram is said; not for TCP, which throws
    /// away what it counts.
    flags: libc::c_int,
    header: Box<RecvHeader>,
    control: Box<[u8]>,
}

/// What the kernel reads, and writes until the completion.
struct RecvHeader {
    header: libc::msghdr,
    iovec: libc::iovec,
    name: SockAddrStorage,
}

/// What a [`RecvMsg`] received.
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// Bytes that it had no room for.
    pub(crate) truncated: usize,
    pub(crate) from: SockAddr,
    pub(crate) control: Messages,
}

impl<B: IoBufMut> RecvMsg<B> {
    /// Has room for `control_max` bytes of control messages.
    pub(crate) fn new(fd: SharedFd, buf: B, flags: libc::c_int, control_max: usize) -> Self {
        Self {
            fd,
            buf,
            flags,
            header: Box::new(RecvHeader {
                header: empty_header(),
                iovec: NO_BYTES,
                name: SockAddrStorage::zeroed(),
            }),
            control: vec![0; control_max].into_boxed_slice(),
        }
    }
}

impl<B> RecvMsg<B> {
    /// Takes what came with a message out of this, for a completion that says that one came.
    fn take_control(&mut self) -> Messages {
        let control = std::mem::take(&mut self.control);
        let RecvHeader { header, .. } = &*self.header;
        #[allow(
            clippy::unnecessary_cast,
            reason = "not a usize where the C library is musl"
        )]
        let len = header.msg_controllen as usize;
        // SAFETY: the kernel wrote these messages for this operation, at the completion of which
        // this is called once. Nobody else knows of descriptors in them.
        unsafe { Messages::take(control, len, header.msg_flags) }
    }
}

// SAFETY: the buffer's memory is stable by `IoBufMut`; header, address and control are heap memory.
// All are owned by the operation. It is not `Clone`, and private: descriptors are taken once.
unsafe impl<B: IoBufMut> Operation for RecvMsg<B> {
    type Output = BufResult<Received, B>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = transfer_len(self.buf.bytes_total());
        let iovec = libc::iovec {
            iov_base: self.buf.stable_mut_ptr().cast(),
            iov_len: len as usize,
        };
        // One claim on the block, from which all addresses in it come.
        let place = &raw mut *self.header;
        let mut header = empty_header();
        header.msg_iovlen = 1;
        header.msg_namelen = size_of::<SockAddrStorage>() as libc::socklen_t;
        if !self.control.is_empty() {
            header.msg_controllen = self.control.len() as _;
            header.msg_control = self.control.as_mut_ptr().cast();
        }
        // SAFETY: the block is live and this operation's, and not lent yet.
        let header_at = unsafe {
            header.msg_iov = &raw mut (*place).iovec;
            header.msg_name = (&raw mut (*place).name).cast();
            (*place).iovec = iovec;
            (*place).header = header;
            &raw const (*place).header
        };
        Request::new(op::RecvMsg::CODE, self.fd.as_raw_fd())
            .addr(header_at)
            .len(1)
            .op_flags((self.flags | libc::MSG_CMSG_CLOEXEC) as u32)
    }

    fn complete(mut self, cqe: Cqe) -> Self::Output {
        let n = match count(cqe) {
            Ok(n) => n,
            Err(error) => return BufResult(Err(error), self.buf),
        };
        let control = self.take_control();
        let len = fill(&mut self.buf, n);
        let RecvHeader { header, name, .. } = *self.header;
        // Longer than what there was room for it cannot be, but it is the kernel's word.
        let name_len = header.msg_namelen.min(name.size_of());
        let received = Received {
            len,
            truncated: n - len,
            // SAFETY: zeroed at first, and the kernel wrote an address of this length.
            from: unsafe { SockAddr::new(name, name_len) },
            control,
        };
        BufResult(Ok(received), self.buf)
    }

    fn orphaned(mut self, cqe: Cqe) {
        if count(cqe).is_ok() {
            drop(self.take_control()); // Closes what came.
        }
    }
}
