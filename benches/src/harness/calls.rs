//! The load of `accept`: connections that are made, read until the server closes them, and reset.
//!
//! The reset (SO_LINGER of 0) frees the port and the server's side at once: connections that wait
//! out their last minute would use up all ports within a second.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types};

use super::client::{Load, ended};
use crate::raw::Turns;

const CONNECT: u64 = 1 << 32;

/// Room for one byte more than any answer has.
type Answer = [u8; 2];

/// Connections to one server, so many at a time.
pub(crate) struct Calls {
    answer_bytes: usize,
    in_flight: usize,
    sockets: Vec<Option<OwnedFd>>,
    // Freed only when nothing is in flight: the kernel writes into the answers until then.
    address: ManuallyDrop<Box<libc::sockaddr_in>>,
    answers: ManuallyDrop<Vec<Answer>>,
}

impl Calls {
    pub(crate) fn new(
        address: SocketAddr,
        places: usize,
        answer_bytes: usize,
    ) -> io::Result<Calls> {
        let (SocketAddr::V4(address), true) = (address, answer_bytes < size_of::<Answer>()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Calls {
            answer_bytes,
            in_flight: 0,
            sockets: (0..places).map(|_| None).collect(),
            address: ManuallyDrop::new(Box::new(raw_address(address))),
            answers: ManuallyDrop::new(vec![[0; 2]; places]),
        })
    }
}

impl Load for Calls {
    fn places(&self) -> usize {
        self.sockets.len()
    }

    fn ask(&mut self, turns: &mut Turns<'_>, place: usize) -> io::Result<()> {
        let socket = socket()?;
        let fd = types::Fd(socket.as_raw_fd());
        self.sockets[place] = Some(socket);
        let token = place as u64;
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let address: *const libc::sockaddr_in = &raw const **self.address;
        let chain: [Entry; 2] = [
            opcode::Connect::new(fd, address.cast(), length)
                .build()
                .flags(Flags::IO_LINK | Flags::SKIP_SUCCESS)
                .user_data(token | CONNECT),
            // Waits for more than ever comes, and so for the end.
            opcode::Recv::new(
                fd,
                self.answers[place].as_mut_ptr(),
                size_of::<Answer>() as u32,
            )
            .flags(libc::MSG_WAITALL)
            .build()
            .user_data(token),
        ];
        // SAFETY: the address and the answers are on the heap, do not move, and are leaked by `Drop`
        // while a receive is in flight; it ends after the connect before it.
        unsafe { turns.push_chain(&chain) }?;
        self.in_flight += 1;
        Ok(())
    }

    /// The place whose connection the server has closed.
    fn answered(&mut self, completion: &cqueue::Entry) -> io::Result<usize> {
        let (place, result) = ended(completion, CONNECT, &mut self.in_flight)?;
        if result != self.answer_bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an answer of {result} bytes"),
            ));
        }
        self.sockets[place] = None;
        Ok(place)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: both are dropped here only, and no request points into them any more.
            unsafe { ManuallyDrop::drop(&mut self.address) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.answers) };
        }
    }
}

/// A socket whose close is a reset.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed out this descriptor, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option is a linger, of the size that is passed, and only read.
    let answer = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}
