//! Whole transfers: the loops around operations that may do a part.

use std::io;

use coring_runtime::{BufResult, IoBuf, IoBufMut, Op, Partial, Slice, checkpoint, submit};

use crate::ops::{Drain, SharedFd};

/// Where a transfer goes on: sockets have no positions.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Stream,
    At(u64),
}

impl Place {
    fn after(self, bytes: usize) -> u64 {
        match self {
            Self::Stream => 0,
            Self::At(offset) => offset.saturating_add(bytes as u64),
        }
    }
}

/// Writes all of `buf`. On an error, [`Partial`] says how much was written.
pub(crate) async fn drain_all<B: IoBuf>(
    fd: &SharedFd,
    opcode: u8,
    flags: u32,
    place: Place,
    buf: B,
) -> BufResult<(), B> {
    let total = buf.bytes_init();
    drain_by(total, buf, async |done, buf| {
        let drain = Drain {
            opcode,
            fd: fd.clone(),
            buf,
            from: done,
            off: place.after(done),
            flags,
        };
        submit(drain).await
    })
    .await
}

/// Writes the `total` bytes of `buf` by calls of `drain_some`, which is told where to go on. On an
/// error, [`Partial`] says how much was written.
pub(crate) async fn drain_by<B>(
    total: usize,
    mut buf: B,
    mut drain_some: impl AsyncFnMut(usize, B) -> BufResult<usize, B>,
) -> BufResult<(), B> {
    if total == 0 {
        return BufResult(checkpoint(), buf);
    }
    let mut done = 0;
    while done < total {
        let BufResult(result, back) = drain_some(done, buf).await;
        buf = back;
        let error = match result {
            Ok(0) => io::Error::new(io::ErrorKind::WriteZero, "nothing could be written"),
            Ok(n) => {
                done += n;
                continue;
            }
            Err(error) => error,
        };
        return BufResult(Err(Partial::error(done, error)), buf);
    }
    BufResult(Ok(()), buf)
}

/// Fills all of `buf` by calls of `fill_some`, which is told where to go on. On an error,
/// [`Partial`] says how much was read; the buffer has it.
pub(crate) async fn fill_all<B: IoBufMut>(
    buf: B,
    mut fill_some: impl AsyncFnMut(usize, Slice<B>) -> BufResult<usize, Slice<B>>,
) -> BufResult<(), B> {
    let total = buf.bytes_total();
    if total == 0 {
        return BufResult(checkpoint(), buf);
    }
    let (mut buf, mut done) = (buf, 0);
    while done < total {
        let BufResult(result, back) = fill_some(done, buf.slice(done..total)).await;
        buf = back.into_inner();
        let error = match result {
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended early"),
            Ok(n) => {
                done += n;
                continue;
            }
            Err(error) => error,
        };
        return BufResult(Err(Partial::error(done, error)), buf);
    }
    BufResult(Ok(()), buf)
}

/// One operation that writes what it can.
pub(crate) fn drain<B: IoBuf>(
    fd: &SharedFd,
    opcode: u8,
    off: u64,
    flags: u32,
    buf: B,
) -> Op<Drain<B>> {
    submit(Drain {
        opcode,
        fd: fd.clone(),
        buf,
        from: 0,
        off,
        flags,
    })
}
