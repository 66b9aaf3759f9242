//! Datagrams: one multishot recvmsg and one ring of buffers; and recvmmsg(2) without a ring.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{cqueue, opcode};

use super::Turns;
use super::buffers::Buffers;

const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CANCEL: u64 = 3;

/// Datagrams that recvmmsg(2) and sendmmsg(2) take at once.
const BATCH: usize = 32;

/// Room for one datagram.
const DATAGRAM_BYTES: usize = 2_048;

/// What a multishot receive needs to be armed on a ring, again and again.
pub struct Receive {
    buffers: ManuallyDrop<Buffers>,
    header: Box<libc::msghdr>,
    /// Buffers that a silent send in the next enter reads.
    sending: Vec<u16>,
    /// Where what is in a buffer is sent to, by the buffers' numbers.
    addresses: Box<[libc::sockaddr_in]>,
}

impl Receive {
    /// Registers buffers with the ring, which is gone before they are.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the ring has some.
    pub fn new(turns: &Turns<'_>) -> io::Result<Receive> {
        // SAFETY: pointers, which may be null, and integers.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        Ok(Receive {
            buffers: ManuallyDrop::new(Buffers::register(turns)?),
            header,
            sending: Vec::new(),
            // SAFETY: addresses of zeros are addresses.
            addresses: vec![unsafe { std::mem::zeroed() }; Buffers::COUNT_MAX].into(),
        })
    }

    /// Receives `n` datagrams, and says so of each by `seen`; sends them back if `echoes`.
    ///
    /// # Errors
    ///
    /// What the ring answers.
    pub fn run(
        &mut self,
        turns: &mut Turns<'_>,
        socket: &UdpSocket,
        n: u64,
        echoes: bool,
        mut seen: impl FnMut(),
    ) -> io::Result<()> {
        let mut left = n;
        let mut armed = false;
        while left > 0 {
            if !armed {
                self.arm(turns, socket)?;
                armed = true;
            }
            turns.turn(1)?;
            // Sends with MSG_DONTWAIT end within the enter that takes them.
            for buffer in self.sending.drain(..) {
                self.buffers.give_back(buffer);
            }
            while let Some(completion) = turns.reap() {
                match completion.user_data() {
                    RECEIVE => {
                        armed = cqueue::more(completion.flags());
                        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                            self.take(turns, socket, buffer, completion.result(), echoes)?;
                            left -= 1;
                            seen();
                        } else if completion.result() == -libc::ENOBUFS {
                            self.buffers.publish_more();
                        } else {
                            return Err(io::Error::from_raw_os_error(-completion.result()));
                        }
                    }
                    _ => return Err(io::Error::from_raw_os_error(-completion.result())),
                }
            }
        }
        turns.turn(0)?;
        for buffer in self.sending.drain(..) {
            self.buffers.give_back(buffer);
        }
        self.end(turns, armed)
    }

    fn arm(&mut self, turns: &mut Turns<'_>, socket: &UdpSocket) -> io::Result<()> {
        let fd = Fd(socket.as_raw_fd());
        let receive = opcode::RecvMsgMulti::new(fd, &raw const *self.header, Buffers::GROUP)
            .build()
            .user_data(RECEIVE);
        // SAFETY: the header is on the heap, and read at submission; the buffers are the ring's.
        unsafe { turns.push(&receive) }
    }

    fn take(
        &mut self,
        turns: &mut Turns<'_>,
        socket: &UdpSocket,
        buffer: u16,
        len: i32,
        echoes: bool,
    ) -> io::Result<()> {
        // SAFETY: the kernel has written so many bytes to this buffer, which is not its own now.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                self.buffers.start(buffer),
                usize::try_from(len).unwrap_or(0),
            )
        };
        let message = RecvMsgOut::parse(bytes, &self.header)
            .map_err(|()| io::Error::other("a message without a head"))?;
        if !echoes {
            self.buffers.give_back(buffer);
            return Ok(());
        }
        let name = message.name_data();
        let to = &raw mut self.addresses[usize::from(buffer)];
        let len = name.len().min(size_of::<libc::sockaddr_in>());
        // SAFETY: no longer than an address, which is nobody else's, and any bytes are one.
        unsafe { to.cast::<u8>().copy_from_nonoverlapping(name.as_ptr(), len) };
        let payload = message.payload_data();
        let send = opcode::Send::new(
            Fd(socket.as_raw_fd()),
            payload.as_ptr(),
            payload.len() as u32,
        )
        .dest_addr(to.cast_const().cast())
        .dest_addr_len(len as libc::socklen_t)
        .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(SEND);
        self.sending.push(buffer);
        // SAFETY: buffer and address are kept until the enter that takes this has returned.
        unsafe { turns.push(&send) }
    }

    fn end(&mut self, turns: &mut Turns<'_>, mut armed: bool) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(RECEIVE).build().user_data(CANCEL);
        // SAFETY: it points to nothing.
        unsafe { turns.push(&cancel) }?;
        let mut cancelled = false;
        while armed || !cancelled {
            turns.turn(1)?;
            while let Some(completion) = turns.reap() {
                cancelled |= completion.user_data() == CANCEL;
                if completion.user_data() == RECEIVE {
                    armed = cqueue::more(completion.flags());
                    if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                        self.buffers.give_back(buffer);
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receive").finish_non_exhaustive()
    }
}

/// Receives `n` datagrams by recvmmsg(2), blocking for the first of each batch; sends them back by
/// sendmmsg(2) if `echoes`.
///
/// # Errors
///
/// What the calls give.
pub fn batches(socket: &UdpSocket, n: u64, echoes: bool, mut seen: impl FnMut()) -> io::Result<()> {
    let mut memory = vec![0_u8; BATCH * DATAGRAM_BYTES];
    // SAFETY: addresses of zeros are addresses.
    let mut names: Vec<libc::sockaddr_in> = vec![unsafe { std::mem::zeroed() }; BATCH];
    let mut parts: Vec<libc::iovec> = memory
        .chunks_exact_mut(DATAGRAM_BYTES)
        .map(|bytes| libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: DATAGRAM_BYTES,
        })
        .collect();
    // SAFETY: pointers, which may be null, and integers.
    let mut headers: Vec<libc::mmsghdr> = vec![unsafe { std::mem::zeroed() }; BATCH];
    for ((header, part), name) in headers.iter_mut().zip(&mut parts).zip(&mut names) {
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut *name).cast();
    }
    let fd = socket.as_raw_fd();
    let mut left = n;
    while left > 0 {
        for header in &mut headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        let most = left.min(BATCH as u64) as u32;
        let flags = libc::MSG_WAITFORONE as _;
        let none = std::ptr::null_mut();
        // SAFETY: as many headers, which lead to memory that outlives the call.
        let got = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), most, flags, none) };
        let Ok(got) = usize::try_from(got) else {
            return Err(io::Error::last_os_error());
        };
        for _ in 0..got {
            seen();
        }
        left -= got as u64;
        if !echoes {
            continue;
        }
        for (header, part) in headers.iter().zip(&mut parts).take(got) {
            part.iov_len = header.msg_len as usize;
        }
        // SAFETY: as above.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), got as u32, 0) };
        if usize::try_from(sent) != Ok(got) {
            return Err(io::Error::last_os_error());
        }
        for part in &mut parts {
            part.iov_len = DATAGRAM_BYTES;
        }
    }
    Ok(())
}
