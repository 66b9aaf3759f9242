//! coring, used as its documentation does: one task a connection, one-shot receives.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use coring::net::{TcpListener, TcpStream};
use coring::{create_task, run};

/// Serves until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// If accepting fails.
pub fn serve(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    run(async {
        let mut listener = TcpListener::from(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            // A connection that fails ends itself only.
            create_task(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let received = stream.receive().await?;
        if received.is_empty() {
            return Ok(());
        }
        stream.write_all(received).await.0?;
    }
}
