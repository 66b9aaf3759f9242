//! Every future and guard of groups, combinators and locks, dropped and forgotten in every state
//! that it has; then its task is asked to stop, and the runtime ends (C9, R13). Leak checkers are
//! switched off for this file.
#![allow(clippy::mem_forget, reason = "that is what is tested")]

mod common;

use std::future::pending;
use std::io;
use std::mem::forget;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring_runtime::sync::*;
use coring_runtime::*;

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

fn boxed(future: impl Future + 'static) -> Boxed {
    Box::pin(async move { drop(future.await) })
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn day() -> Timer {
    Timer::after(Duration::from_secs(86_400))
}

/// What a future waits for, made anew for each go.
#[derive(Default)]
struct Shared {
    lock: Lock<u32>,
    event: Event,
    condition: Condition,
    semaphore: Option<Semaphore>,
    full: Option<Queue<u32>>,
    empty: Option<Queue<u32>>,
    barrier: Option<Barrier>,
}

impl Shared {
    fn new() -> Rc<Self> {
        let full = Queue::new(1);
        full.try_put(1).expect("there is room");
        Rc::new(Self {
            semaphore: Some(Semaphore::new(0)),
            full: Some(full),
            empty: Some(Queue::new(1)),
            barrier: Some(Barrier::new(2)),
            ..Self::default()
        })
    }

    /// What those wait for comes, so that they are in their next state.
    fn let_go(&self) {
        self.event.set();
        self.condition.notify_all();
        let (semaphore, full, empty, barrier) =
            (&self.semaphore, &self.full, &self.empty, &self.barrier);
        if let (Some(semaphore), Some(full), Some(empty), Some(barrier)) =
            (semaphore, full, empty, barrier)
        {
            semaphore.release(1);
            full.try_get();
            let _ = empty.try_put(2);
            barrier.reset();
        }
    }
}

type Make = fn(Rc<Shared>) -> Boxed;

/// Each kind of future, waiting for what is in `shared`, whose lock is held by somebody.
fn makes() -> Vec<(&'static str, Make)> {
    vec![
        ("lock", |s| {
            boxed(async move { s.lock.acquire().await.map(|mut n| *n += 1) })
        }),
        ("event", |s| boxed(async move { s.event.wait().await })),
        ("semaphore", |s| {
            boxed(async move { s.semaphore.as_ref()?.acquire().await.ok().map(drop) })
        }),
        ("put", |s| {
            boxed(async move { s.full.as_ref()?.put(3).await.ok() })
        }),
        ("get", |s| {
            boxed(async move { s.empty.as_ref()?.get().await.ok() })
        }),
        ("join", |s| {
            boxed(async move { s.full.as_ref()?.join().await.ok() })
        }),
        ("barrier", |s| {
            boxed(async move { s.barrier.as_ref()?.wait().await.ok() })
        }),
        ("group", |s| {
            boxed(task_group(async move |g: TaskGroup<io::Error>| {
                let waits = s.clone();
                g.create_task(async move { waits.event.wait().await });
                g.create_task(day());
                s.event.wait().await
            }))
        }),
        ("group that drains", |s| {
            boxed(task_group(async move |g: TaskGroup<io::Error>| {
                g.create_task(async move { s.event.wait().await });
                Ok(())
            }))
        }),
        ("start", |s| {
            boxed(task_group(async move |g: TaskGroup<io::Error>| {
                let started = g.start(async move |ready: Started<u32>| {
                    s.event.wait().await?;
                    ready.set(7);
                    day().await
                });
                started.await.map(drop)
            }))
        }),
        ("gather", |s| {
            boxed(async move {
                gather!(
                    async { s.event.wait().await },
                    day(),
                    cancellable(pending::<()>())
                )
                .await
                .map(drop)
            })
        }),
        ("return_exceptions", |s| {
            boxed(async move {
                gather!(async { s.event.wait().await }, day())
                    .return_exceptions()
                    .await
            })
        }),
        ("gather_all", |s| {
            boxed(gather_all((0..3).map(move |_| {
                let waits = s.clone();
                async move { waits.event.wait().await }
            })))
        }),
        ("race", |s| {
            boxed(
                async move { race!(async { s.event.wait().await }, pending::<()>(), day()).await },
            )
        }),
        ("race_all", |s| {
            boxed(race_all((0..3).map(move |n| {
                let waits = s.clone();
                async move {
                    if n == 1 {
                        waits.event.wait().await
                    } else {
                        day().await
                    }
                }
            })))
        }),
        ("wait", |s| {
            boxed(async move {
                let mut tasks = vec![
                    create_task(async move { s.event.wait().await }),
                    create_task(async { day().await }),
                ];
                wait(&mut tasks, ReturnWhen::AllCompleted, None)
                    .await
                    .map(drop)
            })
        }),
        ("as_completed", |s| {
            boxed(async move {
                let mut tasks = [create_task(async move { s.event.wait().await })];
                as_completed(&mut tasks).next().await.map(drop)
            })
        }),
        ("shield", |s| {
            boxed(async move {
                let mut task = create_task(async move { s.event.wait().await });
                shield(&mut task).await.map(drop)
            })
        }),
        ("shielded", |s| {
            boxed(shielded(async move { s.event.wait().await }))
        }),
        ("cancellable", |s| {
            boxed(cancellable(async move { s.event.wait().await }))
        }),
        ("limit", |s| {
            boxed(within(Duration::from_secs(3_600), async move {
                s.event.wait().await
            }))
        }),
    ]
}

/// Polls it so often, with a turn between, drops or forgets it, and ends.
async fn part(future: Boxed, polls: u32, drops: bool, shared: Rc<Shared>) {
    let mut future = future;
    for poll in 0..polls {
        if poll == 1 {
            shared.let_go(); // From here on it may have been granted, and not know yet.
        }
        if poll != 1 && poll_here(&mut future).await.is_ready() {
            return;
        }
        yield_now().await.ok();
    }
    if drops {
        drop(future);
    } else {
        forget(future);
    }
    day().await.ok();
}

#[test]
fn c9_futures_dropped_or_forgotten_in_every_state_harm_nobody() {
    for (name, make) in makes() {
        for polls in 0..4 {
            for drops in [true, false] {
                let world = World::sim();
                let mut runner = world.runner();
                let shared = Shared::new();
                let (lent, seen) = (shared.clone(), shared.clone());
                runner.run(async move {
                    let held = lent.lock.try_acquire().expect("it is free");
                    let future = make(lent.clone());
                    let task = create_task(part(future, polls, drops, lent.clone()));
                    for _ in 0..6 {
                        yield_now().await.expect("nobody cancels");
                    }
                    drop(held);
                    task.cancel();
                    // The simulated kernel answers when the loop waits.
                    for _ in 0..4 {
                        Timer::after(ms(1)).await.expect("nobody cancels");
                    }
                    assert!(task.done(), "{name}, {polls} polls");
                });
                // The others are asked, and clean up.
                runner.close();
                if drops {
                    let lock = seen.lock.try_acquire();
                    assert!(lock.is_some(), "{name}, {polls} polls: the lock is free");
                    drop(lock);
                    drop(seen);
                    assert_eq!(
                        Rc::strong_count(&shared),
                        1,
                        "{name}, {polls} polls: all is gone"
                    );
                }
            }
        }
    }
}

#[test]
fn c9_guards_that_are_forgotten_harm_nobody_else() {
    let world = World::sim();
    let mut runner = world.runner();
    runner.run(async {
        let lock = Lock::new(7);
        forget(lock.acquire().await.expect("it is free"));
        assert!(lock.try_acquire().is_none());
        let semaphore = Semaphore::new(2);
        forget(semaphore.acquire().await.expect("it is free"));
        assert_eq!(semaphore.available(), 1);
        let waits = Rc::new((Lock::new(0), Condition::new()));
        let theirs = waits.clone();
        let task = create_task(async move {
            let (lock, condition) = &*theirs;
            let guard = lock.acquire().await?;
            let mut wait = Box::pin(condition.wait(guard));
            let _ = poll_here(&mut wait).await;
            forget(wait);
            io::Result::Ok(())
        });
        task.await.expect("nobody cancels");
        // The lock was given back before the wait.
        *waits.0.try_acquire().expect("it is free") += 1;
        waits.1.notify_all();
        let task = create_task(task_group(async |g: TaskGroup<io::Error>| {
            forget(g.clone());
            forget(g.create_task(day()));
            Ok(())
        }));
        yield_now().await.expect("nobody cancels");
        task.cancel();
        assert!(is_cancelled(&task.await.expect_err("cancelled")));
    });
    runner.close();
}
