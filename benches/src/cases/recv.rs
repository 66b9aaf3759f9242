//! A read from a socket, with and without a limit that does not pass.
//!
//! The work of [`raw::recv_timeout`](crate::raw::recv_timeout) on the same kind of socket.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use coring::net::TcpStream;
use coring::{BufResult, Runner, timeout, wait_for};
use futures_util::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(1);
const BYTE: &[u8] = &[7];
const BUFFER_BYTES: usize = 64;

/// What is around the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing.
    None,
    /// coring's `wait_for`.
    WaitFor,
    /// The runtime's `timeout`.
    Timeout,
}

/// Two ends of a socket on coring.
#[derive(Debug)]
pub struct Coring {
    receiver: TcpStream,
    sender: TcpStream,
    /// The sender's socket, for bytes that are there before the read begins.
    before: UnixStream,
    buffer: Vec<u8>,
}

impl Coring {
    /// A new pair.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<Coring> {
        let (receiver, before) = UnixStream::pair()?;
        let sender = before.try_clone()?;
        // Of a stream, coring wants to know only that recv and send work on it.
        let stream = |socket| TcpStream::from(std::net::TcpStream::from(OwnedFd::from(socket)));
        Ok(Coring {
            receiver: stream(receiver),
            sender: stream(sender),
            before,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    /// Reads `n` times: bytes that are there already, or that are sent once the read waits.
    ///
    /// # Errors
    ///
    /// What the socket answers.
    pub fn read(
        &mut self,
        runner: &mut Runner,
        ready: bool,
        limit: Limit,
        n: u64,
    ) -> io::Result<()> {
        runner.run(async {
            for _ in 0..n {
                let buffer = std::mem::take(&mut self.buffer);
                let read = bounded(&mut self.receiver, limit, buffer);
                let BufResult(count, buffer) = if ready {
                    self.before.write_all(BYTE)?;
                    read.await?
                } else {
                    let (read, BufResult(sent, _)) = join!(read, self.sender.write(BYTE));
                    sent?;
                    read?
                };
                self.buffer = buffer;
                expect_one(count?)?;
            }
            Ok(())
        })
    }
}

async fn bounded(
    receiver: &mut TcpStream,
    limit: Limit,
    buffer: Vec<u8>,
) -> io::Result<BufResult<usize, Vec<u8>>> {
    let read = receiver.read(buffer);
    Ok(match limit {
        Limit::None => read.await,
        Limit::WaitFor => wait_for(read, LIMIT).await,
        Limit::Timeout => timeout(LIMIT, read).await?,
    })
}

/// Two ends of a socket on tokio.
#[derive(Debug)]
pub struct Tokio {
    receiver: tokio::net::UnixStream,
    sender: tokio::net::UnixStream,
    /// The sender's socket, for bytes that are there before the read begins.
    before: UnixStream,
}

impl Tokio {
    /// A new pair.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    pub fn new(runtime: &Runtime) -> io::Result<Tokio> {
        let (receiver, before) = UnixStream::pair()?;
        let sender = before.try_clone()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let _entered = runtime.enter();
        Ok(Tokio {
            receiver: tokio::net::UnixStream::from_std(receiver)?,
            sender: tokio::net::UnixStream::from_std(sender)?,
            before,
        })
    }

    /// Reads `n` times: bytes that are there already, or that are sent once the read waits.
    ///
    /// # Errors
    ///
    /// What the socket answers.
    pub fn read(&mut self, runtime: &Runtime, ready: bool, limit: Limit, n: u64) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        runtime.block_on(async {
            for _ in 0..n {
                let receiver = &mut self.receiver;
                let read = async {
                    let read = receiver.read(&mut buffer);
                    if limit == Limit::None {
                        read.await
                    } else {
                        tokio::time::timeout(LIMIT, read).await?
                    }
                };
                let count = if ready {
                    self.before.write_all(BYTE)?;
                    read.await?
                } else {
                    let (read, sent) = join!(read, self.sender.write_all(BYTE));
                    sent?;
                    read?
                };
                expect_one(count)?;
            }
            Ok(())
        })
    }
}

fn expect_one(count: usize) -> io::Result<()> {
    if count == BYTE.len() {
        Ok(())
    } else {
        Err(io::Error::other("another number of bytes arrived"))
    }
}
