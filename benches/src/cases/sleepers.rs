//! Very many sleeps: what it costs to arm them, to let them fire and to cancel them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::str::FromStr;
use std::task::Poll;
use std::time::{Duration, Instant};

use coring::{Runner, Timers};
use hdrhistogram::Histogram;

use super::tokio as theirs;
use crate::harness::cpu::own_process_ns;

/// Of how many sleeps one is asked how late it came: a look at the clock costs as much as a sleep.
const ASKED: u64 = 16;
/// More than a minute late is a minute late.
const LATENESS_MAX: u64 = 60_000_000_000;
/// Turns in which what was cancelled must have ended.
const TURNS_MAX: u32 = 100_000;

/// Who keeps the sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// coring, in this mode.
    Coring(Timers),
    /// tokio's `current_thread` runtime.
    Tokio,
}

/// All keepers, in the order of the tables.
pub const KEEPERS: [Keeper; 4] = [
    Keeper::Coring(Timers::Auto),
    Keeper::Coring(Timers::Kernel),
    Keeper::Coring(Timers::Heap),
    Keeper::Tokio,
];

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keeper::Coring(timers) => write!(f, "coring-{timers:?}"),
            Keeper::Tokio => f.write_str("tokio"),
        }
    }
}

impl FromStr for Keeper {
    type Err = String;

    fn from_str(name: &str) -> Result<Keeper, String> {
        let named = |keeper: &Keeper| keeper.to_string() == name;
        KEEPERS
            .into_iter()
            .find(named)
            .ok_or_else(|| format!("nobody is called {name}"))
    }
}

/// Which of the armed sleeps is cancelled next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one that was armed first.
    OldestFirst,
    /// The one that was armed last.
    NewestFirst,
    /// Any, from a fixed seed.
    Random,
}

impl Order {
    fn of(self, n: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n as usize).collect();
        match self {
            Order::OldestFirst => {}
            Order::NewestFirst => order.reverse(),
            Order::Random => fastrand::Rng::with_seed(2).shuffle(&mut order),
        }
        order
    }
}

/// What sleeps that fired have cost.
#[derive(Debug)]
pub struct Fired {
    /// CPU time until each had been polled.
    pub arm_ns: u64,
    /// CPU time from then to the last one's end.
    pub fire_ns: u64,
    /// How much later than asked they came, in nanoseconds.
    pub lateness: Histogram<u64>,
}

/// What the tasks of one measurement share.
struct Bell {
    armed: Cell<u64>,
    lateness: RefCell<Histogram<u64>>,
}

impl Bell {
    fn new() -> io::Result<Rc<Bell>> {
        let lateness = Histogram::new_with_bounds(1, LATENESS_MAX, 3).map_err(io::Error::other)?;
        Ok(Rc::new(Bell {
            armed: Cell::new(0),
            lateness: RefCell::new(lateness),
        }))
    }

    fn ring(&self) {
        self.armed.set(self.armed.get() + 1);
    }

    async fn sleep<F: Future>(self: Rc<Self>, span: Duration, sleep: impl FnOnce(Duration) -> F) {
        self.ring();
        black_box(sleep(span).await);
    }

    /// As [`Bell::sleep`], and takes down how late it was. A task of its own kind, since what it
    /// has to remember takes memory.
    async fn sleep_asked<F: Future>(
        self: Rc<Self>,
        span: Duration,
        sleep: impl FnOnce(Duration) -> F,
    ) {
        self.ring();
        let due = Instant::now() + span;
        black_box(sleep(span).await);
        let late = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lateness.borrow_mut().saturating_record(late);
    }
}

/// `n` tasks, of which each sleeps for 1 to 1,000 ms, at once.
///
/// # Errors
///
/// If a runtime cannot be made, or fails.
pub fn fire(keeper: Keeper, n: u64) -> io::Result<Fired> {
    let bell = Bell::new()?;
    let mut random = fastrand::Rng::with_seed(1);
    let spans = std::iter::repeat_with(move || Duration::from_micros(random.u64(1_000..1_000_000)));
    let jobs = spans.zip(0..n);
    let [begin, armed, end] = match keeper {
        Keeper::Coring(timers) => coring_fire(timers, &bell, jobs, n)?,
        Keeper::Tokio => tokio_fire(&bell, jobs, n)?,
    };
    let lateness = bell.lateness.borrow().clone();
    Ok(Fired {
        arm_ns: armed - begin,
        fire_ns: end - armed,
        lateness,
    })
}

fn coring_fire(
    timers: Timers,
    bell: &Rc<Bell>,
    jobs: impl Iterator<Item = (Duration, u64)>,
    n: u64,
) -> io::Result<[u64; 3]> {
    let mut runner = Runner::builder().timers(timers).build()?;
    runner.run(async {
        let begin = own_process_ns()?;
        let tasks: Vec<_> = jobs
            .map(|(span, number)| {
                let bell = Rc::clone(bell);
                if number.is_multiple_of(ASKED) {
                    coring::create_task(bell.sleep_asked(span, coring::sleep))
                } else {
                    coring::create_task(bell.sleep(span, coring::sleep))
                }
            })
            .collect();
        for _ in 0..=n {
            if bell.armed.get() == n {
                break;
            }
            coring::yield_now().await?;
        }
        let armed = own_process_ns()?;
        for task in tasks {
            task.await;
        }
        Ok([begin, armed, own_process_ns()?])
    })
}

fn tokio_fire(
    bell: &Rc<Bell>,
    jobs: impl Iterator<Item = (Duration, u64)>,
    n: u64,
) -> io::Result<[u64; 3]> {
    let (runtime, set) = theirs::runtime()?;
    set.block_on(&runtime, async {
        let begin = own_process_ns()?;
        let tasks: Vec<_> = jobs
            .map(|(span, number)| {
                let bell = Rc::clone(bell);
                if number.is_multiple_of(ASKED) {
                    tokio::task::spawn_local(bell.sleep_asked(span, tokio::time::sleep))
                } else {
                    tokio::task::spawn_local(bell.sleep(span, tokio::time::sleep))
                }
            })
            .collect();
        for _ in 0..=n {
            if bell.armed.get() == n {
                break;
            }
            tokio::task::yield_now().await;
        }
        let armed = own_process_ns()?;
        for task in tasks {
            task.await?;
        }
        Ok([begin, armed, own_process_ns()?])
    })
}

/// Arms `n` sleeps of an hour and more, then drops them in `order`: the CPU time of each half.
///
/// # Errors
///
/// If a runtime cannot be made, or does not take them back.
pub fn cancel(keeper: Keeper, n: u64, order: Order) -> io::Result<(u64, u64)> {
    let order = order.of(n);
    match keeper {
        Keeper::Coring(timers) => {
            let mut group = Coring::new(timers, 0)?;
            let begin = own_process_ns()?;
            let mut sleeps: Vec<_> = (0..n)
                .map(|number| Some(Box::pin(coring::sleep(far(number)))))
                .collect();
            group.runner.run(poll_once(&mut sleeps));
            let armed = own_process_ns()?;
            for place in order {
                sleeps[place] = None;
            }
            group.settle()?;
            Ok((armed - begin, own_process_ns()? - armed))
        }
        Keeper::Tokio => {
            let (runtime, _) = theirs::runtime()?;
            let begin = own_process_ns()?;
            let mut sleeps: Vec<_> = {
                let _entered = runtime.enter();
                let sleeps = (0..n).map(|number| Some(Box::pin(tokio::time::sleep(far(number)))));
                sleeps.collect()
            };
            runtime.block_on(tokio::task::unconstrained(poll_once(&mut sleeps)));
            let armed = own_process_ns()?;
            for place in order {
                sleeps[place] = None;
            }
            runtime.block_on(tokio::task::yield_now());
            Ok((armed - begin, own_process_ns()? - armed))
        }
    }
}

/// An hour, and a little more each time.
fn far(number: u64) -> Duration {
    Duration::from_secs(3_600) + Duration::from_micros(number * 7_919 % 1_000_000)
}

/// Polls each once, with a waker that need not be used.
async fn poll_once<F: Future>(sleeps: &mut [Option<Pin<Box<F>>>]) {
    poll_fn(|cx| {
        for sleep in sleeps.iter_mut().flatten() {
            // They are an hour away.
            let _ = sleep.as_mut().poll(cx);
        }
        Poll::Ready(())
    })
    .await;
}

/// coring with some sleeps armed already, beside which others come and go.
#[derive(Debug)]
pub struct Coring {
    _others: Vec<Option<Pin<Box<coring::Timer>>>>,
    runner: Runner,
    in_flight: usize,
}

impl Coring {
    /// With `others` sleeps armed for an hour.
    ///
    /// # Errors
    ///
    /// If there is no ring.
    pub fn new(timers: Timers, others: u64) -> io::Result<Coring> {
        let mut runner = Runner::builder().timers(timers).build()?;
        let mut sleeps: Vec<_> = (0..others)
            .map(|number| Some(Box::pin(coring::sleep(far(number)))))
            .collect();
        runner.run(poll_once(&mut sleeps));
        runner.turn()?;
        let in_flight = runner.stats().in_flight;
        Ok(Coring {
            _others: sleeps,
            runner,
            in_flight,
        })
    }

    /// Arms `N` sleeps, sees that the kernel has what it is to have of them, and drops them; until
    /// there were `n`.
    ///
    /// # Errors
    ///
    /// If the kernel does not give them back.
    pub fn cancel<const N: usize>(&mut self, n: u64) -> io::Result<()> {
        for number in 0..n.div_ceil(N as u64) {
            let mut sleeps: [_; N] = std::array::from_fn(|_| coring::sleep(far(number)));
            self.runner.run(poll_fn(|cx| {
                for sleep in &mut sleeps {
                    // An hour away.
                    let _ = Pin::new(sleep).poll(cx);
                }
                Poll::Ready(())
            }));
            drop(sleeps);
            self.settle()?;
        }
        Ok(())
    }

    /// Arms `N` sleeps of `span` and awaits them, until there were `n`.
    ///
    /// # Errors
    ///
    /// If one fails.
    pub fn fire<const N: usize>(&mut self, span: Duration, n: u64) -> io::Result<()> {
        self.runner.run(async {
            for _ in 0..n.div_ceil(N as u64) {
                let sleeps: [_; N] = std::array::from_fn(|_| coring::sleep(span));
                futures_util::future::try_join_all(sleeps).await?;
            }
            Ok(())
        })
    }

    /// Turns until the kernel has no more than before.
    fn settle(&mut self) -> io::Result<()> {
        for _ in 0..TURNS_MAX {
            self.runner.turn()?;
            if self.runner.stats().in_flight <= self.in_flight {
                return Ok(());
            }
        }
        Err(io::Error::other(
            "sleeps that were cancelled are still in flight",
        ))
    }
}
