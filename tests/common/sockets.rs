//! Connections for tests, what goes over them, and what becomes of them.

use std::net::{TcpListener, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::time::Duration;

use coring::net::TcpStream;
use coring::sleep;
use socket2::SockRef;

use super::{MS, PATIENCE};

/// A connection: our end, and the peer's, which blocks.
pub fn tcp_pair() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let theirs = StdStream::connect(addr).expect("it listens");
    let (ours, _) = listener.accept().expect("it has come");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
    (ours.into(), theirs)
}

/// The bytes of a stream from one place on: no two pieces of it are alike.
pub fn pattern(from: usize, len: usize) -> Vec<u8> {
    let byte = |i: usize| (i * 7 + i / 251) as u8;
    (from..from + len).map(byte).collect()
}

/// Closes a connection with a reset.
pub fn reset(socket: impl AsFd) {
    let linger = Some(Duration::ZERO);
    SockRef::from(&socket).set_linger(linger).expect("a socket");
}

/// Until the loop has turned and taken what has come.
pub async fn turn() {
    sleep(MS).await.expect("nobody cancels");
}

/// Keeps the process from having descriptors of a number and above.
pub struct DescriptorLimit(libc::rlimit);

impl DescriptorLimit {
    pub fn of(fds: u64) -> Self {
        let mut old = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: room for one limit.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut old) };
        assert_eq!(got, 0);
        let low = libc::rlimit {
            rlim_cur: fds,
            ..old
        };
        // SAFETY: a limit that is lower than the old one.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const low) };
        assert_eq!(set, 0);
        Self(old)
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        // SAFETY: the limit that was there before.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
        assert_eq!(set, 0);
    }
}
