//! Bytes that go through a pipe instead of through memory: splice(2) on the ring, which the kernel
//! gives to its worker threads each time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::opcode::{PollAdd, Splice};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;

use super::Turns;

/// What a pipe is made to hold, and a splice moves at the most.
const PIPE_BYTES: i32 = 1 << 20;

/// `SPLICE_F_NONBLOCK`.
const NONBLOCK: u32 = 2;

/// The splice into the pipe, and the one out of it.
const INTO: u64 = 0;
const OUT: u64 = 1;
const POLL: u64 = 2;

/// A pipe that holds a mebibyte.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the process has no descriptors left.
    pub fn new() -> io::Result<Pipe> {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors.
        if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: new, and nobody else's.
        let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        Ok(Pipe { reader, writer })
    }
}

fn into_pipe(from: RawFd, at: i64, pipe: &Pipe, bytes: u32, flags: u32) -> Entry {
    Splice::new(Fd(from), at, Fd(pipe.writer.as_raw_fd()), -1, bytes)
        .flags(flags)
        .build()
        // Not a soft link: a splice that moves less than its length breaks that.
        .flags(Flags::IO_HARDLINK)
}

fn out_of_pipe(pipe: &Pipe, to: RawFd, bytes: u32) -> Entry {
    Splice::new(Fd(pipe.reader.as_raw_fd()), -1, Fd(to), -1, bytes)
        .flags(NONBLOCK) // Of the pipe: it waits for room in the socket all the same.
        .build()
}

/// Sends `bytes` of a file, two linked splices at a time.
///
/// # Errors
///
/// What a splice answers.
pub fn send_file(
    turns: &mut Turns<'_>,
    file: RawFd,
    socket: RawFd,
    pipe: &Pipe,
    bytes: u64,
) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        let step = (bytes - at).min(PIPE_BYTES as u64) as u32;
        let chain = [
            into_pipe(file, at as i64, pipe, step, 0).user_data(INTO),
            out_of_pipe(pipe, socket, step).user_data(OUT),
        ];
        // SAFETY: the entries point at nothing.
        unsafe { turns.push_chain(&chain) }?;
        turns.turn(2)?;
        let (mut into, mut out) = (0, 0);
        let mut seen = 0;
        while seen < 2 {
            let Some(done) = turns.reap() else {
                turns.turn(1)?;
                continue;
            };
            seen += 1;
            let n = check(done.result())?;
            *(if done.user_data() == INTO {
                &mut into
            } else {
                &mut out
            }) = n;
        }
        at += into as u64;
        while out < into {
            // SAFETY: as above.
            unsafe { turns.push(&out_of_pipe(pipe, socket, (into - out) as u32)) }?;
            turns.turn(1)?;
            if let Some(done) = turns.reap() {
                out += check(done.result())?;
            }
        }
    }
    Ok(())
}

fn check(res: i32) -> io::Result<i32> {
    if res < 0 {
        return Err(io::Error::from_raw_os_error(-res));
    }
    Ok(res)
}

/// Moves what comes from each of two sockets to the other, until both have ended. With `polls` a
/// poll waits for each message, else the worker that splices does.
///
/// # Errors
///
/// What a splice answers.
pub fn both_ways(
    turns: &mut Turns<'_>,
    pipes: &[Pipe; 2],
    sockets: [RawFd; 2],
    polls: bool,
) -> io::Result<()> {
    let submit = |turns: &mut Turns<'_>, way: usize| {
        let (from, to, pipe) = (sockets[way], sockets[1 - way], &pipes[way]);
        let tag = |kind: u64| (way as u64) << 8 | kind;
        let flags = if polls { NONBLOCK } else { 0 };
        let chain = [
            PollAdd::new(Fd(from), libc::POLLIN as u32)
                .build()
                .flags(Flags::IO_LINK)
                .user_data(tag(POLL)),
            into_pipe(from, -1, pipe, PIPE_BYTES as u32, flags).user_data(tag(INTO)),
            out_of_pipe(pipe, to, PIPE_BYTES as u32).user_data(tag(OUT)),
        ];
        // SAFETY: the entries point at nothing.
        unsafe { turns.push_chain(&chain[usize::from(!polls)..]) }
    };
    submit(turns, 0)?;
    submit(turns, 1)?;
    let (mut ended, mut open) = ([false; 2], 2);
    while open > 0 {
        turns.turn(1)?;
        while let Some(done) = turns.reap() {
            let way = (done.user_data() >> 8) as usize;
            match done.user_data() & 0xff {
                INTO => {
                    let n = done.result();
                    ended[way] = n == 0;
                    if n < 0 && n != -libc::EAGAIN {
                        return Err(io::Error::from_raw_os_error(-n));
                    }
                }
                OUT if ended[way] => {
                    // SAFETY: no memory is involved.
                    unsafe { libc::shutdown(sockets[1 - way], libc::SHUT_WR) };
                    open -= 1;
                }
                OUT => submit(turns, way)?,
                _ => {}
            }
        }
    }
    Ok(())
}
