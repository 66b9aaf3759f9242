//! Tasks that belong together, and what they share: groups, gathers, locks, queues, cancels.
//!
//! coring's in [`ours`], tokio's in [`theirs`]: a `LocalSet` on one thread, `tokio::sync`, and what
//! `tokio-util` has for groups.

/// Tasks of a group, futures of a gather, waiters of a lock.
pub const MANY: u64 = 1_000;
/// Tasks that are cancelled in one turn.
pub const CANCELLED: u64 = 10_000;

/// On coring.
pub mod ours {
    use std::cell::Cell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    use coring::sync::{Lock, Queue, Semaphore};
    use coring::{Runner, create_task, gather_all, sleep, task_group, yield_now};

    use super::{CANCELLED, MANY};

    /// A group of [`MANY`] tasks, made and awaited.
    ///
    /// # Errors
    ///
    /// None.
    pub fn group(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            for _ in 0..n.div_ceil(MANY) {
                task_group(async |g| {
                    for i in 0..MANY {
                        g.create_task(async move { io::Result::Ok(i) });
                    }
                    Ok(())
                })
                .await?;
            }
            Ok(())
        })
    }

    /// A gather of [`MANY`] futures that yield once.
    ///
    /// # Errors
    ///
    /// None.
    pub fn gather(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            for _ in 0..n.div_ceil(MANY) {
                gather_all((0..MANY).map(|_| yield_now())).await?;
            }
            Ok(())
        })
    }

    /// A gather of [`MANY`] tasks.
    ///
    /// # Errors
    ///
    /// None.
    pub fn gather_tasks(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            for _ in 0..n.div_ceil(MANY) {
                gather_all((0..MANY).map(|i| create_task(async move { io::Result::Ok(i) })))
                    .await?;
            }
            Ok(())
        })
    }

    /// A lock that nobody else wants.
    ///
    /// # Errors
    ///
    /// None.
    pub fn lock(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            let lock = Lock::new(0_u64);
            for _ in 0..n {
                *lock.acquire().await? += 1;
            }
            Ok(())
        })
    }

    /// A lock that [`MANY`] tasks want, each of which holds it across a yield.
    ///
    /// # Errors
    ///
    /// None.
    pub fn lock_contended(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            let lock = Rc::new(Lock::new(0_u64));
            let tasks = (0..MANY).map(|_| {
                let lock = lock.clone();
                create_task(async move {
                    for _ in 0..n.div_ceil(MANY) {
                        let mut count = lock.acquire().await?;
                        yield_now().await?;
                        *count += 1;
                    }
                    io::Result::Ok(())
                })
            });
            let tasks: Vec<_> = tasks.collect();
            for task in tasks {
                task.await?;
            }
            Ok(())
        })
    }

    /// A semaphore that nobody else wants.
    ///
    /// # Errors
    ///
    /// None.
    pub fn semaphore(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            let semaphore = Semaphore::new(8);
            for _ in 0..n {
                drop(semaphore.acquire().await?);
            }
            Ok(())
        })
    }

    /// Round trips over two queues with room for one.
    ///
    /// # Errors
    ///
    /// None.
    pub fn queue(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            let queues = Rc::new((Queue::new(1), Queue::new(1)));
            let answers = queues.clone();
            let task = create_task(async move {
                for _ in 0..n {
                    answers.1.put(answers.0.get().await?).await?;
                }
                io::Result::Ok(())
            });
            for i in 0..n {
                queues.0.put(i).await?;
                queues.1.get().await?;
            }
            task.await
        })
    }

    /// Tasks that sleep, all cancelled in one turn once all of them sleep, and awaited.
    ///
    /// # Errors
    ///
    /// None.
    pub fn cancel(runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(async {
            for _ in 0..n.div_ceil(CANCELLED) {
                let asleep = Rc::new(Cell::new(0));
                let tasks: Vec<_> = (0..CANCELLED)
                    .map(|_| {
                        let asleep = asleep.clone();
                        create_task(async move {
                            asleep.set(asleep.get() + 1);
                            sleep(Duration::from_secs(3_600)).await
                        })
                    })
                    .collect();
                while asleep.get() < CANCELLED {
                    yield_now().await?;
                }
                for task in &tasks {
                    task.cancel();
                }
                for task in tasks {
                    if task.await.is_ok() {
                        return Err(io::Error::other("it was cancelled"));
                    }
                }
            }
            Ok(())
        })
    }
}

/// On tokio.
pub mod theirs {
    use std::cell::Cell;
    use std::io;
    use std::rc::Rc;
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::runtime::Runtime;
    use tokio::sync::{Mutex, Semaphore, mpsc};
    use tokio::task::{JoinSet, LocalSet, spawn_local, yield_now};
    use tokio_util::sync::CancellationToken;

    use super::{CANCELLED, MANY};

    /// A `JoinSet` of [`MANY`] tasks, made and awaited.
    ///
    /// # Errors
    ///
    /// None.
    pub fn group((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            for _ in 0..n.div_ceil(MANY) {
                let mut set = JoinSet::new();
                for i in 0..MANY {
                    set.spawn_local(async move { io::Result::Ok(i) });
                }
                while let Some(done) = set.join_next().await {
                    std::hint::black_box(done??);
                }
            }
            Ok(())
        })
    }

    /// A `join_all` of [`MANY`] futures that yield once.
    ///
    /// # Errors
    ///
    /// None.
    pub fn gather((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            for _ in 0..n.div_ceil(MANY) {
                join_all((0..MANY).map(|_| yield_now())).await;
            }
            Ok(())
        })
    }

    /// A `join_all` of [`MANY`] tasks.
    ///
    /// # Errors
    ///
    /// None.
    pub fn gather_tasks((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            for _ in 0..n.div_ceil(MANY) {
                for done in join_all((0..MANY).map(|i| spawn_local(async move { i }))).await {
                    std::hint::black_box(done?);
                }
            }
            Ok(())
        })
    }

    /// A mutex that nobody else wants.
    ///
    /// # Errors
    ///
    /// None.
    pub fn lock((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            let lock = Mutex::new(0_u64);
            for _ in 0..n {
                *lock.lock().await += 1;
            }
            Ok(())
        })
    }

    /// A mutex that [`MANY`] tasks want, each of which holds it across a yield.
    ///
    /// # Errors
    ///
    /// None.
    pub fn lock_contended((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            let lock = Rc::new(Mutex::new(0_u64));
            let tasks = (0..MANY).map(|_| {
                let lock = lock.clone();
                spawn_local(async move {
                    for _ in 0..n.div_ceil(MANY) {
                        let mut count = lock.lock().await;
                        yield_now().await;
                        *count += 1;
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            for task in tasks {
                task.await?;
            }
            Ok(())
        })
    }

    /// A semaphore that nobody else wants.
    ///
    /// # Errors
    ///
    /// None.
    pub fn semaphore((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            let semaphore = Semaphore::new(8);
            for _ in 0..n {
                drop(semaphore.acquire().await.map_err(io::Error::other)?);
            }
            Ok(())
        })
    }

    /// Round trips over two channels with room for one.
    ///
    /// # Errors
    ///
    /// If one is closed.
    pub fn queue((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        let closed = || io::Error::other("a channel is closed");
        local.block_on(runtime, async {
            let (ask, mut asked) = mpsc::channel(1);
            let (answer, mut answered) = mpsc::channel(1);
            let task = spawn_local(async move {
                for _ in 0..n {
                    let i = asked.recv().await?;
                    answer.send(i).await.ok()?;
                }
                Some(())
            });
            for i in 0..n {
                ask.send(i).await.map_err(|_| closed())?;
                answered.recv().await.ok_or_else(closed)?;
            }
            task.await?.ok_or_else(closed)
        })
    }

    /// Tasks that sleep, all told by one token in one turn, and awaited.
    ///
    /// A `LocalSet` polls 61 tasks a turn, so that one yield would not let all of them sleep.
    ///
    /// # Errors
    ///
    /// None.
    pub fn cancel((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            for _ in 0..n.div_ceil(CANCELLED) {
                let asleep = Rc::new(Cell::new(0));
                let token = CancellationToken::new();
                let tasks: Vec<_> = (0..CANCELLED)
                    .map(|_| {
                        let (asleep, token) = (asleep.clone(), token.clone());
                        spawn_local(async move {
                            asleep.set(asleep.get() + 1);
                            tokio::select! {
                                () = token.cancelled() => true,
                                () = tokio::time::sleep(Duration::from_secs(3_600)) => false,
                            }
                        })
                    })
                    .collect();
                while asleep.get() < CANCELLED {
                    yield_now().await;
                }
                token.cancel();
                for task in tasks {
                    if !task.await? {
                        return Err(io::Error::other("it was cancelled"));
                    }
                }
            }
            Ok(())
        })
    }

    /// The same by `abort`, which drops them.
    ///
    /// # Errors
    ///
    /// None.
    pub fn abort((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
        local.block_on(runtime, async {
            for _ in 0..n.div_ceil(CANCELLED) {
                let asleep = Rc::new(Cell::new(0));
                let tasks: Vec<_> = (0..CANCELLED)
                    .map(|_| {
                        let asleep = asleep.clone();
                        spawn_local(async move {
                            asleep.set(asleep.get() + 1);
                            tokio::time::sleep(Duration::from_secs(3_600)).await;
                        })
                    })
                    .collect();
                while asleep.get() < CANCELLED {
                    yield_now().await;
                }
                for task in &tasks {
                    task.abort();
                }
                for task in tasks {
                    if task.await.is_ok() {
                        return Err(io::Error::other("it was aborted"));
                    }
                }
            }
            Ok(())
        })
    }
}
