//! Echo over smol, on one thread with a local executor.

mod cases;

use std::io;

use rival_cases::{Outcome, Welcome, buffer_bytes};
use smol::LocalExecutor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

fn main() -> Outcome {
    if rival_cases::asked() {
        return cases::answer();
    }
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        let welcome = rival_cases::welcome();
        loop {
            let (stream, _) = listener.accept().await?;
            match welcome {
                Welcome::Echo => executor.spawn(echo(stream)).detach(),
                Welcome::Close => drop(stream),
                Welcome::Answer => executor.spawn(answer(stream)).detach(),
            }
        }
    }))
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
