//! The receiving side of a stream: one receive that stays armed, for whoever reads next.
//!
//! ```text
//!          read                 what comes is queued with the operation
//!   Idle ─────────▶ Pool, or Own ──────────────────────────────────────────┐
//!    ▲ ▲                  │ it ended: the end, an error, too much is       │ read
//!    │ └──────────────────┤ queued, no buffer, the one of its own is full  ▼
//!    │ told               │                             front: what reads have left
//!   Failed ◀──────────────┘ ended here, with an error behind what had come
//! ```
//!
//! Own is for when no provided buffer is left: connections that nobody reads stop no other.
//!
//! What has arrived belongs to the connection, so a read that is dropped, cancelled or timed out
//! loses nothing: the receive stays armed, and the next read finds what came.

use std::cell::RefCell;
use std::collections::VecDeque;
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
    /// Arrived, and not taken by the read that it came to: it comes first.
    front: VecDeque<Lease>,
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
            front: VecDeque::new(),
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
            return Poll::Ready(Ok(self.front.pop_front().unwrap_or_else(Lease::empty)));
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
                    let failure = self.take_failure();
                    return Poll::Ready(failure.map_or(Ok(Lease::empty()), Err));
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
                self.put_back(lease);
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
                self.put_back(lease);
                BufResult(Ok(n), buf)
            }
            Err(error) => BufResult(Err(error), buf),
        }
    }

    /// Gives back what was taken and not used: it comes first.
    pub(super) fn put_back(&mut self, lease: Lease) {
        if !lease.is_empty() {
            self.front.push_front(lease);
        }
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
                Some(Ok(lease)) => self.front.push_back(lease),
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Some(Err(error)) => self.armed = Armed::Failed(error),
            }
        }
    }

    /// What is in front, for who has looked before that there is something.
    pub(super) fn take_front<B: IoBufMut>(&mut self, buf: &mut B) -> io::Result<usize> {
        let Some(mut first) = self.front.pop_front() else {
            return self.take_failure().map_or(Ok(0), Err);
        };
        let n = buf.fill_from(&first);
        first.advance(n);
        self.put_back(first);
        Ok(n)
    }

    fn take_failure(&mut self) -> Option<io::Error> {
        match replace(&mut self.armed, Armed::Idle) {
            Armed::Failed(error) => Some(error),
            armed => {
                self.armed = armed;
                None
            }
        }
    }

    /// Ends the receive, and gives what had arrived, and the error behind it.
    pub(crate) async fn finish(&mut self) -> (Vec<u8>, Option<io::Error>) {
        self.disarm().await;
        let leases = std::mem::take(&mut self.front);
        let received = leases.iter().flat_map(|lease| &lease[..]).copied();
        (received.collect(), self.take_failure())
    }
}
