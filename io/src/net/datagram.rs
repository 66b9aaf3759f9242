//! What sockets of both kinds do with datagrams.

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use io_uring::opcode::Send;
use socket2::SockAddr;

use super::Truncated;
use crate::bufs::IoBufs;
use crate::ops::{self, Received, RecvDatagram, RecvMsg, SendMsg, SharedFd};
use crate::transfer::drain;

/// Sends to the socket's peer, or to an address.
pub(super) async fn send<B: IoBuf>(
    fd: &SharedFd,
    buf: B,
    to: Option<SockAddr>,
) -> BufResult<usize, B> {
    let fd = fd.clone();
    match to {
        None => drain(&fd, Send::CODE, 0, libc::MSG_NOSIGNAL as u32, buf).await,
        Some(to) => submit(ops::SendTo { fd, buf, to }).await,
    }
}

/// Sends several buffers as one datagram.
pub(super) async fn send_vectored<V: IoBufs>(
    fd: &SharedFd,
    bufs: V,
    to: Option<SockAddr>,
) -> BufResult<usize, V> {
    let send = SendMsg::new(fd.clone(), bufs, to, Vec::new(), ());
    submit(send).await.map_buf(|(bufs, ())| bufs)
}

/// Receives one datagram: one that does not fit is an error.
pub(super) async fn recv<B: IoBufMut>(fd: &SharedFd, buf: B) -> BufResult<usize, B> {
    let room = buf.bytes_total();
    let fd = fd.clone();
    let BufResult(received, buf) = submit(RecvDatagram { fd, buf }).await;
    let whole = received.and_then(|n| match n.checked_sub(room) {
        None | Some(0) => Ok(n),
        Some(truncated) => Err(Truncated {
            len: room,
            truncated,
        }
        .into()),
    });
    BufResult(whole, buf)
}

/// Receives one datagram, and where it came from: one that does not fit is an error.
pub(super) async fn recv_from<B: IoBufMut>(
    fd: &SharedFd,
    buf: B,
    flags: libc::c_int,
) -> BufResult<(usize, SockAddr), B> {
    let BufResult(received, buf) = recv_msg(fd, buf, flags, 0).await;
    let whole = received.and_then(|received| match received {
        Received {
            len,
            truncated: 0,
            from,
            ..
        } => Ok((len, from)),
        Received { len, truncated, .. } => Err(Truncated { len, truncated }.into()),
    });
    BufResult(whole, buf)
}

/// Receives one datagram with what goes along with it, and says how much did not fit.
pub(super) async fn recv_msg<B: IoBufMut>(
    fd: &SharedFd,
    buf: B,
    flags: libc::c_int,
    control_max: usize,
) -> BufResult<Received, B> {
    let flags = flags | libc::MSG_TRUNC;
    submit(RecvMsg::new(fd.clone(), buf, flags, control_max)).await
}
