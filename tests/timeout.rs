//! `timeout` and `timeout_at`: a limit on any future.
//!
//! Numbers (21 to 43) name the behaviours of asyncio's that a test re-creates.

mod common;

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use common::*;
use coring::{
    BufResult, Timers, create_task, is_cancelled, is_timed_out, now, ok, shielded, sleep, timeout,
    timeout_at, wait_for, yield_now,
};

const SECOND: Duration = Duration::from_secs(1);

each_driver! {
    /// 25, 26.
    fn b025_timeout_of_something_in_time_gives_its_output(world) {
        world.run(async {
            assert_eq!(timeout(PATIENCE, async { 7 }).await.expect("in time"), 7);
            let nap = timeout(PATIENCE, sleep(world.short(1))).await;
            nap.expect("in time").expect("nobody cancels");
            let nap = timeout(Duration::MAX, sleep(world.short(1))).await;
            nap.expect("no limit").expect("nobody cancels");
            // Outputs that are no results will do.
            assert_eq!(timeout_at(now() + PATIENCE, async { "text" }).await, Ok("text"));
        });
    }

    /// 21, 22, 24.
    fn b021_timeout_of_a_read_is_expired_with_the_buffer_in_late(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let begin = now();
            let expired = timeout(world.short(1), read(reader, 55)).await.expect_err("nothing comes");
            assert!(now() - begin >= world.short(1));
            let BufResult(told, buf) = expired.late.expect("a read knows of cancellation");
            let told = error_of(told);
            assert!(is_cancelled(&told) && !is_timed_out(&told), "{told:?}");
            assert_eq!(buf.capacity(), 55);
            write(writer, b"later").await.expect("the pipe is open");
            assert_eq!(read(reader, 9).await.0.expect("nothing is lost"), 5);
            let begin = now();
            let deadline = begin + world.short(1);
            timeout_at(deadline, sleep(Duration::MAX)).await.expect_err("it never ends");
            assert!(now() >= deadline);
        });
    }

    /// What stopped the body is the inner limit, although the outer one passes in the clean-up.
    fn c8_limit_that_was_heard_is_over_though_another_passes_in_a_shield(world) {
        let step = world.short(1);
        world.run(async {
            let cleans_up = || async move {
                let told = sleep(LONG).await;
                shielded(sleep(4 * step)).await?;
                told
            };
            let inner = timeout(2 * step, timeout(step, cleans_up())).await;
            let expired = inner.expect("nobody in there heard of it");
            let told = expired.expect_err("it was heard of").late.expect("by the body");
            assert!(is_cancelled(&error_of(told)));
            let limited = wait_for(wait_for(cleans_up(), step), 2 * step).await;
            assert!(is_timed_out(&error_of(limited)));
        });
    }

    fn c2_request_that_comes_in_the_clean_up_of_a_limit_is_heard_behind_it(world) {
        let step = world.short(1);
        world.run(async {
            let task = create_task(async move {
                let limited = async {
                    let told = sleep(LONG).await;
                    shielded(sleep(4 * step)).await?;
                    told
                };
                let limited = wait_for(limited, step).await;
                (limited, sleep(LONG).await)
            });
            sleep(3 * step).await.expect("nobody asks this one");
            task.cancel();
            let (limited, behind) = task.await;
            assert!(is_timed_out(&error_of(limited)));
            assert!(is_cancelled(&error_of(behind)));
        });
    }

    fn timeout_of_a_foreign_future_drops_it(world) {
        let drops = Drops::default();
        world.run(async {
            let (begin, guard) = (now(), drops.guard());
            let body = async move {
                let _guard = guard;
                pending::<u8>().await
            };
            let expired = timeout(world.short(1), body).await.expect_err("it never ends");
            assert_eq!(expired.late, None);
            assert_eq!(drops.count(), 1);
            assert!(now() - begin >= world.short(1));
        });
    }

    /// W10: what was returned in spite of it is late, not lost.
    fn b024_timeout_of_a_body_that_returns_a_value_has_it_in_late(world) {
        world.run(async {
            let body = async {
                let told = sleep(Duration::MAX).await.is_err();
                sleep(world.short(1)).await.expect("told once only");
                (told, 7)
            };
            let expired = timeout(world.short(1), body).await.expect_err("it was told");
            assert_eq!(expired.late, Some((true, 7)));
        });
    }

    /// 32: an error raised in clean-up is in `late`.
    fn b032_timeout_of_a_body_that_fails_in_clean_up_has_the_error_in_late(world) {
        world.run(async {
            let body = async {
                let _told = sleep(Duration::MAX).await;
                Err::<(), _>(io::Error::other("clean-up failed"))
            };
            let expired = timeout(world.short(1), body).await.expect_err("it was told");
            assert_eq!(error_of(expired.late.expect("it ended")).to_string(), "clean-up failed");
        });
    }

    /// 31.
    fn b031_timeout_passes_other_errors_on(world) {
        world.run(async {
            let body = async {
                yield_now().await?;
                Err::<(), _>(io::Error::other("its own"))
            };
            let result = timeout(PATIENCE, body).await.expect("in time");
            assert_eq!(error_of(result).to_string(), "its own");
        });
    }

    /// 28.
    fn b028_timeout_of_zero_stops_at_the_first_await(world) {
        let log = Log::default();
        world.run(async {
            assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
            let body = async {
                log.push("begun");
                yield_now().await?;
                log.push("never");
                ok(())
            };
            let expired = timeout(Duration::ZERO, body).await.expect_err("it was told");
            assert!(is_cancelled(&error_of(expired.late.expect("it ended"))));
        });
        assert_eq!(log.take(), ["begun"]);
    }

    /// 34.
    fn b034_timeout_that_expired_leaves_the_task_as_it_was(world) {
        world.run(async {
            timeout(world.short(1), sleep(Duration::MAX)).await.expect_err("it never ends");
            yield_now().await.expect("nobody cancels");
            sleep(world.short(1)).await.expect("nobody cancels");
            timeout(world.short(1), pending::<()>()).await.expect_err("it never ends");
            yield_now().await.expect("nobody cancels");
            sleep(world.short(1)).await.expect("nobody cancels");
        });
    }

    /// 33.
    fn timeout_inside_a_shorter_one_is_not_expired(world) {
        world.run(async {
            let inner = async {
                let told = timeout(PATIENCE * 10, sleep(Duration::MAX)).await;
                let told = error_of(told.expect("not this one"));
                assert!(is_cancelled(&told), "{told:?}");
                7
            };
            let expired = timeout(world.short(1), inner).await.expect_err("it was told");
            assert_eq!(expired.late, Some(7));
        });
    }

    fn timeout_around_a_shorter_one_is_not_expired(world) {
        world.run(async {
            let body = async {
                timeout(world.short(1), sleep(Duration::MAX)).await.expect_err("it never ends");
                sleep(world.short(1)).await.expect("nobody cancels");
                7
            };
            assert_eq!(timeout(PATIENCE * 10, body).await, Ok(7));
        });
    }

    /// The outer one drops what does not know of cancellation, and the inner one with it.
    fn timeout_of_a_foreign_future_inside_a_longer_one_is_dropped(world) {
        let drops = Drops::default();
        world.run(async {
            let guard = drops.guard();
            let inner = timeout(PATIENCE * 10, async move {
                let _guard = guard;
                pending::<()>().await
            });
            let expired = timeout(world.short(1), inner).await.expect_err("it never ends");
            assert_eq!(expired.late, None);
            assert_eq!(drops.count(), 1);
        });
    }

    /// 39.
    fn timeout_in_clean_up_expires(world) {
        world.run(async {
            let body = async {
                let told = sleep(Duration::MAX).await.is_err();
                let inner = timeout(world.short(1), sleep(Duration::MAX)).await;
                (told, inner.is_err())
            };
            let expired = timeout(world.short(1), body).await.expect_err("it was told");
            assert_eq!(expired.late, Some((true, true)));
        });
    }

    /// 40.
    fn timeout_in_clean_up_that_is_cancelled_again_is_not_expired(world) {
        world.run(async {
            let body = async {
                assert!(sleep(Duration::MAX).await.is_err());
                let told = timeout(PATIENCE * 10, sleep(Duration::MAX)).await;
                is_cancelled(&error_of(told.expect("not this one")))
            };
            let middle = timeout(world.short(1), body);
            let expired = timeout(world.short(2), middle).await.expect_err("it was told");
            // The one in the middle had fired, but whoever is further out asked last.
            assert_eq!(expired.late, Some(Ok(true)));
        });
    }

    fn timeout_of_a_join_of_reads_has_every_buffer_in_late(world) {
        let pipes: Vec<_> = (0..2).map(|_| world.pipe()).collect();
        world.run(async {
            let both = futures_util::future::join(read(pipes[0].0, 5), read(pipes[1].0, 6));
            let expired = timeout(world.short(1), both).await.expect_err("nothing comes");
            let (first, second) = expired.late.expect("reads know of cancellation");
            assert!(is_cancelled(&error_of(first.0)) && is_cancelled(&error_of(second.0)));
            assert_eq!((first.1.capacity(), second.1.capacity()), (5, 6));
        });
    }

    fn timeout_of_a_select_takes_the_first(world) {
        let pipes: Vec<_> = (0..2).map(|_| world.pipe()).collect();
        world.run(async {
            write(pipes[1].1, b"second").await.expect("the pipe is open");
            let body = async {
                futures_util::select_biased! {
                    first = pin_fuse(read(pipes[0].0, 9)) => first.1,
                    second = pin_fuse(read(pipes[1].0, 9)) => second.1,
                }
            };
            assert_eq!(timeout(PATIENCE, body).await.expect("in time"), b"second");
        });
    }

    fn timeout_polled_after_its_end_panics(world) {
        world.run(async {
            let mut over = pin!(timeout(PATIENCE, async { 7 }));
            assert_eq!(over.as_mut().await, Ok(7));
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                let _ = over.as_mut().poll(&mut cx);
            }));
            assert!(again.is_err());
        });
    }

    /// 43, adapted: what is printed.
    fn expired_says_timed_out(world) {
        world.run(async {
            let expired = timeout(Duration::ZERO, sleep(Duration::MAX)).await.expect_err("zero");
            assert_eq!(expired.to_string(), "timed out");
            assert!(std::error::Error::source(&expired).is_none());
            let error = io::Error::from(expired);
            assert!(is_time_out(&error), "{error:?}");
            assert_eq!(error.to_string(), "timed out");
            let limited = timeout(SECOND, sleep(Duration::MAX));
            assert!(format!("{limited:?}").contains("Timeout"));
            let limited = wait_for(sleep(Duration::MAX), SECOND);
            assert!(format!("{limited:?}").contains("WaitFor"));
        });
    }
}

fn pin_fuse<F: Future>(future: F) -> futures_util::future::Fuse<std::pin::Pin<Box<F>>> {
    futures_util::FutureExt::fuse(Box::pin(future))
}

/// W20 (C1): a body that is done at the moment of its deadline did not hear of it.
#[test]
fn timeout_in_a_tie_gives_the_output() {
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let world = World::sim();
        let mut runner = world.builder().timers(mode).build().expect("a simulator");
        runner.run(async {
            let nap = timeout(SECOND, sleep(SECOND)).await;
            nap.expect("the result wins").expect("nobody cancels");
            yield_now().await.expect("nothing is pending");
        });
        finish(runner);
    }
}

/// A body that never awaits after its deadline was not told.
#[test]
fn timeout_of_a_body_that_was_not_told_gives_the_output() {
    let world = World::sim();
    world.run(async {
        let kernel = world.kernel.clone().expect("the simulator");
        let body = async {
            sleep(SECOND).await.expect("before the deadline");
            kernel.advance(SECOND * 10); // Busy for long.
            7
        };
        assert_eq!(timeout(SECOND * 2, body).await, Ok(7));
        yield_now().await.expect("nothing is pending");
    });
}

/// The limit is exact where the clock is.
#[test]
fn timeout_ends_at_its_limit() {
    let world = World::sim();
    world.run(async {
        for nanos in [1, 999, 1_000_000_007, 86_400_000_000_000] {
            let (begin, limit) = (now(), Duration::from_nanos(nanos));
            timeout(limit, sleep(Duration::MAX))
                .await
                .expect_err("it never ends");
            assert_eq!(now() - begin, limit);
            timeout(limit, pending::<()>())
                .await
                .expect_err("it never ends");
            assert_eq!(now() - begin, limit * 2);
            timeout_at(begin + limit * 3, pending::<()>())
                .await
                .expect_err("it never ends");
            assert_eq!(now() - begin, limit * 3);
        }
    });
}

/// A thousand limits at once, in an order of their own, each exact.
#[test]
fn timeouts_of_many_tasks_are_exact() {
    const TASKS: u64 = if cfg!(miri) { 40 } else { 1_000 };
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let world = World::sim();
        let mut runner = world.builder().timers(mode).build().expect("a simulator");
        runner.run(async {
            let begin = now();
            let tasks: Vec<_> = (0..TASKS)
                .map(|i| {
                    create_task(async move {
                        let limit = Duration::from_millis(1 + i * 7_919 % (TASKS / 2));
                        let late = match i % 3 {
                            0 => timeout(limit, sleep(Duration::MAX)).await.is_err(),
                            1 => timeout(limit, pending::<()>()).await.is_err(),
                            _ => timeout(limit * 2, sleep(limit)).await.is_ok(),
                        };
                        assert!(late);
                        assert_eq!(now() - begin, limit);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        finish(runner);
    }
}
