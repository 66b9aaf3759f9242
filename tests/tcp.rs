//! A TCP connection, against std's.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, TcpStream};
use coring::{
    BufResult, IoBuf, Partial, create_task, is_cancelled, sleep, timeout, wait_for, yield_now,
};
use socket2::{SockRef, Socket};

const LOOPBACK: &str = "127.0.0.1:0";

/// Both ends of a connection, one of them std's.
async fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(LOOPBACK).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let ours = TcpStream::connect(addr).await.expect("it listens");
    let (theirs, _) = listener.accept().expect("it has come");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
    (ours, theirs)
}

/// Both ends, both ours.
async fn own_pair() -> (TcpStream, TcpStream) {
    let mut listener = TcpListener::bind(LOOPBACK).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let (accepted, connected) = futures_util::join!(listener.accept(), TcpStream::connect(addr));
    (accepted.expect("a client").0, connected.expect("a server"))
}

#[test]
fn echo_of_a_std_client_gives_what_was_sent() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind(LOOPBACK).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let client = thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
            let mut all = Vec::new();
            for i in 0..1_000_u32 {
                let message = i.to_string().repeat(1 + i as usize % 50);
                stream.write_all(message.as_bytes()).expect("it is read");
                let mut answer = vec![0; message.len()];
                stream.read_exact(&mut answer).expect("it is echoed");
                assert_eq!(answer, message.as_bytes());
                all.extend(answer);
            }
            stream.shutdown(Shutdown::Write).expect("it is connected");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("the server hangs up");
            assert!(rest.is_empty());
            all.len()
        });
        let (mut stream, peer) = listener.accept().await.expect("a client");
        assert_eq!(peer, stream.peer_addr().expect("it is connected"));
        stream.set_nodelay(true).expect("a TCP socket");
        let (mut buf, mut echoed) = (Vec::with_capacity(64), 0);
        loop {
            let BufResult(n, back) = stream.read(buf).await;
            let n = n.expect("the client is there");
            if n == 0 {
                break; // The end, and it stays the end.
            }
            echoed += n;
            let BufResult(written, back) = stream.write_all(back).await;
            written.expect("the client reads");
            buf = back;
        }
        assert_eq!(
            stream.read(Vec::with_capacity(1)).await.0.expect("the end"),
            0
        );
        drop(stream);
        assert_eq!(client.join().expect("the client is content"), echoed);
    });
}

#[test]
fn read_fills_no_more_than_there_is_room_for() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"hello world").expect("it is connected");
        let BufResult(n, buf) = ours.read(Vec::with_capacity(5)).await;
        assert_eq!((n.expect("it is there"), &buf[..]), (5, &b"hello"[..]));
        // From its start, whatever was in it.
        let BufResult(n, buf) = ours.read(buf).await;
        assert_eq!((n.expect("it is there"), &buf[..]), (5, &b" worl"[..]));
        // Into a window behind what is there.
        let mut buf = Vec::with_capacity(8);
        buf.extend_from_slice(b"mo");
        let BufResult(n, slice) = ours.read(buf.slice(2..)).await;
        assert_eq!(
            (n.expect("it is there"), slice.into_inner()),
            (1, b"mod".to_vec())
        );
        // A boxed slice keeps its length.
        theirs.write_all(b"xy").expect("it is connected");
        let BufResult(n, buf) = ours.read(vec![0; 4].into_boxed_slice()).await;
        assert_eq!((n.expect("it is there"), &buf[..]), (2, &b"xy\0\0"[..]));
    });
}

#[test]
fn read_exact_that_ends_early_says_how_much_there_was() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"hello").expect("it is connected");
        drop(theirs);
        let BufResult(read, buf) = ours.read_exact(Vec::with_capacity(8)).await;
        let error = error_of(read);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let partial = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        assert_eq!(partial.expect("there was a part").transferred, 5);
        assert_eq!(buf, b"hello");
        // With nothing at all.
        let BufResult(read, buf) = ours.read_exact(buf).await;
        let error = error_of(read);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(error.get_ref().is_none_or(|inner| !inner.is::<Partial>()));
        assert!(buf.is_empty(), "nothing came");
    });
}

#[test]
fn read_exact_of_pieces_fills_the_buffer() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = pair().await;
        let mut writer = TcpStream::from(theirs);
        let task = create_task(async move {
            for piece in ["he", "l", "lo", " world"] {
                writer.write_all(piece).await.0?;
                sleep(MS).await?; // So that each is likely to come alone.
            }
            coring::ok(writer)
        });
        let BufResult(read, buf) = ours.read_exact(Vec::with_capacity(11)).await;
        read.expect("all of it comes");
        assert_eq!(buf, b"hello world");
        drop(task.await.expect("it was read"));
    });
}

#[test]
fn zero_length_buffers_transfer_nothing() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"x").expect("it is connected");
        assert_eq!(ours.write("").await.0.expect("nothing"), 0);
        ours.write_all("").await.0.expect("nothing");
        ours.write_all(Vec::new().slice(..))
            .await
            .0
            .expect("nothing");
        assert_eq!(ours.read(Vec::new()).await.0.expect("nothing"), 0);
        ours.read_exact(Vec::new()).await.0.expect("nothing");
        ours.read_exact(Vec::with_capacity(4).slice(..0))
            .await
            .0
            .expect("nothing");
        assert_eq!(
            ours.read(Vec::with_capacity(4)).await.1,
            b"x",
            "it is still there"
        );
        // Also where nothing is there to be read.
        let read = wait_for(ours.read(Vec::new()), PATIENCE).await;
        assert_eq!(read.0.expect("nothing"), 0);
    });
}

/// Backpressure: far more than what sockets hold, to somebody who reads in small steps.
#[test]
fn write_all_of_64_mib_to_a_slow_reader_arrives_whole() {
    const BYTES: usize = 64 << 20;
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        let data: Vec<u8> = (0..BYTES).map(|i| (i / 3 + i / 65_536) as u8).collect();
        let expected = data.clone();
        let reader = thread::spawn(move || {
            let (mut step, mut at) = (vec![0; 70_001], 0);
            loop {
                let n = theirs.read(&mut step).expect("it is connected");
                if n == 0 {
                    return at;
                }
                assert!(step[..n] == expected[at..at + n], "other bytes at {at}");
                at += n;
                if at % 16 == 0 {
                    thread::yield_now();
                }
            }
        });
        // The loop goes on meanwhile.
        let ticks = create_task(async {
            for _ in 0..3 {
                sleep(MS).await?;
            }
            coring::ok(())
        });
        let BufResult(written, data) = ours.write_all(data).await;
        written.expect("it is read");
        assert_eq!(data.len(), BYTES);
        ours.shutdown(Shutdown::Write)
            .await
            .expect("it is connected");
        ticks.await.expect("nobody cancels");
        until(|| reader.is_finished()).await;
        assert_eq!(reader.join().expect("each byte in its place"), BYTES);
    });
}

#[test]
fn write_that_the_peer_does_not_read_is_short_or_times_out_with_its_count() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        let BufResult(n, data) = ours.write(vec![7_u8; 32 << 20]).await;
        let first = n.expect("there is room");
        assert!(0 < first && first < data.len(), "{first}");
        let BufResult(written, data) = wait_for(ours.write_all(data), 20 * MS).await;
        let error = error_of(written);
        assert!(is_time_out(&error), "{error:?}");
        let partial = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        let second = partial.map_or(0, |partial| partial.transferred);
        assert_eq!(data.len(), 32 << 20);
        // What was said to be written arrives, not a byte more or less.
        drop(ours);
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all.len())
        });
        until(|| reader.is_finished()).await;
        let read = reader.join().expect("it reads").expect("to the end");
        assert_eq!(read, first + second);
    });
}

#[test]
fn write_to_a_peer_that_reset_is_an_error() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = pair().await;
        SockRef::from(&theirs)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket");
        drop(theirs); // A reset.
        let BufResult(n, _) = ours.read(Vec::with_capacity(1)).await;
        assert_eq!(error_of(n).kind(), ErrorKind::ConnectionReset);
        let BufResult(n, buf) = ours.write("lost").await;
        assert_eq!(error_of(n).raw_os_error(), Some(libc::EPIPE));
        assert_eq!(buf, "lost");
        let BufResult(written, buf) = ours.write_all("lost").await;
        assert_eq!(error_of(written).raw_os_error(), Some(libc::EPIPE));
        assert_eq!(buf, "lost");
    });
}

/// In a child process where SIGPIPE has its deadly default.
#[test]
fn write_to_a_closed_peer_raises_no_sigpipe() {
    const CHILD: &str = "CORING_TEST_SIGPIPE_CHILD";
    let world = World::uring();
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "write_to_a_closed_peer_raises_no_sigpipe"])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .expect("the test runs itself");
        assert_eq!(status.signal(), None, "it died of a signal: {status}");
        assert!(status.success(), "{status}");
        return;
    }
    // SAFETY: no handler is installed, the default is put back.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    world.run(async {
        let (mut ours, theirs) = pair().await;
        drop(theirs);
        let mut error = None;
        let begin = coring::now();
        while error.is_none() {
            assert!(coring::now() - begin < PATIENCE);
            error = ours.write_all("into the void").await.0.err();
        }
        let kind = error.map(|error| error.kind());
        assert!(matches!(
            kind,
            Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        ));
        assert_eq!(
            error_of(ours.write("again").await.0).raw_os_error(),
            Some(libc::EPIPE)
        );
        ours.shutdown(Shutdown::Write).await.err();
        assert_eq!(
            error_of(ours.write("again").await.0).raw_os_error(),
            Some(libc::EPIPE)
        );
    });
}

/// 189: `test_sock_client_racing`: what comes after the limit is the next read's, whole.
#[test]
fn read_that_times_out_loses_no_byte() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        for round in 0..20_u8 {
            let BufResult(n, buf) = wait_for(ours.read(Vec::with_capacity(9)), 2 * MS).await;
            assert!(is_time_out(&error_of(n)));
            assert_eq!((buf.len(), buf.capacity()), (0, 9));
            theirs.write_all(&[round; 3]).expect("it is connected");
            let BufResult(n, buf) = ours.read(buf).await;
            assert_eq!((n.expect("it is there"), buf), (3, vec![round; 3]));
        }
    });
}

/// Bytes and limit at about the same time: each byte comes exactly once, in its order.
#[test]
fn read_that_races_with_its_limit_loses_no_byte() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        let writer = thread::spawn(move || {
            for byte in 0..=255 {
                theirs.write_all(&[byte]).expect("it is connected");
                thread::park_timeout(Duration::from_micros(150 + u64::from(byte)));
            }
        });
        let (mut all, mut buf, mut late) = (Vec::new(), Vec::with_capacity(16), 0);
        while all.len() < 256 {
            let BufResult(n, back) = wait_for(ours.read(buf), Duration::from_micros(200)).await;
            match n {
                Ok(0) => panic!("the end after {} bytes", all.len()),
                Ok(n) => all.extend_from_slice(&back[..n]),
                Err(error) => {
                    assert!(is_time_out(&error), "{error:?}");
                    late += 1;
                }
            }
            buf = back;
        }
        writer.join().expect("it only writes");
        assert_eq!(all, (0..=255).collect::<Vec<u8>>(), "after {late} limits");
    });
}

#[test]
fn read_exact_that_times_out_has_what_came() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"half").expect("it is connected");
        let read = ours.read_exact(Vec::with_capacity(8));
        let BufResult(read, buf) = wait_for(read, 10 * MS).await;
        let error = error_of(read);
        assert!(is_time_out(&error), "{error:?}");
        let partial = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        assert_eq!(partial.expect("a part came").transferred, 4);
        assert_eq!(buf, b"half");
    });
}

#[test]
fn connect_to_bad_addresses_says_what_is_wrong() {
    let world = World::uring();
    world.run(async {
        for text in [
            "nonsense",
            "localhost:80",
            "1.2.3.4",
            "",
            "1.2.3.4:",
            "1.2.3.4:99999",
            "::1:80",
        ] {
            for error in [
                error_of(TcpStream::connect(text).await),
                error_of(TcpListener::bind(text)),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
                let said = error.to_string();
                assert!(said.contains(&format!("`{text}`")), "{said}");
                assert!(said.contains("127.0.0.1:8080"), "what is expected: {said}");
            }
        }
    });
}

#[test]
fn addresses_may_be_given_in_many_forms() {
    let world = World::uring();
    world.run(async {
        let listener = std::net::TcpListener::bind(LOOPBACK).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let SocketAddr::V4(v4) = addr else {
            panic!("{addr}");
        };
        drop(TcpStream::connect(addr).await.expect("an address"));
        drop(TcpStream::connect(v4).await.expect("an IPv4 address"));
        drop(TcpStream::connect(&addr).await.expect("a reference"));
        drop(
            TcpStream::connect((*v4.ip(), addr.port()))
                .await
                .expect("a pair"),
        );
        drop(
            TcpStream::connect(([127, 0, 0, 1], addr.port()))
                .await
                .expect("an array"),
        );
        drop(
            TcpStream::connect(addr.to_string())
                .await
                .expect("a String"),
        );
        drop(
            TcpStream::connect(&*addr.to_string())
                .await
                .expect("a text"),
        );
    });
}

#[test]
fn connect_where_nobody_listens_is_refused() {
    let world = World::uring();
    world.run(async {
        let addr = {
            let listener = std::net::TcpListener::bind(LOOPBACK).expect("a free port");
            listener.local_addr().expect("it is bound")
        };
        let error = error_of(TcpStream::connect(addr).await);
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

/// A listener whose queue is full does not answer.
#[test]
fn connect_that_times_out_closes_its_socket() {
    let world = World::uring();
    world.run(async {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let any: SocketAddr = LOOPBACK.parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("it is bound");
        let addr = socket.local_addr().expect("it is bound").as_socket();
        let addr = addr.expect("an internet address");
        let mut waiting = Vec::new();
        let error = loop {
            match wait_for(TcpStream::connect(addr), 50 * MS).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100, "the queue is never full");
        };
        assert!(is_time_out(&error), "{error:?}");
    });
}

#[test]
fn split_halves_are_used_by_two_tasks_at_once() {
    const BYTES: usize = 1 << 20;
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = own_pair().await;
        let echo = create_task(async move {
            let (mut reader, mut writer) = theirs.into_split();
            let mut buf = Vec::with_capacity(4096);
            loop {
                let BufResult(n, back) = reader.read(buf).await;
                if n? == 0 {
                    break;
                }
                let BufResult(written, back) = writer.write_all(back).await;
                written?;
                buf = back;
            }
            writer.shutdown().await
        });
        let (mut reader, mut writer) = ours.into_split();
        let task = create_task(async move {
            writer.write_all(vec![7_u8; BYTES]).await.0?;
            writer.shutdown().await?;
            coring::ok(writer)
        });
        let BufResult(read, buf) = reader.read_exact(Vec::with_capacity(BYTES)).await;
        read.expect("it is echoed");
        assert!(buf.iter().all(|&byte| byte == 7));
        let BufResult(n, _) = reader.read(buf).await;
        assert_eq!(n.expect("the end"), 0);
        let writer = task.await.expect("it is read");
        echo.await.expect("it is read");
        let stream = reader.reunite(writer).expect("two halves of one");
        assert!(stream.local_addr().is_ok());
    });
}

#[test]
fn reunite_of_strangers_gives_both_back() {
    let world = World::uring();
    world.run(async {
        let (one, two) = own_pair().await;
        let (fd_one, fd_two) = (one.as_fd().as_raw_fd(), two.as_fd().as_raw_fd());
        let ((read_one, write_one), (read_two, write_two)) = (one.into_split(), two.into_split());
        let Err((read_one, write_two)) = read_one.reunite(write_two) else {
            panic!("they are not of one connection");
        };
        let one = read_one.reunite(write_one).expect("two halves of one");
        let two = read_two.reunite(write_two).expect("two halves of one");
        assert_eq!(
            (one.as_fd().as_raw_fd(), two.as_fd().as_raw_fd()),
            (fd_one, fd_two)
        );
    });
}

#[test]
fn half_that_is_dropped_leaves_the_other() {
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = pair().await;
        let (mut reader, writer) = ours.into_split();
        drop(writer);
        theirs.write_all(b"still").expect("it is connected");
        assert_eq!(reader.read(Vec::with_capacity(9)).await.1, b"still");
        drop(reader);
        // The loop turns, and the receive that was armed is cancelled.
        sleep(Duration::from_millis(1))
            .await
            .expect("nobody cancels");
        assert_eq!(theirs.read_to_end(&mut Vec::new()).expect("the end"), 0);
        let (ours, mut theirs) = pair().await;
        let (reader, mut writer) = ours.into_split();
        drop(reader);
        writer.write_all("still").await.0.expect("it is connected");
        drop(writer);
        let mut all = String::new();
        theirs.read_to_string(&mut all).expect("to the end");
        assert_eq!(all, "still");
    });
}

#[test]
fn shutdown_ends_one_direction() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        ours.write_all("last words")
            .await
            .0
            .expect("it is connected");
        ours.shutdown(Shutdown::Write)
            .await
            .expect("it is connected");
        let mut all = String::new();
        theirs.read_to_string(&mut all).expect("to the end");
        assert_eq!(all, "last words");
        assert_eq!(
            error_of(ours.write("more").await.0).raw_os_error(),
            Some(libc::EPIPE)
        );
        theirs.write_all(b"the other way").expect("that is open");
        assert_eq!(ours.read(Vec::with_capacity(99)).await.1, b"the other way");
        ours.shutdown(Shutdown::Both)
            .await
            .expect("it is connected");
        assert_eq!(
            ours.read(Vec::with_capacity(9)).await.0.expect("the end"),
            0
        );
    });
}

/// A shutdown under a read of the other half ends it.
#[test]
fn shutdown_under_a_read_ends_it() {
    let world = World::uring();
    world.run(async {
        let (ours, _theirs) = pair().await;
        let socket = SockRef::from(&ours).try_clone().expect("a descriptor");
        let (mut reader, _writer) = ours.into_split();
        let task = create_task(async move { reader.read(Vec::with_capacity(9)).await });
        yield_now().await.expect("nobody cancels");
        socket.shutdown(Shutdown::Both).expect("it is connected");
        let n = task.await.0;
        assert_eq!(n.expect("the end"), 0);
    });
}

#[test]
fn nodelay_and_addresses_are_the_sockets_own() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair().await;
        assert!(!ours.nodelay().expect("a TCP socket"));
        ours.set_nodelay(true).expect("a TCP socket");
        assert!(ours.nodelay().expect("a TCP socket"));
        ours.set_nodelay(false).expect("a TCP socket");
        assert!(!ours.nodelay().expect("a TCP socket"));
        let (local, peer) = (ours.local_addr(), ours.peer_addr());
        assert_eq!(
            local.expect("it has one"),
            theirs.peer_addr().expect("it has one")
        );
        assert_eq!(
            peer.expect("it has one"),
            theirs.local_addr().expect("it has one")
        );
        let printed = format!("{ours:?}");
        assert!(printed.contains(&theirs.local_addr().expect("it has one").to_string()));
        assert_eq!(ours.as_fd().as_raw_fd(), SockRef::from(&ours).as_raw_fd());
    });
}

#[test]
fn ipv6_loopback_works_as_well() {
    let world = World::uring();
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        return skip("ipv6_loopback_works_as_well", "this machine has no ::1");
    };
    drop(probe);
    world.run(async {
        let mut listener = TcpListener::bind("[::1]:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        assert!(addr.is_ipv6());
        let (accepted, client) = futures_util::join!(listener.accept(), TcpStream::connect(addr));
        let ((mut server, peer), mut client) = (accepted.expect("one"), client.expect("one"));
        assert_eq!(peer, client.local_addr().expect("it has one"));
        client.write_all("six").await.0.expect("it is connected");
        assert_eq!(server.read(Vec::with_capacity(9)).await.1, b"six");
        let SocketAddr::V6(v6) = addr else {
            panic!("{addr}");
        };
        drop(TcpStream::connect(v6).await.expect("an IPv6 address"));
    });
}

/// The descriptor stays open for the operation and is closed after it; the peer sees the end.
#[test]
fn stream_dropped_with_a_read_in_flight_is_closed_after_it() {
    let world = World::uring();
    world.run(async {
        let fds = open_fds();
        let (mut ours, mut theirs) = pair().await;
        {
            let mut read = Box::pin(ours.read(Vec::with_capacity(64)));
            assert!(poll_once(&mut read).await.is_pending());
            yield_now().await.expect("nobody cancels"); // It is the kernel's now.
        }
        drop(ours);
        let peer = thread::spawn(move || theirs.read(&mut [0; 9]));
        until(|| peer.is_finished()).await;
        assert_eq!(peer.join().expect("it reads").expect("the end"), 0);
        until(|| open_fds() == fds).await;
    });
}

/// The task is dropped with the runner: the peer sees the end all the same.
#[test]
fn stream_of_a_task_that_ends_with_the_runner_is_closed() {
    let world = World::uring();
    let mut runner = world.runner();
    let mut theirs = runner.run(async {
        let (mut ours, theirs) = pair().await;
        drop(create_task(async move {
            ours.read(Vec::with_capacity(64)).await
        }));
        yield_now().await.expect("nobody cancels");
        theirs
    });
    drop(runner);
    assert_eq!(theirs.read(&mut [0; 9]).expect("the end"), 0);
}

#[test]
fn write_that_is_dropped_in_flight_frees_its_buffer_later() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        loop {
            let mut write = Box::pin(ours.write(vec![7_u8; 8 << 20]));
            let polled = timeout(5 * MS, &mut write).await;
            let Err(expired) = polled else { continue };
            assert!(
                expired
                    .late
                    .is_some_and(|late| is_cancelled(&error_of(late.0)))
            );
            break;
        }
        let mut write = Box::pin(ours.write(vec![7_u8; 8 << 20]));
        assert!(poll_once(&mut write).await.is_pending());
        drop(write);
        drop(ours);
        let peer = thread::spawn(move || io::copy(&mut theirs, &mut io::sink()));
        until(|| peer.is_finished()).await;
        peer.join().expect("it reads").expect("to the end");
    });
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    const MANY: usize = 1_000;
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind(LOOPBACK).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let server = create_task(async move {
            let mut echoes = Vec::new();
            for _ in 0..MANY {
                let (mut stream, _) = listener.accept().await?;
                echoes.push(create_task(async move {
                    loop {
                        let BufResult(n, buf) = stream.read(Vec::with_capacity(64)).await;
                        if n? == 0 {
                            return coring::ok(());
                        }
                        stream.write_all(buf).await.0?;
                    }
                }));
            }
            for echo in echoes {
                echo.await?;
            }
            coring::ok(())
        });
        let clients: Vec<_> = (0..MANY)
            .map(|i| {
                create_task(async move {
                    let mut stream = TcpStream::connect(addr).await?;
                    for round in 0..3 {
                        let message = format!("{i}/{round}");
                        stream.write_all(message.clone()).await.0?;
                        let answer = Vec::with_capacity(message.len());
                        let BufResult(read, answer) = stream.read_exact(answer).await;
                        read?;
                        assert_eq!(answer, message.as_bytes());
                    }
                    coring::ok(stream)
                })
            })
            .collect();
        let mut open = Vec::new();
        for client in clients {
            open.push(client.await.expect("it is served"));
        }
        assert_eq!(open.len(), MANY);
        drop(open);
        server.await.expect("every client came");
    });
}
