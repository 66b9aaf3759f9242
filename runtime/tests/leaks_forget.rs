//! What is leaked on purpose: futures that are forgotten with their operation in flight (R13), and
//! what the kernel never gave back (R2). Leak checkers are switched off for this file.
#![allow(clippy::mem_forget, reason = "that is what is tested")]

mod common;

use std::future::poll_fn;
use std::mem::forget;
use std::pin::Pin;
use std::time::Duration;

use common::*;
use coring_runtime::sim::{Kernel, Script};
use coring_runtime::*;

/// Forgotten futures leave their slots; nothing else may be left.
fn slots_after(mut runner: Runner) -> (usize, usize) {
    quiesce(&mut runner);
    let stats = runner.stats();
    assert_eq!(stats.tasks, 0, "{stats:?}");
    // Whatever is left ends with the runner.
    let left = (stats.slots, stats.scopes);
    drop(runner);
    left
}

each_driver! {
    fn r13_op_forgotten_in_flight_still_ends_with_its_runner(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = submit(Read(reader, Tracked::new(16, &drops)));
            start(&mut op).await;
            forget(op);
            yield_now().await.expect("nobody cancels");
        });
        assert_eq!(runner.stats().in_flight, 1);
        drop(runner); // Cancels and reaps it: the world sees that nothing is in flight.
        assert_eq!(drops.get(), 0, "what is forgotten is never dropped");
    }

    fn r13_op_forgotten_in_flight_lets_its_kernel_write_where_it_pointed(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = read(reader, 16);
            start(&mut op).await;
            forget(op);
            assert_eq!(write(writer, b"to nobody").await.0.expect("open"), 9);
        });
        assert_eq!(slots_after(runner), (1, 0));
    }

    fn r13_op_forgotten_in_a_task_that_ends_is_harmless_to_its_scope(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let task = create_task(async move {
                let mut op = read(reader, 16);
                start(&mut op).await;
                forget(op);
            });
            task.await; // Its root scope is gone, the leaf in it is not.
            let mut other = nop();
            start(&mut other).await;
            assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
            assert_eq!(other.await.expect("a NOP succeeds"), 0);
        });
        assert_eq!(slots_after(runner), (1, 0));
    }

    fn r13_timer_forgotten_while_it_waits_wakes_nobody_wrongly(world) {
        for timers in [Timers::Kernel, Timers::Heap] {
            let mut runner = world.builder().timers(timers).build().expect("a driver");
            runner.run(async {
                let mut timer = Timer::after(Duration::from_millis(1));
                start(&mut timer).await;
                forget(timer);
                Timer::after(Duration::from_millis(5)).await.expect("nobody cancels");
            });
            assert_eq!(slots_after(runner), (1, 0));
        }
    }

    fn r13_task_handle_forgotten_while_it_is_awaited_leaves_the_task_running(world) {
        let mut runner = world.runner();
        runner.run(async {
            let mut task = create_task(async {
                yield_now().await.expect("nobody cancels");
            });
            start(&mut task).await;
            let reference = task.as_ref();
            forget(task);
            while !reference.done() {
                yield_now().await.expect("nobody cancels");
            }
        });
        assert_eq!(slots_after(runner), (0, 0));
    }

    fn r13_scope_forgotten_with_its_operation_in_flight_still_fires_and_harms_nobody(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = Box::pin(within(Duration::from_millis(2), read(reader, 8)));
            start(&mut op).await;
            forget(op);
            Timer::after(Duration::from_millis(6)).await.expect("nobody cancels");
            // Its parent is gone as well by now.
            create_task(async {
                let mut inner = Box::pin(within(Duration::from_millis(1), std::future::pending::<()>()));
                start(&mut inner).await;
                forget(inner);
            }).await;
            Timer::after(Duration::from_millis(3)).await.expect("nobody cancels");
        });
        assert_eq!(slots_after(runner), (1, 2));
    }

    fn r13_yield_forgotten_is_harmless(world) {
        world.run(async {
            let mut future = Box::pin(yield_now());
            start(&mut future).await;
            forget(future);
            yield_now().await.expect("nobody cancels");
        });
    }

    fn r13_task_whose_handle_and_future_are_forgotten_in_pieces_is_dropped_by_its_runner(world) {
        let drops = Drops::default();
        let (reader, _) = world.pipe();
        let counted = drops.clone();
        let mut runner = world.runner();
        runner.run(async {
            let task = create_task(async move {
                let read = submit(Read(reader, Tracked::new(4, &counted)));
                drop(read.await);
            });
            forget(task);
            yield_now().await.expect("nobody cancels");
        });
        drop(runner);
        assert_eq!(drops.get(), 1, "the runtime owns the task");
    }

    fn r13_remote_task_forgotten_leaves_the_task_running(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        let drops = Drops::default();
        let counted = drops.clone();
        let mut remote = handle.spawn(move || async move {
            yield_now().await.expect("nobody cancels");
            counted.count();
        });
        assert!(poll_once(&mut remote).is_pending());
        forget(remote);
        runner.run(async {
            while drops.get() == 0 {
                yield_now().await.expect("nobody cancels");
            }
        });
        world.finish(runner);
    }

    fn r13_runner_forgotten_with_an_operation_in_flight_is_sound(world) {
        // Not on this thread: its ring would stay open as long as the thread.
        let uring = !world.is_sim();
        let thread = std::thread::spawn(move || {
            let kernel = Kernel::new();
            let builder = if uring { Runner::builder() } else { Runner::builder().sim(&kernel) };
            let mut runner = builder.sq_entries(8).cq_entries(16).build().expect("a driver");
            let mut op = submit(Raw(Request::new(TIMEOUT, -1).addr(&FOREVER).len(1)));
            runner.run(start(&mut op));
            forget(runner);
            drop(op);
        });
        thread.join().expect("nothing panics");
        // The ring's two descriptors stay open.
        world.expect_open_fds(if uring { 2 } else { 0 });
    }
}

static FOREVER: [i64; 2] = [86_400, 0];

#[test]
fn r13_multishot_forgotten_while_armed_still_ends_with_its_runner() {
    let world = World::sim();
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(
        ACCEPT,
        Script::Shots(vec![SCRIPTED_FD, SCRIPTED_FD + 1], None),
    );
    let mut runner = world.runner();
    runner.run(async {
        let mut accepts = submit_multishot(Yields::accept_multi(9));
        assert_eq!(
            accepts.next().await.expect("scripted").number(),
            SCRIPTED_FD
        );
        forget(accepts);
    });
    drop(runner);
}

#[test]
fn r13_multishot_wait_forgotten_serves_the_next_wait() {
    let world = World::sim();
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(ACCEPT, Script::Shots(vec![SCRIPTED_FD], None));
    world.run(async {
        let mut accepts = submit_multishot(Yields::accept_multi(9));
        let mut next = Box::pin(accepts.next());
        start(&mut next).await;
        forget(next);
        assert_eq!(
            accepts.next().await.expect("scripted").number(),
            SCRIPTED_FD
        );
    });
}

#[test]
fn r13_future_forgotten_in_a_join_leaves_the_other_branch_alone() {
    let world = World::sim();
    let (reader, writer) = world.pipe();
    let mut runner = world.runner();
    runner.run(async {
        let mut a = Some(read(reader, 4));
        let mut b = nop();
        poll_fn(|cx| {
            if let Some(mut op) = a.take() {
                assert!(Pin::new(&mut op).poll(cx).is_pending());
                forget(op);
            }
            Pin::new(&mut b).poll(cx)
        })
        .await
        .expect("a NOP succeeds");
        assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
    });
    assert_eq!(slots_after(runner), (1, 0));
}

mod unending {
    use super::*;

    /// What did not end in time is leaked: also when the thread ends, and its memory with it.
    #[test]
    fn r2_operation_that_does_not_end_is_leaked_and_never_freed() {
        let world = World::sim();
        let drops = Drops::default();
        let counted = drops.clone();
        let thread = std::thread::spawn(move || {
            let kernel = Kernel::new();
            let hours = Duration::from_secs(86_400);
            kernel.script(READ, Script::Uncancellable(hours, 1));
            kernel.script(READ, Script::Uncancellable(hours, 1));
            let (reader, _) = kernel.pipe();
            let mut runner = Runner::builder().sim(&kernel).build().expect("a simulator");
            let mut held = submit(Read(reader, Tracked::new(64, &counted)));
            runner.run(async {
                start(&mut held).await;
                start(&mut submit(Read(reader, Tracked::new(64, &counted)))).await;
            });
            drop(runner);
            drop(held);
            // The kernel is still at it.
            kernel.advance(hours);
            assert_eq!(counted.get(), 0, "R2: freed while the kernel had it");
        });
        thread.join().expect("it does not panic");
        assert_eq!(drops.get(), 0, "R2: freed at the end of the thread");
        world.expect_leaks(2);
    }
}
