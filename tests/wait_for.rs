//! `wait_for`: a limit on anything whose output can say that it was stopped.
//!
//! Numbers (W1 to W20) name the behaviours of asyncio's that a test re-creates; those of `shield`
//! and of cancelling a task by hand come with these.

mod common;

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use common::*;
use coring::{
    BufResult, Instant, Timers, all_tasks, create_task, is_cancelled, now, ok, sleep, sleep_until,
    timeout_at, wait_for, yield_now,
};
use futures_util::future::{Either, select};

/// Waits for something that is not coring's, and for ever.
fn foreign<T>() -> impl Future<Output = io::Result<T>> {
    futures_util::future::pending()
}

each_driver! {
    /// W7 with a limit.
    fn wait_for_something_in_time_gives_its_result(world) {
        world.run(async {
            assert_eq!(wait_for(async { ok(7) }, Duration::from_secs(3)).await.expect("a value"), 7);
            let nap = async {
                sleep(world.short(1)).await?;
                ok("slept")
            };
            assert_eq!(wait_for(nap, PATIENCE).await.expect("a value"), "slept");
            let task = create_task(async { ok(5) });
            assert_eq!(wait_for(task, PATIENCE).await.expect("a value"), 5);
        });
    }

    fn wait_for_a_read_that_comes_in_time_gives_it(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let task = create_task(wait_for(read(reader, 16), Duration::from_secs(60)));
            yield_now().await.expect("nobody cancels");
            write(writer, b"hello").await.expect("the pipe is open");
            let BufResult(n, buf) = task.await;
            assert_eq!((n.expect("in time"), &buf[..]), (5, &b"hello"[..]));
            // The time-out behind the read went with it: the next one has a limit of its own.
            let begin = now();
            let BufResult(n, _) = wait_for(read(reader, 16), world.short(1)).await;
            assert!(is_time_out(&error_of(n)));
            assert!(now() - begin >= world.short(1));
        });
    }

    /// W2, 24. The time-out comes in the read's own error, and the buffer with it.
    fn wait_for_a_read_that_times_out_gives_the_buffer_back(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let begin = now();
            let read = read(reader, 123);
            let BufResult(n, buf) = wait_for(read, world.short(1)).await;
            let error = error_of(n);
            assert!(is_time_out(&error) && !is_cancelled(&error), "{error:?}");
            assert!(now() - begin >= world.short(1), "early");
            assert_eq!((buf.len(), buf.capacity()), (0, 123));
            // Nothing was taken from the pipe, and the next read has it all.
            write(writer, b"later").await.expect("the pipe is open");
            let BufResult(n, buf) = common::read(reader, 16).await;
            assert_eq!((n.expect("it is there"), &buf[..]), (5, &b"later"[..]));
        });
    }

    fn wait_for_is_never_early(world) {
        for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
            let mut runner = world.builder().timers(mode).build().expect("it was built before");
            runner.run(async {
                for span in [1, 1_000, 1_234_567, 5_000_001].map(Duration::from_nanos) {
                    let begin = now();
                    let error = error_of(wait_for(sleep(Duration::MAX), span).await);
                    assert!(is_time_out(&error), "{error:?}");
                    assert!(now() - begin >= span, "{mode:?}: {span:?}");
                    let begin = now();
                    assert!(is_time_out(&error_of(wait_for(foreign::<()>(), span).await)));
                    assert!(now() - begin >= span, "{mode:?}: {span:?}");
                }
            });
            finish(runner);
        }
    }

    /// W3.
    fn b003_wait_for_with_limit_zero_gives_what_is_ready(world) {
        world.run(async {
            assert_eq!(wait_for(async { ok(7) }, Duration::ZERO).await.expect("a value"), 7);
            let mut task = create_task(async { ok(7) });
            until(|| task.done()).await;
            assert_eq!(wait_for(&mut task, Duration::ZERO).await.expect("a value"), 7);
        });
    }

    /// W4, 28, 29: polled once, and stopped at the first await, also where that would not wait.
    fn b004_wait_for_with_limit_zero_stops_at_the_first_await(world) {
        let log = Log::default();
        world.run(async {
            for kind in 0..3 {
                let log = log.clone();
                let body = async move {
                    log.push("begun");
                    match kind {
                        0 => yield_now().await?,
                        1 => sleep(Duration::ZERO).await?,
                        _ => sleep_until(now()).await?,
                    }
                    log.push("never");
                    ok(())
                };
                assert!(is_time_out(&error_of(wait_for(body, Duration::ZERO).await)));
            }
        });
        assert_eq!(log.take(), ["begun"; 3]);
    }

    fn wait_for_with_limit_zero_takes_nothing_from_a_pipe(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            write(writer, b"hello").await.expect("the pipe is open");
            let BufResult(n, buf) = wait_for(read(reader, 16), Duration::ZERO).await;
            assert!(is_time_out(&error_of(n)));
            assert_eq!((buf.len(), buf.capacity()), (0, 16));
            let BufResult(n, buf) = read(reader, 16).await;
            assert_eq!((n.expect("it is there"), &buf[..]), (5, &b"hello"[..]));
        });
    }

    /// W12: clean-up after a limit of zero may await, and finishes first.
    fn b012_wait_for_with_limit_zero_waits_for_clean_up(world) {
        let log = Log::default();
        world.run(async {
            let body = async {
                let told = sleep(Duration::MAX).await;
                sleep(world.short(1)).await?;
                log.push("cleaned up");
                told
            };
            assert!(is_time_out(&error_of(wait_for(body, Duration::ZERO).await)));
        });
        assert_eq!(log.take(), ["cleaned up"]);
    }

    fn wait_for_a_foreign_future_with_limit_zero_drops_it(world) {
        let drops = Drops::default();
        world.run(async {
            let guard = drops.guard();
            let body = async move {
                let _guard = guard;
                foreign::<()>().await
            };
            assert!(is_time_out(&error_of(wait_for(body, Duration::ZERO).await)));
            assert_eq!(drops.count(), 1);
        });
    }

    /// W7, 26.
    fn b007_wait_for_with_limit_max_has_none(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            wait_for(sleep(world.short(1)), Duration::MAX).await.expect("no limit");
            let task = create_task(wait_for(read(reader, 16), Duration::MAX));
            sleep(world.short(1)).await.expect("nobody cancels");
            write(writer, b"x").await.expect("the pipe is open");
            assert_eq!(task.await.0.expect("no limit"), 1);
            // An outer limit is one all the same.
            let inner = wait_for(sleep(Duration::MAX), Duration::MAX);
            assert!(is_time_out(&error_of(wait_for(inner, world.short(1)).await)));
        });
    }

    fn wait_for_counts_from_when_it_first_has_to_wait(world) {
        world.run(async {
            let limited = wait_for(sleep(world.short(2)), world.short(3));
            sleep(world.short(4)).await.expect("nobody cancels");
            limited.await.expect("its time begins now");
        });
    }

    /// W11, 6: what the body awaits after it was told is not stopped again, and ends first.
    fn b011_wait_for_waits_for_clean_up_that_awaits(world) {
        let (reader, writer) = world.pipe();
        let log = Log::default();
        world.run(async {
            let begin = now();
            let body = async {
                let BufResult(told, buf) = read(reader, 16).await;
                log.push("told");
                sleep(world.short(2)).await?;
                write(writer, b"bye").await?;
                let BufResult(n, buf) = read_into(reader, buf).await;
                n?;
                assert_eq!(buf, b"bye");
                log.push("cleaned up");
                told
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
            assert!(now() - begin >= world.short(3));
        });
        assert_eq!(log.take(), ["told", "cleaned up"]);
    }

    /// W13, 32.
    fn b013_wait_for_gives_the_error_that_clean_up_raises(world) {
        world.run(async {
            let body = async {
                let _told = sleep(Duration::MAX).await;
                Err::<(), _>(io::Error::new(io::ErrorKind::StorageFull, "clean-up failed"))
            };
            let error = error_of(wait_for(body, world.short(1)).await);
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(error.to_string(), "clean-up failed");
        });
    }

    /// W9, W10.
    fn b010_wait_for_gives_the_value_returned_in_spite_of_it(world) {
        world.run(async {
            let body = async {
                assert!(is_cancelled(&error_of(sleep(Duration::MAX).await)));
                ok("in spite")
            };
            assert_eq!(wait_for(body, world.short(1)).await.expect("a value"), "in spite");
        });
    }

    /// 31.
    fn wait_for_passes_other_errors_on(world) {
        world.run(async {
            let body = async {
                yield_now().await?;
                Err::<(), _>(io::Error::from_raw_os_error(libc::EPIPE))
            };
            let error = error_of(wait_for(body, PATIENCE).await);
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        });
    }

    /// 34: afterwards nothing is pending.
    fn wait_for_that_timed_out_leaves_the_task_as_it_was(world) {
        world.run(async {
            for limit in [Duration::ZERO, world.short(1)] {
                let error = error_of(wait_for(sleep(Duration::MAX), limit).await);
                assert!(is_time_out(&error));
                yield_now().await.expect("nobody cancels");
                sleep(world.short(1)).await.expect("nobody cancels");
                wait_for(yield_now(), PATIENCE).await.expect("nobody cancels");
            }
        });
    }

    /// W6: the request is forwarded to the task, which cleans up and is then done.
    fn b006_wait_for_a_task_tells_the_task(world) {
        let log = Log::default();
        world.run(async {
            let (inner, span) = (log.clone(), world.short(1));
            let mut task = create_task(async move {
                let told = sleep(Duration::MAX).await;
                inner.push("told");
                sleep(span).await?;
                inner.push("cleaned up");
                told
            });
            let error = error_of(wait_for(&mut task, world.short(1)).await);
            assert!(is_time_out(&error), "{error:?}");
            assert!(task.done());
        });
        assert_eq!(log.take(), ["told", "cleaned up"]);
    }

    fn wait_for_a_task_of_a_task_tells_the_innermost(world) {
        world.run(async {
            let outer = create_task(async {
                let inner = create_task(async { sleep(Duration::MAX).await });
                inner.await
            });
            let error = error_of(wait_for(outer, world.short(1)).await);
            assert!(is_time_out(&error), "{error:?}");
        });
    }

    fn wait_for_many_tasks_tells_those_that_are_still_awaited(world) {
        world.run(async {
            let nap = world.short(8);
            let naps: Vec<_> = (0..5).map(|_| create_task(sleep(nap))).collect();
            let told = wait_for(
                async {
                    let mut naps: Vec<_> = naps.into_iter().map(Some).collect();
                    for nap in naps.iter_mut().flatten() {
                        assert!(poll_once(nap).await.is_pending());
                    }
                    // The middle, the first and the last to be awaited are awaited no more.
                    for detached in [2, 4, 0] {
                        drop(naps[detached].take());
                    }
                    let mut told = 0;
                    for nap in naps.into_iter().flatten() {
                        told += usize::from(is_cancelled(&nap.await.expect_err("it is told")));
                    }
                    ok((told, all_tasks().len()))
                },
                world.short(1),
            );
            let (told, alive) = told.await.expect("the tasks have used the request up");
            assert_eq!((told, alive), (2, 4), "main and the three that were detached go on");
            sleep(nap).await.expect("nobody cancels");
        });
    }

    fn task_that_outlives_the_limit_it_was_awaited_under_is_told_by_the_next(world) {
        world.run(async {
            let mut nap = create_task(sleep(Duration::MAX));
            wait_for(
                async {
                    assert!(poll_once(&mut nap).await.is_pending());
                    ok(())
                },
                Duration::MAX,
            )
            .await
            .expect("it did not wait");
            // Handed on to the task's own scope, and from there to the next limit.
            let error = wait_for(nap, world.short(1)).await.expect_err("it is told");
            assert!(is_time_out(&error), "{error:?}");
        });
    }

    /// W10 for a task; W1: one that does not care is waited for.
    fn b002_wait_for_a_task_that_goes_on_waits_for_it(world) {
        world.run(async {
            let (begin, span) = (now(), world.short(2));
            let task = create_task(async move {
                assert!(is_cancelled(&error_of(sleep(Duration::MAX).await)));
                sleep(span).await?;
                ok(7)
            });
            assert_eq!(wait_for(task, world.short(1)).await.expect("a value"), 7);
            assert!(now() - begin >= world.short(3));
        });
    }

    /// W1 for a task with a limit of zero: each task runs to its first await (C3).
    fn wait_for_a_task_with_limit_zero_lets_it_begin(world) {
        let log = Log::default();
        world.run(async {
            let inner = log.clone();
            let task = create_task(async move {
                inner.push("begun");
                sleep(Duration::MAX).await?;
                inner.push("never");
                ok(())
            });
            assert!(is_time_out(&error_of(wait_for(task, Duration::ZERO).await)));
        });
        assert_eq!(log.take(), ["begun"]);
    }

    /// A future that knows nothing of cancellation goes at the limit.
    fn wait_for_a_foreign_future_drops_it_at_the_limit(world) {
        let drops = Drops::default();
        world.run(async {
            let (begin, guard) = (now(), drops.guard());
            let body = async move {
                let _guard = guard;
                yield_now().await?;
                foreign::<()>().await
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
            assert_eq!(drops.count(), 1);
            assert!(now() - begin >= world.short(1));
        });
    }

    /// It has what was lent: nobody else could give that back.
    fn wait_for_a_foreign_future_with_a_buffer_waits_for_it(world) {
        world.run(async {
            let (sender, receiver) = futures_channel_of_one();
            let span = world.short(3);
            let task = create_task(async move {
                sleep(span).await.expect("nobody cancels");
                sender.set(7);
            });
            let begin = now();
            let buf = vec![1_u8, 2, 3];
            let body = async move { BufResult(Ok(receiver.await), buf) };
            let BufResult(value, buf) = wait_for(body, world.short(1)).await;
            assert_eq!((value.expect("a value"), buf), (7, vec![1, 2, 3]));
            assert!(now() - begin >= span);
            task.await;
            yield_now().await.expect("nobody cancels");
        });
    }

    /// A foreign future next to an operation: it goes when that has come to its end.
    fn wait_for_a_foreign_future_beside_a_read_ends_the_read_first(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let body = async {
                let (BufResult(n, _), ()) = futures_util::join!(read(reader, 16), pending::<()>());
                n
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
            write(writer, b"later").await.expect("the pipe is open");
            assert_eq!(read(reader, 16).await.0.expect("it is there"), 5);
        });
    }

    /// 33: whoever is further out and asks first decides what comes out inside (C8).
    fn wait_for_inside_a_shorter_one_is_cancelled(world) {
        let log = Log::default();
        world.run(async {
            let inner = async {
                let error = error_of(wait_for(sleep(Duration::MAX), PATIENCE * 10).await);
                assert!(is_cancelled(&error) && !coring::is_timed_out(&error), "{error:?}");
                log.push("inner cancelled");
                Err::<(), _>(error)
            };
            let error = error_of(wait_for(inner, world.short(1)).await);
            assert!(is_time_out(&error), "{error:?}");
        });
        assert_eq!(log.take(), ["inner cancelled"]);
    }

    fn wait_for_around_a_shorter_one_does_not_time_out(world) {
        world.run(async {
            let body = async {
                let error = error_of(wait_for(sleep(Duration::MAX), world.short(1)).await);
                assert!(is_time_out(&error), "{error:?}");
                sleep(world.short(1)).await?;
                ok(7)
            };
            assert_eq!(wait_for(body, PATIENCE * 10).await.expect("a value"), 7);
        });
    }

    /// 23: at one deadline the outermost gives the time-out; what is inside was cancelled.
    fn b023_wait_for_with_equal_spans_times_out_at_the_outermost(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let limit = world.short(1);
            let inner = async {
                let BufResult(n, buf) = wait_for(read(reader, 16), limit).await;
                let error = error_of(n);
                assert!(is_cancelled(&error), "{error:?}");
                BufResult(Err::<(), _>(error), buf)
            };
            let BufResult(result, buf) = wait_for(inner, limit).await;
            assert!(is_time_out(&error_of(result)));
            assert_eq!(buf.capacity(), 16);
            // The same for what is not carried by an operation.
            let inner = async {
                let error = error_of(wait_for(foreign::<()>(), limit).await);
                assert!(is_cancelled(&error), "{error:?}");
                Err::<(), _>(error)
            };
            assert!(is_time_out(&error_of(wait_for(inner, limit).await)));
            let inner = async {
                let error = error_of(wait_for(sleep(Duration::MAX), limit).await);
                assert!(is_cancelled(&error), "{error:?}");
                Err::<(), _>(error)
            };
            assert!(is_time_out(&error_of(wait_for(inner, limit).await)));
        });
    }

    /// 23 with one moment for both.
    fn timeouts_at_one_moment_expire_at_the_outermost(world) {
        world.run(async {
            let deadline = now() + world.short(1);
            let inner = async {
                let told = timeout_at(deadline, sleep(Duration::MAX)).await;
                let told = error_of(told.expect("not this one"));
                assert!(is_cancelled(&told), "{told:?}");
                "inner cancelled"
            };
            let expired = timeout_at(deadline, inner).await.expect_err("it was told");
            assert_eq!(expired.late, Some("inner cancelled"));
        });
    }

    /// W14, W15: a request from further out reaches what `wait_for` waits for.
    fn b014_wait_for_that_is_cancelled_cancels_its_task(world) {
        for limit in [PATIENCE * 10, Duration::MAX] {
            world.run(async {
                let mut task = create_task(async { sleep(Duration::MAX).await });
                let inner = wait_for(&mut task, limit);
                assert!(is_time_out(&error_of(wait_for(inner, world.short(1)).await)));
                assert!(task.done());
            });
        }
    }

    /// 39: a limit inside of clean-up is a limit of its own.
    fn wait_for_in_clean_up_times_out(world) {
        let log = Log::default();
        world.run(async {
            let body = async {
                let told = sleep(Duration::MAX).await;
                let error = error_of(wait_for(sleep(Duration::MAX), world.short(1)).await);
                assert!(is_time_out(&error), "{error:?}");
                log.push("clean-up timed out");
                told
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
        });
        assert_eq!(log.take(), ["clean-up timed out"]);
    }

    /// 40: a second request from outside, during clean-up with a limit, comes out as such.
    fn wait_for_in_clean_up_that_is_cancelled_again_is_cancelled(world) {
        let log = Log::default();
        world.run(async {
            let body = async {
                let told = sleep(Duration::MAX).await;
                assert!(is_cancelled(&error_of(told)));
                let error = error_of(wait_for(sleep(Duration::MAX), PATIENCE * 10).await);
                assert!(is_cancelled(&error), "{error:?}");
                log.push("clean-up cancelled");
                Err::<(), _>(error)
            };
            let middle = wait_for(body, world.short(1));
            let error = error_of(wait_for(middle, world.short(2)).await);
            assert!(is_time_out(&error), "{error:?}");
        });
        assert_eq!(log.take(), ["clean-up cancelled"]);
    }

    fn wait_for_moved_between_polls_goes_on(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let mut limited = Box::new(wait_for(read(reader, 16), PATIENCE));
            assert!(poll_once(&mut limited).await.is_pending());
            let mut moved = *limited;
            assert!(poll_once(&mut moved).await.is_pending());
            // And to another task, which lives on.
            let task = create_task(moved);
            write(writer, b"moved").await.expect("the pipe is open");
            assert_eq!(task.await.1, b"moved");
        });
    }

    fn wait_for_moved_to_another_task_times_out_there(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let mut limited = wait_for(read(reader, 16), world.short(1));
            assert!(poll_once(&mut limited).await.is_pending());
            let BufResult(n, buf) = create_task(limited).await;
            assert!(is_time_out(&error_of(n)));
            assert_eq!(buf.capacity(), 16);
        });
    }

    /// An operation that outlives the limit that it was started under is not stopped by it.
    fn read_taken_out_of_a_limit_is_not_stopped_by_it(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let mut kept = read(reader, 16);
            let limited = wait_for(
                async {
                    assert!(poll_once(&mut kept).await.is_pending());
                    ok(())
                },
                world.short(1),
            );
            limited.await.expect("it does not wait");
            let task = create_task(kept);
            sleep(world.short(3)).await.expect("nobody cancels");
            write(writer, b"after").await.expect("the pipe is open");
            let BufResult(n, buf) = task.await;
            assert_eq!((n.expect("no limit any more"), &buf[..]), (5, &b"after"[..]));
        });
    }

    fn wait_for_join_of_reads_gives_every_buffer_back(world) {
        let pipes: Vec<_> = (0..3).map(|_| world.pipe()).collect();
        world.run(async {
            let body = async {
                let (a, b, c) = futures_util::join!(
                    read(pipes[0].0, 10), read(pipes[1].0, 11), read(pipes[2].0, 12)
                );
                for BufResult(n, _) in [&a, &b] {
                    assert!(is_cancelled(n.as_ref().expect_err("it was told")));
                }
                let bufs = [a.1.capacity(), b.1.capacity(), c.1.capacity()];
                BufResult(c.0, bufs)
            };
            let BufResult(n, bufs) = wait_for(body, world.short(1)).await;
            assert!(is_time_out(&error_of(n)));
            assert_eq!(bufs, [10, 11, 12]);
        });
    }

    fn wait_for_select_of_reads_gives_the_first_and_drops_the_other(world) {
        let pipes: Vec<_> = (0..2).map(|_| world.pipe()).collect();
        world.run(async {
            let task = create_task({
                let (first, second) = (pipes[0].0, pipes[1].0);
                wait_for(async move {
                    match select(read(first, 10), read(second, 10)).await {
                        Either::Left((BufResult(n, buf), _))
                        | Either::Right((BufResult(n, buf), _)) => n.map(|_| buf),
                    }
                }, PATIENCE)
            });
            yield_now().await.expect("nobody cancels");
            write(pipes[1].1, b"second").await.expect("the pipe is open");
            assert_eq!(task.await.expect("in time"), b"second");
        });
    }

    fn wait_for_select_of_reads_times_out(world) {
        let pipes: Vec<_> = (0..2).map(|_| world.pipe()).collect();
        world.run(async {
            let body = async {
                let (first, second) = (read(pipes[0].0, 10), read(pipes[1].0, 10));
                let (BufResult(n, _), _) = select(first, second).await.factor_first();
                n
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
            sleep(world.short(1)).await.expect("nobody cancels");
        });
    }

    fn wait_for_many_reads_in_an_unordered_set_stops_all(world) {
        use futures_util::StreamExt;
        use futures_util::stream::FuturesUnordered;
        let pipes: Vec<_> = (0..20).map(|_| world.pipe()).collect();
        world.run(async {
            let ready = &pipes[7];
            write(ready.1, b"seven").await.expect("the pipe is open");
            let (mut came, mut stopped) = (0, 0);
            let body = async {
                let mut reads: FuturesUnordered<_> =
                    pipes.iter().map(|&(reader, _)| read(reader, 10)).collect();
                while let Some(BufResult(n, buf)) = reads.next().await {
                    assert_eq!(buf.capacity(), 10);
                    match n {
                        Ok(5) => came += 1,
                        Ok(n) => panic!("{n} bytes"),
                        Err(error) if is_cancelled(&error) => stopped += 1,
                        Err(error) => return Err(error),
                    }
                }
                ok(())
            };
            // Each was told, and the whole returned a value in spite of it.
            wait_for(body, world.short(1)).await.expect("a value");
            assert_eq!((came, stopped), (1, 19));
        });
    }

    fn wait_for_polled_after_its_end_panics(world) {
        world.run(async {
            let mut over = pin!(wait_for(async { ok(()) }, PATIENCE));
            over.as_mut().await.expect("a value");
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                let _ = over.as_mut().poll(&mut cx);
            }));
            assert!(again.is_err());
        });
    }

    fn wait_for_whose_body_panics_leaves_nothing(world) {
        world.run(async {
            let task = create_task(wait_for(
                async {
                    let _nap = sleep(Duration::MAX);
                    yield_now().await?;
                    if true { panic!("on purpose") }
                    ok(())
                },
                PATIENCE,
            ));
            let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(task));
            assert!(caught.await.is_err());
            yield_now().await.expect("nobody cancels");
        });
    }
}

async fn read_into(fd: std::os::fd::RawFd, buf: Vec<u8>) -> BufResult<usize, Vec<u8>> {
    coring::submit(Read(fd, buf)).await
}

/// A channel that knows nothing of coring.
fn futures_channel_of_one() -> (Sender, impl Future<Output = u32>) {
    let shared =
        std::rc::Rc::<std::cell::RefCell<(Option<u32>, Option<std::task::Waker>)>>::default();
    let receiver = shared.clone();
    let receive = std::future::poll_fn(move |cx| {
        let mut state = receiver.borrow_mut();
        state.1 = Some(cx.waker().clone());
        state
            .0
            .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    });
    (Sender(shared), receive)
}

struct Sender(std::rc::Rc<std::cell::RefCell<(Option<u32>, Option<std::task::Waker>)>>);

impl Sender {
    fn set(&self, value: u32) {
        let mut state = self.0.borrow_mut();
        state.0 = Some(value);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

/// The read's bytes and its deadline in one moment.
#[test]
fn b020_wait_for_a_read_in_a_tie_gives_the_bytes() {
    let world = World::sim();
    let (reader, writer) = world.pipe();
    world.run(async {
        let span = Duration::from_secs(1);
        let task = create_task(async move {
            sleep(span).await.expect("nobody cancels");
            write(writer, b"tie").await.expect("the pipe is open");
        });
        // In its turn the loop is busy until after the deadline; the bytes come before it looks.
        let limited = create_task(wait_for(read(reader, 16), span + Duration::from_nanos(1)));
        let BufResult(n, buf) = limited.await;
        assert_eq!((n.expect("the result wins"), &buf[..]), (3, &b"tie"[..]));
        task.await;
    });
}

/// 35: both deadlines pass while the loop does something else.
#[test]
fn b035_wait_for_whose_deadlines_pass_unseen_times_out_at_the_outermost() {
    let world = World::sim();
    world.run(async {
        let kernel = world.kernel.clone().expect("the simulator");
        let second = Duration::from_secs(1);
        for turns in 0..3 {
            let inner = async {
                let body = async {
                    sleep(MS).await?; // The limits begin to count.
                    kernel.advance(second * 10);
                    for _ in 0..turns {
                        yield_now().await?;
                    }
                    sleep(second).await
                };
                let error = error_of(wait_for(body, second).await);
                assert!(is_cancelled(&error), "after {turns} turns: {error:?}");
                Err::<(), _>(error)
            };
            let error = error_of(wait_for(inner, second * 2).await);
            assert!(is_time_out(&error), "{error:?}");
        }
    });
}

/// The limit is exact where the clock is.
#[test]
fn wait_for_ends_at_its_limit() {
    let world = World::sim();
    let (reader, _writer) = world.pipe();
    world.run(async {
        for nanos in [1, 999, 1_000_000_007, 86_400_000_000_000] {
            let (begin, limit) = (now(), Duration::from_nanos(nanos));
            assert!(is_time_out(&error_of(
                wait_for(read(reader, 4), limit).await.0
            )));
            assert_eq!(now() - begin, limit);
            assert!(is_time_out(&error_of(
                wait_for(foreign::<()>(), limit).await
            )));
            assert_eq!(now() - begin, limit * 2);
            assert!(is_time_out(&error_of(
                wait_for(sleep(Duration::MAX), limit).await
            )));
            assert_eq!(now() - begin, limit * 3);
        }
        assert!(now() < Instant::FAR_FUTURE);
    });
}

/// One limit for many operations, one after the other: each carries it into the kernel.
#[test]
fn wait_for_covers_every_operation_of_its_body() {
    let world = World::sim();
    let (reader, writer) = world.pipe();
    world.run(async {
        let second = Duration::from_secs(1);
        let feeder = create_task(async move {
            for _ in 0..5 {
                sleep(second).await.expect("nobody cancels");
                write(writer, b"x").await.expect("the pipe is open");
            }
        });
        let (begin, mut came) = (now(), 0);
        let body = async {
            loop {
                read(reader, 1).await.0?;
                came += 1;
            }
        };
        let error = error_of::<()>(wait_for(body, second * 5 / 2).await);
        assert!(is_time_out(&error), "{error:?}");
        assert_eq!((came, now() - begin), (2, second * 5 / 2));
        feeder.await;
        assert_eq!(read(reader, 9).await.0.expect("nothing is lost"), 3);
    });
}
