//! What the `io-uring` crate lacks: the two system calls with every flag, and a few registrations.
//!
//! The crate's `Submitter::enter` forgets the registered ring descriptor between calls and never
//! passes ABS_TIMER or NO_IOWAIT.

use std::os::fd::RawFd;
use std::{io, ptr};

use crate::pool::Entry;

pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;
pub(super) const ENTER_EXT_ARG: u32 = 1 << 3;
pub(super) const ENTER_REGISTERED_RING: u32 = 1 << 4;
pub(super) const ENTER_ABS_TIMER: u32 = 1 << 5;
pub(super) const ENTER_NO_IOWAIT: u32 = 1 << 7;

const REGISTER_EVENTFD: u32 = 4;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_PBUF_RING: u32 = 22;
const REGISTER_CLOCK: u32 = 29;

/// `struct io_uring_getevents_arg`.
#[repr(C)]
#[derive(Default)]
pub(super) struct GetEventsArg {
    sigmask: u64,
    sigmask_sz: u32,
    min_wait_usec: u32,
    ts: u64,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RsrcUpdate {
    offset: u32,
    resv: u32,
    data: u64,
}

/// io_uring_enter(2), with a time to wait until if there is one; behind `min_wait_usec` it is content
/// with one completion.
pub(super) fn enter(
    fd: RawFd,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    until: Option<&libc::timespec>,
    min_wait_usec: u32,
) -> io::Result<u32> {
    let arg = until.map(|ts| GetEventsArg {
        ts: ptr::from_ref(ts).expose_provenance() as u64,
        min_wait_usec,
        ..GetEventsArg::default()
    });
    let (flags, arg, size) = match &arg {
        Some(arg) => (flags | ENTER_EXT_ARG, ptr::from_ref(arg), size_of_val(arg)),
        None => (flags, ptr::null(), 0),
    };
    // SAFETY: `arg` and the timespec in it outlive the call. What the queued SQEs point at is
    // held by the operations' payloads (R1) and the driver's scratch.
    let n = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            fd,
            to_submit,
            min_complete,
            flags,
            arg,
            size,
        )
    };
    if n < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(n as u32)
    }
}

fn register<T>(fd: RawFd, opcode: u32, arg: &mut T, n: u32) -> io::Result<i32> {
    // SAFETY: each caller passes the structure that the opcode takes, alone, for the call's time.
    let res = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            opcode,
            ptr::from_mut(arg),
            n,
        )
    };
    if res < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(res as i32)
    }
}

/// Registers the ring's own descriptor with this thread: saves the lookup in each enter. Since
/// Linux 5.18. Gives the index to use in its place.
pub(super) fn register_ring_fd(fd: RawFd) -> io::Result<u32> {
    let mut update = RsrcUpdate {
        offset: u32::MAX,
        resv: 0,
        data: fd as u64,
    };
    register(fd, REGISTER_RING_FDS, &mut update, 1)?;
    Ok(update.offset)
}

pub(super) fn unregister_ring_fd(fd: RawFd, index: u32) -> io::Result<i32> {
    let mut update = RsrcUpdate {
        offset: index,
        resv: 0,
        data: 0,
    };
    register(fd, UNREGISTER_RING_FDS, &mut update, 1)
}

/// Says which clock the times of waits are on. Since Linux 6.12, which also has ABS_TIMER: so
/// this registration is its probe.
pub(super) fn register_clock_monotonic(fd: RawFd) -> io::Result<i32> {
    let mut clock = [libc::CLOCK_MONOTONIC as u32, 0, 0, 0];
    register(fd, REGISTER_CLOCK, &mut clock, 0)
}

/// `struct io_uring_buf_reg`.
#[repr(C)]
struct BufReg {
    ring_addr: u64,
    ring_entries: u32,
    bgid: u16,
    flags: u16,
    resv: [u64; 3],
}

/// `IOU_PBUF_RING_INC`.
const PBUF_RING_INC: u16 = 1 << 1;

/// Has the kernel choose buffers from the ring at `entries`, as group `bgid`. Since Linux 5.19;
/// `incremental`, so that it uses them up piece by piece, since 6.12.
pub(super) fn register_buf_ring(
    fd: RawFd,
    entries: *mut Entry,
    places: u16,
    bgid: u16,
    incremental: bool,
) -> io::Result<i32> {
    let mut reg = BufReg {
        ring_addr: entries.expose_provenance() as u64,
        ring_entries: places.into(),
        bgid,
        flags: if incremental { PBUF_RING_INC } else { 0 },
        resv: [0; 3],
    };
    register(fd, REGISTER_PBUF_RING, &mut reg, 1)
}

/// Has `event_fd` signalled on each completion, deferred ones included.
pub(super) fn register_eventfd(fd: RawFd, event_fd: RawFd) -> io::Result<i32> {
    let mut event_fd = event_fd;
    register(fd, REGISTER_EVENTFD, &mut event_fd, 1)
}
