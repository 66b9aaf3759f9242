//! Echo over glommio, which chooses its rings' flags itself.

mod cases;

use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use rival_cases::{Outcome, Welcome, buffer_bytes};

fn main() -> Outcome {
    if rival_cases::asked() {
        return cases::answer();
    }
    executor()?.run(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("listening on {}", listener.local_addr()?);
        let welcome = rival_cases::welcome();
        loop {
            let stream = listener.accept().await?;
            match welcome {
                Welcome::Echo => drop(glommio::spawn_local(echo(stream)).detach()),
                Welcome::Close => drop(stream),
                Welcome::Answer => drop(glommio::spawn_local(answer(stream)).detach()),
            }
        }
    })
}

fn executor() -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(Placement::Unbound).make()
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
