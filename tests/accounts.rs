//! Who has heard of a request to stop, where several are awaited at once: branches that yield, that
//! are stopped by each other, that move, and limits that pass beside all that (C2, C5, C7, C8).

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::*;
use coring::sync::{Event, Lock};
use coring::{
    CancelScope, Cancelled, Expired, Polled, TaskGroup, create_task, current_task, gather,
    gather_all, is_cancelled, now, ok, race, shielded, sleep, task_group, timeout, timeout_scope,
    wait_for, yield_now,
};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, join3, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Whether an await was stopped.
fn told(result: io::Result<()>) -> bool {
    result.is_err_and(|error| is_cancelled(&error))
}

/// Which of three yields, one after the other, are stopped.
async fn yields() -> [bool; 3] {
    [
        told(yield_now().await),
        told(yield_now().await),
        told(yield_now().await),
    ]
}

/// Which of two awaits are stopped, of which the first may be of a kind that waits.
async fn awaits(by_yield: bool, event: Rc<Event>) -> io::Result<[bool; 2]> {
    let first = if by_yield {
        yield_now().await
    } else {
        event.wait().await
    };
    ok([told(first), told(yield_now().await)])
}

/// Is stopped, says so, and cleans up for a while.
async fn cleans_up(heard: Rc<Event>, span: Duration) -> io::Result<()> {
    assert!(told(sleep(LONG).await));
    heard.set();
    sleep(span).await
}

/// Awaits a future until something has happened, and gives it back.
async fn until_set<F: Future + Unpin>(future: F, event: &Event) -> F {
    match select(future, pin!(shielded(event.wait()))).await {
        Either::Left(_) => panic!("it ended before"),
        Either::Right((set, future)) => {
            set.expect("shielded");
            future
        }
    }
}

type Heard = LocalBoxFuture<'static, io::Result<Vec<[bool; 2]>>>;

/// A branch hears of a request in one task, then moves to another that was asked before. Gives
/// which it has heard of, and whether the task where it is now hears behind it.
async fn heard_where_it_moves(
    gathers: impl FnOnce(LocalBoxFuture<'static, io::Result<[bool; 2]>>) -> Heard + 'static,
) -> (Vec<[bool; 2]>, bool) {
    let (hand_over, handed) = futures_channel::oneshot::channel::<Heard>();
    let (move_on, moved) = futures_channel::oneshot::channel();
    let second = begun(async move {
        let mut heard = handed.await.expect("it is handed over");
        assert!(poll_once(&mut heard).await.is_pending());
        move_on.send(()).expect("it waits");
        (heard.await.expect("it ends"), told(yield_now().await))
    })
    .await;
    second.cancel(); // It waits for what is foreign.
    let first = create_task(async move {
        let event = Rc::new(Event::new());
        let has_heard = event.clone();
        let branch = async move {
            let slept = told(sleep(LONG).await);
            has_heard.set();
            moved.await.expect("it moves on");
            ok([slept, told(yield_now().await)])
        };
        let mut heard = gathers(Box::pin(branch));
        assert!(poll_once(&mut heard).await.is_pending());
        current_task().cancel();
        let heard = until_set(heard, &event).await;
        hand_over.send(heard).ok().expect("it waits");
    });
    first.await;
    second.await
}

each_driver! {
    fn c2_request_is_heard_once_by_a_branch_that_only_yields(world) {
        world.run(async {
            let task = create_task(async {
                let asks = async {
                    current_task().cancel();
                    ok(yields().await)
                };
                gather!(asks, async { ok(()) }).await
            });
            assert_eq!(task.await.expect("nobody fails").0, [true, false, false]);
        });
    }

    fn c2_limit_that_has_passed_is_heard_once_by_a_branch_that_only_yields(world) {
        world.run(async {
            let limited = timeout_scope(LONG, async |limit| {
                let passes = async {
                    limit.reschedule(Some(now())).expect("it has not passed");
                    ok(yields().await)
                };
                gather!(passes, async { ok(()) }).await.expect("nobody fails").0
            });
            assert_eq!(limited.await.expect_err("it was told").late, Some([true, false, false]));
        });
    }

    fn c2_request_is_heard_once_by_a_branch_that_is_polled_by_hand_and_yields(world) {
        world.run(async {
            let task = begun(async {
                let mut waits = pin!(async { told(Event::new().wait().await) });
                let mut yields = pin!(async {
                    let mut heard = 0;
                    for _ in 0..10 {
                        heard += u32::from(told(yield_now().await));
                    }
                    heard
                });
                let mut scopes = [CancelScope::branch(), CancelScope::branch()];
                let (mut waited, mut yielded) = (None, None);
                poll_fn(|cx| {
                    if waited.is_none()
                        && let Polled::Ready(told) = scopes[0].poll(waits.as_mut(), cx)
                    {
                        scopes[0].close();
                        waited = Some(told);
                    }
                    if yielded.is_none()
                        && let Polled::Ready(heard) = scopes[1].poll(yields.as_mut(), cx)
                    {
                        scopes[1].close();
                        yielded = Some(heard);
                    }
                    waited.zip(yielded).map_or(Poll::Pending, Poll::Ready)
                })
                .await
            })
            .await;
            task.cancel();
            assert_eq!(task.await, (true, 1));
        });
    }

    fn c2_request_that_a_branch_makes_and_hears_is_heard_behind_it_where_it_is_dropped(world) {
        world.run(async {
            for by_yield in [false, true] {
                let task = create_task(async move {
                    sleep(MS).await.expect("nobody has asked yet");
                    let asks = async {
                        current_task().cancel();
                        let stopped = if by_yield { yield_now().await } else { sleep(MS).await };
                        assert!(told(stopped));
                        pending::<io::Result<()>>().await
                    };
                    let mut dropped = gather_all([asks]);
                    assert!(poll_once(&mut dropped).await.is_pending());
                    drop(dropped);
                    yield_now().await
                });
                assert!(told(task.await), "by a yield: {by_yield}");
            }
        });
    }

    fn c7_request_that_is_made_in_a_limit_that_never_waits_is_heard_behind_it(world) {
        world.run(async {
            let asks = || timeout(LONG, async { current_task().cancel() });
            let task = create_task(async move {
                asks().await.expect("in time");
                yields().await
            });
            assert_eq!(task.await, [true, false, false]);
            let task = create_task(async move {
                asks().await.expect("in time");
                Lock::new(()).acquire().await.map(drop)
            });
            assert!(told(task.await));
        });
    }

    fn c7_request_that_is_made_in_the_drop_of_another_task_is_heard_by_a_yield(world) {
        world.run(async {
            let task = create_task(async {
                let me = current_task();
                let asks = create_task(async move {
                    let _asks = OnDrop(move || assert!(me.cancel()));
                    pending::<()>().await;
                });
                foreign_yield().await; // It has begun, and nothing was made for this task yet.
                asks.abort();
                yields().await
            });
            assert_eq!(task.await, [true, false, false]);
        });
    }

    fn c5_branch_that_waits_for_what_is_foreign_is_dropped_whomever_it_yielded_for(world) {
        world.run(async {
            let fails = async {
                yield_now().await?;
                Err(io::Error::other("no luck"))
            };
            let deaf = async {
                assert!(yield_now().now_or_never().is_none()); // That wakes nobody.
                pending::<io::Result<()>>().await
            };
            let all: [LocalBoxFuture<'_, _>; 2] = [Box::pin(fails), Box::pin(deaf)];
            let task = create_task(gather_all(all));
            until(|| task.done()).await;
            assert_eq!(error_of(task.await).to_string(), "no luck");
        });
    }

    fn c5_limit_that_has_passed_drops_what_is_foreign_whomever_it_yielded_for(world) {
        world.run(async {
            let deaf = async {
                let stopped = yield_now().now_or_never().expect("the time is up");
                assert!(told(stopped));
                assert!(yield_now().now_or_never().is_none()); // That wakes nobody.
                pending::<io::Result<()>>().await
            };
            let limited = wait_for(deaf, Duration::ZERO);
            let all: [LocalBoxFuture<'_, _>; 2] = [Box::pin(yield_now()), Box::pin(limited)];
            // Polls only what was woken; the yield has it polled again.
            let all = FuturesUnordered::from_iter(all).collect::<Vec<_>>();
            let task = create_task(all);
            until(|| task.done()).await;
            assert!(task.await.into_iter().any(|ended| ended.is_err_and(|e| is_time_out(&e))));
        });
    }

    fn task_that_is_cancelled_by_hand_after_a_limit_that_it_outlived_does_not_look_so(world) {
        let step = world.short(1);
        world.run(async {
            let failed = task_group(async |g: TaskGroup<io::Error>| {
                let mut task = g.create_task::<(), _>(async {
                    assert!(is_cancelled(&error_of(sleep(LONG).await)));
                    sleep(LONG).await
                });
                {
                    let limited = pin!(timeout(step, &mut task));
                    let later = pin!(sleep(2 * step));
                    select(limited, later).await;
                }
                task.cancel();
                task.await
            });
            let failed = failed.await.expect_err("it has no value");
            assert!(!is_cancelled(&failed), "{failed:?}");
        });
    }

    fn c2_request_that_a_task_has_heard_which_lost_a_race_is_used_up(world) {
        let step = world.short(1);
        world.run(async {
            let heard = Rc::new(Cell::new(0));
            let counted = heard.clone();
            let outer = begun(async move {
                let mut task = create_task(async move {
                    for _ in 0..4 {
                        counted.set(counted.get() + u32::from(sleep(2 * step).await.is_err()));
                    }
                });
                let raced = race!(&mut task, shielded(sleep(step))).await;
                drop(raced);
                task.await;
                yield_now().await
            })
            .await;
            outer.cancel();
            outer.await.expect("the task has heard of it");
            assert_eq!(heard.get(), 1);
        });
    }

    fn c2_request_that_a_loser_of_a_race_has_heard_is_heard_behind_it(world) {
        world.run(async {
            let event = Rc::new(Event::new());
            let waits = event.clone();
            let task = begun(async move {
                let raced = race!(async { waits.wait().await }, sleep(LONG)).await;
                raced.winner.into_inner().expect("C1");
                yields().await
            })
            .await;
            event.set();
            task.cancel();
            assert_eq!(task.await, [true, false, false]);
        });
    }

    fn c2_request_that_an_error_of_a_gather_hides_is_heard_behind_it(world) {
        world.run(async {
            let event = Rc::new(Event::new());
            let waits = event.clone();
            let task = begun(async move {
                let fails = async {
                    waits.wait().await?;
                    Err::<(), _>(io::Error::other("no luck"))
                };
                let failed = error_of(gather!(fails, sleep(LONG)).await);
                (failed.to_string(), yields().await)
            })
            .await;
            event.set();
            task.cancel();
            assert_eq!(task.await, ("no luck".to_owned(), [true, false, false]));
        });
    }

    fn c2_gather_and_group_that_have_heard_are_not_told_again_where_a_shield_ends(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let cleans_up = || cleans_up(Rc::default(), step * 3);
                let (shield, gathered, grouped) = join3(
                    shielded(sleep(step)),
                    gather_all([cleans_up()]),
                    task_group(async |_: TaskGroup<io::Error>| cleans_up().await),
                )
                .await;
                shield.expect("shielded");
                gathered.expect("it was told");
                grouped.expect("it was told");
            })
            .await;
            task.cancel();
            task.await;
        });
    }

    fn c8_group_that_stops_itself_says_who_else_asked(world) {
        world.run(async {
            for again in [false, true] {
                let task = begun(async move {
                    let me = current_task();
                    let failed = task_group(async |group: TaskGroup<io::Error>| {
                        me.cancel();
                        group.cancel();
                        let stopped = sleep(LONG).await;
                        if again {
                            shielded(async { me.cancel() }).await;
                        }
                        stopped
                    });
                    failed.await.expect_err("the task was asked as well")
                })
                .await;
                assert!(is_cancelled(&task.await), "asked again: {again}");
            }
        });
    }

    fn c2_gather_that_has_heard_is_not_told_again_where_it_moves_below_a_limit(world) {
        let step = world.short(1);
        world.run(async {
            let task = begun(async move {
                let heard = Rc::new(Event::new());
                let all = gather_all([cleans_up(heard.clone(), step * 3)]);
                let all = until_set(all, &heard).await;
                timeout(LONG, all).await
            })
            .await;
            task.cancel();
            task.await.expect("in time").expect("it was told");
        });
    }

    fn c2_limit_that_was_heard_is_nothing_to_a_branch_that_moves_below_it(world) {
        let step = world.short(1);
        world.run(async {
            for by_yield in [false, true] {
                let event = Rc::new(Event::new());
                let mut all = gather_all([awaits(by_yield, event.clone())]);
                assert!(poll_once(&mut all).await.is_pending());
                let limited = timeout(step, async {
                    assert!(told(sleep(LONG).await));
                    event.set();
                    all.await.expect("nobody fails")
                });
                let late = limited.await.expect_err("it was told").late;
                assert_eq!(late, Some(vec![[false, false]]), "by a yield: {by_yield}");
            }
        });
    }

    fn c2_request_that_was_heard_is_nothing_to_a_branch_that_moves_to_its_task(world) {
        world.run(async {
            for by_yield in [false, true] {
                let event = Rc::new(Event::new());
                let mut all = gather_all([awaits(by_yield, event.clone())]);
                assert!(poll_once(&mut all).await.is_pending());
                let task = begun(async move {
                    assert!(told(sleep(LONG).await));
                    all.await
                })
                .await;
                task.cancel();
                yield_now().await.expect("nobody asks this one");
                event.set();
                let heard = task.await.expect("nobody fails");
                assert_eq!(heard, [[false, false]], "by a yield: {by_yield}");
            }
        });
    }

    fn c2_branch_that_moves_to_a_task_with_an_older_request_hears_of_that(world) {
        world.run(async {
            let flat = heard_where_it_moves(|branch| Box::pin(gather_all([branch])));
            assert_eq!(flat.await, (vec![[true, true]], false));
            let nested = heard_where_it_moves(|branch| {
                let all = gather_all([gather_all([branch])]);
                Box::pin(async { ok(all.await?.concat()) })
            });
            assert_eq!(nested.await, (vec![[true, true]], false));
        });
    }

    fn c2_requests_that_reach_a_task_whose_await_moves_are_heard_by_it_alone(world) {
        world.run(async {
            let task = begun(async move {
                let mut waits = Box::pin(wait_for(create_task(sleep(LONG)), LONG * 2));
                assert!(poll_once(&mut waits).await.is_pending());
                let limited = timeout_scope(LONG, async |limit| {
                    current_task().cancel();
                    limit.reschedule(Some(now())).expect("it has not passed");
                    [told(waits.await), told(yield_now().await)]
                });
                let heard = match limited.await {
                    Ok(heard) => heard,
                    Err(expired) => expired.late.expect("it ended"),
                };
                (heard, yields().await)
            })
            .await;
            assert_eq!(task.await, ([true, false], [false, false, false]));
        });
    }

    fn c2_request_that_an_awaited_task_took_back_is_heard_by_its_awaiter(world) {
        let step = world.short(1);
        world.run(async {
            for limited in [false, true] {
                let inner = begun(async move {
                    let asked = poll_fn(|_| match current_task().cancelling() {
                        0 => Poll::Pending,
                        _ => Poll::Ready(()),
                    });
                    asked.await;
                    assert_eq!(current_task().uncancel(), 0);
                    if limited {
                        assert!(timeout(step, sleep(LONG)).await.is_err());
                    } else {
                        sleep(step).await.expect("it was taken back");
                    }
                })
                .await;
                let outer = begun(async move {
                    inner.await;
                    yields().await
                })
                .await;
                outer.cancel();
                assert_eq!(outer.await, [true, false, false], "a limit has passed in it: {limited}");
            }
        });
    }

    fn c8_limit_that_moves_while_its_task_cleans_up_says_that_it_has_passed(world) {
        let step = world.short(1);
        world.run(async {
            for moves in [false, true] {
                let heard = Rc::new(Event::new());
                let task = begun(cleans_up(heard.clone(), step)).await;
                let limited = Box::pin(timeout(step, task));
                let limited = until_set(limited, &heard).await;
                let output = if moves {
                    timeout(LONG, limited).await.expect("in time")
                } else {
                    limited.await
                };
                assert!(matches!(output, Err(Expired { late: Some(Ok(())), .. })), "{output:?}");
            }
        });
    }

    fn c8_limit_whose_body_asked_and_heard_knows_who_asked(world) {
        let step = world.short(1);
        world.run(async {
            for by_yield in [false, true] {
                let asks = async move {
                    current_task().cancel();
                    let stopped = if by_yield { yield_now().await } else { sleep(MS).await };
                    assert!(told(stopped));
                    sleep(LONG).await
                };
                let error = error_of(create_task(wait_for(asks, step)).await);
                assert!(is_cancelled(&error) && !is_time_out(&error), "{by_yield}: {error}");
            }
        });
    }
}

#[test]
fn c8_request_before_the_limit_passes_decides_and_one_after_it_is_heard_behind() {
    let world = World::sim();
    let kernel = world.kernel.clone().expect("sim");
    let step = world.short(1);
    world.run(async {
        let body = async move {
            assert!(told(sleep(LONG).await));
            shielded(sleep(step * 5)).await.expect("shielded");
            Err::<(), _>(Cancelled::default().into())
        };
        let task = begun(async move { (wait_for(body, step).await, yields().await) }).await;
        task.cancel();
        kernel.advance(step * 2);
        sleep(step).await.expect("nobody asks this one");
        task.cancel();
        let (stopped, behind) = task.await;
        assert!(told(stopped), "it is no time-out");
        assert_eq!(behind, [true, false, false]);
    });
}
