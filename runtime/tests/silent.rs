//! Requests of which the kernel says nothing when they succeed: the result is known all the same, an
//! error is told, and the loop does not come back for what nobody waits for.

mod common;

use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::task::Poll;
use std::time::Duration;

use common::{RECV, SEND, World, nop};
use coring_runtime::{
    BufResult, Cqe, Op, Operation, Request, Scratch, Stats, Timer, create_task, is_cancelled,
    submit,
};

/// A send that does all at once, silently, or fails.
struct SendNow(RawFd, Box<[u8]>);

// SAFETY: the buffer is heap memory that the operation owns.
unsafe impl Operation for SendNow {
    type Output = BufResult<usize, Box<[u8]>>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let len = self.1.len();
        Request::new(SEND, self.0)
            .addr(self.1.as_ptr())
            .len(len as u32)
            .op_flags((libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32)
            .silent(len as i32)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        BufResult(cqe.result().map(|n| n as usize), self.1)
    }

    fn orphaned(self, _: Cqe) {}
}

fn send(fd: RawFd, bytes: &[u8]) -> Op<SendNow> {
    submit(SendNow(fd, bytes.into()))
}

/// A receive into a buffer.
struct Recv(RawFd, Vec<u8>);

// SAFETY: the buffer is heap memory that the operation owns.
unsafe impl Operation for Recv {
    type Output = io::Result<Vec<u8>>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        let (addr, len) = (self.1.as_mut_ptr(), self.1.capacity() as u32);
        Request::new(RECV, self.0).addr(addr).len(len)
    }

    fn complete(mut self, cqe: Cqe) -> Self::Output {
        let n = cqe.result()?;
        // SAFETY: the kernel wrote so many bytes, within the capacity.
        unsafe { self.1.set_len(n as usize) };
        Ok(self.1)
    }

    fn orphaned(self, _: Cqe) {}
}

async fn recv(fd: RawFd, capacity: usize) -> Vec<u8> {
    submit(Recv(fd, Vec::with_capacity(capacity)))
        .await
        .expect("bytes")
}

async fn start<O: Operation>(op: &mut Op<O>) {
    poll_fn(|cx| {
        op.start(cx);
        Poll::Ready(())
    })
    .await;
}

/// Counts the polls of a task that has started `op` in one of the two ways, up to `until`.
async fn polls_until(mut op: Op<SendNow>, quietly: bool, until: Duration) -> u32 {
    let mut polls = 0;
    let mut until = std::pin::pin!(Timer::after(until));
    poll_fn(|cx| {
        polls += 1;
        if quietly {
            op.start_quietly(cx);
        } else {
            op.start(cx);
        }
        until.as_mut().poll(cx).map(drop)
    })
    .await;
    assert!(op.await.0.is_ok());
    polls
}

/// More than a socket or pipe takes at once.
const TOO_MUCH: usize = if cfg!(miri) { 70_000 } else { 4 << 20 };

each_driver! {
    fn silent_success_gives_what_it_comes_to(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let completions = Stats::current().completions;
            for n in [1, 10, 1_000] {
                let BufResult(sent, back) = send(sender, &vec![n as u8; n]).await;
                assert_eq!((sent.expect("there is room"), back.len()), (n, n));
            }
            assert_eq!(Stats::current().completions, completions, "the kernel said nothing");
            assert_eq!(recv(receiver, 2_000).await.len(), 1_011);
        });
    }

    fn silent_failure_is_told(world) {
        let (receiver, sender) = world.stream();
        match &world.kernel {
            Some(kernel) => kernel.script(SEND, coring_runtime::sim::Script::Result(-libc::EPIPE)),
            None => world.close(receiver),
        }
        world.run(async {
            let BufResult(sent, back) = send(sender, b"nobody").await;
            assert_eq!(sent.expect_err("nobody reads").raw_os_error(), Some(libc::EPIPE));
            assert_eq!(&back[..], b"nobody");
        });
    }

    /// Less than all is no success: so much is said.
    fn silent_send_without_room_says_what_went(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let bytes: Vec<u8> = (0..TOO_MUCH).map(|i| i as u8).collect();
            let BufResult(sent, bytes) = send(sender, &bytes).await;
            let n = sent.expect("there was some room");
            assert!(n > 0 && n < TOO_MUCH, "{n}");
            let BufResult(none, _) = send(sender, b"more").await;
            assert_eq!(none.expect_err("it is full").kind(), io::ErrorKind::WouldBlock);
            let mut all = Vec::new();
            while all.len() < n {
                all.extend(recv(receiver, TOO_MUCH).await);
            }
            assert!(all == bytes[..n]);
        });
    }

    /// One enter has the send and the wait for the answer.
    fn loop_sleeps_on_after_what_nobody_waits_for(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let enters = Stats::current().enters;
            for _ in 0..10 {
                let mut op = send(sender, b"ping");
                start(&mut op).await;
                assert_eq!(recv(receiver, 9).await, b"ping");
                assert_eq!(op.await.0.expect("it is sent"), 4);
            }
            let enters = Stats::current().enters - enters;
            assert!(enters <= 21, "{enters} for ten messages");
        });
    }

    fn success_wakes_who_has_started_it_unless_quietly(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            for (quietly, polls) in [(false, 3), (true, 2)] {
                let task = create_task(polls_until(send(sender, b"a"), quietly, Duration::from_millis(20)));
                assert_eq!(recv(receiver, 9).await, b"a");
                assert_eq!(task.await, polls, "{quietly}");
            }
        });
    }

    /// With nothing else to do the loop does not sleep before it has told who waits.
    fn awaited_silent_operation_is_told_at_once(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let task = create_task(async move { recv(receiver, 9).await });
            for started in [false, true] {
                let mut op = send(sender, b"a");
                if started {
                    start(&mut op).await;
                }
                assert_eq!(op.await.0.expect("it is sent"), 1);
            }
            // It may have come in one piece or in two.
            assert_eq!(task.await[0], b'a');
            let _ = nop().await;
        });
    }

    fn dropped_silent_operation_keeps_its_payload_until_it_was_sent(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let mut op = send(sender, b"dropped");
            start(&mut op).await;
            drop(op);
            assert_eq!(recv(receiver, 99).await, b"dropped");
            drop(send(sender, b"never started"));
            let mut op = send(sender, b"polled");
            assert!(poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut op).poll(cx))).await.is_pending());
            drop(op);
            assert_eq!(recv(receiver, 99).await, b"polled");
        });
    }

    /// What went with an enter is sent, so that is its result; the request is for the next await (C1).
    fn request_to_stop_does_not_undo_what_is_sent(world) {
        let (receiver, sender) = world.stream();
        world.run(async {
            let mut task = create_task(async move {
                let mut op = send(sender, b"sent");
                start(&mut op).await;
                Timer::after(Duration::ZERO).await.expect("nobody asked yet");
                let sent = op.await.0;
                (sent, Timer::after(Duration::from_secs(1)).await)
            });
            Timer::after(Duration::ZERO).await.expect("nobody asks");
            task.cancel();
            let (sent, slept) = (&mut task).await;
            match sent {
                Ok(n) => {
                    assert_eq!(n, 4);
                    assert!(is_cancelled(&slept.expect_err("it was asked to stop")));
                    assert_eq!(recv(receiver, 9).await, b"sent");
                }
                Err(error) => assert!(is_cancelled(&error), "{error}"),
            }
        });
    }
}

/// A completion that the kernel had no memory to keep may have been that of a failure.
#[test]
fn lost_completion_is_a_failure_of_those_that_it_may_have_been_of() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    let kernel = world.kernel.clone().expect("simulated");
    world.run(async {
        kernel.fail_enter(libc::EBADR, 1);
        let BufResult(sent, _) = send(sender, b"sent").await;
        assert_eq!(
            sent.expect_err("it is not known").raw_os_error(),
            Some(libc::EIO)
        );
        assert_eq!(recv(receiver, 9).await, b"sent");
        // What was lost earlier was none of theirs.
        kernel.fail_enter(libc::EBADR, 1);
        nop().await.expect("it completes");
        assert_eq!(send(sender, b"more").await.0.expect("there is room"), 4);
        assert_eq!(recv(receiver, 9).await, b"more");
    });
}

/// Nothing may come between a silent request and its enter.
#[test]
fn requests_that_others_would_wait_for_are_refused() {
    // Alone: a panic's backtrace has descriptors open for a while, which others would count.
    let _world = World::sim();
    for flags in [1 << 1, 1 << 2, 1 << 3] {
        let refused = std::panic::catch_unwind(|| Request::new(SEND, -1).flags(flags));
        assert!(refused.is_err(), "{flags}");
    }
}

/// TASKRUN may be up with nothing behind it: nobody waits for that to change.
#[test]
fn claim_of_more_completions_holds_nothing_up() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    let kernel = world.kernel.clone().expect("simulated");
    kernel.claim_more();
    world.run(async {
        assert_eq!(send(sender, b"sent").await.0.expect("there is room"), 4);
        assert_eq!(recv(receiver, 9).await, b"sent");
        let enters = Stats::current().enters;
        Timer::after(Duration::from_secs(1))
            .await
            .expect("nobody cancels");
        let enters = Stats::current().enters - enters;
        assert!(enters < 10, "{enters} enters for a sleep");
    });
}

#[test]
fn enters_that_take_nothing_leave_it_queued() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    let kernel = world.kernel.clone().expect("simulated");
    world.run(async {
        for refused in 0..4 {
            kernel.refuse_enters(refused);
            let BufResult(sent, _) = send(sender, b"late").await;
            assert_eq!(sent.expect("in the end"), 4);
            assert_eq!(recv(receiver, 9).await, b"late");
        }
        kernel.fail_enter(libc::EINTR, 1);
        assert_eq!(send(sender, b"late").await.0.expect("in the end"), 4);
        assert_eq!(recv(receiver, 9).await, b"late");
    });
}
