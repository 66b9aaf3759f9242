//! Task groups. A test whose name begins with a number re-creates that behaviour of CPython's
//! test_taskgroups.

mod common;

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::pending;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::{
    Failure, GroupError, Started, Task, TaskGroup, create_task, current_task, gather, is_cancelled,
    now, ok, shielded, sleep, task_group, timeout, wait_for, yield_now,
};
use futures_util::FutureExt;

#[derive(Debug)]
enum MyError {
    Io(io::Error),
    Text(&'static str),
}

impl fmt::Display for MyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => fmt::Display::fmt(error, f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Error for MyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Text(_) => None,
        }
    }
}

impl From<io::Error> for MyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure for MyError {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

type Group = TaskGroup<io::Error>;

fn fail<T>(text: &'static str) -> io::Result<T> {
    Err(io::Error::other(text))
}

fn texts<E: fmt::Display>(error: &GroupError<E>) -> Vec<String> {
    error.errors.iter().map(ToString::to_string).collect()
}

/// Ends when it is told to, after a clean-up that awaits.
async fn child(log: Log) -> io::Result<()> {
    let stopped = sleep(LONG).await;
    sleep(MS).await?;
    log.push("clean");
    stopped
}

each_driver! {
    fn group_waits_for_all_its_tasks(world) {
        let step = world.short(1);
        world.run(async {
            let done = Rc::new(Cell::new(0));
            let count = done.clone();
            let value = task_group(async move |g: Group| {
                for n in 0..5 {
                    let count = count.clone();
                    g.create_task(async move {
                        sleep(step * n).await?;
                        count.set(count.get() + 1);
                        Ok(())
                    });
                }
                Ok("value")
            });
            assert_eq!(value.await.expect("nobody fails"), "value");
            assert_eq!(done.get(), 5);
        });
    }

    fn handles_give_values_and_the_body_may_borrow(world) {
        world.run(async {
            let name = String::from("borrowed");
            let sum = task_group(async |g| {
                let tasks: Vec<_> = (0..3).map(|n| g.create_task(async move { ok(n) })).collect();
                let mut sum = name.len();
                for task in tasks {
                    sum += task.await?;
                }
                Ok(sum)
            });
            assert_eq!(sum.await.expect("nobody fails"), 8 + 3);
        });
    }

    fn b045_child_that_is_cancelled_by_hand_does_not_disturb_the_group(world) {
        let step = world.short(1);
        world.run(async {
            let value = task_group(async |g: Group| {
                let one = g.create_task(sleep(LONG));
                let two = g.create_task(sleep(step));
                yield_now().await?;
                one.cancel();
                let gave = one.await;
                assert!(gave.is_err());
                // It does not look as if this code had been cancelled.
                assert!(!is_cancelled(&error_of(gave)));
                two.await?;
                Ok(7)
            });
            assert_eq!(value.await.expect("nobody failed"), 7);
        });
    }

    fn b046_child_error_cancels_siblings(world) {
        let step = world.short(1);
        let log = Log::default();
        world.run(async {
            let begin = now();
            let failed = task_group(async |g| {
                g.create_task(child(log.clone()));
                g.create_task(async move {
                    sleep(step).await?;
                    fail::<()>("one")
                });
                sleep(LONG).await?;
                log.push("not run");
                Ok(())
            });
            let error = failed.await.expect_err("a child failed");
            assert_eq!(texts(&error), ["one"]);
            assert_eq!(log.take(), ["clean"]);
            assert!(now() - begin < LONG);
            yield_now().await.expect("this task was not cancelled");
        });
    }

    fn b047_several_errors_are_gathered(world) {
        let step = world.short(1);
        world.run(async {
            let error = task_group(async |g: Group| {
                g.create_task(async move {
                    sleep(step).await?;
                    fail::<()>("first")
                });
                g.create_task(async {
                    let _ = sleep(LONG).await;
                    fail::<()>("in clean-up")
                });
                let stopped = sleep(LONG).await;
                assert!(is_cancelled(&error_of(stopped)));
                fail::<()>("body")
            });
            let error = error.await.expect_err("they failed");
            let mut all = texts(&error);
            assert_eq!(all.remove(0), "first");
            all.sort();
            assert_eq!(all, ["body", "in clean-up"]);
            assert!(error.to_string().starts_with("3 errors in a task group: first; "));
        });
    }

    fn b048_cancel_of_the_parent_stops_all_children(world) {
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            let task = begun(async move {
                task_group(async |g: Group| {
                    for _ in 0..5 {
                        g.create_task(child(logs.clone()));
                    }
                    Ok(())
                })
                .await
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel_with("enough");
            let error = io::Error::from(task.await.expect_err("cancelled"));
            assert!(is_cancelled(&error));
            assert_eq!(error.to_string(), "cancelled: enough");
            assert_eq!(log.take(), ["clean"; 5]);
        });
    }

    fn b049_cancel_of_the_parent_is_seen_by_the_body(world) {
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            let task = begun(async move {
                let group = task_group(async |g: Group| {
                    g.create_task(child(logs.clone()));
                    let slept = sleep(LONG).await;
                    logs.push("body");
                    slept
                });
                let result = group.await;
                (result, yield_now().await)
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            let (result, next) = task.await;
            assert!(is_cancelled(&result.expect_err("cancelled")));
            next.expect("told once");
            assert_eq!(log.take(), ["body", "clean"]);
        });
    }

    fn b051_body_error_cancels_children(world) {
        let log = Log::default();
        world.run(async {
            for awaits in [false, true] {
                let error = task_group(async |g: Group| {
                    g.create_task(child(log.clone()));
                    if awaits {
                        yield_now().await?;
                    }
                    fail::<()>("body")
                });
                assert_eq!(texts(&error.await.expect_err("the body failed")), ["body"]);
                assert_eq!(log.take(), ["clean"]);
            }
        });
    }

    fn b052_inner_group_error_is_inside_of_the_outer_one(world) {
        world.run(async {
            let error = task_group(async |outer: TaskGroup<GroupError<MyError>>| {
                outer.create_task(async {
                    task_group(async |inner: TaskGroup<MyError>| {
                        inner.create_task(async { Err::<(), _>(MyError::Text("inner")) });
                        Ok(())
                    })
                    .await
                });
                sleep(LONG).await?;
                Ok(())
            });
            let error = error.await.expect_err("a child failed");
            assert_eq!(error.errors.len(), 1);
            assert!(matches!(error.errors[0].errors[..], [MyError::Text("inner")]));
            assert_eq!(error.to_string(), "inner");
        });
    }

    fn b055_child_error_in_slow_clean_up_is_reported(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(task_group(async move |g: Group| {
                g.create_task(async move {
                    let _ = sleep(LONG).await;
                    sleep(step).await?;
                    fail::<()>("slow")
                });
                let stopped = sleep(LONG).await;
                sleep(2 * step).await?;
                stopped
            }))
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            let error = task.await.expect_err("a child failed");
            assert_eq!(texts(&error), ["slow"]);
        });
    }

    fn c2_request_that_a_group_error_hides_is_heard_by_the_next_await(world) {
        world.run(async {
            let task = begun(async {
                let group = task_group(async |g: Group| {
                    g.create_task(async {
                        let _ = sleep(LONG).await;
                        fail::<()>("slow")
                    });
                    Ok(())
                });
                let error = group.await.expect_err("a child failed");
                (texts(&error), yield_now().await, yield_now().await)
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel_with("why");
            let (errors, next, second) = task.await;
            assert_eq!(errors, ["slow"]);
            assert_eq!(error_of(next).to_string(), "cancelled: why");
            second.expect("told once");
        });
    }

    fn b056_cancel_of_an_empty_group(world) {
        world.run(async {
            let task = begun(task_group(async |_: Group| sleep(LONG).await)).await;
            task.cancel();
            assert!(is_cancelled(&task.await.expect_err("cancelled")));
        });
    }

    fn b059_panic_outranks_errors_and_the_group_is_drained_first(world) {
        let log = Log::default();
        world.run(async {
            for in_body in [false, true] {
                let group = task_group(async |g: Group| {
                    g.create_task(child(log.clone()));
                    let panics = async move {
                        yield_now().await?;
                        if true {
                            panic!("fatal");
                        }
                        ok(())
                    };
                    if in_body {
                        return panics.await;
                    }
                    g.create_task(panics);
                    let _ = sleep(LONG).await;
                    fail("body")
                });
                let caught = AssertUnwindSafe(group).catch_unwind().await;
                let panic = caught.expect_err("it panicked");
                assert_eq!(panic.downcast_ref(), Some(&"fatal"));
                assert_eq!(log.take(), ["clean"]);
            }
        });
    }

    fn b060_cancel_soon_after_the_start(world) {
        world.run(async {
            let task = begun(async {
                task_group(async |g: Group| {
                    g.create_task(sleep(LONG));
                    g.create_task(sleep(LONG));
                    Ok(())
                })
                .await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&task.await.expect_err("cancelled")));
        });
    }

    fn b061_tasks_that_have_ended_leave_the_group(world) {
        world.run(async {
            task_group(async |g: Group| {
                for _ in 0..100 {
                    g.create_task(async { ok(()) }).await?;
                }
                assert_eq!(format!("{g:?}"), "TaskGroup { tasks: 0, .. }");
                Ok(())
            })
            .await
            .expect("nobody fails");
        });
    }

    fn b062_child_adds_children(world) {
        let step = world.short(1);
        world.run(async {
            let count = Rc::new(Cell::new(0));
            fn grow(g: &Group, depth: u32, step: Duration, count: Rc<Cell<u32>>) {
                let group = g.clone();
                g.create_task(async move {
                    sleep(step / 10).await?;
                    count.set(count.get() + 1);
                    if depth > 0 {
                        grow(&group, depth - 1, step, count.clone());
                        grow(&group, depth - 1, step, count);
                    }
                    Ok(())
                });
            }
            task_group(async |g: Group| {
                grow(&g, 4, step, count.clone());
                Ok(())
            })
            .await
            .expect("nobody fails");
            assert_eq!(count.get(), 31);
        });
    }

    fn b063_children_that_spawn_for_ever_are_stopped_by_one_error(world) {
        world.run(async {
            async fn spawns(g: Group) -> io::Result<()> {
                let next = g.clone();
                yield_now().await?;
                g.create_task(Box::pin(async { spawns(next).await }) as LocalBox);
                sleep(LONG).await
            }
            type LocalBox = std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>;
            let error = task_group(async |g: Group| {
                g.create_task(spawns(g.clone()));
                for _ in 0..100 {
                    yield_now().await?;
                }
                fail::<()>("stop")
            });
            assert_eq!(texts(&error.await.expect_err("the body failed")), ["stop"]);
        });
    }

    fn b064_tasks_of_a_group_have_names(world) {
        world.run(async {
            task_group(async |g: Group| {
                let task = Task::builder().name("eve").spawn_in(&g, async { ok(()) });
                assert_eq!(task.name(), "eve");
                assert!(task.spawned_at().file().ends_with("groups.rs"));
                let task = g.create_task(async { ok(()) });
                assert!(task.spawned_at().file().ends_with("groups.rs"));
                Ok(())
            })
            .await
            .expect("nobody fails");
        });
    }

    fn b066_task_that_comes_while_the_group_is_stopped_runs_to_its_first_await(world) {
        world.run(async {
            let ran = Rc::new(Cell::new(false));
            let error = task_group(async |g: Group| {
                g.create_task(async { fail::<()>("first") });
                let _ = sleep(LONG).await;
                let runs = ran.clone();
                g.create_task(async move {
                    runs.set(true);
                    sleep(LONG).await
                });
                Ok(())
            });
            assert_eq!(texts(&error.await.expect_err("a child failed")), ["first"]);
            assert!(ran.get());
        });
    }

    fn b066_task_in_a_group_that_has_ended_is_refused(world) {
        world.run(async {
            let mut kept = None;
            task_group(async |g: Group| {
                kept = Some(g);
                Ok(())
            })
            .await
            .expect("nobody fails");
            let group = kept.expect("it was kept");
            let late = std::panic::catch_unwind(AssertUnwindSafe(|| {
                group.create_task(async { ok(()) })
            }));
            let panic = late.expect_err("the group has ended");
            let text = panic.downcast_ref::<&str>().expect("a text");
            assert!(text.contains("in a task group that has ended"), "{text}");
        });
    }

    fn b070_group_that_fails_does_not_count_as_a_cancel_of_its_parent(world) {
        world.run(async {
            let error = task_group(async |g: Group| {
                g.create_task(async { fail::<()>("one") });
                sleep(LONG).await
            });
            error.await.expect_err("a child failed");
            assert_eq!(current_task().cancelling(), 0);
            yield_now().await.expect("not cancelled");
        });
    }

    fn b073_group_is_cancelled_from_its_body_and_from_a_child(world) {
        let log = Log::default();
        world.run(async {
            // From the body, which goes on and gives a value.
            let value = task_group(async |g: Group| {
                g.create_task(child(log.clone()));
                yield_now().await?;
                g.cancel();
                g.cancel();
                assert!(is_cancelled(&error_of(yield_now().await)));
                yield_now().await.expect("told once");
                Ok(7)
            });
            assert_eq!(value.await.expect("nobody failed"), 7);
            assert_eq!(log.take(), ["clean"]);
            // From a child, with a body that is stopped: there is neither value nor error.
            let none = task_group(async |g: Group| {
                let group = g.clone();
                g.create_task(async move {
                    group.cancel();
                    Ok(())
                });
                sleep(LONG).await
            });
            let none = none.await.expect_err("there is no value");
            assert!(none.errors.is_empty() && !is_cancelled(&none));
            assert_eq!(none.to_string(), "the task group was cancelled");
            // From a child, when the body has ended.
            let value = task_group(async |g: Group| {
                let group = g.clone();
                g.create_task(sleep(LONG));
                g.create_task(async move {
                    yield_now().await?;
                    group.cancel();
                    yield_now().await
                });
                Ok(8)
            });
            assert_eq!(value.await.expect("nobody failed"), 8);
            yield_now().await.expect("this task was not cancelled");
        });
    }

    fn b075_cancel_of_the_group_hides_no_request_from_further_out(world) {
        world.run(async {
            let task = begun(async {
                task_group(async |g: Group| {
                    let slept = sleep(LONG).await;
                    g.cancel();
                    slept
                })
                .await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&task.await.expect_err("cancelled")));
            // The group first, then the request.
            let task = begun(async {
                task_group(async |g: Group| {
                    g.cancel();
                    let first = yield_now().await;
                    assert!(is_cancelled(&error_of(first)));
                    sleep(LONG).await
                })
                .await
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            assert!(is_cancelled(&task.await.expect_err("cancelled")));
        });
    }

    fn b042_group_error_under_a_limit_wins(world) {
        let step = world.short(1);
        world.run(async {
            let group = task_group(async |g: Group| {
                g.create_task(async {
                    let _ = sleep(LONG).await;
                    fail::<()>("in clean-up")
                });
                sleep(LONG).await
            });
            let error = wait_for(group, step).await.expect_err("it timed out");
            assert_eq!(texts(&error), ["in clean-up"]);
            yield_now().await.expect("the limit is over");
            let group = task_group(async |g: Group| {
                g.create_task(sleep(LONG));
                Ok(())
            });
            let error = io::Error::from(wait_for(group, step).await.expect_err("it timed out"));
            assert!(is_time_out(&error), "{error}");
            let group = task_group(async |g: Group| {
                g.create_task(sleep(LONG));
                Ok(())
            });
            let expired = timeout(step, group).await.expect_err("it timed out");
            assert!(expired.late.expect("it was drained").is_err());
        });
    }

    fn c5_group_waits_for_a_child_behind_a_shield(world) {
        let step = world.short(1);
        world.run(async {
            let done = Rc::new(Cell::new(false));
            let sets = done.clone();
            let error = task_group(async |g: Group| {
                g.create_task(async move {
                    shielded(sleep(step)).await?;
                    sets.set(true);
                    Ok(())
                });
                yield_now().await?;
                fail::<()>("body")
            });
            error.await.expect_err("the body failed");
            assert!(done.get());
        });
    }

    fn c5_body_that_waits_for_what_is_foreign_is_dropped(world) {
        world.run(async {
            let error = task_group(async |g: Group| {
                g.create_task(async { fail::<()>("child") });
                pending::<()>().await;
                Ok(())
            });
            assert_eq!(texts(&error.await.expect_err("a child failed")), ["child"]);
        });
    }

    fn start_waits_until_the_task_says_that_it_is_ready(world) {
        let step = world.short(1);
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            task_group(async |g: Group| {
                let logged = logs.clone();
                let port = g
                    .start(async move |ready: Started<u16>| {
                        sleep(step).await?;
                        logged.push("ready");
                        ready.set(80);
                        sleep(step).await?;
                        logged.push("served");
                        Ok(())
                    })
                    .await?;
                logs.push("told");
                assert_eq!(port, 80);
                Ok(())
            })
            .await
            .expect("nobody fails");
            assert_eq!(log.take(), ["ready", "told", "served"]);
        });
    }

    fn start_of_a_task_that_is_never_ready_is_an_error(world) {
        world.run(async {
            let error = task_group(async |g: Group| {
                let quits = g.start(async |_ready: Started<()>| fail::<()>("no port"));
                let error = error_of(quits.await);
                assert!(error.to_string().contains("before it said that it is ready"), "{error}");
                Ok(())
            });
            assert_eq!(texts(&error.await.expect_err("a child failed")), ["no port"]);
            // Said so after all: it dropped what it would say it with.
            task_group(async |g: Group| {
                let silent = g.start(async |ready: Started<()>| {
                    drop(ready);
                    yield_now().await
                });
                error_of(silent.await);
                Ok(())
            })
            .await
            .expect("the task did not fail");
        });
    }

    fn start_of_a_task_that_goes_on_without_a_word_does_not_wait_for_it(world) {
        world.run(async {
            task_group(async |g: Group| {
                let silent = g.start(async |ready: Started<()>| {
                    drop(ready);
                    sleep(LONG).await
                });
                error_of(silent.await);
                g.cancel();
                Ok(())
            })
            .await
            .expect("the body has a value");
        });
    }

    fn error_of_a_task_that_was_started_is_the_one_of_its_group(world) {
        world.run(async {
            let failed = task_group(async |g: Group| {
                g.start(async |_ready: Started<()>| fail::<()>("no port")).await
            });
            assert_eq!(texts(&failed.await.expect_err("it does")), ["no port"]);

            let stopped = task_group(async |g: Group| {
                g.cancel();
                assert!(is_cancelled(&error_of(sleep(LONG).await)));
                g.start(async |ready: Started<()>| {
                    sleep(MS).await?;
                    ready.set(());
                    Ok(())
                })
                .await
            });
            assert!(texts(&stopped.await.expect_err("it has no value")).is_empty());
        });
    }

    fn start_that_is_stopped_stops_its_task_and_waits_for_it(world) {
        let step = world.short(1);
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            let value = task_group(async |g: Group| {
                let logged = logs.clone();
                let started = g.start(async move |ready: Started<()>| {
                    let _ready = ready;
                    child(logged).await
                });
                assert!(is_time_out(&error_of(wait_for(started, step).await)));
                logs.push("stopped");
                Ok(7)
            });
            assert_eq!(value.await.expect("nobody failed"), 7);
            assert_eq!(log.take(), ["clean", "stopped"]);
        });
    }

    fn c9_dropped_group_leaves_its_tasks_to_clean_up_on_their_own(world) {
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            let mut group = Box::pin(task_group(async |g: Group| {
                g.create_task(child(logs.clone()));
                sleep(LONG).await
            }));
            assert!(poll_once(&mut group).await.is_pending());
            yield_now().await.expect("nobody cancels");
            drop(group);
            assert!(log.take().is_empty());
            until(|| coring::all_tasks().len() == 1).await;
            assert_eq!(log.take(), ["clean"]);
        });
    }

    fn c2_request_that_a_group_has_heard_and_was_dropped_with_is_heard_by_the_next_await(world) {
        world.run(async {
            let task = begun(async {
                let mut group = Box::pin(task_group(async |g: Group| {
                    g.create_task(shielded(sleep(MS * 50)));
                    Ok(())
                }));
                // A `select` by hand, which the other branch wins while the group drains.
                for _ in 0..6 {
                    assert!(poll_once(&mut group).await.is_pending());
                    foreign_yield().await;
                }
                drop(group);
                sleep(MS).await
            })
            .await;
            for n in 0..20 {
                if n == 3 {
                    task.cancel();
                }
                yield_now().await.expect("nobody cancels");
            }
            assert!(is_cancelled(&error_of(task.await)));
            until(|| coring::all_tasks().len() == 1).await;
        });
    }

    fn child_that_is_aborted_does_not_hold_the_group(world) {
        world.run(async {
            task_group(async |g: Group| {
                let task = g.create_task(async {
                    pending::<()>().await;
                    Ok(())
                });
                yield_now().await?;
                task.abort();
                Ok(())
            })
            .await
            .expect("nobody failed");
        });
    }

    fn groups_in_a_gather_stop_each_other(world) {
        let step = world.short(1);
        let log = Log::default();
        world.run(async {
            let one = async {
                let group = task_group(async |g: Group| {
                    g.create_task(child(log.clone()));
                    Ok(())
                });
                group.await.map_err(io::Error::from)
            };
            let other = async {
                sleep(step).await?;
                fail::<()>("other")
            };
            assert_eq!(error_of(gather!(one, other).await).to_string(), "other");
            assert_eq!(log.take(), ["clean"]);
        });
    }

    fn errors_of_ones_own_type_are_kept_as_they_are(world) {
        world.run(async {
            async fn mine() -> Result<u8, MyError> {
                sleep(Duration::ZERO).await?;
                Err(MyError::Text("mine"))
            }
            let result: Result<u8, GroupError<MyError>> = task_group(async |g| {
                let task = g.create_task(mine());
                Ok(task.await?)
            })
            .await;
            let error = result.expect_err("a child failed");
            assert!(matches!(error.errors[0], MyError::Text("mine")));
            assert!(error.source().is_some());
        });
    }

    fn lone_error_becomes_itself_and_many_keep_the_first_kind(world) {
        world.run(async {
            let group = task_group(async |g: Group| {
                g.create_task(async { Err::<(), _>(io::ErrorKind::NotFound.into()) });
                Ok(())
            });
            let error = io::Error::from(group.await.expect_err("a child failed"));
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let group = task_group(async |g: Group| {
                for _ in 0..2 {
                    g.create_task(async { Err::<(), _>(io::ErrorKind::NotFound.into()) });
                }
                Ok(())
            });
            let error = io::Error::from(group.await.expect_err("two failed"));
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().starts_with("2 errors in a task group: "));
        });
    }

    fn waker_that_makes_a_task_in_the_group_while_it_is_stopped(world) {
        world.run(async {
            let made: Rc<RefCell<Vec<Task<io::Result<()>>>>> = Rc::default();
            let makes = made.clone();
            let error = task_group(async |g: Group| {
                let group = g.clone();
                // Dropped while the others are asked to stop.
                let on_drop = OnDrop(move || makes.borrow_mut().push(group.create_task(sleep(LONG))));
                g.create_task(async move {
                    let _on_drop = on_drop;
                    sleep(LONG).await
                });
                yield_now().await?;
                fail::<()>("body")
            });
            error.await.expect_err("the body failed");
            assert!(made.borrow().iter().all(|task| task.done()));
            assert_eq!(made.borrow().len(), 1);
        });
    }
}

#[test]
fn group_outside_of_a_runtime_is_an_error_and_no_hang() {
    let _alone = World::sim();
    let group = task_group(async |_: Group| sleep(LONG).await);
    let error = group.now_or_never().expect("it does not wait");
    let error = error.expect_err("there is no runtime");
    assert!(
        error
            .to_string()
            .contains("there is no runtime on this thread"),
        "{error}"
    );
    let task = std::panic::catch_unwind(|| create_task(async {}));
    assert!(task.is_err(), "a task needs a runtime");
}

#[test]
fn group_that_is_polled_where_nothing_turns_waits() {
    let world = World::sim();
    let mut runner = world.runner();
    let mut group = Box::pin(task_group(async |g: Group| {
        g.create_task(sleep(MS));
        Ok(7)
    }));
    runner.run(async { assert!(poll_once(&mut group).await.is_pending()) });
    assert!((&mut group).now_or_never().is_none());
    drop(group);
    finish(runner);
}
