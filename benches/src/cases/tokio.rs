//! On tokio's `current_thread` runtime.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use super::pingpong::{self, local};
use super::{BATCH, YIELDERS};

/// A runtime, with a set of tasks that stay on its thread as coring's do.
///
/// # Errors
///
/// If it cannot be built.
pub fn runtime() -> io::Result<(Runtime, LocalSet)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok((runtime, LocalSet::new()))
}

/// Makes a task and awaits it, one by one.
///
/// # Errors
///
/// None.
pub fn spawn((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let mut sum = 0;
        for i in 0..n {
            sum += spawn_local(async move { i }).await?;
        }
        std::hint::black_box(sum);
        Ok(())
    })
}

/// Makes tasks a thousand at a time, then awaits them.
///
/// # Errors
///
/// None.
pub fn spawn_batch((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let mut tasks = Vec::with_capacity(BATCH as usize);
        for _ in 0..n.div_ceil(BATCH) {
            tasks.extend((0..BATCH).map(|i| spawn_local(async move { i })));
            let mut sum = 0;
            for task in tasks.drain(..) {
                sum += task.await?;
            }
            std::hint::black_box(sum);
        }
        Ok(())
    })
}

/// As [`spawn`], with tasks that might go to other threads.
///
/// # Errors
///
/// None.
pub fn spawn_sent((runtime, _): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    runtime.block_on(async {
        let mut sum = 0;
        for i in 0..n {
            sum += tokio::spawn(async move { i }).await?;
        }
        std::hint::black_box(sum);
        Ok(())
    })
}

/// As [`spawn_batch`], with tasks that might go to other threads.
///
/// # Errors
///
/// None.
pub fn spawn_batch_sent((runtime, _): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    runtime.block_on(async {
        let mut tasks = Vec::with_capacity(BATCH as usize);
        for _ in 0..n.div_ceil(BATCH) {
            tasks.extend((0..BATCH).map(|i| tokio::spawn(async move { i })));
            let mut sum = 0;
            for task in tasks.drain(..) {
                sum += task.await?;
            }
            std::hint::black_box(sum);
        }
        Ok(())
    })
}

/// Makes `n` tasks, then awaits them all.
///
/// # Errors
///
/// None.
pub fn spawn_all((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let tasks: Vec<_> = (0..n).map(|i| spawn_local(async move { i })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await?;
        }
        std::hint::black_box(sum);
        Ok(())
    })
}

/// Yields among a thousand tasks.
///
/// # Errors
///
/// None.
pub fn yields((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let tasks: Vec<_> = (0..YIELDERS)
            .map(|_| {
                spawn_local(async move {
                    for _ in 0..n.div_ceil(YIELDERS) {
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

/// Round trips between two tasks over `futures-channel`'s queues.
///
/// # Errors
///
/// If a number is lost.
pub fn pingpong((runtime, local): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let (mut ping, pong) = pingpong::ends();
        let answering = spawn_local(pingpong::answer(pong));
        spawn_local(async move { pingpong::ask(&mut ping, n).await }).await??;
        answering.await?
    })
}

/// Round trips between two tasks over queues that stay on their thread.
///
/// # Errors
///
/// If a number is lost.
pub fn pingpong_local((runtime, set): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    set.block_on(runtime, async {
        let (ping, pong) = local::ends();
        let answering = spawn_local(local::answer(pong, n));
        spawn_local(local::ask(ping, n)).await??;
        answering.await?;
        Ok(())
    })
}

/// A limit around a future that is ready.
///
/// # Errors
///
/// If it expires.
pub fn timeout_ready((runtime, _): &(Runtime, LocalSet), n: u64) -> io::Result<()> {
    runtime.block_on(async {
        let mut sum = 0;
        for i in 0..n {
            sum += timeout(Duration::from_secs(10), std::future::ready(i)).await?;
        }
        std::hint::black_box(sum);
        Ok(())
    })
}

/// A limit around a future that is woken without the loop sleeping, or no limit for comparison.
///
/// # Errors
///
/// If it expires.
pub fn timeout_woken((runtime, _): &(Runtime, LocalSet), limited: bool, n: u64) -> io::Result<()> {
    runtime.block_on(async {
        for _ in 0..n {
            if limited {
                timeout(Duration::from_secs(10), yield_now()).await?;
            } else {
                yield_now().await;
            }
        }
        Ok(())
    })
}

/// Sleeps of `span`, all at once.
///
/// # Errors
///
/// None.
pub fn sleeps((runtime, local): &(Runtime, LocalSet), span: Duration, n: u64) -> io::Result<()> {
    local.block_on(runtime, async {
        let tasks: Vec<_> = (0..n)
            .map(|_| spawn_local(async move { sleep(span).await }))
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}
