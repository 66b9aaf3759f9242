//! Tasks that are asked to stop, and shields. A test whose name begins with a number re-creates
//! that behaviour of CPython's test_asyncio.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;

use common::*;
use coring::sim::Script;
use coring::{
    Task, all_tasks, cancellable, create_task, current_task, is_cancelled, now, shield, shielded,
    shielded_for, sleep, timeout, wait_for, yield_now,
};
use futures_util::FutureExt;
use futures_util::future::{join, select};

fn reason_of(error: &io::Error) -> String {
    assert!(is_cancelled(error), "{error}");
    error.to_string()
}

each_driver! {
    fn b091_task_that_awaits_itself_says_so(world) {
        world.run(async {
            let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
            let awaits = own.clone();
            let task = create_task(async move {
                yield_now().await.expect("nobody cancels");
                let own = awaits.borrow_mut().take().expect("it was put in");
                own.await;
            });
            let watch = task.as_ref();
            *own.borrow_mut() = Some(task);
            until(|| watch.done()).await;
        });
    }

    fn b106_task_that_sleeps_is_cancelled(world) {
        world.run(async {
            let begin = now();
            let task = begun(sleep(LONG)).await;
            assert!(task.cancel());
            assert!(!task.done(), "it hears of it, and ends by itself");
            assert!(is_cancelled(&error_of((&mut { task }).await)));
            assert!(now() - begin < LONG);
        });
    }

    fn b105_sleep_that_is_cancelled_leaves_no_timer(world) {
        let mut runner = world.runner();
        runner.run(async {
            for _ in 0..100 {
                let task = begun(sleep(LONG)).await;
                task.cancel();
                task.await.expect_err("cancelled");
            }
        });
        finish(runner);
    }

    fn c3_task_that_is_cancelled_before_it_began_runs_to_its_first_await(world) {
        world.run(async {
            let ran = Rc::new(Cell::new(false));
            let runs = ran.clone();
            let task = create_task(async move {
                runs.set(true);
                sleep(LONG).await
            });
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert!(ran.get());
        });
    }

    fn c4_read_that_is_cancelled_gives_its_buffer_back(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let task = begun(async move { read(reader, 8).await }).await;
            task.cancel();
            let read_buffer = task.await;
            assert!(is_cancelled(&error_of(read_buffer.0)));
            assert_eq!(read_buffer.1.capacity(), 8);
            // Nothing was taken out by it.
            assert_eq!(write(writer, b"kept").await.expect("open"), 4);
            assert_eq!(read(reader, 8).await.0.expect("open"), 4);
        });
    }

    fn b076_requests_are_counted(world) {
        world.run(async {
            let task = begun(sleep(LONG)).await;
            assert_eq!(task.cancelling(), 0);
            assert!(task.cancel());
            assert_eq!(task.cancelling(), 1);
            assert!(task.cancel());
            assert_eq!(task.cancelling(), 2);
            let who = task.as_ref();
            task.await.expect_err("cancelled");
            assert_eq!(who.cancelling(), 0);
            assert!(!who.cancel(), "it has ended");
        });
    }

    fn b077_task_that_goes_on_after_a_request_is_cancelled_by_the_next(world) {
        world.run(async {
            let task = begun(async {
                assert!(is_cancelled(&error_of(sleep(LONG).await)));
                assert_eq!(current_task().cancelling(), 1);
                assert_eq!(current_task().uncancel(), 0);
                sleep(LONG).await
            })
            .await;
            task.cancel();
            for _ in 0..3 {
                yield_now().await.expect("nobody cancels");
            }
            sleep(MS).await.expect("nobody cancels");
            assert!(!task.done());
            assert_eq!(task.cancelling(), 0);
            assert!(task.cancel());
            assert_eq!(task.cancelling(), 1);
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn b079_request_that_is_taken_back_before_it_is_heard_of_is_none(world) {
        world.run(async {
            let task = create_task(async {
                yield_now().await?;
                coring::ok(42)
            });
            task.cancel();
            assert_eq!(task.uncancel(), 0);
            assert_eq!(task.await.expect("nobody asks it to stop"), 42);
        });
    }

    fn b087_task_that_cancels_itself_and_returns_keeps_its_value(world) {
        world.run(async {
            let task = create_task(async {
                assert!(current_task().cancel());
                7
            });
            assert_eq!(task.await, 7);
        });
    }

    fn b088_request_that_is_pending_is_forwarded_to_the_task_that_is_awaited_next(world) {
        world.run(async {
            let inner = begun(sleep(LONG)).await;
            let outer = create_task(async move {
                current_task().cancel();
                let slept = inner.await;
                sleep(MS).await.expect("the request was used up by the task");
                slept
            });
            assert!(is_cancelled(&error_of(outer.await)));
        });
    }

    fn b090_reason_is_carried_through_the_tasks_that_are_awaited(world) {
        world.run(async {
            let task = begun(async {
                let inner = begun(async { begun(sleep(LONG)).await.await }).await;
                inner.await
            })
            .await;
            sleep(MS).await.expect("nobody cancels");
            assert!(task.cancel_with("the building is closing"));
            let error = error_of(task.await);
            assert_eq!(reason_of(&error), "cancelled: the building is closing");
        });
    }

    fn b103_clean_up_awaits_before_the_error_goes_on(world) {
        world.run(async {
            let log = Log::default();
            let inside = log.clone();
            let task = begun(async move {
                let slept = sleep(LONG).await;
                inside.push("told");
                sleep(MS).await.expect("the request was used up");
                inside.push("cleaned up");
                slept
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert_eq!(log.take(), ["told", "cleaned up"]);
        });
    }

    fn b001_wait_for_that_is_cancelled_waits_for_a_future_that_goes_on(world) {
        world.run(async {
            let step = world.short(1);
            let begin = now();
            let task = begun(wait_for(
                async move {
                    sleep(LONG).await.expect_err("cancelled");
                    sleep(step).await?;
                    coring::ok(5)
                },
                LONG,
            ))
            .await;
            task.cancel();
            assert_eq!(task.await.expect("its value stands"), 5);
            assert!(now() - begin >= step);
        });
    }

    fn b033_request_from_outside_is_no_time_out(world) {
        world.run(async {
            let task = begun(wait_for(sleep(LONG), LONG)).await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            let task = begun(timeout(LONG, sleep(LONG))).await;
            task.cancel();
            let body = task.await.expect("the limit has not passed");
            assert!(is_cancelled(&error_of(body)));
        });
    }

    fn b039_limit_in_the_clean_up_of_a_cancelled_task_is_a_time_out(world) {
        world.run(async {
            let step = world.short(1);
            let task = begun(async move {
                sleep(LONG).await.expect_err("cancelled");
                wait_for(sleep(LONG), step).await
            })
            .await;
            task.cancel();
            assert!(is_time_out(&error_of(task.await)));
        });
    }

    fn b040_second_request_inside_of_a_limit_in_clean_up_is_no_time_out(world) {
        world.run(async {
            let task = begun(async {
                sleep(LONG).await.expect_err("cancelled");
                wait_for(sleep(LONG), LONG).await
            })
            .await;
            task.cancel();
            sleep(MS).await.expect("nobody cancels");
            assert!(task.cancel());
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn c2_both_branches_of_a_join_are_told_once(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let task = begun(async move {
                let (slept, received) = join(sleep(LONG), read(reader, 8)).await;
                sleep(MS).await.expect("both have used it up");
                (slept, received.0)
            })
            .await;
            task.cancel();
            let (slept, received) = task.await;
            assert!(is_cancelled(&error_of(slept)) && is_cancelled(&error_of(received)));
        });
    }

    fn task_says_whether_it_came_to_a_cancellation(world) {
        world.run(async {
            let task = begun(sleep(LONG)).await;
            assert!(!task.cancelled());
            task.cancel();
            until(|| task.done()).await;
            assert!(task.cancelled());
            let value = begun(async { coring::ok(1) }).await;
            until(|| value.done()).await;
            assert!(!value.cancelled());
        });
    }

    fn b109_shield_keeps_a_request_away_from_its_task(world) {
        world.run(async {
            let step = world.short(1);
            let mut inner = begun(async move {
                sleep(step).await?;
                coring::ok(42)
            })
            .await;
            let outer = begun(async move {
                let waited = shield(&mut inner).await;
                (waited.map(|_| ()), inner)
            })
            .await;
            outer.cancel();
            let (waited, inner) = outer.await;
            assert!(is_cancelled(&error_of(waited)));
            assert_eq!(inner.await.expect("nobody told it"), 42);
        });
    }

    fn b109_shield_gives_the_result_and_the_error_of_its_task(world) {
        world.run(async {
            let mut task = create_task(async { 42 });
            assert_eq!(shield(&mut task).await.expect("nobody cancels"), 42);
            let mut task = begun(sleep(LONG)).await;
            task.cancel(); // From inside: that is the task's own.
            let slept = shield(&mut task).await.expect("the wait itself is not stopped");
            assert!(is_cancelled(&error_of(slept)));
        });
    }

    fn b019_task_behind_a_shield_goes_on_after_the_limit(world) {
        world.run(async {
            let step = world.short(1);
            let mut task = begun(async move {
                sleep(step * 3).await?;
                coring::ok(1)
            })
            .await;
            assert!(is_time_out(&error_of(wait_for(shield(&mut task), step).await)));
            assert!(!task.done());
            assert_eq!(task.await.expect("nobody told it"), 1);
        });
    }

    fn shielded_future_hears_of_nothing_and_the_await_behind_it_does(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let step = world.short(1);
            let task = begun(async move {
                let whole = shielded(async move {
                    sleep(step).await?;
                    write(writer, b"whole").await
                })
                .await;
                (whole, sleep(LONG).await)
            })
            .await;
            task.cancel_with("in time");
            let (whole, behind) = task.await;
            assert_eq!(whole.expect("shielded"), 5);
            assert_eq!(reason_of(&error_of(behind)), "cancelled: in time");
            assert_eq!(read(reader, 8).await.0.expect("it was written"), 5);
        });
    }

    fn shielded_future_outlives_the_limit_around_it(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let step = world.short(1);
            let begin = now();
            let limited = timeout(step, async {
                // A read would carry the limit into the kernel, but for the shield.
                let received = shielded(read(reader, 8)).await.0;
                (received, sleep(LONG).await)
            });
            let sends = async {
                sleep(step * 3).await.expect("nobody cancels");
                write(writer, b"late").await.expect("open");
            };
            let (limited, ()) = join(limited, sends).await;
            let (received, slept) = limited.expect_err("told behind the shield").late.expect("told");
            assert_eq!(received.expect("shielded"), 4);
            assert!(is_cancelled(&error_of(slept)));
            assert!(now() - begin >= step * 3);
        });
    }

    fn limit_inside_of_a_shield_is_its_own(world) {
        world.run(async {
            let step = world.short(1);
            let task = begun(async move { shielded(wait_for(sleep(LONG), step)).await }).await;
            task.cancel();
            assert!(is_time_out(&error_of(task.await)));
        });
    }

    fn clean_up_that_is_shielded_for_a_while_is_stopped_after_that(world) {
        world.run(async {
            let step = world.short(1);
            let task = begun(async move {
                let slept = sleep(LONG).await;
                let cleaned = shielded_for(step, sleep(LONG)).await;
                (slept, cleaned)
            })
            .await;
            task.cancel();
            sleep(MS).await.expect("nobody cancels");
            task.cancel(); // Again, and the clean-up does not hear of it.
            let (slept, cleaned) = task.await;
            assert!(is_cancelled(&error_of(slept)));
            assert!(is_time_out(&error_of(cleaned)));
        });
    }

    fn foreign_future_behind_a_shield_is_not_dropped_at_the_limit(world) {
        world.run(async {
            let step = world.short(1);
            let (sender, receiver) = futures_channel::oneshot::channel();
            let sends = create_task(async move {
                sleep(step * 3).await?;
                sender.send(7).expect("it still waits");
                coring::ok(())
            });
            let late = timeout(step, shielded(receiver)).await;
            assert_eq!(late.expect("C5: shielded").expect("sent"), 7);
            sends.await.expect("nobody cancels");
        });
    }

    fn cancellable_makes_a_leaf_of_a_foreign_future(world) {
        world.run(async {
            let drops = Drops::default();
            let guard = drops.guard();
            let task = begun(cancellable(async move {
                let _guard = guard;
                pending::<()>().await;
            }))
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert_eq!(drops.count(), 1);
            assert_eq!(cancellable(async { 3 }).await.expect("it is ready"), 3);
            // A request that is pending is looked at before an effect.
            let effect = Rc::new(Cell::new(false));
            let has = effect.clone();
            let task = create_task(cancellable(async move { has.set(true) }));
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert!(!effect.get());
        });
    }

    fn c1_value_that_is_ready_when_a_cancellable_is_told_wins(world) {
        world.run(async {
            let (sender, receiver) = futures_channel::oneshot::channel();
            let task = begun(async {
                let value = cancellable(receiver).await;
                (value, sleep(LONG).await)
            })
            .await;
            sender.send(5).expect("it waits");
            task.cancel();
            let (value, behind) = task.await;
            assert_eq!(value.expect("C1").expect("sent"), 5);
            assert!(is_cancelled(&error_of(behind)), "C2");
        });
    }

    fn aborted_task_is_dropped_with_what_it_has_in_flight(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let drops = Drops::default();
            let guard = drops.guard();
            let task = begun(async move {
                let _guard = guard;
                let _ = select(read(reader, 8), shielded(sleep(LONG))).await;
            })
            .await;
            let who = task.as_ref();
            task.abort();
            assert_eq!(drops.count(), 1);
            assert!(who.done());
            assert_eq!(all_tasks().len(), 1);
        });
    }

    fn task_that_aborts_itself_is_dropped_when_it_waits(world) {
        world.run(async {
            let log = Log::default();
            let drops = Drops::default();
            let (guard, inside) = (drops.guard(), log.clone());
            let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
            let handle = own.clone();
            let task = create_task(async move {
                let _guard = guard;
                yield_now().await.expect("nobody cancels");
                handle.borrow_mut().take().expect("it was put there").abort();
                inside.push("still here");
                let _ = sleep(LONG).await;
                inside.push("not here");
            });
            let who = task.as_ref();
            *own.borrow_mut() = Some(task);
            until(|| who.done()).await;
            assert_eq!(log.take(), ["still here"]);
            assert_eq!(drops.count(), 1);
        });
    }

    fn task_is_cancelled_from_outside_of_its_loop(world) {
        let mut runner = world.runner();
        let mut task = None;
        runner.run(async {
            task = Some(begun(sleep(LONG)).await);
        });
        let task = task.expect("it was made");
        assert!(task.cancel_with("by the host"));
        let error = error_of(runner.run(task));
        assert_eq!(reason_of(&error), "cancelled: by the host");
        finish(runner);
    }

    fn ten_thousand_tasks_are_cancelled_in_one_turn(world) {
        const TASKS: usize = if cfg!(miri) { 50 } else { 10_000 };
        let (reader, _writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| create_task(async move { wait_for(read(reader, 1), LONG).await.0 }))
                .collect();
            yield_now().await.expect("nobody cancels");
            sleep(MS).await.expect("nobody cancels");
            for task in &tasks {
                assert!(task.cancel());
            }
            for task in tasks {
                assert!(is_cancelled(&error_of(task.await)));
            }
        });
        finish(runner);
    }
}

#[test]
fn b016_result_that_comes_in_spite_of_a_request_stands_and_the_next_await_is_told() {
    let world = World::sim();
    let (reader, _writer) = world.pipe();
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(READ, Script::Uncancellable(world.short(1), 4));
    world.run(async {
        let task = begun(async move {
            let first = read(reader, 8).await.0;
            (first, sleep(LONG).await)
        })
        .await;
        sleep(MS).await.expect("nobody cancels"); // The kernel has it.
        task.cancel();
        let (first, second) = task.await;
        assert_eq!(first.expect("C1"), 4);
        assert!(is_cancelled(&error_of(second)), "C2");
    });
}

#[cfg(not(miri))]
#[test]
fn cancel_of_a_task_of_another_loop_wakes_an_embedded_one() {
    let world = World::uring();
    let mut runner = world.runner();
    let task = runner.enter(|| create_task(sleep(LONG)));
    let fd = std::os::fd::AsRawFd::as_raw_fd(&runner.as_fd().expect("a descriptor"));
    let readable = |timeout| {
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&mut poll, 1, timeout) == 1 }
    };
    while readable(0) {
        runner.turn().expect("the loop goes on");
    }
    task.cancel();
    while !task.done() {
        assert!(readable(10_000), "nobody told the host");
        runner.turn().expect("the loop goes on");
    }
    assert!(is_cancelled(&error_of(task.now_or_never().expect("done"))));
    finish(runner);
}

#[test]
fn task_that_aborts_itself_in_its_drop_is_dropped_once() {
    struct Aborts(Rc<RefCell<Option<Task<()>>>>);
    impl Drop for Aborts {
        fn drop(&mut self) {
            let own = self.0.borrow_mut().take();
            if let Some(own) = own {
                own.abort();
            }
        }
    }
    let world = World::sim();
    let drops = Drops::default();
    let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let (guard, aborts) = (drops.guard(), Aborts(own.clone()));
    let mut runner = world.runner();
    runner.run(async {
        let task = create_task(async move {
            let (_guard, _aborts) = (guard, aborts);
            pending::<()>().await;
        });
        *own.borrow_mut() = Some(task);
        yield_now().await.expect("nobody cancels");
    });
    drop(runner);
    assert_eq!(drops.count(), 1);
}

/// Miri looks at who borrows the output meanwhile.
#[test]
fn outcome_that_asks_whether_its_own_task_was_cancelled() {
    type Own = Rc<Task<Asks>>;
    struct Asks(RefCell<Option<Own>>, Cell<u32>);
    impl coring::Outcome for Asks {
        fn is_cancelled(&self) -> bool {
            let task = self.0.borrow_mut().take();
            self.1.set(self.1.get() + 1);
            task.is_some_and(|task| task.cancelled()) || self.1.get() > 5
        }
        fn timed_out(self) -> Self {
            self
        }
        fn abandoned(_: io::Error) -> Option<Self> {
            None
        }
    }
    let world = World::sim();
    world.run(async {
        let own: Rc<RefCell<Option<Own>>> = Rc::default();
        let takes = own.clone();
        let task = Rc::new(create_task(async move {
            let _ = yield_now().await;
            Asks(RefCell::new(takes.borrow_mut().take()), Cell::new(0))
        }));
        *own.borrow_mut() = Some(task.clone());
        task.cancel(); // Only the output of one that was asked is looked at.
        until(|| task.done()).await;
        assert!(!task.cancelled());
    });
}
