//! Where io_uring is forbidden, or has no room, a runner says so: the cause, and the remedy.
//!
//! Each is a process of its own, since nobody is given back what is taken away here. The sysctl
//! `kernel.io_uring_disabled` is the whole machine's, so it is not set: a thread sees a file of its
//! own in its place, and a filter answers for the kernel.
//!
//! Not shown, since no process can bring it about for itself alone: a kernel without io_uring, an
//! old one, one that lacks an opcode, a security module that forbids, and a machine without memory.
//! The unit tests of `unavailable.rs` have what is said then. Descriptors: `kernel_limits.rs`.

#![cfg(not(miri))]

mod common;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::*;
use coring_runtime::*;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// From here on `call` is answered with `errno`, for this thread and those that it starts.
fn forbid(call: libc::c_long, errno: i32) {
    let filter: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(call, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("it is supported"),
    )
    .and_then(TryInto::try_into)
    .expect("one system call, whatever its arguments");
    apply_filter(&filter).expect("a thread may always have less");
}

fn build() -> Unavailable {
    Runner::builder()
        .build()
        .expect_err("io_uring is forbidden here")
}

/// Whether the machine lets everybody have io_uring: then who forbids it is the filter.
fn sysctl_forbids() -> bool {
    std::fs::read_to_string(SYSCTL).is_ok_and(|value| value.trim() != "0")
}

/// What the program may do lasts until its thread ends.
fn in_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|threads| threads.spawn(f).join()).expect("it does not panic")
}

#[test]
fn seccomp_filter_that_forbids_set_up_is_named_with_its_remedy() {
    if !alone_in_a_process("seccomp_filter_that_forbids_set_up_is_named_with_its_remedy") {
        return;
    }
    if sysctl_forbids() {
        return skip("seccomp", "the sysctl forbids io_uring as well");
    }
    for (errno, text) in [
        (libc::EPERM, "Operation not permitted (os error 1)"),
        (libc::EACCES, "Permission denied (os error 13)"),
        // Not taken for a kernel without io_uring.
        (libc::ENOSYS, "Function not implemented (os error 38)"),
    ] {
        in_a_thread(|| {
            forbid(libc::SYS_io_uring_setup, errno);
            let unavailable = build();
            assert_eq!(
                (unavailable.errno, &unavailable.reason),
                (errno, &Reason::Seccomp)
            );
            let said = format!(
                "io_uring cannot be had: a seccomp filter forbids it ({text}); allow \
                 io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
                 profile (docker: --security-opt seccomp=PROFILE.json)"
            );
            assert_eq!(unavailable.to_string(), said);
            let panic = catch_unwind(|| run(async {})).expect_err("there is no driver");
            assert_eq!(panic.downcast_ref(), Some(&said), "`run` says the same");
        });
    }
}

/// A filter that knows io_uring in part: the ring is there, and nothing can be asked of it.
#[test]
fn seccomp_filter_that_forbids_registering_is_named_and_leaves_no_ring() {
    if !alone_in_a_process("seccomp_filter_that_forbids_registering_is_named_and_leaves_no_ring") {
        return;
    }
    if sysctl_forbids() {
        return skip("seccomp", "the sysctl forbids io_uring as well");
    }
    let world = World::uring();
    for errno in [libc::EPERM, libc::ENOSYS] {
        in_a_thread(|| {
            forbid(libc::SYS_io_uring_register, errno);
            assert_eq!(build().reason, Reason::Seccomp);
        });
    }
    drop(world); // Counts the descriptors.
}

#[test]
fn seccomp_filter_that_forbids_entering_is_named_before_anything_is_queued() {
    let name = "seccomp_filter_that_forbids_entering_is_named_before_anything_is_queued";
    if !alone_in_a_process(name) {
        return;
    }
    if sysctl_forbids() {
        return skip("seccomp", "the sysctl forbids io_uring as well");
    }
    let world = World::uring();
    in_a_thread(|| {
        forbid(libc::SYS_io_uring_enter, libc::EPERM);
        assert_eq!(build().reason, Reason::Seccomp);
    });
    drop(world); // Counts the descriptors.
}

#[test]
fn sysctl_that_forbids_io_uring_is_named_with_its_value_and_its_remedy() {
    if !alone_in_a_process("sysctl_that_forbids_io_uring_is_named_with_its_value_and_its_remedy") {
        return;
    }
    for (value, remedy) in [
        (
            1,
            "or add the user to the group of `sysctl kernel.io_uring_group`",
        ),
        (2, "run `sysctl kernel.io_uring_disabled=0`"),
    ] {
        let skipped = in_a_thread(|| {
            if let Err(error) = show_in_place(SYSCTL, &format!("{value}\n")) {
                return Some(error);
            }
            forbid(libc::SYS_io_uring_setup, libc::EPERM); // As the kernel answers.
            let unavailable = build();
            assert_eq!(unavailable.reason, Reason::Sysctl { value });
            let said = unavailable.to_string();
            let cause = format!(
                "io_uring cannot be had: kernel.io_uring_disabled is {value} (Operation not \
                 permitted (os error 1)); run `sysctl kernel.io_uring_disabled=0`"
            );
            assert!(said.starts_with(&cause) && said.ends_with(remedy), "{said}");
            None
        });
        if let Some(error) = skipped {
            return skip(
                "sysctl",
                &format!("no file of its own for {SYSCTL}: {error}"),
            );
        }
    }
    // Nobody else has seen it.
    assert!(Runner::builder().build().is_ok());
}

/// This thread sees `text` in the file `path`, and nobody else does.
fn show_in_place(path: &str, text: &str) -> io::Result<()> {
    let file = std::env::temp_dir().join(format!("coring-{}-shown", std::process::id()));
    std::fs::write(&file, text)?;
    // SAFETY: no pointers; memory and descriptors stay shared.
    let res = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    let shown = answer(res)
        // First of all, so that nothing leaves this thread's mounts.
        .and_then(|()| mount(Path::new("none"), "/", libc::MS_REC | libc::MS_PRIVATE))
        .and_then(|()| mount(&file, path, libc::MS_BIND));
    std::fs::remove_file(&file)?;
    shown
}

fn mount(source: &Path, target: &str, flags: libc::c_ulong) -> io::Result<()> {
    let source = CString::new(source.as_os_str().as_bytes())?;
    let target = CString::new(target)?;
    // SAFETY: strings that end with a zero; these flags look at neither of the others.
    answer(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    })
}

fn answer(res: i32) -> io::Result<()> {
    match res {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This thread is from now on of a user who may not lock more memory than the limit, and who has
/// locked none: the kernel counts by user. It has been counting rings too since Linux 6.14.
fn unprivileged(number: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    let user = 20_000 + std::process::id() % 32_768 + number;
    // The system call, since what the C library has under this name changes all threads.
    // SAFETY: no pointers. Nothing in this process relies on its threads being one user's.
    match unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn limit_locked_memory(bytes: u64) {
    // SAFETY: plain structures, readable and writable.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit), 0);
        limit.rlim_cur = bytes;
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
    }
}

/// As [`unprivileged`], under a limit of nothing; says what is left out where that forbids nothing.
fn rings_are_counted() -> bool {
    limit_locked_memory(0);
    in_a_thread(|| {
        if let Err(error) = unprivileged(0) {
            skip("memlock", &format!("no user of its own: {error}"));
            return false;
        }
        if Runner::builder().build().is_ok() {
            skip(
                "memlock",
                "rings are not counted, by this kernel or for this user",
            );
            return false;
        }
        true
    })
}

#[test]
fn memlock_limit_without_room_for_rings_is_named_with_its_bytes_and_its_remedy() {
    let name = "memlock_limit_without_room_for_rings_is_named_with_its_bytes_and_its_remedy";
    if !alone_in_a_process(name) || !rings_are_counted() {
        return;
    }
    limit_locked_memory(1_000);
    in_a_thread(|| {
        unprivileged(0).expect("it was so before");
        let unavailable = build();
        assert_eq!(unavailable.errno, libc::ENOMEM);
        assert_eq!(unavailable.reason, Reason::Memlock { limit: Some(1_000) });
        assert_eq!(
            unavailable.to_string(),
            "io_uring cannot be had: RLIMIT_MEMLOCK (1000 bytes) leaves no room for the rings \
             (Cannot allocate memory (os error 12)); raise it (`ulimit -l`, `LimitMEMLOCK=` of \
             systemd, `--ulimit memlock=-1` of docker), or build the runner with fewer entries"
        );
    });
}

/// ENOMEM for want of memory is not shown: a control group's limit ends in the OOM killer first.
#[test]
fn memlock_limit_with_little_room_halves_the_rings_until_they_fit() {
    let name = "memlock_limit_with_little_room_halves_the_rings_until_they_fit";
    if !alone_in_a_process(name) {
        return;
    }
    let unlimited = Runner::builder().build().expect("io_uring");
    let asked = unlimited.features().expect("a ring").sq_entries;
    if !rings_are_counted() {
        return;
    }
    // The first limit that suffices for any rings suffices for the smallest.
    for pages in 1..64 {
        limit_locked_memory(pages * 4_096);
        let made = in_a_thread(|| {
            unprivileged(pages as u32).expect("it was so before");
            let mut runner = match Runner::builder().build() {
                Ok(runner) => runner,
                Err(unavailable) => {
                    assert!(matches!(unavailable.reason, Reason::Memlock { .. }));
                    return None;
                }
            };
            // More than there are places: what is queued knows how small the ring has become.
            runner.run(async {
                let mut nops: Vec<_> = (0..asked * 2).map(|_| nop()).collect();
                for nop in &mut nops {
                    start(nop).await;
                }
                for nop in nops {
                    assert_eq!(nop.await.expect("a NOP succeeds"), 0);
                }
            });
            assert_clean(&runner.stats());
            runner.features()
        });
        if let Some(made) = made {
            assert!(made.sq_entries < asked, "{made:?}");
            assert!(made.cq_entries >= made.sq_entries * 2, "{made:?}");
            return;
        }
    }
    panic!("256 KiB hold the rings of 8 entries");
}

#[test]
fn driver_that_does_not_exist_is_named_with_its_remedy() {
    let name = "driver_that_does_not_exist_is_named_with_its_remedy";
    let asks = |child: &mut Command| {
        child.env("CORING_DRIVER", "kqueue");
    };
    if !alone_in_a_process_with(name, asks) {
        return;
    }
    assert_eq!(
        build().to_string(),
        "io_uring cannot be had: there is no driver `kqueue`; set CORING_DRIVER to auto or uring"
    );
    let kernel = sim::Kernel::new();
    let runner = Runner::builder().sim(&kernel).build();
    assert_eq!(runner.expect("a simulator").driver(), DriverKind::Sim);
}

#[test]
fn runtime_too_many_in_a_process_is_refused_until_one_ends() {
    if !alone_in_a_process("runtime_too_many_in_a_process_is_refused_until_one_ends") {
        return;
    }
    let simulated = || Runner::builder().sim(&sim::Kernel::new()).build();
    let mut runners = Vec::new();
    let unavailable = loop {
        match simulated() {
            Ok(runner) => runners.push(runner),
            Err(unavailable) => break unavailable,
        }
    };
    assert_eq!(runners.len(), 4_096);
    assert_eq!(unavailable.reason, Reason::TooManyRuntimes);
    assert_eq!(
        unavailable.to_string(),
        "io_uring cannot be had: too many runtimes live in this process; end some runtimes: one \
         per thread is meant"
    );
    drop(runners.pop());
    assert!(simulated().is_ok(), "there is a place again");
}
