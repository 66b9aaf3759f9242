//! coring, used as its documentation does: one task a connection.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use coring::net::{TcpListener, TcpStream};
use coring::sync::Event;
use coring::{Server, create_task, ok, run};

/// Serves until `stop` is set and one more connection comes in, with asyncio's streams: what is
/// written goes out in the background.
///
/// # Errors
///
/// If accepting fails.
pub fn streams(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(listener, stop, async |stream| {
        let (mut reader, mut writer) = stream.into_streams();
        loop {
            let received = reader.read(usize::MAX).await?;
            if received.is_empty() {
                return Ok(());
            }
            writer.write(received);
            writer.drain().await?;
        }
    })
}

/// As [`streams`], with the socket itself: each write is waited for.
///
/// # Errors
///
/// If accepting fails.
pub fn sockets(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(listener, stop, async |mut stream| {
        loop {
            let received = stream.receive().await?;
            if received.is_empty() {
                return Ok(());
            }
            stream.write_all(received).await.0?;
        }
    })
}

/// Accepts and closes until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// If accepting fails.
pub fn close(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    run(async {
        let mut listener = TcpListener::from(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            drop(stream);
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
        }
    })
}

/// As [`close`], with a task for each connection that writes a byte.
///
/// # Errors
///
/// As there.
pub fn answer(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    serve(listener, stop, async |mut stream| {
        stream.write_all("x").await.0
    })
}

/// As [`answer`], with asyncio's server and streams.
///
/// # Errors
///
/// As there.
pub fn answer_streams(
    listener: std::net::TcpListener,
    stop: &'static AtomicBool,
) -> io::Result<()> {
    run(async {
        let stopped = Rc::new(Event::new());
        let heard = stopped.clone();
        let server = Server::builder().serve(
            [TcpListener::from(listener)],
            async move |_reader, mut writer| {
                if stop.load(Ordering::Acquire) {
                    heard.set();
                }
                writer.write("x");
                writer.drain().await
            },
        );
        stopped.wait().await?;
        drop(server);
        ok(())
    })
}

fn serve(
    listener: std::net::TcpListener,
    stop: &AtomicBool,
    echo: impl AsyncFn(TcpStream) -> io::Result<()> + Copy + 'static,
) -> io::Result<()> {
    run(async {
        let mut listener = TcpListener::from(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            stream.set_nodelay(true)?;
            // A connection that fails ends itself only.
            create_task(async move { echo(stream).await });
        }
    })
}
