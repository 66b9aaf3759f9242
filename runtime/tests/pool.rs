//! Provided buffers: what arrives is received into them, nobody writes to what is leased, and every
//! one comes back.

mod common;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use common::{CLOSE, RECV, World, both, nop, poll_here, quiesce, start, wait_for, write};
use coring_runtime::{
    BufPool, BufferCounts, Builder, Cqe, Lease, Multishot, Operation, Request, Runner, Scratch,
    Stats, create_task, is_cancelled, submit, submit_multishot,
};

const RECV_MULTISHOT: u16 = 1 << 1;
const BUFFER_SELECT: u8 = 1 << 5;

/// Receives into provided buffers.
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

/// Closes a descriptor of the simulated kernel.
struct Close(RawFd);

// SAFETY: the request points at nothing.
unsafe impl Operation for Close {
    type Output = io::Result<()>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(CLOSE, self.0)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result().map(drop)
    }

    fn orphaned(self, _: Cqe) {}
}

/// What comes last, where that must not wait: for want of anything that could hear of it, the limit
/// ends it.
async fn last(receive: &mut Multishot<Receive>) -> Option<io::Result<Lease>> {
    let last = async { Ok(receive.last().await) };
    let last = wait_for(Duration::from_secs(20), last).await;
    last.expect("it waits for a loop that does not turn")
}

fn receive(fd: RawFd) -> Multishot<Receive> {
    let pool = BufPool::current().expect("there are provided buffers");
    submit_multishot(Receive(fd, pool))
}

/// The same, into buffers that are used whole.
fn receive_messages(fd: RawFd) -> Multishot<Receive> {
    let pool = BufPool::whole().expect("there are provided buffers");
    submit_multishot(Receive(fd, pool))
}

fn small(builder: Builder) -> Builder {
    builder.buffer_bytes(1 << 10).buffer_count(2, 64)
}

async fn send(fd: RawFd, bytes: &[u8]) {
    assert_eq!(
        write(fd, bytes).await.0.expect("there is room"),
        bytes.len()
    );
}

fn counts() -> BufferCounts {
    Stats::current().buffers
}

fn is_out_of_buffers(result: &io::Result<Lease>) -> bool {
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
    errno == Some(libc::ENOBUFS)
}

/// The numbers of one connection, one after the other, in chunks of so many.
fn pattern(connection: usize, from: usize, len: usize) -> Vec<u8> {
    let byte = |i: usize| (i * 7 + connection * 31) as u8;
    (from..from + len).map(byte).collect()
}

/// A receive that is armed, and has something that nobody has taken.
async fn receive_early(receiver: RawFd, sender: RawFd) -> Multishot<Receive> {
    let mut receive = receive(receiver);
    start(&mut Box::pin(receive.next())).await;
    send(sender, b"early").await;
    nop().await.expect("it has come");
    receive
}

each_driver! {
    fn lease_has_what_came_and_gives_its_buffer_back(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            send(sender, b"hello world").await;
            let mut lease = receive.next().await.expect("bytes");
            assert_eq!(&lease[..], b"hello world");
            let hello = lease.split_to(5);
            lease.advance(1);
            lease.truncate(3);
            assert_eq!((&hello[..], &lease[..]), (&b"hello"[..], &b"wor"[..]));
            assert_eq!(counts().leases, 2);
            drop(hello);
            drop(lease);
            assert_eq!(counts().leases, 0);
        });
        world.finish(runner);
    }

    /// Many leases at once, over several times of what the pool began with.
    fn nobody_writes_to_what_is_leased(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            let mut leases = Vec::new();
            let mut sent = 0;
            while sent < 4_000 {
                send(sender, &pattern(0, sent, 100)).await;
                sent += 100;
                let mut received = 0;
                while received < 100 {
                    let lease = receive.next().await.expect("bytes");
                    received += lease.len();
                    leases.push(lease);
                }
            }
            assert!(counts().total > 2, "it has grown: {:?}", counts());
            let all: Vec<u8> = leases.iter().flat_map(|lease| lease.to_vec()).collect();
            assert_eq!(all, pattern(0, 0, sent));
        });
        world.finish(runner);
    }

    fn pool_grows_with_what_is_leased_and_shrinks_again(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            let mut leases = Vec::new();
            for _ in 0..20 {
                send(sender, &[7; 1_000]).await;
                let mut received = 0;
                while received < 1_000 {
                    leases.push(receive.next().await.expect("bytes"));
                    received += leases.last().map_or(0, |lease| lease.len());
                }
            }
            let most = counts();
            assert!(most.total >= 20, "{most:?}");
            drop(leases);
            for _ in 0..100 {
                send(sender, &[7; 1_000]).await;
                let mut received = 0;
                while received < 1_000 {
                    received += receive.next().await.expect("bytes").len();
                }
            }
            assert!(counts().total <= 3, "{:?}", counts());
        });
        world.finish(runner);
    }

    /// Where in a buffer the bytes of a completion are follows from the order of completions, not
    /// from the order in which they are looked at.
    fn connections_share_buffers_and_are_read_in_any_order(world) {
        let streams: Vec<_> = (0..3).map(|_| world.stream()).collect();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receives: Vec<_> = streams.iter().map(|&(fd, _)| receive(fd)).collect();
            for (i, receive) in receives.iter_mut().enumerate() {
                send(streams[i].1, &pattern(i, 0, 10)).await;
                assert_eq!(&receive.next().await.expect("bytes")[..], pattern(i, 0, 10));
            }
            for round in 1..20 {
                for (i, &(_, sender)) in streams.iter().enumerate() {
                    send(sender, &pattern(i, round * 10, 10)).await;
                }
            }
            for (i, receive) in receives.iter_mut().enumerate().rev() {
                let mut all = Vec::new();
                while all.len() < 190 {
                    all.extend_from_slice(&receive.next().await.expect("bytes"));
                }
                assert_eq!(all, pattern(i, 10, 190));
            }
        });
        world.finish(runner);
    }

    fn bytes_outlive_pool_and_runtime_on_any_thread(world) {
        let (receiver, sender) = world.stream();
        let mut runner = world.runner();
        let (kept, lease, small) = runner.run(async {
            let mut receive = receive(receiver);
            let mut next = async |n: usize| {
                send(sender, &pattern(1, 0, n)).await;
                let mut lease = receive.next().await.expect("bytes");
                assert_eq!(lease.len(), n);
                lease.split_to(n)
            };
            (next(5_000).await.into_bytes(), next(5_000).await, next(9).await.into_bytes())
        });
        quiesce(&mut runner);
        assert_eq!(runner.stats().buffers.leases, 1);
        drop(runner);
        assert_eq!(&lease[..], pattern(1, 0, 5_000));
        drop(lease);
        std::thread::spawn(move || {
            assert_eq!((&kept[..], &small[..]), (&pattern(1, 0, 5_000)[..], &pattern(1, 0, 9)[..]));
        })
        .join()
        .expect("the bytes are there");
    }

    /// A buffer of which bytes are kept is not filled again.
    fn detached_bytes_stay_as_they_are(world) {
        let (receiver, sender) = world.stream();
        let builder = world.builder().buffer_bytes(4_096).buffer_count(2, 3);
        let mut runner = builder.build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            let mut kept = Vec::new();
            for round in 0..10 {
                send(sender, &pattern(round, 0, 4_096)).await;
                let mut all = 0;
                while all < 4_096 {
                    let lease = receive.next().await.expect("bytes");
                    let from = all;
                    all += lease.len();
                    kept.push((round, from, lease.into_bytes()));
                }
            }
            for (round, from, bytes) in kept {
                assert_eq!(&bytes[..], pattern(round, from, bytes.len()));
            }
        });
        world.finish(runner);
    }

    fn dropped_receive_gives_back_what_it_had_and_what_still_comes(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            send(sender, b"one").await;
            assert_eq!(&receive.next().await.expect("bytes")[..], b"one");
            send(sender, b"two").await;
            send(sender, b"three").await; // Queued with the operation.
            drop(receive);
            send(sender, b"four").await;
        });
        world.finish(runner);
    }

    /// Past its bound the receive is paused; what has come is read, and then it goes on.
    fn bounded_receive_pauses_and_loses_nothing(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver).bounded(300);
            send(sender, &pattern(0, 0, 100)).await;
            let mut all = receive.next().await.expect("bytes").to_vec();
            let mut sent = 100;
            while Stats::current().in_flight > 0 {
                send(sender, &pattern(0, sent, 100)).await;
                sent += 100;
                assert!(sent < 5_000, "it is not paused");
            }
            let held = counts().leases;
            for _ in 0..5 {
                send(sender, &pattern(0, sent, 100)).await;
                sent += 100;
            }
            assert_eq!(counts().leases, held, "the kernel goes on");
            while all.len() < sent {
                all.extend_from_slice(&receive.next().await.expect("bytes"));
            }
            assert_eq!(all, pattern(0, 0, sent));
        });
        world.finish(runner);
    }

    fn receive_without_a_buffer_ends_and_starts_again_with_one(world) {
        let (receiver, sender) = world.stream();
        let builder = world.builder().buffer_bytes(1 << 10).buffer_count(1, 1);
        let mut runner = builder.build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            let mut leases = Vec::new();
            send(sender, &pattern(0, 0, 1_500)).await;
            let refused = loop {
                match receive.next().await {
                    Ok(lease) => leases.push(lease),
                    refused => break refused,
                }
            };
            assert!(is_out_of_buffers(&refused), "{refused:?}");
            assert!(!receive.is_armed());
            let pool = BufPool::current().expect("it is there");
            assert!(!pool.has_free() && pool.is_full());
            let mut all: Vec<u8> = leases.drain(..).flat_map(|lease| lease.to_vec()).collect();
            assert!(pool.has_free());
            while all.len() < 1_500 {
                all.extend_from_slice(&receive.next().await.expect("bytes"));
            }
            assert_eq!(all, pattern(0, 0, 1_500));
        });
        world.finish(runner);
    }

    fn finish_gives_what_had_come_and_leaves_the_rest(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut first = receive(receiver);
            send(sender, b"one").await;
            assert_eq!(&first.next().await.expect("bytes")[..], b"one");
            send(sender, b"two").await;
            let rest = first.finish().await;
            let rest: Vec<u8> = rest.into_iter().flat_map(|lease| lease.expect("bytes").to_vec()).collect();
            assert_eq!(rest, b"two");
            assert_eq!(Stats::current().in_flight, 0);
            send(sender, b"three").await;
            assert_eq!(&receive(receiver).next().await.expect("bytes")[..], b"three");
            assert!(receive(receiver).finish().await.is_empty(), "never started");
        });
        world.finish(runner);
    }

    /// The kernel takes no buffer for the end of a stream.
    fn end_of_the_stream_is_an_empty_lease(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        let mut first = runner.run(async {
            let mut receive = receive(receiver);
            send(sender, b"last words").await;
            assert_eq!(&receive.next().await.expect("bytes")[..], b"last words");
            receive
        });
        match &world.kernel {
            Some(_) => runner.run(async { submit(Close(sender)).await.expect("it is open") }),
            None => world.close(sender),
        }
        runner.run(async {
            for _ in 0..3 {
                assert!(first.next().await.expect("the end").is_empty());
            }
            drop(first);
        });
        world.finish(runner);
    }

    /// One that is not a multishot cannot say where its bytes are: they are not believed in.
    fn one_shot_gives_its_buffer_back(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            struct Once(Receive);
            // SAFETY: as that of `Receive`.
            unsafe impl Operation for Once {
                type Output = io::Result<Lease>;
                fn request(&mut self, scratch: &mut Scratch) -> Request {
                    self.0.request(scratch).ioprio(0)
                }
                fn complete(self, cqe: Cqe) -> Self::Output {
                    self.0.complete(cqe)
                }
                fn orphaned(self, cqe: Cqe) {
                    self.0.orphaned(cqe);
                }
            }
            send(sender, b"gone").await;
            let pool = BufPool::current().expect("there are provided buffers");
            let lease = submit(Once(Receive(receiver, pool))).await.expect("it completes");
            assert!(lease.is_empty());
            let mut receive = receive(receiver);
            send(sender, b"more").await;
            assert_eq!(&receive.next().await.expect("bytes")[..], b"more");
        });
        world.finish(runner);
    }

    /// A request names the buffers of one runtime; in another it finds none.
    fn pool_of_another_runtime_is_not_taken_for_ones_own(world) {
        let (receiver, sender) = world.stream();
        let kernel = coring_runtime::sim::Kernel::new();
        let mut other = Runner::builder().sim(&kernel).build().expect("a simulator");
        let foreign = other.run(async { BufPool::current().expect("there are provided buffers") });
        let mut runner = world.runner();
        runner.run(async {
            send(sender, b"here").await;
            let _own = BufPool::current().expect("there are provided buffers");
            let mut strange = submit_multishot(Receive(receiver, foreign));
            assert!(is_out_of_buffers(&strange.next().await));
            assert_eq!(&receive(receiver).next().await.expect("bytes")[..], b"here");
        });
        world.finish(runner);
    }

    fn r4_receive_that_is_ended_in_another_run_gives_what_had_come(world) {
        let (receiver, sender) = world.stream();
        let kernel = coring_runtime::sim::Kernel::new();
        let mut other = Runner::builder().sim(&kernel).build().expect("a simulator");
        let mut runner = world.runner();
        let mut receive = runner.run(receive_early(receiver, sender));
        other.run(async {
            let first = last(&mut receive).await.expect("it has come");
            assert_eq!(&first.expect("bytes")[..], b"early");
            assert!(last(&mut receive).await.is_none());
        });
        assert_eq!(runner.stats().slots, 0);
        world.finish(runner);
    }

    fn r4_receive_that_is_awaited_in_another_run_ends_with_one_error_and_is_armed_anew(world) {
        let (receiver, sender) = world.stream();
        let kernel = coring_runtime::sim::Kernel::new();
        let mut other = Runner::builder().sim(&kernel).build().expect("a simulator");
        let mut runner = world.runner();
        let mut receive = runner.run(receive_early(receiver, sender));
        other.run(async {
            assert_eq!(&receive.next().await.expect("it has come")[..], b"early");
            let error = receive.next().await.expect_err("it is another's").to_string();
            assert!(error.contains("outside of its runtime"), "{error}");
            assert!(!receive.is_armed());
        });
        assert_eq!(runner.stats().slots, 0);
        runner.run(async {
            send(sender, b"late").await;
            assert_eq!(&receive.next().await.expect("it is armed")[..], b"late");
            drop(receive);
        });
        world.finish(runner);
    }

    /// A limit reaches a wait for a receive that was paused meanwhile. What has come wins, and nobody
    /// who waits after that hears of the limit.
    fn limit_of_a_wait_is_not_told_to_those_behind_a_pause(world) {
        for dropped in [false, true] {
            let (receiver, sender) = world.stream();
            let mut runner = small(world.builder()).build().expect("a runner");
            runner.run(async {
                let mut receive = receive(receiver).bounded(300);
                let mut sent = 0;
                {
                    let limit = Duration::from_millis(200);
                    let mut wait = Box::pin(wait_for(limit, receive.next()));
                    assert!(poll_here(&mut wait).await.is_pending());
                    while sent == 0 || Stats::current().in_flight > 0 {
                        send(sender, &pattern(0, sent, 100)).await;
                        sent += 100;
                        assert!(sent < 5_000, "it is not paused");
                    }
                    world.pass(2 * limit);
                    nop().await.expect("nobody cancels"); // The loop looks at the clock.
                    if !dropped {
                        let first = wait.await.expect("it has come");
                        assert_eq!(first[..], pattern(0, 0, first.len()));
                        sent -= first.len();
                    }
                }
                while sent > 0 {
                    sent -= receive.next().await.expect("nobody cancels").len();
                }
            });
            world.finish(runner);
        }
    }

    /// However small they are, and with what is for bytes beside them.
    fn messages_have_buffers_of_their_own(world) {
        let (receiver, sender) = world.stream();
        let (byte_receiver, byte_sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut messages = receive_messages(receiver);
            let first = counts();
            assert_eq!((first.total, first.free), (2 * 16, 2 * 16));
            let mut bytes = receive(byte_receiver);
            assert_eq!(counts().total, 2 * 16 + 2, "those for bytes as well");
            let mut leases = Vec::new();
            for i in 0..if cfg!(miri) { 5 } else { 50 } {
                send(sender, &pattern(0, i, 10)).await;
                send(byte_sender, &pattern(1, i, 1)).await;
                let lease = match messages.next().await {
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => messages.next().await,
                    received => received,
                };
                leases.push((lease.expect("a message"), bytes.next().await.expect("a byte")));
                let BufferCounts { total, free, .. } = counts();
                assert_eq!(total - free, i + 1, "the bytes share one");
            }
            for (i, (message, byte)) in leases.iter().enumerate() {
                assert_eq!(message[..], pattern(0, i, 10));
                assert_eq!(byte[..], pattern(1, i, 1));
            }
            assert_eq!(counts().leases, 2 * leases.len());
        });
        world.finish(runner);
    }

    /// As large as the largest datagram, with the head that the kernel puts before it.
    fn message_of_64_kib_fits_into_one_buffer(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut messages = receive_messages(receiver);
            // Under Miri no more than past the part that is initialised.
            let sent = pattern(0, 0, if cfg!(miri) { 5_000 } else { 65_536 });
            send(sender, &sent).await;
            let lease = messages.next().await.expect("a message");
            assert!(lease[..] == sent, "{} bytes", lease.len());
            let kept = lease.into_bytes();
            assert_eq!(counts().leases, 0);
            send(sender, &pattern(1, 0, 100)).await;
            assert_eq!(messages.next().await.expect("a message")[..], pattern(1, 0, 100));
            assert!(kept == sent, "other bytes");
        });
        world.finish(runner);
    }

    /// One that nobody has fetched counts as one, whatever is in it.
    fn bound_of_messages_counts_messages(world) {
        let (receiver, sender) = world.stream();
        let mut runner = small(world.builder()).build().expect("a runner");
        runner.run(async {
            let mut messages = receive_messages(receiver).bounded(3);
            send(sender, &pattern(0, 0, 100)).await;
            drop(messages.next().await.expect("a message"));
            let mut sent = 0;
            while Stats::current().in_flight > 0 {
                sent += 1;
                assert!(sent < 50, "it is not paused");
                send(sender, &pattern(0, sent, 100)).await;
            }
            let held = counts().leases;
            assert!((4..=sent).contains(&held), "{held} of {sent}");
            send(sender, &pattern(0, sent + 1, 100)).await;
            assert_eq!(counts().leases, held, "the kernel goes on");
            let mut got = Vec::new();
            while got.len() < (sent + 1) * 100 {
                got.extend_from_slice(&messages.next().await.expect("a message"));
            }
            for (i, message) in got.chunks(100).enumerate() {
                assert_eq!(message, pattern(0, i + 1, 100));
            }
        });
        world.finish(runner);
    }

    /// Random sizes and orders; leases are held, dropped, split and kept at random.
    fn random_use_loses_no_byte_and_no_buffer(world) {
        for seed in 0..if cfg!(miri) { 1 } else { 60 } {
            let mut random = fastrand::Rng::with_seed(seed);
            let streams: Vec<_> = (0..random.usize(1..5)).map(|_| world.stream()).collect();
            let count = random.u16(1..4);
            let builder = world.builder().buffer_bytes(1 << 10).buffer_count(count, 40);
            let mut runner = builder.build().expect("a runner");
            runner.run(async {
                let mut connections: Vec<_> = streams
                    .iter()
                    .map(|&(fd, _)| match random.u8(..3) {
                        0 => receive_messages(fd).bounded(random.u64(0..10)),
                        _ => receive(fd).bounded(random.u64(0..2_000)),
                    })
                    .map(|receive| (receive, 0, 0))
                    .collect();
                let (mut held, mut kept) = (Vec::new(), Vec::new());
                for _ in 0..if cfg!(miri) { 25 } else { 200 } {
                    let i = random.usize(..streams.len());
                    let (receive, sent, seen) = &mut connections[i];
                    if random.bool() {
                        let n = random.usize(1..1_500);
                        if *sent - *seen + n < 8_000 {
                            send(streams[i].1, &pattern(i, *sent, n)).await;
                            *sent += n;
                        }
                    } else if seen < sent {
                        let mut lease = match receive.next().await {
                            Ok(lease) => lease,
                            Err(error) => {
                                assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                                held.clear();
                                continue;
                            }
                        };
                        let n = lease.len();
                        let part = lease.split_to(random.usize(..=n));
                        if random.u8(..4) == 0 {
                            kept.push((i, *seen, part.into_bytes()));
                        } else {
                            held.push((i, *seen, part));
                        }
                        held.push((i, *seen + n - lease.len(), lease));
                        *seen += n;
                    }
                    if random.u8(..20) == 0 {
                        held.truncate(held.len() / 2);
                    }
                    for (i, at, lease) in &held {
                        assert_eq!(&lease[..], pattern(*i, *at, lease.len()), "seed {seed}");
                    }
                }
                for (i, at, bytes) in &kept {
                    assert_eq!(&bytes[..], pattern(*i, *at, bytes.len()), "seed {seed}");
                }
            });
            world.finish(runner);
        }
    }
}

mod whole {
    //! As on kernels before 6.12: a buffer for each message.

    use super::*;

    fn world() -> World {
        let world = World::sim();
        world.kernel.as_ref().expect("simulated").whole_buffers();
        world
    }

    #[test]
    fn nobody_writes_to_what_is_leased() {
        bodies::nobody_writes_to_what_is_leased(&world());
    }

    /// As many more as they are smaller: the limit is one of memory.
    #[test]
    fn smaller_buffers_are_more() {
        let world = world();
        let (receiver, sender) = world.stream();
        let builder = world.builder().buffer_bytes(64 << 10).buffer_count(1, 2);
        let mut runner = builder.build().expect("a runner");
        runner.run(async {
            let mut receive = receive(receiver);
            let mut leases = Vec::new();
            for _ in 0..8 {
                send(sender, b"one").await;
                leases.push(receive.next().await.expect("bytes"));
            }
            assert_eq!(counts().total, 8);
        });
        world.finish(runner);
    }

    #[test]
    fn bounded_receive_pauses_and_loses_nothing() {
        bodies::bounded_receive_pauses_and_loses_nothing(&world());
    }

    #[test]
    fn random_use_loses_no_byte_and_no_buffer() {
        bodies::random_use_loses_no_byte_and_no_buffer(&world());
    }
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
    let kernel = world.kernel.clone().expect("simulated");
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
