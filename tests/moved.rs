//! Requests to stop, where futures are awaited elsewhere than they began, by hand, or by each
//! other: none is lost, and none reaches anybody twice (C2, C7, R13).

mod common;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::net::TcpListener;
use coring::{
    BufResult, Task, create_task, is_cancelled, now, sleep, timeout, wait_for, yield_now,
};
use futures_util::FutureExt;

type Shared<T> = Rc<RefCell<Option<T>>>;

each_driver! {
    fn what_had_begun_is_stopped_by_a_limit_that_has_passed(world) {
        let (reader, _writer) = world.pipe();
        world.run(async {
            let mut op = read(reader, 8);
            assert!(poll_once(&mut op).await.is_pending());
            let BufResult(result, _) = wait_for(&mut op, Duration::ZERO).await;
            assert!(is_time_out(&error_of(result)));

            let mut nap = sleep(Duration::MAX);
            assert!(poll_once(&mut nap).await.is_pending());
            assert!(is_time_out(&error_of(wait_for(&mut nap, Duration::ZERO).await)));

            let mut task = create_task(sleep(Duration::MAX));
            yield_now().await.expect("nobody cancels");
            assert!(poll_once(&mut task).await.is_pending());
            assert!(is_time_out(&error_of(wait_for(&mut task, Duration::ZERO).await)));

            let mut limited = Box::pin(wait_for(sleep(Duration::MAX), PATIENCE));
            assert!(poll_once(&mut limited).await.is_pending());
            assert!(is_time_out(&error_of(wait_for(&mut limited, Duration::ZERO).await)));
        });
    }

    fn inner_limit_does_not_swallow_a_request_from_further_out(world) {
        world.run(async {
            let task = create_task(async {
                let inner = wait_for(sleep(Duration::MAX), Duration::ZERO).await;
                assert!(is_cancelled(&error_of(inner)), "who asked first decides");
                io::Result::Ok(())
            });
            // Asked before it begins.
            let told = wait_for(task, Duration::ZERO).await;
            told.expect("it has heard, and goes on");
        });
    }

    fn tasks_that_await_each_other_under_a_limit_leave_the_loop_to_others(world) {
        // They never end: the runner's drop does that.
        world.runner().run(async {
            let first: Shared<Task<()>> = Rc::default();
            let inside = first.clone();
            let second = create_task(async move {
                yield_now().await.expect("nobody cancels");
                let first = inside.borrow_mut().take().expect("it was put there");
                first.await;
            });
            let limit = world.short(1);
            *first.borrow_mut() = Some(create_task(async move {
                let _ = timeout(limit, second).await;
            }));
            sleep(world.short(4)).await.expect("nobody cancels");
        });
    }

    fn task_that_awaits_itself_under_a_limit_leaves_the_loop_to_others(world) {
        // They never end: the runner's drop does that.
        world.runner().run(async {
            let me: Shared<Task<()>> = Rc::default();
            let (inside, limit) = (me.clone(), world.short(1));
            *me.borrow_mut() = Some(create_task(async move {
                yield_now().await.expect("nobody cancels");
                let me = inside.borrow_mut().take().expect("it was put there");
                let _ = timeout(limit, me).await;
            }));
            sleep(world.short(4)).await.expect("nobody cancels");
        });
    }

    fn task_that_polled_its_own_handle_leaves_nothing_in_its_scope(world) {
        world.run(async {
            let handle: Shared<Task<()>> = Rc::default();
            let inside = handle.clone();
            *handle.borrow_mut() = Some(create_task(async move {
                yield_now().await.expect("nobody cancels");
                let mut me = inside.borrow_mut().take().expect("it was put there");
                // It says that this is an error, and goes on.
                let polled = AssertUnwindSafe(poll_once(&mut me)).catch_unwind().await;
                assert!(polled.is_err());
                *inside.borrow_mut() = Some(me);
            }));
            let nap = create_task(sleep(world.short(4)));
            sleep(world.short(1)).await.expect("nobody cancels");
            assert!(handle.borrow().as_ref().is_some_and(|task| task.done()));
            // Somebody else's limit takes the place of its scope.
            let limited = timeout(world.short(1), pending::<()>()).await;
            assert!(limited.is_err());
            nap.await.expect("nobody has asked this one");
        });
    }

    fn limit_whose_operation_ends_unnoticed_is_kept(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let step = world.short(1);
            create_task(async move {
                sleep(step).await.expect("nobody cancels");
                write(writer, b"x").await.expect("it has room");
            });
            let begin = now();
            let body = async {
                let mut op = read(reader, 8);
                // It has the limit behind it, and wakes nobody when it completes.
                assert!((&mut op).now_or_never().is_none());
                let nap = sleep(step * 100).await;
                op.await.0?;
                nap
            };
            assert!(is_time_out(&error_of(wait_for(body, step * 3).await)));
            assert!(now() - begin < step * 100);
        });
    }

    fn limit_ends_around_sleeps_that_are_polled_for_nobody(world) {
        world.run(async {
            let limit = world.short(1);
            let mut foreign = Box::pin(pending::<()>());
            let limited = timeout(limit, poll_fn(move |cx| {
                for _ in 0..2 {
                    let _ = sleep(Duration::ZERO).now_or_never();
                }
                foreign.as_mut().poll(cx)
            }));
            assert!(limited.await.is_err());
        });
    }

    fn limit_around_what_is_no_operation_ends_in_a_loop_that_is_turned_by_hand(world) {
        let mut runner = world.runner();
        let limit = world.short(1);
        let body = async move { timeout(limit, pending::<()>()).await.is_err() };
        let task = runner.enter(|| create_task(body));
        while !task.done() {
            runner.turn().expect("it turns");
            if let Some(kernel) = &world.kernel {
                kernel.advance(limit);
            }
        }
        drop(task);
        finish(runner);
    }
}

#[cfg(not(miri))]
#[test]
fn accept_that_a_connection_and_its_limit_reach_together_leaves_the_next_alone() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let connect = move || std::net::TcpStream::connect(addr).expect("it listens");
        let first = connect();
        // Both are there when the loop looks next.
        #[expect(clippy::disallowed_methods, reason = "what the test is about")]
        create_task(async { std::thread::sleep(MS * 20) });
        let accepted = wait_for(listener.accept(), MS * 5).await;
        drop((first, accepted.expect("the result wins")));
        let second = create_task(async move {
            sleep(MS * 5).await.expect("nobody cancels");
            connect()
        });
        listener.accept().await.expect("nobody has asked this one");
        drop(second.await);
    });
}
