//! A request that tied with data stays in a receive that is being paused, and the wait after it, which
//! nobody has asked to stop, returns it (C1, C2).

mod common;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use common::{RECV, World, both, poll_here, start, wait_for, write};
use coring_runtime::{
    BufPool, Cqe, Lease, Multishot, Operation, Request, Scratch, create_task, is_cancelled, sim,
    submit_multishot,
};

const BUFFER_SELECT: u8 = 1 << 5;
const RECV_MULTISHOT: u16 = 1 << 1;
#[derive(Clone)]
struct Receive(RawFd, BufPool);

// SAFETY: the request points at nothing.
unsafe impl Operation for Receive {
    type Output = io::Result<Lease>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(RECV, self.0)
            .flags(BUFFER_SELECT)
            .buf_group(self.1.group())
            .ioprio(RECV_MULTISHOT)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        // SAFETY: the request named this pool.
        unsafe { self.1.lease(cqe) }
    }

    fn orphaned(self, cqe: Cqe) {
        drop(self.complete(cqe));
    }
}

fn receive(fd: RawFd) -> Multishot<Receive> {
    let pool = BufPool::current().expect("there are provided buffers");
    submit_multishot(Receive(fd, pool))
}

/// 16 bytes have come where 8 may wait, and were read before the kernel has heard of the pause.
async fn about_to_be_paused(receiver: RawFd, sender: RawFd) -> Multishot<Receive> {
    let mut receive = receive(receiver).bounded(8);
    write(sender, b"x").await.0.expect("it has room");
    assert_eq!(&receive.next().await.expect("bytes")[..], b"x");
    write(sender, &[1; 16]).await.0.expect("it has room");
    assert_eq!(&receive.next().await.expect("bytes")[..], [1; 16]);
    receive
}

#[test]
fn limit_that_ties_with_bytes_does_not_stop_the_read_after_it() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    let kernel = world.kernel.clone().expect("simulated");
    let limit = Duration::from_secs(1);
    world.run(async {
        let mut receive = about_to_be_paused(receiver, sender).await;
        let mut tie = write(sender, b"tie");
        let tied = wait_for(limit, receive.next());
        let (tied, ()) = both(tied, async {
            start(&mut tie).await; // Ahead of the cancel that pauses.
            kernel.advance(limit * 2);
        })
        .await;
        assert_eq!(&tied.expect("the result wins (C1)")[..], b"tie");
        tie.await.0.expect("it had room");
        write(sender, b"more").await.0.expect("it has room");
        let next = receive.next().await;
        assert_eq!(
            &next.expect("nobody has asked this one to stop")[..],
            b"more"
        );
    });
}

#[test]
fn request_that_ties_with_bytes_is_heard_once() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    world.run(async {
        let (give, take) = futures_channel::oneshot::channel();
        let reader = create_task(async move {
            let mut receive = about_to_be_paused(receiver, sender).await;
            give.send(()).expect("it listens");
            assert_eq!(&receive.next().await.expect("it has won")[..], b"tie");
            let mut heard = 0;
            for _ in 0..4 {
                match receive.next().await {
                    Ok(lease) => assert!(lease.starts_with(b"more")),
                    Err(error) => {
                        assert!(is_cancelled(&error), "{error}");
                        heard += 1;
                    }
                }
                if heard > 0 {
                    write(sender, b"more").await.0.expect("it has room");
                }
            }
            heard
        });
        take.await.expect("it comes so far");
        write(sender, b"tie").await.0.expect("it has room"); // Is told first.
        reader.cancel();
        assert_eq!(reader.await, 1, "C2: once");
    });
}

#[test]
fn limit_of_a_read_that_is_dropped_does_not_stop_the_one_after_it() {
    let world = World::sim();
    let (receiver, sender) = world.stream();
    let kernel: sim::Kernel = world.kernel.clone().expect("simulated");
    let limit = Duration::from_secs(1);
    world.run(async {
        let mut receive = about_to_be_paused(receiver, sender).await;
        let mut tie = write(sender, b"tie");
        {
            let mut read = Box::pin(wait_for(limit, receive.next()));
            assert!(poll_here(&mut read).await.is_pending());
            start(&mut tie).await;
            kernel.advance(limit * 2);
            tie.await.0.expect("it has room");
            // Its limit has passed, and nobody looks any more.
        }
        assert_eq!(&receive.next().await.expect("bytes")[..], b"tie");
        write(sender, b"more").await.0.expect("it has room");
        let next = receive.next().await;
        assert_eq!(
            &next.expect("nobody has asked this one to stop")[..],
            b"more"
        );
    });
}
