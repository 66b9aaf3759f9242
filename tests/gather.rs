//! Several futures awaited at once: `gather!`, `race!`, `wait`, `as_completed`. A test whose name
//! begins with a number re-creates that behaviour of CPython's test_asyncio.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::sim::Script;
use coring::winner::{Of2, Of3};
use coring::{
    BufResult, ReturnWhen, Task, as_completed, create_task, gather, gather_all, is_cancelled, now,
    ok, race, race_all, shield, shielded, sleep, wait, wait_for, yield_now,
};

fn fail(text: &'static str) -> io::Error {
    io::Error::other(text)
}

/// Sleeps, then gives `value`.
async fn later<T>(span: Duration, value: T) -> io::Result<T> {
    sleep(span).await?;
    Ok(value)
}

/// Sleeps, then fails.
async fn fails_after(span: Duration, text: &'static str) -> io::Result<()> {
    sleep(span).await?;
    Err(fail(text))
}

/// Sleeps for ever, and awaits something more once it is stopped.
async fn cleans_up(log: Log) -> io::Result<()> {
    let stopped = sleep(LONG).await;
    log.push("told");
    yield_now().await?;
    sleep(MS).await?;
    log.push("clean");
    stopped
}

/// Holds a reference to a value of its own across awaits.
async fn borrows_from_itself() -> io::Result<u32> {
    let mut n = 0;
    let borrowed = &mut n;
    yield_now().await?;
    *borrowed += 1;
    sleep(MS).await?;
    *borrowed += 1;
    Ok(*borrowed)
}

each_driver! {
    /// For Miri, which sees it if a branch is looked at while its future has begun.
    fn futures_that_borrow_from_themselves_are_not_looked_into(world) {
        world.run(async {
            let f = borrows_from_itself;
            assert_eq!(gather!(f(), f()).await.expect("nobody cancels"), (2, 2));
            assert_eq!(gather_all([f(), f()]).await.expect("nobody cancels"), [2, 2]);
            let settled = gather!(f(), f()).return_exceptions().await;
            assert_eq!(settled.0.expect("nobody cancels"), 2);
            let raced = race!(f(), sleep(LONG)).await;
            assert!(matches!(raced.winner, Of2::First(Ok(2))));
            assert_eq!(race_all([f(), f()]).await.winner.1.expect("nobody cancels"), 2);
        });
    }

    fn b113_gather_gives_the_values_in_order(world) {
        let step = world.short(1);
        world.run(async {
            let both = gather!(later(2 * step, 1), later(step, "two")).await;
            assert_eq!(both.expect("both succeed"), (1, "two"));
            let tasks = (0..10).map(|n| create_task(later((10 - n) * step / 10, n)));
            assert_eq!(gather_all(tasks).await.expect("all succeed"), (0..10).collect::<Vec<_>>());
        });
    }

    fn gather_runs_its_futures_concurrently_and_lends_them_what_is_here(world) {
        let step = world.short(2);
        world.run(async {
            let count = Cell::new(0);
            let begin = now();
            let counted = async {
                sleep(step).await?;
                count.set(count.get() + 1);
                ok(())
            };
            let also = async {
                sleep(step).await?;
                count.set(count.get() + 1);
                ok(())
            };
            gather!(counted, also).await.expect("both succeed");
            assert_eq!(count.get(), 2);
            assert!(now() - begin < 2 * step || !world.is_sim());
        });
    }

    fn b113_first_error_stops_the_others_and_waits_for_their_clean_up(world) {
        let step = world.short(1);
        let log = Log::default();
        world.run(async {
            let begin = now();
            let all = gather!(cleans_up(log.clone()), fails_after(step, "first")).await;
            assert_eq!(error_of(all).to_string(), "first");
            assert!(now() - begin < LONG);
            assert_eq!(log.take(), ["told", "clean"]);
            // The same among many.
            let all = gather_all((0..5).map(|n| {
                let log = log.clone();
                async move {
                    if n == 3 { fails_after(step, "third").await } else { cleans_up(log).await }
                }
            }));
            assert_eq!(error_of(all.await).to_string(), "third");
            assert_eq!(log.take().len(), 8);
            // Nobody has asked this task to stop.
            yield_now().await.expect("not cancelled");
        });
    }

    fn gather_gives_the_first_error_in_time(world) {
        let step = world.short(1);
        world.run(async {
            let all = gather!(fails_after(2 * step, "late"), fails_after(step, "early")).await;
            assert_eq!(error_of(all).to_string(), "early");
            // At the same time, the first in the list.
            let all = gather!(ready(Err::<(), _>(fail("a"))), ready(Err::<(), _>(fail("b")))).await;
            assert_eq!(error_of(all).to_string(), "a");
        });
    }

    fn c3_branch_after_one_that_fails_at_once_runs_to_its_first_await(world) {
        world.run(async {
            let ran = Cell::new(0);
            let branch = async || {
                ran.set(ran.get() + 1);
                sleep(LONG).await
            };
            let failed = gather!(branch(), ready(Err::<(), _>(fail("now"))), branch()).await;
            assert_eq!(error_of(failed).to_string(), "now");
            assert_eq!(ran.get(), 2);
        });
    }

    fn b113_return_exceptions_stops_nobody(world) {
        let step = world.short(1);
        world.run(async {
            let all = gather!(fails_after(step, "bad"), later(2 * step, 7), async { "text" });
            let (bad, seven, text) = all.return_exceptions().await;
            assert_eq!(error_of(bad).to_string(), "bad");
            assert_eq!((seven.expect("it was left alone"), text), (7, "text"));
            let all = gather_all((0..4).map(|n| async move {
                sleep(step * n).await?;
                if n == 1 { Err(fail("one")) } else { Ok(n) }
            }));
            let all = all.return_exceptions().await;
            assert_eq!(all.iter().filter(|result| result.is_ok()).count(), 3);
            assert_eq!(error_of(all.into_iter().nth(1).expect("four")).to_string(), "one");
        });
    }

    fn b104_gather_of_nothing_is_ready(world) {
        world.run(async {
            let none: [Task<io::Result<()>>; 0] = [];
            assert_eq!(gather_all(none).await.expect("nothing fails"), []);
        });
    }

    fn tasks_in_a_gather_that_fails_are_left_running(world) {
        let step = world.short(1);
        world.run(async {
            let mut task = create_task(later(3 * step, 7));
            let all = gather!(&mut task, fails_after(step, "bad")).await;
            assert_eq!(error_of(all).to_string(), "bad");
            assert!(!task.done());
            assert_eq!(task.cancelling(), 0);
            assert_eq!(task.await.expect("it was left alone"), 7);
            // By value: it is detached.
            let ended = Rc::new(Cell::new(false));
            let ends = ended.clone();
            let task = create_task(async move {
                sleep(2 * step).await?;
                ends.set(true);
                ok(())
            });
            error_of(gather!(task, fails_after(step, "bad")).await);
            assert!(!ended.get());
            until(|| ended.get()).await;
        });
    }

    fn task_that_a_failed_gather_left_running_is_not_told_of_later_requests(world) {
        world.run(async {
            let task = begun(async {
                let mut inner = create_task(sleep(LONG));
                error_of(gather!(&mut inner, ready(Err::<(), _>(fail("bad")))).await);
                let slept = sleep(LONG).await;
                let told = inner.cancelling();
                inner.cancel();
                let _ = inner.await;
                (slept, told)
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            let (slept, told) = task.await;
            assert!(is_cancelled(&error_of(slept)));
            assert_eq!(told, 0, "nobody awaits it");
        });
    }

    fn tasks_in_a_branch_of_a_gather_that_fails_are_left_running(world) {
        let step = world.short(1);
        world.run(async {
            let mut task = create_task(later(3 * step, 7));
            // However deep: under a limit, and in a gather of its own.
            let inner = async {
                wait_for(&mut task, LONG).await
            };
            let nested = async { gather!(inner, async { later(LONG, ()).await }).await.map(drop) };
            let all = gather!(nested, fails_after(step, "bad")).await;
            assert_eq!(error_of(all).to_string(), "bad");
            assert_eq!(task.cancelling(), 0);
            assert_eq!(task.await.expect("it was left alone"), 7);
        });
    }

    fn b115_cancel_of_a_gather_reaches_all(world) {
        let log = Log::default();
        let logs = log.clone();
        world.run(async move {
            let task = begun(async move {
                gather!(cleans_up(logs.clone()), cleans_up(logs.clone()), cleans_up(logs)).await
            })
            .await;
            task.cancel_with("enough");
            let error = error_of(task.await);
            assert!(is_cancelled(&error));
            assert_eq!(error.to_string(), "cancelled: enough");
            assert_eq!(log.take(), ["told", "told", "told", "clean", "clean", "clean"]);
        });
    }

    fn b112_cancel_of_a_gather_that_returns_exceptions_is_seen_by_the_caller(world) {
        world.run(async {
            let task = begun(async {
                let outputs = gather!(sleep(LONG), sleep(LONG)).return_exceptions().await;
                let all = gather_all([sleep(LONG), sleep(LONG)]).return_exceptions();
                (outputs, wait_for(async { ok(all.await) }, MS).await)
            })
            .await;
            task.cancel();
            let ((one, other), next) = task.await;
            assert!(is_cancelled(&error_of(one)) && is_cancelled(&error_of(other)));
            // Once: the second gather was not told of that, but of its own limit.
            assert!(next.expect("a list").iter().all(|slept| slept.is_err()));
        });
    }

    fn b115_cancel_of_a_gather_goes_on_to_its_tasks(world) {
        world.run(async {
            let children: Rc<RefCell<Vec<_>>> = Rc::default();
            let made = children.clone();
            let task = begun(async move {
                let tasks: Vec<_> = (0..3).map(|_| create_task(sleep(LONG))).collect();
                made.borrow_mut().extend(tasks.iter().map(Task::as_ref));
                gather_all(tasks).await
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert!(children.borrow().iter().all(|child| child.done()));
        });
    }

    fn c2_request_that_is_pending_when_branches_begin_stops_each(world) {
        world.run(async {
            let task = create_task(async {
                let all = gather!(sleep(LONG), sleep(LONG), sleep(LONG)).return_exceptions().await;
                let many = [&all.0, &all.1, &all.2];
                let stopped = many.iter().filter(|slept| slept.is_err()).count();
                // It is used up.
                yield_now().await.expect("told once");
                stopped
            });
            task.cancel();
            assert_eq!(task.await, 3);
        });
    }

    fn c2_request_reaches_a_branch_that_has_nothing_to_wait_for(world) {
        world.run(async {
            let task = begun(async {
                let busy = async {
                    // It yields, so that nothing of it is registered when the request comes.
                    for _ in 0..10 {
                        if yield_now().await.is_err() {
                            return "told";
                        }
                    }
                    "not told"
                };
                gather!(busy, sleep(LONG)).return_exceptions().await
            })
            .await;
            task.cancel();
            let (busy, slept) = task.await;
            assert!(is_cancelled(&error_of(slept)));
            assert_eq!(busy, "told");
        });
    }

    fn c1_result_that_came_before_the_request_is_kept_and_the_request_goes_on(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let task = begun(async move {
                let (BufResult(n, buf), slept) =
                    gather!(read(reader, 8), sleep(LONG)).return_exceptions().await;
                (n, buf, slept)
            })
            .await;
            write(writer, b"kept").await.expect("open");
            // The bytes are there, and the task has not run since.
            task.cancel();
            let (n, buf, slept) = task.await;
            if let Ok(n) = n {
                assert_eq!(&buf[..n], b"kept");
            } else {
                assert_eq!(read(reader, 8).await.0.expect("nothing was taken"), 4);
            }
            assert!(is_cancelled(&error_of(slept)));
        });
    }

    fn uncancel_takes_back_what_branches_have_not_heard(world) {
        world.run(async {
            let task = create_task(async {
                let mut both = Box::pin(gather!(pending::<io::Result<()>>(), async {
                    pending::<()>().await;
                    ok(())
                }));
                assert!(poll_once(&mut both).await.is_pending());
                coring::current_task().cancel();
                assert_eq!(coring::current_task().uncancel(), 0);
                drop(both);
                yield_now().await
            });
            task.await.expect("it was taken back");
        });
    }

    fn limit_around_a_gather_stops_each_branch(world) {
        let step = world.short(1);
        let (reader, _writer) = world.pipe();
        world.run(async {
            let both = gather!(async { read(reader, 8).await.0 }, later(LONG, ()));
            assert!(is_time_out(&error_of(wait_for(both, step).await)));
            let both = gather!(async { read(reader, 8).await.0 }, later(LONG, ()));
            assert!(is_time_out(&error_of(wait_for(both, Duration::ZERO).await)));
            yield_now().await.expect("not cancelled");
        });
    }

    fn c5_foreign_branch_is_dropped_when_it_is_to_stop(world) {
        let step = world.short(1);
        let drops = Drops::default();
        world.run(async {
            let guard = drops.guard();
            let foreign = async move {
                let _guard = guard;
                pending::<()>().await;
                ok(())
            };
            error_of(gather!(foreign, fails_after(step, "bad")).await);
            assert_eq!(drops.count(), 1);
            let guards = [drops.guard(), drops.guard(), drops.guard()];
            let many = guards.into_iter().enumerate().map(|(at, guard)| async move {
                let _guard = guard;
                if at == 1 {
                    return fails_after(step, "bad").await;
                }
                pending::<()>().await;
                ok(())
            });
            error_of(gather_all(many).await);
            assert_eq!(drops.count(), 4);
        });
    }

    fn c5_branch_behind_a_shield_is_waited_for(world) {
        let step = world.short(1);
        world.run(async {
            let done = Cell::new(false);
            let whole = shielded(async {
                sleep(2 * step).await?;
                done.set(true);
                ok(())
            });
            error_of(gather!(whole, fails_after(step, "bad")).await);
            assert!(done.get());
        });
    }

    fn b110_shielded_task_in_a_gather_survives_its_cancel(world) {
        let step = world.short(1);
        world.run(async {
            let mut task = create_task(later(3 * step, 7));
            let gathered = async { gather!(shield(&mut task), sleep(LONG)).await.map(drop) };
            assert!(is_time_out(&error_of(wait_for(gathered, step).await)));
            assert_eq!(task.cancelling(), 0);
            assert_eq!(task.await.expect("it was shielded"), 7);
        });
    }

    fn race_is_won_by_the_first_and_drains_the_others(world) {
        let step = world.short(1);
        let log = Log::default();
        world.run(async {
            let raced = race!(cleans_up(log.clone()), later(step, 7), later(LONG, ())).await;
            assert!(matches!(raced.winner, Of3::Second(Ok(7))));
            assert_eq!(log.take(), ["told", "clean"]);
            let (first, second, third) = raced.late;
            assert!(is_cancelled(&error_of(first.expect("it was drained"))));
            assert!(second.is_none());
            assert!(is_cancelled(&error_of(third.expect("it was drained"))));
        });
    }

    fn c1_loser_of_a_race_that_finished_is_handed_over(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            write(writer, b"bytes").await.expect("open");
            let raced = race!(ready("at once"), read(reader, 8)).await;
            assert!(matches!(raced.winner, Of2::First("at once")));
            let BufResult(n, buf) = raced.late.1.expect("it was drained");
            match n {
                Ok(n) => assert_eq!(&buf[..n], b"bytes"),
                Err(error) => {
                    assert!(is_cancelled(&error), "{error}");
                    assert_eq!(buf.capacity(), 8);
                    assert_eq!(read(reader, 8).await.0.expect("nothing was taken"), 5);
                }
            }
            // One that was done already.
            let raced = race!(ready(1), ready(2)).await;
            assert!(matches!((raced.winner, raced.late), (Of2::First(1), (None, Some(2)))));
        });
    }

    fn c4_loser_that_cannot_be_cancelled_is_waited_for(world) {
        let Some(kernel) = &world.kernel else { return };
        let (reader, _writer) = world.pipe();
        let step = world.short(1);
        kernel.script(READ, Script::Uncancellable(step * 3, 1));
        world.run(async {
            let begin = now();
            let raced = race!(later(step, ()), read(reader, 8)).await;
            assert!(now() - begin >= step * 3);
            assert_eq!(raced.late.1.expect("it was drained").0.expect("it came"), 1);
        });
    }

    fn tasks_in_a_race_are_left_running(world) {
        let step = world.short(1);
        world.run(async {
            let mut task = create_task(later(2 * step, 7));
            let raced = race!(&mut task, later(step, ())).await;
            assert!(matches!(raced.winner, Of2::Second(Ok(()))));
            assert!(raced.late.0.is_none());
            assert_eq!(task.await.expect("it was left alone"), 7);
        });
    }

    fn cancel_of_a_race_stops_all_and_is_heard_once(world) {
        world.run(async {
            let task = begun(async {
                let raced = race!(sleep(LONG), sleep(LONG)).await;
                (raced, yield_now().await)
            })
            .await;
            task.cancel();
            let (raced, next) = task.await;
            let Of2::First(first) = raced.winner else { panic!("the first in the list") };
            assert!(is_cancelled(&error_of(first)));
            assert!(is_cancelled(&error_of(raced.late.1.expect("it was drained"))));
            next.expect("told once");
        });
    }

    fn race_all_is_won_by_the_first(world) {
        let step = world.short(1);
        world.run(async {
            let raced = race_all((0..20).map(|n| later(step * (1 + (n + 7) % 20), n))).await;
            assert_eq!(raced.winner.0, 13);
            assert_eq!(raced.late.len(), 19);
            assert!(raced.late.into_iter().all(|(_, late)| is_cancelled(&error_of(late))));
        });
    }

    fn nested_races_leave_nothing_behind(world) {
        let step = world.short(1);
        let (reader, _writer) = world.pipe();
        world.run(async {
            for _ in 0..10 {
                let inner = async {
                    let raced = race!(read(reader, 8), sleep(LONG)).await;
                    matches!(raced.winner, Of2::First(_))
                };
                let raced = race!(inner, sleep(step / 10)).await;
                assert!(matches!(raced.winner, Of2::Second(Ok(()))));
                assert_eq!(raced.late.0, Some(true), "its first branch was told first");
            }
        });
    }

    fn b096_wait_for_the_first(world) {
        let step = world.short(1);
        world.run(async {
            let mut tasks: Vec<_> = [3, 1, 2].map(|n| create_task(later(n * step, n))).into();
            let mut done = wait(&mut tasks, ReturnWhen::FirstCompleted, None).await.expect("waited");
            assert_eq!((done.len(), tasks.len()), (1, 2));
            assert_eq!(done.remove(0).await.expect("slept"), 1);
            let done = wait(&mut tasks, ReturnWhen::AllCompleted, None).await.expect("waited");
            assert_eq!((done.len(), tasks.len()), (2, 0));
            let mut values = Vec::new();
            for task in done {
                values.push(task.await.expect("slept"));
            }
            assert_eq!(values, [3, 2], "in the order in which they were given");
        });
    }

    fn b097_tasks_that_end_in_the_same_turn_all_count(world) {
        world.run(async {
            let mut tasks: Vec<_> = (0..5).map(|n| create_task(async move { n })).collect();
            let done = wait(&mut tasks, ReturnWhen::FirstCompleted, None).await.expect("waited");
            assert_eq!(done.len(), 5);
        });
    }

    fn wait_for_the_first_error(world) {
        let step = world.short(1);
        world.run(async {
            let mut tasks: Vec<_> = [1, 2, 200]
                .map(|n| {
                    create_task(async move {
                        sleep(n * step).await?;
                        if n == 2 { Err(fail("two")) } else { Ok(n) }
                    })
                })
                .into();
            let done = wait(&mut tasks, ReturnWhen::FIRST_EXCEPTION, None).await.expect("waited");
            assert_eq!((done.len(), tasks.len()), (2, 1));
            tasks.remove(0).cancel();
            for task in done {
                drop(task.await);
            }
        });
    }

    fn b100_wait_with_a_limit_cancels_nothing(world) {
        let step = world.short(1);
        world.run(async {
            let mut tasks = vec![create_task(later(3 * step, 1))];
            let when = ReturnWhen::AllCompleted;
            let done = wait(&mut tasks, when, Some(step)).await.expect("a limit is no error");
            assert_eq!((done.len(), tasks.len()), (0, 1));
            assert_eq!(tasks[0].cancelling(), 0);
            let done = wait(&mut tasks, when, Some(Duration::ZERO)).await.expect("likewise");
            assert!(done.is_empty());
            let mut done = wait(&mut tasks, when, Some(LONG)).await.expect("waited");
            assert_eq!(done.remove(0).await.expect("slept"), 1);
            let none = wait(&mut tasks, when, None).await.expect("nothing to wait for");
            assert!(none.is_empty());
        });
    }

    fn cancel_of_a_wait_leaves_the_tasks(world) {
        let step = world.short(1);
        world.run(async {
            let waits = async {
                let mut tasks = vec![create_task(later(2 * step, 1)), create_task(ready_task())];
                let waited = wait_for(wait(&mut tasks, ReturnWhen::AllCompleted, None), step).await;
                (waited.map(|done| done.len()), tasks)
            };
            let (waited, mut tasks) = waits.await;
            assert!(is_time_out(&error_of(waited)));
            assert_eq!(tasks.len(), 2, "the one that has ended too");
            assert_eq!(tasks.remove(0).await.expect("slept"), 1);
            // A cancellation point, though nothing has to be waited for.
            let mut done = vec![tasks.remove(0)];
            let task = create_task(async move {
                let waited = wait(&mut done, ReturnWhen::AllCompleted, None).await.map(drop);
                (waited, done.len())
            });
            task.cancel();
            let (waited, left) = task.await;
            assert!(is_cancelled(&error_of(waited)));
            assert_eq!(left, 1);
        });
    }

    fn b104_as_completed_gives_outputs_in_the_order_of_their_ends(world) {
        let step = world.short(1);
        world.run(async {
            let mut tasks = [3, 1, 2].map(|n| create_task(later(n * step, n)));
            let mut completed = as_completed(&mut tasks);
            let mut order = Vec::new();
            while let Some(n) = completed.next().await.expect("nobody cancels") {
                order.push(n.expect("slept"));
            }
            assert_eq!(order, [1, 2, 3]);
            assert!(completed.next().await.expect("nobody cancels").is_none());
        });
    }

    fn b104_as_completed_goes_on_after_a_limit(world) {
        let step = world.short(1);
        world.run(async {
            let mut tasks = [1, 40].map(|n| create_task(later(n * step, n)));
            let mut completed = as_completed(&mut tasks);
            let first = wait_for(completed.next(), LONG).await.expect("in time");
            assert_eq!(first.expect("two").expect("slept"), 1);
            assert!(is_time_out(&error_of(wait_for(completed.next(), step).await)));
            let second = completed.next().await.expect("nobody cancels");
            assert_eq!(second.expect("two").expect("it was left alone"), 40);
        });
    }

    fn gather_of_many_polls_only_who_is_woken(world) {
        const MANY: u32 = if cfg!(miri) { 60 } else { 500 };
        let step = world.short(1);
        world.run(async {
            let polls = Cell::new(0);
            let polls = &polls;
            let all = gather_all((0..MANY).map(|n| async move {
                let mut slept = Box::pin(sleep(step + MS * (n % 50)));
                std::future::poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    slept.as_mut().poll(cx)
                })
                .await
            }));
            assert_eq!(all.await.expect("all slept").len(), MANY as usize);
            assert_eq!(polls.get(), 2 * MANY);
        });
    }

    fn dropped_gathers_and_races_leave_nothing(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let mut both = Box::pin(gather!(async { read(reader, 8).await.0 }, later(LONG, ())));
            assert!(poll_once(&mut both).await.is_pending());
            drop(both);
            let mut both = Box::pin(race!(async { read(reader, 8).await.0 }, later(LONG, ())));
            assert!(poll_once(&mut both).await.is_pending());
            drop(both);
            let mut all = gather_all([sleep(LONG), sleep(LONG)]);
            assert!(poll_once(&mut all).await.is_pending());
            drop(all);
            // The reads took nothing, whenever the kernel heard of it.
            until(|| coring::all_tasks().len() == 1).await;
            yield_now().await.expect("nobody cancels");
        });
    }

    fn a_panic_in_a_branch_is_the_awaiters(world) {
        world.run(async {
            let task = create_task(async {
                let panics = async {
                    yield_now().await?;
                    if true {
                        panic!("in a branch");
                    }
                    ok(())
                };
                gather!(sleep(LONG), panics).await
            });
            let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(task));
            assert_eq!(caught.await.expect_err("it panicked").downcast_ref(), Some(&"in a branch"));
        });
    }
}

async fn ready_task() -> io::Result<u32> {
    Ok(0)
}

#[test]
#[should_panic(expected = "`race_all` was given no futures")]
fn race_of_nothing_says_so() {
    let _alone = World::sim();
    drop(race_all::<std::future::Ready<()>>([]));
}
