//! A server that ends well: at Ctrl-C it takes no more connections, lets requests end for two
//! seconds, and stops those that take longer.
//!
//! Run it with `cargo run --release --example graceful`, say how many seconds of work it is to do
//! with `nc 127.0.0.1 7000`, a number a line, and press Ctrl-C meanwhile. With an argument it
//! serves there.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream};
use coring::signal::{SignalKind, signal};
use coring::winner::Of2;
use coring::{
    BufResult, TaskGroup, call_later, is_cancelled, ok, race, run, shielded_for, sleep, task_group,
};

const GRACE: Duration = Duration::from_secs(2);

type Group = TaskGroup<io::Error>;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let mut listener = TcpListener::bind(addr.as_deref().unwrap_or("127.0.0.1:7000"))?;
    run(async {
        println!("listening on {}", listener.local_addr()?);
        // Caught from here on: what `run` does at Ctrl-C it leaves to us.
        let mut interrupts = signal(SignalKind::interrupt())?;
        task_group(async |g: Group| {
            loop {
                let raced = race!(interrupts.recv(), listener.accept()).await;
                match raced.winner {
                    Of2::Second(client) => greet(&g, client?),
                    Of2::First(interrupted) => {
                        interrupted?;
                        // Whoever was accepted at the same moment is not lost.
                        if let (_, Some(Ok(client))) = raced.late {
                            greet(&g, client);
                        }
                        break;
                    }
                }
            }
            println!("no more connections");
            drop(listener);
            let group = g.clone();
            call_later(GRACE, move || group.cancel());
            ok(()) // The group waits for those that are served.
        })
        .await?;
        println!("all requests have ended");
        ok(())
    })
}

fn greet(g: &Group, (stream, peer): (TcpStream, SocketAddr)) {
    g.create_task(async move {
        // An error of one client is not the group's.
        if let Err(error) = serve(stream).await {
            println!("{peer}: {error}");
        }
        ok(())
    });
}

/// Does so many seconds of work as each line says.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = Vec::with_capacity(64);
    loop {
        let BufResult(n, read) = stream.read(buf).await;
        if n? == 0 {
            return ok(());
        }
        let seconds = String::from_utf8_lossy(&read).trim().parse().unwrap_or(0);
        buf = read;
        buf.clear();
        if let Err(stopped) = sleep(Duration::from_secs(seconds)).await {
            if is_cancelled(&stopped) {
                let sorry = stream.write_all("stopped\n");
                shielded_for(Duration::from_secs(1), sorry).await.0?;
            }
            return Err(stopped);
        }
        stream.write_all("done\n").await.0?;
    }
}
