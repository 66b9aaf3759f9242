//! The task that sends for a writer, where it ends early or is never polled.

#![cfg(not(miri))]

mod common;

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use common::*;
use coring::net::UnixStream;
use coring::{StreamWriter, all_tasks, create_task, is_timed_out, sleep, wait_for, yield_now};

/// Writes when it is dropped.
struct LastWord(Rc<RefCell<Option<StreamWriter>>>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if let Some(writer) = &mut *self.0.borrow_mut() {
            writer.write("bye");
        }
    }
}

/// The pump that would send it is dropped before it was polled.
#[test]
fn what_is_written_while_the_runtime_drops_its_tasks_is_an_error_later() {
    let world = World::uring();
    let (ours, _theirs) = tcp_pair();
    let place = Rc::new(RefCell::new(None));
    let mut runner = world.builder().grace(MS).build().expect("it was built");
    runner.run(async {
        let (_, writer) = ours.into_streams();
        place.replace(Some(writer));
        let last = LastWord(place.clone());
        create_task(async move {
            let _last = last;
            loop {
                let _ = sleep(PATIENCE).await; // Deaf: it is dropped after the grace.
            }
        });
        sleep(MS).await.expect("nobody cancels");
    });
    drop(runner);
    let mut writer = place.take().expect("it is there");
    world.run(async move {
        for again in ["", "more"] {
            writer.write(again);
            let flushed = wait_for(writer.flush(), PATIENCE).await;
            let error = flushed.expect_err("it went nowhere");
            assert_eq!(error.kind(), ErrorKind::NotConnected);
        }
        let closed = wait_for(writer.wait_closed(), PATIENCE).await;
        assert!(!is_timed_out(&closed.expect_err("it has failed")));
    });
}

#[test]
fn what_is_written_outside_of_a_runtime_is_an_error_behind_the_panic() {
    let world = World::uring();
    let (ours, _theirs) = tcp_pair();
    let (_, mut writer) = ours.into_streams();
    let wrote = catch_unwind(AssertUnwindSafe(|| writer.write("x")));
    assert!(wrote.is_err());
    world.run(async move {
        let flushed = wait_for(writer.flush(), PATIENCE).await;
        let error = flushed.expect_err("it went nowhere");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    });
}

/// The completion of its send has woken the pump, which has not looked yet (C2).
#[test]
fn request_that_ties_with_a_send_ends_the_pump() {
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = StdUnixStream::pair().expect("sockets");
        let (_reader, mut writer) = UnixStream::from(ours).into_streams();
        theirs.set_nonblocking(true).expect("a socket");
        let sent = 8 << 20; // More than the kernel takes.
        writer.write(vec![7; sent]);
        let is_pump = |task: &coring::TaskRef| task.name() == "stream writer";
        let mut tasks = all_tasks().into_iter();
        let pump = tasks.find(is_pump).expect("it was written to");
        sleep(MS).await.expect("nobody cancels");
        let (mut got, mut buf) = (0, vec![0; 1 << 20]);
        while got < sent {
            match theirs.read(&mut buf) {
                Ok(n) => got += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    yield_now().await.expect("nobody cancels");
                }
            }
        }
        pump.cancel();
        until(|| pump.done()).await;
    });
}
