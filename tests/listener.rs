//! A listener: what arrives while nobody waits, and while somebody has given up waiting.

#![cfg(not(miri))]

mod common;

use std::io::{ErrorKind, Read as _};
use std::pin::pin;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, TcpStream};
use coring::{Stats, create_task, is_cancelled, sleep, timeout, wait_for, yield_now};
use futures_util::future::{Either, select};

fn bound() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

fn std_client(addr: std::net::SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

#[test]
fn accept_gives_connections_in_their_order() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let clients: Vec<_> = (0..20).map(|_| std_client(addr)).collect();
        for client in &clients {
            let (stream, peer) = listener.accept().await.expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
            assert_eq!(stream.local_addr().expect("it is connected"), addr);
        }
    });
}

/// 189: `test_cancel_sock_accept`.
#[test]
fn accept_that_times_out_leaves_the_connection_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        for _ in 0..5 {
            assert!(is_time_out(&error_of(
                wait_for(listener.accept(), 2 * MS).await
            )));
            let client = std_client(addr);
            let (_, peer) = listener.accept().await.expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
        }
    });
}

#[test]
fn accept_with_limit_zero_leaves_the_connection_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let client = std_client(addr);
        for _ in 0..3 {
            assert!(is_time_out(&error_of(
                wait_for(listener.accept(), Duration::ZERO).await
            )));
        }
        let (_, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
        // Armed, with one in its queue.
        let client = std_client(addr);
        sleep(5 * MS).await.expect("nobody cancels");
        for _ in 0..3 {
            assert!(is_time_out(&error_of(
                wait_for(listener.accept(), Duration::ZERO).await
            )));
        }
        let (_, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
    });
}

#[test]
fn accept_whose_future_is_dropped_leaves_the_connection_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        for wait in [false, true] {
            {
                let mut accept = Box::pin(listener.accept());
                assert!(poll_once(&mut accept).await.is_pending());
                if wait {
                    yield_now().await.expect("nobody cancels"); // It is the kernel's now.
                }
            }
            let client = std_client(addr);
            let (_, peer) = listener.accept().await.expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
            // Dropped when the connection has come, but was not fetched.
            let client = {
                let mut accept = Box::pin(listener.accept());
                assert!(poll_once(&mut accept).await.is_pending());
                let client = std_client(addr);
                sleep(5 * MS).await.expect("nobody cancels");
                client
            };
            let (_, peer) = listener.accept().await.expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
        }
    });
}

/// The request to stop reached the accept, but its future was dropped before it could say so:
/// that is no business of the next one.
#[test]
fn accept_whose_future_is_dropped_when_told_to_stop_leaves_nothing_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let body = async {
            let other = pin!(sleep(Duration::MAX));
            let accept = pin!(listener.accept());
            let Either::Left((told, _)) = select(other, accept).await else {
                panic!("a connection came");
            };
            assert!(is_cancelled(&error_of(told)));
        };
        let expired = timeout(5 * MS, body).await;
        assert!(expired.expect_err("it was told").late.is_some());
        let client = std_client(addr);
        let (_, peer) = listener.accept().await.expect("nobody cancels this one");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
    });
}

#[test]
fn accept_may_move_to_another_task() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        assert!(is_time_out(&error_of(
            wait_for(listener.accept(), MS).await
        )));
        let task = create_task(async move {
            let accepted = listener.accept().await;
            accepted.map(|(_, peer)| (peer, listener))
        });
        yield_now().await.expect("nobody cancels");
        let client = TcpStream::connect(addr).await.expect("it listens");
        let (peer, _listener) = task.await.expect("a client");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
    });
}

/// Connections that were never accepted go with the listener: their peers see it.
#[test]
fn listener_dropped_with_connections_waiting_closes_them() {
    let world = World::uring();
    world.run(async {
        for armed in [false, true] {
            let (mut listener, addr) = bound();
            if armed {
                let first = std_client(addr);
                drop(listener.accept().await.expect("a client"));
                drop(first);
            }
            let mut clients: Vec<_> = (0..5).map(|_| std_client(addr)).collect();
            if armed {
                sleep(5 * MS).await.expect("nobody cancels"); // They are in its queue.
            }
            drop(listener);
            let peers = std::thread::spawn(move || {
                clients
                    .iter_mut()
                    .map(|client| client.read(&mut [0; 9]))
                    .collect::<Vec<_>>()
            });
            until(|| peers.is_finished()).await;
            for seen in peers.join().expect("they read") {
                match seen {
                    Ok(n) => assert_eq!(n, 0),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
            // And the port is free again.
            let refused = error_of(TcpStream::connect(addr).await);
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn bind_gives_the_kernels_errors() {
    let world = World::uring();
    world.run(async {
        let (_listener, addr) = bound();
        let error = error_of(TcpListener::bind(addr));
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        let error = error_of(TcpListener::bind("203.0.113.7:1"));
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    });
}

/// A server that is started again need not wait for its old connections to time out.
#[test]
fn bind_after_a_server_that_closed_first_succeeds() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let client = std_client(addr);
        drop(listener.accept().await.expect("a client")); // Now in TIME_WAIT here.
        drop(client);
        drop(listener);
        let again = async {
            loop {
                match TcpListener::bind(addr) {
                    Ok(listener) => return listener,
                    // The old descriptor closes when its accept has been cancelled.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
                }
                yield_now().await.expect("nobody cancels");
            }
        };
        drop(timeout(PATIENCE, again).await.expect("the port is free"));
    });
}

/// Out of descriptors: an error to the caller, and the listener lives.
#[test]
fn accept_without_descriptors_is_an_error_and_goes_on() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let first = std_client(addr);
        drop(listener.accept().await.expect("a client"));
        drop(first);
        let client = std_client(addr);
        let limit = DescriptorLimit::of(0);
        let mut errors = 0;
        for _ in 0..3 {
            match wait_for(listener.accept(), 50 * MS).await {
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => errors += 1,
                // The kernel may have taken it in before the limit.
                Ok((_, peer)) => {
                    drop(limit);
                    assert_eq!(peer, client.local_addr().expect("it is connected"));
                    return;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(errors, 3);
        drop(limit);
        let (_, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
    });
}

#[test]
fn listener_of_std_is_taken_over() {
    let world = World::uring();
    world.run(async {
        let std = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = std.local_addr().expect("it is bound");
        let client = std_client(addr); // Came before.
        let mut listener = TcpListener::from(std);
        assert!(format!("{listener:?}").contains(&addr.to_string()));
        let (_, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer, client.local_addr().expect("it is connected"));
    });
}

/// Whoever connects and resets at once does no harm.
#[test]
fn accept_passes_over_connections_that_are_reset() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        for _ in 0..20 {
            let gone = std_client(addr);
            socket2::SockRef::from(&gone)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket");
        }
        let client = std_client(addr);
        let wanted = client.local_addr().expect("it is connected");
        let mut accepted = 0;
        loop {
            let (_, peer) = listener.accept().await.expect("not their errors");
            accepted += 1;
            if peer == wanted {
                break;
            }
        }
        assert!((1..=21).contains(&accepted), "{accepted}");
    });
}

/// Back to std: what had been accepted for nobody comes along, what had not is in the socket.
#[test]
fn listener_that_leaves_takes_unclaimed_connections_along() {
    let world = World::uring();
    world.run(async {
        for armed in [false, true] {
            let (mut listener, addr) = bound();
            if armed {
                let first = std_client(addr);
                drop(listener.accept().await.expect("a client"));
                drop(first);
            }
            let clients: Vec<_> = (0..5).map(|_| std_client(addr)).collect();
            turn().await;
            let released = listener.into_std().await.expect("it is here");
            assert_eq!(Stats::current().in_flight, 0);
            assert_eq!(released.received.len(), if armed { 5 } else { 0 });
            assert!(released.error.is_none());
            let mut peers = Vec::new();
            for stream in released.received {
                peers.push(stream.peer_addr().expect("it is connected"));
            }
            while peers.len() < 5 {
                peers.push(released.socket.accept().expect("a client").1);
            }
            let expected = clients.iter().map(|client| client.local_addr());
            let expected: Result<Vec<_>, _> = expected.collect();
            assert_eq!(peers, expected.expect("they are connected"));
            // It goes on as std's, and comes back.
            let client = std_client(addr);
            let mut listener = TcpListener::from(released.socket);
            let (_, peer) = listener.accept().await.expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
        }
    });
}

/// The accept is the kernel's, or in the queue: whoever connects after that is std's.
#[test]
fn listener_that_leaves_ends_its_accept() {
    let world = World::uring();
    world.run(async {
        for wait in [false, true] {
            let (mut listener, addr) = bound();
            {
                let mut accept = Box::pin(listener.accept());
                assert!(poll_once(&mut accept).await.is_pending());
                if wait {
                    turn().await;
                }
            }
            let released = listener.into_std().await.expect("it is here");
            assert!(released.received.is_empty() && released.error.is_none());
            let client = std_client(addr);
            let (_, peer) = released.socket.accept().expect("a client");
            assert_eq!(peer, client.local_addr().expect("it is connected"));
        }
    });
}

#[test]
fn listener_that_leaves_says_why_it_had_no_more() {
    let world = World::uring();
    world.run(async {
        let (mut listener, addr) = bound();
        let client = std_client(addr);
        drop(listener.accept().await.expect("a client"));
        let limit = DescriptorLimit::of(0);
        drop(client);
        let refused = wait_for(listener.accept(), MS).await;
        drop(refused.expect_err("nobody has connected"));
        drop(limit);
        let clients = [std_client(addr), std_client(addr)];
        let limit = DescriptorLimit::of(0);
        turn().await;
        let released = listener.into_fd().await.expect("it is here");
        drop(limit);
        let error = released.error.map(|error| error.raw_os_error());
        // The kernel may have taken them in before the limit.
        assert!(error == Some(Some(libc::EMFILE)) || released.received.len() == 2);
        drop(clients);
    });
}
