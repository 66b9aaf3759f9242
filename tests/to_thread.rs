//! Work on other threads: `to_thread`, and a runtime's handle.

#![cfg(not(miri))]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use coring::{
    Handle, cancellable, create_task, gather, is_cancelled, now, sleep, timeout, to_thread,
    wait_for, yield_now,
};
use futures_util::FutureExt;

/// Runs on the real kernel: threads know no virtual clock.
fn real<F: Future>(main: F) -> F::Output {
    World::uring().run(main)
}

#[test]
fn function_runs_on_another_thread_while_the_loop_goes_on() {
    real(async {
        let here = std::thread::current().id();
        let (sender, receiver) = mpsc::channel();
        let there = to_thread(move |_| {
            receiver.recv().expect("the loop goes on");
            std::thread::current().id()
        });
        let other = async {
            yield_now().await?;
            sender.send(()).expect("it waits");
            coring::ok(())
        };
        let (there, ()) = gather!(there, other).await.expect("both");
        assert_ne!(there, here);
    });
}

#[test]
fn more_functions_than_threads_all_run() {
    real(async {
        let all = (0..200_u64).map(|n| create_task(to_thread(move |_| n)));
        let all = coring::gather_all(all).await.expect("all ran");
        assert_eq!(all, (0..200).collect::<Vec<_>>());
    });
}

#[test]
fn panic_of_the_function_is_the_awaiters() {
    real(async {
        let panics = to_thread(|_| panic!("over there"));
        let caught = std::panic::AssertUnwindSafe(panics).catch_unwind().await;
        let panic = caught
            .map(|_: std::io::Result<()>| ())
            .expect_err("it panicked");
        assert_eq!(panic.downcast_ref(), Some(&"over there"));
    });
}

#[test]
fn c1_function_that_is_asked_to_stop_is_waited_for_and_the_request_goes_on() {
    real(async {
        let (sender, receiver) = mpsc::channel();
        let task = create_task(async move {
            let stopped = to_thread(move |token| {
                sender.send(()).expect("it waits");
                while !token.is_cancelled() {
                    std::thread::yield_now();
                }
                assert!(is_cancelled(&error_of(token.check())));
                "what there was"
            });
            (stopped.await, yield_now().await, yield_now().await)
        });
        until(|| receiver.try_recv().is_ok()).await;
        task.cancel_with("enough");
        let (stopped, next, second) = task.await;
        assert_eq!(stopped.expect("C1"), "what there was");
        assert_eq!(error_of(next).to_string(), "cancelled: enough");
        second.expect("told once");
    });
}

#[test]
fn limit_around_a_function_asks_it_to_stop() {
    real(async {
        let (sender, receiver) = mpsc::channel();
        let waits = || {
            let sender = sender.clone();
            Box::pin(to_thread(move |token| {
                sender.send(()).expect("it waits");
                while !token.is_cancelled() {
                    std::thread::yield_now();
                }
                7
            }))
        };
        let (mut one, mut other) = (waits(), waits());
        for waits in [&mut one, &mut other] {
            assert!(poll_once(waits).await.is_pending());
            until(|| receiver.try_recv().is_ok()).await;
        }
        let value = wait_for(one, Duration::from_millis(5)).await;
        assert_eq!(value.expect("in spite of the limit"), 7);
        yield_now().await.expect("the limit is over");
        let value = timeout(Duration::from_millis(5), other).await;
        assert_eq!(value.expect("its output won").expect("it ran"), 7);
    });
}

#[test]
fn function_that_waits_for_a_thread_is_taken_back() {
    real(async {
        // All threads are busy.
        let threads = std::thread::available_parallelism().map_or(1, usize::from) + 4;
        let (begun, begins) = mpsc::channel();
        let gate = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..threads.min(32))
            .map(|_| {
                let (gate, begun) = (gate.clone(), begun.clone());
                create_task(to_thread(move |_| {
                    begun.send(()).expect("it is counted");
                    while !gate.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                }))
            })
            .collect();
        let mut count = 0;
        until(|| {
            count += begins.try_iter().count();
            count == busy.len()
        })
        .await;
        let (ran, runs) = mpsc::channel();
        let task = create_task(to_thread(move |_| ran.send(())));
        yield_now().await.expect("nobody cancels");
        task.cancel();
        assert!(is_cancelled(&error_of(task.await)));
        gate.store(true, Ordering::Relaxed);
        for task in busy {
            task.await.expect("it ran");
        }
        // Dropped, not run.
        until(|| runs.try_recv() == Err(mpsc::TryRecvError::Disconnected)).await;
    });
}

#[test]
fn c7_function_is_not_begun_where_a_request_is_pending() {
    real(async {
        let (ran, runs) = mpsc::channel();
        let task = create_task(to_thread(move |_| ran.send(())));
        task.cancel();
        assert!(is_cancelled(&error_of(task.await)));
        assert_eq!(runs.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    });
}

#[test]
fn dropped_function_is_asked_to_stop_and_its_output_goes_over_there() {
    real(async {
        let (sender, receiver) = mpsc::channel();
        let (ended, ends) = mpsc::channel::<()>();
        let mut stopped = Box::pin(to_thread(move |token| {
            sender.send(()).expect("it waits");
            while !token.is_cancelled() {
                std::thread::yield_now();
            }
            ended
        }));
        assert!(poll_once(&mut stopped).await.is_pending());
        until(|| receiver.try_recv().is_ok()).await;
        drop(stopped);
        until(|| ends.try_recv() == Err(mpsc::TryRecvError::Disconnected)).await;
    });
}

#[test]
fn b116_task_of_another_runtime_is_awaited_and_cancelled_from_here() {
    real(async {
        let (handles, handle) = mpsc::channel();
        let (ends, end) = futures_channel::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            coring::run(async move {
                handles.send(Handle::current()).expect("it waits");
                end.await.expect("it is sent");
            });
        });
        let mut other = None;
        until(|| {
            other = handle.try_recv().ok();
            other.is_some()
        })
        .await;
        let other = other.expect("it was sent");
        assert_eq!(other.spawn(|| async { 7 }).await.expect("it lives"), 7);
        assert_eq!(other.call_soon(|| 8).await.expect("it lives"), 8);
        let begin = now();
        let sleeps = other.spawn(|| sleep(LONG));
        sleeps.cancel();
        assert!(is_cancelled(&error_of(sleeps.await.expect("it lives"))));
        assert!(now() - begin < LONG);
        // A wait for it is stopped where it is made one that can be.
        let waits = cancellable(other.spawn(|| sleep(Duration::from_millis(20))));
        let stopped = wait_for(waits, Duration::from_millis(1)).await;
        assert!(is_time_out(&error_of(stopped)));
        ends.send(()).expect("it waits");
        until(|| thread.is_finished()).await;
        thread.join().expect("it ended well");
        let late = other.spawn(|| async { 1 });
        late.cancel();
        let error = error_of(late.await);
        assert!(error.to_string().contains("the runtime ended"), "{error}");
    });
}

#[test]
fn pool_serves_on_though_outputs_panic_when_they_are_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a bomb");
        }
    }
    real(async {
        for _ in 0..40 {
            let (sender, receiver) = mpsc::channel();
            let mut lost = Box::pin(to_thread(move |token| {
                sender.send(()).expect("it waits");
                while !token.is_cancelled() {
                    std::thread::yield_now();
                }
                Bomb
            }));
            assert!(poll_once(&mut lost).await.is_pending());
            until(|| receiver.try_recv().is_ok()).await;
        }
        assert_eq!(to_thread(|_| 7).await.expect("a thread is left"), 7);
    });
}
