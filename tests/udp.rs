//! UDP, against std's.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::{Ecn, Truncated, UdpReceived, UdpSocket, UdpTransmit, UnixDatagram};
use coring::{BufResult, Stats, create_task, is_cancelled, wait_for, yield_now};
use socket2::SockRef;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

/// The number of the loopback interface, in every network of its own.
const LOOPBACK: u32 = 1;

/// Addresses to bind to: of IPv6 as well, if this machine has it.
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

fn std_bound(addr: &str) -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind(addr).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let addr = socket.local_addr().expect("it is bound");
    (socket, addr)
}

fn truncated(error: &io::Error) -> Option<Truncated> {
    error.get_ref()?.downcast_ref().copied()
}

/// One datagram, with all that is known of it.
async fn received(socket: &UdpSocket) -> (UdpReceived, Vec<u8>) {
    let receive = wait_for(socket.recv_msg(Vec::with_capacity(65_536)), PATIENCE).await;
    let received = receive.0.expect("it has come");
    assert_eq!((received.len, received.truncated), (receive.1.len(), 0));
    (received, receive.1)
}

#[test]
fn datagrams_of_std_arrive_with_their_senders_address() {
    let world = World::uring();
    world.run(async {
        for any in families("datagrams_of_std_arrive_with_their_senders_address") {
            let (ours, here) = bound(any);
            let (theirs, there) = std_bound(any);
            assert_ne!(here.port(), 0);
            theirs.send_to(b"hello", here).expect("it is bound");
            let BufResult(received, buf) = ours.recv_from(Vec::with_capacity(9)).await;
            assert_eq!(received.expect("it has come"), (5, there));
            assert_eq!(buf, b"hello");
            let BufResult(n, buf) = ours.send_to(buf, there).await;
            assert_eq!(n.expect("it is bound"), 5);
            let mut got = [0; 9];
            assert_eq!(theirs.recv_from(&mut got).expect("it has come"), (5, here));
            assert_eq!(&got[..5], buf);
            // Connected, nobody else is heard.
            ours.connect(there).expect("an address");
            assert_eq!(ours.peer_addr().expect("it is connected"), there);
            let (other, _) = std_bound(any);
            other.send_to(b"other", here).expect("it is bound");
            theirs.send_to(b"", here).expect("it is bound");
            theirs.send_to(b"peer", here).expect("it is bound");
            let BufResult(n, buf) = ours.recv(Vec::with_capacity(9)).await;
            assert_eq!((n.expect("one without bytes"), buf.len()), (0, 0));
            let BufResult(n, buf) = ours.recv(buf).await;
            assert_eq!((n.expect("it has come"), &buf[..]), (4, &b"peer"[..]));
            ours.send("back").await.0.expect("it is connected");
            ours.send_vectored(("ba", vec![b'c'; 2]))
                .await
                .0
                .expect("it is connected");
            for expected in [b"back", b"bacc"] {
                assert_eq!(theirs.recv(&mut got).expect("it has come"), 4);
                assert_eq!(&got[..4], expected);
            }
            let text = format!("{ours:?}");
            assert!(text.contains(&here.to_string()) && text.contains(&there.to_string()));
        }
    });
}

#[test]
fn socket_for_both_families_hears_both() {
    let world = World::uring();
    world.run(async {
        if families("socket_for_both_families_hears_both").len() == 1 {
            return;
        }
        let (ours, here) = bound("[::]:0");
        ours.set_recv_pktinfo(true).expect("a socket");
        ours.set_recv_ecn(true).expect("a socket");
        for (any, ip) in [
            (V4, IpAddr::from(Ipv4Addr::LOCALHOST)),
            (V6, Ipv6Addr::LOCALHOST.into()),
        ] {
            let (theirs, there) = bound(any);
            theirs.set_recv_ecn(true).expect("a socket");
            let how = UdpTransmit::to((ip, here.port()).into()).ecn(Ecn::Ect0);
            theirs.send_msg("x", &how).await.0.expect("it is bound");
            let (request, _) = received(&ours).await;
            assert_eq!(request.from.ip().to_canonical(), there.ip());
            assert_eq!(request.from.port(), there.port());
            assert_eq!(request.to.map(|ip| ip.to_canonical()), Some(ip));
            assert_eq!(request.interface, Some(LOOPBACK));
            assert_eq!(request.ecn, Some(Ecn::Ect0), "{any}");
            // And the answer, with all that came.
            let how = UdpTransmit::to(request.from)
                .ecn(Ecn::CongestionExperienced)
                .source(request.to.expect("it was asked for"))
                .interface(LOOPBACK);
            ours.send_msg("y", &how).await.0.expect("it is bound");
            let (answer, _) = received(&theirs).await;
            assert_eq!(answer.from, SocketAddr::from((ip, here.port())));
            assert_eq!(answer.ecn, Some(Ecn::CongestionExperienced), "{any}");
            // The same where the socket knows the peer.
            let (connected, _) = bound("[::]:0");
            connected.connect(request.from).expect("an address");
            let how = UdpTransmit::new().ecn(Ecn::Ect1).interface(LOOPBACK);
            connected.send_msg("z", &how).await.0.expect("it is bound");
            assert_eq!(received(&theirs).await.0.ecn, Some(Ecn::Ect1), "{any}");
        }
    });
}

#[test]
fn marks_and_addresses_arrive_as_they_were_sent() {
    let world = World::uring();
    world.run(async {
        for any in families("marks_and_addresses_arrive_as_they_were_sent") {
            let (ours, here) = bound(any);
            let (theirs, there) = bound(any);
            // Not before it is asked for.
            let how = UdpTransmit::to(here).ecn(Ecn::Ect1);
            theirs.send_msg("x", &how).await.0.expect("it is bound");
            let (plain, _) = received(&ours).await;
            assert_eq!((plain.ecn, plain.to, plain.interface), (None, None, None));
            ours.set_recv_ecn(true).expect("a socket");
            ours.set_recv_pktinfo(true).expect("a socket");
            for ecn in [
                Ecn::NotCapable,
                Ecn::Ect0,
                Ecn::Ect1,
                Ecn::CongestionExperienced,
            ] {
                let how = UdpTransmit::to(here).ecn(ecn).interface(LOOPBACK);
                theirs.send_msg("x", &how).await.0.expect("it is bound");
                let (marked, buf) = received(&ours).await;
                assert_eq!((marked.ecn, &buf[..]), (Some(ecn), &b"x"[..]));
                assert_eq!(marked.to, Some(here.ip()));
                assert_eq!(marked.interface, Some(LOOPBACK));
                assert_eq!((marked.from, marked.segment_size), (there, None));
            }
            theirs.send_to("x", here).await.0.expect("it is bound");
            assert_eq!(received(&ours).await.0.ecn, Some(Ecn::NotCapable));
            ours.set_recv_ecn(false).expect("a socket");
            ours.set_recv_pktinfo(false).expect("a socket");
            theirs.send_msg("x", &how).await.0.expect("it is bound");
            let (plain, _) = received(&ours).await;
            assert_eq!((plain.ecn, plain.to, plain.interface), (None, None, None));
        }
    });
}

/// A server with several addresses answers from the one that it was asked at.
#[test]
fn source_that_is_given_is_whom_the_receiver_sees() {
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound("0.0.0.0:0");
        ours.set_recv_pktinfo(true).expect("a socket");
        let (theirs, there) = std_bound(V4);
        let asked = SocketAddr::from(([127, 0, 0, 77], here.port()));
        theirs.send_to(b"x", asked).expect("it is bound");
        let (request, _) = received(&ours).await;
        assert_eq!(request.to, Some(asked.ip()));
        let how = UdpTransmit::to(request.from).source(asked.ip());
        ours.send_msg("y", &how).await.0.expect("it is bound");
        let mut got = [0; 9];
        assert_eq!(theirs.recv_from(&mut got).expect("it has come"), (1, asked));
        // One that is not ours, and one of the other family.
        let how = UdpTransmit::to(there).source([203, 0, 113, 7].into());
        let error = error_of(ours.send_msg("y", &how).await.0);
        let errno = error.raw_os_error();
        assert!(matches!(errno, Some(libc::EINVAL | libc::ENETUNREACH)));
        let how = UdpTransmit::to(there).source(Ipv6Addr::LOCALHOST.into());
        let BufResult(sent, buf) = ours.send_msg("y", &how).await;
        let error = error_of(sent);
        assert_eq!((error.kind(), buf), (ErrorKind::InvalidInput, "y"));
        assert!(error.to_string().contains("::1"), "{error}");
        let how = UdpTransmit::new().source(asked.ip());
        let error = error_of(ours.send_msg("y", &how).await.0);
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn largest_datagram_arrives_and_a_byte_more_is_refused() {
    let world = World::uring();
    world.run(async {
        for any in families("largest_datagram_arrives_and_a_byte_more_is_refused") {
            let most = if any == V4 { 65_507 } else { 65_527 };
            let (ours, here) = bound(any);
            let (theirs, _) = bound(any);
            theirs.connect(here).expect("an address");
            let data: Vec<u8> = (0..most).map(|i| (i / 251) as u8).collect();
            let how = UdpTransmit::new();
            for round in 0..3 {
                let sent = match round {
                    0 => theirs.send(data.clone()).await.0,
                    1 => theirs.send_to(data.clone(), here).await.0,
                    _ => theirs.send_msg(data.clone(), &how).await.0,
                };
                assert_eq!(sent.expect("it is as large as may be"), most);
                let BufResult(n, buf) = ours.recv(Vec::with_capacity(most)).await;
                assert_eq!(n.expect("it fits"), most);
                assert!(buf == data, "other bytes");
                let sent = match round {
                    0 => theirs.send(vec![0; most + 1]).await,
                    1 => theirs.send_to(vec![0; most + 1], here).await,
                    _ => theirs.send_msg(vec![0; most + 1], &how).await,
                };
                assert_eq!(error_of(sent.0).raw_os_error(), Some(libc::EMSGSIZE));
                assert_eq!(sent.1.len(), most + 1);
            }
        }
    });
}

#[test]
fn datagrams_that_do_not_fit_are_said_to_be_cut() {
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound(V4);
        let (theirs, there) = std_bound(V4);
        for _ in 0..3 {
            theirs.send_to(b"hello world", here).expect("it is bound");
        }
        let cut = Some(Truncated {
            len: 5,
            truncated: 6,
        });
        // Which loses nothing.
        for _ in 0..2 {
            let BufResult(peeked, buf) = ours.peek_from(Vec::with_capacity(5)).await;
            assert_eq!(truncated(&error_of(peeked)), cut);
            assert_eq!(buf, b"hello");
        }
        let BufResult(peeked, buf) = ours.peek_from(Vec::with_capacity(11)).await;
        assert_eq!(peeked.expect("it fits"), (11, there));
        assert_eq!(buf, b"hello world");
        let BufResult(n, buf) = ours.recv(Vec::with_capacity(5)).await;
        let error = error_of(n);
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!((truncated(&error), &buf[..]), (cut, &b"hello"[..]));
        let BufResult(received, buf) = ours.recv_from(buf).await;
        assert_eq!(truncated(&error_of(received)), cut);
        assert_eq!(buf, b"hello");
        let BufResult(received, buf) = ours.recv_msg(buf).await;
        let received = received.expect("no error here");
        assert_eq!((received.len, received.truncated), (5, 6));
        assert_eq!((received.from, &buf[..]), (there, &b"hello"[..]));
        // Without any room; and one that just fits.
        theirs.send_to(b"x", here).expect("it is bound");
        let BufResult(n, _) = ours.recv(Vec::new()).await;
        assert_eq!(truncated(&error_of(n)).expect("it is").truncated, 1);
        theirs.send_to(b"hello", here).expect("it is bound");
        let BufResult(n, buf) = ours.recv(vec![0; 5].into_boxed_slice()).await;
        assert_eq!((n.expect("it fits"), &buf[..]), (5, &b"hello"[..]));
    });
}

#[test]
fn connected_socket_is_told_that_nobody_listens() {
    let world = World::uring();
    world.run(async {
        for any in families("connected_socket_is_told_that_nobody_listens") {
            let (ours, _) = bound(any);
            let (gone, nowhere) = std_bound(any);
            drop(gone);
            ours.connect(nowhere).expect("an address");
            // To whoever receives, to whoever sends next, and to whoever asks.
            ours.send("x").await.0.expect("it goes out");
            let BufResult(n, buf) = wait_for(ours.recv(vec![0; 9]), PATIENCE).await;
            assert_eq!(error_of(n).kind(), ErrorKind::ConnectionRefused);
            assert_eq!(buf.len(), 9);
            ours.send("x").await.0.expect("it goes out");
            let BufResult(n, _) = ours.send("x").await;
            assert_eq!(error_of(n).kind(), ErrorKind::ConnectionRefused);
            ours.send("x").await.0.expect("it goes out");
            let error = ours.take_error().expect("a socket").expect("there is one");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(ours.take_error().expect("a socket").is_none());
        }
        let (ours, _) = bound(V4);
        let error = error_of(ours.send("x").await.0);
        assert_eq!(error.raw_os_error(), Some(libc::EDESTADDRREQ));
    });
}

#[test]
fn one_send_of_ten_segments_is_received_as_ten_datagrams() {
    let world = World::uring();
    world.run(async {
        for any in families("one_send_of_ten_segments_is_received_as_ten_datagrams") {
            let (ours, here) = bound(any);
            let (theirs, _) = bound(any);
            let data: Vec<u8> = (0..9_500_u32).map(|i| (i / 7) as u8).collect();
            let how = UdpTransmit::to(here).segment_size(1_000);
            let BufResult(n, back) = theirs.send_msg(data.clone(), &how).await;
            assert_eq!((n.expect("it is bound"), &back), (9_500, &data));
            for part in data.chunks(1_000) {
                let BufResult(n, buf) = ours.recv(Vec::with_capacity(9_500)).await;
                assert_eq!(n.expect("it has come"), part.len());
                assert_eq!(buf, part);
            }
            // More than there may be.
            let how = UdpTransmit::to(here).segment_size(1);
            let error = error_of(theirs.send_msg(vec![0; 9_500], &how).await.0);
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    });
}

#[test]
fn segments_are_received_at_once_by_those_who_want_that() {
    let world = World::uring();
    world.run(async {
        for any in families("segments_are_received_at_once_by_those_who_want_that") {
            let (ours, here) = bound(any);
            ours.set_gro(true).expect("since Linux 5.0");
            ours.set_recv_ecn(true).expect("a socket");
            ours.set_recv_pktinfo(true).expect("a socket");
            let (theirs, there) = bound(any);
            let data: Vec<u8> = (0..9_500_u32).map(|i| (i / 7) as u8).collect();
            let how = UdpTransmit::to(here).segment_size(1_000).ecn(Ecn::Ect0);
            theirs
                .send_msg(data.clone(), &how)
                .await
                .0
                .expect("it is bound");
            let mut parts = data.chunks(1_000);
            let mut calls = 0;
            while parts.len() > 0 {
                let (several, buf) = received(&ours).await;
                assert_eq!((several.from, several.ecn), (there, Some(Ecn::Ect0)));
                assert_eq!(several.to, Some(here.ip()));
                for datagram in several.datagrams(&buf) {
                    assert_eq!(datagram, parts.next().expect("ten of them"));
                }
                calls += 1;
            }
            assert_eq!(calls, 1, "loopback takes nothing apart");
            // A single one is said to be one, and one without bytes as well.
            theirs.send_to("one", here).await.0.expect("it is bound");
            let (one, buf) = received(&ours).await;
            assert_eq!(one.segment_size, None);
            assert_eq!(one.datagrams(&buf).collect::<Vec<_>>(), [b"one"]);
            theirs.send_to("", here).await.0.expect("it is bound");
            let (none, buf) = received(&ours).await;
            assert_eq!(none.datagrams(&buf).collect::<Vec<_>>(), [b""]);
        }
    });
}

#[test]
fn group_gets_what_is_sent_to_it_until_it_is_left() {
    let test = "group_gets_what_is_sent_to_it_until_it_is_left";
    let world = World::uring();
    world.run(async {
        // Over IPv6 loopback often takes no groups: by another interface, which loops back too.
        let groups = [
            ("0.0.0.0:0", IpAddr::from([239, 1, 2, 3]), Some(LOOPBACK)),
            (
                "[::]:0",
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x1234).into(),
                link_local().map(|(_, scope)| scope),
            ),
        ];
        for (any, group, interface) in groups {
            let Some(interface) = interface else {
                skip(test, "no interface has a link-local address");
                continue;
            };
            let (ours, here) = bound(any);
            let (theirs, _) = bound(any);
            let to = SocketAddr::from((group, here.port()));
            if let Err(error) = ours.join_multicast(group, interface) {
                skip(test, &format!("{group} cannot be joined: {error}"));
                continue;
            }
            ours.set_recv_pktinfo(true).expect("a socket");
            theirs
                .set_multicast_interface(interface)
                .expect("it is there");
            theirs.set_multicast_loop(true).expect("a socket");
            theirs.set_multicast_ttl(1).expect("a socket");
            if let Err(error) = theirs.send_to("all", to).await.0 {
                skip(test, &format!("nothing goes to {group} here: {error}"));
                continue;
            }
            let (got, buf) = received(&ours).await;
            assert_eq!((got.to, &buf[..]), (Some(group), &b"all"[..]));
            assert_eq!(got.interface, Some(interface));
            ours.leave_multicast(group, interface).expect("it is in it");
            let again = error_of(ours.leave_multicast(group, interface));
            assert_eq!(again.kind(), ErrorKind::AddrNotAvailable);
            theirs.send_to("nobody", to).await.0.expect("it goes out");
            let receive = wait_for(ours.recv(Vec::with_capacity(9)), 5 * MS).await;
            assert!(is_time_out(&error_of(receive.0)));
        }
        let (ours, _) = bound(V4);
        let error = error_of(ours.join_multicast([239, 1, 2, 3].into(), 1 << 30));
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn link_local_address_with_its_scope_is_sent_to() {
    let world = World::uring();
    world.run(async {
        if families("link_local_address_with_its_scope_is_sent_to").len() == 1 {
            return;
        }
        let (ours, here) = bound(V6);
        let (theirs, there) = bound(V6);
        let SocketAddr::V6(mut scoped) = here else {
            panic!("{here}");
        };
        scoped.set_scope_id(LOOPBACK);
        theirs.send_to("x", scoped).await.0.expect("it is bound");
        let (got, _) = received(&ours).await;
        assert_eq!(got.from.ip(), there.ip());
        // An address of that kind, if some interface has one: it comes with its scope.
        let Some((ip, scope)) = link_local() else {
            skip(
                "link_local_address_with_its_scope_is_sent_to",
                "no interface has a link-local address",
            );
            return;
        };
        let addr = std::net::SocketAddrV6::new(ip, 0, 0, scope);
        let ours = UdpSocket::bind(addr).expect("it is this machine's");
        let theirs = UdpSocket::bind(addr).expect("it is this machine's");
        let here = ours.local_addr().expect("it is bound");
        theirs.send_to("y", here).await.0.expect("it is bound");
        let BufResult(received, _) = ours.recv_from(Vec::with_capacity(9)).await;
        let (_, from) = received.expect("it has come");
        assert_eq!(from, theirs.local_addr().expect("it is bound"));
        assert!(matches!(from, SocketAddr::V6(from) if from.scope_id() == scope));
    });
}

/// An address that holds in one network only, and the number of its interface.
fn link_local() -> Option<(Ipv6Addr, u32)> {
    let all = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    all.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let scope = u32::from_str_radix(words.next()?, 16).ok()?;
        let ip = Ipv6Addr::from(ip);
        ip.is_unicast_link_local().then_some((ip, scope))
    })
}

#[test]
fn several_tasks_send_and_receive_on_one_socket() {
    const EACH: u32 = 100;
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound(V4);
        ours.set_recv_buffer_size(1 << 20).expect("a socket");
        let ours = Rc::new(ours);
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let ours = ours.clone();
                create_task(async move {
                    let mut all = Vec::new();
                    for _ in 0..EACH {
                        let BufResult(n, buf) = ours.recv(Vec::with_capacity(9)).await;
                        assert_eq!(n?, 4);
                        all.push(u32::from_ne_bytes(buf.try_into().expect("four bytes")));
                    }
                    coring::ok(all)
                })
            })
            .collect();
        let theirs = Rc::new(bound(V4).0);
        let senders: Vec<_> = (0..4)
            .map(|i| {
                let theirs = theirs.clone();
                create_task(async move {
                    for n in i * EACH..(i + 1) * EACH {
                        theirs.send_to(n.to_ne_bytes().to_vec(), here).await.0?;
                    }
                    coring::ok(())
                })
            })
            .collect();
        for sender in senders {
            sender.await.expect("there is room");
        }
        let mut all = Vec::new();
        for receiver in receivers {
            all.extend(receiver.await.expect("nobody cancels"));
        }
        all.sort_unstable();
        assert_eq!(all, (0..4 * EACH).collect::<Vec<_>>());
    });
}

#[test]
fn recv_from_that_times_out_or_is_cancelled_loses_no_datagram() {
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound(V4);
        let ours = Rc::new(ours);
        let (theirs, there) = std_bound(V4);
        for round in 0..20_u8 {
            let BufResult(received, buf) = wait_for(ours.recv_from(vec![7; 9]), MS).await;
            assert!(is_time_out(&error_of(received)));
            assert_eq!(buf, [7; 9], "it comes back");
            let receive = wait_for(ours.recv_msg(buf), Duration::ZERO).await;
            assert!(is_time_out(&error_of(receive.0)));
            let receiver = ours.clone();
            let task = begun(async move { receiver.recv_from(vec![7; 9]).await.0 }).await;
            yield_now().await.expect("nobody cancels"); // It is the kernel's now.
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            {
                let mut dropped = Box::pin(ours.recv_from(vec![7; 9]));
                assert!(poll_once(&mut dropped).await.is_pending());
            }
            until(|| Stats::current().in_flight == 0).await;
            theirs.send_to(&[round], here).expect("it is bound");
            let BufResult(received, buf) = ours.recv_from(Vec::with_capacity(9)).await;
            assert_eq!(received.expect("it has come"), (1, there));
            assert_eq!(buf, [round]);
        }
    });
}

/// What was there in time is given, limit or not (C1).
#[test]
fn recv_from_with_limit_zero_gives_or_leaves_the_datagram() {
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound(V4);
        let (theirs, _) = std_bound(V4);
        for round in 0..20_u8 {
            theirs.send_to(&[round], here).expect("it is bound");
            let first = wait_for(ours.recv_from(Vec::with_capacity(9)), Duration::ZERO).await;
            let buf = match first {
                BufResult(Ok(_), buf) => buf,
                BufResult(Err(error), buf) => {
                    assert!(is_time_out(&error), "{error:?}");
                    let BufResult(n, buf) = ours.recv_from(buf).await;
                    assert_eq!(n.expect("it is still there").0, 1);
                    buf
                }
            };
            assert_eq!(buf, [round]);
        }
    });
}

#[test]
fn sockets_of_std_are_taken_over_and_wait_although_they_did_not() {
    let world = World::uring();
    world.run(async {
        let (std, here) = std_bound(V4);
        std.set_nonblocking(true).expect("a socket");
        let ours = UdpSocket::from(std);
        let task = begun(async move {
            let BufResult(n, buf) = ours.recv(Vec::with_capacity(9)).await;
            n.map(|_| (ours, buf))
        })
        .await;
        yield_now().await.expect("nobody cancels");
        let (theirs, _) = std_bound(V4);
        theirs.send_to(b"late", here).expect("it is bound");
        let (ours, buf) = task.await.expect("it waits");
        assert_eq!(buf, b"late");
        let fd: OwnedFd = ours.as_fd().try_clone_to_owned().expect("a descriptor");
        drop(ours);
        let ours = UdpSocket::try_from(fd).expect("a socket");
        theirs.send_to(b"more", here).expect("it is bound");
        assert_eq!(ours.recv(Vec::with_capacity(9)).await.1, b"more");
    });
}

/// TCP would count bytes that it does not write.
#[test]
fn descriptors_of_something_else_are_refused() {
    let world = World::uring();
    world.run(async {
        let listener = || std::net::TcpListener::bind(V4).expect("a free port");
        let error = error_of(UdpSocket::try_from(OwnedFd::from(listener())));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let (a, b) = std::os::unix::net::UnixDatagram::pair().expect("two sockets");
        let error = error_of(UdpSocket::try_from(OwnedFd::from(a)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        drop(UnixDatagram::try_from(OwnedFd::from(b)).expect("of its kind"));
        let (a, _b) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let error = error_of(UnixDatagram::try_from(OwnedFd::from(a)));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let error = error_of(UdpSocket::try_from(OwnedFd::from(file)));
        assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
        let wrong = std::net::UdpSocket::from(OwnedFd::from(listener()));
        let taken = std::panic::catch_unwind(|| drop(UdpSocket::from(wrong)));
        taken.expect_err("it panics");
    });
}

#[test]
fn options_are_the_kernels() {
    let world = World::uring();
    world.run(async {
        let families = families("options_are_the_kernels");
        let both = (families.len() > 1).then_some("[::]:0");
        for any in families.into_iter().chain(both) {
            let (ours, _) = bound(any);
            let socket = SockRef::from(&ours);
            ours.set_ttl(7).expect("a socket");
            assert_eq!(ours.ttl().expect("a socket"), 7);
            if any != V6 {
                assert_eq!(socket.ttl_v4().expect("a socket"), 7, "{any}");
            }
            ours.set_broadcast(true).expect("a socket");
            assert!(ours.broadcast().expect("a socket"));
            ours.set_recv_buffer_size(10_000).expect("a socket");
            ours.set_send_buffer_size(20_000).expect("a socket");
            assert_eq!(ours.recv_buffer_size().expect("a socket"), 20_000);
            assert_eq!(ours.send_buffer_size().expect("a socket"), 40_000);
            assert_eq!(
                error_of(ours.set_ttl(256)).raw_os_error(),
                Some(libc::EINVAL)
            );
        }
        let (ours, _) = bound("0.0.0.0:0");
        let error = error_of(ours.send_to("x", "255.255.255.255:9").await.0);
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::EACCES | libc::ENETUNREACH)
        ));
    });
}

#[test]
fn bad_addresses_say_what_is_wrong() {
    let world = World::uring();
    world.run(async {
        let (ours, here) = bound(V4);
        for error in [
            error_of(UdpSocket::bind("localhost:80")),
            error_of(ours.connect("localhost:80")),
            error_of(ours.send_to("x", "localhost:80").await.0),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("`localhost:80`"), "{error}");
        }
        let error = error_of(UdpSocket::bind(here));
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let error = error_of(UdpSocket::bind("203.0.113.7:1"));
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn python_sees_segments_and_marks_and_sends_marks() {
    let test = "python_sees_segments_and_marks_and_sends_marks";
    let world = World::uring();
    world.run(async {
        for any in families("python_sees_segments_and_marks_and_sends_marks") {
            let (ours, here) = bound(any);
            ours.set_recv_ecn(true).expect("a socket");
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/datagrams.py");
            let peer = Command::new("python3")
                .args([path, &here.ip().to_string(), &here.port().to_string(), "3"])
                .stdin(Stdio::null())
                .spawn();
            let mut peer = match peer {
                Ok(peer) => peer,
                Err(error) => return skip(test, &format!("python3 does not start: {error}")),
            };
            let (hello, buf) = received(&ours).await;
            assert_eq!((&buf[..], hello.ecn), (&b"hello"[..], Some(Ecn::Ect0)));
            let how = UdpTransmit::to(hello.from)
                .segment_size(100)
                .ecn(Ecn::CongestionExperienced);
            let BufResult(n, _) = ours.send_msg(vec![7; 250], &how).await;
            assert_eq!(n.expect("it is bound"), 250);
            for expected in ["100 [3]", "100 [3]", "50 [3]"] {
                let (_, answer) = received(&ours).await;
                assert_eq!(String::from_utf8_lossy(&answer), expected);
            }
            let ended = thread::spawn(move || peer.wait());
            until(|| ended.is_finished()).await;
            let status = ended.join().expect("it waits").expect("it ends");
            assert!(status.success(), "{status}");
        }
    });
}
