//! Which core a thread runs on: servers on one, the client on the other.

use std::io;

/// The core that every server under test is pinned to.
pub const SERVER_CORE: usize = 0;

/// The core that the client is pinned to.
pub const CLIENT_CORE: usize = 1;

/// Pins the calling thread, and threads it starts later, to `core`.
///
/// # Errors
///
/// What `sched_setaffinity` answers: `EINVAL` if the machine has no such core.
pub fn pin_to(core: usize) -> io::Result<()> {
    let set = cpu_set(core);
    // SAFETY: `set` is a valid cpu_set_t of the size that is passed, and 0 names this thread.
    let answer = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The calling thread's kernel id, as [`Account::Threads`](crate::Account::Threads) wants it.
pub fn thread_id() -> libc::pid_t {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

fn cpu_set(core: usize) -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is an array of integers, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET checks `core` against the bounds of the array it indexes.
    unsafe { libc::CPU_SET(core, &mut set) };
    set
}
