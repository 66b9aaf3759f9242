//! Sleeps, in the kernel and in the heap: never early, cancelled in any order, at every limit.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring_runtime::*;

const MODES: [Timers; 3] = [Timers::Auto, Timers::Kernel, Timers::Heap];
const MANY: usize = if cfg!(miri) { 80 } else { 10_000 };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn each_mode(world: &World, f: impl AsyncFn(Timers)) {
    for timers in MODES {
        let mut runner = world.builder().timers(timers).build().expect("a driver");
        runner.run(f(timers));
        quiesce(&mut runner);
        assert_clean(&runner.stats());
    }
}

/// In an order that looks like none.
fn shuffle<T>(items: &mut [T]) {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for at in (1..items.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        items.swap(at, random as usize % (at + 1));
    }
}

each_driver! {
    fn sleeps_end_in_the_order_of_their_deadlines_and_never_early(world) {
        each_mode(world, async |_| {
            let order = Rc::new(RefCell::new(Vec::new()));
            let begin = now();
            let tasks: Vec<_> = [5u64, 1, 9, 3, 7]
                .into_iter()
                .map(|span| {
                    let order = order.clone();
                    create_task(async move {
                        Timer::at(begin + ms(span * 4)).await.expect("nobody cancels");
                        assert!(now() - begin >= ms(span * 4), "early");
                        order.borrow_mut().push(span);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(*order.borrow(), [1, 3, 5, 7, 9]);
        });
    }

    fn sleep_of_zero_or_in_the_past_lets_the_others_run_once(world) {
        each_mode(world, async |_| {
            let begin = now();
            for timer in [Timer::after(Duration::ZERO), Timer::at(begin), Timer::at(begin - ms(5))] {
                let ran = create_task(async {});
                timer.await.expect("nobody cancels");
                assert!(ran.done(), "the others run");
            }
        });
    }

    fn sleep_of_max_never_ends_and_can_be_dropped(world) {
        each_mode(world, async |_| {
            let mut sleeps = [
                Timer::after(Duration::MAX),
                Timer::at(Instant::FAR_FUTURE),
                Timer::after(Duration::from_secs(u64::MAX / 2)),
            ];
            for sleep in &mut sleeps {
                start(sleep).await;
            }
            Timer::after(ms(3)).await.expect("nobody cancels");
            for sleep in &mut sleeps {
                assert!(poll_here(sleep).await.is_pending());
            }
        });
    }

    fn sleeps_that_are_dropped_wake_nobody_whatever_the_order(world) {
        for order in 0..3 {
            each_mode(world, async |timers| {
                // One removal in the kernel walks a list: that mode is for few.
                let many = if timers == Timers::Kernel { MANY / 5 } else { MANY };
                let mut sleeps: Vec<_> = (0..many)
                    .map(|k| Timer::after(ms(3_600_000) + Duration::from_micros(k as u64 * 37)))
                    .collect();
                for sleep in &mut sleeps {
                    start(sleep).await;
                }
                yield_now().await.expect("nobody cancels");
                match order {
                    0 => drop(sleeps),
                    1 => while sleeps.pop().is_some() {},
                    _ => {
                        shuffle(&mut sleeps);
                        drop(sleeps);
                    }
                }
                Timer::after(ms(1)).await.expect("nobody cancels");
            });
        }
    }

    fn sleeps_under_one_deadline_are_all_cancelled_by_it(world) {
        each_mode(world, async |timers| {
            let many = if timers == Timers::Kernel { MANY / 5 } else { MANY };
            let sleeps: Vec<_> = (0..many).map(|_| Timer::after(ms(3_600_000))).collect();
            let body = async {
                let mut sleeps = sleeps;
                for sleep in &mut sleeps {
                    start(sleep).await;
                }
                let mut cancelled = 0;
                for sleep in sleeps {
                    cancelled += usize::from(is_cancelled(&sleep.await.expect_err("cancelled")));
                }
                cancelled
            };
            let Limited::Output(cancelled, expiry) = within(ms(20), body).await else {
                panic!("they are leaves");
            };
            assert_eq!(cancelled, many);
            assert!(expiry.timed_out);
        });
    }

    fn sleeps_are_kernel_timeouts_while_few_in_auto_mode(world) {
        let mut runner = world.builder().timers(Timers::Auto).build().expect("a driver");
        let limit = Timers::KERNEL_MAX as usize;
        let mut sleeps: Vec<_> = (0..limit + 10).map(|_| Timer::after(ms(3_600_000))).collect();
        runner.run(async {
            for sleep in &mut sleeps {
                start(sleep).await;
            }
        });
        assert_eq!(runner.stats().in_flight, limit);
        drop(sleeps);
        world.finish(runner);
    }

    fn sleep_that_ended_before_it_is_polled_again_gives_its_end(world) {
        each_mode(world, async |_| {
            let mut sleep = Timer::after(ms(1));
            start(&mut sleep).await;
            Timer::after(ms(4)).await.expect("nobody cancels");
            // Under a deadline that passes now: the end came first (C1).
            let Limited::Output(result, _) = within(Duration::from_secs(60), sleep).await else {
                panic!("it is a leaf");
            };
            result.expect("C1: it had ended");
        });
    }

    fn sleep_moved_between_tasks_wakes_the_last_one(world) {
        each_mode(world, async |_| {
            let mut sleep = Timer::after(ms(3));
            start(&mut sleep).await;
            create_task(async move { sleep.await.expect("nobody cancels") }).await;
        });
    }

    fn clock_goes_on_and_a_sleep_moves_it_by_its_span(world) {
        world.run(async {
            let begin = now();
            Timer::after(ms(2)).await.expect("nobody cancels");
            let span = now() - begin;
            assert!(span >= ms(2));
            if world.is_sim() {
                assert_eq!(span, ms(2), "exact on a virtual clock");
            }
        });
    }
}
