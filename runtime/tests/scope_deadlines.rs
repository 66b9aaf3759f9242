//! Scopes and their deadlines: C1 to C8, R13.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::*;
use coring_runtime::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn timed_out<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| is_timed_out(&error))
}

/// A sleep that nothing but its end ends.
async fn sleep(span: Duration) {
    Timer::after(span).await.expect("nobody cancels");
}

each_driver! {
    fn deadline_of_an_operation_is_its_linked_timeout(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let begin = now();
            let result = wait_for(ms(5), async { read(reader, 4).await.0 }).await;
            assert!(timed_out(result));
            assert!(now() - begin >= ms(5), "never early");
        });
        // The read is the only operation: its deadline was no timer of its own.
        assert_eq!(runner.stats().submissions, 1);
        world.finish(runner);
    }

    fn deadline_gives_the_buffer_back(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let Limited::Output(BufResult(result, buf), expiry) =
                within(ms(2), read(reader, 7)).await
            else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("nothing is written")));
            assert_eq!(buf.len(), 7);
            assert_eq!((expiry.timed_out, expiry.heard), (true, true));
        });
    }

    fn c1_operation_that_completes_in_time_keeps_its_result(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let task = create_task(async move {
                wait_for(Duration::from_secs(3600), async { read(reader, 4).await.0 }).await
            });
            yield_now().await.expect("nobody cancels");
            assert_eq!(write(writer, b"ok").await.0.expect("open"), 2);
            assert_eq!(task.await.expect("in time"), 2);
        });
    }

    fn c1_future_that_is_ready_wins_over_a_limit_of_zero(world) {
        world.run(async {
            let limited = within(Duration::ZERO, async { 5 }).await;
            assert!(matches!(limited, Limited::Output(5, Expiry { heard: false, .. })));
        });
    }

    fn limit_of_zero_stops_the_body_at_its_first_await(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let result = wait_for(Duration::ZERO, async { read(reader, 4).await.0 }).await;
            assert!(timed_out(result));
            assert!(timed_out(wait_for(Duration::ZERO, yield_now()).await));
            assert!(timed_out(wait_for(Duration::ZERO, Timer::after(ms(1))).await));
            assert!(timed_out(wait_for(Duration::ZERO, Timer::after(Duration::ZERO)).await));
            assert!(matches!(within(Duration::ZERO, pending::<()>()).await, Limited::Abandoned));
        });
        assert_eq!(runner.stats().submissions, 0, "nothing was started");
        world.finish(runner);
    }

    fn limit_of_max_is_none(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let task = create_task(async move {
                wait_for(Duration::MAX, async { read(reader, 4).await.0 }).await
            });
            sleep(ms(2)).await;
            assert_eq!(write(writer, b"abc").await.0.expect("open"), 3);
            assert_eq!(task.await.expect("no limit"), 3);
            let body = async { sleep(ms(2)).await };
            assert!(matches!(within(Duration::MAX, body).await, Limited::Output((), _)));
        });
        world.finish(runner);
    }

    fn deadline_in_the_past_stops_the_body_at_its_first_await(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            sleep(ms(2)).await;
            let past = now() - ms(1);
            let Limited::Output(BufResult(result, _), expiry) =
                within_until(past, read(reader, 4)).await
            else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("nothing is written")) && expiry.timed_out);
            assert!(matches!(within_until(past, pending::<()>()).await, Limited::Abandoned));
            assert!(matches!(
                within_until(past, async { 1 }).await,
                Limited::Output(1, Expiry { timed_out: false, .. })
            ));
            assert!(matches!(
                within_until(Instant::FAR_FUTURE, async { yield_now().await }).await,
                Limited::Output(Ok(()), Expiry { timed_out: false, .. })
            ));
        });
    }

    fn deadline_of_a_sleep_cancels_it_in_every_mode(world) {
        for timers in [Timers::Auto, Timers::Kernel, Timers::Heap] {
            let mut runner = world.builder().timers(timers).build().expect("a driver");
            runner.run(async {
                let begin = now();
                let result = wait_for(ms(3), Timer::after(Duration::from_secs(3600))).await;
                assert!(timed_out(result));
                assert!(now() - begin >= ms(3), "never early");
                assert!(wait_for(Duration::from_secs(3600), Timer::after(ms(1))).await.is_ok());
            });
            world.finish(runner);
        }
    }

    fn deadline_of_a_read_cancels_it_in_every_mode(world) {
        let (reader, _) = world.pipe();
        for timers in [Timers::Auto, Timers::Kernel, Timers::Heap] {
            let mut runner = world.builder().timers(timers).build().expect("a driver");
            runner.run(async {
                let begin = now();
                let Limited::Output(BufResult(n, buf), expiry) = within(ms(3), read(reader, 4)).await
                else {
                    panic!("it has a leaf");
                };
                assert!(is_cancelled(&n.expect_err("nothing is written")) && expiry.timed_out);
                assert_eq!(buf.len(), 4);
                assert!(now() - begin >= ms(3), "never early");
            });
            world.finish(runner);
        }
    }

    fn c5_foreign_future_is_dropped_at_the_deadline(world) {
        let drops = Drops::default();
        let counted = drops.clone();
        world.run(async {
            let body = async move {
                let _guard = Tracked::new(1, &counted);
                pending::<()>().await;
            };
            let begin = now();
            assert!(matches!(within(ms(3), body).await, Limited::Abandoned));
            assert!(now() - begin >= ms(3), "never early");
        });
        assert_eq!(drops.get(), 1);
    }

    fn c5_body_that_yields_in_its_clean_up_is_not_abandoned(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let body = async {
                let result = read(reader, 4).await.0;
                for _ in 0..5 {
                    yield_now().await.expect("C2: delivered already");
                }
                Timer::after(Duration::ZERO).await.expect("C2: delivered already");
                result
            };
            let Limited::Output(result, expiry) = within(ms(1), body).await else {
                panic!("C5: it was not idle");
            };
            assert!(is_cancelled(&result.expect_err("nothing is written")) && expiry.timed_out);
        });
    }

    /// A sibling that opens a scope of its own must not hide that another one has yielded.
    fn c5_body_that_yields_beside_a_foreign_future_with_a_limit_is_not_abandoned(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let stop = Rc::new(Cell::new(false));
            let body = both(
                async {
                    let result = read(reader, 4).await.0;
                    for _ in 0..3 {
                        yield_now().await.expect("C2: delivered already");
                    }
                    stop.set(true);
                    result
                },
                // Nothing of coring's but the scope.
                within(Duration::MAX, poll_fn(|_| {
                    if stop.get() { Poll::Ready(()) } else { Poll::Pending }
                })),
            );
            let Limited::Output((result, _), _) = within(ms(1), body).await else {
                panic!("C5: it was not idle");
            };
            assert!(is_cancelled(&result.expect_err("nothing is written")));
        });
    }

    fn c2_request_is_delivered_once_and_clean_up_awaits_work(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let body = async {
                let error = read(reader, 4).await.0.expect_err("cancelled");
                assert!(is_cancelled(&error));
                // C4: the buffer is back, and everything works.
                assert_eq!(write(writer, b"bye").await.0.expect("C2: once"), 3);
                assert_eq!(read(reader, 4).await.0.expect("C2: once"), 3);
                sleep(ms(1)).await;
                create_task(async { 4 }).await
            };
            let Limited::Output(four, expiry) = within(ms(1), body).await else {
                panic!("it has leaves");
            };
            assert_eq!((four, expiry.timed_out, expiry.heard), (4, true, true));
        });
    }

    fn c2_request_reaches_both_branches_of_a_join(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let body = both(read(reader, 4), Timer::after(Duration::from_secs(3600)));
            let Limited::Output((BufResult(one, _), two), _) = within(ms(1), body).await else {
                panic!("it has leaves");
            };
            assert!(is_cancelled(&one.expect_err("cancelled")));
            assert!(is_cancelled(&two.expect_err("cancelled")));
        });
    }

    fn c2_request_that_no_await_heard_is_dropped_with_its_scope(world) {
        world.run(async {
            let begin = now();
            // The deadline passes while it computes; nothing is awaited after.
            let body = async {
                yield_now().await.expect("in time");
                world.pass(ms(5));
                7
            };
            let Limited::Output(7, expiry) = within(ms(1), body).await else { panic!("C1") };
            assert!(!(expiry.timed_out && expiry.heard), "C1: it won the race");
            assert!(now() - begin >= ms(5));
            yield_now().await.expect("C2: not the business of what comes after");
        });
    }

    /// The loop looks at the clock once a turn: seen at the first await after that.
    fn c7_deadline_that_passed_while_the_body_computed_stops_its_next_effect(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let body = async {
                sleep(ms(1)).await; // From here on it counts.
                world.pass(ms(30));
                nop().await?; // Has no effect, and lets the loop turn.
                write(writer, b"no effect").await.0
            };
            assert!(timed_out(wait_for(ms(10), body).await));
            let mut op = read(reader, 16);
            start(&mut op).await;
            yield_now().await.expect("nobody cancels");
            yield_now().await.expect("nobody cancels");
            assert!(poll_here(&mut op).await.is_pending(), "C7: it was written");
        });
        world.finish(runner);
    }

    fn c8_inner_deadline_times_the_inner_out_and_the_outer_goes_on(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let body = async {
                assert!(timed_out(wait_for(ms(1), async { read(reader, 4).await.0 }).await));
                sleep(ms(1)).await;
                Ok(3)
            };
            assert_eq!(wait_for(Duration::from_secs(60), body).await.expect("in time"), 3);
        });
    }

    fn c8_outer_deadline_is_not_the_inner_ones_time_out(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let inner_said = Rc::new(Cell::new(None));
            let said = inner_said.clone();
            let body = async {
                let inner = wait_for(Duration::from_secs(60), async { read(reader, 4).await.0 });
                let result = inner.await;
                said.set(Some(timed_out(result)));
                std::io::Result::<()>::Err(Cancelled::default().into())
            };
            assert!(timed_out(wait_for(ms(1), body).await));
            assert_eq!(inner_said.get(), Some(false), "C8: it was cancelled from outside");
        });
    }

    fn c8_of_equal_deadlines_the_outermost_wins(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let deadline = now() + ms(3);
            let inner = within_until(deadline, read(reader, 4));
            let Limited::Output(Limited::Output(BufResult(result, _), inner), outer) =
                within_until(deadline, inner).await
            else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("cancelled")));
            assert!(outer.timed_out && !inner.timed_out, "{outer:?} {inner:?}");
        });
    }

    fn c8_deadline_within_the_clean_up_of_another_is_its_own(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let body = async {
                assert!(read(reader, 4).await.0.is_err());
                // A limit within the clean-up: the request of the outer one came before it began.
                assert!(timed_out(wait_for(ms(1), async { read(reader, 4).await.0 }).await));
            };
            let Limited::Output((), expiry) = within(ms(1), body).await else {
                panic!("it has leaves");
            };
            assert!(expiry.timed_out);
        });
    }

    /// The read carries the deadline of a scope that it has left when it fires.
    fn r13_operation_that_outlives_its_scope_is_not_ended_by_its_deadline(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = read(reader, 4);
            let mut limited = within(ms(3), poll_fn(|cx| {
                assert!(std::pin::Pin::new(&mut op).poll(cx).is_pending());
                Poll::Ready(())
            }));
            assert!(matches!(poll_here(&mut limited).await, Poll::Ready(Limited::Output((), _))));
            drop(limited);
            let task = create_task(op);
            sleep(ms(10)).await; // The linked timeout has fired.
            assert!(!task.done(), "nobody asked it to stop");
            assert_eq!(write(writer, b"late").await.0.expect("somebody reads"), 4);
            assert_eq!(task.await.0.expect("started again"), 4);
        });
        world.finish(runner);
    }

    /// The scope lives, but its carrier is awaited elsewhere.
    fn r13_operation_moved_out_of_a_scope_that_lives_leaves_the_deadline_behind(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let op = Rc::new(RefCell::new(read(reader, 4)));
            let mut first = true;
            let theirs = op.clone();
            let limited = within(ms(3), poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    assert!(std::pin::Pin::new(&mut *theirs.borrow_mut()).poll(cx).is_pending());
                }
                Poll::<()>::Pending // A foreign future otherwise.
            }));
            let limited = create_task(limited);
            yield_now().await.expect("nobody cancels");
            yield_now().await.expect("nobody cancels");
            let task = create_task(poll_fn(move |cx| {
                std::pin::Pin::new(&mut *op.borrow_mut()).poll(cx)
            }));
            assert!(matches!(limited.await, Limited::Abandoned));
            sleep(ms(5)).await;
            assert!(!task.done(), "it is not under that deadline any more");
            assert_eq!(write(writer, b"x").await.0.expect("somebody reads"), 1);
            assert_eq!(task.await.0.expect("started again"), 1);
        });
        world.finish(runner);
    }

    /// The same, and it completes elsewhere before the deadline: somebody else must tell it.
    fn r13_deadline_whose_carrier_completes_elsewhere_still_fires(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let op = Rc::new(RefCell::new(read(reader, 4)));
            let mut first = true;
            let theirs = op.clone();
            let limited = create_task(within(ms(20), poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    assert!(std::pin::Pin::new(&mut *theirs.borrow_mut()).poll(cx).is_pending());
                }
                Poll::<()>::Pending
            })));
            yield_now().await.expect("nobody cancels");
            let task = create_task(poll_fn(move |cx| {
                std::pin::Pin::new(&mut *op.borrow_mut()).poll(cx)
            }));
            yield_now().await.expect("nobody cancels");
            assert_eq!(write(writer, b"x").await.0.expect("somebody reads"), 1);
            assert_eq!(task.await.0.expect("open"), 1);
            let (limited, _) = both(limited, Timer::after(ms(60))).await;
            assert!(matches!(limited, Limited::Abandoned));
        });
        world.finish(runner);
    }

    /// And it is dropped elsewhere.
    fn r13_deadline_whose_carrier_is_dropped_elsewhere_still_fires(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let op = Rc::new(RefCell::new(Some(read(reader, 4))));
            let mut first = true;
            let theirs = op.clone();
            let limited = create_task(within(ms(5), poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    let mut op = theirs.borrow_mut();
                    let op = op.as_mut().expect("it is there");
                    assert!(std::pin::Pin::new(op).poll(cx).is_pending());
                }
                Poll::<()>::Pending
            })));
            yield_now().await.expect("nobody cancels");
            yield_now().await.expect("nobody cancels");
            drop(op.borrow_mut().take());
            let (limited, _) = both(limited, Timer::after(ms(60))).await;
            assert!(matches!(limited, Limited::Abandoned));
        });
        world.finish(runner);
    }

    fn r13_scope_polled_in_one_task_and_then_in_another_is_of_that_one(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let mut limited = within(ms(5), read(reader, 4));
            start(&mut limited).await;
            // Its parent is main's root so far.
            let task = create_task(async move {
                within(Duration::from_secs(60), limited).await
            });
            let Limited::Output(Limited::Output(BufResult(result, _), inner), outer) = task.await
            else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("cancelled")));
            assert!(inner.timed_out && !outer.timed_out);
        });
    }

    fn r13_scope_moved_under_a_shorter_deadline_is_stopped_by_that(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let mut inner = within(Duration::from_secs(60), read(reader, 4));
            start(&mut inner).await;
            let Limited::Output(Limited::Output(BufResult(result, _), inner), outer) =
                within(ms(3), inner).await
            else {
                panic!("it has a leaf");
            };
            assert!(is_cancelled(&result.expect_err("cancelled")));
            assert!(outer.timed_out && !inner.timed_out);
        });
    }

    fn deadline_around_a_task_forwards_the_request_and_waits_for_it(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let task = create_task(async move {
                let error = read(reader, 4).await.0.expect_err("cancelled");
                assert!(is_cancelled(&error));
                sleep(ms(2)).await; // Its clean-up.
                11
            });
            let Limited::Output(eleven, expiry) = within(ms(2), task).await else {
                panic!("C5: a task is a leaf");
            };
            assert_eq!(eleven, 11);
            assert!(expiry.timed_out);
        });
    }

    /// The task used it up, so the awaits after it must not hear of it again.
    fn c2_request_that_an_awaited_task_used_up_is_used_up(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let body = async {
                let task = create_task(async move { read(reader, 4).await.0.is_err() });
                assert!(task.await, "it was cancelled");
                nop().await.expect("C2: the task had it");
                yield_now().await.expect("C2: the task had it");
            };
            let Limited::Output((), expiry) = within(ms(2), body).await else {
                panic!("C5: a task is a leaf");
            };
            assert!(expiry.timed_out && expiry.heard);
        });
    }

    /// It did not, since it had completed: the next await has it.
    fn c2_request_that_an_awaited_task_did_not_hear_stays_pending(world) {
        let clock = world.clock();
        world.run(async {
            let body = async {
                let task = create_task(async move {
                    // Deaf: foreign.
                    let mut polls = 0;
                    let waker_of = poll_fn(|cx| {
                        polls += 1;
                        cx.waker().wake_by_ref();
                        // More than one turn's worth before and after.
                        if polls == 300 { clock.pass(ms(15)); }
                        if polls > 900 { Poll::Ready(()) } else { Poll::Pending }
                    });
                    waker_of.await;
                });
                task.await;
                nop().await
            };
            assert!(timed_out(wait_for(ms(10), body).await));
        });
    }

    fn c3_request_that_is_pending_when_a_task_is_awaited_is_forwarded_after_its_first_await(world) {
        let (reader, _) = world.pipe();
        world.run(async {
            let ran = Rc::new(Cell::new(false));
            let set = ran.clone();
            let task = create_task(async move {
                set.set(true);
                read(reader, 4).await.0.is_err()
            });
            let Limited::Output(cancelled, _) = within(Duration::ZERO, task).await else {
                panic!("C5: a task is a leaf");
            };
            assert!(ran.get() && cancelled, "C3");
        });
    }

    fn deadline_fires_while_other_tasks_keep_the_loop_busy(world) {
        let mut runner = world.runner();
        runner.run(async {
            let stop = Rc::new(Cell::new(false));
            let stopped = stop.clone();
            let clock = world.clock();
            let busy = create_task(async move {
                while !stopped.get() {
                    clock.pass(Duration::from_micros(50));
                    yield_now().await.expect("nobody cancels");
                }
            });
            let begin = now();
            assert!(matches!(within(ms(5), pending::<()>()).await, Limited::Abandoned));
            assert!(now() - begin < Duration::from_secs(2), "it waited for the loop to be idle");
            let begin = now();
            assert!(timed_out(wait_for(ms(5), Timer::after(Duration::from_secs(3600))).await));
            assert!(now() - begin < Duration::from_secs(2), "it waited for the loop to be idle");
            stop.set(true);
            busy.await;
        });
        world.finish(runner);
    }

    fn multishot_takes_no_linked_timeout_and_stays_armed_when_its_wait_times_out(world) {
        let request = Request::new(POLL_ADD, world.pipe().0).op_flags(libc::POLLIN as u32).len(1);
        if let Some(kernel) = &world.kernel {
            kernel.script(POLL_ADD, sim_kernel::Script::Shots(vec![], None));
        }
        let mut runner = world.runner();
        runner.run(async {
            let mut polls = submit_multishot(Yields::new(request));
            for _ in 0..3 {
                let result = wait_for(ms(1), polls.next()).await;
                assert!(timed_out(result.map(|_| ())));
            }
        });
        assert_eq!(runner.stats().submissions, 1, "it stayed armed");
        world.finish(runner);
    }

    fn many_scopes_open_and_close_in_any_order_and_leave_nothing(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut random = 88172645463325252u64;
            let mut open = Vec::new();
            for _ in 0..if cfg!(miri) { 60 } else { 3_000 } {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if !random.is_multiple_of(3) || open.is_empty() {
                    let limit = Duration::from_micros(random % 3_000 + 1);
                    let mut limited = Box::pin(within(limit, read(reader, 1)));
                    let _ = poll_here(&mut limited).await;
                    open.push(Some(limited));
                } else {
                    let at = random as usize / 3 % open.len();
                    let one = open.swap_remove(at).expect("it is there");
                    if random.is_multiple_of(2) {
                        drop(one);
                    } else if let Limited::Output(BufResult(result, _), expiry) = one.await {
                        assert!(is_cancelled(&result.expect_err("nothing is written")));
                        assert!(expiry.timed_out);
                    }
                }
                world.pass(Duration::from_micros(20));
            }
        });
        world.finish(runner);
    }
}

use coring_runtime::sim as sim_kernel;

/// What only a script can make the kernel do.
mod scripted {
    use coring_runtime::sim::Script;

    use super::*;

    #[test]
    fn c1_short_result_past_the_deadline_is_the_result_and_the_next_await_is_stopped() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, _) = world.pipe();
        // The linked timeout's cancel loses: a part had arrived.
        kernel.script(READ, Script::WhenCancelled(3));
        world.run(async {
            let got = Rc::new(Cell::new(0));
            let set = got.clone();
            let body = async {
                set.set(read(reader, 10).await.0.expect("C1"));
                nop().await
            };
            assert!(timed_out(wait_for(ms(5), body).await));
            assert_eq!(got.get(), 3);
        });
    }

    #[test]
    fn c1_tie_of_result_and_deadline_gives_the_result() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, _) = world.pipe();
        kernel.script(READ, Script::After(ms(5), 2));
        world.run(async {
            let result = wait_for(ms(5), async { read(reader, 4).await.0 }).await;
            assert_eq!(result.expect("C1: a tie"), 2);
        });
    }

    #[test]
    fn operation_that_something_else_cancels_before_the_deadline_is_closed_and_not_timed_out() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, _) = world.pipe();
        kernel.script(READ, Script::After(ms(1), -libc::ECANCELED));
        world.run(async {
            let body = async { read(reader, 4).await.0 };
            let error = wait_for(Duration::from_secs(60), body)
                .await
                .expect_err("scripted");
            assert!(!is_timed_out(&error) && !is_cancelled(&error), "{error}");
            assert!(error.to_string().contains("closed"), "{error}");
            yield_now().await.expect("nobody asked");
        });
    }

    #[test]
    fn operation_in_a_worker_thread_that_its_deadline_interrupts_is_timed_out() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, _) = world.pipe();
        kernel.script(READ, Script::WhenCancelled(-libc::EINTR));
        world.run(async {
            assert!(timed_out(
                wait_for(ms(5), async { read(reader, 4).await.0 }).await
            ));
        });
    }

    #[test]
    fn operation_that_cannot_be_cancelled_overruns_its_deadline_and_gives_its_result() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, _) = world.pipe();
        kernel.script(READ, Script::Uncancellable(ms(50), 4));
        world.run(async {
            let begin = now();
            let Limited::Output(BufResult(n, _), expiry) = within(ms(5), read(reader, 4)).await
            else {
                panic!("it has a leaf");
            };
            assert_eq!(n.expect("C1"), 4);
            assert_eq!(now() - begin, ms(50), "C4");
            assert!(!(expiry.timed_out && expiry.heard), "C1: it won the race");
        });
    }

    #[test]
    fn deadlines_are_exact_on_a_virtual_clock_at_every_depth() {
        let world = World::sim();
        let (reader, _) = world.pipe();
        world.run(async {
            for (outer, inner) in [(7, 3), (3, 7), (5, 5)] {
                let begin = now();
                let body = within(ms(inner), read(reader, 4));
                let Limited::Output(Limited::Output(..), _) = within(ms(outer), body).await else {
                    panic!("it has a leaf");
                };
                assert_eq!(now() - begin, ms(outer.min(inner)));
            }
        });
    }
}

/// Not over `sim`, whose clock stands still while the loop is busy.
#[cfg(not(miri))]
#[test]
fn c2_request_reaches_a_branch_whose_operation_has_just_completed() {
    let world = World::uring();
    let (reader, _) = world.pipe();
    world.run(async {
        // Each look of the loop finds the NOP done, the one that finds the deadline too.
        let busy = async {
            for _ in 0..100_000_000 {
                nop().await?;
            }
            std::io::Result::Ok(())
        };
        // Of a `join!` of another crate, that another branch has heard of it may be the end of it.
        let body = gather!(read(reader, 4), busy).return_exceptions();
        let Limited::Output((BufResult(one, _), two), _) = within(ms(5), body).await else {
            panic!("it has leaves");
        };
        assert!(is_cancelled(&one.expect_err("cancelled")));
        assert!(is_cancelled(&two.expect_err("cancelled")));
    });
}
