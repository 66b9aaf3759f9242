//! Options of sockets: that the kernel has what was asked for, and does so.

#![cfg(not(miri))]

mod common;

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use common::*;
use coring::net::{Keepalive, SocketOptions, TcpListener, TcpStream, UdpSocket};
use coring::{BufResult, wait_for};
use socket2::SockRef;

const V4: &str = "127.0.0.1:0";
const SECOND: Duration = Duration::from_secs(1);

async fn connection() -> (TcpStream, TcpStream) {
    let mut listener = TcpListener::bind(V4).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let ours = TcpStream::connect(addr).await.expect("it listens");
    (ours, listener.accept().await.expect("a client").0)
}

#[test]
fn listeners_of_one_port_share_its_connections() {
    let world = World::uring();
    world.run(async {
        let mut options = SocketOptions::new();
        options.reuse_port(true);
        let mut first = options.listen(V4).expect("a free port");
        let addr = first.local_addr().expect("it is bound");
        let mut second = options.clone().listen(addr).expect("the first allows it");
        let error = error_of(TcpListener::bind(addr));
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // By a hash of addresses and ports: each is likely to get some of so many.
        let (mut clients, mut by_first, mut by_second) = (Vec::new(), 0, 0);
        for _ in 0..64 {
            clients.push(TcpStream::connect(addr).await.expect("they listen"));
        }
        for _ in 0..clients.len() {
            let accepted =
                futures_util::future::select(Box::pin(first.accept()), Box::pin(second.accept()));
            match wait_for(async { coring::ok(accepted.await) }, PATIENCE).await {
                Ok(futures_util::future::Either::Left((accepted, _))) => {
                    drop(accepted.expect("a client"));
                    by_first += 1;
                }
                Ok(futures_util::future::Either::Right((accepted, _))) => {
                    drop(accepted.expect("a client"));
                    by_second += 1;
                }
                Err(error) => panic!("{error:?} after {by_first} and {by_second}"),
            }
        }
        assert!(by_first > 0 && by_second > 0, "{by_first} {by_second}");
    });
}

#[test]
fn udp_sockets_of_one_port_are_bound_where_all_allow_it() {
    let world = World::uring();
    world.run(async {
        let mut options = SocketOptions::new();
        options.reuse_port(true);
        let first = options.bind_udp(V4).expect("a free port");
        let addr = first.local_addr().expect("it is bound");
        let second = options.bind_udp(addr).expect("the first allows it");
        assert_eq!(second.local_addr().expect("it is bound"), addr);
        let error = error_of(UdpSocket::bind(addr));
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let mut options = SocketOptions::new();
        let first = options.reuse_address(true).bind_udp(V4).expect("a port");
        let addr = first.local_addr().expect("it is bound");
        options.bind_udp(addr).expect("the first allows it");
        assert_eq!(error_of(UdpSocket::bind(addr)).kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn socket_of_ipv6_alone_leaves_the_port_of_ipv4_to_others() {
    let world = World::uring();
    world.run(async {
        if UdpSocket::bind("[::1]:0").is_err() {
            let test = "socket_of_ipv6_alone_leaves_the_port_of_ipv4_to_others";
            return skip(test, "there is no IPv6 here");
        }
        let mut options = SocketOptions::new();
        let both = options.only_v6(false).listen("[::]:0").expect("a port");
        let port = both.local_addr().expect("it is bound").port();
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpStream::connect(v4).await.expect("it takes both");
        let error = error_of(UdpSocket::bind("[::]:0").and_then(|both| {
            let port = both.local_addr()?.port();
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
        }));
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        options.only_v6(true);
        let alone = options.bind_udp("[::]:0").expect("a port");
        let port = alone.local_addr().expect("it is bound").port();
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("it is free");
        // Of no interest to a socket of IPv4.
        options.bind_udp(V4).expect("a port");
    });
}

#[test]
fn connection_comes_from_where_it_was_bound_to() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind(V4).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let local = SocketAddr::from(([127, 0, 0, 77], 0));
        let mut options = SocketOptions::new();
        options.local(local).recv_buffer_size(10_000);
        options.send_buffer_size(20_000).interface("lo");
        let ours = options.connect(addr).await.expect("it listens");
        let (_theirs, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer.ip(), local.ip());
        assert_eq!(peer, ours.local_addr().expect("it is connected"));
        assert_eq!(ours.recv_buffer_size().expect("a socket"), 20_000);
        assert_eq!(ours.send_buffer_size().expect("a socket"), 40_000);
        let device = SockRef::from(&ours).device().expect("a socket");
        assert_eq!(device.as_deref(), Some(&b"lo"[..]));
        options.interface("nowhere0");
        let error = error_of(options.connect(addr).await);
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let mut options = SocketOptions::new();
        options.local((Ipv6Addr::LOCALHOST, 0).into());
        let error = error_of(options.connect(addr).await);
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
        assert_eq!(
            error_of(options.listen("localhost:1")).kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn accepted_connections_have_the_listeners_buffers_and_any_backlog_is_taken() {
    let world = World::uring();
    world.run(async {
        let mut options = SocketOptions::new();
        options.recv_buffer_size(30_000).backlog(0);
        let mut listener = options.listen(V4).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(addr).await.expect("it listens");
        let (accepted, _) = listener.accept().await.expect("a client");
        assert_eq!(accepted.recv_buffer_size().expect("a socket"), 60_000);
        drop(client);
        // More than the kernel can count.
        let idle = options.backlog(u32::MAX).listen(V4).expect("a free port");
        let addr = idle.local_addr().expect("it is bound");
        let many: Vec<_> = (0..16).map(|_| TcpStream::connect(addr)).collect();
        for client in many {
            drop(client.await.expect("there is room"));
        }
    });
}

#[test]
fn options_of_a_connection_are_the_kernels() {
    let world = World::uring();
    world.run(async {
        let (ours, _theirs) = connection().await;
        let socket = SockRef::from(&ours);
        assert_eq!(ours.keepalive().expect("a socket"), None);
        let keepalive = Keepalive::new(60 * SECOND).interval(5 * SECOND).retries(3);
        ours.set_keepalive(Some(keepalive)).expect("a socket");
        assert_eq!(ours.keepalive().expect("a socket"), Some(keepalive));
        assert!(socket.keepalive().expect("a socket"));
        assert_eq!(socket.tcp_keepalive_retries().expect("a socket"), 3);
        ours.set_keepalive(None).expect("a socket");
        assert_eq!(ours.keepalive().expect("a socket"), None);
        for wrong in [
            Keepalive::new(Duration::from_millis(10)),
            Keepalive::new(40_000 * SECOND),
            Keepalive::new(SECOND).interval(Duration::ZERO),
            Keepalive::new(SECOND).retries(0),
            Keepalive::new(SECOND).retries(128),
        ] {
            let error = error_of(ours.set_keepalive(Some(wrong)));
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{wrong:?}");
        }
        ours.set_ttl(9).expect("a socket");
        assert_eq!(ours.ttl().expect("a socket"), 9);
        assert_eq!(socket.ttl_v4().expect("a socket"), 9);
        assert!(ours.take_error().expect("a socket").is_none());
    });
}

#[test]
fn connection_without_linger_is_reset_when_it_is_dropped() {
    let world = World::uring();
    world.run(async {
        for zero in [false, true] {
            let listener = std::net::TcpListener::bind(V4).expect("a free port");
            let addr = listener.local_addr().expect("it is bound");
            let mut ours = TcpStream::connect(addr).await.expect("it listens");
            let (mut theirs, _) = listener.accept().expect("it has come");
            theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let BufResult(sent, _) = ours.write_all("x").await;
            sent.expect("it is connected");
            if zero {
                ours.set_zero_linger().expect("a socket");
            }
            drop(ours);
            let mut all = Vec::new();
            match theirs.read_to_end(&mut all) {
                Ok(_) => assert!(!zero),
                Err(error) => {
                    assert!(zero, "{error:?}");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
            }
        }
    });
}
