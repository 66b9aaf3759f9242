//! A writer that sends in the background.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::Bytes;
use coring_runtime::Lease;
use socket2::{SockAddr, SockRef};

use crate::fs::File;
use crate::net::send::{Chunk, Rest, Sender};
use crate::net::sendfile::send_file;
use crate::ops::SharedFd;

/// Writes without waiting; what is written is sent in the background (asyncio's `StreamWriter`).
///
/// What a task writes until it waits for something goes out in one send. An error of the connection
/// comes out of [`drain`](Self::drain), each time, and what is written after it goes nowhere. A writer that is
/// dropped sends what is left; the connection is closed when the reader is dropped as well.
///
/// It is sent in the runtime in which it was first written to. Who waits for that in another one of the
/// thread gets an error, `NotConnected`; what was written stays, and is sent when its own runtime turns.
///
/// # Examples
///
/// ```
/// # use coring::net::UnixStream;
/// # coring::run(async {
/// # let (one, other) = UnixStream::pair()?;
/// # let (_, mut writer) = one.into_streams();
/// # let (mut reader, _) = other.into_streams();
/// writer.write("hello, ");
/// writer.write(vec![b'w'; 3]);
/// writer.drain().await?; // Waits if the peer is slow.
/// writer.close();
/// assert_eq!(reader.read_to_end().await?, b"hello, www");
/// # coring::ok(()) }).unwrap();
/// ```
pub struct StreamWriter {
    fd: SharedFd,
    sender: Sender,
}

impl StreamWriter {
    pub(super) fn new(fd: SharedFd) -> Self {
        Self {
            sender: Sender::new(fd.clone()),
            fd,
        }
    }

    pub(crate) fn into_sender(self) -> Sender {
        self.sender
    }

    /// What is left to be sent when this is dropped.
    pub(super) fn rest(&self) -> Rest {
        self.sender.rest()
    }

    /// Has `data` sent, and returns at once. What is borrowed is copied, and so is a [`Lease`] of up to
    /// 1 KiB, whose buffer is free then; a vector, [`Bytes`] or a longer lease is sent from where it is.
    ///
    /// Nobody stops who writes faster than the peer reads: [`drain`](Self::drain) does.
    ///
    /// # Panics
    /// Outside of a runtime. The connection has failed then, as whoever waits for it is told.
    pub fn write(&mut self, data: impl Writable) {
        data.write_to(&self.sender);
    }

    /// Has each of `lines` sent, as they are (asyncio's `writelines`, which adds no newlines).
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn writelines(&mut self, lines: impl IntoIterator<Item: Writable>) {
        for line in lines {
            self.write(line);
        }
    }

    /// If more than 64 KiB wait to be sent, waits until 16 KiB are left, or fewer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// What send(2) gave, now or before; `BrokenPipe` if something was written after
    /// [`write_eof`](Self::write_eof) or [`close`](Self::close);
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub async fn drain(&mut self) -> io::Result<()> {
        self.sender.drain().await
    }

    /// Waits until the kernel has all that was written.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn flush(&mut self) -> io::Result<()> {
        self.sender.flush().await
    }

    /// Sends what was written, and behind it `count` bytes of `file` from `offset` on, or all to its
    /// end. Gives how many bytes of the file were sent; see
    /// [`Stream::sendfile`](crate::net::Stream::sendfile).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, times out or
    /// fails, [`Partial`](coring_runtime::Partial) says how much of the file was sent.
    ///
    /// # Errors
    /// As there, and as [`flush`](Self::flush); `BrokenPipe` after [`close`](Self::close) or
    /// [`write_eof`](Self::write_eof).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::net::UnixStream;
    /// use coring::fs::File;
    ///
    /// # let path = std::env::temp_dir().join(format!("coring-doc-writer-{}", std::process::id()));
    /// # std::fs::write(&path, "content").unwrap();
    /// # coring::run(async {
    /// # let (one, other) = UnixStream::pair()?;
    /// # let (_, mut writer) = one.into_streams();
    /// # let (mut reader, _) = other.into_streams();
    /// writer.write("length: 7\n");
    /// writer.sendfile(&File::open(&path).await?, 0, None).await?;
    /// writer.write("!");
    /// writer.close();
    /// assert_eq!(reader.read_to_end().await?, b"length: 7\ncontent!");
    /// # coring::ok(()) }).unwrap();
    /// # std::fs::remove_file(&path).unwrap();
    /// ```
    pub async fn sendfile(
        &mut self,
        file: &File,
        offset: u64,
        count: Option<u64>,
    ) -> io::Result<u64> {
        if self.sender.has_ended() {
            let text = "the writer is closed, or has written its end";
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, text));
        }
        // Nothing else is sent meanwhile: who writes has `self`.
        self.sender.flush().await?;
        send_file(&self.fd, file, offset, count).await
    }

    /// The address of this end (asyncio's `get_extra_info("sockname")`).
    ///
    /// # Errors
    /// What getsockname(2) gives; `AddrNotAvailable` if it is none of the internet.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&*self.fd).local_addr()?)
    }

    /// The address of the peer (asyncio's `get_extra_info("peername")`).
    ///
    /// # Errors
    /// What getpeername(2) gives: `NotConnected` once the connection has broken, so who wants to name
    /// the peer then asks before; `AddrNotAvailable` if it is none of the internet.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::{open_connection, start_server};
    ///
    /// # coring::run(async {
    /// let server = start_server("127.0.0.1:0", async |_reader, mut writer| {
    ///     let peer = writer.peer_addr()?;
    ///     writer.write(format!("you are {peer}"));
    ///     coring::ok(())
    /// }).await?;
    /// let (mut reader, writer) = open_connection(server.local_addr()?).await?;
    /// let greeting = format!("you are {}", writer.local_addr()?);
    /// assert_eq!(reader.read_to_end().await?, greeting.as_bytes());
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&*self.fd).peer_addr()?)
    }

    /// Above how many bytes a [`drain`](Self::drain) waits, until a quarter of that is left. By default
    /// 64 KiB. What is queued already counts.
    pub fn set_high_water(&mut self, bytes: usize) {
        self.sender.set_high_water(bytes);
    }

    /// Bytes that wait to be sent, or are being sent. What was sent since the last look may still be
    /// counted; [`flush`](Self::flush) waits until nothing is.
    pub fn buffered(&self) -> usize {
        self.sender.buffered()
    }

    /// Ends what the peer reads, after what was written. What is written from here on goes nowhere, and
    /// the next [`drain`](Self::drain) says so.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn write_eof(&mut self) {
        self.sender.write_eof();
    }

    /// Closes the connection in both directions, after what was written, in the background: see
    /// [`wait_closed`](Self::wait_closed).
    ///
    /// The kernel resets a connection that is closed while the peer still sends, and a reset may take
    /// away what the peer has not read. Where that matters, call [`write_eof`](Self::write_eof) and read
    /// to the end before.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn close(&mut self) {
        self.sender.close();
    }

    /// Forgets what has not been sent, also what a send to a peer that does not read is waiting with,
    /// and ends the connection in both directions; the writer fails with "aborted" from here on.
    ///
    /// The peer reads to the end of what was sent. For a reset instead, call
    /// [`set_zero_linger`](crate::net::TcpStream::set_zero_linger) before the streams are made of it, and
    /// drop reader and writer.
    pub fn abort(&mut self) {
        self.sender.abort();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closing(&self) -> bool {
        self.sender.is_closing()
    }

    /// Waits until a connection that is closing is closed, with all that was written sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn wait_closed(&mut self) -> io::Result<()> {
        self.sender.wait_closed().await
    }
}

fn inet(addr: &SockAddr) -> io::Result<SocketAddr> {
    let inet = addr.as_socket();
    inet.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

impl AsFd for StreamWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("buffered", &self.buffered())
            .field("is_closing", &self.is_closing())
            .finish_non_exhaustive()
    }
}

/// What can be written: bytes or text, borrowed, which are copied, or owned, which are not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be written to a stream",
    note = "give bytes or text: `&[u8]`, `&str` and the like are copied, a `Vec<u8>`, `String`, `Bytes` \
            or long `Lease` is sent from where it is"
)]
pub trait Writable: sealed::Sealed {
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "nobody else can implement or call it")]
    fn write_to(self, sender: &Sender);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! writable {
    ($(($($generics:tt)*) $type:ty: $sender:ident, $data:ident => $write:expr;)*) => { $(
        impl $($generics)* sealed::Sealed for $type {}
        impl $($generics)* Writable for $type {
            #[expect(private_interfaces, reason = "nobody else can implement or call it")]
            fn write_to(self, $sender: &Sender) {
                let $data = self;
                $write;
            }
        }
    )* };
}

writable! {
    () &[u8]: sender, data => sender.write(data);
    (<const N: usize>) &[u8; N]: sender, data => sender.write(data);
    () &Vec<u8>: sender, data => sender.write(data);
    () &str: sender, data => sender.write(data.as_bytes());
    () &String: sender, data => sender.write(data.as_bytes());
    () &Bytes: sender, data => sender.write(data);
    () &Lease: sender, data => sender.write(data);
    () String: sender, data => sender.push(Chunk::Copied(data.into_bytes(), 0));
    () Vec<u8>: sender, data => sender.push(Chunk::Copied(data, 0));
    () Bytes: sender, data => sender.push(Chunk::Bytes(data));
    () Lease: sender, data => sender.push(Chunk::Lease(data));
}
