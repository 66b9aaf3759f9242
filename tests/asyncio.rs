//! Behaviours of CPython's test_asyncio that have no chapter of their own here: the number in a
//! test's name is the behaviour's. README.md beside this counts them.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::sync::{Lock, Queue};
use coring::{
    Runner, Task, TaskGroup, all_tasks, call_at, call_later, call_soon, create_task, current_task,
    gather, gather_all, is_cancelled, now, ok, shield, sleep, task_group, timeout, timeout_at,
    timeout_scope, wait_for, yield_now,
};
use futures_util::FutureExt;

each_driver! {
    fn b022_timeout_at_expires_at_its_moment(world) {
        let step = world.short(1);
        world.run(async {
            let deadline = now() + step;
            let expired = timeout_at(deadline, sleep(LONG)).await.expect_err("it passed");
            assert!(now() >= deadline);
            assert!(is_cancelled(&error_of(expired.late.expect("it was told"))));
        });
    }

    fn b043_limits_say_their_state(world) {
        world.run(async {
            let text = timeout_scope(LONG, async |limit| format!("{limit:?}")).await.expect("in time");
            assert!(text.starts_with("TimeoutScope(ScopeHandle { deadline: Some("), "{text}");
            let mut limited = Box::pin(wait_for(sleep(LONG), LONG));
            assert!(format!("{limited:?}").contains("stage: \"new\""), "{limited:?}");
            assert!(poll_once(&mut limited).await.is_pending());
            assert!(format!("{limited:?}").contains("stage: \"open\""), "{limited:?}");
        });
    }

    fn b058_error_of_a_body_that_was_stopped_is_beside_the_childs(world) {
        world.run(async {
            let failed = task_group(async |g: TaskGroup<io::Error>| {
                g.create_task(async { Err::<(), _>(io::Error::other("child")) });
                sleep(LONG).await.expect_err("it was stopped");
                Err::<(), _>(io::Error::other("body"))
            });
            let errors = failed.await.expect_err("both failed").errors;
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(texts, ["child", "body"]);
        });
    }

    fn b078_code_behind_a_limit_that_passed_runs_and_nothing_is_counted(world) {
        let step = world.short(1);
        world.run(async {
            let task = create_task(async move {
                let limited = wait_for(sleep(LONG), step).await;
                assert!(is_time_out(&error_of(limited)));
                let counted = current_task().cancelling();
                yield_now().await.expect("the limit is over");
                counted
            });
            assert_eq!(task.await, 0);
        });
    }

    fn b092_panic_in_clean_up_is_a_failure_and_no_cancellation(world) {
        world.run(async {
            let task = begun(async {
                let stopped = sleep(LONG).await;
                assert!(stopped.is_ok(), "in the clean-up");
                stopped
            })
            .await;
            task.cancel();
            until(|| task.done()).await;
            assert!(!task.cancelled());
            let panic = std::panic::AssertUnwindSafe(task).catch_unwind().await;
            panic.map(|_| ()).expect_err("it panicked");
        });
    }

    fn b101_tasks_that_end_together_are_all_awaited(world) {
        let step = world.short(1);
        world.run(async {
            let begin = now();
            let slept = gather_all((0..50).map(|_| create_task(sleep(step)))).await;
            assert_eq!(slept.expect("nobody cancels").len(), 50);
            assert!(now() - begin < 2 * step || !world.is_sim());
        });
    }

    fn b107_request_that_comes_while_a_task_waits_for_another_ends_both(world) {
        world.run(async {
            let inner = begun(sleep(LONG)).await;
            let watch = inner.as_ref();
            let outer = begun(inner).await;
            outer.cancel();
            assert!(is_cancelled(&error_of(outer.await)));
            assert!(watch.done());
        });
    }

    fn b108_current_task_is_the_one_that_runs(world) {
        world.run(async {
            let main = current_task();
            let seen: Rc<RefCell<Vec<String>>> = Rc::default();
            let tasks = ["a", "b"].map(|name| {
                let seen = seen.clone();
                Task::builder().name(name).spawn(async move {
                    for _ in 0..3 {
                        seen.borrow_mut().push(current_task().name());
                        yield_now().await.expect("nobody cancels");
                    }
                })
            });
            assert_eq!(all_tasks().len(), 3);
            for task in tasks {
                task.await;
            }
            assert_eq!(*seen.borrow(), ["a", "b", "a", "b", "a", "b"]);
            assert!(current_task() == main);
            assert_eq!(all_tasks().len(), 1);
        });
    }

    fn b111_cancel_of_a_task_that_has_ended_is_refused(world) {
        world.run(async {
            let task = create_task(async { gather!(async { ok(1) }, async { ok(2) }).await });
            until(|| task.done()).await;
            assert!(!task.cancel());
            assert_eq!(task.await.expect("nobody was told"), (1, 2));
        });
    }

    fn b119_tasks_have_names(world) {
        world.run(async {
            let plain = create_task(async {});
            assert_eq!(plain.name(), format!("Task-{}", plain.id()));
            assert_eq!(Task::builder().name("eve").spawn(async {}).name(), "eve");
            plain.await;
        });
    }

    fn b121_callbacks_are_called_once_in_their_order(world) {
        let step = world.short(1);
        world.run(async {
            let log = Log::default();
            for event in ["first", "second", "third"] {
                let log = log.clone();
                let call = call_soon(move || log.push(event));
                if event == "second" {
                    call.cancel();
                }
            }
            assert!(log.take().is_empty(), "not before the loop turns");
            yield_now().await.expect("nobody cancels");
            assert_eq!(log.take(), ["first", "third"]);
            let (late, soon, past) = (log.clone(), log.clone(), log.clone());
            let at = now() + 2 * step;
            let call = call_at(at, move || late.push("late"));
            assert_eq!(call.when(), Some(at));
            call_later(step, move || soon.push("soon"));
            call_later(Duration::ZERO, move || past.push("now"));
            let never = log.clone();
            call_later(step, move || never.push("never")).cancel();
            until(|| call.done()).await;
            assert_eq!(log.take(), ["now", "soon", "late"]);
            // A panic is the callback's own.
            let panics = call_soon(|| panic!("in a callback"));
            until(|| panics.done()).await;
        });
    }

    fn b128_groups_and_gathers_nest_as_deep_as_one_likes(world) {
        const DEPTH: u32 = if cfg!(miri) { 4 } else { 8 };
        async fn tree(depth: u32, count: Rc<Cell<u32>>) -> io::Result<()> {
            count.set(count.get() + 1);
            if depth == 0 {
                return yield_now().await;
            }
            let (one, other) = (count.clone(), count);
            let (one, other) = (Box::pin(tree(depth - 1, one)), Box::pin(tree(depth - 1, other)));
            if depth.is_multiple_of(2) {
                gather!(one as Local, other as Local).await.map(drop)
            } else {
                let group = task_group(async |g: TaskGroup<io::Error>| {
                    g.create_task(one as Local);
                    g.create_task(other as Local);
                    Ok(())
                });
                Ok(group.await?)
            }
        }
        type Local = std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>;
        world.run(async {
            let count = Rc::new(Cell::new(0));
            tree(DEPTH, count.clone()).await.expect("nobody fails");
            assert_eq!(count.get(), (1 << (DEPTH + 1)) - 1);
            // And the same stopped in the middle.
            let task = begun(tree(DEPTH, count)).await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            let ended = task.await;
            assert!(ended.is_ok() || is_cancelled(&error_of(ended)));
        });
    }

    fn b132_runner_runs_again_and_keeps_its_tasks(world) {
        let mut runner = world.runner();
        let task = runner.enter(|| create_task(async { 7 }));
        assert_eq!(runner.run(async { 6 }), 6);
        assert_eq!(runner.run(task), 7);
        finish(runner);
    }

    fn b136_task_that_was_cancelled_and_interrupted_is_cancelled(world) {
        world.run(async {
            let task = begun(sleep(LONG)).await;
            task.cancel_with("first");
            task.cancel_with("second");
            assert_eq!(error_of(task.await).to_string(), "cancelled: second");
        });
    }

    fn b157_request_to_who_gets_races_with_an_item(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(0));
            let gets = queue.clone();
            let task = begun(async move { gets.get().await }).await;
            queue.put(1).await.expect("there is room");
            task.cancel();
            // It has been told to look, so that wins (C1), or it leaves the item.
            match task.await {
                Ok(item) => assert_eq!(item, 1),
                Err(error) => {
                    assert!(is_cancelled(&error));
                    assert_eq!(queue.try_get(), Some(1));
                }
            }
            let task = create_task(async move { queue.get().await });
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn b110_shield_in_a_gather_and_a_gather_in_a_shield(world) {
        world.run(async {
            let mut inner = begun(sleep(LONG)).await;
            let watch = inner.as_ref();
            let outer = begun(async move {
                let both = gather!(shield(&mut inner), sleep(LONG)).return_exceptions().await;
                (both, inner)
            })
            .await;
            outer.cancel();
            let ((shielded, slept), inner) = outer.await;
            assert!(is_cancelled(&error_of(shielded.and_then(|slept| slept))));
            assert!(is_cancelled(&error_of(slept)));
            assert!(!watch.done());
            inner.cancel();
            inner.await.expect_err("now it was told");
            // The other way round: the gather is a task's, which is not told.
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let waits = lock.clone();
            let mut gathers = begun(async move {
                gather!(async { waits.acquire().await.map(drop) }, async { ok(()) }).await
            })
            .await;
            let stopped = timeout(world.short(1), shield(&mut gathers)).await;
            assert!(stopped.is_err());
            drop(held);
            gathers.await.expect("it was shielded");
        });
    }
}

#[cfg(not(miri))]
#[test]
fn b129_run_gives_the_output_of_main_and_refuses_to_be_nested() {
    let _alone = World::uring();
    assert_eq!(coring::run(async { 42 }), 42);
    let failed: io::Result<()> = coring::run(async { Err(io::Error::other("main")) });
    assert_eq!(error_of(failed).to_string(), "main");
    coring::run(async {
        let nested = std::panic::catch_unwind(|| coring::run(async {}));
        let panic = nested.expect_err("it is nested");
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .expect("a text");
        assert!(text.contains("was called from within a runtime"), "{text}");
    });
    drop(Runner::builder());
}
