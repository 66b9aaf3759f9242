//! A TCP echo server.
//!
//! `cargo run --release --example echo -- 127.0.0.1:7000` serves there. Without an address it
//! drives itself, next to tokio and mio, and prints what each request costs: see `drive.rs`.

mod drive;

use std::error::Error;
use std::io;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream};
use coring::{BufResult, create_task, run, sleep};

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(16 * 1024);
    loop {
        let BufResult(n, back) = stream.read(buf).await;
        if n? == 0 {
            return Ok(());
        }
        let BufResult(written, back) = stream.write_all(back).await;
        written?;
        buf = back;
    }
}

async fn serve(addr: &str) -> io::Result<()> {
    let mut listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                create_task(echo(stream));
            }
            // Out of descriptors, say: the others are served on. At once it would fail again.
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(100)).await?;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(addr) => Ok(run(serve(&addr))?),
        None => drive::all(),
    }
}
