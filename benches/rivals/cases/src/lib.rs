//! Cases that `together --rivals` has a rival do, and those that are the same on each of them.
//!
//! Each performs `n` operations, and checks or counts what they gave, so that none is left out. The
//! work is that of `benches/src/cases`.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time and stands outside every runtime"
)]

use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use futures_lite::future::yield_now;
pub use futures_util::future::join_all;
pub use futures_util::join;

/// Tasks that are there at once, futures of a gather, waiters of a lock.
pub const MANY: u64 = 1_000;
/// Tasks that are cancelled in one turn.
pub const CANCELLED: u64 = 10_000;
/// How long these sleep, if nobody cancels them.
pub const LONG: Duration = Duration::from_secs(3_600);
/// A limit that does not pass.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The same, around a read.
pub const READ_LIMIT: Duration = Duration::from_secs(1);
/// What is read.
pub const BYTE: &[u8] = &[7];
/// What it is read into.
pub const BUFFER_BYTES: usize = 64;

pub type Outcome = Result<(), Box<dyn Error>>;

/// What `together` calls it, and the work of that many operations.
pub type Case = (
    &'static str,
    fn(u64) -> Pin<Box<dyn Future<Output = Outcome>>>,
);

/// What the shared cases need of a runtime.
pub trait Rival {
    /// Starts a task.
    fn spawn<T: 'static>(
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static;
}

/// Whether this program is to do cases.
pub fn asked() -> bool {
    std::env::args().any(|argument| argument == "--cases")
}

/// What this program does with a connection, if it has no cases to do.
#[derive(Clone, Copy)]
pub enum Welcome {
    Echo,
    /// Nothing: it is closed by whoever has accepted it.
    Close,
    /// A task writes a byte and closes it.
    Answer,
}

/// As the arguments say: `--close`, `--answer`, or none.
pub fn welcome() -> Welcome {
    let told = |word: &str| std::env::args().any(|argument| argument == word);
    match () {
        () if told("--close") => Welcome::Close,
        () if told("--answer") => Welcome::Answer,
        () => Welcome::Echo,
    }
}

/// Bytes of a connection's buffer: what stands behind `--buffer`, or 16 KiB.
pub fn buffer_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let mut arguments = std::env::args().skip_while(|argument| argument != "--buffer");
        let told = arguments.nth(1).and_then(|bytes| bytes.parse().ok());
        told.unwrap_or(16 * 1024)
    })
}

/// Says which cases there are, then does them as told: a line `NAME COUNT` is answered by a line
/// `CPU_NS WALL_NS`. Between two of them this thread sleeps, outside its runtime.
pub fn answer(
    cases: &[Case],
    mut run: impl FnMut(Pin<Box<dyn Future<Output = Outcome>>>) -> Outcome,
) -> Outcome {
    let names: Vec<_> = cases.iter().map(|(name, _)| *name).collect();
    println!("cases {}", names.join(" "));
    for line in io::stdin().lines() {
        let line = line?;
        let (name, count) = line.split_once(' ').ok_or("no count")?;
        let (_, case) = cases
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or("no such case")?;
        let count = count.parse()?;
        let (began, before) = (Instant::now(), own_process_ns()?);
        run(case(count))?;
        let (cpu_ns, wall_ns) = (own_process_ns()? - before, began.elapsed().as_nanos());
        println!("{cpu_ns} {wall_ns}");
    }
    Ok(())
}

/// Makes a task and awaits it, one by one.
pub async fn spawn<R: Rival>(n: u64) -> Outcome {
    let mut sum = 0;
    for i in 0..n {
        sum += R::spawn(async move { i }).await;
    }
    expect(sum, n * n.saturating_sub(1) / 2)
}

/// Makes tasks a thousand at a time, then awaits them.
pub async fn spawn_many<R: Rival>(n: u64) -> Outcome {
    let mut tasks = Vec::with_capacity(MANY as usize);
    for _ in 0..n.div_ceil(MANY) {
        tasks.extend((0..MANY).map(|i| R::spawn(async move { i })));
        let mut sum = 0;
        for task in tasks.drain(..) {
            sum += task.await;
        }
        expect(sum, MANY * (MANY - 1) / 2)?;
    }
    Ok(())
}

/// Yields among a thousand tasks.
pub async fn yields<R: Rival>(n: u64) -> Outcome {
    let each = n.div_ceil(MANY);
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            R::spawn(async move {
                let mut yielded = 0;
                for _ in 0..each {
                    yield_now().await;
                    yielded += 1;
                }
                yielded
            })
        })
        .collect();
    let mut yielded = 0;
    for task in tasks {
        yielded += task.await;
    }
    expect(yielded, MANY * each)
}

/// A `join_all` of futures that yield once.
pub async fn gather(n: u64) -> Outcome {
    for _ in 0..n.div_ceil(MANY) {
        let done = join_all((0..MANY).map(|_| yield_now())).await;
        expect(done.len() as u64, MANY)?;
    }
    Ok(())
}

/// A `join_all` of tasks.
pub async fn gather_tasks<R: Rival>(n: u64) -> Outcome {
    for _ in 0..n.div_ceil(MANY) {
        let done = join_all((0..MANY).map(|i| R::spawn(async move { i }))).await;
        expect(done.iter().sum(), MANY * (MANY - 1) / 2)?;
    }
    Ok(())
}

/// How many tasks sleep, as far as they have said so. Each holds a clone until it is dropped.
#[derive(Clone, Default)]
pub struct Asleep(Rc<Cell<u64>>);

impl Asleep {
    /// Counts a task, which sleeps from here on.
    pub fn sleeps(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Waits until all that are to be cancelled sleep: in one turn, some runtimes poll 61 tasks.
    pub async fn all(&self) {
        while self.0.get() < CANCELLED {
            yield_now().await;
        }
    }

    /// Waits until all are dropped, where a runtime tells of a cancel before it has dropped the
    /// task.
    pub async fn gone(&self) {
        while Rc::strong_count(&self.0) > 1 {
            yield_now().await;
        }
    }
}

/// Two ends of a socket, and the second one once more for bytes that are there before a read
/// begins.
pub fn sockets() -> io::Result<(UnixStream, UnixStream, UnixStream)> {
    let (receiver, sender) = UnixStream::pair()?;
    let before = sender.try_clone()?;
    Ok((receiver, sender, before))
}

/// Sends what a ready read finds.
pub fn send(mut before: &UnixStream) -> io::Result<()> {
    before.write_all(BYTE)
}

/// Fails unless the figures are the same.
pub fn expect(found: u64, expected: u64) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} instead of {expected}").into())
    }
}

/// CPU time of all threads of this process.
fn own_process_ns() -> io::Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
