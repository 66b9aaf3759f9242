//! How `run` ends, and signals. A test whose name begins with a number re-creates that behaviour of
//! CPython's test_runners.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::signal::{SignalKind, signal};
use coring::{
    Task, TaskGroup, all_tasks, create_task, gather_all, is_cancelled, now, ok, shielded, sleep,
    task_group, wait_for, yield_now,
};
use futures_util::FutureExt;

each_driver! {
    fn b130_close_cancels_the_tasks_that_are_left_and_waits_for_them(world) {
        let log = Log::default();
        let logs = log.clone();
        let mut runner = world.runner();
        let output = runner.run(async move {
            let task = begun(async move {
                let stopped = sleep(LONG).await;
                logs.push("told");
                sleep(MS).await.expect("told once");
                logs.push("clean");
                stopped
            })
            .await;
            drop(task);
            7
        });
        assert_eq!((output, log.take().len()), (7, 0));
        runner.close();
        assert_eq!(log.take(), ["told", "clean"]);
    }

    fn tasks_that_are_made_while_the_runner_is_closed_are_asked_as_well(world) {
        let log = Log::default();
        let logs = log.clone();
        let mut runner = world.runner();
        runner.run(async move {
            drop(begun(async move {
                let _ = sleep(LONG).await;
                let logged = logs.clone();
                drop(create_task(async move {
                    let stopped = sleep(LONG).await;
                    assert!(is_cancelled(&error_of(stopped)));
                    logged.push("late");
                }));
                logs.push("first");
            })
            .await);
        });
        runner.close();
        assert_eq!(log.take(), ["first", "late"]);
    }

    fn task_that_waits_for_what_is_foreign_is_dropped_at_once(world) {
        let drops = Drops::default();
        let guard = drops.guard();
        let mut runner = world.runner();
        let begin = runner.run(async move {
            drop(begun(async move {
                let _guard = guard;
                pending::<()>().await;
            })
            .await);
            now()
        });
        // Its grace is not waited for.
        runner.run(async {
            assert!(now() - begin < Duration::from_secs(5));
        });
        runner.close();
        assert_eq!(drops.count(), 1);
    }

    fn task_that_takes_no_notice_is_asked_twice_and_dropped(world) {
        let (asked, drops) = (Rc::new(Cell::new(0)), Drops::default());
        let (count, guard) = (asked.clone(), drops.guard());
        let mut runner = world.builder().grace(10 * MS).build().expect("a driver");
        runner.run(async move {
            drop(begun(async move {
                let _guard = guard;
                loop {
                    if sleep(LONG).await.is_err() {
                        count.set(count.get() + 1);
                    }
                }
            })
            .await);
        });
        runner.close();
        assert_eq!((asked.get(), drops.count()), (2, 1));
    }

    fn task_behind_a_shield_is_given_its_time(world) {
        let done = Rc::new(Cell::new(false));
        let sets = done.clone();
        let step = world.short(1);
        let mut runner = world.builder().grace(10 * step).build().expect("a driver");
        runner.run(async move {
            drop(begun(async move {
                shielded(sleep(step)).await.expect("shielded");
                sets.set(true);
                sleep(LONG).await
            })
            .await);
        });
        runner.close();
        assert!(done.get());
    }

    /// Without `close`: nobody is asked.
    fn drops_at_the_end_of_the_runner_may_use_everything_that_ends_with_it(world) {
        let drops = Drops::default();
        let other: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let mut runner = world.runner();
        runner.run(async {
            for _ in 0..4 {
                let (guard, other) = (drops.guard(), other.clone());
                drop(begun(async move {
                    let _guard = guard;
                    let _uses = OnDrop(move || {
                        if let Some(task) = other.take() {
                            task.cancel();
                            task.abort();
                        }
                        let mut task = create_task(async { drop(sleep(LONG).await) });
                        task.cancel();
                        let _ = (&mut task).now_or_never();
                        let _ = gather_all([sleep(LONG)]).now_or_never();
                        let _ = wait_for(sleep(LONG), LONG).now_or_never();
                        let group = task_group(async |group: TaskGroup<io::Error>| {
                            group.create_task(async { ok(()) });
                            sleep(LONG).await
                        });
                        let _ = group.now_or_never();
                        for task in all_tasks() {
                            task.cancel();
                        }
                        other.replace(Some(task));
                    });
                    let _ = shielded(sleep(LONG)).await;
                })
                .await);
            }
        });
        drop(runner);
        assert_eq!(drops.count(), 4);
    }
}

#[cfg(not(miri))]
#[test]
fn b131_run_waits_for_the_clean_up_of_the_other_tasks_and_gives_its_output() {
    let _alone = World::uring();
    let done = Rc::new(Cell::new(0));
    let sets = done.clone();
    let output = coring::run(async move {
        for panics in [false, true] {
            let sets = sets.clone();
            drop(
                begun(async move {
                    let _ = sleep(LONG).await;
                    yield_now().await.expect("told once");
                    sets.set(sets.get() + 1);
                    assert!(!panics, "in the clean-up");
                })
                .await,
            );
        }
        42
    });
    assert_eq!((output, done.get()), (42, 2));
}

#[cfg(not(miri))]
#[test]
fn tasks_clean_up_also_when_main_panicked() {
    let _alone = World::uring();
    let done = Rc::new(Cell::new(false));
    let sets = done.clone();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        coring::run(async move {
            drop(
                begun(async move {
                    let _ = sleep(LONG).await;
                    yield_now().await.expect("told once");
                    sets.set(true);
                })
                .await,
            );
            panic!("main");
        })
    }));
    assert_eq!(
        panicked.expect_err("main panicked").downcast_ref(),
        Some(&"main")
    );
    assert!(done.get());
}

#[cfg(not(miri))]
#[test]
fn signal_is_got_by_all_who_catch_it_and_counts_once() {
    let world = World::uring();
    world.run(async {
        let kind = SignalKind::user_defined1();
        let (mut one, mut other) = (signal(kind).expect("free"), signal(kind).expect("free"));
        for _ in 0..3 {
            // SAFETY: it is caught.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        }
        one.recv().await.expect("it came");
        other.recv().await.expect("it came");
        let none = wait_for(one.recv(), MS).await;
        assert!(is_time_out(&error_of(none)), "three at once count once");
        // A wait that was dropped loses nothing.
        let mut wait = Box::pin(one.recv());
        assert!(poll_once(&mut wait).await.is_pending());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        yield_now().await.expect("nobody cancels");
        drop(wait);
        one.recv().await.expect("it came");
        for number in [0, 65, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
            let error = error_of(signal(SignalKind::from_raw(number)));
            assert_eq!(
                error.to_string(),
                format!("signal {number} cannot be caught")
            );
        }
    });
}
