//! The end of a runtime, and futures that are polled elsewhere: R4, R9. Nested loops.

mod common;

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::*;
use coring_runtime::sim as sim_kernel;
use coring_runtime::*;

fn text_of(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(panic) => *panic.downcast::<String>().expect("a text"),
    }
}

each_driver! {
    fn r4_operation_started_in_one_run_is_awaited_in_the_next_of_the_same_runner(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        let mut op = read(reader, 4);
        runner.run(start(&mut op));
        runner.run(async {
            assert_eq!(write(writer, b"over").await.0.expect("open"), 4);
            let BufResult(n, buf) = op.await;
            assert_eq!((n.expect("open"), &buf[..]), (4, &b"over"[..]));
        });
        world.finish(runner);
    }

    fn r4_operation_of_a_runner_that_has_ended_is_an_error_with_its_buffer(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        let mut op = read(reader, 4);
        runner.run(start(&mut op));
        drop(runner);
        world.run(async {
            // Others have its slot here.
            let mut same_place = nop();
            start(&mut same_place).await;
            let BufResult(result, buf) = op.await;
            let error = result.expect_err("its runtime has ended");
            assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
            assert!(error.to_string().contains("has ended"), "{error}");
            assert_eq!(buf.len(), 4);
            assert_eq!(same_place.await.expect("a NOP succeeds"), 0);
        });
    }

    fn r4_operation_that_completed_before_its_runner_ended_keeps_its_result(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        let mut op = read(reader, 4);
        runner.run(async {
            start(&mut op).await;
            assert_eq!(write(writer, b"kept").await.0.expect("open"), 4);
        });
        quiesce(&mut runner);
        drop(runner);
        let Poll::Ready(BufResult(n, buf)) = poll_once(&mut op) else { panic!("it is over") };
        assert_eq!((n.expect("C1"), &buf[..]), (4, &b"kept"[..]));
    }

    fn r4_operation_awaited_in_another_live_runner_is_an_error_with_its_buffer(world) {
        let (reader, _) = world.pipe();
        let mut one = world.runner();
        let other_world = sim_kernel::Kernel::new();
        let mut two = Runner::builder().sim(&other_world).build().expect("a simulator");
        let mut op = read(reader, 4);
        one.run(start(&mut op));
        two.run(async {
            let mut same_place = Timer::after(Duration::from_secs(1));
            start(&mut same_place).await;
            let BufResult(result, buf) = op.await;
            let error = result.expect_err("it is another's");
            assert!(error.to_string().contains("outside of its runtime"), "{error}");
            assert_eq!(buf.len(), 4);
            same_place.await.expect("nobody cancels");
        });
        assert_eq!(one.stats().slots, 0);
        world.finish(one);
        drop(two);
    }

    fn r4_result_that_won_over_a_poll_elsewhere_stops_no_later_await(world) {
        let (reader, writer) = world.pipe();
        if let Some(kernel) = &world.kernel {
            kernel.script(READ, sim_kernel::Script::Uncancellable(Duration::ZERO, 4));
        }
        let other_kernel = sim_kernel::Kernel::new();
        let other = Runner::builder().sim(&other_kernel).build().expect("a simulator");
        let mut runner = world.runner();
        runner.run(async {
            let mut op = read(reader, 4);
            start(&mut op).await;
            nop().await.expect("the read is in the kernel");
            write(writer, b"kept").await.0.expect("open");
            let Poll::Ready(BufResult(n, _)) = other.enter(|| poll_once(&mut op)) else {
                panic!("it is over");
            };
            assert_eq!(n.expect("C1: it had completed"), 4);
            nop().await.expect("nobody cancels");
        });
        world.finish(runner);
    }

    fn r4_operation_that_was_dropped_elsewhere_ends_when_others_are_pumped(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut one = world.runner();
        let other_world = sim_kernel::Kernel::new();
        let mut two = Runner::builder().sim(&other_world).build().expect("a simulator");
        let mut op = submit(Read(reader, Tracked::new(4, &drops)));
        let waits = one.run(async {
            start(&mut op).await;
            nop().await.expect("the read is in the kernel");
            let waits = create_task(pending::<()>());
            assert!(waits.is_here());
            (waits,)
        }).0;
        drop(op);
        two.run(async {
            assert!(!waits.is_here());
            wait_for(Duration::from_secs(20), async {
                while drops.get() == 0 {
                    pump_others()?;
                    yield_now().await?;
                }
                Ok(())
            })
            .await
            .expect("its loop need not turn");
        });
        waits.abort();
        world.finish(one);
    }

    fn r4_operation_polled_outside_of_any_run_is_an_error_with_its_buffer(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        let mut started = read(reader, 4);
        runner.run(start(&mut started));
        let Poll::Ready(BufResult(result, buf)) = poll_once(&mut started) else {
            panic!("nobody would wake it");
        };
        assert!(result.is_err());
        assert_eq!(buf.len(), 4);
        let mut new = read(reader, 3);
        let Poll::Ready(BufResult(result, buf)) = poll_once(&mut new) else {
            panic!("nobody would wake it");
        };
        assert!(result.is_err());
        assert_eq!(buf.len(), 3);
        world.finish(runner);
    }

    fn r4_timer_and_task_of_another_runner_are_errors_or_wait_for_their_own(world) {
        for timers in [Timers::Kernel, Timers::Heap] {
            let mut one = world.builder().timers(timers).build().expect("a driver");
            let other_world = sim_kernel::Kernel::new();
            let mut two = Runner::builder().sim(&other_world).build().expect("a simulator");
            let mut timer = Timer::after(Duration::from_secs(3600));
            let mut task = one.run(async {
                start(&mut timer).await;
                (create_task(async {
                    Timer::after(Duration::from_millis(1)).await.expect("nobody cancels");
                    5
                }),)
            }).0;
            two.run(async {
                let error = timer.await.expect_err("it is another's");
                assert!(error.to_string().contains("outside of its runtime"), "{error}");
                assert!(poll_here(&mut task).await.is_pending(), "its loop does not turn");
            });
            one.run(async { assert_eq!(task.await, 5) });
            assert_eq!(one.stats().slots, 0);
            drop(two);
            world.finish(one);
        }
    }

    fn r4_scope_opened_in_one_run_and_polled_in_another_harms_nobody(world) {
        let (reader, writer) = world.pipe();
        let mut one = world.runner();
        let other_world = sim_kernel::Kernel::new();
        let mut two = Runner::builder().sim(&other_world).build().expect("a simulator");
        let mut limited = within(Duration::from_secs(3600), read(reader, 4));
        one.run(start(&mut limited));
        two.run(async {
            let Limited::Output(BufResult(result, _), expiry) = (&mut limited).await else {
                panic!("it has a leaf");
            };
            assert!(result.is_err());
            assert!(!expiry.timed_out);
        });
        drop(limited);
        drop(two);
        // Opened here, closed after the end.
        let mut limited = within(Duration::from_secs(3600), read(reader, 4));
        one.run(start(&mut limited));
        drop(one);
        drop(limited);
        let mut runner = world.runner();
        runner.run(async {
            assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
        });
        world.finish(runner);
    }

    fn r9_end_of_the_runner_cancels_and_reaps_what_tasks_have_in_flight(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            for _ in 0..10 {
                let op = submit(Read(reader, Tracked::new(8, &drops)));
                drop(create_task(async move { drop(op.await) }));
                drop(create_task(async {
                    let _ = Timer::after(Duration::from_secs(3600)).await;
                }));
            }
            yield_now().await.expect("nobody cancels");
            yield_now().await.expect("nobody cancels");
        });
        assert!(runner.stats().in_flight >= 10);
        drop(runner);
        assert_eq!(drops.get(), 10, "R9: reaped, and freed");
    }

    fn r9_tasks_made_while_the_runner_ends_are_dropped_at_once(world) {
        struct Spawns(Drops);
        impl Drop for Spawns {
            fn drop(&mut self) {
                let counted = self.0.clone();
                let guard = Counts(counted);
                let task = create_task(async move {
                    let _guard = guard;
                    pending::<()>().await;
                });
                assert!(task.done(), "the runtime is ending");
            }
        }
        struct Counts(Drops);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.count();
            }
        }
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let spawns = Spawns(drops.clone());
            drop(create_task(async move {
                let _spawns = spawns;
                pending::<()>().await;
            }));
            yield_now().await.expect("nobody cancels");
        });
        drop(runner);
        assert_eq!(drops.get(), 1);
    }

    fn r9_operations_started_while_the_runner_ends_are_reaped(world) {
        struct Starts(Drops, i32);
        impl Drop for Starts {
            fn drop(&mut self) {
                let mut op = submit(Read(self.1, Tracked::new(4, &self.0)));
                assert!(poll_once(&mut op).is_pending());
            }
        }
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let starts = Starts(drops.clone(), reader);
            drop(create_task(async move {
                let _starts = starts;
                pending::<()>().await;
            }));
            yield_now().await.expect("nobody cancels");
        });
        drop(runner);
        assert_eq!(drops.get(), 1);
    }

    /// What is told of the end may poll: it is told once more, and nothing starts.
    fn r9_operation_that_a_waker_starts_while_the_runner_ends_is_refused(world) {
        struct Starts(i32, Mutex<Option<Result<usize, String>>>);
        impl Wake for Starts {
            fn wake(self: Arc<Self>) {
                let Poll::Ready(BufResult(result, buf)) = poll_once(&mut read(self.0, 4)) else {
                    panic!("it is refused");
                };
                assert_eq!(buf.len(), 4);
                *lock(&self.1) = Some(result.map_err(|error| error.to_string()));
            }
        }
        let (reader, _) = world.pipe();
        let starts = Arc::new(Starts(reader, Mutex::default()));
        let waker = Waker::from(starts.clone());
        let mut runner = world.runner();
        let mut op = read(reader, 4);
        runner.run(async {
            let polled = Pin::new(&mut op).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        });
        drop(runner);
        let refused = lock(&starts.1).take().expect("the waker was called");
        let text = refused.expect_err("the runner has ended");
        assert!(text.contains("has ended"), "{text}");
    }

    fn r9_handles_of_tasks_stay_valid_after_the_end(world) {
        let mut runner = world.runner();
        let (mut done, mut dropped) = runner.run(async {
            let done = create_task(async { 8 });
            let dropped = create_task(pending::<u8>());
            yield_now().await.expect("nobody cancels");
            (done, dropped)
        });
        drop(runner);
        assert!(done.done() && dropped.done());
        assert!(dropped.as_ref().name().starts_with("Task-"));
        assert_eq!(poll_once(&mut done), Poll::Ready(8));
        let panic = catch_unwind(AssertUnwindSafe(|| poll_once(&mut dropped)));
        let text = text_of(panic.expect_err("there is no output"));
        assert!(text.contains("its runtime ended before it did"), "{text}");
    }

    fn r9_future_that_outlives_its_runner_may_be_dropped_later(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        let mut op = submit(Read(reader, Tracked::new(4, &drops)));
        runner.run(start(&mut op));
        drop(runner);
        assert_eq!(drops.get(), 0, "its future has it");
        drop(op);
        assert_eq!(drops.get(), 1);
    }

    fn r9_runner_dropped_inside_of_another_ones_task_ends_in_order(world) {
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut inner = world.runner();
        inner.run(async {
            let op = submit(Read(reader, Tracked::new(4, &drops)));
            drop(create_task(async move { drop(op.await) }));
            yield_now().await.expect("nobody cancels");
        });
        let other_world = sim_kernel::Kernel::new();
        let mut outer = Runner::builder().sim(&other_world).build().expect("a simulator");
        outer.run(async {
            let begin = now();
            drop(inner);
            // Back in the outer one.
            Timer::after(Duration::from_secs(5)).await.expect("nobody cancels");
            assert_eq!(now() - begin, Duration::from_secs(5));
            assert_eq!(current_task().name(), "Task-1");
        });
        assert_eq!(drops.get(), 1);
    }

    fn nested_run_panics_and_says_what_to_do(world) {
        let mut inner = world.runner();
        world_free_run(world, || {
            let panic = catch_unwind(AssertUnwindSafe(|| inner.run(async {})));
            let text = text_of(panic.expect_err("a run is on the stack"));
            assert!(text.contains("create_task"), "{text}");
            let error = inner.turn().expect_err("a run is on the stack");
            assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
        });
        inner.run(async { assert_eq!(nop().await.expect("a NOP succeeds"), 0) });
        world.finish(inner);
    }

    fn functions_that_need_a_runtime_say_so_outside_of_one(_world) {
        let panics = [
            catch_unwind(|| drop(create_task(async {}))),
            catch_unwind(|| drop(current_task())),
            catch_unwind(|| drop(all_tasks())),
            catch_unwind(|| { let _ = now(); }),
            catch_unwind(|| { let _ = Handle::current(); }),
        ];
        for panic in panics {
            let text = text_of(panic.expect_err("there is no runtime"));
            assert!(text.contains("outside of a runtime"), "{text}");
        }
    }

    fn main_may_borrow_from_around_its_run(world) {
        let mut data = vec![1, 2, 3];
        let sum: i32 = world.run(async {
            data.push(4);
            yield_now().await.expect("nobody cancels");
            data.iter().sum()
        });
        assert_eq!((sum, data.len()), (10, 4));
    }

    fn main_reference_outlives_its_run_and_says_who_it_was(world) {
        let local = String::from("borrowed");
        let reference = world.run(async {
            yield_now().await.expect("nobody cancels");
            assert_eq!(local.len(), 8);
            current_task()
        });
        drop(local);
        assert!(reference.done());
        assert_eq!(reference.name(), "Task-1");
        assert!(reference.spawned_at().file().ends_with(".rs"));
    }

    fn task_awaited_by_a_second_awaiter_in_turn_wakes_the_last_one(world) {
        world.run(async {
            let mut task = create_task(async {
                yield_now().await.expect("nobody cancels");
                6
            });
            assert!(poll_once(&mut task).is_pending());
            let task = create_task(task);
            assert_eq!(task.await, 6);
        });
    }
}

/// Calls `f` within a run of a runner of its own.
fn world_free_run(world: &World, f: impl FnOnce()) {
    let kernel = sim_kernel::Kernel::new();
    let builder = if world.is_sim() {
        Runner::builder().sim(&kernel)
    } else {
        Runner::builder()
    };
    let mut f = Some(f);
    builder.build().expect("a driver").run(poll_fn(|_| {
        f.take().expect("polled once")();
        Poll::Ready(())
    }));
}

/// What only a script can make the kernel do.
mod scripted {
    use super::*;

    /// Its limit is over when that ends it, and then it is polled in another run.
    #[test]
    fn r4_operation_that_would_start_again_is_not_started_in_another_run() {
        let world = World::sim();
        let (reader, _) = world.pipe();
        let other_kernel = sim_kernel::Kernel::new();
        let mut other = Runner::builder()
            .sim(&other_kernel)
            .build()
            .expect("a simulator");
        let mut runner = world.runner();
        let mut op = read(reader, 4);
        runner.run(async {
            within(Duration::from_millis(5), start(&mut op)).await;
            Timer::after(Duration::from_millis(20))
                .await
                .expect("nobody cancels");
        });
        other.run(async {
            let Poll::Ready(BufResult(result, buf)) = poll_here(&mut op).await else {
                panic!("it is refused");
            };
            let text = result.expect_err("it is another's").to_string();
            assert!(text.contains("outside of its runtime"), "{text}");
            assert_eq!(buf.len(), 4);
        });
        assert_eq!(other.stats().submissions, 0);
        world.finish(runner);
    }

    #[test]
    fn r9_end_waits_for_what_cannot_be_cancelled_and_no_longer() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let span = Duration::from_secs(2);
        kernel.script(READ, sim_kernel::Script::Uncancellable(span, 4));
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            start(&mut submit(Read(reader, Tracked::new(4, &drops)))).await;
        });
        drop(runner);
        assert_eq!(drops.get(), 1, "waited for, and freed");
    }

    /// A simulated kernel serves one runtime after another: what an ended one left of its
    /// completions is not taken for the next one's.
    #[test]
    fn r4_kernel_that_served_another_runner_before_mixes_nothing_up() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        let mut first = world.runner();
        kernel.script(READ, sim_kernel::Script::Duplicate(0));
        first.run(async {
            start(&mut submit(Read(reader, Tracked::new(4, &drops)))).await;
        });
        kernel.script(NOP, sim_kernel::Script::Duplicate(0));
        first.enter(|| {
            let mut op = nop();
            let _ = poll_once(&mut op);
        });
        drop(first);
        let mut second = world.runner();
        second.run(async {
            let mut op = submit(Read(reader, Tracked::new(4, &drops)));
            start(&mut op).await;
            for _ in 0..3 {
                yield_now().await.expect("nobody cancels");
            }
            assert!(poll_here(&mut op).await.is_pending());
            assert_eq!(write(writer, b"x").await.0.expect("open"), 1);
            assert_eq!(op.await.0.expect("open"), 1);
        });
        world.finish(second);
    }

    #[test]
    fn sim_kernel_serves_one_runner_at_a_time() {
        let world = World::sim();
        let runner = world.runner();
        let panic = catch_unwind(AssertUnwindSafe(|| world.builder().build()));
        let text = text_of(panic.expect_err("it has a runner"));
        assert!(text.contains("one runner"), "{text}");
        drop(runner);
        drop(world.runner());
    }

    /// A script may not make safe code read what was never written, or past its buffer.
    #[test]
    fn sim_scripted_read_never_claims_more_than_its_buffer() {
        let world = World::sim();
        let kernel = world.kernel.as_ref().expect("sim");
        kernel.script(READ, sim_kernel::Script::Result(1_000));
        kernel.script(
            READ,
            sim_kernel::Script::After(Duration::from_millis(1), 1_000),
        );
        kernel.script(
            READ,
            sim_kernel::Script::Uncancellable(Duration::from_millis(1), 1_000),
        );
        kernel.script(READ, sim_kernel::Script::Duplicate(1_000));
        kernel.script(READ, sim_kernel::Script::Result(3));
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            for expected in [8, 8, 8, 8, 3] {
                let BufResult(n, buf) = submit(Read(reader, Vec::with_capacity(8))).await;
                assert_eq!((n.expect("scripted"), buf.len()), (expected, expected));
                assert!(buf.iter().all(|&byte| byte == 0xA5), "{buf:?}");
            }
        });
        world.finish(runner);
    }
}

/// With what only a real kernel has.
#[cfg(not(miri))]
mod real {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    const IOSQE_ASYNC: u8 = 1 << 4;

    /// A read with flags of its own.
    struct ReadWith(Request, Tracked);

    // SAFETY: the buffer's memory is a Box's, owned by the operation.
    unsafe impl Operation for ReadWith {
        type Output = BufResult<u32, Tracked>;

        fn request(&mut self, _: &mut Scratch) -> Request {
            let len = transfer_len(self.1.bytes_total());
            self.0.addr(self.1.stable_mut_ptr()).len(len)
        }

        fn complete(self, cqe: Cqe) -> Self::Output {
            BufResult(cqe.result(), self.1)
        }

        fn orphaned(self, _: Cqe) {}
    }

    #[test]
    fn r9_end_with_a_receive_on_a_socket_in_flight_is_bounded() {
        let world = World::uring();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let client = client.expect("it listens");
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let recv = Request::new(RECV, client.as_raw_fd());
            let op = submit(ReadWith(recv, Tracked::new(64, &drops)));
            drop(create_task(async move { drop(op.await) }));
            yield_now().await.expect("nobody cancels");
            yield_now().await.expect("nobody cancels");
        });
        assert_eq!(runner.stats().in_flight, 1);
        drop(runner);
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn r9_end_with_a_read_in_a_worker_thread_in_flight_is_bounded() {
        let world = World::uring();
        let (reader, _) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let read = Request::new(READ, reader).off(u64::MAX).flags(IOSQE_ASYNC);
            let op = submit(ReadWith(read, Tracked::new(64, &drops)));
            drop(create_task(async move { drop(op.await) }));
            Timer::after(Duration::from_millis(5))
                .await
                .expect("nobody cancels");
        });
        assert_eq!(runner.stats().in_flight, 1);
        drop(runner);
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn r9_end_with_reads_from_the_disk_in_flight_frees_nothing_early() {
        let world = World::uring();
        const BLOCK: usize = 1 << 16;
        const BLOCKS: usize = 32;
        let path = std::env::temp_dir().join(format!("coring-{}-direct", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("a directory for temporary files");
        file.write_all(&vec![0x5A; BLOCK * BLOCKS])
            .expect("some room");
        file.sync_all().expect("a disk");
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path);
        std::fs::remove_file(&path).expect("it is there");
        let direct = match direct {
            Ok(direct) => direct,
            Err(error) => {
                skip(
                    "uring",
                    &format!("O_DIRECT is refused in {path:?}: {error}"),
                );
                return;
            }
        };
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            for k in 0..BLOCKS {
                let read = Request::new(READ, direct.as_raw_fd()).off((k * BLOCK) as u64);
                let mut op = submit(DirectRead(read, Aligned::new(BLOCK, &drops)));
                start(&mut op).await;
                drop(op);
            }
            assert_eq!(drops.get(), 0, "R2: freed while the disk writes");
        });
        drop(runner);
        assert_eq!(drops.get(), BLOCKS);
    }

    /// Memory as O_DIRECT wants it.
    struct Aligned(*mut u8, std::alloc::Layout, Drops);

    impl Aligned {
        fn new(len: usize, drops: &Drops) -> Self {
            let layout = std::alloc::Layout::from_size_align(len, 4096).expect("a layout");
            // SAFETY: the layout is not empty.
            let start = unsafe { std::alloc::alloc_zeroed(layout) };
            assert!(!start.is_null());
            Self(start, layout, drops.clone())
        }
    }

    impl Drop for Aligned {
        fn drop(&mut self) {
            self.2.count();
            // SAFETY: allocated by `new` with this layout, and dropped once.
            unsafe { std::alloc::dealloc(self.0, self.1) };
        }
    }

    struct DirectRead(Request, Aligned);

    // SAFETY: the memory is on the heap, and owned by the operation.
    unsafe impl Operation for DirectRead {
        type Output = ();

        fn request(&mut self, _: &mut Scratch) -> Request {
            self.0.addr(self.1.0).len(self.1.1.size() as u32)
        }

        fn complete(self, _: Cqe) {}

        fn orphaned(self, _: Cqe) {}
    }
}
