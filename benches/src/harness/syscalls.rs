//! System calls per thread, by the kernel's own tracepoint at their entry.
//!
//! While such a counter exists, every system call of the machine takes the kernel's slow path. So
//! counters are opened for a few windows after the timed ones, never during them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{FromRawFd, RawFd};

use super::cpu::Account;

/// Open counters for every thread of an account; dropping it detaches them.
#[derive(Debug)]
pub(crate) struct Counters(Vec<File>);

impl Counters {
    pub(crate) fn attach(account: &Account) -> io::Result<Counters> {
        let event = tracepoint()?;
        let threads = account.threads()?;
        threads
            .into_iter()
            .map(|tid| open(event, tid))
            .collect::<io::Result<_>>()
            .map(Counters)
    }

    pub(crate) fn total(&mut self) -> io::Result<u64> {
        self.0.iter_mut().try_fold(0, |sum, counter| {
            let mut count = [0; 8];
            counter.read_exact(&mut count)?;
            Ok(sum + u64::from_ne_bytes(count))
        })
    }
}

fn tracepoint() -> io::Result<u64> {
    let text = fs::read_to_string("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")
        .map_err(|error| io::Error::new(error.kind(), format!("tracefs: {error}")))?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::other("tracefs: an id that is no number"))
}

/// The first published version of the kernel's perf_event_attr, all that a counter needs.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

fn open(event: u64, tid: libc::pid_t) -> io::Result<File> {
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: 64,
        config: event,
        ..Attributes::default()
    };
    const { assert!(size_of::<Attributes>() == 64) };
    // SAFETY: the attributes are initialised, as long as their size field says, and only read.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            tid,
            -1 as libc::c_int,
            -1 as libc::c_int,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(
            error.kind(),
            format!("perf_event_open: {error}"),
        ));
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just handed out this descriptor, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}
