//! A loop that another one drives: `turn`, and the descriptor that says when.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring_runtime::*;

each_driver! {
    fn turn_never_waits_and_runs_what_is_ready(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        let task = runner.enter(|| create_task(async move { read(reader, 4).await.0.expect("open") }));
        for _ in 0..3 {
            runner.turn().expect("it turns");
        }
        assert!(!task.done());
        runner.enter(|| drop(create_task(async move {
            assert_eq!(write(writer, b"go").await.0.expect("open"), 2);
        })));
        while !task.done() {
            runner.turn().expect("it turns");
        }
        assert_eq!(runner.run(task), 2);
        world.finish(runner);
    }

    fn enter_restores_what_was_around_it_also_after_a_panic(world) {
        let runner = world.runner();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runner.enter(|| panic!("inside"));
        }));
        assert!(panic.is_err());
        assert!(std::panic::catch_unwind(|| drop(create_task(async {}))).is_err(), "outside again");
        world.finish(runner);
    }

    fn operation_started_in_enter_ends_in_turns(world) {
        let mut runner = world.runner();
        let mut op = nop();
        runner.enter(|| assert!(poll_once(&mut op).is_pending()));
        quiesce(&mut runner);
        runner.enter(|| assert!(poll_once(&mut op).is_ready()));
        world.finish(runner);
    }
}

#[cfg(not(miri))]
mod descriptor {
    use std::os::fd::{AsFd, AsRawFd};
    use std::thread;

    use super::*;

    /// poll(2) on the runner's descriptor, as a host's loop does. `false`: time is up.
    fn readable(runner: &Runner, limit: Duration) -> bool {
        let fd = runner
            .as_fd()
            .expect("io_uring has one")
            .as_fd()
            .as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let limit = i32::try_from(limit.as_millis()).expect("short");
        loop {
            // SAFETY: one pollfd that is writable.
            match unsafe { libc::poll(&mut poll, 1, limit) } {
                -1 => {} // EINTR.
                n => return n == 1,
            }
        }
    }

    /// The host's loop, until `done`.
    fn drive(runner: &mut Runner, done: impl Fn() -> bool) {
        while !done() {
            assert!(
                readable(runner, Duration::from_secs(10)),
                "the host was never told"
            );
            runner.turn().expect("it turns");
        }
    }

    /// Nothing to do: the host may sleep.
    fn goes_quiet(runner: &mut Runner) {
        for _ in 0..20 {
            if !readable(runner, Duration::ZERO) {
                return;
            }
            runner.turn().expect("it turns");
        }
        panic!("the descriptor stays readable: a busy loop");
    }

    #[test]
    fn host_is_told_of_completions_and_of_nothing_else() {
        let world = World::uring();
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.as_fd().expect("io_uring has one");
        let task =
            runner.enter(|| create_task(async move { read(reader, 4).await.0.expect("open") }));
        goes_quiet(&mut runner);
        assert!(
            !readable(&runner, Duration::from_millis(20)),
            "nothing happened"
        );
        let sent = [1u8; 3];
        // SAFETY: three readable bytes.
        assert_eq!(unsafe { libc::write(writer, sent.as_ptr().cast(), 3) }, 3);
        drive(&mut runner, || task.done());
        assert_eq!(runner.run(task), 3);
        goes_quiet(&mut runner);
        world.finish(runner);
    }

    #[test]
    fn host_is_told_of_deadlines_in_every_mode() {
        let world = World::uring();
        for timers in [Timers::Auto, Timers::Kernel, Timers::Heap] {
            let mut runner = world.builder().timers(timers).build().expect("io_uring");
            runner.as_fd().expect("io_uring has one");
            let ended = Rc::new(Cell::new(0));
            for span in [40, 5, 20] {
                let ended = ended.clone();
                runner.enter(|| {
                    drop(create_task(async move {
                        let span = Duration::from_millis(span);
                        Timer::after(span).await.expect("nobody cancels");
                        ended.set(ended.get() + 1);
                    }));
                });
            }
            drive(&mut runner, || ended.get() == 3);
            goes_quiet(&mut runner);
            world.finish(runner);
        }
    }

    /// The alarm is for a sleep that goes before; when it fires there is nothing due, and the next
    /// deadline needs an alarm of its own.
    #[test]
    fn host_is_told_of_a_deadline_after_an_alarm_that_found_nothing() {
        let world = World::uring();
        let mut runner = world
            .builder()
            .timers(Timers::Heap)
            .build()
            .expect("io_uring");
        runner.as_fd().expect("io_uring has one");
        let (reader, writer) = world.pipe();
        let dropped = Rc::new(Cell::new(false));
        let ended = Rc::new(Cell::new(false));
        let (seen, set) = (dropped.clone(), ended.clone());
        runner.enter(|| {
            drop(create_task(async move {
                let mut early = Some(Timer::after(Duration::from_millis(30)));
                start(early.as_mut().expect("it is there")).await;
                let late = create_task(async {
                    Timer::after(Duration::from_millis(90))
                        .await
                        .expect("nobody cancels");
                });
                // Not by a deadline, which would have the alarm.
                assert_eq!(read(reader, 1).await.0.expect("open"), 1);
                drop(early.take());
                seen.set(true);
                late.await;
                set.set(true);
            }));
        });
        goes_quiet(&mut runner); // The alarm is armed for the early one.
        // SAFETY: one readable byte.
        assert_eq!(unsafe { libc::write(writer, [1u8].as_ptr().cast(), 1) }, 1);
        drive(&mut runner, || dropped.get());
        drive(&mut runner, || ended.get());
        goes_quiet(&mut runner);
        world.finish(runner);
    }

    #[test]
    fn host_is_told_of_a_scope_that_was_polled_from_enter() {
        let world = World::uring();
        let mut runner = world.runner();
        runner.as_fd().expect("io_uring has one");
        goes_quiet(&mut runner);
        let woken = Drops::default();
        let waker = std::task::Waker::from(std::sync::Arc::new(Counts(woken.clone())));
        let mut limited = within(Duration::from_millis(5), std::future::pending::<()>());
        runner.enter(|| {
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(std::pin::Pin::new(&mut limited).poll(&mut cx).is_pending());
        });
        drive(&mut runner, || woken.get() > 0);
        runner.enter(|| {
            assert!(matches!(
                poll_once(&mut limited),
                std::task::Poll::Ready(Limited::Abandoned)
            ));
        });
        world.finish(runner);
    }

    struct Counts(Drops);

    impl std::task::Wake for Counts {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.count();
        }
    }

    #[test]
    fn host_is_told_of_an_operation_dropped_outside_of_a_turn() {
        let world = World::uring();
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.as_fd().expect("io_uring has one");
        let mut op = submit(Read(reader, Tracked::new(4, &drops)));
        runner.enter(|| assert!(poll_once(&mut op).is_pending()));
        goes_quiet(&mut runner);
        drop(op); // Its cancel waits to be handed over.
        drive(&mut runner, || drops.get() == 1);
        goes_quiet(&mut runner);
        world.finish(runner);
    }

    #[test]
    fn host_is_told_of_wakes_and_spawns_from_threads() {
        let world = World::uring();
        let mut runner = world.runner();
        runner.as_fd().expect("io_uring has one");
        for _ in 0..200 {
            goes_quiet(&mut runner);
            let handle = runner.handle();
            let ran = Drops::default();
            let counted = ran.clone();
            let thread = thread::spawn(move || {
                drop(handle.spawn(move || async move { counted.count() }));
            });
            drive(&mut runner, || ran.get() == 1);
            thread.join().expect("it does not panic");
        }
        goes_quiet(&mut runner);
        runner.wake();
        assert!(
            readable(&runner, Duration::from_secs(10)),
            "wake makes it readable"
        );
        world.finish(runner);
    }

    #[test]
    fn host_is_told_while_tasks_remain_ready() {
        let world = World::uring();
        let mut runner = world.runner();
        runner.as_fd().expect("io_uring has one");
        let task = runner.enter(|| {
            create_task(async {
                for _ in 0..2_000 {
                    yield_now().await.expect("nobody cancels");
                }
            })
        });
        drive(&mut runner, || task.done());
        drop(task);
        goes_quiet(&mut runner);
        world.finish(runner);
    }
}
