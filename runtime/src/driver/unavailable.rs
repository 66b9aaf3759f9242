//! Why a driver cannot be had, and what to do about it.

use std::{error, fmt, fs, io};

/// A driver could not be started: the cause, and the remedy.
///
/// # Examples
///
/// ```
/// match coring::Runner::builder().build() {
///     Ok(runner) => println!("runs on {}", runner.driver()),
///     Err(unavailable) => eprintln!("{unavailable}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unavailable {
    /// What the kernel answered.
    pub errno: i32,
    /// What that means here.
    pub reason: Reason,
}

/// Why io_uring cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The kernel has no io_uring, or was built without.
    NoIoUring,
    /// The kernel is older than 6.1: it lacks DEFER_TASKRUN.
    TooOld {
        /// `uname -r`.
        release: String,
    },
    /// The sysctl `kernel.io_uring_disabled` forbids it.
    Sysctl {
        /// 1: for those outside of `kernel.io_uring_group`; 2: for everybody.
        value: u32,
    },
    /// A seccomp filter forbids it, as those of container engines do.
    Seccomp,
    /// Something else forbids it: a security module, a sandbox.
    Forbidden,
    /// RLIMIT_MEMLOCK leaves no room for the rings.
    Memlock {
        /// The limit in bytes; `None` is unlimited: then it is the process's or the machine's
        /// memory.
        limit: Option<u64>,
    },
    /// The process or the system has no descriptors left.
    NoDescriptors,
    /// The kernel lacks an opcode that coring cannot do without.
    MissingOpcode(u8),
    /// More than 4,096 runtimes live in this process.
    TooManyRuntimes,
    /// `CORING_DRIVER` asks for a driver that does not exist.
    UnknownDriver {
        /// What it says.
        name: String,
    },
    /// Anything else.
    Other,
}

impl Unavailable {
    pub(crate) const fn new(errno: i32, reason: Reason) -> Self {
        Self { errno, reason }
    }

    /// Of an error that setting up a ring gave.
    #[expect(clippy::needless_pass_by_value, reason = "the form of `map_err`")]
    pub(crate) fn of_setup(error: io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let sysctl = read_number("/proc/sys/kernel/io_uring_disabled");
        Self::new(errno, Reason::of_setup(errno, sysctl, seccomp_filters()))
    }

    /// What to change.
    pub fn remedy(&self) -> String {
        match &self.reason {
            Reason::NoIoUring => "run on Linux 6.1 or newer, built with CONFIG_IO_URING".into(),
            Reason::TooOld { .. } => "run on Linux 6.1 or newer".into(),
            Reason::Sysctl { value: 1 } => "run `sysctl kernel.io_uring_disabled=0`, or add the \
                 user to the group of `sysctl kernel.io_uring_group`"
                .into(),
            Reason::Sysctl { .. } => "run `sysctl kernel.io_uring_disabled=0`".into(),
            Reason::Seccomp => "allow io_uring_setup, io_uring_enter and io_uring_register in the \
                 container's seccomp profile (docker: --security-opt seccomp=PROFILE.json)"
                .into(),
            Reason::Forbidden => "ask whoever set up the sandbox or the security module".into(),
            Reason::Memlock { limit: Some(_) } => "raise it (`ulimit -l`, `LimitMEMLOCK=` of \
                 systemd, `--ulimit memlock=-1` of docker), or build the runner with fewer entries"
                .into(),
            Reason::Memlock { limit: None } => "free memory, or build with fewer entries".into(),
            Reason::NoDescriptors => "raise `ulimit -n`, or look for descriptors that leak".into(),
            Reason::MissingOpcode(_) => "run a kernel that has it, or lift its restriction".into(),
            Reason::TooManyRuntimes => "end some runtimes: one per thread is meant".into(),
            Reason::UnknownDriver { .. } => "set CORING_DRIVER to auto or uring".into(),
            Reason::Other => "see io_uring_setup(2)".into(),
        }
    }
}

impl Reason {
    /// Of an errno that setting up a ring gave, where the sysctl `kernel.io_uring_disabled` says
    /// this, and a seccomp filter is there or not.
    fn of_setup(errno: i32, sysctl: Option<u32>, filtered: bool) -> Self {
        match errno {
            libc::ENOSYS if filtered => Self::Seccomp,
            libc::ENOSYS => Self::NoIoUring,
            libc::EINVAL => Self::TooOld { release: release() },
            libc::EPERM | libc::EACCES => match sysctl {
                Some(value @ 1..) => Self::Sysctl { value },
                _ if filtered => Self::Seccomp,
                _ => Self::Forbidden,
            },
            libc::ENOMEM if locks_without_limit() => Self::Memlock { limit: None },
            libc::ENOMEM => Self::Memlock {
                limit: memlock_limit(),
            },
            libc::EMFILE | libc::ENFILE => Self::NoDescriptors,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoUring => f.write_str("this kernel has no io_uring"),
            Self::TooOld { release } => {
                write!(
                    f,
                    "this kernel ({release}) is older than 6.1: it lacks DEFER_TASKRUN"
                )
            }
            Self::Sysctl { value } => write!(f, "kernel.io_uring_disabled is {value}"),
            Self::Seccomp => f.write_str("a seccomp filter forbids it"),
            Self::Forbidden => f.write_str("it is forbidden here"),
            Self::Memlock { limit: Some(limit) } => {
                write!(
                    f,
                    "RLIMIT_MEMLOCK ({limit} bytes) leaves no room for the rings"
                )
            }
            Self::Memlock { limit: None } => f.write_str("no memory for the rings"),
            Self::NoDescriptors => f.write_str("no descriptors are left"),
            Self::MissingOpcode(opcode) => write!(f, "the kernel lacks opcode {opcode}"),
            Self::TooManyRuntimes => f.write_str("too many runtimes live in this process"),
            Self::UnknownDriver { name } => write!(f, "there is no driver `{name}`"),
            Self::Other => f.write_str("the kernel refused"),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring cannot be had: {}", self.reason)?;
        if self.errno != 0 {
            write!(f, " ({})", io::Error::from_raw_os_error(self.errno))?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl error::Error for Unavailable {}

impl From<Unavailable> for io::Error {
    fn from(unavailable: Unavailable) -> Self {
        Self::new(
            io::Error::from_raw_os_error(unavailable.errno).kind(),
            unavailable,
        )
    }
}

fn read_number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether this thread is under a seccomp filter (mode 2).
fn seccomp_filters() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    field(&status, "Seccomp:") == Some("2")
}

/// Whether what this thread locks into memory counts towards no limit (CAP_IPC_LOCK).
fn locks_without_limit() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let held = field(&status, "CapEff:").and_then(|held| u64::from_str_radix(held, 16).ok());
    held.is_some_and(|held| held & CAP_IPC_LOCK != 0)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = status.lines().filter_map(|line| line.strip_prefix(name));
    Some(fields.next()?.trim())
}

fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable.
    let res = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (res == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_reads_as_cause_and_remedy() {
        let seccomp = Unavailable::new(libc::EPERM, Reason::Seccomp).to_string();
        assert!(seccomp.contains("a seccomp filter forbids it (Operation not permitted"));
        assert!(seccomp.contains("--security-opt seccomp="));
        let sysctl = Unavailable::new(libc::EPERM, Reason::Sysctl { value: 2 }).to_string();
        assert!(sysctl.contains("kernel.io_uring_disabled is 2"));
        assert!(sysctl.ends_with("run `sysctl kernel.io_uring_disabled=0`"));
        let memlock = Unavailable::new(
            libc::ENOMEM,
            Reason::Memlock {
                limit: Some(65_536),
            },
        );
        assert!(memlock.to_string().contains("RLIMIT_MEMLOCK (65536 bytes)"));
        let error = io::Error::from(memlock);
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    /// `runtime/tests/unavailable.rs` shows some of them in processes of their own.
    #[test]
    fn each_errno_with_what_the_machine_says_has_its_reason() {
        use libc::{EACCES, EMFILE, ENFILE, ENOSYS, EOPNOTSUPP, EPERM};
        for errno in [EPERM, EACCES] {
            let of = |sysctl, filtered| Reason::of_setup(errno, sysctl, filtered);
            for value in [1, 2] {
                let reason = Reason::Sysctl { value };
                assert_eq!(of(Some(value), false), reason);
                assert_eq!(of(Some(value), true), reason, "both have to be changed");
            }
            for sysctl in [None, Some(0)] {
                // Before Linux 6.6 there is no such sysctl.
                assert_eq!(of(sysctl, true), Reason::Seccomp);
                assert_eq!(of(sysctl, false), Reason::Forbidden);
            }
        }
        for sysctl in [None, Some(0), Some(2)] {
            assert_eq!(Reason::of_setup(ENOSYS, sysctl, true), Reason::Seccomp);
            assert_eq!(Reason::of_setup(ENOSYS, sysctl, false), Reason::NoIoUring);
        }
        for filtered in [false, true] {
            let of = |errno| Reason::of_setup(errno, Some(0), filtered);
            #[cfg(not(miri))] // Miri has no getrlimit(2).
            assert!(matches!(of(libc::ENOMEM), Reason::Memlock { .. }));
            assert_eq!(of(EMFILE), Reason::NoDescriptors);
            assert_eq!(of(ENFILE), Reason::NoDescriptors);
            assert_eq!(of(EOPNOTSUPP), Reason::Other);
        }
    }

    #[test]
    fn each_value_of_the_sysctl_has_its_remedy() {
        let remedy = |value| Unavailable::new(libc::EPERM, Reason::Sysctl { value }).remedy();
        assert!(remedy(1).contains("io_uring_group"));
        assert_eq!(remedy(2), "run `sysctl kernel.io_uring_disabled=0`");
    }

    #[test]
    fn an_old_kernel_is_named_with_its_release() {
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        let Reason::TooOld { release } = Unavailable::of_setup(error).reason else {
            panic!("EINVAL with the fewest flags is an old kernel");
        };
        assert!(
            release
                .chars()
                .next()
                .is_some_and(|first| first.is_ascii_digit())
        );
    }
}
