//! Timers in the kernel: armed and cancelled, armed many at once, and slept through one by one.

use std::io;
use std::time::Duration;

use io_uring::types::Timespec;
use io_uring::{opcode, squeue::Flags};

use super::Turns;

const TIMER: u64 = 1;
const CANCEL: u64 = 2;

/// Arms a timer far away and removes it, `operations` times, `batch` at once in one enter.
///
/// # Errors
///
/// What the ring answers, or what a removal or a timer ended with.
pub fn arm_and_cancel(turns: &mut Turns<'_>, batch: u32, operations: u64) -> io::Result<()> {
    let far = Timespec::from(Duration::from_secs(3_600));
    let mut left = operations;
    while left > 0 {
        let now = batch.min(u32::try_from(left).unwrap_or(u32::MAX));
        for number in 0..u64::from(now) {
            let token = number << 2 | TIMER;
            let timer = opcode::Timeout::new(&raw const far)
                .build()
                .user_data(token);
            let remove = opcode::TimeoutRemove::new(token).build();
            let remove = remove
                .flags(Flags::SKIP_SUCCESS)
                .user_data(number << 2 | CANCEL);
            // SAFETY: the kernel copies the timespec in the enter, which is before this returns.
            unsafe { turns.push_chain(&[timer, remove]) }?;
        }
        turns.turn(now)?;
        for _ in 0..now {
            ended(turns, libc::ECANCELED)?;
        }
        left -= u64::from(now);
    }
    Ok(())
}

/// Arms `operations` timers that fire `after` the same time each, and awaits them all.
///
/// # Errors
///
/// What the ring answers, or what a timer ended with.
pub fn arm_and_fire(turns: &mut Turns<'_>, after: Duration, operations: u64) -> io::Result<()> {
    let after = Timespec::from(after);
    for number in 0..operations {
        let timer = opcode::Timeout::new(&raw const after)
            .build()
            .user_data(number << 2 | TIMER);
        // SAFETY: as in `arm_and_cancel`.
        unsafe { turns.push(&timer) }?;
    }
    for _ in 0..operations {
        ended(turns, libc::ETIME)?;
    }
    Ok(())
}

/// Sleeps `operations` times, one after the other, by an enter whose wait has a timeout.
///
/// # Errors
///
/// What the ring answers, or `EINVAL` if anything else completes on it.
pub fn sleep_in_enter(turns: &mut Turns<'_>, each: Duration, operations: u64) -> io::Result<()> {
    for _ in 0..operations {
        if turns.turn_within(1, each)? {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
    }
    Ok(())
}

fn ended(turns: &mut Turns<'_>, how: i32) -> io::Result<()> {
    loop {
        match turns.reap() {
            None => turns.turn(1)?,
            Some(done) if done.result() == -how => return Ok(()),
            Some(done) => return Err(io::Error::from_raw_os_error(-done.result())),
        }
    }
}
