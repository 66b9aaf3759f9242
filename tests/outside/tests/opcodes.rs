//! What is written outside behaves as what is written inside: results, deadlines, drops.

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use coring_outside_opcode::{get_attribute, socket, splice};
use coring_runtime::{CancelScope, Polled, Runner, Timer, is_cancelled};

/// Descriptors are counted over the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn runner() -> Runner {
    Runner::builder().sq_entries(8).build().expect("io_uring")
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Ends what is in flight, and sees to it that nothing is left.
fn finish(mut runner: Runner) {
    while runner.stats().in_flight > 0 {
        runner.run(async {
            Timer::after(Duration::from_millis(1))
                .await
                .expect("nobody cancels");
        });
    }
    let stats = runner.stats();
    assert_eq!(
        (stats.slots, stats.scopes, stats.tasks),
        (0, 0, 0),
        "{stats:?}"
    );
}

#[test]
fn splice_moves_bytes_from_pipe_to_pipe() {
    let _alone = alone();
    let mut runner = runner();
    let (from, mut sender) = std::io::pipe().expect("a pipe");
    let (mut receiver, to) = std::io::pipe().expect("a pipe");
    sender.write_all(b"through the kernel").expect("room");
    let moved = runner.run(splice(from.as_fd(), to.as_fd(), 100));
    assert_eq!(moved.expect("both are open"), 18);
    let mut got = [0; 18];
    receiver.read_exact(&mut got).expect("it is there");
    assert_eq!(&got, b"through the kernel");
    finish(runner);
}

/// It waits in one of the kernel's worker threads, where a linked timeout interrupts it.
#[test]
fn splice_under_a_deadline_is_cancelled_by_it() {
    let _alone = alone();
    let mut runner = runner();
    let (from, _sender) = std::io::pipe().expect("a pipe");
    let (_receiver, to) = std::io::pipe().expect("a pipe");
    let (result, expiry) = runner.run(async {
        let mut scope = CancelScope::after(Duration::from_millis(5));
        let mut body = pin!(splice(from.as_fd(), to.as_fd(), 1));
        let result = poll_fn(|cx| match scope.poll(body.as_mut(), cx) {
            Polled::Ready(result) => Poll::Ready(result),
            Polled::Pending | Polled::Deaf => Poll::Pending,
            Polled::Abandoned => panic!("an operation is a leaf"),
        });
        (result.await, scope.close())
    });
    let error = result.expect_err("nothing came");
    assert!(is_cancelled(&error), "{error}");
    assert!(expiry.timed_out);
    finish(runner);
}

#[test]
fn socket_is_given_and_an_abandoned_one_is_closed() {
    let _alone = alone();
    let mut runner = runner();
    let before = open_fds();
    let given = runner.run(socket(libc::AF_INET, libc::SOCK_STREAM));
    assert_eq!(open_fds(), before + 1);
    drop(given.expect("a socket"));
    runner.run(async {
        let mut abandoned = socket(libc::AF_INET, libc::SOCK_STREAM);
        poll_fn(|cx| {
            assert!(Pin::new(&mut abandoned).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    while runner.stats().in_flight > 0 {
        runner.turn().expect("it turns");
    }
    assert_eq!(open_fds(), before, "R6: closed");
    let error = runner
        .run(socket(-1, libc::SOCK_STREAM))
        .expect_err("no such domain");
    assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    finish(runner);
}

#[test]
fn attribute_is_read_into_memory_of_the_operations_own() {
    let _alone = alone();
    let mut runner = runner();
    let path = std::env::temp_dir().join(format!("coring-{}-attribute", std::process::id()));
    let file = File::create(&path).expect("a directory for temporary files");
    std::fs::remove_file(&path).expect("it is there");
    // SAFETY: names and value are readable, for as long as the call takes.
    let set = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        libc::fsetxattr(fd, c"user.coring".as_ptr(), b"value".as_ptr().cast(), 5, 0)
    };
    let result = runner.run(get_attribute(file.as_fd(), c"user.coring", 64));
    match result {
        Ok(value) => assert_eq!(value, b"value"),
        // A file system without attributes says so, through the same road.
        Err(error) => {
            assert_ne!(set, 0, "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::ENOTSUP));
        }
    }
    let missing = runner.run(get_attribute(file.as_fd(), c"user.missing", 8));
    let errno = missing.expect_err("there is none").raw_os_error();
    assert!(
        matches!(errno, Some(libc::ENODATA | libc::ENOTSUP)),
        "{errno:?}"
    );
    finish(runner);
}
