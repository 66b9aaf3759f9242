//! A runtime inside of another loop: a hand-written one over epoll, and tokio's.
//!
//! The loop outside waits on one descriptor, and calls `turn` when it is readable. Deadlines are
//! the kernel's, so there is no timeout to hand out.
//!
//! Run it with `cargo run --release --example embed`.

use std::error::Error;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream};
use coring::{BufResult, Runner, create_task, ok, sleep};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tokio::io::unix::AsyncFd;

/// Some work with sockets and timers in it.
async fn greet(name: &'static str) -> io::Result<String> {
    let mut listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = create_task(async move {
        let (mut stream, _) = listener.accept().await?;
        sleep(Duration::from_millis(100)).await?;
        stream.write_all(format!("hello from {name}")).await.0
    });
    let mut stream = TcpStream::connect(addr).await?;
    let BufResult(n, buf) = stream.read(Vec::with_capacity(64)).await;
    n?;
    server.await?;
    ok(String::from_utf8_lossy(&buf).into_owned())
}

/// In a loop over epoll, here by way of mio.
fn in_epoll() -> Result<String, Box<dyn Error>> {
    let mut runner = Runner::builder().build()?;
    let mut poll = Poll::new()?;
    let fd = runner.as_fd()?.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    let task = runner.enter(|| create_task(greet("coring in an epoll loop")));
    let mut events = Events::with_capacity(8);
    while !task.done() {
        poll.poll(&mut events, None)?; // Other descriptors of the program wait here too.
        runner.turn()?;
    }
    Ok(runner.run(task)?)
}

/// Inside of tokio.
fn in_tokio() -> Result<String, Box<dyn Error>> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    tokio.block_on(async {
        let mut runner = Runner::builder().build()?;
        let fd = runner.as_fd()?.try_clone_to_owned()?;
        // SAFETY: tokio asks that the descriptor stay open as long as it watches it, and it owns
        // this one.
        let ready = unsafe { AsyncFd::register(fd) }?;
        let task = runner.enter(|| create_task(greet("coring inside of tokio")));
        while !task.done() {
            ready.readable().await?.clear_ready();
            runner.turn()?;
        }
        Ok(runner.run(task)?)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", in_epoll()?);
    println!("{}", in_tokio()?);
    Ok(())
}
