//! Signals, as something to await; and Ctrl-C, which stops the main task of [`run`](crate::run).
//!
//! # Ctrl-C
//!
//! `run` sees to SIGINT where nobody else does: on the process's main thread, while that signal
//! would end the process. The first one asks the main task to stop; the next one ends the process,
//! as without a handler. While somebody awaits [`ctrl_c`] it is theirs alone.
//!
//! A handler may do next to nothing: atomics, and a write to a descriptor.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use signal_hook_registry::SigId;

use crate::driver::{Request, Scratch, opcode};
use crate::inbox::Inbox;
use crate::op::{Cqe, Operation, submit};

/// Which signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalKind(libc::c_int);

impl SignalKind {
    /// By its number, from 1 to 64.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// SIGINT: Ctrl-C on the terminal.
    pub const fn interrupt() -> Self {
        Self(libc::SIGINT)
    }

    /// SIGTERM: the polite request to end.
    pub const fn terminate() -> Self {
        Self(libc::SIGTERM)
    }

    /// SIGHUP: the terminal has gone; for a server, by custom, that its settings have changed.
    pub const fn hangup() -> Self {
        Self(libc::SIGHUP)
    }

    /// SIGQUIT: Ctrl-\ on the terminal.
    pub const fn quit() -> Self {
        Self(libc::SIGQUIT)
    }

    /// SIGCHLD: a child process has ended or was stopped.
    pub const fn child() -> Self {
        Self(libc::SIGCHLD)
    }

    /// SIGUSR1.
    pub const fn user_defined1() -> Self {
        Self(libc::SIGUSR1)
    }

    /// SIGUSR2.
    pub const fn user_defined2() -> Self {
        Self(libc::SIGUSR2)
    }

    /// SIGWINCH: the size of the terminal has changed.
    pub const fn window_change() -> Self {
        Self(libc::SIGWINCH)
    }
}

/// Catches a signal from here on, as long as the [`Signal`] lives, and from then on what it did by
/// default is not done any more.
///
/// Several may catch the same one, on any threads: each gets it.
///
/// # Errors
/// If it cannot be caught (SIGKILL, SIGSTOP, and those that say that the program is at fault), or
/// no descriptor is left.
///
/// # Examples
///
/// ```
/// use coring::signal::{SignalKind, signal};
///
/// coring::run(async {
///     let mut hangup = signal(SignalKind::hangup())?;
///     // SAFETY: it is caught.
///     unsafe { libc::raise(libc::SIGHUP) };
///     hangup.recv().await
/// }).unwrap();
/// ```
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let number = kind.as_raw();
    if !(1..=64).contains(&number) || signal_hook_registry::FORBIDDEN.contains(&number) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal {number} cannot be caught"),
        ));
    }
    let event = Arc::new(event_fd()?);
    let written = event.clone();
    let interrupts = (number == libc::SIGINT).then(Listens::begin);
    let action = move || {
        leaving_errno(|| {
            let one = 1_u64;
            // SAFETY: eight bytes of a local; the descriptor is held until nobody is in here (R14).
            unsafe { libc::write(written.as_raw_fd(), (&raw const one).cast(), 8) };
        });
    };
    // SAFETY: `write` may be called in a signal handler, and is all that it does (R14).
    let id = unsafe { signal_hook_registry::register(number, action) }?;
    Ok(Signal {
        event,
        id,
        _interrupts: interrupts,
    })
}

/// Waits for Ctrl-C (SIGINT), caught from the first poll until this is dropped.
///
/// For a loop that waits for more than one, take [`signal`]: nothing is missed between two waits.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that the signal is caught no
/// more.
///
/// # Errors
/// As [`signal`]; [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
pub async fn ctrl_c() -> io::Result<()> {
    signal(SignalKind::interrupt())?.recv().await
}

/// A signal that is caught: see [`signal`].
pub struct Signal {
    event: Arc<OwnedFd>,
    id: SigId,
    _interrupts: Option<Listens>,
}

impl Signal {
    /// Waits until the signal has come since the last call. One that came several times in between
    /// counts once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn recv(&mut self) -> io::Result<()> {
        let polled = Poll {
            event: self.event.clone(),
        };
        submit(polled).await?;
        let mut count = 0_u64;
        // SAFETY: eight bytes for the count, written before this returns: not the ring's (R1). It does
        // not block, and nobody else reads.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
        Ok(())
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        signal_hook_registry::unregister(self.id);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}

fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until an eventfd can be read. What is in it stays, so that nothing is lost with a future
/// that is dropped.
struct Poll {
    event: Arc<OwnedFd>,
}

// SAFETY: the request points at nothing, so there is nothing to keep (R1); it holds its descriptor
// (R7).
unsafe impl Operation for Poll {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(opcode::POLL_ADD, self.event.as_raw_fd()).op_flags(libc::POLLIN as u32)
    }

    fn complete(self, cqe: Cqe) -> io::Result<()> {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// How many listen for SIGINT: as long as somebody does, it is theirs.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);

/// We have caught it by the library that others may use as well: then its handler is in front of
/// ours, whoever else uses it.
static CAUGHT: AtomicBool = AtomicBool::new(false);

struct Listens;

impl Listens {
    fn begin() -> Self {
        CAUGHT.store(true, SeqCst);
        LISTENERS.fetch_add(1, SeqCst);
        Self
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, SeqCst);
    }
}

/// Whose main task Ctrl-C stops: inbox and task. `NOBODY`: nobody's.
static MAIN: AtomicU64 = AtomicU64::new(NOBODY);
const NOBODY: u64 = u64::MAX;
/// It has come, and `run` has not looked yet.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// It has come in this run: the next one ends the process.
static CAME: AtomicBool = AtomicBool::new(false);

/// A handler runs between any two instructions, also between a call and the look at its error.
fn leaving_errno(f: impl FnOnce()) {
    // SAFETY: this thread's own, for as long as it runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; nobody else reads or writes it.
    let before = unsafe { *errno };
    f();
    // SAFETY: as above.
    unsafe { *errno = before };
}

extern "C" fn on_interrupt(_: libc::c_int) {
    leaving_errno(interrupted);
}

fn interrupted() {
    if LISTENERS.load(SeqCst) > 0 || (!CAUGHT.load(SeqCst) && handler() != ours()) {
        return; // It is somebody else's.
    }
    let main = MAIN.load(SeqCst);
    if main == NOBODY || CAME.swap(true, SeqCst) {
        // SAFETY: both may be called in a signal handler (R14); it is raised when this one returns.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::raise(libc::SIGINT);
        }
        return;
    }
    INTERRUPTED.store(true, SeqCst);
    if let Some(inbox) = Inbox::by_number((main >> 32) as u32) {
        inbox.wake_from_signal(main as u32);
    }
}

/// While this lives Ctrl-C stops a main task.
pub(crate) struct CtrlC {
    installed: bool,
}

impl CtrlC {
    /// `None`: it is not for us, or somebody else sees to it.
    pub(crate) fn catch(inbox: &Inbox, main: u32) -> Option<Self> {
        // SAFETY: no pointers.
        let is_main_thread = unsafe { libc::gettid() == libc::getpid() };
        let number = u64::from(inbox.number()) << 32 | u64::from(main);
        if !is_main_thread || MAIN.load(SeqCst) != NOBODY {
            return None;
        }
        CAME.store(false, SeqCst);
        INTERRUPTED.store(false, SeqCst);
        MAIN.store(number, SeqCst); // By this thread alone.
        // If somebody has caught it after an earlier run had, ours is behind theirs still.
        let installed = handler() == libc::SIG_DFL && set_handler(ours());
        Some(Self { installed })
    }

    /// Whether it has come since this was last asked.
    pub(crate) fn has_come(&self) -> bool {
        INTERRUPTED.swap(false, SeqCst)
    }
}

impl Drop for CtrlC {
    fn drop(&mut self) {
        MAIN.store(NOBODY, SeqCst);
        if self.installed && handler() == ours() {
            set_handler(libc::SIG_DFL);
        }
    }
}

fn ours() -> libc::sighandler_t {
    (on_interrupt as extern "C" fn(libc::c_int)) as libc::sighandler_t
}

/// What is done at SIGINT.
fn handler() -> libc::sighandler_t {
    // SAFETY: all zero is a valid `sigaction`.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only written to.
    unsafe { libc::sigaction(libc::SIGINT, std::ptr::null(), &raw mut now) };
    now.sa_sigaction
}

fn set_handler(handler: libc::sighandler_t) -> bool {
    // SAFETY: all zero is a valid `sigaction`, without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `handler` is SIG_DFL, or a function that takes one number.
    unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_does_leaves_errno_as_it_was() {
        // SAFETY: this thread's own.
        let fail_with = |errno| unsafe { *libc::__errno_location() = errno };
        fail_with(libc::EAGAIN);
        leaving_errno(|| fail_with(libc::EBADF));
        let left = io::Error::last_os_error();
        assert_eq!(left.raw_os_error(), Some(libc::EAGAIN));
    }
}
