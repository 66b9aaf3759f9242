//! Limits: a job that is done in time, one that is not, and reads to which nothing comes.
//!
//! Run it with `cargo run --release --example wait_for`.

use std::io;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream, UdpSocket};
use coring::{BufResult, now, ok, run, sleep, wait_for};

const LIMIT: Duration = Duration::from_secs(3);

async fn job(seconds: u64) -> io::Result<&'static str> {
    sleep(Duration::from_secs(seconds)).await?;
    ok("done")
}

/// Runs `work` and prints what came of it, and how late a time-out was.
async fn report<T: std::fmt::Debug>(what: &str, work: impl Future<Output = io::Result<T>>) {
    let begin = now();
    let result = work.await;
    let took = now() - begin;
    match result {
        Ok(value) => println!("{what}: {value:?} after {took:.3?}"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            println!("{what}: {error}, {:.1?} late", took - LIMIT);
        }
        Err(error) => println!("{what}: {error}"),
    }
}

fn main() -> io::Result<()> {
    run(async {
        report("a job of 1 s", wait_for(job(1), LIMIT)).await;
        report("a job of 5 s", wait_for(job(5), LIMIT)).await;

        // Nobody sends to this socket: the kernel ends the operation, by the timeout that is linked
        // behind it, and the buffer comes back.
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let datagram = async {
            let BufResult(n, buf) = wait_for(socket.recv(Vec::with_capacity(4096)), LIMIT).await;
            assert_eq!(buf.capacity(), 4096);
            n
        };
        report("a datagram", datagram).await;

        // Nobody writes to this connection: the read ends, and what the connection receives for it
        // goes on, so that no byte is lost that comes meanwhile.
        let mut listener = TcpListener::bind("127.0.0.1:0")?;
        let mut stream = TcpStream::connect(listener.local_addr()?).await?;
        let _silent = listener.accept().await?;
        let read = async {
            let BufResult(n, buf) = wait_for(stream.read(Vec::with_capacity(4096)), LIMIT).await;
            assert_eq!(buf.capacity(), 4096);
            n
        };
        report("a read", read).await;
        ok(())
    })
}
