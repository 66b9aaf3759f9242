//! The first of several futures.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::branches::{
    Branches2, Branches3, Branches4, Branches5, Branches6, Branches7, Branches8,
};
use super::{Branches, Futures, Many, OnFirst};

/// Awaits the first of two to eight futures to end.
///
/// The others are asked to stop and waited for until they have: what they came to, the error of
/// that or a result after all, with its buffer, is in [`Raced::late`], so nothing is lost. Tasks
/// among them, given by value or by `&mut`, are left running. If several are ready at once the
/// first in the list wins.
///
/// In a loop, look at `late` as well: what a loser took out of a queue in the same moment, or a
/// connection that it accepted, is there. And a future that has lost is over, also one that was
/// given by `&mut`: for what is to go on from one round to the next, make a task and give
/// `&mut task`.
///
/// All of them run in the task that awaits them, so they may borrow from it. A future that knows
/// nothing of coring is dropped when it has lost.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping the futures.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{is_cancelled, race, sleep, winner::Of2};
///
/// # coring::run(async {
/// let fast = async { 7 };
/// let slow = sleep(Duration::from_secs(60));
/// let raced = race!(fast, slow).await;
/// assert!(matches!(raced.winner, Of2::First(7)));
/// let (_, slow) = raced.late;
/// assert!(is_cancelled(&slow.unwrap().unwrap_err()));
/// # });
/// ```
#[macro_export]
macro_rules! race {
    ($($future:expr),+ $(,)?) => {
        $crate::race_tuple(($($future,)+))
    };
}

/// What [`race!`](crate::race!) calls.
#[doc(hidden)]
pub fn race<F: Futures>(futures: F) -> Race<F::Branches> {
    Race {
        branches: futures.into_branches(),
        first: None,
    }
}

/// How a race ended: see [`race!`](crate::race!).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what the losers came to is in `late`, and may be an item or a connection"]
pub struct Raced<W, L> {
    /// Who was first, and what it came to: an enum of [`winner`].
    pub winner: W,
    /// A tuple of what each of the others came to when it was stopped. `None` at the winner's
    /// place, and for what was dropped.
    pub late: L,
}

pin_project! {
    /// Several futures, of which the first is awaited: see [`race!`](crate::race!).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Race<B> {
        #[pin]
        branches: B,
        first: Option<usize>,
    }
}

impl<B> Future for Race<B>
where
    B: Branches<OnFirst> + Racers,
{
    type Output = Raced<B::Winner, B::Late>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ready!(this.branches.as_mut().poll_all(cx, this.first));
        Poll::Ready(this.branches.end(*this.first))
    }
}

/// Branches that race.
pub trait Racers {
    #[doc(hidden)]
    type Winner;
    #[doc(hidden)]
    type Late;
    #[doc(hidden)]
    fn end(self: Pin<&mut Self>, first: Option<usize>) -> Raced<Self::Winner, Self::Late>;
}

/// The type, whatever is beside it.
macro_rules! of {
    ($type:ident $place:ident) => {
        $type
    };
}

macro_rules! racers {
    ($($branches:ident $winner:ident $count:literal: $(($place:tt $future:ident $variant:ident))+;)+) => {
        /// Who was first in a [`race!`](crate::race!).
        pub mod winner {
            $(
                #[doc = concat!("Which of ", $count, " was first, with what it came to.")]
                #[derive(Clone, Copy, Debug, PartialEq, Eq)]
                #[expect(missing_docs, reason = "places in a list")]
                pub enum $winner<$($future),+> {
                    $($variant($future),)+
                }
            )+
        }

        $(
            impl<T> winner::$winner<$(of!(T $future)),+> {
                /// What it came to, whichever it was.
                pub fn into_inner(self) -> T {
                    match self {
                        $(Self::$variant(output) => output,)+
                    }
                }
            }

            impl<$($future: Future),+> Racers for $branches<$($future),+> {
                type Winner = winner::$winner<$($future::Output),+>;
                type Late = ($(Option<$future::Output>,)+);

                fn end(self: Pin<&mut Self>, first: Option<usize>) -> Raced<Self::Winner, Self::Late> {
                    let this = self.project();
                    let mut late = ($(this.$future.take(),)+);
                    $(
                        if first == Some($place)
                            && let Some(output) = late.$place.take()
                        {
                            let winner = winner::$winner::$variant(output);
                            return Raced { winner, late };
                        }
                    )+
                    unreachable!("all are over, so one was first")
                }
            }
        )+
    };
}

racers! {
    Branches2 Of2 "two": (0 A First) (1 B Second);
    Branches3 Of3 "three": (0 A First) (1 B Second) (2 C Third);
    Branches4 Of4 "four": (0 A First) (1 B Second) (2 C Third) (3 D Fourth);
    Branches5 Of5 "five": (0 A First) (1 B Second) (2 C Third) (3 D Fourth) (4 E Fifth);
    Branches6 Of6 "six": (0 A First) (1 B Second) (2 C Third) (3 D Fourth) (4 E Fifth) (5 F Sixth);
    Branches7 Of7 "seven": (0 A First) (1 B Second) (2 C Third) (3 D Fourth) (4 E Fifth) (5 F Sixth) (6 G Seventh);
    Branches8 Of8 "eight": (0 A First) (1 B Second) (2 C Third) (3 D Fourth) (4 E Fifth) (5 F Sixth) (6 G Seventh) (7 H Eighth);
}

/// Awaits the first of any number of futures to end: [`race!`](crate::race!) for futures of one
/// type.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping the futures.
///
/// # Panics
/// If there are no futures: none would ever be first.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{race_all, sleep};
///
/// # coring::run(async {
/// let raced = race_all([60, 0, 60].map(|s| sleep(Duration::from_secs(s)))).await;
/// assert_eq!(raced.winner.0, 1);
/// assert!(raced.late.iter().all(|(_, stopped)| stopped.is_err()));
/// # });
/// ```
#[track_caller]
pub fn race_all<F: Future>(futures: impl IntoIterator<Item = F>) -> RaceAll<F> {
    let many = Many::new(futures);
    assert!(
        !many.outputs.is_empty(),
        "`race_all` was given no futures, and would wait for ever: ask first whether there are any"
    );
    RaceAll { many }
}

/// Any number of futures, of which the first is awaited: see [`race_all`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct RaceAll<F: Future> {
    many: Many<F>,
}

/// How a race of any number ended: see [`race_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what the losers came to is in `late`, and may be an item or a connection"]
pub struct RacedAll<T> {
    /// Which was first, counted from zero, and what it came to.
    pub winner: (usize, T),
    /// What the others came to when they were stopped, but for those that were dropped.
    pub late: Vec<(usize, T)>,
}

// The futures are pinned where `FuturesUnordered` has them.
impl<F: Future> Unpin for RaceAll<F> {}

impl<F: Future> Future for RaceAll<F> {
    type Output = RacedAll<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let many = &mut self.many;
        ready!(many.poll_all::<OnFirst>(cx));
        let first = many.first.expect("all are over, so one was first");
        let output = many.outputs[first]
            .take()
            .expect("the winner has an output");
        let late = many.outputs.drain(..).enumerate();
        Poll::Ready(RacedAll {
            winner: (first, output),
            late: late
                .filter_map(|(place, late)| Some((place, late?)))
                .collect(),
        })
    }
}
