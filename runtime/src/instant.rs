//! Points in time, as the driver's clock tells them.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time on the clock of the driver that runs the program.
///
/// With io_uring that is `CLOCK_MONOTONIC`; the simulator has a clock of its own. Resolution is
/// a nanosecond. Adding saturates: `now() + Duration::MAX` is [`Instant::FAR_FUTURE`], which
/// never comes.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// coring::run(async {
///     let begin = coring::now();
///     assert!(begin + Duration::from_millis(1) > begin);
///     assert_eq!((begin + Duration::from_millis(1)) - begin, Duration::from_millis(1));
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The end of the clock, 584 years after its start: a deadline here never passes.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here, zero if `earlier` is later.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) const fn timespec(self) -> libc::timespec {
        const NANOS_PER_SEC: u64 = 1_000_000_000;
        // Both fit: u64::MAX nanoseconds are 1.8e10 seconds.
        libc::timespec {
            tv_sec: (self.0 / NANOS_PER_SEC) as i64,
            tv_nsec: (self.0 % NANOS_PER_SEC) as i64,
        }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to here, zero if `earlier` is later (as std's).
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({:?})", Duration::from_nanos(self.0))
    }
}
