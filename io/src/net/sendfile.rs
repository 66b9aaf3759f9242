//! Sending files: one piece is read while the one before it is sent.

use std::cell::Cell;
use std::io;
use std::mem::take;

use coring_runtime::{BufResult, IoBufMut as _, Partial, checkpoint, gather, submit};
use io_uring::opcode::Send;

use super::stream::SEND_ALL_FLAGS;
use super::{Kind, OwnedWriteHalf, Stream};
use crate::fs::File;
use crate::ops::{Drain, SharedFd};

/// What is read and sent at a time: past this larger pieces gain nothing (M).
const PIECE_BYTES: usize = 256 * 1024;

impl<K: Kind> Stream<K> {
    /// Sends `count` bytes of `file` from `offset` on, or all to its end (asyncio's `sendfile`). Gives
    /// how many were sent: fewer than `count` if the file ends first. The file's own position stays
    /// as it is.
    ///
    /// The file is read into buffers, two of 256 KiB, from which the stream is written. There are ways
    /// without them, whose CPU time is, in relation to this one, for 4 KiB, 64 KiB, 1 MiB and 64 MiB
    /// from the page cache to loopback (M, Linux 6.18): splice(2) on the ring 5.2, 1.13, 0.60, 0.58;
    /// sendfile(2) 0.80, 0.62, 0.66, 0.76. The first one has a thread of the kernel's wait for each
    /// peer that is slow. The second one stops the whole loop for what is not in the cache, 1.5 ms
    /// for 1 MiB.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, times out or
    /// fails, [`Partial`] says how much was sent.
    ///
    /// # Errors
    /// `InvalidInput` for a `count` of 0, and for an offset past `i64::MAX`; what pread(2) and
    /// send(2) give, without a SIGPIPE; [`Cancelled`](coring_runtime::Cancelled) if it is asked to
    /// stop, by a limit too.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::fs::File;
    /// use coring::net::UnixStream;
    ///
    /// # let path = std::env::temp_dir().join(format!("coring-doc-sendfile-{}", std::process::id()));
    /// # std::fs::write(&path, "hello world").unwrap();
    /// # coring::run(async {
    /// let (mut one, mut other) = UnixStream::pair()?;
    /// let file = File::open(&path).await?;
    /// assert_eq!(one.sendfile(&file, 6, None).await?, 5);
    /// assert_eq!(&other.receive().await?[..], b"world");
    /// # coring::ok(()) }).unwrap();
    /// # std::fs::remove_file(&path).unwrap();
    /// ```
    pub async fn sendfile(
        &mut self,
        file: &File,
        offset: u64,
        count: Option<u64>,
    ) -> io::Result<u64> {
        send_file(self.shared_fd(), file, offset, count).await
    }
}

impl<K: Kind> OwnedWriteHalf<K> {
    /// As [`Stream::sendfile`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// As there.
    pub async fn sendfile(
        &mut self,
        file: &File,
        offset: u64,
        count: Option<u64>,
    ) -> io::Result<u64> {
        send_file(self.shared_fd(), file, offset, count).await
    }
}

pub(crate) async fn send_file(
    to: &SharedFd,
    file: &File,
    offset: u64,
    count: Option<u64>,
) -> io::Result<u64> {
    checkpoint()?;
    if count == Some(0) {
        let text = "a count of 0 bytes: `None` is all to the end of the file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let sent = Cell::new(0);
    match pieces(to, file, offset, count, &sent).await {
        Ok(()) => Ok(sent.get() as u64),
        Err(error) => Err(Partial::error(sent.get(), error)),
    }
}

async fn pieces(
    to: &SharedFd,
    file: &File,
    mut at: u64,
    count: Option<u64>,
    sent: &Cell<usize>,
) -> io::Result<()> {
    let mut left = count.unwrap_or(u64::MAX);
    let mut piece = read(file, Vec::new(), at, left).await?;
    let mut spare = Vec::new();
    while !piece.is_empty() {
        at += piece.len() as u64;
        left -= piece.len() as u64;
        if left == 0 {
            return send_all(to, piece, sent).await.0;
        }
        // One that cannot be read does not stop what comes before it.
        let both = gather!(
            send_all(to, piece, sent),
            read(file, take(&mut spare), at, left)
        );
        let (BufResult(sending, back), reading) = both.return_exceptions().await;
        sending?;
        spare = back;
        piece = reading?;
    }
    Ok(())
}

async fn read(file: &File, mut buf: Vec<u8>, at: u64, left: u64) -> io::Result<Vec<u8>> {
    let room = left.min(PIECE_BYTES as u64) as usize;
    buf.clear();
    buf.reserve_exact(room);
    let room = room.min(buf.bytes_total());
    let slice = coring_runtime::IoBuf::slice(buf, ..room);
    let BufResult(read, slice) = file.read_at(slice, at).await;
    read?;
    Ok(slice.into_inner())
}

async fn send_all(to: &SharedFd, mut buf: Vec<u8>, sent: &Cell<usize>) -> BufResult<(), Vec<u8>> {
    let mut from = 0;
    while from < buf.len() {
        let BufResult(result, back) = submit(Drain {
            opcode: Send::CODE,
            fd: to.clone(),
            buf,
            from,
            off: 0,
            flags: SEND_ALL_FLAGS,
        })
        .await;
        buf = back;
        match result {
            Ok(0) => return BufResult(Err(io::ErrorKind::WriteZero.into()), buf),
            Ok(n) => {
                from += n;
                sent.set(sent.get() + n);
            }
            Err(error) => return BufResult(Err(error), buf),
        }
    }
    BufResult(Ok(()), buf)
}
