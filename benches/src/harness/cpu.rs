//! CPU time of the server under test, read by the client while the server runs.

use std::io;
use std::path::PathBuf;

/// The threads whose CPU time and system calls are a server's cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// These threads of this process, by kernel id.
    ///
    /// Workers that io_uring starts for such a thread are not counted: a server that needs them
    /// is measured as a child process.
    Threads(Vec<libc::pid_t>),
    /// Every thread of a child process, those that have ended included.
    Process(libc::pid_t),
}

impl Account {
    /// CPU time used so far, user and system, in nanoseconds.
    ///
    /// # Errors
    ///
    /// `EINVAL` once a thread or the process is gone.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        match self {
            Account::Threads(threads) => threads
                .iter()
                .try_fold(0, |sum, &tid| Ok(sum + clock_ns(thread_clock(tid))?)),
            Account::Process(pid) => clock_ns(process_clock(*pid)),
        }
    }

    /// The threads to attach counters to, as they are now.
    pub(crate) fn threads(&self) -> io::Result<Vec<libc::pid_t>> {
        match self {
            Account::Threads(threads) => Ok(threads.clone()),
            Account::Process(pid) => std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task")))?
                .map(|entry| {
                    let name = entry?.file_name();
                    name.to_str()
                        .and_then(|name| name.parse().ok())
                        .ok_or_else(|| io::Error::other("a task without a number"))
                })
                .collect(),
        }
    }
}

/// CPU time of this whole process, in nanoseconds.
pub(crate) fn own_process_ns() -> io::Result<u64> {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

// The kernel's encoding of a CPU clock, which glibc's clock_getcpuclockid produces too: the id
// inverted above three bits, of which 4 says "one thread" and 2 "scheduler time, to the ns".
fn process_clock(pid: libc::pid_t) -> libc::clockid_t {
    (!pid << 3) | 2
}

fn thread_clock(tid: libc::pid_t) -> libc::clockid_t {
    (!tid << 3) | 4 | 2
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Account, own_process_ns};
    use crate::harness::affinity::thread_id;

    #[test]
    fn a_thread_and_its_process_have_used_some_cpu() {
        let thread = Account::Threads(vec![thread_id()])
            .cpu_ns()
            .expect("own clock");
        let id = libc::pid_t::try_from(std::process::id()).expect("a pid");
        let process = Account::Process(id).cpu_ns().expect("own clock");
        assert!(thread > 0 && process > 0 && own_process_ns().expect("own clock") >= process);
    }

    #[test]
    fn a_process_lists_its_threads() {
        let id = libc::pid_t::try_from(std::process::id()).expect("a pid");
        let threads = Account::Process(id).threads().expect("own tasks");
        assert!(threads.contains(&thread_id()));
    }
}
