//! The one currency of errors: `io::Error`, with a cancellation or a time-out inside.

use std::error::Error;
use std::num::NonZeroU64;
use std::{fmt, io};

use crate::BufResult;
use crate::current;

/// Somebody asked for this work to stop, and it did. Found inside an [`io::Error`] by
/// [`is_cancelled`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled {
    /// What the one who cancelled gave as a reason.
    pub reason: Option<String>,
}

/// A deadline passed before the work was done: inside an [`io::Error`] of kind
/// [`TimedOut`](io::ErrorKind::TimedOut).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut;

/// A transfer of many operations that failed after some of them had succeeded: inside an
/// [`io::Error`], whose kind is that of `source`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Partial {
    /// Bytes that were transferred before the failure; of what goes both ways, those that went there.
    pub transferred: usize,
    /// Those that came back, of what goes both ways.
    pub returned: usize,
    /// What ended the transfer.
    pub source: io::Error,
}

impl Partial {
    /// The error of a transfer that failed with `source` after `transferred` bytes; just
    /// `source` where there were none.
    pub fn error(transferred: usize, source: io::Error) -> io::Error {
        Self::both_ways(transferred, 0, source)
    }

    /// The error of a transfer both ways, of which some went there and some came back.
    pub fn both_ways(transferred: usize, returned: usize, source: io::Error) -> io::Error {
        if transferred == 0 && returned == 0 {
            return source;
        }
        io::Error::new(
            source.kind(),
            Self {
                transferred,
                returned,
                source,
            },
        )
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            None => f.write_str("cancelled"),
            Some(reason) => write!(f, "cancelled: {reason}"),
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

/// What a program prints whose `main` gives the error: more than a name.
impl fmt::Debug for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = "a limit passed before the work was done";
        f.debug_tuple("TimedOut").field(&text).finish()
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transferred,
            returned,
            source,
        } = self;
        match returned {
            0 => write!(f, "{source} (after {transferred} bytes)"),
            _ => write!(
                f,
                "{source} (after {transferred} bytes there, {returned} back)"
            ),
        }
    }
}

impl Error for Cancelled {}
impl Error for TimedOut {}
impl Error for Partial {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> Self {
        // Never ErrorKind::Interrupted, which std retries for ever.
        Self::other(cancelled)
    }
}

impl From<TimedOut> for io::Error {
    fn from(timed_out: TimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, timed_out)
    }
}

/// Whether `error` is, or was caused by, a [cancellation](Cancelled).
///
/// # Examples
///
/// ```
/// use coring::{Cancelled, is_cancelled};
///
/// assert!(is_cancelled(&std::io::Error::from(Cancelled::default())));
/// assert!(!is_cancelled(&std::io::Error::other("no")));
/// ```
pub fn is_cancelled(error: &(dyn Error + 'static)) -> bool {
    caused_by::<Cancelled>(error)
}

/// Whether `error` is, or was caused by, a [time-out](TimedOut) of coring's. An `ETIMEDOUT` of
/// the kernel's is not one.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// use coring::{is_timed_out, sleep, wait_for};
///
/// # coring::run(async {
/// let late = wait_for(sleep(Duration::from_secs(5)), Duration::from_millis(1)).await;
/// assert!(is_timed_out(&late.unwrap_err()));
/// // A connection that the peer no longer answers on: the kernel's word, not a limit's.
/// assert!(!is_timed_out(&std::io::Error::from(std::io::ErrorKind::TimedOut)));
/// # });
/// ```
pub fn is_timed_out(error: &(dyn Error + 'static)) -> bool {
    caused_by::<TimedOut>(error)
}

pub(crate) fn caused_by<C: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<C>())
}

/// The cancellation that an error is, or was caused by.
pub(crate) fn cancellation_in(error: &(dyn Error + 'static)) -> Option<Cancelled> {
    causes(error).find_map(|cause| cause.downcast_ref::<Cancelled>().cloned())
}

/// An error and what caused it, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        // io::Error's own `source` skips the error it holds and gives that one's source.
        let io_error = error.downcast_ref::<io::Error>();
        next = match io_error.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
        Some(error)
    })
}

/// An error type that coring can look into; one line for a type of your own.
///
/// # Examples
///
/// ```
/// #[derive(Debug)]
/// pub enum MyError { Io(std::io::Error), Parse }
/// # impl std::fmt::Display for MyError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("my") }
/// # }
/// impl std::error::Error for MyError {
///     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         match self { MyError::Io(e) => Some(e), MyError::Parse => None }
///     }
/// }
/// impl From<std::io::Error> for MyError {
///     fn from(e: std::io::Error) -> Self { MyError::Io(e) }
/// }
/// impl coring::Failure for MyError {
///     fn as_error(&self) -> &(dyn std::error::Error + 'static) { self }
/// }
/// # let _ = [MyError::Io(std::io::Error::other("")), MyError::Parse];
/// ```
#[diagnostic::on_unimplemented(
    message = "coring cannot look into `{Self}` for a cancellation",
    note = "an error type of your own needs `From<std::io::Error>` and one line: \
            `impl coring::Failure for MyError {{ fn as_error(&self) -> &(dyn std::error::Error + 'static) {{ self }} }}`; \
            a boxed error does as it is, and `anyhow::Error` by the feature `anyhow`"
)]
pub trait Failure: From<io::Error> + 'static {
    /// This failure, as an error whose sources can be followed.
    fn as_error(&self) -> &(dyn Error + 'static);
}

impl Failure for io::Error {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl Failure for Box<dyn Error> {
    fn as_error(&self) -> &(dyn Error + 'static) {
        &**self
    }
}

impl Failure for Box<dyn Error + Send + Sync> {
    fn as_error(&self) -> &(dyn Error + 'static) {
        &**self
    }
}

#[cfg(feature = "anyhow")]
impl Failure for anyhow::Error {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self.as_ref()
    }
}

/// What `wait_for` needs to know of a future's output: a `Result` whose error is a [`Failure`],
/// or a [`BufResult`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that it timed out",
    note = "`wait_for` takes futures that end in a `Result` or a `BufResult`; `timeout` takes any"
)]
pub trait Outcome: Sized {
    /// Whether this is the error of a cancellation.
    fn is_cancelled(&self) -> bool;

    /// The same outcome, with the time-out in the place of its error.
    #[must_use]
    fn timed_out(self) -> Self;

    /// The outcome of a future that was dropped at its deadline: this error. Only a future that
    /// does not know of cancellation is dropped; any other is asked to stop, and waited for until
    /// it has. `None` where there can be no outcome, because the future has what was lent to it:
    /// then it is waited for.
    fn abandoned(error: io::Error) -> Option<Self>;
}

impl<T, E: Failure> Outcome for Result<T, E> {
    fn is_cancelled(&self) -> bool {
        self.as_ref()
            .is_err_and(|error| is_cancelled(error.as_error()))
    }

    fn timed_out(self) -> Self {
        self.map_err(|error| time_out_inside(error.as_error()).into())
    }

    fn abandoned(error: io::Error) -> Option<Self> {
        Some(Err(error.into()))
    }
}

impl<T, B> Outcome for BufResult<T, B> {
    fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_err_and(|error| is_cancelled(error))
    }

    fn timed_out(self) -> Self {
        Self(self.0.map_err(|error| time_out_inside(&error)), self.1)
    }

    fn abandoned(_: io::Error) -> Option<Self> {
        None
    }
}

/// How much was written is kept, what ended it becomes the time-out.
fn time_out_inside(error: &(dyn Error + 'static)) -> io::Error {
    let partial = causes(error).find_map(|cause| cause.downcast_ref::<Partial>());
    let (there, back) = partial.map_or((0, 0), |partial| (partial.transferred, partial.returned));
    Partial::both_ways(there, back, TimedOut.into())
}

/// Why an operation ended with ECANCELED (contract C8: who cancelled decides, never errno): the
/// number of a request that travelled through the scopes, or one of these.
// One word, as what travels beside it: parts of a word that were written one by one are slow to
// read as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cause(NonZeroU64);

impl Cause {
    /// The runtime ended.
    pub(crate) const ENDED: Self = Self(NonZeroU64::MAX);
    /// Polled outside of its runtime.
    pub(crate) const NOT_RUNNING: Self = Self::before(Self::ENDED);
    /// Awaited where there is no runtime.
    pub(crate) const NO_RUNTIME: Self = Self::before(Self::NOT_RUNNING);
    /// Nobody here asked: the descriptor was closed, or the ring taken down.
    pub(crate) const FOREIGN: Self = Self::before(Self::NO_RUNTIME);
    /// The deadline of a scope that is not above it any more, so nobody asked for that: it is to be
    /// started again.
    pub(crate) const STRAY: Self = Self::before(Self::FOREIGN);

    const fn before(later: Self) -> Self {
        Self::of(later.number() - 1)
    }

    /// Requests are counted from 1.
    pub(crate) const fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number).expect("0 is no request"))
    }

    pub(crate) const fn number(self) -> u64 {
        self.0.get()
    }

    /// Whether it is a request that a scope made.
    pub(crate) const fn is_request(self) -> bool {
        self.number() < Self::STRAY.number()
    }

    #[cold]
    pub(crate) fn error(self) -> io::Error {
        let (kind, text) = match self {
            Self::FOREIGN | Self::STRAY => (
                io::ErrorKind::ConnectionAborted,
                "closed: the descriptor was closed or shut down under the operation",
            ),
            Self::ENDED => (
                io::ErrorKind::NotConnected,
                "the runtime that this operation was started in has ended; await it before its \
                 `run` returns",
            ),
            Self::NO_RUNTIME => (
                io::ErrorKind::NotConnected,
                "there is no runtime on this thread: await it from within `coring::run`",
            ),
            Self::NOT_RUNNING => (
                io::ErrorKind::NotConnected,
                "polled outside of its runtime; await it in the `run` that it was started in",
            ),
            request => {
                let reason = current::reason(request.number())
                    .as_deref()
                    .map(str::to_owned);
                return Cancelled { reason }.into();
            }
        };
        io::Error::new(kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellation_is_found_through_io_errors_and_sources() {
        let inner = io::Error::from(Cancelled {
            reason: Some("because".into()),
        });
        assert_eq!(inner.to_string(), "cancelled: because");
        let outer = Partial::error(7, inner);
        assert_eq!(outer.to_string(), "cancelled: because (after 7 bytes)");
        assert!(is_cancelled(&outer));
        assert!(!is_timed_out(&outer));
        assert!(is_cancelled(&io::Error::other(outer)));
        assert!(is_timed_out(&io::Error::from(TimedOut)));
        assert!(!is_timed_out(&io::Error::from_raw_os_error(
            libc::ETIMEDOUT
        )));
    }

    #[test]
    fn time_out_that_main_gives_says_what_it_is() {
        assert_eq!(
            format!("{:?}", io::Error::from(TimedOut)),
            "Custom { kind: TimedOut, error: TimedOut(\"a limit passed before the work was done\") }"
        );
    }

    #[test]
    fn a_time_out_keeps_the_count_of_what_was_written() {
        let partial = || Partial::error(7, Cancelled::default().into());
        let outs = [
            BufResult::<(), ()>(Err(partial()), ()).timed_out().0,
            io::Result::Err(partial()).timed_out(),
            io::Result::Err(io::Error::other(partial())).timed_out(),
        ];
        for out in outs {
            let error = out.expect_err("it was an error");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "timed out (after 7 bytes)");
            assert!(is_timed_out(&error) && !is_cancelled(&error));
        }
    }
}
