//! What smol has of the cases: all of them. Its locks and channels are made for threads.

use std::future::{Future, ready};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rival_cases::{
    Asleep, BUFFER_BYTES, BYTE, CANCELLED, Case, LIMIT, LONG, MANY, Outcome, READ_LIMIT, Rival,
    expect, join, join_all,
};
use smol::future::{or, yield_now};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::{Mutex, Semaphore};
use smol::net::unix::UnixStream;
use smol::{LocalExecutor, Task, Timer, channel};

struct Smol;

impl Rival for Smol {
    fn spawn<T: 'static>(
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        executor().spawn(work)
    }
}

const CASES: [Case; 13] = [
    ("spawn", |n| Box::pin(rival_cases::spawn::<Smol>(n))),
    ("spawn-many", |n| {
        Box::pin(rival_cases::spawn_many::<Smol>(n))
    }),
    ("yield", |n| Box::pin(rival_cases::yields::<Smol>(n))),
    ("gather", |n| Box::pin(rival_cases::gather(n))),
    ("gather-tasks", |n| {
        Box::pin(rival_cases::gather_tasks::<Smol>(n))
    }),
    ("timeout", |n| Box::pin(timeout_ready(n))),
    ("read-ready", |n| Box::pin(read_ready(n))),
    ("read-waits", |n| Box::pin(read_waits(n))),
    ("lock", |n| Box::pin(lock(n))),
    ("contended", |n| Box::pin(lock_contended(n))),
    ("semaphore", |n| Box::pin(semaphore(n))),
    ("queue", |n| Box::pin(queue(n))),
    ("cancel", |n| Box::pin(cancel(n))),
];

/// This thread's executor, which tasks that live as long as it can have.
fn executor() -> &'static LocalExecutor<'static> {
    thread_local! {
        static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::default());
    }
    EXECUTOR.with(|executor| *executor)
}

pub fn answer() -> Outcome {
    rival_cases::answer(&CASES, |work| smol::block_on(executor().run(work)))
}

async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> io::Result<T> {
    or(async { Ok(work.await) }, async {
        Timer::after(limit).await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await
}

async fn timeout_ready(n: u64) -> Outcome {
    let mut sum = 0;
    for i in 0..n {
        sum += timeout(LIMIT, ready(i)).await?;
    }
    expect(sum, n * n.saturating_sub(1) / 2)
}

async fn read_ready(n: u64) -> Outcome {
    let (receiver, _, before) = rival_cases::sockets()?;
    let mut receiver = UnixStream::try_from(receiver)?;
    let mut buffer = [0; BUFFER_BYTES];
    for _ in 0..n {
        rival_cases::send(&before)?;
        let count = timeout(READ_LIMIT, receiver.read(&mut buffer)).await??;
        expect(count as u64, 1)?;
    }
    Ok(())
}

async fn read_waits(n: u64) -> Outcome {
    let (receiver, sender, _) = rival_cases::sockets()?;
    let mut receiver = UnixStream::try_from(receiver)?;
    let mut sender = UnixStream::try_from(sender)?;
    let mut buffer = [0; BUFFER_BYTES];
    for _ in 0..n {
        let read = timeout(READ_LIMIT, receiver.read(&mut buffer));
        let (count, sent) = join!(read, sender.write_all(BYTE));
        sent?;
        expect(count?? as u64, 1)?;
    }
    Ok(())
}

async fn lock(n: u64) -> Outcome {
    let lock = Mutex::new(0_u64);
    for _ in 0..n {
        *lock.lock().await += 1;
    }
    expect(lock.into_inner(), n)
}

async fn lock_contended(n: u64) -> Outcome {
    let lock = Rc::new(Mutex::new(0_u64));
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let lock = lock.clone();
            executor().spawn(async move {
                for _ in 0..n.div_ceil(MANY) {
                    let mut count = lock.lock().await;
                    yield_now().await;
                    *count += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    expect(*lock.lock().await, MANY * n.div_ceil(MANY))
}

async fn semaphore(n: u64) -> Outcome {
    let semaphore = Semaphore::new(8);
    for _ in 0..n {
        drop(semaphore.acquire().await);
    }
    expect(semaphore.available_permits() as u64, 8)
}

async fn queue(n: u64) -> Outcome {
    let (ask, asked) = channel::bounded(1);
    let (answer, answered) = channel::bounded(1);
    let task = executor().spawn(async move {
        for _ in 0..n {
            let i = asked.recv().await.ok()?;
            answer.send(i).await.ok()?;
        }
        Some(())
    });
    let mut sum = 0;
    for i in 0..n {
        ask.send(i).await?;
        sum += answered.recv().await?;
    }
    task.await.ok_or("a channel is closed")?;
    expect(sum, n * n.saturating_sub(1) / 2)
}

async fn cancel(n: u64) -> Outcome {
    for _ in 0..n.div_ceil(CANCELLED) {
        let asleep = Asleep::default();
        let tasks: Vec<_> = (0..CANCELLED)
            .map(|_| {
                let asleep = asleep.clone();
                executor().spawn(async move {
                    asleep.sleeps();
                    Timer::after(LONG).await;
                })
            })
            .collect();
        asleep.all().await;
        let done = join_all(tasks.into_iter().map(Task::cancel)).await;
        if done.iter().any(Option::is_some) {
            return Err("it was cancelled".into());
        }
    }
    Ok(())
}
