//! Measurements that need a process of their own: resident memory is a process's.

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{fs, io};

use super::affinity::{CLIENT_CORE, SERVER_CORE, pin_to};
use super::cpu::own_process_ns;

/// What a piece of work cost the process that did it.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// CPU time, user and system.
    pub cpu_ns: u64,
    /// Memory at its highest, above what was resident before.
    pub resident_bytes: u64,
}

/// Has `command` start on the servers' core, and die with the thread that starts it, whatever that
/// thread dies of.
pub(crate) fn as_server(command: &mut Command) {
    on_core(command, SERVER_CORE);
}

/// The same on the client's core.
pub fn as_client(command: &mut Command) {
    on_core(command, CLIENT_CORE);
}

fn on_core(command: &mut Command, core: usize) {
    // SAFETY: the closure makes two system calls and neither allocates nor locks, which is what
    // may be done between fork and exec.
    unsafe {
        command.pre_exec(move || {
            pin_to(core)?;
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

/// Runs this program once more, as `--child WORD…`, and gives the words that it prints.
///
/// # Errors
///
/// If it does not start, or fails.
pub fn run_child(words: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--child")
        .args(words)
        .output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}: {why}", words.join(" ")).into());
    }
    let figures = String::from_utf8(output.stdout)?;
    Ok(figures.split_whitespace().map(str::to_owned).collect())
}

/// Does the one piece of work of a child, on the servers' core.
///
/// # Errors
///
/// Those of the work, and of `/proc`.
pub fn cost_of<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Cost)> {
    pin_to(SERVER_CORE)?;
    let (resident, cpu) = (resident_kib()?, own_process_ns()?);
    let done = work()?;
    let cost = Cost {
        cpu_ns: own_process_ns()? - cpu,
        resident_bytes: resident_kib()?.saturating_sub(resident) * 1024,
    };
    Ok((done, cost))
}

fn resident_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other("no VmHWM"))
}
