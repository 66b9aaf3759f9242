//! The two queues, full, failing and overflowing: R3, R4, R8 and R11.

mod common;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use common::*;
use coring_runtime::*;

/// Ten thousand; a few where each costs a millisecond.
const MANY: usize = if cfg!(miri) { 100 } else { 10_000 };

fn narrow(world: &World) -> Runner {
    if let Some(kernel) = &world.kernel {
        kernel.sq_entries(8);
    }
    world
        .builder()
        .sq_entries(8)
        .cq_entries(16)
        .build()
        .expect("a driver")
}

/// All of them: each is polled once to start it, then in turn.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = Vec::new();
    let mut done = 0;
    poll_fn(|cx| {
        if outputs.is_empty() {
            for future in &mut futures {
                outputs.push(match Pin::new(future).poll(cx) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                });
            }
        }
        while done < futures.len() {
            if outputs[done].is_none() {
                match Pin::new(&mut futures[done]).poll(cx) {
                    Poll::Ready(output) => outputs[done] = Some(output),
                    Poll::Pending => return Poll::Pending,
                }
            }
            done += 1;
        }
        Poll::Ready(())
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Starts them all in one turn.
async fn start_all<F: Future + Unpin>(futures: &mut [F]) {
    for future in futures {
        start(future).await;
    }
}

each_driver! {
    fn r8_many_reads_dropped_in_one_turn_with_an_sq_of_8_all_end(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = narrow(world);
        runner.run(async {
            let mut reads: Vec<_> = (0..MANY)
                .map(|_| submit(Read(reader, Tracked::new(1, &drops))))
                .collect();
            start_all(&mut reads).await;
            drop(reads);
        });
        quiesce(&mut runner);
        assert_eq!(drops.get(), MANY);
        assert_eq!(runner.stats().orphans, MANY as u64);
        world.finish(runner);
    }

    fn r8_many_reads_under_one_deadline_with_an_sq_of_8_are_all_cancelled(world) {
        let (reader, _) = world.pipe();
        let mut runner = narrow(world);
        let outputs = runner.run(async {
            let body = async {
                all((0..MANY).map(|_| read(reader, 1)).collect()).await
            };
            match within(Duration::from_millis(20), body).await {
                Limited::Output(outputs, expiry) => {
                    assert!(expiry.timed_out && expiry.heard);
                    outputs
                }
                Limited::Abandoned => panic!("they are leaves"),
            }
        });
        assert_eq!(outputs.len(), MANY);
        for BufResult(result, buf) in outputs {
            assert!(is_cancelled(&result.expect_err("nothing was written")));
            assert_eq!(buf.len(), 1);
        }
        world.finish(runner);
    }

    fn r8_many_reads_in_flight_at_the_end_of_the_runner_all_end(world) {
        let (reader, _) = world.pipe();
        let mut runner = narrow(world);
        let mut reads: Vec<_> = (0..MANY).map(|_| read(reader, 1)).collect();
        runner.run(start_all(&mut reads));
        assert_eq!(runner.stats().in_flight, MANY);
        drop(runner);
        for mut read in reads {
            let Poll::Ready(BufResult(result, buf)) = poll_once(&mut read) else {
                panic!("R9: it has ended with its runtime");
            };
            let error = result.expect_err("nothing was written");
            assert!(error.to_string().contains("has ended"), "{error}");
            assert_eq!(buf.len(), 1);
        }
    }

    fn r11_many_nops_through_a_cq_of_16_all_complete(world) {
        let mut runner = narrow(world);
        let outputs = runner.run(all((0..MANY).map(|_| nop()).collect::<Vec<_>>()));
        assert_eq!(outputs.len(), MANY);
        assert!(outputs.iter().all(|result| result.is_ok()));
        assert_eq!(runner.stats().stale, 0);
        world.finish(runner);
    }

    fn r4_slots_given_to_others_at_once_mix_nothing_up(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            for round in 0..if cfg!(miri) { 5u8 } else { 200 } {
                // Its slot is free after the cancel, and the next one has it.
                let mut abandoned = read(reader, 3);
                start(&mut abandoned).await;
                drop(abandoned);
                let mut op = read(reader, 3);
                start(&mut op).await;
                let sent = [round, 2, 3];
                assert_eq!(write(writer, &sent).await.0.expect("open"), 3);
                let mut got = Vec::new();
                // What the abandoned one took before its cancel is lost with it: at most that.
                if let Poll::Ready(BufResult(n, buf)) = poll_here(&mut op).await {
                    got.extend_from_slice(&buf[..n.expect("open")]);
                } else {
                    drop(op);
                    while nop().await.is_err() {}
                }
                assert!(got.is_empty() || got == sent, "{got:?}");
                // Drains the pipe for the next round.
                assert_eq!(write(writer, b"!").await.0.expect("open"), 1);
                let BufResult(n, _) = read(reader, 64).await;
                assert!(n.expect("open") >= 1);
            }
        });
    }
}

/// Where only a script can make the kernel do it.
mod scripted {
    use coring_runtime::sim::{Kernel, Script};

    use super::*;

    fn kernel(world: &World) -> &Kernel {
        world.kernel.as_ref().expect("sim")
    }

    #[test]
    fn r3_enters_refused_are_tried_again_and_nothing_is_lost() {
        let world = World::sim();
        let (reader, writer) = world.pipe();
        let mut runner = narrow(&world);
        kernel(&world).refuse_enters(5);
        runner.run(async {
            let mut op = read(reader, 4);
            start(&mut op).await;
            assert_eq!(write(writer, b"abcd").await.0.expect("open"), 4);
            assert_eq!(op.await.0.expect("open"), 4);
        });
        world.finish(runner);
    }

    #[test]
    fn r3_enter_that_fails_after_some_were_taken_gives_none_twice() {
        for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR] {
            for taken in 0..=5 {
                let world = World::sim();
                let (reader, writer) = world.pipe();
                kernel(&world).fail_enter(errno, taken);
                let mut runner = world.runner();
                runner.run(async {
                    let writes = (0..5u8).map(|byte| write(writer, &[byte])).collect();
                    for BufResult(n, _) in all(writes).await {
                        assert_eq!(n.expect("open"), 1);
                    }
                    let BufResult(n, buf) = read(reader, 16).await;
                    assert_eq!(
                        &buf[..n.expect("open")],
                        [0, 1, 2, 3, 4],
                        "once each, in order"
                    );
                });
                assert_eq!(runner.stats().stale, 0);
                world.finish(runner);
            }
        }
    }

    /// The kernel takes the operation and not the timeout behind it, which then fails alone.
    #[test]
    fn r3_chain_split_by_a_failing_enter_keeps_its_deadline() {
        let world = World::sim();
        let (reader, _) = world.pipe();
        kernel(&world).fail_enter(libc::EAGAIN, 1);
        world.run(async {
            let begin = now();
            let limited = wait_for(Duration::from_millis(7), async { read(reader, 4).await.0 });
            // So that a lost deadline is a failure and not a hang.
            let (limited, _) = both(limited, Timer::after(Duration::from_millis(20))).await;
            let error = limited.expect_err("nothing is written");
            assert!(is_timed_out(&error), "{error}");
            assert_eq!(now() - begin, Duration::from_millis(20));
        });
    }

    #[test]
    fn r4_duplicate_completion_is_counted_and_dropped() {
        let world = World::sim();
        kernel(&world).script(NOP, Script::Duplicate(0));
        let mut runner = world.runner();
        runner.run(async {
            assert_eq!(nop().await.expect("scripted"), 0);
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
        });
        assert_eq!(runner.stats().stale, 1);
        world.finish(runner);
    }

    #[test]
    fn r4_duplicate_of_an_orphan_is_counted_and_dropped() {
        let world = World::sim();
        kernel(&world).script(ACCEPT, Script::Duplicate(SCRIPTED_FD));
        let accept = Yields::accept(9);
        let fates = accept.fates.clone();
        let mut runner = world.runner();
        runner.run(async { start(&mut submit(accept)).await });
        assert_eq!(
            *fates.borrow(),
            [Fate::Orphaned(SCRIPTED_FD)],
            "closed once"
        );
        assert_eq!(runner.stats().stale, 1);
        world.finish(runner);
    }

    #[test]
    fn r4_stale_completion_reaches_nobody() {
        let world = World::sim();
        let (reader, writer) = world.pipe();
        kernel(&world).script(READ, Script::Stale(99));
        let mut runner = world.runner();
        runner.run(async {
            let mut op = read(reader, 4);
            start(&mut op).await;
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            assert!(
                poll_here(&mut op).await.is_pending(),
                "R4: another's completion"
            );
            assert_eq!(write(writer, b"ab").await.0.expect("open"), 2);
            assert_eq!(op.await.0.expect("open"), 2);
        });
        assert_eq!(runner.stats().stale, 1);
        world.finish(runner);
    }

    #[test]
    fn r8_cancel_of_an_operation_in_the_backlog_completes_it_locally() {
        let world = World::sim();
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = narrow(&world);
        runner.run(async {
            let mut queued: Vec<_> = (0..8).map(|_| nop()).collect();
            kernel(&world).refuse_enters(1_000);
            start_all(&mut queued).await;
            let mut dropped = submit(Read(reader, Tracked::new(4, &drops)));
            start(&mut dropped).await;
            drop(dropped);
            assert_eq!(drops.get(), 1, "R8: the kernel has never seen it");
            // Under a deadline that has passed when the next await looks.
            let held = within(Duration::from_millis(1), read(reader, 4));
            let mut held = Box::pin(held);
            start(&mut held).await;
            kernel(&world).advance(Duration::from_millis(2));
            let mut sleep = Timer::after(Duration::ZERO);
            start(&mut sleep).await;
            drop(sleep);
            kernel(&world).refuse_enters(0);
            let Limited::Output(BufResult(result, _), expiry) = held.await else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("nothing is written")));
            assert!(expiry.timed_out);
            assert_eq!(all(queued).await.len(), 8);
        });
        world.finish(runner);
    }

    #[test]
    fn r8_multishot_that_is_stopped_in_the_backlog_uses_the_request_up() {
        let world = World::sim();
        let kernel = kernel(&world).clone();
        kernel.sq_entries(8);
        let limit = Duration::from_millis(1);
        let mut runner = world.runner();
        runner.run(async {
            let mut queued: Vec<_> = (0..8).map(|_| nop()).collect();
            kernel.refuse_enters(100_000);
            start_all(&mut queued).await;
            let mut accepts = submit_multishot(Yields::accept_multi(9));
            let mut limited = within(limit, async {
                let accepted = accepts.next().await;
                assert!(is_cancelled(
                    &accepted.expect_err("it waits in the backlog")
                ));
                yield_now().await.expect("C2: the request was used up");
            });
            start(&mut limited).await;
            kernel.advance(limit);
            assert!(matches!(limited.await, Limited::Output((), _)));
            kernel.refuse_enters(0);
            assert_eq!(all(queued).await.len(), 8);
        });
        world.finish(runner);
    }

    #[test]
    fn r8_multishot_and_sleep_in_the_backlog_are_given_up_locally() {
        let world = World::sim();
        let accept = Yields::accept_multi(9);
        let fates = accept.fates.clone();
        if let Some(kernel) = &world.kernel {
            kernel.sq_entries(8);
        }
        let mut runner = world
            .builder()
            .timers(Timers::Kernel)
            .build()
            .expect("a simulator");
        runner.run(async {
            let mut queued: Vec<_> = (0..8).map(|_| nop()).collect();
            kernel(&world).refuse_enters(1_000);
            start_all(&mut queued).await;
            let mut accepts = submit_multishot(accept);
            let mut sleep = Timer::after(Duration::from_secs(1));
            {
                let mut next = std::pin::pin!(accepts.next());
                start(&mut next).await;
            }
            start(&mut sleep).await;
            drop((accepts, sleep));
            assert_eq!(*fates.borrow(), [Fate::Orphaned(-libc::ECANCELED)]);
            kernel(&world).refuse_enters(0);
            assert_eq!(all(queued).await.len(), 8);
        });
        world.finish(runner);
    }

    #[test]
    fn r8_cancel_answered_with_ealready_is_asked_again_boundedly_and_the_result_awaited() {
        let world = World::sim();
        let (reader, _) = world.pipe();
        let span = Duration::from_secs(60);
        kernel(&world).script(READ, Script::Uncancellable(span, 0));
        let mut runner = world.runner();
        runner.run(async {
            let begin = now();
            let result = wait_for(Duration::from_millis(1), async { read(reader, 4).await.0 });
            assert_eq!(result.await.expect("C1: the result wins"), 0);
            assert_eq!(now() - begin, span, "C4: not before the kernel is done");
        });
        assert!(
            runner.stats().enters < 50,
            "it must not spin: {:?}",
            runner.stats()
        );
        world.finish(runner);
    }

    #[test]
    fn r8_cancel_answered_with_enoent_waits_for_the_completion_that_comes() {
        let world = World::sim();
        // The cancel's own answer is scripted: it finds nothing, twice; the third one does.
        for _ in 0..2 {
            kernel(&world).script(ASYNC_CANCEL, Script::Result(-libc::ENOENT));
        }
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = submit(Read(reader, Tracked::new(1, &drops)));
            start(&mut op).await;
            yield_now().await.expect("nobody cancels");
            drop(op);
        });
        quiesce(&mut runner);
        assert_eq!(drops.get(), 1, "R8: asked again until it ended");
        world.finish(runner);
    }

    #[test]
    fn r8_cancel_that_is_never_found_is_not_asked_for_ever() {
        let world = World::sim();
        for _ in 0..100 {
            kernel(&world).script(ASYNC_CANCEL, Script::Result(-libc::ENOENT));
        }
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = read(reader, 1);
            start(&mut op).await;
            yield_now().await.expect("nobody cancels");
            drop(op);
            Timer::after(Duration::from_secs(1))
                .await
                .expect("nobody cancels");
            assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
        });
        assert!(
            runner.stats().enters < 50,
            "it must not spin: {:?}",
            runner.stats()
        );
        world.finish(runner);
    }

    #[test]
    fn r11_multishot_that_the_kernel_ends_is_armed_again_by_the_next_wait() {
        let world = World::sim();
        for base in [0, 10] {
            let shots = vec![SCRIPTED_FD + base];
            kernel(&world).script(ACCEPT, Script::Shots(shots, Some(SCRIPTED_FD + base + 1)));
        }
        world.run(async {
            let mut accepts = submit_multishot(Yields::accept_multi(9));
            for expected in [0, 1, 10, 11] {
                let got = accepts.next().await.expect("scripted").number();
                assert_eq!(got, SCRIPTED_FD + expected);
            }
        });
    }

    #[test]
    fn r11_multishot_that_ends_with_an_error_gives_it_once_and_goes_on() {
        let world = World::sim();
        kernel(&world).script(
            ACCEPT,
            Script::Shots(vec![SCRIPTED_FD], Some(-libc::EMFILE)),
        );
        kernel(&world).script(ACCEPT, Script::Shots(vec![SCRIPTED_FD + 1], None));
        let mut runner = world.runner();
        runner.run(async {
            let mut accepts = submit_multishot(Yields::accept_multi(9));
            assert_eq!(
                accepts.next().await.expect("scripted").number(),
                SCRIPTED_FD
            );
            let error = accepts.next().await.expect_err("scripted");
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert_eq!(
                accepts.next().await.expect("armed again").number(),
                SCRIPTED_FD + 1
            );
        });
        world.finish(runner);
    }
}
