//! Deadlines that race with results, with each other, and with a loop that is busy.

mod common;

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::{
    Timers, create_task, is_cancelled, now, ok, sleep, sleep_until, timeout, timeout_at, wait_for,
    yield_now,
};

const SECOND: Duration = Duration::from_secs(1);

fn on_each_driver(test: impl Fn(&World)) {
    #[cfg(not(miri))] // Miri has no io_uring.
    test(&World::uring());
    test(&World::sim());
}

/// 29, 30.
#[test]
fn timeout_at_the_past_stops_at_the_first_await() {
    on_each_driver(|world| {
        let log = Log::default();
        world.run(async {
            // So that there is a past, also on a clock that begins here.
            sleep(world.short(2)).await.expect("nobody cancels");
            for deadline in [now(), now() - world.short(1)] {
                let body = async {
                    log.push("begun");
                    sleep(Duration::ZERO).await?;
                    log.push("never");
                    ok(())
                };
                let expired = timeout_at(deadline, body).await.expect_err("it was told");
                assert!(is_cancelled(&error_of(expired.late.expect("it ended"))));
                assert_eq!(timeout_at(deadline, async { 7 }).await, Ok(7));
            }
        });
        assert_eq!(log.take(), ["begun"; 2]);
    })
}

#[test]
fn timeout_at_the_past_submits_nothing() {
    on_each_driver(|world| {
        let (reader, writer) = world.pipe();
        world.run(async {
            write(writer, b"hello").await.expect("the pipe is open");
            let expired = timeout_at(now(), read(reader, 9))
                .await
                .expect_err("it was told");
            assert_eq!(expired.late.expect("it ended").1.capacity(), 9);
            assert_eq!(read(reader, 9).await.0.expect("nothing is lost"), 5);
        });
    })
}

#[test]
fn timeout_of_a_task_tells_the_task() {
    on_each_driver(|world| {
        world.run(async {
            let mut task = create_task(async {
                let told = sleep(Duration::MAX).await;
                is_cancelled(&error_of(told))
            });
            let expired = timeout(world.short(1), &mut task)
                .await
                .expect_err("it was told");
            assert_eq!(expired.late, Some(true));
            assert!(task.done());
        });
    })
}

/// C2: a request that the task used up is not made again of whoever awaits it.
#[test]
fn wait_for_around_a_task_asks_once() {
    on_each_driver(|world| {
        let log = Log::default();
        world.run(async {
            let task = create_task(async { sleep(Duration::MAX).await });
            let body = async {
                let told = task.await;
                log.push("told");
                sleep(world.short(1)).await?;
                log.push("cleaned up");
                told
            };
            assert!(is_time_out(&error_of(wait_for(body, world.short(1)).await)));
            // One that ends without having used it up leaves it to the next await.
            let span = world.short(2);
            let task = create_task(async move {
                let _ = pin!(sleep(span)).await.is_err();
                7
            });
            let kept = create_task(std::future::poll_fn(|_| std::task::Poll::Ready(7)));
            let body = async {
                assert_eq!(kept.await, 7);
                assert_eq!(task.await, 7);
                sleep(span).await?;
                ok(())
            };
            wait_for(body, world.short(1))
                .await
                .expect("the task used it up");
        });
        assert_eq!(log.take(), ["told", "cleaned up"]);
    })
}

/// 35: both deadlines pass while the loop does something else. Only the outermost expires.
#[test]
fn timeouts_that_pass_unseen_expire_at_the_outermost() {
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let world = World::sim();
        let (reader, _writer) = world.pipe();
        let mut runner = world.builder().timers(mode).build().expect("a simulator");
        runner.run(async {
            let kernel = world.kernel.clone().expect("the simulator");
            for with_read in [false, true] {
                let kernel = kernel.clone();
                let blocker = create_task(async move {
                    sleep(SECOND / 2).await.expect("nobody cancels");
                    kernel.advance(SECOND * 10); // Blocks the loop.
                });
                let inner = async {
                    let body = async {
                        match with_read {
                            true => read(reader, 9).await.0.map(drop),
                            false => sleep(Duration::MAX).await,
                        }
                    };
                    let told = timeout(SECOND, body).await;
                    is_cancelled(&error_of(told.expect("not this one")))
                };
                let outer = timeout(SECOND * 2, inner).await;
                let expired = outer.expect_err("this one");
                assert_eq!(expired.late, Some(true), "{mode:?}, read: {with_read}");
                blocker.await;
                yield_now().await.expect("nothing is pending");
            }
        });
        finish(runner);
    }
}

/// A body that is always ready to go on, so that the loop never sleeps.
#[cfg(not(miri))]
#[test]
fn wait_for_a_busy_loop_of_yields_times_out() {
    let world = World::uring();
    world.run(async {
        let (begin, limit) = (now(), 5 * MS);
        let body = async {
            loop {
                yield_now().await?;
                assert!(now() - begin < PATIENCE, "it was never told");
            }
        };
        assert!(is_time_out(&error_of::<()>(wait_for(body, limit).await)));
        assert!(now() - begin >= limit);
        // The same while it is another task that keeps the loop from sleeping.
        let begin = now();
        let over = Rc::new(Cell::new(false));
        let flag = over.clone();
        let busy = create_task(async move {
            while !flag.get() {
                yield_now().await.expect("nobody cancels");
                assert!(now() - begin < PATIENCE, "it was never told");
            }
        });
        assert!(is_time_out(&error_of(
            wait_for(pending::<io::Result<()>>(), limit).await
        )));
        assert!(now() - begin >= limit);
        over.set(true);
        busy.await;
    });
}

/// W16, W20 (C1): what is done at the moment of the deadline is done; the request stays for the
/// next await.
#[test]
fn wait_for_in_a_tie_gives_the_result() {
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let world = World::sim();
        let mut runner = world.builder().timers(mode).build().expect("a simulator");
        runner.run(async {
            let span = Duration::from_secs(1);
            wait_for(sleep(span), span).await.expect("the result wins");
            let body = async {
                wait_for(sleep(span), span * 5)
                    .await
                    .expect("the inner one is done");
                let told = sleep(Duration::ZERO).await;
                assert!(is_cancelled(
                    told.as_ref().expect_err("the next await is told")
                ));
                told
            };
            let error = error_of(wait_for(body, span).await);
            assert!(is_time_out(&error), "{mode:?}: {error:?}");
            // The limit waited first.
            let (begin, half) = (now(), span / 2);
            let body = async {
                sleep(half).await?;
                sleep_until(begin + span).await
            };
            let over = wait_for(body, span).await;
            assert!(over.is_ok(), "{mode:?}: the result wins: {over:?}");
        });
        finish(runner);
    }
}
