//! Thousands of peers that send a byte now and then: each byte comes, and what they cost is bounded,
//! whether somebody reads or not. `benches/src/bin/many.rs` has ten thousand and more, and what the
//! kernel needs for them.

#![cfg(not(miri))]

mod common;
mod counting;

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use common::*;
use coring::sync::Event;
use coring::{BufPool, Stats, StreamReader, StreamWriter, start_server};
use counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PEERS: usize = 2_000;
const ROUNDS: usize = 6;

/// Buffers that a runtime begins with where the kernel uses them up piece by piece.
const PACKED: usize = 8;

/// Both ends have their descriptors in this process.
fn may_open(test: &str) -> bool {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one limit.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one limit.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let may = got == 0 && set == 0 && limit.rlim_max > 2 * PEERS as u64 + 100;
    if !may {
        skip(test, "not enough descriptors");
    }
    may
}

/// All peers, on a thread whose memory is its own: each time it is told, each sends its next byte.
/// In the end each is answered with what it has sent.
fn peers(addr: SocketAddr, rounds: Receiver<usize>, done: Sender<()>) {
    let connect = |_| StdStream::connect(addr).expect("it listens");
    let mut peers: Vec<_> = (0..PEERS).map(connect).collect();
    done.send(()).expect("somebody waits");
    for round in rounds {
        for (i, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[(i + round) as u8]).expect("it is there");
        }
        done.send(()).expect("somebody waits");
    }
    for (i, mut peer) in peers.into_iter().enumerate() {
        let end = peer.shutdown(std::net::Shutdown::Write);
        end.expect("it is connected");
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("an answer");
        assert_eq!(
            all,
            (i..i + ROUNDS).map(|byte| byte as u8).collect::<Vec<_>>()
        );
    }
}

/// What a connection costs, and what so many unread bytes of each do.
struct Cost {
    idle: usize,
    unread: usize,
    /// Buffers at first, and at the most.
    buffers: (usize, usize),
}

fn cost_of_peers(reads: bool) -> Cost {
    let world = World::uring();
    world.run(async {
        let received = Rc::new(Cell::new(0));
        let counts = received.clone();
        let go_on = Rc::new(Event::new());
        let waits = go_on.clone();
        let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
            let mut all = [0; ROUNDS + 1];
            let mut n = 0;
            loop {
                let bytes = reader.read(4_096).await?;
                if bytes.is_empty() {
                    writer.write(&all[..n]);
                    return coring::ok(());
                }
                all[n..n + bytes.len()].copy_from_slice(&bytes);
                n += bytes.len();
                counts.set(counts.get() + bytes.len());
                drop(bytes);
                if !reads {
                    waits.wait().await?;
                }
            }
        };
        let server = start_server("127.0.0.1:0", handler)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let _buffers = BufPool::current().expect("there are some");
        let before = live_bytes();
        let (rounds, told) = channel();
        let (done, is_done) = channel();
        let thread = thread::spawn(move || peers(addr, told, done));
        let sent = || is_done.try_recv().is_ok();
        until(sent).await;
        until(|| server.connections() == PEERS).await;
        let held = |before| (live_bytes() - before) as usize / PEERS;
        let idle = held(before);
        let buffers_before = Stats::current().buffers.total;
        let mut buffers = 0;
        let before = live_bytes();
        for round in 0..ROUNDS {
            rounds.send(round).expect("it waits");
            until(sent).await;
            if reads {
                until(|| received.get() == PEERS * (round + 1)).await;
                assert_eq!(Stats::current().buffers.leases, 0, "nothing is kept");
            } else {
                // The first is read, and each of the others waits as a piece of its own.
                until(|| received.get() == PEERS).await;
                until(|| Stats::current().buffers.leases == PEERS * round).await;
            }
            buffers = buffers.max(Stats::current().buffers.total);
        }
        let unread = held(before);
        go_on.set();
        until(|| received.get() == PEERS * ROUNDS).await;
        drop(rounds);
        until(|| thread.is_finished()).await;
        thread.join().expect("each has its answer");
        until(|| server.connections() == 0).await;
        server.shutdown(PATIENCE).await.expect("nobody cancels");
        Cost {
            idle,
            unread,
            buffers: (buffers_before, buffers),
        }
    })
}

#[test]
fn slow_peers_that_are_read_cost_a_connection_each_and_no_buffers() {
    if !may_open("slow_peers_that_are_read_cost_a_connection_each_and_no_buffers") {
        return;
    }
    let Cost {
        idle,
        unread,
        buffers,
    } = cost_of_peers(true);
    eprintln!("{idle} bytes for each connection, {unread} more after {ROUNDS} bytes");
    assert!(idle < 1_600, "{idle}");
    assert!(unread < 64, "{unread}");
    assert_eq!(buffers.0, buffers.1);
}

/// Bytes of all connections are packed into the same few buffers, and each that waits is a lease.
#[test]
fn slow_peers_that_nobody_reads_hold_few_buffers() {
    let test = "slow_peers_that_nobody_reads_hold_few_buffers";
    if !may_open(test) {
        return;
    }
    let Cost {
        idle,
        unread,
        buffers,
    } = cost_of_peers(false);
    eprintln!("{idle} bytes for each connection, {unread} more with {ROUNDS} bytes unread");
    assert!(unread < 64 * (ROUNDS - 1), "{unread}");
    if buffers.0 != PACKED {
        return skip(test, "buffers are used up whole, as before Linux 6.12");
    }
    assert_eq!(buffers.1, PACKED);
}
