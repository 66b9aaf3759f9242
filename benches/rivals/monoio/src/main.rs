//! Echo over monoio's io_uring driver, with the setup flags that help one thread.

mod cases;

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use rival_cases::{Outcome, Welcome, buffer_bytes};

fn main() -> Outcome {
    if rival_cases::asked() {
        return cases::answer();
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring())
        .with_entries(1024)
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("listening on {}", listener.local_addr()?);
        let welcome = rival_cases::welcome();
        loop {
            let (stream, _) = listener.accept().await?;
            match welcome {
                Welcome::Echo => drop(monoio::spawn(echo(stream))),
                Welcome::Close => drop(stream),
                Welcome::Answer => drop(monoio::spawn(answer(stream))),
            }
        }
    })
}

fn ring() -> io_uring::Builder {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    ring
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all("x").await.0.map(drop)
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(buffer_bytes());
    loop {
        let (length, filled) = stream.read(buffer).await;
        if length? == 0 {
            return Ok(());
        }
        let (sent, given_back) = stream.write_all(filled).await;
        sent?;
        buffer = given_back;
        buffer.clear();
    }
}
