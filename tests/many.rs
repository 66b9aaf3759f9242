//! Ten thousand tasks, each in a `timeout` around a socket read, cancelled in one turn.

#![cfg(not(miri))]

mod common;

use std::cell::Cell;
use std::process::{Command, Stdio};
use std::rc::Rc;

use common::*;
use coring::net::TcpListener;
use coring::{Runner, Stats, create_task, is_cancelled, timeout, yield_now};

const MANY: usize = 10_000;
/// Requests in one enter.
const ENTRIES: usize = 256;
/// Completions that the kernel hands over in one enter, where it has put them off: about 20 (M). The
/// bounds follow from that.
const AT_A_TIME: usize = 10;

/// Whether so many descriptors may be open. (The peers have theirs in a process of their own.)
fn may_open(descriptors: u64) -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: only written to.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: only read.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    got == 0 && set == 0 && limit.rlim_max >= descriptors
}

#[test]
fn ten_thousand_limited_reads_are_cancelled_in_few_enters_and_turns() {
    let _world = World::uring();
    if !may_open(MANY as u64 + 100) {
        return skip("ten_thousand_limited_reads", "not enough descriptors");
    }
    let mut runner = Runner::builder()
        .sq_entries(ENTRIES as u32)
        .build()
        .expect("io_uring");
    runner.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound").to_string();
        let holder = Command::new("python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/peers/holder.py"
            ))
            .args([addr, MANY.to_string()])
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut holder) = holder else {
            return skip("ten_thousand_limited_reads", "python3 does not start");
        };
        let mut tasks = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            let (mut stream, _) = listener.accept().await.expect("a peer");
            tasks.push(create_task(async move {
                timeout(LONG, async { stream.read(Vec::with_capacity(8)).await }).await
            }));
        }
        until(|| Stats::current().in_flight >= MANY).await;

        let turns = Rc::new(Cell::new(0));
        let counts = turns.clone();
        let ticker = create_task(async move {
            while yield_now().await.is_ok() {
                counts.set(counts.get() + 1);
            }
        });
        let before = Stats::current();
        for task in &tasks {
            task.cancel();
        }
        let mut cancelled = 0;
        for task in tasks {
            let read = task.await.expect("no limit passed");
            assert_eq!(read.1.capacity(), 8, "its buffer is back");
            cancelled += usize::from(is_cancelled(&error_of(read.0)));
        }
        let after = Stats::current();
        assert_eq!(cancelled, MANY);
        let enters = (after.enters - before.enters) as usize;
        assert!(enters <= MANY / AT_A_TIME, "{enters} enters");
        assert!(turns.get() <= MANY / AT_A_TIME, "{} turns", turns.get());
        ticker.cancel();
        drop(holder.stdin.take());
        holder.wait().expect("it ends");
    });
    finish(runner);
}
