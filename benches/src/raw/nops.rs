//! What an enter and an operation cost when the operation does nothing.

use std::io;

use io_uring::opcode;

use super::Turns;

/// Performs `operations` NOPs, at most `batch` of them to an enter.
///
/// # Errors
///
/// What the ring answers.
pub fn run(turns: &mut Turns<'_>, batch: u32, operations: u64) -> io::Result<()> {
    let mut left = operations;
    while left > 0 {
        let now = batch.min(u32::try_from(left).unwrap_or(u32::MAX));
        for token in 0..u64::from(now) {
            // SAFETY: a nop points to nothing.
            unsafe { turns.push(&opcode::Nop::new().build().user_data(token)) }?;
        }
        turns.turn(now)?;
        let reaped = std::iter::from_fn(|| turns.reap()).count();
        left -= (reaped as u64).min(left);
    }
    Ok(())
}
