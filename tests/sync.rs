//! Locks, events and semaphores. A test whose name begins with a number re-creates that behaviour
//! of CPython's test_asyncio.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use common::*;
use coring::sync::{
    Barrier, BoundedSemaphore, Condition, Event, LifoQueue, Lock, PriorityQueue, Queue,
    QueueShutDown, Semaphore,
};
use coring::{
    BufResult, Runner, create_task, gather, is_cancelled, sleep, timeout, wait_for, yield_now,
};
use futures_util::FutureExt;
use futures_util::future::join_all;

each_driver! {
    fn b138_lock_is_handed_over_in_the_order_of_those_who_came(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(Vec::new()));
            let held = lock.acquire().await.expect("it is free");
            let mut tasks = Vec::new();
            for n in 0..5 {
                let lock = lock.clone();
                tasks.push(begun(async move {
                    let mut log = lock.acquire().await.expect("nobody cancels");
                    log.push(n);
                    yield_now().await.expect("nobody cancels");
                })
                .await);
            }
            drop(held);
            // It has been given to the first who waits: nobody overtakes.
            assert!(lock.locked() && lock.try_acquire().is_none());
            join_all(tasks).await;
            assert_eq!(*lock.acquire().await.expect("it is free"), [0, 1, 2, 3, 4]);
            assert!(!lock.locked());
        });
    }

    fn b139_waiter_that_is_cancelled_leaves_the_lock_to_the_next(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let waits = |lock: &Rc<Lock>| {
                let lock = lock.clone();
                begun(async move { lock.acquire().await.map(drop) })
            };
            let (first, second) = (waits(&lock).await, waits(&lock).await);
            first.cancel();
            assert!(is_cancelled(&error_of(first.await)));
            drop(held);
            second.await.expect("it is the next");
            assert!(!lock.locked());
        });
    }

    fn b141_waiter_that_was_given_the_lock_keeps_it_in_spite_of_a_request(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let inside = lock.clone();
            let task = begun(async move {
                let guard = inside.acquire().await;
                (guard.is_ok(), sleep(LONG).await)
            })
            .await;
            drop(held);
            task.cancel();
            let (has_it, slept) = task.await;
            assert!(has_it);
            assert!(is_cancelled(&error_of(slept)), "C2");
            assert!(!lock.locked());
        });
    }

    fn b140_waiter_that_is_dropped_with_the_lock_passes_it_on(world) {
        world.run(async {
            let lock = Rc::new(Lock::new(()));
            let held = lock.acquire().await.expect("it is free");
            let mut first = Box::pin(lock.acquire());
            assert!(poll_once(&mut first).await.is_pending());
            let inside = lock.clone();
            let second = begun(async move { inside.acquire().await.map(drop) }).await;
            drop(held);
            drop(first);
            second.await.expect("it is the next");
            assert!(!lock.locked());
        });
    }

    fn lock_under_a_limit_times_out_and_is_not_taken(world) {
        world.run(async {
            let step = world.short(1);
            let lock = Lock::new(0);
            let held = lock.acquire().await.expect("it is free");
            for _ in 0..3 {
                let late = wait_for(lock.acquire(), step).await.map(drop);
                assert!(is_time_out(&error_of(late)));
            }
            drop(held);
            assert!(!lock.locked());
            *lock.try_acquire().expect("it is free") += 1;
            assert_eq!(lock.into_inner(), 1);
        });
    }

    fn c7_lock_that_is_free_is_a_cancellation_point(world) {
        world.run(async {
            let lock = Lock::new(());
            assert!(is_time_out(&error_of(wait_for(lock.acquire(), Duration::ZERO).await.map(drop))));
            assert!(!lock.locked());
            let event = Event::new();
            event.set();
            assert!(is_time_out(&error_of(wait_for(event.wait(), Duration::ZERO).await)));
        });
    }

    fn b142_event_wakes_all_who_wait_and_nobody_who_comes_after_a_clear(world) {
        world.run(async {
            let event = Rc::new(Event::new());
            let mut tasks = Vec::new();
            for _ in 0..4 {
                let event = event.clone();
                tasks.push(begun(async move { event.wait().await }).await);
            }
            assert!(tasks.iter().all(|task| !task.done()));
            event.set();
            event.clear();
            for task in tasks {
                task.await.expect("it was set");
            }
            assert!(!event.is_set());
            let late = timeout(world.short(1), event.wait()).await;
            assert!(late.is_err());
        });
    }

    fn b149_semaphore_lets_so_many_through_at_a_time(world) {
        world.run(async {
            let semaphore = Rc::new(Semaphore::new(3));
            let inside = Rc::new(std::cell::Cell::new((0, 0)));
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let (semaphore, inside) = (semaphore.clone(), inside.clone());
                    create_task(async move {
                        let _permit = semaphore.acquire().await.expect("nobody cancels");
                        let (now, most) = inside.get();
                        inside.set((now + 1, most.max(now + 1)));
                        sleep(MS).await.expect("nobody cancels");
                        let (now, most) = inside.get();
                        inside.set((now - 1, most));
                    })
                })
                .collect();
            join_all(tasks).await;
            assert_eq!(inside.get(), (0, 3));
            assert_eq!(semaphore.available(), 3);
            semaphore.release(1);
            assert_eq!(semaphore.available(), 4);
            semaphore.try_acquire().expect("it has four").forget();
            assert_eq!(semaphore.available(), 3);
        });
    }

    fn waiters_that_time_out_again_and_again_leave_nothing(world) {
        world.run(async {
            let lock = Lock::new(());
            let held = lock.acquire().await.expect("it is free");
            for _ in 0..200 {
                let mut waits = Box::pin(lock.acquire());
                assert!(poll_once(&mut waits).await.is_pending());
            }
            let waiting = Box::pin(lock.acquire());
            assert!(waiting.now_or_never().is_none());
            assert_eq!(coring::Stats::current().slots, 0);
            drop(held);
            assert!(!lock.locked());
        });
    }

    fn b143_condition_gives_the_guard_back_and_wakes_in_order(world) {
        world.run(async {
            let shared = Rc::new((Lock::new(0), Condition::new()));
            let log = Log::default();
            let mut tasks = Vec::new();
            for name in ["first", "second", "third"] {
                let (shared, log) = (shared.clone(), log.clone());
                tasks.push(begun(async move {
                    let guard = shared.0.acquire().await.expect("nobody cancels");
                    let BufResult(waited, mut guard) = shared.1.wait(guard).await;
                    waited.expect("nobody cancels");
                    *guard += 1;
                    log.push(name);
                })
                .await);
            }
            let (lock, condition) = &*shared;
            assert!(!lock.locked(), "they wait without it");
            condition.notify(1);
            until(|| *lock.try_acquire().expect("free by now") == 1).await;
            assert_eq!(log.take(), ["first"]);
            condition.notify_all();
            join_all(tasks).await;
            assert_eq!(log.take(), ["second", "third"]);
        });
    }

    fn b146_condition_under_a_limit_times_out_with_the_lock(world) {
        world.run(async {
            let (lock, condition) = (Lock::new(7), Condition::new());
            let guard = lock.acquire().await.expect("it is free");
            let BufResult(waited, guard) = wait_for(condition.wait(guard), world.short(1)).await;
            assert!(is_time_out(&error_of(waited)));
            assert!(lock.locked());
            assert_eq!(*guard, 7);
        });
    }

    fn b147_condition_that_is_cancelled_takes_the_lock_again_before_it_says_so(world) {
        world.run(async {
            let shared = Rc::new((Lock::new(()), Condition::new()));
            let inside = shared.clone();
            let task = begun(async move {
                let guard = inside.0.acquire().await.expect("it is free");
                let BufResult(waited, _guard) = inside.1.wait(guard).await;
                assert!(inside.0.locked());
                waited
            })
            .await;
            let held = shared.0.acquire().await.expect("it is free");
            task.cancel_with("enough");
            sleep(MS).await.expect("nobody cancels");
            assert!(!task.done(), "the lock is not free");
            task.cancel(); // Shielded: the first one comes out.
            drop(held);
            assert_eq!(error_of(task.await).to_string(), "cancelled: enough");
            assert!(!shared.0.locked());
        });
    }

    fn notification_of_a_waiter_that_is_dropped_goes_to_the_next(world) {
        world.run(async {
            let (lock, condition) = (Lock::new(()), Condition::new());
            let mut first = Box::pin(condition.wait(lock.acquire().await.expect("it is free")));
            assert!(poll_once(&mut first).await.is_pending());
            let mut second = Box::pin(condition.wait(lock.acquire().await.expect("it is free")));
            assert!(poll_once(&mut second).await.is_pending());
            condition.notify(1);
            let held = lock.acquire().await.expect("it is free");
            assert!(poll_once(&mut first).await.is_pending(), "it waits for the lock");
            drop(first);
            drop(held);
            second.await.0.expect("it was passed on");
        });
    }

    fn b156_queue_gives_in_order_and_waits_for_room(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(2));
            let puts = queue.clone();
            let producer = begun(async move {
                for n in 0..100 {
                    puts.put(n).await.expect("nobody shuts it down");
                }
            })
            .await;
            assert!(queue.full() && !producer.done());
            for n in 0..100 {
                assert_eq!(queue.get().await.expect("it comes"), n);
            }
            producer.await;
            assert!(queue.is_empty());
        });
    }

    fn b158_get_that_is_cancelled_leaves_the_item_to_the_next(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(0));
            let gets = |queue: &Rc<Queue<u8>>| {
                let queue = queue.clone();
                begun(async move { queue.get().await })
            };
            let (first, second) = (gets(&queue).await, gets(&queue).await);
            first.cancel();
            queue.put(7).await.expect("there is room");
            assert!(is_cancelled(&error_of(first.await)));
            assert_eq!(second.await.expect("it is the next"), 7);
            // One that has been told to look before is not stopped by a request (C1).
            let third = gets(&queue).await;
            queue.try_put(8).expect("there is room");
            third.cancel();
            assert_eq!(third.await.expect("C1"), 8);
        });
    }

    fn b159_put_that_is_cancelled_gives_the_item_back(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(1));
            queue.put("in").await.expect("there is room");
            let puts = queue.clone();
            let task = begun(async move { puts.put("out").await }).await;
            task.cancel();
            let failed = task.await.expect_err("there was no room");
            assert!(is_cancelled(&failed.error));
            assert_eq!(failed.item, "out");
            let full = queue.try_put("out").expect_err("it is full");
            assert_eq!(full.error.kind(), std::io::ErrorKind::WouldBlock);
            assert_eq!(queue.try_get(), Some("in"));
            assert_eq!(queue.try_get(), None);
        });
    }

    fn b163_queue_that_is_shut_down_gives_what_it_has_and_then_says_so(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(2));
            queue.put(1).await.expect("there is room");
            queue.put(2).await.expect("there is room");
            let puts = queue.clone();
            let late = begun(async move { puts.put(3).await }).await;
            queue.shutdown(false);
            let refused = late.await.expect_err("shut down");
            assert_eq!(refused.item, 3);
            assert_eq!(queue.get().await.expect("it is in"), 1);
            assert_eq!(queue.get().await.expect("it is in"), 2);
            let error = error_of(queue.get().await);
            assert!(error.get_ref().is_some_and(|inner| inner.is::<QueueShutDown>()));
            let other = Rc::new(Queue::<u8>::new(0));
            let gets = other.clone();
            let waits = begun(async move { gets.get().await }).await;
            other.put(1).await.expect("there is room");
            assert_eq!(waits.await.expect("it came"), 1);
            other.put(2).await.expect("there is room");
            other.shutdown(true);
            assert!(other.get().await.is_err() && other.is_empty());
        });
    }

    fn loop_over_a_queue_ends_with_its_shutdown_and_not_with_a_request(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(0));
            queue.put(1).await.expect("there is room");
            let gets = queue.clone();
            let task = begun(async move {
                let mut got = Vec::new();
                while let Some(item) = gets.next().await? {
                    got.push(item);
                }
                coring::ok(got)
            })
            .await;
            let gets = queue.clone();
            let stopped = begun(async move { gets.next().await }).await;
            stopped.cancel();
            assert!(is_cancelled(&error_of(stopped.await)));
            queue.put(2).await.expect("there is room");
            queue.shutdown(false);
            assert_eq!(task.await.expect("it was shut down"), [1, 2]);
        });
    }

    fn b162_join_of_a_queue_waits_until_all_is_done(world) {
        world.run(async {
            let queue = Rc::new(Queue::new(0));
            queue.join().await.expect("nothing was put");
            for n in 0..3 {
                queue.put(n).await.expect("there is room");
            }
            let joins = queue.clone();
            let task = begun(async move { joins.join().await }).await;
            for _ in 0..3 {
                assert!(!task.done());
                queue.get().await.expect("it is in");
                queue.task_done();
                yield_now().await.expect("nobody cancels");
            }
            task.await.expect("nobody cancels");
            let often = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.task_done()));
            assert!(often.is_err());
        });
    }

    fn b155_other_queues_have_other_orders(world) {
        world.run(async {
            let (least, latest) = (PriorityQueue::new(0), LifoQueue::new(0));
            for n in [2, 3, 1] {
                least.put(n).await.expect("there is room");
                latest.put(n).await.expect("there is room");
            }
            for (first, last) in [(1, 1), (2, 3), (3, 2)] {
                assert_eq!(least.get().await.expect("it is in"), first);
                assert_eq!(latest.get().await.expect("it is in"), last);
            }
        });
    }

    fn waiter_that_outlives_its_runner_is_told(world) {
        let lock = Lock::new(());
        let mut runner = world.runner();
        let held = runner.run(lock.acquire()).expect("it is free");
        let mut waits = Box::pin(lock.acquire());
        runner.run(async { assert!(poll_once(&mut waits).await.is_pending()) });
        drop(runner);
        let over = (&mut waits).now_or_never().expect("R9");
        let text = over.map(drop).expect_err("the runner has ended").to_string();
        assert!(text.contains("has ended"), "{text}");
        drop(held);
        assert!(!lock.locked());
    }

    fn b151_barrier_lets_so_many_go_on_with_a_number_each(world) {
        world.run(async {
            let barrier = Rc::new(Barrier::new(3));
            for _ in 0..3 {
                let mut tasks = Vec::new();
                for n in 0..3 {
                    let waits = barrier.clone();
                    tasks.push(begun(async move { waits.wait().await }).await);
                    assert_eq!(barrier.waiting(), if n < 2 { n + 1 } else { 0 });
                }
                let mut numbers = Vec::new();
                for task in tasks {
                    numbers.push(task.await.expect("all came"));
                }
                numbers.sort_unstable();
                assert_eq!(numbers, [0, 1, 2]);
            }
        });
    }

    fn b151_tasks_that_come_while_others_go_on_wait_for_the_next_round(world) {
        world.run(async {
            let barrier = Rc::new(Barrier::new(2));
            let mut tasks = Vec::new();
            for _ in 0..5 {
                let waits = barrier.clone();
                tasks.push(create_task(async move { waits.wait().await }));
            }
            yield_now().await.expect("nobody cancels");
            until(|| tasks.iter().filter(|task| task.done()).count() == 4).await;
            assert_eq!(barrier.waiting(), 1);
            barrier.wait().await.expect("the fifth waits");
            for task in tasks {
                task.await.expect("all came");
            }
        });
    }

    fn b152_barrier_is_not_broken_by_one_that_is_cancelled(world) {
        world.run(async {
            let barrier = Rc::new(Barrier::new(2));
            let waits = barrier.clone();
            let task = begun(async move { waits.wait().await }).await;
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            assert!(!barrier.broken());
            let waits = barrier.clone();
            let task = begun(async move { waits.wait().await }).await;
            assert_eq!(barrier.wait().await.expect("two came"), 1);
            assert_eq!(task.await.expect("two came"), 0);
        });
    }

    fn b153_reset_has_those_who_wait_give_up(world) {
        world.run(async {
            let barrier = Rc::new(Barrier::new(3));
            let waits = barrier.clone();
            let task = begun(async move { waits.wait().await }).await;
            barrier.reset();
            assert_eq!(error_of(task.await).to_string(), "the barrier was aborted or reset");
            assert!(!barrier.broken());
            let all = gather!(barrier.wait(), barrier.wait(), barrier.wait()).await;
            all.expect("it begins anew");
        });
    }

    fn b154_abort_breaks_a_barrier_until_it_is_reset(world) {
        world.run(async {
            let barrier = Rc::new(Barrier::new(2));
            let waits = barrier.clone();
            let task = begun(async move { waits.wait().await }).await;
            barrier.abort();
            error_of(task.await);
            error_of(barrier.wait().await);
            assert!(barrier.broken());
            barrier.reset();
            gather!(barrier.wait(), barrier.wait()).await.expect("it begins anew");
        });
    }

    fn b149_bounded_semaphore_is_not_released_more_often_than_acquired(world) {
        world.run(async {
            let semaphore = BoundedSemaphore::new(2);
            let text = error_of(semaphore.release(1)).to_string();
            assert!(text.contains("more often than it was acquired"), "{text}");
            semaphore.acquire().await.expect("there are two").forget();
            let permit = semaphore.acquire().await.expect("there is one");
            // The permit goes back by itself.
            error_of(semaphore.release(2));
            drop(permit);
            semaphore.release(1).expect("it was kept from going back");
            assert_eq!(semaphore.available(), 2);
            error_of(semaphore.release(1));
        });
    }

    fn permit_that_a_wakers_clone_gives_back_is_not_missed(world) {
        world.run(async {
            let lock = Lock::new(());
            let held = lock.acquire().await.expect("it is free");
            let hook = Hook::new(move || drop(held));
            let mut wait = Box::pin(lock.acquire());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&hook.on_clone())).is_ready());
            let queue = Queue::new(0);
            let hook = Hook::new(|| queue.try_put(1).expect("there is room"));
            let mut wait = Box::pin(queue.get());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&hook.on_clone())).is_ready());
        });
    }

    fn shutdown_tells_all_though_more_was_done_than_got_and_a_drop_panics(world) {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0, "a bomb");
            }
        }
        world.run(async {
            let queue = Queue::new(0);
            for n in 0..2 {
                queue.put(n).await.expect("there is room");
                queue.task_done();
            }
            queue.shutdown(true);
            let queue = Rc::new(Queue::new(1));
            queue.put(Bomb(true)).await.expect("there is room");
            let puts = queue.clone();
            let putter = begun(async move { puts.put(Bomb(false)).await.is_err() }).await;
            let shuts = std::panic::AssertUnwindSafe(|| queue.shutdown(true));
            std::panic::catch_unwind(shuts).expect_err("a drop panicked");
            assert!(putter.await, "it was told");
        });
    }

    fn condition_that_takes_its_lock_again_goes_on_on_another_runner(world) {
        let (lock, changed) = (Lock::new(()), Condition::new());
        let (mut wait, mut held) = (None, None);
        let mut first = world.runner();
        first.run(async {
            let guard = lock.acquire().await.expect("it is free");
            let mut waits = Box::pin(changed.wait(guard));
            assert!(poll_once(&mut waits).await.is_pending());
            held = Some(lock.acquire().await.expect("it is free"));
            changed.notify(1);
            assert!(poll_once(&mut waits).await.is_pending(), "it takes the lock again");
            wait = Some(waits);
        });
        let mut second = match &world.kernel {
            Some(_) => Runner::builder().sim(&coring::sim::Kernel::new()).build().expect("sim"),
            None => world.runner(),
        };
        second.run(async {
            let mut waits = wait.take().expect("it waits");
            assert!(poll_once(&mut waits).await.is_pending());
            drop(held.take());
            assert!(timeout(LONG, waits).await.is_ok());
        });
        assert!(!lock.locked());
        finish(second);
        finish(first);
    }
}

/// What a waker of its own runs, once.
struct Hook<'a>(RefCell<Option<Box<dyn FnOnce() + 'a>>>);

impl<'a> Hook<'a> {
    fn new(run: impl FnOnce() + 'a) -> Self {
        Self(RefCell::new(Some(Box::new(run))))
    }

    /// What `data` leads to runs now, if it has not.
    fn run(data: *const ()) {
        // SAFETY: `waker` made it of a hook that outlives it.
        let hook = unsafe { &*data.cast::<Hook<'_>>() };
        let run = hook.0.take();
        if let Some(run) = run {
            run();
        }
    }

    fn waker(&self, vtable: &'static RawWakerVTable) -> Waker {
        // SAFETY: the waker stays on its thread, and these tests drop it, and its clones, before
        // the hook.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(self).cast(), vtable)) }
    }

    /// One that runs it when it is cloned.
    fn on_clone(&self) -> Waker {
        const VTABLE: RawWakerVTable = RawWakerVTable::new(
            |data| {
                Hook::run(data);
                RawWaker::new(Waker::noop().data(), Waker::noop().vtable())
            },
            |_| {},
            |_| {},
            |_| {},
        );
        self.waker(&VTABLE)
    }

    /// One that runs it when it is woken, as an executor would that polls at once.
    fn on_wake(&self) -> Waker {
        const VTABLE: RawWakerVTable = RawWakerVTable::new(
            |data| RawWaker::new(data, &VTABLE),
            Hook::run,
            Hook::run,
            |_| {},
        );
        self.waker(&VTABLE)
    }
}

#[test]
fn notification_between_the_release_of_the_lock_and_the_wait_is_not_lost() {
    let world = World::sim();
    world.run(async {
        let (lock, changed) = (Lock::new(false), Condition::new());
        let guard = lock.acquire().await.expect("it is free");
        let second = RefCell::new(Box::pin(lock.acquire()));
        let hook = Hook::new(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(mut guard)) = second.borrow_mut().as_mut().poll(&mut cx) else {
                panic!("it was granted")
            };
            *guard = true;
            changed.notify_all();
        });
        let waker = hook.on_wake();
        let polled = second
            .borrow_mut()
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        let waited = timeout(LONG, changed.wait_for(guard, |set| *set)).await;
        let BufResult(waited, guard) = waited.expect("it was notified");
        waited.expect("nobody cancels");
        assert!(*guard);
    });
}

#[test]
fn semaphore_has_no_more_permits_than_can_be_counted() {
    let semaphore = Semaphore::new(usize::MAX);
    semaphore.release(1);
    assert_eq!(semaphore.available(), usize::MAX);
}

#[test]
#[should_panic(expected = "a barrier was made for 0 parties")]
fn barrier_of_nobody_says_so() {
    let _alone = World::sim();
    drop(Barrier::new(0));
}
