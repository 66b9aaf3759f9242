//! Receiving: what has arrived belongs to the connection, however reads end, and is bounded.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, UnixStream};
use coring::{BufResult, Stats, create_task, now, wait_for};

#[test]
fn read_that_is_dropped_leaves_its_bytes_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        for round in 0..50 {
            {
                let mut read = pin!(ours.read(Vec::with_capacity(64)));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(read.as_mut().poll(&mut cx).is_pending());
                if round % 2 == 0 {
                    theirs
                        .write_all(&pattern(round, 10))
                        .expect("it is connected");
                    turn().await;
                }
            }
            if round % 2 != 0 {
                theirs
                    .write_all(&pattern(round, 10))
                    .expect("it is connected");
            }
            let BufResult(n, buf) = ours.read(Vec::with_capacity(64)).await;
            assert_eq!((n.expect("bytes"), buf), (10, pattern(round, 10)));
        }
    });
}

/// 189: `test_sock_client_racing`.
#[test]
fn read_that_times_out_leaves_the_receive_armed() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        assert!(is_time_out(&error_of(wait_for(ours.receive(), MS).await)));
        let submissions = Stats::current().submissions;
        for round in 0..20 {
            let read = wait_for(ours.read(Vec::with_capacity(64)), Duration::ZERO).await;
            assert!(is_time_out(&error_of(read.0)));
            theirs
                .write_all(&pattern(round, 9))
                .expect("it is connected");
            assert_eq!(&ours.receive().await.expect("bytes")[..], pattern(round, 9));
        }
        assert_eq!(Stats::current().submissions, submissions, "armed once");
    });
}

#[test]
fn read_takes_what_it_has_room_for_and_leaves_the_rest() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        theirs.write_all(b"hello world").expect("it is connected");
        assert_eq!(ours.peek(Vec::with_capacity(5)).await.1, b"hello");
        assert_eq!(ours.read(Vec::with_capacity(6)).await.1, b"hello ");
        assert_eq!(ours.peek(vec![0; 99]).await.0.expect("bytes"), 5);
        let mut lease = ours.receive().await.expect("bytes");
        assert_eq!(&lease.split_to(5)[..], b"world");
        let mut one = Vec::with_capacity(1);
        drop(theirs);
        for _ in 0..2 {
            let BufResult(n, back) = ours.read(one).await;
            assert_eq!(n.expect("the end"), 0);
            one = back;
        }
    });
}

/// A peer that sends to a program that does not read finds the window closed, and what is kept here
/// is bounded.
#[test]
fn receive_is_paused_when_nobody_reads() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        theirs.write_all(b"first").expect("it is connected");
        assert_eq!(&ours.receive().await.expect("bytes")[..], b"first");
        theirs.set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        let mut blocked = 0;
        while blocked < 20 {
            match theirs.write(&pattern(sent, 10_000)) {
                Ok(n) => (sent, blocked) = (sent + n, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    blocked += 1;
                }
            }
            turn().await;
        }
        let buffers = Stats::current().buffers;
        assert_eq!(Stats::current().in_flight, 0, "paused");
        // 128 KiB, and what came before the kernel heard of it.
        assert!(buffers.total <= 32, "{buffers:?}");
        let reader = create_task(async move {
            let mut all = Vec::new();
            while all.len() < sent {
                all.extend_from_slice(&ours.receive().await.expect("bytes"));
            }
            all
        });
        assert_eq!(reader.await, pattern(0, sent));
    });
}

/// Connections that are not read hold all the buffers that there are; others go on.
#[test]
fn connections_that_nobody_reads_do_not_stop_others() {
    let world = World::uring();
    let builder = coring::Runner::builder()
        .buffer_bytes(1_024)
        .buffer_count(1, 2);
    let mut runner = builder.build().expect("a runner");
    runner.run(async {
        let mut unread = Vec::new();
        for _ in 0..4 {
            let (mut ours, mut theirs) = tcp_pair();
            theirs.write_all(&[1; 2_000]).expect("it is connected");
            let lease = ours.receive().await.expect("bytes");
            unread.push((ours, theirs, lease));
        }
        let free = Stats::current().buffers.free;
        assert_eq!(free, 0, "all are held");
        let (mut ours, mut theirs) = tcp_pair();
        for round in 0..100 {
            theirs
                .write_all(&pattern(round, 3_000))
                .expect("it is connected");
            let mut all = Vec::new();
            while all.len() < 3_000 {
                all.extend_from_slice(&ours.receive().await.expect("bytes"));
            }
            assert_eq!(all, pattern(round, 3_000));
        }
        // With buffers to be had again they are taken.
        drop(unread);
        turn().await;
        theirs.write_all(b"last").expect("it is connected");
        assert_eq!(&ours.receive().await.expect("bytes")[..], b"last");
    });
    finish(runner);
    drop(world);
}

#[test]
fn read_without_buffers_that_times_out_loses_nothing() {
    let world = World::uring();
    let builder = coring::Runner::builder()
        .buffer_bytes(1_024)
        .buffer_count(1, 1);
    let mut runner = builder.build().expect("a runner");
    runner.run(async {
        let (mut holder, mut other) = tcp_pair();
        other.write_all(&[1; 1_024]).expect("it is connected");
        let held = holder.receive().await.expect("bytes");
        let (mut ours, mut theirs) = tcp_pair();
        for round in 0..10 {
            assert!(is_time_out(&error_of(wait_for(ours.receive(), MS).await)));
            theirs
                .write_all(&pattern(round, 100))
                .expect("it is connected");
            turn().await;
            assert_eq!(
                &ours.receive().await.expect("bytes")[..],
                pattern(round, 100)
            );
        }
        drop(held);
    });
    finish(runner);
    drop(world);
}

#[test]
fn stream_that_leaves_takes_what_had_arrived() {
    let world = World::uring();
    world.run(async {
        for unread in 0..4 {
            let (mut ours, mut theirs) = tcp_pair();
            theirs.write_all(b"read").expect("it is connected");
            if unread > 0 {
                assert_eq!(ours.read(Vec::with_capacity(2)).await.1, b"re");
            }
            for i in 1..unread {
                theirs.write_all(&[i; 3]).expect("it is connected");
                turn().await;
            }
            let released = ours.into_std().await.expect("it is quiet");
            assert!(released.error.is_none());
            theirs.write_all(b"more").expect("it is connected");
            drop(theirs);
            let mut all = released.received;
            let mut socket = released.socket;
            socket.read_to_end(&mut all).expect("to the end");
            let mut expected = if unread > 0 {
                b"ad".to_vec()
            } else {
                b"read".to_vec()
            };
            (1..unread).for_each(|i| expected.extend([i; 3]));
            expected.extend(b"more");
            assert_eq!(all, expected);
            assert_eq!(Stats::current().in_flight, 0);
        }
    });
}

/// The socket itself is taken out, when operations of dropped futures are done with it.
#[test]
fn stream_that_leaves_waits_for_writes_that_were_dropped() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = tcp_pair();
        {
            let mut write = pin!(ours.write_all(vec![7; 32 << 20]));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(write.as_mut().poll(&mut cx).is_pending());
            turn().await;
        }
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&ours));
        let released = ours.into_fd().await.expect("it is quiet");
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&released.socket), fd);
        assert_eq!(Stats::current().in_flight, 0);
        drop(theirs);
    });
}

#[test]
fn error_behind_the_last_bytes_is_told_with_them() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        theirs.write_all(b"one").expect("it is connected");
        assert_eq!(&ours.receive().await.expect("bytes")[..], b"one");
        theirs.write_all(b"two").expect("it is connected");
        turn().await;
        let socket = socket2::SockRef::from(&theirs);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(theirs); // A reset.
        turn().await;
        let released = ours.into_std().await.expect("it is quiet");
        assert_eq!(released.received, b"two");
        let error = released.error.expect("the reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

/// When many are accepted and not claimed the rest stay with the kernel; all are served in the end.
#[test]
fn accepting_is_paused_when_nobody_claims() {
    const CLIENTS: usize = 300;
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let first = std::net::TcpStream::connect(addr).expect("it listens");
        let mut served = vec![listener.accept().await.expect("a client").0];
        let clients = thread::spawn(move || {
            let connect = |_| std::net::TcpStream::connect(addr).expect("it listens");
            (0..CLIENTS).map(connect).collect::<Vec<_>>()
        });
        while !clients.is_finished() {
            turn().await;
        }
        assert_eq!(Stats::current().in_flight, 0, "it is paused");
        for _ in 0..CLIENTS {
            served.push(listener.accept().await.expect("a client").0);
        }
        let mut clients = clients.join().expect("they connect");
        clients.push(first);
        for client in &mut clients {
            client.write_all(b"x").expect("it is connected");
        }
        for mut stream in served {
            assert_eq!(&stream.receive().await.expect("bytes")[..], b"x");
        }
    });
}

/// Two ends of ours, random sizes, reads of every kind, limits that pass and futures that are
/// dropped: the bytes arrive once and in order.
#[test]
fn bytes_arrive_once_and_in_order_whatever_reads_do() {
    const TOTAL: usize = 3 << 20;
    let world = World::uring();
    for seed in 0..8 {
        world.run(async {
            let (mut ours, mut theirs) = tcp_pair();
            let writer = thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut sent = 0;
                while sent < TOTAL {
                    let most = if random.u8(..3) == 0 { 60_000 } else { 900 };
                    let n = random.usize(1..most).min(TOTAL - sent);
                    theirs
                        .write_all(&pattern(sent, n))
                        .expect("it is connected");
                    sent += n;
                }
            });
            let mut random = fastrand::Rng::with_seed(seed + 1_000);
            let mut all = Vec::new();
            loop {
                let limit = Duration::from_micros(random.u64(..300));
                let taken: io::Result<Vec<u8>> = match random.u8(..5) {
                    0 => wait_for(ours.receive(), limit)
                        .await
                        .map(|lease| lease.to_vec()),
                    1 => {
                        let buf = Vec::with_capacity(random.usize(1..40_000));
                        let BufResult(n, buf) = wait_for(ours.read(buf), limit).await;
                        n.map(|_| buf)
                    }
                    2 => {
                        let mut read = pin!(ours.read(Vec::with_capacity(77)));
                        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                            Poll::Ready(BufResult(n, buf)) => n.map(|_| buf),
                            Poll::Pending => continue,
                        }
                    }
                    3 => {
                        let BufResult(n, buf) = ours.peek(vec![0; 50]).await;
                        let n = n.expect("it goes on");
                        assert_eq!(buf[..n], pattern(all.len(), n));
                        continue;
                    }
                    _ => ours
                        .receive()
                        .await
                        .map(|lease| lease.into_bytes().to_vec()),
                };
                match taken {
                    Ok(bytes) if bytes.is_empty() => break,
                    Ok(bytes) => all.extend(bytes),
                    Err(error) => assert!(is_time_out(&error), "{error}"),
                }
                if all.len() == TOTAL {
                    break;
                }
            }
            assert!(all == pattern(0, TOTAL), "seed {seed}");
            writer.join().expect("it has written");
        });
    }
}

/// The kernel gives about 20 completions an enter; what it holds back has come all the same (C1).
#[test]
fn what_has_come_wins_over_limits_that_passed_meanwhile() {
    let world = World::uring();
    world.run(async {
        let (mut tasks, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let (ours, theirs) = StdUnixStream::pair().expect("sockets");
            let mut ours = UnixStream::from(ours);
            tasks.push(create_task(async move {
                wait_for(ours.receive(), 200 * MS)
                    .await
                    .map(|bytes| bytes.len())
            }));
            peers.push(theirs);
        }
        turn().await; // All of them wait.
        let begin = now();
        for peer in &mut peers {
            peer.write_all(b"x").expect("there is room");
        }
        while now() - begin < 250 * MS {} // The loop is held up by somebody.
        for task in tasks {
            assert_eq!(task.await.expect("it came in time"), 1);
        }
    });
}
