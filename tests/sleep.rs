//! `sleep`, `sleep_until` and `interval`.

mod common;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::{
    Instant, MissedTickBehavior, Timers, create_task, interval, interval_at, is_timed_out, now,
    sleep, sleep_until, timeout, wait_for, yield_now,
};
use futures_util::future::{Either, select};

const MODES: [Timers; 3] = [Timers::Auto, Timers::Kernel, Timers::Heap];

each_driver! {
    /// Behaviours 105: `SleepTests::test_sleep_zero`.
    fn sleep_zero_lets_the_others_run_once(world) {
        let log = Log::default();
        world.run(async {
            let other = log.clone();
            let task = create_task(async move {
                other.push("one");
                yield_now().await.expect("nobody cancels");
                other.push("two");
            });
            sleep(Duration::ZERO).await.expect("nobody cancels");
            log.push("slept");
            task.await;
        });
        assert_eq!(log.take(), ["one", "slept", "two"]);
    }

    fn sleep_until_the_past_lets_the_others_run_once(world) {
        let log = Log::default();
        world.run(async {
            for deadline in [now(), now() - Duration::from_secs(1), Instant::FAR_FUTURE - Duration::MAX] {
                let other = log.clone();
                let task = create_task(async move { other.push("other") });
                sleep_until(deadline).await.expect("nobody cancels");
                log.push("slept");
                task.await;
            }
        });
        assert_eq!(log.take(), ["other", "slept"].repeat(3));
    }

    fn sleep_of_max_outlasts_everything(world) {
        for mode in MODES {
            let mut runner = world.builder().timers(mode).build().expect("it was built before");
            runner.run(async {
                let long = pin!(sleep(Duration::MAX));
                let short = pin!(sleep(world.short(1)));
                assert!(matches!(select(long, short).await, Either::Right(_)), "{mode:?}");
                let long = pin!(sleep_until(Instant::FAR_FUTURE));
                let short = pin!(sleep(world.short(1)));
                assert!(matches!(select(long, short).await, Either::Right(_)), "{mode:?}");
            });
            finish(runner);
        }
    }

    fn sleep_is_never_early(world) {
        for mode in MODES {
            let mut runner = world.builder().timers(mode).build().expect("it was built before");
            runner.run(async {
                for span in [1, 999, 1_000, 1_234_567, 5_000_001].map(Duration::from_nanos) {
                    let begin = now();
                    sleep(span).await.expect("nobody cancels");
                    assert!(now() - begin >= span, "{mode:?}: {span:?} took {:?}", now() - begin);
                    let deadline = now() + span;
                    sleep_until(deadline).await.expect("nobody cancels");
                    assert!(now() >= deadline, "{mode:?}: {span:?}");
                }
            });
            finish(runner);
        }
    }

    fn sleep_counts_from_its_first_poll(world) {
        world.run(async {
            let span = world.short(1);
            let late = sleep(span);
            sleep(span).await.expect("nobody cancels");
            let begin = now();
            late.await.expect("nobody cancels");
            assert!(now() - begin >= span);
        });
    }

    fn sleep_polled_again_goes_on_waiting(world) {
        world.run(async {
            let (begin, span) = (now(), world.short(2));
            let mut nap = sleep(span);
            for _ in 0..10 {
                assert!(poll_once(&mut nap).await.is_pending());
                yield_now().await.expect("nobody cancels");
            }
            nap.await.expect("nobody cancels");
            assert!(now() - begin >= span);
        });
    }

    /// Behaviours 105: `test_sleep_cancel`, 106: `test_task_cancel_sleeping_task`.
    fn sleep_that_is_told_to_stop_leaves_no_timer(world) {
        for mode in MODES {
            let mut runner = world.builder().timers(mode).build().expect("it was built before");
            runner.run(async {
                let task = create_task(async { sleep(Duration::from_secs(86_400)).await });
                let error = error_of(wait_for(task, world.short(1)).await);
                assert!(is_time_out(&error), "{mode:?}: {error:?}");
            });
            // No waiting for a day: the timer is gone.
            finish(runner);
        }
    }

    fn sleep_that_is_dropped_leaves_no_timer(world) {
        for mode in MODES {
            let mut runner = world.builder().timers(mode).build().expect("it was built before");
            runner.run(async {
                for _ in 0..200 {
                    let mut nap = sleep(Duration::from_secs(86_400));
                    assert!(poll_once(&mut nap).await.is_pending());
                }
            });
            finish(runner);
        }
    }

    fn interval_ticks_at_moments_a_period_apart(world) {
        world.run(async {
            let period = world.short(1);
            let begin = now();
            let mut ticks = interval(period);
            assert_eq!(ticks.period(), period);
            let first = ticks.tick().await.expect("nobody cancels");
            assert!(first >= begin + period && now() >= first);
            for i in 1..=5 {
                if i % 2 == 0 {
                    sleep(period / 2).await.expect("nobody cancels"); // Work, of varying length.
                }
                let due = ticks.tick().await.expect("nobody cancels");
                assert_eq!(due, first + period * i, "it drifts");
                assert!(now() >= due, "it is early");
            }
        });
    }

    fn interval_asked_late_gives_what_is_due_one_by_one(world) {
        world.run(async {
            let period = world.short(1);
            let mut ticks = interval(period);
            let first = ticks.tick().await.expect("nobody cancels");
            sleep_until(first + period * 3).await.expect("nobody cancels");
            for i in 1..=3 {
                assert_eq!(ticks.tick().await.expect("nobody cancels"), first + period * i);
            }
            let next = ticks.tick().await.expect("nobody cancels");
            assert!(next == first + period * 4 && now() >= next);
        });
    }

    fn interval_that_skips_what_was_missed_keeps_its_moments(world) {
        world.run(async {
            let (begin, period) = (now(), world.short(2));
            let mut ticks = interval_at(begin, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            assert_eq!(ticks.tick().await.expect("nobody cancels"), begin);
            sleep_until(begin + period * 7 / 2).await.expect("nobody cancels");
            assert_eq!(ticks.tick().await.expect("it is due"), begin + period);
            let next = ticks.tick().await.expect("nobody cancels");
            let late = next - begin;
            assert!(next >= begin + period * 4 && late.as_nanos() % period.as_nanos() == 0);
            assert_eq!(ticks.tick().await.expect("nobody cancels"), next + period);
        });
    }

    fn interval_that_delays_counts_on_from_the_tick_that_was_late(world) {
        world.run(async {
            let (begin, period) = (now(), world.short(1));
            let mut ticks = interval_at(begin, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            assert_eq!(ticks.missed_tick_behavior(), MissedTickBehavior::Delay);
            ticks.tick().await.expect("nobody cancels");
            sleep_until(begin + period * 7 / 2).await.expect("nobody cancels");
            let late = now();
            assert_eq!(ticks.tick().await.expect("it is due"), begin + period);
            let next = ticks.tick().await.expect("nobody cancels");
            assert!(next >= late + period && next < now() + period);
        });
    }

    fn interval_whose_tick_is_dropped_loses_nothing(world) {
        world.run(async {
            let period = world.short(2);
            let begin = now();
            let mut ticks = interval(period);
            for _ in 0..3 {
                let mut tick = Box::pin(ticks.tick());
                assert!(poll_once(&mut tick).await.is_pending());
            }
            let first = ticks.tick().await.expect("nobody cancels");
            assert!(first - begin >= period && now() >= first);
            assert_eq!(ticks.tick().await.expect("nobody cancels"), first + period);
        });
    }

    fn interval_whose_tick_times_out_loses_nothing(world) {
        world.run(async {
            let period = world.short(2);
            let mut ticks = interval(period);
            let error = error_of(wait_for(ticks.tick(), world.short(1)).await);
            assert!(is_timed_out(&error), "{error:?}");
            let first = ticks.tick().await.expect("nobody cancels");
            assert_eq!(ticks.tick().await.expect("nobody cancels"), first + period);
        });
    }

    /// The request to stop reached the tick, but its future was dropped before it could say so:
    /// that is no business of the next one.
    fn interval_whose_tick_is_dropped_when_told_to_stop_goes_on(world) {
        world.run(async {
            let period = world.short(3);
            let mut ticks = interval(period);
            let body = async {
                let other = pin!(sleep(Duration::MAX));
                let tick = pin!(ticks.tick());
                // The one that was polled first is told first, and ends the whole.
                let Either::Left((told, _)) = select(other, tick).await else {
                    panic!("the tick came");
                };
                assert!(coring::is_cancelled(&error_of(told)));
            };
            let expired = timeout(world.short(1), body).await;
            assert!(expired.expect_err("it was told").late.is_some());
            let first = ticks.tick().await.expect("nobody cancels this one");
            assert!(now() >= first);
            assert_eq!(ticks.tick().await.expect("nobody cancels"), first + period);
        });
    }

    fn interval_reset_counts_from_now(world) {
        world.run(async {
            let period = world.short(2);
            let mut ticks = interval(period);
            let mut tick = Box::pin(ticks.tick());
            assert!(poll_once(&mut tick).await.is_pending());
            drop(tick);
            sleep(period / 2).await.expect("nobody cancels");
            let begin = now();
            ticks.reset();
            let first = ticks.tick().await.expect("nobody cancels");
            assert!(first >= begin + period && now() >= first);
            assert_eq!(ticks.tick().await.expect("nobody cancels"), first + period);
        });
    }

    fn interval_of_max_never_ticks(world) {
        world.run(async {
            let mut ticks = interval(Duration::MAX);
            for _ in 0..2 {
                let error = error_of(wait_for(ticks.tick(), world.short(1)).await);
                assert!(is_time_out(&error));
            }
        });
    }
}

/// With a clock that stands still while tasks run, each sleep ends exactly when it is due, and
/// sleeps of one moment in the order in which they began.
#[test]
fn sleeps_end_in_the_order_of_their_moments() {
    const SLEEPS: usize = if cfg!(miri) { 30 } else { 300 };
    for mode in MODES {
        let world = World::sim();
        let mut runner = world.builder().timers(mode).build().expect("a simulator");
        let ended = Rc::new(RefCell::new(Vec::new()));
        runner.run(async {
            let begin = now();
            let tasks: Vec<_> = (0..SLEEPS as u64)
                .map(|i| {
                    let ended = ended.clone();
                    create_task(async move {
                        let span = Duration::from_millis(1 + i * 7 % (SLEEPS as u64 / 3));
                        sleep(span).await.expect("nobody cancels");
                        assert_eq!(now() - begin, span);
                        ended.borrow_mut().push(span);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
        });
        assert!(ended.borrow().is_sorted(), "{mode:?}");
        assert_eq!(ended.borrow().len(), SLEEPS);
        finish(runner);
    }
}

#[test]
fn a_day_asleep_takes_no_time_on_the_simulator() {
    let world = World::sim();
    world.run(async {
        let begin = now();
        sleep(Duration::from_secs(86_400))
            .await
            .expect("nobody cancels");
        assert_eq!(now() - begin, Duration::from_secs(86_400));
    });
}

#[test]
#[should_panic(expected = "the period of an interval is zero")]
fn interval_of_zero_panics() {
    World::sim().run(async {
        let _ = interval(Duration::ZERO);
    });
}
