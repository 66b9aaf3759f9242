//! Wakes from other threads, other rings, and from after the end: R14.

mod common;

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use coring_runtime::sim::Kernel;
use coring_runtime::*;

/// A flag whose waiter is woken from elsewhere.
#[derive(Clone, Default)]
struct Flag(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Flag {
    fn raise(&self) {
        self.0.0.store(true, SeqCst);
        let waker = lock(&self.0.1).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn raised(&self) {
        poll_fn(|cx| {
            *lock(&self.0.1) = Some(cx.waker().clone());
            if self.0.0.load(SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

const ROUNDS: usize = if cfg!(miri) { 10 } else { 2_000 };

each_driver! {
    /// Raised as close to each moment of a turn as chance has it, many times.
    fn r14_wake_from_a_thread_at_any_moment_is_not_lost(world) {
        let mut runner = world.runner();
        let barrier = Arc::new(Barrier::new(2));
        let flags: Vec<Flag> = (0..ROUNDS).map(|_| Flag::default()).collect();
        let thread = thread::spawn({
            let (barrier, flags) = (barrier.clone(), flags.clone());
            move || {
                for (round, flag) in flags.iter().enumerate() {
                    barrier.wait();
                    for _ in 0..round % 64 * 20 {
                        std::hint::spin_loop();
                    }
                    flag.raise();
                }
            }
        });
        for flag in &flags {
            runner.run(async {
                barrier.wait();
                flag.raised().await;
            });
        }
        thread.join().expect("it does not panic");
        world.finish(runner);
    }

    fn r14_wake_before_the_sleep_is_seen(world) {
        world.run(async {
            let flag = Flag::default();
            let mut raised = Box::pin(flag.raised());
            start(&mut raised).await;
            let other = flag.clone();
            thread::spawn(move || other.raise()).join().expect("it does not panic");
            raised.await;
        });
    }

    fn r14_wake_of_a_sleeping_loop_ends_its_sleep(world) {
        let mut runner = world.runner();
        let flag = Flag::default();
        let other = flag.clone();
        let (about_to_sleep, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            wait.recv().expect("it is sent");
            for _ in 0..100 {
                thread::yield_now();
            }
            other.raise();
        });
        runner.run(async {
            about_to_sleep.send(()).expect("it waits");
            flag.raised().await;
        });
        thread.join().expect("it does not panic");
        world.finish(runner);
    }

    fn r14_many_tasks_woken_by_many_threads_are_all_polled(world) {
        const TASKS: usize = if cfg!(miri) { 20 } else { 1_500 };
        let flags: Vec<Flag> = (0..TASKS).map(|_| Flag::default()).collect();
        let threads: Vec<_> = (0..3)
            .map(|k| {
                let flags = flags.clone();
                thread::spawn(move || {
                    for flag in flags.iter().skip(k).step_by(3) {
                        flag.raise();
                        // Again, by others: at most once in the inbox.
                        flag.raise();
                    }
                })
            })
            .collect();
        world.run(async {
            let tasks: Vec<_> = flags
                .iter()
                .cloned()
                .map(|flag| create_task(async move { flag.raised().await }))
                .collect();
            for task in tasks {
                task.await;
            }
        });
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    }

    fn r14_wake_after_the_end_is_a_no_op_and_at_most_a_spurious_poll_for_a_successor(world) {
        let kept: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let mut runner = world.runner();
        runner.run(async {
            let kept = kept.clone();
            drop(create_task(poll_fn(move |cx| {
                lock(&kept).push(cx.waker().clone());
                Poll::<()>::Pending
            })));
            yield_now().await.expect("nobody cancels");
        });
        drop(runner);
        let waker = lock(&kept).pop().expect("it was polled");
        waker.wake_by_ref(); // Nobody is there.
        thread::scope(|scope| {
            let waker = waker.clone();
            scope.spawn(move || waker.wake());
        });
        // The successor has the same inbox, and its main the same place as the task may have had.
        let mut successor = world.runner();
        let polls = Arc::new(AtomicUsize::new(0));
        successor.run(async {
            let mut sleep = Timer::after(Duration::from_millis(5));
            let polls = polls.clone();
            thread::scope(|scope| {
                let waker = waker.clone();
                scope.spawn(move || waker.wake());
            });
            poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                std::pin::Pin::new(&mut sleep).poll(cx)
            })
            .await
            .expect("nobody cancels");
        });
        assert!(polls.load(SeqCst) <= 3, "at most one spurious poll: {polls:?}");
        world.finish(successor);
    }

    fn r14_wakes_while_runtimes_come_and_go_reach_nobody_wrongly(world) {
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (wakers, stop) = (wakers.clone(), stop.clone());
            move || {
                while !stop.load(SeqCst) {
                    let wakers = lock(&wakers).clone();
                    for waker in wakers {
                        waker.wake();
                    }
                    thread::yield_now();
                }
            }
        });
        for _ in 0..if cfg!(miri) { 3 } else { 100 } {
            world.run(async {
                poll_fn(|cx| {
                    let mut wakers = lock(&wakers);
                    wakers.push(cx.waker().clone());
                    let len = wakers.len();
                    wakers.drain(..len.saturating_sub(8));
                    Poll::Ready(())
                })
                .await;
                // Descriptors that come and go, so that numbers are used again.
                let (reader, writer) = world.pipe();
                assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
                assert_eq!(read(reader, 4).await.0.expect("open"), 1);
                world.close(reader);
                world.close(writer);
                Timer::after(Duration::from_micros(50)).await.expect("nobody cancels");
            });
        }
        stop.store(true, SeqCst);
        thread.join().expect("it does not panic");
    }

    fn r14_handle_spawns_from_threads_and_gives_what_the_tasks_come_to(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        let threads: Vec<_> = (0..3u64)
            .map(|k| {
                let handle = handle.clone();
                thread::spawn(move || {
                    let kernel = Kernel::new();
                    let mut here = Runner::builder().sim(&kernel).build().expect("a simulator");
                    let sum: u64 = (0..20)
                        .map(|i| {
                            let remote = handle.spawn(move || async move {
                                yield_now().await.expect("nobody cancels");
                                k * 100 + i
                            });
                            here.run(remote).expect("it lives")
                        })
                        .sum();
                    sum
                })
            })
            .collect();
        let done = runner.run(async {
            let mut done = Vec::new();
            let mut threads = threads;
            while let Some(thread) = threads.pop() {
                while !thread.is_finished() {
                    Timer::after(Duration::from_millis(1)).await.expect("nobody cancels");
                }
                done.push(thread.join().expect("it does not panic"));
            }
            done
        });
        assert_eq!(done, [4190, 2190, 190]);
        world.finish(runner);
    }

    fn r14_handle_of_a_runtime_that_has_ended_says_so(world) {
        let runner = world.runner();
        let handle = runner.handle();
        assert!(handle.is_alive());
        // Given before the end, and never run.
        let mut given = handle.spawn(|| async { 1 });
        drop(runner);
        assert!(!handle.is_alive());
        handle.wake();
        let mut late = handle.spawn(|| async { 2 });
        for remote in [poll_once(&mut given).map(|_| 0), poll_once(&mut late).map(|_| 0)] {
            assert!(remote.is_ready(), "it waits for nobody");
        }
        let successor = world.runner();
        assert!(!handle.is_alive(), "a successor in the same inbox is another runtime");
        drop(successor);
        let mut error = handle.spawn(|| async { 3 });
        let Poll::Ready(Err(error)) = poll_once(&mut error) else { panic!("it has ended") };
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    }

    fn r14_remote_task_dropped_by_the_end_of_its_runtime_says_so(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        let mut remote = handle.spawn(pending::<()>);
        runner.run(async { yield_now().await.expect("nobody cancels") });
        assert!(poll_once(&mut remote).is_pending());
        drop(runner);
        assert!(matches!(poll_once(&mut remote), Poll::Ready(Err(_))));
    }

    fn r14_remote_panic_reaches_whoever_awaits_there(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        let mut remote = handle.spawn(|| async { panic!("on the other side") });
        let mut early = handle.spawn(|| -> std::future::Ready<()> { panic!("in the closure") });
        runner.run(async { yield_now().await.expect("nobody cancels") });
        for text in ["on the other side", "in the closure"] {
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if text == "in the closure" { poll_once(&mut early) } else { poll_once(&mut remote) }
            }));
            let panic = panic.expect_err("it panics here");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&text));
        }
        world.finish(runner);
    }

    /// A runtime that ends while others give it work: each is told.
    fn r14_spawns_that_race_with_the_end_are_all_answered(world) {
        for _ in 0..if cfg!(miri) { 3 } else { 200 } {
            let runner = world.runner();
            let handle = runner.handle();
            let barrier = Arc::new(Barrier::new(2));
            let other = barrier.clone();
            let thread = thread::spawn(move || {
                other.wait();
                (0..8).map(|i| handle.spawn(move || async move { i })).collect::<Vec<_>>()
            });
            barrier.wait();
            drop(runner);
            for mut remote in thread.join().expect("it does not panic") {
                assert!(poll_once(&mut remote).is_ready(), "nobody will answer it");
            }
        }
    }

    fn r14_task_dropped_at_the_request_of_another_thread_ends_what_it_had_in_flight(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        let handle = runner.handle();
        let counted = drops.clone();
        let flag = Flag::default();
        let raised = flag.clone();
        runner.run(async {
            let mut op = Some(submit(Read(reader, Tracked::new(8, &counted))));
            let task = create_task(async move {
                start(op.as_mut().expect("it is there")).await;
                raised.raised().await;
                drop(op);
            });
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || {
                let remote = handle.spawn(move || async move { flag.raise() });
                sender.send(()).expect("it is received");
                drop(remote);
            });
            task.await;
            receiver.recv().expect("it is sent");
        });
        quiesce(&mut runner);
        assert_eq!(drops.get(), 1);
        world.finish(runner);
    }
}

/// From one ring to another.
#[cfg(not(miri))]
mod rings {
    use super::*;

    fn runner() -> Runner {
        Runner::builder()
            .sq_entries(8)
            .cq_entries(64)
            .build()
            .expect("io_uring")
    }

    /// Two rings that wake each other in turn.
    #[test]
    fn r14_wake_from_another_ring_is_not_lost() {
        let world = World::uring();
        const TURNS: usize = 500;
        let flags: Vec<Flag> = (0..TURNS * 2).map(|_| Flag::default()).collect();
        let theirs = flags.clone();
        let thread = thread::spawn(move || {
            runner().run(async {
                for pair in theirs.chunks(2) {
                    pair[0].raised().await;
                    pair[1].raise();
                }
            });
        });
        world.run(async {
            for pair in flags.chunks(2) {
                pair[0].raise();
                pair[1].raised().await;
            }
        });
        thread.join().expect("it does not panic");
    }

    /// A ring whose runtime has ended, and one that has its inbox since: woken or not, but never
    /// another one's business.
    #[test]
    fn r14_wake_from_a_ring_to_a_runtime_that_ended_or_was_recreated_is_harmless() {
        let world = World::uring();
        world.run(async {
            for round in 0..50 {
                let flag = Flag::default();
                let theirs = flag.clone();
                let (alive, wait) = mpsc::channel();
                let thread = thread::spawn(move || {
                    let mut first = runner();
                    if round % 2 == 0 {
                        drop(first);
                        first = runner();
                    }
                    alive.send(()).expect("it is received");
                    first.run(theirs.raised());
                });
                wait.recv().expect("it is sent");
                flag.raise();
                while !thread.is_finished() {
                    yield_now().await.expect("nobody cancels");
                }
                thread.join().expect("it does not panic");
                flag.raise(); // After the end.
                let waker = lock(&flag.0.1).take();
                drop(waker);
                yield_now().await.expect("nobody cancels");
            }
        });
    }

    /// From a loop that is entered but not turning, nothing would be handed over: the eventfd.
    #[test]
    fn r14_wake_from_within_enter_is_sent_at_once() {
        let world = World::uring();
        let host = world.runner();
        for _ in 0..20 {
            let flag = Flag::default();
            let theirs = flag.clone();
            let thread = thread::spawn(move || runner().run(theirs.raised()));
            while lock(&flag.0.1).is_none() {
                thread::yield_now();
            }
            for _ in 0..200 {
                thread::yield_now(); // It is likely to sleep now; if not it sees the flag.
            }
            host.enter(|| flag.raise());
            thread.join().expect("it does not panic");
        }
        world.finish(host);
    }

    /// A wake that a foreign waker makes at the end of the turn in which `main` is done.
    #[test]
    fn r14_wake_of_another_ring_in_the_last_turn_is_sent() {
        let world = World::uring();
        let mut host = world.runner();
        let mut kept = Vec::new();
        for _ in 0..20 {
            let flag = Flag::default();
            let theirs = flag.clone();
            let thread = thread::spawn(move || runner().run(theirs.raised()));
            while lock(&flag.0.1).is_none() {
                thread::yield_now();
            }
            for _ in 0..200 {
                thread::yield_now();
            }
            let flag_here = flag.clone();
            host.run(async {
                let waker = on_wake(move || flag_here.raise());
                let mut op = nop();
                assert!(
                    std::pin::Pin::new(&mut op)
                        .poll(&mut std::task::Context::from_waker(&waker))
                        .is_pending()
                );
                kept.push(op); // Its completion wakes after the tasks have run.
            });
            thread.join().expect("it does not panic");
        }
        drop(host);
        drop(kept);
    }

    fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Waker {
        struct OnWake<F>(F);
        impl<F: Fn() + Send + Sync> std::task::Wake for OnWake<F> {
            fn wake(self: Arc<Self>) {
                (self.0)();
            }
        }
        Waker::from(Arc::new(OnWake(f)))
    }

    #[test]
    fn r11_unparker_ended_by_overflow_is_armed_again() {
        let world = World::uring();
        let mut runner = Runner::builder()
            .sq_entries(8)
            .cq_entries(16)
            .build()
            .expect("io_uring");
        for _ in 0..5 {
            let before = runner.stats().overflows;
            let flag = Flag::default();
            let theirs = flag.clone();
            // Fills the completion queue far over, while another thread rings.
            let stop = Arc::new(AtomicBool::new(false));
            let handle = runner.handle();
            let thread = thread::spawn({
                let stop = stop.clone();
                move || {
                    while !stop.load(SeqCst) {
                        handle.wake();
                        thread::yield_now();
                    }
                    theirs.raise();
                }
            });
            runner.run(async {
                let mut nops: Vec<_> = (0..2_000).map(|_| nop()).collect();
                for nop in &mut nops {
                    start(nop).await;
                }
                for nop in nops {
                    nop.await.expect("a NOP succeeds");
                }
                stop.store(true, SeqCst);
                flag.raised().await;
            });
            thread.join().expect("it does not panic");
            assert!(runner.stats().overflows > before, "nothing overflowed");
        }
        world.finish(runner);
    }
}
