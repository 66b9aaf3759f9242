//! What compio has of the cases: tasks, which can be cancelled, its timeouts and reads. It has no
//! locks and no channels.

use std::future::{Future, ready};

use compio::buf::BufResult;
use compio::io::{AsyncRead, AsyncWrite};
use compio::net::UnixStream;
use compio::runtime::ResumeUnwind;
use compio::time::{sleep, timeout};
use futures_util::FutureExt;
use rival_cases::{
    Asleep, BUFFER_BYTES, BYTE, CANCELLED, Case, LIMIT, LONG, Outcome, READ_LIMIT, Rival, expect,
    join,
};

struct Compio;

impl Rival for Compio {
    fn spawn<T: 'static>(
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        compio::runtime::spawn(work).map(|done| done.resume_unwind().expect("nobody cancels it"))
    }
}

const CASES: [Case; 9] = [
    ("spawn", |n| Box::pin(rival_cases::spawn::<Compio>(n))),
    ("spawn-many", |n| {
        Box::pin(rival_cases::spawn_many::<Compio>(n))
    }),
    ("yield", |n| Box::pin(rival_cases::yields::<Compio>(n))),
    ("gather", |n| Box::pin(rival_cases::gather(n))),
    ("gather-tasks", |n| {
        Box::pin(rival_cases::gather_tasks::<Compio>(n))
    }),
    ("timeout", |n| Box::pin(timeout_ready(n))),
    ("read-ready", |n| Box::pin(read_ready(n))),
    ("read-waits", |n| Box::pin(read_waits(n))),
    ("cancel", |n| Box::pin(cancel(n))),
];

pub fn answer() -> Outcome {
    let runtime = crate::runtime()?;
    rival_cases::answer(&CASES, |work| runtime.block_on(work))
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
    let mut receiver = UnixStream::from_std(receiver)?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    for _ in 0..n {
        rival_cases::send(&before)?;
        let BufResult(count, filled) = timeout(READ_LIMIT, receiver.read(buffer)).await?;
        expect(count? as u64, 1)?;
        buffer = filled;
    }
    Ok(())
}

async fn read_waits(n: u64) -> Outcome {
    let (receiver, sender, _) = rival_cases::sockets()?;
    let mut receiver = UnixStream::from_std(receiver)?;
    let mut sender = UnixStream::from_std(sender)?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    for _ in 0..n {
        let read = timeout(READ_LIMIT, receiver.read(buffer));
        let (read, BufResult(sent, _)) = join!(read, sender.write(BYTE));
        sent?;
        let BufResult(count, filled) = read?;
        expect(count? as u64, 1)?;
        buffer = filled;
    }
    Ok(())
}

async fn cancel(n: u64) -> Outcome {
    for _ in 0..n.div_ceil(CANCELLED) {
        let asleep = Asleep::default();
        let tasks: Vec<_> = (0..CANCELLED)
            .map(|_| {
                let asleep = asleep.clone();
                compio::runtime::spawn(async move {
                    asleep.sleeps();
                    sleep(LONG).await;
                })
            })
            .collect();
        asleep.all().await;
        for task in tasks {
            if task.cancel().await.is_some() {
                return Err("it was cancelled".into());
            }
        }
        asleep.gone().await;
    }
    Ok(())
}
