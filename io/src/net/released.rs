//! How sockets leave their runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use coring_runtime::{pump_others, shielded, submit};

use crate::ops::{SharedFd, Turn};

/// What is left of a stream, or of a listener, that has left its runtime.
#[derive(Debug)]
#[non_exhaustive]
pub struct Released<S, R = Vec<u8>> {
    /// The socket. It is blocking, if nobody has made it something else.
    pub socket: S,
    /// What had arrived and nobody had taken: bytes of a stream, connections of a listener. It comes
    /// before what the socket gives.
    pub received: R,
    /// Why a stream had ended after that, if it had, or why a listener had no more connections: the
    /// socket does not say it again.
    pub error: Option<io::Error>,
}

impl<S, R> Released<S, R> {
    pub(super) fn map<T>(self, f: impl FnOnce(S) -> T) -> Released<T, R> {
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
        pump_others()?; // They may be of a runtime that does not turn meanwhile.
        if Rc::strong_count(&fd) > 1 {
            shielded(submit(Turn)).await?;
        }
    }
}
