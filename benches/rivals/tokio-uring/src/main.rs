//! Echo over tokio-uring, with the setup flags that help one thread.
//!
//! It waits for its ring with epoll, which a ring with DEFER_TASKRUN does not wake.

use std::io;

use rival_cases::{Welcome, buffer_bytes};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder()
        .entries(1024)
        .uring_builder(&ring)
        .start(async {
            let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
            println!("listening on {}", listener.local_addr()?);
            let welcome = rival_cases::welcome();
            loop {
                let (stream, _) = listener.accept().await?;
                match welcome {
                    Welcome::Echo => drop(tokio_uring::spawn(echo(stream))),
                    Welcome::Close => drop(stream),
                    Welcome::Answer => drop(tokio_uring::spawn(answer(stream))),
                }
            }
        })
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&b"x"[..]).await.0
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; buffer_bytes()];
    loop {
        let (length, filled) = stream.read(buffer).await;
        let length = length?;
        if length == 0 {
            return Ok(());
        }
        let (sent, slice) = stream.write_all(filled.slice(..length)).await;
        sent?;
        buffer = slice.into_inner();
    }
}
