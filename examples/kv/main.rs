//! A key-value server that speaks Redis's protocol: `redis-cli` and `redis-benchmark` work with it.
//!
//! `cargo run --release --example kv -- 127.0.0.1:6379` serves there, which is the default, until
//! Ctrl-C. With `--patient` it waits for up to 200 us, or for 32 requests, before it gets up: less
//! CPU time for each, more latency. One thread, one task for each client. The files, from the inside
//! to the outside:
//!
//! * `resp.rs`: takes commands apart and writes replies; bytes, no I/O.
//! * `store.rs`: keys, values, and when they expire.
//! * `commands.rs`, `admin.rs`: what the commands do.
//! * `connection.rs`: the I/O with one client.
//!
//! What it has not: persistence, replication, other types than strings, a limit on memory.

mod admin;
mod commands;
mod connection;
mod resp;
#[cfg(test)]
mod resp_check;
mod store;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use admin::Server;
use coring::net::{TcpListener, TcpStream};
use coring::signal::{Signal, SignalKind, signal};
use coring::winner::Of2;
use coring::{Runner, TaskGroup, interval, now, ok, race, sleep, task_group};

/// Clients at once, as in Redis. Each has a descriptor and 16 KiB.
const CLIENTS_MAX: usize = 10_000;
/// How often some of what has expired is removed.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

type Shared = Rc<RefCell<Server>>;
type Group = TaskGroup<io::Error>;

fn main() -> io::Result<()> {
    let (options, addrs): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|a| a.starts_with("--"));
    let mut builder = Runner::builder();
    for option in options {
        if option != "--patient" {
            eprintln!("usage: kv [ADDR] [--patient]");
            std::process::exit(2);
        }
        builder = builder.min_wait(32, Duration::from_micros(200));
    }
    let addr = addrs.first().map_or("127.0.0.1:6379", String::as_str);
    let listener = TcpListener::bind(addr)?;
    builder.run(async {
        // Ctrl-C is ours from here on.
        let interrupts = signal(SignalKind::interrupt())?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, interrupts).await
    })
}

/// Serves until the first Ctrl-C.
async fn serve(mut listener: TcpListener, mut interrupts: Signal) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    let server = Rc::new(RefCell::new(Server::new(now(), port)));
    task_group(async |g: Group| {
        g.create_task(sweep(server.clone()));
        loop {
            let raced = race!(interrupts.recv(), listener.accept()).await;
            match raced.winner {
                Of2::Second(Ok((stream, _peer))) => welcome(&g, &server, stream),
                // Out of descriptors, say. At once it would fail again.
                Of2::Second(Err(error)) => {
                    eprintln!("accept: {error}");
                    sleep(Duration::from_millis(100)).await?;
                }
                Of2::First(interrupted) => {
                    interrupted?;
                    println!("no more connections");
                    // Clients that wait for nothing are left; who waits for replies gets them.
                    g.cancel();
                    return ok(());
                }
            }
        }
    })
    .await?;
    println!("all connections have ended");
    ok(())
}

/// Gives a client a task of its own, if there are not too many.
fn welcome(g: &Group, server: &Shared, mut stream: TcpStream) {
    if server.borrow().clients >= CLIENTS_MAX {
        g.create_task(async move {
            let sorry = "-ERR max number of clients reached\r\n";
            drop(stream.write_all(sorry).await);
            ok(())
        });
        return;
    }
    server.borrow_mut().clients += 1;
    server.borrow_mut().connections += 1;
    let server = server.clone();
    g.create_task(async move {
        // Its error is not the group's, nor is it news: a client has left without a word.
        drop(connection::serve(stream, &server).await);
        server.borrow_mut().clients -= 1;
        ok(())
    });
}

/// Removes what has expired, a part at a time.
async fn sweep(server: Shared) -> io::Result<()> {
    let mut ticks = interval(SWEEP_EVERY);
    loop {
        ticks.tick().await?;
        let mut server = server.borrow_mut();
        server.store.set_time(now());
        server.store.sweep();
    }
}
