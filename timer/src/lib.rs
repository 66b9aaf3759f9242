//! What [coring](https://docs.rs/coring)'s users see of time: [`sleep`], [`interval`],
//! [`timeout`], [`wait_for`].
//!
//! All of it is made of two things that the runtime offers: a [`Timer`], which waits for a moment,
//! and a [`CancelScope`](coring_runtime::CancelScope), which asks what is polled in it to stop
//! when its time is up.

#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod interval;
mod limit;

use std::time::Duration;

use coring_runtime::{Instant, Timer};

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use limit::{
    Expired, Timeout, TimeoutScope, WaitFor, shielded_for, timeout, timeout_at, timeout_scope,
    wait_for,
};

/// Waits for a span, counted from when it is first awaited (asyncio's `sleep`). Never early.
///
/// A span of zero lets the other tasks that are ready run once. [`Duration::MAX`] never ends.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
///
/// # Errors
/// [`Cancelled`](coring_runtime::Cancelled) if it was asked to stop.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # coring::run(async {
/// coring::sleep(Duration::from_millis(1)).await?;
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn sleep(span: Duration) -> Timer {
    Timer::after(span)
}

/// Waits for a moment. Never early; one that has passed lets the other tasks that are ready run
/// once.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
///
/// # Errors
/// [`Cancelled`](coring_runtime::Cancelled) if it was asked to stop.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # coring::run(async {
/// let deadline = coring::now() + Duration::from_millis(1);
/// coring::sleep_until(deadline).await?;
/// assert!(coring::now() >= deadline);
/// # coring::ok(()) }).unwrap();
/// ```
pub const fn sleep_until(deadline: Instant) -> Timer {
    Timer::at(deadline)
}
