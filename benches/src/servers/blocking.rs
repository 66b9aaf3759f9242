//! System calls that wait, one connection after the other.

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

/// Accepts and closes until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// If accepting fails.
pub fn close(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Acquire) {
        drop(listener.accept()?);
    }
    Ok(())
}

/// As [`close`], with an answer of one byte before.
///
/// # Errors
///
/// As there.
pub fn answer(listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Acquire) {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A connection that fails ends itself only.
        stream.write_all(b"x").ok();
    }
    Ok(())
}
