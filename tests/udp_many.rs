//! Many datagrams by one receive: none is lost or cut, however waits for them end.

#![cfg(not(miri))]

mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::net::{Ecn, UdpReceived, UdpReceiver, UdpSocket, UdpTransmit};
use coring::{BufResult, Lease, Stats, create_task, is_cancelled, wait_for, yield_now};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

/// More than are queued for a receiver before it is paused, and twice.
const MORE_THAN_BOUND: usize = 200;

fn families(test: &str) -> Vec<&'static str> {
    if std::net::UdpSocket::bind(V6).is_ok() {
        return vec![V4, V6];
    }
    skip(test, "there is no IPv6 here");
    vec![V4]
}

fn bound(addr: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(addr).expect("a free port");
    let addr = socket.local_addr().expect("it is bound");
    (socket, addr)
}

/// A socket, and one of std's that is connected to it: what it sends has arrived when it returns.
fn pair(addr: &str) -> (UdpSocket, std::net::UdpSocket) {
    let (ours, here) = bound(addr);
    let theirs = std::net::UdpSocket::bind(addr).expect("a free port");
    theirs.connect(here).expect("it is bound");
    (ours, theirs)
}

fn send(theirs: &std::net::UdpSocket, bytes: &[u8]) {
    assert_eq!(theirs.send(bytes).expect("it is bound"), bytes.len());
}

/// Datagrams with the numbers `from..to`.
fn send_numbers(theirs: &std::net::UdpSocket, from: usize, to: usize) {
    for i in from..to {
        send(theirs, &i.to_ne_bytes());
    }
}

fn number(payload: &[u8]) -> usize {
    usize::from_ne_bytes(payload.try_into().expect("a number"))
}

async fn next(receiver: &mut UdpReceiver) -> (UdpReceived, Lease) {
    let next = wait_for(receiver.next(), PATIENCE).await;
    let (received, payload) = next.expect("it has come");
    assert_eq!((received.len, received.truncated), (payload.len(), 0));
    (received, payload)
}

async fn expect_numbers(receiver: &mut UdpReceiver, from: usize, to: usize) {
    for i in from..to {
        assert_eq!(number(&next(receiver).await.1), i);
    }
}

#[test]
fn datagrams_of_all_sizes_come_whole_and_in_order_with_their_senders() {
    let test = "datagrams_of_all_sizes_come_whole_and_in_order_with_their_senders";
    let world = World::uring();
    world.run(async {
        for any in families(test) {
            let (ours, one) = pair(any);
            let (_, other) = pair(any);
            let here = ours.local_addr().expect("it is bound");
            other.connect(here).expect("it is bound");
            let mut receiver = ours.recv_many();
            let most = if any == V4 { 65_507 } else { 65_527 };
            for (i, len) in [0, 1, 1_472, most, 0, 0, 9_000, most - 1, 4_096]
                .into_iter()
                .enumerate()
            {
                let theirs = if i % 2 == 0 { &one } else { &other };
                let sent = pattern(i, len);
                send(theirs, &sent);
                // Two at once, of different senders.
                send(&one, b"behind it");
                let (received, payload) = next(&mut receiver).await;
                assert!(payload[..] == sent, "{} of {len} bytes", payload.len());
                assert_eq!(received.from, theirs.local_addr().expect("it is bound"));
                let all: Vec<_> = received.datagrams(&payload).collect();
                assert_eq!(all, [&payload[..]], "one is one, without bytes too");
                let none = (received.ecn, received.to, received.segment_size);
                assert_eq!(none, (None, None, None));
                assert_eq!(next(&mut receiver).await.1[..], *b"behind it");
            }
        }
    });
}

#[test]
fn many_datagrams_take_few_system_calls() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        send_numbers(&theirs, 0, 1);
        expect_numbers(&mut receiver, 0, 1).await;
        let before = Stats::current();
        send_numbers(&theirs, 1, 51);
        expect_numbers(&mut receiver, 1, 51).await;
        let after = Stats::current();
        assert_eq!(after.submissions, before.submissions, "armed once");
        assert!(after.enters - before.enters < 10, "{before:?} {after:?}");
    });
}

#[test]
fn next_that_is_dropped_leaves_its_datagram_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        for round in 0..20 {
            {
                let mut wait = Box::pin(receiver.next());
                assert!(poll_once(&mut wait).await.is_pending());
                if round % 2 == 0 {
                    send_numbers(&theirs, round, round + 1);
                    turn().await;
                }
            }
            if round % 2 != 0 {
                send_numbers(&theirs, round, round + 1);
            }
            expect_numbers(&mut receiver, round, round + 1).await;
        }
    });
}

#[test]
fn next_that_times_out_leaves_the_receive_armed() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        let error = error_of(wait_for(receiver.next(), MS).await);
        assert!(is_time_out(&error));
        let submissions = Stats::current().submissions;
        for round in 0..20 {
            let error = error_of(wait_for(receiver.next(), Duration::ZERO).await);
            assert!(is_time_out(&error));
            send_numbers(&theirs, round, round + 1);
            let (_, payload) = receiver.next().await.expect("it has come");
            assert_eq!(number(&payload), round);
        }
        assert_eq!(Stats::current().submissions, submissions, "armed once");
    });
}

#[test]
fn next_that_is_cancelled_leaves_the_receive_armed() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        for round in 0..5 {
            let task = begun(async move {
                let told = receiver.next().await.map(drop);
                (told, receiver)
            })
            .await;
            task.cancel();
            let told;
            (told, receiver) = task.await;
            assert!(is_cancelled(&error_of(told)));
            send_numbers(&theirs, round, round + 1);
            expect_numbers(&mut receiver, round, round + 1).await;
        }
    });
}

/// What is kept here is bounded; the rest stays with the kernel, and nothing is lost.
#[test]
fn burst_that_nobody_takes_pauses_the_receive_and_comes_whole() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        let mut sent = 0;
        for _ in 0..3 {
            send_numbers(&theirs, sent, sent + 1);
            expect_numbers(&mut receiver, sent, sent + 1).await;
            send_numbers(&theirs, sent + 1, sent + MORE_THAN_BOUND);
            until(|| Stats::current().in_flight == 0).await;
            let held = Stats::current().buffers.leases;
            assert!((65..=128).contains(&held), "{held} are held");
            assert_eq!(Stats::current().buffers.total, 128, "no more are needed");
            expect_numbers(&mut receiver, sent + 1, sent + MORE_THAN_BOUND).await;
            sent += MORE_THAN_BOUND;
        }
    });
}

#[test]
fn finish_gives_what_had_come_and_leaves_the_rest() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        assert!(ours.recv_many().finish().await.is_empty(), "never started");
        let mut receiver = ours.recv_many();
        send_numbers(&theirs, 0, 1);
        expect_numbers(&mut receiver, 0, 1).await;
        send_numbers(&theirs, 1, MORE_THAN_BOUND);
        turn().await;
        let mut seen = 1;
        for received in receiver.finish().await {
            assert_eq!(number(&received.expect("it had come").1), seen);
            seen += 1;
        }
        assert!((2..MORE_THAN_BOUND).contains(&seen), "{seen}");
        assert_eq!(Stats::current().in_flight, 0);
        expect_numbers(&mut ours.recv_many(), seen, MORE_THAN_BOUND).await;
    });
}

/// The guard sees that buffers and descriptors come back.
#[test]
fn receiver_dropped_in_any_state_gives_its_buffers_back() {
    let world = World::uring();
    for state in 0..6 {
        world.run(async {
            let (ours, theirs) = pair(V4);
            let mut receiver = ours.recv_many();
            if state == 0 {
                return;
            }
            assert!(poll_once(&mut Box::pin(receiver.next())).await.is_pending());
            if state == 1 {
                return; // In the queue.
            }
            turn().await;
            if state == 2 {
                return; // The kernel has it.
            }
            send_numbers(&theirs, 0, 10);
            if state == 3 {
                return; // What comes, comes when it is gone.
            }
            turn().await;
            assert_eq!(Stats::current().buffers.leases, 10);
            if state == 4 {
                return; // It has come, and nobody has taken it.
            }
            let (_, kept) = next(&mut receiver).await;
            drop(receiver);
            drop(ours);
            turn().await;
            assert_eq!(Stats::current().buffers.leases, 1);
            assert_eq!(number(&kept), 0);
            assert_eq!(number(&kept.into_bytes()), 0);
        });
    }
}

#[test]
fn receiver_that_outlives_its_runtime_is_sound() {
    let world = World::uring();
    let (mut receiver, mut kept) = (None, None);
    let mut runner = world.runner();
    runner.run(async {
        let (ours, theirs) = pair(V4);
        let mut armed = ours.recv_many();
        send_numbers(&theirs, 0, 3);
        kept = Some(next(&mut armed).await.1);
        receiver = Some(armed);
    });
    assert_eq!(runner.stats().in_flight, 1);
    drop(runner);
    assert_eq!(number(&kept.expect("it has come")), 0);
    // In another one it starts again, if what it had has been asked for.
    world.run(async {
        let mut receiver = receiver.take().expect("it was armed");
        let outcome = wait_for(receiver.next(), MS).await;
        assert!(outcome.is_err() || number(&outcome.expect("looked at").1) < 3);
    });
}

/// Others may keep all there are: whoever waits gets on, in memory of its own.
#[test]
fn receiver_without_buffers_gets_on_one_by_one() {
    let world = World::uring();
    let builder = world.builder().buffer_count(1, 2);
    let mut runner = builder.build().expect("a runner");
    runner.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        let mut kept = Vec::new();
        send_numbers(&theirs, 0, 20);
        for i in 0..20 {
            let (received, payload) = next(&mut receiver).await;
            assert_eq!(received.from, theirs.local_addr().expect("it is bound"));
            assert_eq!(number(&payload), i);
            kept.push(payload);
        }
        assert_eq!(Stats::current().buffers.leases, 2, "the others are its own");
        // A wait that is given up leaves it armed.
        assert!(is_time_out(&error_of(wait_for(receiver.next(), MS).await)));
        let largest = pattern(0, 65_507);
        send(&theirs, &largest);
        assert!(next(&mut receiver).await.1[..] == largest);
        send(&theirs, b"");
        assert_eq!(next(&mut receiver).await.1[..], *b"");
        drop(kept);
        for i in 0..3 {
            send_numbers(&theirs, i, i + 1);
            expect_numbers(&mut receiver, i, i + 1).await;
        }
        assert_eq!(Stats::current().in_flight, 1, "armed, with a buffer again");
        // Ended while it has memory of its own: what has come is given, or goes with it.
        let kept = [(); 2].map(|()| send_numbers(&theirs, 0, 1));
        let kept = [
            (kept[0], next(&mut receiver).await),
            (kept[1], next(&mut receiver).await),
        ];
        assert!(is_time_out(&error_of(wait_for(receiver.next(), MS).await)));
        send(&theirs, b"last");
        turn().await;
        let mut rest = receiver.finish().await;
        let (_, last) = rest.pop().expect("one").expect("it has come");
        assert_eq!((&last[..], rest.len()), (&b"last"[..], 0));
        let mut receiver = ours.recv_many();
        assert!(is_time_out(&error_of(wait_for(receiver.next(), MS).await)));
        drop(receiver);
        drop(kept);
    });
    finish(runner);
}

#[test]
fn refusals_are_errors_and_the_receiver_goes_on() {
    let test = "refusals_are_errors_and_the_receiver_goes_on";
    let world = World::uring();
    world.run(async {
        for any in families(test) {
            let (ours, here) = bound(any);
            let (peer, there) = {
                let socket = std::net::UdpSocket::bind(any).expect("a free port");
                let addr = socket.local_addr().expect("it is bound");
                (socket, addr)
            };
            ours.connect(there).expect("an address");
            let mut receiver = ours.recv_many();
            drop(peer);
            for _ in 0..3 {
                ours.send("anybody?").await.0.expect("it goes out");
                let refused = error_of(wait_for(receiver.next(), PATIENCE).await);
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
            let peer = std::net::UdpSocket::bind(there).expect("it is free again");
            peer.connect(here).expect("it is bound");
            send_numbers(&peer, 0, 5);
            expect_numbers(&mut receiver, 0, 5).await;
        }
    });
}

#[test]
fn segments_marks_and_addresses_come_with_the_bytes() {
    let test = "segments_marks_and_addresses_come_with_the_bytes";
    let world = World::uring();
    world.run(async {
        for any in families(test) {
            let (ours, here) = bound(any);
            ours.set_gro(true).expect("since Linux 5.0");
            ours.set_recv_ecn(true).expect("a socket");
            ours.set_recv_pktinfo(true).expect("a socket");
            let mut receiver = ours.recv_many();
            let (theirs, there) = bound(any);
            let data = pattern(0, 60_500);
            let how = UdpTransmit::to(here).segment_size(1_000).ecn(Ecn::Ect0);
            for _ in 0..5 {
                let BufResult(sent, _) = theirs.send_msg(data.clone(), &how).await;
                sent.expect("it is bound");
                theirs.send_to("x", here).await.0.expect("it is bound");
                let (several, payload) = next(&mut receiver).await;
                assert_eq!((several.from, several.ecn), (there, Some(Ecn::Ect0)));
                assert_eq!(
                    (several.to, several.segment_size),
                    (Some(here.ip()), Some(1_000))
                );
                assert_eq!(several.interface, Some(1), "the loopback interface");
                let parts: Vec<_> = several.datagrams(&payload).collect();
                assert_eq!(parts, data.chunks(1_000).collect::<Vec<_>>());
                let (one, payload) = next(&mut receiver).await;
                assert_eq!((one.ecn, one.segment_size), (Some(Ecn::NotCapable), None));
                assert_eq!(one.datagrams(&payload).collect::<Vec<_>>(), [b"x"]);
            }
        }
    });
}

#[test]
fn socket_for_both_families_says_of_which_a_sender_is() {
    let test = "socket_for_both_families_says_of_which_a_sender_is";
    let world = World::uring();
    world.run(async {
        if families(test).len() == 1 {
            return;
        }
        let (ours, here) = bound("[::]:0");
        let mut receiver = ours.recv_many();
        for any in [V4, V6] {
            let theirs = std::net::UdpSocket::bind(any).expect("a free port");
            let there = theirs.local_addr().expect("it is bound");
            let to = SocketAddr::new(there.ip(), here.port());
            theirs.send_to(b"x", to).expect("it is bound");
            let (received, _) = next(&mut receiver).await;
            assert_eq!(received.from.ip().to_canonical(), there.ip());
            assert!(received.from.is_ipv6() && received.from.port() == there.port());
        }
    });
}

/// Each datagram has one of them; one that is dropped takes none that it was not given.
#[test]
fn receivers_of_one_socket_share_what_comes() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let ours = Rc::new(ours);
        let receive = |count: usize| {
            let ours = ours.clone();
            create_task(async move {
                let mut receiver = ours.recv_many();
                let mut got = Vec::new();
                while got.len() < count {
                    match wait_for(receiver.next(), 20 * MS).await {
                        Ok((_, payload)) => got.push(number(&payload)),
                        Err(error) => {
                            assert!(is_time_out(&error), "{error}");
                            break;
                        }
                    }
                }
                for received in receiver.finish().await {
                    got.push(number(&received.expect("it had come").1));
                }
                got
            })
        };
        let tasks = [receive(usize::MAX), receive(usize::MAX), receive(3)];
        yield_now().await.expect("nobody cancels");
        for i in 0..150 {
            send_numbers(&theirs, i, i + 1);
            if i % 10 == 0 {
                yield_now().await.expect("nobody cancels");
            }
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await);
        }
        all.sort_unstable();
        assert_eq!(all, (0..150).collect::<Vec<_>>());
    });
}

/// The kernel has what was lent until the send is over; then the buffer is the pool's again.
#[test]
fn payload_is_sent_out_of_the_buffer_that_it_came_in() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut receiver = ours.recv_many();
        let mut answer = vec![0; 65_536];
        for len in [0, 1, 1_472, 65_507] {
            let sent = pattern(len, len);
            send(&theirs, &sent);
            let (received, payload) = next(&mut receiver).await;
            let BufResult(n, payload) = ours.send_to(payload, received.from).await;
            assert_eq!((n.expect("it is bound"), payload.len()), (len, len));
            drop(payload);
            assert_eq!(theirs.recv(&mut answer).expect("it has come"), len);
            assert!(answer[..len] == sent);
        }
        assert_eq!(Stats::current().buffers.leases, 0);
    });
}

/// With all that had come: as std's it gives what comes after that.
#[test]
fn socket_leaves_the_runtime_when_its_receivers_have_ended() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        let mut receiver = ours.recv_many();
        send_numbers(&theirs, 0, 1);
        expect_numbers(&mut receiver, 0, 1).await;
        send_numbers(&theirs, 1, 4);
        turn().await;
        let arrived = receiver.finish().await;
        assert_eq!(arrived.len(), 3);
        send_numbers(&theirs, 4, 5);
        let std = ours.into_std().await.expect("nobody has it");
        let mut buf = [0; 8];
        assert_eq!(std.recv(&mut buf).expect("it has come"), 8);
        assert_eq!(number(&buf), 4);
        // And back. What is cancelled on the way out takes nothing.
        let ours = UdpSocket::from(std);
        {
            let mut wait = Box::pin(ours.recv(Vec::with_capacity(8)));
            assert!(poll_once(&mut wait).await.is_pending());
            turn().await;
        }
        turn().await;
        send_numbers(&theirs, 5, 6);
        let std = UdpSocket::try_from(ours.into_fd().await.expect("nobody has it"));
        let BufResult(n, buf) = std.expect("it is one").recv(Vec::with_capacity(8)).await;
        assert_eq!((n.expect("it has come"), number(&buf)), (8, 5));
    });
}

#[test]
fn socket_does_not_leave_under_a_receiver_which_goes_on() {
    let world = World::uring();
    world.run(async {
        for armed in [false, true] {
            let (ours, theirs) = pair(V4);
            let mut receiver = ours.recv_many();
            if armed {
                send_numbers(&theirs, 0, 1);
                expect_numbers(&mut receiver, 0, 1).await;
            }
            let error = error_of(ours.into_std().await);
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            assert!(error.to_string().contains("`finish` it"), "{error}");
            send_numbers(&theirs, 1, 2);
            expect_numbers(&mut receiver, 1, 2).await;
        }
    });
}

/// Its operations have been dropped, and are still the kernel's.
#[test]
fn socket_waits_for_its_operations_before_it_leaves() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair(V4);
        for _ in 0..3 {
            let mut wait = Box::pin(ours.recv_from(Vec::with_capacity(8)));
            assert!(poll_once(&mut wait).await.is_pending());
        }
        drop(ours.recv_many());
        let std = ours.into_std().await.expect("nobody has it");
        assert_eq!(Stats::current().in_flight, 0);
        send_numbers(&theirs, 7, 8);
        let mut buf = [0; 8];
        assert_eq!(std.recv(&mut buf).expect("it has come"), 8);
        assert_eq!(number(&buf), 7);
    });
}
