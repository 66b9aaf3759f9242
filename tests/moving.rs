//! Limits that are moved: `timeout_scope`, `deadline`. A test whose name begins with a number
//! re-creates that behaviour of CPython's test_timeouts.

mod common;

use std::time::Duration;

use common::*;
use coring::{
    ScopeHandle, TimeoutScope, deadline, is_cancelled, now, ok, shielded, sleep, timeout,
    timeout_at, timeout_scope, wait_for, yield_now,
};

each_driver! {
    fn b037_limit_that_is_moved_later_lets_its_body_end(world) {
        let (reader, _writer) = world.pipe();
        let step = world.short(1);
        world.run(async {
            let begin = now();
            let limited = timeout_scope(step, async |limit| {
                limit.reschedule(Some(now() + 3 * step)).expect("it has not passed");
                sleep(2 * step).await.expect("in time");
                read(reader, 8).await.0
            });
            let expired = limited.await.expect_err("nothing comes");
            assert!(is_cancelled(&error_of(expired.late.expect("it was told"))));
            assert!(now() - begin >= 3 * step);
        });
    }

    fn limit_that_is_moved_earlier_is_heard_by_an_operation_under_way(world) {
        let (reader, _writer) = world.pipe();
        let step = world.short(1);
        world.run(async {
            let (begin, handle) = (now(), std::cell::RefCell::new(None::<TimeoutScope>));
            let body = timeout_scope(LONG, async |limit| {
                *handle.borrow_mut() = Some(limit);
                read(reader, 8).await.0
            });
            let moves = async {
                sleep(step).await?;
                let limit = handle.borrow_mut().take().expect("it has begun");
                limit.reschedule(Some(now() + step))
            };
            let (body, moved) = futures_util::future::join(body, moves).await;
            moved.expect("it has not passed");
            body.expect_err("nothing comes");
            assert!(now() - begin >= 2 * step);
        });
    }

    fn limit_that_is_moved_there_and_back_passes_when_it_was_last_moved_to(world) {
        let step = world.short(1);
        world.run(async {
            let begin = now();
            let limited = timeout_scope(LONG, async |limit| {
                for steps in [5, 1, 7, 2, 9, 3] {
                    limit.reschedule(Some(begin + steps * step)).expect("it has not passed");
                    // The loop sleeps, and has armed what it knows.
                    sleep(MS / 10).await.expect("in time");
                }
                assert_eq!(limit.when(), Some(begin + 3 * step));
                sleep(LONG).await
            });
            limited.await.expect_err("it passed");
            let took = now() - begin;
            assert!(took >= 3 * step && (took < 5 * step || !world.is_sim()), "{took:?}");
        });
    }

    fn b026_limit_that_is_taken_away_never_passes(world) {
        let step = world.short(1);
        world.run(async {
            let limited = timeout_scope(step, async |limit| {
                limit.reschedule(None).expect("it has not passed");
                assert_eq!((limit.when(), limit.expired()), (None, false));
                sleep(3 * step).await
            });
            limited.await.expect("there is none").expect("nobody cancels");
        });
    }

    fn limit_that_has_passed_cannot_be_moved(world) {
        let step = world.short(1);
        world.run(async {
            let mut kept = None;
            let limited = timeout_scope(step, async |limit| {
                kept = Some(limit.clone());
                sleep(LONG).await.expect_err("it passed");
                assert!(limit.expired());
                let error = error_of(limit.reschedule(Some(now() + LONG)));
                assert!(error.to_string().contains("had passed already"), "{error}");
                7
            });
            assert_eq!(limited.await.expect_err("it was told").late, Some(7));
            let kept = kept.expect("it has begun");
            assert!(kept.reschedule(None).is_err() && kept.when().is_none() && !kept.expired());
        });
    }

    fn b030_limit_that_is_moved_into_the_past_is_seen_by_the_next_await(world) {
        world.run(async {
            let limited = timeout_scope(LONG, async |limit| {
                limit.reschedule(Some(now())).expect("it has not passed");
                yield_now().await
            });
            let late = limited.await.expect_err("it was told").late;
            assert!(is_cancelled(&error_of(late.expect("it ended"))));
        });
    }

    fn deadline_is_the_earliest_as_far_as_the_next_shield(world) {
        world.run(async {
            assert_eq!(deadline(), None);
            let begin = now();
            let near = begin + Duration::from_secs(100);
            let inside = timeout_at(near, async {
                let inner = timeout(LONG, async { deadline() }).await.expect("in time");
                let shielded = shielded(async { deadline() }).await;
                let nearer = wait_for(async { ok(deadline()) }, Duration::from_secs(10)).await;
                (deadline(), inner, shielded, nearer.expect("in time"))
            });
            let (here, inner, behind, nearer) = inside.await.expect("in time");
            assert_eq!((here, inner, behind), (Some(near), Some(near), None));
            assert!(nearer.expect("there is one") < near);
            // One that has passed is there to be seen.
            let passed = timeout(Duration::ZERO, async { deadline() }).await.expect("it heard nothing");
            assert!(passed.expect("there is one") <= now());
        });
    }

    fn scope_is_asked_to_stop_by_its_handle(world) {
        world.run(async {
            let mut scope = coring::CancelScope::after(LONG);
            let handle: ScopeHandle = scope.handle();
            let stops = coring::create_task({
                let handle = handle.clone();
                async move { handle.cancel() }
            });
            let mut body = Box::pin(sleep(LONG));
            let slept = std::future::poll_fn(|cx| match scope.poll(body.as_mut(), cx) {
                coring::Polled::Ready(slept) => std::task::Poll::Ready(slept),
                _ => std::task::Poll::Pending,
            });
            assert!(is_cancelled(&error_of(slept.await)));
            stops.await;
            assert!(handle.is_cancelled());
            assert!(scope.close().timed_out);
            assert!(!handle.is_cancelled());
            handle.cancel();
        });
    }
}
