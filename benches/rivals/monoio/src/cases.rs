//! What monoio has of the cases: tasks, its timeouts and reads. It has no locks, no channels, and
//! cancels operations only, not tasks.

use std::future::{Future, ready};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::UnixStream;
use monoio::time::timeout;
use monoio::{IoUringDriver, RuntimeBuilder};
use rival_cases::{BUFFER_BYTES, BYTE, Case, LIMIT, Outcome, READ_LIMIT, Rival, expect, join};

struct Monoio;

impl Rival for Monoio {
    fn spawn<T: 'static>(
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        monoio::spawn(work)
    }
}

const CASES: [Case; 8] = [
    ("spawn", |n| Box::pin(rival_cases::spawn::<Monoio>(n))),
    ("spawn-many", |n| {
        Box::pin(rival_cases::spawn_many::<Monoio>(n))
    }),
    ("yield", |n| Box::pin(rival_cases::yields::<Monoio>(n))),
    ("gather", |n| Box::pin(rival_cases::gather(n))),
    ("gather-tasks", |n| {
        Box::pin(rival_cases::gather_tasks::<Monoio>(n))
    }),
    ("timeout", |n| Box::pin(timeout_ready(n))),
    ("read-ready", |n| Box::pin(read_ready(n))),
    ("read-waits", |n| Box::pin(read_waits(n))),
];

pub fn answer() -> Outcome {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(crate::ring())
        .with_entries(1024)
        .enable_timer()
        .build()?;
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
        let (count, filled) = timeout(READ_LIMIT, receiver.read(buffer)).await?;
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
        let (read, (sent, _)) = join!(read, sender.write(BYTE));
        sent?;
        let (count, filled) = read?;
        expect(count? as u64, 1)?;
        buffer = filled;
    }
    Ok(())
}
