//! Two rings on two cores that post into each other's completion queue.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;

use super::{Turns, ring};
use crate::{CLIENT_CORE, pin_to};

const STOP: u64 = 1;
const NUMBER: u64 = 2;

/// A ring on the other core, which answers each message with one.
#[derive(Debug)]
pub struct Peer {
    fd: RawFd,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Peer {
    /// One that answers into the ring of the descriptor `asker`, which outlives it.
    ///
    /// # Errors
    ///
    /// What `io_uring_setup` answers.
    pub fn start(asker: RawFd) -> io::Result<Peer> {
        let (made, waiting) = mpsc::channel();
        let thread = thread::spawn(move || {
            pin_to(CLIENT_CORE)?;
            let mut ring = ring()?;
            let fd = ring.as_raw_fd();
            let mut turns = Turns::new(&mut ring)?;
            made.send(fd).map_err(io::Error::other)?;
            loop {
                turns.turn(1)?;
                match turns.reap().map(|done| (done.user_data(), done.result())) {
                    Some((STOP, _)) => return Ok(()),
                    // SAFETY: the message points to nothing.
                    Some((_, 0..)) => unsafe { turns.push(&message(asker, NUMBER)) }?,
                    Some((_, error)) => return Err(io::Error::from_raw_os_error(-error)),
                    // Interrupted: the next turn waits again.
                    None => {}
                }
            }
        });
        let Ok(fd) = waiting.recv() else {
            return Err(match thread.join() {
                Ok(Err(error)) => error,
                _ => io::Error::other("the other ring's thread has ended"),
            });
        };
        Ok(Peer {
            fd,
            thread: Some(thread),
        })
    }

    /// `n` round trips from the ring of `turns`, whose descriptor the peer was given.
    ///
    /// # Errors
    ///
    /// What a ring answers.
    pub fn ask(&self, turns: &mut Turns<'_>, n: u64) -> io::Result<()> {
        for _ in 0..n {
            // SAFETY: the message points to nothing.
            unsafe { turns.push(&message(self.fd, NUMBER)) }?;
            turns.turn(1)?;
            match turns.reap() {
                Some(done) if done.user_data() == NUMBER => {}
                Some(done) => return Err(io::Error::from_raw_os_error(-done.result())),
                None => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
        Ok(())
    }

    /// Ends the other thread.
    ///
    /// # Errors
    ///
    /// What the ring answers, or what the thread ended with.
    pub fn stop(mut self, turns: &mut Turns<'_>) -> io::Result<()> {
        // SAFETY: the message points to nothing.
        unsafe { turns.push(&message(self.fd, STOP)) }?;
        turns.turn(0)?;
        let thread = self.thread.take().map(JoinHandle::join);
        thread.and_then(Result::ok).unwrap_or(Ok(()))
    }
}

fn message(to: RawFd, what: u64) -> Entry {
    opcode::MsgRingData::new(Fd(to), 0, what, None)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}
