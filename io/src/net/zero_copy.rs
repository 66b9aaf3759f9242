//! Sending from where the bytes are.

use coring_runtime::{BufResult, IoBuf, Op, checkpoint, submit};

use super::stream::{SEND_ALL_FLAGS, SEND_FLAGS};
use super::{OwnedWriteHalf, Stream, Tcp};
use crate::ops::{SendZc, SharedFd};
use crate::transfer::drain_by;

impl Stream<Tcp> {
    /// Sends what the kernel has room for, from where it is, if the network card can: gives how many
    /// bytes of `buf` that was. The buffer comes back when the kernel is done with it, which is
    /// when the peer has confirmed that it has the bytes, not before. Since Linux 6.0.
    ///
    /// Never faster than [`write`](Self::write) on one machine: loopback copies each time, and a
    /// send costs 1 to 2 µs more (M, Linux 6.18: 64 B 1.8 µs against 0.8, 16 KiB 8.1 against 7.3).
    /// With a card, what a copy takes is more than that from about 16 KiB on.
    /// [`send_zc_all`](Self::send_zc_all) says whether it was copied.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. A cancel or a time-out gives the
    /// count instead, if there is one. Both wait for the kernel to be done with the buffer: a peer
    /// that confirms nothing holds it for as long as TCP tries, which is minutes. When it is
    /// dropped the buffer is freed after that.
    ///
    /// # Errors
    /// What send(2) gives, without a SIGPIPE, and `ENOMEM` or `ENOBUFS` where more memory would be
    /// pinned than the process may (`RLIMIT_MEMLOCK`);
    /// [`Cancelled`](coring_runtime::Cancelled), or the time-out of a scope.
    pub async fn send_zc<B: IoBuf>(&mut self, buf: B) -> BufResult<usize, B> {
        send_zc(self.shared_fd(), buf).await
    }

    /// Sends all of `buf` as [`send_zc`](Self::send_zc) does, and says whether the kernel has copied
    /// any of it: then [`write_all`](Self::write_all) costs less on this connection.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, or times out,
    /// [`Partial`](coring_runtime::Partial) says how much was sent.
    ///
    /// # Errors
    /// As [`send_zc`](Self::send_zc).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring::net::{TcpListener, TcpStream};
    /// use coring::BufResult;
    ///
    /// # coring::run(async {
    /// # let mut listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut server, _) = listener.accept().await?;
    /// let BufResult(copied, page) = client.send_zc_all(vec![7; 32 << 10]).await;
    /// # let (page, BufResult(read, received)) =
    /// #     (page, server.read_exact(Vec::with_capacity(32 << 10)).await);
    /// # read?;
    /// # assert!(page == received);
    /// if copied? {
    ///     // As on this machine: `write_all` from here on.
    ///     client.write_all(page).await.0?;
    /// }
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn send_zc_all<B: IoBuf>(&mut self, buf: B) -> BufResult<bool, B> {
        send_zc_all(self.shared_fd(), buf).await
    }
}

impl OwnedWriteHalf<Tcp> {
    /// As [`Stream::send_zc`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn send_zc<B: IoBuf>(&mut self, buf: B) -> BufResult<usize, B> {
        send_zc(self.shared_fd(), buf).await
    }

    /// As [`Stream::send_zc_all`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn send_zc_all<B: IoBuf>(&mut self, buf: B) -> BufResult<bool, B> {
        send_zc_all(self.shared_fd(), buf).await
    }
}

async fn send_zc<B: IoBuf>(fd: &SharedFd, buf: B) -> BufResult<usize, B> {
    if buf.bytes_init() == 0 {
        return BufResult(checkpoint().map(|()| 0), buf);
    }
    some(fd, buf, 0, SEND_FLAGS).await.map(|(n, _)| n)
}

async fn send_zc_all<B: IoBuf>(fd: &SharedFd, buf: B) -> BufResult<bool, B> {
    let (total, mut copied) = (buf.bytes_init(), false);
    let sent = drain_by(total, buf, async |done, buf| {
        let sent = some(fd, buf, done, SEND_ALL_FLAGS).await;
        sent.map(|(n, by_copy)| {
            copied |= by_copy;
            n
        })
    });
    sent.await.map(|()| copied)
}

fn some<B: IoBuf>(fd: &SharedFd, buf: B, from: usize, flags: u32) -> Op<SendZc<B>> {
    submit(SendZc {
        fd: fd.clone(),
        buf,
        from,
        flags,
    })
}
