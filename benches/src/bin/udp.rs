//! What does a datagram cost each server, received alone and sent back?
//!
//! coring's `recv_many` and `recv_from`, tokio's `UdpSocket`, recvmmsg(2), and a multishot receive on a
//! raw ring, over loopback. The peer is on the other core, and is not counted: over loopback that core
//! does most of the work of a datagram on its way to the socket. It does not show a network card.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time and stands outside every runtime"
)]

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::UdpSocket as StdSocket;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use coring::net::UdpSocket;
use coring::{BufResult, Runner, create_task};
use coring_benches::raw::udp::{Receive, batches};
use coring_benches::raw::{Turns, ring};
use coring_benches::{
    Account, CLIENT_CORE, Case, Schedule, Spent, compare, groups_and_schedule, pin_to, thread_id,
};
use tokio::net::UdpSocket as TokioSocket;

const USAGE: &str = "\
udp [receive,echo] [--cycles 20] [--window-ms 60]

receive: datagrams of a peer that has 64 on their way at the most, sent 16 at a time.
echo: with 1 and with 32 on their way.";

/// Datagrams that nobody has counted yet: what a socket has room for.
const ON_THE_WAY_MAX: u64 = 64;

/// Datagrams that the peer sends by one call, as segments of one send.
const SEGMENTS: u64 = 16;

/// Nothing takes as long, unless a datagram was lost.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let schedule = Schedule {
        cycles: 20,
        window: Duration::from_millis(60),
        ..Schedule::default()
    };
    let Some((groups, schedule)) = groups_and_schedule(USAGE, &["receive", "echo"], schedule)?
    else {
        return Ok(());
    };
    let mut ring = ring()?;
    let turns = Turns::new(&mut ring)?;
    let receive = Receive::new(&turns)?;
    let runtimes = Runtimes {
        raw: RefCell::new((turns, receive)),
        coring: RefCell::new(Runner::builder().build()?),
        tokio: tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?,
    };
    for group in &groups {
        let works: &[(&str, usize, Peer, u64)] = match &group[..] {
            "receive" => &[
                ("64 B received", 64, Peer::Sends, 8_192),
                ("1,400 B received", 1_400, Peer::Sends, 8_192),
            ],
            "echo" => &[
                ("64 B echoed, 1 on its way", 64, Peer::WantsBack(1), 1_024),
                (
                    "64 B echoed, 32 on their way",
                    64,
                    Peer::WantsBack(32),
                    4_096,
                ),
                (
                    "1,400 B echoed, 32 on their way",
                    1_400,
                    Peer::WantsBack(32),
                    4_096,
                ),
            ],
            _ => return Err(format!("no group {group}").into()),
        };
        for &(name, bytes, peer, at_a_time) in works {
            let mut cases: Vec<_> = Server::ALL
                .iter()
                .map(|&(name, server)| {
                    let runtimes = &runtimes;
                    Case::elsewhere(name, move |n| run(runtimes, server, peer, bytes, n))
                        .times(at_a_time)
                })
                .collect();
            let comparison = compare(&mut cases, schedule)?;
            println!("## {name}\n{}", comparison.table("coring recv_many"));
        }
    }
    Ok(())
}

struct Runtimes<'ring> {
    raw: RefCell<(Turns<'ring>, Receive)>,
    coring: RefCell<Runner>,
    tokio: tokio::runtime::Runtime,
}

#[derive(Clone, Copy)]
enum Server {
    Many,
    Tasks,
    One,
    Tokio,
    Batches,
    Ring,
}

impl Server {
    const ALL: [(&'static str, Server); 6] = [
        ("coring recv_many", Server::Many),
        ("coring recv_many, a task for each", Server::Tasks),
        ("coring recv_from", Server::One),
        ("tokio recv_from", Server::Tokio),
        ("recvmmsg(2), 32", Server::Batches),
        ("multishot, raw ring", Server::Ring),
    ];
}

#[derive(Clone, Copy)]
enum Peer {
    Sends,
    /// Sends each again when it has come back, so many at once.
    WantsBack(u64),
}

/// `n` datagrams, and what they cost without the peer.
fn run(
    runtimes: &Runtimes<'_>,
    server: Server,
    peer: Peer,
    bytes: usize,
    n: u64,
) -> io::Result<Spent> {
    let socket = StdSocket::bind("127.0.0.1:0")?;
    let client = StdSocket::bind("127.0.0.1:0")?;
    client.connect(socket.local_addr()?)?;
    let seen = Arc::new(AtomicU64::new(0));
    let (echoes, peer) = match peer {
        Peer::Sends => {
            let seen = seen.clone();
            (false, spawn(move || send(&client, bytes, n, &seen))?)
        }
        Peer::WantsBack(window) => (true, spawn(move || send_again(&client, bytes, n, window))?),
    };
    let count = || seen.store(seen.load(Relaxed) + 1, Relaxed);
    let process = Account::Process(std::process::id() as libc::pid_t);
    let (began, before) = (Instant::now(), process.cpu_ns()?);
    match server {
        Server::Many => {
            let socket = UdpSocket::from(socket);
            runtimes
                .coring
                .borrow_mut()
                .run(many(socket, n, echoes, count))?;
        }
        Server::Tasks => {
            let socket = UdpSocket::from(socket);
            runtimes
                .coring
                .borrow_mut()
                .run(task_for_each(socket, n, echoes, count))?;
        }
        Server::One => {
            let socket = UdpSocket::from(socket);
            runtimes
                .coring
                .borrow_mut()
                .run(one_by_one(socket, n, echoes, count))?;
        }
        Server::Tokio => runtimes.tokio.block_on(tokio(socket, n, echoes, count))?,
        Server::Batches => batches(&socket, n, echoes, count)?,
        Server::Ring => {
            let (turns, receive) = &mut *runtimes.raw.borrow_mut();
            receive.run(turns, &socket, n, echoes, count)?;
        }
    }
    let wall_ns = began.elapsed().as_nanos() as u64;
    let theirs = peer
        .join()
        .map_err(|_| io::Error::other("the peer panicked"))??;
    let cpu_ns = (process.cpu_ns()? - before).saturating_sub(theirs);
    Ok(Spent { cpu_ns, wall_ns })
}

async fn many(socket: UdpSocket, n: u64, echoes: bool, seen: impl Fn()) -> io::Result<()> {
    let mut receiver = socket.recv_many();
    for _ in 0..n {
        let (received, payload) = receiver.next().await?;
        seen();
        if echoes {
            socket.send_to(payload, received.from).await.0?;
        }
    }
    receiver.finish().await;
    Ok(())
}

/// Goes on while what came before is sent, as a server does whose answers take a while.
async fn task_for_each(socket: UdpSocket, n: u64, echoes: bool, seen: impl Fn()) -> io::Result<()> {
    let socket = Rc::new(socket);
    let mut receiver = socket.recv_many();
    let mut last = None;
    for _ in 0..n {
        let (received, payload) = receiver.next().await?;
        seen();
        let socket = socket.clone();
        last = Some(create_task(async move {
            if echoes {
                socket.send_to(payload, received.from).await.0?;
            }
            coring::ok(())
        }));
    }
    if let Some(last) = last {
        last.await?;
    }
    receiver.finish().await;
    Ok(())
}

async fn one_by_one(socket: UdpSocket, n: u64, echoes: bool, seen: impl Fn()) -> io::Result<()> {
    let mut buf = Vec::with_capacity(2_048);
    for _ in 0..n {
        let BufResult(received, filled) = socket.recv_from(buf).await;
        let (_, from) = received?;
        seen();
        buf = filled;
        if echoes {
            let BufResult(sent, back) = socket.send_to(buf, from).await;
            sent?;
            buf = back;
        }
    }
    Ok(())
}

async fn tokio(socket: StdSocket, n: u64, echoes: bool, seen: impl Fn()) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = TokioSocket::from_std(socket)?;
    let mut buf = [0; 2_048];
    for _ in 0..n {
        let (len, from) = socket.recv_from(&mut buf).await?;
        seen();
        if echoes {
            socket.send_to(&buf[..len], from).await?;
        }
    }
    Ok(())
}

/// A peer on the other core. Gives its CPU time.
fn spawn(
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<u64>>> {
    let peer = thread::Builder::new().name("peer".to_owned());
    peer.spawn(move || {
        pin_to(CLIENT_CORE)?;
        work()?;
        Account::Threads(vec![thread_id()]).cpu_ns()
    })
}

/// Sends `n` datagrams, as fast as they are `seen`.
fn send(socket: &StdSocket, bytes: usize, n: u64, seen: &AtomicU64) -> io::Result<()> {
    let size = bytes as libc::c_int;
    let len = size_of_val(&size) as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const size).cast());
    // SAFETY: the kernel reads an integer, which outlives the call.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, value, len) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    let data = vec![7; bytes * SEGMENTS as usize];
    let mut sent = 0;
    while sent < n {
        let mut waited = Instant::now();
        while sent - seen.load(Relaxed) > ON_THE_WAY_MAX - SEGMENTS {
            std::hint::spin_loop();
            patience(&mut waited)?;
        }
        socket.send(&data)?;
        sent += SEGMENTS;
    }
    Ok(())
}

/// Sends a datagram `n` times in all, so many at a time.
fn send_again(socket: &StdSocket, bytes: usize, n: u64, window: u64) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut buf = vec![7; bytes];
    for _ in 0..window.min(n) {
        socket.send(&buf)?;
    }
    let (mut sent, mut back) = (window.min(n), 0);
    let mut waited = Instant::now();
    while back < n {
        match socket.recv(&mut buf) {
            Ok(_) => {
                waited = Instant::now();
                back += 1;
                if sent < n {
                    socket.send(&buf)?;
                    sent += 1;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => patience(&mut waited)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn patience(since: &mut Instant) -> io::Result<()> {
    if since.elapsed() > PATIENCE {
        return Err(io::Error::other("a datagram was lost"));
    }
    Ok(())
}
