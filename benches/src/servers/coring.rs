//! coring, used as its documentation does: one task a connection, one-shot receives.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use coring::net::{TcpListener, TcpStream};
use coring::{BufResult, create_task, run};

use super::BUFFER_BYTES;

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
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let BufResult(received, back) = stream.read(buffer).await;
        if received? == 0 {
            return Ok(());
        }
        let BufResult(sent, back) = stream.write_all(back).await;
        sent?;
        buffer = back;
    }
}
