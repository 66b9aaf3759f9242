//! tokio's `current_thread` runtime, used as its documentation does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::buffer_bytes;

/// Serves until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// If the runtime cannot be built, or accepting fails.
pub fn serve(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    accept(listener, stop, |stream| {
        // A connection that fails ends itself only.
        tokio::spawn(echo(stream));
    })
}

fn accept(
    listener: std::net::TcpListener,
    stop: &AtomicBool,
    welcome: impl Fn(TcpStream),
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            welcome(stream);
        }
    })
}

/// Accepts and closes until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// As [`serve`].
pub fn close(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    accept(listener, stop, drop)
}

/// As [`close`], with a task for each connection that writes a byte.
///
/// # Errors
///
/// As [`serve`].
pub fn answer(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    accept(listener, stop, |mut stream| {
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            stream.write_all(b"x").await
        });
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; buffer_bytes()];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}
