//! What goes along with the bytes of a connection within the machine.

use std::io;

use coring_runtime::{BufResult, IoBuf, IoBufMut, checkpoint, submit};
use socket2::SockRef;

use super::{Ancillary, Stream, Unix};
use crate::ops::{RecvMsg, SendMsg};

/// What [`UnixStream::recv_msg`](Stream::recv_msg) received.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnixStreamReceived {
    /// Bytes in the buffer. 0 is the end of the stream (or a buffer without room).
    pub len: usize,
    /// Descriptors and credentials that came with the first of these bytes.
    pub ancillary: Ancillary,
    /// Something of that is missing: more descriptors came than were asked for, or than this
    /// process may open. Those that are not in `ancillary` are closed.
    pub ancillary_truncated: bool,
}

impl Stream<Unix> {
    /// Sends `buf` with descriptors, or credentials, which go with its first byte. Gives how many
    /// bytes were sent: where that is not all, the rest goes without them
    /// ([`write_all`](Self::write_all)). What was lent comes back. See [`Ancillary`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. A cancel or a time-out gives the
    /// count instead, if there is one; where there is none, nothing was sent.
    ///
    /// # Errors
    /// What sendmsg(2) gives, without a SIGPIPE; `InvalidInput` for more than 253 descriptors, and
    /// for an empty buffer, with which nothing would go; EPERM for credentials of somebody else's,
    /// and ETOOMANYREFS if too many descriptors are on their way (unix(7));
    /// [`Cancelled`](coring_runtime::Cancelled), or the time-out of a scope.
    pub async fn send_msg<B: IoBuf>(
        &mut self,
        buf: B,
        ancillary: Ancillary,
    ) -> BufResult<usize, (B, Ancillary)> {
        let described = if buf.bytes_init() == 0 {
            let text = "descriptors go with a byte: the buffer has none";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        } else {
            ancillary.encode()
        };
        let control = match described {
            Ok(control) => control,
            Err(error) => return BufResult(Err(error), (buf, ancillary)),
        };
        let fd = self.shared_fd().clone();
        let send = SendMsg::new(fd, [buf], None, control, ancillary);
        submit(send)
            .await
            .map_buf(|([buf], ancillary)| (buf, ancillary))
    }

    /// Reads what has arrived, up to what `buf` has room for, into the start of `buf`, and takes up
    /// to `fds_max` descriptors that come with it; the others are closed. 253 is the most that may
    /// come. It reads no further than to the next descriptors.
    ///
    /// Descriptors that come while anything else reads are closed by the kernel: other reads have
    /// no room for them, and the receive that they arm reads ahead. This one ends it, and first gives
    /// what had arrived, without descriptors. So where a peer may send some, read by this alone.
    ///
    /// Credentials come if [`set_passcred`](Self::set_passcred) was called.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it. Bytes that the kernel had taken for it by then are lost, and their
    /// descriptors are closed; a cancel or a time-out loses none.
    ///
    /// # Errors
    /// What recvmsg(2) gives. A descriptor too many is no error: see [`UnixStreamReceived`].
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{Ancillary, UnixStream};
    /// use coring::BufResult;
    ///
    /// # coring::run(async {
    /// let (mut ours, mut theirs) = UnixStream::pair()?;
    /// let file = std::fs::File::open("/dev/null")?;
    /// ours.send_msg("a file", Ancillary::new().fd(file)).await.0?;
    /// let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(16), 1).await;
    /// let received = received?;
    /// assert_eq!((&buf[..], received.ancillary.fds.len()), (&b"a file"[..], 1));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn recv_msg<B: IoBufMut>(
        &mut self,
        mut buf: B,
        fds_max: usize,
    ) -> BufResult<UnixStreamReceived, B> {
        let bytes_alone = |len| UnixStreamReceived {
            len,
            ancillary: Ancillary::new(),
            ancillary_truncated: false,
        };
        if let Err(error) = checkpoint() {
            return BufResult(Err(error), buf);
        }
        if buf.bytes_total() == 0 {
            return BufResult(Ok(bytes_alone(0)), buf);
        }
        let (fd, receiver) = self.parts_mut();
        if receiver.disarm().await {
            let taken = receiver.take_front(&mut buf).map(bytes_alone);
            return BufResult(taken, buf);
        }
        let receive = RecvMsg::new(fd.clone(), buf, 0, Ancillary::room(fds_max));
        submit(receive).await.map(|received| {
            let (ancillary, ancillary_truncated) = received.control.into_ancillary(fds_max);
            UnixStreamReceived {
                len: received.len,
                ancillary,
                ancillary_truncated,
            }
        })
    }

    /// Whether what [`recv_msg`](Self::recv_msg) receives says who sent it (SO_PASSCRED).
    ///
    /// # Errors
    /// What setsockopt(2) gives.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::{Credentials, UnixStream};
    ///
    /// # coring::run(async {
    /// let (mut ours, mut theirs) = UnixStream::pair()?;
    /// theirs.set_passcred(true)?;
    /// ours.write_all("hello").await.0?;
    /// let received = theirs.recv_msg(Vec::with_capacity(16), 0).await.0?;
    /// assert_eq!(received.ancillary.credentials, Some(Credentials::own()));
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn set_passcred(&self, passcred: bool) -> io::Result<()> {
        SockRef::from(&**self.shared_fd()).set_passcred(passcred)
    }
}
