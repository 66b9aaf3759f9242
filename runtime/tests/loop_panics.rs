//! Panics of user code, wherever it runs: R10 and C10. What lives on a ring stays on its thread:
//! R12.

mod common;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use common::*;
use coring_runtime::*;

/// Runs `f` while its panics are silent, and gives the text of the one that came out.
fn panics(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    match panic.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(panic) => *panic.downcast::<String>().expect("a text"),
    }
}

fn ignore<T>(_: T) {}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the bomb");
    }
}

/// A foreign waker that panics where it is told to.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Clone,
    Wake,
    Drop,
    /// In wake, with something that panics when it is dropped.
    Payload,
}

fn hostile(at: At) -> Waker {
    static CLONE: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("the waker's clone"), |_| (), |_| (), |_| ());
    static WAKE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &WAKE),
        |_| panic!("the waker's wake"),
        |_| panic!("the waker's wake"),
        |_| (),
    );
    static DROP: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &DROP),
        |_| panic!("the waker's drop"),
        |_| (),
        |_| panic!("the waker's drop"),
    );
    static PAYLOAD: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &PAYLOAD),
        |_| panic_any(Bomb),
        |_| panic_any(Bomb),
        |_| (),
    );
    let vtable = match at {
        At::Clone => &CLONE,
        At::Wake => &WAKE,
        At::Drop => &DROP,
        At::Payload => &PAYLOAD,
    };
    // SAFETY: the functions never follow the data.
    unsafe { Waker::new(std::ptr::null(), vtable) }
}

/// Polls once with a waker that panics.
fn poll_with<F: Future + Unpin>(future: &mut F, at: At) -> Poll<F::Output> {
    let waker = std::mem::ManuallyDrop::new(hostile(at));
    std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// An operation that panics where it is told to.
struct Hostile {
    on_complete: bool,
    on_orphaned: bool,
    _bomb: Option<Bomb>,
}

// SAFETY: the request points at nothing.
unsafe impl Operation for Hostile {
    type Output = ();

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(NOP, -1)
    }

    fn complete(self, _: Cqe) {
        assert!(!self.on_complete, "complete");
    }

    fn orphaned(self, _: Cqe) {
        assert!(!self.on_orphaned, "orphaned");
    }
}

/// Nothing of the loop is broken: tasks, operations and timers go on.
async fn all_is_well(world: &World) {
    let (reader, writer) = world.pipe();
    let task = create_task(async move { read(reader, 4).await.0.expect("open") });
    assert_eq!(write(writer, b"fine").await.0.expect("open"), 4);
    assert_eq!(task.await, 4);
    Timer::after(Duration::from_millis(1))
        .await
        .expect("nobody cancels");
    assert_eq!(nop().await.expect("a NOP succeeds"), 0);
}

each_driver! {
    fn c10_panic_of_a_task_reaches_its_awaiter_and_nobody_else(world) {
        world.run(async {
            let task = create_task(async { panic!("of the task") });
            let other = create_task(async { 3 });
            let panic = catch(task).await.expect_err("it panics");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"of the task"));
            assert_eq!(other.await, 3);
            all_is_well(world).await;
        });
    }

    fn c10_panic_of_a_task_that_nobody_awaits_harms_nobody(world) {
        world.run(async {
            drop(create_task(async { panic!("of the task") }));
            yield_now().await.expect("nobody cancels");
            all_is_well(world).await;
        });
    }

    fn c10_panic_of_main_leaves_its_runner_usable(world) {
        let mut runner = world.runner();
        let (reader, _) = world.pipe();
        let text = panics(|| {
            runner.run(async {
                let mut op = read(reader, 4);
                start(&mut op).await;
                panic!("of main");
            });
        });
        assert_eq!(text, "of main");
        runner.run(all_is_well(world));
        world.finish(runner);
    }

    fn c10_panic_in_the_drop_of_a_future_is_its_own(world) {
        world.run(async {
            // Dropped when it is done, when its task panics, and at the end of the runner.
            let task = create_task(async {
                let _bomb = Bomb;
                yield_now().await.expect("nobody cancels");
            });
            assert!(catch(task).await.is_err());
            let bomb = Bomb;
            let task = create_task(poll_fn(move |_| {
                let _bomb = &bomb;
                Poll::Ready(5)
            }));
            assert_eq!(task.await, 5, "it was done before its drop panicked");
            all_is_well(world).await;
        });
    }

    fn c10_panic_in_the_drop_of_a_future_at_the_end_of_the_runner_harms_nobody(world) {
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            for k in 0..4 {
                let (bomb, counted) = ((k % 2 == 0).then(|| Bomb), drops.clone());
                drop(create_task(async move {
                    let _bomb = bomb;
                    let _counted = on_drop(move || counted.count());
                    pending::<()>().await;
                }));
            }
            yield_now().await.expect("nobody cancels");
        });
        drop(runner);
        assert_eq!(drops.get(), 4);
    }

    fn c10_panic_in_the_drop_of_an_output_is_caught_or_its_takers(world) {
        world.run(async {
            drop(create_task(async { Bomb })); // Nobody takes it.
            yield_now().await.expect("nobody cancels");
            let task = create_task(async { Bomb });
            while !task.done() {
                yield_now().await.expect("nobody cancels");
            }
            assert_eq!(panics(|| drop(task)), "the bomb", "the holder of the handle dropped it");
            all_is_well(world).await;
        });
    }

    fn r10_payload_of_a_panic_that_panics_when_it_is_dropped_harms_nobody(world) {
        world.run(async {
            drop(create_task(async { panic_any(Bomb) }));
            yield_now().await.expect("nobody cancels");
            let mut op = nop();
            assert!(poll_with(&mut op, At::Payload).is_pending());
            // Until it has completed, and the waker was called.
            Timer::after(Duration::from_millis(1)).await.expect("nobody cancels");
            assert_eq!(op.await.expect("a NOP succeeds"), 0);
            all_is_well(world).await;
        });
    }

    fn r10_foreign_waker_that_panics_in_wake_or_drop_harms_nobody(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            for at in [At::Wake, At::Drop] {
                let mut woken = read(reader, 1);
                assert!(poll_with(&mut woken, at).is_pending());
                let mut replaced = read(reader, 1);
                assert!(poll_with(&mut replaced, at).is_pending());
                assert!(poll_once(&mut replaced).is_pending());
                let mut dropped = nop();
                assert!(poll_with(&mut dropped, at).is_pending());
                drop(dropped);
                let mut timer = Timer::after(Duration::from_millis(1));
                assert!(poll_with(&mut timer, at).is_pending());
                assert_eq!(write(writer, b"ab").await.0.expect("open"), 2);
                Timer::after(Duration::from_millis(2)).await.expect("nobody cancels");
                assert_eq!(woken.await.0.expect("open"), 1);
                assert_eq!(replaced.await.0.expect("open"), 1);
                timer.await.expect("nobody cancels");
            }
            all_is_well(world).await;
        });
        world.finish(runner);
    }

    fn r10_result_fetched_with_a_waker_that_panics_in_its_drop_is_not_lost(world) {
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = submit(Read(reader, Tracked::new(4, &drops)));
            start(&mut op).await;
            assert_eq!(write(writer, b"kept").await.0.expect("open"), 4);
            nop().await.expect("a NOP succeeds");
            let Poll::Ready(BufResult(n, buf)) = poll_with(&mut op, At::Drop) else {
                panic!("it is over");
            };
            assert_eq!(n.expect("open"), 4);
            drop(buf);
            let mut timer = Timer::after(Duration::from_millis(1));
            start(&mut timer).await;
            Timer::after(Duration::from_millis(2)).await.expect("nobody cancels");
            assert!(poll_with(&mut timer, At::Drop).is_ready());
        });
        assert_eq!(drops.get(), 1);
        world.finish(runner);
    }

    fn r10_foreign_waker_that_panics_in_clone_starts_nothing(world) {
        let mut runner = world.runner();
        runner.run(async {
            let mut op = nop();
            assert_eq!(panics(|| ignore(poll_with(&mut op, At::Clone))), "the waker's clone");
            assert_eq!(op.await.expect("it can be polled again"), 0);
            let mut timer = Timer::after(Duration::from_millis(1));
            assert_eq!(panics(|| ignore(poll_with(&mut timer, At::Clone))), "the waker's clone");
            let mut task = create_task(async { 4 });
            assert_eq!(panics(|| ignore(poll_with(&mut task, At::Clone))), "the waker's clone");
            assert_eq!(task.await, 4);
            let mut limited = within(Duration::from_millis(1), pending::<()>());
            assert_eq!(panics(|| ignore(poll_with(&mut limited, At::Clone))), "the waker's clone");
            drop(limited);
            all_is_well(world).await;
        });
        assert_eq!(runner.stats().scopes, 0);
        world.finish(runner);
    }

    fn r10_task_joined_through_a_foreign_waker_that_panics_ends_all_the_same(world) {
        world.run(async {
            let mut task = create_task(async {
                yield_now().await.expect("nobody cancels");
                9
            });
            assert!(poll_with(&mut task, At::Wake).is_pending());
            while !task.done() {
                yield_now().await.expect("nobody cancels");
            }
            assert_eq!(task.await, 9);
            all_is_well(world).await;
        });
    }

    fn r10_scope_whose_waker_panics_fires_all_the_same(world) {
        world.run(async {
            let mut limited = within(Duration::from_millis(1), pending::<()>());
            assert!(poll_with(&mut limited, At::Wake).is_pending());
            Timer::after(Duration::from_millis(3)).await.expect("nobody cancels");
            assert!(matches!(limited.await, Limited::Abandoned));
            all_is_well(world).await;
        });
    }

    /// A foreign waker that calls back into the runtime while completions are handed out.
    fn r10_foreign_waker_that_uses_the_runtime_finds_nothing_borrowed(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        let ran = Drops::default();
        runner.run(async {
            let counted = ran.clone();
            let waker = Waker::from(Arc::new(Reenters(move || {
                // On this thread, from within the loop.
                drop(create_task(async {}));
                let _ = now();
                assert!(!all_tasks().is_empty());
                handle.wake();
                let mut op = nop();
                let _ = poll_once(&mut op);
                drop(op);
                counted.count();
            })));
            let mut op = nop();
            let poll = std::pin::Pin::new(&mut op).poll(&mut Context::from_waker(&waker));
            assert!(poll.is_pending());
            while ran.get() == 0 {
                yield_now().await.expect("nobody cancels");
            }
            assert_eq!(op.await.expect("a NOP succeeds"), 0);
            all_is_well(world).await;
        });
        world.finish(runner);
    }

    fn r10_panic_in_the_drop_of_a_buffer_is_caught_when_the_runtime_drops_it(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut op = submit(Read(reader, Armed(vec![0; 8])));
            start(&mut op).await;
            drop(op);
            let mut queued = submit(Read(reader, Armed(vec![0; 8])));
            start(&mut queued).await;
            yield_now().await.expect("nobody cancels");
            drop(queued);
            all_is_well(world).await;
        });
        world.finish(runner);
    }

    fn r10_operation_that_panics_in_complete_or_orphaned_is_done_with(world) {
        let mut runner = world.runner();
        runner.run(async {
            let hostile = |on_complete, on_orphaned| {
                submit(Hostile { on_complete, on_orphaned, _bomb: None })
            };
            assert!(catch(hostile(true, false)).await.is_err());
            let mut orphaned = hostile(false, true);
            start(&mut orphaned).await;
            drop(orphaned);
            let mut completed = hostile(false, true);
            start(&mut completed).await;
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
            drop(completed); // Its own panic does not come out of its drop.
            all_is_well(world).await;
        });
        world.finish(runner);
    }

    fn r10_operation_that_panics_in_request_leaves_no_slot(world) {
        let mut runner = world.runner();
        runner.run(async {
            let mut op = submit(TooMuch);
            assert!(panics(|| ignore(poll_once(&mut op))).contains("small inputs"));
            drop(op);
            let mut many = submit_multishot(TooMuch);
            {
                let mut next = Box::pin(many.next());
                assert!(panics(|| ignore(poll_once(&mut next))).contains("small inputs"));
            }
            drop(many);
            all_is_well(world).await;
        });
        world.finish(runner);
    }

    fn r10_closure_from_another_thread_that_panics_harms_nobody(world) {
        let mut runner = world.runner();
        let handle = runner.handle();
        std::thread::spawn(move || {
            drop(handle.spawn(|| -> std::future::Ready<()> { panic!("in the closure") }));
            drop(handle.spawn(|| async { panic!("in the future") }));
        })
        .join()
        .expect("it does not panic there");
        runner.run(all_is_well(world));
        world.finish(runner);
    }

    fn r10_scope_around_a_panic_is_restored(world) {
        let (reader, _) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let mut limited = within(Duration::from_millis(1), poll_fn(|_| -> Poll<()> {
                let mut op = nop();
                assert!(poll_once(&mut op).is_pending());
                drop(op);
                panic!("in the scope");
            }));
            assert_eq!(panics(|| ignore(poll_once(&mut limited))), "in the scope");
            drop(limited);
            // Were this one under that deadline, it would be cancelled.
            let mut op = read(reader, 1);
            start(&mut op).await;
            Timer::after(Duration::from_millis(5)).await.expect("not under that deadline");
            assert!(poll_here(&mut op).await.is_pending());
        });
        assert_eq!(runner.stats().scopes, 0);
        world.finish(runner);
    }
}

/// The panic of a future, as a value.
async fn catch<F: Future + Unpin>(mut future: F) -> std::thread::Result<F::Output> {
    poll_fn(move |cx| {
        match catch_unwind(AssertUnwindSafe(|| {
            std::pin::Pin::new(&mut future).poll(cx)
        })) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

fn on_drop(f: impl FnOnce()) -> impl Drop {
    struct OnDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            if let Some(f) = self.0.take() {
                f();
            }
        }
    }
    OnDrop(Some(f))
}

struct Reenters<F>(F);

impl<F: Fn()> std::task::Wake for Reenters<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A buffer whose drop panics.
struct Armed(Vec<u8>);

impl Drop for Armed {
    fn drop(&mut self) {
        panic!("the buffer's drop");
    }
}

// SAFETY: the heap block of a Vec stays where it is when the Vec moves.
unsafe impl IoBuf for Armed {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above, and all of it is writable and initialised.
unsafe impl IoBufMut for Armed {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn bytes_total(&self) -> usize {
        self.0.len()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

/// Puts more into the scratch than fits.
#[derive(Clone)]
struct TooMuch;

// SAFETY: there is never a request.
unsafe impl Operation for TooMuch {
    type Output = ();

    fn request(&mut self, scratch: &mut Scratch) -> Request {
        scratch.put([0u64; 32]);
        Request::new(NOP, -1)
    }

    fn complete(self, _: Cqe) {}

    fn orphaned(self, _: Cqe) {}
}

/// R12: what lives on a ring is not `Send`, and what is for other threads is.
mod threads {
    use super::*;

    /// `is_send!(T)`: an inherent constant, where `T: Send`, hides the trait's.
    macro_rules! is_send {
        ($type:ty) => {{
            #[allow(dead_code, reason = "chosen where the other does not apply")]
            trait Fallback {
                const SEND: bool = false;
            }
            impl<T: ?Sized> Fallback for T {}
            struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
            #[allow(dead_code, reason = "chosen where it applies")]
            impl<T: ?Sized + Send> Probe<T> {
                const SEND: bool = true;
            }
            let _: std::marker::PhantomData<$type> = Probe(std::marker::PhantomData).0;
            <Probe<$type>>::SEND
        }};
    }

    #[test]
    fn r12_what_lives_on_a_ring_stays_on_its_thread() {
        assert!(is_send!(u8), "the probe works");
        assert!(!is_send!(Rc<RefCell<u8>>), "the probe works");
        assert!(!is_send!(Op<Nop>));
        assert!(!is_send!(Op<Read<Vec<u8>>>));
        assert!(!is_send!(Multishot<Nop>));
        assert!(!is_send!(Task<u8>));
        assert!(!is_send!(TaskRef));
        assert!(!is_send!(Timer));
        assert!(!is_send!(CancelScope));
        assert!(!is_send!(Runner));
        assert!(!is_send!(sim_kernel::Kernel));
    }

    #[test]
    fn r12_what_is_for_other_threads_is_send() {
        assert!(is_send!(Handle));
        assert!(is_send!(&'static Handle), "and Sync");
        assert!(is_send!(RemoteTask<u8>));
        assert!(!is_send!(RemoteTask<Rc<u8>>), "its output goes along");
        assert!(is_send!(Waker));
        assert!(is_send!(Stats));
        assert!(is_send!(Unavailable));
        assert!(is_send!(Instant));
        assert!(is_send!(Cancelled));
    }

    use coring_runtime::sim as sim_kernel;
}
