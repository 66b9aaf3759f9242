//! Descriptors and credentials on streams: each comes with its bytes, and none is leaked.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Waker};

use common::*;
use coring::net::{Ancillary, Credentials, UnixListener, UnixStream};
use coring::{BufResult, create_task, is_cancelled, sleep, wait_for};
use socket2::SockRef;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair")
}

/// A pipe: what is to be sent, and the end that says whether anybody has it.
fn marked() -> (OwnedFd, io::PipeReader) {
    let (reader, writer) = io::pipe().expect("a pipe");
    (writer.into(), reader)
}

/// Whether nobody has the other end any more.
fn is_closed(reader: &mut io::PipeReader) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    matches!(reader.read(&mut [0; 1]), Ok(0))
}

#[test]
fn descriptor_comes_with_its_byte_and_is_of_the_same_pipe() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair();
        let (writer, mut reader) = marked();
        let BufResult(sent, (buf, back)) = ours.send_msg("take", Ancillary::new().fd(writer)).await;
        assert_eq!((sent.expect("there is room"), buf), (4, "take"));
        drop(back);
        let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(10), 3).await;
        let mut received = received.expect("a message");
        assert_eq!((received.len, &buf[..]), (4, &b"take"[..]));
        assert!(!received.ancillary_truncated);
        let fd = received.ancillary.fds.pop().expect("one came");
        assert!(received.ancillary.fds.is_empty());
        // SAFETY: no memory is involved.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        std::fs::File::from(fd).write_all(b"!").expect("a pipe");
        let mut byte = [0; 1];
        reader.read_exact(&mut byte).expect("it was written");
        assert_eq!(&byte, b"!");
        drop(ours);
        let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(10), 3).await;
        assert_eq!(received.expect("the end").len, 0);
    });
}

#[test]
fn read_goes_no_further_than_to_the_next_descriptor() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair();
        for i in 0..3_u8 {
            ours.write_all(vec![i; 10]).await.0.expect("there is room");
            let (writer, _) = marked();
            let sent = ours
                .send_msg(vec![10 + i; 5], Ancillary::new().fd(writer))
                .await;
            sent.0.expect("there is room");
        }
        let (mut all, mut fds) = (Vec::new(), Vec::new());
        while all.len() < 45 {
            let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(100), 1).await;
            let received = received.expect("a message");
            if !received.ancillary.fds.is_empty() {
                fds.push(buf[0]);
            }
            all.extend(buf);
        }
        let expected = [0, 10, 1, 11, 2, 12].map(|i: u8| vec![i; if i < 10 { 10 } else { 5 }]);
        assert_eq!(all, expected.concat());
        // Bytes before a descriptor may come in one message with it (unix(7)).
        assert_eq!(fds.len(), 3, "{fds:?}");
    });
}

#[test]
fn receive_that_is_armed_is_ended_and_its_bytes_come_first() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair();
        ours.write_all("plain").await.0.expect("there is room");
        assert_eq!(theirs.read(Vec::with_capacity(2)).await.1, b"pl");
        sleep(MS).await.expect("nobody cancels");
        ours.write_all(" more").await.0.expect("there is room");
        sleep(MS).await.expect("nobody cancels"); // Taken by the receive that is armed.
        // What comes under that receive loses its descriptor, and it is closed.
        let (writer, mut lost) = marked();
        let sent = ours.send_msg(" lost", Ancillary::new().fd(writer)).await;
        drop(sent.1);
        sleep(MS).await.expect("nobody cancels");
        assert!(is_closed(&mut lost), "closed by the kernel");
        let mut all = Vec::new();
        while all.len() < 13 {
            let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(4), 1).await;
            assert!(received.expect("bytes").ancillary.fds.is_empty());
            all.extend(buf);
        }
        assert_eq!(all, b"ain more lost");
        let (writer, mut reader) = marked();
        let sent = ours.send_msg("with", Ancillary::new().fd(writer)).await;
        drop(sent.1);
        let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(10), 1).await;
        assert_eq!(buf, b"with");
        let received = received.expect("a message");
        assert_eq!(received.ancillary.fds.len(), 1);
        assert!(!is_closed(&mut reader));
        drop(received);
        assert!(is_closed(&mut reader));
        // And reads go on.
        ours.write_all("end").await.0.expect("there is room");
        assert_eq!(&theirs.receive().await.expect("bytes")[..], b"end");
    });
}

#[test]
fn descriptors_past_the_limit_are_closed() {
    let world = World::uring();
    world.run(async {
        for (count, max) in [(1, 0), (3, 0), (3, 2), (253, 5), (253, 253), (5, 1_000)] {
            let (mut ours, mut theirs) = pair();
            let (fd, mut reader) = marked();
            let mut ancillary = Ancillary::new();
            for _ in 0..count {
                ancillary = ancillary.fd(fd.try_clone().expect("a pipe"));
            }
            drop(fd);
            let sent = ours.send_msg("x", ancillary).await;
            assert_eq!(sent.0.expect("there is room"), 1);
            drop(sent.1);
            let BufResult(received, _) = theirs.recv_msg(vec![0; 1], max).await;
            let received = received.expect("a message");
            assert_eq!(received.ancillary.fds.len(), count.min(max));
            assert_eq!(received.ancillary_truncated, count > max);
            drop(received);
            assert!(is_closed(&mut reader), "{count} of {max}");
        }
    });
}

#[test]
fn descriptors_that_nobody_receives_are_closed() {
    let world = World::uring();
    world.run(async {
        // Under a plain read, and in a stream that is closed.
        for read in [true, false] {
            let (mut ours, mut theirs) = pair();
            let (fd, mut reader) = marked();
            let sent = ours.send_msg("x", Ancillary::new().fd(fd)).await;
            drop(sent.1);
            if read {
                assert_eq!(&theirs.receive().await.expect("a byte")[..], b"x");
            }
            drop((ours, theirs));
            until(|| is_closed(&mut reader)).await;
        }
    });
}

/// Messages that come before, at, and after the moment at which the wait is dropped, or stopped.
#[test]
fn receive_that_goes_at_any_moment_leaks_no_descriptor() {
    let world = World::uring();
    world.run(async {
        for round in 0..60 {
            let (mut ours, mut theirs) = pair();
            let (fd, mut reader) = marked();
            let message = |fd: OwnedFd| Ancillary::new().fd(fd);
            if round % 5 == 4 {
                // A receive is armed, which is to be ended first.
                assert!(wait_for(theirs.receive(), MS / 10).await.is_err());
            }
            match round % 4 {
                0 => drop(ours.send_msg("x", message(fd)).await),
                1 => {
                    let mut receive = pin!(theirs.recv_msg(vec![0; 1], 1));
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(receive.as_mut().poll(&mut cx).is_pending());
                    drop(ours.send_msg("x", message(fd)).await);
                }
                2 => {
                    let task = create_task(async move {
                        let received = theirs.recv_msg(vec![0; 1], 1).await.0;
                        drop(received);
                        theirs
                    });
                    coring::yield_now().await.expect("nobody cancels");
                    drop(ours.send_msg("x", message(fd)).await);
                    task.cancel();
                    theirs = task.await;
                }
                _ => {
                    let limit = (round as u32 / 4) * MS / 20;
                    let late = wait_for(theirs.recv_msg(vec![0; 1], 1), limit).await;
                    assert!(is_time_out(&error_of(late.0)));
                    drop(ours.send_msg("x", message(fd)).await);
                    let BufResult(received, _) = theirs.recv_msg(vec![0; 1], 1).await;
                    // A limit loses no message.
                    assert_eq!(received.expect("a message").ancillary.fds.len(), 1);
                }
            }
            drop((ours, theirs));
            until(|| is_closed(&mut reader)).await;
        }
    });
}

/// What had arrived stays, though the wait is dropped while the receive that was armed ends.
#[test]
fn bytes_stay_where_the_wait_for_a_message_is_dropped() {
    let world = World::uring();
    world.run(async {
        for polls in 1..4 {
            let (mut ours, mut theirs) = pair();
            ours.write_all("0").await.0.expect("there is room");
            assert_eq!(&theirs.receive().await.expect("a byte")[..], b"0");
            for piece in ["one", "two", "three"] {
                ours.write_all(piece).await.0.expect("there is room");
                sleep(MS).await.expect("nobody cancels");
            }
            {
                let mut receive = pin!(theirs.recv_msg(Vec::with_capacity(2), 1));
                for _ in 0..polls {
                    let mut cx = Context::from_waker(Waker::noop());
                    if let std::task::Poll::Ready(BufResult(_, buf)) =
                        receive.as_mut().poll(&mut cx)
                    {
                        assert_eq!(buf, b"on");
                        break;
                    }
                }
            }
            drop(ours);
            let mut rest = Vec::new();
            loop {
                let lease = theirs.receive().await.expect("to the end");
                if lease.is_empty() {
                    break;
                }
                rest.extend_from_slice(&lease);
            }
            assert!(
                b"onetwothree".ends_with(&rest[..]) && rest.len() >= 9,
                "{rest:?}"
            );
        }
    });
}

#[test]
fn message_to_a_full_socket_that_is_stopped_is_not_sent() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair();
        SockRef::from(&ours)
            .set_send_buffer_size(4_096)
            .expect("a socket");
        while wait_for(ours.write_all([7; 512].to_vec()), 5 * MS)
            .await
            .0
            .is_ok()
        {}
        let (fd, mut reader) = marked();
        let send = ours.send_msg(vec![1; 40_000], Ancillary::new().fd(fd));
        let BufResult(sent, (buf, back)) = wait_for(send, 5 * MS).await;
        assert_eq!((buf.len(), back.fds.len()), (40_000, 1));
        let sent = sent.unwrap_or(0);
        drop(back);
        drop(ours);
        let (mut fds, mut ones) = (0, 0);
        loop {
            let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(8_192), 1).await;
            let received = received.expect("to the end");
            if received.len == 0 {
                break;
            }
            fds += received.ancillary.fds.len();
            ones += buf.iter().filter(|&&byte| byte == 1).count();
        }
        assert_eq!((fds, ones), (usize::from(sent > 0), sent));
        assert!(is_closed(&mut reader));
    });
}

#[test]
fn what_cannot_be_sent_comes_back() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = pair();
        let (fd, _reader) = marked();
        let BufResult(sent, (_, back)) = ours.send_msg("", Ancillary::new().fd(fd)).await;
        assert_eq!(error_of(sent).kind(), ErrorKind::InvalidInput);
        assert_eq!(back.fds.len(), 1);
        let mut many = back;
        for _ in 0..253 {
            let fd = many.fds[0].try_clone().expect("a pipe");
            many = many.fd(fd);
        }
        let BufResult(sent, (_, many)) = ours.send_msg("x", many).await;
        assert_eq!(error_of(sent).kind(), ErrorKind::InvalidInput);
        drop(theirs);
        let BufResult(sent, (_, many)) = ours.send_msg("x", many).await;
        assert_eq!(error_of(sent).kind(), ErrorKind::InvalidInput);
        assert_eq!(many.fds.len(), 254);
        let one = Ancillary::new().fd(many.fds.into_iter().next().expect("one"));
        let BufResult(sent, (_, one)) = ours.send_msg("x", one).await;
        assert_eq!(error_of(sent).kind(), ErrorKind::BrokenPipe);
        assert_eq!(one.fds.len(), 1);
    });
}

#[test]
fn credentials_come_where_they_are_asked_for() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair();
        ours.write_all("a").await.0.expect("there is room");
        let received = theirs.recv_msg(vec![0; 9], 0).await.0.expect("a byte");
        assert_eq!(received.ancillary.credentials, None);
        theirs.set_passcred(true).expect("a socket");
        let own = Ancillary::new().credentials(Credentials::own());
        for ancillary in [Ancillary::new(), own] {
            ours.send_msg("b", ancillary)
                .await
                .0
                .expect("there is room");
            let received = theirs.recv_msg(vec![0; 9], 0).await.0.expect("a byte");
            assert_eq!(received.ancillary.credentials, Some(Credentials::own()));
        }
        let mut child = std::process::Command::new("true");
        assert!(child.status().expect("it runs").success());
    });
}

#[test]
fn wait_for_a_message_is_cancelled_and_keeps_nothing() {
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = pair();
        let task = begun(async move { theirs.recv_msg(vec![0; 9], 5).await.0 }).await;
        task.cancel();
        assert!(is_cancelled(&error_of(task.await)));
        drop(ours);
        let (_ours, mut theirs) = pair();
        let received = theirs.recv_msg(Vec::new(), 1).await.0.expect("no room");
        assert_eq!(received.len, 0);
        let late = wait_for(theirs.recv_msg(vec![0; 1], 1), LONG / u32::MAX).await;
        assert!(is_time_out(&error_of(late.0)));
    });
}

#[test]
fn listener_that_leaves_takes_unclaimed_connections_along() {
    let world = World::uring();
    world.run(async {
        let name = SocketAddr::from_abstract_name(format!("coring-leaves-{}", std::process::id()))
            .expect("a name");
        let mut listener = UnixListener::bind(&name).expect("it is free");
        let connect = || std::os::unix::net::UnixStream::connect_addr(&name).expect("it listens");
        let _first = connect();
        drop(listener.accept().await.expect("a client"));
        let mut second = connect();
        turn().await;
        let mut released = listener.into_std().await.expect("it is here");
        let mut stream = released.received.pop().expect("it had come");
        stream.write_all("hello").await.0.expect("it is connected");
        let mut hello = [0; 5];
        second.read_exact(&mut hello).expect("it has come");
        assert_eq!(&hello, b"hello");
        let third = connect();
        drop(released.socket.accept().expect("a client"));
        drop(third);
    });
}
