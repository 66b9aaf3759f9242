//! Datagrams on one machine, against std's.

#![cfg(not(miri))]

mod common;

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net as std_unix;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::net::{Ancillary, Truncated, UnixDatagram};
use coring::{BufResult, Stats, create_task, is_cancelled, wait_for, yield_now};

/// A name that nobody else has.
fn abstract_name() -> SocketAddr {
    let name = Temp::new().to_string_lossy().into_owned();
    SocketAddr::from_abstract_name(name).expect("a short name")
}

fn truncated(error: &std::io::Error) -> Option<Truncated> {
    error.get_ref()?.downcast_ref().copied()
}

#[test]
fn datagrams_of_std_arrive_with_their_senders_path() {
    let world = World::uring();
    world.run(async {
        let (here, there) = (Temp::new(), Temp::new());
        let ours = UnixDatagram::bind(&*here).expect("a new path");
        let theirs = std_unix::UnixDatagram::bind(&*there).expect("a new path");
        theirs.send_to(b"hello", &*here).expect("it is bound");
        let BufResult(received, buf) = ours.recv_from(Vec::with_capacity(9)).await;
        let (n, from) = received.expect("it has come");
        assert_eq!((n, &buf[..]), (5, &b"hello"[..]));
        assert_eq!(from.as_pathname(), Some(&*there));
        // And back, in each of the ways to say where to.
        let mut got = [0; 9];
        let path: PathBuf = there.to_path_buf();
        for round in 0..4 {
            let sent = match round {
                0 => ours.send_to("answer", &from).await,
                1 => ours.send_to("answer", &path).await,
                2 => ours.send_to("answer", path.to_str().expect("ASCII")).await,
                _ => ours.send_to("answer", path.display().to_string()).await,
            };
            assert_eq!(sent.0.expect("there is room"), 6);
            let (n, from) = theirs.recv_from(&mut got).expect("it has come");
            assert_eq!(&got[..n], b"answer");
            assert_eq!(from.as_pathname(), Some(&*here));
        }
        assert_eq!(
            ours.local_addr().expect("it is bound").as_pathname(),
            Some(&*here)
        );
    });
}

#[test]
fn abstract_names_are_bound_to_and_sent_to() {
    let world = World::uring();
    world.run(async {
        let (here, there) = (abstract_name(), abstract_name());
        let ours = UnixDatagram::bind(&here).expect("a new name");
        let theirs = UnixDatagram::bind(&there).expect("a new name");
        let again = error_of(UnixDatagram::bind(&here));
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        assert_eq!(
            ours.local_addr().expect("it is bound").as_abstract_name(),
            here.as_abstract_name()
        );
        ours.send_to("a", &there).await.0.expect("it is bound");
        ours.connect(&there).expect("it is bound");
        ours.send("b").await.0.expect("it is connected");
        for expected in [b"a", b"b"] {
            let BufResult(received, buf) = theirs.recv_from(Vec::with_capacity(9)).await;
            let (_, from) = received.expect("it has come");
            assert_eq!(buf, expected);
            assert_eq!(from.as_abstract_name(), here.as_abstract_name());
        }
        assert_eq!(
            ours.peer_addr()
                .expect("it is connected")
                .as_abstract_name(),
            there.as_abstract_name()
        );
        // The longest, with a NUL inside.
        let mut name = [b'x'; 107];
        name[..20].fill(0);
        name[20..40].copy_from_slice(format!("{:020}", std::process::id()).as_bytes());
        let long = SocketAddr::from_abstract_name(name).expect("107 bytes");
        let ours = UnixDatagram::bind(&long).expect("a new name");
        let told = ours.local_addr().expect("it is bound");
        assert_eq!(told.as_abstract_name(), Some(&name[..]));
    });
}

#[test]
fn unbound_sockets_are_nobody_to_the_receiver() {
    let world = World::uring();
    world.run(async {
        let here = abstract_name();
        let ours = UnixDatagram::bind(&here).expect("a new name");
        let other = UnixDatagram::unbound().expect("a socket");
        assert!(other.local_addr().expect("a socket").is_unnamed());
        let error = error_of(other.send("x").await.0);
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(error_of(other.peer_addr()).kind(), ErrorKind::NotConnected);
        other.send_to("x", &here).await.0.expect("it is bound");
        let BufResult(received, _) = ours.recv_from(Vec::with_capacity(9)).await;
        let (n, from) = received.expect("it has come");
        assert!(n == 1 && from.is_unnamed());
        let sent = other.send_msg("y", Some(&here), Ancillary::new()).await;
        assert_eq!(sent.0.expect("it is bound"), 1);
        let BufResult(received, _) = ours.recv_msg(Vec::with_capacity(9), 0).await;
        let received = received.expect("it has come");
        assert!(received.len == 1 && received.from.is_unnamed());
        assert!(received.ancillary.credentials.is_none());
    });
}

#[test]
fn datagrams_that_do_not_fit_are_said_to_be_cut() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        for _ in 0..3 {
            theirs.send("hello world").await.0.expect("there is room");
        }
        let cut = Some(Truncated {
            len: 5,
            truncated: 6,
        });
        let BufResult(n, buf) = ours.recv(Vec::with_capacity(5)).await;
        let error = error_of(n);
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!((truncated(&error), &buf[..]), (cut, &b"hello"[..]));
        let said = error.to_string();
        assert!(said.contains("11 bytes") && said.contains("to 5"), "{said}");
        let BufResult(received, buf) = ours.recv_from(buf).await;
        let error = error_of(received);
        assert_eq!((truncated(&error), &buf[..]), (cut, &b"hello"[..]));
        let BufResult(received, buf) = ours.recv_msg(buf, 0).await;
        let received = received.expect("no error here");
        assert_eq!((received.len, received.truncated), (5, 6));
        assert_eq!(buf, b"hello");
        // Without any room; and one that just fits; and one without bytes.
        theirs.send("x").await.0.expect("there is room");
        let BufResult(n, _) = ours.recv(Vec::new()).await;
        let cut = truncated(&error_of(n));
        assert_eq!(
            cut,
            Some(Truncated {
                len: 0,
                truncated: 1
            })
        );
        theirs.send("hello").await.0.expect("there is room");
        let BufResult(n, buf) = ours.recv(vec![0; 5].into_boxed_slice()).await;
        assert_eq!((n.expect("it fits"), &buf[..]), (5, &b"hello"[..]));
        for room in [0, 5] {
            theirs.send("").await.0.expect("there is room");
            let BufResult(n, buf) = ours.recv(Vec::with_capacity(room)).await;
            assert_eq!((n.expect("it fits"), buf.len()), (0, 0));
        }
    });
}

#[test]
fn send_to_a_full_queue_waits_for_the_receiver() {
    const DATAGRAMS: u32 = 2_000;
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let sender = create_task(async move {
            for i in 0..DATAGRAMS {
                theirs.send(i.to_ne_bytes().to_vec()).await.0?;
            }
            coring::ok(())
        });
        yield_now().await.expect("nobody cancels");
        let mut buf = Vec::with_capacity(9);
        for i in 0..DATAGRAMS {
            let BufResult(n, back) = ours.recv(buf).await;
            assert_eq!(n.expect("it comes"), 4);
            assert_eq!(back, i.to_ne_bytes());
            buf = back;
        }
        sender.await.expect("it is received");
    });
}

#[test]
fn send_that_times_out_sends_nothing() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let mut sent = 0;
        let error = loop {
            let BufResult(n, _) = wait_for(theirs.send(vec![7; 1000]), 20 * MS).await;
            match n {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(is_time_out(&error), "{error:?}");
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let send = theirs.send_msg("late", None, Ancillary::new().fd(file));
        let BufResult(n, (buf, ancillary)) = wait_for(send, 5 * MS).await;
        assert!(is_time_out(&error_of(n)));
        assert_eq!((buf, ancillary.fds.len()), ("late", 1));
        drop(theirs);
        let mut received = 0;
        let mut buf = Vec::with_capacity(1000);
        while let BufResult(Ok(1000), back) = wait_for(ours.recv(buf), 20 * MS).await {
            received += 1;
            buf = back;
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn recv_that_times_out_or_is_cancelled_loses_no_datagram() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let ours = Rc::new(ours);
        for round in 0..20_u8 {
            let BufResult(n, buf) = wait_for(ours.recv_from(vec![0; 9]), MS).await;
            assert!(is_time_out(&error_of(n)));
            assert_eq!(buf.capacity(), 9);
            let BufResult(n, _) = wait_for(ours.recv_msg(buf, 1), Duration::ZERO).await;
            assert!(is_time_out(&error_of(n)));
            let receiver = ours.clone();
            let task = begun(async move { receiver.recv(Vec::with_capacity(9)).await.0 }).await;
            yield_now().await.expect("nobody cancels");
            task.cancel();
            assert!(is_cancelled(&error_of(task.await)));
            theirs.send(vec![round]).await.0.expect("there is room");
            let BufResult(n, buf) = ours.recv(Vec::with_capacity(9)).await;
            assert_eq!((n.expect("it has come"), buf), (1, vec![round]));
        }
    });
}

#[test]
fn several_buffers_are_sent_as_one_datagram() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        let received = async || {
            let BufResult(n, buf) = theirs.recv(Vec::with_capacity(4096)).await;
            assert_eq!(n.expect("it has come"), buf.len());
            buf
        };
        let BufResult(n, bufs) = ours.send_vectored(("a", vec![b'b'; 3])).await;
        assert_eq!((n.expect("there is room"), bufs), (4, ("a", vec![b'b'; 3])));
        assert_eq!(received().await, b"abbb");
        // As many as there is scratch for, one more, and as many as the kernel takes.
        for parts in [0, 1, 2, 3, 4, 5, 1024] {
            let bufs: Vec<_> = (0..parts).map(|i| vec![i as u8; i % 7]).collect();
            let expected = bufs.concat();
            let BufResult(n, back) = ours.send_vectored(bufs).await;
            assert_eq!(n.expect("there is room"), expected.len());
            assert_eq!(
                (back.concat(), received().await),
                (expected.clone(), expected)
            );
        }
        let BufResult(n, back) = ours.send_vectored(vec!["x"; 1025]).await;
        assert_eq!(error_of(n).raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(back.len(), 1025);
        // One that has to wait: its list of buffers was read before.
        let mut queued = 0;
        while wait_for(ours.send("fill"), 5 * MS).await.0.is_ok() {
            queued += 1;
        }
        let ours = Rc::new(ours);
        let senders: Vec<_> = (1..=6_u8)
            .map(|n| {
                let ours = ours.clone();
                let bufs = vec![vec![n]; usize::from(n)];
                create_task(async move { ours.send_vectored(bufs).await.0 })
            })
            .collect();
        yield_now().await.expect("nobody cancels");
        for _ in 0..queued {
            assert_eq!(received().await, b"fill");
        }
        let mut all = Vec::new();
        for _ in 0..6 {
            all.push(received().await);
        }
        all.sort(); // Those that wait have no order.
        let expected: Vec<_> = (1..=6_u8).map(|n| vec![n; usize::from(n)]).collect();
        assert_eq!(all, expected);
        for sender in senders {
            sender.await.expect("it is received");
        }
    });
}

#[test]
fn bad_addresses_say_what_is_wrong() {
    let world = World::uring();
    world.run(async {
        let long = "x".repeat(108);
        let other = UnixDatagram::unbound().expect("a socket");
        for text in [&long[..], "a\0b"] {
            for error in [
                error_of(UnixDatagram::bind(text)),
                error_of(other.connect(text)),
                error_of(other.send_to("x", text).await.0),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(text), "{error}");
            }
        }
        let nowhere = Temp::new();
        let error = error_of(other.send_to("x", &*nowhere).await.0);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error_of(other.connect(&*nowhere)).kind(),
            ErrorKind::NotFound
        );
        // A name that is there, and nobody behind it.
        drop(UnixDatagram::bind(&*nowhere).expect("a new path"));
        let error = error_of(other.send_to("x", &*nowhere).await.0);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn sockets_of_std_are_taken_over_and_wait_although_they_did_not() {
    let world = World::uring();
    world.run(async {
        let (std, theirs) = std_unix::UnixDatagram::pair().expect("two sockets");
        std.set_nonblocking(true).expect("a socket");
        let ours = UnixDatagram::from(std);
        let task = begun(async move {
            let BufResult(n, buf) = ours.recv(Vec::with_capacity(9)).await;
            n.map(|_| (ours, buf))
        })
        .await;
        yield_now().await.expect("nobody cancels");
        theirs.send(b"late").expect("there is room");
        let (ours, buf) = task.await.expect("it waits");
        assert_eq!(buf, b"late");
        assert!(format!("{ours:?}").starts_with("UnixDatagram"));
        let fd = ours.as_fd().try_clone_to_owned().expect("a descriptor");
        drop(ours);
        let ours = UnixDatagram::try_from(fd).expect("a socket");
        theirs.send(b"more").expect("there is room");
        assert_eq!(ours.recv(Vec::with_capacity(9)).await.1, b"more");
    });
}

#[test]
fn socket_leaves_the_runtime_when_the_kernel_is_done_with_it() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
        {
            let mut wait = Box::pin(ours.recv(Vec::with_capacity(8)));
            assert!(poll_once(&mut wait).await.is_pending());
        }
        let std: std::os::unix::net::UnixDatagram = ours.into_std().await.expect("it is here");
        assert_eq!(Stats::current().in_flight, 0);
        theirs.send("after").await.0.expect("a peer");
        let mut buf = [0; 8];
        assert_eq!(std.recv(&mut buf).expect("it has come"), 5);
        let again = UnixDatagram::try_from(theirs.into_fd().await.expect("it is here"));
        std.send(b"back").expect("a peer");
        let received = again.expect("it is one").recv(Vec::with_capacity(8)).await;
        assert_eq!(received.1, b"back");
    });
}
