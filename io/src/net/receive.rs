//! The receiving side of a stream: one receive that stays armed, for whoever reads next.
//!
//! ```text
//!            read           armed, completions are queued with the operation
//!   idle ──────────▶ armed ──────────────────────────────────────────────────┐
//!     ▲                │ too much is queued: paused │ no buffers │ the end   │ read
//!     └────────────────┴────────────────────────────┴────────────┘           ▼
//!                                                              front: what a read has left
//! ```
//!
//! What has arrived belongs to the connection, so a read that is dropped, cancelled or timed out
//! loses nothing: the receive stays armed, and the next read finds what came.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::replace;
use std::rc::Rc;
use std::task::{Context, Poll};

use coring_runtime::{
    BufPool, BufResult, IoBufMut, Lease, Multishot, checkpoint, submit_multishot,
};

use crate::ops::{Receive, ReceiveOwn, SharedFd};

/// Bytes that may wait for a reader before the kernel is asked to stop: as asyncio pauses a
/// transport at twice its limit of 64 KiB. What was received by then still comes.
const HELD_BYTES_MAX: u64 = 128 * 1024;

/// What a read gets that finds no provided buffer.
const OWN_BYTES: usize = 16 * 1024;

pub(crate) struct Receiver {
    fd: SharedFd,
    /// Arrived, and not taken by the read that it came to.
    front: Lease,
    armed: Armed,
}

/// A wait for the next bytes.
struct Wait<'a> {
    receiver: &'a mut Receiver,
    pending: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.pending {
            self.receiver.leave();
        }
    }
}

enum Armed {
    Idle,
    Pool(Multishot<Receive>),
    /// There was no provided buffer: one of its own, for one receive.
    Own(Multishot<ReceiveOwn>),
    /// It was ended here, and had an error behind what had arrived, which the kernel says once.
    Failed(io::Error),
}

impl Receiver {
    pub(crate) const fn new(fd: SharedFd) -> Self {
        Self {
            fd,
            front: Lease::empty(),
            armed: Armed::Idle,
        }
    }

    /// The next bytes; none are the end of the stream.
    pub(crate) async fn receive(&mut self) -> io::Result<Lease> {
        let mut wait = Wait {
            receiver: self,
            pending: false,
        };
        poll_fn(|cx| {
            let polled = wait.receiver.poll_receive(cx);
            wait.pending = polled.is_pending();
            polled
        })
        .await
    }

    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        if !self.front.is_empty() {
            checkpoint()?;
            return Poll::Ready(Ok(replace(&mut self.front, Lease::empty())));
        }
        loop {
            let (received, goes_on) = match &mut self.armed {
                Armed::Idle => {
                    self.arm();
                    continue;
                }
                Armed::Pool(receive) => (receive.poll_next(cx), receive.is_armed()),
                Armed::Own(receive) => (receive.poll_next(cx), receive.is_armed()),
                Armed::Failed(_) => {
                    checkpoint()?;
                    let Armed::Failed(error) = replace(&mut self.armed, Armed::Idle) else {
                        unreachable!("it was just looked at");
                    };
                    return Poll::Ready(Err(error));
                }
            };
            if !goes_on {
                self.armed = Armed::Idle;
            }
            match received {
                // Others took what there was: again, with a buffer if there is one by now.
                Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                received => return received,
            }
        }
    }

    /// Nobody waits any more.
    pub(crate) fn leave(&self) {
        match &self.armed {
            Armed::Idle | Armed::Failed(_) => {}
            Armed::Pool(receive) => receive.leave(),
            Armed::Own(receive) => receive.leave(),
        }
    }

    /// A new operation each time, for the runtime that is turning has the buffers.
    fn arm(&mut self) {
        let fd = self.fd.clone();
        self.armed = match BufPool::current() {
            Ok(pool) if pool.has_free() => {
                let receive = submit_multishot(Receive { fd, pool });
                Armed::Pool(receive.bounded(HELD_BYTES_MAX))
            }
            // None left, or none here: whoever waits still gets on.
            _ => {
                let buf = Rc::new(RefCell::new(Vec::with_capacity(OWN_BYTES)));
                Armed::Own(submit_multishot(ReceiveOwn { fd, buf }))
            }
        };
    }

    /// Copies the next bytes to the start of `buf`.
    pub(crate) async fn read<B: IoBufMut>(&mut self, mut buf: B) -> BufResult<usize, B> {
        if buf.bytes_total() == 0 {
            return BufResult(checkpoint().map(|()| 0), buf);
        }
        match self.receive().await {
            Ok(mut lease) => {
                let n = buf.fill_from(&lease);
                lease.advance(n);
                self.front = lease;
                BufResult(Ok(n), buf)
            }
            Err(error) => BufResult(Err(error), buf),
        }
    }

    /// The next bytes, which stay for the next read.
    pub(crate) async fn peek<B: IoBufMut>(&mut self, mut buf: B) -> BufResult<usize, B> {
        match self.receive().await {
            Ok(lease) => {
                let n = buf.fill_from(&lease);
                self.front = lease;
                BufResult(Ok(n), buf)
            }
            Err(error) => BufResult(Err(error), buf),
        }
    }

    /// Gives back what was taken and not used: it comes first.
    pub(super) fn put_back(&mut self, mut leases: Vec<Lease>) {
        if !self.front.is_empty() {
            leases.push(replace(&mut self.front, Lease::empty()));
        }
        self.front = match leases.pop() {
            Some(lease) if leases.is_empty() => lease,
            Some(last) => {
                let mut bytes: Vec<u8> = leases
                    .iter()
                    .flat_map(|lease| &lease[..])
                    .copied()
                    .collect();
                bytes.extend_from_slice(&last);
                bytes.into()
            }
            None => return,
        };
    }

    /// Ends the receive. What had arrived is in front, as the next reads find it. Gives whether there
    /// is something for them, or an error. A request to stop does not reach this.
    pub(super) async fn disarm(&mut self) -> bool {
        loop {
            let received = match &mut self.armed {
                Armed::Pool(receive) => receive.last().await,
                Armed::Own(receive) => receive.last().await,
                Armed::Idle => return !self.front.is_empty(),
                Armed::Failed(_) => return true,
            };
            match received {
                None => self.armed = Armed::Idle,
                Some(Ok(lease)) if lease.is_empty() => {} // The end, which the kernel says again.
                Some(Ok(lease)) => {
                    let front = replace(&mut self.front, Lease::empty());
                    let both = [front, lease].into_iter();
                    self.put_back(both.filter(|lease| !lease.is_empty()).collect());
                }
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Some(Err(error)) => self.armed = Armed::Failed(error),
            }
        }
    }

    /// What is in front, for who has looked before that there is something.
    pub(super) fn take_front<B: IoBufMut>(&mut self, buf: &mut B) -> io::Result<usize> {
        if let Armed::Failed(_) = self.armed
            && self.front.is_empty()
            && let Armed::Failed(error) = replace(&mut self.armed, Armed::Idle)
        {
            return Err(error);
        }
        let n = buf.fill_from(&self.front);
        self.front.advance(n);
        Ok(n)
    }

    /// Ends the receive, and gives what had arrived, and the error behind it.
    pub(crate) async fn finish(&mut self) -> (Vec<u8>, Option<io::Error>) {
        let mut bytes = replace(&mut self.front, Lease::empty()).to_vec();
        let received = match replace(&mut self.armed, Armed::Idle) {
            Armed::Idle => return (bytes, None),
            Armed::Failed(error) => return (bytes, Some(error)),
            Armed::Pool(receive) => receive.finish().await,
            Armed::Own(receive) => receive.finish().await,
        };
        for lease in received {
            match lease {
                Ok(lease) => bytes.extend_from_slice(&lease),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return (bytes, Some(error)),
            }
        }
        (bytes, None)
    }
}
