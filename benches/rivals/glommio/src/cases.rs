//! What glommio has of the cases: all of them. A task runs as soon as it is made.

use std::future::Future;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::channels::local_channel;
use glommio::net::UnixStream;
use glommio::sync::{RwLock, Semaphore};
use glommio::timer::{sleep, timeout};
use rival_cases::{
    Asleep, BUFFER_BYTES, BYTE, CANCELLED, Case, LIMIT, LONG, MANY, Outcome, READ_LIMIT, Rival,
    expect, join, yield_now,
};

struct Glommio;

impl Rival for Glommio {
    fn spawn<T: 'static>(
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        glommio::spawn_local(work)
    }
}

const CASES: [Case; 13] = [
    ("spawn", |n| Box::pin(rival_cases::spawn::<Glommio>(n))),
    ("spawn-many", |n| {
        Box::pin(rival_cases::spawn_many::<Glommio>(n))
    }),
    ("yield", |n| Box::pin(rival_cases::yields::<Glommio>(n))),
    ("gather", |n| Box::pin(rival_cases::gather(n))),
    ("gather-tasks", |n| {
        Box::pin(rival_cases::gather_tasks::<Glommio>(n))
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

pub fn answer() -> Outcome {
    let executor = crate::executor()?;
    rival_cases::answer(&CASES, |work| executor.run(work))
}

async fn timeout_ready(n: u64) -> Outcome {
    let mut sum = 0;
    for i in 0..n {
        sum += timeout(LIMIT, async move { Ok(i) }).await?;
    }
    expect(sum, n * n.saturating_sub(1) / 2)
}

async fn read_ready(n: u64) -> Outcome {
    let (receiver, _, before) = rival_cases::sockets()?;
    let mut receiver = bound(receiver);
    let mut buffer = [0; BUFFER_BYTES];
    for _ in 0..n {
        rival_cases::send(&before)?;
        let read = async { Ok(receiver.read(&mut buffer).await?) };
        expect(timeout(READ_LIMIT, read).await? as u64, 1)?;
    }
    Ok(())
}

async fn read_waits(n: u64) -> Outcome {
    let (receiver, sender, _) = rival_cases::sockets()?;
    let (mut receiver, mut sender) = (bound(receiver), bound(sender));
    let mut buffer = [0; BUFFER_BYTES];
    for _ in 0..n {
        let read = async { Ok(receiver.read(&mut buffer).await?) };
        let (count, sent) = join!(timeout(READ_LIMIT, read), sender.write_all(BYTE));
        sent?;
        expect(count? as u64, 1)?;
    }
    Ok(())
}

fn bound(socket: unix::net::UnixStream) -> UnixStream {
    // SAFETY: the descriptor is an open one that nobody else has any more.
    unsafe { UnixStream::from_raw_fd(socket.into_raw_fd()) }
}

async fn lock(n: u64) -> Outcome {
    let lock = RwLock::new(0_u64);
    for _ in 0..n {
        *lock.write().await? += 1;
    }
    expect(lock.into_inner()?, n)
}

async fn lock_contended(n: u64) -> Outcome {
    let lock = Rc::new(RwLock::new(0_u64));
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let lock = lock.clone();
            glommio::spawn_local(async move {
                for _ in 0..n.div_ceil(MANY) {
                    let mut count = lock.write().await?;
                    yield_now().await;
                    *count += 1;
                }
                glommio::Result::<(), ()>::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    expect(*lock.read().await?, MANY * n.div_ceil(MANY))
}

async fn semaphore(n: u64) -> Outcome {
    let semaphore = Semaphore::new(8);
    for _ in 0..n {
        drop(semaphore.acquire_permit(1).await?);
    }
    expect(semaphore.available(), 8)
}

async fn queue(n: u64) -> Outcome {
    let (ask, asked) = local_channel::new_bounded(1);
    let (answer, answered) = local_channel::new_bounded(1);
    let task = glommio::spawn_local(async move {
        for _ in 0..n {
            let i = asked.recv().await?;
            answer.send(i).await.ok()?;
        }
        Some(())
    });
    let mut sum = 0;
    for i in 0..n {
        ask.send(i).await.map_err(|_| "a channel is closed")?;
        sum += answered.recv().await.ok_or("a channel is closed")?;
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
                glommio::spawn_local(async move {
                    asleep.sleeps();
                    sleep(LONG).await;
                })
                .detach()
            })
            .collect();
        asleep.all().await;
        for task in &tasks {
            task.cancel();
        }
        for task in tasks {
            if task.await.is_some() {
                return Err("it was cancelled".into());
            }
        }
    }
    Ok(())
}
