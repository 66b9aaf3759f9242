//! All of several futures.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::branches::{
    Branches2, Branches3, Branches4, Branches5, Branches6, Branches7, Branches8,
};
use super::{Branches, Futures, Many, Never, OnError};

/// Awaits all of two to eight futures at once, and gives a tuple of their values, or the first
/// error (asyncio's `gather`).
///
/// At an error the others are asked to stop and waited for until they have: their values go. Tasks
/// among them, given by value or by `&mut`, are left running. A request to stop that comes from
/// further out reaches each of them, tasks too. `gather!(..).return_exceptions()` stops nothing,
/// and gives a tuple of the outputs as they are; it takes futures of any output.
///
/// All of them run in the task that awaits them, so they may borrow from it. A future that knows
/// nothing of coring is dropped when another one fails, or a limit passes.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping the futures.
///
/// # Errors
/// The first error of one of them.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{gather, sleep};
///
/// async fn double(n: u32) -> std::io::Result<u32> {
///     sleep(Duration::from_millis(1)).await?;
///     Ok(2 * n)
/// }
///
/// # coring::run(async {
/// assert_eq!(gather!(double(1), double(2)).await?, (2, 4));
///
/// let bad = async { Err::<(), _>(std::io::Error::other("bad")) };
/// let (two, bad) = gather!(double(1), bad).return_exceptions().await;
/// assert_eq!((two?, bad.unwrap_err().to_string()), (2, "bad".to_owned()));
/// # coring::ok(()) }).unwrap();
/// ```
#[macro_export]
macro_rules! gather {
    ($($future:expr),+ $(,)?) => {
        $crate::gather_tuple(($($future,)+))
    };
}

/// What [`gather!`](crate::gather!) calls.
#[doc(hidden)]
pub fn gather<F: Futures>(futures: F) -> Gather<F::Branches> {
    Gather {
        branches: futures.into_branches(),
        first: None,
    }
}

/// Branches whose outputs are `Result`s with one type of error.
pub trait Values {
    #[doc(hidden)]
    type Values;
    #[doc(hidden)]
    type Error;
    #[doc(hidden)]
    fn values(self: Pin<&mut Self>, first: Option<usize>) -> Result<Self::Values, Self::Error>;
}

/// Branches of any outputs.
pub trait Outputs {
    #[doc(hidden)]
    type Outputs;
    #[doc(hidden)]
    fn outputs(self: Pin<&mut Self>) -> Self::Outputs;
}

macro_rules! outputs {
    ($($name:ident: $(($place:tt $future:ident $value:ident))+;)+) => {
        $(
            impl<Error, $($future, $value),+> Values for $name<$($future),+>
            where
                $($future: Future<Output = Result<$value, Error>>),+
            {
                type Values = ($($value,)+);
                type Error = Error;

                fn values(
                    self: Pin<&mut Self>,
                    first: Option<usize>,
                ) -> Result<Self::Values, Error> {
                    let this = self.project();
                    let outputs = ($(this.$future.take(),)+);
                    $(
                        if first == Some($place)
                            && let Some(Err(error)) = outputs.$place
                        {
                            return Err(error);
                        }
                    )+
                    Ok(($(value(outputs.$place),)+))
                }
            }

            impl<$($future: Future),+> Outputs for $name<$($future),+> {
                type Outputs = ($($future::Output,)+);

                fn outputs(self: Pin<&mut Self>) -> Self::Outputs {
                    let this = self.project();
                    ($(this.$future.take().expect(NOT_STOPPED),)+)
                }
            }
        )+
    };
}

outputs! {
    Branches2: (0 A TA) (1 B TB);
    Branches3: (0 A TA) (1 B TB) (2 C TC);
    Branches4: (0 A TA) (1 B TB) (2 C TC) (3 D TD);
    Branches5: (0 A TA) (1 B TB) (2 C TC) (3 D TD) (4 E TE);
    Branches6: (0 A TA) (1 B TB) (2 C TC) (3 D TD) (4 E TE) (5 F TF);
    Branches7: (0 A TA) (1 B TB) (2 C TC) (3 D TD) (4 E TE) (5 F TF) (6 G TG);
    Branches8: (0 A TA) (1 B TB) (2 C TC) (3 D TD) (4 E TE) (5 F TF) (6 G TG) (7 H TH);
}

const NOT_STOPPED: &str = "a branch is dropped only if it was asked to stop";

/// The value of a branch, where none failed.
fn value<T, E>(output: Option<Result<T, E>>) -> T {
    match output.expect(NOT_STOPPED) {
        Ok(value) => value,
        Err(_) => unreachable!("an error is the first one, or stops"),
    }
}

pin_project! {
    /// Several futures that are awaited at once: see [`gather!`](crate::gather!).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Gather<B> {
        #[pin]
        branches: B,
        first: Option<usize>,
    }
}

impl<B> Gather<B> {
    /// Stops none at an error, and gives a tuple of the outputs as they are.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that of dropping the
    /// futures.
    pub fn return_exceptions(self) -> Settled<B> {
        Settled {
            branches: self.branches,
        }
    }
}

impl<B> Future for Gather<B>
where
    B: Branches<OnError> + Values,
{
    type Output = Result<B::Values, B::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ready!(this.branches.as_mut().poll_all(cx, this.first));
        Poll::Ready(this.branches.values(*this.first))
    }
}

pin_project! {
    /// Several futures, each with its own output: see [`Gather::return_exceptions`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Settled<B> {
        #[pin]
        branches: B,
    }
}

impl<B> Future for Settled<B>
where
    B: Branches<Never> + Outputs,
{
    type Output = B::Outputs;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ready!(this.branches.as_mut().poll_all(cx, &mut None));
        Poll::Ready(this.branches.outputs())
    }
}

/// Awaits all of any number of futures at once, and gives their values in order, or the first
/// error: [`gather!`](crate::gather!) for futures of one type.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect but that of dropping the futures.
///
/// # Errors
/// The first error of one of them.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{create_task, gather_all, sleep};
///
/// # coring::run(async {
/// let tasks = (0..3).map(|n| {
///     create_task(async move {
///         sleep(Duration::from_millis(3 - n)).await?;
///         coring::ok(n)
///     })
/// });
/// assert_eq!(gather_all(tasks).await?, [0, 1, 2]);
/// # coring::ok(()) }).unwrap();
/// ```
pub fn gather_all<F: Future>(futures: impl IntoIterator<Item = F>) -> GatherAll<F> {
    GatherAll {
        many: Many::new(futures),
    }
}

/// Any number of futures that are awaited at once: see [`gather_all`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct GatherAll<F: Future> {
    many: Many<F>,
}

impl<F: Future> GatherAll<F> {
    /// Stops none at an error, and gives the outputs as they are.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect but that of dropping the
    /// futures.
    pub fn return_exceptions(self) -> SettleAll<F> {
        SettleAll { many: self.many }
    }
}

// The futures are pinned where `FuturesUnordered` has them.
impl<F: Future> Unpin for GatherAll<F> {}

impl<F, T, E> Future for GatherAll<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let many = &mut self.many;
        ready!(many.poll_all::<OnError>(cx));
        if let Some(first) = many.first
            && let Some(Err(error)) = many.outputs[first].take()
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(many.outputs.drain(..).map(value).collect()))
    }
}

/// Any number of futures, each with its own output: see [`GatherAll::return_exceptions`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct SettleAll<F: Future> {
    many: Many<F>,
}

// As above.
impl<F: Future> Unpin for SettleAll<F> {}

impl<F: Future> Future for SettleAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.many.poll_all::<Never>(cx));
        let outputs = self.many.outputs.drain(..);
        Poll::Ready(outputs.map(|output| output.expect(NOT_STOPPED)).collect())
    }
}
