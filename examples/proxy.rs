//! A TCP proxy: what a client sends goes to the target, and back.
//!
//! Run it with `cargo run --release --example proxy -- LISTEN TARGET [IDLE_SECONDS]`, such as
//! `127.0.0.1:8080 example.org:80`. It serves 1,000 clients at once, and others wait for their turn; a
//! connection on which nothing moves for a minute is closed. At Ctrl-C it takes no more clients, and
//! gives those that it has five seconds.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream, copy_bidirectional, lookup_host};
use coring::signal::{SignalKind, signal};
use coring::sync::{OwnedPermit, Semaphore};
use coring::winner::Of2;
use coring::{Partial, TaskGroup, call_later, is_timed_out, ok, race, run, task_group, wait_for};

const CLIENTS_MAX: usize = 1_000;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

type Group = TaskGroup<io::Error>;
type Client = (OwnedPermit, (TcpStream, SocketAddr));

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (listen, target, idle) = match &arguments[..] {
        [listen, target] => (listen, target, 60.0),
        [listen, target, idle] => (listen, target, idle.parse().map_err(io::Error::other)?),
        _ => return Err(io::Error::other("proxy LISTEN TARGET [IDLE_SECONDS]")),
    };
    let idle = Duration::try_from_secs_f64(idle).map_err(io::Error::other)?;
    let mut listener = TcpListener::bind(&listen[..])?;
    run(async {
        let target = lookup_host(&target[..]).await?[0];
        println!("listening on {}", listener.local_addr()?);
        let mut interrupts = signal(SignalKind::interrupt())?;
        let places = Rc::new(Semaphore::new(CLIENTS_MAX));
        task_group(async |g: Group| {
            loop {
                // A place first: who has none waits in the listener's queue.
                let next = async {
                    let place = places.clone().acquire_owned().await?;
                    ok((place, listener.accept().await?))
                };
                let raced = race!(interrupts.recv(), next).await;
                match raced.winner {
                    Of2::Second(next) => greet(&g, next?, target, idle),
                    Of2::First(interrupted) => {
                        interrupted?;
                        // Whoever was accepted at the same moment is not lost.
                        if let (_, Some(Ok(next))) = raced.late {
                            greet(&g, next, target, idle);
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
        println!("all connections have ended");
        ok(())
    })
}

fn greet(g: &Group, (place, (client, peer)): Client, target: SocketAddr, idle: Duration) {
    g.create_task(async move {
        let _place = place;
        match serve(client, target, idle).await {
            Ok((there, back)) => println!("{peer}: {there} bytes there, {back} back"),
            Err(error) => println!("{peer}: {error}"),
        }
        ok(())
    });
}

async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    idle: Duration,
) -> io::Result<(u64, u64)> {
    let mut server = wait_for(TcpStream::connect(target), CONNECT_LIMIT).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut there, mut back) = (0, 0);
    loop {
        // A limit loses no byte, so that it can be asked again and again whether anything moved.
        let copied = wait_for(copy_bidirectional(&mut client, &mut server), idle).await;
        let error = match copied {
            Ok((more, less)) => return Ok((there + more, back + less)),
            Err(error) => error,
        };
        let moved = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        if let Some(partial) = moved {
            there += partial.transferred as u64;
            back += partial.returned as u64;
        }
        if moved.is_none() || !is_timed_out(&error) {
            // Neither peer is to take what it has for the whole.
            client.set_zero_linger()?;
            server.set_zero_linger()?;
            return Err(Partial::both_ways(there as usize, back as usize, error));
        }
    }
}
