//! What becomes of an operation whose future goes: R1, R2, R5, R6 and R7.

mod common;

use std::time::Duration;

use common::*;
use coring_runtime::*;

fn tracked_read(fd: i32, drops: &Drops) -> Op<Read<Tracked>> {
    submit(Read(fd, Tracked::new(64, drops)))
}

each_driver! {
    fn r1_read_whose_future_moves_in_flight_lands_in_its_buffer(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let mut op = read(reader, 8);
            start(&mut op).await;
            // To the heap, to another place, back to the stack: the kernel writes all the same.
            let moved = Box::new(op);
            let several = vec![*moved];
            yield_now().await.expect("nobody cancels");
            let op = several.into_iter().next().expect("it is in there");
            assert_eq!(write(writer, b"abc").await.0.expect("open"), 3);
            let BufResult(n, buf) = op.await;
            assert_eq!(n.expect("open"), 3);
            assert_eq!(&buf[..3], b"abc");
        });
    }

    fn r2_read_dropped_before_it_starts_frees_its_buffer_at_once(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        world.run(async {
            drop(tracked_read(reader, &drops));
            assert_eq!(drops.get(), 1);
        });
    }

    fn r2_read_dropped_before_its_submission_keeps_its_buffer_until_the_completion(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = tracked_read(reader, &drops);
            start(&mut op).await;
            drop(op); // Queued, and the kernel has not seen it.
            assert_eq!(drops.get(), 0, "R2: freed before the final completion");
        });
        quiesce(&mut runner);
        assert_eq!(drops.get(), 1);
        assert_eq!(runner.stats().orphans, 1);
        world.finish(runner);
    }

    fn r2_read_dropped_in_flight_keeps_its_buffer_until_the_completion(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = tracked_read(reader, &drops);
            start(&mut op).await;
            for _ in 0..3 {
                yield_now().await.expect("nobody cancels");
            }
            drop(op);
            assert_eq!(drops.get(), 0, "R2: freed before the final completion");
        });
        quiesce(&mut runner);
        assert_eq!(drops.get(), 1);
        assert_eq!(runner.stats().orphans, 1);
        world.finish(runner);
    }

    fn r2_read_dropped_after_its_completion_frees_its_buffer(world) {
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        let mut op = tracked_read(reader, &drops);
        runner.run(async {
            start(&mut op).await;
            assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
        });
        quiesce(&mut runner);
        assert_eq!(runner.stats().slots, 1, "its completion waits to be fetched");
        assert_eq!(drops.get(), 0);
        drop(op);
        assert_eq!(drops.get(), 1);
        assert_eq!(runner.stats().slots, 0);
        world.finish(runner);
    }

    fn r2_nop_dropped_at_each_moment_leaves_nothing(world) {
        let mut runner = world.runner();
        runner.run(async {
            drop(nop());
            let mut queued = nop();
            start(&mut queued).await;
            drop(queued);
            let mut completed = nop();
            start(&mut completed).await;
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            yield_now().await.expect("nobody cancels");
            drop(completed);
        });
        quiesce(&mut runner);
        assert_eq!(runner.stats().orphans, 2);
        world.finish(runner);
    }

    fn r2_future_dropped_outside_of_any_run_keeps_its_buffer_until_the_completion(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        let mut op = tracked_read(reader, &drops);
        runner.run(start(&mut op));
        drop(op);
        assert_eq!(drops.get(), 0, "R2: freed before the final completion");
        quiesce(&mut runner);
        assert_eq!(drops.get(), 1);
        world.finish(runner);
    }

    fn r7_descriptor_closed_under_a_read_neither_ends_nor_breaks_it(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let mut op = read(reader, 4);
            start(&mut op).await;
            yield_now().await.expect("nobody cancels");
            // close(2) cancels nothing: what is in flight on the pipe goes on.
            let closed = submit(Raw(Request::new(CLOSE, reader))).await.0;
            assert_eq!(closed, 0);
            world.forget(reader);
            assert_eq!(write(writer, b"late").await.0.expect("somebody reads"), 4);
            let BufResult(n, buf) = op.await;
            assert_eq!((n.expect("it goes on"), &buf[..]), (4, &b"late"[..]));
        });
    }
}

/// Where only a script can make the kernel do it.
mod scripted {
    use coring_runtime::sim::Script;

    use super::*;

    const YIELDED: i32 = SCRIPTED_FD;

    #[test]
    fn r6_accept_abandoned_then_completed_gives_its_descriptor_to_be_closed() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        // The cancel comes too late: the connection is there.
        kernel.script(ACCEPT, Script::WhenCancelled(YIELDED));
        let accept = Yields::accept(9);
        let fates = accept.fates.clone();
        world.run(async {
            start(&mut submit(accept)).await;
        });
        assert_eq!(*fates.borrow(), [Fate::Orphaned(YIELDED)]);
    }

    #[test]
    fn r6_accept_completed_then_abandoned_gives_its_descriptor_to_be_closed() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        kernel.script(ACCEPT, Script::Result(YIELDED));
        let accept = Yields::accept(9);
        let fates = accept.fates.clone();
        world.run(async {
            let mut op = submit(accept);
            start(&mut op).await;
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            drop(op);
            assert_eq!(*fates.borrow(), [Fate::Orphaned(YIELDED)]);
        });
    }

    #[test]
    fn r6_uncancellable_accept_is_waited_for_at_the_end_and_its_descriptor_closed() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let late = Script::Uncancellable(Duration::from_secs(1), YIELDED);
        kernel.script(ACCEPT, late);
        let accept = Yields::accept(9);
        let fates = accept.fates.clone();
        let mut runner = world.runner();
        runner.run(async { start(&mut submit(accept)).await });
        drop(runner);
        assert_eq!(*fates.borrow(), [Fate::Orphaned(YIELDED)]);
    }

    #[test]
    fn r6_multishot_dropped_gives_up_what_it_had_queued_and_what_comes_after() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let shots = vec![YIELDED, YIELDED + 1, YIELDED + 2];
        kernel.script(ACCEPT, Script::Shots(shots, None));
        let accept = Yields::accept_multi(9);
        let fates = accept.fates.clone();
        world.run(async {
            let mut accepts = submit_multishot(accept);
            let first = accepts.next().await.expect("scripted");
            assert_eq!(first.number(), YIELDED);
            drop(accepts);
        });
        assert_eq!(
            *fates.borrow(),
            [
                Fate::Completed(YIELDED),
                Fate::Orphaned(YIELDED + 1),
                Fate::Orphaned(YIELDED + 2),
                Fate::Orphaned(-libc::ECANCELED),
            ]
        );
    }

    #[test]
    fn r6_multishot_ended_by_the_kernel_then_dropped_gives_up_what_it_had_queued() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let shots = Script::Shots(vec![YIELDED], Some(-libc::ENFILE));
        kernel.script(ACCEPT, shots);
        let accept = Yields::accept_multi(9);
        let fates = accept.fates.clone();
        world.run(async {
            let mut accepts = submit_multishot(accept);
            {
                let mut next = std::pin::pin!(accepts.next());
                start(&mut next).await;
            }
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            drop(accepts);
        });
        assert_eq!(
            *fates.borrow(),
            [Fate::Orphaned(YIELDED), Fate::Orphaned(-libc::ENFILE)]
        );
    }

    #[test]
    fn r5_zero_copy_send_gives_its_buffer_back_with_the_notification() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let span = Duration::from_millis(10);
        kernel.script(SEND_ZC, Script::Notified(5, span));
        world.run(async {
            let begin = now();
            let BufResult(n, buf) = submit(SendZc(b"hello".to_vec())).await;
            assert_eq!((n.expect("scripted"), buf.len()), (5, 5));
            assert_eq!(now() - begin, span, "R5: it came before the notification");
        });
    }

    #[test]
    fn r5_zero_copy_send_dropped_after_its_result_keeps_its_buffer_until_the_notification() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        kernel.script(SEND_ZC, Script::Notified(5, Duration::from_millis(10)));
        let drops = Drops::default();
        world.run(async {
            let mut op = submit(SendZc(Tracked::new(5, &drops)));
            start(&mut op).await;
            Timer::after(Duration::from_millis(1))
                .await
                .expect("nobody cancels");
            drop(op);
            Timer::after(Duration::from_millis(8))
                .await
                .expect("nobody cancels");
            assert_eq!(drops.get(), 0, "R5: freed before the notification");
            Timer::after(Duration::from_millis(2))
                .await
                .expect("nobody cancels");
            assert_eq!(drops.get(), 1);
        });
    }

    /// Its limit is over when it is ended by it: it starts again, with its buffer back.
    #[test]
    fn r5_zero_copy_send_that_a_limit_ends_which_is_over_starts_again_after_the_notification() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let span = Duration::from_millis(10);
        kernel.script(SEND_ZC, Script::Notified(-libc::ECANCELED, span));
        kernel.script(SEND_ZC, Script::Notified(5, span));
        world.run(async {
            let begin = now();
            let mut op = submit(SendZc(b"hello".to_vec()));
            within(Duration::from_secs(1), start(&mut op)).await;
            let BufResult(n, buf) = op.await;
            assert_eq!((n.expect("nobody asked it to stop"), buf.len()), (5, 5));
            assert_eq!(now() - begin, 2 * span);
        });
    }

    /// The runtime asks again for what does not end; the result that came first stays.
    #[test]
    fn r5_zero_copy_send_that_outlives_its_runtime_keeps_its_result() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        kernel.script(SEND_ZC, Script::Notified(5, Duration::from_secs(1)));
        let mut runner = world.runner();
        let mut op = submit(SendZc(b"hello".to_vec()));
        runner.run(async {
            start(&mut op).await;
            Timer::after(Duration::from_millis(1))
                .await
                .expect("nobody cancels");
        });
        drop(runner);
        let std::task::Poll::Ready(BufResult(n, _)) = poll_once(&mut op) else {
            panic!("R9: it has ended with its runtime");
        };
        assert_eq!(n.expect("C1: it had completed"), 5);
    }

    /// Sends without a copy, as far as a script goes.
    struct SendZc<B>(B);

    // SAFETY: the buffer's memory is stable (`IoBuf`) and owned by the operation.
    unsafe impl<B: IoBuf> Operation for SendZc<B> {
        type Output = BufResult<usize, B>;

        fn request(&mut self, _: &mut Scratch) -> Request {
            let len = transfer_len(self.0.bytes_init());
            Request::new(SEND_ZC, 9).addr(self.0.stable_ptr()).len(len)
        }

        fn complete(self, cqe: Cqe) -> Self::Output {
            BufResult(cqe.result().map(|n| n as usize), self.0)
        }

        fn orphaned(self, _: Cqe) {}
    }
}

/// With real descriptors, which the world counts at the end.
#[cfg(not(miri))]
mod real {
    const ENDED: i32 = -libc::ECANCELED;

    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("loopback is there")
    }

    fn connect(listener: &TcpListener) -> TcpStream {
        TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens")
    }

    #[test]
    fn r6_socket_abandoned_then_completed_closes_its_descriptor() {
        let world = World::uring();
        let socket = Yields::socket();
        let fates = socket.fates.clone();
        // Made in the enter that takes it; the cancel behind it finds nothing.
        world.run(async { start(&mut submit(socket)).await });
        assert!(
            matches!(fates.borrow()[..], [Fate::Orphaned(0..)]),
            "{fates:?}"
        );
    }

    #[test]
    fn r6_socket_completed_then_abandoned_closes_its_descriptor() {
        let world = World::uring();
        let socket = Yields::socket();
        let fates = socket.fates.clone();
        world.run(async {
            let mut op = submit(socket);
            start(&mut op).await;
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            drop(op);
            assert!(
                matches!(fates.borrow()[..], [Fate::Orphaned(0..)]),
                "{fates:?}"
            );
        });
    }

    #[test]
    fn r6_socket_dropped_before_it_starts_makes_none() {
        let world = World::uring();
        let socket = Yields::socket();
        let fates = socket.fates.clone();
        world.run(async { drop(submit(socket)) });
        assert!(fates.borrow().is_empty());
    }

    #[test]
    fn r6_accept_dropped_in_flight_leaves_the_connection_to_the_next_one() {
        let world = World::uring();
        let listener = listener();
        world.run(async {
            let mut abandoned = submit(Yields::accept(listener.as_raw_fd()));
            start(&mut abandoned).await;
            yield_now().await.expect("nobody cancels");
            let mut client = connect(&listener);
            drop(abandoned); // It may have been taken already: then the client sees the end.
            let mut client_two = connect(&listener);
            let accepted = submit(Yields::accept(listener.as_raw_fd())).await;
            drop(accepted.expect("a connection waits"));
            let ends = [client.read(&mut [0]), client_two.peek_none()];
            assert!(
                ends.iter().any(Result::is_ok),
                "one of them was served: {ends:?}"
            );
        });
    }

    trait PeekNone {
        fn peek_none(&mut self) -> std::io::Result<usize>;
    }

    impl PeekNone for TcpStream {
        fn peek_none(&mut self) -> std::io::Result<usize> {
            self.set_nonblocking(true)?;
            self.peek(&mut [0])
        }
    }

    #[test]
    fn r6_multishot_accept_whose_waiter_is_gone_serves_the_next_wait() {
        let world = World::uring();
        let listener = listener();
        let accept = Yields::accept_multi(listener.as_raw_fd());
        let fates = accept.fates.clone();
        world.run(async {
            let mut accepts = submit_multishot(accept);
            {
                let mut next = std::pin::pin!(accepts.next());
                start(&mut next).await;
            } // Nobody waits any more; it stays armed.
            let client = connect(&listener);
            let arrived = submit(Raw(Request::new(NOP, -1))).await;
            assert_eq!(arrived.0, 0);
            assert!(fates.borrow().is_empty());
            let stream = accepts.next().await.expect("it was taken for us");
            drop(stream);
            drop(client);
        });
    }

    #[test]
    fn r6_multishot_accept_dropped_closes_what_it_had_taken_and_the_client_sees_fin() {
        let world = World::uring();
        let listener = listener();
        let accept = Yields::accept_multi(listener.as_raw_fd());
        let fates = accept.fates.clone();
        let mut runner = world.runner();
        let mut accepts = submit_multishot(accept);
        runner.run(async {
            let mut next = std::pin::pin!(accepts.next());
            start(&mut next).await;
        });
        let mut client = connect(&listener);
        // Until it is taken: then its completion waits in the slot.
        let before = runner.stats().completions;
        while runner.stats().completions == before {
            runner.run(async { yield_now().await.expect("nobody cancels") });
        }
        drop(accepts);
        quiesce(&mut runner);
        assert_eq!(client.read(&mut [0]).expect("FIN"), 0);
        assert!(
            matches!(
                fates.borrow()[..],
                [Fate::Orphaned(0..), Fate::Orphaned(ENDED)]
            ),
            "{fates:?}"
        );
        world.finish(runner);
    }
}
