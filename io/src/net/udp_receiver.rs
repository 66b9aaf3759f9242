//! Many datagrams by one receive that stays armed.
//!
//! ```text
//!         next                 what comes is queued with the operation
//!   Idle ──────▶ Pool, or Own ─────────────────────────────────────────▶ next
//!    ▲                 │ it ended: an error, no buffer, a datagram without bytes,
//!    └─────────────────┘ the buffer of its own is full
//! ```
//!
//! Own is for when no provided buffer is left: those who keep what they received stop no other.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

use coring_runtime::{BufPool, Lease, Multishot, submit_multishot};

use super::UdpReceived;
use crate::ops::{RecvMessageOwn, RecvMessages, RecvMsg, SharedFd};

/// Datagrams that may wait here for somebody to take them before the kernel is asked to stop; up to
/// twice as many may be here before it has heard of that.
const UNCLAIMED_MAX: u64 = 64;

/// Where there is no provided buffer: the largest datagram.
const OWN_BYTES: usize = 64 * 1024;

/// Receives many datagrams of a [`UdpSocket`](super::UdpSocket) with few system calls, made by its
/// [`recv_many`](super::UdpSocket::recv_many).
///
/// One receive stays armed (a multishot, since Linux 6.0), and each datagram comes in a buffer that the
/// kernel chooses, into which the largest one fits: none is ever cut. It is armed by the first call of
/// [`next`](Self::next). From then on what arrives at the socket comes here, also while nobody waits;
/// whoever else receives on it competes with that.
///
/// When 64 wait for somebody to take them it is paused: the others stay with the kernel, and what that
/// has no room for it drops
/// ([`set_recv_buffer_size`](super::UdpSocket::set_recv_buffer_size)).
///
/// Many are received by one system call; a send that is awaited before the next is taken costs one of
/// its own. Sent by tasks, the answers to what came together go out together.
///
/// Dropping it ends the receive; the datagrams that are here, and not taken, are lost.
/// [`finish`](Self::finish) gives them.
///
/// # Examples
///
/// A server that answers each datagram out of the buffer that it came in:
///
/// ```
/// use coring::net::UdpSocket;
///
/// # coring::run(async {
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// # let client = UdpSocket::bind("127.0.0.1:0")?;
/// # client.connect(server.local_addr()?)?;
/// # for text in ["one", "two"] {
/// #     client.send(text).await.0?;
/// # }
/// let mut receiver = server.recv_many();
/// # for _ in 0..2 {
/// let (received, payload) = receiver.next().await?;
/// server.send_to(payload, received.from).await.0?;
/// # }
/// # for text in ["one", "two"] {
/// #     assert_eq!(client.recv(Vec::with_capacity(9)).await.1, text.as_bytes());
/// # }
/// # coring::ok(()) }).unwrap();
/// ```
pub struct UdpReceiver {
    fd: SharedFd,
    /// Counted by the socket, which is not to leave the runtime under a receiver.
    _of_socket: Weak<OwnedFd>,
    armed: Armed,
}

enum Armed {
    Idle,
    Pool(Multishot<RecvMessages>),
    /// There was no provided buffer: one of its own, for one datagram.
    Own(Multishot<RecvMessageOwn>),
}

impl UdpReceiver {
    pub(super) fn new(fd: &SharedFd) -> Self {
        Self {
            fd: fd.clone(),
            _of_socket: Rc::downgrade(fd),
            armed: Armed::Idle,
        }
    }

    /// Waits for the next datagram: gives what is known of it, and its bytes, in the buffer that it
    /// came in.
    ///
    /// With [`set_gro`](super::UdpSocket::set_gro) it may be several at once: see
    /// [`UdpReceived::datagrams`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. A datagram that arrives is given
    /// to the next call.
    ///
    /// # Errors
    /// What recvmsg(2) gives: on a connected socket `ConnectionRefused`, if nobody had listened for an
    /// earlier datagram. The next call goes on. [`Cancelled`](coring_runtime::Cancelled) if it is asked
    /// to stop, by a limit too.
    pub async fn next(&mut self) -> io::Result<(UdpReceived, Lease)> {
        loop {
            // Decoded where it is returned: a copy of it costs as much as the rest of this.
            let error = match &mut self.armed {
                Armed::Idle => {
                    self.arm();
                    continue;
                }
                Armed::Pool(receive) => match receive.next().await {
                    Ok(message) => {
                        self.settle();
                        return UdpReceived::of_message(message);
                    }
                    Err(error) => error,
                },
                Armed::Own(receive) => match receive.next().await {
                    Ok(own) => {
                        self.settle();
                        return of_own(own);
                    }
                    Err(error) => error,
                },
            };
            self.settle();
            // Others took what there was: again, with a buffer if there is one by now.
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(error);
            }
        }
    }

    /// What has ended is armed anew by the next wait.
    fn settle(&mut self) {
        let goes_on = match &self.armed {
            Armed::Idle => true,
            Armed::Pool(receive) => receive.is_armed(),
            Armed::Own(receive) => receive.is_armed(),
        };
        if !goes_on {
            self.armed = Armed::Idle;
        }
    }

    /// Ends the receive, and gives what had come and nobody had taken. A request to stop does not reach
    /// this.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what had come is lost.
    pub async fn finish(mut self) -> Vec<io::Result<(UdpReceived, Lease)>> {
        let mut rest = Vec::new();
        loop {
            let last = match &mut self.armed {
                Armed::Idle => None,
                Armed::Pool(receive) => {
                    let last = receive.last().await;
                    last.map(|message| message.and_then(UdpReceived::of_message))
                }
                Armed::Own(receive) => receive.last().await.map(|own| own.and_then(of_own)),
            };
            match last {
                None => return rest,
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Some(received) => rest.push(received),
            }
        }
    }

    /// A new operation each time, for the runtime that is turning has the buffers.
    fn arm(&mut self) {
        let fd = self.fd.clone();
        let control_max = UdpReceived::ROOM;
        self.armed = match BufPool::whole() {
            Ok(pool) if pool.has_free() => {
                let receive = submit_multishot(RecvMessages {
                    fd,
                    pool,
                    control_max,
                });
                Armed::Pool(receive.bounded(UNCLAIMED_MAX))
            }
            // None left, or none here: whoever waits still gets on.
            _ => {
                let buf = Vec::with_capacity(OWN_BYTES);
                let receive = RecvMsg::new(fd, buf, libc::MSG_TRUNC, control_max);
                Armed::Own(submit_multishot(RecvMessageOwn::new(receive)))
            }
        };
    }
}

fn of_own((received, buf): (crate::ops::Received, Vec<u8>)) -> io::Result<(UdpReceived, Lease)> {
    Ok((UdpReceived::of(&received)?, buf.into()))
}

impl fmt::Debug for UdpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpReceiver").finish_non_exhaustive()
    }
}
