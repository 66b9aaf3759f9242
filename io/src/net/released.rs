//! How sockets leave their runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use coring_runtime::{shielded, submit};

use crate::ops::{SharedFd, Turn};

/// What is left of a stream that has left its runtime.
#[derive(Debug)]
#[non_exhaustive]
pub struct Released<S> {
    /// The socket. It is blocking, if nobody has made it something else.
    pub socket: S,
    /// What had arrived and nobody had read: it comes before what the socket gives.
    pub received: Vec<u8>,
    /// Why the stream had ended after that, if it had: the socket does not say it again.
    pub error: Option<io::Error>,
}

impl<S> Released<S> {
    pub(super) fn map<T>(self, f: impl FnOnce(S) -> T) -> Released<T> {
        Released {
            socket: f(self.socket),
            received: self.received,
            error: self.error,
        }
    }
}

/// The descriptor alone, once the kernel is done with all operations on it.
pub(super) async fn unshared(mut fd: SharedFd) -> io::Result<OwnedFd> {
    loop {
        match Rc::try_unwrap(fd) {
            Ok(fd) => return Ok(fd),
            // Operations whose future was dropped: they have been cancelled.
            Err(shared) => fd = shared,
        }
        shielded(submit(Turn)).await?;
    }
}
