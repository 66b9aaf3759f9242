use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::waiters::Waiters;
use crate::current::BelongsToItsThread;

/// Lets tasks go on together, so many at a time (asyncio's `Barrier`).
///
/// # Examples
///
/// ```
/// use coring::{gather, sync::Barrier};
///
/// coring::run(async {
///     let barrier = Barrier::new(2);
///     let (one, other) = gather!(barrier.wait(), barrier.wait()).await?;
///     assert_eq!(one + other, 1); // Each has a number of its own, 0 and 1.
///     coring::ok(())
/// }).unwrap();
/// ```
pub struct Barrier {
    parties: usize,
    waiters: Waiters,
    round: RefCell<Rc<Round>>,
    broken: Cell<bool>,
    _thread: BelongsToItsThread,
}

/// Those who go on together.
#[derive(Default)]
struct Round {
    /// They were told to give up instead.
    broken: Cell<bool>,
    /// The number of the next to go on.
    next: Cell<usize>,
}

impl Barrier {
    /// One that so many wait at before they go on.
    ///
    /// # Panics
    /// For no parties: nobody would ever go on.
    #[track_caller]
    pub fn new(parties: usize) -> Self {
        assert!(
            parties > 0,
            "a barrier was made for 0 parties: it takes one at least"
        );
        Self {
            parties,
            waiters: Waiters::default(),
            round: RefCell::default(),
            broken: Cell::new(false),
            _thread: BelongsToItsThread::new(),
        }
    }

    /// Waits until all parties wait. Gives each a number of its own, from 0; the last to come gets
    /// the greatest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. Whoever leaves does not break
    /// the barrier: the others wait for one more.
    ///
    /// # Errors
    /// [`BrokenBarrier`] if it is [aborted](Self::abort), or was [reset](Self::reset) meanwhile;
    /// [`Cancelled`](crate::Cancelled) if it is asked to stop, by a limit too.
    pub async fn wait(&self) -> io::Result<usize> {
        let (mut last, mut round) = (false, None);
        // Asked when there is no more user code before this one is in the queue.
        let ready = || {
            if self.broken.get() {
                return true;
            }
            last = self.waiters.len() + 1 >= self.parties;
            if last {
                self.let_go(false);
            } else {
                round = Some(self.round.borrow().clone());
            }
            last
        };
        self.waiters.wait(ready, || ()).await?;
        match round {
            None if last => Ok(self.parties - 1),
            Some(round) if !round.broken.get() => Ok(round.next.replace(round.next.get() + 1)),
            _ => Err(BrokenBarrier.into()),
        }
    }

    /// Those who wait now go on, or give up.
    fn let_go(&self, broken: bool) {
        let round = self.round.take();
        round.broken.set(broken);
        self.waiters.grant_all();
    }

    /// Has all who wait give up, with [`BrokenBarrier`], and begins anew.
    pub fn reset(&self) {
        self.broken.set(false);
        self.let_go(true);
    }

    /// Has all who wait, and all who come, give up, with [`BrokenBarrier`], until it is
    /// [reset](Self::reset).
    pub fn abort(&self) {
        self.broken.set(true);
        self.let_go(true);
    }

    /// How many it takes to go on.
    pub const fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Whether it was [aborted](Self::abort).
    pub const fn broken(&self) -> bool {
        self.broken.get()
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .field("broken", &self.broken())
            .finish()
    }
}

/// The barrier was aborted or reset (asyncio's `BrokenBarrierError`): inside an [`io::Error`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenBarrier;

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier was aborted or reset")
    }
}

impl Error for BrokenBarrier {}

impl From<BrokenBarrier> for io::Error {
    fn from(broken: BrokenBarrier) -> Self {
        Self::other(broken)
    }
}
