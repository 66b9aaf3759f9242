//! On coring.

use std::io;
use std::time::Duration;

use coring::{
    Cqe, Operation, Request, Runner, Scratch, create_task, sleep, submit, timeout, wait_for,
    yield_now,
};

use super::pingpong::{self, local};
use super::{BATCH, YIELDERS};

/// Does nothing, through the kernel.
struct Nop;

// SAFETY: the request points at nothing.
unsafe impl Operation for Nop {
    type Output = io::Result<u32>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(io_uring::opcode::Nop::CODE, -1)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result()
    }

    fn orphaned(self, _: Cqe) {}
}

/// NOPs of `batch` tasks, one after the other in each.
///
/// # Errors
///
/// What the ring answers.
pub fn nops(runner: &mut Runner, batch: u64, n: u64) -> io::Result<()> {
    runner.run(async {
        let each = n.div_ceil(batch);
        let tasks: Vec<_> = (0..batch)
            .map(|_| {
                create_task(async move {
                    for _ in 0..each {
                        submit(Nop).await?;
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

/// Makes a task and awaits it, one by one.
///
/// # Errors
///
/// None.
pub fn spawn(runner: &mut Runner, n: u64) -> io::Result<()> {
    let sum = runner.run(async {
        let mut sum = 0;
        for i in 0..n {
            sum += create_task(async move { i }).await;
        }
        sum
    });
    expect(sum, n * n.saturating_sub(1) / 2)
}

/// Makes tasks a thousand at a time, then awaits them.
///
/// # Errors
///
/// None.
pub fn spawn_batch(runner: &mut Runner, n: u64) -> io::Result<()> {
    runner.run(async {
        let mut tasks = Vec::with_capacity(BATCH as usize);
        for _ in 0..n.div_ceil(BATCH) {
            tasks.extend((0..BATCH).map(|i| create_task(async move { i })));
            let mut sum = 0;
            for task in tasks.drain(..) {
                sum += task.await;
            }
            expect(sum, BATCH * (BATCH - 1) / 2)?;
        }
        Ok(())
    })
}

/// Makes `n` tasks, then awaits them all.
///
/// # Errors
///
/// None.
pub fn spawn_all(runner: &mut Runner, n: u64) -> io::Result<()> {
    let sum = runner.run(async {
        let tasks: Vec<_> = (0..n).map(|i| create_task(async move { i })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    expect(sum, n * n.saturating_sub(1) / 2)
}

/// Yields among a thousand tasks.
///
/// # Errors
///
/// If a yield is refused.
pub fn yields(runner: &mut Runner, n: u64) -> io::Result<()> {
    runner.run(async {
        let tasks: Vec<_> = (0..YIELDERS)
            .map(|_| {
                create_task(async move {
                    for _ in 0..n.div_ceil(YIELDERS) {
                        yield_now().await?;
                    }
                    io::Result::Ok(())
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
pub fn pingpong(runner: &mut Runner, n: u64) -> io::Result<()> {
    runner.run(async {
        let (mut ping, pong) = pingpong::ends();
        let answering = create_task(pingpong::answer(pong));
        create_task(async move { pingpong::ask(&mut ping, n).await }).await?;
        answering.await
    })
}

/// Round trips between two tasks over queues that stay on their thread.
///
/// # Errors
///
/// If a number is lost.
pub fn pingpong_local(runner: &mut Runner, n: u64) -> io::Result<()> {
    runner.run(async {
        let (ping, pong) = local::ends();
        let answering = create_task(local::answer(pong, n));
        create_task(local::ask(ping, n)).await?;
        answering.await;
        Ok(())
    })
}

/// A limit around a future that is ready.
///
/// # Errors
///
/// If it expires.
pub fn timeout_ready(runner: &mut Runner, n: u64) -> io::Result<()> {
    runner.run(async {
        let mut sum = 0;
        for i in 0..n {
            sum += timeout(Duration::from_secs(10), std::future::ready(i)).await?;
        }
        expect(sum, n * n.saturating_sub(1) / 2)
    })
}

/// A limit around a future that is woken without the loop sleeping, or no limit for comparison.
///
/// # Errors
///
/// If it expires.
pub fn timeout_woken(runner: &mut Runner, limited: bool, n: u64) -> io::Result<()> {
    runner.run(async {
        for _ in 0..n {
            if limited {
                wait_for(yield_now(), Duration::from_secs(10)).await?;
            } else {
                yield_now().await?;
            }
        }
        Ok(())
    })
}

/// Sleeps of `span`, all at once.
///
/// # Errors
///
/// If one is refused.
pub fn sleeps(runner: &mut Runner, span: Duration, n: u64) -> io::Result<()> {
    runner.run(async {
        let tasks: Vec<_> = (0..n)
            .map(|_| create_task(async move { sleep(span).await }))
            .collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

fn expect(sum: u64, expected: u64) -> io::Result<()> {
    if sum == expected {
        Ok(())
    } else {
        Err(io::Error::other("a task gave another output"))
    }
}
