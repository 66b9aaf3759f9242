//! Two streams joined: what comes from one goes to the other.
//!
//! ```text
//!   receive ──▶ batch ──▶ a send that never waits, silent if it does all
//!      ▲          ▲            │ all            │ the other end has no room
//!      │          └────────────┼────────────────┴──▶ a send that waits, for the rest
//!      └───────────────────────┘
//! ```
//!
//! What was received is sent from where the kernel put it: no byte is copied here. A batch that is
//! not sent when a direction ends goes back to the front of the stream that it came from.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::{replace, take};
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;

use coring_runtime::{BufResult, Lease, Op, Partial, gather, submit};

use super::receive::Receiver;
use super::send::{Chunk, Keeps, advance, start};
use super::stream::shut_down;
use super::{Kind, Stream};
use crate::ops::{SendBatch, SharedFd};

/// Sends to `b` what comes from `a`, and to `a` what comes from `b`, until both have ended. Gives
/// how many bytes went from `a` to `b`, and from `b` to `a`.
///
/// Where one of them ends, the other one's peer reads to the end, while the other direction goes on.
/// What had arrived before goes first. An error of either direction ends both: it is for the caller
/// to close the streams, or to reset them (`TcpStream::set_zero_linger`) where the peers are to know
/// of it.
///
/// What one peer does not take is not received from the other one: up to 128 KiB wait here, and as
/// much as the kernel had received by then.
///
/// # Moving bytes
///
/// Bytes are sent from the buffers that they were received into, without a copy in user space, and a
/// message is one request. A pipe between two splice(2)s takes more CPU time for messages (64 B 1.59,
/// 4 KiB 1.48, 64 KiB 1.23 of this) and less in bulk (0.66), at 1.29 of the time (M, Linux 6.18,
/// loopback), and has a thread of the kernel's for each direction in which nothing moves.
///
/// # Cancel safety
///
/// Not cancel safe: a prefix may already be transferred. When it is cancelled, or times out, or
/// fails, [`Partial`] says how much went each way, and no byte is lost: what was received and not
/// sent is at the front of the stream that it came from, for the next read, or for the next call of
/// this. When it is dropped, what was being sent at that moment may have been sent or not.
///
/// # Errors
/// What recv(2), send(2) and shutdown(2) give, without a SIGPIPE;
/// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
///
/// # Examples
///
/// ```
/// use coring::net::{UnixStream, copy_bidirectional};
///
/// # coring::run(async {
/// let (mut client, mut front) = UnixStream::pair()?;
/// let (mut back, mut server) = UnixStream::pair()?;
/// let proxy = coring::create_task(async move { copy_bidirectional(&mut front, &mut back).await });
/// client.write_all("question").await.0?;
/// assert_eq!(&server.receive().await?[..], b"question");
/// server.write_all("answer").await.0?;
/// drop(server);
/// assert_eq!(&client.receive().await?[..], b"answer");
/// assert!(client.receive().await?.is_empty());
/// drop(client);
/// assert_eq!(proxy.await?, (8, 6));
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn copy_bidirectional<A: Kind, B: Kind>(
    a: &mut Stream<A>,
    b: &mut Stream<B>,
) -> io::Result<(u64, u64)> {
    let (there, back) = (Cell::new(0), Cell::new(0));
    let (a_fd, a_receiver) = a.parts_mut();
    let (b_fd, b_receiver) = b.parts_mut();
    let both = gather!(
        forward(a_receiver, b_fd, &there),
        forward(b_receiver, a_fd, &back),
    );
    match both.await {
        Ok(((), ())) => Ok((there.get() as u64, back.get() as u64)),
        Err(error) => Err(Partial::both_ways(there.get(), back.get(), error)),
    }
}

/// One direction, to its end.
async fn forward(from: &mut Receiver, to: &SharedFd, sent: &Cell<usize>) -> io::Result<()> {
    let mut way = Way {
        to,
        sent,
        batch: Vec::new(),
        silent: None,
    };
    let ended = way.run(from).await;
    for chunk in way.batch.into_iter().rev() {
        from.put_back(chunk.into_lease());
    }
    ended
}

struct Way<'a> {
    to: &'a SharedFd,
    sent: &'a Cell<usize>,
    /// Received, and not sent.
    batch: Vec<Chunk>,
    /// A send that the loop does not get up for if it succeeds, and with it the rest of the batch.
    silent: Option<Op<SendBatch>>,
}

impl Way<'_> {
    async fn run(&mut self, from: &mut Receiver) -> io::Result<()> {
        loop {
            let received = if self.silent.is_some() {
                receive_or_wake(from).await
            } else {
                Some(from.receive().await)
            };
            // It goes ahead of what came after it, and says how much it was also when this ends.
            let sent = match self.silent.take() {
                Some(send) => self.sent(send.await),
                None => Ok(()),
            };
            let waits = !self.batch.is_empty();
            let mut ended = false;
            match received {
                None => {}
                Some(Ok(lease)) if lease.is_empty() => ended = true,
                Some(Ok(lease)) => self.batch.push(Chunk::Lease(lease)),
                Some(Err(error)) => return Err(error),
            }
            sent?;
            if ended || waits {
                self.send_all().await?;
            } else if !self.batch.is_empty() {
                self.send_silently().await;
            }
            if ended {
                return match shut_down(self.to, Shutdown::Write).await {
                    // The peer has gone: the other direction says how.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    ended => ended,
                };
            }
        }
    }

    /// Sends the batch, and waits for room.
    async fn send_all(&mut self) -> io::Result<()> {
        while !self.batch.is_empty() {
            let send = self.send(true);
            let sent = send.await;
            self.sent(sent)?;
        }
        Ok(())
    }

    /// Starts to send the batch, as far as there is room.
    async fn send_silently(&mut self) {
        let mut send = self.send(false);
        start(&mut send, Keeps::Buffers).await;
        self.silent = Some(send);
    }

    fn send(&mut self, waits: bool) -> Op<SendBatch> {
        submit(SendBatch::new(self.to, take(&mut self.batch), waits))
    }

    /// A send is over: the batch is what it has left.
    fn sent(&mut self, result: BufResult<usize, Vec<Chunk>>) -> io::Result<()> {
        let BufResult(result, chunks) = result;
        self.batch = chunks;
        let n = match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        self.sent.set(self.sent.get() + n);
        advance(&mut self.batch, n, drop);
        Ok(())
    }
}

/// What comes next. `None`: something else has happened, so that the silent send is to be looked at.
async fn receive_or_wake(from: &mut Receiver) -> Option<io::Result<Lease>> {
    let mut receive = pin!(from.receive());
    let mut waited = false;
    poll_fn(|cx| match receive.as_mut().poll(cx) {
        Poll::Ready(received) => Poll::Ready(Some(received)),
        Poll::Pending if replace(&mut waited, true) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
