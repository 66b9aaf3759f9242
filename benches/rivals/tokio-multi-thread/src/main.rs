//! Echo over tokio's `multi_thread` runtime with two workers.

use std::io;

use rival_cases::{Welcome, buffer_bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        // Accepting on a worker spares the main thread a wake-up per connection.
        runtime.spawn(serve(listener)).await?
    })
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let welcome = rival_cases::welcome();
    loop {
        let (stream, _) = listener.accept().await?;
        match welcome {
            Welcome::Echo => drop(tokio::spawn(echo(stream))),
            Welcome::Close => drop(stream),
            Welcome::Answer => drop(tokio::spawn(answer(stream))),
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"x").await
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
