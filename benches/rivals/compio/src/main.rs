//! Echo over compio's io_uring driver, with the setup flags that help one thread.

mod cases;

use std::io;

use compio::buf::BufResult;
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, RuntimeBuilder};
use rival_cases::{Outcome, Welcome, buffer_bytes};

fn main() -> Outcome {
    if rival_cases::asked() {
        return cases::answer();
    }
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        let welcome = rival_cases::welcome();
        loop {
            let (stream, _) = listener.accept().await?;
            match welcome {
                Welcome::Echo => compio::runtime::spawn(echo(stream)).detach(),
                Welcome::Close => drop(stream),
                Welcome::Answer => compio::runtime::spawn(answer(stream)).detach(),
            }
        }
    })
}

fn runtime() -> io::Result<Runtime> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity(1024)
        .driver_type(DriverType::IoUring)
        .single_issuer(true)
        .defer_taskrun(true)
        .taskrun_flag(true);
    RuntimeBuilder::new().with_proactor(proactor).build()
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all("x").await.0
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(buffer_bytes());
    loop {
        let BufResult(length, filled) = stream.read(buffer).await;
        if length? == 0 {
            return Ok(());
        }
        let BufResult(sent, given_back) = stream.write_all(filled).await;
        sent?;
        buffer = given_back;
        buffer.clear();
    }
}
