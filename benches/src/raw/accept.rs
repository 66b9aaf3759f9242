//! Accepting and closing: one accept that stays armed for all connections.

use std::io;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::squeue::Flags;
use io_uring::{opcode, types};

use super::echo::{ACCEPT, accept, accepted};
use super::{Turns, ring};

const SEND: u64 = 1;
const CLOSE: u64 = 2;

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is closed by the ring.
    Close,
    /// It is closed by close(2), as a runtime does whose sockets are closed when they are dropped.
    CloseAtOnce,
    /// It gets a byte, and is closed behind that, in one chain.
    Answer,
}

/// Accepts and closes until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn close(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(&listener, stop, Then::Close)
}

/// As [`close`], with a system call for each close.
///
/// # Errors
///
/// As there.
pub fn close_at_once(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(&listener, stop, Then::CloseAtOnce)
}

/// As [`close`], with an answer of one byte before.
///
/// # Errors
///
/// As there.
pub fn answer(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(&listener, stop, Then::Answer)
}

fn serve(listener: &TcpListener, stop: &AtomicBool, then: Then) -> io::Result<()> {
    let mut ring = ring()?;
    let mut turns = Turns::new(&mut ring)?;
    accept(&mut turns, listener)?;
    loop {
        turns.turn(1)?;
        while let Some(completion) = turns.reap() {
            match completion.user_data() {
                ACCEPT => {}
                // The peer has gone: its chain has ended, and only the close is left.
                SEND => continue,
                fd => {
                    close_failed(fd, completion.result())?;
                    continue;
                }
            }
            let stream = accepted(&completion)?;
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            match then {
                Then::CloseAtOnce => drop(stream),
                Then::Close | Then::Answer => {
                    if then == Then::Answer {
                        stream.set_nodelay(true)?;
                    }
                    end(&mut turns, stream.into_raw_fd(), then)?;
                }
            }
        }
    }
}

fn end(turns: &mut Turns<'_>, fd: i32, then: Then) -> io::Result<()> {
    let close = opcode::Close::new(types::Fd(fd))
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(CLOSE << 32 | fd as u64);
    if then == Then::Close {
        // SAFETY: a close points to nothing.
        return unsafe { turns.push(&close) };
    }
    static BYTE: &[u8; 1] = b"x";
    // A hard link: the close comes after the send also where that has failed.
    let send = opcode::Send::new(types::Fd(fd), BYTE.as_ptr(), 1)
        .build()
        .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
        .user_data(SEND);
    // SAFETY: the byte is static.
    unsafe { turns.push_chain(&[send, close]) }
}

/// Nothing that was opened here fails to close.
#[cold]
fn close_failed(token: u64, result: i32) -> io::Result<()> {
    let error = io::Error::from_raw_os_error(-result);
    Err(io::Error::other(format!(
        "close of {}: {error}",
        token as u32
    )))
}
