//! Writing several buffers as one.

use coring_runtime::{BufResult, checkpoint, submit};

use super::stream::{SEND_ALL_FLAGS, SEND_FLAGS};
use super::{Kind, OwnedWriteHalf, Stream};
use crate::bufs::IoBufs;
use crate::ops::{DrainMany, SharedFd};
use crate::transfer::drain_by;

impl<K: Kind> Stream<K> {
    /// Writes what the kernel has room for of several buffers, one behind the other: gives how many
    /// bytes that was. Of more than 1,024 buffers it looks at the first that have any.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. A cancel or a time-out gives the
    /// count instead, if there is one.
    ///
    /// # Errors
    /// What sendmsg(2) gives, without a SIGPIPE; [`Cancelled`](coring_runtime::Cancelled), or the
    /// time-out of a scope.
    pub async fn write_vectored<V: IoBufs>(&mut self, bufs: V) -> BufResult<usize, V> {
        write_vectored(self.shared_fd(), bufs).await
    }

    /// Writes all of several buffers, one behind the other. There may be any number of them.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, or times out,
    /// [`Partial`](coring_runtime::Partial) says how much was written of all of them together.
    ///
    /// # Errors
    /// As [`write_vectored`](Self::write_vectored).
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UnixStream;
    ///
    /// # coring::run(async {
    /// let (mut one, mut other) = UnixStream::pair()?;
    /// let body = vec![b'x'; 3];
    /// one.write_all_vectored(("length 3\n", body)).await.0?;
    /// assert_eq!(&other.receive().await?[..], b"length 3\nxxx");
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn write_all_vectored<V: IoBufs>(&mut self, bufs: V) -> BufResult<(), V> {
        write_all_vectored(self.shared_fd(), bufs).await
    }
}

impl<K: Kind> OwnedWriteHalf<K> {
    /// As [`Stream::write_vectored`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write_vectored<V: IoBufs>(&mut self, bufs: V) -> BufResult<usize, V> {
        write_vectored(self.shared_fd(), bufs).await
    }

    /// As [`Stream::write_all_vectored`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn write_all_vectored<V: IoBufs>(&mut self, bufs: V) -> BufResult<(), V> {
        write_all_vectored(self.shared_fd(), bufs).await
    }
}

async fn write_vectored<V: IoBufs>(fd: &SharedFd, bufs: V) -> BufResult<usize, V> {
    if total(&bufs) == 0 {
        return BufResult(checkpoint().map(|()| 0), bufs);
    }
    submit(DrainMany::new(fd, bufs, 0, SEND_FLAGS)).await
}

async fn write_all_vectored<V: IoBufs>(fd: &SharedFd, bufs: V) -> BufResult<(), V> {
    let total = total(&bufs);
    drain_by(total, bufs, async |done, bufs| {
        submit(DrainMany::new(fd, bufs, done, SEND_ALL_FLAGS)).await
    })
    .await
}

fn total(bufs: &impl IoBufs) -> usize {
    (0..bufs.parts()).map(|i| bufs.part(i).len()).sum()
}
