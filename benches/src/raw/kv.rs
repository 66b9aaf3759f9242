//! Canned answers to redis-benchmark: what io_uring and the kernel's TCP cost for a request, and
//! nothing else.
//!
//! As `echo_multishot`, but simpler: a client that waits for its answers always has room for them. So
//! a send ends within the enter that submits it, and one that is heard of has failed.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::{cqueue, opcode, types};

use super::buffers::Buffers;
use super::echo::{ACCEPT, accept, accepted};
use super::{Turns, ring};
use crate::servers::canned::Asks;

const SEND: u64 = 1 << 32;

/// Completions that a patient server would have at once, and how long it waits for them.
const PATIENT_WANTS: u32 = 32;
const PATIENT_FOR: Duration = Duration::from_micros(200);

/// Serves for ever. One that is `patient` sleeps until there is much to do, or a while has passed:
/// fewer sleeps, for longer latencies.
///
/// # Errors
///
/// What the ring or the listener answers.
pub fn serve(listener: &TcpListener, patient: bool) -> io::Result<()> {
    let mut ring = ring()?;
    let mut turns = Turns::new(&mut ring)?;
    // Never dropped: receives into them are armed for as long as the process lives.
    let mut buffers = ManuallyDrop::new(Buffers::register(&turns)?);
    turns.table_files()?;
    accept(&mut turns, listener)?;
    let mut connections: Vec<Option<(TcpStream, Asks)>> = Vec::new();
    loop {
        if patient {
            turns.turn_patiently(PATIENT_WANTS, PATIENT_FOR)?;
        } else {
            turns.turn(1)?;
        }
        while let Some(completion) = turns.reap() {
            if completion.user_data() == ACCEPT {
                let stream = accepted(&completion)?;
                stream.set_nodelay(true)?;
                let fd = stream.as_raw_fd();
                turns.fix(fd)?;
                receive(&mut turns, fd)?;
                if connections.len() <= fd as usize {
                    connections.resize_with(fd as usize + 1, || None);
                }
                connections[fd as usize] = Some((stream, Asks::default()));
                continue;
            }
            let (fd, result) = (completion.user_data() as u32 as RawFd, completion.result());
            let Some((stream, asks)) = &mut connections[fd as usize] else {
                continue;
            };
            if completion.user_data() & SEND != 0 {
                stream.shutdown(std::net::Shutdown::Both).ok();
                continue;
            }
            if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                if result > 0 {
                    // SAFETY: the kernel has filled so many bytes of this buffer and gets it back
                    // below.
                    let received = unsafe {
                        std::slice::from_raw_parts(buffers.start(buffer), result as usize)
                    };
                    send(&mut turns, fd, asks.answers(received))?;
                }
                buffers.give_back(buffer);
            }
            if cqueue::more(completion.flags()) {
                continue;
            }
            if result == -libc::ENOBUFS {
                buffers.publish_more();
            }
            if result > 0 || result == -libc::ENOBUFS {
                receive(&mut turns, fd)?;
            } else {
                turns.unfix(fd)?;
                connections[fd as usize] = None;
            }
        }
    }
}

fn receive(turns: &mut Turns<'_>, fd: RawFd) -> io::Result<()> {
    let receive = opcode::RecvMulti::new(types::Fixed(fd as u32), Buffers::GROUP).build();
    // SAFETY: the request names a group of buffers, which are never dropped.
    unsafe { turns.push(&receive.user_data(fd as u64)) }
}

#[inline]
fn send(turns: &mut Turns<'_>, fd: RawFd, answers: &'static [u8]) -> io::Result<()> {
    let send = opcode::Send::new(
        types::Fixed(fd as u32),
        answers.as_ptr(),
        answers.len() as u32,
    );
    let send = send.flags(libc::MSG_WAITALL | libc::MSG_DONTWAIT).build();
    // SAFETY: the answers are static.
    unsafe { turns.push(&send.flags(Flags::SKIP_SUCCESS).user_data(fd as u64 | SEND)) }
}
