//! A loop that sleeps until there is more to do than one thing.

#![cfg(not(miri))]

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;
use std::{io, thread};

use coring::net::UnixStream;
use coring::{BufResult, Runner, Stats, Timers, gather, sleep};

/// Reads one byte, and gives how often the loop had entered the kernel by then.
async fn enters_until_read(mut stream: UnixStream) -> io::Result<(UnixStream, u64)> {
    let BufResult(n, _) = stream.read(Vec::with_capacity(1)).await;
    assert_eq!(n?, 1);
    Ok((stream, Stats::current().enters))
}

/// Long enough for a loop that gets up for one to do so.
#[expect(clippy::disallowed_methods, reason = "a thread of a peer, no loop")]
fn pause() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn sleep_waits_for_company() {
    let mut runner = Runner::builder()
        .min_wait(2, Duration::from_secs(5))
        .build()
        .expect("io_uring");
    if !runner.features().is_some_and(|features| features.min_wait) {
        println!("SKIP sleep_waits_for_company: no min_wait_usec before Linux 6.12");
        return;
    }
    runner.run(async {
        let (one, mut to_one) = StdUnixStream::pair().expect("sockets");
        let (other, mut to_other) = StdUnixStream::pair().expect("sockets");
        let writer = thread::spawn(move || {
            to_one.write_all(b"1").expect("it is connected");
            pause();
            to_other.write_all(b"2").expect("it is connected");
            (to_one, to_other)
        });
        let both = gather!(
            enters_until_read(one.into()),
            enters_until_read(other.into())
        );
        let ((one, first), (other, second)) = both.await.expect("both");
        assert_eq!(first, second, "one was told alone");
        drop((one, other, writer.join().expect("it writes")));
    });
}

#[test]
fn one_alone_comes_all_the_same() {
    let runner = Runner::builder().min_wait(1_000, Duration::from_millis(1));
    runner.run(async {
        let (ours, mut theirs) = StdUnixStream::pair().expect("sockets");
        theirs.write_all(b"1").expect("it is connected");
        let (ours, _) = enters_until_read(ours.into()).await.expect("it comes");
        drop(ours);
    });
}

#[test]
fn deadline_of_the_loop_is_not_late() -> io::Result<()> {
    let runner = Runner::builder().timers(Timers::Heap);
    let hour = Duration::from_secs(3_600);
    runner
        .min_wait(2, hour)
        .run(sleep(Duration::from_millis(1)))
}
