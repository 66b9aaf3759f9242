//! Two streams joined: every byte once and in order, whatever ends it.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::{Kind, Stream, TcpStream, UnixStream, copy_bidirectional};
use coring::{BufResult, Partial, Stats, create_task, is_cancelled, ok, sleep, wait_for};
use socket2::{Domain, SockRef, Socket, Type};

/// A connection: our end, and the peer's, which blocks.
fn tcp() -> (TcpStream, Socket) {
    let (ours, theirs) = tcp_pair();
    (ours, theirs.into())
}

fn unix() -> (UnixStream, Socket) {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM.cloexec(), None).expect("a pair");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
    (OwnedFd::from(ours).into(), theirs)
}

fn pattern(salt: usize, from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|i| (i * 7 + i / 251 + salt * 31) as u8)
        .collect()
}

/// Writes `total` bytes in pieces, ends, and reads to the end meanwhile.
fn peer(mut socket: Socket, salt: usize, total: usize, step: usize) -> thread::JoinHandle<Vec<u8>> {
    let mut writer = socket.try_clone().expect("a socket");
    thread::spawn(move || {
        let writes = thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(salt as u64);
            let mut sent = 0;
            while sent < total {
                let n = random.usize(1..=step).min(total - sent);
                writer
                    .write_all(&pattern(salt, sent, n))
                    .expect("it is connected");
                sent += n;
            }
            writer.shutdown(Shutdown::Write).expect("it is connected");
        });
        let mut all = Vec::new();
        socket.read_to_end(&mut all).expect("to the end");
        writes.join().expect("it has written");
        all
    })
}

/// Reads `n` bytes, while the loop goes on.
async fn take(socket: &mut Socket, n: usize) -> Vec<u8> {
    socket.set_nonblocking(true).expect("a socket");
    let mut all = Vec::new();
    until(|| {
        let mut buf = vec![0; n - all.len()];
        match socket.read(&mut buf) {
            Ok(read) => all.extend_from_slice(&buf[..read]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        all.len() == n
    })
    .await;
    socket.set_nonblocking(false).expect("a socket");
    all
}

fn counts(error: &io::Error) -> (u64, u64) {
    let partial = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Partial>());
    partial.map_or((0, 0), |p| (p.transferred as u64, p.returned as u64))
}

async fn join<A: Kind, B: Kind>(a: (Stream<A>, Socket), b: (Stream<B>, Socket)) {
    const THERE: usize = 3_000_001;
    const BACK: usize = 1_700_003;
    let ((mut a, client), (mut b, server)) = (a, b);
    let (client, server) = (peer(client, 1, THERE, 90_000), peer(server, 2, BACK, 3_000));
    let copied = copy_bidirectional(&mut a, &mut b).await.expect("both end");
    assert_eq!(copied, (THERE as u64, BACK as u64));
    assert!(server.join().expect("it has read") == pattern(1, 0, THERE));
    assert!(client.join().expect("it has read") == pattern(2, 0, BACK));
}

#[test]
fn bytes_of_any_two_streams_arrive_both_ways() {
    let world = World::uring();
    world.run(join(tcp(), tcp()));
    world.run(join(tcp(), unix()));
    world.run(join(unix(), tcp()));
    world.run(join(unix(), unix()));
}

#[test]
fn half_close_is_passed_on_and_the_other_way_goes_on() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, mut server)) = (tcp(), tcp());
        let proxy = create_task(async move { copy_bidirectional(&mut a, &mut b).await });
        client.write_all(b"question").expect("it is connected");
        client.shutdown(Shutdown::Write).expect("it is connected");
        let server = thread::spawn(move || {
            let mut question = Vec::new();
            server.read_to_end(&mut question).expect("to the end");
            for i in 0..100 {
                server.write_all(&[i; 100]).expect("it goes on");
            }
            question
        });
        assert_eq!(proxy.await.expect("both end"), (8, 10_000));
        assert_eq!(server.join().expect("it has read"), b"question");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("to the end");
        assert_eq!(answer.len(), 10_000);
    });
}

#[test]
fn what_had_arrived_goes_first() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, mut server)) = (tcp(), unix());
        client
            .write_all(b"a header, a body")
            .expect("it is connected");
        let BufResult(n, header) = a.read(Vec::with_capacity(10)).await;
        assert_eq!((n.expect("bytes"), &header[..]), (10, &b"a header, "[..]));
        client.write_all(b", more").expect("it is connected");
        sleep(MS).await.expect("nobody cancels");
        client.write_all(b", last").expect("it is connected");
        drop(client);
        server.write_all(b"x").expect("it is connected");
        server.shutdown(Shutdown::Write).expect("it is connected");
        let copied = copy_bidirectional(&mut a, &mut b).await;
        // The client has gone before it has read: it may have reset by then.
        if let Ok(copied) = copied {
            assert_eq!(copied, (18, 1));
        }
        let mut all = vec![0; 18];
        server.read_exact(&mut all).expect("it goes on");
        assert_eq!(all, b"a body, more, last");
    });
}

/// Limits that pass at any moment, on peers that are fast and slow: the counts add up, and each byte
/// arrives once.
#[test]
fn limits_that_pass_at_any_moment_lose_no_byte() {
    const TOTAL: usize = 2 << 20;
    let world = World::uring();
    for seed in 0..8 {
        world.run(async {
            let ((mut a, client), (mut b, server)) = (tcp(), unix());
            SockRef::from(&b)
                .set_send_buffer_size(4_096)
                .expect("a socket");
            let client = peer(client, 1, TOTAL, 200_000);
            let server = peer(server, 2, TOTAL, 700);
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut there, mut back) = (0, 0);
            let mut stopped = 0;
            loop {
                let limit = Duration::from_micros(random.u64(..600));
                let copied = wait_for(copy_bidirectional(&mut a, &mut b), limit).await;
                match copied {
                    Ok((n, m)) => {
                        assert_eq!((there + n, back + m), (TOTAL as u64, TOTAL as u64));
                        break;
                    }
                    Err(error) => {
                        assert!(coring::is_timed_out(&error), "{error}");
                        let (n, m) = counts(&error);
                        (there, back) = (there + n, back + m);
                        stopped += 1;
                    }
                }
            }
            assert!(stopped > 0);
            assert!(
                server.join().expect("it has read") == pattern(1, 0, TOTAL),
                "seed {seed}"
            );
            assert!(
                client.join().expect("it has read") == pattern(2, 0, TOTAL),
                "seed {seed}"
            );
        });
    }
}

#[test]
fn copy_that_is_cancelled_while_the_peer_is_slow_keeps_what_it_has_received() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, mut server)) = (tcp(), tcp());
        SockRef::from(&b)
            .set_send_buffer_size(4_096)
            .expect("a socket");
        client.set_nonblocking(true).expect("a socket");
        let task = create_task(async move {
            let copied = copy_bidirectional(&mut a, &mut b).await;
            (copied, a, b)
        });
        // Until neither the kernel nor we take any more.
        let (mut sent, mut blocked) = (0, 0);
        while blocked < 20 {
            match client.write(&pattern(1, sent, 50_000)) {
                Ok(n) => (sent, blocked) = (sent + n, 0),
                Err(_) => blocked += 1,
            }
            sleep(MS).await.expect("nobody cancels");
        }
        let buffers = Stats::current().buffers;
        assert!(buffers.total <= 32, "bounded: {buffers:?}");
        task.cancel();
        let (copied, mut a, b) = task.await;
        let error = error_of(copied);
        assert!(is_cancelled(&error), "{error}");
        let (there, _) = counts(&error);
        // What went there has arrived, and what follows is still to be read here.
        let mut all = vec![0; there as usize];
        server.read_exact(&mut all).expect("it was sent");
        drop(client);
        loop {
            let lease = a.receive().await.expect("to the end");
            if lease.is_empty() {
                break;
            }
            all.extend_from_slice(&lease);
        }
        assert!(all == pattern(1, 0, sent));
        drop(b);
    });
}

/// Each poll may be the last one: nothing is left behind, and no byte comes twice or out of order.
#[test]
fn copy_that_is_dropped_at_any_moment_leaves_nothing_behind() {
    let world = World::uring();
    for polls in 1..12 {
        world.run(async {
            let ((mut a, mut client), (mut b, mut server)) = (tcp(), unix());
            client
                .write_all(&pattern(1, 0, 300_000))
                .expect("there is room");
            server
                .write_all(&pattern(2, 0, 5_000))
                .expect("there is room");
            {
                let mut copy = pin!(copy_bidirectional(&mut a, &mut b));
                for _ in 0..polls {
                    let polled = copy.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending());
                    coring::yield_now().await.expect("nobody cancels");
                }
            }
            sleep(MS).await.expect("nobody cancels");
            let arrived = b.shutdown(Shutdown::Write).await;
            arrived.expect("it is connected");
            let mut all = Vec::new();
            server.set_nonblocking(true).expect("a socket");
            let _ = server.read_to_end(&mut all);
            assert!(all == pattern(1, 0, all.len()), "a prefix, polls {polls}");
        });
    }
}

#[test]
fn peer_that_resets_ends_both_ways_with_their_counts() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, mut server)) = (tcp(), tcp());
        let proxy = create_task(async move {
            let copied = copy_bidirectional(&mut a, &mut b).await;
            (copied, b)
        });
        client.write_all(b"hello").expect("it is connected");
        assert_eq!(take(&mut server, 5).await, b"hello");
        server.write_all(b"hi").expect("it is connected");
        assert_eq!(take(&mut client, 2).await, b"hi");
        reset(client);
        let (copied, b) = proxy.await;
        let error = error_of(copied);
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(counts(&error), (5, 2));
        assert!(
            error.to_string().contains("5 bytes there, 2 back"),
            "{error}"
        );
        // Passed on by who wants to.
        b.set_zero_linger().expect("a socket");
        drop(b);
        sleep(MS).await.expect("nobody cancels");
        let error = server.read(&mut [0; 5]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn peer_that_takes_no_more_ends_both_ways() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, server)) = (tcp(), unix());
        let proxy = create_task(async move { copy_bidirectional(&mut a, &mut b).await });
        server.shutdown(Shutdown::Both).expect("it is connected");
        let writer = thread::spawn(move || while client.write_all(&[7; 1_000]).is_ok() {});
        let error = error_of(proxy.await);
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        // The connections are closed when the loop turns.
        until(|| writer.is_finished()).await;
        writer.join().expect("it only writes");
    });
}

/// What both ends do first is over when it begins.
#[test]
fn streams_that_have_ended_are_joined_to_their_end() {
    let world = World::uring();
    world.run(async {
        for round in 0..20 {
            let ((mut a, mut client), (mut b, mut server)) = (unix(), unix());
            client
                .write_all(&pattern(1, round, 100))
                .expect("there is room");
            server
                .write_all(&pattern(2, round, 50))
                .expect("there is room");
            client.shutdown(Shutdown::Write).expect("it is connected");
            server.shutdown(Shutdown::Write).expect("it is connected");
            let copied = copy_bidirectional(&mut a, &mut b).await;
            assert_eq!(copied.expect("both end"), (100, 50));
            // Again: there is nothing more.
            let copied = copy_bidirectional(&mut a, &mut b).await;
            assert_eq!(copied.expect("both end"), (0, 0));
            let mut all = Vec::new();
            server.read_to_end(&mut all).expect("to the end");
            assert_eq!(all, pattern(1, round, 100));
        }
    });
}

#[test]
fn many_at_once_do_not_stop_each_other() {
    let world = World::uring();
    world.run(async {
        let mut proxies = Vec::new();
        let mut peers = Vec::new();
        for i in 0..40 {
            let ((mut a, client), (mut b, server)) = (tcp(), unix());
            proxies.push(create_task(async move {
                copy_bidirectional(&mut a, &mut b).await
            }));
            let bytes = 20_000 + 1_000 * i;
            let (client, server) = (
                peer(client, i, bytes, 5_000),
                peer(server, i + 1, bytes, 9_000),
            );
            peers.push((i, bytes, client, server));
        }
        for proxy in proxies {
            proxy.await.expect("both end");
        }
        for (i, bytes, client, server) in peers {
            assert!(server.join().expect("it has read") == pattern(i, 0, bytes));
            assert!(client.join().expect("it has read") == pattern(i + 1, 0, bytes));
        }
    });
}

/// A message costs one request, and no second enter to hear that it was sent.
#[test]
fn message_that_is_passed_on_is_one_request() {
    let world = World::uring();
    world
        .run(async {
            let ((mut a, mut client), (mut b, mut server)) = (tcp(), tcp());
            let proxy = create_task(async move { copy_bidirectional(&mut a, &mut b).await });
            let mut pass = async |i: usize| {
                client
                    .write_all(&pattern(1, i, 64))
                    .expect("it is connected");
                until(|| {
                    let mut buf = [0; 64];
                    server.set_nonblocking(true).expect("a socket");
                    matches!(server.read(&mut buf), Ok(64))
                })
                .await;
            };
            pass(0).await;
            // Sleeps of `until` are one request each as well.
            let before = Stats::current();
            for i in 0..100 {
                pass(i).await;
            }
            let after = Stats::current();
            let sent = after.submissions - before.submissions;
            assert!((100..=320).contains(&sent), "{sent} requests");
            drop((client, server));
            let _ = proxy.await;
            ok(())
        })
        .expect("nobody cancels");
}

#[test]
fn copy_under_a_request_that_is_pending_takes_nothing() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, _server)) = (tcp(), tcp());
        client.write_all(b"kept").expect("it is connected");
        let limited = wait_for(copy_bidirectional(&mut a, &mut b), Duration::ZERO).await;
        let error = error_of(limited);
        assert!(is_time_out(&error));
        assert_eq!(counts(&error), (0, 0));
        assert_eq!(&a.receive().await.expect("bytes")[..], b"kept");
    });
}

/// For a stream that is not polled any more.
#[test]
fn polled_once_and_dropped_it_keeps_the_receives_armed() {
    let world = World::uring();
    world.run(async {
        let ((mut a, mut client), (mut b, mut server)) = (tcp(), tcp());
        {
            let mut copy = pin!(copy_bidirectional(&mut a, &mut b));
            let polled = copy.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending));
        }
        client.write_all(b"there").expect("it is connected");
        server.write_all(b"back").expect("it is connected");
        assert_eq!(&a.receive().await.expect("bytes")[..], b"there");
        assert_eq!(&b.receive().await.expect("bytes")[..], b"back");
    });
}
