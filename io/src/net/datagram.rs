//! What sockets of both kinds do with datagrams.

use std::io;
use std::os::fd::OwnedFd;

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use io_uring::opcode::Send;
use socket2::{Domain, SockAddr, SockRef, Type};

use super::Truncated;
use crate::bufs::IoBufs;
use crate::ops::{self, Received, RecvDatagram, RecvMsg, SendMsg, SharedFd};
use crate::transfer::drain;

/// Takes a socket over, if it is one for datagrams of one of these families: what is received by
/// the operations here is believed to be there. (TCP only counts bytes that are received with
/// MSG_TRUNC, and throws them away.)
///
/// # Errors
/// `InvalidInput` if it is something else; what getsockopt(2) gives.
pub(super) fn take_over(fd: OwnedFd, families: &[Domain]) -> io::Result<OwnedFd> {
    let socket = SockRef::from(&fd);
    if socket.r#type()? != Type::DGRAM || !families.contains(&socket.domain()?) {
        let text = "the descriptor is no socket for datagrams of this family";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // In non-blocking mode the kernel would not wait.
    socket.set_nonblocking(false)?;
    Ok(fd)
}

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
