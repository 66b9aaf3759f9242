//! Names of hosts, and addresses that are none.

#![cfg(not(miri))]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, TcpStream, lookup_host};
use coring::{create_task, is_cancelled, to_thread, wait_for, yield_now};

#[test]
fn name_of_this_machine_gives_addresses_to_connect_to() {
    let world = World::uring();
    world.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        for round in 0..3 {
            let found = match round {
                0 => lookup_host(format!("localhost:{}", addr.port())).await,
                1 => lookup_host(("localhost", addr.port())).await,
                _ => lookup_host((String::from("localhost"), addr.port())).await,
            };
            let found = found.expect("it is in /etc/hosts");
            assert!(found.contains(&addr), "{found:?}");
            assert!(found.iter().all(|found| found.ip().is_loopback()));
            drop(TcpStream::connect(addr).await.expect("it listens"));
        }
    });
}

/// With all threads of the pool taken: addresses need none.
#[test]
fn addresses_need_no_thread_and_names_wait_for_one() {
    let world = World::uring();
    world.run(async {
        let pool = Pool::taken().await;
        let scoped = |scope| SocketAddr::from(SocketAddrV6::new(link_local(), 80, 0, scope));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 80));
        let v6: SocketAddr = "[::1]:80".parse().expect("an address");
        for (text, addr) in [
            ("127.0.0.1:80", loopback),
            ("[::1]:80", v6),
            ("[fe80::1]:80", scoped(0)),
            ("[fe80::1%1]:80", scoped(1)),
            ("[fe80::1%lo]:80", scoped(1)),
        ] {
            assert_eq!(lookup_host(text).await.expect(text), [addr]);
        }
        for (host, addr) in [
            ("127.0.0.1", loopback),
            ("::1", v6),
            ("[::1]", v6),
            ("fe80::1%lo", scoped(1)),
        ] {
            assert_eq!(lookup_host((host, 80)).await.expect(host), [addr]);
        }
        // A limit ends the wait for a thread, and so does a request.
        let late = wait_for(lookup_host("localhost:80"), 5 * MS).await;
        assert!(is_time_out(&error_of(late)));
        let task = begun(lookup_host("localhost:80")).await;
        task.cancel();
        assert!(is_cancelled(&error_of(task.await)));
        yield_now().await.expect("it was heard of once");
        let waiting = begun(lookup_host("localhost:80")).await;
        {
            let mut dropped = Box::pin(lookup_host("localhost:80"));
            assert!(poll_once(&mut dropped).await.is_pending());
        }
        pool.give_back().await;
        assert!(!waiting.await.expect("it is in /etc/hosts").is_empty());
    });
}

fn link_local() -> std::net::Ipv6Addr {
    "fe80::1".parse().expect("an address")
}

/// All threads of the pool, waiting.
struct Pool {
    ends: Vec<mpsc::Sender<()>>,
    tasks: Vec<coring::Task<std::io::Result<()>>>,
}

impl Pool {
    async fn taken() -> Self {
        let (mut ends, mut tasks) = (Vec::new(), Vec::new());
        let (begun, has_begun) = mpsc::channel();
        for _ in 0..64 {
            let (end, may_end) = mpsc::channel();
            let begun = begun.clone();
            ends.push(end);
            tasks.push(create_task(to_thread(move |_| {
                let _ = begun.send(()); // Some begin only when the others have ended.
                let _ = may_end.recv();
            })));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from) + 4;
        let mut running = 0;
        until(|| {
            running += has_begun.try_iter().count();
            running >= threads.min(32)
        })
        .await;
        Self { ends, tasks }
    }

    async fn give_back(self) {
        drop(self.ends);
        for task in self.tasks {
            task.await.expect("it only waits");
        }
    }
}

#[test]
fn bad_input_says_what_was_expected() {
    let world = World::uring();
    world.run(async {
        for (text, what) in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "no port from 0"),
            ("localhost:http", "no port from 0"),
            ("localhost:65536", "no port from 0"),
            ("localhost:-1", "no port from 0"),
            (":80", "no host"),
            ("::1:80", "brackets"),
            ("[::1]", "no port from 0"),
            ("[localhost]:80", "brackets"),
            ("[]:80", "brackets"),
            ("[1.2.3.4]:80", "brackets"),
        ] {
            let error = error_of(lookup_host(text).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            let said = error.to_string();
            assert!(said.contains(what), "`{text}`: {said}");
        }
        let error = error_of(lookup_host(("", 80)).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = error_of(lookup_host("[fe80::1%nowhere0]:80").await);
        assert!(error.to_string().contains("`nowhere0`"), "{error}");
        let error = error_of(lookup_host(("a\0b", 80)).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn errors_name_the_host() {
    let world = World::uring();
    world.run(async {
        // A part of a name has 63 bytes at the most, so nobody is asked.
        let name = format!("{}.invalid", "x".repeat(64));
        let found = wait_for(lookup_host((&*name, 80)), PATIENCE).await;
        let error = error_of(found);
        assert!(!is_time_out(&error), "{error:?}");
        assert!(error.to_string().contains(&name), "{error}");
    });
}

#[test]
fn lookup_that_is_cancelled_before_it_begins_does_not_begin() {
    let world = World::uring();
    world.run(async {
        for host in ["localhost:80", "127.0.0.1:80"] {
            let found = wait_for(lookup_host(host), Duration::ZERO).await;
            match found {
                Ok(found) => assert!(found[0].ip().is_loopback()),
                Err(error) => assert!(is_time_out(&error), "{error:?}"),
            }
            let task = create_task(lookup_host(host));
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)), "{host}");
        }
    });
}
