//! Who hears of a request to a task, and how often: once, whoever it is meant for (C2, C7, C8).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::sim::Script;
use coring::sync::{Condition, Event, Lock};
use coring::{
    BufResult, TaskGroup, TaskRef, checkpoint, create_task, current_task, gather, gather_all,
    is_cancelled, now, shielded, sleep, task_group, timeout, wait_for, yield_now,
};
use futures_util::future::{FusedFuture, FutureExt, join};
use futures_util::stream::{FuturesUnordered, StreamExt};

each_driver! {
    fn b079_request_that_was_taken_back_reaches_no_await_after_a_result(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let waits = lock.clone();
            let task = begun(async move {
                let got = waits.acquire().await.is_ok();
                (got, sleep(MS).await)
            })
            .await;
            drop(held); // Granted, and not fetched yet.
            task.cancel();
            assert_eq!(task.uncancel(), 0);
            let (got, slept) = task.await;
            assert!(got);
            slept.expect("it was taken back");
        });
    }

    fn limit_after_a_request_that_was_taken_back_is_a_time_out(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(wait_for(
                async {
                    assert!(is_cancelled(&error_of(sleep(LONG).await)));
                    assert_eq!(current_task().uncancel(), 0);
                    sleep(LONG).await
                },
                step,
            ))
            .await;
            task.cancel();
            assert!(is_time_out(&error_of(task.await)));
        });
    }

    fn task_that_cancels_itself_hears_of_it_at_its_next_await(world) {
        world.run(async {
            let yields = create_task(async {
                current_task().cancel();
                yield_now().await
            });
            let sleeps = create_task(async {
                current_task().cancel();
                sleep(Duration::ZERO).await
            });
            let limited = async {
                current_task().cancel();
                yield_now().await
            };
            let limited = create_task(wait_for(limited, LONG));
            for task in [yields, limited] {
                assert!(is_cancelled(&error_of(task.await)));
            }
            assert!(is_cancelled(&error_of(sleeps.await)));
        });
    }

    fn operation_that_began_behind_a_shield_is_told_in_front_of_it(world) {
        let (reader, _writer) = world.pipe();
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let mut op = read(reader, 8);
                let shield = shielded(async {
                    assert!(poll_once(&mut op).await.is_pending());
                    sleep(step).await
                });
                shield.await.expect("nobody is told in there");
                op.await.0
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn waiter_that_began_behind_a_shield_is_told_in_front_of_it(world) {
        let step = world.short(1);
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let _held = lock.acquire().await.expect("it is free");
            let waits = lock.clone();
            let task = begun(async move {
                let mut acquire = Box::pin(waits.acquire());
                let shield = shielded(async {
                    assert!(poll_once(&mut acquire).await.is_pending());
                    sleep(step).await
                });
                shield.await.expect("nobody is told in there");
                acquire.await.map(drop)
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn task_that_was_awaited_behind_a_shield_is_told_in_front_of_it(world) {
        let step = world.short(1);
        world.run(async {
            let mut inner = begun(sleep(LONG)).await;
            let task = begun(async move {
                let shield = shielded(async {
                    assert!(poll_once(&mut inner).await.is_pending());
                    sleep(step).await
                });
                shield.await.expect("nobody is told in there");
                inner.await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn unpolled_child_that_began_behind_a_shield_is_told_in_front_of_it(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let mut children = FuturesUnordered::new();
                children.push(sleep(LONG));
                let shield = shielded(async {
                    assert!(poll_once(&mut children.next()).await.is_pending());
                    sleep(step).await
                });
                shield.await.expect("nobody is told in there");
                children.next().await.expect("there is one")
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn c2_request_that_a_branch_has_heard_is_not_heard_again_by_it(world) {
        world.run(async {
            for first in [false, true] {
                let lock = Rc::new(Lock::new(()));
                let held = lock.acquire().await.expect("it is free");
                let waits = lock.clone();
                let task = begun(async move {
                    let granted = async { waits.acquire().await.map(drop) };
                    let told = async {
                        assert!(is_cancelled(&error_of(Event::new().wait().await)));
                        // Its clean-up.
                        (sleep(MS).await, sleep(MS).await)
                    };
                    if first {
                        let (granted, told) = join(granted, told).await;
                        return (told, granted);
                    }
                    join(told, granted).await
                })
                .await;
                drop(held);
                task.cancel();
                let ((one, two), granted) = task.await;
                granted.expect("C1");
                one.expect("used up");
                two.expect("used up");
            }
        });
    }

    fn c2_request_that_was_heard_is_not_heard_again_behind_a_result(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let waits = lock.clone();
            let task = begun(async move {
                let mut acquire = Box::pin(waits.acquire());
                assert!(poll_once(&mut acquire).await.is_pending());
                assert!(is_cancelled(&error_of(sleep(LONG).await)));
                drop(acquire.await.expect("C1"));
                sleep(MS).await
            })
            .await;
            drop(held);
            task.cancel();
            task.await.expect("used up by the first sleep");
        });
    }

    fn c7_request_that_the_awaited_task_used_up_is_used_up(world) {
        world.run(async {
            let inner = begun(async {
                let slept = sleep(LONG).await;
                current_task().cancel(); // Of its own, and nobody hears of it.
                slept
            })
            .await;
            let outer = begun(async move { (inner.await, sleep(MS).await) }).await;
            outer.cancel();
            let (slept, after) = outer.await;
            assert!(is_cancelled(&error_of(slept)));
            after.expect("the task used it up");
        });
    }

    fn c7_request_is_heard_by_a_limit_around_what_is_foreign(world) {
        let drops = Drops::default();
        world.run(async {
            let guard = drops.guard();
            let foreign = async move {
                let _guard = guard;
                pending::<io::Result<()>>().await
            };
            let begin = now();
            let task = begun(async move { (wait_for(foreign, LONG).await, yield_now().await) }).await;
            task.cancel_with("enough");
            let (waited, next) = task.await;
            assert!(is_cancelled(&error_of(waited)));
            next.expect("told once");
            assert_eq!(drops.count(), 1);
            assert!(now() - begin < LONG);
            // Polled by somebody who polls only what was woken.
            let task = begun(async {
                let mut children = FuturesUnordered::new();
                children.push(wait_for(pending::<io::Result<()>>(), LONG));
                children.next().await.expect("there is one")
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            // A group's body.
            let task = begun(task_group(async |_: TaskGroup<io::Error>| {
                pending::<io::Result<()>>().await
            }))
            .await;
            task.cancel();
            assert!(is_cancelled(&task.await.expect_err("cancelled")));
        });
    }

    fn c7_condition_that_holds_already_is_a_cancellation_point(world) {
        world.run(async {
            let task = create_task(async {
                let (lock, changed) = (Lock::new(7), Condition::new());
                let guard = lock.try_acquire().expect("it is free");
                let BufResult(waited, guard) = changed.wait_for(guard, |n| *n == 7).await;
                drop(guard);
                waited
            });
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn task_that_passes_on_the_error_of_one_that_was_cancelled_does_not_look_so_itself(world) {
        world.run(async {
            let inner = begun(sleep(LONG)).await;
            let stops = inner.as_ref();
            let outer = begun(inner).await;
            stops.cancel();
            until(|| outer.done()).await;
            assert!(!outer.cancelled());
            assert!(is_cancelled(&error_of(outer.await)));
            let asked = begun(sleep(LONG)).await;
            asked.cancel();
            until(|| asked.done()).await;
            assert!(asked.cancelled());
        });
    }

    fn request_that_is_pending_when_a_gather_begins_reaches_its_tasks(world) {
        world.run(async {
            let outer = create_task(async move {
                let mut inner = create_task(sleep(LONG));
                let both = gather!(sleep(LONG), &mut inner).await.map(drop);
                assert!(is_cancelled(&error_of(both)));
                inner.cancelling()
            });
            outer.cancel();
            assert_eq!(outer.await, 1);
        });
    }

    fn c8_limit_whose_body_was_refused_before_it_waited_knows_who_asked(world) {
        let step = world.short(1);
        world.run(async {
            let body = async move {
                let told = yield_now().await;
                let _ = sleep(step * 2).await; // Clean-up that the limit ends.
                told
            };
            let task = create_task(wait_for(body, step));
            task.cancel_with("why");
            assert_eq!(error_of(task.await).to_string(), "cancelled: why");
        });
    }

    fn group_that_is_told_at_its_first_await_hands_the_request_back(world) {
        world.run(async {
            let task = create_task(async {
                let failed = task_group(async |_| {
                    let _ = sleep(LONG).await;
                    Err::<(), _>(io::Error::other("own"))
                });
                assert_eq!(failed.await.expect_err("it failed").to_string(), "own");
                sleep(MS).await
            });
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn request_that_a_group_in_an_awaited_task_handed_back_is_heard_by_the_awaiter(world) {
        world.run(async {
            let task = begun(async {
                let inner = create_task(task_group(async |_| {
                    let _ = sleep(LONG).await;
                    Err::<(), _>(io::Error::other("own"))
                }));
                assert_eq!(inner.await.expect_err("it failed").to_string(), "own");
                sleep(MS).await
            })
            .await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    /// A group that fails does not say that it was asked to stop. The sibling that was told is not
    /// told again for that.
    fn c2_sibling_of_a_group_that_fails_hears_once(world) {
        let step = world.short(1);
        world.run(async {
            let fails = task_group(async move |group: TaskGroup<io::Error>| {
                group.create_task(async move {
                    sleep(LONG).await.expect_err("it is asked to stop");
                    shielded(sleep(step)).await?;
                    Err::<(), _>(io::Error::other("after all"))
                });
                Ok(())
            });
            let listens = async move {
                let told = error_of(sleep(LONG).await);
                sleep(4 * step).await.expect("it was told");
                told
            };
            let task = begun(join(fails, listens)).await;
            task.cancel();
            let (failed, told) = task.await;
            assert_eq!(failed.expect_err("it does").errors.len(), 1);
            assert!(is_cancelled(&told));
        });
    }

    fn c2_request_that_was_heard_in_a_group_that_is_dropped_is_heard_behind_it(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let dropped = task_group(async |_: TaskGroup<io::Error>| {
                    assert!(is_cancelled(&error_of(sleep(LONG).await)));
                    sleep(LONG).await
                });
                let other = shielded(sleep(step));
                futures_util::future::select(pin!(dropped), pin!(other)).await;
                sleep(LONG).await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    /// The branches that were not polled by then are told as well.
    fn c2_request_that_the_first_branch_makes_is_heard_by_those_behind_it(world) {
        world.run(async {
            let yields = |asks: bool| async move {
                if asks {
                    current_task().cancel();
                }
                let heard = error_of(yield_now().await);
                yield_now().await.expect("it was told");
                heard
            };
            let all = gather_all([true, false, false].map(yields)).return_exceptions();
            for heard in create_task(all).await {
                assert!(is_cancelled(&heard));
            }
            let both = async move { gather!(yields(true), yields(false)).return_exceptions().await };
            let (one, other) = create_task(both).await;
            assert!(is_cancelled(&one) && is_cancelled(&other));
        });
    }

    fn c2_request_between_two_polls_is_heard_by_each_branch_that_yields(world) {
        world.run(async {
            let yields = || async {
                let mut turns = 0;
                while yield_now().await.is_ok() {
                    turns += 1;
                }
                yield_now().await.expect("it was told");
                turns
            };
            let all = gather_all([yields(), yields(), yields()]).return_exceptions();
            let task = begun(all).await;
            yield_now().await.expect("nobody asks this one");
            task.cancel();
            let turns = task.await;
            assert!(turns.iter().all(|&turns| turns > 0), "{turns:?}");
        });
    }

    /// By way of a handle, in the body or in another task of the group.
    fn c8_limit_of_a_group_that_awaits_its_tasks_is_a_time_out(world) {
        let step = world.short(1);
        world.run(async {
            let body = async |group: TaskGroup<io::Error>| group.create_task(sleep(LONG)).await;
            let group = async { task_group(body).await.map_err(io::Error::from) };
            assert!(is_time_out(&error_of(wait_for(group, step).await)));

            let body = async |group: TaskGroup<io::Error>| {
                let inner = group.create_task(sleep(LONG));
                group.create_task(inner);
                sleep(LONG).await
            };
            let group = async { task_group(body).await.map_err(io::Error::from) };
            assert!(is_time_out(&error_of(wait_for(group, step).await)));

            let body = async move |group: TaskGroup<io::Error>| {
                let all = [step, LONG].map(|span| group.create_task(sleep(span)));
                gather_all(all).await.map(drop)
            };
            let task = begun(async move { task_group(body).await.map_err(io::Error::from) }).await;
            task.cancel_with("enough");
            assert_eq!(error_of(task.await).to_string(), "cancelled: enough");
        });
    }

    fn error_of_a_task_that_the_body_passes_on_is_not_another_error_of_its_group(world) {
        world.run(async {
            let failed = task_group(async |group: TaskGroup<io::Error>| {
                let fails = group.create_task(async {
                    yield_now().await?;
                    Err::<(), _>(io::Error::other("no luck"))
                });
                fails.await
            });
            let failed = failed.await.expect_err("it does");
            assert_eq!(failed.errors.len(), 1, "{failed:?}");
            assert_eq!(failed.errors[0].to_string(), "no luck");
        });
    }

    fn c2_branch_that_has_heard_is_not_told_again_where_a_shield_ends(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let cleans_up = async {
                    let told = error_of(sleep(LONG).await);
                    sleep(4 * step).await.expect("it was told");
                    told
                };
                let raced = async { gather!(cleans_up, sleep(LONG)).return_exceptions().await.0 };
                join(shielded(sleep(2 * step)), raced).await.1
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&task.await));
        });
    }

    /// It has no word for what it has heard.
    fn c2_request_that_a_branch_has_heard_which_is_dropped_is_heard_behind_it(world) {
        world.run(async {
            let task = begun(async {
                let dropped = async {
                    assert!(is_cancelled(&error_of(sleep(LONG).await)));
                    pending::<io::Result<()>>().await
                };
                let fails = async {
                    shielded(yield_now()).await?;
                    shielded(yield_now()).await?;
                    shielded(yield_now()).await?;
                    Err::<(), _>(io::Error::other("no luck"))
                };
                let failed = error_of(gather!(dropped, fails).await);
                assert_eq!(failed.to_string(), "no luck");
                sleep(LONG).await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn c8_reason_that_was_given_is_not_given_again_by_limits_that_pass(world) {
        let step = world.short(1);
        world.run(async {
            let body = async move {
                let told = error_of(sleep(LONG).await).to_string();
                (told, error_of(sleep(LONG).await).to_string())
            };
            let task = begun(timeout(step, timeout(step, body))).await;
            task.cancel_with("enough");
            let (told, again) = match task.await {
                Ok(Ok(told)) => told,
                Ok(Err(expired)) => expired.late.expect("it knows of cancellation"),
                Err(expired) => match expired.late.expect("it knows of cancellation") {
                    Ok(told) => told,
                    Err(expired) => expired.late.expect("it knows of cancellation"),
                },
            };
            assert_eq!((&*told, &*again), ("cancelled: enough", "cancelled"));
        });
    }

    fn group_that_was_interrupted_says_so_though_that_is_taken_back(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(task_group(async move |group: TaskGroup<io::Error>| {
                group.create_task(async move {
                    let told = sleep(LONG).await;
                    shielded(sleep(2 * step)).await?;
                    told
                });
                sleep(LONG).await
            }))
            .await;
            task.cancel();
            yield_now().await.expect("nobody asks this one");
            yield_now().await.expect("nobody asks this one");
            task.cancel();
            yield_now().await.expect("nobody asks this one");
            task.uncancel();
            task.uncancel();
            let failed = task.await.expect_err("it was asked");
            assert!(is_cancelled(&failed), "{failed:?}");
        });
    }

    /// Delivery through what other crates combine futures with.
    fn request_reaches_awaits_in_join_and_select(world) {
        world.run(async {
            let task = begun(async {
                let (one, other) = futures_util::join!(sleep(LONG), wait_for(sleep(LONG), LONG));
                [error_of(one), error_of(other)]
            })
            .await;
            task.cancel();
            assert!(task.await.iter().all(|told| is_cancelled(told)));

            let task = begun(async {
                let (mut one, mut other) = (pin!(sleep(LONG).fuse()), pin!(sleep(LONG).fuse()));
                let first = futures_util::select! {
                    first = one => first,
                    first = other => first,
                };
                // The other was told with it.
                let second = if one.is_terminated() { other.await } else { one.await };
                sleep(MS).await.expect("both have been told");
                [error_of(first), error_of(second)]
            })
            .await;
            task.cancel();
            assert!(task.await.iter().all(|told| is_cancelled(told)));
        });
    }

    fn request_reaches_awaits_in_unordered_streams(world) {
        world.run(async {
            let task = begun(async {
                let all: FuturesUnordered<_> = (0..40).map(|_| sleep(LONG)).collect();
                all.collect::<Vec<_>>().await
            })
            .await;
            task.cancel();
            let told = task.await;
            assert_eq!(told.len(), 40);
            assert!(told.into_iter().all(|told| is_cancelled(&error_of(told))));

            // Of those that have not begun by then, none is told: it was heard of.
            let step = world.short(1);
            let task = begun(async move {
                let spans = [LONG, LONG, LONG, step, step];
                let all = futures_util::stream::iter(spans.map(sleep)).buffer_unordered(3);
                all.collect::<Vec<_>>().await
            })
            .await;
            task.cancel();
            let (told, done): (Vec<_>, Vec<_>) = task.await.into_iter().partition(Result::is_err);
            assert_eq!((told.len(), done.len()), (3, 2));
        });
    }

    fn request_reaches_an_await_that_is_polled_by_hand(world) {
        world.run(async {
            let task = begun(async {
                let mut inner = Box::pin(sleep(LONG));
                poll_fn(move |cx| inner.as_mut().poll(cx)).await
            })
            .await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
        });
    }

    fn c2_request_is_heard_once_though_another_reaches_the_task_in_between(world) {
        world.run(async {
            let (shelf, ended) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(false)));
            let (put, ends) = (shelf.clone(), ended.clone());
            let outer = create_task(async move {
                let middle = create_task(async move {
                    let inner = create_task(async move {
                        let told = sleep(LONG).await;
                        ends.set(true);
                        told
                    });
                    inner.await
                });
                *put.borrow_mut() = Some(middle.as_ref());
                (middle.await, sleep(MS).await)
            });
            sleep(MS).await.expect("nobody cancels");
            outer.cancel_with("one");
            // In the poll in which the inner one has ended, before the middle one is polled.
            while !ended.get() {
                yield_now().await.expect("nobody cancels");
            }
            shelf.borrow_mut().take().map(|middle: TaskRef| middle.cancel_with("two"));
            let (told, next) = outer.await;
            assert_eq!(error_of(told).to_string(), "cancelled: one");
            next.expect("the inner task has used it up");
        });
    }

    fn reason_of_the_outermost_request_is_kept_when_a_limit_passes(world) {
        let step = world.short(1);
        world.run(async {
            let body = async move {
                shielded(sleep(step * 6)).await.expect("shielded");
                sleep(LONG).await
            };
            let task = begun(timeout(step, wait_for(body, step * 4))).await;
            sleep(step * 2).await.expect("nobody cancels");
            task.cancel_with("why");
            let error = match task.await {
                Ok(slept) => error_of(slept),
                Err(expired) => error_of(expired.late.expect("it was told")),
            };
            assert_eq!(error.to_string(), "cancelled: why");
        });
    }

    fn c2_request_that_a_task_has_used_up_stays_so_when_a_limit_asks_it_again(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let inner = create_task(async move {
                    let told = sleep(LONG).await;
                    shielded(sleep(step * 4)).await.expect("shielded"); // Past the limit.
                    told
                });
                (wait_for(inner, step * 2).await, sleep(step).await)
            })
            .await;
            sleep(step).await.expect("nobody cancels");
            task.cancel_with("why");
            let (told, next) = task.await;
            assert_eq!(error_of(told).to_string(), "cancelled: why");
            next.expect("the inner task has used it up");
        });
    }

    fn c2_request_is_not_lost_to_a_task_that_was_awaited_once(world) {
        world.run(async {
            let (sender, receiver) = futures_channel::oneshot::channel::<()>();
            let task = begun(async move {
                let mut inner = begun(sleep(LONG)).await;
                assert!(poll_once(&mut inner).await.is_pending()); // A `select` that it loses.
                receiver.await.expect("it is sent");
                (sleep(MS).await, inner)
            })
            .await;
            sleep(MS).await.expect("nobody cancels");
            task.cancel();
            sleep(MS).await.expect("nobody cancels");
            sender.send(()).expect("it waits");
            let (slept, _inner) = task.await;
            assert!(is_cancelled(&error_of(slept)));
        });
    }
}

#[test]
fn c8_reason_of_who_decides_is_kept_when_a_limit_passes_as_well() {
    let world = World::sim();
    let kernel = world.kernel.clone().expect("sim");
    let step = world.short(1);
    world.run(async {
        let (sender, receiver) = futures_channel::oneshot::channel::<()>();
        let body = async move {
            receiver.await.expect("it is sent");
            checkpoint()
        };
        let task = begun(wait_for(body, step)).await;
        sleep(MS).await.expect("nobody cancels"); // The limit counts.
        assert!(task.cancel_with("why"));
        kernel.advance(step * 2);
        sender.send(()).expect("it waits");
        assert_eq!(error_of(task.await).to_string(), "cancelled: why");
    });
}

#[test]
fn c8_limit_whose_body_was_told_in_one_branch_is_over() {
    let world = World::sim();
    let step = world.short(1);
    let (reader, _writer) = world.pipe();
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(READ, Script::Uncancellable(step + step / 2, 4));
    world.run(async {
        let body = async move {
            let told = async {
                let told = Event::new().wait().await;
                sleep(step).await.expect("used up"); // Its clean-up, over after the read.
                told
            };
            join(told, read(reader, 8)).await
        };
        let expired = timeout(step, body).await.expect_err("it was told");
        let (told, read) = expired.late.expect("it ended");
        assert!(is_cancelled(&error_of(told)));
        assert_eq!(read.0.expect("C1"), 4);
    });
}
