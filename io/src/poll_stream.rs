//! A stream with poll functions, for crates that are written against those.

use std::fmt;
use std::io;
use std::mem::replace;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coring_runtime::checkpoint;

use crate::net::send::{Goal, Sender, written_after_the_end};
use crate::net::{Kind, Stream};
use crate::streams::{StreamReader, StreamWriter};

/// A connection for crates that poll: `futures_io` and `tokio::io`'s `AsyncRead` and `AsyncWrite`,
/// and hyper's `rt::Read` and `rt::Write`, each with the feature `futures-io`, `tokio` or `hyper`.
///
/// The operations are in here and not in a future, so a read that is polled and given up loses
/// nothing. What is written is copied and sent in the background, also when this is dropped: a flush
/// does not wait for it, as a flush of a socket waits for nothing that the kernel holds, and
/// [`poll_close`](Self::poll_close) does.
pub struct PollStream {
    reader: StreamReader,
    sender: Sender,
    waiting: Option<(Goal, Waiting)>,
    /// Bytes were given, and nobody has waited since.
    has_given: bool,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>>>>;

impl<K: Kind> Stream<K> {
    /// The connection for crates that poll. `examples/hyper.rs` is a server of them.
    pub fn into_poll(self) -> PollStream {
        let (reader, writer) = self.into_streams();
        PollStream::new(reader, writer)
    }
}

impl PollStream {
    /// A stream of two that go on, such as those that a server's handler is given.
    pub fn new(reader: StreamReader, writer: StreamWriter) -> Self {
        Self {
            reader,
            sender: writer.into_sender(),
            waiting: None,
            has_given: false,
        }
    }

    /// What has come and is unread; waits for some. Nothing is the end of the stream, which is told
    /// in another poll of the task than the bytes before it.
    ///
    /// # Errors
    /// What recv(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a
    /// limit too.
    pub fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.reader.buffer().is_empty() {
            let filled = self.reader.poll_fill(cx);
            let has_given = replace(&mut self.has_given, false);
            ready!(filled)?;
            if has_given && self.reader.buffer().is_empty() {
                // hyper would take a client that ends its side behind its request for one that broke
                // off, without having looked at the request: readiness does not show it both at once.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        } else {
            checkpoint()?;
        }
        Poll::Ready(Ok(self.reader.buffer()))
    }

    /// Forgets the first `n` bytes of what is unread.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn consume(&mut self, n: usize) {
        self.has_given |= n > 0;
        self.reader.consume(n);
    }

    /// Takes what has come, as far as there is room for it. Gives how much.
    #[cfg(any(feature = "futures-io", feature = "hyper", feature = "tokio"))]
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        put: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let unread = ready!(self.poll_fill_buf(cx))?;
        let n = unread.len().min(room);
        put(&unread[..n]);
        self.consume(n);
        Poll::Ready(Ok(n))
    }

    /// Takes bytes to be sent, unless more than 64 KiB wait for that already.
    ///
    /// # Errors
    /// What send(2) gave, now or before; `BrokenPipe` after [`poll_close`](Self::poll_close);
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_until(Goal::Room, cx))?;
        if self.sender.has_ended() && !bytes.is_empty() {
            return Poll::Ready(Err(written_after_the_end()));
        }
        let n = bytes.len().min(self.sender.high_water().max(1));
        self.sender.write(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    /// Nothing to wait for: what was written is on its way.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    // hyper holds a request for unanswered until the flush behind its answer is over: a client that
    // has the answer and leaves would be one that broke off.
    pub fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        checkpoint()?;
        Poll::Ready(self.sender.error())
    }

    /// Ends what the peer reads, after what was written, and waits until the kernel has all of it.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.write_eof();
        self.poll_until(Goal::Flushed, cx)
    }

    fn poll_until(&mut self, goal: Goal, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = match &mut self.waiting {
            Some((at, wait)) if *at == goal => wait,
            _ => {
                if self.sender.is_at(goal) {
                    checkpoint()?;
                    return Poll::Ready(self.sender.error());
                }
                let wait = self.sender.later(goal);
                &mut self.waiting.insert((goal, wait)).1
            }
        };
        let waited = ready!(wait.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(waited)
    }
}

impl fmt::Debug for PollStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollStream")
            .field("unread", &self.reader.buffer().len())
            .field("buffered", &self.sender.buffered())
            .finish_non_exhaustive()
    }
}

/// The traits differ in their names and in what a read fills, not in what they do.
#[cfg(any(feature = "futures-io", feature = "hyper", feature = "tokio"))]
macro_rules! poll_write {
    ($trait:path, $poll_close:ident) => {
        impl $trait for PollStream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_write(cx, buf)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_flush(cx)
            }

            fn $poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_close(cx)
            }
        }
    };
}

#[cfg(any(feature = "futures-io", feature = "tokio"))]
macro_rules! poll_buf_read {
    ($trait:path) => {
        impl $trait for PollStream {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                self.get_mut().poll_fill_buf(cx)
            }

            fn consume(self: Pin<&mut Self>, n: usize) {
                self.get_mut().consume(n);
            }
        }
    };
}

#[cfg(feature = "futures-io")]
mod futures {
    use super::*;

    impl futures_io::AsyncRead for PollStream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let room = buf.len();
            let put = |bytes: &[u8]| buf[..bytes.len()].copy_from_slice(bytes);
            self.get_mut().poll_take(cx, room, put)
        }
    }

    poll_buf_read!(futures_io::AsyncBufRead);
    poll_write!(futures_io::AsyncWrite, poll_close);
}

#[cfg(feature = "tokio")]
mod tokio_io {
    use tokio::io::{AsyncRead, ReadBuf};

    use super::*;

    impl AsyncRead for PollStream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buf.remaining();
            let put = |bytes: &[u8]| buf.put_slice(bytes);
            self.get_mut().poll_take(cx, room, put).map_ok(drop)
        }
    }

    poll_buf_read!(tokio::io::AsyncBufRead);
    poll_write!(tokio::io::AsyncWrite, poll_shutdown);
}

#[cfg(feature = "hyper")]
mod hyper_rt {
    use std::future::Future;
    use std::time::{Duration, Instant};

    use coring_runtime::{Timer, create_task};
    use futures_channel::oneshot;
    use hyper::rt;

    use super::*;

    impl rt::Read for PollStream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            mut buf: rt::ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let room = buf.remaining();
            let put = |bytes: &[u8]| buf.put_slice(bytes);
            self.get_mut().poll_take(cx, room, put).map_ok(drop)
        }
    }

    poll_write!(rt::Write, poll_shutdown);

    /// hyper's tasks are the runtime's.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct HyperExecutor;

    impl<F: Future + 'static> rt::Executor<F> for HyperExecutor {
        fn execute(&self, future: F) {
            create_task(async move { drop(future.await) });
        }
    }

    /// hyper's timeouts are the runtime's.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct HyperTimer;

    /// Hears of the end of a task that sleeps: hyper wants it to be for any thread.
    struct Slept(oneshot::Receiver<()>);

    impl Future for Slept {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            Pin::new(&mut self.0).poll(cx).map(drop)
        }
    }

    impl rt::Sleep for Slept {}

    impl rt::Timer for HyperTimer {
        fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
            let (mut sender, receiver) = oneshot::channel();
            create_task(async move {
                let timer = std::pin::pin!(Timer::after(duration));
                let slept = futures_util::future::select(timer, sender.cancellation()).await;
                drop(slept); // Whoever waited has left, or is to be told:
                let _ = sender.send(());
            });
            Box::pin(Slept(receiver))
        }

        fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
            #[expect(clippy::disallowed_methods, reason = "hyper's deadlines are std's")]
            let now = Instant::now();
            self.sleep(deadline.saturating_duration_since(now))
        }
    }
}

#[cfg(feature = "hyper")]
pub use hyper_rt::{HyperExecutor, HyperTimer};
