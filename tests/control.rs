//! What goes along with bytes: descriptors and credentials, and no descriptor too many.

#![cfg(not(miri))]

mod common;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;

use common::*;
use coring::net::{Ancillary, Credentials, UnixDatagram};
use coring::{BufResult, IoBuf, Stats, create_task, sleep, wait_for, yield_now};
use socket2::{MsgHdr, SockRef};

fn null() -> File {
    File::open("/dev/null").expect("it is there")
}

fn nulls(n: usize) -> Ancillary {
    (0..n).fold(Ancillary::new(), |ancillary, _| ancillary.fd(null()))
}

fn pair() -> (UnixDatagram, UnixDatagram) {
    UnixDatagram::pair().expect("two sockets")
}

async fn send(socket: &UnixDatagram, ancillary: Ancillary) {
    let BufResult(sent, _) = socket.send_msg("x", None, ancillary).await;
    assert_eq!(sent.expect("there is room"), 1);
}

fn is_close_on_exec(fd: &OwnedFd) -> bool {
    // SAFETY: the descriptor is open.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    flags & libc::FD_CLOEXEC != 0
}

#[test]
fn descriptor_that_is_received_is_open_on_what_was_sent() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let temp = Temp::file(b"");
        let open = || File::options().read(true).write(true).open(&*temp);
        let mut file = open().expect("it is there");
        let twin = file.try_clone().expect("a descriptor");
        let BufResult(sent, (buf, back)) = ours
            .send_msg("a file", None, Ancillary::new().fd(twin))
            .await;
        assert_eq!((sent.expect("there is room"), buf), (6, "a file"));
        assert_eq!(back.fds.len(), 1, "it comes back");
        drop(back);
        let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(9), 1).await;
        let mut received = received.expect("it has come");
        assert_eq!((received.len, received.truncated), (6, 0));
        assert_eq!(buf, b"a file");
        assert!(!received.ancillary_truncated);
        let fd = received.ancillary.fds.pop().expect("one came");
        assert!(is_close_on_exec(&fd));
        let mut same = File::from(fd);
        same.write_all(b"hello").expect("it may be written");
        assert_eq!(file.stream_position().expect("a file"), 5, "one position");
        file.rewind().expect("a file");
        let mut content = String::new();
        file.read_to_string(&mut content).expect("it may be read");
        assert_eq!(content, "hello");
    });
}

#[test]
fn as_many_descriptors_as_a_message_takes_arrive_and_one_more_is_refused() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        for n in [1, 2, 3, 253] {
            let before = open_fds();
            let BufResult(sent, (_, back)) = ours.send_msg("x", None, nulls(n)).await;
            sent.expect("as many as may be");
            assert_eq!(back.fds.len(), n);
            drop(back);
            let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 253).await;
            let received = received.expect("it has come");
            assert_eq!(received.ancillary.fds.len(), n);
            assert!(!received.ancillary_truncated);
            assert!(received.ancillary.fds.iter().all(is_close_on_exec));
            assert_eq!(open_fds(), before + n);
            drop(received);
            assert_eq!(open_fds(), before);
        }
        let BufResult(sent, (buf, back)) = ours.send_msg("x", None, nulls(254)).await;
        let error = error_of(sent);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("254"), "{error}");
        assert!(error.to_string().contains("253"), "{error}");
        assert_eq!((buf, back.fds.len()), ("x", 254));
    });
}

#[test]
fn descriptors_that_are_not_taken_are_closed() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let before = open_fds();
        // By calls that take none; the datagram is whole.
        send(&ours, nulls(3)).await;
        let BufResult(n, _) = theirs.recv(Vec::with_capacity(1)).await;
        assert_eq!(n.expect("it has come"), 1);
        send(&ours, nulls(3)).await;
        let BufResult(received, _) = theirs.recv_from(Vec::with_capacity(1)).await;
        assert_eq!(received.expect("it has come").0, 1);
        assert_eq!(open_fds(), before);
        // By one that takes fewer. The kernel rounds its room up, which does not show.
        for fds_max in 0..5 {
            send(&ours, nulls(5)).await;
            let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), fds_max).await;
            let received = received.expect("it has come");
            assert_eq!(received.ancillary.fds.len(), fds_max);
            assert!(received.ancillary_truncated);
            assert_eq!((received.len, received.truncated), (1, 0));
            assert_eq!(open_fds(), before + fds_max);
        }
        // With what is received; and with the socket, unread.
        send(&ours, nulls(5)).await;
        drop(theirs.recv_msg(Vec::with_capacity(1), 5).await);
        assert_eq!(open_fds(), before);
        send(&ours, nulls(5)).await;
    });
}

/// The kernel gives those for which there is a number, and says that others are missing.
#[test]
fn descriptors_for_which_there_is_no_number_are_said_to_be_missing() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        send(&ours, nulls(5)).await;
        let before = open_fds();
        let highest = null().as_raw_fd();
        let limit = DescriptorLimit::of(highest as u64 + 2);
        let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 5).await;
        drop(limit);
        let received = received.expect("it has come");
        assert_eq!(received.len, 1);
        assert!(received.ancillary_truncated);
        let fds = received.ancillary.fds.len();
        assert!((1..5).contains(&fds), "{fds}");
        assert_eq!(open_fds(), before + fds);
    });
}

#[test]
fn receive_that_is_dropped_before_its_message_comes_leaves_it_to_the_next() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let before = open_fds();
        for in_kernel in [false, true] {
            {
                let mut receive = Box::pin(theirs.recv_msg(Vec::with_capacity(1), 5));
                assert!(poll_once(&mut receive).await.is_pending());
                if in_kernel {
                    yield_now().await.expect("nobody cancels");
                }
            }
            yield_now().await.expect("nobody cancels"); // The cancel reaches it.
            send(&ours, nulls(5)).await;
            let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 5).await;
            let received = received.expect("it has come");
            assert_eq!(received.ancillary.fds.len(), 5);
            assert_eq!(open_fds(), before + 5);
        }
        assert_eq!(open_fds(), before);
    });
}

/// The message has come, and nobody will ever look: its descriptors are closed.
#[test]
fn receive_that_is_dropped_after_its_message_came_closes_the_descriptors() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let before = open_fds();
        let mut receive = Box::pin(theirs.recv_msg(Vec::with_capacity(1), 5));
        assert!(poll_once(&mut receive).await.is_pending());
        yield_now().await.expect("nobody cancels");
        send(&ours, nulls(5)).await;
        until(|| open_fds() == before + 5).await; // They are ours.
        drop(receive);
        until(|| open_fds() == before).await;
    });
}

/// The future is gone when its operation completes. Where the message was there first, the kernel
/// takes it at submission, ahead of the cancel; else the cancel may come first.
#[test]
fn receive_that_is_dropped_and_completes_all_the_same_closes_the_descriptors() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let fd = null();
        let (before, mut lost) = (open_fds(), 0);
        for round in 0..50 {
            let message_is_there = round % 2 == 0;
            if message_is_there {
                send_now(&ours, &[fd.as_raw_fd(); 3]);
            }
            let mut receive = Box::pin(theirs.recv_msg(Vec::with_capacity(1), 3));
            assert!(poll_once(&mut receive).await.is_pending());
            if !message_is_there {
                sleep(MS / 10).await.expect("nobody cancels"); // It is the kernel's.
                send_now(&ours, &[fd.as_raw_fd(); 3]);
            }
            drop(receive);
            until(|| Stats::current().in_flight == 0).await;
            assert_eq!(open_fds(), before, "round {round}");
            let next = theirs.recv_msg(Vec::with_capacity(1), 3);
            match wait_for(next, MS).await {
                BufResult(Ok(received), _) => assert_eq!(received.ancillary.fds.len(), 3),
                BufResult(Err(_), _) => lost += 1,
            }
            assert_eq!(open_fds(), before);
        }
        assert!(lost > 0, "none completed");
    });
}

/// Sends descriptors without the ring.
fn send_now(socket: &UnixDatagram, fds: &[RawFd]) {
    let mut control = (16 + size_of_val(fds)).to_ne_bytes().to_vec();
    control.extend(libc::SOL_SOCKET.to_ne_bytes());
    control.extend(libc::SCM_RIGHTS.to_ne_bytes());
    control.extend(fds.iter().flat_map(|fd| fd.to_ne_bytes()));
    control.resize(control.len().next_multiple_of(8), 0);
    let bytes = [io::IoSlice::new(b"x")];
    let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
    let sent = SockRef::from(socket).sendmsg(&message, 0);
    assert_eq!(sent.expect("there is room"), 1);
}

/// In the same turn: cancelled and completed, in either order.
#[test]
fn receive_that_is_dropped_while_its_message_comes_closes_or_leaves_the_descriptors() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let before = open_fds();
        for round in 0..50 {
            let mut receive = Box::pin(theirs.recv_msg(Vec::with_capacity(1), 3));
            assert!(poll_once(&mut receive).await.is_pending());
            if round % 2 == 0 {
                yield_now().await.expect("nobody cancels");
            }
            let mut sent = Box::pin(ours.send_msg("x", None, nulls(3)));
            assert!(poll_once(&mut sent).await.is_pending());
            drop(receive);
            sent.await.0.expect("there is room");
            // Either it was lost with that future, or it is still there.
            let next = theirs.recv_msg(Vec::with_capacity(1), 3);
            if let BufResult(Ok(received), _) = wait_for(next, MS).await {
                assert_eq!(received.ancillary.fds.len(), 3);
            }
            until(|| open_fds() == before).await;
        }
    });
}

/// What is sent stays open until the kernel has looked, however little of the future is left.
#[test]
fn send_that_is_dropped_keeps_its_descriptors_until_the_kernel_is_done() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let before = open_fds();
        // Before it was given to the kernel, which takes it all the same, or is cancelled.
        {
            let mut sent = Box::pin(ours.send_msg("x", None, nulls(5)));
            assert!(poll_once(&mut sent).await.is_pending());
        }
        let next = theirs.recv_msg(Vec::with_capacity(1), 5);
        if let BufResult(Ok(received), _) = wait_for(next, 5 * MS).await {
            assert_eq!(received.ancillary.fds.len(), 5);
        }
        until(|| open_fds() == before).await;
        // While it waits for room.
        let mut queued = 0;
        while wait_for(ours.send("fill"), 5 * MS).await.0.is_ok() {
            queued += 1;
        }
        {
            let mut sent = Box::pin(ours.send_msg("x", None, nulls(5)));
            assert!(poll_once(&mut sent).await.is_pending());
            yield_now().await.expect("nobody cancels");
            assert_eq!(open_fds(), before + 5, "it has them");
        }
        until(|| open_fds() == before).await;
        for _ in 0..queued {
            let BufResult(n, _) = theirs.recv(Vec::with_capacity(4)).await;
            assert_eq!(n.expect("it has come"), 4);
        }
    });
}

/// The list of descriptors is read late: by then the scratch of this request has been used anew.
#[test]
fn send_that_waits_for_room_sends_its_descriptors() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let ours = Rc::new(ours);
        let mut queued = 0;
        while wait_for(ours.send("fill"), 5 * MS).await.0.is_ok() {
            queued += 1;
        }
        let senders: Vec<_> = (1..=20)
            .map(|n| {
                let ours = ours.clone();
                let bytes = vec![n as u8; n];
                create_task(async move { ours.send_msg(bytes, None, nulls(n)).await.0 })
            })
            .collect();
        yield_now().await.expect("nobody cancels");
        for _ in 0..queued {
            let BufResult(n, _) = theirs.recv(Vec::with_capacity(4)).await;
            assert_eq!(n.expect("it has come"), 4);
        }
        for _ in 0..senders.len() {
            let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(99), 99).await;
            let received = received.expect("it comes");
            let n = received.len;
            assert_eq!(received.ancillary.fds.len(), n);
            assert_eq!(buf, vec![n as u8; n]);
        }
        for sender in senders {
            sender.await.expect("it is received");
        }
    });
}

/// A limit that it is not under any more ends an operation in the kernel: it is started again, with
/// its header, address and control as new.
#[test]
fn operation_that_is_started_again_transfers_its_message_whole() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let mut receive = Box::pin(theirs.recv_msg(Vec::with_capacity(9), 5));
        let limited = async {
            assert!(poll_once(&mut receive).await.is_pending());
            yield_now().await
        };
        wait_for(limited, 5 * MS).await.expect("in time");
        let late = async {
            sleep(10 * MS).await.expect("nobody cancels"); // The limit passes.
            send(&ours, nulls(5)).await;
        };
        let (BufResult(received, buf), ()) = futures_util::join!(receive, late);
        let received = received.expect("it comes");
        assert_eq!((received.ancillary.fds.len(), &buf[..]), (5, &b"x"[..]));

        let mut queued = 0;
        while wait_for(ours.send("fill"), 5 * MS).await.0.is_ok() {
            queued += 1;
        }
        let mut sent = Box::pin(ours.send_msg("again", None, nulls(7)));
        let limited = async {
            assert!(poll_once(&mut sent).await.is_pending());
            yield_now().await
        };
        wait_for(limited, 5 * MS).await.expect("in time");
        let late = async {
            sleep(10 * MS).await.expect("nobody cancels");
            for _ in 0..queued {
                let BufResult(n, _) = theirs.recv(Vec::with_capacity(4)).await;
                assert_eq!(n.expect("it has come"), 4);
            }
        };
        let (BufResult(n, _), ()) = futures_util::join!(sent, late);
        assert_eq!(n.expect("there is room"), 5);
        let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(9), 9).await;
        let received = received.expect("it has come");
        assert_eq!((received.ancillary.fds.len(), &buf[..]), (7, &b"again"[..]));
    });
}

#[test]
fn credentials_come_to_those_who_want_them() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let own = Credentials::own();
        // By the kernel, for whoever says nothing.
        theirs.set_passcred(true).expect("a socket");
        send(&ours, nulls(2)).await;
        let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 2).await;
        let received = received.expect("it has come");
        assert_eq!(received.ancillary.credentials, Some(own));
        assert_eq!(received.ancillary.fds.len(), 2);
        assert!(!received.ancillary_truncated);
        // As many as there may be, beside them.
        send(&ours, nulls(253).credentials(own)).await;
        let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 253).await;
        let received = received.expect("it has come");
        assert_eq!(received.ancillary.credentials, Some(own));
        assert_eq!(received.ancillary.fds.len(), 253);
        assert!(!received.ancillary_truncated);
        // A process that is not there.
        let wrong = Credentials {
            pid: 1 << 22,
            ..own
        };
        let lie = ours.send_msg("x", None, Ancillary::new().credentials(wrong));
        let BufResult(sent, (_, back)) = lie.await;
        let errno = error_of(sent).raw_os_error();
        assert!(
            matches!(errno, Some(libc::EPERM | libc::ESRCH)),
            "{errno:?}"
        );
        assert_eq!(back.credentials, Some(wrong));
        // Nobody asks for them any more.
        theirs.set_passcred(false).expect("a socket");
        send(&ours, Ancillary::new().credentials(own)).await;
        let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), 2).await;
        let received = received.expect("it has come");
        assert_eq!(received.ancillary.credentials, None);
    });
}

/// An option that this crate has no name for makes the kernel send a descriptor more.
#[test]
fn descriptor_of_the_senders_process_that_comes_unasked_is_closed() {
    const SO_PASSPIDFD: libc::c_int = 76;
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let on: libc::c_int = 1;
        // SAFETY: the option is an integer.
        let set = unsafe {
            libc::setsockopt(
                std::os::fd::AsFd::as_fd(&theirs).as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSPIDFD,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if set != 0 {
            let test = "descriptor_of_the_senders_process_that_comes_unasked_is_closed";
            skip(test, &io::Error::last_os_error().to_string());
            return;
        }
        let before = open_fds();
        for fds_max in [0, 3, 9] {
            send(&ours, nulls(3)).await;
            let BufResult(received, _) = theirs.recv_msg(Vec::with_capacity(1), fds_max).await;
            let received = received.expect("it has come");
            let fds = received.ancillary.fds.len();
            assert_eq!(fds, fds_max.min(3));
            assert_eq!(open_fds(), before + fds);
        }
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn python_receives_what_is_sent_and_sends_what_is_received() {
    let test = "python_receives_what_is_sent_and_sends_what_is_received";
    let world = World::uring();
    world.run(async {
        let (here, there) = (Temp::new(), Temp::new());
        let ours = UnixDatagram::bind(&*here).expect("a new path");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/descriptors.py");
        let peer = Command::new("python3")
            .args([path.as_ref(), here.as_os_str(), there.as_os_str()])
            .stdin(Stdio::null())
            .spawn();
        let mut peer = match peer {
            Ok(peer) => peer,
            Err(error) => return skip(test, &format!("python3 does not start: {error}")),
        };
        let pid = peer.id() as i32;
        ours.set_passcred(true).expect("a socket");
        // It says that it is there, with a pipe to write to.
        let hello = ours.recv_msg(Vec::with_capacity(99), 9);
        let BufResult(received, buf) = wait_for(hello, PATIENCE).await;
        let mut received = received.expect("it comes");
        assert_eq!(buf, b"hello");
        assert_eq!(received.from.as_pathname(), Some(&*there));
        let sender = received.ancillary.credentials.expect("asked for");
        assert_eq!(sender.pid, pid);
        assert_eq!(received.ancillary.fds.len(), 1);
        let mut pipe = File::from(received.ancillary.fds.remove(0));
        pipe.write_all(b"through a pipe").expect("it reads");
        drop(pipe);
        // It sends back what it read there, and what it reads from a file that it is sent.
        let file = Temp::file(b"from a file");
        let file = File::open(&*file).expect("it is there");
        let answer = ours.send_msg("a file", Some(&received.from), Ancillary::new().fd(file));
        answer.await.0.expect("it is bound");
        for expected in ["through a pipe", "a file: from a file"] {
            let answer = wait_for(ours.recv(Vec::with_capacity(99)), PATIENCE).await;
            answer.0.expect("it comes");
            assert_eq!(String::from_utf8_lossy(&answer.1), expected);
        }
        let ended = thread::spawn(move || peer.wait());
        until(|| ended.is_finished()).await;
        let status = ended.join().expect("it waits").expect("it ends");
        assert!(status.success(), "{status}");
    });
}

/// A window on a buffer is filled from its start, as elsewhere.
#[test]
fn receive_into_a_window_keeps_what_is_before_it() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        send(&ours, nulls(1)).await;
        let mut buf = Vec::with_capacity(8);
        buf.extend_from_slice(b"mo");
        let BufResult(received, slice) = theirs.recv_msg(buf.slice(2..3), 1).await;
        assert_eq!(received.expect("it has come").len, 1);
        assert_eq!(slice.into_inner(), b"mox");
    });
}

#[test]
fn received_descriptors_can_be_sent_on() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = pair();
        let name = std::os::unix::net::SocketAddr::from_abstract_name(
            Temp::new().to_string_lossy().as_bytes(),
        );
        let name = name.expect("a short name");
        let third = UnixDatagram::bind(&name).expect("a new name");
        let end = std::os::unix::net::UnixStream::pair().expect("two sockets");
        send(&ours, Ancillary::new().fd(end.0)).await;
        let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(1), 1).await;
        let received = received.expect("it has come");
        let on = theirs.send_msg(buf, Some(&name), received.ancillary).await;
        drop(on.1);
        on.0.expect("it is bound");
        let BufResult(received, _) = third.recv_msg(Vec::with_capacity(1), 1).await;
        let mut received = received.expect("it has come");
        let fd = received.ancillary.fds.pop().expect("one came");
        let mut stream = std::os::unix::net::UnixStream::from(fd);
        stream.write_all(b"far").expect("it is connected");
        drop(stream);
        let (mut end, mut all) = (end.1, Vec::new());
        end.read_to_end(&mut all).expect("it is connected");
        assert_eq!(all, b"far");
        assert!(SockRef::from(&end).peer_addr().is_ok());
    });
}

/// Descriptors of a wrong kind are the kernel's to refuse.
#[test]
fn descriptor_of_a_ring_is_refused_by_the_kernel_and_comes_back() {
    let world = World::uring();
    world.run(async {
        let (ours, _theirs) = pair();
        // SAFETY: O_PATH descriptors may be sent; this one is new and nobody else's.
        let path = unsafe {
            OwnedFd::from_raw_fd(libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC))
        };
        let BufResult(sent, (_, back)) = ours.send_msg("x", None, Ancillary::new().fd(path)).await;
        sent.expect("it may be sent");
        assert_eq!(back.fds.len(), 1);
        let ring = io_uring::IoUring::new(2).expect("this machine has io_uring");
        // SAFETY: a twin of an open descriptor.
        let twin = unsafe { OwnedFd::from_raw_fd(libc::dup(ring.as_raw_fd())) };
        let BufResult(sent, (buf, back)) =
            ours.send_msg("x", None, Ancillary::new().fd(twin)).await;
        assert_eq!(error_of(sent).raw_os_error(), Some(libc::EINVAL));
        assert_eq!((buf, back.fds.len()), ("x", 1));
    });
}
